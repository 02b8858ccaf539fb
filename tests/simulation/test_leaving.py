"""Who is told to go steps out in time, dies at any step of it, and takes nothing along that others need."""

from __future__ import annotations

import pytest

from agent.model.fleet import InstanceState
from agent.model.ids import InstanceId
from agent.model.spot import SpotAction, SpotNotice
from tests.simulation.disasters import AN_HOUR, Begin, lose, recovers, seeds, snapshots, whole
from tests.simulation.sim import Sim
from tests.simulation.test_founding import the_agent_alone, will_die

SEEDS = seeds(4)
STEPS = range(3)
"""Hand over the lead, remove itself, complete the hook; a follower has one less."""


def is_gone(sim: Sim, name: InstanceId) -> bool:
    return sim.machines[name].state is InstanceState.TERMINATED


def the_leader(sim: Sim) -> InstanceId:
    return sim.leader_agent().name


def a_follower(sim: Sim) -> InstanceId:
    return next(each for each in sim.live() if each != the_leader(sim))


def steps_out(sim: Sim, name: InstanceId, within: float) -> None:
    """It is out of the list before its instance is gone."""
    sim.run_until(lambda: name not in sim.voters(), within)
    assert not is_gone(sim, name), "it was removed by others, as the dead are"


# ---- by its group's word --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leads", [True, False])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("effect", STEPS)
def test_an_agent_that_dies_at_any_step_of_leaving_goes_on(begin: Begin, effect: int, moment: str, leads: bool) -> None:
    for seed in seeds(2):
        sim = whole(begin, seed)
        name = the_leader(sim) if leads else a_follower(sim)
        will_die(sim.agents[name], moment, effect, the_agent_alone)
        sim.let_go(name)
        sim.run_until(lambda: is_gone(sim, name), within=60)  # noqa: B023 - used in this turn of the loop
        sim.launch()
        sim.run_until(sim.whole, within=60)
        assert len(sim.lineages) == 1


@pytest.mark.parametrize("effect", STEPS)
def test_an_agent_that_dies_for_good_leaves_a_member_that_serves_or_none(begin: Begin, effect: int) -> None:
    for seed in seeds(2):
        sim = whole(begin, seed)
        name = the_leader(sim)
        will_die(sim.agents[name], "after", effect, lambda sim, name: sim.kill_agent(name, after=AN_HOUR))
        sim.let_go(name)
        sim.run(60)
        machine = sim.machines[name]
        assert machine.running is (name in sim.voters())
        assert len(sim.serving(sim.current())) == len(sim.voters())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_hook_that_begins_to_wait_late_is_completed_all_the_same(begin: Begin, seed: int) -> None:
    """An empty instance has nothing to do before it says so: AWS may not be there yet."""
    sim = whole(begin, seed)
    newcomer = sim.launch()
    sim.let_go(newcomer, early=5)
    sim.run_until(lambda: is_gone(sim, newcomer), within=60)
    assert newcomer not in sim.voters()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_survivor_is_kept_until_what_it_holds_is_in_the_bucket(begin: Begin, seed: int) -> None:
    """What it wrote last is in no snapshot: see `promises.at_letting_go`."""
    sim = whole(begin, seed)
    survivor = sim.live()[seed % 3]
    lose(sim, *(each for each in sim.live() if each != survivor))
    before = sim.acknowledged()
    sim.let_go(survivor)
    for _ in range(3):
        sim.launch()
    recovers(sim)
    sim.run_until(lambda: is_gone(sim, survivor), within=60)
    assert before <= sim.kept()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_lead_is_not_handed_to_one_that_leaves(begin: Begin, seed: int) -> None:
    """The leader hears of itself by IMDS, and of the other by EC2, which does not answer for a moment."""
    sim = whole(begin, seed)
    leader = the_leader(sim)
    follower = next(each.name for each in sorted(sim.current().voters, key=lambda each: each.id) if each.name != leader)
    sim.agents[follower].wakes_at = sim.agents[leader].wakes_at = sim.now
    sim.begin_to_terminate(InstanceId(follower))
    sim.kill_agent(InstanceId(follower), after=AN_HOUR)
    sim.agents[leader].faults.down = {"ec2"}
    sim.let_go(leader)
    sim.run(2)
    sim.agents[leader].faults.down = set()
    sim.run_until(lambda: leader not in sim.voters(), within=30)
    assert sim.leader_agent().name not in (leader, follower)


