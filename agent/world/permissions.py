"""Which call of the agent needs which permission. Pure: one table, read in two ways.

`etcd-asg-agent iam-policy` prints the instance role's policy from it, and the line about a denied call
(`agent.world.aws_errors`) names the statement in it that is missing. What a call is allowed on is as narrow as IAM can
say: objects by prefix, groups by tag or name; EC2's and Auto Scaling's descriptions know no resource (AWS's "Service
Authorization Reference").

Three things that are easily taken for carelessness:
 - s3:ListBucket is limited with `StringLikeIfExists`. S3 answers 404 for an object that is not there only to those who
   may list its bucket, a GET carries no `s3:prefix`, and "there is no such record" is what the agent founds upon. So
   whoever lists without any prefix sees the names of the whole bucket: give the cluster a bucket of its own.
 - What decides (`generations/`, and the probe) may be written with `If-None-Match` only. The bucket's policy should
   say the same to everybody else, and let nobody delete it: `terraform-example/` does.
 - An instance may read the certificate authority, keys and all: it issues its own certificates. It may make the first
   one, and change none: `ssm:Overwrite`. The steps of a rotation are an operator's, with credentials of his own.
 - A key of KMS is used by S3 in the role's name, never by the agent itself: `kms:ViaService`. A multipart upload needs
   kms:Decrypt, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

ACTIONS = {
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "s3:HeadObject": "s3:GetObject",
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:UploadPart": "s3:PutObject",
    "s3:CompleteMultipartUpload": "s3:PutObject",
    "s3:GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "s3:GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "elbv2:DescribeTargetHealth": "elasticloadbalancing:DescribeTargetHealth",
    "elbv2:RegisterTargets": "elasticloadbalancing:RegisterTargets",
    "elbv2:DeregisterTargets": "elasticloadbalancing:DeregisterTargets",
}
"""IAM's name of an operation, where it is not the operation's own."""

UPLOADING = ("s3:PutObject", "s3:CreateMultipartUpload", "s3:UploadPart", "s3:CompleteMultipartUpload")


class On(StrEnum):
    """What a statement is about."""

    EVERYTHING = "everything"  # IAM knows no narrower resource for these calls
    GROUPS = "groups"
    BUCKET = "bucket"
    OBJECTS = "objects"
    KEY = "key"
    ZONE = "zone"
    PARAMETERS = "parameters"
    PARAMETERS_KEY = "the key of parameters"
    TARGET_GROUPS = "target groups"


class Only(StrEnum):
    """What a statement is needed for, where not every configuration needs it."""

    WITH_A_KEY = "with storage.kms_key_id"
    WITH_DRILLS = "with snapshots.drill_interval"
    WITH_PROTECTION = "with autoscaling.protect_voters"
    WITH_REPLACEMENT = "with autoscaling.replace_unhealthy"
    WITH_NAMES = "with dns.zone_id"
    WITH_AN_AUTHORITY = 'with tls.mode = "ca"'
    WITH_ITS_OWN_KEY = "with tls.kms_key_id"
    WITH_TARGETS = "with load_balancer.target_groups"


@dataclass(frozen=True, slots=True)
class Need:
    """One statement: the calls that need it, as SERVICE:OPERATION, and what for."""

    sid: str
    what_for: str
    on: On
    calls: tuple[str, ...]
    under: tuple[str, ...] = ()
    """Objects: keys and prefixes (ending in a slash) below the cluster's root; none: all of them."""
    once: bool = False
    """Objects: only with `If-None-Match`."""
    only: Only | None = None

    @property
    def actions(self) -> tuple[str, ...]:
        return tuple(sorted({ACTIONS.get(call, call) for call in self.calls}))

    def covers(self, key: str) -> bool:
        return not self.under or any(_lies_in(each, key) for each in self.under)

    def place_of(self, key: str) -> str:
        """Which of its prefixes a key lies in; "/" is everything of the cluster's."""
        return next((each for each in self.under if _lies_in(each, key)), "/")


def _lies_in(place: str, key: str) -> bool:
    return key.startswith(place) if place.endswith("/") else key == place


