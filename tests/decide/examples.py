"""Situations to tell stories with: a healthy three seen by each of them, and the ways into and out of it.

Each builder gives an `Example`: one observation with the memory that goes with it. A story changes one
thing with `seeing(...)` or `remembering(...)` and asks what is carried out: the decision, or its veto.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.decide import decide, object_to
from agent.decide.objections import veto
from agent.model.actions import Action, Decision
from agent.model.cluster import Answers, Member, Membership, MemberStatus
from agent.model.disk import Data, Disk, EtcdRunning, EtcdStopped, Identity, Stage
from agent.model.fleet import Fleet, Group, Instance, InstanceState
from agent.model.generation import (
    Cause,
    Claim,
    FiledReport,
    Formed,
    GenerationRecord,
    Holding,
    Report,
    Seat,
    Seed,
    Sight,
)
from agent.model.ids import ClientUrl, ClusterId, GenerationNumber, InstanceId, MemberId, Nonce, PeerUrl
from agent.model.known import NOT_ASKED, Ignorance, Unknown
from agent.model.members import Damaged, LogPosition, MemberEntry, Survey
from agent.model.memory import Memory, Progress
from agent.model.observation import BucketSound, Me, Observation
from agent.model.policy import Policy
from agent.model.snapshot import Listed, Manifest, Origin, Rescued, SnapshotName
from agent.model.work import Ended, FetchSeed

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
A, B, C, D, E = (InstanceId(f"i-{letter}") for letter in "abcde")
IPS = {A: "10.0.0.1", B: "10.0.0.2", C: "10.0.0.3", D: "10.0.0.4", E: "10.0.0.5"}
MEMBERS = {A: MemberId(0xA), B: MemberId(0xB), C: MemberId(0xC), D: MemberId(0xD), E: MemberId(0xE)}
CLUSTER = ClusterId(0xC1)
OTHER_CLUSTER = ClusterId(0xC2)
NONCE, OLD_NONCE = Nonce("n" * 32), Nonce("o" * 32)
TIMEOUT = Unknown(Ignorance.TIMEOUT, "no answer")
THROTTLED = Unknown(Ignorance.THROTTLED, "slow down")
SILENT = Unknown(Ignorance.UNREACHABLE, "did not answer Status")
LONG_AGO = NOW - timedelta(hours=3)
A_MINUTE_AGO = NOW - timedelta(minutes=1)
POSITION = LogPosition(last_term=7, last_index=1000, committed_index=1000)
"""Of a member that has nothing beyond what is committed and applied, see `status`."""


@dataclass(frozen=True)
class Example:
    """An observation and what its agent remembers."""

    o: Observation
    memory: Memory
    policy: Policy = field(default_factory=lambda: Policy(cluster="prod"))

    def seeing(self, **changes: Any) -> Example:
        return replace(self, o=replace(self.o, **changes))

    def remembering(self, **changes: Any) -> Example:
        return replace(self, memory=replace(self.memory, **changes))

    @property
    def values(self) -> tuple[Observation, Memory, Policy]:
        return self.o, self.memory, self.policy

    @property
    def decided(self) -> Decision:
        """What the rules ask for."""
        return decide(self.o, self.memory, self.policy)

    def objections_to(self, action: Action) -> tuple[str, ...]:
        """To this action, whatever the rules ask for."""
        return object_to(Decision(action, "because"), self.o, self.memory)

    @property
    def carried_out(self) -> Decision:
        """What is done: the decision, or the wait that a veto makes of it."""
        objections = object_to(self.decided, self.o, self.memory)
        return veto(self.decided, objections) if objections else self.decided

    @property
    def action(self) -> Action:
        return self.carried_out.action

    @property
    def rule(self) -> str:
        return self.carried_out.rule


# ---- parts


def peer(instance: InstanceId) -> PeerUrl:
    return PeerUrl(f"http://{IPS[instance]}:2380")


def client(instance: InstanceId) -> ClientUrl:
    return ClientUrl(f"http://{IPS[instance]}:2379")


def voter(instance: InstanceId) -> Member:
    return Member(MEMBERS[instance], instance, (peer(instance),), (client(instance),))


def learner(instance: InstanceId) -> Member:
    return replace(voter(instance), is_learner=True)


def unstarted(instance: InstanceId) -> Member:
    return Member(MEMBERS[instance], "", (peer(instance),), (), is_learner=True)


def status(instance: InstanceId, leader: InstanceId | None = A) -> MemberStatus:
    return MemberStatus(
        member_id=MEMBERS[instance],
        cluster_id=CLUSTER,
        version="3.5.30",
        leader=None if leader is None else MEMBERS[leader],
        raft_term=7,
        committed_index=1000,
        applied_index=1000,
        is_learner=False,
        db_size_bytes=1_000_000,
        revision=900,
    )


def membership(*members: Member, via: InstanceId = A) -> Membership:
    return Membership(CLUSTER, members, client(via))


def answers(*instances: InstanceId, silent: tuple[InstanceId, ...] = ()) -> Answers:
    said: dict[MemberId, MemberStatus | Unknown] = {MEMBERS[each]: status(each) for each in instances}
    return Answers({**said, **{MEMBERS[each]: SILENT for each in silent}})


def instance(name: InstanceId, state: InstanceState = InstanceState.RUNNING, lifecycle: str = "InService") -> Instance:
    return Instance(name, state, LONG_AGO, IPS[name], f"zone-{name[-1]}", "group", lifecycle)


def fleet(*instances: Instance, desired: int = 3, **more: Any) -> Fleet:
    return Fleet(tuple(sorted(instances, key=lambda each: each.id)), (Group("group", desired),), **more)


def record(*founders: InstanceId, generation: int = 1) -> GenerationRecord:
    return GenerationRecord(
        generation=GenerationNumber(generation),
        cluster="prod",
        token=f"prod-{generation:06d}-abcd",
        created_by=founders[0],
        created_at=LONG_AGO,
        agent="0",
        nonce=OLD_NONCE,
        founders={each: peer(each) for each in founders},
        cause=Cause("first", {}),
    )


def formed(*voters: InstanceId) -> Formed:
    return Formed(CLUSTER, {MEMBERS[each]: each for each in voters})


def identity(name: InstanceId, stage: Stage = Stage.MEMBER, generation: int = 1, nonce: Nonce = OLD_NONCE) -> Identity:
    known = stage in (Stage.MEMBER, Stage.JOINING, Stage.FENCED)
    return Identity(
        cluster="prod",
        instance=name,
        generation=GenerationNumber(generation),
        stage=stage,
        nonce=nonce,
        peer_url=peer(name),
        member_id=MEMBERS[name] if known else None,
        cluster_id=CLUSTER if known else None,
    )


def me(name: InstanceId) -> Me:
    return Me(name, IPS[name], peer(name), "boot-1", f"zone-{name[-1]}")


def filed(name: InstanceId, data: str = "none", age_seconds: float = 1.0) -> FiledReport:
    """Before the first generation."""
    return FiledReport(Report(name, peer(name), "boot-1", Holding(data), sight=Sight.UNTOLD), age_seconds)


def entry(name: InstanceId, *, is_learner: bool = False) -> MemberEntry:
    """A line of the list that some member's data has applied."""
    return MemberEntry(MEMBERS[name], name, (peer(name),), is_learner)


