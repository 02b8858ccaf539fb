"""Snapshots in a healthy cluster: who takes them and when, which ones may go, and which is put to the test.

Whose turn it is follows from the member list alone: the voters in the order of their IDs, the leader last. The first
takes one when the newest is an interval old. Each further one waits half an interval longer, so that whoever is first
and does not do it (dead, cut off, without room) is followed by the next within an interval, and nobody needs to know
why. Nothing is taken where nothing was written: raft's applied index says so. What is written after such a rest is
waited for in the same order, however old the newest is by then, or all would stream the same database at once.
"""

from __future__ import annotations

from datetime import timedelta

from agent.decide.seeding import best_snapshot
from agent.decide.situation import Situation, do
from agent.model.actions import BeginTask, Decision, ExpireSnapshots
from agent.model.cluster import Membership, MemberStatus
from agent.model.generation import GenerationRecord
from agent.model.ids import MemberId
from agent.model.known import Unknown
from agent.model.memory import Memory, is_settled
from agent.model.observation import Observation
from agent.model.policy import Policy
from agent.model.retention import expired
from agent.model.snapshot import Listed, Manifest, Origin
from agent.model.work import Drill, TakeSnapshot, Working

MOST_AT_ONCE = 50
"""So many go in one round, which does nothing else meanwhile; where there are more, the next ones after a listing."""


def take_snapshot(s: Situation) -> Decision | None:
    """Stream one into the bucket: the newest is old, or this generation has none yet, and it is this member's turn."""
    record, listed = s.record, s.o.snapshots
    if record is None or isinstance(listed, Unknown) or not _may(s, record) or not s.task_is_due:
        return None
    turn = turn_of(s.o.membership, s.o.local)
    if turn is None or not _is_due(s, record, listed, turn):
        return None
    newest = newest_of(record, listed)
    why = f"the newest is {newest.age_seconds:.0f} s old" if newest else f"generation {record.generation} has none yet"
    return do(BeginTask(TakeSnapshot(record.generation, Origin.SCHEDULE)), why)


def _may(s: Situation, record: GenerationRecord) -> bool:
    """A settled voter of the head, as far as this agent knows it."""
    identity, formed = s.identity, s.memory.formed
    return identity is not None and identity.generation == record.generation and formed is not None and is_settled(s.o)


def turn_of(membership: Membership | Unknown, local: MemberStatus | Unknown) -> int | None:
    """0 for whoever is first to take a snapshot, 1 for the next; None for who takes none."""
    if isinstance(membership, Unknown) or isinstance(local, Unknown) or local.is_learner:
        return None

    def leads(member: MemberId) -> bool:
        return member == local.leader

    order = sorted((voter.id for voter in membership.voters), key=lambda member: (leads(member), member))
    return order.index(local.member_id) if local.member_id in order else None


def newest_of(record: GenerationRecord, listed: tuple[Listed, ...]) -> Listed | None:
    """The newest sound one of this generation: what another generation holds protects nothing of this one."""
    sound = [each for each in listed if each.usable and each.name.generation == record.generation]
    return max(sound, key=lambda each: each.name, default=None)


def _is_due(s: Situation, record: GenerationRecord, listed: tuple[Listed, ...], turn: int) -> bool:
    newest = newest_of(record, listed)
    if newest is None:
        since = s.memory.serving_since
        return since is not None and s.o.now - since >= patience_of(turn, s.policy)
    age = timedelta(seconds=newest.age_seconds)
    return is_turn(s.o, s.memory, s.policy, age, turn) and not is_up_to_date(s.o.local, s.o.manifest, newest)


def patience_of(turn: int, policy: Policy) -> timedelta:
    """How long whoever is not the first waits for those before it."""
    return policy.snapshot_interval * (turn / 2)


def is_turn(o: Observation, memory: Memory, policy: Policy, age: timedelta, turn: int) -> bool:
    """Whether those before this one have had their time: since the newest grew old, and since there is more to take."""
    patience, since = patience_of(turn, policy), memory.behind_since
    waited = timedelta(0) if since is None else o.now - since
    return age >= policy.snapshot_interval + patience and waited >= patience


def is_up_to_date(local: MemberStatus | Unknown, manifest: Manifest | Unknown | None, newest: Listed) -> bool:
    """Nothing was written since: not a key, not a lease, not a member. In doubt something was."""
    if isinstance(local, Unknown) or not isinstance(manifest, Manifest) or manifest.name != newest.name:
        return False
    return manifest.raft_index >= local.applied_index


def expire_snapshots(s: Situation) -> Decision | None:
    """Whoever's turn it is lets go of what the newer ones made superfluous."""
    record, listed = s.record, s.o.snapshots
    if record is None or isinstance(listed, Unknown) or not _may(s, record):
        return None
    if turn_of(s.o.membership, s.o.local) != 0 or isinstance(s.o.work, Working):
        return None
    names = expired(listed, record, s.policy)
    because = f"{len(names)} snapshots are behind newer ones"
    return do(ExpireSnapshots(names[:MOST_AT_ONCE]), because) if names else None


def drill(s: Situation) -> Decision | None:
    """Put the newest snapshot to the test: whether it restores, and to what its manifest says.

    The newest as last listed: with a drill there is no hurry, and a listing less.
    """
    record, listed, every = s.record, s.memory.snapshots, s.policy.drill_interval
    if record is None or listed is None or not every or not _may(s, record) or not s.task_is_due:
        return None
    if turn_of(s.o.membership, s.o.local) != 0 or isinstance(s.o.last_drill, Unknown):
        return None
    last = s.o.last_drill
    if last is not None and timedelta(seconds=last.age_seconds) < every:
        return None
    name = best_snapshot(record, listed)
    if name is None:
        return None
    age = "never" if last is None else f"{last.age_seconds / 3600:.0f} hours ago"
    return do(BeginTask(Drill(name)), f"a restore was last tried {age}")
