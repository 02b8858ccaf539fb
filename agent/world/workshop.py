"""Tasks that outlast a round, each on a thread of its own, one at a time (`agent.model.work`).

House rules. What a task does is in `errands`; here is only that it runs, how far it is, and what became of it. The
thread is a daemon: an agent that ends does not wait for it, and whatever it left is found or begun anew by the next.
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from agent.model.faults import Refused, Unavailable
from agent.model.known import Ignorance, Unknown
from agent.model.snapshot import Manifest
from agent.model.work import Drill, Ended, Idle, Task, Work, Working
from agent.world.doors import Clock

log = logging.getLogger(__name__)

OnBytes = Callable[[int], None]
Errand = Callable[[Task, OnBytes], Manifest | None]
"""Carries out a task; hears how many bytes have passed; the manifest of what it made, if it made one."""

IN_NO_HURRY = 19
"""The nice value of a thread whose work nobody waits for."""

MAY_PASS = frozenset({Ignorance.OURS, Ignorance.DENIED})
"""A no that is about us and our rights, and says nothing about the snapshot, or the data, that the task was about."""


class ThreadWorkshop:
    """`agent.world.doors.Workshop`."""

    def __init__(self, errand: Errand, clock: Clock) -> None:
        self._errand = errand
        self._clock = clock
        self._lock = threading.Lock()
        self._state: Work = Idle()

    def state(self) -> Work:
        with self._lock:
            return self._state

    def begin(self, task: Task) -> None:
        with self._lock:
            if isinstance(self._state, Working):
                raise Refused(f"{type(self._state.task).__name__} is under way", Ignorance.FAILED)
            self._state = Working(task, self._clock.now())
        name = f"{type(task).__name__.lower()}"
        threading.Thread(target=self._run, args=(task, self._clock.now()), name=name, daemon=True).start()

    def _run(self, task: Task, since: datetime) -> None:
        if isinstance(task, Drill):
            _be_in_no_hurry()
        ended = self._outcome(task, since)
        with self._lock:
            self._state = ended

    def _outcome(self, task: Task, since: datetime) -> Ended:
        try:
            manifest = self._errand(task, self._count)
        except Unavailable as trouble:
            return Ended(task, since, self._clock.now(), trouble.unknown)
        except Refused as trouble:
            final = trouble.unknown.why not in MAY_PASS
            return Ended(task, since, self._clock.now(), trouble.unknown, final)
        except Exception as bug:  # a thread's end must be known, or the agent would wait for it for ever
            log.exception("a task failed in a way that nobody expected")
            return Ended(task, since, self._clock.now(), Unknown(Ignorance.MALFORMED, f"{type(bug).__name__}: {bug}"))
        return Ended(task, since, self._clock.now(), manifest=manifest)

    def _count(self, bytes_done: int) -> None:
        with self._lock:
            if isinstance(self._state, Working):
                self._state = replace(self._state, bytes_done=bytes_done)


def _be_in_no_hurry() -> None:
    """For this thread and what it starts: the kernel keeps a nice value and a class of disk access for each thread."""
    thread = threading.get_native_id()
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, IN_NO_HURRY)
    with suppress(OSError, subprocess.SubprocessError):  # not installed, or not allowed: the nice value says the same
        subprocess.run(["ionice", "-c3", "-p", str(thread)], capture_output=True, timeout=5, check=False)
