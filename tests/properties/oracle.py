"""What must be true of whatever is carried out, worked out anew from the promises.

House rule: nothing of `agent.decide` is called here, neither rules nor objections; only values are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from agent.model.actions import (
    Action,
    AddLearner,
    AskToBeReplaced,
    BeginTask,
    Compact,
    CompleteHook,
    CreateAuthority,
    CreateGeneration,
    DeregisterTarget,
    Disarm,
    ExpireSnapshots,
    MarkBad,
    MoveLeader,
    PromoteMember,
    PublishRecords,
    PutInPlace,
    Quarantine,
    RegisterTarget,
    ReloadEtcd,
    RemoveMember,
    StampIdentity,
    StartEtcd,
    StopEtcd,
    UpdatePeerUrl,
    WriteClaim,
    WriteFormed,
)
from agent.model.certificates import Issued
from agent.model.cluster import AlarmKind, Member, Membership, MemberStatus
from agent.model.disk import Data, Disk, EtcdRunning, EtcdStopped, Identity, Obstacle, ObstacleKind, Stage
from agent.model.dns import RecordType
from agent.model.fleet import Fleet, InstanceState, Transition
from agent.model.generation import Claim, GenerationRecord, Holding, Report, Seat, Seed, Sight
from agent.model.ids import InstanceId, MemberId
from agent.model.known import Ignorance, Unknown
from agent.model.members import Damaged, Survey
from agent.model.memory import Memory
from agent.model.observation import BucketSound, Observation
from agent.model.policy import Policy
from agent.model.snapshot import Manifest, Rescued
from agent.model.spot import SpotAction, SpotNotice
from agent.model.work import Defragment, Drill, Ended, FetchSeed, RescueLog, RestoreSeed, TakeSnapshot, Working
from tests.decide.examples import Example

ENDED = (InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED)


def identity_of(o: Observation) -> Identity | None:
    return o.disk.identity if isinstance(o.disk, Disk) else None


def entry_of(action: RemoveMember | PromoteMember | UpdatePeerUrl, o: Observation) -> tuple[Membership, Member]:
    """No change of a member that is not in a list which a quorum stood behind in this round."""
    assert isinstance(o.membership, Membership)
    (entry,) = [each for each in o.membership.members if each.id == action.member]
    return o.membership, entry


def is_ours(entry: Member, o: Observation) -> bool:
    identity = identity_of(o)
    if identity is None:
        return entry.name == o.me.instance
    if identity.member_id is not None:
        return entry.id == identity.member_id
    return entry.name == identity.instance


def is_taken(o: Observation) -> bool:
    """EC2 said in this round that it takes this instance, and keeps nothing of it."""
    return isinstance(o.spot, SpotNotice) and o.spot.action is SpotAction.TERMINATE


def loses_its_disk(o: Observation) -> bool:
    return o.lifecycle_target == "Terminated" or is_taken(o)


# ---- who may leave, and why


def removal_is_sound(action: RemoveMember, example: Example) -> None:
    o, memory = example.o, example.memory
    members, entry = entry_of(action, o)
    leaves = is_ours(entry, o) and entry.name == o.me.instance and loses_its_disk(o)
    still = isinstance(o.process, EtcdStopped) or leaves
    assert entry.name != o.me.instance or still, "nobody who stays removes its own running member"
    ended = _has_ended(entry, o, memory) or _is_our_lost_life(entry, o) or _does_not_run(entry, o, memory)
    assert leaves or ended or _is_stalled(entry, o, memory, example.policy), "a removal needs evidence"
    if not entry.is_learner:
        _others_have_a_quorum(entry, members, o)


def _others_have_a_quorum(entry: Member, members: Membership, o: Observation) -> None:
    others = [each for each in members.members if not each.is_learner and each.id != entry.id]
    answering = [each for each in others if isinstance(o.answers.of.get(each.id), MemberStatus)]
    assert others
    assert len(answering) >= len(others) // 2 + 1, "a quorum of what remains"


def _does_not_run(entry: Member, o: Observation, memory: Memory) -> bool:
    """Our own member, whose data carries no etcd: twice where the files say so, eight times where they do not."""
    identity = identity_of(o)
    if identity is None or identity.member_id != entry.id or isinstance(o.answers.of.get(entry.id), MemberStatus):
        return False
    leaves = o.lifecycle_target == "Terminated"
    enough = 2 if isinstance(o.survey, Damaged) or leaves else 8
    lives = memory.etcd_short_lives if leaves else memory.etcd_unexplained
    return isinstance(o.process, EtcdStopped) and lives >= enough and (leaves or o.obstacle is None)


def replacement_is_sound(example: Example) -> None:
    """Nobody needs this disk, and the operator has said that instances may be replaced."""
    o, identity = example.o, identity_of(example.o)
    assert example.policy.replace_unhealthy
    assert isinstance(o.process, EtcdStopped)
    assert identity is not None
    assert isinstance(o.membership, Membership)
    assert o.membership.cluster_id == identity.cluster_id
    (entry,) = [each for each in o.membership.members if each.id == identity.member_id]
    _others_have_a_quorum(entry, o.membership, o)
    failing = isinstance(o.obstacle, Obstacle) and o.obstacle.kind is ObstacleKind.DISK
    assert isinstance(o.disk, Disk)
    again = example.memory.etcd_unexplained >= 2 and any(
        abs(o.now - at) < timedelta(hours=1) for at in o.disk.broken_at
    )
    assert failing or again


def _has_ended(entry: Member, o: Observation, memory: Memory) -> bool:
    if isinstance(o.fleet, Unknown) or not entry.name:
        return False
    states = {str(each.id): each.state for each in o.fleet.instances}
    if states.get(entry.name) is InstanceState.SHUTTING_DOWN:
        return True
    if isinstance(o.answers.of.get(entry.id), MemberStatus) or o.me.instance not in states:
        return False
    if entry.name in states:
        return states[entry.name] is InstanceState.TERMINATED
    return entry.name in o.fleet.ended_by_group or _is_forgotten(entry, o.fleet, o, memory)


def _is_forgotten(entry: Member, fleet: Fleet, o: Observation, memory: Memory) -> bool:
    looks = {str(name): count for name, count in memory.unheard_of.items()}.get(entry.name, 0)
    known_since = memory.seen_since.get(entry.id)
    old = known_since is not None and o.now - known_since >= timedelta(hours=1)
    return entry.name in fleet.unheard_of and looks >= 2 and old


def _is_our_lost_life(entry: Member, o: Observation) -> bool:
    empty = isinstance(o.disk, Disk) and o.disk.data in (Data.ABSENT, Data.EMPTY)
    stopped = isinstance(o.process, EtcdStopped)
    ours = entry.name == o.me.instance or (entry.name == "" and o.me.peer_url in entry.peer_urls)
    joined_as = identity_of(o)
    started_here = joined_as is not None and entry.id == joined_as.member_id and entry.is_learner
    return empty and stopped and (ours or started_here)


def _is_stalled(entry: Member, o: Observation, memory: Memory, policy: Policy) -> bool:
    progress = memory.learners.get(entry.id)
    leads = isinstance(o.local, MemberStatus) and o.local.leader == o.local.member_id
    return entry.is_learner and leads and progress is not None and o.now - progress.since >= policy.join_timeout


# ---- who may come, vote and move


def addition_is_sound(action: AddLearner, example: Example) -> None:
    o, identity = example.o, identity_of(example.o)
    assert isinstance(o.membership, Membership)
    assert action.peer_url == o.me.peer_url
    assert not any(action.peer_url in each.peer_urls for each in o.membership.members)
    assert not any(each.is_learner for each in o.membership.members)
    assert isinstance(o.process, EtcdStopped)
    assert isinstance(o.disk, Disk)
    assert o.disk.data is Data.EMPTY
    assert identity is not None
    assert identity.stage is Stage.ADDING


def promotion_is_sound(action: PromoteMember, example: Example) -> None:
    """A quorum of n voters stood behind the list, and the learner runs: that is a quorum of n + 1."""
    _, entry = entry_of(action, example.o)
    assert entry.is_learner
    assert is_ours(entry, example.o)
    assert isinstance(example.o.process, EtcdRunning)


def move_is_sound(action: UpdatePeerUrl, example: Example) -> None:
    _, entry = entry_of(action, example.o)
    assert not entry.is_learner
    assert is_ours(entry, example.o)
    assert action.peer_url == example.o.me.peer_url
    assert isinstance(example.o.disk, Disk)


# ---- what may start


def start_is_sound(action: StartEtcd, example: Example) -> None:
    o, identity = example.o, identity_of(example.o)
    assert isinstance(o.process, EtcdStopped)
    assert isinstance(o.disk, Disk)
    assert identity is not None
    assert identity.stage is not Stage.FENCED
    assert o.head is not None
    if isinstance(o.head, GenerationRecord):
        assert o.head.generation == identity.generation, "nothing older than the newest generation starts"
    if action.launch.state == "new":
        _new_is_sound(action, o, o.disk, identity)
        return
    assert action.launch.state == "existing"
    if o.disk.data is not Data.PRESENT:
        assert isinstance(o.membership, Membership)
        (entry,) = [each for each in o.membership.members if each.id == identity.member_id]
        assert (o.disk.data, identity.stage, entry.name) == (Data.EMPTY, Stage.JOINING, "")


def _new_is_sound(action: StartEtcd, o: Observation, disk: Disk, identity: Identity) -> None:
    assert isinstance(o.claim, Claim)
    assert o.claim.nonce == identity.nonce
    assert identity.stage is Stage.STARTING, "a founder that joins instead has claimed its seat to give it up"
    assert disk.data is Data.EMPTY
    assert isinstance(o.head, GenerationRecord)
    assert action.launch.token == o.head.token
    assert dict(action.launch.initial_cluster) == dict(o.head.founders), "the record's founders, and no view of ours"
    assert o.head.founders[o.me.instance] == o.me.peer_url


# ---- what may be set aside


def stop_is_sound(action: StopEtcd | Quarantine, example: Example) -> None:
    if isinstance(action, StopEtcd) and action.why == "rescue":
        is_lost(example)
        assert isinstance(example.o.process, EtcdRunning)
        return
    if isinstance(action, StopEtcd) and action.why == "leave":
        _is_the_last(example.o)
        return
    identity = identity_of(example.o)
    assert identity is not None
    assert identity.stage is Stage.FENCED, "proof was there when the stamp was made"
    if isinstance(action, Quarantine):
        assert isinstance(example.o.process, EtcdStopped)


def _is_the_last(o: Observation) -> None:
    """The only member there is, of a group that wants nobody; or the only voter, which EC2 takes."""
    assert isinstance(o.membership, Membership)
    if is_taken(o):
        assert [each.name for each in o.membership.members if not each.is_learner] == [o.me.instance]
        return
    assert o.lifecycle_target == "Terminated"
    assert isinstance(o.fleet, Fleet)
    assert o.fleet.groups, "nobody said how many are wanted"
    assert all(each.desired_capacity == 0 for each in o.fleet.groups)
    assert [each.name for each in o.membership.members] == [o.me.instance]


def handing_over_is_sound(action: MoveLeader, example: Example) -> None:
    o = example.o
    assert o.lifecycle_target == "Terminated" or isinstance(o.spot, SpotNotice)
    assert isinstance(o.local, MemberStatus)
    assert o.local.leader == o.local.member_id, "only who leads can hand it over"
    assert isinstance(o.membership, Membership)
    (entry,) = [each for each in o.membership.members if each.id == action.to]
    assert not entry.is_learner
    assert not is_ours(entry, o)
    assert isinstance(o.answers.of.get(entry.id), MemberStatus)


def completion_is_sound(action: CompleteHook, example: Example) -> None:
    """Whoever is let go holds nothing that a cluster could miss; whoever is let in is a member that serves."""
    o, identity = example.o, identity_of(example.o)
    pooled = isinstance(o.lifecycle_target, str) and o.lifecycle_target.startswith("Warmed")
    if action.transition is Transition.LAUNCHING and pooled:
        assert isinstance(o.disk, Disk)
        assert o.disk.data is not Data.PRESENT
        return
    if action.transition is Transition.LAUNCHING:
        assert isinstance(o.membership, Membership)
        assert any(is_ours(each, o) for each in o.membership.members)
        return
    assert o.lifecycle_target == "Terminated"
    assert isinstance(o.disk, Disk)
    if isinstance(o.obstacle, Obstacle) and isinstance(o.membership, Membership) and identity is not None:
        assert isinstance(o.process, EtcdStopped)
        gone = identity.member_id not in {each.id for each in o.membership.members}
        if o.obstacle.kind is ObstacleKind.DISK and gone and identity.cluster_id == o.membership.cluster_id:
            return  # removed by a quorum, on a disk that takes no fence
    if o.disk.data is not Data.PRESENT or (identity is not None and identity.stage is Stage.FENCED):
        assert isinstance(o.process, EtcdStopped)
        return
    assert isinstance(o.membership, Unknown), "a cluster that answers may still write"
    assert isinstance(o.survey, Survey)
    assert isinstance(o.manifest, Manifest)
    made_of = o.manifest.rescued
    assert made_of is not None
    assert (made_of.instance, made_of.member_id) == (o.me.instance, o.survey.member_id)
    assert made_of.position == o.survey.position, "what was written since is nowhere else"


def publishing_is_sound(action: PublishRecords, example: Example) -> None:
    """By the leader's own word, of voters alone, and never of nobody; only names below the operator's."""
    o, names = example.o, example.policy.dns
    assert isinstance(o.local, MemberStatus)
    assert o.local.leader == o.local.member_id
    assert isinstance(o.membership, Membership)
    assert names is not None
    voters = [url for each in o.membership.members if not each.is_learner for url in each.client_urls]
    addresses = {url.split("/")[2].split(":")[0] for url in voters}
    assert action.records
    for record in action.records:
        assert record.values
        assert record.name.endswith(names.name)
        assert record.type is not RecordType.A or record.values <= addresses


def reload_is_sound(o: Observation) -> None:
    """Nobody else is away; followers before the leader, and each has seen those before it trust the same."""
    assert isinstance(o.membership, Membership)
    assert isinstance(o.local, MemberStatus)
    assert isinstance(o.issued, Issued)
    assert not isinstance(o.trusting, Unknown)
    for each in o.membership.members:
        said = o.answers.of.get(each.id)
        assert isinstance(said, MemberStatus)
        assert said.leader is not None
        if each.id not in (o.local.member_id, o.local.leader) and (
            o.local.leader == o.local.member_id or each.id < o.local.member_id
        ):
            assert o.trusting[each.id] == frozenset(o.issued.authorities.trusted)


def registering_is_sound(action: RegisterTarget | DeregisterTarget, example: Example) -> None:
    """In: who votes and stays. Out: who leaves, or has no vote, and only where others there answer the balancer."""
    o, memory = example.o, example.memory
    assert isinstance(o.membership, Membership)
    assert memory.targets is not None, "never read"
    groups = [each for each in memory.targets if each.arn == action.group]
    voters = {each.id for each in o.membership.members if not each.is_learner}
    ending = memory.leaving_since is not None or (memory.spot is not None and memory.spot.takes_the_disk)
    if isinstance(action, RegisterTarget):
        assert [each for each in groups if o.me.instance not in each.registered]
        assert isinstance(o.local, MemberStatus)
        assert o.local.member_id in voters
        assert not o.local.is_learner
        assert o.membership.via == example.policy.client_url(o.me.private_ip), "a quorum stood behind somebody else"
        assert not ending
        return
    assert [each for each in groups if o.me.instance in each.registered and len(each.healthy - {o.me.instance}) > 0]
    assert isinstance(o.disk, Disk)
    homeless = o.disk.data is not Data.PRESENT and not [e for e in o.membership.members if e.name == o.me.instance]
    assert ending or homeless or (isinstance(o.local, MemberStatus) and o.local.is_learner)


def stamp_is_sound(action: StampIdentity, example: Example) -> None:
    o, before, after = example.o, identity_of(example.o), action.identity
    assert isinstance(o.disk, Disk)
    assert before is None or before.stage is not Stage.FENCED, "what is fenced stays so"
    if after.stage is Stage.FENCED:
        assert before is not None
        assert _is_replaced(before, o)
    elif o.disk.data is Data.PRESENT:
        assert before is not None
        assert (after.nonce, after.generation) == (before.nonce, before.generation), "data never changes its owner"
    elif after.stage in (Stage.STARTING, Stage.ADDING):
        assert isinstance(o.head, GenerationRecord)
        assert after.generation == o.head.generation


def _is_replaced(identity: Identity, o: Observation) -> bool:
    if isinstance(o.head, GenerationRecord) and o.head.generation > identity.generation:
        return True
    if isinstance(o.membership, Unknown) or not isinstance(o.process, EtcdStopped):
        return False
    if identity.member_id is None:
        ours = [each for each in o.membership.members if each.name == identity.instance]
    else:
        ours = [each for each in o.membership.members if each.id == identity.member_id]
    same = identity.cluster_id in (None, o.membership.cluster_id)
    return same and all(each.is_learner for each in ours)


# ---- what may be written


def creation_is_sound(action: CreateGeneration, example: Example) -> None:
    o = example.o
    assert isinstance(o.bucket, BucketSound)
    assert not isinstance(o.reports, Unknown)
    fresh = {filed.report.instance: filed.report for filed in o.reports if filed.age_seconds <= 20}
    fleet = example.memory.fleet if isinstance(o.fleet, Unknown) else o.fleet
    assert fleet is not None
    states = {each.id: each.state for each in fleet.instances}
    assert action.record.founders
    assert len(set(action.record.founders.values())) == len(action.record.founders)
    for name, url in action.record.founders.items():
        assert fresh[name].peer_url == url, "whoever founds has just said where it is"
        assert states[name] in (InstanceState.PENDING, InstanceState.RUNNING)
    if o.head is None:
        first_is_sound(action.record, example, fleet, fresh)
    else:
        next_is_sound(action.record, example)


def first_is_sound(
    record: GenerationRecord, example: Example, fleet: Fleet, fresh: Mapping[InstanceId, Report]
) -> None:
    o = example.o
    assert record.generation == 1
    assert record.seed is None
    assert o.snapshots == ()
    assert isinstance(o.disk, Disk)
    assert o.disk.data is not Data.PRESENT
    assert not isinstance(o.reports, Unknown)
    states = {each.id: each.state for each in fleet.instances}
    for filed in o.reports:
        if filed.report.data is not Holding.NONE:
            state = states.get(filed.report.instance)
            assert state in ENDED or (state is None and filed.age_seconds > 20), "data that can come back"
    wanted = sum(each.desired_capacity for each in fleet.groups)
    assert wanted >= 1
    assert len(fresh) >= wanted // 2 + 1, "a majority at least is there"


def is_lost(example: Example) -> dict[MemberId | None, Report]:
    """Everybody was heard and no list finds a majority; worked out from instances, not from blockers. The holders."""
    o, memory = example.o, example.memory
    assert isinstance(o.membership, Unknown), "a quorum answers"
    assert isinstance(o.head, GenerationRecord)
    assert isinstance(o.fleet, Fleet)
    assert not isinstance(o.reports, Unknown)
    assert not isinstance(o.exclusions, Unknown)
    states = {each.id: each.state for each in o.fleet.instances}
    off = {each.instance for each in o.exclusions}
    over = {name for name, state in states.items() if state is InstanceState.TERMINATED} | off
    if o.me.instance in states:
        over |= {name for name in o.fleet.ended_by_group if name not in states}
        over |= {name for name in o.fleet.unheard_of if name not in states and memory.unheard_of.get(name, 0) >= 2}
    heard = {each.report.instance: each.report for each in o.reports if each.age_seconds <= 20}
    heard = {name: report for name, report in heard.items() if name not in over}
    for instance in o.fleet.instances:
        warm = (instance.lifecycle or "").startswith("Warmed:")
        assert instance.id in heard or instance.id in over or warm, f"{instance.id} was not heard"
    for report in heard.values():
        assert report.sight is Sight.LONG_LEADERLESS
    held = {each.member_id: each for each in heard.values() if each.data is not Holding.NONE}
    for holder in held.values():
        for members in (holder.members, holder.restart_members):
            voters = [each.id for each in members if not each.is_learner]
            assert not voters or len([each for each in voters if each in held]) <= len(voters) // 2, "a majority"
            for entry in members:
                gone = entry.name in over or (
                    entry.name in heard and heard[InstanceId(entry.name)].seat is not Seat.OPEN
                )
                assert entry.id in held or gone or not entry.name or str(entry.id) in off, f"{entry} is nowhere"
    return held


def next_is_sound(record: GenerationRecord, example: Example) -> None:
    """Of what is lost, and from no less than there is."""
    o = example.o
    held = is_lost(example)
    assert isinstance(o.head, GenerationRecord)
    assert record.generation == o.head.generation + 1
    assert record.token != o.head.token
    assert not isinstance(o.snapshots, Unknown)
    past = o.head.seed.manifest if o.head.seed is not None else ""
    mine = [each.name for each in o.snapshots if each.usable and each.name.generation == o.head.generation]
    sound = [each for each in held.values() if each.data is Holding.INTACT and each.position and not each.trouble]
    if record.seed is None:
        assert o.formed is None
        assert not past
        assert not held
        assert not mine
        return
    by_log = record.seed.source.startswith("survivor ")
    if by_log:
        _rescue_is_sound(record.seed, sound, o)
        return
    assert isinstance(o.disk, Disk)
    assert record.seed.sha256 in o.disk.seeds, "fetched and verified"
    assert not mine or record.seed.manifest == max(mine).manifest_key, "never an older one than there is"
    assert isinstance(o.manifest, Manifest)
    for survivor in sound:
        assert survivor.position is not None
        assert o.manifest.cluster_id == survivor.cluster_id
        assert o.manifest.raft_index >= survivor.position.last_index, "a survivor's log has more"


def _rescue_is_sound(seed: Seed, sound: Sequence[Report], o: Observation) -> None:
    """The log that raft would call the most complete, and a snapshot made of that very log."""
    ends = [(each.position.last_term, each.position.last_index) for each in sound if each.position]
    made = [o.manifest, o.work.manifest if isinstance(o.work, Ended) else None]
    (rescue, *_) = [each for each in made if isinstance(each, Manifest) and each.sha256 == seed.sha256]
    assert rescue.rescued is not None
    assert (rescue.rescued.position.last_term, rescue.rescued.position.last_index) == max(ends)
    assert rescue.rescued.instance == o.me.instance
    assert seed.source == f"survivor {o.me.instance}"


def claim_is_sound(action: WriteClaim, example: Example) -> None:
    o, identity = example.o, identity_of(example.o)
    assert o.claim is None
    assert isinstance(o.head, GenerationRecord)
    assert o.me.instance in o.head.founders
    assert isinstance(o.disk, Disk)
    assert o.disk.data is Data.EMPTY
    assert identity is not None
    assert action.claim == Claim(o.me.instance, identity.nonce)


def formed_is_sound(action: WriteFormed, example: Example) -> None:
    o = example.o
    assert o.formed is None
    assert isinstance(o.membership, Membership)
    assert isinstance(o.local, MemberStatus)
    assert action.formed.cluster_id == o.membership.cluster_id == o.local.cluster_id


def placing_is_sound(action: PutInPlace, example: Example) -> None:
    o, identity = example.o, identity_of(example.o)
    assert isinstance(o.process, EtcdStopped)
    assert isinstance(o.disk, Disk)
    assert o.disk.data is Data.EMPTY
    assert identity is not None
    assert identity.stage is Stage.STARTING
    assert action.nonce == identity.nonce
    assert action.nonce in o.disk.restored
    assert isinstance(o.claim, Claim)
    assert o.claim.nonce == action.nonce, "only with the claim"
    assert isinstance(o.head, GenerationRecord)
    assert o.head.seed is not None
    assert identity.generation == o.head.generation
    assert o.head.founders[o.me.instance] == o.me.peer_url


def expiry_is_sound(action: ExpireSnapshots, example: Example) -> None:
    o = example.o
    assert not isinstance(o.snapshots, Unknown)
    head = example.memory.head if isinstance(o.head, Unknown) else o.head
    assert head is not None
    gone = set(action.names)
    assert gone <= {each.name for each in o.snapshots}
    stays = [each.name for each in o.snapshots if each.usable and each.name not in gone]
    for name in gone:
        assert any(name < other for other in stays), "only behind a newer sound one"
        assert head.seed is None or name.manifest_key != head.seed.manifest, "never the seed"
    for generation in {each.name.generation for each in o.snapshots if each.usable}:
        assert any(name.generation == generation for name in stays), "never the last of a generation"


def task_is_sound(action: BeginTask, example: Example) -> None:
    o, task = example.o, action.task
    assert not isinstance(o.work, Working), "one at a time"
    match task:
        case RescueLog(rescued=rescued) if leaves_alone(example):
            assert isinstance(o.survey, Survey)
            assert (rescued.instance, rescued.member_id) == (o.me.instance, o.survey.member_id)
            assert isinstance(o.process, EtcdStopped)
        case RescueLog(rescued=rescued) | TakeSnapshot(rescued=Rescued() as rescued):
            held = is_lost(example)
            assert rescued.instance == o.me.instance
            assert rescued.member_id in held
            assert isinstance(o.process, EtcdStopped if isinstance(task, RescueLog) else EtcdRunning)
        case TakeSnapshot() | Drill():
            assert isinstance(o.membership, Membership), "a healthy cluster's"
            assert isinstance(o.process, EtcdRunning | Unknown)
        case RestoreSeed(nonce=nonce):
            identity = identity_of(o)
            assert identity is not None
            assert nonce == identity.nonce
            assert isinstance(o.claim, Claim)
            assert o.claim.nonce == nonce
            assert isinstance(o.head, GenerationRecord)
            assert task.seed == o.head.seed
            assert dict(task.initial_cluster) == dict(o.head.founders)
            assert task.token == o.head.token
        case FetchSeed():
            assert task.manifest == o.manifest
        case Defragment(member=member, endpoint=endpoint):
            defragmenting_is_sound(member, endpoint, o)


def defragmenting_is_sound(member: MemberId, endpoint: str, o: Observation) -> None:
    """By the leader's agent; every member answers, and whoever leads is the last that is blocked."""
    assert isinstance(o.local, MemberStatus)
    assert o.local.leader == o.local.member_id
    assert isinstance(o.membership, Membership)
    (entry,) = [each for each in o.membership.members if each.id == member]
    assert endpoint in entry.client_urls
    assert not entry.is_learner, "etcd refuses it"
    for each in o.membership.members:
        said = o.answers.of[each.id]
        assert isinstance(said, MemberStatus)
        assert said.leader is not None
        assert said.committed_index - said.applied_index < 5000


