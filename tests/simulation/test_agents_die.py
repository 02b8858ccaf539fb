"""Must hold 9: an agent may be killed at any moment; etcd serves on, and the next agent goes on from there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.model.ids import InstanceId
from tests.simulation.disasters import seeds
from tests.simulation.sim import Sim
from tests.simulation.test_founding import DEATHS, Death, the_agent_alone, will_die

Begin = Callable[..., Sim]

JOINING = range(8)
"""identity, entry, identity with its ID, start, member ID, promotion, and one more."""


def healthy(begin: Begin, seed: int, instances: int = 3) -> Sim:
    sim = begin(seed, instances)
    sim.run_until(sim.whole, within=60)
    sim.run(sim.random.uniform(6, 12))
    return sim


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("effect", JOINING)
def test_a_joiner_that_dies_at_any_step_becomes_a_voter_all_the_same(
    begin: Begin, effect: int, moment: str, death: Death
) -> None:
    sim = healthy(begin, effect)
    sim.terminate(sim.live()[effect % 3])
    new = sim.launch()
    will_die(sim.agents[new], moment, effect, death)
    sim.run_until(sim.whole, within=240)
    assert new in sim.voters()
    assert not sim.learners()


@pytest.mark.parametrize("death", DEATHS[:2])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_the_leaders_agent_may_die_while_it_removes_somebody(begin: Begin, moment: str, death: Death) -> None:
    for seed in range(10):
        sim = healthy(begin, seed)
        leader = sim.leader_agent()
        will_die(leader, moment, 0, death)
        sim.terminate(next(name for name in sim.live() if name != leader.name))
        sim.launch()
        sim.run_until(sim.whole, within=90)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("effect", range(4))
def test_a_moved_member_whose_agent_dies_is_still_the_same_member(begin: Begin, effect: int, moment: str) -> None:
    for seed in range(5):
        sim = healthy(begin, seed)
        before = sorted(sim.current().members)
        moved = sim.live()[seed % 3]
        sim.reboot(moved, ip="10.0.7.7")
        will_die(sim.agents[moved], moment, effect, the_agent_alone)
        sim.run(2)
        sim.run_until(sim.whole, within=60)
        assert "http://10.0.7.7:2380" in str(sim.current().members)
        assert sorted(sim.current().members) == before


@pytest.mark.parametrize("seed", seeds(8))
def test_agents_killed_at_random_for_ten_minutes_leave_a_healthy_cluster_alone(begin: Begin, seed: int) -> None:
    sim = healthy(begin, seed)
    members = sorted(sim.current().members.items())
    for _ in range(120):
        sim.run(sim.random.uniform(0, 10))
        sim.kill_agent(sim.random.choice(sim.live()), after=sim.random.uniform(0, 3))
    assert sorted(sim.current().members.items()) == members
    assert all((each.starts, each.stops, each.running) == (1, 0, True) for each in sim.machines.values())


@pytest.mark.parametrize("seed", range(10))
def test_an_agents_shutdown_is_no_leave(begin: Begin, seed: int) -> None:
    """A rolling restart of all agents, and then of all instances, deregisters nobody."""
    sim = healthy(begin, seed)
    members = {each.id for each in sim.current().members.values()}
    for verb in (sim.kill_agent, sim.reboot):
        for name in sim.live():
            verb(InstanceId(name))
            sim.run(5)
    sim.run_until(sim.whole, within=30)
    assert {each.id for each in sim.current().members.values()} == members
