"""What AWS says: discovery, permissions and the bucket's rules, judged; and that the trials cannot land."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.doctor.finding import Finding, Level
from agent.doctor.judging import bucket, discovery, permissions
from agent.doctor.judging.bucket import BucketSeen, Precondition
from agent.doctor.judging.discovery import DiscoverySeen, Reached
from agent.doctor.judging.permissions import Outcome, Trial
from agent.doctor.looking import aws as looking
from agent.model.faults import Refused, Unavailable
from agent.model.fleet import Fleet, Group, Instance, InstanceState
from agent.model.ids import InstanceId, PeerUrl
from agent.model.known import Ignorance, Unknown
from agent.model.observation import Me
from agent.world.aws import Aws
from agent.world.aws_errors import AlreadyThere, Asked, NotFound, NotSupported
from agent.world.objects import Objects
from agent.world.permissions import NEEDS, Scope

DENIED = Unknown(Ignorance.DENIED, "was denied: add …")
THROTTLED = Unknown(Ignorance.THROTTLED, "slow down")


def bad(found: list[Finding]) -> dict[str, Level]:
    return {each.check: each.level for each in found if each.level is not Level.OK}


# ---- discovery ------------------------------------------------------------------------------------------------------


def instance(number: int, group: str | None = "etcd") -> Instance:
    return Instance(
        InstanceId(f"i-{number:08x}"),
        InstanceState.RUNNING,
        datetime(2026, 11, 25, tzinfo=UTC),
        f"10.0.1.{number}",
        "eu-west-1a",
        group,
        "InService",
    )


ME = Me(InstanceId("i-00000001"), "10.0.1.1", PeerUrl("http://10.0.1.1:2380"), "boot", "eu-west-1a")
FLEET = Fleet((instance(1), instance(2), instance(3)), (Group("etcd", 3),))
SEEN = DiscoverySeen(
    me=ME,
    metadata_tags=("etcd-cluster",),
    needs_token=True,
    tags=(("etcd-cluster", "prod"),),
    fleet=FLEET,
    peers={"i-00000002": Reached.LISTENS, "i-00000003": Reached.REFUSES},
)


def of(desired: int) -> DiscoverySeen:
    return replace(SEEN, fleet=replace(FLEET, groups=(Group("etcd", desired),)))


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (SEEN, {}),
        (replace(SEEN, metadata_tags=None, peers={}), {}),
        (replace(SEEN, me=THROTTLED), {"imds": Level.FAILURE}),
        (replace(SEEN, needs_token=False), {"imds-v2": Level.WARNING}),
        (replace(SEEN, needs_token=THROTTLED, metadata_tags=THROTTLED), {
            "imds-v2": Level.UNKNOWN, "metadata-tags": Level.UNKNOWN,
        }),
        (replace(SEEN, fleet=DENIED), {"discovery": Level.FAILURE}),
        (replace(SEEN, fleet=Unknown(Ignorance.MALFORMED, "not in it")), {"discovery": Level.FAILURE}),
        (replace(SEEN, fleet=THROTTLED), {"discovery": Level.UNKNOWN}),
        (replace(SEEN, fleet=replace(FLEET, instances=(instance(1, None),))), {"group": Level.WARNING}),
        (replace(SEEN, peers={"i-00000002": Reached.SILENT}), {"peers": Level.WARNING}),
        (of(1), {"capacity": Level.WARNING}),
        (of(2), {"capacity": Level.WARNING}),
        (of(4), {}),
        (of(0), {}),
        (of(5), {}),
    ],
)  # fmt: skip
def test_what_the_agent_would_see(seen: DiscoverySeen, expected: dict[str, Level]) -> None:
    assert bad(list(discovery.judge(seen))) == expected


def test_ones_own_group_is_known_where_both_are() -> None:
    assert SEEN.own_group == "etcd"
    assert replace(SEEN, fleet=DENIED).own_group == replace(SEEN, me=DENIED).own_group == ""


def test_a_peer_listens_refuses_or_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert looking.reach("127.0.0.1", port) is Reached.LISTENS
    assert looking.reach("127.0.0.1", port) is Reached.REFUSES


# ---- the bucket -----------------------------------------------------------------------------------------------------

BUCKET = BucketSeen(
    bucket="acme",
    root="etcd/prod/",
    precondition=Precondition.HONOURED,
    lifecycle=[
        {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "etcd/prod/assembly/"}, "Expiration": {"Days": 7}}
    ],
    versioning="Enabled",
    encryption=("aws:kms",),
    blocks=dict.fromkeys(bucket.BLOCKS, True),
)
EXPIRING = {"ID": "all", "Status": "Enabled", "Expiration": {"Days": 30}}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (BUCKET, {}),
        (replace(BUCKET, precondition=Precondition.IGNORED), {"bucket-preconditions": Level.FAILURE}),
        (replace(BUCKET, precondition=Precondition.UNTRIED), {"bucket-preconditions": Level.UNKNOWN}),
        (replace(BUCKET, precondition=DENIED), {"bucket-preconditions": Level.UNKNOWN}),
        (replace(BUCKET, precondition=Unknown(Ignorance.OURS, "there is no such bucket")), {"bucket": Level.FAILURE}),
        (replace(BUCKET, lifecycle=[EXPIRING]), {"bucket-lifecycle": Level.FAILURE}),
        (replace(BUCKET, lifecycle=DENIED), {"bucket-lifecycle": Level.UNKNOWN}),
        (replace(BUCKET, versioning=""), {"bucket-versioning": Level.WARNING}),
        (replace(BUCKET, versioning="Suspended"), {"bucket-versioning": Level.WARNING}),
        (replace(BUCKET, versioning=DENIED), {"bucket-versioning": Level.UNKNOWN}),
        (replace(BUCKET, encryption=()), {"bucket-encryption": Level.WARNING}),
        (replace(BUCKET, encryption=THROTTLED), {"bucket-encryption": Level.UNKNOWN}),
        (replace(BUCKET, blocks={"BlockPublicAcls": True}), {"bucket-public-access": Level.WARNING}),
        (replace(BUCKET, blocks={}), {"bucket-public-access": Level.WARNING}),
        (replace(BUCKET, blocks=DENIED), {"bucket-public-access": Level.UNKNOWN}),
    ],
)
def test_a_buckets_rules(seen: BucketSeen, expected: dict[str, Level]) -> None:
    assert bad(list(bucket.judge(seen))) == expected


# ---- permissions ----------------------------------------------------------------------------------------------------


def test_a_denial_fails_and_what_was_not_tried_is_said() -> None:
    found = list(
        permissions.judge(
            [
                Trial("SeeGroups", "hooks", Outcome.ALLOWED),
                Trial("WriteSnapshots", "snapshots", DENIED),
                Trial("ListObjects", "the head", THROTTLED),
                Trial("WriteHold", "a hold", Outcome.UNTRIED),
                Trial("UseKey", "encryption", Outcome.UNTRIED),
            ]
        )
    )
    assert bad(found) == {
        "permission-WriteSnapshots": Level.FAILURE,
        "permissions-unknown": Level.UNKNOWN,
        "permissions-untried": Level.UNKNOWN,
    }
    assert "WriteHold, UseKey" in found[-1].found


Answer = Callable[[Asked, Mapping[str, Any]], Mapping[str, Any]]


class Told(Aws):
    """Answers every call by a function, and remembers it."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("eu-west-1")
        self.answer = answer
        self.heard: list[tuple[str, Mapping[str, Any]]] = []

    def call(self, asked: Asked, **parameters: Any) -> Mapping[str, Any]:
        self.heard.append((asked.operation, parameters))
        return self.answer(asked, parameters)