def compaction_is_sound(action: Compact, o: Observation, memory: Memory) -> None:
    """No member is behind it, and what came before it is in a sound snapshot."""
    assert isinstance(o.membership, Membership)
    for each in o.membership.members:
        said = o.answers.of[each.id]
        assert isinstance(said, MemberStatus)
        assert said.revision >= action.revision
    assert any(each.usable and each.name.revision >= action.revision for each in memory.snapshots or ())


def leaves_alone(example: Example) -> bool:
    """By its own files it is the only voter, and it was told to leave."""
    o = example.o
    memory = example.memory
    told = loses_its_disk(o) or memory.leaving_since is not None or memory.spot is not None
    voters = [each.id for each in o.survey.members if not each.is_learner] if isinstance(o.survey, Survey) else []
    return told and isinstance(o.survey, Survey) and voters == [o.survey.member_id]


def bad_mark_is_sound(action: MarkBad, example: Example) -> None:
    """Only what was read and found wanting in this agent's own hands."""
    o = example.o
    is_lost(example)
    fetched = isinstance(o.work, Ended) and o.work.final and isinstance(o.work.task, FetchSeed)
    garbled = isinstance(o.manifest, Unknown) and o.manifest.why is Ignorance.MALFORMED
    assert fetched or garbled


def disarming_is_sound(action: Disarm, example: Example) -> None:
    o = example.o
    assert isinstance(o.membership, Membership)
    assert action.alarm.kind is AlarmKind.NOSPACE
    living = any(each.id == action.alarm.member for each in o.membership.members)
    assert not living or (example.policy.nospace and example.memory.compacted is not None)
    assert not isinstance(o.alarms, Unknown)
    assert action.alarm in o.alarms


