"""What an agent remembers from round to round: how long something has been so, and what was last seen.

Memory is a value: `remember(memory, observation, policy)` gives the next one. It is lost when the agent
restarts, and nothing but time is lost with it: everything that decides is on disk, in etcd or in the bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import assert_never

from agent.model.actions import (
    Action,
    AskToBeReplaced,
    BeginTask,
    CallHuman,
    Compact,
    CompleteHook,
    CreateAuthority,
    Decision,
    DeregisterTarget,
    ExpireSnapshots,
    FileReport,
    HeartbeatHook,
    IssueCertificates,
    MoveLeader,
    Outcome,
    ProtectFromScaleIn,
    PublishRecords,
    RegisterTarget,
    ReloadEtcd,
    Rest,
    Result,
    StartEtcd,
    StopEtcd,
    Wait,
)
from agent.model.certificates import Issued
from agent.model.cluster import Answers, Membership, MemberStatus
from agent.model.disk import EtcdRunning, EtcdStopped, Obstacle, Stage
from agent.model.dns import RecordSet
from agent.model.fleet import Fleet, InstanceState, Transition
from agent.model.generation import Formed, GenerationRecord, Report
from agent.model.hold import Hold
from agent.model.ids import GenerationNumber, InstanceId, MemberId
from agent.model.known import NOT_ASKED, Unknown
from agent.model.observation import BucketVerdict, Observation
from agent.model.policy import Policy
from agent.model.snapshot import DrillRecord, Listed, Manifest, Rescued
from agent.model.spot import SpotNotice
from agent.model.targets import TargetGroup
from agent.model.work import Defragment, Drill, Ended, RescueLog, TakeSnapshot


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a learner was when it last moved, and when that was."""

    applied_index: int
    since: datetime
    looked_at: datetime | None = field(default=None, compare=False)
    """When its status was last asked for, answered or not; no part of how far it is."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Times are this instance's clock. None: not (any longer) so, or never seen."""

    asked_at: Mapping[str, datetime] = field(default_factory=dict)
    """When each field of the Observation was last asked for, answered or not."""
    head: GenerationRecord | None = None
    formed: Formed | None = None  # of `head`; written once, so it never goes stale
    fleet: Fleet | None = None
    fleet_read_at: datetime | None = None
    groups_read_at: datetime | None = None
    bucket: BucketVerdict | None = None
    membership: Membership | None = None
    seen_since: Mapping[MemberId, datetime] = field(default_factory=dict)
    """Since when each member has been in every list we read: a lower bound of its age."""
    silent_since: Mapping[MemberId, datetime] = field(default_factory=dict)
    learners: Mapping[MemberId, Progress] = field(default_factory=dict)
    unheard_of: Mapping[InstanceId, int] = field(default_factory=dict)
    """In how many complete looks in a row EC2 did not know the instance."""
    ended_since: Mapping[InstanceId, datetime] = field(default_factory=dict)
    """Whom EC2 said to have ended, or not to know, in its last answer; and since which look in a row."""
    no_quorum_since: datetime | None = None
    unsettled_since: datetime | None = None
    """Since when this instance has had no working member, or took the last step towards one."""
    assembling_since: datetime | None = None
    reported: Report | None = None
    """What we last filed, and know to be in the bucket since `reported_at`."""
    reported_at: datetime | None = None
    leaderless_since: datetime | None = None
    """Since when nobody here has seen a leader; kept while it cannot be told."""
    named_since: Mapping[InstanceId, datetime] = field(default_factory=dict)
    """Whom the head's documents and reports name as members, since when we know: EC2 is asked what became of them."""
    proven_lost: GenerationNumber | None = None
    """The generation that was last found to be lost for good: such a finding stays true."""
    proven_lost_at: datetime | None = None
    rescue_trouble: str = ""
    """Why this disk's log cannot be rescued, for good; told to the others until there is another generation."""
    serving_since: datetime | None = None
    snapshots: tuple[Listed, ...] | None = None  # as last listed
    snapshots_read_at: datetime | None = None
    manifest: Manifest | None = None  # the last one read
    behind_since: datetime | None = None
    """Since when our etcd has applied more than that manifest's snapshot holds."""
    last_drill_at: datetime | None = None  # by this instance's clock; or a try that failed here for good
    arriving: bool = False
    """Auto Scaling was still launching this instance when the fleet was last read: a hook may wait for it."""
    leaving_since: datetime | None = None
    """Since when Auto Scaling has been terminating this instance."""
    heartbeat_at: datetime | None = None  # of its hook
    completed: Mapping[Transition, datetime] = field(default_factory=dict)
    """When we last let this instance's hooks go on."""
    spot: SpotNotice | None = None  # as last heard
    spot_since: datetime | None = None  # since when EC2 has been telling that it takes this instance back
    handed_over_at: datetime | None = None  # when we last gave the lead away
    hold: Hold | Unknown | None = NOT_ASKED
    """By the bucket's last answer, however old; Unknown: there never was one."""
    compacted: int | None = None  # up to which revision, by this agent
    defragmented: Mapping[MemberId, datetime] = field(default_factory=dict)
    """When this agent last had each member defragmented, whatever became of it; since it last compacted, if it did."""
    protected: bool | None = None  # this instance, from scale-in, as last told or set; None: not known
    protection_tried_at: datetime | None = None
    published: frozenset[RecordSet] | None = None
    """What the cluster's names say, as last read or written; None: to be read."""
    publishing_refused_at: datetime | None = None
    targets: tuple[TargetGroup, ...] | None = None
    """Who is in the target groups, as last read; None: to be read, because we have just gone in or out."""
    targets_read_at: datetime | None = None
    registering_tried_at: Mapping[RegisterTarget | DeregisterTarget, datetime] = field(default_factory=dict)
    """When this instance last went into, or out of, each target group, whatever came of it."""
    failures: int = 0  # of tasks in a row
    work_ended_at: datetime | None = None
    etcd_running_since: datetime | None = None
    etcd_ended_at: datetime | None = None
    etcd_short_lives: int = 0
    """How often in a row etcd ended soon after its start."""
    etcd_unexplained: int = 0
    """How many of these nothing explains that was found beside its data: what was mended since then is given a try."""
    etcd_version: str = ""  # of the installed one, as last told
    etcd_refused: bool = False
    """The last start was refused by this instance itself: its disk, its supervisor."""
    issuing_failed_at: datetime | None = None
    """When certificates could last not be had; None: the last attempt went well."""
    must_reload: bool = False
    """Our etcd was last seen to trust others than Parameter Store says."""
    whole_since: datetime | None = None
    """Since when every member has answered, in every round that asked them."""
    replacement_asked_at: datetime | None = None
    """When Auto Scaling was last asked to replace this instance, whatever came of it."""

    @property
    def going_since(self) -> datetime | None:
        """Since when this instance has been coming to its end, by Auto Scaling's word or by EC2's notice."""
        interrupted = self.spot is not None and self.spot.takes_the_disk
        told = (self.leaving_since, self.spot_since if interrupted else None)
        return min((each for each in told if each is not None), default=None)


