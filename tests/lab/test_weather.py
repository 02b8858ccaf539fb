"""A healthy cluster in bad weather: every door to AWS fails in every way we know, and nothing happens to etcd.

House rules of these stories: the weather lasts until an agent has really met it; then membership and etcd's processes
are as before, no write failed, the metrics said what was unknown, and afterwards all is well by itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from agent.lab.client import Lab
from agent.lab.spec import LabSpec
from tests.lab.harness import Writer, agent_status, fetch, leader, metrics, stays, wait_until, wait_whole
from tests.lab.watching import SETTINGS, Kept, kept, logged, sample, wait_calm, wait_kept_whole, well_kept_lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

SERVICES = ("ec2", "autoscaling", "s3")
DOOR = {"ec2": "ec2", "autoscaling": "ec2", "s3": "s3"}
"""Behind which door of the agent a service lies: the fleet is EC2 and Auto Scaling together."""

BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "answers 500": ({"status": 500}, "failed"),
    "throttles": ({"status": 503}, "throttled"),
    "hangs": ({"hang": True}, "timeout"),
    "denies": ({"status": 403}, "denied"),
    "calls our credentials expired": ({"status": 400, "code": "ExpiredToken"}, "ours"),
}
EVERY_RUN = ("answers 500", "throttles", "hangs")
TROUBLES = [each if each in EVERY_RUN else pytest.param(each, marks=pytest.mark.long) for each in BROKEN]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, etcd_binary: str) -> Iterator[Lab]:
    """A healthy three, whose agents look at AWS as often as the settings allow."""
    spec = LabSpec(etcd=etcd_binary, settings=SETTINGS).with_pace(agent_restart_s=0.2)
    with well_kept_lab(spec, tmp_path_factory.mktemp("weather") / "lab") as lab:
        wait_whole(lab, 3)
        yield lab


@pytest.fixture
def healthy(three: Lab) -> Iterator[Lab]:
    """The same, whole and at rest before and after each story."""
    wait_kept_whole(three, 3)
    yield three
    three.clear_faults()
    for instance in three.instances():
        three.imds_fault(instance.id, None)


@contextmanager
def nothing_happens_to_etcd(lab: Lab, *, at_rest_afterwards: bool = True) -> Iterator[Kept]:
    """Around some weather: no membership change, no restart of etcd, no failed write; all is well afterwards."""
    before = kept(lab)
    with Writer(lab) as writer:
        yield before
        assert kept(lab) == before
    lab.clear_faults()
    if at_rest_afterwards:
        wait_calm(lab)
    assert kept(lab) == before
    assert not writer.failed
    assert writer.acknowledged
    writer.assert_nothing_lost()


def wait_met(lab: Lab, service: str, fault: dict[str, Any], ignorance: str, result: str) -> None:
    """Let it rain until an agent's metrics say that it got wet, and a few rounds longer."""
    calls = sample(lab, "aws_requests_total", service=service, result=result)
    blind = sample(lab, "unknown_reads_total", door=DOOR[service], ignorance=ignorance)
    with lab.weather(service=service, **fault):
        wait_until(
            lambda: (
                sample(lab, "aws_requests_total", service=service, result=result) > calls
                and sample(lab, "unknown_reads_total", door=DOOR[service], ignorance=ignorance) > blind
            ),
            40,
            f"an agent's metrics say that {service} is {ignorance}",
        )
        time.sleep(1.5)


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("service", SERVICES)
def test_nothing_happens_while_a_service(service: str, trouble: str, healthy: Lab) -> None:
    fault, ignorance = BROKEN[trouble]
    with nothing_happens_to_etcd(healthy):
        wait_met(healthy, service, fault, ignorance, result=ignorance)


# ---- answers that lie -----------------------------------------------------------------------------------------------


def wait_asked(lab: Lab, service: str, operation: str, times: int = 3) -> None:
    """Until the agents have asked that often and got an answer in this weather."""
    since = lab.last_call()

    def met() -> bool:
        calls = lab.calls(since)
        return (
            sum(
                (each["service"], each["operation"], each["fault"] != "") == (service, operation, True)
                for each in calls
            )
            >= times
        )

    wait_until(met, 60, f"{times} {operation} met the weather")


def test_an_empty_listing_of_instances_is_no_answer(healthy: Lab) -> None:
    with nothing_happens_to_etcd(healthy):
        wait_met(healthy, "ec2", {"empty": True}, "malformed", result="ok")


def test_a_listing_without_the_asker_is_no_answer(healthy: Lab) -> None:
    asker = leader(healthy)
    assert asker is not None
    with nothing_happens_to_etcd(healthy), healthy.weather(service="ec2", drop=[asker.id]):
        blind = sample(healthy, "unknown_reads_total", door="ec2", ignorance="malformed")
        wait_until(
            lambda: sample(healthy, "unknown_reads_total", door="ec2", ignorance="malformed") > blind + 1,
            20,
            "the agent is not listed",
        )


def test_listings_without_the_others_remove_nobody(healthy: Lab) -> None:
    asker = leader(healthy)
    assert asker is not None
    others = [each.id for each in healthy.instances() if each.id != asker.id]
    with nothing_happens_to_etcd(healthy), healthy.weather(drop=others):
        wait_asked(healthy, "ec2", "DescribeInstances", 6)
        wait_asked(healthy, "autoscaling", "DescribeAutoScalingGroups", 1)


