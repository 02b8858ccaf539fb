"""The independent second look: for each dangerous action, what must be true whatever rule asked for it.

Written from the promises and not from the rules, and sharing no code with them: a mistake in a rule must not
be repeated here. An objection can only veto; what is vetoed becomes a wait that names the objection.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import assert_never

from agent.decide.objections_to_succession import failing, to_creating, to_stopping_a_survivor
from agent.model.actions import (
    Action,
    AddLearner,
    AskToBeReplaced,
    BeginTask,
    Blocker,
    CallHuman,
    Compact,
    CompleteHook,
    CreateAuthority,
    CreateGeneration,
    Decision,
    DeregisterTarget,
    Disarm,
    ExpireSnapshots,
    FileReport,
    HeartbeatHook,
    IssueCertificates,
    MembershipChange,
    MoveLeader,
    PromoteMember,
    ProtectFromScaleIn,
    PublishRecords,
    PutInPlace,
    Quarantine,
    RegisterTarget,
    ReloadEtcd,
    RemoveMember,
    Rest,
    StampIdentity,
    StartEtcd,
    StopEtcd,
    UpdatePeerUrl,
    Wait,
    WriteClaim,
    WriteFormed,
)
from agent.model.certificates import Issued
from agent.model.cluster import Alarm, AlarmKind, Member, Membership, MemberStatus
from agent.model.disk import Data, Disk, EtcdStopped, Identity, Obstacle, ObstacleKind, Stage
from agent.model.dns import RecordSet, RecordType
from agent.model.fleet import Fleet, InstanceState, Transition
from agent.model.generation import Claim, GenerationRecord
from agent.model.ids import InstanceId, MemberId, Nonce
from agent.model.known import Unknown
from agent.model.members import Damaged, Survey
from agent.model.memory import Memory
from agent.model.observation import Observation
from agent.model.snapshot import Manifest, Rescued, SnapshotName
from agent.model.spot import SpotAction, SpotNotice
from agent.model.versions import number_of
from agent.model.work import Defragment, Drill, RescueLog, TakeSnapshot

HARMLESS = (
    Rest,
    Wait,
    CallHuman,
    FileReport,
    HeartbeatHook,
    WriteFormed,
    ExpireSnapshots,
    Quarantine,
    ProtectFromScaleIn,
    PublishRecords,
    IssueCertificates,
    RegisterTarget,
    DeregisterTarget,
)
"""What an operator's hold does not hold back."""

OnTheCluster = MembershipChange | MoveLeader | Disarm | Compact
OnThisInstance = StopEtcd | Quarantine | StampIdentity | StartEtcd | PutInPlace | BeginTask


def object_to(decision: Decision, o: Observation, memory: Memory) -> tuple[str, ...]:
    """Every reason why this decision must not be carried out; empty for almost all."""
    return _to_acting_while_held(decision.action, o, memory) or _to_the_action(decision, o, memory)


def _to_the_action(decision: Decision, o: Observation, memory: Memory) -> tuple[str, ...]:
    match decision.action:
        case RemoveMember() | AddLearner() | PromoteMember() | UpdatePeerUrl() | MoveLeader() | Disarm() | Compact():
            return _to_changing_the_cluster(decision.action, o, memory)
        case CompleteHook(transition=transition):
            return _to_completing(transition, o)
        case PublishRecords(records=records):
            return _to_publishing(records, o)
        case RegisterTarget() | DeregisterTarget():
            return _to_registering(decision.action, o, memory)
        case AskToBeReplaced():
            return _to_being_replaced(o)
        case ReloadEtcd():
            return _to_reloading(o)
        case CreateAuthority():
            return failing(
                there_is_none=o.authorities is None,
                nothing_was_ever_founded=o.head is None
                and isinstance(o.disk, Disk)
                and o.disk.data is not Data.PRESENT,
            )
        case StopEtcd() | Quarantine() | StampIdentity() | StartEtcd() | PutInPlace() | BeginTask():
            return _to_changing_this_instance(decision.action, o, memory)
        case CreateGeneration(record=record):
            return to_creating(record, o, memory)
        case WriteClaim(claim=claim):
            return _to_claiming(claim, o)
        case ExpireSnapshots(names=names):
            return _to_expiring(names, o, memory)
        case _:
            return ()


