"""All reading, in one place: one frozen Observation a round, in which each read may have failed alone.

Near facts first (own disk, process and etcd), then what they make worth asking for behind AWS, then what
depends on that. Nothing here decides; a read that fails becomes an Unknown, and the next one is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

from agent.decide import Ask, worth_asking
from agent.decide.attention import ails
from agent.decide.seeding import manifest_wanted
from agent.decide.upgrading import wants_a_snapshot_first
from agent.model.cluster import Answers, Membership, MemberStatus
from agent.model.disk import Data, Disk, EtcdProcess, EtcdRunning
from agent.model.faults import Refused, Unavailable
from agent.model.fleet import Fleet
from agent.model.generation import FIRST, Formed, GenerationRecord
from agent.model.ids import ClientUrl, ClusterId, InstanceId, MemberId
from agent.model.known import NOT_ASKED, Ignorance, Unknown
from agent.model.memory import Memory, groups_are_due
from agent.model.observation import BucketVerdict, Me, Observation
from agent.model.policy import Policy
from agent.world.doors import World

T = TypeVar("T")
Statuses = Mapping[ClientUrl, MemberStatus | Unknown]


def ask(read: Callable[[], T]) -> T | Unknown:
    """The answer, or why there is none."""
    try:
        return read()
    except (Unavailable, Refused) as trouble:
        return trouble.unknown


def observe(world: World, me: Me, memory: Memory, policy: Policy) -> Observation:
    """One round's facts."""
    near = _near(world, me, policy)
    watches = near.beside_the_leader or policy.protect_voters or memory.must_reload
    if watches and isinstance(near.membership, Membership):
        near = _with_others(world, near, memory, policy)  # the leader's agent watches the others
    asks = worth_asking(near, memory, policy)
    o = replace(
        near,
        bucket=_bucket(world, asks, memory),
        head=_head(world, asks, near, memory),
        fleet=_fleet(world, asks, near, memory, policy),
        lifecycle_target=ask(world.metadata.target_lifecycle_state) if Ask.LIFECYCLE in asks else NOT_ASKED,
        spot=ask(world.metadata.spot_notice) if Ask.LIFECYCLE in asks else NOT_ASKED,
        rebalance=ask(world.metadata.rebalance_recommended) if Ask.REBALANCE in asks else NOT_ASKED,
    )
    o = _with_documents(world, o, memory)
    if Ask.OTHERS in asks and o.head is not None and o.formed is not None:
        # where nothing has formed there is no list to ask for, and an etcd that starts keeps callers waiting
        o = _with_others(world, o, memory, policy)
    if ails(o, memory):
        o = replace(o, survey=ask(world.host.survey), obstacle=ask(world.host.obstacle))
    o = _with_snapshots(world, o, asks, memory)
    o = _with_upkeep(world, o, asks, policy)
    o = with_hold(world, o) if Ask.HOLD in asks else o
    return _with_assembly(world, _with_authorities(world, o, asks, policy), asks, memory, policy)


def with_hold(world: World, o: Observation) -> Observation:
    """The same observation, and whether an operator holds the cluster at this moment."""
    return replace(o, hold=ask(world.bucket.hold))


def _near(world: World, me: Me, policy: Policy) -> Observation:
    """Our own disk, process and etcd; costs no request that leaves the instance, but for a quorum's read."""
    process = ask(world.host.process)
    now, nonce = world.clock.now(), world.clock.nonce()
    disk, etcd_version, work = ask(world.host.disk), ask(world.host.etcd_version), world.workshop.state()
    local: MemberStatus | Unknown = NOT_ASKED
    leader_seen: bool | Unknown = False
    membership: Membership | Unknown = NOT_ASKED
    if isinstance(process, EtcdRunning):
        endpoint = policy.client_url(me.private_ip)
        local = ask(lambda: world.etcd.status(endpoint))
        leader_seen = _leader_seen(world, local, policy.metrics_url(me.private_ip))
        if isinstance(local, MemberStatus) and not local.is_learner and local.leader is not None:
            membership = ask(lambda: world.etcd.membership(endpoint))
    return Observation(
        now=now,
        nonce=nonce,
        me=me,
        disk=disk,
        etcd_version=etcd_version,
        data_version=_data_version(world, disk, process),
        process=process,
        work=work,
        issued=NOT_ASKED if world.certificates is None else ask(world.certificates.issued),
        local=local,
        leader_seen=leader_seen,
        membership=membership,
    )


def _data_version(world: World, disk: Disk | Unknown, process: EtcdProcess | Unknown) -> str | Unknown | None:
    """Only before a start: while etcd runs, its version fits."""
    if isinstance(process, EtcdRunning | Unknown) or isinstance(disk, Unknown):
        return NOT_ASKED
    return ask(world.host.data_version) if disk.data is Data.PRESENT else None


def _leader_seen(world: World, local: MemberStatus | Unknown, metrics_url: str) -> bool | Unknown:
    """A second witness where the first cannot be asked: a certificate of ours that expired is no lost quorum."""
    if isinstance(local, MemberStatus):
        return local.leader is not None
    return ask(lambda: world.etcd.has_leader(metrics_url))


