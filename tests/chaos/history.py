"""What a chaos run leaves to be judged: every attempt to write or read, how it ended, and what is held in the end.

House rules: values only. Times are monotonic seconds of the one process that hosts all clients. Every write is one
transaction that puts its value to a register, which others overwrite, and to a ledger key of its own, which nobody
else ever writes: so each acknowledged write has a trace at the end, under the revision of its acknowledgement.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import TypeAlias


class Outcome(Enum):
    """How an attempt ended, as far as the client can know."""

    OK = "ok"
    FAILED = "failed"
    """Definitely without effect: nobody accepted the connection, or etcd refused by a rule."""
    UNKNOWN = "unknown"
    """It may have happened, or still happen."""


@dataclass(frozen=True)
class Write:
    """One attempt to write. `revision` and `lineage` (the cluster ID that answered) are 0 without acknowledgement."""

    client: str
    address: str
    register: str
    key: str
    """The ledger's key, written this once."""
    value: str
    """Unique among all writes."""
    began_s: float
    ended_s: float
    outcome: Outcome
    revision: int = 0
    lineage: int = 0


@dataclass(frozen=True)
class Read:
    """One attempt at a linearizable read of a register. What was read is only there if it is OK."""

    client: str
    address: str
    register: str
    began_s: float
    ended_s: float
    outcome: Outcome
    value: str = ""
    """Empty if the register was never written."""
    written_at: int = 0
    """The register's mod_revision; 0 if it was never written."""
    revision: int = 0
    """The store's revision when it was read."""
    lineage: int = 0


Attempt: TypeAlias = Write | Read


@dataclass(frozen=True)
class Held:
    """A value as a member holds it, and its mod_revision."""

    value: str
    revision: int


@dataclass(frozen=True)
class Holding:
    """Everything that one member holds below the ledger's prefix, after all clients have stopped."""

    member: str
    lineage: int
    ledger: Mapping[str, Held]
    hash_kv: int
    """etcd's own hash over its keys and values, at one revision for all members."""


@dataclass(frozen=True)
class History:
    """All of a run."""

    writes: tuple[Write, ...]
    reads: tuple[Read, ...]
    holdings: tuple[Holding, ...]

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every write and read, in the order in which they began."""
        both: list[Attempt] = [*self.writes, *self.reads]
        return tuple(sorted(both, key=lambda each: each.began_s))

    @property
    def acknowledged(self) -> tuple[Write, ...]:
        """In the order of their acknowledgements."""
        return tuple(sorted((each for each in self.writes if each.outcome is Outcome.OK), key=lambda w: w.ended_s))

    @property
    def answered(self) -> tuple[Attempt, ...]:
        """Every write and read that was OK, in the order of their answers."""
        return tuple(sorted((each for each in self.attempts if each.outcome is Outcome.OK), key=lambda a: a.ended_s))


def keep(history: History, path: Path) -> None:
    """Write the ledger down, an attempt a line, for whoever has to find out what went wrong."""
    path.write_text("".join(f"{line}\n" for line in _lines(history)))


def _lines(history: History) -> Iterator[str]:
    for each in history.attempts:
        yield json.dumps({"kind": type(each).__name__} | asdict(each) | {"outcome": each.outcome.value})
    for holding in history.holdings:
        yield json.dumps({"kind": "Holding"} | asdict(holding))