def _to_changing_the_cluster(action: OnTheCluster, o: Observation, memory: Memory) -> tuple[str, ...]:
    match action:
        case RemoveMember(member=member):
            return _to_removing(member, o, memory)
        case AddLearner():
            return _to_adding(o)
        case PromoteMember(member=member):
            return _to_promoting(member, o)
        case UpdatePeerUrl(member=member):
            return _to_updating(member, o)
        case MoveLeader(to=member):
            return _to_moving_the_lead(member, o)
        case Disarm(alarm=alarm):
            return _to_disarming(alarm, o, memory)
        case Compact(revision=revision):
            return _to_compacting(revision, o, memory)
        case _:
            assert_never(action)


def _to_changing_this_instance(action: OnThisInstance, o: Observation, memory: Memory) -> tuple[str, ...]:
    match action:
        case StopEtcd(why="rescue"):
            return to_stopping_a_survivor(o)
        case StopEtcd(why="leave"):
            return _to_stopping_the_last(o, memory)
        case StopEtcd() | Quarantine():
            return _to_setting_aside(action, o)
        case StampIdentity(identity=identity):
            return _to_stamping(identity, o, memory)
        case StartEtcd(launch=launch):
            return _to_starting_new(o) if launch.state == "new" else _to_starting_existing(o)
        case PutInPlace(nonce=nonce):
            return _to_putting_in_place(nonce, o)
        case BeginTask(task=RescueLog()):
            return failing(etcd_has_stopped=isinstance(o.process, EtcdStopped))
        case BeginTask(task=Defragment() as task):
            return _to_defragmenting(task, o)
        case BeginTask():
            return ()
        case _:
            assert_never(action)


def _to_acting_while_held(action: Action, o: Observation, memory: Memory) -> tuple[str, ...]:
    """An operator's pause: but for what only looks, keeps or fences, nothing is to happen."""
    if isinstance(action, HARMLESS) or _keeps_what_is(action, o):
        return ()
    said = memory.hold if isinstance(o.hold, Unknown) else o.hold
    seen = memory.fleet if isinstance(o.fleet, Unknown) else o.fleet
    tagged = seen is not None and (
        any(each.hold is not None for each in seen.groups)
        or any(each.hold is not None for each in seen.instances if each.id == o.me.instance)
    )
    return failing(
        whether_somebody_holds_the_cluster_is_known=not isinstance(said, Unknown),
        nobody_holds_the_cluster=isinstance(said, Unknown) or said is None,
        no_tag_holds_it=not tagged,
    )


def _keeps_what_is(action: Action, o: Observation) -> bool:
    match action:
        case StartEtcd():
            return isinstance(o.disk, Disk) and o.disk.data is Data.PRESENT
        case StampIdentity(identity=identity):
            return identity.stage in (Stage.MEMBER, Stage.FENCED)
        case StopEtcd(why=why):
            return why == "fenced"
        case BeginTask(task=task):
            return isinstance(task, Drill) or (isinstance(task, TakeSnapshot) and task.rescued is None)
        case _:
            return False


def veto(decision: Decision, objections: tuple[str, ...]) -> Decision:
    """What is carried out instead of a decision that met objections."""
    because = f"vetoed ({decision.rule}: {decision.because}): {'; '.join(objections)}"
    return replace(decision, action=Wait(Blocker.VETO), because=because)


def _entry(member: MemberId, o: Observation) -> Member | None:
    if not isinstance(o.membership, Membership):
        return None
    return {each.id: each for each in o.membership.members}.get(member)