KEPT = ("fleet", "bucket", "hold", "dns", "targets")
"""What an effect of ours does not make worth asking for again."""

FIELDS = tuple(each.name for each in fields(Observation))

SHORT_LIFE_SECONDS = 30

A_LOOK = timedelta(seconds=30)
"""A round takes no longer, however slow its neighbours are."""

DEFRAGMENTED_LATELY = timedelta(hours=1)
"""A database that is fragmented again so soon is written anew all the time: defragmenting it is in vain."""

CRASHES = 2
"""Short lives in a row after which the reason is looked for."""

PROVEN_LOST = "recover"
"""The rule that speaks only where the generation is proven lost."""


def remember(memory: Memory, o: Observation, policy: Policy) -> Memory:
    """The memory after this observation. The policy's only part in it is what counts as a look at groups."""
    stepped = not isinstance(o.head, Unknown) and o.head != memory.head
    unsettled_since = o.now if stepped else _since(memory.unsettled_since, o.now)
    memory = _begin_anew(memory) if stepped else memory
    memory = _remember_head(memory, o)
    memory = _remember_fleet(memory, o, policy)
    memory = _remember_cluster(memory, o)
    memory = _remember_unexplained(_remember_process(memory, o), o, before=memory)
    memory = _remember_loss(memory, o)
    memory = _remember_snapshots(memory, o)
    memory = _remember_spot(memory, o)
    memory = _remember_trust(memory, o)
    memory = remember_hold(memory, o)
    return replace(
        memory,
        asked_at=_asked_at(memory, o),
        bucket=memory.bucket if isinstance(o.bucket, Unknown) else o.bucket,
        published=memory.published if isinstance(o.dns, Unknown) else o.dns,
        targets=memory.targets if isinstance(o.targets, Unknown) else o.targets,
        targets_read_at=memory.targets_read_at if isinstance(o.targets, Unknown) else o.now,
        leaving_since=memory.leaving_since
        if isinstance(o.lifecycle_target, Unknown)
        else _since(memory.leaving_since, o.now)
        if o.leaving
        else None,
        serving_since=_since(memory.serving_since, o.now) if is_settled(o) else None,
        assembling_since=_assembling_since(memory.assembling_since, o),
        unsettled_since=None if is_settled(o) else unsettled_since,
    )


