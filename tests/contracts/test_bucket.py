"""The bucket door against moto's S3: written once, read back when in doubt, and never a guess.

What the simulated bucket must do alike is asked of both in `test_parity_bucket`; here is what only S3 can show.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from agent.model.faults import Refused, Unavailable
from agent.model.generation import Cause, Claim, Exclusion, Formed, GenerationRecord, Holding, Report, Seed
from agent.model.hold import Hold
from agent.model.ids import ClusterId, GenerationNumber, InstanceId, MemberId, Nonce, PeerUrl
from agent.model.known import Ignorance
from agent.model.observation import BucketSound, BucketUnsound
from agent.model.snapshot import DrillRecord, DrillResult, Manifest, Origin, SnapshotName
from agent.world.aws import Aws
from agent.world.bucket import S3Bucket
from agent.world.doors import Bucket
from agent.world.objects import Objects
from agent.world.snapshot_listing import file_drill
from tests.contracts.aws_stand_in import DROP, HANG, REAL, REGION, Gateway, s3_error

ONE, TWO = GenerationNumber(1), GenerationNumber(2)
A, B = InstanceId("i-0a"), InstanceId("i-0b")
clusters = (f"bucket-{number}" for number in itertools.count(1))
calls: list[tuple[str, str, str, float]] = []


@pytest.fixture(scope="module")
def aws(gateway: Gateway) -> Aws:
    second = timedelta(seconds=1)
    return Aws(REGION, second, second, on_call=lambda *call: calls.append(call))


@pytest.fixture
def cluster(gateway: Gateway) -> Iterator[str]:
    """A name of its own for every test, so that none sees another's objects."""
    gateway.clear()
    calls.clear()
    yield next(clusters)
    gateway.clear()


@pytest.fixture
def bucket(aws: Aws, cluster: str) -> Bucket:
    return S3Bucket(aws, REAL, "etcd", cluster)


def s3() -> Any:
    return boto3.client("s3", region_name=REGION)


def record(cluster: str, generation: int = 1, nonce: str = "n1") -> GenerationRecord:
    return GenerationRecord(
        generation=GenerationNumber(generation),
        cluster=cluster,
        token=f"{cluster}-{generation:06d}-aa",
        created_by=A,
        created_at=datetime(2026, 11, 22, 7, tzinfo=UTC),
        agent="0",
        nonce=Nonce(nonce),
        founders={A: PeerUrl("http://10.0.0.1:2380"), B: PeerUrl("http://10.0.0.2:2380")},
        cause=Cause("first", {"reports": 2}),
        seed=Seed("snapshots/000001/x.json", 12, "ab", "snapshot") if generation > 1 else None,
    )


def report(instance: InstanceId = A) -> Report:
    return Report(instance, PeerUrl("http://10.0.0.1:2380"), "boot", Holding.NONE)


FORMED = Formed(ClusterId(0xABC), {MemberId(0x1): A, MemberId(0x2): B})
CLAIM = Claim(A, Nonce("n1"))
GONE = Exclusion(A, "its volume burnt", "alice", datetime(2026, 11, 22, 7, tzinfo=UTC))


# ---- one winner ---------------------------------------------------------------------------------------------------


def test_sixteen_writers_have_one_winner(bucket: Bucket, cluster: str) -> None:
    records = [record(cluster, nonce=f"n{number}") for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(bucket.create_generation, records))
    assert sum(won) == 1
    assert bucket.head(None) == records[won.index(True)]


def test_a_bucket_that_honours_preconditions_is_sound_however_often_it_is_asked(bucket: Bucket) -> None:
    assert bucket.verdict() == BucketSound()
    assert bucket.verdict() == BucketSound()


# ---- where things are, and what they cost --------------------------------------------------------------------------


def test_everything_lies_where_the_design_says(bucket: Bucket, cluster: str) -> None:
    bucket.create_generation(record(cluster))
    bucket.write_claim(ONE, CLAIM)
    bucket.write_formed(ONE, FORMED)
    bucket.file_report(ONE, report())
    found = [each["Key"] for each in s3().list_objects_v2(Bucket=REAL, Prefix=f"etcd/{cluster}/")["Contents"]]
    assert sorted(found) == [
        f"etcd/{cluster}/assembly/000001/i-0a.json",
        f"etcd/{cluster}/generations/000001.json",
        f"etcd/{cluster}/generations/000001/claims/i-0a.json",
        f"etcd/{cluster}/generations/000001/formed.json",
    ]


