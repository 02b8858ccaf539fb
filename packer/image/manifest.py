#!/usr/bin/env python3
"""What an image is, one line a fact: packages, units, and every file with its kind, mode, owner and digest.

Two images with the same lines are the same image. Times are none of it, and so is what lies below SKIPPED, with a
reason each: what a running system writes down about itself, and what is made anew wherever the image is booted.
"""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SKIPPED = {
    "/dev": "the kernel's",
    "/proc": "the kernel's",
    "/run": "of this boot",
    "/sys": "the kernel's",
    "/tmp": "of this boot",  # noqa: S108
    "/var/tmp": "nothing of the image's is put there",  # noqa: S108
    "/etc/machine-id": "empty in the image; systemd writes this boot's into it",
    "/var/log": "what was said while it was made; emptied at the end, and written to since",
    "/var/cache/apt": "emptied; apt's caches are made anew",
    "/var/lib/apt": "lists and states of downloads",
    "/var/cache/debconf": "its backups and their times",
    "/var/cache/ldconfig": "has inode numbers and times in it",
    "/var/lib/systemd": "seeds, timers and clocks of this boot",
    "/var/lib/dpkg/lock": "a lock",
    "/var/lib/dpkg/lock-frontend": "a lock",
    "/var/lib/dpkg/triggers/Lock": "a lock",
    "/var/lib/dpkg/status-old": "the backup of what `package` lines say",
    "/var/lib/dpkg/status": "what `package` lines say, in an order of its own",
}


def files(root: Path) -> Iterator[str]:
    """On the root filesystem, in the order of their paths."""
    device = root.lstat().st_dev
    waiting = [root]
    while waiting:
        path = waiting.pop()
        if str(path) in SKIPPED:
            continue
        about = path.lstat()
        mode = f"{stat.S_IMODE(about.st_mode):04o}"
        yield " ".join(["file", str(path), _kind(about), mode, _owner(about), _content(path, about)]).rstrip()
        if stat.S_ISDIR(about.st_mode) and about.st_dev == device:
            waiting += sorted(path.iterdir(), reverse=True)


def _kind(about: os.stat_result) -> str:
    return stat.filemode(about.st_mode)[0].replace("-", "f")


def _owner(about: os.stat_result) -> str:
    return f"{pwd.getpwuid(about.st_uid).pw_name}:{grp.getgrgid(about.st_gid).gr_name}"


def _content(path: Path, about: os.stat_result) -> str:
    if stat.S_ISLNK(about.st_mode):
        return str(path.readlink())
    if stat.S_ISREG(about.st_mode):
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return ""


def packages() -> Iterator[str]:
    """What dpkg holds to be installed."""
    shown = "${Package}:${Architecture} ${Version} ${db:Status-Status}\n"
    asked = ["dpkg-query", "--show", f"--showformat={shown}"]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    return (f"package {line}" for line in sorted(said.splitlines()))


def main() -> int:
    for line in (*packages(), *files(Path("/"))):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
