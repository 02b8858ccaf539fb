"""What random walks meet too seldom to tell a right rule from a wrong one; `tests.mutants` showed what was missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.model.actions import CallHuman, Launch
from agent.model.faults import Refused, Unavailable
from agent.model.ids import InstanceId
from agent.model.known import Ignorance
from agent.model.snapshot import Listed
from tests.simulation.disasters import (
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
from tests.simulation.door_bucket import SimBucket
from tests.simulation.door_host import SimHost
from tests.simulation.logs import acknowledged
from tests.simulation.sim import Sim

SEEDS = seeds(3)


class Unlisted(SimBucket):
    """S3 answers everything but the listing of snapshots."""

    def snapshots(self) -> tuple[Listed, ...]:
        raise Unavailable(Ignorance.THROTTLED, "slow down")


class Unstartable(SimHost):
    """etcd's binary is not where it should be."""

    def start(self, launch: Launch) -> None:
        raise Refused("no such file or directory", Ignorance.OURS)


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
        agent.world = replace(agent.world, bucket=Unlisted(agent))
    sim.run(240)
    assert max(sim.records) == 1
    for agent in sim.agents.values():
        agent.world = replace(agent.world, bucket=SimBucket(agent))
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
    assert evidence, "a record without evidence"
    assert set(evidence["ended"]) == set(lost)
    assert evidence["reports"][survivor]["data"] == "intact"
    assert {each["name"] for each in evidence["members"]} >= {survivor, *lost}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_store_that_answers_no_write_is_not_hammered(begin: Begin, seed: int) -> None:
    """Every claim ends in doubt: each founder looks again, and takes its time."""
    sim = begin(seed, 3)
    sim.run_until(lambda: 1 in sim.records, within=30)
    for agent in sim.agents.values():
        agent.faults.storms = 1.0
        agent.calls.clear()
    sim.run(30)
    asked = {name: agent.calls["s3"] for name, agent in sim.agents.items()}
    assert max(asked.values()) < 1000, asked
    for agent in sim.agents.values():
        agent.faults.storms = 0.0
    sim.run_until(sim.whole, within=60)


@pytest.mark.parametrize("seed", SEEDS)
def test_founders_that_have_not_started_yet_are_waited_for(begin: Begin, seed: int) -> None:
    """One of three runs, and knows no quorum; the two others report, hold their claims, and cannot start for long."""
    sim = begin(seed, 3)
    late = [sim.agents[name] for name in sim.random.sample(sim.live(), 2)]
    for agent in late:
        agent.world = replace(agent.world, host=Unstartable(agent))
    sim.run(400)
    assert max(sim.records) == 1
    for agent in late:
        agent.world = replace(agent.world, host=SimHost(agent))
    sim.run_until(sim.whole, within=60)
    assert len(sim.born) == 3


@pytest.mark.parametrize("seed", SEEDS)
def test_an_etcd_that_was_stopped_for_its_rescue_stays_down(begin: Begin, seed: int) -> None:
    """EC2 fails right after it was stopped: the loss was proven, and it is not started again for that."""
    sim = whole(begin, seed)
    survivor, *lost = sim.random.sample(sim.live(), 3)
    lose(sim, *lost)
    sim.reboot(survivor)
    replace_the_lost(sim, within=20)
    rescued = sim.machines[survivor]
    sim.run_until(lambda: rescued.stops == 1, within=RECOVERY)
    starts = rescued.starts
    for agent in sim.agents.values():
        agent.faults.down = {"ec2"}
    sim.run(60)
    assert rescued.starts == starts
    for agent in sim.agents.values():
        agent.faults.down = set()
    recovers(sim)
    assert source(sim) == f"survivor {survivor}"


def survivors_that_differ_in_their_tail(sim: Sim) -> tuple[InstanceId, InstanceId] | None:
    """Followers that know of the same commits; the first has one acknowledged write more, the second the later name."""
    last = sim.current().last_acknowledged
    held = [(name, sim.machines[name].data) for name in sim.live() if name != sim.leader_agent().name]
    logs = [(name, data.appended, data.committed) for name, data in held if data is not None]
    longer = [(name, known) for name, log, known in logs if log is last and known is not last]
    shorter = [(name, known) for name, log, known in logs if log is not last]
    return next(((one, other) for one, c in longer for other, known in shorter if known is c and other > one), None)


@pytest.mark.parametrize("seed", SEEDS)
def test_of_two_that_know_the_same_commits_the_longer_log_is_the_source(begin: Begin, seed: int) -> None:
    """Three of five are lost, and with them the knowledge that the last write was acknowledged; one log has it."""
    sim = whole(begin, seed, 5)
    sim.run_until(lambda: survivors_that_differ_in_their_tail(sim) is not None, within=1200)
    found = survivors_that_differ_in_their_tail(sim)
    assert found is not None
    lose(sim, *(name for name in sim.live() if name not in found))
    before = sim.acknowledged()
    replace_the_lost(sim)
    recovers(sim)
    assert source(sim) == f"survivor {found[0]}"
    assert sim.kept() >= before