def test_a_prefix_is_optional(aws: Aws, cluster: str) -> None:
    S3Bucket(aws, REAL, "", cluster).create_generation(record(cluster))
    assert s3().get_object(Bucket=REAL, Key=f"{cluster}/generations/000001.json")["Body"].read()


def test_a_steady_look_at_the_head_is_one_get(bucket: Bucket, cluster: str) -> None:
    bucket.create_generation(record(cluster))
    calls.clear()
    bucket.head(record(cluster))
    assert [call[:3] for call in calls] == [("s3", "GetObject", "not-found")]


def test_one_cluster_never_sees_another_whose_name_begins_alike(aws: Aws, cluster: str) -> None:
    longer = S3Bucket(aws, REAL, "etcd", cluster + "0")
    longer.create_generation(record(cluster + "0"))
    longer.file_report(ONE, report())
    place(f"{cluster}0", NAME.data_key)
    shorter = S3Bucket(aws, REAL, "etcd", cluster)
    assert shorter.head(None) is None
    assert shorter.reports(ONE) == ()
    assert not shorter.snapshots()


def test_foreign_keys_are_ignored(bucket: Bucket, cluster: str) -> None:
    for key in ("generations/", "generations/README.md", "generations/7.json", "generations/000000.json",
                "generations/0000009.json", "generations/000009/formed.json", "assembly/000001/notes.txt"):  # fmt: skip
        s3().put_object(Bucket=REAL, Key=f"etcd/{cluster}/{key}", Body=b"?")
    assert bucket.head(None) is None
    assert bucket.reports(ONE) == ()


def test_a_steady_look_at_the_snapshots_is_one_listing(bucket: Bucket, cluster: str) -> None:
    place(cluster, NAME.data_key, b"data")
    place(cluster, NAME.manifest_key, manifest(cluster).to_json().encode())
    calls.clear()
    bucket.snapshots()
    assert [call[:3] for call in calls] == [("s3", "ListObjectsV2", "ok")]


def test_every_page_of_a_listing_is_read(bucket: Bucket, cluster: str, gateway: Gateway) -> None:
    for number in range(1, 6):
        bucket.create_generation(record(cluster, number))
    small = s3().list_objects_v2(Bucket=REAL, Prefix=f"etcd/{cluster}/generations/", MaxKeys=2)
    page = (
        f"<ListBucketResult><Name>{REAL}</Name><Prefix>etcd/{cluster}/generations/</Prefix><IsTruncated>true"
        f"</IsTruncated><NextContinuationToken>{small['NextContinuationToken']}</NextContinuationToken>"
        f"<Contents><Key>{small['Contents'][0]['Key']}</Key></Contents></ListBucketResult>"
    )
    gateway.spoil(r"^GET .*list-type=2", 200, page.encode())
    assert bucket.head(None) == record(cluster, 5)
    assert [call[1] for call in calls].count("ListObjectsV2") == 2


def test_a_second_page_that_fails_is_no_shorter_answer(bucket: Bucket, cluster: str, gateway: Gateway) -> None:
    page = (
        f"<ListBucketResult><Name>{REAL}</Name><Prefix>etcd/{cluster}/generations/</Prefix><IsTruncated>true"
        "</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>"
    )
    gateway.spoil(r"^GET .*list-type=2", 200, page.encode())
    gateway.spoil(r"continuation-token", 503, s3_error("SlowDown"))
    with pytest.raises(Unavailable):
        bucket.head(None)


def test_writes_are_encrypted_with_the_operators_key(aws: Aws, cluster: str) -> None:
    key = "arn:aws:kms:eu-west-1:123456789012:key/abc"
    S3Bucket(aws, REAL, "etcd", cluster, kms_key_id=key).create_generation(record(cluster))
    head = s3().head_object(Bucket=REAL, Key=f"etcd/{cluster}/generations/000001.json")
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", key)


# ---- lost answers --------------------------------------------------------------------------------------------------

