"""Snapshots of a healthy cluster: whose turn it is, what an idle one costs, and what may be let go."""

from __future__ import annotations

import pytest

from agent.model.ids import InstanceId, MemberId
from agent.model.snapshot import DrillRecord, DrillResult
from tests.simulation.disasters import Begin, backed_up, lose, recovers, replace_the_lost, seeds, snapshots, whole
from tests.simulation.door_bucket import manifest_of
from tests.simulation.sim import Sim

SEEDS = seeds(2)
INTERVAL = 300


def turns(sim: Sim) -> list[InstanceId]:
    """In which order the voters take snapshots: by member ID, the leader last."""
    leader = sim.leader(sim.current())
    order: list[MemberId] = sorted((each.id for each in sim.current().voters), key=lambda each: (each == leader, each))
    return [sim.serving(sim.current())[each].id for each in order]


def takers(sim: Sim, generation: int = 1) -> list[InstanceId]:
    return [manifest_of(sim.objects[name.manifest_key][0]).instance for name in snapshots(sim, generation)]


@pytest.mark.parametrize("seed", SEEDS)
def test_one_member_takes_them_and_never_the_leader(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    first = turns(sim)[0]
    sim.run(6 * INTERVAL + 60)
    assert set(takers(sim)) == {first}
    assert 6 <= len(takers(sim)) <= 8
    assert all(each.stops == 0 and each.starts == 1 for each in sim.machines.values())


@pytest.mark.parametrize("seed", SEEDS)
def test_the_first_comes_right_after_a_generation_forms(begin: Begin, seed: int) -> None:
    sim = begin(seed, 3)
    sim.run_until(sim.formed, within=60)
    assert sim.run_until(lambda: bool(snapshots(sim)), within=40) < 40


@pytest.mark.parametrize("seed", SEEDS)
def test_where_the_first_ones_uploads_fail_the_second_takes_over(begin: Begin, seed: int) -> None:
    sim = backed_up(begin, seed)
    first, second, _ = turns(sim)
    sim.agents[first].faults.tasks_fail = 1.0
    count = len(snapshots(sim))
    took = sim.run_until(lambda: len(snapshots(sim)) > count, within=2.1 * INTERVAL)
    assert took > INTERVAL
    assert takers(sim)[-1] == second
    sim.run_until(lambda: len(snapshots(sim)) > count + 2, within=4 * INTERVAL)
    sim.agents[first].faults.tasks_fail = 0.0
    sim.run_until(lambda: takers(sim)[-1] == first, within=3 * INTERVAL)


@pytest.mark.parametrize("seed", SEEDS)
def test_where_only_the_leader_is_left_it_takes_its_own(begin: Begin, seed: int) -> None:
    sim = backed_up(begin, seed)
    for name in turns(sim)[:2]:
        sim.kill_agent(name, after=10**6)
    count = len(snapshots(sim))
    sim.run_until(lambda: len(snapshots(sim)) > count, within=3 * INTERVAL)
    assert takers(sim)[-1] == turns(sim)[2]


@pytest.mark.parametrize("seed", SEEDS)
def test_an_idle_cluster_writes_none(begin: Begin, seed: int) -> None:
    sim = backed_up(begin, seed)
    sim.raft.idle = True
    sim.run(2 * INTERVAL)
    count = len(sim.snapshot_names())
    for agent in sim.agents.values():
        agent.calls.clear()
    sim.run(12 * INTERVAL)
    assert len(sim.snapshot_names()) == count
    asked = sum(agent.calls["s3"] for agent in sim.agents.values())
    assert asked < 150, "and asks about them next to nothing"
    sim.raft.idle = False
    sim.run_until(lambda: len(sim.snapshot_names()) > count, within=1.1 * INTERVAL)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_write_after_a_long_rest_is_the_first_ones_alone_to_snapshot(begin: Begin, seed: int) -> None:
    """However old the newest is by then, there was nothing to take, so nobody has been waited for in vain."""
    sim = backed_up(begin, seed)
    sim.raft.idle = True
    sim.run(6 * INTERVAL)
    first, before = turns(sim)[0], takers(sim)
    sim.raft.idle = False
    sim.run(INTERVAL / 3)
    assert takers(sim) == [*before, first]


@pytest.mark.parametrize("seed", SEEDS)
def test_an_upload_that_broke_off_is_nothing_and_the_next_one_counts(begin: Begin, seed: int) -> None:
    sim = backed_up(begin, seed)
    first = turns(sim)[0]
    sim.agents[first].faults.die_at_step = 2 + seed % 3
    count = len(snapshots(sim))
    sim.run_until(lambda: len(snapshots(sim)) > count, within=2 * INTERVAL)
    sim.run_until(sim.whole, within=30)


@pytest.mark.parametrize("seed", SEEDS)
def test_retention_lets_go_only_behind_newer_ones(begin: Begin, seed: int) -> None:
    """What is deleted is judged by `promises` at every deletion; here only that something is, and what stays."""
    sim = whole(begin, seed)
    for agent in sim.agents.values():
        agent.keep(newest=3, hourly=2, daily=1)
    sim.run(9 * INTERVAL)
    assert 3 <= len(snapshots(sim)) <= 7
    newest = snapshots(sim)[-1]
    lose(sim, *sim.live())
    replace_the_lost(sim)
    for agent in sim.agents.values():
        agent.keep(newest=3, hourly=2, daily=1)
    recovers(sim)
    sim.run(9 * INTERVAL)
    assert newest in snapshots(sim), "the head started from it, and it is the newest of its generation"
    assert 3 <= len(snapshots(sim, 2)) <= 7


@pytest.mark.parametrize("seed", SEEDS)
def test_a_drill_is_done_once_a_day_and_fails_aloud(begin: Begin, seed: int) -> None:
    sim = backed_up(begin, seed)
    sim.run(INTERVAL)
    drills = [DrillRecord.from_json(text) for key, (text, _) in sim.objects.items() if key.startswith("drills/")]
    assert [each.result for each in drills] == [DrillResult.PASSED]
    sim.skip(90_000)
    for name in snapshots(sim):
        sim.objects[name.data_key] = ("rotten", sim.now)
    sim.raft.idle = True
    sim.run(2 * INTERVAL)
    drills = [DrillRecord.from_json(text) for key, (text, _) in sim.objects.items() if key.startswith("drills/")]
    assert len(drills) <= 3
    assert all(each.running and each.stops == 0 for each in sim.machines.values())
