"""The operator's pause as it is written down, and as it is remembered."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.model.hold import Hold, from_tag, released
from agent.model.known import NOT_ASKED
from agent.model.memory import remember_hold
from tests.decide.examples import NOW, TIMEOUT, a_healthy_three

HOLD = Hold("anna@bastion", "we move the volumes", datetime(2026, 11, 22, 7, tzinfo=UTC))


def test_it_is_what_was_written_and_released_it_is_none() -> None:
    assert Hold.from_json(HOLD.to_json()) == HOLD
    assert Hold.from_json(released("bert", "done", NOW)) is None
    assert str(HOLD) == "held by anna@bastion since 2026-11-22T07:00:00Z: we move the volumes"


@pytest.mark.parametrize("text", ["", "hold", "{}", '{"held": "no", "who": "a", "why": "", "when": "2026-01-01T00Z"}'])
def test_what_makes_no_sense_was_put_there_by_somebody_and_holds(text: str) -> None:
    found = Hold.from_json(text)
    assert found is not None
    assert "makes no sense" in found.why


@pytest.mark.parametrize("value", [None, "off", "False", " no "])
def test_no_tag_and_one_that_says_off_hold_nothing(value: str | None) -> None:
    assert from_tag(value, "i-a") is None


@pytest.mark.parametrize("value", ["", "we move the volumes", "true"])
def test_any_other_tag_holds(value: str) -> None:
    found = from_tag(value, "i-a")
    assert found == Hold("the tag etcd-asg-agent:hold of i-a", value)
    assert str(found).endswith(value or "no reason given")


def test_the_last_answer_is_remembered() -> None:
    example = a_healthy_three()
    nothing = replace(example.memory, hold=NOT_ASKED)
    assert remember_hold(nothing, example.o) == nothing
    failed = remember_hold(nothing, replace(example.o, hold=TIMEOUT))
    assert (failed.hold, failed.asked_at["hold"]) == (TIMEOUT, NOW)
    told = remember_hold(failed, replace(example.o, hold=HOLD, now=NOW + timedelta(seconds=5)))
    assert told.hold == HOLD
    again = remember_hold(told, replace(example.o, hold=TIMEOUT, now=NOW + timedelta(seconds=9)))
    assert (again.hold, again.asked_at["hold"]) == (HOLD, NOW + timedelta(seconds=9))
    assert remember_hold(again, replace(example.o, hold=None)).hold is None