Write = Callable[[Bucket, str], bool]
WRITES: dict[str, tuple[str, Write, Write]] = {
    "record": (
        r"000001\.json",
        lambda door, cluster: door.create_generation(record(cluster)),
        lambda door, cluster: door.create_generation(record(cluster, nonce="another")),
    ),
    "claim": (
        "claims/i-0a",
        lambda door, _: door.write_claim(ONE, CLAIM),
        lambda door, _: door.write_claim(ONE, replace(CLAIM, nonce=Nonce("another"))),
    ),
    "exclusion": (
        "excluded/i-0a",
        lambda door, _: door.exclude(ONE, GONE),
        lambda door, _: door.exclude(ONE, replace(GONE, by="bob")),
    ),
    "formed": (
        "formed",
        lambda door, _: door.write_formed(ONE, FORMED),
        lambda door, _: door.write_formed(ONE, replace(FORMED, voters={})),
    ),
}
LOST: dict[str, dict[str, Any]] = {
    "500": {"status": 500, "body": s3_error("InternalError")},
    "503": {"status": 503, "body": s3_error("SlowDown")},
    "412": {"status": 412, "body": s3_error("PreconditionFailed")},
    "409": {"status": 409, "body": s3_error("ConditionalRequestConflict")},
    "hang": {"status": HANG},
    "drop": {"status": DROP},
    "garbage": {"status": 200, "body": b"<html>captive portal</html>"},
}


@pytest.fixture(params=WRITES)
def document(request: pytest.FixtureRequest) -> tuple[str, Write, Write]:
    return WRITES[request.param]


@pytest.mark.parametrize("lost", LOST)
def test_a_write_that_landed_and_whose_answer_was_lost_is_won(
    bucket: Bucket, cluster: str, gateway: Gateway, document: tuple[str, Write, Write], lost: str
) -> None:
    key, ours, _ = document
    gateway.spoil(rf"^PUT \S*{key}", after=True, **LOST[lost])
    assert ours(bucket, cluster)


@pytest.mark.parametrize("lost", LOST)
def test_a_write_that_lost_the_race_and_its_answer_is_lost(
    bucket: Bucket, cluster: str, gateway: Gateway, document: tuple[str, Write, Write], lost: str
) -> None:
    key, ours, theirs = document
    assert theirs(bucket, cluster)
    gateway.spoil(rf"^PUT \S*{key}", after=True, **LOST[lost])
    assert not ours(bucket, cluster)


@pytest.mark.parametrize("lost", LOST)
def test_a_write_that_nobody_finds_is_unknown_and_is_not_repeated(
    bucket: Bucket, cluster: str, gateway: Gateway, document: tuple[str, Write, Write], lost: str
) -> None:
    key, ours, _ = document
    gateway.spoil(rf"^PUT \S*{key}", **LOST[lost])
    with pytest.raises(Unavailable):
        ours(bucket, cluster)
    assert len([line for line in gateway.heard if line.startswith("PUT")]) == 1


def test_where_reading_back_fails_too_it_is_unknown(
    bucket: Bucket, cluster: str, gateway: Gateway, document: tuple[str, Write, Write]
) -> None:
    key, ours, _ = document
    gateway.spoil(rf"^PUT \S*{key}", 500, after=True)
    gateway.spoil(rf"^GET \S*{key}", 500)
    with pytest.raises(Unavailable):
        ours(bucket, cluster)


def test_a_report_is_not_looked_up(bucket: Bucket, gateway: Gateway) -> None:
    gateway.spoil("^PUT .*assembly", 500, s3_error("InternalError"), after=True)
    with pytest.raises(Unavailable):
        bucket.file_report(ONE, report())
    assert not [line for line in gateway.heard if line.startswith("GET")]


# ---- snapshots -----------------------------------------------------------------------------------------------------

NAME = SnapshotName(ONE, 812, datetime(2026, 11, 22, 7, tzinfo=UTC))
LATER = SnapshotName(ONE, 900, datetime(2026, 11, 22, 8, tzinfo=UTC))
LOWER_OF_THE_NEXT = SnapshotName(TWO, 5, datetime(2026, 11, 22, 9, tzinfo=UTC))


def manifest(cluster: str, name: SnapshotName = NAME) -> Manifest:
    return Manifest(name, cluster, Origin.SCHEDULE, A, "0", "3.5.30", 4128, "ab" * 32, 4)