def _bucket(world: World, asks: frozenset[Ask], memory: Memory) -> BucketVerdict | Unknown:
    if memory.bucket is not None:
        return memory.bucket
    return ask(world.bucket.verdict) if Ask.BUCKET in asks else NOT_ASKED


def _head(world: World, asks: frozenset[Ask], near: Observation, memory: Memory) -> GenerationRecord | Unknown | None:
    """Only what comes after the head we know; but from the first beside the leader, and where a quorum was lost.

    A bucket that was emptied is then noticed before the others' agents take it for a first start.
    """
    if Ask.HEAD not in asks:
        return NOT_ASKED
    voter = isinstance(near.local, MemberStatus) and not near.local.is_learner
    lost = voter and isinstance(near.membership, Unknown)
    afresh = lost or near.beside_the_leader
    return ask(lambda: world.bucket.head(None if afresh else memory.head))


def _fleet(world: World, asks: frozenset[Ask], near: Observation, memory: Memory, policy: Policy) -> Fleet | Unknown:
    if Ask.FLEET not in asks:
        return NOT_ASKED
    known = near.membership if isinstance(near.membership, Membership) else memory.membership
    names = frozenset(InstanceId(each.name) for each in known.members if each.started) if known else frozenset()
    names |= frozenset(memory.named_since)
    return ask(lambda: world.cloud.fleet(names, groups_are_due(memory, near.now, policy)))


def _with_documents(world: World, o: Observation, memory: Memory) -> Observation:
    """What the bucket holds beside the head. Documents are written once: those seen are not read again."""
    record = memory.head if isinstance(o.head, Unknown) else o.head
    if record is None:
        return o
    if memory.formed is not None and memory.head == record:
        o = replace(o, formed=memory.formed)
    elif not isinstance(o.head, Unknown):
        o = replace(o, formed=ask(lambda: world.bucket.formed(record.generation)))
    idle = not isinstance(o.process, EtcdRunning) and isinstance(o.disk, Disk) and o.disk.data is not Data.PRESENT
    if idle and not isinstance(o.head, Unknown) and o.me.instance in record.founders:
        o = replace(o, claim=ask(lambda: world.bucket.claim(record.generation, o.me.instance)))
    return o


def _with_snapshots(world: World, o: Observation, asks: frozenset[Ask], memory: Memory) -> Observation:
    """Which snapshots there are, and the manifest of the one that matters: manifests are written once, too."""
    if o.head is None or Ask.SNAPSHOTS in asks or wants_a_snapshot_first(o):
        o = replace(o, snapshots=ask(world.bucket.snapshots))
    record = memory.head if isinstance(o.head, Unknown) else o.head
    name = None if record is None else manifest_wanted(record, o)
    if name is None:
        return o
    if memory.manifest is not None and memory.manifest.name == name:
        return replace(o, manifest=memory.manifest)
    return replace(o, manifest=ask(lambda: world.bucket.manifest(name)))


def _with_authorities(world: World, o: Observation, asks: frozenset[Ask], policy: Policy) -> Observation:
    """Whom to trust, and whom the etcds trust that answered: ours and, where others were asked, theirs."""
    if world.certificates is None:
        return o
    if Ask.AUTHORITIES in asks:
        o = replace(o, authorities=ask(world.certificates.authorities))
    if Ask.TRUSTING not in asks or not isinstance(o.membership, Membership):
        return o
    asked = _answering(o, policy)
    found = world.certificates.trusted_by(tuple(asked.values()))
    return replace(o, trusting={member: found[url] for member, url in asked.items()})


def _answering(o: Observation, policy: Policy) -> dict[MemberId, ClientUrl]:
    assert isinstance(o.membership, Membership)
    own = {o.local.member_id: policy.client_url(o.me.private_ip)} if isinstance(o.local, MemberStatus) else {}
    others = {
        each.id: each.client_urls[0]
        for each in o.membership.members
        if each.client_urls and o.answers.answered(each.id) and each.id not in own
    }
    return {**own, **others}


def _with_upkeep(world: World, o: Observation, asks: frozenset[Ask], policy: Policy) -> Observation:
    """What a cluster that serves may need: inherited alarms, how clients find it, and when the last drill was."""
    if o.head is None:
        return o
    if Ask.ALARMS in asks and isinstance(o.membership, Membership):
        o = replace(o, alarms=ask(partial(world.etcd.alarms, o.membership.via)))
    if Ask.DNS in asks and policy.dns is not None and world.dns is not None:
        o = replace(o, dns=ask(partial(world.dns.records, policy.dns.watched)))
    if Ask.TARGETS in asks and world.targets is not None:
        o = replace(o, targets=ask(world.targets.groups))
    if Ask.DRILL in asks:
        o = replace(o, last_drill=ask(world.bucket.last_drill))
    return o