def _remember_spot(memory: Memory, o: Observation) -> Memory:
    """EC2 takes a notice back only where it is taken for another one."""
    if isinstance(o.spot, Unknown):
        return memory
    return replace(memory, spot=o.spot, spot_since=None if o.spot is None else _since(memory.spot_since, o.now))


def _remember_trust(memory: Memory, o: Observation) -> Memory:
    """Whether our etcd has to reload, and since when nobody was missing."""
    if isinstance(o.membership, Membership) and o.answers.of:
        spoken = [o.answers.of.get(each.id) for each in o.membership.members]
        whole = all(isinstance(each, MemberStatus) and each.leader is not None for each in spoken)
        since = _since(memory.whole_since, o.now) if whole else None
        memory = replace(memory, whole_since=since)
    if isinstance(o.trusting, Unknown) or not isinstance(o.local, MemberStatus):
        return memory
    own = o.trusting.get(o.local.member_id)
    if own is None or isinstance(own, Unknown) or not isinstance(o.issued, Issued):
        return memory
    must = own != frozenset(o.issued.authorities.trusted)
    begins = must and not memory.must_reload  # what was seen long ago says nothing of now
    return replace(memory, must_reload=must, whole_since=None if begins else memory.whole_since)


def _begin_anew(memory: Memory) -> Memory:
    """With a generation its clocks begin: that the one before was without a leader, or lost, says nothing of it."""
    return replace(memory, no_quorum_since=None, leaderless_since=None, rescue_trouble="")


def forget_asking(memory: Memory) -> Memory:
    """After an effect the world is another one: everything but what is KEPT is worth asking for again."""
    kept = {name: when for name, when in memory.asked_at.items() if name in KEPT}
    return replace(memory, asked_at=kept)


def _forget_an_unused_fleet(memory: Memory) -> Memory:
    """Where a quorum is lost, the fleet and a report tend to be due in the same rounds, and who reports proves nothing.

    So what was read in such a round is asked for once more in the next, or no round would ever have all facts.
    """
    asked = memory.asked_at
    if memory.head is None or "fleet" not in asked or asked["fleet"] != asked.get("process"):
        return memory
    return replace(memory, asked_at={name: when for name, when in asked.items() if name != "fleet"})


def remember_result(memory: Memory, decision: Decision, result: Result, now: datetime) -> Memory:
    """The memory after an action: what it may have changed is worth asking for again."""
    done = result.outcome is Outcome.DONE
    if decision.rule == PROVEN_LOST and memory.head is not None:
        memory = replace(memory, proven_lost=memory.head.generation, proven_lost_at=now)
    if isinstance(decision.action, PublishRecords):
        return _remember_publishing(memory, result.outcome, now)
    if isinstance(decision.action, RegisterTarget | DeregisterTarget):
        return _remember_registering(memory, decision.action, now)
    if isinstance(decision.action, HeartbeatHook | ProtectFromScaleIn | AskToBeReplaced):
        return _remember_what_was_asked_of_the_group(memory, decision.action, done, now)
    if isinstance(decision.action, CreateAuthority | IssueCertificates):
        return replace(forget_asking(memory), issuing_failed_at=None if done else now)
    if isinstance(decision.action, StartEtcd):
        memory = replace(memory, etcd_refused=result.outcome is Outcome.REFUSED)
    if isinstance(decision.action, Rest | Wait | CallHuman | BeginTask) or result.outcome is Outcome.REFUSED:
        return memory  # nothing has changed yet
    if isinstance(decision.action, ExpireSnapshots):
        return memory  # what was not deleted is seen by the next listing, and that is soon enough
    if isinstance(decision.action, CompleteHook):
        return replace(memory, completed={**memory.completed, decision.action.transition: now}) if done else memory
    if isinstance(decision.action, Compact) and done:
        return replace(memory, compacted=decision.action.revision, defragmented={})
    if isinstance(decision.action, FileReport):
        memory = forget_asking(_forget_an_unused_fleet(memory))
        return replace(memory, reported=decision.action.report, reported_at=now) if done else memory
    return _remember_a_change(forget_asking(memory), decision.action, now)


