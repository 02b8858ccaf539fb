"""How clients find the cluster while it changes: names in Route 53, target groups, and protection while nobody can be
spared."""

from __future__ import annotations

import pytest

from agent.lab.client import Lab
from tests.lab.conftest import MakeLab
from tests.lab.evidence import actions, log_size
from tests.lab.harness import leader, member_list, ready, voters, wait_until, wait_whole
from tests.lab.losing import PACE, QUICK

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(240)]

NAME = "etcd.example.internal"


def names_in(lab: Lab, zone: str) -> dict[tuple[str, str], set[str]]:
    found = lab.aws("route53").list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    return {(each["Name"], each["Type"]): {value["Value"] for value in each["ResourceRecords"]} for each in found}


def addresses_in(lab: Lab, zone: str) -> set[str]:
    return names_in(lab, zone).get((f"{NAME}.", "A"), set())


def protected(lab: Lab) -> set[str]:
    (group,) = lab.aws("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    return {each["InstanceId"] for each in group["Instances"] if each["ProtectedFromScaleIn"]}


def test_names_and_protection_follow_the_voters(make_lab: MakeLab) -> None:
    lab = make_lab(instances=0, settings=QUICK, pace=PACE)
    made = lab.aws("route53").create_hosted_zone(Name="example.internal", CallerReference="once")
    zone = made["HostedZone"]["Id"].rpartition("/")[2]
    wanted = {"dns": {"zone_id": zone, "name": NAME}, "autoscaling": {"protect_voters": True}}
    lab.change(settings={**QUICK, **wanted})
    lab.scale(3)
    wait_whole(lab, 3)
    wait_until(lambda: addresses_in(lab, zone) == set(lab.addresses()), 30, "all three addresses")
    assert protected(lab) == set()
    lab.aws("autoscaling").suspend_processes(AutoScalingGroupName="lab", ScalingProcesses=["Launch"])
    gone = leader(lab)
    assert gone is not None
    lab.aws("ec2").terminate_instances(InstanceIds=[gone.id])
    left = {each.id for each in lab.instances() if each.id != gone.id}
    wait_until(lambda: protected(lab) == left, 40, "the two that are left to be protected")
    wait_until(lambda: gone.address not in addresses_in(lab, zone), 30, "its address to go")
    lab.aws("autoscaling").resume_processes(AutoScalingGroupName="lab")
    wait_whole(lab, 3)
    wait_until(lambda: protected(lab) == set(), 40, "nobody to be protected")
    wait_until(lambda: addresses_in(lab, zone) == set(lab.addresses()), 30, "the new one's address, too")
    assert (f"_etcd-client._tcp.{NAME}.", "SRV") in names_in(lab, zone)


def a_target_group(lab: Lab) -> str:
    vpc = lab.aws("ec2").describe_vpcs()["Vpcs"][-1]["VpcId"]
    made = lab.aws("elbv2").create_target_group(Name="etcd", Protocol="TCP", Port=2379, VpcId=vpc)
    return str(made["TargetGroups"][0]["TargetGroupArn"])


def registered(lab: Lab, group: str) -> set[str]:
    found = lab.aws("elbv2").describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    return {each["Target"]["Id"] for each in found}


def test_targets_follow_the_voters_with_exactly_the_printed_policy(make_lab: MakeLab) -> None:
    """The emulated balancer calls everybody healthy: what it would do with a sick target is shown by the simulation."""
    lab = make_lab(instances=0, settings=QUICK, pace=PACE, terminate_hook_s=60, enforces_iam=True)
    group = a_target_group(lab)
    wanted = {"load_balancer": {"target_groups": [group]}, "timing": {**QUICK["timing"], "drain": "3s"}}
    lab.change(settings={**QUICK, **wanted})
    lab.scale(4)
    wait_until(lambda: len(voters(lab) or ()) == 3 and registered(lab, group) == voters(lab), 60, "three targets")
    wait_until(lambda: len(member_list(lab) or ()) == 4, 30, "a spare, which is no target")
    first, spare = voters(lab) or set(), {each.id for each in lab.instances()} - (voters(lab) or set())
    leaving = next(each for each in lab.instances() if each.id in first)
    since, autoscaling = log_size(leaving), lab.aws("autoscaling")
    autoscaling.terminate_instance_in_auto_scaling_group(InstanceId=leaving.id, ShouldDecrementDesiredCapacity=False)
    wait_until(lambda: leaving.id not in registered(lab, group), 20, "it to be no target any more", every_s=0.05)
    assert leaving.id in (voters(lab) or set()), "its member serves on"
    wait_until(lambda: leaving.id not in {each.id for each in lab.instances()}, 60, "it to be let go")
    wait_until(
        lambda: registered(lab, group) == voters(lab) and spare <= registered(lab, group), 60, "the spare instead"
    )
    steps = [each["action"] for each in actions(leaving, since) if each["action"] != "HeartbeatHook"]
    assert steps[0] == "DeregisterTarget"
    refused = [call for call in lab.calls() if call["status"] == 403]
    assert refused == []
    made = {
        call["operation"]
        for call in lab.calls()
        if call["service"] == "elasticloadbalancing" and call["caller"] != "operator"
    }
    assert made == {"DescribeTargetHealth", "RegisterTargets", "DeregisterTargets"}


def test_who_leaves_is_not_ready_while_its_member_still_serves(make_lab: MakeLab) -> None:
    settings = {**QUICK, "timing": {**QUICK["timing"], "drain": "5s"}}
    lab = make_lab(settings=settings, pace=PACE, terminate_hook_s=60)
    wait_whole(lab, 3)
    leaving = lab.instances()[0]
    wait_until(lambda: ready(leaving), 20, "it to be ready")
    autoscaling = lab.aws("autoscaling")
    autoscaling.terminate_instance_in_auto_scaling_group(InstanceId=leaving.id, ShouldDecrementDesiredCapacity=False)
    wait_until(lambda: not ready(leaving), 5, "it to be not ready any more", every_s=0.05)
    assert leaving.id in {each.id for each in lab.instances() if each.etcd_pids}, "its etcd serves on"
    wait_until(lambda: leaving.id not in {each.id for each in lab.instances()}, 60, "it to be let go")
    wait_whole(lab, 3)
