"""`etcd-asg-agent iam-policy`: what it prints for which settings, and that every call is in it and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from agent.cli import main
from agent.world.aws import BULK, METHODS
from agent.world.aws_errors import Asked, trouble
from agent.world.permissions import NEEDS, Scope, need_of, need_of_action, policy

SCOPE = Scope("acme", "etcd/prod/", tags=(("etcd-cluster", "prod"),))
GIVEN = '[cluster]\nname = "prod"\n[storage]\nbucket = "acme"\nprefix = "etcd"\n'


def statements(scope: Scope) -> dict[str, Any]:
    return {each["Sid"]: each for each in policy(scope)["Statement"]}


Printed = Callable[..., dict[str, Any]]


@pytest.fixture
def printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Printed:
    """`printed("--set", …)`: the statements by name."""
    config = tmp_path / "config.toml"
    config.write_text(GIVEN)

    def run(*more: str) -> dict[str, Any]:
        assert main(["iam-policy", "--config", str(config), *more]) == 0
        return {each["Sid"]: each for each in json.loads(capsys.readouterr().out)["Statement"]}

    return run


# ---- the table and the calls ----------------------------------------------------------------------------------------


def test_every_call_that_the_agent_can_make_is_in_the_table_and_no_other() -> None:
    made = {*METHODS, *BULK}
    allowed = {call.partition(":")[2] for need in NEEDS for call in need.calls if not call.startswith("kms:")}
    assert allowed == made


def test_every_statement_has_a_name_of_its_own() -> None:
    names = [each.sid for each in NEEDS]
    assert len(set(names)) == len(names)
    assert all(each.isalnum() for each in names), "as IAM wants them"


@pytest.mark.parametrize(
    ("key", "sid"),
    [
        ("generations/000001.json", "WriteOnce"),
        ("generations/000001/claims/i-0abc.json", "WriteOnce"),
        ("probe.json", "WriteOnce"),
        ("assembly/000001/i-0abc.json", "WriteReports"),
        ("snapshots/000001/x.json", "WriteSnapshots"),
        ("drills/x.json", "FileDrills"),
        ("hold.json", "WriteHold"),
    ],
)
def test_what_is_written_where_is_allowed_by_one_statement(key: str, sid: str) -> None:
    need = need_of("s3:PutObject", key)
    assert need is not None
    assert need.sid == sid


def test_nothing_else_of_the_bucket_is_written_or_deleted() -> None:
    assert need_of("s3:PutObject", "elsewhere.json") is None
    assert need_of("s3:PutObject", "probe.json.old") is None
    for key in ("generations/000001.json", "assembly/000001/i-0abc.json", "drills/x.json"):
        assert need_of("s3:DeleteObject", key) is None


# ---- what is printed ------------------------------------------------------------------------------------------------


def test_everything_of_s3_is_in_this_bucket_and_below_this_cluster() -> None:
    for each in statements(SCOPE).values():
        if each["Action"][0].startswith("s3:"):
            assert all(
                r == "arn:aws:s3:::acme" or r.startswith("arn:aws:s3:::acme/etcd/prod/") for r in each["Resource"]
            )
            assert "*" not in each["Action"][0]


def test_what_decides_may_only_be_written_once() -> None:
    assert statements(SCOPE)["WriteOnce"] == {
        "Sid": "WriteOnce",
        "Effect": "Allow",
        "Action": ["s3:PutObject"],
        "Resource": ["arn:aws:s3:::acme/etcd/prod/generations/*", "arn:aws:s3:::acme/etcd/prod/probe.json"],
        "Condition": {"Null": {"s3:if-none-match": "false"}},
    }


def test_hooks_are_answered_for_groups_with_the_tags_or_for_those_that_are_named() -> None:
    tagged = statements(SCOPE)["AnswerHooks"]
    assert tagged["Resource"] == ["arn:aws:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/*"]
    assert tagged["Condition"] == {"StringEquals": {"aws:ResourceTag/etcd-cluster": "prod"}}
    named = statements(replace(SCOPE, tags=(), groups=("etcd-a", "etcd-b")))["AnswerHooks"]
    assert [each.rpartition("/")[2] for each in named["Resource"]] == ["etcd-a", "etcd-b"]
    assert "Condition" not in named


@pytest.mark.parametrize(
    ("key", "resource", "alias"),
    [
        ("arn:aws:kms:eu-west-1:1:key/abc", "arn:aws:kms:eu-west-1:1:key/abc", None),
        ("abc", "arn:aws:kms:*:*:key/abc", None),
        ("alias/etcd", "arn:aws:kms:*:*:key/*", "alias/etcd"),
        ("arn:aws:kms:eu-west-1:1:alias/etcd", "arn:aws:kms:*:*:key/*", "alias/etcd"),
    ],
)
def test_a_key_is_used_through_s3_only(key: str, resource: str, alias: str | None) -> None:
    use = statements(replace(SCOPE, kms_key_id=key))["UseKey"]
    assert use["Resource"] == [resource]
    assert use["Condition"]["StringLike"] == {"kms:ViaService": "s3.*.amazonaws.com"}
    assert use["Condition"].get("ForAnyValue:StringEquals") == (alias and {"kms:ResourceAliases": alias})


def test_what_is_off_is_not_asked_for(printed: Printed) -> None:
    assert "UseKey" not in printed()
    assert "UseKey" in printed("--set", "storage.kms_key_id=abc")
    assert "FileDrills" in printed()
    assert "FileDrills" not in printed("--set", "snapshots.drill_interval=0s")
    optional = {"ProtectVoters", "AskToBeReplaced", "PublishNames", "SeeTargets", "RegisterTargets"}
    assert not optional & set(printed())
    assert "ProtectVoters" in printed("--set", "autoscaling.protect_voters=true")
    assert "AskToBeReplaced" in printed("--set", "autoscaling.replace_unhealthy=true")
    names = printed("--set", "dns.zone_id=Z1", "--set", "dns.name=etcd.internal")["PublishNames"]
    assert names["Resource"] == ["arn:aws:route53:::hostedzone/Z1"]
    group = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/etcd/0123456789abcdef"
    targets = printed("--set", f"load_balancer.target_groups={group}")
    assert targets["RegisterTargets"]["Action"] == [
        "elasticloadbalancing:DeregisterTargets",
        "elasticloadbalancing:RegisterTargets",
    ]
    assert targets["RegisterTargets"]["Resource"] == [group]
    assert targets["SeeTargets"]["Resource"] == ["*"], "AWS knows no narrower resource"


def test_an_authority_may_be_read_and_the_first_made_once_and_nothing_else(printed: Printed) -> None:
    assert not {"ReadAuthority", "CreateAuthority", "UseAuthorityKey"} & set(printed())
    found = printed("--set", "tls.mode=ca", "--set", "tls.kms_key_id=abc")
    assert found["ReadAuthority"]["Action"] == ["ssm:GetParametersByPath"]
    path = "arn:aws:ssm:*:*:parameter/etcd-asg-agent/prod"
    assert found["ReadAuthority"]["Resource"] == [path, f"{path}/*"]
    assert found["CreateAuthority"]["Resource"] == [f"{path}/000001/authority"]
    assert found["CreateAuthority"]["Condition"] == {"StringNotEquals": {"ssm:Overwrite": "true"}}
    assert found["UseAuthorityKey"]["Condition"] == {"StringLike": {"kms:ViaService": "ssm.*.amazonaws.com"}}
    assert "UseAuthorityKey" not in printed("--set", "tls.mode=ca")
    assert "ReadAuthority" not in printed("--set", "tls.mode=files", *FILES)


FILES = [
    word
    for name in ("ca", "cert", "key", "peer_ca", "peer_cert", "peer_key")
    for word in ("--set", f"tls.{name}=/{name}.pem")
]


def test_the_settings_and_the_flags_say_what_it_is_about(printed: Printed) -> None:
    found = printed("--set", 'discovery.tags={ team = "db" }', "--partition", "aws-cn")
    assert found["ReadObjects"]["Resource"] == ["arn:aws-cn:s3:::acme/etcd/prod/*"]
    assert found["AnswerHooks"]["Condition"] == {"StringEquals": {"aws:ResourceTag/team": "db"}}
    named = printed("--set", 'discovery.tags={ team = "db" }', "--group", "etcd")["AnswerHooks"]
    assert "Condition" not in named, "a group that is named needs no tag"
    assert named["Resource"] == ["arn:aws:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/etcd"]


def test_bad_settings_print_their_problems_and_no_policy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["iam-policy", "--config", "/nonexistent"]) == 2
    assert capsys.readouterr().out == ""


# ---- the line about a denied call -----------------------------------------------------------------------------------


def denied(asked: Asked, message: str) -> str:
    answer: Any = {"Error": {"Code": "AccessDenied", "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    return str(trouble(ClientError(answer, asked.operation), asked))


def test_a_denied_call_names_its_statement_and_its_resource() -> None:
    asked = Asked("s3", "PutObject", "s3://acme/etcd/prod/drills/x", "arn:aws:s3:::acme/etcd/prod/drills/*", "drills/x")
    said = denied(asked, "Access Denied")
    assert '{"Sid":"FileDrills","Effect":"Allow","Action":"s3:PutObject"' in said
    assert '"Resource":"arn:aws:s3:::acme/etcd/prod/drills/*"}' in said
    assert "\n" not in said


def test_an_object_that_cannot_be_told_from_none_names_the_listing_as_aws_does() -> None:
    asked = Asked("s3", "GetObject", "s3://acme/etcd/prod/x", "arn:aws:s3:::acme/etcd/prod/*", "x")
    message = (
        "User: arn:aws:sts::1:assumed-role/etcd/i-0abc is not authorized to perform: s3:ListBucket on resource: "
        '"arn:aws:s3:::acme" because no identity-based policy allows the s3:ListBucket action'
    )
    said = denied(asked, message)
    assert '{"Sid":"ListObjects","Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::acme"}' in said


def test_a_key_of_kms_is_named_by_the_message_alone() -> None:
    asked = Asked(
        "s3", "PutObject", "s3://acme/etcd/prod/probe.json", "arn:aws:s3:::acme/etcd/prod/probe.json", "probe.json"
    )
    message = "User: x is not authorized to perform: kms:GenerateDataKey on this resource because no policy allows it"
    assert '{"Sid":"UseKey","Effect":"Allow","Action":"kms:GenerateDataKey","Resource":"*"}' in denied(asked, message)


def test_a_key_of_parameters_has_a_statement_of_its_own() -> None:
    asked = Asked("ssm", "GetParametersByPath", "/etcd-asg-agent/prod", "arn:aws:ssm:*:*:parameter/etcd-asg-agent/prod")
    message = "User: x is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:eu-west-1:1:key/a because no"
    assert '{"Sid":"UseAuthorityKey","Effect":"Allow","Action":"kms:Decrypt"' in denied(asked, message)
    assert '{"Sid":"ReadAuthority"' in denied(asked, "no")


def test_a_call_that_no_agent_makes_has_no_statement() -> None:
    assert need_of_action("s3:DeleteBucket") is None
    said = denied(Asked("s3", "DeleteBucket"), "Access Denied")
    assert '{"Effect":"Allow","Action":"s3:DeleteBucket","Resource":"*"}' in said
