"""What would keep any etcd from running here: disks that are full or read-only, ports that are taken, no etcd."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.model.disk import ObstacleKind
from agent.model.faults import Refused, Unavailable
from agent.model.known import Ignorance
from agent.world.obstacles import LEAST_FREE_BYTES, obstacle

HERE = "127.0.0.1"


def version() -> str:
    return "3.5.30"


@contextmanager
def mounted(at: Path, options: str) -> Iterator[None]:
    """A filesystem in memory; skipped where this user may mount none."""
    at.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", at], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("mounting takes root")
    try:
        yield
    finally:
        subprocess.run(["umount", at], check=True)


@contextmanager
def listening() -> Iterator[int]:
    with socket.create_server((HERE, 0)) as server:
        yield server.getsockname()[1]


def test_where_all_is_well_nothing_is_found_and_nothing_left(tmp_path: Path) -> None:
    assert obstacle(tmp_path, HERE, (), version) is None
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_somebody_listens_on_is_named(tmp_path: Path) -> None:
    with listening() as port:
        found = obstacle(tmp_path, HERE, (port,), version)
        assert found is not None
        assert found.kind is ObstacleKind.PORT
        assert str(port) in found.why
    assert obstacle(tmp_path, HERE, (port,), version) is None


def test_an_address_that_is_not_here_says_nothing(tmp_path: Path) -> None:
    """Not even that nothing is in the way: etcd cannot listen there either, and its data is not to blame."""
    with pytest.raises(Refused, match=r"192\.0\.2\.1 port 2379"):
        obstacle(tmp_path, "192.0.2.1", (2379,), version)


def raising(error: Exception) -> Callable[[], str]:
    def ask() -> str:
        raise error

    return ask


def test_no_etcd_is_an_obstacle_and_one_that_does_not_answer_is_none(tmp_path: Path) -> None:
    found = obstacle(tmp_path, HERE, (), raising(Refused("there is no etcd")))
    assert found is not None
    assert (found.kind, found.why) == (ObstacleKind.BINARY, "there is no etcd")
    with pytest.raises(Unavailable):
        obstacle(tmp_path, HERE, (), raising(Unavailable(Ignorance.TIMEOUT, "it did not end in time")))


def test_a_folder_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(Refused):
        obstacle(tmp_path / "nowhere", HERE, (), version)


def test_a_disk_with_too_little_room_for_another_segment_is_full(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", f"size={LEAST_FREE_BYTES // 2}"):
        found = obstacle(tmp_path / "disk", HERE, (), version)
        assert found is not None
        assert found.kind is ObstacleKind.FULL


def test_so_is_one_without_any(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=4096"):
        (tmp_path / "disk" / "all of it").write_bytes(bytes(4096))
        found = obstacle(tmp_path / "disk", HERE, (), version)
        assert found is not None
        assert (found.kind, "full" in found.why) == (ObstacleKind.FULL, True)


def test_a_disk_that_is_read_only_fails(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "ro"):
        found = obstacle(tmp_path / "disk", HERE, (), version)
        assert found is not None
        assert (found.kind, "read-only" in found.why) == (ObstacleKind.DISK, True)
