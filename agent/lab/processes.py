"""Processes of a machine, found by the mark in their environment and ended by their numbers.

House rule: nothing is ever killed by name. A process belongs to a machine if it was born with LAB_INSTANCE=<its id> or
with the machine's folder as its HOME, whoever its parent is now and whichever session it moved to. (An agent gives its
etcd a short list of its own variables; HOME is on it, our mark is not.)
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MARK = "LAB_INSTANCE"
PROC = Path("/proc")

ETCD_IN_SCRATCH = "etcd in scratch"
"""The name of an etcd that runs on a copy, for a rescue or a drill: no member's, and not the machine's own."""


@dataclass(frozen=True)
class Process:
    """One living process of a machine."""

    pid: int
    instance: str
    name: str


def marked(instances: Iterable[str]) -> tuple[Process, ...]:
    """Every living process of these machines; zombies have no environment and do not count."""
    wanted = {instance.encode(): instance for instance in instances}
    found = []
    for entry in os.scandir(PROC):
        if entry.name.isdigit():
            process = _read(Path(entry.path), wanted)
            if process is not None:
                found.append(process)
    return tuple(found)


def _read(folder: Path, wanted: dict[bytes, str]) -> Process | None:
    try:
        variables = (folder / "environ").read_bytes().split(b"\0")
    except OSError:
        return None
    for variable in variables:
        instance = wanted.get(_claim(variable))
        if instance is not None:
            return Process(int(folder.name), instance, _name(folder, variables))
    return None


def _claim(variable: bytes) -> bytes:
    """The machine that an environment variable speaks of, if it does: `LAB_INSTANCE=i-1` or `HOME=/…/i-1`."""
    name, _, value = variable.partition(b"=")
    if name == MARK.encode():
        return value
    return value.rpartition(b"/")[2] if name == b"HOME" else b""


def _name(folder: Path, variables: list[bytes]) -> str:
    """The command's name; and what else it is, where it is not the machine's own etcd but one of its agent's tasks.

    In this order, lest a process that is just about to become another have the one's name and the other's arguments.
    """
    try:
        name, arguments = (folder / "comm").read_text().strip(), (folder / "cmdline").read_bytes()
    except OSError:
        return ""
    if not arguments:  # it is becoming one
        return ""
    if arguments.endswith(b"\0--version\0"):
        return f"{name} --version"
    in_scratch = any(each.startswith(b"ETCD_DATA_DIR=") and b"/scratch/" in each for each in variables)
    return ETCD_IN_SCRATCH if name == "etcd" and in_scratch else name


def signal_all(instances: Iterable[str], number: signal.Signals) -> int:
    """Send one signal to everything these machines run; returns to how many."""
    return sum(send(process.pid, number) for process in marked(instances))


def kill_all(instances: Iterable[str], within_s: float = 10.0) -> bool:
    """Kill until a look finds nothing: what was forked while we looked is found by the next look."""
    names = tuple(instances)
    deadline = time.monotonic() + within_s
    while signal_all(names, signal.SIGKILL):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def send(pid: int, number: signal.Signals) -> bool:
    """Whether the process was there to receive it."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        state = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in "ZX"
