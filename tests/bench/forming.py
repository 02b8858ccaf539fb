"""Three founders on empty disks to the first acknowledged write: our agents, a bare static etcd, and perhaps a peer.

The agents' time runs from the start of the last agent's process; so it holds Python's start-up, IMDS, the proof of the
bucket, the assembly and the claims. A bare etcd is three processes with a static --initial-cluster.

A peer is an executable that is called with a folder, forms three members whose clients' addresses it prints in one
line, separated by spaces, as soon as it knows them, and runs until SIGTERM.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from agent.lab.client import Lab
from agent.lab.spec import LabSpec
from tests.bench import bare, processes
from tests.bench.report import Table, spread
from tests.etcd_versions import EtcdVersion


def measure(etcd: EtcdVersion, rounds: int, peer: Path | None) -> Table:
    """Rounds in turn; the first is dropped."""
    sides: dict[str, Callable[[Path], float]] = {
        "bare": lambda folder: _bare(etcd, folder),
        "agents": lambda folder: _agents(etcd, folder),
    }
    if peer is not None:
        sides["peer"] = lambda folder: _peer(peer, folder)
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, form in sides.items():
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                seconds = form(Path(folder) / name)
            print(f"forming, round {number}: {name} {seconds:.2f} s", flush=True)
            if number > 0:
                taken[name].append(seconds)
    return _table(taken)


def _bare(etcd: EtcdVersion, folder: Path) -> float:
    with bare.three(etcd.etcd, folder) as cluster:
        began = time.monotonic()
        for server in cluster.servers:
            server.start(cluster.servers)
        return bare.first_write([server.address for server in cluster.servers]) - began


def _agents(etcd: EtcdVersion, folder: Path) -> float:
    lab = Lab.start(LabSpec(instances=3, etcd=str(etcd.etcd)), folder, lifeline=True)
    try:
        lab.wait_agents(3)
        pids = [each.agent_pid for each in lab.instances() if each.agent_pid]
        assert len(pids) == 3
        return bare.first_write(list(lab.addresses())) - max(processes.began(pid) for pid in pids)
    finally:
        lab.down()


def _peer(peer: Path, folder: Path) -> float:
    folder.mkdir()
    began = time.monotonic()
    with subprocess.Popen([peer, folder], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            return bare.first_write(process.stdout.readline().split(), within_s=600) - began
        finally:
            process.terminate()
            process.wait(30)


def _table(taken: dict[str, list[float]]) -> Table:
    rows = [("three static etcd processes", spread(taken["bare"]), "1")]
    for name, what in (("agents", "three agents, from the last one's start"), ("peer", "the peer")):
        if name in taken:
            over = [ours - theirs for ours, theirs in zip(taken[name], taken["bare"], strict=True)]
            rows.append((what, spread(taken[name]), f"bare + {spread(over)}"))
    return Table(
        title="Forming: empty disks to the first acknowledged write",
        how=f"{len(taken['bare'])} rounds in turn, the first dropped; median [least-most].",
        command="make bench",
        columns=("what", "seconds", "against bare, in turn"),
        rows=tuple(rows),
    )
