"""A member's files, for tests: filled by a real etcd, copied, hurt, and given to a real etcd again."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.model.ids import ClientUrl
from agent.world.etcd_library import Etcd3Client, etcdrpc, grpc
from tests.contracts.etcd_cluster import Server

NEW_RAFT = re.compile(
    r"newRaft \S+ \[.*?term: (\d+), commit: (\d+), applied: (\d+), lastindex: (\d+), lastterm: (\d+)\]"
)


@dataclass(frozen=True)
class Boot:
    """What etcd made of a data directory: raft's own words, or why it ended."""

    exit_code: int | None  # None: it was still running
    log: str

    @property
    def raft(self) -> dict[str, int]:
        found = NEW_RAFT.search(self.log)
        assert found, self.log[-3000:]
        keys = ("term", "commit", "applied", "lastindex", "lastterm")
        return dict(zip(keys, map(int, found.groups()), strict=True))


def boot(binary: Path, data: Path, *flags: str, seconds: float = 8) -> Boot:
    """Start etcd on this directory until raft says what it found, or etcd ends. On ports that lead nowhere."""
    log = data.parent / f"{data.name}.boot.log"
    urls = "http://127.0.0.1:0"
    command = [
        str(binary),
        f"--data-dir={data}",
        f"--listen-client-urls={urls}",
        f"--listen-peer-urls={urls}",
        f"--advertise-client-urls={urls}",
        f"--initial-advertise-peer-urls={urls}",
        "--initial-cluster=default=" + urls,
        "--logger=zap",
        *flags,
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end and "newRaft" not in log.read_text():
        time.sleep(0.02)
    time.sleep(0.1)
    code = process.poll()
    process.kill()
    process.wait()
    return Boot(code, log.read_text())


def copied(data: Path, into: Path) -> Path:
    return Path(shutil.copytree(data, into))


def segments(data: Path) -> list[Path]:
    return sorted((data / "member" / "wal").glob("*.wal"))


def flip(path: Path, at: int) -> None:
    """Turn one bit of the file over."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0x10]))


@dataclass
class Load:
    """Writers that put numbered keys through these endpoints, and what was acknowledged to them."""

    endpoints: list[ClientUrl]
    value: bytes = b"x" * 100
    writers: int = 4
    acknowledged: set[bytes] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        for number in range(self.writers):
            endpoint = self.endpoints[number % len(self.endpoints)]
            thread = threading.Thread(target=self._write, args=(endpoint, number))
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self, endpoint: ClientUrl, number: int) -> None:
        client = client_of(endpoint)
        count = 0
        while not self._stop.is_set():
            key = f"load/{number}/{count:08d}".encode()
            try:
                client.kvstub.Put(etcdrpc.PutRequest(key=key, value=self.value), timeout=2)
            except (grpc.RpcError, ValueError):
                break
            self.acknowledged.add(key)
            count += 1
        client.close()


@contextmanager
def under_load(endpoints: list[ClientUrl], value: bytes = b"x" * 100, writers: int = 4) -> Iterator[Load]:
    load = Load(endpoints, value, writers)
    load.start()
    try:
        yield load
    finally:
        load.stop()


def client_of(endpoint: ClientUrl) -> Etcd3Client:
    host, _, port = endpoint.partition("//")[2].rpartition(":")
    return Etcd3Client(host=host, port=int(port))


def put(endpoint: ClientUrl, keys: list[str], value: bytes = b"v") -> None:
    client = client_of(endpoint)
    for key in keys:
        client.kvstub.Put(etcdrpc.PutRequest(key=key.encode(), value=value), timeout=5)
    client.close()


def keys(endpoint: ClientUrl, prefix: bytes = b"") -> set[bytes]:
    """Every key, by a read that any member may answer."""
    client = client_of(endpoint)
    request = etcdrpc.RangeRequest(key=prefix or b"\0", range_end=b"\0", keys_only=True, serializable=True)
    found = {each.key for each in client.kvstub.Range(request, timeout=10).kvs}
    client.close()
    return found


def end(server: Server) -> None:
    """SIGTERM, and wait: etcd closes its files."""
    assert server.process is not None
    server.process.terminate()
    server.process.wait(timeout=30)
    server.process = None
