"""Certificates of the agents' own in a whole fleet: one authority, renewal in time, and rotations in which every member
believes every other at every step and no two are away at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from agent.model.actions import Blocker, Wait
from agent.model.certificates import Authorities
from agent.model.ids import InstanceId
from tests.simulation.disasters import Begin, seeds, whole
from tests.simulation.door_certificates import LIFE
from tests.simulation.doors import Faults
from tests.simulation.sim import Sim

SEEDS = seeds(1)
BOTH, ISSUING, ALONE = Authorities((1, 2), 1), Authorities((1, 2), 2), Authorities((2,), 2)


def certified(begin: Begin, seed: int, instances: int = 3) -> Sim:
    return whole(begin, seed, instances, certified=True)


def all_trust(sim: Sim, *numbers: int) -> bool:
    return all(each.trusts == frozenset(numbers) for each in sim.machines.values() if each.running)


def all_show(sim: Sim, number: int) -> bool:
    issued = [each.issued for each in sim.machines.values() if each.running]
    return all(each is not None and each.authorities.issuer == number for each in issued)


def reloads(sim: Sim) -> list[InstanceId]:
    """Whose etcd was restarted, in turn."""
    return [InstanceId(line.split()[1]) for line in sim.story if " reload-authorities: ReloadEtcd" in line]


def most_away(sim: Sim, until: Callable[[], bool], within: float) -> int:
    """How many members were away at once until this was so."""
    seen = [0]

    def look() -> bool:
        seen.append(sum(not each.running for each in sim.machines.values()))
        return until()

    sim.run_until(look, within)
    return max(seen)


@pytest.mark.parametrize("seed", SEEDS)
def test_in_any_weather_one_authority_is_made_and_a_cluster_forms(begin: Begin, seed: int) -> None:
    sim = begin(seed, 3, certified=True)
    for agent in sim.agents.values():
        agent.faults = Faults(flaky=0.2, lost_replies=0.2, storms=0.1, crash_after=sim.random.randrange(8))
    sim.run_until(sim.whole, within=600)
    assert sim.authorities == Authorities((1,), 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_certificates_are_renewed_in_time_although_parameter_store_is_out_for_a_quarter_of_it(
    begin: Begin, seed: int
) -> None:
    sim = certified(begin, seed)
    for _ in range(2):
        for agent in sim.agents.values():
            agent.faults.down.add("ssm")
        sim.run(LIFE.total_seconds() / 4)
        for agent in sim.agents.values():
            agent.faults.down.discard("ssm")
        sim.run(LIFE.total_seconds() / 2)
    assert reloads(sim) == []
    assert sim.whole()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_rotation_takes_two_rounds_of_restarts_one_at_a_time_and_the_leader_last(begin: Begin, seed: int) -> None:
    sim = certified(begin, seed)
    leader = sim.leader_agent().name
    sim.authorities = BOTH
    assert most_away(sim, lambda: all_trust(sim, 1, 2) and sim.whole(), within=900) <= 1
    first = reloads(sim)
    assert len(first) == len(set(first)) == 3
    assert first[-1] == leader
    sim.authorities = ISSUING
    sim.run_until(lambda: all_show(sim, 2), within=900)
    assert reloads(sim) == first, "issuing needs no restart"
    sim.authorities = ALONE
    assert most_away(sim, lambda: all_trust(sim, 2) and sim.whole(), within=900) <= 1
    assert len(reloads(sim)) == 6
    sim.run(100)
    assert len(reloads(sim)) == 6, "and no more"


@pytest.mark.parametrize("seed", SEEDS)
def test_agents_that_die_in_a_rotation_finish_it(begin: Begin, seed: int) -> None:
    sim = certified(begin, seed)
    sim.authorities = BOTH
    for agent in sim.agents.values():
        agent.faults.crash_after = sim.random.randrange(4)
        agent.faults.flaky = 0.1
    assert most_away(sim, lambda: all_trust(sim, 1, 2) and sim.whole(), within=1800) <= 1


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_restarts_while_a_member_is_away_or_the_cluster_is_held(begin: Begin, seed: int) -> None:
    sim = certified(begin, seed)
    away = next(name for name in sim.live() if name != sim.leader_agent().name)
    sim.freeze_etcd(away)
    sim.run(30)
    sim.authorities = BOTH
    sim.run(400)
    assert reloads(sim) == []
    sim.hold()
    sim.thaw_etcd(away)
    sim.run(200)
    assert reloads(sim) == []
    sim.release()
    assert most_away(sim, lambda: all_trust(sim, 1, 2) and sim.whole(), within=1800) <= 1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_member_that_is_replaced_in_a_rotation_comes_up_with_both(begin: Begin, seed: int) -> None:
    sim = certified(begin, seed)
    sim.authorities = BOTH
    sim.run(sim.random.uniform(0, 400))
    sim.terminate(sim.random.choice(sim.live()))
    sim.launch(after=3)
    sim.run_until(lambda: all_trust(sim, 1, 2) and sim.whole(), within=1800)


@pytest.mark.parametrize("seed", SEEDS)
def test_without_parameter_store_a_restart_goes_well_and_a_newcomer_waits(begin: Begin, seed: int) -> None:
    sim = certified(begin, seed)
    sim.weather = lambda: Faults(down={"ssm"})
    rebooted = sim.random.choice(sim.live())
    sim.reboot(rebooted)
    sim.run_until(sim.whole, within=120)
    gone = sim.random.choice(sim.live())
    sim.terminate(gone)
    new = sim.launch(after=3)
    sim.run(120)
    last = sim.agents[new].last
    assert last is not None
    assert last.decision.action == Wait(Blocker.CERTIFICATES)
    sim.agents[new].faults.down.clear()
    sim.run_until(sim.whole, within=240)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lost_authority_is_not_made_anew_by_agents(begin: Begin, seed: int) -> None:
    sim = certified(begin, seed)
    sim.authorities = None
    sim.reboot(sim.random.choice(sim.live()), wipe=True)
    sim.run((LIFE + timedelta(minutes=-5)).total_seconds() / 2)
    assert sim.authorities is None
    assert any(each.rule == "issue-certificates" for each in sim.agents.values()), "a human is called"
