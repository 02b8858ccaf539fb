"""Unknown is not absent: the value that a failed read leaves behind, and why it failed.

House rule: a read that failed is an `Unknown`, never an empty list, None or False. Fields that may be
unknown are typed `T | Unknown`, so the type checker makes every reader say what ignorance means there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn


class Ignorance(StrEnum):
    """Why a read gave no fact. Bounded, because it is a metric label."""

    NOT_ASKED = "not-asked"  # nobody needed the answer in this round
    TIMEOUT = "timeout"  # the deadline passed without an answer
    UNREACHABLE = "unreachable"  # refused, reset, no route, no name
    THROTTLED = "throttled"  # the other side asked us to slow down
    FAILED = "failed"  # the other side answered that it failed (5xx, no leader)
    DENIED = "denied"  # we are not allowed to ask
    OURS = "ours"  # our own certificate, credentials or configuration is at fault
    MALFORMED = "malformed"  # an answer came, and it makes no sense


@dataclass(frozen=True, slots=True)
class Unknown:
    """No fact: `why` for machines, `detail` for people."""

    why: Ignorance
    detail: str = ""

    def __bool__(self) -> NoReturn:
        message = "an Unknown is neither true nor false: ask isinstance(value, Unknown)"
        raise TypeError(message)

    def __str__(self) -> str:
        return f"unknown ({self.why}{': ' + self.detail if self.detail else ''})"


NOT_ASKED = Unknown(Ignorance.NOT_ASKED)