def place(cluster: str, key: str, body: bytes = b"?") -> None:
    s3().put_object(Bucket=REAL, Key=f"etcd/{cluster}/{key}", Body=body)


def test_snapshots_are_listed_as_they_are_oldest_first(bucket: Bucket, cluster: str) -> None:
    place(cluster, LOWER_OF_THE_NEXT.data_key, b"1234567")
    for key in (LATER.manifest_key, LATER.bad_key, NAME.data_key, NAME.manifest_key):
        place(cluster, key, b"1234")
    found = bucket.snapshots()
    assert [(each.name, each.stored_bytes, each.committed, each.bad) for each in found] == [
        (NAME, 4, True, False),
        (LATER, None, True, True),
        (LOWER_OF_THE_NEXT, 7, False, False),
    ]
    assert [each.usable for each in found] == [True, False, False]
    assert all(0 <= each.age_seconds < 10 for each in found)


def test_what_is_not_exactly_a_snapshots_key_is_none(bucket: Bucket, cluster: str) -> None:
    for key in ("snapshots/", "snapshots/000001/README.md", "snapshots/000001/x.db.zst", f"{NAME}", f"{NAME}.db",
                f"{NAME}.json.bak", f"snapshots/0{NAME.data_key.removeprefix('snapshots/')}",
                f"{NAME}".replace("T07", "T77") + ".json", f"old/{NAME.data_key}", f"snapshots/x/{NAME.data_key}",
                NAME.data_key.replace("snapshots/", "snapshots-old/")):  # fmt: skip
        place(cluster, key)
    place(f"{cluster}0", NAME.data_key)
    assert bucket.snapshots() == ()


def test_more_than_a_thousand_objects_are_all_listed(bucket: Bucket, cluster: str, gateway: Gateway) -> None:
    names = [replace(NAME, revision=number) for number in range(1, 1201)]
    gateway.spoil(
        "list-type=2", 200, listing(cluster, names[:1000], more="<NextContinuationToken>t</NextContinuationToken>")
    )
    gateway.spoil("continuation-token=t", 200, listing(cluster, names[1000:]))
    assert [each.name for each in bucket.snapshots()] == names


def listing(cluster: str, names: list[SnapshotName], when: str = "2009-03-01T10:00:00.000Z", more: str = "") -> bytes:
    """One page of a listing of these snapshots' data."""
    dated = f"<LastModified>{when}</LastModified>" if when else ""
    contents = "".join(
        f"<Contents><Key>etcd/{cluster}/{name.data_key}</Key><Size>4</Size>{dated}</Contents>" for name in names
    )
    return (
        f"<ListBucketResult><Name>{REAL}</Name><Prefix>etcd/{cluster}/snapshots/</Prefix>"
        f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}{contents}</ListBucketResult>"
    ).encode()


def test_the_age_of_a_snapshot_is_by_the_stores_own_clock(bucket: Bucket, cluster: str, gateway: Gateway) -> None:
    gateway.spoil("list-type=2", 200, listing(cluster, [NAME]))
    assert bucket.snapshots()[0].age_seconds > 15 * 365 * 86400


def test_a_snapshot_is_as_old_as_its_newest_object(bucket: Bucket, cluster: str, gateway: Gateway) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    more = "<NextContinuationToken>t</NextContinuationToken>"
    gateway.spoil("list-type=2", 200, listing(cluster, [NAME], more=more))
    gateway.spoil("continuation-token=t", 200, listing(cluster, [NAME], now).replace(b".db.zst", b".json"))
    found = bucket.snapshots()
    assert len(found) == 1
    assert found[0].age_seconds < 10


def test_an_object_without_a_time_has_no_age(bucket: Bucket, cluster: str, gateway: Gateway) -> None:
    gateway.spoil("list-type=2", 200, listing(cluster, [NAME], when=""))
    with pytest.raises(Unavailable, match="Last-Modified"):
        bucket.snapshots()


def test_a_manifest_of_another_cluster_or_snapshot_is_not_believed(bucket: Bucket, cluster: str) -> None:
    for wrong in (manifest("another"), manifest(cluster, LATER)):
        place(cluster, NAME.manifest_key, wrong.to_json().encode())
        with pytest.raises(Unavailable, match="says it is") as raised:
            bucket.manifest(NAME)
        assert raised.value.unknown.why is Ignorance.MALFORMED


