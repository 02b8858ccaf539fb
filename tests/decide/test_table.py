"""The table of rules, as the docs show it."""

from __future__ import annotations

import inspect

from agent.decide import RULES
from agent.decide.resting import rest
from agent.decide.table import situate
from agent.model.actions import Blocker, Wait
from tests.decide.examples import A, B, a_newcomer, membership, voter
from tests.render_docs import PAGE, rendered


def test_the_docs_show_the_table_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == rendered(page), "run `python -m tests.render_docs`"


def test_every_rule_has_a_name_of_its_own_and_says_when_it_speaks() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    assert all(inspect.getdoc(rule.judge) for rule in RULES)


def test_the_last_rule_is_the_one_that_always_speaks() -> None:
    assert RULES[-1].name == "rest"


def test_contradictions_are_named_before_anything_is_started_or_changed() -> None:
    rooms = [rule.judge.__module__.rpartition(".")[2] for rule in RULES]
    first_effect = next(
        place for place, room in enumerate(rooms) if room not in ("contradicting", "reporting", "leaving", "certifying")
    )
    assert "contradicting" not in rooms[first_effect:]


def test_a_rule_claims_nothing_that_it_does_not_know() -> None:
    """The last rules' guards, which the rules before them never let anything through to."""
    stopped = situate(*a_newcomer().values)
    assert stopped is not None
    assert rest(stopped).action == Wait(Blocker.IGNORANCE)
    assert stopped.own_entry(membership(voter(A), voter(B))) is None, "without an identity no entry is ours"
