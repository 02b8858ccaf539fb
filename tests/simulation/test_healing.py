"""An etcd that cannot run any more: its instance heals by itself, is replaced, or is named to a human."""

from __future__ import annotations

import pytest

from agent.model.actions import CallHuman
from agent.model.disk import Obstacle, ObstacleKind
from tests.simulation.disasters import AN_HOUR, Begin, seeds, whole

SEEDS = seeds(3)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("visibly", [True, False])
def test_damaged_data_is_replaced_by_a_new_member_and_nothing_is_lost(begin: Begin, seed: int, visibly: bool) -> None:
    sim = whole(begin, seed, interleave=0.1)
    (name,) = sim.random.sample(sim.live(), 1)
    before, written = {each.id for each in sim.current().voters}, sim.acknowledged()
    sim.damage(name, visibly=visibly)
    sim.run_until(lambda: bool(sim.machines[name].quarantine) and sim.whole(), within=120 if visibly else 400)
    assert sim.voters() == sim.live()
    assert len({each.id for each in sim.current().voters} & before) == 2
    assert sim.kept() >= written
    (kept,) = sim.machines[name].quarantine
    assert kept is not None, "moved, and not deleted"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("crash", ["crash_before", "crash_after"])
@pytest.mark.parametrize("effects", range(5))
def test_it_heals_whenever_its_agent_dies_on_the_way(begin: Begin, seed: int, crash: str, effects: int) -> None:
    sim = whole(begin, seed)
    (name,) = sim.random.sample(sim.live(), 1)
    sim.damage(name)
    setattr(sim.agents[name].faults, crash, effects)
    sim.run_until(lambda: bool(sim.machines[name].quarantine) and sim.whole(), within=240)
    assert len(sim.lineages) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_damaged_while_another_is_away_waits_for_it(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    damaged, away = sim.random.sample(sim.live(), 2)
    sim.stop(away)
    sim.damage(damaged)
    sim.run(200)
    assert not sim.machines[damaged].quarantine, "no quorum is there without it"
    sim.reboot(away)
    sim.run_until(lambda: bool(sim.machines[damaged].quarantine) and sim.whole(), within=120)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", [ObstacleKind.FULL, ObstacleKind.PORT, ObstacleKind.BINARY])
def test_what_any_etcd_would_meet_there_changes_no_membership(begin: Begin, seed: int, kind: ObstacleKind) -> None:
    sim = whole(begin, seed)
    (name,) = sim.random.sample(sim.live(), 1)
    before = dict(sim.current().members)
    sim.machines[name].obstacle = Obstacle(kind, "it is")
    sim.kill_etcd(name)
    called: list[bool] = []
    for _ in range(100):
        sim.run(5)
        last = sim.agents[name].last
        called.append(last is not None and isinstance(last.decision.action, CallHuman))
    assert any(called)
    assert set(sim.current().members) == set(before)
    sim.machines[name].obstacle = None
    sim.run_until(sim.whole, within=60)
    assert set(sim.current().members) == set(before), "mended, it is the member that it was"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_disk_that_fails_is_replaced_where_that_is_wanted(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed, replace_unhealthy=True)
    (name,) = sim.random.sample(sim.live(), 1)
    written = sim.acknowledged()
    sim.machines[name].obstacle = Obstacle(ObstacleKind.DISK, "the filesystem is read-only")
    sim.kill_etcd(name)
    sim.run_until(lambda: not sim.machines[name].exists and sim.whole(), within=300)
    assert name not in sim.voters()
    assert sim.kept() >= written


@pytest.mark.parametrize("seed", SEEDS)
def test_a_second_broken_member_within_the_hour_is_a_humans(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    (name,) = sim.random.sample(sim.live(), 1)
    for _ in range(2):
        sim.damage(name)
        sim.run_until(lambda: bool(sim.machines[name].quarantine), within=120)
        if len(sim.machines[name].quarantine) == 1 and sim.machines[name].data is None:
            sim.run_until(sim.whole, within=120)
    sim.run(600)
    assert len(sim.machines[name].quarantine) == 1
    sim.run(AN_HOUR)
    sim.run_until(sim.whole, within=300)
