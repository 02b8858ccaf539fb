"""The checker, by values: histories that must be accepted, and one wrong thing in each that must be refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from tests.chaos.checker import Loss, Verdict, judge
from tests.chaos.history import Held, History, Holding, Outcome, Read, Write

A, B = 0xAAAA, 0xBBBB
"""Two lineages."""
BUMP = 1000
X, Y = "register/x", "register/y"


# ---- histories -------------------------------------------------------------------------------------------------------


def put(number: int, register: str, began_s: float, revision: int, lineage: int = A) -> Write:
    """An acknowledged write that took a tenth of a second."""
    return Write(
        "w", "127.0.0.1", register, f"ledger/{number}", f"v{number}", began_s, began_s + 0.1, Outcome.OK,
        revision, lineage,
    )  # fmt: skip


def lost_answer(write: Write) -> Write:
    return replace(write, outcome=Outcome.UNKNOWN, revision=0, lineage=0)


def refused(write: Write) -> Write:
    return replace(write, outcome=Outcome.FAILED, revision=0, lineage=0)


def got(write: Write, began_s: float, revision: int, lineage: int = A) -> Read:
    """A read that shows what this write wrote."""
    return Read(
        "r", "127.0.0.1", write.register, began_s, began_s + 0.1, Outcome.OK,
        write.value, write.revision, revision, lineage,
    )  # fmt: skip


def nothing_at(register: str, began_s: float, revision: int, lineage: int = A) -> Read:
    return Read("r", "127.0.0.1", register, began_s, began_s + 0.1, Outcome.OK, "", 0, revision, lineage)


def held(writes: Iterable[Write], lineage: int = A, member: str = "i-1", hash_kv: int = 7) -> Holding:
    return Holding(member, lineage, {each.key: Held(each.value, each.revision) for each in writes}, hash_kv)


ONE, TWO, THREE = put(1, X, 1.0, 11), put(2, Y, 2.0, 12), put(3, X, 3.0, 13)
FOUR = put(4, X, 9.0, BUMP + 20, B)


def a_healthy_history() -> History:
    """Three writes, one after another, the reads between them, and three members that hold them."""
    writes = (ONE, TWO, THREE)
    reads = (nothing_at(X, 0.5, 10), got(ONE, 1.5, 11), got(ONE, 2.5, 12), got(TWO, 2.6, 12), got(THREE, 4.0, 13))
    return History(writes, reads, tuple(held(writes, member=f"i-{number}") for number in range(3)))


def a_restored_history() -> History:
    """The third write is lost with its lineage; the next lineage begins with the first two and writes on."""
    writes, kept = (ONE, TWO, THREE, FOUR), (ONE, TWO, FOUR)
    reads = (
        got(THREE, 4.0, 13),
        got(ONE, 8.0, BUMP + 15, B),
        got(TWO, 8.1, BUMP + 15, B),
        got(FOUR, 9.5, BUMP + 20, B),
    )
    return History(writes, reads, tuple(held(kept, B, f"i-{number}") for number in range(3)))


def with_(history: History, *reads: Read) -> History:
    return replace(history, reads=(*history.reads, *reads))


def instead(history: History, old: Write, new: Write) -> History:
    return replace(history, writes=tuple(new if each is old else each for each in history.writes))


def holding(history: History, *writes: Write, lineage: int = A) -> History:
    return replace(history, holdings=tuple(held(writes, lineage, each.member) for each in history.holdings))


# ---- what must be accepted -------------------------------------------------------------------------------------------


def test_a_healthy_history_is_accepted() -> None:
    verdict = judge(a_healthy_history(), Loss.NOTHING)
    assert replace(verdict, unavailable_s=0.0) == Verdict((), 3, (), 0.0, 1)
    assert verdict.unavailable_s == pytest.approx(1.0)


def test_a_write_without_an_answer_may_have_happened() -> None:
    history = instead(a_healthy_history(), THREE, lost_answer(THREE))
    assert judge(history, Loss.NOTHING).violations == ()


def test_a_write_without_an_answer_may_not_have_happened() -> None:
    history = instead(a_healthy_history(), THREE, lost_answer(THREE))
    history = holding(replace(history, reads=history.reads[:-1]), ONE, TWO)
    assert judge(history, Loss.NOTHING).violations == ()


def test_a_write_without_an_answer_may_happen_much_later() -> None:
    late = put(4, Y, 0.1, 14)
    history = a_healthy_history()
    history = with_(replace(history, writes=(*history.writes, lost_answer(late))), got(late, 6.0, 14))
    assert judge(holding(history, ONE, TWO, THREE, late), Loss.NOTHING).violations == ()


def test_those_under_way_at_once_may_be_ordered_either_way() -> None:
    other = put(4, Y, 3.05, 12)
    history = History((ONE, put(3, X, 3.0, 13), other), (), (held((ONE, THREE, other)),))
    assert judge(history, Loss.NOTHING).violations == ()


def test_what_the_snapshot_did_not_hold_may_be_lost_with_every_disk() -> None:
    verdict = judge(a_restored_history(), Loss.SNAPSHOT, snapshot_revision=12)
    assert verdict.violations == ()
    assert verdict.lost == (THREE,)
    assert verdict.generations_seen == 2
    assert verdict.unavailable_s == pytest.approx(6.0)


def test_a_survivors_tail_may_stand_where_the_lost_quorum_had_another_write() -> None:
    """Found by the combination of seed 3: both have revision 13, and only the lost quorum's was acknowledged."""
    tail = put(5, X, 2.9, 13)
    history = a_restored_history()
    reads = tuple(got(tail, 8.0, BUMP + 15, B) if each.value == ONE.value else each for each in history.reads)
    history = replace(history, writes=(*history.writes, lost_answer(tail)), reads=reads)
    verdict = judge(holding(history, ONE, TWO, tail, FOUR, lineage=B), Loss.BEST_DISK)
    assert verdict.violations == ()
    assert verdict.lost == (THREE,)


