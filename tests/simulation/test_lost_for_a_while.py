"""A quorum that is lost, and not for good: no new generation ever, and nothing lost when it comes back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.model.ids import InstanceId
from tests.simulation.disasters import Begin, seeds, untouched, whole
from tests.simulation.sim import Sim

SEEDS = seeds(2)
LONG = 600

Harm = Callable[[Sim, list[InstanceId]], Callable[[], None]]
"""Does it to two of three, and returns what undoes it."""


def each(do: Callable[[InstanceId], None], names: list[InstanceId]) -> None:
    for name in names:
        do(name)


def stopped(sim: Sim, two: list[InstanceId]) -> Callable[[], None]:
    for name in two:
        sim.stop(name)
    return lambda: each(sim.reboot, two)


def isolated(sim: Sim, two: list[InstanceId]) -> Callable[[], None]:
    for name in two:
        sim.isolate(name)
    return lambda: each(sim.heal, two)


def agents_dead(sim: Sim, two: list[InstanceId]) -> Callable[[], None]:
    """Their etcd is cut off, and nobody there tells anything: the third must not decide for them."""
    for name in two:
        sim.kill_agent(name, after=10**6)
        sim.isolate(name)

    def undo() -> None:
        for name in two:
            sim.heal(name)
            sim.kill_agent(name)

    return undo


def agents_and_etcd_dead(sim: Sim, two: list[InstanceId]) -> Callable[[], None]:
    for name in two:
        sim.kill_agent(name, after=10**6)
        sim.kill_etcd(name)
    return lambda: each(sim.kill_agent, two)


def hidden(sim: Sim, two: list[InstanceId]) -> Callable[[], None]:
    """One is stopped; the other is unreachable and missing from every listing."""
    sim.stop(two[0])
    sim.hide(two[1])
    sim.kill_agent(two[1], after=10**6)
    for agent in sim.agents.values():
        agent.cloud.hidden.add(two[1])

    def undo() -> None:
        for agent in sim.agents.values():
            agent.cloud.hidden.clear()
        sim.heal(two[1])
        sim.kill_agent(two[1])
        sim.reboot(two[0])

    return undo


def both_hidden(sim: Sim, two: list[InstanceId]) -> Callable[[], None]:
    """In no listing, silent and cut off; EC2 says nothing of them, and only the third one's list names them."""
    for name in two:
        sim.hide(name)
        sim.kill_agent(name, after=10**6)
    for agent in sim.agents.values():
        agent.cloud.hidden.update(two)

    def undo() -> None:
        for agent in sim.agents.values():
            agent.cloud.hidden.clear()
        for name in two:
            sim.heal(name)
            sim.kill_agent(name)

    return undo


def one_gone_one_stopped(sim: Sim, two: list[InstanceId]) -> Callable[[], None]:
    """Terminated for good, but the other disk is there: with the third it is a quorum."""
    sim.terminate(two[0])
    sim.stop(two[1])

    def undo() -> None:
        sim.reboot(two[1])
        sim.launch()

    return undo


def one_gone_one_shutting_down(sim: Sim, two: list[InstanceId]) -> Callable[[], None]:
    """A dying pair may still serve: `shutting-down` is no proof of a loss."""
    sim.terminate(two[0])
    sim.shut_down(two[1])
    sim.isolate(two[1])
    sim.launch()
    return lambda: sim.heal(two[1])


