"""docs/recovery.md says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.cli import main
from agent.settings import DECLARED, markdown_table
from agent.telemetry.metrics import Metrics
from tests.sayings import FILLED_IN, what_blocks_a_recovery

DECIDE = Path(__file__).resolve().parents[2] / "agent" / "decide"
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "recovery.md").read_text(encoding="utf-8")


def test_the_settings_are_those_there_are() -> None:
    rows = [row for row in markdown_table().splitlines() if row.startswith("| `snapshots.")]
    assert rows
    assert "\n".join(rows) in PAGE, "paste what agent.settings.markdown_table() says"
    sections = {key.partition(".")[0] for key in DECLARED}
    named = [word for word in re.findall(r"`([a-z]+\.[a-z_]+)`", PAGE) if word.partition(".")[0] in sections]
    assert set(named) <= set(DECLARED)


def test_the_metrics_exist() -> None:
    exposed = Metrics(version="0", rules=[], blockers=[]).exposition()[0].decode()
    there = {sample.name for family in text_string_to_metric_families(exposed) for sample in family.samples}
    named = set(re.findall(r"etcd_asg_agent_[a-z_]+[a-z]", PAGE))
    assert named
    assert named <= there, named - there


@pytest.mark.parametrize("verb", ["list", "take", "verify --all", "prune --dry-run", "drill"])
def test_the_snapshot_commands_are_parsed(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"etcd-asg-agent snapshot {verb}" in PAGE
    assert main(["snapshot", *verb.split(), "--config", "/nowhere.toml"]) == 2, "only the settings are wrong"
    assert "/nowhere.toml" in capsys.readouterr().err


@pytest.mark.parametrize("words", re.findall(r"^etcd-asg-agent (recover.*)$", PAGE, re.MULTILINE))
def test_the_recover_commands_are_parsed(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [part.strip('"') for part in re.findall(r'"[^"]*"|\S+', words)]
    assert main([*parts, "--config", "/nowhere.toml"]) == 2
    assert "/nowhere.toml" in capsys.readouterr().err


PROOFS_OF_AN_END = ("EC2 did not know it in ", "EC2 says terminated", "its Auto Scaling group terminated it")
"""What counts for the loss, and not against it."""


def test_whoever_stands_in_the_way_of_a_recovery_has_a_line() -> None:
    """By the longest piece of the sentence that is the same every time."""
    blocking = [each for each in what_blocks_a_recovery() if not each.startswith(PROOFS_OF_AN_END)]
    pieces = {max(each.split(FILLED_IN), key=len).strip() for each in blocking}
    assert len(pieces) > 10
    assert not {piece for piece in pieces if piece not in PAGE}


@pytest.mark.parametrize(
    "phrase",
    [
        "is lost, and there is nothing to restore it from",
        "the others restore with bumped revisions, which the restore tool here cannot do",
        "there are snapshots in the bucket, but no generation that made them",
        "does not prove that it ended",
    ],
)
def test_what_the_page_quotes_is_said_by_the_code(phrase: str) -> None:
    assert phrase in PAGE
    code = "".join(path.read_text(encoding="utf-8") for path in DECIDE.glob("*.py"))
    assert phrase in code
