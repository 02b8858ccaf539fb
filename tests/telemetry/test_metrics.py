"""Metric names as promtool wants them, and one method for each thing that happens."""

import math
import re
from collections.abc import Iterator

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from agent.decide import RULES
from agent.model.actions import Blocker
from agent.telemetry.metrics import MEMBER_STATES, SNAPSHOT_STATES, TASKS, Metrics, Newest

NOT_BASE_UNITS = ("milliseconds", "ms", "minutes", "hours", "kilobytes", "megabytes", "percent")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(version="1.2.3", rules=["restart", "rest"], blockers=["quorum", "sync"])


def ours(metrics: Metrics) -> Iterator[Metric]:
    families = text_string_to_metric_families(metrics.exposition()[0].decode())
    return (family for family in families if not family.name.startswith("process_"))


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"etcd_asg_agent_{name}", labels)


def everything_happens(metrics: Metrics) -> None:
    metrics.identity(cluster="prod", instance="i-0a")
    metrics.decided("rest")
    metrics.vetoed()
    metrics.acted("remove-member", "done")
    metrics.unknown_read("fleet", "throttled")
    metrics.aws_call("ec2", "DescribeInstances", "ok", 0.1)
    metrics.etcd_call("Status", "timeout", 2.0)
    metrics.looped(0.2, 1_700_000_000.0)


def test_names_and_helps_follow_prometheus(metrics: Metrics) -> None:
    everything_happens(metrics)
    families = list(ours(metrics))
    for family in families:
        # The parser takes `_total` off a counter's name; that it was there is checked on the samples below.
        assert re.fullmatch(r"etcd_asg_agent_[a-z][a-z0-9_]*[a-z]", family.name), family.name
        assert family.documentation.endswith("."), family.name
        assert len(family.documentation) > 15, family.name
        words = family.name.split("_")
        assert not set(words) & set(NOT_BASE_UNITS), family.name
        assert not {"gauge", "counter", "histogram", "summary"} & set(words), "the type is no part of the name"
        samples = {sample.name for sample in family.samples}
        if family.type == "counter":
            assert all(name.endswith("_total") for name in samples), family.name
        else:
            assert not any(name.endswith("_total") for name in samples), family.name
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
            assert any("+Inf" in sample.labels.get("le", "") for sample in family.samples)
        for sample in family.samples:
            assert all(re.fullmatch(r"[a-z_]+", label) for label in sample.labels)
    assert len({family.name for family in families}) == len(families), "no name twice"
    assert len({family.documentation for family in families}) == len(families), "no help twice"


def test_the_promised_metrics_are_there(metrics: Metrics) -> None:
    everything_happens(metrics)
    names = {family.name.removeprefix("etcd_asg_agent_") for family in ours(metrics)}
    assert names >= {
        *("build_info", "identity_info", "generation", "member", "learner", "has_leader", "quorum_margin", "members"),
        *("decisions", "decision", "blocked", "unknown_reads", "needs_human", "aws_requests", "aws_request_seconds"),
        *("etcd_requests", "etcd_request_seconds", "actions", "vetoes", "loop_seconds"),
        "last_successful_loop_timestamp_seconds",
    }


def test_series_are_there_before_anything_happens(metrics: Metrics) -> None:
    assert value(metrics, "decisions_total", rule="rest") == 0
    assert value(metrics, "blocked", reason="sync") == 0
    assert value(metrics, "vetoes_total") == 0
    assert value(metrics, "needs_human") == 0


def test_unknown_is_not_zero(metrics: Metrics) -> None:
    metrics.observed(generation=3, has_leader=True)
    assert value(metrics, "generation") == 3
    assert value(metrics, "has_leader") == 1
    for name in ("member", "learner", "leader", "quorum_margin"):
        assert math.isnan(value(metrics, name) or 0), name
    assert math.isnan(value(metrics, "members", state="voter") or 0)


def test_members_by_state(metrics: Metrics) -> None:
    metrics.observed(members={"voter": 3, "learner": 1})
    assert [value(metrics, "members", state=state) for state in MEMBER_STATES] == [3, 1, 0, 0]


def test_one_decision_and_one_blocker_at_a_time(metrics: Metrics) -> None:
    metrics.decided("restart", blocked="quorum", needs_human="disk-full")
    assert value(metrics, "blocked", reason="quorum") == 1
    assert value(metrics, "needs_human") == 1
    assert value(metrics, "needs_human_reason", reason="disk-full") == 1
    metrics.decided("rest")
    assert value(metrics, "decision", rule="restart") == 0
    assert value(metrics, "decision", rule="rest") == 1
    assert value(metrics, "blocked", reason="quorum") == 0
    assert value(metrics, "needs_human") == 0
    assert value(metrics, "needs_human_reason", reason="disk-full") == 0
    assert value(metrics, "decisions_total", rule="restart") == 1


def test_labels_stay_bounded(metrics: Metrics) -> None:
    for number in range(100):
        metrics.decided(f"rule-{number}", blocked=f"reason-{number}")
    assert value(metrics, "decisions_total", rule="other") == 100
    assert value(metrics, "blocked", reason="other") == 1
    metrics.decided("rest")
    assert value(metrics, "decision", rule="other") == 0
    assert value(metrics, "blocked", reason="other") == 0


