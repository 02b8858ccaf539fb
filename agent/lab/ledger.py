"""A writer that keeps a ledger: every write it tried, which were acknowledged, and whether those are all there.

House rule: a write without an answer is neither lost nor kept; only acknowledged ones are held against the cluster.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Self

from agent.lab import members
from agent.lab.spec import LabError

PREFIX = "ledger/"
PATIENCE_S = 2.0


@dataclass(frozen=True)
class Attempt:
    """One write: through whom, from when to when (monotonic seconds), and whether it was acknowledged."""

    key: str
    address: str
    began: float
    ended: float
    acknowledged: bool


class Ledger:
    """Writes one key after another from a thread of its own, through the members in turn; use it in a `with`."""

    def __init__(self, addresses: Callable[[], Sequence[str]], every_s: float = 0.01) -> None:
        self._addresses, self._every_s = addresses, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, name="ledger", daemon=True)
        self.attempts: list[Attempt] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """No more writes; those under way end."""
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        addresses: Sequence[str] = ()
        number, looked_at = 0, 0.0
        while not self._stop.is_set():
            if time.monotonic() - looked_at > 1 or not addresses:
                addresses, looked_at = self._look(addresses), time.monotonic()
            if addresses:
                self._write_one(f"{PREFIX}{number:08d}", addresses[number % len(addresses)])
                number += 1
            self._stop.wait(self._every_s)

    def _look(self, before: Sequence[str]) -> Sequence[str]:
        try:
            return self._addresses()
        except LabError:
            return before

    def _write_one(self, key: str, address: str) -> None:
        began = time.monotonic()
        revision = members.put(address, key, key, PATIENCE_S)
        self.attempts.append(Attempt(key, address, began, time.monotonic(), revision is not None))

    # ---- what it says ----

    @property
    def acknowledged(self) -> list[Attempt]:
        return [each for each in tuple(self.attempts) if each.acknowledged]

    def missing(self, address: str) -> list[str]:
        """Acknowledged keys that a linearizable read through this member does not show. LabError if it is silent."""
        acknowledged = self.acknowledged
        there = members.get_prefix(address, PREFIX)
        if there is None:
            raise LabError(f"the member at {address} does not answer: nobody knows which writes are there")
        return [each.key for each in acknowledged if there.get(each.key) != each.key]

    def longest_gap_s(self, since: float = 0.0) -> float:
        """The longest time between two acknowledged writes, from a moment on: how long clients could not write."""
        ends = [since, *(each.ended for each in self.acknowledged if each.ended > since)] if since else []
        ends = ends or [each.ended for each in self.acknowledged]
        return max((later - earlier for earlier, later in pairwise(ends)), default=0.0)
