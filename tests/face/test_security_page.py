"""docs/security.md names statements, settings, ports and reasons that there are, and forgets no statement."""

from __future__ import annotations

import re

from agent.model.actions import Reason
from agent.settings import DECLARED
from agent.world.permissions import NEEDS
from tests.pages import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
MODULE = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "terraform-example").rglob("*.tf"))


def test_each_statement_of_the_role_is_judged_and_none_is_invented() -> None:
    ours = {need.sid for need in NEEDS}
    buckets = set(re.findall(r'sid += "(\w+)"', MODULE))
    named = {each for each in re.findall(r"`([A-Z][A-Za-z]+)`", PAGE) if not each.startswith("Etcd")} - {"Terminated"}
    assert ours <= named, f"say what {ours - named} lets a thief do"
    assert named <= ours | buckets, named - ours - buckets


def test_the_settings_are_there() -> None:
    sections = {key.partition(".")[0] for key in DECLARED}
    named = {word for word in re.findall(r"`([a-z]+\.[a-z_]+)", PAGE) if word.partition(".")[0] in sections}
    assert named
    assert named <= set(DECLARED) | {"etcd.service", "etcd.env"}, named - set(DECLARED)


def test_the_reasons_and_alerts_are_there() -> None:
    rules = (ROOT / "docs" / "alerts.yaml").read_text(encoding="utf-8")
    for alert in re.findall(r"`(Etcd\w+)`", PAGE):
        assert f"alert: {alert}\n" in rules
    quoted = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", PAGE))
    assert {each.value for each in Reason} >= {
        each for each in quoted if not (ROOT / each).exists() and each != "reset-failed"
    }


def test_what_it_says_of_the_module_stands_in_it() -> None:
    for phrase in ("client_cidr_blocks", "metrics_cidr_blocks", "http_put_response_hop_limit = 1"):
        assert phrase in MODULE
    assert re.search(r'http_tokens += "required"', MODULE)
    for port in ("2379", "2380", "2381", "9379"):
        assert f"| {port}," in PAGE
        assert port in MODULE


def test_polkit_allows_what_it_says() -> None:
    rule = (ROOT / "systemd" / "etcd-asg-agent.rules").read_text(encoding="utf-8")
    assert '["start", "stop", "reset-failed"]' in rule
    assert 'action.lookup("unit") == "etcd.service"' in rule
