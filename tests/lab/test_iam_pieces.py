"""The lab's own IAM: what a request is, and what policies say of it, by AWS's rules as they are written."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from agent.lab.iam import Request, allowed, denied
from agent.lab.user_data import settings_in

ON_A = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::b/a/*"}
PUT = Request("s3:PutObject", "arn:aws:s3:::b/a/x/y", {"s3:if-none-match": ["*"]})


def on(**conditions: Any) -> list[dict[str, Any]]:
    return [{**ON_A, "Condition": conditions}]


def test_nothing_is_allowed_that_nobody_allows() -> None:
    assert not allowed(PUT, [])
    assert allowed(PUT, [ON_A])
    assert not allowed(Request("s3:PutObject", "arn:aws:s3:::b/c/x"), [ON_A])
    assert not allowed(Request("s3:GetObject", "arn:aws:s3:::b/a/x"), [ON_A])


def test_a_deny_wins() -> None:
    assert not allowed(PUT, [ON_A, {**ON_A, "Effect": "Deny"}])
    assert denied(PUT, [{**ON_A, "Effect": "Deny", "Principal": "*"}])
    assert not denied(PUT, [ON_A])


@pytest.mark.parametrize(
    ("actions", "hit"),
    [
        ({"Action": "s3:*"}, True),
        ({"Action": ["s3:Get*", "S3:putobject"]}, True),
        ({"Action": "*"}, True),
        ({"NotAction": "s3:PutObject"}, False),
        ({"NotAction": ["s3:Get*"]}, True),
        ({"Action": "s3:PutObjectAcl"}, False),
    ],
)
def test_actions(actions: dict[str, Any], hit: bool) -> None:
    assert allowed(PUT, [{"Effect": "Allow", "Resource": "*", **actions}]) is hit


@pytest.mark.parametrize(
    ("conditions", "hit"),
    [
        ({"Null": {"s3:if-none-match": "false"}}, True),
        ({"Null": {"s3:if-none-match": "true"}}, False),
        ({"Null": {"S3:If-None-Match": "false"}}, True),
        ({"Null": {"s3:if-match": "true"}}, True),
        ({"StringEquals": {"s3:if-none-match": "*"}}, True),
        ({"StringEquals": {"s3:prefix": "a/"}}, False),
        ({"StringEqualsIfExists": {"s3:prefix": "a/"}}, True),
        ({"StringLikeIfExists": {"s3:if-none-match": "x*"}}, False),
        ({"StringNotEquals": {"s3:prefix": "a/"}}, True),
        ({"StringNotEquals": {"s3:if-none-match": "*"}}, False),
        ({"ForAnyValue:StringEquals": {"s3:if-none-match": ["x", "*"]}}, True),
        ({"ForAllValues:StringEquals": {"s3:prefix": "a"}}, True),
        ({"StringEquals": {"s3:if-none-match": "*"}, "Null": {"s3:prefix": "false"}}, False),
    ],
)
def test_conditions(conditions: dict[str, Any], hit: bool) -> None:
    assert allowed(PUT, on(**conditions)) is hit


def test_what_is_not_understood_is_not_passed_over() -> None:
    with pytest.raises(KeyError):
        allowed(PUT, on(DateLessThan={"s3:if-none-match": "2026-01-01"}))


# ---- user data ------------------------------------------------------------------------------------------------------

SCRIPT = """#!/bin/sh
cat >/etc/etcd-asg-agent/config.toml <<'END'
[cluster]
name = "prod"
END
systemctl restart etcd-asg-agent
"""


def test_settings_are_taken_from_the_script_that_writes_them() -> None:
    assert settings_in(base64.b64encode(SCRIPT.encode()).decode()) == {"cluster": {"name": "prod"}}
    assert settings_in(SCRIPT) == {"cluster": {"name": "prod"}}
    assert settings_in("#!/bin/sh\necho hello\n") == {}
    assert settings_in(None) == {}
