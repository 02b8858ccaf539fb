"""Everything that can happen, composed at random: the promises hold at every step, and afterwards the
cluster becomes whole by itself."""

from __future__ import annotations

import pytest

from agent.model.cluster import voter_target
from tests.simulation.disasters import Begin, becomes_whole, seeds
from tests.simulation.sim import Sim
from tests.simulation.walk import Walk

WITHIN = 900
"""Seconds: a learner's time-out, twice (one per ghost), etcd's back-off, a recovery, and everybody's patience."""


def walked(begin: Begin, seed: int, fatal: float) -> Sim:
    sim = begin(seed, 1 + seed % 6, interleave=0.1)
    if seed % 4:
        sim.run_until(sim.whole, within=120)
    walk = Walk(sim, fatal)
    for _ in range(20):
        walk.step()
    walk.end()
    becomes_whole(sim, WITHIN)
    assert len(sim.voters()) >= voter_target(sim.desired)
    return sim


@pytest.mark.parametrize("seed", seeds(16))
def test_after_a_random_walk_the_cluster_is_whole(begin: Begin, seed: int) -> None:
    sim = walked(begin, seed, fatal=0.0)
    assert len([each for each in sim.lineages.values() if each.writes]) == 1


@pytest.mark.parametrize("seed", seeds(16, first=1_000_000))
def test_after_a_walk_that_may_have_lost_a_quorum_for_good_a_cluster_is_whole(begin: Begin, seed: int) -> None:
    """What is lost, and what must not be, `promises` judges at every new generation."""
    walked(begin, seed, fatal=0.5)