def _to_removing(member: MemberId, o: Observation, memory: Memory) -> tuple[str, ...]:
    entry = _entry(member, o)
    if entry is None or not isinstance(o.membership, Membership):
        return ("the member is in no list that a quorum stood behind",)
    ours = entry.name == o.me.instance or (entry.name == "" and o.me.peer_url in entry.peer_urls)
    own = ours and isinstance(o.disk, Disk) and o.disk.data is not Data.PRESENT
    stopped = isinstance(o.process, EtcdStopped)
    leaves = entry.name == o.me.instance and (o.lifecycle_target == "Terminated" or _is_taken(o))
    dead = _is_dead(entry, o, memory) or _cannot_run(entry, o, memory)
    return failing(
        the_removed_one_is_dead_or_was_ours=entry.is_learner or dead or (own and stopped) or leaves,
        the_removed_one_is_not_this_running_member=entry.name != o.me.instance or stopped or leaves,
        a_quorum_of_what_remains_answers=entry.is_learner or _remains(entry, o.membership, o),
    )


def _is_dead(entry: Member, o: Observation, memory: Memory) -> bool:
    if not isinstance(o.fleet, Fleet) or not entry.name:
        return False
    states = {each.id: each.state for each in o.fleet.instances}
    name = InstanceId(entry.name)
    if states.get(name) is InstanceState.SHUTTING_DOWN:
        return True
    if isinstance(o.answers.of.get(entry.id), MemberStatus) or o.me.instance not in states:
        return False  # it lives, or EC2 speaks of some other account than ours
    if name in states:
        return states[name] in (InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED)
    aged = o.now - memory.seen_since.get(entry.id, o.now) >= timedelta(hours=1)
    forgotten = name in o.fleet.unheard_of and memory.unheard_of.get(name, 0) > 1 and aged
    return name in o.fleet.ended_by_group or forgotten


def _cannot_run(entry: Member, o: Observation, memory: Memory) -> bool:
    """It is ours by the disk's word, and its etcd came up here again and again, and never stayed."""
    if not isinstance(o.disk, Disk) or o.disk.identity is None or not isinstance(o.membership, Membership):
        return False
    mine = (o.disk.identity.member_id, o.disk.identity.cluster_id) == (entry.id, o.membership.cluster_id)
    silent = not isinstance(o.answers.of.get(entry.id), MemberStatus)
    lives = memory.etcd_short_lives if o.lifecycle_target == "Terminated" else memory.etcd_unexplained
    leaves = o.lifecycle_target == "Terminated"
    for_its_data = o.obstacle is None and (lives >= 8 or isinstance(o.survey, Damaged))
    return mine and silent and isinstance(o.process, EtcdStopped) and lives >= 2 and (leaves or for_its_data)


def _to_being_replaced(o: Observation) -> tuple[str, ...]:
    """Auto Scaling would end this instance with its disk: a quorum must stand that does not need it."""
    identity = o.disk.identity if isinstance(o.disk, Disk) else None
    entry = None if identity is None or identity.member_id is None else _entry(identity.member_id, o)
    return failing(
        etcd_has_stopped=isinstance(o.process, EtcdStopped),
        a_quorum_of_the_others_answers=entry is not None
        and isinstance(o.membership, Membership)
        and identity is not None
        and identity.cluster_id == o.membership.cluster_id
        and _remains(entry, o.membership, o),
    )


def _to_reloading(o: Observation) -> tuple[str, ...]:
    """It is away for a moment: nobody else may be, and it must be able to come back by itself."""
    members = o.membership.members if isinstance(o.membership, Membership) else ()
    spoken = [o.answers.of.get(each.id) for each in members]
    identity = o.disk.identity if isinstance(o.disk, Disk) else None
    return failing(
        a_quorum_stands_behind_the_list=bool(members),
        every_member_answers_and_has_a_leader=all(
            isinstance(each, MemberStatus) and each.leader is not None for each in spoken
        ),
        its_certificates_are_valid=isinstance(o.issued, Issued) and o.issued.expires_at > o.now,
        it_starts_again_on_its_own_data=identity is not None and identity.stage is not Stage.FENCED,
    )


