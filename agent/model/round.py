"""One round of the loop as a value: what it saw, decided and did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from agent.model.actions import Decision, Result
from agent.model.memory import Memory
from agent.model.observation import Observation


@dataclass(frozen=True, slots=True)
class Round:
    """`decided` is what the rules asked for, `decision` what was carried out: the same, or a veto's wait."""

    observation: Observation
    decided: Decision
    objections: tuple[str, ...]
    decision: Decision
    result: Result
    memory: Memory
    took: timedelta  # from the first read to the end of the effect
    pause: timedelta  # how long to rest before the next round
