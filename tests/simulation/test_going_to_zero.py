"""A fleet whose hooks wait for the agents goes to zero: everybody is let go, and the next ones have every write."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation.disasters import recovers, replace_the_lost, seeds, whole
from tests.simulation.sim import Sim

Begin = Callable[..., Sim]

WITHIN = 300
"""Seconds: a spare's patience for each that leaves, the grace without a leader, reports, and a rescue."""


@pytest.mark.parametrize("seed", seeds(4))
@pytest.mark.parametrize("size", [2, 3, 5])
def test_everybody_is_let_go_and_nothing_is_lost(begin: Begin, seed: int, size: int) -> None:
    """Also who was removed by the last one, and never heard of it: see `decide/test_leaving.py`."""
    sim = whole(begin, seed, size, interleave=0.2)
    acknowledged = sim.acknowledged()
    sim.desired = 0
    for name in sim.live():
        sim.let_go(name)
    sim.run_until(lambda: not any(each.exists for each in sim.machines.values()), within=WITHIN)
    sim.desired = 3
    replace_the_lost(sim)
    recovers(sim)
    assert acknowledged <= sim.kept()