def nothing(name: InstanceId, **changes: Any) -> Report:
    """What an agent with an empty disk reports of a generation that has been leaderless for a minute."""
    report = Report(name, peer(name), "boot-1", Holding.NONE, leaderless_since=A_MINUTE_AGO, etcd_version="3.5.30")
    return replace(report, **changes)


def holding(name: InstanceId, *others: InstanceId, **changes: Any) -> Report:
    """What a survivor reports whose etcd still runs, and whose list has itself and these others."""
    report = nothing(
        name,
        data=Holding.INTACT,
        generation=GenerationNumber(1),
        cluster_id=CLUSTER,
        member_id=MEMBERS[name],
        running=True,
        position=POSITION,
        revision=900,
        members=tuple(entry(each) for each in sorted((name, *others))),
    )
    return replace(report, **changes)


def fresh(*reports: Report, age_seconds: float = 1.0) -> tuple[FiledReport, ...]:
    return tuple(FiledReport(each, age_seconds) for each in reports)


def snapshot_name(revision: int = 800, generation: int = 1, minutes_ago: float = 4) -> SnapshotName:
    return SnapshotName(GenerationNumber(generation), revision, NOW - timedelta(minutes=minutes_ago))


def a_snapshot(name: SnapshotName | None = None, **changes: Any) -> Listed:
    """A sound one as a listing shows it; four minutes old unless it has another name."""
    name = name or snapshot_name()
    return replace(Listed(name, (NOW - name.taken_at).total_seconds(), 10_000, committed=True), **changes)


