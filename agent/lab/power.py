"""EC2 states walked at a pace: moto jumps to where it will end, we show the way there.

House rule: the walk never calls moto. It compares what moto says with what it last wrote there; a difference is news.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent.lab.spec import Pace

CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
ON_THE_WAY = {"running": "pending", "terminated": "shutting-down", "stopped": "stopping"}


@dataclass
class _Walk:
    written: str
    goal: str
    due: float


class StateWalk:
    """What EC2 shows of every instance, and until when. The caller holds the cloud's lock."""

    def __init__(self) -> None:
        self._walks: dict[str, _Walk] = {}

    def settle(self, ec2: Any, now: float, pace: Pace) -> None:
        """Bring every instance to where it should be by now, and forget those terminated long ago."""
        for reservation in list(ec2.reservations.values()):
            for instance in list(reservation.instances):
                self._settle_one(instance, now, pace)
                if self._expired(instance, now, pace):
                    reservation.instances.remove(instance)
                    del self._walks[instance.id]
            if not reservation.instances:
                ec2.reservations.pop(reservation.id, None)

    def _settle_one(self, instance: Any, now: float, pace: Pace) -> None:
        walk = self._walks.get(instance.id)
        shown = str(instance.state)
        if walk is None or shown != walk.written:
            walk = _Walk(ON_THE_WAY.get(shown, shown), shown, now + _delay(shown, pace))
            self._walks[instance.id] = walk
        if now >= walk.due and walk.written != walk.goal:
            walk.written = walk.goal
            walk.due = now
        instance.instance_state.name, instance.instance_state.code = walk.written, CODES[walk.written]

    def _expired(self, instance: Any, now: float, pace: Pace) -> bool:
        walk = self._walks[instance.id]
        return walk.written == "terminated" and now >= walk.due + pace.terminated_visible_s


def _delay(goal: str, pace: Pace) -> float:
    delays = {"running": pace.pending_s, "terminated": pace.shutting_down_s, "stopped": pace.stopping_s}
    return delays.get(goal, 0.0)
