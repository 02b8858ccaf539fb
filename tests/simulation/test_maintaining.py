"""Upkeep in a whole fleet: one member at a time, the leader last, and never while something else is under way."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.model.actions import CallHuman
from agent.model.cluster import Alarm, AlarmKind
from agent.model.ids import InstanceId
from tests.simulation.disasters import Begin, backed_up, seeds
from tests.simulation.sim import Sim

SEEDS = seeds(2)
UNUSED = 500_000_000


def kept(begin: Begin, seed: int, instances: int = 3, *, nospace: bool = False) -> Sim:
    sim = backed_up(begin, seed, instances)
    for agent in sim.agents.values():
        agent.policy = replace(agent.policy, maintenance_after=timedelta(seconds=30), nospace=nospace)
    return sim


def defragmented(sim: Sim) -> list[InstanceId]:
    """In turn."""
    lines = [line.split() for line in sim.story if "is being defragmented" in line]
    return [InstanceId(next(word for word in words if word.startswith("i-"))) for words in lines]


def blocked(sim: Sim) -> int:
    return sum(each.blocked for each in sim.machines.values())


@pytest.mark.parametrize("seed", SEEDS)
def test_one_member_at_a_time_and_the_leader_last(begin: Begin, seed: int) -> None:
    sim = kept(begin, seed)
    leader = sim.leader_agent().name
    sim.fragment(UNUSED)
    at_once = [0]

    def done() -> bool:
        at_once.append(blocked(sim))
        return not any(each.unused_bytes for each in sim.machines.values())

    sim.run_until(done, within=300)
    assert max(at_once) <= 1
    found = defragmented(sim)
    assert len(found) == len(set(found)) == 3
    assert found[-1] == leader
    sim.run(120)
    assert defragmented(sim) == found, "once is enough"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_spare_is_left_as_it_is(begin: Begin, seed: int) -> None:
    sim = kept(begin, seed, instances=4)
    (spare,) = sim.learners()
    sim.fragment(UNUSED)
    sim.run(300)
    assert len(defragmented(sim)) == 3
    assert spare not in defragmented(sim)
    assert not any("rpc not supported for learner" in line for line in sim.story)


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_is_blocked_while_one_is_away_or_the_cluster_is_held(begin: Begin, seed: int) -> None:
    sim = kept(begin, seed)
    away = next(name for name in sim.live() if name != sim.leader_agent().name)
    sim.freeze_etcd(away)
    sim.fragment(UNUSED)
    sim.run(120)
    assert not defragmented(sim)
    sim.hold()
    sim.thaw_etcd(away)
    sim.run(300)
    assert not defragmented(sim)
    sim.release()
    sim.run_until(lambda: len(defragmented(sim)) == 3, within=300)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_full_database_calls_a_human_or_is_made_room_in(begin: Begin, seed: int) -> None:
    sim = kept(begin, seed)
    alarm = Alarm(next(iter(sim.current().members)), AlarmKind.NOSPACE)
    sim.raise_alarm(alarm)
    sim.run(60)
    last = sim.leader_agent().last
    assert last is not None
    assert isinstance(last.decision.action, CallHuman)
    assert alarm in sim.current().alarms
    for agent in sim.agents.values():
        agent.policy = replace(agent.policy, nospace=True)
    sim.run_until(lambda: not sim.current().alarms, within=300)
    assert len(defragmented(sim)) == 3
    assert any("history before revision" in line for line in sim.story)
