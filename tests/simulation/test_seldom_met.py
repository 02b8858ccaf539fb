"""What random walks meet too seldom to tell a right rule from a wrong one; `tests.mutants` showed what was missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.model.actions import CallHuman
from agent.model.faults import Unavailable
from agent.model.known import Ignorance
from agent.model.snapshot import Listed
from tests.simulation.agents import Agent
from tests.simulation.disasters import Begin, backed_up, lose, recovers, replace_the_lost, seeds, snapshots, whole
from tests.simulation.door_bucket import SimBucket
from tests.simulation.logs import acknowledged

SEEDS = seeds(3)


class Unlisted(SimBucket):
    """S3 answers everything but the listing of snapshots."""

    def snapshots(self) -> tuple[Listed, ...]:
        raise Unavailable(Ignorance.THROTTLED, "slow down")


def blind_to_snapshots(agent: Agent) -> None:
    agent.world = replace(agent.world, bucket=Unlisted(agent))


def sighted(agent: Agent) -> None:
    agent.world = replace(agent.world, bucket=SimBucket(agent))


@pytest.mark.parametrize("seed", SEEDS)
def test_who_is_shutting_down_keeps_its_vote_while_it_is_needed(begin: Begin, seed: int) -> None:
    """Its end is certain, and it still serves: without it the leader is alone while the third one is away."""
    sim = whole(begin, seed)
    leader = sim.leader_agent().name
    away, dying = sim.random.sample([name for name in sim.live() if name != leader], 2)
    sim.stop(away)
    sim.shut_down(dying)
    sim.run(60)
    written = sim.writes()
    sim.run(20)
    assert dying in sim.voters()
    assert sim.writes() > written
    sim.reboot(away)
    sim.run_until(lambda: dying not in sim.voters(), within=30)
    sim.terminate(dying)
    sim.launch()
    sim.run_until(sim.whole, within=60)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_joiner_that_is_slow_to_start_keeps_its_entry(begin: Begin, seed: int) -> None:
    """Its instance reboots right after it was added, and takes a minute: it is still the same learner."""
    sim = whole(begin, seed)
    sim.desired = 5
    joiner = sim.launch()
    sim.run_until(lambda: "" in sim.learners(), within=30)
    (entry,) = (each.id for each in sim.current().members.values() if each.is_learner)
    sim.reboot(joiner, after=60)
    sim.launch(after=60)
    sim.run_until(sim.whole, within=180)
    assert entry in sim.current().members


@pytest.mark.parametrize("seed", SEEDS)
def test_a_listing_that_failed_is_not_an_empty_one(begin: Begin, seed: int) -> None:
    """The survivor was cut off for long, and the others' snapshot has what it lacks; which there are is not told."""
    sim = backed_up(begin, seed)
    away = sim.random.choice([name for name in sim.live() if name != sim.leader_agent().name])
    sim.isolate(away)
    count = len(snapshots(sim))
    sim.run_until(lambda: len(snapshots(sim)) > count + 1, within=1200)
    lose(sim, *(name for name in sim.live() if name != away))
    held = acknowledged(dict(sim.sound_snapshots())[snapshots(sim)[-1]])
    sim.heal(away)
    replace_the_lost(sim, within=20)
    for agent in sim.agents.values():
        blind_to_snapshots(agent)
    sim.run(240)
    assert max(sim.records) == 1
    for agent in sim.agents.values():
        sighted(agent)
    recovers(sim)
    assert held <= sim.kept()


@pytest.mark.parametrize("seed", SEEDS)
def test_snapshots_without_a_record_call_a_human(begin: Begin, seed: int) -> None:
    """All instances are new, and somebody has deleted the records: what the snapshots hold is not begun over."""
    sim = backed_up(begin, seed)
    lose(sim, *sim.live())
    for key in [key for key in sim.objects if not key.startswith("snapshots/")]:
        del sim.objects[key]
    sim.promises.written_once.clear()
    sim.records.clear()
    new = replace_the_lost(sim)
    sim.run(600)
    assert not sim.records
    for name in new:
        last = sim.agents[name].last
        assert last is not None
        assert isinstance(last.decision.action, CallHuman) or sim.agents[name].rule == "file-report"


@pytest.mark.parametrize("seed", SEEDS)
def test_the_record_of_a_recovery_tells_what_its_proof_used(begin: Begin, seed: int) -> None:
    """Who was heard with which data, and why each of the others can never come back."""
    sim = whole(begin, seed)
    survivor, *lost = sim.random.sample(sim.live(), 3)
    lose(sim, *lost)
    replace_the_lost(sim)
    recovers(sim)
    evidence = sim.newest().cause.evidence
    assert set(evidence["ended"]) == set(lost)
    assert evidence["reports"][survivor]["data"] == "intact"
    assert {each["name"] for each in evidence["members"]} >= {survivor, *lost}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_store_that_answers_no_write_is_not_hammered(begin: Begin, seed: int) -> None:
    """Every write ends in doubt: each agent looks again, and takes its time."""
    sim = begin(seed, 3)
    for agent in sim.agents.values():
        agent.faults.storms = 1.0
    sim.run(30)
    asked = {name: agent.calls["s3"] for name, agent in sim.agents.items()}
    assert max(asked.values()) < 500, asked
    for agent in sim.agents.values():
        agent.faults.storms = 0.0
    sim.run_until(sim.whole, within=60)
