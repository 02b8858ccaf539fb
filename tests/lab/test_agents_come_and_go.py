"""An agent's life is not a member's life: killed at any moment or stopped politely, it costs no write and no etcd."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

from agent.lab.client import Instance, Lab
from agent.lab.spec import LabError, Pace
from tests.lab.conftest import MakeLab
from tests.lab.evidence import actions, etcd_pids, events, identity, log_size
from tests.lab.harness import Writer, agent_status, leader, member_list, stays, wait_until, wait_whole

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

QUICK = Pace(pending_s=0.1, boot_s=0.2, agent_restart_s=0.1)
CALM = {"etcd": {"heartbeat_ms": 300, "election_ms": 3000}, "timing": {"etcd_membership_timeout": "15s"}}
"""A busy computer must not look like a failed leader: what ends a write here is then an agent's doing."""


@contextmanager
def killing(pick: Callable[[], Sequence[Instance]], chance: random.Random, pause_s: float) -> Iterator[list[str]]:
    """SIGKILL to agents, again and again, at random times; each after a random part of its life. Tells whose."""
    killed: list[str] = []
    over = threading.Event()

    def kill() -> None:
        while not over.wait(chance.uniform(0, pause_s)):
            try:
                running = [each for each in pick() if each.agent_pid]
            except LabError:
                continue
            for victim in chance.sample(running, chance.randint(1, len(running))) if running else ():
                assert victim.agent_pid is not None
                try:
                    os.kill(victim.agent_pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                killed.append(victim.id)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join(30)


def servers(lab: Lab) -> dict[str, tuple[int, ...]]:
    """The etcds that serve, by instance."""
    return {each.id: etcd_pids(each.id) for each in lab.instances()}


def wait_adopted(lab: Lab) -> None:
    """Every agent says that the etcd which it looks after is the one that serves."""
    wait_until(lambda: all(_adopts(each) for each in lab.instances()), 60, "agents that have adopted their etcds")


def _adopts(instance: Instance) -> bool:
    said = agent_status(instance)
    process = ((said or {}).get("observation") or {}).get("process") or {}
    return (process.get("pid"),) == etcd_pids(instance.id)


@pytest.mark.long
def test_agents_killed_again_and_again_under_load_cost_no_write_and_no_etcd(make_lab: MakeLab) -> None:
    lab = make_lab(pace=QUICK, settings=CALM)
    members = wait_whole(lab, 3)
    wait_adopted(lab)
    before = servers(lab)
    logged = {each.id: log_size(each) for each in lab.instances()}
    with Writer(lab, timeout_s=10.0) as writer:
        with killing(lab.instances, random.Random(9), pause_s=3.0) as killed:
            wait_until(lambda: len(killed) >= 12 and len(set(killed)) == 3, 60, "a dozen killed agents")
        wait_adopted(lab)
    assert servers(lab) == before, "an etcd ended, or was started again"
    assert writer.failed == []
    writer.assert_nothing_lost()
    assert member_list(lab) == members
    done = {each["action"] for i in lab.instances() for each in actions(i, logged[i.id])}
    left = done - {"BeginTask"}  # a first snapshot, which an agent that is killed begins anew
    assert left <= {"StampIdentity", "WriteFormed"}, "what was left of founding is all there was to do"


def test_agents_that_are_all_stopped_leave_a_cluster_that_serves_as_before(make_lab: MakeLab) -> None:
    lab = make_lab(pace=QUICK, settings=CALM)
    members = wait_whole(lab, 3)
    wait_adopted(lab)
    before = servers(lab)
    with Writer(lab, timeout_s=10.0) as writer:
        for each in lab.instances():
            lab.stop_agent(each.id)
        wait_until(lambda: not any(each.agent_pid for each in lab.instances()), 30, "no agent")
        without_agents = len(writer.acknowledged)
        stays(lambda: servers(lab) == before and member_list(lab) == members, 3, "the same cluster, without agents")
        wait_until(lambda: len(writer.acknowledged) > without_agents + 20, 30, "writes without agents")
        for each in lab.instances():
            assert (each.agent_exit, events(each)[-1]["message"]) == (0, "agent stopped; etcd is left as it is")
            lab.start_agent(each.id)
        wait_adopted(lab)
    assert servers(lab) == before
    assert writer.failed == []
    writer.assert_nothing_lost()
    assert member_list(lab) == members


JOINING: Mapping[str, Callable[[Instance], bool]] = {
    "about to ask for an entry": lambda joiner: stage(joiner) == "adding",
    "entry there": lambda joiner: stage(joiner) == "joining",
    "etcd was born": lambda joiner: bool(etcd_pids(joiner.id)),
    "etcd answers": lambda joiner: stage(joiner) == "member",
}


def stage(instance: Instance) -> str | None:
    """How far its identity says that it came."""
    found = identity(instance)
    return None if found is None else str(found["stage"])


@pytest.mark.long
def test_agents_killed_while_one_joins_and_while_one_is_replaced_cost_no_write(make_lab: MakeLab) -> None:
    """The joiner's own agent at each of its steps; then everybody's at random, while a follower is being replaced."""
    lab = make_lab(pace=QUICK, settings=CALM)
    wait_whole(lab, 3)
    chance = random.Random(6)

    first, second = [each for each in lab.instances() if each.id != the_leader(lab)]
    with keeping_up(lab, [each for each in lab.instances() if each.id != first.id]):
        lab.wipe(first.id)
        for step, reached in JOINING.items():
            wait_until(lambda: reached(first), 60, step, every_s=0.002)  # noqa: B023
            lab.kill_agent(first.id)
        born = etcd_pids(first.id)
        wait_whole(lab, 3)
        wait_adopted(lab)
    assert etcd_pids(first.id) == born, "the joiner's etcd was started more than once"

    survivors = [each for each in lab.instances() if each.id != second.id]
    if the_leader(lab) == second.id:
        second, survivors = survivors[0], [survivors[1], lab.instance(second.id)]
    with keeping_up(lab, survivors):
        lab.terminate(second.id)
        with killing(lab.instances, chance, pause_s=5.0) as killed:
            wait_until(lambda: len(killed) >= 8, 60, "eight killed agents")
        wait_whole(lab, 3)
        wait_adopted(lab)
    listed = member_list(lab)
    assert listed is not None
    assert second.id not in {each.name for each in listed}


def the_leader(lab: Lab) -> str:
    wait_until(lambda: leader(lab) is not None, 30, "a leader")
    found = leader(lab)
    assert found is not None
    return found.id


@contextmanager
def keeping_up(lab: Lab, those: Sequence[Instance]) -> Iterator[None]:
    """Writes through these members all the while: none may fail, and their etcds are the same afterwards."""
    addresses = tuple(each.address for each in those)
    before = {each.id: etcd_pids(each.id) for each in those}
    with Writer(lab, timeout_s=10.0, prefix=f"{'+'.join(before)}/", through=addresses) as writer:
        yield
    assert {each.id: etcd_pids(each.id) for each in those} == before, "an etcd ended, or was started again"
    assert writer.failed == []
    writer.assert_nothing_lost()
