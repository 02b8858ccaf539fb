"""A unit as systemd would load it: its file, then its drop-ins. Pure; as much of systemd.syntax(7) as is needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.model.known import Unknown


@dataclass(frozen=True, slots=True)
class Unit:
    """`text` is the file with its drop-ins behind it, in systemd's order."""

    path: Path
    text: str
    wanted: bool = False
    """Enabled: some target wants it."""
    masked: bool = False
    complaints: tuple[str, ...] | Unknown = ()
    """What `systemd-analyze verify` says of it."""


def values(unit: Unit, key: str) -> list[str]:
    """Every value that is assigned to this key, in order; an empty assignment forgets those before it."""
    found: list[str] = []
    for line in unit.text.replace("\\\n", " ").splitlines():
        name, equals, value = line.partition("=")
        if not equals or name.strip() != key or line.lstrip().startswith(("#", ";")):
            continue
        found = [*found, value.strip()] if value.strip() else []
    return found
