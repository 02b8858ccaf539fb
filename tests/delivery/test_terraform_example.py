"""The Terraform example, executed: init, validate, test, and against the emulated AWS plan, apply, again, destroy.

The agents of the instances that it launches, with the bucket, tags, role and user data that it made, form the cluster.

Skipped where `terraform` is not installed. The provider is taken from TERRAFORM_MIRROR (a filesystem mirror), or from
wherever Terraform finds it by itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import STDOUT
from typing import Any

import pytest
from botocore.exceptions import ClientError

from agent.lab import foundation
from agent.lab.client import Lab
from agent.lab.spec import REGION, LabSpec
from agent.lab.user_data import settings_in
from tests import etcd_versions
from tests.lab.harness import running_lab, wait_until, wait_whole
from tests.lab.losing import PACE, QUICK
from tests.lab.test_permissions import denials

pytestmark = [pytest.mark.delivery, pytest.mark.timeout(900)]

EXAMPLE = Path(__file__).parents[2] / "terraform-example"
MIRROR = Path(os.environ.get("TERRAFORM_MIRROR", "/opt/tf-plugins"))
NAME = "prod"

MOTO_SAYS_OTHERWISE = {
    ("aws_autoscaling_group", "instance_maintenance_policy"): "it keeps none",
    ("aws_autoscaling_group", "capacity_reservation_specification"): "it answers one that nobody gave",
    ("aws_autoscaling_lifecycle_hook", "notification_target_arn"): "it makes one up",
    ("aws_autoscaling_lifecycle_hook", "role_arn"): "it makes one up",
    ("aws_vpc_security_group_ingress_rule", "referenced_security_group_id"): "it answers the account in front",
    ("aws_vpc_security_group_egress_rule", "referenced_security_group_id"): "it answers the account in front",
    ("aws_vpc_security_group_ingress_rule", "description"): "it forgets that of a rule about a group",
    ("aws_vpc_security_group_egress_rule", "description"): "it forgets that of a rule about a group",
}
"""Where a second plan is not empty, and would be on AWS: a kind of resource, and what differs."""


@dataclass(frozen=True)
class Terraform:
    """The command, in a copy of the example, with nothing of ours in its environment but what is given."""

    folder: Path
    environment: Mapping[str, str]

    def __call__(self, *arguments: str) -> str:
        command, environment = ["terraform", *arguments], dict(self.environment)
        log = self.folder.parent / f"{arguments[0]}.log"
        with log.open("w") as output:
            done = subprocess.run(command, cwd=self.folder, env=environment, stdout=output, stderr=STDOUT, check=False)
        assert done.returncode == 0, f"terraform {arguments[0]}: {log.read_text()}"
        return log.read_text()

    def outputs(self) -> dict[str, Any]:
        return {name: each["value"] for name, each in json.loads(self("output", "-json")).items()}

    def changes(self) -> list[dict[str, Any]]:
        """What another apply would do."""
        self("plan", "-input=false", "-no-color", "-out=again")
        plan = json.loads(self("show", "-json", "again"))
        return [each for each in plan["resource_changes"] if each["change"]["actions"] != ["no-op"]]


@pytest.fixture(scope="module")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed: its files are only read, not executed")
    folder = tmp_path_factory.mktemp("terraform") / "example"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder.parent),
        "CHECKPOINT_DISABLE": "1",
        "TF_IN_AUTOMATION": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": foundation.OPERATOR_KEY,
        "AWS_SECRET_ACCESS_KEY": "lab",
    }
    if MIRROR.is_dir():
        mirror = f'provider_installation {{\n  filesystem_mirror {{\n    path = "{MIRROR}"\n  }}\n}}\n'
        (folder.parent / "terraform.rc").write_text(mirror)
        environment["TF_CLI_CONFIG_FILE"] = str(folder.parent / "terraform.rc")
    found = Terraform(folder, environment)
    found("init", "-input=false", "-no-color")
    return found


def test_it_is_formatted_and_valid_and_keeps_its_promises_with_everything_made_up(terraform: Terraform) -> None:
    terraform("fmt", "-check", "-recursive")
    terraform("validate", "-no-color")
    said = terraform("test", "-no-color")
    assert "0 failed" in said


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """An AWS with a network in it, and IAM in force."""
    etcd = str(etcd_versions.default().etcd)
    spec = LabSpec(instances=0, cluster="other", etcd=etcd, settings=QUICK, pace=PACE, enforces_iam=True)
    with running_lab(spec, tmp_path_factory.mktemp("terraform-lab") / "lab") as lab:
        yield lab


@pytest.fixture(scope="module")
def applied(terraform: Terraform, lab: Lab) -> Iterator[Terraform]:
    """`apply` returns when every instance is in service, and the launching hook lets in nobody who does not serve."""
    subnets = lab.aws("ec2").describe_subnets()["Subnets"]
    ours = [each for each in subnets if each["CidrBlock"].startswith("127.")]
    variables = {
        "region": REGION,
        "name": NAME,
        "vpc_id": ours[0]["VpcId"],
        "subnets": {each["AvailabilityZone"]: each["SubnetId"] for each in ours},
        "image_id": foundation.IMAGE,
        "client_cidr_blocks": ["10.0.0.0/8"],
        "force_destroy": True,
        "aws_endpoint": lab.endpoint,
    }
    (terraform.folder / "terraform.tfvars.json").write_text(json.dumps(variables))
    terraform("plan", "-input=false", "-no-color")
    terraform("apply", "-input=false", "-no-color", "-auto-approve")
    yield terraform
    terraform("destroy", "-input=false", "-no-color", "-auto-approve")
    assert not [each for each in lab.instances() if each.living]
    assert [each["Name"] for each in lab.aws("s3").list_buckets()["Buckets"]] == [LabSpec.bucket]


def test_its_instances_are_a_cluster_with_what_it_gave_them(applied: Terraform, lab: Lab) -> None:
    wait_whole(lab, 3)
    assert {each.zone for each in lab.instances()} == {f"{REGION}{zone}" for zone in "abc"}
    assert {each.group for each in lab.instances()} == {NAME}
    bucket = applied.outputs()["bucket"]
    found = lab.aws("s3").list_objects_v2(Bucket=bucket, Prefix=f"etcd/{NAME}/generations/")["Contents"]
    assert f"etcd/{NAME}/generations/000001/formed.json" in {each["Key"] for each in found}
    assert denials(lab) == [], "the role that it made is enough"


def test_it_replaces_an_instance(applied: Terraform, lab: Lab) -> None:
    wait_whole(lab, 3)
    first = lab.instances()[0]
    lab.terminate(first.id)
    wait_until(lambda: first.id not in {each.id for each in lab.instances()}, 60, "it to be gone")
    wait_whole(lab, 3)


def test_the_role_has_exactly_the_policy_that_iam_policy_prints_on_an_instance(
    applied: Terraform, lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from agent.cli import main

    versions = lab.aws("ec2").describe_launch_template_versions(
        LaunchTemplateId=lab.aws("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[NAME])[
            "AutoScalingGroups"
        ][0]["LaunchTemplate"]["LaunchTemplateId"]
    )["LaunchTemplateVersions"]
    told = settings_in(versions[0]["LaunchTemplateData"]["UserData"])
    assert told["cluster"] == {"name": NAME}
    config = tmp_path / "config.toml"
    config.write_text(applied.outputs()["config_toml"])
    assert main(["iam-policy", "--config", str(config)]) == 0
    printed = json.loads(capsys.readouterr().out)

    role = applied.outputs()["role"]
    found = lab.aws("iam").get_role_policy(RoleName=role, PolicyName="etcd-asg-agent")["PolicyDocument"]
    assert (json.loads(found) if isinstance(found, str) else found) == printed


def test_nobody_overwrites_or_deletes_what_decides(applied: Terraform, lab: Lab) -> None:
    s3, bucket = lab.aws("s3"), applied.outputs()["bucket"]
    record = f"etcd/{NAME}/generations/000001.json"
    denied = "explicit deny in a resource-based policy"
    for key in (record, f"etcd/{NAME}/generations/000009.json"):
        with pytest.raises(ClientError, match=denied):
            s3.put_object(Bucket=bucket, Key=key, Body=b"{}")
    with pytest.raises(ClientError, match=denied):
        s3.delete_object(Bucket=bucket, Key=record)
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket=bucket, Key=record, Body=b"{}", IfNoneMatch="*")


def test_a_second_apply_changes_nothing(applied: Terraform) -> None:
    changes = applied.changes()
    assert [each["address"] for each in changes if each["change"]["actions"] != ["update"]] == [], "nothing anew"
    found = {(each["type"], name) for each in changes for name in differing(each["change"])}
    assert found <= set(MOTO_SAYS_OTHERWISE)


def differing(change: Mapping[str, Any]) -> list[str]:
    """The attributes that an update would change."""
    before, after = change["before"], change["after"]
    return [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
