"""A cluster that is lost: from the moment at which everybody who is left is up to the first acknowledged write.

Ours waits out its grace, proves the loss, rescues or fetches, writes the next generation and restores it on three
members; the grace (`leaderless_grace`) is taken off what was measured, because it is the operator's choice. By hand,
with perfect knowledge and without a moment's thought, three etcds in three folders: `aws s3 cp`, `etcdutl snapshot
restore` and a start, all three at once; where a survivor is left, `etcdctl snapshot save` and `aws s3 cp` come first.
They take turns, on the same store (`tests.bench.sink`).
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from agent.lab import members
from agent.lab.client import Instance, Lab
from agent.lab.spec import LabSpec, Pace
from tests.bench import bare, processes, sink
from tests.bench.report import Table, spread
from tests.bench.resident import BUCKET
from tests.bench.snapshotting import Bench, _aws, _environment, _run
from tests.contracts.etcd_cluster import Cluster, Server
from tests.etcd_versions import EtcdVersion

GRACE = timedelta(seconds=10)
INTERVAL = timedelta(seconds=10)
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Taken:
    """Seconds of one round; ours without the grace."""

    ours: float
    by_hand: float

    @property
    def over(self) -> float:
        """Beyond 1.2 times what it takes by hand."""
        return self.ours - 1.2 * self.by_hand


def measure(etcd: EtcdVersion, rounds: int, all_mb: int, majority_mb: int) -> Table:
    """Both losses, rounds in turn; the first round of each is dropped."""
    rows = []
    for what, size_mb, lose in (
        ("all three disks lost", all_mb, lose_all),
        ("two of three instances terminated", majority_mb, lose_two),
    ):
        taken = _measure(etcd, rounds, size_mb, lose)
        rows.append(
            (
                f"{what}, {size_mb} MB",
                spread([each.ours for each in taken]),
                spread([each.by_hand for each in taken]),
                spread([each.over for each in taken]),
            )
        )
    return Table(
        title="Recovering: everybody who is left is up, to the first acknowledged write",
        how=f"{rounds} rounds in turn, the first dropped; median [least-most]. Without the grace of"
        f" {GRACE.total_seconds():.0f} s. By hand: copied, restored and started on three members at once.",
        command="python -m tests.bench recovering",
        columns=("what", "agents", "by hand", "agents beyond 1.2 x by hand"),
        rows=tuple(rows),
    )


Losing = Callable[[Bench, Lab, Cluster], Taken]


def _measure(etcd: EtcdVersion, rounds: int, size_mb: int, lose: Losing) -> list[Taken]:
    taken = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name, sink.running() as (url, _):
        bench = Bench(etcd, _aws(), Path(name), _environment(url))
        lab = Lab.start(_spec(etcd, url), bench.folder / "lab", lifeline=True)
        try:
            with bare.three(etcd.etcd, bench.folder / "bare") as cluster:
                cluster.start()
                lab.wait_for("three voters", lambda lab: len(_voters(lab)) == 3, PATIENCE_S)
                for address in (cluster.servers[0].address, _leader(lab).address):
                    bare.fill(address, size_mb)
                for number in range(rounds + 1):
                    taken.append(lose(bench, lab, cluster))
                    print(f"recovering, {size_mb} MB, round {number}: {taken[-1]}", flush=True)
        finally:
            lab.down()
    return taken[1:]


def _spec(etcd: EtcdVersion, url: str) -> LabSpec:
    grace = f"{GRACE.total_seconds():.0f}s"
    timing = {"leaderless_grace": grace, "report_max_age": grace, "report_interval": "2s", "loop_interval": "1s"}
    return LabSpec(
        etcd=str(etcd.etcd),
        environment={"AWS_ENDPOINT_URL_S3": url},
        settings={"timing": timing, "snapshots": {"interval": f"{INTERVAL.total_seconds():.0f}s"}},
        pace=Pace(pending_s=0.1, boot_s=0.2, replacement_s=0.1),
    )


# ---- everything is lost ---------------------------------------------------------------------------------------------


def lose_all(bench: Bench, lab: Lab, cluster: Cluster) -> Taken:
    """The newest snapshot is all that is left."""
    _await_snapshot(lab, bench)
    before = {each.id: each.agent_pid for each in lab.instances()}
    for each in before:
        lab.wipe(each)
    lab.wait_for(
        "three new agents",
        lambda lab: all(each.agent_pid and each.agent_pid != before.get(each.id) for each in lab.instances()),
        PATIENCE_S,
    )
    ours = _recovered(lab)
    _save_by_hand(bench, cluster.servers[0])
    for server in cluster.servers:
        server.kill()
        shutil.rmtree(server.folder / server.name)
    began = time.monotonic()
    by_hand = _restore_by_hand(bench, cluster.servers) - began
    lab.wait_for("three voters", lambda lab: len(_voters(lab)) == 3, PATIENCE_S)
    return Taken(ours, by_hand)


# ---- a survivor is left ---------------------------------------------------------------------------------------------


def lose_two(bench: Bench, lab: Lab, cluster: Cluster) -> Taken:
    """The leader and another are terminated; their replacements boot; the survivor still answers."""
    leader = _leader(lab)
    survivor = next(each for each in lab.instances() if each.id != leader.id)
    gone = [each.id for each in lab.instances() if each.id != survivor.id]
    for each in gone:
        lab.terminate(each)
    lab.wait_for("two replacements", lambda lab: sum(bool(each.agent_pid) for each in lab.instances()) == 3, PATIENCE_S)
    ours = _recovered(lab)
    last, *others = cluster.servers
    for server in others:
        server.kill()
    time.sleep(2)  # the survivor sees that it is alone
    began = time.monotonic()
    _save_by_hand(bench, last)
    last.kill()
    for server in cluster.servers:
        shutil.rmtree(server.folder / server.name)
    by_hand = _restore_by_hand(bench, cluster.servers) - began
    lab.wait_for("three voters", lambda lab: len(_voters(lab)) == 3, PATIENCE_S)
    return Taken(ours, by_hand)


# ---- ours -----------------------------------------------------------------------------------------------------------


def _recovered(lab: Lab) -> float:
    """Seconds from the start of the last agent to a write that somebody acknowledged, without the grace."""
    began = max(processes.began(each.agent_pid) for each in lab.instances() if each.agent_pid)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for each in lab.instances():
            if members.put(each.address, "bench", "recovered", 0.5) is not None:
                return time.monotonic() - began - GRACE.total_seconds()
    raise AssertionError("nobody took a write")


def _write(lab: Lab) -> None:
    assert members.put(_leader(lab).address, "bench", f"{time.monotonic()}") is not None


def _await_snapshot(lab: Lab, bench: Bench) -> None:
    """One that was begun after now, so that all of the database is in it; only what is written to is saved again."""
    seen = set(_manifests(bench))

    def taken(lab: Lab) -> bool:
        _write(lab)
        return bool(set(_manifests(bench)) - seen)

    lab.wait_for("a snapshot of everything", taken, PATIENCE_S)


def _manifests(bench: Bench) -> list[str]:
    listed = subprocess.run(
        [str(bench.aws), "s3", "ls", "--recursive", "s3://etcd-lab/etcd/lab/snapshots/"],
        env=bench.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return [line.split()[-1] for line in listed.stdout.splitlines() if line.endswith(".json")]


def _voters(lab: Lab) -> set[str]:
    for each in lab.instances():
        found = members.member_list(each.address, 1.0)
        if found and members.put(each.address, "bench", "whole", 1.0) is not None:
            return {entry.name for entry in found if entry.started and not entry.is_learner}
    return set()


def _leader(lab: Lab) -> Instance:
    lab.wait_for("a leader", lambda lab: _find_leader(lab) is not None, PATIENCE_S)
    found = _find_leader(lab)
    assert found is not None
    return found


def _find_leader(lab: Lab) -> Instance | None:
    statuses = {each.id: members.status(each.address, 1.0) for each in lab.instances()}
    leading = [name for name, status in statuses.items() if status is not None and status.role == "leader"]
    return next((each for each in lab.instances() if each.id in leading), None)


# ---- by hand --------------------------------------------------------------------------------------------------------


def _save_by_hand(bench: Bench, server: Server) -> None:
    saved = bench.folder / "saved.db"
    _run(bench, str(bench.etcd.etcdctl), f"--endpoints={server.client_url}", "snapshot", "save", str(saved))
    _run(bench, str(bench.aws), "s3", "cp", "--only-show-errors", str(saved), f"s3://{BUCKET}/by-hand.db")
    saved.unlink()


def _restore_by_hand(bench: Bench, servers: Sequence[Server]) -> float:
    """On all three at once; returns the moment of the first acknowledged write."""
    cluster = ",".join(f"{each.name}={each.peer_url}" for each in servers)
    token = f"restored-{time.monotonic_ns()}"

    def restore(server: Server) -> None:
        fetched = bench.folder / f"{server.name}.db"
        source = f"s3://{BUCKET}/by-hand.db"
        _run(bench, str(bench.aws), "s3", "cp", "--only-show-errors", source, str(fetched))
        flags = {"data-dir": server.folder / server.name, "name": server.name, "initial-cluster": cluster,
                 "initial-cluster-token": token, "initial-advertise-peer-urls": server.peer_url}  # fmt: skip
        spelt = [f"--{name}={value}" for name, value in flags.items()]
        _run(bench, str(bench.etcd.etcdutl), "snapshot", "restore", str(fetched), *spelt)
        fetched.unlink()
        server.start(servers)

    with ThreadPoolExecutor(len(servers)) as pool:
        list(pool.map(restore, servers))
    return bare.first_write([each.address for each in servers])
