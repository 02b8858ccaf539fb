"""The emulated AWS behaves as AWS does, where moto does not: states, hooks, replacement, spread, activities."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from botocore.exceptions import ClientError

from agent.lab.client import Instance, Lab
from agent.lab.processes import alive, marked
from tests.lab.harness import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
GROUP = "lab"


def in_service(lab: Lab) -> list[Instance]:
    return [instance for instance in lab.instances() if instance.lifecycle == "InService" and instance.agent_starts]


def launch(lab: Lab, count: int) -> list[Instance]:
    lab.scale(count)
    wait_until(lambda: len(in_service(lab)) == count, 15, f"{count} instances in service")
    return in_service(lab)


def put_hook(lab: Lab, transition: str, timeout_s: int = 60, default: str = "ABANDON") -> None:
    lab.aws("autoscaling").put_lifecycle_hook(
        AutoScalingGroupName=GROUP,
        LifecycleHookName="hook",
        LifecycleTransition=f"autoscaling:EC2_INSTANCE_{transition}",
        HeartbeatTimeout=timeout_s,
        DefaultResult=default,
    )


def complete(lab: Lab, instance: Instance, result: str) -> None:
    lab.aws("autoscaling").complete_lifecycle_action(
        AutoScalingGroupName=GROUP,
        LifecycleHookName="hook",
        InstanceId=instance.id,
        LifecycleActionResult=result,
    )


def lifecycles(lab: Lab) -> Counter[str]:
    return Counter(instance.lifecycle for instance in lab.instances() if instance.lifecycle)


def activities(lab: Lab) -> list[tuple[str, str]]:
    found = lab.aws("autoscaling").describe_scaling_activities(AutoScalingGroupName=GROUP)["Activities"]
    return [(activity["Description"], activity["StatusCode"]) for activity in found]


# ---- states ----------------------------------------------------------------------------------------------------------


def test_an_instance_is_pending_before_it_runs(cloud: Lab) -> None:
    cloud.change(pace={"pending_s": 1.0})
    cloud.scale(1)
    (instance,) = wait_until(cloud.instances, 5, "an instance")
    assert (instance.state, instance.lifecycle) == ("pending", "Pending")
    wait_until(lambda: cloud.instance(instance.id).state == "running", 5, "running")
    wait_until(lambda: cloud.instance(instance.id).lifecycle == "InService", 5, "in service")


def test_a_terminated_instance_has_no_power_while_it_shuts_down_and_is_forgotten_later(cloud: Lab) -> None:
    (instance,) = launch(cloud, 1)
    cloud.change(pace={"shutting_down_s": 1.0, "terminated_visible_s": 0.5})
    cloud.terminate(instance.id)
    seen = cloud.instance(instance.id)
    assert (seen.state, seen.powered, marked([instance.id])) == ("shutting-down", False, ())
    wait_until(lambda: cloud.instance(instance.id).state == "terminated", 5, "terminated")
    wait_until(lambda: instance.id not in {one.id for one in cloud.instances(all=True)}, 5, "forgotten")
    with pytest.raises(ClientError, match=r"InvalidInstanceID\.NotFound"):
        cloud.aws("ec2").describe_instances(InstanceIds=[instance.id])


def test_a_stopped_instance_keeps_its_disk_and_its_address_and_is_not_replaced(cloud: Lab) -> None:
    (instance,) = launch(cloud, 1)
    cloud.stop(instance.id)
    assert cloud.instance(instance.id).state == "stopped"
    assert marked([instance.id]) == ()
    time.sleep(1)
    assert [one.id for one in cloud.instances()] == [instance.id]
    cloud.start_again(instance.id)
    wait_until(lambda: len(boots(instance)) == 2, 5, "the second boot")
    assert cloud.instance(instance.id).address == instance.address


def boots(instance: Instance) -> list[str]:
    return (instance.disk / "boots").read_text().split()


# ---- the group -------------------------------------------------------------------------------------------------------


def test_instances_are_spread_over_the_zones(cloud: Lab) -> None:
    zones = Counter(instance.zone for instance in launch(cloud, 5))
    assert sorted(zones.values()) == [1, 2, 2]
    addresses = {instance.address for instance in cloud.instances()}
    assert len(addresses) == 5


def test_a_terminated_instance_is_replaced_in_its_zone_and_the_activity_says_so(cloud: Lab) -> None:
    first, *_ = launch(cloud, 3)
    cloud.terminate(first.id)
    wait_until(lambda: len(in_service(cloud)) == 3, 10, "a replacement")
    (newcomer,) = {one.id for one in cloud.instances()} - {one.id for one in [first, *_]}
    assert cloud.instance(newcomer).zone == first.zone
    assert cloud.instance(newcomer).address != first.address
    assert (f"Terminating EC2 instance: {first.id}", "Successful") in activities(cloud)
    assert (f"Launching a new EC2 instance: {newcomer}", "Successful") in activities(cloud)


def test_an_unhealthy_instance_is_replaced(cloud: Lab) -> None:
    (instance,) = launch(cloud, 1)
    cloud.aws("autoscaling").set_instance_health(InstanceId=instance.id, HealthStatus="Unhealthy")
    wait_until(lambda: cloud.instance(instance.id).state == "terminated", 5, "terminated")
    wait_until(lambda: len(in_service(cloud)) == 1, 10, "a replacement")


def test_scaling_in_takes_from_the_fullest_zone(cloud: Lab) -> None:
    launch(cloud, 4)
    cloud.scale(3)
    wait_until(lambda: len(cloud.instances()) == 3, 10, "three left")
    assert {instance.zone for instance in cloud.instances()} == {"eu-west-1a", "eu-west-1b", "eu-west-1c"}


def test_capacity_outside_the_bounds_is_refused(cloud: Lab) -> None:
    with pytest.raises(ClientError, match="above max value"):
        cloud.aws("autoscaling").set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=99)


def test_groups_and_instances_are_found_by_tag(cloud: Lab) -> None:
    (instance,) = launch(cloud, 1)
    wanted = [{"Name": "tag:etcd-cluster", "Values": ["lab"]}]
    groups = cloud.aws("autoscaling").describe_auto_scaling_groups(Filters=wanted)["AutoScalingGroups"]
    assert [group["AutoScalingGroupName"] for group in groups] == [GROUP]
    reservations = cloud.aws("ec2").describe_instances(Filters=[*wanted, *ALIVE])["Reservations"]
    found = [one for reservation in reservations for one in reservation["Instances"]]
    assert [(one["InstanceId"], one["PrivateIpAddress"]) for one in found] == [(instance.id, instance.address)]
    other = [{"Name": "tag:etcd-cluster", "Values": ["another"]}]
    assert cloud.aws("autoscaling").describe_auto_scaling_groups(Filters=other)["AutoScalingGroups"] == []


ALIVE = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]


# ---- hooks -----------------------------------------------------------------------------------------------------------


def test_a_launching_hook_holds_an_instance_until_it_is_completed(cloud: Lab) -> None:
    put_hook(cloud, "LAUNCHING")
    cloud.scale(1)
    wait_until(lambda: lifecycles(cloud) == {"Pending:Wait": 1}, 5, "waiting")
    (instance,) = cloud.instances()
    complete(cloud, instance, "CONTINUE")
    wait_until(lambda: lifecycles(cloud) == {"InService": 1}, 5, "in service")
    with pytest.raises(ClientError, match="No active Lifecycle Action"):
        complete(cloud, instance, "CONTINUE")


def test_an_abandoned_launch_is_replaced(cloud: Lab) -> None:
    put_hook(cloud, "LAUNCHING")
    cloud.scale(1)
    wait_until(lambda: lifecycles(cloud) == {"Pending:Wait": 1}, 5, "waiting")
    (instance,) = cloud.instances()
    complete(cloud, instance, "ABANDON")
    wait_until(lambda: cloud.instance(instance.id).state == "terminated", 5, "terminated")
    wait_until(lambda: lifecycles(cloud) == {"Pending:Wait": 1}, 5, "another one waiting")


def test_a_terminating_hook_keeps_the_power_on_until_it_is_completed(cloud: Lab) -> None:
    put_hook(cloud, "TERMINATING")
    (instance,) = launch(cloud, 1)
    cloud.scale(0)
    wait_until(lambda: lifecycles(cloud) == {"Terminating:Wait": 1}, 5, "waiting")
    assert alive(instance.agent_pid or 0)
    complete(cloud, instance, "CONTINUE")
    wait_until(lambda: cloud.instance(instance.id).state == "terminated", 5, "terminated")
    assert not alive(instance.agent_pid or 0)


def test_a_heartbeat_gives_more_time_and_silence_the_default_result(cloud: Lab) -> None:
    put_hook(cloud, "TERMINATING", timeout_s=2, default="CONTINUE")
    (instance,) = launch(cloud, 1)
    cloud.scale(0)
    wait_until(lambda: lifecycles(cloud) == {"Terminating:Wait": 1}, 5, "waiting")
    for _ in range(3):
        time.sleep(1)
        cloud.aws("autoscaling").record_lifecycle_action_heartbeat(
            AutoScalingGroupName=GROUP, LifecycleHookName="hook", InstanceId=instance.id
        )
    assert cloud.instance(instance.id).lifecycle == "Terminating:Wait"
    wait_until(lambda: cloud.instance(instance.id).state == "terminated", 5, "the default result")


# ---- S3 --------------------------------------------------------------------------------------------------------------


def test_a_conditional_write_happens_once(cloud: Lab) -> None:
    s3 = cloud.aws("s3")
    s3.put_object(Bucket="etcd-lab", Key="once", Body=b"1", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket="etcd-lab", Key="once", Body=b"2", IfNoneMatch="*")
    assert s3.get_object(Bucket="etcd-lab", Key="once")["Body"].read() == b"1"


def test_a_store_can_ignore_preconditions(cloud: Lab) -> None:
    cloud.change(honours_preconditions=False)
    s3 = cloud.aws("s3")
    for body in (b"1", b"2"):
        s3.put_object(Bucket="etcd-lab", Key="twice", Body=body, IfNoneMatch="*")
    assert s3.get_object(Bucket="etcd-lab", Key="twice")["Body"].read() == b"2"
