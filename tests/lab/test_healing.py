"""An etcd that cannot run on its data any more: its instance heals by itself, and no acknowledged write is lost."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from agent.lab.client import Instance, Lab
from agent.lab.ledger import Ledger
from tests.lab.conftest import MakeLab
from tests.lab.evidence import actions, etcd_pids, log_size, member_id, quarantined
from tests.lab.harness import agent_status, cluster_ids, leader, member_list, wait_until, wait_whole
from tests.lab.losing import PACE, QUICK

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]


def the_leader(lab: Lab) -> Instance:
    return wait_until(lambda: leader(lab), 15, "a leader")  # type: ignore[return-value]


def a_follower(lab: Lab) -> Instance:
    leading = the_leader(lab)
    return next(each for each in lab.instances() if each.id != leading.id)


def kill_etcd(instance: Instance) -> None:
    for pid in etcd_pids(instance.id):
        os.kill(pid, signal.SIGKILL)


def spoil(path: Path, at: int) -> None:
    """Bytes that etcd did not write, in the middle of what it did."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xa5" * 64)


def spoil_log(instance: Instance) -> None:
    (first, *_) = sorted((instance.disk / "data" / "member" / "wal").glob("*.wal"))
    spoil(first, 1024)


def spoil_database(instance: Instance) -> None:
    """Both of bolt's meta pages."""
    for page in (0, 1):
        spoil(instance.disk / "data" / "member" / "snap" / "db", page * os.sysconf("SC_PAGE_SIZE") + 16)


def seized(instance: Instance, port: int) -> socket.socket | None:
    """The port of an etcd that was just killed, before its agent starts it again. None: too early, or too late."""
    kill_etcd(instance)
    try:
        return socket.create_server((instance.address, port))
    except OSError:
        return None


def heals(lab: Lab, victim: Instance) -> None:
    """By one removal of its own; what was there lies in quarantine under a name that says why."""
    before = wait_until(lambda: member_id(victim), 10, "the agent to have noted which member it is")
    cluster, since = cluster_ids(lab), log_size(victim)
    put_aside = quarantined(victim)
    with Ledger(lab.addresses) as ledger:
        wait_until(lambda: len(ledger.acknowledged) > 20, 20, "some writes")
        kill_etcd(victim)
        spoil_log(victim)
        wait_until(lambda: len(quarantined(victim)) > len(put_aside), 40, "the data in quarantine")
        wait_whole(lab, 3)
        acknowledged = len(ledger.acknowledged)
        wait_until(lambda: len(ledger.acknowledged) > acknowledged + 20, 20, "more writes")
    for address in lab.addresses():
        assert ledger.missing(address) == []
    wait_until(lambda: member_id(victim) not in (None, before), 10, "the agent to have noted its new member")
    assert cluster_ids(lab) == cluster
    assert quarantined(victim)[-1].name.endswith("-broken")
    assert [each["action"] for each in actions(victim, since)].count("RemoveMember") == 1


def test_a_damaged_log_is_given_up_for_a_new_member_under_load(three: Lab) -> None:
    heals(three, a_follower(three))


@pytest.mark.long
def test_a_damaged_leader_and_a_damaged_database(make_lab: MakeLab) -> None:
    lab = make_lab(settings=QUICK, pace=PACE)
    wait_whole(lab, 3)
    heals(lab, the_leader(lab))
    other = next(each for each in lab.instances() if not quarantined(each))
    kill_etcd(other)
    spoil_database(other)
    wait_until(lambda: quarantined(other), 240, "the data in quarantine")
    wait_whole(lab, 3)


@pytest.mark.long
def test_a_port_that_is_taken_is_named_and_changes_no_membership(make_lab: MakeLab) -> None:
    lab = make_lab(settings=QUICK, pace=PACE)
    before = wait_whole(lab, 3)
    victim = a_follower(lab)
    taken = wait_until(lambda: seized(victim, 2380), 20, "the port to be free for a moment", every_s=0.02)
    assert taken is not None
    with taken:
        wait_until(lambda: _is_called_for(victim, "port 2380"), 60, "a human to be called")
    assert [each.id for each in member_list(lab) or ()] == [each.id for each in before]
    assert wait_whole(lab, 3) == before
    assert not quarantined(victim)


@pytest.mark.long
def test_a_second_broken_member_within_the_hour_is_replaced_where_that_is_wanted(make_lab: MakeLab) -> None:
    settings = {**QUICK, "autoscaling": {"replace_unhealthy": True}}
    lab = make_lab(settings=settings, pace=PACE, terminate_hook_s=60)
    wait_whole(lab, 3)
    victim = a_follower(lab)
    heals(lab, victim)
    kill_etcd(victim)
    spoil_log(victim)
    wait_until(lambda: victim.id not in {each.id for each in lab.instances()}, 120, "the instance to be replaced")
    wait_whole(lab, 3, timeout_s=90)


def _is_called_for(instance: Instance, what: str) -> bool:
    said = agent_status(instance)
    return said is not None and said["decision"]["action"] == "CallHuman" and what in said["decision"]["because"]