def test_a_manifest_that_makes_no_sense_is_named(bucket: Bucket, cluster: str) -> None:
    place(cluster, NAME.manifest_key, b"{}")
    with pytest.raises(Unavailable, match=NAME.manifest_key):
        bucket.manifest(NAME)


def test_a_bad_snapshot_is_marked_and_the_first_word_stays(bucket: Bucket, cluster: str) -> None:
    place(cluster, NAME.data_key)
    bucket.mark_bad(NAME, "its digest differs")
    bucket.mark_bad(NAME, "again")
    assert bucket.snapshots()[0].bad
    assert b"its digest differs" in s3().get_object(Bucket=REAL, Key=f"etcd/{cluster}/{NAME.bad_key}")["Body"].read()


def test_what_expires_goes_manifest_first_and_takes_nothing_else_with_it(
    bucket: Bucket, cluster: str, gateway: Gateway
) -> None:
    for name in (NAME, LATER):
        for key in (name.data_key, name.manifest_key, name.bad_key):
            place(cluster, key)
            place(f"{cluster}0", key)
    gateway.clear()
    bucket.expire([NAME])
    deleted = [line.split()[1] for line in gateway.heard if line.startswith("DELETE")]
    assert deleted == [f"/{REAL}/etcd/{cluster}/{key}" for key in (NAME.manifest_key, NAME.data_key, NAME.bad_key)]
    assert [each.name for each in bucket.snapshots()] == [LATER]
    bucket.expire([NAME])


def test_where_the_manifest_cannot_be_deleted_the_data_stays(bucket: Bucket, cluster: str, gateway: Gateway) -> None:
    place(cluster, NAME.data_key)
    place(cluster, NAME.manifest_key)
    gateway.spoil("^DELETE", 403, s3_error("AccessDenied"))
    with pytest.raises(Refused, match="s3:DeleteObject"):
        bucket.expire([NAME])
    assert bucket.snapshots()[0].usable


def test_the_last_drill_is_the_one_that_was_written_last(aws: Aws, cluster: str) -> None:
    objects = Objects(aws, REAL, "etcd", cluster)
    bucket = S3Bucket(aws, REAL, "etcd", cluster)
    assert bucket.last_drill() is None
    passed = DrillRecord(NAME, A, DrillResult.PASSED, "revision 812, 5 keys", 1.5)
    file_drill(objects, passed)
    found = bucket.last_drill()
    assert found is not None
    assert 0 <= found.age_seconds < 10
    assert replace(found, age_seconds=0.0) == passed


# ---- an operator's word --------------------------------------------------------------------------------------------


def test_an_exclusion_under_anothers_name_is_not_believed(bucket: Bucket, cluster: str) -> None:
    place(cluster, "generations/000001/excluded/i-0b.json", GONE.to_json().encode())
    with pytest.raises(Unavailable, match="is about i-0a"):
        bucket.exclusions(ONE)


# ---- reads that fail -----------------------------------------------------------------------------------------------

READS: dict[str, Callable[[Bucket], object]] = {
    "head": lambda door: door.head(None),
    "formed": lambda door: door.formed(ONE),
    "claim": lambda door: door.claim(ONE, A),
    "reports": lambda door: door.reports(ONE),
    "snapshots": lambda door: door.snapshots(),
    "manifest": lambda door: door.manifest(NAME),
    "exclusions": lambda door: door.exclusions(ONE),
    "verdict": lambda door: door.verdict(),
}
WEATHER: dict[str, tuple[dict[str, Any], Ignorance]] = {
    "500": ({"status": 500, "body": s3_error("InternalError")}, Ignorance.FAILED),
    "503": ({"status": 503, "body": s3_error("SlowDown")}, Ignorance.THROTTLED),
    "hang": ({"status": HANG}, Ignorance.TIMEOUT),
    "drop": ({"status": DROP}, Ignorance.UNREACHABLE),
    "expired": ({"status": 400, "body": s3_error("ExpiredToken")}, Ignorance.OURS),
    "skewed": ({"status": 403, "body": s3_error("RequestTimeTooSkewed")}, Ignorance.OURS),
    "signature": ({"status": 403, "body": s3_error("SignatureDoesNotMatch")}, Ignorance.OURS),
}