def _to_publishing(records: frozenset[RecordSet], o: Observation) -> tuple[str, ...]:
    """Clients are never sent nowhere, nor to an address that is no voter's of a list with a quorum."""
    voters = (
        [each for each in o.membership.members if not each.is_learner] if isinstance(o.membership, Membership) else []
    )
    urls = " ".join(url for each in voters for url in each.client_urls)
    addresses = {value for each in records if each.type is RecordType.A for value in each.values}
    return failing(
        every_record_has_a_value=bool(records) and all(each.values for each in records),
        every_address_is_a_voters=all(f"//{each}:" in urls for each in addresses),
    )


def _to_registering(action: RegisterTarget | DeregisterTarget, o: Observation, memory: Memory) -> tuple[str, ...]:
    """Clients are sent to voters that stay, and nobody goes whom no other target could stand for."""
    if not isinstance(o.membership, Membership):
        return ("a target comes and goes by a list with a quorum",)
    here, mine = o.me.instance, o.local.member_id if isinstance(o.local, MemberStatus) else None
    voters = [each for each in o.membership.members if not each.is_learner]
    leaves = memory.going_since is not None
    if isinstance(action, RegisterTarget):
        votes = isinstance(o.local, MemberStatus) and not o.local.is_learner
        return failing(it_votes=votes and mine in {each.id for each in voters}, it_stays=not leaves)
    others = {target for each in memory.targets or () if each.arn == action.group for target in each.healthy} - {here}
    return failing(
        it_leaves_or_has_no_vote=leaves or not any(each.name == here or each.id == mine for each in voters),
        another_target_is_healthy=bool(others),
    )


def _remains(entry: Member, membership: Membership, o: Observation) -> bool:
    rest = [each for each in membership.members if not each.is_learner and each is not entry]
    speaking = [each for each in rest if isinstance(o.answers.of.get(each.id), MemberStatus)]
    return 2 * len(speaking) > len(rest)


def _to_adding(o: Observation) -> tuple[str, ...]:
    if not isinstance(o.membership, Membership) or not isinstance(o.disk, Disk):
        return ("no quorum stood behind a member list in this round",)
    identity = o.disk.identity
    return failing(
        our_address_is_free=all(o.me.peer_url not in each.peer_urls for each in o.membership.members),
        the_identity_says_adding=identity is not None and identity.stage is Stage.ADDING,
        the_disk_has_no_data=o.disk.data is Data.EMPTY,
        no_other_learner_exists=not any(each.is_learner for each in o.membership.members),
        not_all_members_run_a_newer_etcd=not _is_outrun(o),
    )


def _is_outrun(o: Observation) -> bool:
    """Every voter says that it runs a newer minor version than what is installed here: etcd would not let it in."""
    ours = number_of(o.etcd_version) if isinstance(o.etcd_version, str) else None
    voters = (
        [each.id for each in o.membership.members if not each.is_learner]
        if isinstance(o.membership, Membership)
        else []
    )
    said = [o.answers.of.get(each) for each in voters]
    theirs = [number_of(each.version) if isinstance(each, MemberStatus) else None for each in said]
    return ours is not None and bool(theirs) and all(each is not None and each[:2] > ours[:2] for each in theirs)


def _to_promoting(member: MemberId, o: Observation) -> tuple[str, ...]:
    entry = _entry(member, o)
    return failing(it_is_a_learner_of_a_list_with_a_quorum=entry is not None and entry.is_learner)


def _to_updating(member: MemberId, o: Observation) -> tuple[str, ...]:
    entry = _entry(member, o)
    return failing(it_is_a_voter_of_a_list_with_a_quorum=entry is not None and not entry.is_learner)


def _to_moving_the_lead(member: MemberId, o: Observation) -> tuple[str, ...]:
    entry, status = _entry(member, o), o.answers.of.get(member)
    return failing(
        this_instance_is_about_to_be_away=o.lifecycle_target == "Terminated" or isinstance(o.spot, SpotNotice),
        it_is_another_voter_that_answers=entry is not None
        and not entry.is_learner
        and entry.name != o.me.instance
        and isinstance(status, MemberStatus),
    )


