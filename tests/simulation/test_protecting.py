"""Protection from scale-in: while the cluster can spare nobody, and not a minute longer than needed."""

from __future__ import annotations

import pytest

from tests.simulation.disasters import Begin, seeds, whole
from tests.simulation.sim import Sim

SEEDS = seeds(3)


def protected(sim: Sim) -> list[str]:
    return [name for name in sim.live() if sim.machines[name].protected]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_two_that_are_left_are_protected_until_the_third_is_back(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed, protect_voters=True)
    assert protected(sim) == []
    (lost,) = sim.random.sample(sim.live(), 1)
    sim.terminate(lost)
    left = sim.live()
    sim.run_until(lambda: protected(sim) == left, within=90)
    sim.launch(after=5)
    sim.run_until(lambda: sim.whole() and protected(sim) == [], within=240)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_scaled_in_meanwhile_is_released(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed, protect_voters=True)
    (away,) = sim.random.sample(sim.live(), 1)
    sim.stop(away)
    sim.run_until(lambda: len(protected(sim)) == 2, within=90)
    sim.desired = 1
    sim.run_until(lambda: protected(sim) == [], within=200)


@pytest.mark.parametrize("seed", SEEDS)
def test_it_is_written_only_where_it_changes(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed, protect_voters=True)
    sim.terminate(sim.random.choice(sim.live()))
    sim.run(600)
    told = [line for line in sim.story if "protected" in line and "->" not in line]
    assert len(told) == 2, told
