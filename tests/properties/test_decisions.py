"""Must hold 13: what is true of every decision, whatever an agent sees and remembers."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, event, find, given, settings

from agent.decide import RULES, worth_asking
from agent.decide.holding import HOLD
from agent.decide.table import UNSEEN
from agent.loop import pace
from agent.model.actions import (
    AddLearner,
    BeginTask,
    CallHuman,
    CreateGeneration,
    FileReport,
    Outcome,
    PromoteMember,
    PutInPlace,
    Quarantine,
    RemoveMember,
    Rest,
    Result,
    StampIdentity,
    StartEtcd,
    StopEtcd,
    UpdatePeerUrl,
    Wait,
    WriteClaim,
    WriteFormed,
)
from agent.model.known import NOT_ASKED
from agent.model.memory import remember, remember_result
from tests.decide.examples import NOW, Example
from tests.properties.oracle import is_sound
from tests.properties.wild import FIELDS, POLICY, situations

MANY = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
FOUND = settings(MANY, max_examples=3000, phases=(Phase.generate,), derandomize=True, database=None)
SOME = settings(MANY, max_examples=100)
pytestmark = pytest.mark.timeout(300)  # chance takes its time on a busy machine
NAMES = {rule.name for rule in RULES} | {UNSEEN, HOLD}


@MANY
@given(situations())
def test_every_observation_gets_a_sound_decision_with_a_rule_and_a_reason(example: Example) -> None:
    carried_out = example.carried_out
    event(type(carried_out.action).__name__)
    assert carried_out.rule in NAMES
    assert carried_out.because.strip()
    is_sound(carried_out.action, example)


@MANY
@given(situations())
def test_the_rules_alone_are_sound_too(example: Example) -> None:
    """The objections are a second look, not a crutch: no rule may count on being vetoed."""
    is_sound(example.decided.action, example)


@SOME
@given(situations())
def test_the_same_values_give_the_same_decision(example: Example) -> None:
    assert copy.deepcopy(example).carried_out == example.carried_out == example.carried_out


@SOME
@given(situations())
def test_whoever_knows_nothing_does_nothing(example: Example) -> None:
    blank = {name: NOT_ASKED for name in FIELDS if name not in ("me", "answers", "work")}
    assert isinstance(example.seeing(**blank).action, Wait)


@SOME
@given(situations())
def test_a_round_can_always_be_remembered_paced_and_followed_by_another(example: Example) -> None:
    o = example.o
    memory = remember(example.memory, o, POLICY)
    decision = example.carried_out
    for outcome in Outcome:
        after = remember_result(memory, decision, Result(outcome), o.now)
        assert timedelta(0) <= pace(decision, Result(outcome), o, after, POLICY) <= timedelta(minutes=1)
        worth_asking(replace(o, now=NOW + timedelta(seconds=7)), after, POLICY)


@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of what was found, which nobody prints
@pytest.mark.parametrize(
    "action",
    [
        AddLearner,
        BeginTask,
        CallHuman,
        CreateGeneration,
        FileReport,
        PromoteMember,
        PutInPlace,
        Quarantine,
        RemoveMember,
        Rest,
        StampIdentity,
        StartEtcd,
        StopEtcd,
        UpdatePeerUrl,
        Wait,
        WriteClaim,
        WriteFormed,
    ],
    ids=lambda action: action.__name__,
)
def test_these_properties_are_not_about_nothing(action: type) -> None:
    """Chance finds these kinds of action, so each of the oracle's demands is put to the test; it meets the others in
    test_crossbred.py, where it does not take minutes to find them.
    """
    find(situations(), lambda example: isinstance(example.action, action), settings=FOUND)
