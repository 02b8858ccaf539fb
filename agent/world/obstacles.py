"""What would keep any etcd from running on this instance, whatever its data is. Looked for while none runs.

Only what was seen is named: an error that says nothing of the kind (no permission, an address that is not here) leaves
as `Refused`, which is ignorance to whoever asks.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.model.disk import Obstacle, ObstacleKind
from agent.model.faults import Refused
from agent.world import durable

LEAST_FREE_BYTES = 96 << 20
"""etcd allocates its write-ahead log in segments of 64 MB ahead of time, and needs some for its database."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
FAILING = frozenset({errno.EIO, errno.EROFS, errno.ENXIO, errno.ENODEV})


def obstacle(root: Path, address: str, ports: Sequence[int], etcd_version: Callable[[], str]) -> Obstacle | None:
    """The first that is found: no etcd, a disk that takes nothing, a port that is somebody else's."""
    try:
        etcd_version()
    except Refused as refused:
        return Obstacle(ObstacleKind.BINARY, str(refused))
    return _of_the_disk(root) or _of_the_ports(address, ports)


def _of_the_disk(root: Path) -> Obstacle | None:
    """By writing a little, as durably as etcd does."""
    doing, probe = f"writing to {root}", root / ".probe"
    try:
        probe.write_bytes(bytes(4096))
        durable.sync_any(probe)
        probe.unlink()
        found = os.statvfs(root)
    except OSError as error:
        why = f"{doing}: {durable.explained(error)}"
        if error.errno in FULL:
            return Obstacle(ObstacleKind.FULL, why)
        if error.errno in FAILING:
            return Obstacle(ObstacleKind.DISK, why)
        raise durable.refused(doing, error) from error
    free = found.f_bavail * found.f_frsize
    if free < LEAST_FREE_BYTES:
        return Obstacle(ObstacleKind.FULL, f"{root}: only {free >> 20} MiB are free, and etcd's log grows by 64 MB")
    return None


def _of_the_ports(address: str, ports: Sequence[int]) -> Obstacle | None:
    taken = [str(port) for port in ports if _is_taken(address, port)]
    if not taken:
        return None
    return Obstacle(ObstacleKind.PORT, f"something else listens on {address} port {', '.join(taken)}")


def _is_taken(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as mine:
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # whoever only just closed it does not count
        try:
            mine.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise durable.refused(f"listening on {address} port {port}", error) from error
    return False
