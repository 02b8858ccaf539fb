"""The disk below the data root: how fast it makes a write durable, how much is free, what it is, whose it is. Pure.

etcd's documentation (FAQ, "What does the etcd warning 'failed to send out heartbeat on time' mean?") wants the 99th
percentile of its log's syncs below 10 ms: an append is acknowledged only after one on a majority of disks, and a leader
that waits for its disk sends no heartbeats. etcd's
histogram doubles its bounds from 1 ms on: 16 ms is the first above 10.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from agent.doctor.finding import Finding, failure, ok, unknown, warning
from agent.doctor.judging.installation import Account, Entry
from agent.model.known import Unknown
from agent.world.obstacles import LEAST_FREE_BYTES

ADVISED_P99 = timedelta(milliseconds=10)
FEW_WRITES = 100
"""Of fewer, no 99th percentile is told."""

VOLATILE = frozenset({"tmpfs", "ramfs"})
REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuse.s3fs", "9p"})
FASTER = "give the data root a volume of its own (gp3 or better, provisioned IOPS), with nothing else on it"


@dataclass(frozen=True, slots=True)
class Filesystem:
    """What the data root lies on."""

    kind: str
    mount: Path
    read_only: bool
    free_bytes: int
    """For etcd's user: without what is kept for root."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Syncs:
    """How long appends took, each with its fdatasync, in a file of the doctor's own."""

    seconds: Sequence[float] = field(repr=False)
    append_bytes: int

    def percentile(self, percent: int) -> float:
        """Nearest rank."""
        assert self.seconds
        ordered = sorted(self.seconds)
        return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


@dataclass(frozen=True, slots=True)
class EtcdsOwn:
    """The histogram of a running etcd: `within_s` is the bound of the bucket that holds the 99th percentile."""

    count: int
    within_s: float
    """Infinite where it is above every bound."""


@dataclass(frozen=True, slots=True)
class DiskSeen:
    root: Path
    entry: Entry | Unknown | None
    members: Sequence[Entry] | Unknown
    """data/, quarantine/, scratch/ and identity.json, as far as they are there."""
    filesystem: Filesystem | Unknown
    syncs: Syncs | Unknown
    etcds_own: EtcdsOwn | Unknown | None
    """None: no etcd runs."""


def judge(seen: DiskSeen, account: Account | None, quota_bytes: int, heartbeat: timedelta) -> Iterator[Finding]:
    if seen.entry is None:
        found = f"{seen.root} is not there, and made at the first start"
        yield ok("data-root", found)
    else:
        yield from _root(seen, account)
    yield from _filesystem(seen.filesystem, quota_bytes)
    yield from _latency(seen.syncs, heartbeat)
    yield from _etcds_latency(seen.etcds_own)


def _root(seen: DiskSeen, account: Account | None) -> Iterator[Finding]:
    check = "data-root"
    if isinstance(seen.entry, Unknown) or isinstance(seen.members, Unknown):
        why = seen.entry if isinstance(seen.entry, Unknown) else seen.members
        assert isinstance(why, Unknown)
        yield unknown(check, why, "what is wrong with it is not seen", "run the doctor as root")
        return
    entry = seen.entry
    assert entry is not None
    if not entry.is_folder:
        yield failure(check, f"{entry} is no folder", "neither agent nor etcd can live there", "set etcd.data_root")
        return
    strange = [each for each in (entry, *seen.members) if account is not None and each.owner_id != account.user_id]
    split = [each for each in seen.members if each.device != entry.device]
    open_to_all = entry.mode & 0o077
    if strange:
        assert account is not None
        said = f"agent and etcd run as {account.name}, and may not work with it"
        yield failure(check, f"not {account.name}'s: {_all(strange)}", said, f"chown -R {account.name}: {seen.root}")
    if split:
        said = "moving data aside is renaming: it fails, and a member that has to go to quarantine stays"
        fix = "mount one filesystem at the data root, and nothing below it"
        yield failure(check, f"on a filesystem of its own: {_all(split)}", said, fix)
    if open_to_all and not strange:
        said = "whoever has a shell here may look into it"
        yield warning(check, f"{entry} is open to others", said, f"chmod go= {entry.path}")
    if not (strange or split or open_to_all):
        yield ok(check, str(entry))