# ---- by EC2's notice ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leads", [True, False])
@pytest.mark.parametrize("seconds", [120, 5])
@pytest.mark.parametrize("seed", SEEDS)
def test_whoever_ec2_takes_is_out_in_time(begin: Begin, seed: int, seconds: float, leads: bool) -> None:
    sim = whole(begin, seed)
    name = the_leader(sim) if leads else a_follower(sim)
    sim.interrupt(name, seconds)
    steps_out(sim, name, seconds)
    if leads:
        assert any("MoveLeader" in line for line in sim.story)
    sim.run_until(lambda: is_gone(sim, name), seconds + 1)
    sim.launch()
    sim.run_until(sim.whole, within=60)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_spare_gets_the_vote_of_one_that_only_ec2_takes(begin: Begin, seed: int) -> None:
    """Nobody but its own agent knows; the voters are never fewer than three."""
    sim = whole(begin, seed, 4)
    sim.run_until(lambda: bool(sim.learners()), within=60)
    sim.run(60)
    name = InstanceId(sim.voters()[0])
    fewest = 3
    sim.interrupt(name, 120)

    def is_out() -> bool:
        nonlocal fewest
        fewest = min(fewest, len(sim.voters()))
        return name not in sim.voters()

    sim.run_until(is_out, within=60)
    assert (fewest, len(sim.voters())) == (3, 3)


@pytest.mark.parametrize("seconds", [120, 40])
@pytest.mark.parametrize("seed", SEEDS)
def test_of_a_fleet_that_is_taken_at_once_nothing_is_lost(begin: Begin, seed: int, seconds: float) -> None:
    sim = whole(begin, seed)
    names = sim.live()
    for name in names:
        sim.interrupt(name, seconds)
    sim.run(seconds + 1)
    assert all(is_gone(sim, name) for name in names)
    before = sim.acknowledged()
    assert snapshots(sim)
    for _ in range(3):
        sim.launch()
    recovers(sim)
    assert before <= sim.kept()


@pytest.mark.parametrize("seed", SEEDS)
def test_of_a_fleet_that_is_taken_at_once_whoever_comes_in_time_goes_on(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    for name in sim.live():
        sim.interrupt(name, 120)
    for _ in range(3):
        sim.launch(after=5)
    sim.run(121)
    sim.run_until(sim.whole, within=60)
    assert len(sim.records) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_without_a_quorum_of_the_others_it_serves_to_the_end(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    name, away = a_follower(sim), the_leader(sim)
    sim.stop(away)
    sim.run(5)
    sim.interrupt(name, 60)
    sim.run(59)
    assert name in sim.voters()
    assert sim.machines[name].running


@pytest.mark.parametrize("action", [SpotAction.STOP, SpotAction.HIBERNATE])
@pytest.mark.parametrize("seed", SEEDS)
def test_whoever_ec2_stops_hands_over_the_lead_and_stays_a_member(begin: Begin, seed: int, action: SpotAction) -> None:
    sim = whole(begin, seed)
    name = the_leader(sim)
    before = sim.voters()
    sim.machines[name].notice = SpotNotice(action, sim.now)
    sim.run_until(lambda: sim.leader_agent().name != name, within=10)
    sim.run(60)
    assert sim.voters() == before
    assert sim.leader_agent().name != name


# ---- warm pools -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_what_waits_in_a_warm_pool_is_no_member_until_it_is_wanted(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    pooled = sim.launch()
    sim.machines[pooled].lifecycle = "Warmed:Pending:Wait"
    sim.run_until(lambda: sim.machines[pooled].lifecycle == "Warmed:Running", within=60)
    sim.run(300)
    assert pooled not in sim.voters() + sim.learners()
    assert sim.whole()
    lose(sim, a_follower(sim))
    sim.machines[pooled].lifecycle = "InService"
    sim.run_until(sim.whole, within=120)
    assert pooled in sim.voters()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_warm_pool_founds_nothing(begin: Begin, seed: int) -> None:
    sim = begin(seed, 4, desired=3)
    pooled = sim.live()[seed % 4]
    sim.machines[pooled].lifecycle = "Warmed:Running"
    sim.run_until(lambda: bool(sim.writes()) and sim.formed(), within=240)
    assert pooled not in sim.records[min(sim.records)].founders
    assert len(sim.voters()) == 3
