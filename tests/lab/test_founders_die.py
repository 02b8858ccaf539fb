"""A founder dies between any two steps of founding: it resumes or joins anew, and never starts on two identities.

Each founding has three victims at one step: one loses its agent, one its power, one its disk. The agent is the
unmodified one: S3 keeps it waiting at the step, or it is killed as soon as the step's mark is there.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from agent.lab.client import Lab
from agent.lab.spec import LabSpec
from tests.lab.evidence import (
    FORMED,
    RECORD,
    Document,
    claim_of,
    etcd_pids,
    identity,
    log_size,
    member_id,
    objects,
    starts_as_new,
)
from tests.lab.founding import WAITING_FOR_US, anew, start_all, wait_for_machines, wait_formed
from tests.lab.harness import member_list, running_lab, tell_logs, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

OFTEN = 1_000_000


@pytest.fixture(scope="module")
def shared_machines(tmp_path_factory: pytest.TempPathFactory, etcd_binary: str) -> Iterator[Lab]:
    spec = LabSpec(etcd=etcd_binary, pace=WAITING_FOR_US)
    with running_lab(spec, tmp_path_factory.mktemp("founders") / "lab") as lab:
        wait_for_machines(lab)
        yield lab


@pytest.fixture
def machines(shared_machines: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Three machines that many foundings share; what their agents logged is told after each."""
    yield shared_machines
    shared_machines.clear_faults()
    tell_logs(shared_machines.folder)


# ---- the steps ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A moment of founding. S3 keeps the founder waiting in one of its calls, or a mark on the machine shows it."""

    operation: str = ""
    key: Callable[[str], str] = str
    applied: bool = False
    """S3 did what it was asked, and only its answer is missing."""
    mark: Callable[[Lab, str], bool] | None = None


def has_a_log(lab: Lab, founder: str) -> bool:
    return (lab.folder / "machines" / founder / "disk" / "data" / "member" / "wal").exists()


def has_an_etcd(_lab: Lab, founder: str) -> bool:
    return bool(etcd_pids(founder))


STEPS: Mapping[str, Step] = {
    "about to write the record": Step("PutObject", lambda _: RECORD),
    "record written, answer lost": Step("PutObject", lambda _: RECORD, applied=True),
    "about to stamp": Step("GetObject", claim_of),
    "stamped, about to claim": Step("PutObject", claim_of),
    "claimed, answer lost": Step("PutObject", claim_of, applied=True),
    "etcd was born": Step(mark=has_an_etcd),
    "etcd has a log": Step(mark=has_a_log),
    "member, about to write formed.json": Step("PutObject", lambda _: FORMED),
    "formed.json written, answer lost": Step("PutObject", lambda _: FORMED, applied=True),
}


EVERY_RUN = (
    "record written, answer lost",
    "claimed, answer lost",
    "etcd has a log",
    "formed.json written, answer lost",
)


@contextmanager
def kept_waiting(lab: Lab, step: Step, founders: list[str], prefix: str) -> Iterator[Callable[[str], bool]]:
    """Whether a founder has reached the step, from which S3 does not let it go on."""
    if step.mark is not None:
        mark = step.mark
        yield lambda founder: mark(lab, founder)
        return
    for each in founders:
        waiting = {"operation": step.operation, "match": step.key(each), "caller": each}
        lab.fault(service="s3", hang=True, after=step.applied, times=OFTEN, **waiting)

    def reached(founder: str) -> bool:
        if step.applied:  # of what only one can write, the others see that it is there
            return step.key(founder) in objects(lab, "generations/", prefix)
        return any(fault["caller"] == founder and fault["left"] < OFTEN for fault in lab._call("GET", "/lab/faults"))

    yield reached
    lab.clear_faults()


def kill_agents_at(lab: Lab, reached: Callable[[str], bool], founders: list[str]) -> None:
    """SIGKILL to each founder's agent as soon as it is there, and not before."""
    start_all(lab)
    left = dict.fromkeys(founders, 0)
    deadline = time.monotonic() + 60
    while left:
        assert time.monotonic() < deadline, f"{left} never came to this step"
        for founder, pid in list(left.items()):
            if not pid:
                left[founder] = lab.instance(founder).agent_pid or 0
            elif reached(founder):
                os.kill(pid, signal.SIGKILL)
                del left[founder]


