"""Every instance keeps itself in the target groups while its member serves, and goes before its member does."""

from __future__ import annotations

import pytest

from agent.model.ids import InstanceId
from tests.simulation.disasters import Begin, becomes_whole, recovers, replace_the_lost, seeds, whole
from tests.simulation.seeds import WITHIN, trial_of
from tests.simulation.sim import Sim
from tests.simulation.walk import Walk

SEEDS = seeds(2)
GROUPS = ("clients", "operators")


def registered(sim: Sim) -> set[InstanceId]:
    """Those that are in both groups; fails where the two differ for good."""
    return set.intersection(*sim.targets.values())


def all_voters_are_targets(sim: Sim) -> bool:
    return sim.whole() and registered(sim) == set(sim.voters())


def balanced(begin: Begin, seed: int, instances: int = 3) -> Sim:
    sim = whole(begin, seed, instances, target_groups=GROUPS)
    sim.run_until(lambda: all_voters_are_targets(sim), within=5)
    return sim


@pytest.mark.parametrize("seed", SEEDS)
def test_targets_follow_the_voters(begin: Begin, seed: int) -> None:
    sim = balanced(begin, seed)
    for _ in range(3):
        sim.terminate(sim.random.choice(sim.live()))
        sim.launch(after=3)
        sim.run_until(lambda: all_voters_are_targets(sim), within=240)


@pytest.mark.parametrize("seed", SEEDS)
def test_who_is_told_to_leave_is_no_target_before_its_member_is_gone(begin: Begin, seed: int) -> None:
    sim = balanced(begin, seed)
    leaving = sim.random.choice(sim.live())
    sim.launch()
    sim.let_go(leaving)
    sim.run_until(lambda: leaving not in registered(sim), within=60)
    assert leaving in sim.voters()
    sim.run_until(lambda: not sim.machines[leaving].exists and all_voters_are_targets(sim), within=240)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_spare_is_no_target_until_it_takes_a_vote(begin: Begin, seed: int) -> None:
    sim = balanced(begin, seed, instances=4)
    (spare,) = sim.learners()
    for group in sim.targets.values():
        group.add(InstanceId(spare))  # an operator's mistake
    sim.run_until(lambda: spare not in registered(sim), within=90)
    sim.terminate(sim.random.choice([InstanceId(each) for each in sim.voters()]))
    sim.run_until(lambda: registered(sim) == set(sim.voters()) and spare in sim.voters(), within=240)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lost_quorum_or_an_election_takes_nobody_out(begin: Begin, seed: int) -> None:
    sim = balanced(begin, seed)
    left, *lost = sim.live()
    for each in lost:
        sim.terminate(each)
    sim.run(20)
    assert registered(sim) == {left}
    replace_the_lost(sim)
    recovers(sim)
    sim.run_until(lambda: all_voters_are_targets(sim), within=60)


@pytest.mark.parametrize("seed", SEEDS)
def test_all_that_leave_at_once_stay_targets_until_others_serve(begin: Begin, seed: int) -> None:
    sim = balanced(begin, seed)
    before = sim.live()
    for each in before:
        sim.let_go(each)
    sim.run(30)
    assert registered(sim) >= {each for each in before if each in sim.voters()}
    for _ in before:
        sim.launch(after=3)
    sim.run_until(lambda: all_voters_are_targets(sim) and not set(before) & registered(sim), within=600)


@pytest.mark.parametrize("seed", SEEDS)
def test_balancers_that_do_not_answer_hold_up_nobody_and_cost_little(begin: Begin, seed: int) -> None:
    sim = balanced(begin, seed)
    for agent in sim.agents.values():
        agent.faults.refuse.add("elbv2")
        agent.calls.clear()
    sim.run(600)
    assert sum(each.calls["elbv2"] for each in sim.agents.values()) <= 3 * (600 / 15 + 1)
    leaving = sim.random.choice(sim.live())
    sim.launch()
    sim.let_go(leaving)
    sim.run_until(lambda: not sim.machines[leaving].exists and sim.whole(), within=240)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_somebody_else_took_out_goes_in_again(begin: Begin, seed: int) -> None:
    sim = balanced(begin, seed)
    sim.targets[GROUPS[0]].clear()
    sim.run_until(lambda: all_voters_are_targets(sim), within=90)
    for agent in sim.agents.values():
        agent.calls.clear()
    sim.run(600)
    assert sum(each.calls["elbv2"] for each in sim.agents.values()) <= 3 * (600 / 30 + 1), "one look an interval"


@pytest.mark.long
@pytest.mark.parametrize("seed", seeds(16))
def test_after_a_random_walk_all_voters_are_targets(begin: Begin, seed: int) -> None:
    """Through everything that can happen, by the promises about who goes in and out."""
    trial = trial_of(seed)
    sim = begin(seed, trial.instances, interleave=0.1, target_groups=GROUPS)
    Walk(sim, trial.steps, trial.fatal).play()
    becomes_whole(sim, WITHIN)
    sim.run_until(lambda: set(sim.voters()) <= registered(sim), within=90)
    sim.run_until(lambda: registered(sim) <= {*sim.voters(), *sim.learners(), *_leaving(sim)}, within=600)


def _leaving(sim: Sim) -> list[str]:
    return [name for name in sim.live() if sim.machines[name].leaving]