def manifest(name: SnapshotName | None = None, **changes: Any) -> Manifest:
    """It was taken by B, when raft's index was at 850."""
    found = Manifest(
        name=name or snapshot_name(),
        cluster="prod",
        origin=Origin.SCHEDULE,
        instance=B,
        agent="0",
        etcd_version="3.5.30",
        size_bytes=1_000_032,
        sha256=f"{(name or snapshot_name()).revision:064x}",
        stored_bytes=10_000,
        cluster_id=CLUSTER,
        member_id=MEMBERS[B],
        raft_term=7,
        raft_index=850,
        members=tuple(entry(each) for each in (A, B, C)),
    )
    return replace(found, **changes)


def rescue_of(report: Report) -> Manifest:
    """The snapshot that was made of this survivor's log."""
    assert report.member_id is not None
    assert report.position is not None
    return manifest(
        snapshot_name(905, minutes_ago=0),
        origin=Origin.RESCUE,
        instance=report.instance,
        raft_index=report.position.last_index + 2,
        rescued=Rescued(report.instance, report.member_id, report.position),
    )


def seed(of: Manifest, source: str = "snapshot", bump: int = 1_000_000_000) -> Seed:
    return Seed(of.name.manifest_key, of.name.revision, of.sha256, source, bump)


def claim(name: InstanceId, nonce: Nonce = OLD_NONCE) -> Claim:
    return Claim(name, nonce)


# ---- examples


def a_healthy_three(seen_by: InstanceId = A) -> Example:
    """Three voters of generation 1, all answering; A leads. Their snapshot is four minutes old."""
    members = membership(voter(A), voter(B), voter(C), via=seen_by)
    listed = fleet(instance(A), instance(B), instance(C))
    o = Observation(
        now=NOW,
        nonce=NONCE,
        me=me(seen_by),
        disk=Disk(identity(seen_by), Data.PRESENT),
        etcd_version="3.5.30",
        process=EtcdRunning(42),
        local=status(seen_by),
        membership=members,
        answers=answers(A, B, C),
        fleet=listed,
        bucket=BucketSound(),
        head=record(A, B, C),
        formed=formed(A, B, C),
        claim=NOT_ASKED,
        lifecycle_target="InService",
    )
    memory = Memory(
        hold=None,  # that is what the bucket said when it was last asked
        head=record(A, B, C),
        formed=formed(A, B, C),
        fleet=listed,
        fleet_read_at=NOW,
        groups_read_at=NOW,
        bucket=BucketSound(),
        membership=members,
        seen_since=dict.fromkeys((MEMBERS[A], MEMBERS[B], MEMBERS[C]), LONG_AGO),
        etcd_running_since=LONG_AGO,
        serving_since=LONG_AGO,
        snapshots=(a_snapshot(),),
        snapshots_read_at=NOW,
        manifest=manifest(),
        last_drill_at=LONG_AGO,
    )
    return Example(o, memory)


