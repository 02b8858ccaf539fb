"""Asks AWS: whom the agent would see, what its role may do, which rules the bucket has.

House rules. Nothing is changed. A read is called; a write is tried where the answer "allowed" comes without an effect:
 - S3 with `If-Match` and an ETag that no object has, under a key that nobody reads: 404 or 412, never written (AWS,
   "Conditional writes"). Only after this store refused a write with `If-None-Match`: one that ignores conditions would
   write.
 - `If-None-Match` on the probe, with the bytes that are in it.
 - a lifecycle action of a hook that does not exist, the protection of an instance that does not, the end of an upload
   that does not. (EC2 has DryRun for such things; the agent writes nothing there.)
Everything else is not tried, and said to be so.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from agent.doctor.judging.bucket import BucketSeen, Precondition
from agent.doctor.judging.discovery import DiscoverySeen, Reached
from agent.doctor.judging.permissions import Outcome, Trial
from agent.doctor.looking.known import known
from agent.model.faults import Refused, Trouble
from agent.model.fleet import Fleet
from agent.model.known import Ignorance, Unknown
from agent.model.observation import Me
from agent.world.aws import Aws
from agent.world.aws_errors import AlreadyThere, Asked, NotFound, NotSupported
from agent.world.ec2 import Ec2Cloud
from agent.world.imds import Imds
from agent.world.objects import Objects
from agent.world.permissions import NEEDS, Need, Scope

NO_ETAG = '"00000000000000000000000000000000"'
NOBODY = "doctor-cannot-land"
"""A key, a hook and an upload of this name are nobody's."""
NO_INSTANCE = "i-00000000000000000"
PEER_SECONDS = 2.0
AT_ONCE = 8
PROBE = "probe.json"


# ---- whom it sees ---------------------------------------------------------------------------------------------------


def discovery(
    imds: Imds | Unknown, me: Me | Unknown, tags: tuple[tuple[str, str], ...], cloud: Ec2Cloud | Unknown, peer_port: int
) -> DiscoverySeen:
    fleet = cloud if isinstance(cloud, Unknown) else known(lambda: cloud.fleet(frozenset(), desired_capacity_too=True))
    return DiscoverySeen(
        me=me,
        metadata_tags=imds if isinstance(imds, Unknown) else known(imds.tags),
        needs_token=imds if isinstance(imds, Unknown) else known(imds.needs_token),
        tags=tags,
        fleet=fleet,
        peers={} if isinstance(fleet, Unknown) else _peers(fleet, me, peer_port),
    )


def _peers(fleet: Fleet, me: Me | Unknown, port: int) -> Mapping[str, Reached]:
    mine = None if isinstance(me, Unknown) else me.instance
    others = {each.id: each.private_ip for each in fleet.up if each.private_ip and each.id != mine}
    if not others:
        return {}
    with ThreadPoolExecutor(AT_ONCE, "peers") as pool:
        return dict(zip(others, pool.map(lambda address: reach(address, port), others.values()), strict=True))


def reach(address: str, port: int) -> Reached:
    """Connects and hangs up: nothing is said."""
    try:
        socket.create_connection((address, port), PEER_SECONDS).close()
    except ConnectionRefusedError:
        return Reached.REFUSES
    except OSError:
        return Reached.SILENT
    return Reached.LISTENS


# ---- what it may do -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Patient:
    """What the trials are made with. `group` and `instance` empty: not known."""

    aws: Aws
    objects: Objects
    group: str
    instance: str
    precondition: Precondition | Unknown
    parameters: str = ""
    """The path of the certificate authorities; empty: there are none."""
    target_groups: tuple[str, ...] = ()


def trials(patient: Patient, scope: Scope) -> tuple[Trial, ...]:
    """Every statement that this configuration needs, in the order of the table."""
    return tuple(Trial(each.sid, each.what_for, _tried(each, patient)) for each in NEEDS if scope.has(each.only))


def _tried(need: Need, patient: Patient) -> Outcome | Unknown:
    attempt = ATTEMPTS.get(need.sid)
    if attempt is None:
        return Outcome.UNTRIED
    try:
        return attempt(patient)
    except (AlreadyThere, NotFound):
        return Outcome.ALLOWED  # whoever is denied hears of nothing else
    except NotSupported:
        return Outcome.UNTRIED
    except Refused as refused:
        nothing_there = "ValidationError" in str(refused)  # Auto Scaling's word for what does not exist
        return Outcome.ALLOWED if nothing_there else refused.unknown
    except Trouble as trouble:
        found = getattr(trouble, "unknown", None)
        return found if isinstance(found, Unknown) else Unknown(Ignorance.FAILED, str(trouble))


