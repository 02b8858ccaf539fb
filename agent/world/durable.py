"""Files that survive a crash: each write or rename is on the disk before it counts, and whole or not at all.

An operating system's error is translated where it is certain that nothing happened: `Refused`. Where something may
have happened already (a folder that could not be synced after a rename) it is `Unavailable`: look again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.model.faults import Refused, Unavailable
from agent.model.known import Ignorance

HINTS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "the agent may not: check the owner and mode of the folder",
    errno.EPERM: "the agent may not: check the owner and mode of the folder",
    errno.EROFS: "the filesystem is read-only",
    errno.EIO: "the disk failed: look at the kernel's log, and replace the instance",
    errno.EXDEV: "it is on another filesystem: data/, identity.json and quarantine/ must be on one",
    errno.EBUSY: "it is in use, perhaps as a mount point: mount the folder above it instead",
}


def refused(doing: str, error: OSError) -> Refused:
    """Nothing happened, and why."""
    return Refused(f"{doing}: {explained(error)}", Ignorance.OURS)


def explained(error: OSError) -> str:
    """The system's words, and ours where an operator can do something about it."""
    return ": ".join(filter(None, (error.strerror or str(error), HINTS.get(error.errno or 0))))


@contextmanager
def refusing(doing: str) -> Iterator[None]:
    """An operating system's error in here means that nothing happened."""
    try:
        yield
    except OSError as error:
        raise refused(doing, error) from error


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace the file's content: in a new file, synced, renamed over the old one, and the folder synced."""
    new = path.with_name(f".{path.name}.new")
    with refusing(f"writing {path}"):
        try:
            _write_new(new, text.encode(), mode)
            new.rename(path)
        except OSError:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            raise
    sync_after(path.parent, f"writing {path}")


def _write_new(new: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        os.fchmod(descriptor, mode)  # of a file that a crash left, too
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync(folder: Path) -> None:
    """Make the folder's entries durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_any(path: Path) -> None:
    """Make a file's content, or a folder's entries, durable. A link is not followed. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_after(folder: Path, doing: str) -> None:
    """The same after a change that cannot be taken back any more."""
    try:
        sync(folder)
    except OSError as error:
        raise Unavailable(Ignorance.FAILED, f"{doing}: {explained(error)}") from error
