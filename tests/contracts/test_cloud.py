"""The cloud door against moto's EC2 and Auto Scaling: whole answers or none, and proof only where AWS gave it.

moto never lists scaling activities, and has no warm pools to speak of: those answers are written here by hand.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from agent.model.faults import Refused, Unavailable
from agent.model.fleet import Fleet, Group, InstanceState, Transition
from agent.model.hold import TAG
from agent.model.ids import InstanceId
from agent.model.known import Ignorance
from agent.world.aws import Aws
from agent.world.doors import Cloud
from agent.world.ec2 import Ec2Cloud
from tests.contracts.aws_stand_in import DROP, HANG, REGION, Gateway, asg_error, ec2_error, moto_behind_a_gateway

NOBODY = frozenset[InstanceId]()
STRANGER = InstanceId("i-0123456789abcdef0")
names = (f"cloud{number}" for number in itertools.count(1))
calls: list[tuple[str, str, str, float]] = []


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with moto_behind_a_gateway() as gateway:
        image = ec2().describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        ec2().create_launch_template(
            LaunchTemplateName="etcd", LaunchTemplateData={"ImageId": image, "InstanceType": "t3.micro"}
        )
        yield gateway


@pytest.fixture(scope="module")
def aws(gateway: Gateway) -> Aws:
    return Aws(REGION, timedelta(seconds=1), timedelta(seconds=2), on_call=lambda *call: calls.append(call))


def ec2() -> Any:
    return boto3.client("ec2", region_name=REGION)


def asg() -> Any:
    return boto3.client("autoscaling", region_name=REGION)


@dataclass
class Ground:
    """One cluster's tag and groups in moto, and the door that is to find them."""

    aws: Aws
    tag: str
    gateway: Gateway

    def group(self, name: str, size: int, tags: bool = True) -> list[InstanceId]:
        subnet = ec2().describe_subnets()["Subnets"][0]["SubnetId"]
        tag = [{"Key": "etcd-cluster", "Value": self.tag, "PropagateAtLaunch": True}] if tags else []
        asg().create_auto_scaling_group(
            AutoScalingGroupName=f"{self.tag}-{name}",
            LaunchTemplate={"LaunchTemplateName": "etcd"},
            MinSize=0,
            MaxSize=9,
            DesiredCapacity=size,
            VPCZoneIdentifier=subnet,
            Tags=tag,
        )
        return self.instances_of(name)

    def instances_of(self, name: str) -> list[InstanceId]:
        found = asg().describe_auto_scaling_groups(AutoScalingGroupNames=[f"{self.tag}-{name}"])
        return sorted(InstanceId(each["InstanceId"]) for each in found["AutoScalingGroups"][0]["Instances"])

    def door(self, me: InstanceId, tags: bool = True) -> Cloud:
        self.gateway.clear()
        calls.clear()
        return Ec2Cloud(self.aws, me, (("etcd-cluster", self.tag),) if tags else ())


@pytest.fixture
def ground(aws: Aws, gateway: Gateway) -> Iterator[Ground]:
    gateway.clear()
    yield Ground(aws, next(names), gateway)
    gateway.clear()


def ids(fleet: Fleet) -> list[InstanceId]:
    return [each.id for each in fleet.instances]


def operations() -> list[str]:
    made = [call[1] for call in calls]
    calls.clear()
    return made


# ---- who is in the fleet -------------------------------------------------------------------------------------------


def test_instances_and_groups_are_found_by_tag(ground: Ground) -> None:
    found = ground.group("a", 3)
    fleet = ground.door(found[0]).fleet(NOBODY, True)
    assert ids(fleet) == found
    assert fleet.groups == (Group(f"{ground.tag}-a", 3),)
    one = fleet.instances[0]
    assert one.state is InstanceState.RUNNING
    assert (one.group, one.lifecycle) == (f"{ground.tag}-a", "InService")
    assert one.private_ip is not None
    assert one.private_ip.startswith("172.")
    assert one.zone.startswith(REGION)
    assert one.launched_at.tzinfo is UTC
    assert datetime.now(UTC) - one.launched_at < timedelta(minutes=5)