def _remember_a_change(memory: Memory, action: Action, now: datetime) -> Memory:
    memory = replace(memory, unsettled_since=None if memory.unsettled_since is None else now)
    if isinstance(action, MoveLeader):
        return replace(memory, handed_over_at=now)
    if isinstance(action, StartEtcd):
        return replace(memory, etcd_running_since=now)  # it may have ended before we look again
    if isinstance(action, StopEtcd | ReloadEtcd):
        return replace(memory, etcd_running_since=None)  # ended by us: not a life that was too short
    return memory


def _remember_publishing(memory: Memory, outcome: Outcome, now: datetime) -> Memory:
    """Unless it was refused, what is published now is read again at once."""
    if outcome is Outcome.REFUSED:
        return replace(memory, publishing_refused_at=now)
    asked_at = {name: when for name, when in memory.asked_at.items() if name != "dns"}
    return replace(memory, asked_at=asked_at, published=None, publishing_refused_at=None)


def _remember_registering(memory: Memory, action: RegisterTarget | DeregisterTarget, now: datetime) -> Memory:
    """Who is in the groups now is read again at once: there may be another group to go into."""
    asked_at = {name: when for name, when in memory.asked_at.items() if name != "targets"}
    tried_at = {**memory.registering_tried_at, action: now}
    return replace(memory, asked_at=asked_at, targets=None, registering_tried_at=tried_at)


def _remember_what_was_asked_of_the_group(
    memory: Memory, action: HeartbeatHook | ProtectFromScaleIn | AskToBeReplaced, done: bool, now: datetime
) -> Memory:
    match action:
        case HeartbeatHook():
            return replace(memory, heartbeat_at=now)
        case AskToBeReplaced():
            return replace(memory, replacement_asked_at=now)
        case ProtectFromScaleIn(protected=protected):
            known = protected if done else memory.protected
            return replace(memory, protected=known, protection_tried_at=None if done else now)
        case _:
            assert_never(action)


def is_settled(o: Observation) -> bool:
    """Our etcd is a voter that knows its leader, a quorum answers through it, and the disk says so."""
    if isinstance(o.disk, Unknown) or isinstance(o.local, Unknown) or isinstance(o.membership, Unknown):
        return False
    stage = o.disk.identity and o.disk.identity.stage
    return stage is Stage.MEMBER and o.local.leader is not None and not o.local.is_learner


def _since(before: datetime | None, now: datetime) -> datetime:
    return now if before is None else before


def _assembling_since(before: datetime | None, o: Observation) -> datetime | None:
    """Only a record ends the assembly: a bucket that answers now and then must not begin the grace anew."""
    if isinstance(o.head, Unknown):
        return before
    return _since(before, o.now) if o.head is None else None


def _asked_at(memory: Memory, o: Observation) -> dict[str, datetime]:
    return {**memory.asked_at, **{name: o.now for name in FIELDS if getattr(o, name) != NOT_ASKED}}


def _remember_head(memory: Memory, o: Observation) -> Memory:
    head = memory.head if isinstance(o.head, Unknown) else o.head
    formed = memory.formed if head == memory.head else None
    if not isinstance(o.formed, Unknown) and not isinstance(o.head, Unknown):
        formed = o.formed
    if head == memory.head and formed == memory.formed:
        return memory
    return replace(memory, head=head, formed=formed)


