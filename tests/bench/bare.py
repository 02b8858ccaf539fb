"""Etcd without an agent, for comparison: the best that perfect knowledge can do, by hand."""

from __future__ import annotations

import base64
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from agent.lab import members
from agent.model.faults import Refused, Unavailable
from agent.world.etcd import EtcdDoor
from tests.contracts.etcd_cluster import Cluster, Server, _free_block

T = TypeVar("T")

VALUE_BYTES = 4096
PUTS_PER_TXN = 100
"""Of etcd's --max-txn-ops of 128, and well below --max-request-bytes."""


@contextlib.contextmanager
def three(binary: Path, folder: Path) -> Iterator[Cluster]:
    """Three servers that are not started yet; gone at the end."""
    folder.mkdir()
    with Cluster(binary, folder, [], _free_block()) as cluster:
        cluster.servers = [cluster.spare() for _ in range(3)]
        yield cluster


def first_write(addresses: list[str], within_s: float = 120.0) -> float:
    """Wait until some member acknowledges a write; returns the moment (monotonic seconds)."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        for address in addresses:
            if members.put(address, "bench", "first", 1.0) is not None:
                return time.monotonic()
        time.sleep(0.01)
    raise AssertionError(f"nobody took a write within {within_s:g} s")


def fill(address: str, size_mb: int) -> None:
    """So many megabytes of random values of 4 KiB, in transactions."""
    written = 0
    while written < size_mb * 1_000_000:
        puts = [_put(f"fill/{written + number:012d}") for number in range(PUTS_PER_TXN)]
        answer = members.ask(address, "/v3/kv/txn", {"success": puts}, 30.0)
        assert answer is not None, "a transaction was not acknowledged"
        assert "header" in answer, answer
        written += PUTS_PER_TXN * VALUE_BYTES


def _put(key: str) -> dict[str, object]:
    value = base64.b64encode(os.urandom(VALUE_BYTES)).decode()
    return {"request_put": {"key": base64.b64encode(key.encode()).decode(), "value": value}}


def replace(cluster: Cluster, door: EtcdDoor, dead: Server) -> float:
    """Kill a member and bring in another as a learner, then a voter; the seconds from its start to its promotion."""
    alive = [each for each in cluster.servers if each is not dead]
    dead.kill()
    survivor = alive[0].client_url
    entry = next(each for each in _retry(lambda: door.membership(survivor)).members if each.name == dead.name)
    _retry(lambda: door.remove(survivor, entry.id))
    new = cluster.spare()
    member = _retry(lambda: door.add_learner(survivor, new.peer_url))
    cluster.servers = alive
    began = time.monotonic()
    cluster.join(new)
    _retry(lambda: door.promote(survivor, member))
    cluster.servers = [*alive, new]
    return time.monotonic() - began


def _retry(call: Callable[[], T]) -> T:
    deadline = time.monotonic() + 60
    while True:
        try:
            return call()
        except (Refused, Unavailable):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
