"""The shell commands in the docs' pages, block by block, and which of them ran here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPERATORS = [ROOT / "docs" / name for name in ("operate.md", "recovery.md", "security.md")]
"""The pages whose every block of commands runs here, or says why it cannot."""

NOT_RUN = "# not run here: "
SYSTEMD = "# with systemd"


@dataclass(frozen=True, slots=True)
class Block:
    """One block of shell commands, as it stands in a page."""

    page: str
    line: int
    script: str

    @property
    def why_not(self) -> str:
        """Why it could not be run here; empty: it was."""
        first = self.script.partition("\n")[0]
        return first.removeprefix(NOT_RUN) if first.startswith(NOT_RUN) else ""

    @property
    def with_systemd(self) -> bool:
        """Whether it is run on a booted machine, by `make delivery`."""
        return self.script.partition("\n")[0] == SYSTEMD

    @property
    def commands(self) -> list[str]:
        """Each command in one line, without its comment."""
        joined = self.script.replace("\\\n", " ")
        lines = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in joined.splitlines())
        return [line for line in lines if line]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def all_blocks() -> list[Block]:
    """Of the operators' pages."""
    return [block for page in OPERATORS for block in blocks(page)]


def blocks(page: Path) -> list[Block]:
    """Every block of a page, in its order."""
    text = page.read_text(encoding="utf-8")
    return [Block(page.name, text.count("\n", 0, found.start()) + 1, found[1]) for found in BLOCK.finditer(text)]