def as_aws(asked: Asked, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Everything is allowed, and nothing of what the doctor names is there."""
    match asked.operation:
        case "PutObject" if "IfNoneMatch" in parameters:
            raise AlreadyThere("412")
        case "PutObject" | "AbortMultipartUpload":
            raise NotFound("404")
        case "CompleteLifecycleAction" | "RecordLifecycleActionHeartbeat" | "SetInstanceProtection":
            raise Refused(f"{asked}: ValidationError No active Lifecycle Action found", Ignorance.OURS)
        case "DeregisterTargets":
            raise Refused(f"{asked}: InvalidTarget", Ignorance.OURS)
        case "GetObject":
            return {"Body": b"{}"}
        case "ListObjectsV2":
            return {"IsTruncated": False, "Prefix": parameters["Prefix"]}
        case _:
            return {}


EVERYTHING = Scope(
    "acme",
    "etcd/prod/",
    kms_key_id="abc",
    protects=True,
    replaces=True,
    zone_id="Z1",
    target_groups=("arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/etcd/0a",),
    parameters="/etcd-asg-agent/prod",
    parameters_key_id="def",
)


def tried(aws: Told, precondition: Precondition | Unknown = Precondition.HONOURED) -> dict[str, Outcome | Unknown]:
    objects = Objects(aws, "acme", "etcd", "prod")
    patient = looking.Patient(
        aws, objects, "etcd", "i-00000001", precondition, EVERYTHING.parameters, EVERYTHING.target_groups
    )
    return {each.sid: each.outcome for each in looking.trials(patient, EVERYTHING)}


SIGNING = {"CreateAuthority", "UseAuthorityKey"}


def test_every_statement_is_tried_or_said_not_to_be() -> None:
    outcomes = tried(Told(as_aws))
    assert list(outcomes) == [each.sid for each in NEEDS if EVERYTHING.has(each.only)]
    untried = {sid for sid, outcome in outcomes.items() if outcome is Outcome.UNTRIED}
    assert untried == set(outcomes) - set(looking.ATTEMPTS)
    assert untried >= {"WriteHold", "DeleteSnapshots"}
    assert {sid for sid, outcome in outcomes.items() if outcome is Outcome.ALLOWED} == set(outcomes) - untried


def test_no_trial_can_land() -> None:
    """Each write names an object, a hook, an instance or an upload that is not there."""
    aws = Told(as_aws)
    tried(aws)
    for operation, parameters in aws.heard:
        match operation:
            case "PutObject":
                assert parameters["IfMatch"] == looking.NO_ETAG
                assert parameters["Key"].endswith(f"/{looking.NOBODY}")
            case "AbortMultipartUpload":
                assert parameters["UploadId"] == looking.NOBODY
            case "CompleteLifecycleAction" | "RecordLifecycleActionHeartbeat":
                assert parameters["LifecycleHookName"] == looking.NOBODY
            case "SetInstanceProtection":
                assert parameters["InstanceIds"] == [looking.NO_INSTANCE]
            case "DeregisterTargets":
                assert parameters["Targets"] == [{"Id": looking.NO_INSTANCE}]
            case _:
                assert operation.startswith(("Describe", "Get", "List"))


@pytest.mark.parametrize("precondition", [Precondition.IGNORED, Precondition.UNTRIED, THROTTLED])
def test_a_store_that_may_ignore_conditions_is_written_to_by_none(precondition: Precondition | Unknown) -> None:
    aws = Told(as_aws)
    outcomes = tried(aws, precondition)
    assert "PutObject" not in {operation for operation, _ in aws.heard}
    assert outcomes["WriteSnapshots"] is Outcome.UNTRIED


def test_a_denial_is_told_apart_from_trouble() -> None:
    def denied(asked: Asked, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        raise Refused(f"{asked} was denied")

    def throttled(asked: Asked, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        raise Unavailable(Ignorance.THROTTLED, "slow down")

    def why(outcome: Outcome | Unknown) -> Ignorance | None:
        return outcome.why if isinstance(outcome, Unknown) else None

    by_denial, by_trouble = tried(Told(denied)), tried(Told(throttled))
    for sid in (
        "SeeInstances",
        "AnswerHooks",
        "ReadObjects",
        "WriteReports",
        "EndUploads",
        "ProtectVoters",
        "RegisterTargets",
    ):
        assert why(by_denial[sid]) is Ignorance.DENIED, sid
        assert why(by_trouble[sid]) is Ignorance.THROTTLED, sid


@pytest.mark.parametrize(("denied", "missing"), [("GetObject", "ReadObjects"), ("PutObject", "WriteOnce")])
def test_a_probe_that_may_not_be_read_says_nothing_of_who_may_write_it(denied: str, missing: str) -> None:
    def answer(asked: Asked, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        if asked.operation == denied:
            raise Refused(f"{asked} was denied")
        return as_aws(asked, parameters)

    outcomes = tried(Told(answer), DENIED)
    assert {sid for sid, outcome in outcomes.items() if isinstance(outcome, Unknown)} == {missing}


@pytest.mark.parametrize(
    ("put", "expected"),
    [
        (AlreadyThere("412"), Precondition.HONOURED),
        (NotSupported("501"), Precondition.IGNORED),
        (None, Precondition.IGNORED),
    ],
)
def test_the_probe_is_written_with_its_own_bytes(put: Exception | None, expected: Precondition) -> None:
    def answer(asked: Asked, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        if asked.operation == "GetObject":
            return {"Body": b'{"probe": 1}\n'}
        assert parameters["Body"] == b'{"probe": 1}\n'
        if put is not None:
            raise put
        return {"ETag": '"x"'}

    assert looking.precondition(Objects(Told(answer), "acme", "etcd", "prod")) is expected


def test_without_a_probe_nothing_is_written() -> None:
    def answer(asked: Asked, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        assert asked.operation == "GetObject"
        raise NotFound("404")

    assert looking.precondition(Objects(Told(answer), "acme", "etcd", "prod")) is Precondition.UNTRIED


def test_rules_that_are_not_there_are_none() -> None:
    def answer(asked: Asked, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        raise NotFound("404")

    seen = looking.bucket(Objects(Told(answer), "acme", "etcd", "prod"))
    assert (seen.lifecycle, seen.encryption, seen.blocks) == ([], (), {})
    assert isinstance(seen.versioning, Unknown)