HARMS = [stopped, isolated, agents_dead, agents_and_etcd_dead, hidden, both_hidden, one_gone_one_stopped]


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_quorum_that_may_come_back_is_waited_for(begin: Begin, seed: int, harm: Harm) -> None:
    sim = whole(begin, seed, interleave=0.1)
    _, *two = sim.random.sample(sim.live(), 3)
    before = sim.acknowledged()
    undo = harm(sim, two)
    quiet = untouched(sim)
    sim.run(LONG)
    assert max(sim.records) == 1, "no new generation"
    assert untouched(sim) == quiet
    undo()
    sim.run_until(sim.whole, within=200)
    assert sim.kept() >= before
    assert max(sim.records) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_what_an_instance_reported_before_it_had_data_says_nothing_of_the_data_that_it_has(
    begin: Begin, seed: int
) -> None:
    """It waited to join while the quorum was away; later it votes, and is stopped beside one that loses its disk."""
    sim = whole(begin, seed)
    stays, wiped, replaced = sim.random.sample(sim.live(), 3)
    sim.stop(wiped)
    sim.terminate(replaced)
    newcomer = sim.launch()
    sim.run_until(lambda: f"assembly/000001/{newcomer}.json" in sim.objects, within=60)
    sim.run(30)
    sim.reboot(wiped)
    sim.run_until(sim.whole, within=120)
    assert newcomer in sim.voters()
    sim.reboot(wiped, wipe=True)
    sim.stop(newcomer)
    sim.run(LONG)
    assert max(sim.records) == 1, "no new generation"
    sim.reboot(newcomer)
    sim.run_until(sim.whole, within=200)
    assert {stays, newcomer} <= set(sim.voters())


@pytest.mark.parametrize("seed", SEEDS)
def test_who_is_shutting_down_may_still_serve(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    _, *two = sim.random.sample(sim.live(), 3)
    one_gone_one_shutting_down(sim, two)
    sim.run(LONG)
    assert max(sim.records) == 1
    sim.terminate(two[1])
    sim.launch()
    sim.run_until(lambda: sim.formed(2) and sim.whole(), within=240)


@pytest.mark.parametrize("door", ["s3", "ec2"])
@pytest.mark.parametrize("seed", SEEDS)
def test_truly_lost_and_a_neighbour_that_is_down_is_waited_for(begin: Begin, seed: int, door: str) -> None:
    sim = whole(begin, seed)
    survivor, *lost = sim.random.sample(sim.live(), 3)
    for name in lost:
        sim.terminate(name)
        sim.launch()
    for agent in sim.agents.values():
        agent.faults.down = {door}
    sim.run(LONG)
    assert max(sim.records) == 1
    assert sim.machines[survivor].running
    assert sim.machines[survivor].stops == 0
    for agent in sim.agents.values():
        agent.faults.down = set()
    sim.run_until(lambda: sim.formed(2) and sim.whole(), within=240)


@pytest.mark.parametrize("door", ["s3", "ec2"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_blip_of_the_quorum_while_a_neighbour_is_down(begin: Begin, seed: int, door: str) -> None:
    sim = whole(begin, seed)
    before = sim.acknowledged()
    for agent in sim.agents.values():
        agent.faults.down = {door}
    two = sim.random.sample(sim.live(), 2)
    for name in two:
        sim.isolate(name)
    sim.run(300)
    for name in two:
        sim.heal(name)
    sim.run(30)
    assert all((each.starts, each.stops) == (1, 0) for each in sim.machines.values())
    for agent in sim.agents.values():
        agent.faults.down = set()
    sim.run_until(sim.whole, within=60)
    assert sim.kept() >= before


@pytest.mark.parametrize("seed", SEEDS)
def test_all_rebooted_with_their_disks_is_no_loss(begin: Begin, seed: int) -> None:
    """Each comes back at its own time, some much later than the grace."""
    sim = whole(begin, seed, 5)
    before = sim.acknowledged()
    for name in sim.live():
        sim.reboot(name, after=sim.random.uniform(0, 400))
    sim.run_until(sim.whole, within=500)
    assert sim.kept() >= before
    assert max(sim.records) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_an_old_member_that_returns_after_generation_2_formed_is_fenced(begin: Begin, seed: int) -> None:
    """Written off by an operator, it comes back: at first without the bucket, then with it."""
    sim = whole(begin, seed)
    survivor, gone, asleep = sim.random.sample(sim.live(), 3)
    sim.terminate(gone)
    sim.stop(asleep)
    sim.launch()
    sim.run(60)
    assert max(sim.records) == 1
    sim.exclude(asleep)
    sim.run_until(lambda: sim.formed(2), within=240)
    sim.reboot(asleep)
    sim.agents[asleep].faults.down = {"s3"} if seed % 2 else set()
    sim.run(60)
    sim.agents[asleep].faults.down = set()
    sim.run_until(sim.whole, within=120)
    assert len(sim.machines[asleep].quarantine) == 1
    assert asleep in sim.voters()
    assert survivor in sim.voters()
