"""What is logged of the rounds: changes, once each."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.model.actions import Blocker, CallHuman, Decision, FileReport, Outcome, Rest, Result, Wait
from agent.model.generation import FIRST, Holding, Report
from agent.model.ids import InstanceId, Nonce, PeerUrl
from agent.model.known import NOT_ASKED, Ignorance, Unknown
from agent.model.memory import Memory
from agent.model.observation import Me, Observation
from agent.model.policy import Policy
from agent.model.round import Round
from agent.telemetry.metrics import Metrics
from agent.telemetry.teller import Teller

ME = Me(InstanceId("i-a"), "10.0.0.1", PeerUrl("http://10.0.0.1:2380"), "boot")
POLICY = Policy(cluster="prod")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
THROTTLED = Unknown(Ignorance.THROTTLED, "slow down")
HEALTHY = Observation(NOW, Nonce("n"), ME, head=None)


@pytest.fixture
def teller() -> Teller:
    return Teller(POLICY, Metrics(version="0", rules=["rest"], blockers=["quorum"]))


def round_of(o: Observation) -> Round:
    decision = Decision(Rest(), "all is well", "rest")
    return Round(o, decision, (), decision, Result(Outcome.DONE), Memory(), timedelta(0), timedelta(0))


def test_a_report_that_is_kept_fresh_is_one_line_and_so_is_what_is_waited_for(
    teller: Teller, caplog: pytest.LogCaptureFixture
) -> None:
    report = Report(ME.instance, ME.peer_url, ME.boot_id, Holding.NONE)
    file_it = Decision(FileReport(FIRST, report), "telling the others", "file-report")
    wait = Decision(Wait(Blocker.ASSEMBLY), "1 of 3", "found")
    with caplog.at_level(logging.INFO):
        for decision in (file_it, wait, file_it, wait, file_it, wait):
            teller.tell(replace(round_of(HEALTHY), decision=decision))
    assert [each.message for each in caplog.records] == ["acted", "waiting"]


def test_a_report_that_is_kept_fresh_ends_no_alert() -> None:
    """A scrape between a report and the next round must not see a cluster that needs nobody."""
    metrics = Metrics(version="0", rules=["found", "file-report"], blockers=["assembly"])
    teller = Teller(POLICY, metrics)
    file_it = Decision(
        FileReport(FIRST, Report(ME.instance, ME.peer_url, ME.boot_id, Holding.NONE)), "telling", "file-report"
    )
    for decision, needs_human in (
        (Decision(CallHuman("look"), "it makes no sense", "found"), 1),
        (file_it, 1),
        (Decision(Wait(Blocker.ASSEMBLY), "1 of 3", "found"), 0),
        (file_it, 0),
    ):
        teller.tell(replace(round_of(HEALTHY), decision=decision))
        assert metrics.registry.get_sample_value("etcd_asg_agent_needs_human") == needs_human
    assert metrics.registry.get_sample_value("etcd_asg_agent_blocked", {"reason": "assembly"}) == 1
    assert metrics.registry.get_sample_value("etcd_asg_agent_decisions_total", {"rule": "file-report"}) == 2


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.message for each in caplog.records if "tell" in each.message]


def test_an_outage_is_a_line_at_its_beginning_and_one_at_its_end(
    teller: Teller, caplog: pytest.LogCaptureFixture
) -> None:
    """Most rounds ask for nothing behind AWS: they neither end the outage nor begin it anew."""
    with caplog.at_level(logging.INFO):
        for head in (None, THROTTLED, NOT_ASKED, THROTTLED, NOT_ASKED, THROTTLED, NOT_ASKED, None, NOT_ASKED, None):
            teller.tell(round_of(replace(HEALTHY, head=head)))
    assert told(caplog) == ["cannot tell", "can tell again"]


def test_another_reason_is_another_line(teller: Teller, caplog: pytest.LogCaptureFixture) -> None:
    denied = Unknown(Ignorance.DENIED, "no")
    with caplog.at_level(logging.INFO):
        for head in (THROTTLED, replace(THROTTLED, detail="in other words"), NOT_ASKED, denied, denied):
            teller.tell(round_of(replace(HEALTHY, head=head)))
    assert told(caplog) == ["cannot tell", "cannot tell"]
