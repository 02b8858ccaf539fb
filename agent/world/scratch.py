"""Working folders below `scratch/`: each of its own, and safe from others for as long as it is worked in.

The agent's tasks and an operator's `snapshot drill` may be at work beside each other, and either may be killed. So a
folder has a name that nobody had before, and is locked while it is worked in; the kernel lets go of the lock when its
process ends, however it ends. A folder whose lock can be had was left behind, and is taken away.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.model.faults import Refused
from agent.model.known import Ignorance
from agent.world import durable

SUFFIX = ".work"
ATTEMPTS = 10


@contextmanager
def working_folder(scratch: Path, task: str) -> Iterator[Path]:
    """Empty, ours alone, and gone afterwards. What was left behind goes first: its room may be wanted."""
    with durable.refusing(f"making a folder below {scratch}"):
        scratch.mkdir(parents=True, exist_ok=True)
        for path in scratch.glob(f"*{SUFFIX}"):
            remove_unless_in_use(path)
        folder, lock = _made(scratch, task)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_unless_in_use(path: Path) -> None:
    """Take away a file or a folder; what cannot be taken away now stays for the next time."""
    with suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        elif (lock := _lock(path)) is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _made(scratch: Path, task: str) -> tuple[Path, int]:
    for _ in range(ATTEMPTS):
        folder = Path(tempfile.mkdtemp(SUFFIX, f"{task}-", scratch))
        lock = _lock(folder)
        if lock is not None:
            return folder, lock
    raise Refused(f"making a folder below {scratch}: each was taken away at once", Ignorance.OURS)


def _lock(folder: Path) -> int | None:
    """A descriptor that holds it. None: another does, or has taken the folder away meanwhile. Else raises OSError."""
    with suppress(FileNotFoundError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), folder.stat(follow_symlinks=False)):
                return descriptor
        os.close(descriptor)
    return None