NEEDS = (
    Need("SeeInstances", "who is in the fleet, and who is gone for good", On.EVERYTHING, ("ec2:DescribeInstances",)),
    Need(
        "SeeGroups",
        "the desired capacity, lifecycle states and hooks, and whom a group terminated",
        On.EVERYTHING,
        (
            "autoscaling:DescribeAutoScalingGroups",
            "autoscaling:DescribeLifecycleHooks",
            "autoscaling:DescribeScalingActivities",
            "autoscaling:DescribeWarmPool",
        ),
    ),
    Need(
        "AnswerHooks",
        "let instances in and out when the cluster is ready for it",
        On.GROUPS,
        ("autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat"),
    ),
    Need(
        "ReadLifecycleRules",
        "no rule may expire what decides",
        On.BUCKET,
        ("s3:GetBucketLifecycleConfiguration",),
    ),
    Need(
        "ListObjects", "the head, reports, snapshots; and 404 for what is not there", On.BUCKET, ("s3:ListObjectsV2",)
    ),
    Need("ReadObjects", "everything that agents wrote", On.OBJECTS, ("s3:GetObject", "s3:HeadObject")),
    Need(
        "WriteOnce",
        "records, claims, and the probe of the bucket",
        On.OBJECTS,
        ("s3:PutObject",),
        under=("generations/", "probe.json"),
        once=True,
    ),
    Need(
        "WriteReports", "what agents without a cluster tell one another", On.OBJECTS, ("s3:PutObject",), ("assembly/",)
    ),
    Need("WriteSnapshots", "snapshots and what is said of them", On.OBJECTS, UPLOADING, ("snapshots/",)),
    Need(
        "FileDrills",
        "what came of trying a snapshot out",
        On.OBJECTS,
        ("s3:PutObject",),
        ("drills/",),
        only=Only.WITH_DRILLS,
    ),
    Need("WriteHold", "an operator's `hold` from an instance", On.OBJECTS, ("s3:PutObject",), ("hold.json",)),
    Need("DeleteSnapshots", "those that retention lets go", On.OBJECTS, ("s3:DeleteObject",), ("snapshots/",)),
    Need("FindUploads", "uploads that a killed agent left", On.BUCKET, ("s3:ListMultipartUploads",)),
    Need("EndUploads", "those, and our own that failed", On.OBJECTS, ("s3:AbortMultipartUpload",), ("snapshots/",)),
    Need(
        "UseKey",
        "S3 encrypts and decrypts in the role's name",
        On.KEY,
        ("kms:Decrypt", "kms:GenerateDataKey"),
        only=Only.WITH_A_KEY,
    ),
    Need(
        "ProtectVoters",
        "from scale-in, while the cluster can spare nobody",
        On.GROUPS,
        ("autoscaling:SetInstanceProtection",),
        only=Only.WITH_PROTECTION,
    ),
    Need(
        "AskToBeReplaced",
        "where no member can live on this instance",
        On.GROUPS,
        ("autoscaling:SetInstanceHealth",),
        only=Only.WITH_REPLACEMENT,
    ),
    Need(
        "PublishNames",
        "the names of the voters that serve",
        On.ZONE,
        ("route53:ChangeResourceRecordSets", "route53:ListResourceRecordSets"),
        only=Only.WITH_NAMES,
    ),
    Need(
        "ReadAuthority",
        "whom to trust, and to sign this instance's own certificates",
        On.PARAMETERS,
        ("ssm:GetParametersByPath",),
        only=Only.WITH_AN_AUTHORITY,
    ),
    Need(
        "CreateAuthority",
        "the first one, once",
        On.PARAMETERS,
        ("ssm:PutParameter",),
        under=("000001/authority",),
        once=True,
        only=Only.WITH_AN_AUTHORITY,
    ),
    Need(
        "UseAuthorityKey",
        "SSM encrypts and decrypts in the role's name",
        On.PARAMETERS_KEY,
        ("kms:Decrypt", "kms:Encrypt"),
        only=Only.WITH_ITS_OWN_KEY,
    ),
    Need(
        "SeeTargets",
        "whether this instance is in its target groups, and who else is",
        On.EVERYTHING,
        ("elbv2:DescribeTargetHealth",),
        only=Only.WITH_TARGETS,
    ),
    Need(
        "RegisterTargets",
        "this instance, while its member serves",
        On.TARGET_GROUPS,
        ("elbv2:RegisterTargets", "elbv2:DeregisterTargets"),
        only=Only.WITH_TARGETS,
    ),
)


def need_of(call: str, key: str = "") -> Need | None:
    """The statement that allows this call, on this object. None: no agent is meant to do that."""
    return next((each for each in NEEDS if call in each.calls and each.covers(key)), None)


def need_of_action(action: str, service: str = "s3") -> Need | None:
    """The first statement that allows this action of IAM's somewhere; of KMS's, for that service."""
    keys = {"s3": On.KEY, "ssm": On.PARAMETERS_KEY}
    other = {on for name, on in keys.items() if name != service}
    return next((each for each in NEEDS if action in each.actions and each.on not in other), None)


