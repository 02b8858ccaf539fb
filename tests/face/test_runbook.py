"""docs/operate.md has an entry for whatever the agent says where it calls a human, waits, cannot tell or warns."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.model.actions import Blocker, Reason
from agent.model.known import Ignorance
from tests import sayings
from tests.render_runbook import PAGE, entries, rendered, said

ROOT = Path(__file__).resolve().parents[2]
TEXT = PAGE.read_text(encoding="utf-8")
ENTRIES = entries(TEXT)


def test_the_page_quotes_what_the_code_says() -> None:
    assert rendered(TEXT) == TEXT, "run `python -m tests.render_runbook`"


@pytest.mark.parametrize("reason", list(Reason), ids=str)
def test_every_call_for_a_human_has_an_entry_that_says_what_to_do(reason: Reason) -> None:
    entry = ENTRIES[reason.value]
    for part in ("**Means**", "ook**", "**Do**", "**Never**"):
        assert part in entry or "**do**" in entry, part
    assert said()[reason.value], "and somebody says it"


@pytest.mark.parametrize("saying", [*sayings.calls(), *sayings.unsound_buckets()], ids=lambda saying: saying.about)
def test_a_hint_that_is_pasted_is_found_in_its_entry(saying: sayings.Saying) -> None:
    """The longest piece of it that is the same every time."""
    assert saying.about in Reason.__members__, "each call names its reason where it is made"
    entry = ENTRIES[Reason[saying.about].value]
    for text in (saying.hint, saying.because):
        assert max(text.split(sayings.FILLED_IN), key=len).strip() in entry


@pytest.mark.parametrize("blocker", list(Blocker), ids=str)
def test_every_wait_has_an_entry(blocker: Blocker) -> None:
    entry = ENTRIES[f"waiting-{blocker}"]
    if said()[f"waiting-{blocker}"] or blocker is Blocker.VETO:
        for part in ("**Means**", "**Lasts**", "**Do**"):
            assert part in entry, part


@pytest.mark.parametrize("why", [each for each in Ignorance if each is not Ignorance.NOT_ASKED], ids=str)
def test_every_kind_of_ignorance_has_an_entry(why: Ignorance) -> None:
    assert "**Do**" in ENTRIES[f"unknown-{why}"]


def test_every_warning_and_error_of_the_log_is_explained() -> None:
    table = TEXT.partition("## Warnings and errors in the log")[2]
    explained = set(re.findall(r"^\| `([^`]+)`", table, re.MULTILINE))
    missing = sayings.log_messages() - explained
    assert not missing


def test_every_line_in_which_a_command_gives_up_is_explained() -> None:
    """By the longest piece of it that is the same every time."""
    table = TEXT.partition("## What commands say where they give up")[2]
    pieces = {max(each.split(sayings.FILLED_IN), key=len).strip(" (:") for each in sayings.one_line_errors()}
    assert len(pieces) > 15
    assert not {piece for piece in pieces if piece.partition(" `")[0] not in table}


def test_no_entry_is_about_nothing() -> None:
    known = (
        {each.value for each in Reason}
        | {f"waiting-{each}" for each in Blocker}
        | {f"unknown-{each}" for each in Ignorance}
    )
    lower = {each for each in ENTRIES if each == each.lower()}
    assert lower <= known, lower - known


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_every_link_within_the_docs_leads_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text(encoding="utf-8")):
        file = (page.parent / target) if target else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors_of(file), f"{target}#{anchor}"


def anchors_of(page: Path) -> set[str]:
    """As GitHub makes them: small letters, no punctuation but hyphens, spaces become hyphens."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
