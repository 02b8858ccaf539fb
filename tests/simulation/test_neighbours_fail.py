"""Must hold 8: whichever neighbour fails, and however, a healthy cluster is left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.model.fleet import Fleet
from agent.model.ids import MemberId
from tests.simulation.agents import Agent
from tests.simulation.doors import Faults
from tests.simulation.machines import Machine
from tests.simulation.sim import Sim

Begin = Callable[..., Sim]
A_WHILE = 600


def healthy(begin: Begin, seed: int, instances: int = 3) -> Sim:
    sim = begin(seed, instances)
    sim.run_until(sim.whole, within=60)
    sim.run(sim.random.uniform(0, 60))
    return sim


def untouched(sim: Sim) -> tuple[object, ...]:
    """What no failing neighbour may change: the member list, and which etcd runs since when."""
    members = sorted(sim.current().members.items())
    processes = [(each.id, each.running, each.starts, each.stops, len(each.quarantine)) for each in machines(sim)]
    return (*members, *processes, sorted(key for key in sim.objects if key.startswith("generations/")))


def machines(sim: Sim) -> list[Machine]:
    return [each for _, each in sorted(sim.machines.items())]


def down(agent: Agent, door: str) -> None:
    agent.faults.down = {door}


def refusing(agent: Agent, door: str) -> None:
    agent.faults.refuse = {door}


def garbled(agent: Agent, door: str) -> None:
    agent.faults.garbled = {door}


@pytest.mark.parametrize("fails", [down, refusing, garbled])
@pytest.mark.parametrize("door", ["s3", "ec2", "imds", "etcd", "host"])
@pytest.mark.parametrize("all_agents", [True, False], ids=["everywhere", "beside the leader"])
def test_a_failing_neighbour_changes_nothing(
    begin: Begin, door: str, fails: Callable[[Agent, str], None], all_agents: bool
) -> None:
    sim = healthy(begin, len(door))
    before, written = untouched(sim), sim.writes()
    for agent in sim.agents.values() if all_agents else [sim.leader_agent()]:
        fails(agent, door)
    sim.run(A_WHILE)
    assert untouched(sim) == before
    assert sim.writes() > written
    for agent in sim.agents.values():
        agent.faults = sim.weather()
    sim.run_until(sim.whole, within=60)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_neighbours_that_answer_now_and_then_change_nothing(begin: Begin, rate: float) -> None:
    sim = healthy(begin, 7)
    before, written = untouched(sim), sim.writes()
    for agent in sim.agents.values():
        agent.faults = Faults(flaky=rate, storms=rate, lost_replies=rate)
    sim.run(A_WHILE)
    assert untouched(sim) == before
    assert sim.writes() > written


@pytest.mark.parametrize("fails", [down, refusing, garbled])
@pytest.mark.parametrize("door", ["s3", "ec2", "imds"])
def test_an_agent_that_starts_while_a_neighbour_fails_adopts_its_etcd(
    begin: Begin, door: str, fails: Callable[[Agent, str], None]
) -> None:
    sim = healthy(begin, len(door))
    before = untouched(sim)
    for name in sim.live():
        sim.kill_agent(name)
        fails(sim.agents[name], door)
    sim.run(600)
    assert untouched(sim) == before


def nothing_listed(fleet: Fleet) -> Fleet:
    return Fleet((), ())


def nobody_known(fleet: Fleet) -> Fleet:
    return Fleet((), fleet.groups, frozenset(each.id for each in fleet.instances))


def no_groups(fleet: Fleet) -> Fleet:
    return replace(fleet, groups=())


def one_instance_only(fleet: Fleet) -> Fleet:
    return replace(fleet, instances=fleet.instances[:1])


def a_capacity_of_zero(fleet: Fleet) -> Fleet:
    return replace(fleet, groups=tuple(replace(each, desired_capacity=0) for each in fleet.groups))


def stale(fleet: Fleet) -> Fleet:
    return fleet


@pytest.mark.parametrize(
    "answer", [nothing_listed, nobody_known, no_groups, one_instance_only, a_capacity_of_zero, stale]
)
@pytest.mark.parametrize("older_than_an_hour", [False, True])
def test_a_wrong_answer_of_ec2_changes_nothing(
    begin: Begin, answer: Callable[[Fleet], Fleet], older_than_an_hour: bool
) -> None:
    sim = healthy(begin, 3, instances=5)
    if older_than_an_hour:
        sim.skip(4000)
    before = untouched(sim)
    true = sim.leader_agent().cloud.fleet(frozenset(), True)
    for agent in sim.agents.values():
        agent.cloud.frozen = answer(true)
    sim.run(300)
    assert untouched(sim) == before


@pytest.mark.parametrize("harm", ["record", "formed"])
def test_a_deleted_marker_stops_nobody(begin: Begin, harm: str) -> None:
    """A lifecycle rule or a human emptied the bucket: a running cluster runs on, and nothing is moved away."""
    sim = healthy(begin, 5)
    for key in [key for key in sim.objects if harm == "record" or key.endswith("formed.json")]:
        del sim.objects[key]
    sim.promises.written_once.clear()
    before = [(each.id, each.running, each.starts, len(each.quarantine)) for each in sim.machines.values()]
    for name in sim.live():
        sim.kill_agent(name)
    sim.run(A_WHILE)
    assert [(each.id, each.running, each.starts, len(each.quarantine)) for each in sim.machines.values()] == before
    assert len(sim.lineages) == 1
    if harm == "record":
        assert {agent.rule for agent in sim.agents.values()} <= {"bucket-behind-disk", "file-report"}


@pytest.mark.parametrize("seed", range(5))
def test_a_neighbour_that_fails_delays_a_replacement_and_no_more(begin: Begin, seed: int) -> None:
    sim = healthy(begin, seed)
    door = sim.random.choice(("s3", "ec2"))
    sim.weather = lambda: Faults(down={door})
    for agent in sim.agents.values():
        agent.faults = sim.weather()
    dead = sim.live()[seed % 3]
    sim.terminate(dead)
    sim.launch()
    sim.run(600)
    for agent in sim.agents.values():
        agent.faults.down = set()
    sim.run_until(sim.whole, within=90)
    assert dead not in sim.voters()


@pytest.mark.parametrize("seed", range(5))
def test_one_unreachable_member_is_nobodys_business_but_its_own(begin: Begin, seed: int) -> None:
    sim = healthy(begin, seed)
    ids: list[MemberId] = sorted(sim.current().members)
    away = sim.live()[seed % 3]
    sim.isolate(away)
    sim.run(600)
    assert sorted(sim.current().members) == ids
    assert sim.machines[away].running, "an etcd without a leader is never restarted"
    assert sim.machines[away].starts == 1
