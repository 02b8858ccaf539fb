"""Upkeep of a cluster that serves: room in its databases. By the agent beside the leader, one member at a time.

etcd keeps what was compacted or deleted for its own reuse, and never gives it back to the disk; defragmenting
rewrites the database to what is in use. It blocks its member as long as that takes (1.2 GB: 3 s on a fast disk):
its reads, Status and health checks wait, while the others serve. So only where every member answers and has caught
up, nobody comes or goes, and nothing has changed for `maintenance.after`; then followers first, and the leader
last.

The lead is not moved away first. A leader that is being defragmented still beats, proposes and commits, for raft
and the write-ahead log go on without the database: there is no election, and only clients that are connected to it
wait. Handing the lead over would fail what is under way everywhere.

A spare is left as it is: etcd serves no Defragment on a learner ("rpc not supported for learner"; seen with 3.5.30).

A full database (the alarm NOSPACE) refuses writes until somebody makes room. By default that is a person: what may
be compacted away, and whether the quota is the mistake, the agent cannot know. With `maintenance.nospace` it
compacts up to the newest sound snapshot, so whatever history goes is in the bucket; defragments each member once;
and takes the alarm back if that made room. (etcd's own order: compact, defragment, disarm; "Space quota" in its
maintenance guide.)
"""

from __future__ import annotations

from agent.decide.situation import Situation, do, wait
from agent.decide.snapshotting import newest_of
from agent.model.actions import BeginTask, Blocker, CallHuman, Compact, Decision, Disarm, Reason
from agent.model.cluster import Alarm, AlarmKind, Member, Membership, MemberStatus
from agent.model.fleet import Fleet
from agent.model.known import Unknown
from agent.model.memory import DEFRAGMENTED_LATELY
from agent.model.work import Defragment

CAUGHT_UP = 1000
"""So many entries behind is as good as none; etcd sends a snapshot to who is 5,000 behind, and one that is defragmented
while it applies a snapshot may be corrupted (before 3.4.38, 3.5.23, 3.6.5)."""

ROOM = 0.9
"""A database below this share of its quota is worth taking the alarm back for: else the next writes raise it again."""

UNSAFE_BEFORE = {(3, 4): 22, (3, 5): 6}
"""An etcd that ends while it is defragmented may come back inconsistent (etcd issue 14685; fixed in these)."""

HINT = (
    "delete keys, or raise etcd.quota_backend_bytes on every instance; then `etcdctl compact`, `etcdctl defrag` member "
    "by member, `etcdctl alarm disarm`. maintenance.nospace = true lets the agent do the latter three"
)

HINT_SPARE = "terminate the spare's instance: another one takes its place, with a database as small as the voters'"


def make_room(s: Situation) -> Decision | None:
    """A member's database is full, and etcd refuses writes: say so or, where that is wanted, make room."""
    membership = s.o.membership
    if not s.o.beside_the_leader or isinstance(membership, Unknown) or isinstance(s.o.alarms, Unknown):
        return None
    full = [each for each in s.o.alarms if each.kind is AlarmKind.NOSPACE and membership.find(each.member)]
    if not full:
        return None
    said = f"{membership.find(full[0].member)} raised NOSPACE: its database is full, and etcd refuses writes"
    if not s.policy.nospace:
        return do(CallHuman(HINT, Reason.DATABASE_FULL), said)
    reason = _not_now(s, membership)
    if reason is not None:
        return wait(Blocker.MAINTENANCE, f"{said}; room is made once all is well: {reason}")
    return _make_room(s, membership, full, said)


def _make_room(s: Situation, membership: Membership, full: list[Alarm], said: str) -> Decision:
    """Every member answers."""
    statuses = _statuses(s, membership)
    newest = None if s.record is None else newest_of(s.record, s.memory.snapshots or ())
    if newest is None:
        return wait(Blocker.MAINTENANCE, f"{said}; nothing is compacted before there is a snapshot")
    safe = min(newest.name.revision, *(each.revision for each in statuses.values()))
    if s.memory.compacted is None or s.memory.compacted < safe:
        return do(Compact(safe), f"{said}; what came before revision {safe} is in {newest.name}")
    for member in _in_turn(membership, statuses):
        if member.id not in s.memory.defragmented:
            return _defragment(member, statuses[member.id], said)
    stuffed = [each for each in membership.members if statuses[each.id].db_size_bytes >= ROOM * s.policy.quota_bytes]
    if not stuffed:
        return do(Disarm(full[0]), f"{said}; there is room again")
    if all(each.is_learner for each in stuffed):
        call = CallHuman(HINT_SPARE, Reason.DATABASE_FULL)
        return do(call, f"{said}; the voters have room, and the spare {stuffed[0]} has none")
    return do(
        CallHuman(HINT, Reason.DATABASE_FULL), f"{said}, compacted and defragmented as it is: what it holds is too much"
    )


