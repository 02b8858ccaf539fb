"""What the kernel says of a process: when it began, what it used, what it holds."""

from __future__ import annotations

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat from field 3 on (proc(5)); the command's name before it may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def began(pid: int) -> float:
    """When the process was started, on the monotonic clock (which begins at boot, as field 22 does)."""
    return int(_stat(pid)[19]) / TICKS


def cpu_seconds(pid: int) -> float:
    """User and system time so far."""
    stat = _stat(pid)
    return (int(stat[11]) + int(stat[12])) / TICKS


def rss_mb(pid: int) -> float:
    """Resident memory in 10^6 bytes."""
    return int(_stat(pid)[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6
