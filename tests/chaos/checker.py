"""The judge of a chaos run: from the history alone, what was promised and not kept.

etcd tells the revision of every write and the store's revision at every read, and a revision orders all keys. So no
search for an order is needed: the order is told, and linearizability comes down to three questions. Does it agree with
real time (who ended before another began has the smaller revision)? Does every read show, of its register, the newest
version up to its revision? Is every version the effect of one write that may have happened?

A lineage is a cluster ID; the next generation begins with what the one before held up to some revision, the horizon,
and is bumped past its revisions. Whatever came after the horizon is lost as one piece: a hole is never right.

House rules: pure; every violation is a sentence; silence is no violation, but whoever calls must ask for enough writes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from tests.chaos.history import Attempt, Held, History, Outcome, Read, Write

SHOWN = 3
"""So many examples of one kind of violation are told."""


class Loss(Enum):
    """Which acknowledged writes a case may cost at most."""

    NOTHING = "0"
    BEST_DISK = "not on the best surviving disk"
    """A quorum's disks are gone: what no surviving disk holds. The runner compares with the disk itself."""
    SNAPSHOT = "since the last snapshot"
    """Every disk is gone."""


@dataclass(frozen=True)
class Verdict:
    """What a run showed."""

    violations: tuple[str, ...]
    acknowledged: int
    lost: tuple[Write, ...]
    """RPO: acknowledged, and not there at the end."""
    unavailable_s: float
    """RTO: the longest time without an acknowledged write, from the first to the last."""
    generations_seen: int


def judge(history: History, allowed: Loss, snapshot_revision: int = 0) -> Verdict:
    """All checks. `snapshot_revision`: what the newest snapshot before the first fault held, for `Loss.SNAPSHOT`."""
    lost = lost_writes(history)
    violations = [
        *members_disagree(history),
        *two_lineages(history),
        *out_of_order(history),
        *wrong_reads(history),
        *wrong_entries(history),
        *holes(history, lost),
        *too_much_lost(history, lost, allowed, snapshot_revision),
    ]
    acknowledged = history.acknowledged
    return Verdict(
        tuple(violations), len(acknowledged), lost, longest_gap_s(acknowledged), len(lineages(history.answered))
    )


def longest_gap_s(acknowledged: Iterable[Write]) -> float:
    """The longest time between two acknowledgements that followed each other."""
    ends = sorted(each.ended_s for each in acknowledged)
    return max((later - earlier for earlier, later in pairwise(ends)), default=0.0)


def lineages(answered: Iterable[Attempt]) -> tuple[int, ...]:
    """The cluster IDs that answered, in the order in which they first did."""
    return tuple(dict.fromkeys(each.lineage for each in sorted(answered, key=lambda each: each.ended_s)))


def lost_writes(history: History) -> tuple[Write, ...]:
    """Acknowledged, and some member does not hold it at the end."""
    return tuple(
        each
        for each in history.acknowledged
        if any(holding.ledger.get(each.key, Held("", 0)).value != each.value for holding in history.holdings)
    )


# ---- one cluster -----------------------------------------------------------------------------------------------------


def members_disagree(history: History) -> Iterator[str]:
    """At the end all members are of one lineage, the newest, and hold the same."""
    if not history.holdings:
        yield "no member tells what it holds"
        return
    first = history.holdings[0]
    for other in history.holdings[1:]:
        if other.ledger != first.ledger:
            yield f"{other.member} and {first.member} hold different keys"
        if other.hash_kv != first.hash_kv:
            yield f"the HashKV of {other.member} and {first.member} differ"
    held = {each.lineage for each in history.holdings}
    if held - set(lineages(history.answered)[-1:]):
        yield f"the members are of {_hex(held)}, and the last that served was another"


def two_lineages(history: History) -> Iterator[str]:
    """Nothing is answered by a lineage after a newer one has served: neither a write nor a read."""
    answered = history.answered
    order = lineages(answered)
    for index, lineage in enumerate(order[1:], 1):
        older = set(order[:index])
        served_s = min(each.ended_s for each in answered if each.lineage == lineage)
        late = [each for each in answered if each.lineage in older and each.began_s > served_s]
        yield from _told(f"answered by a lineage after {lineage:x} had served", late)


