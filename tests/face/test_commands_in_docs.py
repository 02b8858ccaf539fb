"""Each command in the docs is one that there is; each block of the operator's pages ran here, or says why not."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from agent.cli import main
from tests.pages import NOT_RUN, OPERATORS, ROOT, Block, all_blocks, blocks

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = ("AWS", "systemd")
"""What is not here: the real AWS, and an instance that systemd runs."""

AGENTS = [
    (block, command)
    for page in PAGES
    for block in blocks(page)
    for command in block.commands
    if re.match(r"(?:\S*/)?etcd-asg-agent (?!lab |--help)", command)
]


@pytest.mark.parametrize(("block", "command"), AGENTS, ids=lambda each: str(each).replace(" ", "_"))
def test_each_command_of_the_agent_is_parsed(block: Block, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As it is typed, but for settings that are nowhere: those are all that is wrong with it."""
    words = shlex.split(re.split(r"\s[|>]\s", command)[0])[1:]
    if words == ["config", "example"]:
        pytest.skip("it reads no settings")
    if "--config" in words:
        words = words[: words.index("--config")]
    assert main([*words, "--config", "/nowhere.toml"]) == 2, block
    said = capsys.readouterr()
    assert "/nowhere.toml" in said.out + said.err


@pytest.mark.parametrize("page", OPERATORS, ids=lambda page: page.name)
def test_what_did_not_run_says_why(page: Path) -> None:
    for block in blocks(page):
        assert block.commands, block
        if block.why_not:
            assert block.why_not.startswith(ELSEWHERE), block
        else:
            assert NOT_RUN not in block.script, f"{block}: the mark is a block's first line"


def test_most_of_them_ran() -> None:
    found = all_blocks()
    marked = [block for block in found if block.why_not]
    assert len(marked) * 3 < len(found), f"{len(marked)} of {len(found)} blocks did not run here"
