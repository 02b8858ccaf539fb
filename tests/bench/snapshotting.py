"""A snapshot to its manifest, and a restore to the first acknowledged write; beside etcd's and AWS's own tools.

Against `tests.bench.sink`, because an S3 emulator would be what is measured. Ours runs in a process that is there
already, as the agent is; by hand it is `etcdctl snapshot save` and `aws s3 cp`, and back `aws s3 cp`, `etcdutl snapshot
restore` and etcd. They take turns. `aws` is `.cache/awscli/bin/aws`, or BENCH_AWS:

    python3 -m venv .cache/awscli && .cache/awscli/bin/pip install awscli
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agent.lab import members
from tests.bench import bare, resident, sink
from tests.bench.report import Table, spread
from tests.bench.resident import BUCKET, Resident
from tests.contracts.etcd_cluster import Cluster, _free_block, running
from tests.etcd_versions import EtcdVersion

ROOT = Path(__file__).resolve().parents[2]
Value = Callable[[], bytes]


@dataclass(frozen=True)
class Pair:
    """One round of both sides: seconds, and CPU seconds of the client (not of etcd or the store)."""

    ours: float
    theirs: float
    our_cpu: float = 0.0
    their_cpu: float = 0.0


@dataclass
class Taken:
    """What the rounds of one database gave."""

    snapshots: list[Pair] = field(default_factory=list)
    restores: list[Pair] = field(default_factory=list)
    peaks_mb: list[float] = field(default_factory=list)
    downward_peaks_mb: list[float] = field(default_factory=list)
    compressions: list[Pair] = field(default_factory=list)
    sizes: tuple[int, int] = (0, 0)  # stored by zstd and by gzip


@dataclass(frozen=True)
class Bench:
    """Where everything is."""

    etcd: EtcdVersion
    aws: Path
    folder: Path
    environment: dict[str, str]


def measure(etcd: EtcdVersion, rounds: int, size_mb: int) -> Table:
    """Both databases, rounds in turn; the first round of each is dropped."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, sink.running() as (url, _):
        bench = Bench(etcd, _aws(), Path(name), _environment(url))
        noise = _measure(bench, rounds, size_mb, "random", lambda: os.urandom(bare.VALUE_BYTES), _round)
        text = _measure(bench, rounds, size_mb, "json", pod_like, _compression_round)
    return _table(rounds, size_mb, noise, text)


def _aws() -> Path:
    found = Path(os.environ.get("BENCH_AWS") or ROOT / ".cache" / "awscli" / "bin" / "aws")
    if not found.exists():
        raise SystemExit(f"no {found}: python3 -m venv .cache/awscli && .cache/awscli/bin/pip install awscli")
    return found


