"""What is logged of the rounds: changes, once each."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.model.actions import Blocker, CallHuman, Decision, FileReport, Outcome, Reason, Rest, Result, Wait
from agent.model.generation import FIRST, Holding, Report
from agent.model.hold import Hold
from agent.model.ids import InstanceId, Nonce, PeerUrl
from agent.model.known import NOT_ASKED, Ignorance, Unknown
from agent.model.memory import Memory
from agent.model.observation import Me, Observation
from agent.model.policy import Policy
from agent.model.round import Round
from agent.model.snapshot import DrillRecord, DrillResult
from agent.model.spot import SpotAction, SpotNotice
from agent.model.work import Ended, TakeSnapshot, Working
from agent.telemetry.metrics import Metrics
from agent.telemetry.teller import Teller
from tests.decide import examples

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
        (Decision(CallHuman("look", Reason.DISK_FULL), "it makes no sense", "found"), 1),
        (file_it, 1),
        (Decision(Wait(Blocker.ASSEMBLY), "1 of 3", "found"), 0),
        (file_it, 0),
    ):
        teller.tell(replace(round_of(HEALTHY), decision=decision))
        assert metrics.registry.get_sample_value("etcd_asg_agent_needs_human") == needs_human
    assert metrics.registry.get_sample_value("etcd_asg_agent_blocked", {"reason": "assembly"}) == 1
    assert metrics.registry.get_sample_value("etcd_asg_agent_decisions_total", {"rule": "file-report"}) == 2


def test_another_call_for_a_human_is_another_line_though_the_same_rule_speaks(
    teller: Teller, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that was full, and then a port that is taken: whoever mended the one is told of the other."""
    calls = [CallHuman("look", reason) for reason in (Reason.DISK_FULL, Reason.DISK_FULL, Reason.PORT_TAKEN)]
    with caplog.at_level(logging.INFO):
        for call in calls:
            teller.tell(replace(round_of(HEALTHY), decision=Decision(call, "it is so", "name-obstacle")))
    found = [record.__dict__["facts"] for record in caplog.records if record.message == "a human is needed"]
    assert [each["reason"] for each in found] == ["disk-full", "port-taken"]
    assert found[0]["runbook"] == "docs/operate.md#disk-full"


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


# ---- tasks, snapshots, recovery -------------------------------------------------------------------------------------


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(version="0", rules=["rest"], blockers=["quorum"])


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"etcd_asg_agent_{name}", labels)


