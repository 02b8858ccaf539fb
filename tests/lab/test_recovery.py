"""A generation is lost for good, under write load: the next one holds all that the best disk held.

House rules of these stories: the fleet of a module goes from loss to loss, each a generation further; before each story
and after it three voters serve. What was acknowledged is held against the new members *and* against the survivor's
own files, which lie in its quarantine.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from datetime import datetime
from typing import Any

import pytest

from agent.lab.client import Instance, Lab
from agent.lab.spec import LabSpec
from tests import etcd_versions
from tests.lab.evidence import etcd_pids, log_size
from tests.lab.harness import member_list, statuses, wait_whole
from tests.lab.losing import (
    INTERVAL_S,
    PACE,
    QUICK,
    Account,
    Load,
    account,
    acted,
    by_the_wall,
    count_keys,
    document,
    formed_key,
    hash_kv,
    head,
    manifests,
    record_key,
    rescues,
    roles,
    tell,
    terminate_for_good,
    under_load,
    wait_recovered,
    wait_snapshot,
    watch,
)
from tests.lab.watching import well_kept_lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(150)]


# ---- two of three ----------------------------------------------------------------------------------------------------


def lose_all_but(lab: Lab, survivor: Instance, load: Load) -> Account:
    """Two of three are terminated for good; the next generation, and what became of the writes."""
    generation = head(lab)
    gone = [each for each in lab.instances() if each.id != survivor.id]
    began = time.monotonic()
    terminate_for_good(lab, *gone)
    return recovered_from(lab, survivor, load, generation, began)


def recovered_from(lab: Lab, survivor: Instance, load: Load, lost: int, began: float) -> Account:
    """The generation after `lost` serves the same writers, and was made of this survivor's log."""
    wait_made_of(lab, survivor, lost)
    load.grows()
    load.stop()
    tell(f"the first write was acknowledged {load.gap_s(began):.1f} s after the loss")
    found = account(load, lab, survivor, lost, began)
    assert found.lost == ()
    return found


def wait_made_of(lab: Lab, survivor: Instance, lost: int) -> None:
    """The next generation serves, with three founders that waited for nothing, and was made of this survivor's log."""
    record = wait_recovered(lab, lost + 1)
    assert record["seed"]["source"] == f"survivor {survivor.id}"
    assert record["cause"]["kind"] == "quorum-lost"
    assert survivor.id in record["founders"]
    assert len(record["founders"]) == 3
    founded = {int(member, 16) for member in document(lab, formed_key(lost + 1))["voters"]}
    assert {each.id for each in member_list(lab) or ()} == founded, "a founder came too late, and joined anew"
    for each in lab.instances():
        log = (each.disk / "etcd.log").read_text().rpartition("starting an etcd server")[2]
        assert "failed hash kv request" not in log, "it asked peers for their data that did not listen yet"


def test_a_follower_survives_the_leader_and_the_other(fleet: Lab) -> None:
    """Its etcd ran on. It is stopped for its rescue only if its log holds more than it knows to be committed."""
    three = roles(fleet)
    survivor, logged = three.one, log_size(three.one)
    with under_load(fleet) as load:
        load.grows()
        lose_all_but(fleet, survivor, load)
    (task,) = rescues(survivor, logged)
    position = task["rescued"]["position"]
    serves_all = position["committed_index"] == position["last_index"]
    tell(f"its log ended at {position['last_index']}, known to be committed up to {position['committed_index']}")
    assert ("origin" in task) is serves_all, "either a snapshot of the running etcd, or a copy of its log"
    stops = [each["why"] for each in acted(survivor, "StopEtcd", logged)]
    assert stops == ["fenced"] if serves_all else stops == ["rescue"]


@pytest.mark.long
def test_the_leader_survives_both_followers(fleet: Lab) -> None:
    """What it had appended and nobody else had is not acknowledged, and may be there or not."""
    three = roles(fleet)
    with under_load(fleet) as load:
        load.grows()
        found = lose_all_but(fleet, three.leader, load)
    assert found.held == found.acknowledged, "the leader's own disk holds whatever it acknowledged"
    assert found.missing == ()


@pytest.mark.long
def test_a_survivor_that_was_rebooted_is_mute_and_its_log_is_used(fleet: Lab) -> None:
    three = roles(fleet)
    survivor, logged, generation = three.one, log_size(three.one), head(fleet)
    with under_load(fleet) as load:
        load.grows()
        began = time.monotonic()
        terminate_for_good(fleet, three.leader, three.other)
        fleet.reboot(survivor.id)
        recovered_from(fleet, survivor, load, generation, began)
    assert rescued_by_copy(survivor, logged)


def rescued_by_copy(survivor: Instance, logged: int) -> bool:
    """Its etcd was stopped for it, and started on a copy."""
    stops = [each["why"] for each in acted(survivor, "StopEtcd", logged)]
    tasks = rescues(survivor, logged)
    return "rescue" in stops and bool(tasks) and "origin" not in tasks[-1]


# ---- a tail that nobody living knows to be committed -----------------------------------------------------------------


