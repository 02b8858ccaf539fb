"""Whoever comes back: the whole fleet at once, a member elsewhere, a member without its disk, one of an older time."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.lab import members
from agent.lab.client import Instance, Lab
from agent.lab.ledger import Ledger
from agent.lab.members import Member
from agent.lab.spec import Pace
from tests import etcd_versions
from tests.lab.conftest import MakeLab
from tests.lab.evidence import (
    actions,
    assert_one_cluster,
    contents,
    etcd_pids,
    identity,
    log_size,
    objects,
    quarantined,
    starts_as_new,
)
from tests.lab.harness import cluster_ids, leader, member_list, stays, wait_until, wait_whole

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

QUICK = Pace(pending_s=0.1, boot_s=0.2)
BOTH_LINES = pytest.mark.parametrize("version", [pytest.param("3.4.23", marks=pytest.mark.long), "3.5.30"])


def nothing_is_missing(ledger: Ledger, lab: Lab) -> None:
    """Every acknowledged write is there, read through each member."""
    assert ledger.acknowledged, "nothing was ever acknowledged"
    for address in lab.addresses():
        assert ledger.missing(address) == []


def grows(ledger: Ledger, writes: int = 20) -> None:
    """Wait for that many further acknowledged writes."""
    before = len(ledger.acknowledged)
    wait_until(lambda: len(ledger.acknowledged) >= before + writes, 30, f"{writes} more acknowledged writes")


def the_leader(lab: Lab) -> Instance:
    """The member that leads."""
    wait_until(lambda: leader(lab) is not None, 15, "a leader")
    found = leader(lab)
    assert found is not None
    return found


def a_follower(lab: Lab) -> Instance:
    """A member that does not lead."""
    leading = the_leader(lab)
    return next(each for each in lab.instances() if each.id != leading.id)


def ids(listed: tuple[Member, ...]) -> dict[str, int]:
    """Member IDs by instance."""
    return {member.name: member.id for member in listed}


# ---- the whole fleet at once ----------------------------------------------------------------------------------------


def power_cut(lab: Lab) -> None:
    """Every instance loses its power and has it again."""
    for instance in lab.instances():
        lab.reboot(instance.id)


def kill_everything(lab: Lab) -> None:
    """kill -9 of every agent and every etcd, as near to one moment as it goes."""
    pids = [pid for each in lab.instances() for pid in (each.agent_pid, *each.etcd_pids) if pid]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@BOTH_LINES
def test_a_fleet_that_ends_at_once_under_load_comes_back_as_it_was(make_lab: MakeLab, version: str) -> None:
    lab = make_lab(etcd=str(etcd_versions.named(version).etcd), pace=QUICK)
    before = wait_whole(lab, 3)
    (cluster,) = cluster_ids(lab)
    for end_all in (power_cut, kill_everything):
        old_pids = {each.etcd_pids for each in lab.instances()}
        with Ledger(lab.addresses) as ledger:
            grows(ledger)
            end_all(lab)
            wait_until(lambda: not old_pids & {each.etcd_pids for each in lab.instances()}, 15, "an end")  # noqa: B023
            assert ids(wait_whole(lab, 3)) == ids(before)
            grows(ledger)
        assert cluster_ids(lab) == {cluster}
        nothing_is_missing(ledger, lab)
    assert_one_cluster(lab)
    assert all(len(starts_as_new(each)) <= 1 for each in lab.instances())
    assert not any(quarantined(each) for each in lab.instances())


# ---- elsewhere ------------------------------------------------------------------------------------------------------


@contextmanager
def never(violation: Callable[[], str | None]) -> Iterator[None]:
    """Looks all the time; fails afterwards, with what it saw first."""
    seen: list[str] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02) and not seen:
            said = violation()
            if said:
                seen.append(said)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10)
    assert seen == []


def test_a_member_that_moved_is_told_to_the_others_before_its_etcd_starts(make_lab: MakeLab) -> None:
    """A follower first, then the leader; each keeps its ID, and no acknowledged write is lost."""
    lab = make_lab(pace=QUICK)
    before = ids(wait_whole(lab, 3))
    for choose in (a_follower, the_leader):
        moving = choose(lab)
        staying = [each.address for each in lab.instances() if each.id != moving.id]
        logged = log_size(moving)

        def starts_too_soon(moving: Instance = moving, through: str = staying[0]) -> str | None:
            pids = etcd_pids(moving.id)  # first: whoever runs now must have been told of before
            members.get(through, "any")  # linearizable: the list that follows is not older
            listed = members.member_list(through)
            old = listed and [each for each in listed if f"http://{moving.address}:2380" in each.peer_urls]
            return f"etcd {pids} runs, and the list still has {old}" if pids and old else None

        with Ledger(lambda staying=staying: staying) as ledger:  # type: ignore[misc]
            grows(ledger)
            lab.reboot(moving.id, address_changed=True)
            with never(starts_too_soon):
                wait_whole(lab, 3)
            grows(ledger)
        now = lab.instance(moving.id)
        assert now.address != moving.address
        listed = member_list(lab)
        assert listed is not None
        assert ids(listed) == before
        (entry,) = (each for each in listed if each.name == moving.id)
        assert (entry.peer_urls, entry.client_urls) == (
            (f"http://{now.address}:2380",),
            (f"http://{now.address}:2379",),
        )
        done = [each["action"] for each in actions(now, logged)]
        assert done.index("UpdatePeerUrl") < done.index("StartEtcd")
        stamped = identity(now)
        assert stamped is not None
        assert stamped["peer_url"] == f"http://{now.address}:2380"
        nothing_is_missing(ledger, lab)
    assert_one_cluster(lab)


@pytest.mark.long
def test_a_fleet_of_which_two_moved_at_once_is_whole_again_at_its_new_addresses(make_lab: MakeLab) -> None:
    """No quorum can be told beforehand: they start after their grace, and the list is corrected by what they are."""
    lab = make_lab(pace=QUICK, settings={"timing": {"address_grace": "2s"}})
    before = ids(wait_whole(lab, 3))
    with Ledger(lab.addresses) as ledger:
        grows(ledger)
        for each in lab.instances()[:2]:
            lab.reboot(each.id, address_changed=True)
        wait_until(lambda: _addresses_true(lab), 60, "a list that has every member where it is")
        assert ids(wait_whole(lab, 3)) == before
        grows(ledger)
    nothing_is_missing(ledger, lab)
    assert_one_cluster(lab)


def _addresses_true(lab: Lab) -> bool:
    wanted = {each.id: (f"http://{each.address}:2380",) for each in lab.instances()}
    listed = member_list(lab)
    return listed is not None and {each.name: each.peer_urls for each in listed} == wanted


# ---- without its disk -----------------------------------------------------------------------------------------------


@BOTH_LINES
def test_a_wiped_member_comes_back_as_another_member_and_the_old_one_is_gone(make_lab: MakeLab, version: str) -> None:
    """A founder that leads, then a founder that follows, then the one that has joined by then."""
    lab = make_lab(etcd=str(etcd_versions.named(version).etcd), pace=QUICK)
    founded = ids(wait_whole(lab, 3))
    with Ledger(lab.addresses) as ledger:
        first = the_leader(lab).id
        second = next(name for name in founded if name != first)
        gone: set[int] = set()
        for victim in (first, second, first):
            before = ids(wait_whole(lab, 3))
            logged = log_size(lab.instance(victim))
            grows(ledger)
            lab.wipe(victim)
            wait_until(lambda: _replaced(lab, victim, before), 60, f"{victim} as a new member")  # noqa: B023
            gone.add(before[victim])
            after = ids(wait_whole(lab, 3))
            assert {name: after[name] for name in after if name != victim} == {
                name: before[name] for name in before if name != victim
            }
            assert not gone & set(after.values()), "an ID that raft had heard of came back"
            assert starts_as_new(lab.instance(victim), logged) == []
        grows(ledger)
    nothing_is_missing(ledger, lab)
    assert_one_cluster(lab)


def _replaced(lab: Lab, victim: str, before: dict[str, int]) -> bool:
    listed = member_list(lab)
    return listed is not None and ids(listed).get(victim, before[victim]) != before[victim]


# ---- of an older generation -----------------------------------------------------------------------------------------


def forge_generation_two(lab: Lab, founders: list[Instance]) -> None:
    """What a recovery writes: the next record, with a token of its own. Nobody looks while it is written."""
    record = objects(lab, "generations/")["generations/000001.json"]
    state = lab.status()
    forged = {
        **record,
        "generation": 2,
        "token": f"{state['cluster']}-000002-f0f0f0f0",
        "nonce": "f0" * 16,
        "created_by": founders[0].id,
        "founders": {each.id: f"http://{each.address}:2380" for each in founders},
        "cause": {"kind": "operator", "evidence": {"why": "a test"}},
    }
    lab.aws("s3").put_object(
        Bucket=state["bucket"],
        Key=f"{state['prefix']}/{state['cluster']}/generations/000002.json",
        Body=json.dumps(forged).encode(),
        IfNoneMatch="*",
    )


@pytest.mark.parametrize(
    "bucket_is_out",
    [False, pytest.param(True, marks=pytest.mark.long)],
    ids=["bucket-answers", "bucket-is-out-at-first"],
)
def test_an_instance_of_an_older_generation_is_fenced_and_joins_the_new_one(
    make_lab: MakeLab, bucket_is_out: bool
) -> None:
    """Two of three go on as generation 2 while the third is stopped; then it comes back with its generation 1.

    While it cannot read the bucket it may start what it has, which is a quorum of nothing; silence fences nobody.
    """
    lab = make_lab(pace=QUICK)
    wait_whole(lab, 3)
    (old_cluster,) = cluster_ids(lab)
    with Ledger(lab.addresses) as ledger:
        grows(ledger)
    late = a_follower(lab)
    lab.stop(late.id)
    wait_until(lambda: not lab.instance(late.id).powered, 15, "a stop")
    kept = contents(late.disk / "data")
    going_on = [each for each in lab.instances() if each.id != late.id]
    for each in going_on:
        lab.stop_agent(each.id)
    wait_until(lambda: all(lab.instance(each.id).agent_pid is None for each in going_on), 30, "no agent")
    forge_generation_two(lab, going_on)
    for each in going_on:
        lab.start_agent(each.id)
    wait_until(lambda: wait_for_two(lab, going_on, old_cluster), 60, "generation 2 of two")
    (new_cluster,) = cluster_ids(lab)
    for each in going_on:  # their etcds ran, and were stopped
        assert_set_aside(each, old_cluster)

    logged = log_size(late)
    fault = lab.fault(service="s3", caller=late.id, status=503, code="SlowDown") if bucket_is_out else None
    lab.start_again(late.id)
    if fault:
        wait_until(lambda: etcd_pids(late.id), 30, "a start in place")
        stays(lambda: not quarantined(late), 2, "nothing is set aside while the bucket is out")
        lab.clear_faults(fault)
    wait_whole(lab, 3)
    assert cluster_ids(lab) == {new_cluster}
    folder = assert_set_aside(late, old_cluster)
    if not bucket_is_out:
        assert contents(folder / "data") == kept, "its data is not what it was"
        done = [each["action"] for each in actions(late, logged)]
        assert "StopEtcd" not in done
        assert done.index("Quarantine") < done.index("StartEtcd")
    held = objects(lab, "generations/")
    assert [key for key in held if key.count("/") == 1] == ["generations/000001.json", "generations/000002.json"]
    assert int(held["generations/000001/formed.json"]["cluster_id"], 16) == old_cluster
    assert int(held["generations/000002/formed.json"]["cluster_id"], 16) == new_cluster


def wait_for_two(lab: Lab, founders: list[Instance], old_cluster: int) -> bool:
    """Whether these two are the voters of another cluster than before."""
    listed = member_list(lab)
    names = {each.name for each in listed or ()}
    return names == {each.id for each in founders} and old_cluster not in cluster_ids(lab)


def assert_set_aside(instance: Instance, cluster: int) -> Path:
    """Its first life lies in the quarantine, log and all, under its own name; returns where."""
    (folder,) = quarantined(instance)
    assert "g000001" in folder.name
    was = json.loads((folder / "identity.json").read_text())
    assert (was["generation"], was["stage"], int(was["cluster_id"], 16)) == (1, "fenced", cluster)
    assert list((folder / "data" / "member" / "wal").glob("*.wal"))
    assert (folder / "data" / "member" / "snap" / "db").stat().st_size > 0
    return folder
