"""A snapshot on its way: pieces as they come, and an end to a stream in which none does.

gRPC knows a deadline for a whole call only, and a good snapshot may take an hour. So a watcher looks on, and cancels
the call when a piece has been awaited for too long. While our own side works on a piece, nobody is awaited: a slow
upload is not a slow etcd.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from time import perf_counter

from agent.model.faults import Unavailable
from agent.model.known import Ignorance
from agent.world.etcd_auth import Metadata
from agent.world.etcd_channels import Link
from agent.world.etcd_library import etcdrpc, grpc

LOOKS = 10
"""How often in one patience the watcher looks: it ends a stream at most a tenth too late."""


def pieces(link: Link, patience: timedelta, metadata: Metadata = ()) -> Iterator[bytes]:
    """Raises gRPC's errors as they are; Unavailable(TIMEOUT) for a stream that stood still."""
    call = link.snapshot.call(etcdrpc.SnapshotRequest(), metadata=metadata)
    watcher = _Watcher(call, patience.total_seconds())
    try:
        while True:
            with watcher:
                piece = next(call, None)
            if piece is None:
                return
            if piece:
                yield piece
    except grpc.RpcError as error:
        if watcher.gave_up:
            said = f"Snapshot at {link.endpoint}: nothing of it came for {patience.total_seconds():.0f} s"
            raise Unavailable(Ignorance.TIMEOUT, said) from error
        raise
    finally:
        watcher.done.set()
        call.cancel()  # no harm to one that has ended


class _Watcher:
    """Within its `with`, a piece is awaited."""

    def __init__(self, call: grpc.Call, seconds: float) -> None:
        self.gave_up = False
        self.done = threading.Event()
        self._since: float | None = None
        self._call = call
        self._seconds = seconds
        threading.Thread(target=self._watch, name="snapshot-watcher", daemon=True).start()

    def __enter__(self) -> None:
        self._since = perf_counter()

    def __exit__(self, *_: object) -> None:
        self._since = None

    def _watch(self) -> None:
        while not self.done.wait(self._seconds / LOOKS):
            since = self._since
            if since is not None and perf_counter() - since > self._seconds:
                self.gave_up = True
                self._call.cancel()
                return
