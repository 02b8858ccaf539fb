"""etcd as a process of the agent's that outlives it, and is found again by the next agent.

One file lock tells whether an etcd of ours is alive. The agent takes it, and the child inherits it before it becomes
etcd; the kernel lets go of it when the last process that holds it ends. So there is no moment between fork and a
written process ID at which a killed agent leaves an etcd that the next one does not see; an ID that was given to
another process is never mistaken; and a second etcd on one data directory cannot start. The process ID in the lock's
file is a hint, believed only of a process that has the file open and our environment.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from agent.model.disk import EtcdProcess, EtcdRunning, EtcdStopped
from agent.model.faults import Refused, Unavailable
from agent.model.known import Ignorance
from agent.world import durable
from agent.world.doors import Clock

INHERITED = ("PATH", "HOME", "TMPDIR", "TZ", "GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK")
"""What etcd gets of the agent's own environment; above all, none of its AWS credentials and no `ETCD_…`."""

LOCK_PATIENCE = timedelta(seconds=1)
"""Others look at the lock for a moment: `plan`, or an agent that is being replaced."""

HOLDER_PATIENCE = timedelta(milliseconds=500)
"""A process that is just starting or ending holds the lock for a moment without showing whose it is."""

AT_ONCE = timedelta(0)

AFTER_SIGKILL = timedelta(seconds=10)


class ProcessSupervisor:
    """`agent.world.supervisor.Supervisor` without systemd. etcd's output is appended to `log`."""

    def __init__(self, binary: str, data_root: Path, log: Path, clock: Clock) -> None:
        self._binary = binary
        self._root = data_root
        self._lock = data_root / "etcd.lock"
        self._log = log
        self._clock = clock
        self._child: subprocess.Popen[bytes] | None = None
        self._known: int | None = None

    # ---- state -----------------------------------------------------------------------------------------------------

    def state(self) -> EtcdProcess:
        pause = timedelta(milliseconds=20)
        with durable.refusing(f"looking for the process that holds {self._lock}"):
            for _ in range(HOLDER_PATIENCE // pause):
                held = self._is_held()
                exit_code = self._reap(AT_ONCE if held else HOLDER_PATIENCE)
                if not held:
                    self._known = None
                    return EtcdStopped(exit_code)
                pid = self._holder()
                if pid is not None:
                    return EtcdRunning(pid)
                self._clock.sleep(pause)
        said = f"{self._lock} is held by a process that cannot be found: is it of another user?"
        raise Unavailable(Ignorance.FAILED, said)

    def _is_held(self) -> bool:
        """Whether a process holds the lock. Looking takes it shared, so that several may look at once."""
        try:
            descriptor = os.open(self._lock, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _locked(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def _reap(self, patience: timedelta) -> int | None:
        """The exit code of our own child, if it has ended. etcd exits 0 when it was removed from its cluster.

        Linux closes the files of one that ends before its parent hears of it: who let go of the lock needs a moment.
        """
        if self._child is None:
            return None
        with suppress(subprocess.TimeoutExpired):
            return self._child.wait(patience.total_seconds())
        return None

    def _holder(self) -> int | None:
        """The process ID of the etcd that holds the lock."""
        lock = self._lock.stat()
        for pid in self._candidates():
            if _is_our_etcd(pid, lock):
                self._known = pid
                return pid
        return None

    def _candidates(self) -> Iterator[int]:
        if self._known is not None:
            yield self._known
        with suppress(OSError, ValueError):
            yield int(self._lock.read_text())
        yield from sorted((int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal()), reverse=True)

    # ---- start -----------------------------------------------------------------------------------------------------

    def start(self, environment: Mapping[str, str]) -> None:
        binary = shutil.which(self._binary)
        if binary is None:
            raise Refused(
                f"there is no etcd to run: {self._binary!r} is not on PATH or not executable; set etcd.binary"
            )
        with durable.refusing(f"starting {binary}"):
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._take(descriptor)
                self._spawn(binary, environment, descriptor)
            finally:
                os.close(descriptor)  # the child has its own

    def _take(self, descriptor: int) -> None:
        pause = timedelta(milliseconds=50)
        for _ in range(LOCK_PATIENCE // pause):
            if _locked(descriptor, fcntl.LOCK_EX):
                return
            self._clock.sleep(pause)
        raise Refused(f"an etcd runs on {self._root} already (it holds {self._lock})", Ignorance.FAILED)

    def _spawn(self, binary: str, environment: Mapping[str, str], lock: int) -> None:
        self._reap(HOLDER_PATIENCE)
        ours = {name: os.environ[name] for name in INHERITED if name in os.environ}
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                [binary],
                env=ours | dict(environment),
                cwd=self._root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(lock,),
            )
        self._known = self._child.pid
        with suppress(OSError):  # only a hint, and etcd runs already
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{self._child.pid}\n".encode(), 0)

    # ---- stop ------------------------------------------------------------------------------------------------------

    def stop(self, timeout: timedelta) -> None:
        """etcd needs its time: SIGTERM hands leadership over and closes the log (at least 30 s are wise)."""
        state = self.state()
        if isinstance(state, EtcdStopped):
            return
        if not self._ended(state.pid, timeout):
            raise Unavailable(Ignorance.TIMEOUT, f"etcd (process {state.pid}) did not end, not even after SIGKILL")
        self._reap(AT_ONCE)
        if self._is_held():
            said = f"etcd (process {state.pid}) ended, but another process still holds {self._lock}"
            raise Unavailable(Ignorance.FAILED, said)

    def _ended(self, pid: int, timeout: timedelta) -> bool:
        """By a descriptor of the process, which never comes to mean another one."""
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            if not _is_our_etcd(pid, self._lock.stat()):
                return True  # it ended, and its ID is somebody else's by now
            return _signalled(process, signal.SIGTERM, timeout) or _signalled(process, signal.SIGKILL, AFTER_SIGKILL)
        finally:
            os.close(process)


def _locked(descriptor: int, kind: int) -> bool:
    """Whether we got the lock. It is let go when the last copy of the descriptor is closed."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _is_our_etcd(pid: int, lock: os.stat_result) -> bool:
    """Whether that process was given its environment by us, and has this very lock open: an agent has only the latter.

    False where we may not see.
    """
    with suppress(OSError):
        return b"ETCD_DATA_DIR=" in Path(f"/proc/{pid}/environ").read_bytes() and _has_open(pid, lock)
    return False


def _has_open(pid: int, file: os.stat_result) -> bool:
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found = descriptor.stat()
                if (found.st_dev, found.st_ino) == (file.st_dev, file.st_ino):
                    return True
    return False


def _signalled(process: int, number: int, patience: timedelta) -> bool:
    """Send the signal and wait; whether the process ended."""
    try:
        signal.pidfd_send_signal(process, number)
    except ProcessLookupError:
        return True
    except PermissionError as error:
        raise durable.refused("stopping etcd", error) from error
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(max(1, int(patience.total_seconds() * 1000))))
