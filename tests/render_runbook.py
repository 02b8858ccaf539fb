"""Writes into docs/operate.md what the agent says in each case: `python -m tests.render_runbook`.

Below a heading that names a `Reason` or a `Blocker` the first block of text is this one's; tests/face/test_runbook.py
fails where it differs from the source (`tests.sayings`), or where a name has no heading.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from agent.model.actions import Blocker, Reason
from tests import sayings
from tests.sayings import FILLED_IN, Saying

PAGE = Path(__file__).parent.parent / "docs" / "operate.md"
HEADING = re.compile(r"^### (\S+)\n", re.MULTILINE)
BLOCK = re.compile(r"^```text\n.*?^```$", re.MULTILINE | re.DOTALL)

Said = dict[str, list[Saying]]


@cache
def said() -> Said:
    """What is said under each heading."""
    found: Said = {name: [] for name in (*Reason, *(f"waiting-{each}" for each in Blocker))}
    for call in (*sayings.calls(), *sayings.unsound_buckets(), *sayings.obstacles()):
        found[Reason[call.about].value].append(call)
    for wait in sayings.waits():
        found[f"waiting-{Blocker[wait.about].value}"].append(wait)
    return found


def block(spoken: Iterable[Saying]) -> str:
    """The sentences, each once, and behind them the hints."""
    sentences = dict.fromkeys(each.because for each in spoken if _tells(each.because))
    hints = dict.fromkeys(each.hint for each in spoken if _tells(each.hint))
    return "\n".join(["```text", *sentences, *(f"hint: {each}" for each in hints), "```"])


def _tells(text: str) -> bool:
    """More than what is filled in."""
    return any(character.isalpha() for character in text.replace(FILLED_IN, ""))


def entries(page: str) -> dict[str, str]:
    """Each heading of the third level and what stands below it."""
    parts = HEADING.split(page)
    below = (re.split(r"^## ", text, maxsplit=1, flags=re.MULTILINE)[0] for text in parts[2::2])
    return dict(zip(parts[1::2], below, strict=True))


def rendered(page: str) -> str:
    """The page with the sentences of today."""
    spoken = said()
    parts = HEADING.split(page)
    for place in range(1, len(parts), 2):
        name = parts[place]
        parts[place] = f"### {name}\n"
        if spoken.get(name):
            text = block(spoken[name])
            parts[place + 1] = BLOCK.sub(lambda _: text, parts[place + 1], count=1)  # noqa: B023 - used at once
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
