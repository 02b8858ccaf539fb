"""What every lab stands on: network, bucket, launch template and groups, made through the AWS APIs like anybody's.

House rule: no client here may look for credentials or a region by itself; both are given, so that nothing leaves
loopback.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import boto3
from botocore.config import Config

from agent.lab.addresses import Block
from agent.lab.spec import REGION, ROLE, ZONES, LabSpec, shares
from agent.world.permissions import Scope, policy

OPERATOR_KEY = "LABOPERATOR"
IMAGE = "ami-0000000000000001a"
HOOKS = (("launching", "EC2_INSTANCE_LAUNCHING", "ABANDON"), ("terminating", "EC2_INSTANCE_TERMINATING", "CONTINUE"))


TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
OPERATOR = {"aws_access_key_id": OPERATOR_KEY, "aws_secret_access_key": "lab"}


def client(service: str, endpoint: str, keys: Mapping[str, str] | None = None) -> Any:
    """A boto3 client of the emulated AWS: the operator's, unless other `keys` are given. It never retries."""
    return _session().client(  # type: ignore[call-overload]
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        config=Config(proxies={}, connect_timeout=2, read_timeout=30, retries={"total_max_attempts": 1}),
        **(keys or OPERATOR),
    )


@cache
def _session() -> boto3.session.Session:
    """One for all: it reads botocore's large tables once."""
    return boto3.session.Session()


def lay(endpoint: str, block: Block, spec: LabSpec) -> None:
    """Build everything up to and including the groups at their wanted size."""
    ec2 = client("ec2", endpoint)
    subnets = _network(ec2, block)
    if spec.enforces_iam:
        client("iam", endpoint).create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(TRUST))
        grant(endpoint, spec)
    client("s3", endpoint).create_bucket(Bucket=spec.bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    template = ec2.create_launch_template(
        LaunchTemplateName=spec.cluster,
        LaunchTemplateData={"ImageId": IMAGE, "InstanceType": "t3.micro"},
    )["LaunchTemplate"]["LaunchTemplateId"]
    autoscaling = client("autoscaling", endpoint)
    for name, zones, size in zip(spec.group_names, _zones(spec), shares(spec.instances, spec.asgs), strict=True):
        autoscaling.create_auto_scaling_group(
            AutoScalingGroupName=name,
            MinSize=0,
            MaxSize=spec.max_size,
            DesiredCapacity=size,
            VPCZoneIdentifier=",".join(subnets[zone] for zone in zones),
            LaunchTemplate={"LaunchTemplateId": template, "Version": "$Latest"},
            LifecycleHookSpecificationList=_hooks(spec),
            Tags=[_tag(name, "etcd-cluster", spec.cluster), _tag(name, "Name", f"{spec.cluster}-etcd")],
        )


def grant(endpoint: str, spec: LabSpec) -> None:
    """Give the instances' role the policy that `iam-policy` prints for the settings they will have."""
    storage = {"bucket": spec.bucket, "prefix": spec.prefix, **spec.settings.get("storage", {})}
    cluster = spec.settings.get("cluster", {}).get("name", spec.cluster)
    tls, autoscaling = spec.settings.get("tls", {}), spec.settings.get("autoscaling", {})
    scope = Scope(
        storage["bucket"],
        f"{storage['prefix']}/{cluster}/".lstrip("/"),
        tags=(("etcd-cluster", spec.cluster),),
        kms_key_id=storage.get("kms_key_id", ""),
        protects=autoscaling.get("protect_voters", False),
        replaces=autoscaling.get("replace_unhealthy", False),
        zone_id=spec.settings.get("dns", {}).get("zone_id", ""),
        parameters=f"/etcd-asg-agent/{cluster}" if tls.get("mode") == "ca" else "",
        parameters_key_id=tls.get("kms_key_id", ""),
        target_groups=tuple(spec.settings.get("load_balancer", {}).get("target_groups", ())),
    )
    document = json.dumps(policy(scope))
    client("iam", endpoint).put_role_policy(RoleName=ROLE, PolicyName=ROLE, PolicyDocument=document)


def _network(ec2: Any, block: Block) -> dict[str, str]:
    vpc = ec2.create_vpc(CidrBlock=block.cidr)["Vpc"]["VpcId"]
    return {
        zone: ec2.create_subnet(VpcId=vpc, CidrBlock=block.subnet(zone), AvailabilityZone=f"{REGION}{zone}")["Subnet"][
            "SubnetId"
        ]
        for zone in ZONES
    }


def _zones(spec: LabSpec) -> tuple[tuple[str, ...], ...]:
    """The zones of each group: one group spans all, several take one each."""
    return (ZONES,) if spec.asgs == 1 else tuple((zone,) for zone in ZONES[: spec.asgs])


def _hooks(spec: LabSpec) -> list[dict[str, Any]]:
    timeouts = (spec.launch_hook_s, spec.terminate_hook_s)
    return [
        {
            "LifecycleHookName": name,
            "LifecycleTransition": f"autoscaling:{transition}",
            "HeartbeatTimeout": timeout,
            "DefaultResult": result,
        }
        for (name, transition, result), timeout in zip(HOOKS, timeouts, strict=True)
        if timeout
    ]


def _tag(group: str, key: str, value: str) -> dict[str, Any]:
    return {
        "Key": key,
        "Value": value,
        "PropagateAtLaunch": True,
        "ResourceId": group,
        "ResourceType": "auto-scaling-group",
    }
