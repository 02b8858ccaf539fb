"""Proof that a generation is lost: that no etcd will ever again elect a leader on what is left of it.

Recovery replaces a cluster, so "nobody answers" is not enough. All of these must hold, each from facts that were
read in this very round:

1.  every reporter has seen no leader for the whole grace;
2.  every live instance of the fleet has a fresh report, and none of them sees a leader;
3.  every member that a reporter's data or the newest manifest knows of (and, where nobody's data tells, every founder
    and every voter of `formed.json`) is accounted for: its data is in a reporter's hands, or its
    instance attests that it has none and cannot start, or its instance is proven to have ended, or an operator
    wrote it off;
4.  for *each* holder of data: the voters of the list that *its own* data has applied, and whose data is still in
    somebody's hands, are fewer than a quorum of that list.

Why this is sound. A leader is elected by a candidate, under the configuration that this candidate has applied: in
etcd's raft a membership change counts once it is applied, and nobody campaigns while it has a committed change
unapplied (that is why a report with pending changes blocks). A vote is given by a process that runs on a member's
data. So an election is won by some holder X, with the votes of a quorum of X's own list, each given by a holder of
one of those members' data. By (2) and (3) every holder there is, or ever can be, was heard: whoever is not here has
ended, or has nothing. By (4) none of them finds a quorum among the holders. Elections come before commits, so no
list can change any more either: what is true now stays true.

Reports are of different moments, so they must not be older than the ends that they are held against: a member that
ended just now may have led the others, and changed their lists, after they had last reported. Whoever reported after
all ends were known, and had seen no leader for the whole grace (which is longer than a report is fresh), tells of a
state in which nothing has moved since the last leader ended.

A member goes by one of two lists: what it has applied, and, once it is restarted, what raft's own note of the commit
index gives, which reaches the disk late. Both are reported where they differ, and (3) and (4) ask about both.

Learners are accounted for, too: a member that one list still calls a learner may have been promoted since, and its own
list may be the one that has a quorum. A founder that has not started yet and still may, or whose etcd has
only begun its log, is what could bring the quorum back, so it is waited for. Data that is damaged counts as data here:
somebody may yet repair it.

It is as good as what can be heard, and three things cannot. Data on an instance that no listing shows, by tag or by
group, and that nobody's list names: it may vote, and lead. Data that sleeps in a warm pool which takes instances back
on scale-in, named by nobody: a warmed instance is not waited for, since it cannot report. (Both take a holder whose
list is long out of date: whoever is named is asked after.) And `seeding.best_survivor` goes by raft's order: a branch
that never counted may have a higher last term than a log whose tail was committed, where three leaders came and went
without a majority's last one among the survivors. That loses no quorum, but may lose a write that was acknowledged.

The rule errs on the side of waiting: a list that is long out of date may ask for a quorum that really needs fewer.
Then the blockers say which instance it is, and `recover --exclude` is the operator's way out.
`tests/properties/test_proof_of_loss.py` tries the argument on random histories in a model of raft.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

from agent.model.cluster import quorum_of
from agent.model.fleet import Fleet, Instance, InstanceState
from agent.model.generation import FiledReport, Formed, GenerationRecord, Holding, Report, Seat, Sight
from agent.model.ids import InstanceId, MemberId
from agent.model.known import Unknown
from agent.model.members import MemberEntry
from agent.model.memory import Memory
from agent.model.observation import Observation
from agent.model.policy import Policy
from agent.model.snapshot import Manifest

OLD_ENOUGH = timedelta(hours=1)
"""Terminated instances stay in DescribeInstances for about an hour, and a new one may not be there yet."""

OLD_ENOUGH_BY_OTHER_CLOCKS = timedelta(hours=2)
"""The same where the age is by a clock that is not ours, which may be an hour off."""

LOOKS_ENOUGH = 2


@dataclass(frozen=True, slots=True)
class Blocked:
    """What keeps the proof from holding: which instance or source of facts, and why."""

    who: str
    why: str

    def __str__(self) -> str:
        return f"{self.who}: {self.why}"


@dataclass(frozen=True, slots=True)
class NotProven:
    """The generation may come back, for all that is known: wait. Never empty."""

    blockers: tuple[Blocked, ...]

    def __str__(self) -> str:
        return "; ".join(map(str, self.blockers))


@dataclass(frozen=True, slots=True)
class Lost:
    """It cannot come back. `holders` have its data; `evidence` is every fact that the proof used, for the record."""

    holders: tuple[Report, ...]
    evidence: Mapping[str, Any]


def judge_loss(o: Observation, memory: Memory, policy: Policy) -> Lost | NotProven:
    """Whether the head generation can never have a leader again, or everything that keeps us from knowing it."""
    facts = _facts(o, memory, policy)
    if isinstance(facts, NotProven):
        return facts
    blockers = (*_attendance(facts), *_accounts(facts), *_quorums(facts))
    return NotProven(blockers) if blockers else Lost(facts.holders, _evidence(facts))


# ---- the facts ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Facts:
    """What was read in this round, all of it known."""

    o: Observation
    memory: Memory
    policy: Policy
    record: GenerationRecord
    formed: Formed | None
    fleet: Fleet
    filed: tuple[FiledReport, ...]
    written_off: frozenset[InstanceId]

    @cached_property
    def fresh(self) -> dict[InstanceId, Report]:
        """Who speaks now: neither ended nor written off."""
        most = self.policy.report_max_age.total_seconds()
        lately = [each.report for each in self.filed if each.age_seconds <= most]
        return {each.instance: each for each in lately if self.end_of(each.instance) is None and not self.off(each)}

    @cached_property
    def holders(self) -> tuple[Report, ...]:
        return tuple(each for each in self.fresh.values() if each.data is not Holding.NONE)

    @cached_property
    def told_by_data(self) -> bool:
        """Somebody's data says who the members are; where nobody's does, the founders may all be out there."""
        return any(each.members for each in self.holders)

    @property
    def manifest(self) -> Manifest | None:
        """The newest of this generation, as far as it was read."""
        found = self.o.manifest
        return found if isinstance(found, Manifest) and found.name.generation == self.record.generation else None

    def off(self, report: Report) -> bool:
        return report.instance in self.written_off

    def end_of(self, name: InstanceId) -> str | None:
        """Why this instance can never come back, or None. Here `shutting-down` is not enough: it may serve yet."""
        instance = self.fleet.find(name)
        if instance is not None:
            return "EC2 says terminated" if instance.state is InstanceState.TERMINATED else None
        if self.fleet.find(self.o.me.instance) is None:
            return None  # an EC2 that does not know this very instance is asked in the wrong account or region
        if name in self.fleet.ended_by_group:
            return "its Auto Scaling group terminated it"
        looks = self.memory.unheard_of.get(name, 0)
        if name in self.fleet.unheard_of and looks >= LOOKS_ENOUGH and self._known_for_long(name):
            return f"EC2 did not know it in {looks} looks, and it is older than an hour"
        return None

    def _known_for_long(self, name: InstanceId) -> bool:
        since = self.memory.named_since.get(name)
        if since is not None and self.o.now - since >= OLD_ENOUGH:
            return True
        age = self.o.now - self.record.created_at
        return name in self.record.founders and age >= OLD_ENOUGH_BY_OTHER_CLOCKS


def _facts(o: Observation, memory: Memory, policy: Policy) -> _Facts | NotProven:
    head, fleet, reports, exclusions, formed = o.head, o.fleet, o.reports, o.exclusions, o.formed
    if (
        isinstance(head, GenerationRecord)
        and not isinstance(fleet, Unknown)
        and not isinstance(reports, Unknown)
        and not isinstance(exclusions, Unknown)
        and not isinstance(formed, Unknown)
    ):
        written_off = frozenset(each.instance for each in exclusions)
        return _Facts(o, memory, policy, head, formed, fleet, reports, written_off)
    asked: dict[str, object] = {"the newest generation": head, "EC2's word on the fleet": fleet, "the reports": reports}
    asked |= {"the operator's exclusions": exclusions, "formed.json": formed}
    unread = [Blocked(what, str(value)) for what, value in asked.items() if isinstance(value, Unknown)]
    return NotProven(tuple(unread) or (Blocked("the newest generation", "there is none"),))


# ---- (1) and (2): everybody is here, and nobody sees a leader -------------------------------------------------------

SEEN = {
    Sight.LEADER: "sees a leader",
    Sight.UNTOLD: "cannot tell whether its etcd sees a leader",
    Sight.LEADERLESS: "has been without a leader for less than the grace",
}


def _attendance(facts: _Facts) -> Iterator[Blocked]:
    """Whoever is shutting down may hold data that nobody here has heard of, and serve it until it has ended."""
    expected = [each for each in facts.fleet.instances if _is_expected(each)]
    for instance in expected:
        if instance.id not in facts.fresh and instance.id not in facts.written_off:
            yield Blocked(instance.id, _absence(facts, instance))
    listed = {each.id for each in expected}
    for filed in facts.filed:
        if filed.report.instance not in listed and _could_come_back(facts, filed.report):
            said = f"has data, is not among the live, and last reported {filed.age_seconds:.0f} s ago"
            yield Blocked(filed.report.instance, said)
    for name, report in facts.fresh.items():
        if report.sight in SEEN:
            yield Blocked(name, SEEN[report.sight])
    yield from _overtaken(facts)


def _is_expected(instance: Instance) -> bool:
    return instance.state is not InstanceState.TERMINATED and not instance.warmed


def _overtaken(facts: _Facts) -> Iterator[Blocked]:
    """Reports from before the last end that EC2 told of; each is renewed within seconds."""
    ended = facts.memory.ended_since
    last = max(ended, key=lambda name: ended[name], default=None)
    if last is None:
        return
    ago = (facts.o.now - ended[last]).total_seconds()
    for filed in facts.filed:
        if filed.report.instance in facts.fresh and filed.age_seconds >= ago:
            said = f"last reported {filed.age_seconds:.0f} s ago, before {last} was known to have ended"
            yield Blocked(filed.report.instance, said)


def _absence(facts: _Facts, instance: Instance) -> str:
    ages = [each.age_seconds for each in facts.filed if each.report.instance == instance.id]
    said = f"its last report is {min(ages):.0f} s old" if ages else "it has not reported"
    return f"EC2 says {instance.state}, and {said}"


def _could_come_back(facts: _Facts, report: Report) -> bool:
    """A holder that fell silent, and is not known to have ended: in no listing, or asleep in a warm pool."""
    name = report.instance
    silent = name not in facts.fresh and name not in facts.written_off
    return silent and report.data is not Holding.NONE and facts.end_of(name) is None


# ---- (3): everybody is accounted for --------------------------------------------------------------------------------


def _accounts(facts: _Facts) -> Iterator[Blocked]:
    for entry in _members(facts):
        why = _unaccounted(facts, entry)
        if why is not None:
            yield Blocked(str(entry), why)
    if not facts.told_by_data:
        yield from _founders(facts)


def _members(facts: _Facts) -> Sequence[MemberEntry]:
    """Whoever is named by the data of anybody who reported, lately or not.

    Each once, or once by each name that it is known by: a list may be from before its first start, or its move.
    """
    told = [entry for each in facts.filed for members in lists_of(each.report) for entry in members]
    told += facts.manifest.members if facts.manifest is not None else ()
    if not facts.told_by_data:
        formed = facts.formed.voters if facts.formed is not None else {}
        told += [MemberEntry(member, name, ()) for member, name in formed.items()]
    named = {(entry.id, entry.name): entry for entry in told if entry.name}
    started = {member for member, _ in named}
    unstarted = {(entry.id, entry.name): entry for entry in told if entry.id not in started}
    found = {**named, **unstarted}
    return [found[each] for each in sorted(found)]


def _unaccounted(facts: _Facts, entry: MemberEntry) -> str | None:
    """Why it is not known what became of this member's data; None where it is."""
    if any(each.member_id == entry.id for each in facts.holders) or str(entry.id) in facts.written_off:
        return None
    if entry.name:
        return _absent(facts, InstanceId(entry.name))
    here = [each for each in facts.fresh.values() if each.peer_url in entry.peer_urls]
    if any(each.data is Holding.NONE or each.member_id != entry.id for each in here):
        return None
    return (
        f"was never started as far as is known here, and nobody says where it is (`--exclude {entry.id}` writes it off)"
    )