def _to_completing(transition: Transition, o: Observation) -> tuple[str, ...]:
    """An instance is let go when nothing on its disk is needed, and let in when it serves."""
    if transition is Transition.LAUNCHING and _is_to_wait_in_a_pool(o):
        return ()
    if transition is Transition.LAUNCHING:
        names = [each.name for each in o.membership.members] if isinstance(o.membership, Membership) else []
        return failing(we_are_in_a_list_with_a_quorum=o.me.instance in names)
    identity = o.disk.identity if isinstance(o.disk, Disk) else None
    fenced = identity is not None and identity.stage is Stage.FENCED
    no_data = isinstance(o.disk, Disk) and o.disk.data is not Data.PRESENT and isinstance(o.process, EtcdStopped)
    removed = identity is not None and _was_removed(identity, o)
    return failing(
        this_instance_is_leaving=o.lifecycle_target == "Terminated",
        nothing_here_is_needed=no_data or fenced or removed or _is_saved(o),
    )


def _was_removed(identity: Identity, o: Observation) -> bool:
    """A quorum's list has our member no more, and a disk that fails takes no fence."""
    if not isinstance(o.membership, Membership) or not isinstance(o.process, EtcdStopped):
        return False
    fails = isinstance(o.obstacle, Obstacle) and o.obstacle.kind is ObstacleKind.DISK
    ids = [each.id for each in o.membership.members]
    known = identity.member_id is not None and identity.cluster_id == o.membership.cluster_id
    return fails and known and identity.member_id not in ids


def _is_saved(o: Observation) -> bool:
    """No quorum answers that could still write, and the newest snapshot was made of this log, or holds all of it."""
    if not isinstance(o.survey, Survey) or not isinstance(o.manifest, Manifest) or isinstance(o.membership, Membership):
        return False
    rescued, mine = o.manifest.rescued, Rescued(o.me.instance, o.survey.member_id, o.survey.position)
    same_cluster = o.manifest.cluster_id == o.survey.cluster_id
    return rescued == mine or (same_cluster and o.manifest.raft_index >= mine.position.last_index)


def _to_stopping_the_last(o: Observation, memory: Memory) -> tuple[str, ...]:
    members = o.membership.members if isinstance(o.membership, Membership) else ()
    if _is_taken_soon(o, memory):
        return failing(no_other_voter_exists=[e.name for e in members if not e.is_learner] == [o.me.instance])
    return failing(
        this_instance_is_leaving=o.lifecycle_target == "Terminated",
        nobody_is_wanted=isinstance(o.fleet, Fleet) and {each.desired_capacity for each in o.fleet.groups} == {0},
        no_other_member_exists=[each.name for each in members] == [o.me.instance],
    )


def _is_taken(o: Observation) -> bool:
    """EC2 said in this very round that it terminates this spot instance."""
    return isinstance(o.spot, SpotNotice) and o.spot.action == SpotAction.TERMINATE


def _is_taken_soon(o: Observation, memory: Memory) -> bool:
    """Within a minute, by its own word; or it has been saying so for one, and gives two at most."""
    if not isinstance(o.spot, SpotNotice) or not _is_taken(o):
        return False
    minute, heard = timedelta(minutes=1), memory.spot_since or o.now
    return o.spot.at - o.now <= minute or o.now - heard >= minute


def _is_to_wait_in_a_pool(o: Observation) -> bool:
    """A warm pool keeps it until it is wanted, and it is no member: nobody waits for it to serve."""
    pooled = isinstance(o.lifecycle_target, str) and o.lifecycle_target.startswith("Warmed:")
    return pooled and isinstance(o.disk, Disk) and o.disk.data is not Data.PRESENT


def _to_setting_aside(action: Action, o: Observation) -> tuple[str, ...]:
    """Only what is fenced is stopped or moved, and nothing is moved under a running etcd."""
    identity = o.disk.identity if isinstance(o.disk, Disk) else None
    still = isinstance(o.process, EtcdStopped) or isinstance(action, StopEtcd)
    return failing(
        the_identity_is_fenced=identity is not None and identity.stage is Stage.FENCED,
        etcd_has_stopped=still,
    )


