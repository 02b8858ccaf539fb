"""The emulated AWS with IAM in force: what an instance asks for must be allowed by its role, and by the bucket.

moto knows actions only, and of resources and conditions next to nothing; so each call of an instance is put to
`agent.lab.iam` before moto sees it, with the resource and the condition keys that AWS would give it. The operator may
do everything, as an administrator may, but for what the bucket's policy denies to everybody.

Stands for AWS's behaviour in three ways that matter to an agent: an object that is not there is 404 only to who may
list the bucket; S3 asks KMS in the caller's name; and the message names the action and the resource that were wanting.

House rules: IAM's names of actions are written down here once more, from AWS's "Service Authorization Reference", and
not taken from the agent, whose table is what is being tried. `aws:SecureTransport` is always true: loopback stands for
TLS here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket, FakeDeleteMarker

from agent.lab.calls import Call
from agent.lab.iam import Request, Statement, allowed, denied
from agent.lab.spec import ACCOUNT, REGION

S3_ACTIONS = {
    "ListObjectsV2": "ListBucket",
    "ListObjects": "ListBucket",
    "HeadBucket": "ListBucket",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListParts": "ListMultipartUploadParts",
    "HeadObject": "GetObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "CopyObject": "PutObject",
    "DeleteObjects": "DeleteObject",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "GetBucketEncryption": "GetEncryptionConfiguration",
}
CREATING = frozenset({"PutObject", "CompleteMultipartUpload", "CopyObject"})
"""What makes an object: the value of s3:ObjectCreationOperation is true for these, and false for the steps before."""
KMS = {
    "PutObject": ("GenerateDataKey",),
    "CreateMultipartUpload": ("GenerateDataKey",),
    "UploadPart": ("Decrypt",),
    "CompleteMultipartUpload": ("Decrypt",),
    "GetObject": ("Decrypt",),
    "HeadObject": ("Decrypt",),
}


@dataclass(frozen=True, slots=True)
class Backends:
    """moto's own state: where roles, buckets and groups are written down."""

    iam: Any
    s3: Any
    groups: Any


class Enforcement:
    """Judges calls. `role_of` says which role an instance has; None: no role, so nothing is allowed."""

    def __init__(self, backends: Backends) -> None:
        self._of = backends

    def objection(self, environ: Mapping[str, Any], call: Call, role: str | None) -> str | None:
        """Why AWS would refuse this; None where it would not. `role` None: the operator."""
        if (call.service, call.operation) == ("sts", "GetCallerIdentity"):
            return None  # it needs no permission (AWS, "GetCallerIdentity")
        granted = None if role is None else self._granted(role)
        who = f"arn:aws:iam::{ACCOUNT}:user/operator" if role is None else f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}"
        if call.service == "ssm":
            requests: Iterable[Request] = _of_parameters(call)
        else:
            requests = self._of_s3(environ, call) if call.service == "s3" else [self._elsewhere(call)]
        for request in requests:
            if denied(request, self._bucket_policy(call)):
                return f"User: {who} {_wanting(request)} with an explicit deny in a resource-based policy"
            if granted is not None and not allowed(request, granted):
                because = f"because no identity-based policy allows the {request.action} action"
                return f"User: {who}/{call.caller} {_wanting(request)} {because}"
        return None

    # ---- what is asked ---------------------------------------------------------------------------------------------

    def _of_s3(self, environ: Mapping[str, Any], call: Call) -> Iterator[Request]:
        bucket, _, key = call.resource.partition("?")[0].strip("/").partition("/")
        yield Request(
            f"s3:{S3_ACTIONS.get(call.operation, call.operation)}",
            f"arn:aws:s3:::{bucket}" + (f"/{key}" if key else ""),
            _s3_context(environ, call),
        )
        if not key:
            return
        stored = self._stored(bucket, key)
        if call.operation in ("GetObject", "HeadObject") and stored is None:
            yield Request("s3:ListBucket", f"arn:aws:s3:::{bucket}", _everywhere())
        for action, arn in _of_kms(environ, call, stored, self._upload(bucket, environ)):
            yield Request(f"kms:{action}", arn, {**_everywhere(), "kms:viaservice": [f"s3.{REGION}.amazonaws.com"]})

    def _stored(self, bucket: str, key: str) -> Any:
        found = self._of.s3.buckets.get(bucket)
        newest = None if found is None else found.keys.get(key)
        return None if isinstance(newest, FakeDeleteMarker) else newest

    def _upload(self, bucket: str, environ: Mapping[str, Any]) -> Any:
        upload = parse_qs(str(environ.get("QUERY_STRING", ""))).get("uploadId", [""])[0]
        found = self._of.s3.buckets.get(bucket)
        return None if found is None else found.multiparts.get(upload)

    def _elsewhere(self, call: Call) -> Request:
        """Descriptions know no resource; an action on an Auto Scaling group carries the group's tags."""
        action = f"{call.service}:{call.operation}"
        balanced = re.search(r"TargetGroupArn=([^&]+)", call.resource)
        if balanced and not call.operation.startswith("Describe"):
            return Request(action, balanced[1], _everywhere())
        named = re.search(r"AutoScalingGroupName=([^&]+)", call.resource)
        group = self._of.groups.autoscaling_groups.get(named[1]) if named else None
        if group is None or call.operation.startswith("Describe"):
            return Request(action, "*", _everywhere())
        tags = {
            f"{prefix}:resourcetag/{tag['Key']}".lower(): [tag["Value"]]
            for tag in group.tags
            for prefix in ("aws", "autoscaling")
        }
        return Request(action, group.arn, {**_everywhere(), **tags})

    # ---- what is granted -------------------------------------------------------------------------------------------

    def _granted(self, role: str) -> list[Statement]:
        found = next((each for each in self._of.iam.roles.values() if each.name == role), None)
        if found is None:
            return []
        documents = [*found.policies.values(), *(each.document for each in found.managed_policies.values())]
        return [statement for each in documents for statement in _statements(each)]

    def _bucket_policy(self, call: Call) -> Sequence[Statement]:
        if call.service != "s3":
            return ()
        bucket = self._of.s3.buckets.get(call.resource.strip("/").partition("/")[0].partition("?")[0])
        return () if bucket is None or bucket.policy is None else _statements(bucket.policy)


