"""docs/alerts.yaml: only metrics and labels that there are, an entry for each alert, and CloudWatch says the same."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families

from agent.model.actions import Blocker, Reason
from agent.model.known import Ignorance
from agent.telemetry.metrics import Metrics
from tests.render_runbook import PAGE, entries

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "docs" / "alerts.yaml"
ALARMS = ROOT / "terraform-example" / "modules" / "etcd-cluster" / "alarms.tf"
RULES: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"][0]["rules"]
HEADINGS = {heading.lower() for heading in entries(PAGE.read_text(encoding="utf-8"))}

LABEL = r"\{\{ \$labels\.(\w+) \}\}"

every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])


def exposed() -> dict[str, dict[str, set[str]]]:
    """Each sample's name, its labels and their values; of what has no series before its first event, one of each."""
    metrics = Metrics(version="0", rules=[], blockers=[each.value for each in Blocker])
    for why in Ignorance:
        metrics.unknown_read("s3", why.value)
        metrics.aws_call("s3", "GetObject", why.value, 0.1)
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(metrics.exposition()[0].decode()):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


@every_rule
def test_only_metrics_and_labels_that_there_are(rule: dict[str, Any]) -> None:
    there, expression = exposed(), str(rule["expr"])
    named = re.findall(r"(etcd_asg_agent_\w+)(?:\{([^}]*)\})?", expression)
    assert named
    for name, matchers in named:
        assert name in there
        for label, operator, wanted in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', matchers):
            values = wanted.split("|") if "~" in operator else [wanted]
            assert set(values) <= there[name][label], (name, label, values)


@every_rule
def test_each_is_complete(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"].endswith(".")
    assert re.fullmatch(r"(?:\d+[smh])?", rule.get("for", ""))


@every_rule
def test_each_leads_to_an_entry_of_the_runbook(rule: dict[str, Any]) -> None:
    assert rule["alert"].lower() in HEADINGS, "an entry under its own name"
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert page == "docs/operate.md"
    for each in anchors(anchor, str(rule["expr"])):
        assert each in HEADINGS, each


def anchors(template: str, expression: str) -> list[str]:
    """What Prometheus makes of it, for each value that its label may have."""
    why = [each.value for each in Ignorance if each is not Ignorance.NOT_ASKED]
    reasons = [each.value for each in (Blocker if "blocked" in expression else Reason)]
    values = {"reason": reasons, "ignorance": why, "result": ["denied", "ours"]}
    labels = re.findall(LABEL, template)
    chosen = product(*(values[each] for each in labels))
    return [re.sub(LABEL, "{}", template).format(*each) for each in chosen]


def test_every_alert_of_the_runbook_is_there() -> None:
    described = {each for each in entries(PAGE.read_text(encoding="utf-8")) if each.startswith("Etcd")}
    assert described == {rule["alert"] for rule in RULES}
    assert len(described) == len(RULES), "no name twice"


def test_whatever_an_agent_may_wait_for_has_an_alert() -> None:
    """Once it has lasted. A hold has one of its own, on its own metric."""
    waited = re.findall(r'etcd_asg_agent_blocked\{reason=~?"([^"]*)"\}', ALERTS.read_text(encoding="utf-8"))
    named = [reason for each in waited for reason in each.split("|")]
    assert sorted(named) == sorted(each.value for each in Blocker if each is not Blocker.HOLD)


def test_cloudwatch_says_the_same_after_the_same_time() -> None:
    alarms = re.findall(
        r"^    ([a-z-]+) = \{\n(.*?)^    \}", ALARMS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    minutes = {name: int(re.findall(r"minutes += (\d+)", body)[0]) for name, body in alarms}
    entry = {name: re.findall(r"docs/operate\.md#[a-z-]+", body) for name, body in alarms}
    ours = {each["annotations"]["cloudwatch"]: each for each in RULES if "cloudwatch" in each["annotations"]}
    assert set(ours) == set(minutes)
    for name, rule in ours.items():
        assert rule["for"] == f"{minutes[name]}m"
        assert entry[name] == [f"docs/operate.md#{rule['alert'].lower()}"]


def promtool() -> str | None:
    return shutil.which("promtool") or shutil.which(str(ROOT / ".cache" / "promtool" / "usr" / "bin" / "promtool"))


@pytest.mark.skipif(promtool() is None, reason="no promtool (Debian's package prometheus)")
@pytest.mark.parametrize(
    "words", [("check", "rules", "docs/alerts.yaml"), ("test", "rules", "tests/face/alerts.promtool.yaml")]
)
def test_prometheus_takes_them(words: tuple[str, ...]) -> None:
    done = subprocess.run([promtool() or "", *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