def _remember_fleet(memory: Memory, o: Observation, policy: Policy) -> Memory:
    if isinstance(o.fleet, Unknown):
        return memory
    looks = {name: memory.unheard_of.get(name, 0) + 1 for name in sorted(o.fleet.unheard_of)}
    terminated = {each.id for each in o.fleet.instances if each.state is InstanceState.TERMINATED}
    ended = sorted(terminated | o.fleet.ended_by_group | o.fleet.unheard_of)
    here = o.fleet.find(o.me.instance)
    groups_too = groups_are_due(memory, o.now, policy)
    return replace(
        memory,
        fleet=o.fleet,
        fleet_read_at=o.now,
        protected=None if here is None else here.protected,
        arriving=here is not None and (here.lifecycle or "").startswith("Pending"),
        groups_read_at=o.now if groups_too else memory.groups_read_at,
        unheard_of=looks,
        ended_since={name: memory.ended_since.get(name, o.now) for name in ended},
    )


def groups_are_due(memory: Memory, now: datetime, policy: Policy) -> bool:
    """Whether the next look at the fleet reads the desired capacity again."""
    if memory.groups_read_at is None or memory.unsettled_since is not None:
        return True
    if memory.going_since is not None or memory.arriving:
        return True  # who else is, and whether a hook waits by now
    if memory.protected and policy.protect_voters:
        return True  # whether fewer are wanted by now
    return now - memory.groups_read_at >= policy.groups_interval


def _remember_cluster(memory: Memory, o: Observation) -> Memory:
    if isinstance(o.membership, Unknown):
        return replace(memory, no_quorum_since=_since(memory.no_quorum_since, o.now))
    return replace(
        memory,
        membership=o.membership,
        no_quorum_since=None,
        seen_since={each.id: memory.seen_since.get(each.id, o.now) for each in o.membership.members},
        silent_since=_silent_since(memory, o.membership, o.answers, o.now),
        learners=_learners(memory, o.membership, o.answers, o.now),
    )


def _silent_since(memory: Memory, membership: Membership, answers: Answers, now: datetime) -> dict[MemberId, datetime]:
    asked = [member.id for member in membership.members if member.id in answers.of]
    return {each: memory.silent_since.get(each, now) for each in asked if not answers.answered(each)}


def _learners(memory: Memory, membership: Membership, answers: Answers, now: datetime) -> dict[MemberId, Progress]:
    return {
        learner.id: _progress(memory.learners.get(learner.id), answers.of.get(learner.id), now)
        for learner in membership.learners
    }


def _remember_loss(memory: Memory, o: Observation) -> Memory:
    """Since when there is no leader, and whom EC2 must be asked about before the generation may be called lost."""
    if not isinstance(o.membership, Unknown) or o.leader_seen is True:
        if (memory.leaderless_since, memory.named_since, memory.proven_lost_at) == (None, {}, None):
            return memory
        return replace(memory, leaderless_since=None, named_since={}, proven_lost=None, proven_lost_at=None)
    cannot_tell = isinstance(o.leader_seen, Unknown) or isinstance(o.process, Unknown)
    since = memory.leaderless_since if cannot_tell else _since(memory.leaderless_since, o.now)
    named = {name: memory.named_since.get(name, o.now) for name in sorted(_named(memory, o))}
    return replace(memory, leaderless_since=since, named_since=named)


def _named(memory: Memory, o: Observation) -> set[InstanceId]:
    """The members that the head's record, `formed.json`, the newest manifest and the reports name; and reporters."""
    found = set(memory.named_since)
    if memory.head is not None:
        found.update(memory.head.founders)
    if memory.formed is not None:
        found.update(memory.formed.voters.values())
    if memory.manifest is not None:
        found.update(InstanceId(each.name) for each in memory.manifest.members if each.name)
    for each in () if isinstance(o.reports, Unknown) else o.reports:
        found.add(each.report.instance)
        found.update(InstanceId(entry.name) for entry in each.report.members if entry.name)
    return found


def _remember_snapshots(memory: Memory, o: Observation) -> Memory:
    if not isinstance(o.snapshots, Unknown):
        memory = replace(memory, snapshots=o.snapshots, snapshots_read_at=o.now)
    if isinstance(o.manifest, Manifest):
        memory = replace(memory, manifest=o.manifest)
    if isinstance(o.local, MemberStatus):
        since = _since(memory.behind_since, o.now) if _is_behind(memory, o.local.applied_index) else None
        memory = replace(memory, behind_since=since)
    if isinstance(o.last_drill, DrillRecord):
        memory = replace(memory, last_drill_at=o.now - timedelta(seconds=o.last_drill.age_seconds))
    return _remember_work(memory, o.work) if isinstance(o.work, Ended) else memory