def _all(entries: Sequence[Entry]) -> str:
    return ", ".join(map(str, entries))


def _filesystem(found: Filesystem | Unknown, quota_bytes: int) -> Iterator[Finding]:
    check = "filesystem"
    if isinstance(found, Unknown):
        yield unknown(check, found, "it may be full, or forget everything", "run the doctor as root")
        return
    free, whole = found.free_bytes, found.size_bytes
    told = f"{found.kind} at {found.mount}, {_size(free)} of {_size(whole)} free"
    if found.read_only:
        yield failure(
            check, f"{told}, read-only", "etcd can write nothing", "look at the kernel's log; replace the instance"
        )
    elif free < LEAST_FREE_BYTES:
        said = "etcd's log grows by 64 MB at a time: it stops at the next"
        yield failure(check, told, said, "make the volume larger, or remove what is not etcd's")
    elif found.kind in VOLATILE:
        said = "a reboot takes the member's data: with two at once the cluster's majority is gone"
        yield failure(check, told, said, "give the data root a volume that outlives a reboot")
    elif found.kind in REMOTE:
        yield warning(check, told, "its delays cost elections, and a write may not be durable when it says so", FASTER)
    elif free < quota_bytes:
        said = f"the database may grow to {_size(quota_bytes)}, and a defragmentation or a restore writes it once more"
        yield warning(check, told, said, "make the volume larger, or etcd.quota_backend_bytes smaller")
    else:
        yield ok(check, told)


def _latency(found: Syncs | Unknown, heartbeat: timedelta) -> Iterator[Finding]:
    check = "disk-latency"
    said = "commits wait for it, and a leader that waits for its disk loses the lead"
    if isinstance(found, Unknown):
        yield unknown(check, found, said, "run the doctor as root or as etcd's user, with the volume mounted")
        return
    count = len(found.seconds)
    p50, p99, most = (found.percentile(each) for each in (50, 99, 100))
    times = f"p50 {_ms(p50)}, p99 {_ms(p99)}, at most {_ms(most)}"
    told = f"{count} appends of {found.append_bytes} bytes, each with fdatasync: {times}"
    if count < FEW_WRITES and p99 < heartbeat.total_seconds():
        yield unknown(check, f"{told}; too few for a p99", said, "run it again when the disk is less busy")
    elif p99 >= heartbeat.total_seconds():
        yield failure(check, told, f"slower than a heartbeat ({_ms(heartbeat.total_seconds())}): {said}", FASTER)
    elif p99 >= ADVISED_P99.total_seconds():
        yield warning(check, told, f"etcd asks for a p99 below {_ms(ADVISED_P99.total_seconds())}: {said}", FASTER)
    else:
        yield ok(check, told)


def _etcds_latency(found: EtcdsOwn | Unknown | None) -> Iterator[Finding]:
    check = "etcd-fsync"
    if found is None:
        return
    said = "what its log really waits for is not known"
    if isinstance(found, Unknown):
        yield unknown(check, found, said, "look at etcd_disk_wal_fsync_duration_seconds by hand")
    elif found.count < FEW_WRITES:
        yield ok(check, f"etcd has synced its log {found.count} times only since it started")
    else:
        bound = f"below {_ms(found.within_s)}" if found.within_s != float("inf") else "above every bound"
        told = f"p99 of etcd's own {found.count} syncs since it started: {bound}"
        if found.within_s >= 2 * ADVISED_P99.total_seconds():
            wanted = _ms(ADVISED_P99.total_seconds())
            yield warning(check, told, f"etcd asks for less than {wanted}: commits and elections wait for it", FASTER)
        else:
            yield ok(check, told)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count >> 20} MiB"
