"""Empty disks become exactly one cluster: whoever starts first, however far apart, and whatever S3 does meanwhile."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping

import pytest

from agent.lab.spec import LabSpec, Pace
from tests import etcd_versions
from tests.lab.conftest import MakeLab
from tests.lab.evidence import (
    FORMED,
    RECORD,
    Document,
    actions,
    claim_of,
    events,
    log_size,
    objects,
    starts_as_new,
)
from tests.lab.founding import WAITING_FOR_US, anew, start_all, wait_for_machines, wait_formed
from tests.lab.harness import stays, wait_until

pytestmark = pytest.mark.lab

# ---- any order ------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.timeout(240)
def test_ten_times_three_agents_form_one_cluster_whatever_their_order_and_delay(make_lab: MakeLab) -> None:
    """Nine times at once or some seconds apart; meanwhile, in a lab of its own, one agent is a minute late."""
    chance = random.Random(20261122)
    patient, hasty = make_lab(pace=WAITING_FOR_US), make_lab(pace=WAITING_FOR_US)
    *early, late = chance.sample(wait_for_machines(patient), 3)
    start_all(patient, dict.fromkeys(early, 0.0))
    a_minute_later = time.monotonic() + 60

    for most_s in (0, 0, 0, 0.5, 0.5, 1, 2, 3, 4):
        prefix = anew(hasty)
        delays_s = {each.id: chance.uniform(0, most_s) for each in hasty.instances()}
        print(f"{prefix}: {delays_s}")  # noqa: T201 - seen where it fails
        start_all(hasty, delays_s)
        held = wait_formed(hasty, prefix)
        assert set(held[RECORD]["founders"]) == set(delays_s), "all three were there to found it"
        assert {key for key in held if "/claims/" in key} == {claim_of(each) for each in delays_s}

    assert objects(patient, "generations/") == {}, "two of three founded before the third had its time to come"
    time.sleep(max(0.0, a_minute_later - time.monotonic()))
    patient.start_agent(late)
    assert set(wait_formed(patient)[RECORD]["founders"]) == {*early, late}


def test_a_majority_founds_after_its_grace_and_the_late_one_joins(make_lab: MakeLab) -> None:
    """The two ways into a cluster, with the etcd of the end-of-life line; the others here have the current one."""
    binary = etcd_versions.named("3.4.23").etcd
    lab = make_lab(etcd=str(binary), pace=WAITING_FOR_US, settings={"timing": {"founding_grace": "2s"}})
    *early, late = wait_for_machines(lab)
    start_all(lab, dict.fromkeys(early, 0.0))
    wait_until(lambda: FORMED in objects(lab, "generations/"), 30, "two of three form a cluster")
    lab.start_agent(late)
    held = wait_formed(lab)
    assert set(held[RECORD]["founders"]) == set(early)
    assert claim_of(late) not in held, "who is no founder has nothing to claim"
    assert starts_as_new(lab.instance(late)) == []


# ---- races and lost answers -----------------------------------------------------------------------------------------

SLOW_S = 1.5
"""Longer than the others need to come to the same decision."""

WEATHERS: Mapping[str, tuple[Document, Document]] = {
    "applied, then an error": ({"status": 500, "code": "InternalError", "after": True},) * 2,
    "applied, then silence": ({"hang": True, "after": True},) * 2,
    "refused for now": ({"status": 409, "code": "ConditionalRequestConflict"}, {"status": 503, "code": "SlowDown"}),
}
"""What the first write of the record and the first write of the claim meet."""


@pytest.mark.timeout(180)
@pytest.mark.long
def test_agents_that_race_for_the_first_generation_make_one_record_and_one_lineage(make_lab: MakeLab) -> None:
    """Everybody's first write of record and claim meets the weather; slow records make sure that there is a race."""
    machines = make_lab(pace=WAITING_FOR_US)
    for name, (for_the_record, for_the_claim) in WEATHERS.items():
        prefix = anew(machines)
        print(f"{prefix}: {name}")  # noqa: T201 - seen where it fails
        ids = [each.id for each in machines.instances()]
        logged = {each.id: log_size(each) for each in machines.instances()}
        for each in ids:
            first = {"service": "s3", "operation": "PutObject", "caller": each, "times": 1}
            machines.fault(match=RECORD, delay_s=SLOW_S, **first, **for_the_record)
            machines.fault(match=claim_of(each), **first, **for_the_claim)
        slow = machines.fault(service="s3", operation="PutObject", match=RECORD, delay_s=SLOW_S)
        start_all(machines)
        wait_until(lambda: RECORD in objects(machines, "generations/", prefix), 30, "the record")  # noqa: B023
        machines.clear_faults(slow)
        held = wait_formed(machines, prefix)
        done = {i.id: [each["action"] for each in actions(i, logged[i.id])] for i in machines.instances()}
        racers = [each for each in ids if "CreateGeneration" in done[each]]
        assert len(racers) > 1, "nobody raced"
        tokens = {each["launch"]["token"] for i in machines.instances() for each in starts_as_new(i, logged[i.id])}
        assert tokens == {held[RECORD]["token"]}


# ---- a store that would undo it all ---------------------------------------------------------------------------------


def test_a_bucket_that_ignores_preconditions_is_refused_with_the_reason(make_lab: MakeLab) -> None:
    lab = make_lab(honours_preconditions=False, pace=Pace(pending_s=0.1, boot_s=0.1))
    wait_until(lambda: all(each.agent_exit is not None for each in lab.instances()) and lab.instances(), 30, "an end")
    for instance in lab.instances():
        last = events(instance)[-1]
        assert (instance.agent_exit, last["level"], last["message"]) == (2, "error", "cannot start")
        assert f"bucket {LabSpec().bucket} overwrote" in last["because"]
        assert "use a store that honours If-None-Match" in last["hint"]
    stays(lambda: not objects(lab, "generations/"), 1, "nothing is founded")
    assert all(each.agent_starts == 1 for each in lab.instances()), "systemd is told that trying again is no use"


@pytest.mark.long
def test_a_bucket_that_cannot_be_judged_at_start_founds_nothing_until_it_is(make_lab: MakeLab) -> None:
    """A store that is out when the agent starts is not taken for a good one, and not for a bad one either."""
    lab = make_lab(pace=WAITING_FOR_US)
    wait_for_machines(lab)
    fault = lab.fault(service="s3", operation="PutObject", match="probe.json", status=503, code="SlowDown")
    start_all(lab)
    wait_until(lambda: len(objects(lab, "assembly/")) == 3, 30, "three reports")
    stays(lambda: not objects(lab, "generations/"), 3, "nothing is founded in a bucket that nobody could try")
    lab.clear_faults(fault)
    wait_formed(lab)