def with_member_down(example: Example, gone: InstanceId, state: InstanceState | None = None) -> Example:
    """One member is silent; EC2 says `state` of its instance, or has it running."""
    listed = [instance(each, state or InstanceState.RUNNING) if each == gone else instance(each) for each in (A, B, C)]
    up = [each for each in (A, B, C) if each != gone]
    return example.seeing(answers=answers(*up, silent=(gone,)), fleet=fleet(*listed))


def with_a_forgotten_member(gone: InstanceId = C, looks: int = 2) -> Example:
    """A silent member, older than an hour, whose instance EC2 did not know in so many looks."""
    listed = fleet(*(instance(each) for each in (A, B, C) if each != gone), unheard_of=frozenset({gone}))
    return with_member_down(a_healthy_three(), gone).seeing(fleet=listed).remembering(unheard_of={gone: looks})


def with_a_stalled_learner(minutes: float = 3) -> Example:
    """An entry that nobody ever started, and has not been making progress for so long."""
    members = membership(voter(A), voter(B), voter(C), unstarted(D))
    progress = {MEMBERS[D]: Progress(0, NOW - timedelta(minutes=minutes))}
    return a_healthy_three().seeing(membership=members).remembering(learners=progress)


def a_stopped_member(name: InstanceId = B) -> Example:
    """Its instance was rebooted: data of the head, no etcd running; the others have a quorum."""
    return (
        a_healthy_three(seen_by=name)
        .seeing(process=EtcdStopped(), local=NOT_ASKED, membership=membership(voter(A), voter(B), voter(C)))
        .remembering(etcd_running_since=None)
    )


def a_broken_member(name: InstanceId = B, lives: int = 2, damaged: bool = True) -> Example:
    """Its etcd has ended so many times soon after its start, one second ago; nothing else keeps it from running."""
    found = Survey(CLUSTER, MEMBERS[name], tuple(map(entry, (A, B, C))), POSITION, 900)
    return (
        a_stopped_member(name)
        .seeing(
            answers=answers(*({A, B, C} - {name}), silent=(name,)),
            survey=Damaged("0000.wal: a checksum differs") if damaged else found,
            obstacle=None,
        )
        .remembering(
            etcd_short_lives=lives,
            etcd_unexplained=lives,
            etcd_version="3.5.30",
            etcd_ended_at=NOW - timedelta(seconds=1),
        )
    )


def a_fenced_member(name: InstanceId = B, *, running: bool = False) -> Example:
    """Generation 2 exists, and this disk of generation 1 has been stamped."""
    example = a_healthy_three(name) if running else a_stopped_member(name)
    newer = record(D, E, generation=2)
    return example.seeing(disk=Disk(identity(name, Stage.FENCED), Data.PRESENT), head=newer).remembering(
        head=newer, formed=None
    )


def a_moved_member(name: InstanceId = B) -> Example:
    """Its data came up at another address; etcd has not been started yet."""
    return a_stopped_member(name).seeing(me=replace(me(name), peer_url=peer(D)))


def a_newcomer(name: InstanceId = D) -> Example:
    """An empty disk beside a cluster of two voters that wants three: its dead member was removed before."""
    members = membership(voter(A), voter(B))
    listed = fleet(instance(A), instance(B), instance(name))
    example = a_healthy_three(seen_by=A)
    return example.seeing(
        me=me(name),
        disk=Disk(None, Data.ABSENT),
        process=EtcdStopped(),
        local=NOT_ASKED,
        membership=members,
        answers=answers(A, B),
        fleet=listed,
        claim=claim(name) if name in (A, B, C) else NOT_ASKED,  # a founder that came back has claimed its start
    ).remembering(membership=members, fleet=listed, etcd_running_since=None)


def about_to_join(name: InstanceId = D) -> Example:
    """The newcomer's disk says that it will ask for an entry."""
    return a_newcomer(name).seeing(disk=Disk(identity(name, Stage.ADDING), Data.EMPTY))