# ---- linearizable ----------------------------------------------------------------------------------------------------


def out_of_order(history: History) -> Iterator[str]:
    """Who ended before another began is before it in the revisions' order, too; no two writes have one revision."""
    for lineage in lineages(history.answered):
        yield from _out_of_order(_positions(history, lineage))


@dataclass(frozen=True)
class _Position:
    """Where an attempt stands in its lineage's order. A write without an answer may have happened any time later."""

    revision: int
    began_s: float
    ended_s: float
    attempt: Attempt


def _positions(history: History, lineage: int) -> list[_Position]:
    own = [each for each in history.answered if each.lineage == lineage]
    found = [_Position(each.revision, each.began_s, each.ended_s, each) for each in own]
    floor = min(each.revision for each in own)
    for write, revision in _effects_of_unknowns(history, lineage):
        if revision >= floor:
            found.append(_Position(revision, write.began_s, float("inf"), write))
    return found


def _effects_of_unknowns(history: History, lineage: int) -> list[tuple[Write, int]]:
    """The writes without an answer that did happen, as this lineage itself has shown them.

    What only a later one shows may have happened there: a survivor's log may end with an entry that no quorum ever had,
    at the very revision at which the quorum that was lost had another.
    """
    unknown = {each.value: each for each in history.writes if each.outcome is Outcome.UNKNOWN}
    return [(unknown[value], revision) for value, revision in sorted(_shown(history, lineage)) if value in unknown]


def _shown(history: History, lineage: int) -> set[tuple[str, int]]:
    """Every value that a lineage's reads show, or its members hold in the end, with its revision."""
    shown = {(each.value, each.written_at) for each in history.reads if each.lineage == lineage and each.value}
    if lineage == lineages(history.answered)[-1]:
        shown |= {(held.value, held.revision) for holding in history.holdings for held in holding.ledger.values()}
    return shown


def _out_of_order(positions: list[_Position]) -> Iterator[str]:
    ended = sorted(positions, key=lambda each: each.ended_s)
    highest: list[_Position] = []
    for each in ended:
        highest.append(each if not highest or each.revision > highest[-1].revision else highest[-1])
    moments = [each.ended_s for each in ended]
    bad = []
    for each in positions:
        before = bisect_left(moments, each.began_s)
        if before and _contradicts(highest[before - 1], each):
            bad.append(each.attempt)
    yield from _told("out of order: something that had ended before it began has a later revision", bad)
    writes = sorted(
        (each for each in positions if isinstance(each.attempt, Write)), key=lambda each: (each.revision, each.began_s)
    )
    twice = [later.attempt for earlier, later in pairwise(writes) if earlier.revision == later.revision]
    yield from _told("two writes have one revision", twice)


def _contradicts(earlier: _Position, later: _Position) -> bool:
    if isinstance(later.attempt, Write):
        return later.revision <= earlier.revision
    return later.revision < earlier.revision


def wrong_reads(history: History) -> Iterator[str]:
    """Every read shows the newest version of its register up to its revision, and nothing that cannot be."""
    writes = {each.value: each for each in history.writes}
    reads = [each for each in history.reads if each.outcome is Outcome.OK]
    made_up = [each for each in reads if each.value and not _may_show(each, writes.get(each.value))]
    yield from _told("read what nobody wrote there", made_up)
    yield from _told("read a version of the future", [each for each in reads if each.written_at > each.revision])
    yield from _told("seen under two revisions", _seen_twice(history))
    for lineage in lineages(history.answered):
        versions = _versions(history, lineage)
        own = [each for each in reads if each.lineage == lineage]
        yield from _told("stale or foreign read", [each for each in own if not _shows_newest(each, versions)])


def _may_show(read: Read, write: Write | None) -> bool:
    if write is None or write.register != read.register or write.outcome is Outcome.FAILED:
        return False
    return write.began_s <= read.ended_s and (write.outcome is Outcome.UNKNOWN or write.revision == read.written_at)


