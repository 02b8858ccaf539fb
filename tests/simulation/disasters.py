"""What the stories of recovery begin with, and how they end."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from agent.model.ids import InstanceId
from agent.model.snapshot import SnapshotName
from tests.simulation.agents import Agent
from tests.simulation.machines import Broken, Machine
from tests.simulation.sim import Sim

Begin = Callable[..., Sim]

RECOVERY = 240
"""Seconds: the grace, two reports, four tasks of some seconds each, and a joiner."""

AN_HOUR = 3600

TIMES = int(os.environ.get("SIMULATION_SEEDS_TIMES", "1"))
"""How many times as many seeds as the suite has room for."""


def seeds(count: int, first: int = 0) -> range:
    return range(first, first + count * TIMES)


def whole(begin: Begin, seed: int, instances: int = 3, **choices: object) -> Sim:
    """A cluster that has been serving for a while."""
    sim = begin(seed, instances, **choices)
    sim.run_until(sim.whole, within=120)
    sim.run(sim.random.uniform(20, 60))
    return sim


def backed_up(begin: Begin, seed: int, instances: int = 3, **choices: object) -> Sim:
    sim = whole(begin, seed, instances, **choices)
    sim.run_until(lambda: bool(snapshots(sim)), within=60)
    return sim


def snapshots(sim: Sim, generation: int = 1) -> list[SnapshotName]:
    return [name for name, _ in sim.sound_snapshots() if name.generation == generation]


def lose(sim: Sim, *names: InstanceId) -> None:
    for name in names:
        sim.terminate(name)


def replace_the_lost(sim: Sim, within: float = 60) -> list[InstanceId]:
    """Their group launches new ones; each boots in its own time."""
    return [sim.launch(after=sim.random.uniform(0, within)) for _ in range(sim.desired - len(sim.live()))]


def recovers(sim: Sim, generation: int = 2, within: float = RECOVERY) -> float:
    """The generation forms, and everybody is well."""
    took = sim.run_until(lambda: sim.formed(generation) and sim.whole(), within)
    assert max(sim.records) == generation
    return took


def source(sim: Sim) -> str:
    seed = sim.newest().seed
    return "" if seed is None else seed.source


def machine(sim: Sim, name: InstanceId) -> Machine:
    return sim.machines[name]


def untouched(sim: Sim) -> list[object]:
    """Which etcd runs on which data since when: what a lost quorum that may come back must not change."""
    return [
        (each.id, each.stops, len(each.quarantine), each.data is not None)
        for _, each in sorted(sim.machines.items())
        if each.exists
    ]


WANTS_AN_OPERATOR = (re.compile(r"`--exclude (\w+)` writes it off"), re.compile(r"(i-\d+): may yet be elected"))
"""A ghost that nobody can name, and a list that is long out of date: what is lost in truth, and cannot be proven."""


def becomes_whole(sim: Sim, within: float) -> None:
    """By itself; or an operator had to write off what the agents said they were waiting for, and was right to.

    First he restarts those who may yet be elected: a log may know another list than what runs. Agents wait for damaged
    disks of a lost quorum, too, which somebody may repair: here nobody does, so these are written off before whoever
    waits for them, whose log may be all that is left.
    """
    try:
        sim.run_until(sim.whole, within)
    except Broken:
        waiting = {found for agent in sim.agents.values() for found in _waits_for(agent)}
        if not waiting:
            raise
        for name in sorted(waiting):
            if InstanceId(name) in sim.machines:
                sim.reboot(InstanceId(name))
        if _comes_back(sim, within):
            return
        disks = sim.promises.disks(sim.newest())
        unfit = [each.id for each in disks if each.data is not None and each.data.unfit]
        for name in unfit:
            sim.exclude(name)
        if sim.promises.could_elect(sim.newest()):
            raise
        if unfit and _comes_back(sim, within):
            return
        for name in sorted(waiting):
            sim.exclude(InstanceId(name))
        sim.run_until(sim.whole, within)


def _comes_back(sim: Sim, within: float) -> bool:
    try:
        sim.run_until(sim.whole, within)
    except Broken:
        return False
    return True


def _waits_for(agent: Agent) -> list[str]:
    said = "" if agent.last is None else agent.last.decision.because
    return [name for pattern in WANTS_AN_OPERATOR for name in pattern.findall(said)]
