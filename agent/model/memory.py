"""What an agent remembers from round to round: how long something has been so, and what was last seen.

Memory is a value: `remember(memory, observation, policy)` gives the next one. It is lost when the agent
restarts, and nothing but time is lost with it: everything that decides is on disk, in etcd or in the bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from agent.model.cluster import Answers, Membership, MemberStatus
from agent.model.disk import EtcdRunning, EtcdStopped
from agent.model.fleet import Fleet
from agent.model.generation import GenerationRecord
from agent.model.ids import InstanceId, MemberId
from agent.model.known import Unknown
from agent.model.observation import BucketVerdict, Observation
from agent.model.policy import Policy


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a learner was when it last moved, and when that was."""

    applied_index: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Memory:
    """Times are this instance's clock. None: not (any longer) so, or never seen."""

    head: GenerationRecord | None = None
    head_read_at: datetime | None = None
    fleet: Fleet | None = None
    fleet_read_at: datetime | None = None
    fleet_asked_at: datetime | None = None
    bucket: BucketVerdict | None = None
    membership: Membership | None = None
    seen_since: Mapping[MemberId, datetime] = field(default_factory=dict)
    """Since when each member has been in every list we read: a lower bound of its age."""
    silent_since: Mapping[MemberId, datetime] = field(default_factory=dict)
    learners: Mapping[MemberId, Progress] = field(default_factory=dict)
    unheard_of: Mapping[InstanceId, int] = field(default_factory=dict)
    """In how many complete looks in a row EC2 did not know the instance."""
    no_quorum_since: datetime | None = None
    assembling_since: datetime | None = None
    etcd_running_since: datetime | None = None
    etcd_ended_at: datetime | None = None
    etcd_short_lives: int = 0
    """How often in a row etcd ended soon after its start."""


SHORT_LIFE_SECONDS = 30


def remember(memory: Memory, o: Observation, policy: Policy) -> Memory:
    """The memory after this observation."""
    memory = _remember_head(memory, o)
    memory = _remember_fleet(memory, o)
    memory = _remember_cluster(memory, o)
    memory = _remember_process(memory, o)
    assembling = o.head is None
    return replace(
        memory,
        bucket=memory.bucket if isinstance(o.bucket, Unknown) else o.bucket,
        assembling_since=_since(memory.assembling_since, o.now) if assembling else None,
    )


def _since(before: datetime | None, now: datetime) -> datetime:
    return now if before is None else before


def _remember_head(memory: Memory, o: Observation) -> Memory:
    if isinstance(o.head, Unknown):
        return memory
    return replace(memory, head=o.head, head_read_at=o.now)


def _remember_fleet(memory: Memory, o: Observation) -> Memory:
    if isinstance(o.fleet, Unknown):
        asked = o.ignorance().get("fleet") is not None
        return replace(memory, fleet_asked_at=o.now) if asked else memory
    looks = {name: memory.unheard_of.get(name, 0) + 1 for name in sorted(o.fleet.unheard_of)}
    return replace(
        memory, fleet=o.fleet, fleet_read_at=o.now, fleet_asked_at=o.now, unheard_of=looks
    )


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


def _silent_since(
    memory: Memory, membership: Membership, answers: Answers, now: datetime
) -> dict[MemberId, datetime]:
    asked = [member.id for member in membership.members if member.id in answers.of]
    return {each: memory.silent_since.get(each, now) for each in asked if not answers.answered(each)}


def _learners(
    memory: Memory, membership: Membership, answers: Answers, now: datetime
) -> dict[MemberId, Progress]:
    return {
        learner.id: _progress(memory.learners.get(learner.id), answers.of.get(learner.id), now)
        for learner in membership.learners
    }


def _progress(before: Progress | None, status: MemberStatus | Unknown | None, now: datetime) -> Progress:
    """A learner makes progress while it applies entries, or while there are none left to apply."""
    if not isinstance(status, MemberStatus):
        return before or Progress(0, now)
    moved = before is None or status.applied_index > before.applied_index
    in_sync = status.applied_index >= status.committed_index and status.leader is not None
    return Progress(status.applied_index, now) if moved or in_sync else before or Progress(0, now)


def _remember_process(memory: Memory, o: Observation) -> Memory:
    match o.process:
        case EtcdRunning():
            since = _since(memory.etcd_running_since, o.now)
            long_lived = (o.now - since).total_seconds() >= SHORT_LIFE_SECONDS
            lives = 0 if long_lived else memory.etcd_short_lives
            return replace(memory, etcd_running_since=since, etcd_short_lives=lives)
        case EtcdStopped() if memory.etcd_running_since is not None:
            lives = memory.etcd_short_lives + 1
            return replace(
                memory, etcd_running_since=None, etcd_ended_at=o.now, etcd_short_lives=lives
            )
        case _:
            return memory