def with_an_entry(name: InstanceId = D) -> Example:
    """The cluster holds an unstarted learner for it, and its disk says so."""
    return a_newcomer(name).seeing(
        disk=Disk(identity(name, Stage.JOINING), Data.EMPTY), membership=membership(voter(A), voter(B), unstarted(name))
    )


def a_learner(name: InstanceId = D) -> Example:
    """The newcomer's etcd runs as a learner; the list was read through A."""
    members = membership(voter(A), voter(B), learner(name))
    return (
        a_newcomer(name)
        .seeing(
            disk=Disk(identity(name), Data.PRESENT),
            process=EtcdRunning(42),
            local=replace(status(name), is_learner=True),
            membership=members,
            answers=answers(A, B, name),
        )
        .remembering(membership=members, etcd_running_since=NOW)
    )


def before_the_first_generation(name: InstanceId = A, *reported: InstanceId) -> Example:
    """Empty disks, an empty bucket, and reports of those named (of all three, if none is)."""
    listed = fleet(instance(A), instance(B), instance(C))
    o = Observation(
        now=NOW,
        nonce=NONCE,
        me=me(name),
        disk=Disk(None, Data.ABSENT),
        etcd_version="3.5.30",
        process=EtcdStopped(),
        fleet=listed,
        bucket=BucketSound(),
        head=None,
        reports=tuple(filed(each) for each in reported or (A, B, C)),
        snapshots=(),
        lifecycle_target="InService",
    )
    memory = Memory(
        fleet=listed, fleet_read_at=NOW, groups_read_at=NOW, bucket=BucketSound(), assembling_since=NOW, hold=None
    )
    return Example(o, memory)


def a_founder(name: InstanceId = A) -> Example:
    """The record names it; nothing is claimed and nothing formed."""
    example = before_the_first_generation(name)
    return example.seeing(
        head=record(A, B, C), formed=None, claim=None, reports=NOT_ASKED, snapshots=NOT_ASKED
    ).remembering(head=record(A, B, C), assembling_since=None)


def a_prepared_founder(name: InstanceId = A) -> Example:
    """Identity and empty directory are on the disk; the claim is not written."""
    return a_founder(name).seeing(disk=Disk(identity(name, Stage.STARTING), Data.EMPTY))


def a_founder_with_its_claim(name: InstanceId = A) -> Example:
    return a_prepared_founder(name).seeing(claim=claim(name))


# ---- a quorum is lost


def seen_by_a_survivor(example: Example, report: Report) -> Example:
    """Its etcd runs, leaderless, and its files and its own list say what this report says."""
    position = report.position or POSITION
    return example.seeing(
        me=me(report.instance),
        disk=Disk(identity(report.instance), Data.PRESENT),
        process=EtcdRunning(42),
        local=status(report.instance, leader=None),
        survey=Survey(CLUSTER, MEMBERS[report.instance], report.members, position, 900),
        own_list=report.members,
        claim=NOT_ASKED,
    )


def a_lost_three(seen_by: InstanceId = A) -> Example:
    """B and C were terminated a while ago; the group replaced them with D and E. A has its data and no leader.

    Everybody has reported, so it is proven that generation 1 is lost. There is a snapshot, older than A's log.
    """
    ended = InstanceState.TERMINATED
    listed = fleet(instance(A), instance(B, ended), instance(C, ended), instance(D), instance(E))
    example = a_newcomer(seen_by if seen_by in (D, E) else D).seeing(
        membership=SILENT,
        answers=Answers(),
        fleet=listed,
        reports=fresh(holding(A, B, C), nothing(D), nothing(E)),
        exclusions=(),
        snapshots=(a_snapshot(),),
        manifest=manifest(),
        leader_seen=False,
        can_bump_revisions=True,
    )
    example = example.remembering(
        fleet=listed,
        no_quorum_since=A_MINUTE_AGO,
        unsettled_since=A_MINUTE_AGO,
        leaderless_since=A_MINUTE_AGO,
        named_since=dict.fromkeys((A, B, C), A_MINUTE_AGO),
        ended_since=dict.fromkeys((B, C), A_MINUTE_AGO),
        snapshots=(a_snapshot(),),
        snapshots_read_at=NOW,
        manifest=manifest(),
    )
    return seen_by_a_survivor(example, holding(A, B, C)) if seen_by == A else example