def test_a_tag_of_the_group_or_of_an_instance_holds(ground: Ground) -> None:
    one, other = ground.group("a", 2)
    name = f"{ground.tag}-a"
    tag = {"ResourceId": name, "ResourceType": "auto-scaling-group", "PropagateAtLaunch": False}
    asg().create_or_update_tags(Tags=[{**tag, "Key": TAG, "Value": "we move the volumes"}])
    ec2().create_tags(Resources=[other], Tags=[{"Key": TAG, "Value": "its disk is odd"}])
    fleet = ground.door(one).fleet(NOBODY, True)
    assert [each.hold and each.hold.why for each in fleet.groups] == ["we move the volumes"]
    assert {each.id: each.hold and each.hold.why for each in fleet.instances} == {one: None, other: "its disk is odd"}
    asg().delete_tags(Tags=[{**tag, "Key": TAG}])
    ec2().create_tags(Resources=[other], Tags=[{"Key": TAG, "Value": "off"}])
    after = ground.door(one).fleet(NOBODY, True)
    assert [each.hold for each in after.groups] == [None]
    assert [each.hold for each in after.instances] == [None, None]


def test_several_groups_are_one_fleet(ground: Ground) -> None:
    found = sorted(ground.group("a", 1) + ground.group("b", 1) + ground.group("c", 1))
    fleet = ground.door(found[0]).fleet(NOBODY, True)
    assert ids(fleet) == found
    assert fleet.desired_capacity == 3
    assert len(fleet.groups) == 3


def test_without_tags_the_fleet_is_this_instances_own_group(ground: Ground) -> None:
    mine, others = ground.group("a", 2, tags=False), ground.group("b", 2, tags=False)
    fleet = ground.door(mine[0], tags=False).fleet(NOBODY, True)
    assert ids(fleet) == mine
    assert not set(others) & set(ids(fleet))
    assert fleet.groups == (Group(f"{ground.tag}-a", 2),)


def test_without_tags_and_without_a_group_there_is_no_fleet(ground: Ground) -> None:
    image = ec2().describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    alone = ec2().run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    with pytest.raises(Refused, match=r"set discovery\.tags"):
        ground.door(InstanceId(alone), tags=False).fleet(NOBODY, True)


def test_a_group_without_the_tag_is_found_by_its_instances(ground: Ground) -> None:
    """The tag may be on the instances only: by a launch template, or by hand."""
    found = ground.group("a", 2, tags=False)
    ec2().create_tags(Resources=found, Tags=[{"Key": "etcd-cluster", "Value": ground.tag}])
    fleet = ground.door(found[0]).fleet(NOBODY, True)
    assert ids(fleet) == found
    assert fleet.groups == (Group(f"{ground.tag}-a", 2),)
    assert fleet.instances[0].lifecycle == "InService"


def test_an_instance_that_only_its_group_knows_is_described_by_id(ground: Ground) -> None:
    found = ground.group("a", 3)
    ec2().delete_tags(Resources=[found[2]], Tags=[{"Key": "etcd-cluster"}])
    fleet = ground.door(found[0]).fleet(NOBODY, True)
    assert ids(fleet) == found
    assert fleet.find(found[2]) == fleet.instances[2]


def test_a_terminated_instance_is_still_listed_as_such(ground: Ground) -> None:
    found = ground.group("a", 3)
    ec2().terminate_instances(InstanceIds=[found[1]])
    gone = ground.door(found[0]).fleet(NOBODY, True).find(found[1])
    assert gone is not None
    assert gone.state is InstanceState.TERMINATED
    assert not gone.live


def test_an_empty_group_with_the_tag_counts(ground: Ground) -> None:
    found = ground.group("a", 1)
    asg().update_auto_scaling_group(AutoScalingGroupName=f"{ground.tag}-a", DesiredCapacity=1)
    ground.group("b", 0)
    fleet = ground.door(found[0]).fleet(NOBODY, True)
    assert {group.name: group.desired_capacity for group in fleet.groups} == {
        f"{ground.tag}-a": 1,
        f"{ground.tag}-b": 0,
    }