def _absent(facts: _Facts, name: InstanceId) -> str | None:
    """Its data is in nobody's hands: attested by its own instance, or ended with it."""
    if name in facts.written_off or facts.end_of(name) is not None:
        return None
    report = facts.fresh.get(name)
    if report is None:
        instance = facts.fleet.find(name)
        return f"is not here, and EC2 {f'says {instance.state}' if instance else 'does not prove that it ended'}"
    return "has no data, and may still start as a founder" if report.seat is Seat.OPEN else None


def _founders(facts: _Facts) -> Iterator[Blocked]:
    for name in sorted(facts.record.founders):
        why = _absent(facts, name) or _only_starting(facts, name)
        if why is not None:
            yield Blocked(name, why)


def _only_starting(facts: _Facts, name: InstanceId) -> str | None:
    """A founder's etcd has a log before it has written its first entries, which make it a voter."""
    report = facts.fresh.get(name)
    started = report is not None and report.data is Holding.INTACT
    return "its log is empty yet: as a founder, it may only be starting" if started else None


# ---- (4): no holder finds a quorum ----------------------------------------------------------------------------------


def _quorums(facts: _Facts) -> Iterator[Blocked]:
    held = {each.member_id for each in facts.holders}
    for holder in facts.holders:
        why = _electable(holder, held)
        if why is not None:
            yield Blocked(holder.instance, why)