def _to_stamping(identity: Identity, o: Observation, memory: Memory) -> tuple[str, ...]:
    if not isinstance(o.disk, Disk):
        return ("the disk is unknown",)
    if identity.stage is Stage.FENCED:
        return _to_fencing(o.disk.identity, o)
    before = o.disk.identity
    same_life = before is not None and (identity.nonce, identity.generation) == (before.nonce, before.generation)
    return failing(
        no_data_changes_hands=same_life or o.disk.data is not Data.PRESENT,
        no_fenced_identity_comes_back=before is None or before.stage is not Stage.FENCED,
        the_generation_is_the_newest_we_know=memory.head is None
        or identity.generation == memory.head.generation
        or (before is not None and before.generation == identity.generation),
    )


def _to_fencing(before: Identity | None, o: Observation) -> tuple[str, ...]:
    if before is None:
        return ("there is no identity to fence",)
    newer = isinstance(o.head, GenerationRecord) and o.head.generation > before.generation
    absent = learner = False
    if isinstance(o.membership, Membership) and isinstance(o.process, EtcdStopped):
        ours = [each for each in o.membership.members if before.member_id in (each.id, None)]
        ours = [each for each in ours if before.member_id is not None or each.name == before.instance]
        absent = not ours and before.cluster_id in (None, o.membership.cluster_id)
        learner = bool(ours) and all(each.is_learner for each in ours)
    return failing(a_newer_generation_or_a_quorum_has_replaced_us=newer or absent or learner)


def _to_starting_new(o: Observation) -> tuple[str, ...]:
    """`new` begins a lineage: only with the claim in the bucket, its nonce on the disk, and no data."""
    if not isinstance(o.disk, Disk) or not isinstance(o.head, GenerationRecord) or o.claim is None:
        return ("record, claim and disk are not all known",)
    identity, claimed = o.disk.identity, getattr(o.claim, "nonce", None)
    return failing(
        etcd_has_stopped=isinstance(o.process, EtcdStopped),
        the_disk_has_no_data=o.disk.data is Data.EMPTY,
        the_claim_is_of_this_disk=identity is not None and identity.nonce == claimed,
        the_seat_was_not_given_up=identity is not None and identity.stage is Stage.STARTING,
        the_identity_is_of_the_head=identity is not None and identity.generation == o.head.generation,
        the_record_names_us_at_this_address=o.head.founders.get(o.me.instance) == o.me.peer_url,
        nothing_is_to_be_restored_first=o.head.seed is None,
    )


def _to_putting_in_place(nonce: Nonce, o: Observation) -> tuple[str, ...]:
    """What was restored becomes a founder's data: the same demands as for a start as `new`."""
    if not isinstance(o.disk, Disk) or not isinstance(o.head, GenerationRecord) or o.claim is None:
        return ("record, claim and disk are not all known",)
    identity = o.disk.identity
    return failing(
        etcd_has_stopped=isinstance(o.process, EtcdStopped),
        the_disk_has_no_data=o.disk.data is Data.EMPTY,
        the_claim_is_of_this_disk=nonce == getattr(o.claim, "nonce", None),
        it_was_restored_for_this_identity=identity is not None
        and nonce in o.disk.restored
        and (identity.nonce, identity.stage) == (nonce, Stage.STARTING),
        there_is_a_seed_to_restore=o.head.seed is not None,
        the_identity_is_of_the_head=identity is not None and identity.generation == o.head.generation,
        the_record_names_us_at_this_address=o.head.founders.get(o.me.instance) == o.me.peer_url,
    )


def _to_expiring(names: tuple[SnapshotName, ...], o: Observation, memory: Memory) -> tuple[str, ...]:
    if isinstance(o.snapshots, Unknown) or memory.head is None:
        return ("which snapshots there are is not known",)
    sound = [each.name for each in o.snapshots if each.usable and each.name not in names]
    seed = "" if memory.head.seed is None else memory.head.seed.manifest
    return failing(
        a_newer_sound_one_stays=bool(sound) and all(name < max(sound) for name in names),
        the_head_does_not_start_from_it=all(name.manifest_key != seed for name in names),
    )


