"""Disk, ports and clock: what was read, judged; and how it is read."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.doctor.finding import Finding, Level
from agent.doctor.judging import clock, disk, ports
from agent.doctor.judging.clock import Compared, Kept
from agent.doctor.judging.disk import DiskSeen, EtcdsOwn, Filesystem, Syncs
from agent.doctor.judging.installation import Account, Entry
from agent.doctor.judging.ports import Holder, PortsSeen
from agent.doctor.looking import clock as clocks
from agent.doctor.looking import disk as disks
from agent.doctor.looking import ports as sockets
from agent.model.disk import EtcdRunning, EtcdStopped
from agent.model.faults import Refused
from agent.model.known import Ignorance, Unknown

DENIED = Unknown(Ignorance.OURS, "may not be read")
GIB = 1 << 30


def levels(found: list[Finding]) -> dict[str, Level]:
    return {each.check: each.level for each in found}


def bad(found: list[Finding]) -> dict[str, Level]:
    return {check: level for check, level in levels(found).items() if level is not Level.OK}


# ---- disk -----------------------------------------------------------------------------------------------------------

ROOT = Path("/var/lib/etcd")
ETCD = Account("etcd", 998)


def part(name: str, owner_id: int = 998, mode: int = 0o700, device: int = 1) -> Entry:
    return Entry(ROOT / name, str(owner_id), owner_id, mode, is_folder=True, device=device)


DISK = DiskSeen(
    root=ROOT,
    entry=part("."),
    members=(part("data"), part("identity.json", mode=0o644)),
    filesystem=Filesystem("xfs", ROOT, read_only=False, free_bytes=20 * GIB, size_bytes=30 * GIB),
    syncs=Syncs([0.001] * 990 + [0.009] * 10, 2300),
    etcds_own=EtcdsOwn(5000, 0.008),
)


def of_disk(seen: DiskSeen) -> list[Finding]:
    return list(disk.judge(seen, ETCD, 2 * GIB, timedelta(milliseconds=100)))


def on(**changed: Any) -> DiskSeen:
    assert isinstance(DISK.filesystem, Filesystem)
    return replace(DISK, filesystem=replace(DISK.filesystem, **changed))


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (DISK, {}),
        (replace(DISK, entry=None, members=(), etcds_own=None), {}),
        (replace(DISK, entry=DENIED), {"data-root": Level.UNKNOWN}),
        (replace(DISK, members=DENIED), {"data-root": Level.UNKNOWN}),
        (replace(DISK, entry=replace(part("."), is_folder=False)), {"data-root": Level.FAILURE}),
        (replace(DISK, members=(part("data", owner_id=0),)), {"data-root": Level.FAILURE}),
        (replace(DISK, members=(part("data", device=2),)), {"data-root": Level.FAILURE}),
        (replace(DISK, entry=part(".", mode=0o755)), {"data-root": Level.WARNING}),
        (on(free_bytes=GIB), {"filesystem": Level.WARNING}),
        (on(free_bytes=50 << 20), {"filesystem": Level.FAILURE}),
        (on(read_only=True), {"filesystem": Level.FAILURE}),
        (on(kind="tmpfs"), {"filesystem": Level.FAILURE}),
        (on(kind="nfs4"), {"filesystem": Level.WARNING}),
        (replace(DISK, filesystem=DENIED), {"filesystem": Level.UNKNOWN}),
        (replace(DISK, syncs=Syncs([0.001] * 980 + [0.011] * 20, 2300)), {"disk-latency": Level.WARNING}),
        (replace(DISK, syncs=Syncs([0.11] * 45, 2300)), {"disk-latency": Level.FAILURE}),
        (replace(DISK, syncs=Syncs([0.001] * 99, 2300)), {"disk-latency": Level.UNKNOWN}),
        (replace(DISK, syncs=DENIED), {"disk-latency": Level.UNKNOWN}),
        (replace(DISK, etcds_own=EtcdsOwn(5000, 0.032)), {"etcd-fsync": Level.WARNING}),
        (replace(DISK, etcds_own=EtcdsOwn(5000, float("inf"))), {"etcd-fsync": Level.WARNING}),
        (replace(DISK, etcds_own=EtcdsOwn(7, 0.512)), {}),
        (replace(DISK, etcds_own=DENIED), {"etcd-fsync": Level.UNKNOWN}),
    ],
)
def test_a_disk(seen: DiskSeen, expected: dict[str, Level]) -> None:
    assert bad(of_disk(seen)) == expected


def test_the_slowest_in_a_hundred_are_told() -> None:
    syncs = Syncs([each / 1000 for each in range(1, 101)], 2300)
    assert [syncs.percentile(each) for each in (50, 99, 100)] == [0.05, 0.099, 0.1]
    assert (
        "p99 99 ms" in next(each for each in of_disk(replace(DISK, syncs=syncs)) if each.check == "disk-latency").found
    )


def ticking(step: float) -> Callable[[], float]:
    now = iter(range(1 << 30))
    return lambda: next(now) * step


def test_a_slow_disk_is_not_kept_busy_for_long() -> None:
    """With a second from one look at the clock to the next, and so a second for each append."""
    assert disks.timed(lambda: None, disks.MOST_TIME, ticking(1.0), lambda: None) == [1.0, 1.0]
    fast = disks.timed(lambda: None, disks.MOST_TIME, ticking(1e-6), lambda: None)
    assert len(fast) == disks.MOST_APPENDS


def test_a_measurement_leaves_nothing_behind(tmp_path: Path) -> None:
    from agent.world.clock import SystemClock

    found = disks.syncs(tmp_path, SystemClock(), timedelta(milliseconds=50))
    assert 1 <= len(found.seconds) <= disks.MOST_APPENDS
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Refused, match="is not there"):
        disks.syncs(tmp_path / "none", SystemClock())


def test_the_filesystem_is_that_of_the_nearest_mount() -> None:
    line = "36 35 98:0 / {} rw,noatime master:1 - {} /dev/x rw"
    mounts = "\n".join([line.format("/", "ext4"), line.format("/proc", "proc"), line.format("/with\\040space", "xfs")])
    assert disks.filesystem(Path("/proc/self"), mounts).kind == "proc"
    there = disks.filesystem(Path("/nowhere/at/all"), mounts)
    assert (there.kind, there.mount) == ("ext4", Path("/"))
    assert there.size_bytes >= there.free_bytes > 0


def test_etcds_own_histogram() -> None:
    assert disks.ninety_nine({0.001: 90, 0.002: 98, 0.004: 99, float("inf"): 100}) == EtcdsOwn(100, 0.004)
    assert disks.ninety_nine({0.001: 0, float("inf"): 0}) == EtcdsOwn(0, 0.001)
    assert disks.ninety_nine({0.001: 1, float("inf"): 2}).within_s == float("inf")


# ---- ports ----------------------------------------------------------------------------------------------------------

MINE = Holder(77, "etcd", "etcd")
AGENT = Holder(70, "etcd", "etcd-asg-agent")
STRANGER = Holder(66, "root", "nginx")
HIDDEN = Holder(None, "root")
PORTS = {"client": 2379, "peer": 2380, "metrics": 2381}
RUNNING = PortsSeen(
    ports=PORTS,
    agent_port=9379,
    holders={2379: (MINE,), 2380: (MINE,), 2381: (MINE,), 9379: (AGENT,)},
    etcd=EtcdRunning(77),
    agent="i-0a",
    me="i-0a",
    etcd_files=65536,
)
IDLE = PortsSeen(PORTS, 9379, {}, EtcdStopped(), agent=Unknown(Ignorance.UNREACHABLE, "refused"), me="i-0a")


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (RUNNING, {}),
        (IDLE, {}),
        (replace(IDLE, holders={2379: (STRANGER,)}), {"etcd-ports": Level.FAILURE}),
        (replace(RUNNING, holders={**RUNNING.holders, 2381: (STRANGER,)}), {"etcd-ports": Level.FAILURE}),  # type: ignore[dict-item]
        (replace(IDLE, holders={2380: (HIDDEN,)}), {"etcd-ports": Level.UNKNOWN}),
        (replace(RUNNING, etcd=DENIED), {"etcd-ports": Level.UNKNOWN}),
        (replace(RUNNING, holders={2381: (MINE,), 9379: (AGENT,)}), {"etcd-ports": Level.WARNING}),
        (replace(IDLE, holders={9379: (STRANGER,)}), {"agent-port": Level.FAILURE}),
        (replace(RUNNING, agent="i-0b"), {"agent-port": Level.FAILURE}),
        (replace(RUNNING, agent=""), {}),
        (replace(RUNNING, holders=DENIED), {"ports": Level.UNKNOWN}),
        (replace(RUNNING, etcd_files=1024), {"etcd-files": Level.WARNING}),
        (replace(RUNNING, etcd_files=DENIED), {"etcd-files": Level.UNKNOWN}),
    ],
)
def test_ports(seen: PortsSeen, expected: dict[str, Level]) -> None:
    assert bad(list(ports.judge(seen))) == expected


def test_who_listens_is_found_by_its_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("0.0.0.0", 0)) as everywhere:
        one, other = server.getsockname()[1], everywhere.getsockname()[1]
        found = sockets.holders(frozenset({"127.0.0.1"}), frozenset({one, other}))
        assert [each.pid for port in (one, other) for each in found[port]] == [os.getpid(), os.getpid()]
        assert sockets.holders(frozenset({"127.0.0.9"}), frozenset({one}))[one] == (), "another address's"
    assert sockets.holders(frozenset({"127.0.0.1"}), frozenset({one}))[one] == ()
    assert sockets.files_of(os.getpid()) > 0


def test_the_kernels_table_is_read_in_both_families() -> None:
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    row = "   0: {}:094B {}:0000 {} 00000000:00000000 00:00000000 00000000   998        0 4711 1 0 100 0 0 10 0\n"
    four = head + row.format("0100007F", "00000000", "0A") + row.format("0100007F", "00000000", "01")
    assert list(sockets.listening(four)) == [sockets.Listening("127.0.0.1", 2379, 998, "4711")]
    mapped = head + row.format("0000000000000000FFFF00000100007F", "0" * 32, "0A")
    assert [each.address for each in sockets.listening(mapped)] == ["127.0.0.1"]
    anywhere = head + row.format("0" * 32, "0" * 32, "0A")
    assert [each.address for each in sockets.listening(anywhere)] == ["::"]


# ---- clock ----------------------------------------------------------------------------------------------------------

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
SYNCHRONISED = Kept("chronyd", synchronised=True, bound=timedelta(milliseconds=0.4))


def ahead(seconds: float) -> Compared:
    """A clock so far ahead, with an answer after a tenth of a second."""
    asked = NOON + timedelta(seconds=seconds)
    return Compared("S3's Date header", asked, asked + timedelta(seconds=0.1), NOON)


@pytest.mark.parametrize(
    ("seconds", "level"),
    [
        (0, Level.OK),
        (5.9, Level.OK),
        (6.1, Level.WARNING),
        (-4.9, Level.OK),
        (-5.2, Level.WARNING),
        (300, Level.WARNING),
        (302, Level.FAILURE),
        (-301, Level.FAILURE),
    ],
)
def test_only_what_is_certain_counts(seconds: float, level: Level) -> None:
    assert levels(list(clock.judge(ahead(seconds), SYNCHRONISED)))["clock"] is level


def test_the_bound_is_that_of_whole_seconds_and_of_the_way_there_and_back() -> None:
    assert ahead(0).bounds == (timedelta(seconds=-1), timedelta(seconds=0.1))


def test_the_time_service() -> None:
    assert bad(list(clock.judge(ahead(0), SYNCHRONISED))) == {}
    drifting = replace(SYNCHRONISED, synchronised=False)
    assert bad(list(clock.judge(ahead(0), drifting))) == {"clock-service": Level.WARNING}
    assert bad(list(clock.judge(DENIED, DENIED))) == {"clock": Level.UNKNOWN, "clock-service": Level.UNKNOWN}


def test_chrony_is_believed_as_far_as_it_says() -> None:
    said = "A9FEA97B,169.254.169.123,4,1764072000.1,0.000012,-1e-5,2e-5,-3.1,0.0,0.01,0.000400,0.000100,16.2,Normal\n"
    kept = clocks.chrony(said)
    assert (kept.by, kept.synchronised) == ("chronyd", True)
    assert kept.bound == timedelta(seconds=0.000312)
    assert not clocks.chrony(said.replace("Normal", "Not synchronised")).synchronised
    with pytest.raises(Refused):
        clocks.chrony("506 Cannot talk to daemon")