def _environment(url: str) -> dict[str, str]:
    """Made-up credentials, no files and no IMDS: everything stays on loopback."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("AWS_") and "proxy" not in name.lower()
    }
    given = {"ENDPOINT_URL": url, "ACCESS_KEY_ID": "AKIATEST", "SECRET_ACCESS_KEY": "test", "REGION": "eu-west-1",
             "DEFAULT_REGION": "eu-west-1", "EC2_METADATA_DISABLED": "true", "CONFIG_FILE": "/dev/null",
             "SHARED_CREDENTIALS_FILE": "/dev/null"}  # fmt: skip
    return kept | {f"AWS_{name}": value for name, value in given.items()} | {"ETCDCTL_API": "3"}


def _measure(
    bench: Bench,
    rounds: int,
    size_mb: int,
    name: str,
    value: Value,
    round_of: Callable[[Bench, Cluster, Resident, Taken], None],
) -> Taken:
    taken = Taken()
    folder = bench.folder / name
    folder.mkdir()
    with running(bench.etcd.etcd, folder, 1) as cluster:
        fill(cluster.servers[0].address, size_mb, value)
        with resident.running(cluster.servers[0].client_url, bench.environment) as ours:
            for number in range(rounds + 1):
                if number == 1:
                    taken = Taken()
                round_of(bench, cluster, ours, taken)
                print(f"snapshotting, {name}, round {number}: {_last(taken)}", flush=True)
    shutil.rmtree(folder)
    return taken


def _last(taken: Taken) -> str:
    pairs = {"snapshot": taken.snapshots, "restore": taken.restores, "zstd/gzip": taken.compressions}
    said = [f"{what} {each[-1].ours:.2f}/{each[-1].theirs:.2f} s" for what, each in pairs.items() if each]
    return f"{', '.join(said)}, peak {taken.peaks_mb[-1]:.0f} MB"


def fill(address: str, size_mb: int, value: Value) -> None:
    """So many megabytes of values under keys of their own, in transactions."""
    for first in range(0, size_mb * 1_000_000 // bare.VALUE_BYTES, bare.PUTS_PER_TXN):
        puts = [_put(f"fill/{first + number:012d}", value()) for number in range(bare.PUTS_PER_TXN)]
        answer = members.ask(address, "/v3/kv/txn", {"success": puts}, 60.0)
        assert answer is not None, "a transaction was not acknowledged"
        assert "header" in answer, answer


def _put(key: str, value: bytes) -> dict[str, object]:
    return {"request_put": {"key": base64.b64encode(key.encode()).decode(), "value": base64.b64encode(value).decode()}}


def pod_like() -> bytes:
    """4 KiB of what Kubernetes keeps: the same fields again and again, with names and IDs of their own."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"uid": f"{random.getrandbits(128):032x}", "namespace": "default"},
    }
    names = iter(lambda: f"worker-{random.getrandbits(40):010x}", None)
    containers: list[dict[str, object]] = []
    while len(json.dumps(pod | {"spec": {"containers": containers}})) < bare.VALUE_BYTES - 250:
        ports = [{"containerPort": random.randrange(1024, 65536), "protocol": "TCP"}]
        limits = {"cpu": f"{random.randrange(1000)}m", "memory": f"{random.randrange(4096)}Mi"}
        named = {
            "name": next(names),
            "image": f"registry.example.com/{next(names)}:v1",
            "imagePullPolicy": "IfNotPresent",
        }
        containers.append(named | {"ports": ports, "resources": {"limits": limits, "requests": limits}})
    return json.dumps(pod | {"spec": {"containers": containers}}).encode()


# ---- a round -------------------------------------------------------------------------------------------------------


def _round(bench: Bench, cluster: Cluster, ours: Resident, taken: Taken) -> None:
    """A snapshot each, and each restored."""
    number = random.randrange(1, 10**9)
    endpoint, saved = cluster.servers[0].client_url, bench.folder / "saved.db"
    mine = ours.order("take", number)
    with _timed() as theirs:
        _run(bench, str(bench.etcd.etcdctl), f"--endpoints={endpoint}", "snapshot", "save", str(saved))
        _run(bench, str(bench.aws), "s3", "cp", "--only-show-errors", str(saved), f"s3://{BUCKET}/by-hand.db")
    saved.unlink()
    taken.snapshots.append(Pair(mine["s"], theirs[0], mine["cpu_s"], theirs[1]))
    taken.peaks_mb.append(mine["peak_mb"])
    _restore_round(bench, ours, number, taken)
    ours.order("drop", number)
    _run(bench, str(bench.aws), "s3", "rm", "--only-show-errors", f"s3://{BUCKET}/by-hand.db")


def _restore_round(bench: Bench, ours: Resident, number: int, taken: Taken) -> None:
    """The snapshots of this round, each restored; who goes second finds the machine's memory warm: that alternates."""
    down: list[dict[str, float]] = []

    def fetch(file: Path) -> None:
        down.append(ours.order("fetch", number, file))

    by_hand = ("s3", "cp", "--only-show-errors", f"s3://{BUCKET}/by-hand.db")
    sides = {
        "us": lambda: _restored(bench, fetch, "--skip-hash-check"),
        "them": lambda: _restored(bench, lambda file: _run(bench, str(bench.aws), *by_hand, str(file))),
    }
    first_and_second = ("us", "them") if len(taken.restores) % 2 else ("them", "us")
    seconds = {side: sides[side]() for side in first_and_second}
    taken.restores.append(Pair(seconds["us"], seconds["them"]))
    taken.downward_peaks_mb.append(down[0]["peak_mb"])