def _instances(patient: Patient) -> Outcome:
    patient.aws.call(Asked("ec2", "DescribeInstances"), MaxResults=5)
    return Outcome.ALLOWED


def _groups(patient: Patient) -> Outcome:
    if not patient.group:
        patient.aws.call(Asked("autoscaling", "DescribeAutoScalingGroups"), MaxRecords=1)
        return Outcome.ALLOWED
    where, resource = {"AutoScalingGroupName": patient.group}, f"group {patient.group}"
    patient.aws.call(Asked("autoscaling", "DescribeAutoScalingGroups"), AutoScalingGroupNames=[patient.group])
    patient.aws.call(Asked("autoscaling", "DescribeLifecycleHooks", resource), **where)
    patient.aws.call(Asked("autoscaling", "DescribeScalingActivities", resource), **where, MaxRecords=1)
    patient.aws.call(Asked("autoscaling", "DescribeWarmPool", resource), **where, MaxRecords=1)
    return Outcome.ALLOWED


def _hooks(patient: Patient) -> Outcome:
    if not patient.group or not patient.instance:
        return Outcome.UNTRIED
    where = {"AutoScalingGroupName": patient.group, "InstanceId": patient.instance, "LifecycleHookName": NOBODY}
    for operation, more in (("RecordLifecycleActionHeartbeat", {}), ("CompleteLifecycleAction", CONTINUE)):
        try:
            patient.aws.call(Asked("autoscaling", operation, f"group {patient.group}"), **where, **more)
        except Refused as refused:
            if "ValidationError" not in str(refused):
                raise
    return Outcome.ALLOWED


CONTINUE = {"LifecycleActionResult": "CONTINUE"}


def _protection(patient: Patient) -> Outcome:
    if not patient.group:
        return Outcome.UNTRIED
    asked = Asked("autoscaling", "SetInstanceProtection", f"group {patient.group}")
    nobody = {"InstanceIds": [NO_INSTANCE], "ProtectedFromScaleIn": False}
    patient.aws.call(asked, AutoScalingGroupName=patient.group, **nobody)
    return Outcome.ALLOWED


def _lifecycle(patient: Patient) -> Outcome:
    _rules(patient.objects)
    return Outcome.ALLOWED


def _listing(patient: Patient) -> Outcome:
    next(patient.objects.keys("generations/"), None)
    return Outcome.ALLOWED


def _reading(patient: Patient) -> Outcome:
    patient.objects.get(PROBE)
    return Outcome.ALLOWED


def _once(patient: Patient) -> Outcome | Unknown:
    """What the probe said: it is written under the same statement, once it has been read."""
    if isinstance(patient.precondition, Unknown):
        try:
            _reading(patient)
        except Refused:
            return Outcome.UNTRIED
        return patient.precondition
    return Outcome.UNTRIED if patient.precondition is Precondition.UNTRIED else Outcome.ALLOWED


def _writing_below(prefix: str) -> Callable[[Patient], Outcome]:
    def attempt(patient: Patient) -> Outcome:
        if patient.precondition is not Precondition.HONOURED:
            return Outcome.UNTRIED
        objects, key = patient.objects, prefix + NOBODY
        objects.aws.call(
            objects.asked("PutObject", key),
            Bucket=objects.bucket,
            Key=objects.root + key,
            Body=b"",
            IfMatch=NO_ETAG,
            **objects.encryption,
        )
        return Outcome.ALLOWED

    return attempt


def _uploads(patient: Patient) -> Outcome:
    asked = patient.objects.asked_of_bucket("ListMultipartUploads")
    where = {"Bucket": patient.objects.bucket, "Prefix": patient.objects.root + "snapshots/", "MaxUploads": 1}
    patient.aws.call(asked, **where)
    return Outcome.ALLOWED


def _ending_uploads(patient: Patient) -> Outcome:
    objects, key = patient.objects, "snapshots/" + NOBODY
    asked = objects.asked("AbortMultipartUpload", key)
    patient.aws.call(asked, Bucket=objects.bucket, Key=objects.root + key, UploadId=NOBODY)
    return Outcome.ALLOWED