# ---- the stories ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [each if each in EVERY_RUN else pytest.param(each, marks=pytest.mark.long) for each in STEPS]
)
def test_founders_that_die_at_one_step_form_one_cluster_all_the_same(machines: Lab, name: str) -> None:
    prefix = anew(machines)
    founders = wait_for_machines(machines)
    random.Random(name).shuffle(founders)
    without_agent, without_power, without_disk = founders
    with kept_waiting(machines, STEPS[name], founders, prefix) as reached:
        kill_agents_at(machines, reached, founders)
        claimed = {key: claim for key, claim in objects(machines, "generations/", prefix).items() if "/claims/" in key}
    born = etcd_pids(without_agent)
    logged = log_size(machines.instance(without_disk))
    machines.change(pace={"boot_s": 0.1})
    machines.reboot(without_power)
    machines.wipe(without_disk)

    held = wait_formed(machines, prefix)
    founded = {name: int(member, 16) for member, name in held[FORMED]["voters"].items()}
    assert set(founded) == set(founders)
    for survivor in (without_agent, without_power):
        assert member_id(machines.instance(survivor)) == founded[survivor], f"{survivor} did not resume"
    if born:
        assert etcd_pids(without_agent) == born, "the etcd of a killed agent was started again"
    assert claimed.items() <= held.items(), "a claim was written twice"
    if claim_of(without_disk) in claimed:
        assert starts_as_new(machines.instance(without_disk), logged) == [], "it started again without its disk"
        assert member_id(machines.instance(without_disk)) != founded[without_disk]
        listed = member_list(machines)
        assert listed is not None
        assert founded[without_disk] not in {member.id for member in listed}
    else:
        assert member_id(machines.instance(without_disk)) == founded[without_disk]
    assert_signed_as_claimed(machines, held)


def assert_signed_as_claimed(lab: Lab, held: Mapping[str, Document]) -> None:
    """Whoever runs as a founder has the identity that its claim was made with."""
    for instance in lab.instances():
        stamped = identity(instance)
        assert stamped is not None
        if stamped["member_id"] in held[FORMED]["voters"]:
            assert stamped["nonce"] == held[claim_of(instance.id)]["nonce"]


@pytest.mark.parametrize("slow_claims", [1, 3])
@pytest.mark.long
def test_a_claim_that_lands_after_its_disk_was_lost_starts_nobody_twice(machines: Lab, slow_claims: int) -> None:
    """The claim of the lost disk is still under way when the new disk's is sent, which is as slow in the second case.

    Whichever lands first is the founder's only one, and etcd starts as new only on the disk that it was signed with.
    """
    prefix = anew(machines)
    founder, *_ = wait_for_machines(machines)
    slow = {"operation": "PutObject", "match": claim_of(founder), "caller": founder, "times": slow_claims}
    machines.fault(service="s3", delay_s=8.0, **slow)
    start_all(machines)
    wait_until(lambda: _under_way(machines, slow_claims), 30, "the claim under way", every_s=0.01)
    lost = identity(machines.instance(founder))
    assert lost is not None
    machines.change(pace={"boot_s": 0.0})
    machines.wipe(founder)
    logged = log_size(machines.instance(founder))

    held = wait_formed(machines, prefix)
    assert_signed_as_claimed(machines, held)
    landed_late = held[claim_of(founder)]["nonce"] == lost["nonce"]
    assert landed_late or slow_claims == 1
    assert bool(starts_as_new(machines.instance(founder), logged)) is not landed_late


def _under_way(lab: Lab, slow_claims: int) -> bool:
    """Whether one of the slow claims has been sent, and has not been answered."""
    left = sum(fault["left"] for fault in lab._call("GET", "/lab/faults"))
    return bool(left < slow_claims)