@pytest.mark.parametrize("version", [pytest.param("3.4.23", marks=pytest.mark.long), "3.5.30"])
def test_writes_that_the_survivor_never_knew_to_be_committed_are_kept(
    version: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One follower is frozen, so that every acknowledged write is on the leader's disk and on the survivor's. Then
    leader and survivor lose their power in one moment, with writes under way: whatever was acknowledged is in the
    survivor's log, and the last of it behind the last entry that it knew to be committed.
    """
    if version == str(etcd_versions.default()):
        lab: Lab = request.getfixturevalue("fleet")
        keeps_an_unknown_tail(lab)
        return
    spec = LabSpec(etcd=str(etcd_versions.named(version).etcd), settings=QUICK, pace=PACE)
    with well_kept_lab(spec, tmp_path_factory.mktemp("older") / "lab") as lab:
        wait_whole(lab, 3)
        keeps_an_unknown_tail(lab)


def keeps_an_unknown_tail(lab: Lab) -> None:
    three = roles(lab)
    survivor, logged, generation = three.one, log_size(three.one), head(lab)
    lab.freeze(three.other.id)
    both = (three.leader.address, survivor.address)
    with under_load(lab, both, writers=6, pause_s=0) as load:
        load.grows(200)
        pids = [pid for each in (survivor, three.leader) for pid in etcd_pids(each.id)]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        load.stop()
        terminate_for_good(lab, three.leader, three.other)
        lab.reboot(survivor.id)
    wait_made_of(lab, survivor, generation)
    found = account(load, lab, survivor, generation, began)
    assert found.held == found.acknowledged, "a majority had it, and it is not on one disk of the two"
    assert found.missing == ()
    assert rescued_by_copy(survivor, logged)
    position = rescues(survivor, logged)[-1]["rescued"]["position"]
    tell(f"the log ended at {position['last_index']}, known to be committed up to {position['committed_index']}")


# ---- all three -------------------------------------------------------------------------------------------------------


def with_bump(revisions: int) -> dict[str, dict[str, Any]]:
    return {**QUICK, "snapshots": {**QUICK["snapshots"], "bump_revision": revisions}}


def record_calls(lab: Lab, generation: int, since: int) -> list[str]:
    """Who asked S3 to write the record of a generation."""
    calls = lab.calls(since)
    return [
        each["caller"]
        for each in calls
        if each["operation"] == "PutObject" and record_key(generation) in each["resource"]
    ]


def test_three_newcomers_restore_the_newest_snapshot_exactly_and_write_one_record(fleet: Lab) -> None:
    """All disks are gone. Three agents prove it at once, and S3 loses its answer to the one that comes first."""
    generation, since = head(fleet), fleet.last_call()
    fleet.change(settings=with_bump(0))
    with under_load(fleet) as load:
        load.grows()
    newest = wait_snapshot(fleet, generation, after=len(manifests(fleet, generation)))
    race = {"service": "s3", "operation": "PutObject", "match": record_key(generation + 1)}
    fleet.fault(**race, delay_s=2.0, status=500, after=True, times=1)
    fleet.fault(**race, delay_s=3.0)
    terminate_for_good(fleet, *fleet.instances())
    record = wait_recovered(fleet, generation + 1)
    fleet.clear_faults()

    writers = record_calls(fleet, generation + 1, since)
    tell(f"{len(set(writers))} newcomers asked for the record")
    assert len(set(writers)) > 1, "nobody raced"
    assert record["created_by"] == writers[0]
    assert record["seed"]["source"] == "snapshot"
    assert record["seed"]["manifest"] == f"{newest['snapshot']}.json"
    assert record["seed"]["bump_revision"] == 0
    assert [load.missing(address) for address in fleet.addresses()] == [[], [], []]
    assert {each.revision for each in statuses(fleet).values()} == {newest["revision"]}
    was = newest["fingerprint"]
    assert hash_kv(fleet, newest["revision"]) == {(was["hash_kv"], was["compact_revision"])}
    assert {count_keys(each, newest["revision"]) for each in fleet.addresses()} == {was["key_count"]}
    fleet.change(settings=QUICK)


@pytest.mark.long
def test_what_is_lost_with_all_three_is_younger_than_the_newest_snapshot(fleet: Lab) -> None:
    """And clients that watched are told that they must look anew, not left to miss it."""
    generation = head(fleet)
    bump = 1_000_000_000
    with under_load(fleet) as load:
        wait_snapshot(fleet, generation, after=len(manifests(fleet, generation)))
        load.grows()
        began = time.monotonic()
        terminate_for_good(fleet, *fleet.instances())
        record = wait_recovered(fleet, generation + 1)
        load.grows()
    newest = manifests(fleet, generation)[-1]
    assert record["seed"]["manifest"] == f"{newest['snapshot']}.json"
    assert record["seed"]["bump_revision"] == bump

    taken_at = datetime.fromisoformat(newest["taken_at"])
    old = load.acknowledged_before(began)
    missing = load.missing(fleet.addresses()[0])
    assert all(load.missing(address) == missing for address in fleet.addresses())
    assert set(missing) <= set(old), "what the new generation acknowledged is gone"
    assert [write for write in missing if by_the_wall(write) < taken_at] == []
    seconds = max((began - (write.at + write.took_s) for write in missing), default=0.0)
    tell(f"{len(missing)} of {len(old)} writes were lost, the oldest {seconds:.1f} s before the loss")
    assert seconds <= 1.5 * INTERVAL_S

    revision = max(each.revision for each in statuses(fleet).values())
    assert revision >= newest["revision"] + bump
    assert len(hash_kv(fleet, revision)) == 1
    last_seen = max(write.revision or 0 for write in old)
    created, cancelled = itertools.islice(watch(fleet.addresses()[0], last_seen + 1), 2)
    assert created["created"]
    assert cancelled["canceled"]
    assert int(cancelled["compact_revision"]) > last_seen
