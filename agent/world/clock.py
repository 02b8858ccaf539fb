"""The one door to time and chance. Everything else is given moments, durations, nonces and jitter as values."""

from __future__ import annotations

import random
import secrets
import threading
import time
from datetime import UTC, datetime, timedelta

from agent.model.ids import Nonce


class SystemClock:
    """`agent.world.doors.Clock` on this instance's own clock. Setting `stop` ends a sleep at once."""

    def __init__(self, stop: threading.Event | None = None) -> None:
        self._stop = stop or threading.Event()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, duration: timedelta) -> None:
        self._stop.wait(max(0.0, duration.total_seconds()))

    def elapsed(self) -> float:
        """Seconds on a clock that only goes forward: for durations within this process."""
        return time.monotonic()

    def nonce(self) -> Nonce:
        return Nonce(secrets.token_hex(16))

    def jitter(self) -> float:
        return random.random()
