"""The names under which clients find the cluster follow it, whoever leads, and are never emptied."""

from __future__ import annotations

from datetime import timedelta

import pytest

from agent.model.dns import DnsNames
from tests.simulation.disasters import Begin, seeds, whole
from tests.simulation.sim import Sim

SEEDS = seeds(3)
NAMES = DnsNames("etcd.internal.", timedelta(seconds=30))


def published(sim: Sim) -> set[str]:
    found = sim.zone.get(NAMES.watched[0])
    return set() if found is None else set(found.values)


def serving(sim: Sim) -> set[str]:
    return {sim.machines[name].ip for name in sim.live()}


@pytest.mark.parametrize("seed", SEEDS)
def test_names_follow_the_voters(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed, names=NAMES)
    sim.run_until(lambda: published(sim) == serving(sim), within=60)
    for _ in range(3):
        sim.terminate(sim.random.choice(sim.live()))
        sim.run_until(lambda: published(sim) == serving(sim), within=90)
        sim.launch(after=3)
        sim.run_until(lambda: sim.whole() and published(sim) == serving(sim), within=240)


@pytest.mark.parametrize("seed", SEEDS)
def test_where_the_quorum_is_lost_the_old_names_stay_until_there_are_new_ones(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed, names=NAMES)
    sim.run_until(lambda: published(sim) == serving(sim), within=60)
    before = published(sim)
    for name in sim.live()[:2]:
        sim.terminate(name)
    sim.run(20)
    assert published(sim) == before
    for _ in range(2):
        sim.launch(after=3)
    sim.run_until(lambda: sim.whole() and published(sim) == serving(sim), within=400)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_zone_that_does_not_answer_hurts_nobody_and_costs_little(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed, names=NAMES)
    for agent in sim.agents.values():
        agent.faults.refuse.add("route53")
        agent.calls.clear()
    sim.run(600)
    assert sim.whole()
    assert sum(each.calls["route53"] for each in sim.agents.values()) < 60


@pytest.mark.parametrize("seed", SEEDS)
def test_who_is_stopped_is_a_member_and_not_named(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed, names=NAMES)
    (away,) = sim.random.sample(sim.live(), 1)
    sim.stop(away)
    sim.run_until(lambda: published(sim) == serving(sim), within=90)
    assert away in sim.voters()
    sim.reboot(away)
    sim.run_until(lambda: sim.whole() and published(sim) == serving(sim), within=120)