def test_every_page_is_read(ground: Ground) -> None:
    found = ground.group("a", 3)
    door = ground.door(found[0])
    first, second = _described(found[:1], token="next", state="running"), _described(found[1:], state="stopped")
    ground.gateway.spoil("Action=DescribeInstances", 200, first)
    ground.gateway.spoil("NextToken=next", 200, second)
    fleet = door.fleet(NOBODY, False)
    assert ids(fleet) == found
    assert "NextToken=next" in ground.gateway.heard[1]


def test_a_second_page_that_fails_is_no_shorter_fleet(ground: Ground) -> None:
    found = ground.group("a", 3)
    door = ground.door(found[0])
    ground.gateway.spoil("Action=DescribeInstances", 200, _described(found[:1], token="next", state="running"))
    ground.gateway.spoil("NextToken=next", 500, ec2_error("InternalError"))
    with pytest.raises(Unavailable):
        door.fleet(NOBODY, False)


# ---- what it costs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tags", [True, False])
def test_a_steady_look_is_one_call(ground: Ground, tags: bool) -> None:
    found = ground.group("a", 3, tags=tags)
    door = ground.door(found[0], tags=tags)
    door.fleet(frozenset(found), False)
    operations()
    door.fleet(frozenset(found), False)
    assert operations() == ["DescribeInstances"]
    door.fleet(frozenset(found), True)
    assert operations() == ["DescribeInstances", "DescribeAutoScalingGroups"]


def test_groups_are_read_again_when_an_instance_comes_or_goes(ground: Ground) -> None:
    found = ground.group("a", 2)
    door = ground.door(found[0])
    assert door.fleet(NOBODY, False).desired_capacity == 2
    operations()
    asg().set_desired_capacity(AutoScalingGroupName=f"{ground.tag}-a", DesiredCapacity=3)
    fleet = door.fleet(NOBODY, False)
    assert operations() == ["DescribeInstances", "DescribeAutoScalingGroups"]
    assert fleet.desired_capacity == 3
    assert {each.lifecycle for each in fleet.instances} == {"InService"}


def test_a_failed_read_of_the_groups_is_made_again(ground: Ground) -> None:
    found = ground.group("a", 2)
    door = ground.door(found[0])
    ground.gateway.spoil("Action=DescribeAutoScalingGroups", 400, asg_error("Throttling"))
    with pytest.raises(Unavailable):
        door.fleet(NOBODY, False)
    assert door.fleet(NOBODY, False).desired_capacity == 2


# ---- proof ---------------------------------------------------------------------------------------------------------


def test_an_id_that_ec2_does_not_know_is_unheard_of(ground: Ground) -> None:
    found = ground.group("a", 2)
    fleet = ground.door(found[0]).fleet(frozenset({*found, STRANGER}), False)
    assert fleet.unheard_of == {STRANGER}
    assert fleet.ended_by_group == frozenset()
    assert ids(fleet) == found


def test_a_member_that_the_listing_left_out_is_asked_for_and_found(ground: Ground) -> None:
    found = ground.group("a", 2)
    other = ground.group("b", 1, tags=False)[0]
    fleet = ground.door(found[0]).fleet(frozenset({other}), False)
    assert fleet.find(other) is not None
    assert fleet.unheard_of == frozenset()


@pytest.mark.parametrize("name", ["etcd1", "", "i-", "i-xyz", "ip-10-0-0-1", "i-0123456789abcdef0,i-1"])
def test_of_a_name_that_is_no_instance_id_nothing_is_said(ground: Ground, name: str) -> None:
    """A member that somebody added by hand is not gone because EC2 knows no instance of its name."""
    found = ground.group("a", 2)
    door = ground.door(found[0])
    assert door.fleet(frozenset({InstanceId(name)}), False).unheard_of == frozenset()
    assert operations() == ["DescribeInstances", "DescribeAutoScalingGroups"]


def test_an_id_that_only_its_group_knows_is_not_unheard_of(ground: Ground) -> None:
    """Just launched: Auto Scaling lists it already, EC2 does not yet."""
    found = ground.group("a", 2)
    door = ground.door(found[0])
    ground.gateway.spoil("Action=DescribeInstances", 200, _described(found[:1], state="running"))
    ground.gateway.spoil("Action=DescribeInstances", 200, _described([], state="running"))
    fleet = door.fleet(frozenset(found), False)
    assert ids(fleet) == found[:1]
    assert fleet.unheard_of == frozenset()


