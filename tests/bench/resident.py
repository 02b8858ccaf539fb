"""The agent's way with snapshots in a process that is there already, as the agent is: what it takes is measured from
the order to the answer.

    python -m tests.bench.resident ENDPOINT       one order a line on standard input, one JSON answer a line

House rules. Orders are `take N`, `gzip N` (the same way with zlib at level 6 for zstd), `fetch N FILE` and `drop N`;
N is the snapshot's revision. The memory in an answer is the most that this process held since the last one.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.model.ids import ClientUrl, GenerationNumber, InstanceId
from agent.model.snapshot import Manifest, Origin, SnapshotName
from agent.world.aws import Aws
from agent.world.etcd import EtcdDoor
from agent.world.snapshot_store import SnapshotStore, Transfers
from agent.world.snapshot_stream import CompressedSnapshot

ROOT = Path(__file__).resolve().parents[2]
BUCKET, CLUSTER = "bench", "c1"


@dataclass
class Resident:
    """The process, seen from outside."""

    process: subprocess.Popen[str]

    def order(self, *words: object) -> dict[str, Any]:
        """Seconds, CPU seconds and peak memory of what it did."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(*words, file=self.process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@contextlib.contextmanager
def running(endpoint: ClientUrl, environment: dict[str, str]) -> Iterator[Resident]:
    command = [sys.executable, "-m", "tests.bench.resident", endpoint]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as process:
        try:
            yield Resident(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(30)


class Worker:
    """The same, from inside."""

    def __init__(self, endpoint: str) -> None:
        self.store = SnapshotStore(Aws("eu-west-1"), BUCKET, "etcd", CLUSTER)
        self.door, self.endpoint = EtcdDoor(), ClientUrl(endpoint)
        self.manifests: dict[int, Manifest] = {}

    def do(self, order: str, number: int, file: str = "") -> None:
        match order:
            case "take" | "gzip":
                self.take(number, gzip=order == "gzip")
            case "fetch":
                self.store.fetch(self.manifests[number], Path(file))
            case "drop":
                self.store.delete([self.manifests[number].name])
            case _:
                raise ValueError(order)

    def take(self, number: int, gzip: bool) -> None:
        name = SnapshotName(GenerationNumber(1), number, datetime(2026, 11, 22, tzinfo=UTC))
        stream = CompressedSnapshot(self.door.snapshot(self.endpoint), Transfers().part_bytes)
        if gzip:
            stream._compressor = zlib.compressobj(6, zlib.DEFLATED, 31)  # type: ignore[assignment]
        sent = self.store._upload(name, stream)
        sizes = (sent.size_bytes, sent.sha256, sent.stored_bytes)
        made = Manifest(name, CLUSTER, Origin.SCHEDULE, InstanceId("i-0a"), "0", "3.5", *sizes)
        self.store.commit(made)
        self.manifests[number] = made


def peak_mb() -> float:
    """The most this process held since the last call, in 10^6 bytes (proc(5): VmHWM, and `5` into clear_refs)."""
    status = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def main() -> None:
    worker = Worker(sys.argv[1])
    _ = worker.store._client  # the agent has one by its second snapshot
    for line in sys.stdin:
        order, number, *rest = line.split()
        peak_mb()
        began, cpu = time.monotonic(), time.process_time()
        worker.do(order, int(number), *rest)
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        stored = worker.manifests[int(number)].stored_bytes
        print(json.dumps({"s": seconds, "cpu_s": cpu, "peak_mb": peak_mb(), "stored_bytes": stored}), flush=True)


if __name__ == "__main__":
    main()
