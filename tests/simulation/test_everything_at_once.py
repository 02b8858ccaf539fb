"""Everything that can happen, composed at random: the promises hold at every step, and afterwards the
cluster becomes whole by itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.model.cluster import voter_target
from tests.simulation.sim import Sim
from tests.simulation.walk import Walk

Begin = Callable[..., Sim]
WITHIN = 900
"""Seconds: a learner's time-out, twice (one per ghost), etcd's back-off, and everybody's patience."""


@pytest.mark.parametrize("seed", range(120))
def test_after_a_random_walk_the_cluster_is_whole(begin: Begin, seed: int) -> None:
    sim = begin(seed, 1 + seed % 6, interleave=0.1)
    if seed % 4:
        sim.run_until(sim.whole, within=120)
    walk = Walk(sim)
    for _ in range(20):
        walk.step()
    walk.end()
    sim.run_until(sim.whole, within=WITHIN)
    assert len(sim.voters()) >= voter_target(sim.desired)
    assert len([each for each in sim.lineages.values() if each.writes]) == 1
