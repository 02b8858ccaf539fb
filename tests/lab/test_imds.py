"""Every instance's metadata service: strict about tokens, true to the cloud, and breakable."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.lab.client import Instance, Lab
from agent.lab.foundation import client
from agent.lab.spec import ROLE
from tests.lab.harness import TTL, ask_imds, read_imds, role_keys, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


@pytest.fixture
def instance(cloud: Lab) -> Instance:
    cloud.scale(1)
    wait_until(lambda: [one for one in cloud.instances() if one.lifecycle == "InService"], 10, "an instance")
    return cloud.instances()[0]


@pytest.mark.parametrize("headers", [{}, {"X-aws-ec2-metadata-token": "forged"}])
def test_nothing_is_said_without_a_token(instance: Instance, headers: dict[str, str]) -> None:
    assert ask_imds(instance, "GET", "/latest/meta-data/instance-id", headers)[0] == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (TTL, 200),
        ({}, 400),
        ({"X-aws-ec2-metadata-token-ttl-seconds": "0"}, 400),
        ({"X-aws-ec2-metadata-token-ttl-seconds": "21601"}, 400),
        (TTL | {"X-Forwarded-For": "10.0.0.1"}, 403),
    ],
)
def test_a_token_is_given_to_a_proper_request(instance: Instance, headers: dict[str, str], status: int) -> None:
    assert ask_imds(instance, "PUT", "/latest/api/token", headers)[0] == status


def test_a_token_ends_with_its_time(instance: Instance) -> None:
    _, token = ask_imds(instance, "PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "1"})
    path, header = "/latest/meta-data/instance-id", {"X-aws-ec2-metadata-token": token}
    assert ask_imds(instance, "GET", path, header) == (200, instance.id)
    wait_until(lambda: ask_imds(instance, "GET", path, header)[0] == 401, 3, "the end of the token")


def test_an_instance_knows_who_and_where_it_is(instance: Instance) -> None:
    assert read_imds(instance, "meta-data/instance-id") == (200, instance.id)
    assert read_imds(instance, "meta-data/local-ipv4") == (200, instance.address)
    assert read_imds(instance, "meta-data/placement/availability-zone/") == (200, instance.zone)
    assert read_imds(instance, "meta-data/placement/region") == (200, "eu-west-1")
    assert read_imds(instance, "meta-data/placement/") == (200, "availability-zone\nregion")
    assert read_imds(instance, "meta-data/tags/instance/etcd-cluster") == (200, "lab")
    assert read_imds(instance, "meta-data/tags/instance/aws:autoscaling:groupName") == (200, "lab")
    document: dict[str, Any] = json.loads(read_imds(instance, "dynamic/instance-identity/document")[1])
    assert (document["instanceId"], document["privateIp"]) == (instance.id, instance.address)
    for absent in ("meta-data/spot/instance-action", "meta-data/events/recommendations/rebalance", "user-data", "x"):
        assert read_imds(instance, absent)[0] == 404


def test_the_role_is_the_instances_own(cloud: Lab, instance: Instance) -> None:
    assert read_imds(instance, "meta-data/iam/security-credentials/") == (200, ROLE)
    identity = client("sts", cloud.endpoint, keys=role_keys(instance)).get_caller_identity()
    assert identity["Arn"].endswith(f"assumed-role/{ROLE}/{instance.id}")


def test_the_target_lifecycle_state_follows_the_group(cloud: Lab, instance: Instance) -> None:
    path = "meta-data/autoscaling/target-lifecycle-state"
    cloud.aws("autoscaling").put_lifecycle_hook(
        AutoScalingGroupName="lab",
        LifecycleHookName="hook",
        LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
    )
    assert read_imds(instance, path) == (200, "InService")
    cloud.scale(0)
    wait_until(lambda: read_imds(instance, path) == (200, "Terminated"), 5, "the order to leave")


def test_a_spot_notice_can_be_posted_and_taken_back(cloud: Lab, instance: Instance) -> None:
    cloud.spot_notice(instance.id)
    status, text = read_imds(instance, "meta-data/spot/instance-action")
    assert (status, json.loads(text)["action"]) == (200, "terminate")
    cloud.imds_restore(instance.id, "meta-data/spot/instance-action")
    assert read_imds(instance, "meta-data/spot/instance-action")[0] == 404
    cloud.imds(instance.id, "meta-data/instance-id", None)
    assert read_imds(instance, "meta-data/instance-id")[0] == 404


def test_who_is_taken_back_is_told_first_and_gone_then(cloud: Lab, instance: Instance) -> None:
    cloud.recommend_rebalance(instance.id)
    assert "noticeTime" in read_imds(instance, "meta-data/events/recommendations/rebalance")[1]
    cloud.interrupt(instance.id, seconds=1)
    assert json.loads(read_imds(instance, "meta-data/spot/instance-action")[1])["action"] == "terminate"
    assert cloud.instance(instance.id).lifecycle == "InService", "Auto Scaling knows nothing of it"
    wait_until(lambda: instance.id not in {each.id for each in cloud.instances()}, 5, "the instance to be gone")


def test_it_can_fail_refuse_and_hang(cloud: Lab, instance: Instance) -> None:
    cloud.imds_fault(instance.id, "error")
    assert ask_imds(instance, "PUT", "/latest/api/token", TTL)[0] == 500
    cloud.imds_fault(instance.id, "refuse")
    with pytest.raises(ConnectionRefusedError):
        ask_imds(instance, "PUT", "/latest/api/token", TTL)
    cloud.imds_fault(instance.id, "hang")
    with pytest.raises(TimeoutError):
        ask_imds(instance, "PUT", "/latest/api/token", TTL, timeout_s=0.5)
    cloud.imds_fault(instance.id, None)
    assert ask_imds(instance, "PUT", "/latest/api/token", TTL)[0] == 200