def _authority(patient: Patient) -> Outcome:
    if not patient.parameters:
        return Outcome.UNTRIED
    asked = Asked("ssm", "GetParametersByPath", patient.parameters)
    patient.aws.call(asked, Path=patient.parameters, Recursive=True, WithDecryption=False, MaxResults=1)
    return Outcome.ALLOWED


def _target_health(patient: Patient) -> Outcome:
    for arn in patient.target_groups:
        patient.aws.call(Asked("elbv2", "DescribeTargetHealth", arn.rpartition(":")[2]), TargetGroupArn=arn)
    return Outcome.ALLOWED if patient.target_groups else Outcome.UNTRIED


def _targets(patient: Patient) -> Outcome:
    """Who is no target is taken out: registering needs the same statement."""
    for arn in patient.target_groups:
        try:
            asked = Asked("elbv2", "DeregisterTargets", arn.rpartition(":")[2], arn)
            patient.aws.call(asked, TargetGroupArn=arn, Targets=[{"Id": NO_INSTANCE}])
        except Refused as refused:
            if "InvalidTarget" not in str(refused):
                raise
    return Outcome.ALLOWED if patient.target_groups else Outcome.UNTRIED


ATTEMPTS: Mapping[str, Callable[[Patient], Outcome | Unknown]] = {
    "SeeInstances": _instances,
    "SeeGroups": _groups,
    "AnswerHooks": _hooks,
    "ReadLifecycleRules": _lifecycle,
    "ListObjects": _listing,
    "ReadObjects": _reading,
    "WriteOnce": _once,
    "WriteReports": _writing_below("assembly/"),
    "WriteSnapshots": _writing_below("snapshots/"),
    "FileDrills": _writing_below("drills/"),
    "FindUploads": _uploads,
    "EndUploads": _ending_uploads,
    "ProtectVoters": _protection,
    "ReadAuthority": _authority,
    "SeeTargets": _target_health,
    "RegisterTargets": _targets,
}
"""Those that are missing here are not tried: `hold.json` would hold the cluster, a deletion leaves a marker in a bucket
with versions, health and names are the group's and the zone's for good, an authority is written once, and KMS answers
only to S3 and SSM.
"""


# ---- the bucket -----------------------------------------------------------------------------------------------------


def bucket(objects: Objects) -> BucketSeen:
    return BucketSeen(
        bucket=objects.bucket,
        root=objects.root,
        precondition=known(lambda: precondition(objects)),
        lifecycle=known(lambda: _rules(objects)),
        versioning=known(lambda: str(_of_the_bucket(objects, "GetBucketVersioning").get("Status", ""))),
        encryption=known(lambda: tuple(_algorithms(objects))),
        blocks=known(lambda: _blocks(objects)),
    )


def precondition(objects: Objects) -> Precondition:
    """Writes the probe's own bytes over it, on condition that it is not there."""
    found = objects.get(PROBE)
    if found is None:
        return Precondition.UNTRIED
    try:
        objects.put(PROBE, found["Body"].decode(errors="replace"), once=True)
    except AlreadyThere:
        return Precondition.HONOURED
    except NotSupported:
        return Precondition.IGNORED
    return Precondition.IGNORED


def _rules(objects: Objects) -> list[Mapping[str, Any]]:
    try:
        return list(_of_the_bucket(objects, "GetBucketLifecycleConfiguration").get("Rules", ()))
    except NotFound:
        return []


def _algorithms(objects: Objects) -> Iterator[str]:
    try:
        found = _of_the_bucket(objects, "GetBucketEncryption")
    except NotFound:
        return
    for rule in found.get("ServerSideEncryptionConfiguration", {}).get("Rules", ()):
        yield str(rule.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm", "something unnamed"))


def _blocks(objects: Objects) -> Mapping[str, bool]:
    try:
        return dict(_of_the_bucket(objects, "GetPublicAccessBlock").get("PublicAccessBlockConfiguration", {}))
    except NotFound:
        return {}


def _of_the_bucket(objects: Objects, operation: str) -> Mapping[str, Any]:
    return objects.aws.call(objects.asked_of_bucket(operation), Bucket=objects.bucket)