ACTIVITIES = {
    "successful": (f"Terminating EC2 instance: {STRANGER}", "Successful", True),
    "with more words": (f"Terminating EC2 instance: {STRANGER} - Waiting for ELB", "Successful", True),
    "in progress": (f"Terminating EC2 instance: {STRANGER}", "InProgress", False),
    "failed": (f"Terminating EC2 instance: {STRANGER}", "Failed", False),
    "cancelled": (f"Terminating EC2 instance: {STRANGER}", "Cancelled", False),
    "waiting": (f"Terminating EC2 instance: {STRANGER}", "MidTerminatingLifecycleAction", False),
    "a launch": (f"Launching a new EC2 instance: {STRANGER}", "Successful", False),
    "another": ("Terminating EC2 instance: i-0fedcba9876543210", "Successful", False),
    "a longer ID": (f"Terminating EC2 instance: {STRANGER}0", "Successful", False),
}


@pytest.mark.parametrize("name", ACTIVITIES)
def test_only_a_successful_terminate_activity_proves_an_end(ground: Ground, name: str) -> None:
    description, status, proves = ACTIVITIES[name]
    found = ground.group("a", 2)
    door = ground.door(found[0])
    ground.gateway.spoil("Action=DescribeScalingActivities", 200, _activities(description, status))
    fleet = door.fleet(frozenset({STRANGER}), False)
    assert fleet.unheard_of == {STRANGER}
    assert fleet.ended_by_group == ({STRANGER} if proves else frozenset())


def test_activities_that_cannot_be_read_prove_nothing_and_hide_nobody(ground: Ground) -> None:
    found = ground.group("a", 2)
    door = ground.door(found[0])
    ground.gateway.spoil("Action=DescribeScalingActivities", 500)
    fleet = door.fleet(frozenset({STRANGER}), False)
    assert fleet.unheard_of == {STRANGER}
    assert fleet.ended_by_group == frozenset()


def test_instances_of_a_warm_pool_are_known_as_such(ground: Ground) -> None:
    found = ground.group("a", 2)
    asg().put_warm_pool(AutoScalingGroupName=f"{ground.tag}-a", MinSize=0, PoolState="Stopped")
    image = ec2().describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    tags = [
        {"Key": "etcd-cluster", "Value": ground.tag},
    ]
    warm = ec2().run_instances(
        ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=[{"ResourceType": "instance", "Tags": tags}]
    )["Instances"][0]["InstanceId"]
    door = ground.door(found[0])
    ground.gateway.spoil("Action=DescribeWarmPool", 200, _warm_pool(warm))
    fleet = door.fleet(NOBODY, True)
    instance = fleet.find(warm)
    assert instance is not None
    assert instance.warmed
    assert warm not in [each.id for each in fleet.up]


# ---- answers that are none -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [False, True])
def test_a_listing_without_this_instance_is_no_answer(ground: Ground, others: bool) -> None:
    found = ground.group("a", 2)
    door = ground.door(found[0])
    ground.gateway.spoil("Action=DescribeInstances", 200, _described(found[1:] if others else [], state="running"))
    with pytest.raises(Unavailable, match="does not contain this instance") as raised:
        door.fleet(NOBODY, False)
    assert raised.value.unknown.why is Ignorance.MALFORMED


def test_a_listing_without_this_instances_group_is_no_answer(ground: Ground) -> None:
    """Read as "no groups" it would say that nobody is wanted, and a learner would never be promoted."""
    found = ground.group("a", 2)
    door = ground.door(found[0])
    ground.gateway.spoil("Action=DescribeAutoScalingGroups", 200, _no_groups())
    ground.gateway.spoil("Action=DescribeAutoScalingGroups", 200, _no_groups())
    with pytest.raises(Unavailable, match="does not contain our own group") as raised:
        door.fleet(NOBODY, True)
    assert raised.value.unknown.why is Ignorance.MALFORMED


def _no_groups() -> bytes:
    result = "<DescribeAutoScalingGroupsResult><AutoScalingGroups/></DescribeAutoScalingGroupsResult>"
    return f"<DescribeAutoScalingGroupsResponse>{result}</DescribeAutoScalingGroupsResponse>".encode()


