"""Writes the table of rules into docs/how-it-decides.md: `python -m tests.render_docs`.

The table in the code is the only source; tests/decide/test_table.py fails where the page differs from it.
"""

from __future__ import annotations

import inspect
from pathlib import Path

from agent.decide import RULES

PAGE = Path(__file__).parent.parent / "docs" / "how-it-decides.md"
BEGIN, END = "<!-- rules: written by python -m tests.render_docs -->", "<!-- end of rules -->"


def table() -> str:
    """The rules in their order: name, room, and what the rule says of itself."""
    lines = ["| | rule | room | when it speaks |", "|--:|---|---|---|"]
    for place, rule in enumerate(RULES, start=1):
        doc = inspect.getdoc(rule.judge) or ""
        room = rule.judge.__module__.removeprefix("agent.decide.")
        lines.append(f"| {place} | `{rule.name}` | {room} | {doc.splitlines()[0] if doc else ''} |")
    return "\n".join(lines)


def rendered(page: str) -> str:
    """The page with the table of today between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
