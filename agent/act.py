"""The only room that changes the world: one action, one effect, one result.

Every write can land without its reply. `Unavailable` from a door is therefore MAYBE, never "no"; what
happened is found out by looking again, in the next round, with the same code as after a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from agent.model.actions import (
    Action,
    AddLearner,
    AskToBeReplaced,
    BeginTask,
    CallHuman,
    Compact,
    CompleteHook,
    CreateAuthority,
    CreateGeneration,
    DeregisterTarget,
    Disarm,
    ExpireSnapshots,
    FileReport,
    HeartbeatHook,
    IssueCertificates,
    MarkBad,
    MoveLeader,
    Outcome,
    PromoteMember,
    ProtectFromScaleIn,
    PublishRecords,
    PutInPlace,
    Quarantine,
    RegisterTarget,
    ReloadEtcd,
    RemoveMember,
    Rest,
    Result,
    StampIdentity,
    StartEtcd,
    StopEtcd,
    UpdatePeerUrl,
    Wait,
    WriteClaim,
    WriteFormed,
)
from agent.model.cluster import Membership
from agent.model.faults import Refused, Unavailable
from agent.model.ids import MemberId
from agent.model.observation import Observation
from agent.world.doors import Bucket, Certificates, Cloud, Etcd, Host, World

DONE = Result(Outcome.DONE)

ToTheCluster = AddLearner | PromoteMember | UpdatePeerUrl | MoveLeader | Disarm | Compact
OnThisInstance = StampIdentity | StartEtcd | StopEtcd | Quarantine | PutInPlace | ReloadEtcd
OfTheGroup = CompleteHook | HeartbeatHook | AskToBeReplaced | ProtectFromScaleIn
InTheBucket = FileReport | CreateGeneration | WriteClaim | WriteFormed | MarkBad | ExpireSnapshots


def act(world: World, action: Action, o: Observation) -> Result:
    """Carry out one action that was decided on this observation."""
    try:
        return _effect(world, action, o)
    except Unavailable as trouble:
        return Result(Outcome.MAYBE, str(trouble))
    except Refused as refusal:
        return Result(Outcome.REFUSED, str(refusal))


def _effect(world: World, action: Action, o: Observation) -> Result:
    match action:
        case Rest() | Wait() | CallHuman():
            return DONE
        case FileReport() | CreateGeneration() | WriteClaim() | WriteFormed() | MarkBad() | ExpireSnapshots():
            return _write(world.bucket, action)
        case StampIdentity() | StartEtcd() | StopEtcd() | Quarantine() | PutInPlace() | ReloadEtcd():
            return _done(lambda: _prepare(world.host, action))
        case RemoveMember(member=member):
            return _remove(world.etcd, member, o)
        case AddLearner() | PromoteMember() | UpdatePeerUrl() | MoveLeader() | Disarm() | Compact():
            return _done(lambda: _change(world.etcd, action, o))
        case CompleteHook() | HeartbeatHook() | AskToBeReplaced() | ProtectFromScaleIn():
            return _done(lambda: _ask_of_the_group(world.cloud, action))
        case CreateAuthority() | IssueCertificates():
            assert world.certificates is not None, "who issues certificates has a door to their authority (wiring)"
            return _certify(world.certificates, action)
        case PublishRecords() | RegisterTarget() | DeregisterTarget():
            return _done(lambda: _show_the_way(world, action))
        case BeginTask(task=task):
            return _done(lambda: world.workshop.begin(task))
        case _:
            assert_never(action)


def _write(bucket: Bucket, action: InTheBucket) -> Result:
    """To the bucket; what decides is written once, so losing a race is an answer and not an error."""
    match action:
        case FileReport(generation=generation, report=report):
            return _done(lambda: bucket.file_report(generation, report))
        case CreateGeneration(record=record):
            return _once(bucket.create_generation(record), "another agent's record came first")
        case WriteClaim(generation=generation, claim=claim):
            return _once(bucket.write_claim(generation, claim), "a claim with another nonce exists")
        case WriteFormed(generation=generation, formed=formed):
            return _once(bucket.write_formed(generation, formed), "formed.json says something else")
        case MarkBad(name=name, why=why):
            return _done(lambda: bucket.mark_bad(name, why))
        case ExpireSnapshots(names=names):
            return _done(lambda: bucket.expire(names))
        case _:
            assert_never(action)


def _show_the_way(world: World, action: PublishRecords | RegisterTarget | DeregisterTarget) -> None:
    """To clients. Who has names to publish, or target groups, has a door to them (wiring)."""
    match action:
        case PublishRecords(records=records):
            assert world.dns is not None
            world.dns.upsert(records)
        case RegisterTarget(group=group):
            assert world.targets is not None
            world.targets.register(group)
        case DeregisterTarget(group=group):
            assert world.targets is not None
            world.targets.deregister(group)
        case _:
            assert_never(action)


def _prepare(host: Host, action: OnThisInstance) -> None:
    """On this instance: its disk and its etcd process."""
    match action:
        case StampIdentity(identity=identity, prepare=prepare):
            host.stamp(identity, prepare)
        case StartEtcd(launch=launch):
            host.start(launch)
        case StopEtcd() | ReloadEtcd():  # the next round starts it in place
            host.stop()
        case Quarantine(why=why):
            host.quarantine(why)
        case PutInPlace(nonce=nonce):
            host.put_in_place(nonce)
        case _:
            assert_never(action)


def _ask_of_the_group(cloud: Cloud, action: OfTheGroup) -> None:
    match action:
        case CompleteHook(transition=transition):
            cloud.complete_hook(transition)
        case HeartbeatHook(transition=transition):
            cloud.heartbeat_hook(transition)
        case AskToBeReplaced():
            cloud.call_unhealthy()
        case ProtectFromScaleIn(protected=protected):
            cloud.protect(protected)
        case _:
            assert_never(action)


def _certify(certificates: Certificates, action: CreateAuthority | IssueCertificates) -> Result:
    match action:
        case CreateAuthority():
            return _once(certificates.create_authority(), "another agent's authority came first")
        case IssueCertificates(authorities=authorities):
            return _done(lambda: certificates.issue(authorities))
        case _:
            assert_never(action)


def _remove(etcd: Etcd, member: MemberId, o: Observation) -> Result:
    """Of the entry that was judged: one that moved, started or got a vote since then is another case.

    etcd removes by ID, whatever the entry says by now; and a round may have waited long for AWS after it read the list.
    """
    assert isinstance(o.membership, Membership), "no membership change without a list (objections)"
    endpoint = o.membership.via
    if etcd.membership(endpoint).find(member) != o.membership.find(member):
        return Result(Outcome.STALE, "its entry has changed since it was judged")
    return _done(lambda: etcd.remove(endpoint, member))


def _change(etcd: Etcd, action: ToTheCluster, o: Observation) -> None:
    """The cluster's membership, through the member that the list was read from: a quorum stands behind it."""
    assert isinstance(o.membership, Membership), "no membership change without a list (objections)"
    endpoint = o.membership.via
    match action:
        case AddLearner(peer_url=url):
            etcd.add_learner(endpoint, url)
        case PromoteMember(member=member):
            etcd.promote(endpoint, member)
        case UpdatePeerUrl(member=member, peer_url=url):
            etcd.update_peer_url(endpoint, member, url)
        case MoveLeader(to=member):
            etcd.move_leader(endpoint, member)
        case Disarm(alarm=alarm):
            etcd.disarm(endpoint, alarm)
        case Compact(revision=revision):
            etcd.compact(endpoint, revision)
        case _:
            assert_never(action)


def _done(effect: Callable[[], object]) -> Result:
    effect()
    return DONE


def _once(won: bool, lost: str) -> Result:
    return DONE if won else Result(Outcome.STALE, lost)
