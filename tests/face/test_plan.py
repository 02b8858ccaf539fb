"""`plan` and `status` where a quorum is lost: who stands in the way, one a line, and since when."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.model.actions import Outcome, Result, Wait
from agent.model.faults import Refused
from agent.model.generation import Report
from agent.model.hold import Hold
from agent.model.known import Ignorance, Unknown
from agent.model.memory import Memory
from agent.model.round import Round
from agent.model.snapshot import SnapshotName
from agent.model.work import Drill, Ended, Working
from agent.questions import plan_lines, refuse_if_busy, status_lines, with_since_when
from agent.telemetry import describe
from agent.telemetry.recovery import judge
from tests.decide.examples import (
    A_MINUTE_AGO,
    NOW,
    A,
    B,
    C,
    D,
    E,
    Example,
    a_healthy_three,
    a_lost_three,
    a_snapshot,
    fresh,
    holding,
    nothing,
    snapshot_name,
)

HOURS_AGO = NOW - timedelta(hours=2)


def seen(example: Example) -> Round:
    """The second look of a `plan`: it has asked for everything, and believes that it has been so for a day."""
    decided = example.decided
    return Round(example.o, decided, (), decided, Result(Outcome.DONE), example.memory, timedelta(0), timedelta(0))


def planned(*reports: Report, example: Example | None = None) -> Round:
    example = example or a_lost_three(A)
    second = seen(example.seeing(reports=fresh(*reports)))
    seeded = replace(example.memory, no_quorum_since=NOW - timedelta(days=1), leaderless_since=None)
    return with_since_when(second, seeded, example.policy)


OURS = holding(A, B, C, leaderless_since=HOURS_AGO)


def lines(played: Round) -> list[str]:
    return list(plan_lines(played, a_lost_three(A).policy))


def test_since_when_is_what_our_own_report_says() -> None:
    played = planned(OURS, nothing(D, leaderless_since=NOW - timedelta(hours=9)))
    assert (played.memory.no_quorum_since, played.memory.leaderless_since) == (HOURS_AGO, HOURS_AGO)
    assert "so since 2026-01-01T10:00:00Z" in played.decided.because


def test_without_a_report_of_our_own_the_earliest_counts() -> None:
    played = planned(nothing(D, leaderless_since=HOURS_AGO), nothing(E))
    assert played.memory.no_quorum_since == HOURS_AGO
    assert planned().memory.no_quorum_since == NOW, "nobody says anything: it is so now"


def test_a_quorum_that_answers_needs_no_second_thought() -> None:
    healthy = seen(a_healthy_three())
    assert with_since_when(healthy, Memory(), a_healthy_three().policy) is healthy


def test_the_blockers_are_one_a_line() -> None:
    found = lines(planned(OURS))
    assert isinstance(planned(OURS).decided.action, Wait)
    because = next(each for each in found if "because" in each)
    assert "recovery waits" not in because
    assert "so since" in because
    at = found.index(f"    recovery waits  {D}: EC2 says running, and it has not reported")
    assert found[at + 1] == f"                    {E}: EC2 says running, and it has not reported"
    assert any(each.startswith(f"           reports  {A}, 1 s ago; intact data") for each in found)
    assert any("snapshots  1 of 1 are sound; the newest is" in each for each in found)


def test_a_proven_loss_is_said_and_what_follows() -> None:
    found = lines(planned(OURS, nothing(D), nothing(E)))
    assert "              loss  is proven: it can never have a leader again" in found
    assert not any("recovery waits" in each for each in found)
    assert any("(rule recover)" in each for each in found)


def test_with_a_quorum_nothing_is_said_of_recovery() -> None:
    found = lines(seen(a_healthy_three()))
    assert not any("loss" in each or "recovery" in each for each in found)


def test_snapshots_that_are_all_unfinished() -> None:
    example = a_lost_three(A).seeing(snapshots=(a_snapshot(committed=False),))
    assert "         snapshots  0 of 1 are sound" in lines(seen(example))
    assert "         snapshots  []" in lines(seen(example.seeing(snapshots=(), reports=())))


def test_objections_are_shown() -> None:
    played = replace(seen(a_healthy_three()), objections=("no quorum is left",))
    assert "            vetoed  no quorum is left" in lines(played)


# ---- status ---------------------------------------------------------------------------------------------------------


def test_status_says_the_same_of_the_running_agent() -> None:
    played = planned(OURS)
    found = list(status_lines(describe.whole_round(played, judge(played, a_lost_three(A).policy))))
    assert f"    recovery waits  {D}: EC2 says running, and it has not reported" in found
    assert "   no quorum since  2026-01-01T10:00:00+00:00" in found
    assert A_MINUTE_AGO != HOURS_AGO


def test_status_shows_the_hint_the_work_and_what_is_unknown() -> None:
    name: SnapshotName = snapshot_name()
    example = a_healthy_three().seeing(work=Working(Drill(name), NOW, 5_000_000), fleet=a_lost_three().o.membership)
    status = describe.whole_round(seen(example), None)
    status["decision"]["details"] = {"hint": "look"}
    found = list(status_lines(status))
    assert "        what to do  look" in found
    assert "              work  Drill, 5 MB so far" in found
    assert any(each.startswith("           unknown  fleet: ") for each in found)


def test_status_before_the_first_round() -> None:
    assert list(status_lines({"cluster": "prod", "decision": None})) == [
        "          instance  unknown",
        "          decision  none yet (rule -)",
        "           because  -",
    ]


def test_ended_work_is_told_with_its_outcome() -> None:
    ended = Ended(Drill(snapshot_name()), NOW, NOW)
    assert describe.work(ended)["outcome"] == "done"
    assert describe.work(ended)["task"] == "Drill"


def test_a_command_that_would_disturb_the_agent_is_refused() -> None:
    """Only where an agent says that it works on something."""
    refuse_if_busy({"observation": {"work": {"state": "idle"}}})
    refuse_if_busy({"decision": None})
    with pytest.raises(Refused, match="busy with Drill"):
        refuse_if_busy({"observation": {"work": {"state": "working", "task": "Drill"}}})


def test_a_hold_is_shown_above_the_decision() -> None:
    held = seen(a_healthy_three().remembering(hold=Hold("anna", "we move the volumes", NOW)))
    assert "              HELD  held by anna since 2026-01-01T12:00:00Z: we move the volumes" in lines(held)
    told = describe.whole_round(held, None)
    assert "              HELD  by anna: we move the volumes" in list(status_lines(told))
    assert not any("HELD" in each for each in status_lines(describe.whole_round(seen(a_healthy_three()), None)))
    unread = seen(a_healthy_three().remembering(hold=Unknown(Ignorance.TIMEOUT, "no answer")))
    assert describe.whole_round(unread, None)["hold"]["unknown"]["why"] == "timeout"
