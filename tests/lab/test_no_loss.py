"""A quorum is gone, and may come back: no generation is called lost, somebody says whom it waits for, nothing is lost.

House rules of these stories: the test waits for several times the time in which this very fleet finds a true loss
(`test_recovery.py`); generation, cluster ID and the writes afterwards are those from before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from agent.lab.client import Instance, Lab
from agent.lab.spec import LabError, LabSpec, Pace
from tests.lab.evidence import Document, events
from tests.lab.harness import agent_status, cluster_ids, tell_logs, wait_until, wait_whole
from tests.lab.losing import (
    GRACE_S,
    QUICK,
    Load,
    generations,
    on_machine,
    roles,
    stays_as_it_is,
    terminate_for_good,
    under_load,
)
from tests.lab.watching import well_kept_lab

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(150)]

PACE = Pace(pending_s=0.1, boot_s=0.2, replacement_s=0.2, agent_restart_s=0.3)
LONG_ENOUGH_S = 5 * GRACE_S


@pytest.fixture(scope="module")
def shared_three(tmp_path_factory: pytest.TempPathFactory, etcd_binary: str) -> Iterator[Lab]:
    spec = LabSpec(etcd=etcd_binary, settings=QUICK, pace=PACE)
    with well_kept_lab(spec, tmp_path_factory.mktemp("no-loss") / "lab") as lab:
        wait_whole(lab, 3)
        yield lab


@pytest.fixture
def three(shared_three: Lab) -> Iterator[Lab]:
    """Three voters before each story and after it."""
    wait_whole(shared_three, 3)
    yield shared_three
    tell_logs(shared_three.folder)
    shared_three.clear_faults()
    for each in shared_three.instances():
        with suppress(LabError):
            shared_three.heal(each.id)


@contextmanager
def comes_back(lab: Lab) -> Iterator[Load]:
    """Under load; afterwards it is the cluster that it was, and holds every acknowledged write."""
    before, (cluster,) = generations(lab), cluster_ids(lab)
    with under_load(lab) as load:
        load.grows()
        yield load
        wait_whole(lab, 3)
        load.grows()
    assert generations(lab) == before
    assert cluster_ids(lab) == {cluster}
    assert [load.missing(address) for address in lab.addresses()] == [[], [], []]


def blockers(lab: Lab, instance: Instance) -> set[str]:
    """Whom `plan --json` on that machine names as what recovery waits for."""
    said = on_machine(lab, instance, "plan", "--json")
    assert said.returncode == 0, said.stderr
    return instances_in(json.loads(said.stdout).get("recovery"))


def blockers_of_agent(instance: Instance) -> set[str]:
    """Whom its running agent names."""
    return instances_in((agent_status(instance) or {}).get("recovery"))


def instances_in(recovery: Document | None) -> set[str]:
    """Each blocker is an instance, or a member with its instance's ID first."""
    return {each["who"].partition(" ")[0] for each in (recovery or {}).get("blockers", ())}


def waits_for(lab: Lab, survivor: Instance, *others: Instance) -> None:
    """No new generation for long; the survivor's agent and `plan` beside it name the others, and say since when."""
    names = {each.id for each in others}
    wait_until(lambda: names <= blockers_of_agent(survivor), 30, f"an agent waits for {names}")
    stays_as_it_is(lab, LONG_ENOUGH_S)
    assert names <= blockers_of_agent(survivor)
    status = agent_status(survivor)
    assert status is not None
    assert status["recovery"]["since"]
    assert not status["recovery"]["proven_lost"]
    waiting = [each["because"] for each in events(survivor) if each["message"] == "waiting"]
    assert any(all(name in because for name in names) for because in waiting), "its log does not name them"
    assert names <= blockers(lab, survivor)


def test_two_are_stopped(three: Lab) -> None:
    chosen = roles(three)
    gone = (chosen.leader, chosen.other)
    with comes_back(three):
        for each in gone:
            three.stop(each.id)
        waits_for(three, chosen.one, *gone)
        for each in gone:
            three.start_again(each.id)


@pytest.mark.root
def test_two_are_cut_off(three: Lab) -> None:
    """Neither they nor the third do anything that outlasts the cut: they see EC2 as little as it sees them."""
    if three.status()["cannot_isolate"]:
        pytest.skip(three.status()["cannot_isolate"])
    chosen = roles(three)
    gone = (chosen.leader, chosen.other)
    pids = {each.id: each.etcd_pids for each in three.instances()}
    with comes_back(three):
        for each in gone:
            three.isolate(each.id)
        waits_for(three, chosen.one, *gone)
        for each in gone:
            three.heal(each.id)
    assert {each.id: each.etcd_pids for each in three.instances()} == pids, "an etcd was started anew"


def test_two_have_neither_agent_nor_etcd(three: Lab) -> None:
    """EC2 calls them running, and nobody reports from there."""
    chosen = roles(three)
    gone = (chosen.leader, chosen.other)
    with comes_back(three):
        for each in gone:
            three.stop_agent(each.id)
        wait_until(lambda: not any(three.instance(each.id).agent_pid for each in gone), 20, "two agents end")
        for each in gone:
            three.kill_etcd(each.id)
        waits_for(three, chosen.one, *gone)
        for each in gone:
            three.start_agent(each.id)


def test_one_ended_and_one_is_in_no_listing_and_does_not_answer(three: Lab) -> None:
    """What EC2 does not list it has not called terminated. The two that are left are a quorum once they meet."""
    chosen = roles(three)
    ended, hidden, survivor = chosen.leader, chosen.other, chosen.one
    replaced = {each.id for each in three.instances()}
    with comes_back(three):
        three.fault(drop=[hidden.id])
        three.freeze(hidden.id)
        terminate_for_good(three, ended)
        wait_until(lambda: {each.id for each in three.instances()} - replaced, 20, "a replacement")
        waits_for(three, survivor, hidden)
        three.clear_faults()
        three.thaw(hidden.id)
