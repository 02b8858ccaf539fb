"""A benchmark's rows as a table for the terminal and a section of docs/benchmarks.md."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Table:
    """A title, what was done in a sentence or two, and rows under a heading each."""

    title: str
    how: str
    command: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        """For the terminal."""
        rows = [self.columns, *self.rows]
        widths = [max(len(row[column]) for row in rows) for column in range(len(self.columns))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([self.title, *lines])

    def markdown(self, where: str) -> str:
        """For the document."""
        lines = [f"## {self.title}", "", self.how, "", f"    {self.command}", ""]
        lines += [f"| {' | '.join(row)} |" for row in (self.columns, ("---",) * len(self.columns), *self.rows)]
        return "\n".join([*lines, "", f"({where})", ""])


def spread(values: Sequence[float], unit: str = "s", digits: int = 2) -> str:
    """`median [least-most] unit` of what was measured."""
    median, least, most = statistics.median(values), min(values), max(values)
    return f"{median:.{digits}f} [{least:.{digits}f}-{most:.{digits}f}] {unit}"


def write_section(document: Path, name: str, table: Table, where: str) -> None:
    """Replace this benchmark's section between its marks, or add it at the end."""
    begin, end = f"<!-- {name}: made by make bench -->", f"<!-- {name}: end -->"
    section = f"{begin}\n{table.markdown(where)}{end}"
    text = document.read_text() if document.exists() else "# Benchmarks\n"
    found = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    text = found.sub(lambda _: section, text) if found.search(text) else f"{text.rstrip()}\n\n{section}\n"
    document.write_text(text)
