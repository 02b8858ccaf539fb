"""What a case is: a fault script as a value, with what it may cost and whether a new generation may appear.

A case's function does harm and mends what it broke around the cluster; the runner waits until the cluster is whole
again, and the checker judges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tests.chaos.checker import Loss
from tests.chaos.scene import Scene


class Next(Enum):
    """Whether a new generation may appear."""

    NEVER = "no"
    MUST = "yes"
    MAY = "may"


class Tls(Enum):
    """Whether members, agents and clients speak mutual TLS, and whose certificates these are."""

    OFF = "off"
    FILES = "files"
    """An operator's: `scene.certificates`."""
    CA = "ca"
    """The agents' own; a client has what `tls issue` gave it."""


@dataclass(frozen=True)
class Case:
    """One fault script, and what it allows."""

    name: str
    what: str
    do: Callable[[Scene], None]
    loss: Loss = Loss.NOTHING
    generation: Next = Next.NEVER
    within_s: float = 60.0
    """From the end of the script to a whole cluster that serves everywhere."""
    size: int = 3
    """Instances at the start."""
    hook_s: int = 0
    """Heartbeat timeout of launching and terminating hooks on the group; 0: it has none."""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Laid over the quick ones."""
    tls: Tls = Tls.OFF


def with_one_disk(name: str, what: str, do: Callable[[Scene], None], **more: Any) -> Case:
    """A quorum's disks are lost for good, and one is left: the next generation is made of that."""
    return Case(name, what, do, Loss.BEST_DISK, Next.MUST, **more)


def without_disks(name: str, what: str, do: Callable[[Scene], None], **more: Any) -> Case:
    """Every disk is lost: the next generation is made of the newest snapshot."""
    return Case(name, what, do, Loss.SNAPSHOT, Next.MUST, **more)
