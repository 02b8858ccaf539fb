"""The mutants can still be made of the code of today, and a check that breaks is seen; `make mutants` tries all."""

from __future__ import annotations

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Change, MovedOn, Mutant
from tests.mutants.trial import REPOSITORY, tried

QUICK = ("stopped-is-gone", "an-unread-head-is-none", "quarantine-deletes")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_can_still_be_made_of_the_code(mutant: Mutant) -> None:
    assert mutant.made_of(REPOSITORY / "agent")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_tests_that_try_it_exist(mutant: Mutant) -> None:
    for name in mutant.tried_by:
        file, _, test = name.partition("::")
        assert not test or f"def {test}(" in (REPOSITORY / file).read_text()


def test_there_are_enough_and_each_has_a_name_of_its_own() -> None:
    assert len({each.name for each in MUTANTS}) == len(MUTANTS) >= 25


def test_code_that_moved_on_is_said_aloud() -> None:
    with pytest.raises(MovedOn, match=r"agent/act\.py has 0 times"):
        Change("act.py", "what was never there", "").made_in("what is there")
    with pytest.raises(MovedOn, match=r"agent/act\.py has 2 times"):
        Change("act.py", "here", "").made_in("here and there")


@pytest.mark.parametrize("name", QUICK)
def test_a_check_that_breaks_kills(name: str) -> None:
    (mutant,) = (each for each in MUTANTS if each.name == name)
    verdict = tried(mutant)
    assert verdict.killed
    assert mutant.breaks in f"{verdict.test} {verdict.said}"
    assert verdict.seeds <= 5


def test_a_mutant_that_only_falls_over_is_not_killed() -> None:
    wrong = Change("act.py", "    try:\n        return _effect(world, action, o)", "    try:\n        return effect()")
    verdict = tried(Mutant("falls-over", "", "", ("tests/simulation/test_forming.py",), (wrong,)))
    assert not verdict.killed
    assert "NameError" in verdict.said


def test_what_no_check_sees_survives() -> None:
    same = Change("act.py", "DONE = Result(Outcome.DONE)\n", "DONE = Result(Outcome.DONE, '')\n")
    verdict = tried(Mutant("the-same", "", "", ("tests/model/test_nouns.py",), (same,)))
    assert not verdict.killed
    assert not verdict.said