# ---- the operator's pause


def nobody_holds(action: Action, example: Example) -> None:
    """Nothing that a hold forbids, unless the bucket's last word is that nobody holds, and no tag says otherwise."""
    o, memory = example.o, example.memory
    if not is_forbidden_while_held(action, o.disk):
        return
    assert (memory.hold if isinstance(o.hold, Unknown) else o.hold) is None, "held, or never told"
    fleet = memory.fleet if isinstance(o.fleet, Unknown) else o.fleet
    if fleet is not None:
        assert not [each for each in fleet.groups if each.hold]
        assert not [each for each in fleet.instances if each.hold and each.id == o.me.instance]


def is_forbidden_while_held(action: Action, disk: Disk | Unknown) -> bool:
    """Members, lineages, votes, the lead, hooks; and every step on the way there."""
    match action:
        case AddLearner() | PromoteMember() | RemoveMember() | UpdatePeerUrl() | MoveLeader() | Disarm() | Compact():
            return True
        case CreateGeneration() | WriteClaim() | PutInPlace() | CompleteHook() | MarkBad() | AskToBeReplaced():
            return True
        case CreateAuthority() | ReloadEtcd():
            return True
        case StartEtcd():
            return isinstance(disk, Unknown) or disk.data in (Data.ABSENT, Data.EMPTY)
        case StampIdentity(identity=identity, prepare=prepare):
            return prepare or identity.stage in (Stage.STARTING, Stage.ADDING, Stage.JOINING)
        case StopEtcd(why=why):
            return why in ("rescue", "leave")
        case BeginTask(task=RescueLog() | FetchSeed() | RestoreSeed() | Defragment()):
            return True
        case BeginTask(task=TakeSnapshot(rescued=rescued)):
            return rescued is not None
        case _:
            return False


