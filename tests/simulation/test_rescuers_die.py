"""Whoever carries a recovery may die at any moment of it: itself or somebody else goes on from what lies there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pytest

from agent.model.ids import InstanceId
from tests.simulation.disasters import TIMES, Begin, backed_up, lose, recovers, replace_the_lost, seeds, source, whole
from tests.simulation.logs import acknowledged
from tests.simulation.sim import Sim
from tests.simulation.test_founding import (
    Death,
    the_agent_alone,
    the_instance,
    the_instance_and_its_disk,
    will_die,
)

EFFECTS = range(18)
"""report, stop, task, report, record, fence, stop, quarantine, identity, claim, two tasks, put in place, start, …"""
STEPS = range(10)
"""Of the rescue (six), of the fetch (two) and of the restore (three)."""
MOMENTS = [
    (effect, moment)
    for effect in EFFECTS
    for moment in ("before", "after")
    if TIMES > 1 or (moment == "before") == (effect % 2 == 0)
]
"""The suite has time for every other: after effect n is before effect n + 1, but for what is lost with the process."""
WITHIN = 400


def the_instance_is_terminated(sim: Sim, name: InstanceId) -> None:
    sim.terminate(name)
    sim.launch(after=sim.random.uniform(0, 30))


WITH_ITS_DISK: list[Death] = [the_agent_alone, the_instance]
AND_WITHOUT: list[Death] = [*WITH_ITS_DISK, the_instance_and_its_disk, the_instance_is_terminated]


def some(deaths: Sequence[Death], nth: int) -> Iterator[tuple[int, Death]]:
    """One for each seed, in turn: with more seeds, every one at every step."""
    return ((seed, deaths[seed % len(deaths)]) for seed in seeds(1, first=nth))


def recovers_somehow(sim: Sim) -> None:
    """As generation 2, or a later one where the second was lost, too."""
    sim.run_until(lambda: max(sim.records) > 1 and sim.whole(), within=WITHIN)


def two_of_three_lost(sim: Sim, *, restarted: bool) -> InstanceId:
    """The survivor, whose grace is about to end."""
    survivor, *lost = sim.random.sample(sim.live(), 3)
    lose(sim, *lost)
    if restarted:
        sim.reboot(survivor)
    replace_the_lost(sim, within=20)
    sim.run(28)
    return survivor


@pytest.mark.parametrize(("effect", "moment"), MOMENTS)
def test_the_only_survivor_dies_at_any_step_and_comes_back(begin: Begin, effect: int, moment: str) -> None:
    for seed, death in some(WITH_ITS_DISK, effect):
        sim = whole(begin, seed, interleave=0.1)
        survivor = two_of_three_lost(sim, restarted=seed % 3 == 0)
        held = acknowledged(sim.machines[survivor].data.appended)  # type: ignore[union-attr]
        will_die(sim.agents[survivor], moment, effect, death)
        recovers(sim, within=WITHIN)
        assert held <= sim.kept()


@pytest.mark.parametrize("step", STEPS)
def test_the_only_survivor_dies_in_the_middle_of_a_task_and_comes_back(begin: Begin, step: int) -> None:
    for seed, death in some(WITH_ITS_DISK, step):
        sim = whole(begin, seed, interleave=0.1)
        survivor = two_of_three_lost(sim, restarted=seed % 3 == 0)
        held = acknowledged(sim.machines[survivor].data.appended)  # type: ignore[union-attr]
        sim.agents[survivor].faults.die_at_step = step
        sim.agents[survivor].at_crash = partial(death, sim, survivor)
        recovers(sim, within=WITHIN)
        assert held <= sim.kept()


@pytest.mark.parametrize(("effect", "moment"), MOMENTS)
def test_a_survivor_that_dies_for_good_leaves_another_or_a_snapshot(begin: Begin, effect: int, moment: str) -> None:
    """Five voters with two survivors, or three with one and a snapshot in the bucket."""
    for seed, death in some(AND_WITHOUT, effect):
        size = 5 if seed % 3 else 3
        sim = backed_up(begin, seed, size, interleave=0.1)
        lose(sim, *sim.random.sample(sim.live(), size - size // 2))
        best = max(sim.live(), key=lambda name: sim.machines[name].data.position)  # type: ignore[union-attr]
        replace_the_lost(sim, within=20)
        sim.run(28)
        will_die(sim.agents[best], moment, effect, death)
        recovers_somehow(sim)


@pytest.mark.parametrize("step", STEPS)
def test_a_task_whose_survivor_dies_for_good_leaves_another_or_a_snapshot(begin: Begin, step: int) -> None:
    for seed, death in some(AND_WITHOUT, step):
        size = 5 if seed % 3 else 3
        sim = backed_up(begin, seed, size, interleave=0.1)
        lose(sim, *sim.random.sample(sim.live(), size - size // 2))
        best = max(sim.live(), key=lambda name: sim.machines[name].data.position)  # type: ignore[union-attr]
        replace_the_lost(sim, within=20)
        sim.agents[best].faults.die_at_step = step
        sim.agents[best].at_crash = partial(death, sim, best)
        recovers_somehow(sim)


@pytest.mark.parametrize("step", range(6))
def test_a_restorer_dies_in_the_middle_of_a_task(begin: Begin, step: int) -> None:
    """Nothing is left but a snapshot; who fetches or restores it dies, and the others go on."""
    for seed, death in some(AND_WITHOUT, step):
        sim = backed_up(begin, seed, interleave=0.1)
        lose(sim, *sim.live())
        new = sim.random.choice(replace_the_lost(sim, within=20))
        sim.agents[new].faults.die_at_step = step
        sim.agents[new].at_crash = partial(death, sim, new)
        recovers_somehow(sim)


@pytest.mark.parametrize("seed", seeds(2))
def test_everybody_dies_again_and_again(begin: Begin, seed: int) -> None:
    """Agents are killed every few seconds for minutes; nothing is begun from less than there is."""
    sim = whole(begin, seed)
    survivor, *lost = sim.random.sample(sim.live(), 3)
    lose(sim, *lost)
    held = acknowledged(sim.machines[survivor].data.appended)  # type: ignore[union-attr]
    replace_the_lost(sim)
    for _ in range(30):
        sim.run(sim.random.uniform(5, 45))
        verb = sim.random.choice((sim.kill_agent, sim.reboot))
        verb(sim.random.choice(sim.live()))
    recovers(sim, within=WITHIN)
    assert held <= sim.kept()


@pytest.mark.parametrize("seed", seeds(2))
def test_tasks_that_fail_and_answers_that_are_lost_are_tried_again(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed, interleave=0.2)
    survivor, *lost = sim.random.sample(sim.live(), 3)
    lose(sim, *lost)
    replace_the_lost(sim)
    for agent in sim.agents.values():
        agent.faults.tasks_fail, agent.faults.lost_replies, agent.faults.storms = 0.1, 0.2, 0.3
    recovers(sim, within=900)
    assert source(sim) == f"survivor {survivor}"


@pytest.mark.parametrize("seed", seeds(2))
def test_a_log_that_no_etcd_runs_on_gives_way_to_the_next_best(begin: Begin, seed: int) -> None:
    """The best of two survivors, or the only one and a snapshot."""
    size = 5 if seed % 2 else 3
    sim = backed_up(begin, seed, size)
    lose(sim, *sim.random.sample(sim.live(), size - size // 2))
    for name in sim.live():
        sim.reboot(name)  # so that its log is all that it can be rescued from
    best = max(sim.live(), key=lambda name: (*sim.machines[name].data.position, name))  # type: ignore[union-attr]
    sim.machines[best].cannot_be_rescued = True
    replace_the_lost(sim)
    recovers(sim, within=WITHIN)
    assert source(sim) != f"survivor {best}"


# ---- a second loss


@pytest.mark.parametrize("seed", seeds(2))
def test_generation_2_is_lost_before_it_formed(begin: Begin, seed: int) -> None:
    """All its founders go: generation 3 begins from the same seed, or from a founder of 2 that had started."""
    sim = whole(begin, seed)
    survivor, *lost = sim.random.sample(sim.live(), 3)
    lose(sim, *lost)
    held = acknowledged(sim.machines[survivor].data.appended)  # type: ignore[union-attr]
    replace_the_lost(sim, within=20)
    sim.run_until(lambda: 2 in sim.records, within=200)
    sim.run(sim.random.uniform(0, 8))
    if sim.formed(2):
        return
    founders = [InstanceId(name) for name in sim.newest().founders]
    lose(sim, *(founders if seed % 2 else sim.random.sample(founders, 2)))
    replace_the_lost(sim, within=20)
    sim.run_until(lambda: 3 in sim.records and sim.whole(), within=WITHIN)
    assert held <= sim.kept()


@pytest.mark.parametrize("seed", seeds(2))
def test_one_loss_after_another(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    for generation in (2, 3, 4):
        survivor, *lost = sim.random.sample(sim.live(), 3)
        lose(sim, *lost)
        held = acknowledged(sim.machines[survivor].data.appended)  # type: ignore[union-attr]
        replace_the_lost(sim)
        recovers(sim, generation)
        assert held <= sim.kept()
        sim.run(sim.random.uniform(5, 60))


# ---- founders that never formed


@pytest.mark.parametrize("seed", seeds(2))
@pytest.mark.parametrize("harm", ["moved", "terminated", "wiped"])
def test_founders_of_generation_1_that_are_gone_before_it_formed(begin: Begin, seed: int, harm: str) -> None:
    """They used to be waited for for ever; now seats are given up, and generation 2 starts empty."""
    sim = begin(seed, 3)
    sim.run_until(lambda: 1 in sim.records, within=60)
    for name in sim.random.sample(sim.live(), 2 + seed % 2):
        if harm == "moved":
            sim.reboot(name, ip=f"10.9.0.{len(sim.story)}", after=sim.random.uniform(0, 20))
        elif harm == "wiped":
            sim.reboot(name, wipe=True, after=sim.random.uniform(0, 20))
        else:
            sim.terminate(name)
    replace_the_lost(sim)
    sim.run_until(sim.whole, within=WITHIN)
    assert len(sim.voters()) == 3


@pytest.mark.parametrize("seed", seeds(2))
@pytest.mark.parametrize("effect", [3, 4])
def test_founders_that_moved_right_after_their_claim_let_go_of_it(begin: Begin, seed: int, effect: int) -> None:
    """Claimed and not started, at an address at which the claim is of no use."""
    sim = begin(seed, 3)
    for count, name in enumerate(sim.random.sample(sim.live(), 2)):
        will_die(sim.agents[name], "before", effect, partial(_moves, ip=f"10.9.0.{count + 1}"))
    sim.run_until(sim.whole, within=WITHIN)
    assert len(sim.voters()) == 3


def _moves(sim: Sim, name: InstanceId, ip: str) -> None:
    sim.reboot(name, ip=ip)
