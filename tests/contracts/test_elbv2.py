"""The door to Elastic Load Balancing against moto's: this instance goes in and out, and nobody else is touched."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import boto3
import pytest

from agent.model.faults import Refused, Unavailable
from agent.model.ids import InstanceId
from agent.model.targets import TargetGroup
from agent.world.aws import Aws
from agent.world.doors import TargetGroups
from agent.world.elbv2 import Elbv2
from tests.contracts.aws_stand_in import REGION, Gateway, moto_behind_a_gateway

numbers = itertools.count(1)
calls: list[str] = []
DENIED = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with moto_behind_a_gateway() as gateway:
        yield gateway


@pytest.fixture(scope="module")
def instances(gateway: Gateway) -> tuple[InstanceId, InstanceId]:
    assert gateway.port
    found = client("ec2").run_instances(ImageId="ami-12345678", MinCount=2, MaxCount=2)["Instances"]
    me, other = (InstanceId(each["InstanceId"]) for each in found)
    return me, other


@pytest.fixture
def group(gateway: Gateway) -> str:
    gateway.clear()
    return a_group()


@pytest.fixture
def door(group: str, instances: tuple[InstanceId, InstanceId]) -> TargetGroups:
    return opened(instances[0], group)


def opened(me: InstanceId, *groups: str) -> TargetGroups:
    calls.clear()
    aws = Aws(REGION, timedelta(seconds=1), timedelta(seconds=5), on_call=lambda *call: calls.append(call[1]))
    return Elbv2(aws, me, groups)


def client(service: str) -> Any:
    return boto3.client(service, region_name=REGION)  # type: ignore[call-overload]


def a_group() -> str:
    vpc = client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    made = client("elbv2").create_target_group(Name=f"etcd-{next(numbers)}", Protocol="TCP", Port=2379, VpcId=vpc)
    return str(made["TargetGroups"][0]["TargetGroupArn"])


def registered(group: str) -> set[str]:
    found = client("elbv2").describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    return {each["Target"]["Id"] for each in found}


def health(*targets: tuple[str, str, str]) -> bytes:
    members = "".join(
        f"<member><Target><Id>{target}</Id><Port>2379</Port></Target>"
        f"<TargetHealth><State>{state}</State><Reason>{reason}</Reason></TargetHealth></member>"
        for target, state, reason in targets
    )
    result = f"<TargetHealthDescriptions>{members}</TargetHealthDescriptions>"
    body = f"<DescribeTargetHealthResult>{result}</DescribeTargetHealthResult>"
    return f"<DescribeTargetHealthResponse>{body}</DescribeTargetHealthResponse>".encode()


def test_this_instance_goes_in_and_out_and_nobody_else(
    door: TargetGroups, group: str, instances: tuple[InstanceId, InstanceId]
) -> None:
    me, other = instances
    client("elbv2").register_targets(TargetGroupArn=group, Targets=[{"Id": other}])
    assert door.groups() == (TargetGroup(group, frozenset({other}), frozenset({other})),)
    door.register(group)
    door.register(group)
    assert registered(group) == {me, other}
    door.deregister(group)
    assert registered(group) == {other}
    assert calls == ["DescribeTargetHealth", "RegisterTargets", "RegisterTargets", "DeregisterTargets"]


def test_a_target_has_the_groups_own_port(door: TargetGroups, group: str, gateway: Gateway) -> None:
    door.register(group)
    (asked,) = (each for each in gateway.heard if "RegisterTargets" in each)
    assert "Port" not in asked


def test_only_who_is_sent_clients_is_healthy_and_who_is_on_its_way_out_is_no_target(
    door: TargetGroups, gateway: Gateway
) -> None:
    told = [
        ("i-healthy", "healthy", ""),
        ("i-new", "initial", "Elb.RegistrationInProgress"),
        ("i-sick", "unhealthy", "Target.FailedHealthChecks"),
        ("i-idle", "unused", "Target.NotInUse"),
        ("i-leaving", "draining", "Target.DeregistrationInProgress"),
        ("i-left", "unused", "Target.NotRegistered"),
    ]
    gateway.spoil("Action=DescribeTargetHealth", 200, health(*told))
    (found,) = door.groups()
    assert found.registered == {"i-healthy", "i-new", "i-sick", "i-idle"}
    assert found.healthy == {"i-healthy"}


def test_of_several_groups_all_are_read_or_none(gateway: Gateway, instances: tuple[InstanceId, InstanceId]) -> None:
    gateway.clear()
    both = a_group(), a_group()
    door = opened(instances[0], *both)
    assert [each.arn for each in door.groups()] == list(both)
    gateway.spoil("Action=DescribeTargetHealth", 503, skip=1)
    with pytest.raises(Unavailable):
        door.groups()


def test_a_group_that_is_not_there_says_which_setting_to_correct(
    door: TargetGroups, group: str, instances: tuple[InstanceId, InstanceId]
) -> None:
    client("elbv2").delete_target_group(TargetGroupArn=group)
    for ask in (door.groups, lambda: door.register(group), lambda: door.deregister(group)):
        with pytest.raises(Refused, match=r"TargetGroupNotFound.*check load_balancer\.target_groups") as refusal:
            ask()
        assert "\n" not in str(refusal.value)


def test_whoever_may_not_is_told_the_statement_with_the_group(door: TargetGroups, group: str, gateway: Gateway) -> None:
    gateway.spoil("Action=RegisterTargets", 403, DENIED)
    with pytest.raises(Refused) as refusal:
        door.register(group)
    statement = '"Sid":"RegisterTargets","Effect":"Allow","Action":"elasticloadbalancing:RegisterTargets"'
    assert statement in str(refusal.value)
    assert f'"Resource":"{group}"' in str(refusal.value)
    assert "load_balancer.target_groups" not in str(refusal.value), "the group is not to blame"
    gateway.spoil("Action=DescribeTargetHealth", 403, DENIED)
    with pytest.raises(Refused, match=r'"Sid":"SeeTargets".*:DescribeTargetHealth","Resource":"\*"'):
        door.groups()


def test_an_answer_that_is_none_is_not_an_empty_group(door: TargetGroups, gateway: Gateway) -> None:
    gateway.spoil("Action=DescribeTargetHealth", 200, b"<html>welcome</html>")
    with pytest.raises(Unavailable):
        door.groups()


@pytest.mark.parametrize("operation", ["RegisterTargets", "DeregisterTargets"])
def test_a_write_without_an_answer_is_not_repeated(
    door: TargetGroups, group: str, gateway: Gateway, operation: str
) -> None:
    door.register(group)
    gateway.spoil(f"Action={operation}", "drop", after=True)
    gateway.heard.clear()
    with pytest.raises(Unavailable):
        door.register(group) if operation == "RegisterTargets" else door.deregister(group)
    assert len([each for each in gateway.heard if f"Action={operation}" in each]) == 1
