"""Whoever rescues a generation dies at every step of it: he goes on, or another does; there is one record in the end.

The agent is the unmodified one: S3 keeps it waiting at a step, or it is ended as soon as the step's mark is there. One
loss goes through all steps of a path, so that each begins with what the deaths before it have left.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from agent.lab.client import Instance, Lab
from tests.lab.evidence import log_size
from tests.lab.harness import wait_until
from tests.lab.losing import (
    account,
    acted,
    document,
    generations,
    head,
    keys,
    keys_on_disk,
    record_key,
    rescues,
    roles,
    scratch_pids,
    tell,
    terminate_for_good,
    under_load,
    wait_recovered,
)

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

OFTEN = 1_000_000
DATA, MANIFEST = "Z.db.zst", "Z.json"


# ---- the steps -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A moment of a rescue: S3 keeps the agent waiting when it writes this, or the machine shows a mark."""

    name: str
    written: str = DATA
    applied: bool = False
    """S3 did what it was asked, and only its answer is missing."""
    mark: Callable[[Instance, int], bool] | None = None
    """By the instance, and where its log was before. S3 does not let it get further than the upload."""


def has_stopped(survivor: Instance, logged: int) -> bool:
    return any(each["why"] == "rescue" for each in acted(survivor, "StopEtcd", logged))


def is_copying(survivor: Instance, logged: int) -> bool:
    return bool(rescues(survivor, logged))


def copy_runs(survivor: Instance, _logged: int) -> bool:
    return bool(scratch_pids(survivor))


UPLOADING = Step("uploading")
UPLOADED = Step("uploaded, answer lost", applied=True)
ABOUT_TO_COMMIT = Step("about to write the manifest", MANIFEST)
COMMITTED = Step("manifest written, answer lost", MANIFEST, applied=True)
ABOUT_TO_RECORD = Step("about to write the record", "record")
RECORDED = Step("record written, answer lost", "record", applied=True)
STOPPED = Step("etcd stopped for the copy", mark=has_stopped)
COPYING = Step("copying", mark=is_copying)
COPY_RUNS = Step("the copy runs", mark=copy_runs)


def die_at(lab: Lab, survivor: Instance, step: Step, lost: int, end: Callable[[Lab, Instance], None]) -> None:
    """End the rescuer as soon as it has come to this step, and not before."""
    match = record_key(lost + 1) if step.written == "record" else step.written
    logged = log_size(survivor)
    waiting = {"service": "s3", "operation": "PutObject", "match": match, "caller": survivor.id}
    fault = lab.fault(**waiting, hang=True, after=step.applied, times=OFTEN)

    before = sum(match in key for key in keys(lab))

    def reached() -> bool:
        if step.mark is not None:
            return step.mark(survivor, logged)
        if step.applied:
            return sum(match in key for key in keys(lab)) > before
        return any(each["id"] == fault and each["left"] < OFTEN for each in lab._call("GET", "/lab/faults"))

    wait_until(reached, 60, f"the rescuer at: {step.name}", every_s=0.01)
    end(lab, survivor)
    assert (lost + 1 in generations(lab)) is (step is RECORDED), step.name
    lab.clear_faults()


def kill_agent(lab: Lab, survivor: Instance) -> None:
    pid = lab.instance(survivor.id).agent_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: lab.instance(survivor.id).agent_pid not in (None, pid), 10, "another agent", every_s=0.02)


def cut_power(lab: Lab, survivor: Instance) -> None:
    lab.reboot(survivor.id)
    assert not scratch_pids(survivor), "a copy's etcd outlived its machine"


def end_for_good(lab: Lab, survivor: Instance) -> None:
    terminate_for_good(lab, survivor)


def loses_quorum(lab: Lab, survivor: Instance) -> float:
    """The two others end for good; when that was."""
    began = time.monotonic()
    terminate_for_good(lab, *(each for each in lab.instances() if each.id != survivor.id))
    return began


def assert_one_seed(lab: Lab, survivor: Instance, generation: int) -> None:
    """One record, whose seed is a snapshot of the survivor's log, and all that is said about it agrees."""
    record = document(lab, record_key(generation))
    manifest = document(lab, record["seed"]["manifest"])
    assert manifest["rescued"]["instance"] == survivor.id
    assert manifest["sha256"] == record["seed"]["sha256"]
    assert f"{manifest['snapshot']}.db.zst" in keys(lab, "snapshots/")
    assert [each for each in generations(lab) if each >= generation] == [generation]


# ---- the stories -----------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_rescuer_whose_agent_is_killed_at_every_step_goes_on(fleet: Lab) -> None:
    """Its etcd runs all the time; what it serves is what the next generation begins with.

    The writes end a moment before the loss, so that there is nothing in its log that it does not serve.
    """
    lost, survivor = head(fleet), roles(fleet).one
    with under_load(fleet) as load:
        load.grows()
    time.sleep(0.5)
    began = loses_quorum(fleet, survivor)
    pids = fleet.instance(survivor.id).etcd_pids
    for step in (UPLOADING, UPLOADED, COMMITTED, ABOUT_TO_RECORD):
        die_at(fleet, survivor, step, lost, kill_agent)
        assert fleet.instance(survivor.id).etcd_pids == pids, "its etcd was touched"
    die_at(fleet, survivor, RECORDED, lost, kill_agent)
    written = document(fleet, record_key(lost + 1))
    record = wait_recovered(fleet, lost + 1)
    tell(f"five agents died; three voters served {time.monotonic() - began:.1f} s after the loss")
    assert record == written
    assert record["seed"]["source"] == f"survivor {survivor.id}"
    assert_one_seed(fleet, survivor, lost + 1)
    found = account(load, fleet, survivor, lost, began)
    assert found.held == found.acknowledged
    assert found.missing == ()


@pytest.mark.long
def test_a_rescuer_without_power_at_every_step_goes_on_and_another_ends_it(fleet: Lab) -> None:
    """Its etcd is mute after the first cut, so its log is copied. It ends for good when its snapshot is in the bucket:
    the others take that one, and nothing is lost that was on its disk.
    """
    lost, survivor = head(fleet), roles(fleet).one
    logged = log_size(survivor)
    with under_load(fleet) as load:
        load.grows()
        began = loses_quorum(fleet, survivor)
        fleet.reboot(survivor.id)
        for step in (STOPPED, COPYING, COPY_RUNS, ABOUT_TO_COMMIT):
            die_at(fleet, survivor, step, lost, cut_power)
        die_at(fleet, survivor, ABOUT_TO_RECORD, lost, end_for_good)
        record = wait_recovered(fleet, lost + 1)
        load.grows()
    tell(f"five cuts and an end; the next write was acknowledged {load.gap_s(began):.1f} s after the loss")
    assert record["seed"]["source"] == "snapshot"
    assert survivor.id not in record["founders"]
    assert_one_seed(fleet, survivor, lost + 1)
    assert all("origin" not in each for each in rescues(survivor, logged))
    on_disk = keys_on_disk(survivor.disk / "data")
    assert [write for write in load.missing(fleet.addresses()[0]) if write.key in on_disk] == []