@pytest.mark.parametrize("weather", WEATHER)
@pytest.mark.parametrize("read", READS)
def test_a_read_that_fails_is_unavailable_with_its_reason(
    bucket: Bucket, gateway: Gateway, read: str, weather: str
) -> None:
    how, why = WEATHER[weather]
    gateway.spoil(".", times=9, **how)
    with pytest.raises(Unavailable) as raised:
        READS[read](bucket)
    assert raised.value.unknown.why is why
    assert "\n" not in str(raised.value)
    assert calls[-1][2] == why


@pytest.mark.parametrize("read", READS)
def test_what_is_denied_is_refused_with_the_statement_that_would_allow_it(
    bucket: Bucket, gateway: Gateway, cluster: str, read: str
) -> None:
    gateway.spoil(".", 403, s3_error("AccessDenied"), times=9)
    with pytest.raises(Refused) as raised:
        READS[read](bucket)
    said = str(raised.value)
    assert '","Effect":"Allow","Action":"s3:' in said
    assert 'add {"Sid":"' in said
    assert "arn:aws:s3:::acme-etcd" in said
    assert "\n" not in said


@pytest.mark.parametrize("body", [b"", b"<html>404 not found</html>", s3_error("NotFound"), s3_error("NoSuchUpload")])
@pytest.mark.parametrize("read", READS)
def test_a_404_that_is_not_in_s3s_words_proves_nothing(
    bucket: Bucket, gateway: Gateway, read: str, body: bytes
) -> None:
    """A proxy or a wrong endpoint says 404 to everything; that is no empty bucket."""
    gateway.spoil("^GET ", 404, body, times=9)
    with pytest.raises(Unavailable) as raised:
        READS[read](bucket)
    assert raised.value.unknown.why is Ignorance.MALFORMED


def test_a_missing_right_to_use_a_key_is_named(bucket: Bucket, gateway: Gateway) -> None:
    key = "arn:aws:kms:eu-west-1:123456789012:key/abc"
    message = (
        "User: arn:aws:sts::123456789012:assumed-role/etcd/i-0a is not authorized to perform: "
        f"kms:GenerateDataKey on resource: {key} because no identity-based policy allows it"
    )
    gateway.spoil("^PUT ", 403, s3_error("AccessDenied").replace(b"said the test", message.encode()))
    with pytest.raises(Refused) as raised:
        bucket.file_report(ONE, report())
    assert f'"Action":"kms:GenerateDataKey","Resource":"{key}"' in str(raised.value)


def test_a_bucket_in_another_region_is_refused(bucket: Bucket, gateway: Gateway) -> None:
    gateway.spoil(".", 400, s3_error("AuthorizationHeaderMalformed"), times=9)
    with pytest.raises(Refused, match="another region"):
        bucket.head(None)


def test_a_missing_right_to_read_lifecycle_rules_is_named(bucket: Bucket, gateway: Gateway) -> None:
    gateway.spoil("^GET .*lifecycle", 403, s3_error("AccessDenied"))
    with pytest.raises(Refused, match=r'"Action":"s3:GetLifecycleConfiguration","Resource":"arn:aws:s3:::acme-etcd"'):
        bucket.verdict()


@pytest.mark.parametrize("read", READS)
def test_a_bucket_that_does_not_exist_is_refused(aws: Aws, gateway: Gateway, cluster: str, read: str) -> None:
    with pytest.raises(Refused, match=r"no such bucket; check storage\.bucket"):
        READS[read](S3Bucket(aws, "nobodys-bucket", "etcd", cluster))


@pytest.mark.parametrize("read", ["head", "reports", "snapshots"])
@pytest.mark.parametrize("body", [b"<html>hello</html>", b"hello", b"", b"<ListBucketResult></ListBucketResult>"])
def test_a_listing_that_is_none_is_not_an_empty_one(bucket: Bucket, gateway: Gateway, read: str, body: bytes) -> None:
    gateway.spoil(".", 200, body)
    with pytest.raises(Unavailable) as raised:
        READS[read](bucket)
    # botocore itself makes a 500 of a 200 that is no XML
    assert raised.value.unknown.why in (Ignorance.MALFORMED, Ignorance.FAILED)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff", b'{"generation": "one"}', b"not json"])