@pytest.mark.long
def test_an_empty_listing_of_groups_is_no_answer(healthy: Lab) -> None:
    with nothing_happens_to_etcd(healthy):
        blind = sample(healthy, "unknown_reads_total", door="ec2", ignorance="malformed")
        with healthy.weather(service="autoscaling", empty=True):
            wait_asked(healthy, "autoscaling", "DescribeAutoScalingGroups", 1)
            wait_until(
                lambda: sample(healthy, "unknown_reads_total", door="ec2", ignorance="malformed") > blind,
                10,
                "a metric says that the groups are unknown",
            )


@pytest.mark.parametrize("operation", ["DescribeInstances", "DescribeAutoScalingGroups"])
def test_stale_answers_change_nothing(operation: str, healthy: Lab) -> None:
    with nothing_happens_to_etcd(healthy), healthy.weather(operation=operation, stale=True):
        wait_asked(healthy, "ec2" if operation == "DescribeInstances" else "autoscaling", operation, 1)


def test_an_old_listing_in_which_the_others_still_boot_removes_nobody(healthy: Lab) -> None:
    """EC2 shows the past: two members seem to be gone from Auto Scaling, and EC2 lags behind."""
    asker = leader(healthy)
    assert asker is not None
    others = [each.id for each in healthy.instances() if each.id != asker.id]
    absent, lagging = {"service": "autoscaling", "drop": others}, {"service": "ec2", "stale": True}
    with nothing_happens_to_etcd(healthy), healthy.weather(**absent), healthy.weather(**lagging):
        wait_asked(healthy, "ec2", "DescribeInstances", 3)


# ---- agents that start in bad weather -------------------------------------------------------------------------------


def restart_agents(lab: Lab) -> None:
    """Kill every agent, and wait until each is up again and has said so."""
    starts = {each.id: each.agent_starts for each in lab.instances()}
    for instance in lab.instances():
        lab.kill_agent(instance.id)
    wait_until(
        lambda: all(each.agent_starts > starts[each.id] and fetch(each, "/livez") for each in lab.instances()),
        30,
        "every agent started again",
    )


@pytest.mark.parametrize("fault", [{"status": 500}, {"hang": True}], ids=["500", "hang"])
@pytest.mark.parametrize("service", SERVICES)
def test_an_agent_that_starts_while_a_door_is_down_leaves_etcd_alone(
    service: str, fault: dict[str, Any], healthy: Lab
) -> None:
    with nothing_happens_to_etcd(healthy), healthy.weather(service=service, **fault):
        restart_agents(healthy)
        wait_until(
            lambda: all((agent_status(each) or {}).get("decision") for each in healthy.instances()),
            60,
            "every agent ended a round",
        )
        assert all((fetch(each, "/livez") or (0,))[0] == 200 for each in healthy.instances())


def test_an_empty_listing_of_the_bucket_stops_nothing_and_calls_a_human(healthy: Lab) -> None:
    with nothing_happens_to_etcd(healthy), healthy.weather(service="s3", empty=True):
        restart_agents(healthy)
        wait_until(lambda: sample(healthy, "needs_human") == 3, 60, "every agent calls a human")


@pytest.mark.parametrize(
    "fault", ["hang", *(pytest.param(each, marks=pytest.mark.long) for each in ("error", "refuse"))]
)
def test_an_agent_that_starts_without_imds_waits_and_leaves_etcd_alone(fault: str, healthy: Lab) -> None:
    result = {"error": "failed", "hang": "timeout", "refuse": "unreachable"}[fault]
    with nothing_happens_to_etcd(healthy):
        for instance in healthy.instances():
            healthy.imds_fault(instance.id, fault)
        stays(
            lambda: all((metrics(each) or {}).get("etcd_asg_agent_member") == 1 for each in healthy.instances()),
            2,
            "agents at work",
        )
        restart_agents(healthy)
        wait_until(
            lambda: sample(healthy, "aws_requests_total", service="imds", result=result) > 3,
            30,
            "IMDS was asked in vain",
        )
        for instance in healthy.instances():
            assert (fetch(instance, "/livez") or (0, ""))[0] == 200
            assert (fetch(instance, "/readyz") or (0, ""))[0] == 503
            waited = [
                line for line in logged(instance) if line["message"] == "waiting for the instance metadata service"
            ]
            assert waited
            healthy.imds_fault(instance.id, None)


# ---- the bucket is emptied ------------------------------------------------------------------------------------------


def delete_everything(lab: Lab) -> dict[str, bytes]:
    """Empty the bucket as an operator would by mistake; returns what was in it."""
    s3, bucket = lab.aws("s3"), lab.status()["bucket"]
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", ())]
    held = {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}
    for key in keys:
        s3.delete_object(Bucket=bucket, Key=key)
    return held


def put_back(lab: Lab, held: dict[str, bytes]) -> None:
    for key, body in held.items():
        lab.aws("s3").put_object(Bucket=lab.status()["bucket"], Key=key, Body=body)


@pytest.mark.long
@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_an_emptied_bucket_stops_nothing_and_calls_a_human(restarted: bool, healthy: Lab) -> None:
    with nothing_happens_to_etcd(healthy):
        held = delete_everything(healthy)
        try:
            if restarted:
                restart_agents(healthy)
            calling = 3 if restarted else 1  # while all is well, only the agent beside the leader looks at every record
            wait_until(lambda: sample(healthy, "needs_human") >= calling, 60, "agents call a human")
            generations = [key for key in delete_everything(healthy) if "/generations/" in key]
            assert not generations, "somebody founded a cluster beside the living one"
        finally:
            put_back(healthy, held)