def test_a_task_is_shown_while_it_runs_and_told_of_once_when_it_ended(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    teller = Teller(POLICY, metrics)
    task, late = TakeSnapshot(FIRST), NOW + timedelta(seconds=5)
    failed = Ended(task, NOW, late, Unknown(Ignorance.THROTTLED, "slow down"))
    done = replace(failed, at=late + timedelta(seconds=5), trouble=None, manifest=examples.manifest())
    with caplog.at_level(logging.INFO):
        teller.tell(round_of(replace(HEALTHY, work=Working(task, NOW, 7))))
        assert value(metrics, "task", task="TakeSnapshot") == 1
        assert value(metrics, "task_done_bytes") == 7
        for work in (failed, failed, done, done):
            teller.tell(round_of(replace(HEALTHY, work=work)))
    assert value(metrics, "task", task="TakeSnapshot") == 0
    assert [value(metrics, "tasks_total", task="TakeSnapshot", outcome=each) for each in ("failed", "done")] == [1, 1]
    ends = [each for each in caplog.records if each.message == "task ended"]
    assert [each.levelname for each in ends] == ["WARNING", "INFO"]
    assert vars(ends[0])["facts"]["detail"] == "slow down"
    assert vars(ends[1])["facts"]["snapshot"] == str(examples.snapshot_name())


def test_a_listing_stays_told_until_the_next(metrics: Metrics) -> None:
    teller = Teller(POLICY, metrics)
    listed = (
        examples.a_snapshot(),
        examples.a_snapshot(examples.snapshot_name(900), bad=True),
        examples.a_snapshot(examples.snapshot_name(950), committed=False),
    )
    read = Memory(head=examples.record(examples.A), snapshots=listed, snapshots_read_at=examples.NOW)
    teller.tell(replace(round_of(HEALTHY), memory=read))
    assert value(metrics, "snapshot_newest_revision") == 800
    assert value(metrics, "snapshot_newest_timestamp_seconds") == examples.NOW.timestamp() - 240
    assert [value(metrics, "snapshots", state=each) for each in ("sound", "bad", "unfinished")] == [1, 1, 1]
    assert value(metrics, "generation_cause", cause="first") == 1
    teller.tell(replace(round_of(HEALTHY), memory=replace(read, head=None)))
    assert value(metrics, "snapshots", state="sound") == 1
    empty = replace(read, snapshots=())
    teller.tell(replace(round_of(HEALTHY), memory=empty))
    assert value(metrics, "snapshot_newest_timestamp_seconds") == 0


def test_only_a_settled_voter_tells_whether_a_snapshot_holds_all(metrics: Metrics) -> None:
    """A member that is cut off hears of no writes, and a learner reads of no snapshot."""
    teller, name = Teller(POLICY, metrics), "snapshot_behind_since_timestamp_seconds"
    voter, learner = examples.a_healthy_three(), examples.a_learner()
    cut_off = voter.seeing(local=examples.status(examples.B, leader=None))
    teller.tell(replace(round_of(voter.o), memory=replace(voter.memory, behind_since=None)))
    assert value(metrics, name) == 0
    teller.tell(replace(round_of(voter.o), memory=replace(voter.memory, behind_since=NOW)))
    assert value(metrics, name) == NOW.timestamp()
    for example in (learner, cut_off):
        teller.tell(replace(round_of(example.o), memory=example.memory))
        assert math.isnan(value(metrics, name) or 0)


def test_what_ec2_announces_stays_told_until_it_is_asked_again(metrics: Metrics) -> None:
    teller = Teller(POLICY, metrics)
    told = replace(HEALTHY, spot=SpotNotice(SpotAction.STOP, HEALTHY.now), rebalance=HEALTHY.now)
    for o in (told, HEALTHY):
        teller.tell(round_of(o))
        assert value(metrics, "spot_interruption", action="stop") == 1
        assert value(metrics, "spot_interruption", action="terminate") == 0
        assert value(metrics, "rebalance_recommended") == 1
    teller.tell(round_of(replace(HEALTHY, spot=None, rebalance=None)))
    assert value(metrics, "spot_interruption", action="stop") == value(metrics, "rebalance_recommended") == 0


def test_a_drill_stays_told(metrics: Metrics) -> None:
    teller = Teller(POLICY, metrics)
    drill = DrillRecord(examples.snapshot_name(), ME.instance, DrillResult.FAILED, "differs", 2.5, age_seconds=60)
    for o in (replace(HEALTHY, last_drill=drill), HEALTHY):
        teller.tell(round_of(o))
    assert value(metrics, "drill_last_timestamp_seconds") == NOW.timestamp() - 60
    assert value(metrics, "drill_last_result", result="failed") == 1


def lost(*reports: Report) -> Round:
    example = examples.a_lost_three()
    o = example.o if not reports else replace(example.o, reports=examples.fresh(*reports))
    return replace(round_of(o), memory=example.memory)


def test_what_recovery_waits_for_is_a_line_when_it_changes(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    teller = Teller(POLICY, metrics)
    d, e = examples.nothing(examples.D), examples.nothing(examples.E)
    a = examples.holding(examples.A, examples.B, examples.C)
    quorum = examples.a_healthy_three()
    with caplog.at_level(logging.INFO):
        for played in (lost(a), lost(a), lost(a, d), lost(a, d, e), lost(a, d, e)):
            teller.tell(played)
        assert value(metrics, "recovery_proven_lost") == 1
        assert (value(metrics, "recovery_blockers"), value(metrics, "reports_fresh")) == (0, 3)
        teller.tell(replace(round_of(quorum.o), memory=quorum.memory))
        assert value(metrics, "recovery_proven_lost") == 0
        teller.tell(lost(a, d, e))
    said = [each.message for each in caplog.records if "recovery" in each.message or "lost" in each.message]
    proven = "the generation is proven lost"
    assert said == ["recovery waits", "recovery waits", proven, proven]


def test_the_status_names_what_recovery_waits_for(metrics: Metrics) -> None:
    teller = Teller(POLICY, metrics)
    a = examples.holding(examples.A, examples.B, examples.C)
    teller.tell(lost(a))
    recovery = teller.status()["recovery"]
    assert recovery["proven_lost"] is False
    assert [each["who"] for each in recovery["blockers"]] == [examples.D, examples.E]
    assert recovery["since"] is not None
    other = replace(lost().memory, head=examples.the_next())
    teller.tell(replace(round_of(replace(HEALTHY, work=Working(TakeSnapshot(FIRST), NOW, 7))), memory=other))
    assert "recovery" not in teller.status(), "another generation is another question"
    assert teller.status()["observation"]["work"]["state"] == "working"
    assert teller.status()["observation"]["work"]["task"] == "TakeSnapshot"


def test_what_was_found_stays_told_through_rounds_that_do_not_ask(metrics: Metrics) -> None:
    teller = Teller(POLICY, metrics)
    a = examples.holding(examples.A, examples.B, examples.C)
    teller.tell(lost(a))
    halfway = lost(a)
    teller.tell(replace(halfway, observation=replace(halfway.observation, fleet=NOT_ASKED)))
    assert value(metrics, "recovery_blockers") == 2
    assert len(teller.status()["recovery"]["blockers"]) == 2


def test_a_hold_is_a_line_at_its_beginning_and_one_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    registered = Metrics(version="0", rules=["rest"], blockers=["hold"])
    teller, gauge = Teller(POLICY, registered), "etcd_asg_agent_hold"
    held = round_of(replace(HEALTHY, hold=Hold("anna", "we move the volumes", NOW)))
    seen = []
    with caplog.at_level(logging.INFO):
        for played in (round_of(HEALTHY), held, held, round_of(replace(HEALTHY, hold=None))):
            teller.tell(played)
            seen.append(registered.registry.get_sample_value(gauge))
            assert "hold" in teller.status()
    assert [each.message for each in caplog.records if "h" in each.message and each.message != "all is well"] == [
        "held",
        "the hold is off",
    ]
    assert seen[0] != seen[0], "never told"
    assert seen[1:] == [1, 1, 0]


# ---- /readyz ---------------------------------------------------------------------------------------------------------


def ready(teller: Teller, example: examples.Example) -> bool:
    teller.tell(replace(round_of(example.o), memory=example.memory))
    return teller.ready()[0]


def test_a_voter_through_which_a_quorum_answered_is_ready(teller: Teller) -> None:
    assert ready(teller, examples.a_healthy_three(examples.B))
    assert not ready(teller, examples.a_learner())
    assert not ready(teller, examples.a_healthy_three(examples.B).seeing(membership=examples.TIMEOUT))
    assert not ready(teller, examples.a_stopped_member())


def test_a_quorum_that_answers_somebody_else_makes_nobody_ready(teller: Teller) -> None:
    """Its etcd is cut off from its peers, and its agent hears of the members through another one."""
    through_a = examples.a_healthy_three(examples.A).o.membership
    cut_off = examples.a_healthy_three(examples.B).seeing(
        local=examples.status(examples.B, leader=None), membership=through_a
    )
    assert not ready(teller, cut_off)


def test_who_leaves_is_not_ready_from_the_first_round(teller: Teller) -> None:
    leaving = examples.a_healthy_three(examples.B).seeing(lifecycle_target="Terminated")
    assert not ready(teller, leaving.remembering(leaving_since=NOW))


def test_an_etcd_that_should_not_run_is_a_line_once_for_each_version(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    teller = Teller(POLICY, metrics)
    with caplog.at_level(logging.INFO):
        for version in ("3.5.16", THROTTLED, "3.5.16", "3.4.23", "3.5.30"):
            teller.tell(round_of(replace(HEALTHY, etcd_version=version)))
            if version == "3.5.16":
                assert value(metrics, "etcd_version_advice", why="lost-promotions") == 1
    lines = [each for each in caplog.records if each.message == "another etcd should run"]
    assert [each.levelname for each in lines] == ["WARNING", "WARNING"]
    assert value(metrics, "etcd_version_advice", why="lost-promotions") == 0
    assert value(metrics, "etcd_version_advice", why="end-of-life") == 0