@pytest.mark.parametrize(
    "body", [b"", b"<html>hello</html>", b"hello", b"<DescribeInstancesResponse></DescribeInstancesResponse>"]
)
def test_garbage_is_no_empty_fleet(ground: Ground, body: bytes) -> None:
    found = ground.group("a", 2)
    door = ground.door(found[0])
    ground.gateway.spoil("Action=DescribeInstances", 200, body)
    with pytest.raises(Unavailable) as raised:
        door.fleet(NOBODY, False)
    assert raised.value.unknown.why is Ignorance.MALFORMED


def test_a_state_that_nobody_knows_is_no_answer(ground: Ground) -> None:
    found = ground.group("a", 1)
    door = ground.door(found[0])
    ground.gateway.spoil("Action=DescribeInstances", 200, _described(found, state="frozen"))
    with pytest.raises(Unavailable, match="frozen"):
        door.fleet(NOBODY, False)


WEATHER: dict[str, tuple[dict[str, Any], Ignorance]] = {
    "500": ({"status": 500, "code": "InternalError"}, Ignorance.FAILED),
    "503": ({"status": 503, "code": "Unavailable"}, Ignorance.FAILED),
    "500 in HTML": ({"status": 500, "body": b"<!doctype html><p>oops"}, Ignorance.MALFORMED),
    "throttled": ({"status": 503, "code": "RequestLimitExceeded"}, Ignorance.THROTTLED),
    "hang": ({"status": HANG}, Ignorance.TIMEOUT),
    "drop": ({"status": DROP}, Ignorance.UNREACHABLE),
    "bad credentials": ({"status": 401, "code": "AuthFailure"}, Ignorance.OURS),
    "expired": ({"status": 400, "code": "RequestExpired"}, Ignorance.OURS),
}


@pytest.mark.parametrize("weather", WEATHER)
@pytest.mark.parametrize("operation", ["DescribeInstances", "DescribeAutoScalingGroups"])
def test_bad_weather_is_unavailable_with_its_reason(ground: Ground, operation: str, weather: str) -> None:
    how, why = WEATHER[weather]
    found = ground.group("a", 1)
    door = ground.door(found[0])
    if "code" in how:
        said = asg_error if operation.endswith("Groups") else ec2_error
        how = {"status": how["status"], "body": said(how["code"])}
    ground.gateway.spoil(f"Action={operation}", times=3, **how)
    with pytest.raises(Unavailable) as raised:
        door.fleet(NOBODY, True)
    assert raised.value.unknown.why is why
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("match", "body", "action"),
    [
        ("Action=DescribeInstances", ec2_error("UnauthorizedOperation"), "ec2:DescribeInstances"),
        ("Action=DescribeAutoScalingGroups", asg_error("AccessDenied"), "autoscaling:DescribeAutoScalingGroups"),
        ("Action=DescribeScalingActivities", asg_error("AccessDenied"), "autoscaling:DescribeScalingActivities"),
    ],
)
def test_a_missing_permission_is_one_line_with_the_statement(
    ground: Ground, match: str, body: bytes, action: str
) -> None:
    found = ground.group("a", 1)
    door = ground.door(found[0])
    ground.gateway.spoil(match, 403, body)
    with pytest.raises(Refused) as raised:
        door.fleet(frozenset({STRANGER}), True)
    sid = "SeeInstances" if action.startswith("ec2") else "SeeGroups"
    statement = f'add {{"Sid":"{sid}","Effect":"Allow","Action":"{action}","Resource":"*"}} to the instance role'
    assert statement in str(raised.value)
    assert "was denied" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_credentials_the_fault_is_ours(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ground.group("a", 1)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    bare = Ec2Cloud(Aws(REGION), found[0], (("etcd-cluster", ground.tag),))
    with pytest.raises(Unavailable) as raised:
        bare.fleet(NOBODY, False)
    assert raised.value.unknown.why is Ignorance.OURS


def test_nobody_listening_is_unreachable(monkeypatch: pytest.MonkeyPatch, ground: Ground) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Unavailable) as raised:
        Ec2Cloud(Aws(REGION), STRANGER, (("k", "v"),)).fleet(NOBODY, False)
    assert raised.value.unknown.why is Ignorance.UNREACHABLE


# ---- answers in AWS's own words ------------------------------------------------------------------------------------


