"""A mutant: the agent with one rule or effect of it made wrong on purpose, and what is expected to notice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

WALKS = ("tests/simulation/test_everything_at_once.py::test_after_a_random_walk_the_cluster_is_whole",)
"""Random walks through everything that can happen."""

MANY = 3
"""So many times the suite's seeds: 48 walks of each kind."""


def story(file: str, *tests: str) -> tuple[str, ...]:
    """Of the simulation; all of the file's where none is named."""
    path = f"tests/simulation/test_{file}.py"
    return tuple(f"{path}::test_{each}" for each in tests) or (path,)


class MovedOn(Exception):
    """The code moved on: what a mutant replaces is not there exactly once. Write the mutant anew."""


@dataclass(frozen=True, slots=True)
class Change:
    """A text of one file, which must be there exactly once, and what replaces it."""

    file: str  # below agent/
    old: str
    new: str

    def made_in(self, text: str) -> str:
        """Raises MovedOn."""
        if text.count(self.old) != 1:
            found = f"agent/{self.file} has {text.count(self.old)} times what is to be replaced"
            raise MovedOn(f"the code moved on: {found}:\n{self.old}")
        changed = text.replace(self.old, self.new)
        compile(changed, self.file, "exec")
        return changed


@dataclass(frozen=True, slots=True)
class Mutant:
    """`tried_by` are pytest's names of tests, in the order in which they are tried until one of them breaks.

    Where the objections (the second look) would catch what a rule has lost, a mutant changes both: that is said in
    `why`, by "and its objection".
    """

    name: str
    why: str  # whom it would hurt, in a line
    breaks: str  # a part of what the broken check says, or of the test's name
    tried_by: tuple[str, ...]
    changes: tuple[Change, ...]
    times: int = 1  # how many times as many seeds as the suite has

    def made_of(self, agent: Path) -> dict[Path, str]:
        """What the agent's files become that it changes. Raises MovedOn."""
        texts: dict[Path, str] = {}
        for change in self.changes:
            path = agent / change.file
            texts[path] = change.made_in(texts[path] if path in texts else path.read_text())
        return texts