# ---- the policy -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scope:
    """What a configuration says about the policy."""

    bucket: str
    root: str
    """PREFIX/CLUSTER/ in the bucket."""
    tags: tuple[tuple[str, str], ...] = ()
    """The tags of the cluster's groups: `discovery.tags`."""
    groups: tuple[str, ...] = ()
    """The groups' names; none: any group (with the tags, if there are any)."""
    kms_key_id: str = ""
    drills: bool = True
    protects: bool = False
    replaces: bool = False
    zone_id: str = ""
    parameters: str = ""
    """The path of the certificate authorities' parameters; empty: there are none."""
    parameters_key_id: str = ""
    target_groups: tuple[str, ...] = ()
    partition: str = "aws"

    def has(self, only: Only | None) -> bool:
        match only:
            case Only.WITH_A_KEY:
                return bool(self.kms_key_id)
            case Only.WITH_DRILLS:
                return self.drills
            case Only.WITH_PROTECTION:
                return self.protects
            case Only.WITH_REPLACEMENT:
                return self.replaces
            case Only.WITH_NAMES:
                return bool(self.zone_id)
            case Only.WITH_AN_AUTHORITY:
                return bool(self.parameters)
            case Only.WITH_ITS_OWN_KEY:
                return bool(self.parameters and self.parameters_key_id)
            case Only.WITH_TARGETS:
                return bool(self.target_groups)
            case None:
                return True


def policy(scope: Scope) -> dict[str, Any]:
    """The instance role's policy: every statement that this configuration needs, in the order of the table."""
    return {"Version": "2012-10-17", "Statement": [statement(each, scope) for each in NEEDS if scope.has(each.only)]}


def statement(need: Need, scope: Scope) -> dict[str, Any]:
    """One statement. Lists of one are written as they are in any other: nobody has to tell them apart."""
    conditions = _conditions(need, scope)
    return {
        "Sid": need.sid,
        "Effect": "Allow",
        "Action": list(need.actions),
        "Resource": _resources(need, scope),
        **({"Condition": conditions} if conditions else {}),
    }


def _resources(need: Need, scope: Scope) -> list[str]:
    match need.on:
        case On.EVERYTHING:
            return ["*"]
        case On.GROUPS:
            prefix = f"arn:{scope.partition}:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/"
            return [prefix + name for name in scope.groups or ("*",)]
        case On.BUCKET:
            return [f"arn:{scope.partition}:s3:::{scope.bucket}"]
        case On.OBJECTS:
            return [object_arn(scope.bucket, scope.root, each, scope.partition) for each in need.under or ("/",)]
        case On.KEY:
            return [_key_arn(scope.kms_key_id, scope.partition)]
        case On.PARAMETERS_KEY:
            return [_key_arn(scope.parameters_key_id, scope.partition)]
        case On.PARAMETERS:
            path = f"arn:{scope.partition}:ssm:*:*:parameter{scope.parameters}"
            return [f"{path}/{each}" for each in need.under] or [path, f"{path}/*"]
        case On.ZONE:
            return [f"arn:{scope.partition}:route53:::hostedzone/{scope.zone_id}"]
        case On.TARGET_GROUPS:
            return list(scope.target_groups)


def object_arn(bucket: str, root: str, under: str, partition: str = "aws") -> str:
    """One object, or everything below a prefix, as IAM names it; "/" is all of the cluster's."""
    below = "*" if under == "/" else f"{under}*" if under.endswith("/") else under
    return f"arn:{partition}:s3:::{bucket}/{root}{below}"


def _key_arn(key: str, partition: str) -> str:
    """An alias is a key's by its condition; a bare ID is looked for in every region that the role is used in."""
    if key.startswith("arn:") and ":alias/" not in key:
        return key
    return f"arn:{partition}:kms:*:*:key/{'*' if 'alias/' in key else key}"


def _conditions(need: Need, scope: Scope) -> Mapping[str, Any]:
    if need.on is On.GROUPS and scope.tags:
        return {"StringEquals": {f"aws:ResourceTag/{key}": value for key, value in scope.tags}}
    if "s3:ListObjectsV2" in need.calls:
        return {"StringLikeIfExists": {"s3:prefix": f"{scope.root}*"}}
    if need.once and need.on is On.PARAMETERS:
        return {"StringNotEquals": {"ssm:Overwrite": "true"}}
    if need.once:
        return {"Null": {"s3:if-none-match": "false"}}
    if need.on in (On.KEY, On.PARAMETERS_KEY):
        key, service = (scope.kms_key_id, "s3") if need.on is On.KEY else (scope.parameters_key_id, "ssm")
        domain = "amazonaws.com.cn" if scope.partition == "aws-cn" else "amazonaws.com"
        via = {"StringLike": {"kms:ViaService": f"{service}.*.{domain}"}}
        alias = key[key.find("alias/") :] if "alias/" in key else ""
        return {**via, "ForAnyValue:StringEquals": {"kms:ResourceAliases": alias}} if alias else via
    return {}
