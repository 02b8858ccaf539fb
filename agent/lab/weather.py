"""Bad weather on demand: faults that meet API calls by service, operation, resource and caller.

House rules: the first fault that matches a call meets it and no other does. A fault without `times` stays until it is
cleared. What a fault does to an answer is in `answers`; here is only whom it meets and when.
"""

from __future__ import annotations

import itertools
import threading
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any

from agent.lab.calls import Call
from agent.lab.spec import LabError

HANG_LIMIT_S = 300.0


@dataclass(frozen=True)
class Fault:
    """One kind of trouble. Empty `service`, `operation`, `match` and `caller` match anything."""

    service: str = ""
    operation: str = ""
    """A shell pattern: DescribeInstances, Describe*."""
    match: str = ""
    """A part of the S3 path or of the parameters: a key, an instance ID."""
    caller: str = ""
    """An instance ID."""
    status: int = 0
    """Answer with this HTTP status and `code`; 0 leaves the status alone."""
    code: str = ""
    delay_s: float = 0.0
    hang: bool = False
    """Do not answer until the fault is cleared (at most five minutes)."""
    after: bool = False
    """With `status` or `hang`: apply the call first, then lose the answer."""
    empty: bool = False
    """A well-formed listing with nothing in it."""
    drop: tuple[str, ...] = ()
    """A well-formed listing without these instance IDs (or S3 keys)."""
    stale: bool = False
    """The listing as it was when last asked before the fault came."""
    times: int | None = None

    def meets(self, call: Call) -> bool:
        """Whether this fault is about that call."""
        return (
            self.service in ("", call.service)
            and (not self.operation or fnmatchcase(call.operation, self.operation))
            and self.match in call.resource
            and self.caller in ("", call.caller)
            and (call.is_listing or not (self.empty or self.drop or self.stale))
        )

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Fault:
        """A fault as the control API received it; raises LabError naming what it does not know."""
        known = {entry.name for entry in fields(cls)}
        if unknown := sorted(set(raw) - known):
            raise LabError(f"a fault has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
        return cls(**{**raw, "drop": tuple(raw.get("drop", ()))})


@dataclass
class _Active:
    id: str
    fault: Fault
    left: int | None
    cleared: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Meeting:
    """A call that met a fault, and the event that is set when the fault is cleared."""

    id: str
    fault: Fault
    cleared: threading.Event


class Weather:
    """The faults of the moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active: list[_Active] = []
        self._spent: list[_Active] = []
        """Those that met as many calls as they were to; who hangs in one is still to be released."""
        self._numbers = itertools.count(1)

    def add(self, fault: Fault) -> str:
        """Begin a fault; returns the ID by which it can be cleared."""
        with self._lock:
            active = _Active(f"f{next(self._numbers)}", fault, fault.times)
            self._active.append(active)
            return active.id

    def clear(self, fault_id: str | None = None) -> int:
        """End one fault, or all; whoever hangs in it is released. Returns how many ended."""
        with self._lock:
            ended = [active for active in self._active if fault_id in (None, active.id)]
            self._active = [active for active in self._active if active not in ended]
            spent = [active for active in self._spent if fault_id in (None, active.id)]
            self._spent = [active for active in self._spent if active not in spent]
        for active in (*ended, *spent):
            active.cleared.set()
        return len(ended)

    def meet(self, call: Call) -> Meeting | None:
        """The fault that meets this call, counted down if it comes a limited number of times."""
        with self._lock:
            for active in self._active:
                if active.fault.meets(call):
                    return self._count_down(active)
        return None

    def _count_down(self, active: _Active) -> Meeting:
        if active.left is not None:
            active.left -= 1
            if active.left <= 0:
                self._active.remove(active)
                self._spent.append(active)
        return Meeting(active.id, active.fault, active.cleared)

    def listing(self) -> list[dict[str, Any]]:
        """The faults of the moment, for the control API."""
        with self._lock:
            return [{"id": active.id, "left": active.left, **asdict(active.fault)} for active in self._active]