def _electable(holder: Report, held: set[MemberId | None]) -> str | None:
    """Why a leader may yet be elected under one of the lists that this holder may go by."""
    if holder.data is Holding.DAMAGED and not holder.members:
        return None  # whoever cannot read its list cannot campaign under it
    if holder.position is not None and holder.position.last_index == 0 and not holder.members:
        return None  # nor can a learner that was sent nothing yet
    if holder.position is None or not holder.members:
        return f"has data, and cannot tell how far it reaches{f' ({holder.trouble})' if holder.trouble else ''}"
    if holder.position.pending_changes:
        return "has membership changes that are committed and not applied yet"
    return next(filter(None, (_quorum_in(members, held) for members in lists_of(holder))), None)


def lists_of(report: Report) -> Iterator[tuple[MemberEntry, ...]]:
    """What its data has applied and, where that may be another, what it would go by after a restart."""
    yield report.members
    if report.restart_members:
        yield report.restart_members


def _quorum_in(members: tuple[MemberEntry, ...], held: set[MemberId | None]) -> str | None:
    voters = [each for each in members if not each.is_learner]
    present = [each for each in voters if each.id in held]
    if len(present) < quorum_of(len(voters)):
        return None
    names = ", ".join(sorted(each.name or str(each.id) for each in present))
    return f"may yet be elected: {len(present)} of its {len(voters)} voters still have their data ({names})"


# ---- what goes into the record --------------------------------------------------------------------------------------


def _evidence(facts: _Facts) -> dict[str, Any]:
    members = _members(facts)
    names = sorted({each.name for each in members if each.name} | set(facts.record.founders))
    ended = {name: facts.end_of(InstanceId(name)) for name in names}
    return {
        "judged_by": facts.o.me.instance,
        "judged_at": facts.o.now.isoformat(),
        "reports": {name: _said(report) for name, report in sorted(facts.fresh.items())},
        "members": [each.to_document() for each in members],
        "ended": {name: why for name, why in ended.items() if why is not None},
        "excluded": sorted(facts.written_off),
    }


def _said(report: Report) -> dict[str, Any]:
    return {
        "data": report.data.value,
        "seat": report.seat.value,
        "member_id": None if report.member_id is None else str(report.member_id),
        "voters": [str(each.id) for each in report.members if not each.is_learner],
        "position": report.position and report.position.to_document(),
        "leaderless_since": report.leaderless_since and report.leaderless_since.isoformat(),
    }