def _with_assembly(world: World, o: Observation, asks: frozenset[Ask], memory: Memory, policy: Policy) -> Observation:
    """Before the first generation, and where a quorum is lost: who else is here, and with what."""
    if o.head is None:
        return replace(o, reports=ask(lambda: world.bucket.reports(FIRST)))
    record = memory.head if isinstance(o.head, Unknown) else o.head
    if record is None or isinstance(o.membership, Membership):
        return o
    if record.seed is not None or Ask.ASSEMBLY in asks:
        o = replace(o, can_bump_revisions=ask(world.host.can_bump_revisions))
    if Ask.ASSEMBLY not in asks:
        return o
    o = replace(
        o,
        reports=ask(lambda: world.bucket.reports(record.generation)),
        exclusions=ask(lambda: world.bucket.exclusions(record.generation)),
    )
    return _with_our_own(world, o, policy)


def _with_our_own(world: World, o: Observation, policy: Policy) -> Observation:
    """What our own data says by itself: its files and, where it answers, its etcd."""
    if not isinstance(o.disk, Disk) or o.disk.data is not Data.PRESENT:
        return o
    if o.survey == NOT_ASKED:  # else it was read in this round to find out why etcd keeps ending
        o = replace(o, survey=ask(world.host.survey))
    if not isinstance(o.local, MemberStatus):
        return o
    return replace(o, own_list=ask(partial(world.etcd.members_locally, policy.client_url(o.me.private_ip))))


def _with_others(world: World, o: Observation, memory: Memory, policy: Policy) -> Observation:
    """The other members' status; and the member list through one of them where our own etcd gives none."""
    endpoints = _endpoints(o, memory, policy)
    statuses = world.etcd.statuses(endpoints) if endpoints else {}  # a list of ghosts has nobody to ask
    seen = _somebody_sees_a_leader(statuses, _cluster_id(o, memory))
    membership = o.membership
    if isinstance(membership, Unknown):
        membership = _membership_through(world, o, memory, statuses)
    answers = _answers(o.local, membership, statuses)
    return replace(o, leader_seen=seen or o.leader_seen, membership=membership, answers=answers)


def _somebody_sees_a_leader(statuses: Statuses, ours: ClusterId | None) -> bool:
    said = [each for each in statuses.values() if isinstance(each, MemberStatus)]
    return any(each.leader is not None and each.cluster_id == (ours or each.cluster_id) for each in said)


def _endpoints(o: Observation, memory: Memory, policy: Policy) -> Sequence[ClientUrl]:
    """Where members may answer: the member list, the fleet, and the founders; ourselves apart."""
    membership = o.membership if isinstance(o.membership, Membership) else memory.membership
    fleet = o.fleet if isinstance(o.fleet, Fleet) else memory.fleet
    record = o.head if isinstance(o.head, GenerationRecord) else memory.head
    found: set[ClientUrl] = set()
    if membership is not None:
        found.update(url for each in membership.members for url in each.client_urls[:1])
    if membership is None or isinstance(o.membership, Unknown):
        ips = [each.private_ip for each in fleet.up] if fleet is not None else []
        founders = record.founders.values() if record is not None else ()
        ips += [urlsplit(url).hostname for url in founders]
        found.update(policy.client_url(ip) for ip in ips if ip)
    return sorted(found - {policy.client_url(o.me.private_ip)})


def _membership_through(world: World, o: Observation, memory: Memory, statuses: Statuses) -> Membership | Unknown:
    """A list with a quorum behind it, from the first member of our own cluster that has a leader."""
    ours = _cluster_id(o, memory)
    answered = {url: each for url, each in statuses.items() if isinstance(each, MemberStatus)}
    if not answered:
        return Unknown(Ignorance.UNREACHABLE, "no other member answers")
    related = [url for url, each in answered.items() if each.cluster_id == ours and not each.is_learner]
    if not related:
        return Unknown(Ignorance.FAILED, f"who answers belongs to another cluster than {ours}")
    leading = [url for url in related if answered[url].leader is not None]
    last = Unknown(Ignorance.FAILED, "the members that answer know no leader")
    for url in sorted(leading, key=lambda each: (not answered[each].leads, each)):
        found = ask(partial(world.etcd.membership, url))
        if isinstance(found, Membership):
            return found
        last = found
    return last


def _cluster_id(o: Observation, memory: Memory) -> ClusterId | None:
    """Whose member list we want: that of our data, or of the formed head."""
    identity = o.disk.identity if isinstance(o.disk, Disk) else None
    if identity is not None and identity.cluster_id is not None:
        return identity.cluster_id
    formed = o.formed if isinstance(o.formed, Formed) else memory.formed
    return None if formed is None else formed.cluster_id


def _answers(local: MemberStatus | Unknown, membership: Membership | Unknown, statuses: Statuses) -> Answers:
    """By member: what those of the list said, and Unknown for those who said nothing."""
    said = [each for each in (*statuses.values(), local) if isinstance(each, MemberStatus)]
    if isinstance(membership, Unknown):
        return Answers()
    silent = Unknown(Ignorance.UNREACHABLE, "did not answer Status")
    by_id: dict[MemberId, MemberStatus | Unknown] = {each.id: silent for each in membership.members}
    cluster = membership.cluster_id
    by_id.update({each.member_id: each for each in said if each.cluster_id == cluster and each.member_id in by_id})
    return Answers(by_id)
