#!/usr/bin/env python3
"""etcd's volume, at boot: found by the name it was given, formatted only where it is proven blank, never otherwise.

This is the one place of an instance where data could be wiped, so it is written for doubt. House rules: what is not
named is not touched; what cannot be read is not blank; whoever looks for traces looks from several sides, and one trace
is enough; what is neither blank nor ours is left as it is, with a word on what a human can do, and no agent starts.

It changes nothing but this: `mke2fs` on a blank volume, and links in /run for var-lib-etcd.mount, which mounts it.
Standard library only: it is there before the agent is.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CONFIG = Path("/etc/etcd-asg-agent/data-volume")
RUN = Path("/run/etcd-data-volume")
LABEL = "etcd-data"
ROOT_DISK = "none"
"""What CONFIG says where etcd is meant to live on the root disk."""

MIB = 1 << 20
EDGE = 16 * MIB
"""So much must be zero at each end: superblocks, partition tables, and the labels of LVM, RAID, LUKS and ZFS lie there,
at the front, at the back, or (GPT, ZFS, RAID) at both."""

SAMPLE = 64 * 1024
STRIDE = 128 * MIB
"""Between the ends, so much is read at every multiple of this. It is ext4's block group, at whose beginnings the copies
of its superblock lie: a filesystem whose front was overwritten by accident can be rescued from them."""

SAMPLES = 4096
"""At most, or a volume of many TiB would be looked at for minutes: the stride grows."""

WAIT_SECONDS = 60.0
"""EBS volumes of a launch template are there before the kernel is; udev may take a moment to name them."""


class NotBlank(Exception):
    """It holds something, or that could not be ruled out: nobody formats it."""


class GivenUp(Exception):
    """There is no volume to mount, and why."""


# ---- which one -------------------------------------------------------------------------------------------------------


def asked_for(config: Path) -> str | None:
    """The volume's name, by the last line of the form DEVICE=NAME; None where nobody has said anything yet."""
    try:
        text = config.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise GivenUp(f"{config} cannot be read: {error}") from error
    named = re.findall(r"^\s*DEVICE\s*=[ \t]*(.*?)\s*$", text, re.MULTILINE)
    return named[-1].strip("\"'") or None if named else None


def names_of(device: str) -> tuple[Path, ...]:
    """Under which names the kernel and udev may know what a launch template calls /dev/sdb or /dev/xvdb.

    On Nitro instances volumes are nvme1n1, nvme2n1 … in no promised order; udev (amazon-ec2-utils) asks each EBS volume
    for the name that it was attached by, and links that. On Xen the kernel itself says xvd for sd.
    """
    found = re.fullmatch(r"/dev/(?:sd|xvd)([a-z]+)", device)
    others = (f"/dev/{kind}{found[1]}" for kind in ("xvd", "sd")) if found else ()
    return tuple(Path(each) for each in dict.fromkeys((device, *others)))


def found(device: str, wait_seconds: float) -> Path:
    """The block device of that name, once it is there."""
    deadline = time.monotonic() + wait_seconds
    while True:
        there = [path for path in names_of(device) if path.exists()]
        real = {path.resolve() for path in there}
        if len(real) > 1:
            raise GivenUp(f"{device} may be any of {', '.join(map(str, sorted(real)))}: name it as udev does")
        if real:
            return real.pop()
        if time.monotonic() >= deadline:
            raise GivenUp(
                f"{device} is not attached after {wait_seconds:.0f} s (looked for {_listed(names_of(device))})"
            )
        time.sleep(0.2)


def _listed(paths: tuple[Path, ...]) -> str:
    return ", ".join(map(str, paths))


# ---- what is on it ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signature:
    """What blkid's own probe (no cache) says: nothing is an empty one."""

    tags: tuple[tuple[str, str], ...]

    def is_ours(self) -> bool:
        """One ext4 with our label on the whole volume, and nothing beside it."""
        tags = dict(self.tags)
        return (tags.get("TYPE"), tags.get("LABEL"), tags.get("USAGE")) == ("ext4", LABEL, "filesystem") and (
            "PTTYPE" not in tags
        )

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.tags if name != "DEVNAME")


def signature_of(device: Path) -> Signature:
    """blkid(8): 0 is something, 2 is nothing *or* something unreadable, 8 is several that contradict each other."""
    done = _run("blkid", "--probe", "--output", "export", str(device))
    if done.returncode == 2 and not done.stdout.strip():
        return Signature(())
    if done.returncode != 0:
        raise NotBlank(
            f"blkid ends with {done.returncode}: {_told(done) or 'several signatures, or none that is clear'}"
        )
    tags = tuple(tuple(line.split("=", 1)) for line in done.stdout.splitlines() if "=" in line)
    return Signature(tuple((each[0], each[1]) for each in tags))


def must_be_free(device: Path) -> None:
    """A whole disk that nobody uses. O_EXCL asks the kernel: mounted in any namespace, swap, RAID, LVM, a mkfs."""
    about = device.stat()
    if not stat.S_ISBLK(about.st_mode):
        raise NotBlank("it is no block device")
    known = Path(f"/sys/dev/block/{os.major(about.st_rdev)}:{os.minor(about.st_rdev)}")
    if not known.is_dir():
        raise NotBlank(f"the kernel tells nothing of it ({known})")
    if (known / "partition").exists():
        raise NotBlank("it is a partition of a disk: name the disk")
    if (known / "ro").read_text().strip() != "0":
        raise NotBlank("it is read-only")
    if parts := sorted(each.parent.name for each in known.glob("*/partition")):
        raise NotBlank(f"it has partitions: {', '.join(parts)}")
    if holders := sorted(each.name for each in (known / "holders").iterdir()):
        raise NotBlank(f"it is part of {', '.join(holders)}")
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        raise NotBlank(f"it is in use, or cannot be opened: {error.strerror}") from error