def defragment(s: Situation) -> Decision | None:
    """Give back to the disk what a member's database does not use any more: one at a time, the leader last."""
    membership = s.o.membership
    if not s.policy.defragment or not s.o.beside_the_leader or isinstance(membership, Unknown):
        return None
    if _not_now(s, membership) is not None:
        return None
    statuses = _statuses(s, membership)
    if any(each.errors for each in statuses.values()):
        return None
    for member in _in_turn(membership, statuses):
        status, last = statuses[member.id], s.memory.defragmented.get(member.id)
        lately = last is not None and s.o.now - last < DEFRAGMENTED_LATELY
        if not lately and _is_fragmented(s, status):
            return _defragment(member, status, "it is fragmented")
    return None


def _defragment(member: Member, status: MemberStatus, why: str) -> Decision:
    size, used = status.db_size_bytes / 1e6, status.db_size_in_use_bytes / 1e6
    task = Defragment(member.id, member.client_urls[0])
    return do(BeginTask(task), f"{member} uses {used:.0f} of {size:.0f} MB; {why}")


def _is_fragmented(s: Situation, status: MemberStatus) -> bool:
    unused = status.db_size_bytes - status.db_size_in_use_bytes
    return (
        status.db_size_bytes >= s.policy.defragment_size and unused >= s.policy.defragment_share * status.db_size_bytes
    )


def _statuses(s: Situation, membership: Membership) -> dict[int, MemberStatus]:
    found = {each.id: s.o.answers.of.get(each.id) for each in membership.members}
    return {member: status for member, status in found.items() if isinstance(status, MemberStatus)}


def _in_turn(membership: Membership, statuses: dict[int, MemberStatus]) -> list[Member]:
    return sorted(membership.voters, key=lambda each: (statuses[each.id].leads, each.id))


def _not_now(s: Situation, membership: Membership) -> str | None:
    """Why no member may be blocked at this moment; None: all is well, and has been for a while."""
    statuses = _statuses(s, membership)
    away = [str(each) for each in membership.members if each.id not in statuses or not each.client_urls]
    if away:
        return f"{', '.join(away)} does not answer"
    behind = [str(each.member_id) for each in statuses.values() if not _has_caught_up(each)]
    if behind:
        return f"{', '.join(behind)} has not caught up, or knows no leader"
    unsafe = {each.version for each in statuses.values() if not is_safe_to_defragment(each.version)}
    if unsafe:
        return f"etcd {', '.join(sorted(unsafe))} may be corrupted by it"
    since = s.memory.serving_since
    if since is None or s.o.now - since < s.policy.maintenance_after or s.leaving:
        return "this instance does not serve for long, or is leaving"
    if not s.task_is_due:
        return "another task is not over"
    return _who_comes_or_goes(s.memory.fleet, membership)


def _who_comes_or_goes(fleet: Fleet | None, membership: Membership) -> str | None:
    if fleet is None:
        return "the fleet is not known"
    names = {each.name for each in membership.members}
    moving = [each.id for each in fleet.up if each.leaving or each.id not in names]
    return f"{', '.join(moving)} comes or goes" if moving else None


def _has_caught_up(status: MemberStatus) -> bool:
    return status.leader is not None and status.committed_index - status.applied_index < CAUGHT_UP


def is_safe_to_defragment(version: str) -> bool:
    """Of a version that makes no sense nothing is known."""
    parts = version.split("-", maxsplit=1)[0].split(".")
    if len(parts) != 3 or not all(each.isdecimal() for each in parts):
        return False
    major, minor, patch = map(int, parts)
    return patch >= UNSAFE_BEFORE.get((major, minor), 0)
