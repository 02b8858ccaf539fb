"""A fleet that is rolled to another minor version of etcd, forward and back, by new instances and in place."""

from __future__ import annotations

import pytest

from agent.model.actions import Blocker, CallHuman, Wait
from agent.model.ids import InstanceId
from tests.simulation.disasters import Begin, recovers, seeds, snapshots
from tests.simulation.sim import Sim

SEEDS = seeds(2)
OLD, NEW = "3.4.23", "3.5.30"


def rolled_out(begin: Begin, seed: int, version: str) -> Sim:
    """Three instances that were all launched with this etcd, and have been serving for a while."""
    sim: Sim = begin(seed, 3, image=version)
    sim.run_until(sim.whole, within=120)
    sim.run_until(lambda: bool(snapshots(sim)), within=60)
    return sim


def replace_one(sim: Sim, name: InstanceId) -> InstanceId:
    sim.terminate(name)
    return sim.launch()


def runs(sim: Sim) -> set[str]:
    return {sim.machines[name].runs for name in sim.live()}


def too_old(sim: Sim) -> list[str]:
    return [line for line in sim.story if "too old" in line]


@pytest.mark.parametrize("seed", SEEDS)
def test_an_instance_refresh_is_a_rolling_upgrade(begin: Begin, seed: int) -> None:
    sim = rolled_out(begin, seed, OLD)
    sim.image = NEW
    for name in sim.live():
        replace_one(sim, name)
        sim.run_until(sim.whole, within=600)
    assert runs(sim) == {NEW}
    sim.run(10)
    assert sim.current().version == (3, 5)
    assert sim.newest().generation == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_the_first_of_the_newer_waits_for_a_fresh_snapshot(begin: Begin, seed: int) -> None:
    """None has been taken since the last change: what a way back would be made of is a quarter of an hour old."""
    sim = rolled_out(begin, seed, OLD)
    sim.image = NEW
    for agent in sim.agents.values():
        agent.faults.tasks_fail = 1.0
    sim.terminate(sim.live()[0])
    sim.run(900)
    name = sim.launch()
    sim.run(60)
    last = sim.agents[name].last
    assert last is not None
    assert last.decision.action == Wait(Blocker.UPGRADE)
    assert len(sim.current().members) == 2
    for agent in sim.agents.values():
        agent.faults.tasks_fail = 0.0
    sim.run_until(sim.whole, within=600)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_older_image_joins_nothing_and_leaves_no_entry(begin: Begin, seed: int) -> None:
    sim = rolled_out(begin, seed, NEW)
    sim.image = OLD
    name = replace_one(sim, sim.live()[0])
    sim.run(180)
    last = sim.agents[name].last
    assert last is not None
    assert isinstance(last.decision.action, CallHuman)
    assert "cannot be downgraded" in last.decision.because
    assert len(sim.current().members) == 2
    assert not too_old(sim)
    sim.image = NEW
    replace_one(sim, name)
    sim.run_until(sim.whole, within=300)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_older_binary_is_not_started_on_newer_data(begin: Begin, seed: int) -> None:
    sim = rolled_out(begin, seed, NEW)
    name = sim.live()[-1]
    machine = sim.machines[name]
    machine.etcd = OLD
    sim.kill_etcd(name)
    starts, data = machine.starts, machine.data
    sim.run(120)
    assert (machine.starts, machine.data, len(machine.quarantine)) == (starts, data, 0)
    assert not too_old(sim)
    machine.etcd = NEW
    sim.run_until(sim.whole, within=120)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_member_is_upgraded_in_place_and_one_that_skips_a_version_is_not_started(begin: Begin, seed: int) -> None:
    sim = rolled_out(begin, seed, OLD)
    for name in sim.live():
        sim.machines[name].etcd = "3.6.4"
        sim.kill_etcd(name)
        sim.run(30)
        assert not sim.machines[name].running
        sim.machines[name].etcd = NEW
        sim.run_until(lambda name=name: sim.machines[name].running and sim.whole(), within=600)  # type: ignore[misc]
    assert runs(sim) == {NEW}


@pytest.mark.parametrize("taken_by", [OLD, NEW])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_fleet_that_is_half_upgraded_recovers_with_whoever_can_read_the_snapshot(
    begin: Begin, seed: int, taken_by: str
) -> None:
    """Every disk is lost. An instance that is too old for the snapshot founds nothing, and its replacement joins."""
    sim = rolled_out(begin, seed, OLD)
    sim.image = NEW
    leaves, *stay = sim.live()
    newcomer = replace_one(sim, leaves)
    sim.run_until(sim.whole, within=600)
    for name in [newcomer] if taken_by == OLD else stay:
        sim.agents[name].faults.tasks_fail = 1.0
    sim.run_until(lambda: sim.newest_manifest().etcd_version == taken_by, within=1200)
    for name in sim.live():
        sim.terminate(name)
    old, *new = (sim.launch() for _ in range(3))
    sim.machines[old].etcd = OLD
    sim.run_until(lambda: sim.formed(2), within=400)
    assert set(sim.newest().founders) == ({old, *new} if taken_by == OLD else set(new))
    replace_one(sim, old)
    recovers(sim, 2, within=600)
