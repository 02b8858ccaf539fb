"""This machine's clock, against AWS's and by what keeps it. Pure.

AWS refuses requests that are signed more than 5 minutes off (Signature Version 4; S3: 15). The agent itself takes ages
from S3's clock and durations from one that only goes forward; certificates, logs and records go by the wall clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.doctor.finding import Finding, failure, ok, unknown, warning
from agent.model.known import Unknown

REFUSED_FROM = timedelta(minutes=5)
TOLERABLE = timedelta(seconds=5)
A_SECOND = timedelta(seconds=1)
"""A Date header counts whole seconds, and leaves out the fraction."""

KEEP_IT = "enable chronyd with Amazon's time service: `server 169.254.169.123 prefer iburst` in chrony.conf"


@dataclass(frozen=True, slots=True)
class Compared:
    """Asked at `asked_at` and answered by `heard_at`, both by this machine's clock; `date` is the answer's header."""

    source: str
    asked_at: datetime
    heard_at: datetime
    date: datetime

    @property
    def bounds(self) -> tuple[timedelta, timedelta]:
        """How far this clock is ahead of the source's: at least, and at most."""
        return self.asked_at - self.date - A_SECOND, self.heard_at - self.date


@dataclass(frozen=True, slots=True)
class Kept:
    """What the machine's own time service says."""

    by: str
    synchronised: bool
    bound: timedelta | None = None
    """How far off it is at most, by its own reckoning."""


def judge(compared: Compared | Unknown, kept: Kept | Unknown) -> Iterator[Finding]:
    yield from _against_aws(compared)
    yield from _service(kept)


def _against_aws(found: Compared | Unknown) -> Iterator[Finding]:
    check = "clock"
    if isinstance(found, Unknown):
        said = "AWS refuses requests of a clock that is more than 5 minutes off"
        yield unknown(check, found, said, "compare `date -u` with another machine's")
        return
    least, most = found.bounds
    told = f"{_seconds(least)} to {_seconds(most)} ahead of {found.source} (whole seconds, and the way there and back)"
    certain = max(least, -most, timedelta(0))
    if certain >= REFUSED_FROM:
        said = "AWS refuses this machine's requests, so the agent sees neither fleet nor bucket"
        yield failure(check, told, said, KEEP_IT)
    elif certain >= TOLERABLE:
        said = "certificates, logs and the times in records are read wrongly, and it may get worse"
        yield warning(check, told, said, KEEP_IT)
    else:
        yield ok(check, told)


def _service(kept: Kept | Unknown) -> Iterator[Finding]:
    check = "clock-service"
    said = "nothing keeps the clock from drifting away"
    if isinstance(kept, Unknown):
        yield unknown(check, kept, "the clock may drift away unseen", KEEP_IT)
    elif not kept.synchronised:
        yield warning(check, f"{kept.by} says that the clock is not synchronised", said, KEEP_IT)
    else:
        within = "" if kept.bound is None else f", off by {kept.bound.total_seconds() * 1000:.1f} ms at most"
        yield ok(check, f"{kept.by}: synchronised{within}")


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():+.1f} s"