def test_a_document_that_makes_no_sense_is_unavailable_and_named(
    bucket: Bucket, cluster: str, body: bytes, gateway: Gateway
) -> None:
    for key in ("generations/000001.json", "generations/000001/formed.json", "assembly/000001/i-0a.json"):
        s3().put_object(Bucket=REAL, Key=f"etcd/{cluster}/{key}", Body=body)
        with pytest.raises(Unavailable, match=key) as raised:
            READS[{"i-0a": "reports", "formed": "formed"}.get(key.split("/")[-1][:-5], "head")](bucket)
        assert raised.value.unknown.why is Ignorance.MALFORMED


def test_a_record_of_another_number_or_cluster_is_not_believed(bucket: Bucket, cluster: str) -> None:
    for wrong in (record(cluster, 7), record("another")):
        s3().put_object(Bucket=REAL, Key=f"etcd/{cluster}/generations/000001.json", Body=wrong.to_json())
        with pytest.raises(Unavailable, match="says it is generation"):
            bucket.head(None)


def test_a_report_signed_by_another_is_not_believed(bucket: Bucket, cluster: str) -> None:
    s3().put_object(Bucket=REAL, Key=f"etcd/{cluster}/assembly/000001/i-0b.json", Body=report(A).to_json())
    with pytest.raises(Unavailable, match="signed by i-0a"):
        bucket.reports(ONE)


def test_a_report_that_vanished_since_it_was_listed_is_left_out(bucket: Bucket, gateway: Gateway) -> None:
    bucket.file_report(ONE, report(A))
    bucket.file_report(ONE, report(B))
    gateway.spoil("^GET .*i-0b.json", 404, s3_error("NoSuchKey"))
    assert [each.report for each in bucket.reports(ONE)] == [report(A)]


def test_one_report_that_cannot_be_read_is_no_shorter_answer(bucket: Bucket, gateway: Gateway) -> None:
    bucket.file_report(ONE, report(A))
    bucket.file_report(ONE, report(B))
    gateway.spoil("^GET .*i-0b.json", 500)
    with pytest.raises(Unavailable):
        bucket.reports(ONE)


def test_the_age_of_a_report_is_by_the_stores_own_clock(bucket: Bucket, gateway: Gateway) -> None:
    bucket.file_report(ONE, report(A))
    headers = {"Last-Modified": "Sun, 01 Mar 2009 10:00:00 GMT", "ETag": '"x"'}
    gateway.spoil("^GET .*i-0a.json", 200, report(A).to_json().encode(), headers=headers)
    with_our_date = bucket.reports(ONE)[0].age_seconds
    assert with_our_date > 15 * 365 * 86400


def test_a_kept_connection_that_had_grown_old_costs_a_read_nothing(
    bucket: Bucket, cluster: str, gateway: Gateway
) -> None:
    bucket.create_generation(record(cluster))
    gateway.spoil("^GET ", DROP, times=1)
    assert bucket.head(record(cluster)) == record(cluster)


# ---- is the bucket fit? --------------------------------------------------------------------------------------------


def test_a_store_that_ignores_preconditions_is_unsound(bucket: Bucket, gateway: Gateway) -> None:
    gateway.spoil("^PUT .*probe", 200, times=2, headers={"ETag": '"x"'})
    verdict = bucket.verdict()
    assert isinstance(verdict, BucketUnsound)
    assert "If-None-Match" in verdict.why


def test_a_store_that_does_not_know_preconditions_is_unsound(bucket: Bucket, gateway: Gateway) -> None:
    gateway.spoil("^PUT .*probe", 501, s3_error("NotImplemented"))
    assert isinstance(bucket.verdict(), BucketUnsound)


def test_a_store_that_knows_no_lifecycle_rules_expires_nothing(bucket: Bucket, gateway: Gateway) -> None:
    gateway.spoil("lifecycle", 501, s3_error("NotImplemented"))
    assert bucket.verdict() == BucketSound()


