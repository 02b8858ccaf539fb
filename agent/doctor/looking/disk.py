"""Reads what the data root lies on, and times a few appends there.

House rules. Beside a running etcd the doctor is a guest: it appends as etcd does (a little, and an fdatasync), at most
for five seconds and 3 MB, with a pause after each, at the lowest priority. The
file has no name from the first moment on, so that nothing is left behind however the doctor ends; it is never in etcd's
own folder.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

from agent.doctor.judging.disk import DiskSeen, EtcdsOwn, Filesystem, Syncs
from agent.doctor.judging.installation import Entry
from agent.doctor.looking.installation import entry
from agent.doctor.looking.known import known
from agent.model.faults import Refused
from agent.model.known import Ignorance
from agent.world.clock import SystemClock
from agent.world.etcd_metrics import sync_histogram

APPEND_BYTES = 2300
"""As etcd's appends were once measured: IBM, "Using Fio to Tell Whether Your Storage is Fast Enough for Etcd"."""
MOST_APPENDS = 1000
MOST_TIME = timedelta(seconds=5)
PAUSE = timedelta(milliseconds=1)
METRICS_DEADLINE = timedelta(seconds=3)
PARTS = ("data", "identity.json", "quarantine", "scratch")
MOUNTS = Path("/proc/self/mountinfo")


def disk(root: Path, clock: SystemClock, metrics_url: str | None) -> DiskSeen:
    """`metrics_url` None: no etcd runs."""
    return DiskSeen(
        root=root,
        entry=known(lambda: entry(root)),
        members=known(lambda: _parts(root)),
        filesystem=known(lambda: filesystem(root, MOUNTS.read_text(errors="replace"))),
        syncs=known(lambda: syncs(root, clock)),
        etcds_own=None if metrics_url is None else known(lambda: _etcds_own(metrics_url)),
    )


def _parts(root: Path) -> tuple[Entry, ...]:
    return tuple(each for name in PARTS if (each := entry(root / name)) is not None)


def filesystem(path: Path, mounts: str) -> Filesystem:
    """Of this path, or of the nearest folder above it that is there. `mounts` is /proc/self/mountinfo (proc(5))."""
    there = next(each for each in (path, *path.parents) if each.exists()).resolve()
    kind, mount = "unknown", Path("/")
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        at = Path(before.split()[4].encode().decode("unicode_escape"))
        if there.is_relative_to(at) and len(at.parts) >= len(mount.parts):
            kind, mount = after.split()[0], at
    found = os.statvfs(there)
    size = found.f_frsize
    read_only = bool(found.f_flag & os.ST_RDONLY)
    return Filesystem(kind, mount, read_only, found.f_bavail * size, found.f_blocks * size)


def syncs(root: Path, clock: SystemClock, within: timedelta = MOST_TIME) -> Syncs:
    """Appends to a file without a name, below the scratch folder where there is one already."""
    if not root.is_dir():
        raise Refused(f"{root} is not there", Ignorance.OURS)
    scratch = root / "scratch"
    with tempfile.TemporaryFile(dir=scratch if scratch.is_dir() else root, buffering=0) as file:
        work = partial(_append, file.fileno())
        return Syncs(timed(work, within, clock.elapsed, lambda: clock.sleep(PAUSE)), APPEND_BYTES)


def _append(descriptor: int) -> None:
    os.write(descriptor, bytes(APPEND_BYTES))
    os.fdatasync(descriptor)


def timed(
    work: Callable[[], None], within: timedelta, elapsed: Callable[[], float], pause: Callable[[], None]
) -> list[float]:
    """How long each took, in seconds; at least one, then as many as there is time for."""
    taken: list[float] = []
    began = elapsed()
    while len(taken) < MOST_APPENDS and (not taken or elapsed() - began < within.total_seconds()):
        before = elapsed()
        work()
        taken.append(elapsed() - before)
        pause()
    return taken


def _etcds_own(metrics_url: str) -> EtcdsOwn:
    buckets = sync_histogram(metrics_url, METRICS_DEADLINE)
    return ninety_nine(buckets)


def ninety_nine(buckets: dict[float, int]) -> EtcdsOwn:
    """The first bucket that 99 % are in; `buckets` counts up to each bound, in seconds."""
    total = max(buckets.values())
    return EtcdsOwn(total, next(bound for bound in sorted(buckets) if buckets[bound] * 100 >= total * 99))


def be_a_guest() -> None:
    """The lowest priority for this process; what is asked of the disk is too little to need one."""
    os.nice(19)