def is_sound(action: Action, example: Example) -> None:
    """Everything above, for whichever action it is; what only waits, pages or reports is always sound."""
    nobody_holds(action, example)
    match action:
        case RemoveMember():
            removal_is_sound(action, example)
        case AddLearner():
            addition_is_sound(action, example)
        case PromoteMember():
            promotion_is_sound(action, example)
        case UpdatePeerUrl():
            move_is_sound(action, example)
        case StartEtcd():
            start_is_sound(action, example)
        case StopEtcd() | Quarantine():
            stop_is_sound(action, example)
        case MoveLeader():
            handing_over_is_sound(action, example)
        case CompleteHook():
            completion_is_sound(action, example)
        case StampIdentity():
            stamp_is_sound(action, example)
        case CreateGeneration():
            creation_is_sound(action, example)
        case WriteClaim():
            claim_is_sound(action, example)
        case WriteFormed():
            formed_is_sound(action, example)
        case PutInPlace():
            placing_is_sound(action, example)
        case ExpireSnapshots():
            expiry_is_sound(action, example)
        case BeginTask():
            task_is_sound(action, example)
        case MarkBad():
            bad_mark_is_sound(action, example)
        case PublishRecords():
            publishing_is_sound(action, example)
        case RegisterTarget() | DeregisterTarget():
            registering_is_sound(action, example)
        case AskToBeReplaced():
            replacement_is_sound(example)
        case CreateAuthority():
            assert example.o.authorities is None
            assert example.o.head is None, "a cluster that was founded has had an authority"
        case ReloadEtcd():
            reload_is_sound(example.o)
        case Disarm():
            disarming_is_sound(action, example)
        case Compact():
            assert example.policy.nospace
            compaction_is_sound(action, example.o, example.memory)
        case _:
            pass