def _is_behind(memory: Memory, applied_index: int) -> bool:
    """Whether the snapshot of the last manifest lacks something. Raft's index begins anew with each generation."""
    manifest, head = memory.manifest, memory.head
    if manifest is None or head is None or manifest.name.generation != head.generation:
        return True
    return manifest.raft_index < applied_index


def _remember_work(memory: Memory, work: Ended) -> Memory:
    """What became of the last task, once. A definite no must not be forgotten when the next task begins."""
    if work.at == memory.work_ended_at:
        return memory
    memory = replace(memory, failures=0 if work.trouble is None else memory.failures + 1, work_ended_at=work.at)
    if isinstance(work.task, Defragment):
        return replace(memory, defragmented={**memory.defragmented, work.task.member: work.at})
    if work.trouble is None or not work.final:
        return memory
    match work.task:
        case RescueLog() | TakeSnapshot(rescued=Rescued()):
            return replace(memory, rescue_trouble=work.trouble.detail)
        case Drill():
            return replace(memory, last_drill_at=work.at)
        case _:
            return memory


def remember_hold(memory: Memory, o: Observation) -> Memory:
    """The last answer stays until there is another."""
    if o.hold == NOT_ASKED:
        return memory
    asked_at = {**memory.asked_at, "hold": o.now}
    if isinstance(o.hold, Unknown) and not isinstance(memory.hold, Unknown):
        return replace(memory, asked_at=asked_at)
    return replace(memory, asked_at=asked_at, hold=o.hold)


def _progress(before: Progress | None, status: MemberStatus | Unknown | None, now: datetime) -> Progress:
    """A learner makes progress while it applies entries, or while there are none left to apply.

    Only silence in answer to a question counts against it: its time does not run for agents that never ask.
    """
    if status is None:
        return Progress(0 if before is None else before.applied_index, now, now)
    if isinstance(status, Unknown):
        return _no_progress(before, now)
    moved = before is None or status.applied_index > before.applied_index
    in_sync = status.applied_index >= status.committed_index and status.leader is not None
    return Progress(status.applied_index, now, now) if moved or in_sync else _no_progress(before, now)


def _no_progress(before: Progress | None, now: datetime) -> Progress:
    """Nor does time count in which this agent did not look, because its machine stood still."""
    if before is None:
        return Progress(0, now, now)
    unseen = timedelta(0) if before.looked_at is None else max(timedelta(0), now - before.looked_at - A_LOOK)
    return Progress(before.applied_index, before.since + unseen, now)


def _remember_unexplained(memory: Memory, o: Observation, before: Memory) -> Memory:
    """Short lives in a row with the same etcd installed, and nothing found that kept it from running."""
    version = before.etcd_version if isinstance(o.etcd_version, Unknown) else o.etcd_version
    lives = min(memory.etcd_short_lives, before.etcd_unexplained + memory.etcd_short_lives - before.etcd_short_lives)
    if isinstance(o.obstacle, Obstacle) or version != before.etcd_version:
        lives = 0
    if (lives, version) == (before.etcd_unexplained, before.etcd_version):
        return memory
    return replace(memory, etcd_unexplained=max(0, lives), etcd_version=version)


def _remember_process(memory: Memory, o: Observation) -> Memory:
    match o.process:
        case EtcdRunning():
            since = _since(memory.etcd_running_since, o.now)
            long_lived = (o.now - since).total_seconds() >= SHORT_LIFE_SECONDS
            lives = 0 if long_lived else memory.etcd_short_lives
            if (since, lives) == (memory.etcd_running_since, memory.etcd_short_lives):
                return memory
            return replace(memory, etcd_running_since=since, etcd_short_lives=lives)
        case EtcdStopped() if memory.etcd_running_since is not None:
            lives = memory.etcd_short_lives + 1
            return replace(memory, etcd_running_since=None, etcd_ended_at=o.now, etcd_short_lives=lives)
        case _:
            return memory
