"""A quorum that is lost for good, and what is left of it: the next generation, from the best there is."""

from __future__ import annotations

import pytest

from agent.model.actions import CallHuman
from agent.model.cluster import Alarm, AlarmKind
from agent.model.ids import InstanceId
from tests.simulation.disasters import (
    AN_HOUR,
    RECOVERY,
    Begin,
    backed_up,
    lose,
    recovers,
    replace_the_lost,
    seeds,
    snapshots,
    source,
    whole,
)
from tests.simulation.logs import acknowledged
from tests.simulation.sim import Sim

SEEDS, FEW = seeds(3), seeds(2)


# ---- two of three


@pytest.mark.parametrize("seed", SEEDS)
def test_two_of_three_terminated_and_the_survivors_log_is_what_counts(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed, interleave=0.1)
    survivor, *lost = sim.random.sample(sim.live(), 3)
    lose(sim, *lost)
    held = acknowledged(sim.machines[survivor].data.appended)  # type: ignore[union-attr]
    replace_the_lost(sim)
    recovers(sim)
    assert source(sim) == f"survivor {survivor}"
    assert held <= sim.kept()
    assert sim.voters() == sim.live()
    (kept,) = sim.machines[survivor].quarantine
    assert kept is not None, "the original is put aside, as it was"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_survivor_that_a_reboot_restarted_answers_nothing_and_is_rescued_from_its_files(
    begin: Begin, seed: int
) -> None:
    sim = whole(begin, seed, interleave=0.1)
    survivor, *lost = sim.random.sample(sim.live(), 3)
    lose(sim, *lost)
    held = acknowledged(sim.machines[survivor].data.appended)  # type: ignore[union-attr]
    sim.reboot(survivor, after=sim.random.uniform(0, 30))
    replace_the_lost(sim)
    recovers(sim)
    assert source(sim) == f"survivor {survivor}"
    assert held <= sim.kept()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_tail_that_the_survivor_does_not_know_to_be_committed_is_kept(begin: Begin, seed: int) -> None:
    """It has been acknowledged: the survivor was half of the quorum, and the leader died right on the last one."""
    sim = whole(begin, seed)
    leader = sim.leader_agent().name
    followers = [name for name in sim.live() if name != leader]
    survivor = sim.random.choice(followers)
    data = sim.machines[survivor].data
    assert data is not None
    lineage = sim.current()
    sim.run_until(
        lambda: data.appended is lineage.last_acknowledged and data.committed is not data.appended, within=120
    )
    lose(sim, *(name for name in sim.live() if name != survivor))
    before = sim.acknowledged()
    replace_the_lost(sim)
    recovers(sim)
    assert sim.kept() >= before, "nothing is lost at all"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_leader_that_survives_alone(begin: Begin, seed: int) -> None:
    """It holds everything, and perhaps what nobody was told of: that may stay or go."""
    sim = whole(begin, seed)
    survivor = sim.leader_agent().name
    lose(sim, *(name for name in sim.live() if name != survivor))
    before = sim.acknowledged()
    replace_the_lost(sim)
    recovers(sim)
    assert sim.kept() >= before


@pytest.mark.parametrize("seed", FEW)
def test_three_of_five_lost_and_the_more_complete_survivor_is_the_source(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed, 5)
    away, *others = sim.random.sample([name for name in sim.live() if name != sim.leader_agent().name], 4)
    sim.isolate(away)
    sim.run(120)
    near = others[0]
    lose(sim, *(name for name in sim.live() if name not in (away, near)))
    sim.heal(away)
    held = acknowledged(sim.machines[near].data.appended)  # type: ignore[union-attr]
    replace_the_lost(sim)
    recovers(sim)
    assert source(sim) == f"survivor {near}"
    assert held <= sim.kept()
    assert len(sim.voters()) == 5


@pytest.mark.parametrize("seed", FEW)
def test_two_agents_prove_the_loss_at_once_and_one_of_them_writes_the_record(begin: Begin, seed: int) -> None:
    """Of five voters two are left, and the replacements have the same proof."""
    sim = whole(begin, seed, 5, interleave=0.5)
    lose(sim, *sim.random.sample(sim.live(), 3))
    for name in sim.live():
        sim.agents[name].faults.lost_replies = 0.3
    replace_the_lost(sim, within=5)
    recovers(sim)