DAYS = {"Expiration": {"Days": 30}}
RULES: dict[str, tuple[dict[str, Any], bool]] = {
    "whole bucket": ({"Filter": {"Prefix": ""}, **DAYS}, True),
    "no filter": ({"Filter": {}, **DAYS}, True),
    "old style": ({"Prefix": "etcd/", **DAYS}, True),
    "a prefix above": ({"Filter": {"Prefix": "etcd/CLUSTER"}, **DAYS}, True),
    "a prefix below": ({"Filter": {"Prefix": "etcd/CLUSTER/generations/000001"}, **DAYS}, True),
    "a tag": ({"Filter": {"Tag": {"Key": "k", "Value": "v"}}, **DAYS}, True),
    "a tag and a prefix": (
        {"Filter": {"And": {"Prefix": "etcd/", "Tags": [{"Key": "k", "Value": "v"}]}}, **DAYS},
        True,
    ),
    "a date": ({"Filter": {"Prefix": ""}, "Expiration": {"Date": datetime(2030, 1, 1, tzinfo=UTC)}}, True),
    "noncurrent": ({"Filter": {"Prefix": ""}, "NoncurrentVersionExpiration": {"NoncurrentDays": 3}}, True),
    "glacier": ({"Filter": {"Prefix": ""}, "Transitions": [{"Days": 90, "StorageClass": "GLACIER"}]}, True),
    "cheaper, and readable": (
        {"Filter": {"Prefix": ""}, "Transitions": [{"Days": 90, "StorageClass": "GLACIER_IR"}]},
        False,
    ),
    "disabled": ({"Filter": {"Prefix": ""}, "Status": "Disabled", **DAYS}, False),
    "snapshots": ({"Filter": {"Prefix": "etcd/CLUSTER/snapshots/"}, **DAYS}, False),
    "assembly": ({"Filter": {"Prefix": "etcd/CLUSTER/assembly/"}, **DAYS}, False),
    "another cluster": ({"Filter": {"Prefix": "etcd/another/"}, **DAYS}, False),
    "a cluster whose name begins alike": ({"Filter": {"Prefix": "etcd/CLUSTER0/"}, **DAYS}, False),
    "unfinished uploads": (
        {"Filter": {"Prefix": ""}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}},
        False,
    ),
}


def _named(part: Any, cluster: str) -> Any:
    """The rule, about this cluster."""
    if isinstance(part, dict):
        return {key: _named(value, cluster) for key, value in part.items()}
    if isinstance(part, list):
        return [_named(value, cluster) for value in part]
    return part.replace("CLUSTER", cluster) if isinstance(part, str) else part


@pytest.mark.parametrize("name", RULES)
def test_a_lifecycle_rule_that_could_take_a_record_away_makes_the_bucket_unsound(
    aws: Aws, gateway: Gateway, cluster: str, name: str
) -> None:
    rule, unsound = RULES[name]
    placed = {"Status": "Enabled", "ID": "the-rule", **_named(rule, cluster)}
    own = f"{REAL}-{cluster}"
    s3().create_bucket(Bucket=own, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3().put_bucket_lifecycle_configuration(Bucket=own, LifecycleConfiguration={"Rules": [placed]})
    verdict = S3Bucket(aws, own, "etcd", cluster).verdict()
    assert isinstance(verdict, BucketUnsound) == unsound, verdict
    if isinstance(verdict, BucketUnsound):
        assert "the-rule" in verdict.why


# ---- counting ------------------------------------------------------------------------------------------------------


def test_every_call_is_counted_with_its_time(bucket: Bucket, cluster: str) -> None:
    bucket.create_generation(record(cluster))
    bucket.create_generation(record(cluster, nonce="another"))
    assert [call[:3] for call in calls] == [
        ("s3", "PutObject", "ok"),
        ("s3", "PutObject", "exists"),
        ("s3", "GetObject", "ok"),
    ]
    assert all(0 < call[3] < 5 for call in calls)


def test_a_hold_is_written_taken_over_and_released_and_stays_on_record(aws: Aws, cluster: str) -> None:
    door = S3Bucket(aws, REAL, "etcd", cluster)
    now = datetime(2026, 11, 22, 7, tzinfo=UTC)
    for who in ("anna", "bert"):
        door.put_on_hold(Hold(who, "we move the volumes", now))
        assert door.hold() == Hold(who, "we move the volumes", now)
    door.release("carla", "done", now)
    assert door.hold() is None
    assert b"carla" in s3().get_object(Bucket=REAL, Key=f"etcd/{cluster}/hold.json")["Body"].read()


def test_a_hold_in_no_encoding_holds(bucket: Bucket, cluster: str) -> None:
    place(cluster, "hold.json", b"\xff\xfe")
    assert bucket.hold() is not None