def _described(instances: list[InstanceId], state: str, token: str = "") -> bytes:
    facts = (
        f"<instanceState><name>{state}</name></instanceState><launchTime>2026-11-22T07:00:00.000Z</launchTime>"
        "<privateIpAddress>10.0.0.1</privateIpAddress>"
        "<placement><availabilityZone>eu-west-1a</availabilityZone></placement>"
    )
    found = [f"<item><instanceId>{each}</instanceId>{facts}</item>" for each in instances]
    items = "".join(f"<item><instancesSet>{each}</instancesSet></item>" for each in found)
    more = f"<nextToken>{token}</nextToken>" if token else ""
    inner = f"<reservationSet>{items}</reservationSet>{more}"
    return f"<DescribeInstancesResponse>{inner}</DescribeInstancesResponse>".encode()


def _activities(description: str, status: str) -> bytes:
    member = (
        f"<member><ActivityId>a</ActivityId><AutoScalingGroupName>g</AutoScalingGroupName><Cause>c</Cause>"
        f"<Description>{description}</Description><StartTime>2026-11-22T07:00:00Z</StartTime>"
        f"<StatusCode>{status}</StatusCode></member>"
    )
    inner = f"<DescribeScalingActivitiesResult><Activities>{member}</Activities></DescribeScalingActivitiesResult>"
    return f"<DescribeScalingActivitiesResponse>{inner}</DescribeScalingActivitiesResponse>".encode()


def _warm_pool(instance: str) -> bytes:
    member = f"<member><InstanceId>{instance}</InstanceId><LifecycleState>Warmed:Running</LifecycleState></member>"
    inner = f"<DescribeWarmPoolResult><Instances>{member}</Instances></DescribeWarmPoolResult>"
    return f"<DescribeWarmPoolResponse>{inner}</DescribeWarmPoolResponse>".encode()


# ---- lifecycle hooks -----------------------------------------------------------------------------------------------

LET_GO, BEAT = "Action=CompleteLifecycleAction", "Action=RecordLifecycleActionHeartbeat"


def with_hooks(ground: Ground) -> Cloud:
    """The door of the one instance of a group with a hook on each transition. moto does not complete any."""
    (me,) = ground.group("a", 1)
    for transition in Transition:
        asg().put_lifecycle_hook(
            AutoScalingGroupName=f"{ground.tag}-a",
            LifecycleHookName=transition.name.lower(),
            LifecycleTransition=transition,
        )
    return ground.door(me)


def answered(operation: str) -> bytes:
    return f"<{operation}Response><{operation}Result/></{operation}Response>".encode()


@pytest.mark.parametrize("transition", Transition)
def test_the_hook_of_one_transition_is_completed(ground: Ground, transition: Transition) -> None:
    door = with_hooks(ground)
    ground.gateway.spoil(f"{LET_GO}.*LifecycleHookName={transition.name.lower()}&.*CONTINUE", 200, answered(LET_GO[7:]))
    door.complete_hook(transition)
    assert operations() == ["DescribeInstances", "DescribeLifecycleHooks", "CompleteLifecycleAction"]


def test_the_terminating_hook_is_kept(ground: Ground) -> None:
    door = with_hooks(ground)
    ground.gateway.spoil(f"{BEAT}.*LifecycleHookName=terminating", 200, answered(BEAT[7:]))
    door.heartbeat_hook(Transition.TERMINATING)
    assert operations() == ["DescribeInstances", "DescribeLifecycleHooks", "RecordLifecycleActionHeartbeat"]


def test_a_hook_that_is_over_is_no_error(ground: Ground) -> None:
    """Completed by us when the answer was lost, by somebody else, or by its own time."""
    door = with_hooks(ground)
    over = asg_error("ValidationError").replace(
        b"said the test", b"No active Lifecycle Action found with instance ID i-0"
    )
    for action in (LET_GO, BEAT):
        ground.gateway.spoil(action, 400, over)
    door.complete_hook(Transition.TERMINATING)
    door.heartbeat_hook(Transition.TERMINATING)