def test_a_failed_write_that_left_nothing_is_nothing() -> None:
    history = a_healthy_history()
    history = replace(history, writes=(*history.writes, refused(put(5, X, 5.0, 0))))
    assert judge(history, Loss.NOTHING).violations == ()


# ---- what must be refused --------------------------------------------------------------------------------------------

Change = Callable[[], History]

REFUSED: dict[str, tuple[str, Change]] = {
    "an acknowledged write is gone": (
        "lost",
        lambda: holding(a_healthy_history(), ONE, TWO),
    ),
    "an acknowledged write is gone, and a later one is there": (
        "a later one is there",
        lambda: holding(a_healthy_history(), ONE, THREE),
    ),
    "an acknowledged write has another value": (
        "lost",
        lambda: holding(a_healthy_history(), ONE, TWO, replace(THREE, value="v0")),
    ),
    "an acknowledged write is there under another revision": (
        "nobody can have written so",
        lambda: holding(a_healthy_history(), ONE, TWO, replace(THREE, revision=14)),
    ),
    "a write that was refused is there": (
        "nobody can have written so",
        lambda: instead(a_healthy_history(), THREE, refused(THREE)),
    ),
    "an entry from nowhere": (
        "nobody can have written so",
        lambda: holding(a_healthy_history(), ONE, TWO, THREE, put(9, X, 0.0, 14)),
    ),
    "a stale read": (
        "stale or foreign read",
        lambda: with_(a_healthy_history(), got(ONE, 5.0, 13)),
    ),
    "a read that goes back in time as a whole": (
        "out of order",
        lambda: with_(a_healthy_history(), got(ONE, 5.0, 12)),
    ),
    "a read of nothing after a write": (
        "stale or foreign read",
        lambda: with_(a_healthy_history(), nothing_at(X, 5.0, 13)),
    ),
    "a read of what nobody wrote": (
        "read what nobody wrote",
        lambda: with_(a_healthy_history(), got(replace(THREE, value="v9"), 5.0, 13)),
    ),
    "a read of another register's value": (
        "read what nobody wrote",
        lambda: with_(a_healthy_history(), replace(got(TWO, 5.0, 13), register=X)),
    ),
    "a read of a write that was to begin later": (
        "read what nobody wrote",
        lambda: with_(a_healthy_history(), got(THREE, 1.5, 13)),
    ),
    "a read under a revision of the future": (
        "version of the future",
        lambda: with_(a_healthy_history(), got(THREE, 4.0, 12)),
    ),
    "an unanswered write that is seen and then not": (
        "stale or foreign read",
        lambda: with_(holding(instead(a_healthy_history(), THREE, lost_answer(THREE)), ONE, TWO), got(ONE, 5.0, 13)),
    ),
    "an unanswered write that is seen under two revisions": (
        "seen under two revisions",
        lambda: with_(
            instead(a_healthy_history(), THREE, lost_answer(THREE)), got(replace(THREE, revision=14), 5.0, 14)
        ),
    ),
    "an unanswered write that happened before it began": (
        "out of order",
        lambda: instead(a_healthy_history(), THREE, replace(lost_answer(THREE), began_s=4.5, ended_s=4.6)),
    ),
    "a write that is acknowledged below an earlier one": (
        "out of order",
        lambda: History((ONE, put(4, Y, 5.0, 10)), (), (held((ONE, put(4, Y, 5.0, 10))),)),
    ),
    "two writes with one revision": (
        "two writes have one revision",
        lambda: History((ONE, put(4, Y, 1.05, 11)), (), (held((ONE, put(4, Y, 1.05, 11))),)),
    ),
    "members that hold different keys": (
        "hold different keys",
        lambda: replace(a_healthy_history(), holdings=(held((ONE, TWO, THREE)), held((ONE, TWO), member="i-2"))),
    ),
    "members whose hashes differ": (
        "HashKV",
        lambda: replace(
            a_healthy_history(), holdings=(held((ONE, TWO, THREE)), held((ONE, TWO, THREE), member="i-2", hash_kv=8))
        ),
    ),
    "members of a lineage that never served": (
        "the last that served was another",
        lambda: holding(a_healthy_history(), ONE, TWO, THREE, lineage=B),
    ),
    "nobody tells the end": (
        "no member tells",
        lambda: replace(a_healthy_history(), holdings=()),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    words, change = REFUSED[name]
    violations = judge(change(), Loss.NOTHING).violations
    assert any(words in each for each in violations), violations


REFUSED_AFTER_A_RESTORE: dict[str, tuple[str, Change]] = {
    "a write on the old lineage after the new one served": (
        "had served",
        lambda: replace(a_restored_history(), writes=(*a_restored_history().writes, put(5, Y, 9.5, 14, A))),
    ),
    "a read on the old lineage after the new one served": (
        "had served",
        lambda: with_(a_restored_history(), got(THREE, 9.7, 13)),
    ),
    "the new lineage lost what it acknowledged": (
        "lost by the lineage that serves",
        lambda: holding(a_restored_history(), ONE, TWO, lineage=B),
    ),
    "what the snapshot held is lost": (
        "in the last snapshot",
        lambda: holding(replace(a_restored_history(), reads=()), ONE, FOUR, lineage=B),
    ),
    "a hole in what was inherited": (
        "a later one is there",
        lambda: holding(replace(a_restored_history(), reads=()), ONE, THREE, FOUR, lineage=B),
    ),
    "a value that was lost is read in the new lineage": (
        "a later one is there",
        lambda: holding(with_(a_restored_history(), got(THREE, 8.5, BUMP + 15, B)), ONE, THREE, FOUR, lineage=B),
    ),
    "the new lineage shows a lost value, and then an older one": (
        "stale or foreign read",
        lambda: with_(a_restored_history(), got(THREE, 8.5, BUMP + 15, B)),
    ),
    "the new lineage does not show what it inherited": (
        "stale or foreign read",
        lambda: with_(a_restored_history(), nothing_at(Y, 8.5, BUMP + 16, B)),
    ),
}


@pytest.mark.parametrize("name", REFUSED_AFTER_A_RESTORE)
def test_refused_after_a_restore(name: str) -> None:
    words, change = REFUSED_AFTER_A_RESTORE[name]
    violations = judge(change(), Loss.SNAPSHOT, snapshot_revision=12).violations
    assert any(words in each for each in violations), violations


def test_nothing_may_be_lost_where_the_case_allows_nothing() -> None:
    assert any("lost" in each for each in judge(a_restored_history(), Loss.NOTHING).violations)