def _of_parameters(call: Call) -> Iterator[Request]:
    """A path is a resource like a parameter's name; `ssm:Overwrite` goes with each PutParameter."""
    asked = json.loads(call.resource)
    name = asked.get("Name") or asked.get("Path", "")
    overwrite = {"ssm:overwrite": [str(asked.get("Overwrite", False)).lower()]}
    context = {**_everywhere(), **(overwrite if call.operation == "PutParameter" else {})}
    yield Request(f"ssm:{call.operation}", f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{name}", context)
    key = asked.get("KeyId", "")
    if key.startswith("arn:"):
        yield Request("kms:Encrypt", key, {**_everywhere(), "kms:viaservice": [f"ssm.{REGION}.amazonaws.com"]})


def install() -> None:
    """Keep moto from judging by a bucket's policy: it looks at no condition, and would deny everything to everybody."""
    FakeBucket.get_permission = _undecided  # type: ignore[assignment, method-assign]


def _undecided(_bucket: FakeBucket, _action: str, _resource: str) -> PermissionResult:
    return PermissionResult.NEUTRAL


def role_in(template: Any, iam: Any) -> str | None:
    """The role that a launch template's newest version gives its instances; None: it gives none."""
    named = {} if template is None else template.latest_version().data.get("IamInstanceProfile") or {}
    name = named.get("Name") or str(named.get("Arn", "")).rpartition("/")[2]
    found = next((each for each in iam.instance_profiles.values() if each.name == name), None)
    return None if found is None or not found.roles else str(found.roles[0].name)


def _wanting(request: Request) -> str:
    return f'is not authorized to perform: {request.action} on resource: "{request.resource}"'


def _statements(document: str | bytes) -> list[Statement]:
    found = json.loads(document)["Statement"]
    return [found] if isinstance(found, dict) else list(found)


def _everywhere() -> dict[str, Sequence[str]]:
    """The keys that every request carries."""
    return {"aws:securetransport": ["true"], "aws:requestedregion": [REGION]}


def _s3_context(environ: Mapping[str, Any], call: Call) -> dict[str, Sequence[str]]:
    found = _everywhere()
    query = parse_qs(str(environ.get("QUERY_STRING", "")))
    if S3_ACTIONS.get(call.operation) == "ListBucket" and "prefix" in query:
        found["s3:prefix"] = query["prefix"]
    for header, key in (
        ("HTTP_IF_NONE_MATCH", "s3:if-none-match"),
        ("HTTP_IF_MATCH", "s3:if-match"),
        ("HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION", "s3:x-amz-server-side-encryption"),
    ):
        if header in environ:
            found[key] = [str(environ[header])]
    if S3_ACTIONS.get(call.operation, call.operation) == "PutObject":
        found["s3:objectcreationoperation"] = [str(call.operation in CREATING).lower()]
    return found


def _of_kms(environ: Mapping[str, Any], call: Call, stored: Any, upload: Any) -> Iterator[tuple[str, str]]:
    """Which keys S3 uses for this call in the caller's name."""
    given = environ.get("HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION_AWS_KMS_KEY_ID")
    holder = upload if upload is not None else stored if call.operation in ("GetObject", "HeadObject") else None
    key = given or (getattr(holder, "kms_key_id", None) if holder is not None else None)
    if key:
        arn = str(key) if str(key).startswith("arn:") else f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{key}"
        for action in KMS.get(call.operation, ()):
            yield action, arn
