"""An operator holds the cluster, and everything that would have happened waits for the release."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.model.actions import Blocker, Wait
from tests.simulation.disasters import Begin, backed_up, seeds
from tests.simulation.sim import Sim

SEEDS = seeds(2)


def held_back(sim: Sim) -> list[str]:
    """Whose agents wait for the release."""
    lasts = [(name, each.last) for name, each in sim.agents.items() if each.last is not None]
    return [name for name, last in lasts if last.decision.action == Wait(Blocker.HOLD)]


def lose_one(sim: Sim) -> None:
    sim.terminate(sim.live()[0])
    sim.launch()


def tell_one_to_leave(sim: Sim) -> None:
    sim.let_go(sim.live()[0])
    sim.launch()


def lose_the_majority(sim: Sim) -> None:
    for name in sim.live()[:2]:
        sim.terminate(name)
        sim.launch()


@pytest.mark.parametrize("happen", [lose_one, tell_one_to_leave, lose_the_majority])
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_done_while_held_and_all_of_it_when_released(
    begin: Begin, seed: int, happen: Callable[[Sim], None]
) -> None:
    sim = backed_up(begin, seed)
    members, records = set(sim.current().members), len(sim.records)
    sim.hold()
    happen(sim)
    sim.run_until(lambda: bool(held_back(sim)), within=300)
    sim.run(600)
    assert (set(sim.current().members), len(sim.records)) == (members, records)
    sim.release()
    sim.run_until(sim.whole, within=300)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_founded_while_held(begin: Begin, seed: int) -> None:
    sim = begin(seed)
    sim.hold()
    sim.run(300)
    assert not sim.records
    assert len(held_back(sim)) == 3
    sim.release()
    sim.run_until(sim.whole, within=120)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_whole_fleet_that_reboots_while_held_serves_again(begin: Begin, seed: int) -> None:
    sim = backed_up(begin, seed)
    sim.hold()
    for name in sim.live():
        sim.reboot(name, after=sim.random.uniform(0, 30))
    sim.run_until(sim.whole, within=90)


@pytest.mark.parametrize("seed", SEEDS)
def test_who_cannot_read_the_hold_keeps_to_its_last_answer(begin: Begin, seed: int) -> None:
    sim = backed_up(begin, seed)
    members = set(sim.current().members)
    sim.hold()
    lose_one(sim)
    sim.run_until(lambda: sim.leader_agent().name in held_back(sim), within=300)
    for agent in sim.agents.values():
        agent.faults.down = {"s3"}
    sim.run(600)
    assert set(sim.current().members) == members