def must_be_zero(fd: int, size_bytes: int) -> None:
    """At both ends, and wherever a sample is taken. A read that fails, or ends early, proves nothing."""
    for offset, length in regions(size_bytes):
        try:
            data = os.pread(fd, length, offset)
        except OSError as error:
            raise NotBlank(f"it cannot be read at byte {offset}: {error.strerror}") from error
        if len(data) != length:
            raise NotBlank(f"it cannot be read at byte {offset}: {len(data)} of {length} bytes")
        if data.count(0) != length:
            raise NotBlank(f"it holds data: not zero near byte {offset}")


def regions(size_bytes: int) -> Iterator[tuple[int, int]]:
    """What is read of a volume: offset and length, without overlap of the ends."""
    if size_bytes < 2 * EDGE:
        raise NotBlank(f"it has {size_bytes} bytes: no volume for etcd")
    for offset in range(0, EDGE, MIB):
        yield offset, MIB
    for offset in sorted(_between(size_bytes)):
        yield offset, SAMPLE
    for offset in range(size_bytes - EDGE, size_bytes, MIB):
        yield offset, MIB


def _between(size_bytes: int) -> set[int]:
    stride = STRIDE * (1 + size_bytes // (STRIDE * SAMPLES))
    quarter = size_bytes // 4 // 4096 * 4096  # where mkfs.xfs begins its allocation groups
    wanted = {*range(stride, size_bytes, stride), 64 * MIB, quarter, 2 * quarter, 3 * quarter}  # 64 MiB: btrfs's copy
    return {offset for offset in wanted if EDGE <= offset <= size_bytes - EDGE - SAMPLE}


def must_be_blank(device: Path) -> None:
    """Returns where every look says so; raises NotBlank with the first that does not."""
    must_be_free(device)
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotBlank(f"it cannot be opened: {error.strerror}") from error
    try:
        must_be_zero(fd, os.lseek(fd, 0, os.SEEK_END))
    finally:
        os.close(fd)
    must_be_unsigned(device)


def must_be_unsigned(device: Path) -> None:
    """blkid and wipefs know where some hundred kinds of filesystems, tables and labels sign."""
    if (signature := signature_of(device)).tags:
        raise NotBlank(f"it holds {signature}")
    wiping = _run("wipefs", "--no-act", "--parsable", str(device))
    if wiping.returncode != 0 or wiping.stdout.strip():
        raise NotBlank(f"wipefs finds {_told(wiping) or 'something'}")


# ---- what is done ----------------------------------------------------------------------------------------------------


@contextmanager
def locked(device: Path) -> Iterator[None]:
    """Against another of us; udev, too, leaves a locked disk alone (systemd.io/BLOCK_DEVICE_LOCKING)."""
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise GivenUp(f"{device} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise GivenUp(f"{device} is being worked on by another process") from error
    finally:
        os.close(fd)


def made_ready(device: Path, dry_run: bool) -> str:
    """What was found or done, in words. Raises GivenUp where the volume is neither ours nor proven blank."""
    with locked(device):
        try:
            if signature_of(device).is_ours():
                return f"{device} is etcd's volume"
            must_be_blank(device)
        except NotBlank as why:
            raise GivenUp(
                f"{device} is left as it is: {why}. If it is to be etcd's and nothing on it matters, empty it by hand "
                f"(blkdiscard --zeroout {device}); if it holds etcd's data, e2label {device} {LABEL}"
            ) from why
        if dry_run:
            return f"{device} is blank, and would be formatted"
        _format(device)
        return f"{device} was blank, and is etcd's volume now"


def _format(device: Path) -> None:
    """nodiscard: whatever no look has seen stays where it is. Only etcd writes there: nothing is kept for root."""
    done = _run("mke2fs", "-q", "-t", "ext4", "-L", LABEL, "-m", "0", "-E", "nodiscard", str(device))
    if done.returncode != 0:
        raise GivenUp(f"mke2fs {device}: {_told(done)}")
    if not signature_of(device).is_ours():
        raise GivenUp(f"{device} was formatted, and does not look like it")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    plain = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    return subprocess.run(command, env=plain, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def _told(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stdout + " " + done.stderr).split())


def prepare(config: Path, run: Path, wait_seconds: float, dry_run: bool) -> str:
    """`run`/device is what var-lib-etcd.mount mounts; `run`/root-disk tells it that nothing is to be mounted."""
    device = asked_for(config)
    if device is None:
        raise GivenUp(f"nobody said where etcd's data goes: DEVICE=/dev/xvdb, or DEVICE={ROOT_DISK}, in {config}")
    if device == ROOT_DISK:
        if not dry_run:
            (run / "root-disk").touch()
        return "etcd's data goes to the root disk, as it was asked for"
    volume = found(device, wait_seconds)
    said = made_ready(volume, dry_run)
    if not dry_run:
        (run / "root-disk").unlink(missing_ok=True)
        (run / "device").unlink(missing_ok=True)
        (run / "device").symlink_to(volume)
    return said


def main() -> int:
    parser = argparse.ArgumentParser(description="Makes etcd's volume ready to be mounted; formats it only if blank.")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and change nothing")
    parser.add_argument("--config", type=Path, default=CONFIG, help=f"where DEVICE= is (default {CONFIG})")
    parser.add_argument("--run", type=Path, default=RUN, help=argparse.SUPPRESS)
    parser.add_argument("--wait", type=float, default=WAIT_SECONDS, metavar="SECONDS", help="for it to be attached")
    asked = parser.parse_args()
    try:
        print(prepare(asked.config, asked.run, asked.wait, asked.dry_run))
    except GivenUp as why:
        print(why, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