@pytest.mark.parametrize("seed", FEW)
def test_two_disks_of_three_wiped_are_as_lost_as_terminated(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    survivor, *lost = sim.random.sample(sim.live(), 3)
    for name in lost:
        sim.reboot(name, wipe=True, after=sim.random.uniform(0, 30))
    recovers(sim)
    assert source(sim) == f"survivor {survivor}"
    assert len(sim.machines) == 3


@pytest.mark.parametrize("seed", FEW)
def test_no_replacement_ever_comes_and_the_survivor_goes_on_alone(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    lose(sim, *sim.live()[1:])
    sim.run_until(lambda: sim.formed(2), within=RECOVERY)
    sim.run(1)  # until a client has written to it
    assert sim.voters() == sim.live()
    replace_the_lost(sim)
    recovers(sim)


@pytest.mark.parametrize("seed", FEW)
def test_a_full_database_that_was_restored_accepts_writes_again(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    full, *lost = sim.live()
    sim.raise_alarm(Alarm(sim.machines[full].data.member, AlarmKind.NOSPACE))  # type: ignore[union-attr]
    sim.run(30)
    lose(sim, *lost)
    replace_the_lost(sim)
    sim.run_until(lambda: sim.formed(2), within=RECOVERY)
    sim.run_until(sim.whole, within=60)
    assert not sim.current().alarms


@pytest.mark.parametrize("seed", FEW)
def test_a_spare_or_learner_among_the_rest_does_not_confuse_the_proof(begin: Begin, seed: int) -> None:
    """A learner's log counts as a survivor's."""
    sim = whole(begin, seed, 4)
    sim.run_until(lambda: any(sim.learners()), within=60)
    sim.run(60)
    spare = InstanceId(sim.learners()[0])
    lose(sim, *(name for name in sim.live() if name != spare))
    before = acknowledged(sim.machines[spare].data.appended)  # type: ignore[union-attr]
    replace_the_lost(sim)
    recovers(sim)
    assert source(sim) == f"survivor {spare}"
    assert before <= sim.kept()


# ---- nothing but snapshots


@pytest.mark.parametrize("seed", SEEDS)
def test_all_terminated_and_the_newest_snapshot_is_restored(begin: Begin, seed: int) -> None:
    sim = backed_up(begin, seed, interleave=0.1)
    sim.run(sim.random.uniform(0, 700))
    newest = snapshots(sim)[-1]
    lose(sim, *sim.live())
    replace_the_lost(sim)
    recovers(sim)
    assert source(sim) == "snapshot"
    assert sim.newest().seed.manifest == newest.manifest_key  # type: ignore[union-attr]
    assert dict(sim.sound_snapshots())[newest].acknowledged or sim.kept()


@pytest.mark.parametrize("seed", FEW)
@pytest.mark.parametrize("size", [1, 3, 5])
def test_scaled_to_zero_and_up_again(begin: Begin, seed: int, size: int) -> None:
    sim = backed_up(begin, seed)
    sim.desired = 0
    for name in sim.live():
        sim.run(sim.random.uniform(0, 5))
        sim.terminate(name)
    sim.skip(2 * AN_HOUR)
    sim.desired = size
    replace_the_lost(sim)
    recovers(sim)
    assert len(sim.voters()) == size


@pytest.mark.parametrize("harm", ["rotten", "gone", "garbled"])
@pytest.mark.parametrize("seed", FEW)
def test_a_bad_newest_snapshot_is_marked_and_the_next_best_is_restored(begin: Begin, seed: int, harm: str) -> None:
    sim = backed_up(begin, seed)
    sim.run_until(lambda: len(snapshots(sim)) >= 3, within=900)
    *_, good, bad = snapshots(sim)
    spoil(sim, bad.data_key if harm != "garbled" else bad.manifest_key, gone=harm == "gone")
    lose(sim, *sim.live())
    replace_the_lost(sim)
    recovers(sim)
    assert sim.newest().seed.manifest == good.manifest_key  # type: ignore[union-attr]
    assert bad.bad_key in sim.objects or harm == "gone"


def spoil(sim: Sim, key: str, *, gone: bool = False) -> None:
    if gone:
        del sim.objects[key]
    else:
        sim.objects[key] = ("{rotten", sim.objects[key][1])


@pytest.mark.parametrize("seed", seeds(2))
def test_formed_and_nothing_to_restore_from_calls_a_human_and_does_nothing_else(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    for key in [key for key in sim.objects if key.startswith("snapshots/")]:
        del sim.objects[key]
    sim.raft.idle = True
    lose(sim, *sim.live())
    replace_the_lost(sim)
    sim.run(RECOVERY)
    for key in [key for key in sim.objects if key.startswith("snapshots/")]:
        del sim.objects[key]
    before = sorted(key for key in sim.objects if not key.startswith("assembly/"))
    sim.run(AN_HOUR)
    assert sorted(key for key in sim.objects if not key.startswith("assembly/")) == before
    for agent in sim.agents.values():
        assert agent.last is not None
        assert agent.rule in ("recover", "file-report")
    assert any(isinstance(agent.last.decision.action, CallHuman) for agent in sim.agents.values() if agent.last)
    assert all(each.starts == 0 for each in sim.machines.values() if each.exists)


@pytest.mark.parametrize("seed", FEW)
def test_a_snapshot_that_has_more_than_the_survivors_log(begin: Begin, seed: int) -> None:
    """The survivor was cut off for long, and the others' snapshot is minutes old: nothing that it holds is lost."""
    sim = backed_up(begin, seed)
    away = sim.random.choice([name for name in sim.live() if name != sim.leader_agent().name])
    sim.isolate(away)
    count = len(snapshots(sim))
    sim.run_until(lambda: len(snapshots(sim)) > count + 1, within=1200)
    lose(sim, *(name for name in sim.live() if name != away))
    held = acknowledged(dict(sim.sound_snapshots())[snapshots(sim)[-1]])
    sim.heal(away)
    replace_the_lost(sim)
    recovers(sim)
    assert held <= sim.kept()
