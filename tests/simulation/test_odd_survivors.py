"""Survivors that are not what they seem: damaged data, empty logs, lists that are long out of date, etcds that hang."""

from __future__ import annotations

import pytest

from agent.model.ids import InstanceId
from tests.simulation.disasters import Begin, backed_up, lose, recovers, replace_the_lost, seeds, source, whole
from tests.simulation.logs import acknowledged
from tests.simulation.seeds import play_seed
from tests.simulation.sim import Sim
from tests.simulation.test_founding import will_die

SEEDS = seeds(3)


def damage(sim: Sim, name: InstanceId) -> None:
    """A checksum is wrong: etcd does not start on it any more."""
    data = sim.machines[name].data
    assert data is not None
    data.damaged = "the write-ahead log's checksum differs"
    sim.kill_etcd(name)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_damaged_survivor_is_no_source_and_the_snapshot_is(begin: Begin, seed: int) -> None:
    sim = backed_up(begin, seed)
    survivor, *lost = sim.random.sample(sim.live(), 3)
    damage(sim, survivor)
    lose(sim, *lost)
    replace_the_lost(sim)
    recovers(sim)
    assert source(sim) == "snapshot"
    (kept,) = sim.machines[survivor].quarantine
    assert kept is not None, "somebody may yet look into it"


@pytest.mark.parametrize("seed", SEEDS)
def test_the_sound_one_of_two_survivors_is_the_source(begin: Begin, seed: int) -> None:
    sim = backed_up(begin, seed, 5)
    bad, good, *lost = sim.random.sample(sim.live(), 5)
    lose(sim, *lost)
    damage(sim, bad)
    held = acknowledged(sim.machines[good].data.appended)  # type: ignore[union-attr]
    replace_the_lost(sim)
    recovers(sim)
    assert held <= sim.kept()


@pytest.mark.parametrize("seed", seeds(1))
def test_damaged_data_of_a_quorum_may_be_repaired_and_is_waited_for(begin: Begin, seed: int) -> None:
    """Until an operator says that it will not be."""
    sim = backed_up(begin, seed)
    good, bad, gone = sim.random.sample(sim.live(), 3)
    lose(sim, gone)
    damage(sim, bad)
    held = acknowledged(sim.machines[good].data.appended)  # type: ignore[union-attr]
    replace_the_lost(sim)
    sim.run(600)
    assert max(sim.records) == 1
    sim.exclude(bad)
    recovers(sim)
    assert held <= sim.kept()
    assert len(sim.voters()) == 3


@pytest.mark.parametrize("seed", SEEDS)
def test_a_joiner_that_was_never_sent_anything_does_not_stand_in_the_way(begin: Begin, seed: int) -> None:
    """Its etcd started, and its log is empty: whoever has no list campaigns for nothing."""
    sim = whole(begin, seed)
    sim.desired = 5
    joiner = sim.launch()
    will_die(sim.agents[joiner], "after", 3, lambda sim, name: sim.isolate(name))
    sim.run_until(lambda: sim.machines[joiner].running, within=60)
    data = sim.machines[joiner].data
    assert data is not None
    assert data.appended is None
    survivor, *lost = sim.random.sample([name for name in sim.live() if name != joiner], 3)
    lose(sim, *lost)
    held = acknowledged(sim.machines[survivor].data.appended)  # type: ignore[union-attr]
    sim.heal(joiner)
    replace_the_lost(sim)
    recovers(sim)
    assert held <= sim.kept()


@pytest.mark.parametrize("seed", seeds(1))
def test_a_list_that_is_long_out_of_date_is_waited_for_until_an_operator_speaks(begin: Begin, seed: int) -> None:
    """Five grew to seven while one was cut off. By its list it and two others are a quorum; by theirs they are none."""
    sim = whole(begin, seed, 5)
    behind, *others = sorted(sim.live(), key=lambda name: name == sim.leader_agent().name)
    sim.isolate(behind)
    sim.desired = 7
    grown = [sim.launch(), sim.launch()]
    sim.run_until(lambda: len(sim.current().voters) == 7, within=120)
    sim.run(60)
    lose(sim, *others[2:], *grown)
    held = acknowledged(sim.machines[others[0]].data.appended)  # type: ignore[union-attr]
    sim.heal(behind)
    replace_the_lost(sim)
    sim.run(600)
    assert max(sim.records) == 1
    assert not sim.promises.could_elect(sim.newest()), "it is lost in truth, but nobody can prove it"
    blocked = sim.agents[others[0]].last
    assert blocked is not None
    assert f"{behind}: may yet be elected" in blocked.decision.because
    sim.exclude(behind)
    recovers(sim)
    assert held <= sim.kept()


@pytest.mark.parametrize("seed", SEEDS)
def test_an_agent_whose_etcd_tells_nothing_keeps_everybody_waiting(begin: Begin, seed: int) -> None:
    """A certificate of ours that expired, or an etcd that hangs, is no lost quorum."""
    sim = whole(begin, seed)
    name = sim.random.choice(sim.live())
    for each in sim.live():
        if each != name:
            sim.stop(each)
    sim.agents[name].faults.down = {"etcd"}
    sim.run(300)
    sim.agents[name].faults.down = set()
    assert max(sim.records) == 1
    for each in list(sim.machines):
        if not sim.machines[each].up:
            sim.reboot(each)
    sim.run_until(sim.whole, within=120)


@pytest.mark.parametrize("seed", SEEDS)
def test_power_fails_everywhere_and_half_come_back_with_their_disks(begin: Begin, seed: int) -> None:
    """Two of five disks are there again: what they hold is there again, too."""
    sim = whole(begin, seed, 5, interleave=0.2)
    survivors = sim.random.sample(sim.live(), 2)
    held = set()
    for name in survivors:
        held |= acknowledged(sim.machines[name].data.appended)  # type: ignore[union-attr]
    for name in sim.live():
        (sim.stop if name in survivors else sim.terminate)(name)
    for _ in range(3):
        sim.launch(after=sim.random.uniform(0, 60))
    sim.run(120)
    for name in survivors:
        sim.reboot(name, after=sim.random.uniform(0, 120))
    recovers(sim, within=500)
    assert held <= sim.kept()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_moved_volume_is_a_survivor_wherever_it_is(begin: Begin, seed: int) -> None:
    """All instances are replaced; one disk is attached to a new one."""
    sim = whole(begin, seed)
    old, *lost = sim.random.sample(sim.live(), 3)
    held = acknowledged(sim.machines[old].data.appended)  # type: ignore[union-attr]
    lose(sim, *lost)
    new = sim.launch(after=30)
    sim.move_volume(old, new)
    replace_the_lost(sim)
    recovers(sim, within=400)
    assert source(sim) == f"survivor {new}"
    assert held <= sim.kept()


def test_a_founders_volume_that_moves_before_its_generation_formed_forms_it_elsewhere() -> None:
    """The only founder's; nobody else could say that it formed, and nobody joins before."""
    ended, _ = play_seed(141)
    assert ended.broke is None


@pytest.mark.parametrize("seed", range(8))
def test_a_member_that_comes_back_elsewhere_while_its_removal_is_under_way_stays(begin: Begin, seed: int) -> None:
    """The leader's agent heard nothing of it and then waits for EC2, which says rightly that its instance has ended."""
    sim = whole(begin, seed)
    leader = sim.leader_agent()
    moved = next(name for name in sim.live() if name != leader.name)
    leader.faults.slow = 40
    sim.move_volume(moved, sim.launch(after=4))
    sim.run(60)
    leader.faults.slow = 0
    sim.run_until(sim.whole, within=240)