def _to_defragmenting(task: Defragment, o: Observation) -> tuple[str, ...]:
    """Its member answers nobody meanwhile: the others must serve, and a leader must be the last that needs it."""
    entry = _entry(task.member, o)
    members = o.membership.members if isinstance(o.membership, Membership) else ()
    said = [found for each in members if isinstance(found := o.answers.of.get(each.id), MemberStatus)]
    return failing(
        it_is_a_voter=entry is not None and not entry.is_learner,
        it_is_at_this_endpoint=entry is not None and task.endpoint in entry.client_urls,
        every_member_answers_and_knows_a_leader=len(said) == len(members) and all(each.leader for each in said),
        nobody_is_catching_up=all(each.committed_index - each.applied_index < 5000 for each in said),
        nobody_has_to_compare_the_data=not any("CORRUPT" in error for each in said for error in each.errors),
    )


def _to_compacting(revision: int, o: Observation, memory: Memory) -> tuple[str, ...]:
    """History goes only where it is in the bucket, and on every member's disk is newer data."""
    members = o.membership.members if isinstance(o.membership, Membership) else ()
    said = [found for each in members if isinstance(found := o.answers.of.get(each.id), MemberStatus)]
    sound = [each.name.revision for each in memory.snapshots or () if each.usable]
    return failing(
        every_member_has_this_revision=len(said) == len(members) > 0
        and all(each.revision >= revision for each in said),
        a_sound_snapshot_has_it=any(each >= revision for each in sound),
        a_database_is_full=not isinstance(o.alarms, Unknown)
        and any(each.kind is AlarmKind.NOSPACE and _entry(each.member, o) for each in o.alarms),
    )


def _to_disarming(alarm: Alarm, o: Observation, memory: Memory) -> tuple[str, ...]:
    gone = isinstance(o.membership, Membership) and _entry(alarm.member, o) is None
    return failing(
        whoever_raised_it_is_no_member_or_room_was_made=gone or memory.compacted is not None,
        nobody_has_to_compare_the_data=alarm.kind is not AlarmKind.CORRUPT,
    )


def _to_starting_existing(o: Observation) -> tuple[str, ...]:
    if not isinstance(o.disk, Disk) or o.disk.identity is None:
        return ("there is no identity to start under",)
    identity, head = o.disk.identity, o.head
    entry = None if identity.member_id is None else _entry(identity.member_id, o)
    return failing(
        etcd_has_stopped=isinstance(o.process, EtcdStopped),
        its_data_is_of_no_newer_version=not _is_too_old(o),
        the_identity_may_start=identity.stage is not Stage.FENCED,
        no_newer_generation_is_known=head is not None
        and not (isinstance(head, GenerationRecord) and head.generation != identity.generation),
        there_is_data_or_an_unstarted_entry=o.disk.data is Data.PRESENT
        or (identity.stage is Stage.JOINING and entry is not None and entry.name == ""),
    )


def _is_too_old(o: Observation) -> bool:
    """etcd ends at once then, and has written to the data by that time. Who leaves may try: it is given up with it."""
    if not isinstance(o.etcd_version, str) or not isinstance(o.data_version, str):
        return False
    ours, its = number_of(o.etcd_version), number_of(o.data_version)
    goes = o.lifecycle_target == "Terminated" or _is_taken(o)
    return not goes and ours is not None and its is not None and its[:2] > ours[:2]


def _to_claiming(claim: Claim, o: Observation) -> tuple[str, ...]:
    head, identity = o.head, o.disk.identity if isinstance(o.disk, Disk) else None
    return failing(
        no_claim_of_ours_exists=o.claim is None,
        the_record_names_us=isinstance(head, GenerationRecord) and o.me.instance in head.founders,
        the_disk_is_prepared=isinstance(o.disk, Disk) and o.disk.data is Data.EMPTY,
        the_claim_is_of_this_disk=identity is not None and claim == Claim(o.me.instance, identity.nonce),
    )
