"""A terminated instance: until its member is removed, and until the replacement is a promoted voter; beside bare etcd.

Under write load through all members. The removal's time runs from the EC2 call; the replacement's from the start of
its agent's process to the moment at which the member list shows it as a voter. By hand, with perfect knowledge and
without a moment's thought: kill, remove, add as learner, start, promote; timed from the start of the process.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.lab import members
from agent.lab.client import Instance, Lab
from agent.lab.ledger import Ledger
from agent.lab.spec import LabSpec
from agent.world.etcd import EtcdDoor
from tests.bench import bare, processes
from tests.bench.report import Table, spread
from tests.contracts.etcd_cluster import Cluster
from tests.etcd_versions import EtcdVersion

PATIENCE_S = 120.0


@dataclass(frozen=True)
class Round:
    """Seconds, and how many writes failed meanwhile."""

    removed: float
    promoted: float
    by_hand: float
    failed: int
    failed_by_hand: int


def measure(etcd: EtcdVersion, rounds: int, sizes_mb: list[int]) -> Table:
    """For each size of database, rounds in turn; the first is dropped."""
    rows = []
    for size_mb in sizes_mb:
        rows += _rows(size_mb, _measure(etcd, rounds, size_mb))
    return Table(
        title="Replacing a terminated instance, under write load",
        how=f"{rounds} rounds in turn, the first dropped; median [least-most]. Failed writes are those of a client that"
        " writes every 10 ms through the two members that stay.",
        command="make bench",
        columns=("database", "what", "agents", "by hand"),
        rows=tuple(rows),
    )


def _rows(size_mb: int, taken: list[Round]) -> list[tuple[str, ...]]:
    size = f"{size_mb} MB" if size_mb else "empty"
    over = [each.promoted - each.by_hand for each in taken]
    return [
        (size, "`terminated` to removed", spread([each.removed for each in taken]), "at once"),
        (
            size,
            "replacement's start to promoted voter",
            f"{spread([each.promoted for each in taken])}, by hand + {spread(over)}",
            spread([each.by_hand for each in taken]),
        ),
        (
            size,
            "failed writes a replacement",
            spread([each.failed for each in taken], "", 0),
            spread([each.failed_by_hand for each in taken], "", 0),
        ),
    ]


def _measure(etcd: EtcdVersion, rounds: int, size_mb: int) -> list[Round]:
    taken = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        lab = Lab.start(LabSpec(instances=3, etcd=str(etcd.etcd)), folder / "lab", lifeline=True)
        try:
            with bare.three(etcd.etcd, folder / "bare") as cluster:
                cluster.start()
                lab.wait_for("three voters", lambda lab: len(_voters(lab)) == 3, PATIENCE_S)
                for address in (cluster.servers[0].address, lab.addresses()[0]):
                    bare.fill(address, size_mb)
                for number in range(rounds + 1):
                    taken.append(_round(lab, cluster))
                    print(f"replacing, {size_mb} MB, round {number}: {taken[-1]}", flush=True)
        finally:
            lab.down()
    return taken[1:]


def _round(lab: Lab, cluster: Cluster) -> Round:
    lost = random.choice(lab.instances())
    staying = {each.id for each in lab.instances() if each.id != lost.id}
    with Ledger(lambda: [each.address for each in lab.instances() if each.id in staying]) as ledger:
        removed, promoted = _by_agents(lab, lost)
    dead = random.choice(cluster.servers)
    with Ledger(lambda: [each.address for each in cluster.servers if each is not dead]) as by_hand_ledger:
        by_hand = bare.replace(cluster, EtcdDoor(), dead)
    time.sleep(6)  # etcd wants its members connected for 5 s before it adds another
    return Round(removed, promoted, by_hand, _failed(ledger), _failed(by_hand_ledger))


def _failed(ledger: Ledger) -> int:
    return sum(not each.acknowledged for each in ledger.attempts)


def _by_agents(lab: Lab, dead: Instance) -> tuple[float, float]:
    before = {each.id for each in lab.instances()}
    survivors = [each for each in lab.instances() if each.id != dead.id]
    began = time.monotonic()
    lab.terminate(dead.id)
    removed = _when(lambda: _removed(survivors, dead)) - began
    started = _when(lambda: _newcomer(lab, before) is not None)
    new = _newcomer(lab, before)
    assert new is not None
    assert new.agent_pid is not None
    promoted = _when(lambda: _is_voter(survivors, new))
    assert promoted > started
    result = promoted - processes.began(new.agent_pid)
    lab.wait_for("the newcomer to serve", lambda lab: members.put(new.address, "bench", new.id) is not None, PATIENCE_S)
    time.sleep(6)
    return removed, result


def _when(done: Callable[[], bool]) -> float:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)
    return time.monotonic()


def _removed(survivors: list[Instance], dead: Instance) -> bool:
    found = _list(survivors)
    return bool(found) and all(each.name != dead.id for each in found)


def _is_voter(survivors: list[Instance], new: Instance) -> bool:
    url = f"http://{new.address}:2380"
    return any(url in each.peer_urls and not each.is_learner for each in _list(survivors))


def _list(instances: list[Instance]) -> tuple[members.Member, ...]:
    for each in instances:
        found = members.member_list(each.address, 1.0)
        if found:
            return found
    return ()


def _newcomer(lab: Lab, before: set[str]) -> Instance | None:
    return next((each for each in lab.instances() if each.id not in before and each.agent_pid), None)


def _voters(lab: Lab) -> set[str]:
    return {each.name for each in _list(list(lab.instances())) if each.started and not each.is_learner}