def _compression_round(bench: Bench, cluster: Cluster, ours: Resident, taken: Taken) -> None:
    """The same pipeline with zstd at its level 1, and with gzip at its level 6."""
    number = random.randrange(1, 10**9)
    mine = ours.order("take", number)
    theirs = ours.order("gzip", number + 1)
    taken.compressions.append(Pair(mine["s"], theirs["s"], mine["cpu_s"], theirs["cpu_s"]))
    taken.peaks_mb.append(mine["peak_mb"])
    taken.sizes = (int(mine["stored_bytes"]), int(theirs["stored_bytes"]))
    ours.order("drop", number)
    ours.order("drop", number + 1)


def _run(bench: Bench, *command: str) -> None:
    done = subprocess.run(command, env=bench.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"


@contextlib.contextmanager
def _timed() -> Iterator[list[float]]:
    """Seconds, and CPU seconds of the processes that were started and ended in here."""
    taken: list[float] = []
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    yield taken
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken += [time.monotonic() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime]


def _restored(bench: Bench, fetch: Callable[[Path], object], *more: str) -> float:
    """Seconds from the decision to the first acknowledged write of a single member."""
    with tempfile.TemporaryDirectory(prefix="restored-", dir=bench.folder) as name:
        folder = Path(name)
        with Cluster(bench.etcd.etcd, folder, [], _free_block()) as cluster:
            server = cluster.spare()
            os.sync()  # neither side waits for what the other one wrote
            began = time.monotonic()
            fetch(folder / "seed.db")
            flags = {"data-dir": folder / server.name, "name": server.name, "initial-cluster-token": folder.name,
                     "initial-cluster": f"{server.name}={server.peer_url}",
                     "initial-advertise-peer-urls": server.peer_url}  # fmt: skip
            spelt = [f"--{name}={value}" for name, value in flags.items()]
            _run(bench, str(bench.etcd.etcdutl), "snapshot", "restore", str(folder / "seed.db"), *spelt, *more)
            server.start([server])
            return bare.first_write([server.address]) - began


# ---- what it says --------------------------------------------------------------------------------------------------


def _table(rounds: int, size_mb: int, noise: Taken, text: Taken) -> Table:
    zstd, gzip = text.sizes
    snapshots, restores, packed = noise.snapshots, noise.restores, text.compressions
    return Table(
        title="Snapshots: to the manifest, and back to the first write",
        how=f"{rounds} rounds in turn, the first dropped; median [least-most]; a ratio is that of a round."
        f" One etcd with {size_mb} MB of values of 4 KiB, the store is `tests/bench/sink.py` on the same machine.",
        command="python -m tests.bench snapshotting",
        columns=("what", "agent", "beside it", "ratio"),
        rows=(
            ("snapshot, random values; `etcdctl snapshot save` + `aws s3 cp`", *_compared(snapshots)),
            ("… CPU of the client", *_compared([Pair(each.our_cpu, each.their_cpu) for each in snapshots])),
            ("… peak memory of the process", spread(noise.peaks_mb, "MB", 0), "", ""),
            ("snapshot, JSON values; the same with gzip -6", *_compared(packed)),
            ("… stored", f"{zstd / 1e6:.0f} MB", f"{gzip / 1e6:.0f} MB", f"{zstd / gzip:.2f}"),
            ("… peak memory of the process", spread(text.peaks_mb, "MB", 0), "", ""),
            ("restore; `aws s3 cp` + `etcdutl snapshot restore` + etcd", *_compared(restores)),
            ("… peak memory of the process", spread(noise.downward_peaks_mb, "MB", 0), "", ""),
        ),
    )


def _compared(pairs: list[Pair]) -> tuple[str, str, str]:
    ours, theirs = [each.ours for each in pairs], [each.theirs for each in pairs]
    return spread(ours), spread(theirs), spread([each.ours / each.theirs for each in pairs], "")
