"""Must hold 2: agents that start in any order form exactly one cluster."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from agent.model.fleet import InstanceState
from agent.model.generation import GenerationRecord
from agent.model.ids import InstanceId
from tests.simulation.sim import Sim

Begin = Callable[..., Sim]
A_MINUTE = 60


def staggered(begin: Begin, seed: int, instances: int, **choices: object) -> Sim:
    """Instances whose agents speak for the first time at any moment of a minute."""
    sim = begin(seed, 0, desired=choices.pop("desired", instances), **choices)
    for _ in range(instances):
        sim.launch(after=sim.random.uniform(0, A_MINUTE))
    return sim


def the_record(sim: Sim) -> GenerationRecord:
    records = [text for key, (text, _) in sim.objects.items() if key.startswith("generations/") and key.count("/") == 1]
    assert len(records) == 1, "one generation, and one record of it"
    return GenerationRecord.from_json(records[0])


@pytest.mark.parametrize("seed", range(100))
def test_three_agents_started_in_any_order_form_one_cluster(begin: Begin, seed: int) -> None:
    sim = staggered(begin, seed, 3)
    sim.run_until(sim.whole, within=A_MINUTE + 10)
    assert sim.voters() == ["i-0001", "i-0002", "i-0003"]
    assert len(the_record(sim).founders) == 3
    assert len(sim.lineages) == 1


@pytest.mark.parametrize("seed", range(100, 120))
def test_so_do_five(begin: Begin, seed: int) -> None:
    sim = staggered(begin, seed, 5)
    sim.run_until(sim.whole, within=A_MINUTE + 10)
    assert len(sim.voters()) == len(the_record(sim).founders) == 5
    assert len(sim.lineages) == 1


@pytest.mark.parametrize("seed", range(120, 130))
def test_two_of_three_found_after_the_grace_and_the_late_one_joins(begin: Begin, seed: int) -> None:
    sim = begin(seed, 2, desired=3)
    sim.run(sim.agents[sim.live()[0]].policy.founding_grace.total_seconds() - 1)
    assert not sim.lineages, "a majority alone does not found before the grace"
    sim.run_until(lambda: sim.formed() and sim.writes() > 0, within=10)
    assert sim.voters() == ["i-0001", "i-0002"]
    sim.launch()
    sim.run_until(sim.whole, within=30)
    assert sim.voters() == ["i-0001", "i-0002", "i-0003"]


@pytest.mark.parametrize("flaky", [0.1, 0.4])
@pytest.mark.parametrize("seed", range(130, 135))
def test_the_grace_passes_although_the_bucket_answers_only_now_and_then(begin: Begin, seed: int, flaky: float) -> None:
    sim = begin(seed, 2, desired=3)
    for agent in sim.agents.values():
        agent.faults.flaky = flaky
    sim.run_until(lambda: bool(sim.lineages), within=240)


@pytest.mark.parametrize("seed", range(135, 140))
def test_one_of_three_never_founds_alone(begin: Begin, seed: int) -> None:
    sim = begin(seed, 1, desired=3)
    sim.run(1800)
    assert not sim.lineages
    assert sim.agents[sim.live()[0]].rule == "found"


@pytest.mark.parametrize("seed", range(140, 150))
def test_four_instances_have_three_founders_and_a_spare_that_takes_over(begin: Begin, seed: int) -> None:
    sim = staggered(begin, seed, 4)
    sim.run_until(sim.whole, within=A_MINUTE + 30)
    assert (len(sim.voters()), len(the_record(sim).founders)) == (3, 3)
    sim.run_until(lambda: any(sim.learners()), within=30)
    spare, doomed = sim.learners(), InstanceId(sim.voters()[0])
    sim.run(60)
    sim.terminate(doomed)
    sim.run_until(lambda: sim.voters() == sorted({*sim.live()}) and not sim.learners(), within=30)
    assert spare[0] in sim.voters()


@pytest.mark.parametrize("seed", range(150, 160))
def test_three_groups_one_for_each_zone_are_one_cluster(begin: Begin, seed: int) -> None:
    sim = staggered(begin, seed, 3, groups=3)
    sim.run_until(sim.whole, within=A_MINUTE + 10)
    assert len(sim.voters()) == 3
    assert len(sim.lineages) == 1


@pytest.mark.parametrize("seed", range(160, 165))
def test_one_instance_more_than_desired_does_not_keep_the_cluster_from_forming(begin: Begin, seed: int) -> None:
    sim = staggered(begin, seed, 4, desired=3)
    sim.run_until(sim.whole, within=A_MINUTE + 30)
    assert len(sim.voters()) == 3


@pytest.mark.parametrize("seed", range(165, 170))
def test_an_instance_that_is_being_terminated_founds_nothing(begin: Begin, seed: int) -> None:
    """Scale-in met the first boot: its replacement is up already, and both answer."""
    sim = begin(seed, 4, desired=3)
    doomed = sim.machines[sim.live()[seed % 4]]
    doomed.lifecycle = "Terminating:Wait"
    sim.run_until(sim.formed, within=60)
    assert doomed.id not in the_record(sim).founders
    assert doomed.state is InstanceState.RUNNING


@pytest.mark.parametrize("seed", range(170, 175))
def test_groups_that_are_not_listed_are_no_desired_capacity(begin: Begin, seed: int) -> None:
    """Auto Scaling answers, and knows no group of ours (a tag is missing): nobody founds on a capacity of zero."""
    sim = begin(seed, 3)
    for agent in sim.agents.values():
        agent.cloud.groups_unseen = True
    sim.run(600)
    assert not sim.lineages
    for agent in sim.agents.values():
        agent.cloud.groups_unseen = False
    sim.run_until(sim.whole, within=60)
    assert len(sim.voters()) == 3


@pytest.mark.parametrize("seed", range(175, 180))
def test_a_bucket_that_ignores_preconditions_founds_nothing(begin: Begin, seed: int) -> None:
    sim = begin(seed, 3)
    sim.honours_preconditions = False
    sim.run(600)
    assert not sim.objects
    assert not sim.lineages
    assert {agent.rule for agent in sim.agents.values()} == {"unsound-bucket"}


def test_the_same_seed_tells_the_same_story(begin: Begin) -> None:
    def story() -> list[str]:
        sim = staggered(begin, 7, 5)
        sim.run(120)
        return sim.story

    assert story() == story()


def test_the_whole_minute_matters_because_everybody_is_waited_for(begin: Begin) -> None:
    sim = begin(1, 2, desired=3)
    late = sim.launch(after=55)
    sim.run(54)
    assert not sim.lineages
    sim.run_until(sim.whole, within=10)
    assert late in sim.voters()
    assert sim.now - sim.machines[late].launched_at < timedelta(seconds=60)