def test_identity_has_one_series(metrics: Metrics) -> None:
    metrics.identity(cluster="prod", instance="i-0a")
    metrics.identity(cluster="prod", instance="i-0a", zone="eu-west-1a", member_id="8e9e05c52164694d")
    (family,) = (family for family in ours(metrics) if family.name.endswith("identity_info"))
    assert len(family.samples) == 1


def test_calls_are_counted_and_timed(metrics: Metrics) -> None:
    metrics.aws_call("s3", "GetObject", "ok", 0.03)
    metrics.aws_call("s3", "GetObject", "throttled", 0.01)
    assert value(metrics, "aws_requests_total", service="s3", operation="GetObject", result="throttled") == 1
    assert value(metrics, "aws_request_seconds_count", service="s3", operation="GetObject") == 2
    metrics.etcd_call("Status", "ok", 0.002)
    assert value(metrics, "etcd_requests_total", method="Status", result="ok") == 1


def test_two_agents_in_one_process_do_not_mix(metrics: Metrics) -> None:
    other = Metrics(version="1", rules=[], blockers=[])
    metrics.vetoed()
    assert value(other, "vetoes_total") == 0


def test_the_rules_and_blockers_we_have_are_fit_to_be_labels() -> None:
    names = [rule.name for rule in RULES]
    real = Metrics(version="1", rules=names, blockers=[blocker.value for blocker in Blocker])
    real.decided(names[0], blocked=Blocker.QUORUM)
    assert value(real, "blocked", reason="quorum") == 1


# ---- snapshots, tasks, recovery --------------------------------------------------------------------------------------


def test_what_nobody_has_read_is_unknown_and_what_cannot_have_happened_is_zero(metrics: Metrics) -> None:
    for name in (
        *("snapshot_newest_timestamp_seconds", "snapshot_newest_revision", "snapshot_newest_stored_bytes"),
        "snapshot_behind_since_timestamp_seconds",
        *("drill_last_timestamp_seconds", "drill_last_duration_seconds"),
        *("recovery_proven_lost", "recovery_blockers", "reports_fresh"),
    ):
        assert math.isnan(value(metrics, name) or 0), name
    assert math.isnan(value(metrics, "snapshots", state="sound") or 0)
    assert math.isnan(value(metrics, "drill_last_result", result="passed") or 0)
    assert math.isnan(value(metrics, "generation_cause", cause="first") or 0)
    assert [value(metrics, "task", task=each) for each in TASKS] == [0] * len(TASKS)
    assert value(metrics, "tasks_total", task="Drill", outcome="done") == 0


def test_the_newest_snapshot_and_how_many_there_are(metrics: Metrics) -> None:
    metrics.listed(newest=Newest(1_700_000_000.0, 812, 10_000), states={"sound": 3, "bad": 1})
    assert value(metrics, "snapshot_newest_timestamp_seconds") == 1_700_000_000
    assert value(metrics, "snapshot_newest_revision") == 812
    assert [value(metrics, "snapshots", state=each) for each in SNAPSHOT_STATES] == [3, 1, 0]
    metrics.listed(newest=Newest(), states={})
    assert value(metrics, "snapshot_newest_timestamp_seconds") == 0, "known to be none: an alert on its age holds"


def test_since_when_there_is_more_than_in_a_snapshot(metrics: Metrics) -> None:
    for since in (1_700_000_000.0, 0.0):
        metrics.behind(since)
        assert value(metrics, "snapshot_behind_since_timestamp_seconds") == since


def test_one_task_at_a_time_and_every_end_of_one(metrics: Metrics) -> None:
    metrics.working("Drill", 5)
    assert (value(metrics, "task", task="Drill"), value(metrics, "task_done_bytes")) == (1, 5)
    metrics.working(None)
    assert (value(metrics, "task", task="Drill"), value(metrics, "task_done_bytes")) == (0, 0)
    metrics.task_ended("Drill", "refused")
    metrics.task_ended("Surprise", "maybe")
    assert value(metrics, "tasks_total", task="Drill", outcome="refused") == 1
    assert value(metrics, "tasks_total", task="other", outcome="other") == 1


def test_recovery_drills_and_causes_have_bounded_labels(metrics: Metrics) -> None:
    metrics.recovering(proven_lost=True, blockers=0, reports=2)
    metrics.drilled(at=1.0, seconds=2.0, result="failed")
    metrics.caused_by("quorum-lost")
    assert value(metrics, "recovery_proven_lost") == 1
    assert value(metrics, "reports_fresh") == 2
    assert [value(metrics, "drill_last_result", result=each) for each in ("passed", "failed")] == [0, 1]
    assert [value(metrics, "generation_cause", cause=each) for each in ("first", "quorum-lost")] == [0, 1]
    metrics.caused_by("a cause of a later version")
    assert value(metrics, "generation_cause", cause="other") == 1