def _seen_twice(history: History) -> list[Write]:
    seen = {(each.value, each.written_at) for each in history.reads if each.outcome is Outcome.OK}
    seen |= {(held.value, held.revision) for holding in history.holdings for held in holding.ledger.values()}
    times = Counter(value for value, _ in seen)
    return [each for each in history.writes if times[each.value] > 1]


def _shows_newest(read: Read, versions: Mapping[str, list[tuple[int, str]]]) -> bool:
    known = versions.get(read.register, [])
    index = bisect_right(known, read.revision, key=lambda version: version[0])
    return (read.written_at, read.value) == (known[index - 1] if index else (0, ""))


def _versions(history: History, lineage: int) -> dict[str, list[tuple[int, str]]]:
    """Every known version of every register as this lineage has them: what it inherited, and what it made itself."""
    order = lineages(history.answered)
    older = order[: order.index(lineage)]
    known = {(each.register, each.revision, each.value) for each in history.acknowledged if each.lineage == lineage}
    for each in older:
        reach = _horizon(history, each, order.index(lineage))
        known |= {
            (write.register, write.revision, write.value)
            for write in history.acknowledged
            if write.lineage == each and write.revision <= reach
        }
    known |= {(write.register, revision, write.value) for write, revision in _effects_of_unknowns(history, lineage)}
    by_register: dict[str, list[tuple[int, str]]] = {}
    for register, revision, value in sorted(known):
        by_register.setdefault(register, []).append((revision, value))
    return by_register


def _horizon(history: History, lineage: int, since: int) -> int:
    """Up to which revision of a lineage its successors, from the one of that index on, hold what it acknowledged."""
    order = lineages(history.answered)
    writes = {each.value: each for each in history.acknowledged if each.lineage == lineage}
    successors = set(order[since:])
    shown = [each.value for each in history.reads if each.lineage in successors]
    shown += [held.value for holding in history.holdings for held in holding.ledger.values()]
    return max((writes[value].revision for value in shown if value in writes), default=0)


# ---- what is there at the end ----------------------------------------------------------------------------------------


def wrong_entries(history: History) -> Iterator[str]:
    """Whatever the ledger holds was written by somebody, did not fail, and is where its acknowledgement said."""
    writes = {each.key: each for each in history.writes}
    for holding in history.holdings:
        bad = [key for key, held in holding.ledger.items() if not _may_hold(held, writes.get(key))]
        if bad:
            yield f"{holding.member} holds {len(bad)} entries that nobody can have written so: {sorted(bad)[:SHOWN]}"


def _may_hold(held: Held, write: Write | None) -> bool:
    if write is None or write.outcome is Outcome.FAILED or write.value != held.value:
        return False
    return write.outcome is Outcome.UNKNOWN or write.revision == held.revision


def holes(history: History, lost: Collection[Write]) -> Iterator[str]:
    """What is lost of a lineage is its end: nothing of it that came later is there."""
    for lineage in lineages(history.answered):
        gone = {each for each in lost if each.lineage == lineage}
        kept = [each.revision for each in history.acknowledged if each.lineage == lineage and each not in gone]
        if gone and kept:
            yield from _told("lost, and a later one is there", [each for each in gone if each.revision < max(kept)])


def too_much_lost(history: History, lost: Collection[Write], allowed: Loss, snapshot_revision: int) -> Iterator[str]:
    """Never what the newest lineage acknowledged; and of the older ones what the case allows."""
    newest = lineages(history.answered)[-1:]
    yield from _told("lost by the lineage that serves", [each for each in lost if each.lineage in newest])
    if allowed is Loss.NOTHING:
        yield from _told("lost", lost)
    if allowed is Loss.SNAPSHOT:
        held = [each for each in lost if each.revision <= snapshot_revision]
        yield from _told("lost, and in the last snapshot", held)


def _told(what: str, attempts: Collection[Attempt]) -> Iterator[str]:
    if attempts:
        yield f"{what} ({len(attempts)}): {'; '.join(str(each) for each in list(attempts)[:SHOWN])}"


def _hex(lineages: Iterable[int]) -> str:
    return ", ".join(f"{each:x}" for each in sorted(lineages))