def with_nobody_left(seen_by: InstanceId = D) -> Example:
    """A has gone the way of the others: D and E are here with empty disks, and there is the snapshot."""
    ended = InstanceState.TERMINATED
    listed = fleet(*(instance(each, ended) for each in (A, B, C)), instance(D), instance(E))
    return (
        a_lost_three(seen_by)
        .seeing(fleet=listed, reports=fresh(nothing(D), nothing(E)))
        .remembering(fleet=listed, ended_since=dict.fromkeys((A, B, C), A_MINUTE_AGO))
    )


def with_a_bad_snapshot(seen_by: InstanceId = D) -> Example:
    """What there was to restore from has been fetched, and is not what its manifest says."""
    differs = Unknown(Ignorance.MALFORMED, "its digest differs")
    return with_nobody_left(seen_by).seeing(work=Ended(FetchSeed(manifest()), LONG_AGO, LONG_AGO, differs, final=True))


def never_formed(seen_by: InstanceId = A) -> Example:
    """A founder that has claimed its start and lost its disk, as the two others have with their instances."""
    ended = InstanceState.TERMINATED
    listed = fleet(instance(A), instance(B, ended), instance(C, ended))
    spent = nothing(A, seat=Seat.SPENT)
    return (
        a_lost_three(D)
        .seeing(
            me=me(seen_by),
            disk=Disk(None, Data.ABSENT),
            claim=claim(A),
            formed=None,
            fleet=listed,
            reports=fresh(spent),
            snapshots=(),
            manifest=NOT_ASKED,
        )
        .remembering(formed=None, fleet=listed, snapshots=(), manifest=None)
    )


# ---- the next generation is restored


def the_next(of: Manifest | None = None, source: str = "snapshot") -> GenerationRecord:
    """Generation 2, founded by A, D and E from a snapshot."""
    return replace(
        record(A, D, E, generation=2), seed=seed(of or manifest(), source), cause=Cause("quorum-lost", {"reports": {}})
    )


def a_founder_that_restores(name: InstanceId = D) -> Example:
    """Generation 2 is written, its disk is prepared and its start claimed: what is left is the data."""
    head = the_next()
    return (
        a_lost_three(name if name != A else D)
        .seeing(
            me=me(name),
            head=head,
            formed=None,
            claim=claim(name),
            disk=Disk(identity(name, Stage.STARTING, generation=2), Data.EMPTY),
            reports=fresh(*(nothing(each, seat=Seat.OPEN) for each in (A, D, E))),
            fleet=NOT_ASKED,
        )
        .remembering(head=head, formed=None, no_quorum_since=NOW, leaderless_since=NOW)
    )


def with_restored_data(name: InstanceId = D) -> Example:
    """The seed has been restored beside the data directory, for the identity whose start is claimed."""
    prepared = identity(name, Stage.STARTING, generation=2)
    restored = Disk(prepared, Data.EMPTY, frozenset({manifest().sha256}), frozenset({prepared.nonce}))
    return a_founder_that_restores(name).seeing(disk=restored)


def with_superfluous_snapshots(name: InstanceId = B) -> Example:
    """One was taken every ten minutes for ten hours, and just listed by whoever is first to take the next."""
    listed = tuple(a_snapshot(snapshot_name(900 - n, minutes_ago=1 + 10 * n)) for n in range(60, -1, -1))
    return (
        a_healthy_three(name)
        .seeing(snapshots=listed, manifest=manifest(listed[-1].name))
        .remembering(snapshots=listed, manifest=manifest(listed[-1].name))
    )
