"""Must hold 4, 5, 6, 7, 10 and 11: a formed cluster through reboots, moves, losses and returns."""

from __future__ import annotations

from datetime import timedelta

import pytest

from agent.model.ids import InstanceId, MemberId, PeerUrl
from tests.simulation.disasters import Begin, seeds
from tests.simulation.sim import Sim

SEEDS = seeds(3)


def whole(begin: Begin, seed: int, instances: int = 3) -> Sim:
    sim = begin(seed, instances)
    sim.run_until(sim.whole, within=120)
    sim.run(30 + sim.random.uniform(0, 30))
    return sim


def member_of(sim: Sim, name: InstanceId) -> MemberId:
    (found,) = (each.id for each in sim.current().members.values() if each.name == name)
    return found


def members(sim: Sim) -> dict[str, MemberId]:
    return {each.name: each.id for each in sim.current().members.values()}


@pytest.mark.parametrize("seed", SEEDS)
def test_all_instances_rebooted_are_the_same_cluster_again(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    before, written = members(sim), sim.writes()
    for name in sim.live():
        sim.reboot(name, after=sim.random.uniform(0, 60))
    sim.run_until(sim.whole, within=90)
    assert members(sim) == before
    assert sim.writes() > written
    assert len(sim.lineages) == 1


@pytest.mark.parametrize("broken", ["s3", "ec2", "imds"])
@pytest.mark.parametrize("seed", SEEDS)
def test_all_rebooted_while_a_neighbour_is_down_start_in_place(begin: Begin, seed: int, broken: str) -> None:
    sim = whole(begin, seed)
    before = members(sim)
    for name in sim.live():
        sim.reboot(name)
        sim.agents[name].faults.down = {broken}
    sim.run(60)
    assert members(sim) == before
    assert set(sim.serving(sim.current())) == set(before.values())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_member_that_moved_keeps_its_id_and_is_told_of_before_it_starts(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    moved = sim.live()[seed % 3]
    before = members(sim)
    sim.reboot(moved, ip="10.0.7.7")
    sim.run_until(lambda: sim.machines[moved].running, within=30)
    entry = sim.current().members[before[moved]]
    assert entry.peer_urls == ("http://10.0.7.7:2380",), "the list is right before etcd starts"
    sim.run_until(sim.whole, within=30)
    assert members(sim) == before


@pytest.mark.parametrize("seed", SEEDS)
def test_when_all_moved_at_once_they_start_and_correct_the_list(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    before = members(sim)
    for each, name in enumerate(sim.live()):
        sim.reboot(name, ip=f"10.0.8.{each}")
    sim.run_until(sim.whole, within=60)
    assert members(sim) == before
    urls = {url for each in sim.current().members.values() for url in each.peer_urls}
    assert urls == {f"http://10.0.8.{each}:2380" for each in range(3)}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_volume_on_another_instance_is_the_same_member_under_a_new_name(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    old, new = sim.live()[seed % 3], sim.launch(after=20)
    before = member_of(sim, old)
    sim.move_volume(old, new)
    sim.run(3)
    sim.run_until(sim.whole, within=60)
    assert member_of(sim, new) in (before, *sim.born)
    assert sim.voters() == sim.live()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_wiped_member_comes_back_as_somebody_else(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed, 5)
    wiped = sim.live()[seed % 5]
    before = member_of(sim, wiped)
    sim.reboot(wiped, wipe=True)
    sim.run(3)
    sim.run_until(sim.whole, within=60)
    assert member_of(sim, wiped) != before
    assert before in sim.current().gone


@pytest.mark.parametrize("seed", SEEDS)
def test_a_terminated_instance_leaves_the_list_and_its_replacement_votes(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    dead = sim.live()[seed % 3]
    before = member_of(sim, dead)
    sim.terminate(dead)
    assert sim.run_until(lambda: before in sim.current().gone, within=10) < 10
    new = sim.launch()
    sim.run_until(sim.whole, within=60)
    assert new in sim.voters()


@pytest.mark.parametrize("seed", SEEDS)
def test_two_terminated_of_five_leave_one_at_a_time(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed, 5)
    dead = sim.random.sample(sim.live(), 2)
    for name in dead:
        sim.terminate(name)
    sim.run_until(lambda: len(sim.current().voters) == 3, within=15)
    sim.launch()
    sim.launch()
    sim.run_until(sim.whole, within=90)
    assert not set(dead) & set(sim.voters())


@pytest.mark.parametrize("seed", SEEDS)
def test_an_instance_that_ec2_forgot_leaves_once_it_was_known_for_an_hour(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    sim.skip(4000)
    dead = sim.live()[seed % 3]
    sim.terminate(dead)
    sim.forgotten.add(dead)
    sim.launch()
    sim.run_until(sim.whole, within=90)
    assert dead not in sim.voters()


@pytest.mark.parametrize("seed", SEEDS)
def test_an_instance_that_ec2_forgot_too_soon_is_not_proven_gone(begin: Begin, seed: int) -> None:
    """InvalidInstanceID.NotFound alone means nothing: EC2 may not know it yet."""
    sim = whole(begin, seed)
    before = members(sim)
    dead = sim.live()[seed % 3]
    sim.stop(dead)
    sim.forgotten.add(dead)
    sim.run(600)
    assert members(sim) == before


@pytest.mark.parametrize("seed", SEEDS)
def test_a_group_that_ended_an_instance_is_believed(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    dead = sim.live()[seed % 3]
    sim.terminate(dead)
    sim.forgotten.add(dead)
    sim.ended_by_group.add(dead)
    sim.run_until(lambda: dead not in sim.voters(), within=30)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [1, 2])
def test_the_stopped_the_unreachable_and_the_unlisted_stay_members(begin: Begin, seed: int, count: int) -> None:
    sim = whole(begin, seed, 5)
    before = members(sim)
    sim.skip(4000)
    away = sim.random.sample(sim.live(), count)
    for name, harm in zip(away, sim.random.sample((sim.stop, sim.isolate, sim.hide), count), strict=True):
        harm(name)
    sim.run(900)
    assert members(sim) == before


@pytest.mark.parametrize("seed", SEEDS)
def test_a_member_that_answers_is_not_gone_whatever_ec2_says(begin: Begin, seed: int) -> None:
    """A wrong region, account or credentials: EC2 answers and knows none of us, or not that one."""
    sim = whole(begin, seed)
    sim.skip(4000)
    before = members(sim)
    denied = sim.random.sample(sim.live(), sim.random.choice((1, 3)))
    for agent in sim.agents.values():
        agent.cloud.denied = set(denied)
    sim.run(600)
    assert members(sim) == before


@pytest.mark.parametrize("seed", SEEDS)
def test_an_ec2_that_does_not_know_ourselves_proves_nothing_of_others(begin: Begin, seed: int) -> None:
    """The same, while one member is only stopped: it must not be taken for one that EC2 forgot."""
    sim = whole(begin, seed)
    sim.skip(4000)
    before = members(sim)
    for agent in sim.agents.values():
        agent.cloud.denied = set(sim.live())
    sim.stop(sim.live()[seed % 3])
    sim.run(600)
    assert members(sim) == before


@pytest.mark.parametrize("seed", SEEDS)
def test_one_of_an_older_generation_that_returns_is_fenced_and_joins_anew(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    old, *lost = sim.live()
    sim.stop(old)
    for name in lost:
        sim.terminate(name)
    new = [sim.launch(), sim.launch()]
    sim.proclaim({name: PeerUrl(f"http://{sim.machines[name].ip}:2380") for name in new})
    sim.run_until(lambda: sim.formed(2), within=60)
    sim.reboot(old)
    sim.run_until(sim.whole, within=90)
    assert sim.voters() == sorted([old, *new])
    (kept,) = sim.machines[old].quarantine
    assert kept is not None
    assert kept.lineage.superseded_at is not None


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("effect", range(9))
def test_fencing_survives_the_death_of_the_agent_at_any_step(begin: Begin, seed: int, effect: int, moment: str) -> None:
    """It was running when the newer generation was proclaimed, cut off with its etcd."""
    sim = whole(begin, seed)
    old, *lost = sim.live()
    for name in lost:
        sim.terminate(name)
    new = [sim.launch(), sim.launch()]
    sim.proclaim({name: PeerUrl(f"http://{sim.machines[name].ip}:2380") for name in new})
    setattr(sim.agents[old].faults, f"crash_{moment}", effect)
    if seed % 2:
        sim.agents[old].at_crash = lambda: sim.reboot(old)
    sim.run_until(lambda: sim.formed(2), within=60)
    sim.run_until(lambda: bool(sim.machines[old].quarantine), within=400)
    sim.run_until(sim.whole, within=120)
    assert len(sim.machines[old].quarantine) == 1
    assert sim.voters() == sorted([old, *new])


@pytest.mark.parametrize("seed", SEEDS)
def test_an_older_generation_serves_on_while_nobody_can_read_the_bucket(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    for agent in sim.agents.values():
        agent.faults.down = {"s3"}
    sim.run(1800)
    assert all(each.running and each.stops == 0 for each in sim.machines.values())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("end", ["terminated", "stopped", "asleep"])
def test_a_learner_that_never_starts_blocks_no_longer_than_its_time(begin: Begin, seed: int, end: str) -> None:
    sim = whole(begin, seed)
    sim.desired = 5
    ghost = sim.launch()
    sim.run_until(lambda: "" in sim.learners(), within=30)
    if end == "terminated":
        sim.terminate(ghost)
    elif end == "stopped":
        sim.stop(ghost)
    else:
        sim.reboot(ghost, after=100_000)
    began, timeout = sim.now, sim.leader_agent().policy.join_timeout
    sim.desired = 4 if end == "terminated" else 5
    next_one = sim.launch()
    sim.run_until(lambda: any(next_one in each.name for each in sim.current().members.values()), within=180)
    assert sim.now - began < timeout + timedelta(seconds=30)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_ghost_beside_a_single_voter_is_ended_too(begin: Begin, seed: int) -> None:
    """There is nobody else whom its agent could ask, and still the ghost has been asked and was silent."""
    sim = whole(begin, seed, 1)
    sim.desired = 3
    ghost = sim.launch()
    sim.run_until(lambda: "" in sim.learners(), within=30)
    sim.terminate(ghost)
    sim.launch()
    sim.launch()
    sim.run_until(sim.whole, within=200)


@pytest.mark.parametrize("seed", SEEDS)
def test_who_waits_for_long_looks_at_the_head_in_every_round(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    for name in sim.live()[:2]:
        sim.stop(name)
    sim.terminate(sim.live()[0])
    waiting = sim.agents[sim.launch()]
    sim.run(600)
    assert sim.live() == [waiting.name]
    assert not any("look-first" in line for line in sim.story)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_learner_that_was_added_and_whose_disk_died_is_replaced_by_its_own_next_life(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    sim.desired = 5
    ghost = sim.launch()
    sim.run_until(lambda: bool(sim.learners()), within=60)
    sim.reboot(ghost, wipe=True)
    sim.run(2)
    sim.launch()
    sim.run_until(sim.whole, within=60)
    assert ghost in sim.voters()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_spare_is_never_taken_for_stalled_when_the_leader_changes(begin: Begin, seed: int) -> None:
    """The new leader's agent has known the spare for long, and never asked it anything."""
    sim = whole(begin, seed, 4)
    sim.run_until(lambda: any(sim.learners()), within=60)
    sim.run(600)
    spare = InstanceId(sim.learners()[0])
    before = members(sim)
    leader = sim.leader_agent().name
    sim.isolate(spare)
    sim.reboot(leader, after=30)
    sim.run(10)
    sim.heal(spare)
    sim.run(60)
    assert members(sim) == before


@pytest.mark.parametrize("seed", SEEDS)
def test_a_newcomer_at_a_dead_members_address_waits_for_the_proof(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    dead = sim.live()[seed % 3]
    ip = sim.machines[dead].ip
    sim.terminate(dead)
    new = sim.launch(ip=ip)
    sim.run_until(sim.whole, within=60)
    assert new in sim.voters()


@pytest.mark.parametrize("seed", SEEDS)
def test_scaling_up_and_down_ends_with_the_voters_that_are_wanted(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    for desired in (5, 4, 7, 5, 3):
        sim.desired = desired
        while len(sim.live()) < desired:
            sim.launch()
        while len(sim.live()) > desired:
            sim.terminate(sim.random.choice(sim.live()))
            sim.run_until(lambda: set(sim.voters()) <= set(sim.live()), within=60)
        sim.run_until(sim.whole, within=120)
        assert len(sim.voters()) <= desired


@pytest.mark.parametrize("seed", SEEDS)
def test_one_instance_grows_to_five_and_shrinks_to_two(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed, 1)
    for desired in (2, 3, 5):
        sim.desired = desired
        while len(sim.live()) < desired:
            sim.launch()
        sim.run_until(sim.whole, within=120)
        assert len(sim.voters()) == desired
    for desired in (4, 3, 2):
        sim.desired = desired
        sim.terminate(sim.live()[seed % len(sim.live())])
        sim.run_until(sim.whole, within=60)
        assert len(sim.voters()) == desired


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_etcd_is_started_in_place(begin: Begin, seed: int) -> None:
    sim = whole(begin, seed)
    before = members(sim)
    killed = sim.live()[seed % 3]
    sim.kill_etcd(killed)
    sim.run_until(lambda: sim.machines[killed].running, within=10)
    sim.run_until(sim.whole, within=30)
    assert members(sim) == before


@pytest.mark.parametrize("seed", SEEDS)
def test_a_member_removed_by_hand_is_fenced_and_joins_again(begin: Begin, seed: int) -> None:
    """`etcdctl member remove` of a live member: etcd exits, and the data is kept aside."""
    sim = whole(begin, seed)
    name = sim.live()[seed % 3]
    member, lineage = member_of(sim, name), sim.current()
    sim.raft.remove_by_hand(lineage, member)
    sim.run_until(lambda: bool(sim.machines[name].quarantine), within=60)
    sim.run_until(sim.whole, within=60)
    assert name in sim.voters()
    assert member_of(sim, name) != member


@pytest.mark.parametrize("instances", [3, 4, 5])
def test_a_steady_cluster_asks_aws_next_to_nothing(begin: Begin, instances: int) -> None:
    """50 calls an hour for each and 4 to show the hold, 12 for the leader's list of generations, 6 for each snapshot;
    a spare as a voter."""
    sim = whole(begin, 1, instances)
    sim.run(300)
    for agent in sim.agents.values():
        agent.calls.clear()
    sim.run(3600)
    calls = {name: agent.calls["s3"] + agent.calls["ec2"] for name, agent in sim.agents.items()}
    taken = sim.now - timedelta(hours=1)
    snapshots = sum(at > taken for key, (_, at) in sim.objects.items() if key.endswith(".db.zst"))
    assert 11 <= snapshots <= 12
    assert sum(calls.values()) < 54 * instances + 12 + 6 * snapshots, calls