def test_a_group_without_hooks_and_an_instance_without_a_group_have_nothing_to_complete(ground: Ground) -> None:
    (me,) = ground.group("a", 1)
    image = ec2().describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    alone = ec2().run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    for door in (ground.door(me), ground.door(InstanceId(alone))):
        door.complete_hook(Transition.TERMINATING)
        door.heartbeat_hook(Transition.TERMINATING)
        assert not {"CompleteLifecycleAction", "RecordLifecycleActionHeartbeat"} & set(operations())


@pytest.mark.parametrize("action", ["Action=DescribeLifecycleHooks", LET_GO])
def test_a_hook_that_may_not_be_completed_names_the_statement(ground: Ground, action: str) -> None:
    door = with_hooks(ground)
    ground.gateway.spoil(action, 403, asg_error("AccessDenied"))
    with pytest.raises(Refused, match=f'"Action":"autoscaling:{action[7:]}"'):
        door.complete_hook(Transition.TERMINATING)


def test_an_answer_without_hooks_in_it_and_an_instance_that_is_not_listed_are_no_answer(ground: Ground) -> None:
    door = with_hooks(ground)
    ground.gateway.spoil("Action=DescribeLifecycleHooks", 200, answered("DescribeLifecycleHooks"))
    with pytest.raises(Unavailable, match="is this AWS"):
        door.complete_hook(Transition.TERMINATING)
    with pytest.raises(Unavailable, match="does not know this instance"):
        ground.door(InstanceId("i-0123456789abcdef0")).complete_hook(Transition.TERMINATING)


# ---- an instance that asks to be replaced ----------------------------------------------------------------------------


def health_of(ground: Ground, name: str) -> dict[str, str]:
    found = asg().describe_auto_scaling_groups(AutoScalingGroupNames=[f"{ground.tag}-{name}"])
    return {each["InstanceId"]: each["HealthStatus"] for each in found["AutoScalingGroups"][0]["Instances"]}


def test_an_instance_calls_itself_unhealthy_and_nobody_else(ground: Ground) -> None:
    me, other = ground.group("a", 2)
    ground.door(me).call_unhealthy()
    assert operations() == ["SetInstanceHealth"]
    assert health_of(ground, "a") == {me: "Unhealthy", other: "Healthy"}


def test_whoever_may_not_is_told_which_statement_is_missing(ground: Ground) -> None:
    (me,) = ground.group("a", 1)
    door = ground.door(me)
    ground.gateway.spoil("Action=SetInstanceHealth", 403, asg_error("AccessDenied"))
    with pytest.raises(Refused, match='"Action":"autoscaling:SetInstanceHealth"'):
        door.call_unhealthy()


# ---- protection from scale-in ----------------------------------------------------------------------------------------


def test_an_instance_protects_itself_and_the_next_look_tells_so(ground: Ground) -> None:
    me, other = ground.group("a", 2)
    door = ground.door(me)
    assert {each.id: each.protected for each in door.fleet(NOBODY, True).instances} == {me: False, other: False}
    operations()
    for protected in (True, False):
        door.protect(protected)
        assert operations() == ["DescribeInstances", "SetInstanceProtection"]
        found = door.fleet(NOBODY, False)
        assert {each.id: each.protected for each in found.instances} == {me: protected, other: False}
        operations()


def test_whoever_may_not_protect_is_told_which_statement_is_missing(ground: Ground) -> None:
    (me,) = ground.group("a", 1)
    door = ground.door(me)
    ground.gateway.spoil("Action=SetInstanceProtection", 403, asg_error("AccessDenied"))
    with pytest.raises(Refused, match='"Action":"autoscaling:SetInstanceProtection"'):
        door.protect(True)


def test_without_a_group_there_is_nothing_to_be_protected_from(ground: Ground) -> None:
    image = ec2().describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    alone = ec2().run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    with pytest.raises(Refused, match="no Auto Scaling group"):
        ground.door(InstanceId(alone)).protect(True)


def test_a_page_instead_of_auto_scalings_answer_is_no_answer(ground: Ground) -> None:
    (me,) = ground.group("a", 1)
    door = ground.door(me)
    ground.gateway.spoil("Action=DescribeAutoScalingGroups", 200, b"<html>welcome</html>")
    with pytest.raises(Unavailable) as raised:
        door.fleet(NOBODY, True)
    assert raised.value.unknown.why is Ignorance.MALFORMED
