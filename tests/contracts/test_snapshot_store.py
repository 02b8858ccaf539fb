"""Snapshots into moto's S3 and out of it, in good weather and bad: no manifest without its data, no data without a
digest, nothing left behind by what failed, and never more in memory than was allowed.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import itertools
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import boto3
import pytest
import zstandard
from boto3.s3.transfer import TransferConfig

from agent.model.faults import Refused, Trouble, Unavailable
from agent.model.ids import GenerationNumber, InstanceId
from agent.model.known import Ignorance
from agent.model.snapshot import Manifest, Origin, SnapshotName
from agent.world.aws import Aws
from agent.world.aws_errors import AlreadyThere
from agent.world.snapshot_store import SnapshotStore, Transfers
from agent.world.snapshot_stream import PartSums, TrailedDigest, Uploaded
from tests.bench import sink
from tests.contracts.aws_stand_in import CUT, DROP, HANG, REAL, REGION, SLOW, Gateway, s3_error

MIB = 1 << 20
PART = 5 * MIB
NAME = SnapshotName(GenerationNumber(1), 812, datetime(2026, 11, 22, 7, tzinfo=UTC))
clusters = (f"store-{number}" for number in itertools.count(1))
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


TRANSFERS = Transfers(part_bytes=PART, uploads=2, range_bytes=2 * MIB, downloads=2, silence=timedelta(seconds=1))


@pytest.fixture(scope="module")
def stores(aws: Aws) -> Callable[[str], SnapshotStore]:
    return lambda cluster: SnapshotStore(aws, REAL, "etcd", cluster, transfers=TRANSFERS)


@pytest.fixture
def store(stores: Callable[[str], SnapshotStore], cluster: str) -> SnapshotStore:
    return stores(cluster)


@cache
def s3() -> Any:
    return boto3.client("s3", region_name=REGION)


# ---- snapshots as etcd gives them ----------------------------------------------------------------------------------

SMALL = random.Random(1).randbytes(64 * 1024)
BIG = random.Random(2).randbytes(PART + MIB // 4)  # two parts, three ranges


def trailed(database: bytes) -> bytes:
    return database + sha256(database).digest()


def pieces(snapshot: bytes) -> list[bytes]:
    """32 KiB at a time, as etcd streams it; the trailer comes alone."""
    return [snapshot[at : at + 32768] for at in range(0, len(snapshot), 32768)]


def manifest(cluster: str, sent: Uploaded, name: SnapshotName = NAME) -> Manifest:
    where = (name, cluster, Origin.SCHEDULE, InstanceId("i-0a"), "0", "3.5.30")
    return Manifest(*where, sent.size_bytes, sent.sha256, sent.stored_bytes)


def keys(cluster: str) -> list[str]:
    found = s3().list_objects_v2(Bucket=REAL, Prefix=f"etcd/{cluster}/").get("Contents", [])
    return [each["Key"].removeprefix(f"etcd/{cluster}/") for each in found]


def unfinished(cluster: str) -> list[str]:
    found = s3().list_multipart_uploads(Bucket=REAL, Prefix=f"etcd/{cluster}/").get("Uploads", [])
    return [each["Key"] for each in found]


def place(cluster: str, key: str, body: bytes) -> None:
    s3().put_object(Bucket=REAL, Key=f"etcd/{cluster}/{key}", Body=body)


def stored(cluster: str, key: str) -> bytes:
    body: bytes = s3().get_object(Bucket=REAL, Key=f"etcd/{cluster}/{key}")["Body"].read()
    return body


def uploaded(store: SnapshotStore, cluster: str, database: bytes = SMALL) -> Manifest:
    found = manifest(cluster, store.upload(NAME, pieces(trailed(database))))
    store.commit(found)
    return found


# ---- there and back ------------------------------------------------------------------------------------------------

DATABASES = {
    "empty": b"",
    "small": SMALL,
    "two parts": BIG,
    "compressible": b'{"kind": "Pod"}\n' * (32 * 1024 * 16),
}


@pytest.mark.parametrize("database", DATABASES.values(), ids=DATABASES)
def test_what_went_up_comes_down(store: SnapshotStore, cluster: str, database: bytes, tmp_path: Path) -> None:
    snapshot = trailed(database)
    heard: list[int] = []
    sent = store.upload(NAME, pieces(snapshot), heard.append)
    assert (sent.size_bytes, sent.sha256) == (len(snapshot), sha256(database).hexdigest())
    assert keys(cluster) == [NAME.data_key]
    assert sent.stored_bytes == len(stored(cluster, NAME.data_key))
    assert heard == sorted(heard)
    assert heard[-1] == len(snapshot)
    store.commit(manifest(cluster, sent))
    heard.clear()
    store.fetch(manifest(cluster, sent), tmp_path / "seed.db", heard.append)
    assert (tmp_path / "seed.db").read_bytes() == snapshot
    assert [each.name for each in tmp_path.iterdir()] == ["seed.db"]
    assert heard[-1] == len(snapshot)
    assert unfinished(cluster) == []


def test_what_is_stored_is_plain_zstd(store: SnapshotStore, cluster: str) -> None:
    uploaded(store, cluster)
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(stored(cluster, NAME.data_key))
    assert plain == trailed(SMALL)


@pytest.mark.parametrize("size", [1, 7, 31, 32, 33, 511, 512, 5000])
def test_the_pieces_may_be_of_any_size(size: int) -> None:
    snapshot, digest = trailed(SMALL[:8192]), TrailedDigest()
    for at in range(0, len(snapshot), size):
        digest.update(snapshot[at : at + size])
    assert (digest.size_bytes, digest.trailed, digest.agrees) == (8224, True, True)
    assert digest.sha256 == sha256(SMALL[:8192]).hexdigest()


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 1])
def test_our_checksum_is_the_one_that_s3_answers(gateway: Gateway, cluster: str, size: int) -> None:
    """Of moto, that is; the transfer manager's parts begin where ours do."""
    sums, body = PartSums(PART), (BIG + BIG)[:size]
    for at in range(0, size, 3 * MIB):
        sums.update(body[at : at + 3 * MIB])
    if size < PART:
        s3().put_object(Bucket=REAL, Key=cluster, Body=body, ChecksumAlgorithm="CRC32")
    else:
        config = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART)
        with_sums = {"ChecksumAlgorithm": "CRC32"}
        s3().upload_fileobj(io.BytesIO(body), REAL, cluster, Config=config, ExtraArgs=with_sums)
    answer = s3().head_object(Bucket=REAL, Key=cluster, ChecksumMode="ENABLED")["ChecksumCRC32"]
    assert answer.partition("-")[0] == sums.checksum


def test_an_upload_is_encrypted_with_the_operators_key(aws: Aws, cluster: str) -> None:
    key = "arn:aws:kms:eu-west-1:123456789012:key/abc"
    for database in (SMALL, BIG):
        name = replace(NAME, revision=len(database))
        SnapshotStore(aws, REAL, "etcd", cluster, key, TRANSFERS).upload(name, pieces(trailed(database)))
        head = s3().head_object(Bucket=REAL, Key=f"etcd/{cluster}/{name.data_key}")
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", key)


def test_every_request_of_an_upload_is_counted(store: SnapshotStore, cluster: str, gateway: Gateway) -> None:
    gateway.spoil("^PUT .*partNumber=2", 503, s3_error("SlowDown"))
    store.upload(NAME, pieces(trailed(BIG)))
    counted = sorted(call[:3] for call in calls)
    assert counted == [
        ("s3", "CompleteMultipartUpload", "ok"),
        ("s3", "CreateMultipartUpload", "ok"),
        ("s3", "HeadObject", "ok"),
        ("s3", "UploadPart", "ok"),
        ("s3", "UploadPart", "ok"),
        ("s3", "UploadPart", "throttled"),
    ]
    assert all(0 < call[3] < 5 for call in calls)


# ---- what must not be uploaded -------------------------------------------------------------------------------------

BOTH = pytest.mark.parametrize("database", [SMALL, BIG], ids=["one put", "multipart"])


def nothing_is_left(cluster: str) -> bool:
    return keys(cluster) == [] and unfinished(cluster) == []


@BOTH
@pytest.mark.parametrize("missing", [1, 32, 512 + 32, 40_000])
def test_a_stream_that_broke_off_is_unavailable(
    store: SnapshotStore, cluster: str, database: bytes, missing: int
) -> None:
    with pytest.raises(Unavailable, match="broke off"):
        store.upload(NAME, pieces(trailed(database)[:-missing]))
    assert nothing_is_left(cluster)


def test_no_stream_at_all_is_unavailable(store: SnapshotStore, cluster: str) -> None:
    with pytest.raises(Unavailable, match="broke off after 0 bytes"):
        store.upload(NAME, [])
    assert nothing_is_left(cluster)


@BOTH
def test_a_digest_that_is_not_that_of_the_bytes_is_refused(store: SnapshotStore, cluster: str, database: bytes) -> None:
    with pytest.raises(Refused, match="take the snapshot from another member"):
        store.upload(NAME, pieces(database + sha256(b"another").digest()))
    assert nothing_is_left(cluster)


@BOTH
def test_what_the_source_raises_is_raised(store: SnapshotStore, cluster: str, database: bytes) -> None:
    def stream() -> Iterator[bytes]:
        yield database
        raise Unavailable(Ignorance.TIMEOUT, "etcd said no more")

    with pytest.raises(Unavailable, match="etcd said no more"):
        store.upload(NAME, stream())
    assert nothing_is_left(cluster)


# ---- bad weather on the way up -------------------------------------------------------------------------------------

UP = r"^PUT \S*db.zst"


@BOTH
def test_what_is_denied_names_the_statement(
    store: SnapshotStore, cluster: str, gateway: Gateway, database: bytes
) -> None:
    gateway.spoil(UP, 403, s3_error("AccessDenied"), times=9)
    with pytest.raises(Refused, match='"Action":"s3:PutObject","Resource":"arn:aws:s3:::acme-etcd/etcd/'):
        store.upload(NAME, pieces(trailed(database)))
    assert nothing_is_left(cluster)


def test_after_a_part_failed_no_more_is_read_of_etcd(store: SnapshotStore, cluster: str, gateway: Gateway) -> None:
    gateway.spoil(UP, 403, s3_error("AccessDenied"), times=9)
    taken = []

    def stream() -> Iterator[bytes]:
        for number in range(64):
            taken.append(number)
            yield BIG[:MIB]

    with pytest.raises(Refused, match="denied"):
        store.upload(NAME, stream())
    assert len(taken) < 40
    assert nothing_is_left(cluster)


@BOTH
@pytest.mark.parametrize("how", [{"status": 503, "body": s3_error("SlowDown")}, {"status": CUT}, {"status": SLOW}])
def test_a_part_is_sent_again(
    store: SnapshotStore, cluster: str, gateway: Gateway, database: bytes, how: dict[str, Any]
) -> None:
    gateway.spoil(UP, **how)
    assert store.upload(NAME, pieces(trailed(database))).size_bytes == len(database) + 32
    assert unfinished(cluster) == []


STORMS: dict[str, tuple[dict[str, Any], Ignorance]] = {
    "503": ({"status": 503, "body": s3_error("SlowDown")}, Ignorance.THROTTLED),
    "cut": ({"status": CUT}, Ignorance.UNREACHABLE),
}


@BOTH
@pytest.mark.parametrize("storm", STORMS)
def test_a_storm_is_unavailable_and_leaves_nothing(
    store: SnapshotStore, cluster: str, gateway: Gateway, database: bytes, storm: str
) -> None:
    how, why = STORMS[storm]
    gateway.spoil(UP, times=20, **how)
    with pytest.raises(Unavailable) as raised:
        store.upload(NAME, pieces(trailed(database)))
    assert raised.value.unknown.why is why
    assert nothing_is_left(cluster)


def test_silence_is_a_timeout(store: SnapshotStore, cluster: str, gateway: Gateway) -> None:
    gateway.spoil(UP, HANG, times=20)
    with pytest.raises(Unavailable) as raised:
        store.upload(NAME, pieces(trailed(SMALL)))
    assert raised.value.unknown.why is Ignorance.TIMEOUT


LOST: dict[str, dict[str, Any]] = {
    "500": {"status": 500, "body": s3_error("InternalError")},
    "drop": {"status": DROP},
    "412": {"status": 412, "body": s3_error("PreconditionFailed")},
    "409": {"status": 409, "body": s3_error("ConditionalRequestConflict")},
    "garbage": {"status": 200, "body": b"<html>captive portal</html>"},
}
LAST = {"one put": (SMALL, UP), "multipart": (BIG, "^POST .*uploadId=")}


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("last", LAST)
def test_an_upload_that_landed_and_whose_answer_was_lost_is_done(
    store: SnapshotStore, cluster: str, gateway: Gateway, last: str, lost: str
) -> None:
    database, request = LAST[last]
    gateway.spoil(request, after=True, **LOST[lost])
    assert store.upload(NAME, pieces(trailed(database))).sha256 == sha256(database).hexdigest()
    assert (keys(cluster), unfinished(cluster)) == ([NAME.data_key], [])


@pytest.mark.parametrize("last", LAST)
def test_an_upload_that_did_not_land_is_unavailable(
    store: SnapshotStore, cluster: str, gateway: Gateway, last: str
) -> None:
    database, request = LAST[last]
    gateway.spoil(request, 500, s3_error("InternalError"), times=9)
    with pytest.raises(Unavailable):
        store.upload(NAME, pieces(trailed(database)))
    assert nothing_is_left(cluster)


@BOTH
def test_anothers_data_under_this_name_stays_as_it_is(store: SnapshotStore, cluster: str, database: bytes) -> None:
    place(cluster, NAME.data_key, b"another's")
    with pytest.raises(AlreadyThere):
        store.upload(NAME, pieces(trailed(database)))
    assert stored(cluster, NAME.data_key) == b"another's"
    assert unfinished(cluster) == []


# ---- what S3 holds is looked at ------------------------------------------------------------------------------------


def head_answers(gateway: Gateway, size: int, **headers: str) -> None:
    known = {"ETag": '"x-3"', "Content-Length": str(size), "Last-Modified": "Sun, 22 Nov 2026 07:00:00 GMT"}
    gateway.spoil("^HEAD", 200, headers=known | {name.replace("_", "-"): value for name, value in headers.items()})


def test_a_store_that_holds_fewer_bytes_is_found_out(store: SnapshotStore, gateway: Gateway, cluster: str) -> None:
    head_answers(gateway, 17)
    with pytest.raises(Unavailable, match="S3 holds 17 bytes of"):
        store.upload(NAME, pieces(trailed(SMALL)))


def test_a_store_whose_checksum_differs_is_found_out(store: SnapshotStore, gateway: Gateway, cluster: str) -> None:
    size = store.upload(NAME, pieces(trailed(BIG))).stored_bytes
    wrong = base64.b64encode(b"\0\0\0\1").decode()
    head_answers(gateway, size, x_amz_checksum_crc32=f"{wrong}-3")
    with pytest.raises(Unavailable, match="other bytes than were sent"):
        store.upload(replace(NAME, revision=813), pieces(trailed(BIG)))


FOREIGN_SUMS = {
    "none": {},
    "over the whole": {"x_amz_checksum_crc32": "AAAAAA==", "x_amz_checksum_type": "FULL_OBJECT"},
    "another algorithm": {"x_amz_checksum_crc64nvme": "AAAAAAAAAAA="},
}


@pytest.mark.parametrize("sums", FOREIGN_SUMS)
def test_where_no_checksum_compares_the_object_is_read_back(
    store: SnapshotStore, gateway: Gateway, cluster: str, sums: str
) -> None:
    size = store.upload(NAME, pieces(trailed(BIG))).stored_bytes
    calls.clear()
    head_answers(gateway, size, **FOREIGN_SUMS[sums])
    store.upload(replace(NAME, revision=813), pieces(trailed(BIG)))
    assert [call[1] for call in calls].count("GetObject") > 2


def test_where_it_reads_back_otherwise_it_is_refused(store: SnapshotStore, gateway: Gateway, cluster: str) -> None:
    size = store.upload(NAME, pieces(trailed(SMALL))).stored_bytes
    head_answers(gateway, size)
    gateway.spoil("^GET .*db.zst", 206, b"?", headers={"Content-Range": f"bytes 0-0/{size}", "ETag": '"x"'})
    gateway.spoil("^GET .*db.zst", 206, b"?" * size, headers={"ETag": '"x"'})
    with pytest.raises(Refused, match="cannot be unpacked"):
        store.upload(replace(NAME, revision=813), pieces(trailed(SMALL)))


# ---- the manifest --------------------------------------------------------------------------------------------------

NOBODYS = Uploaded(32, sha256(b"").hexdigest(), 41)


def test_a_manifest_without_its_data_is_refused(store: SnapshotStore, cluster: str) -> None:
    with pytest.raises(Refused):
        store.commit(manifest(cluster, NOBODYS))
    place(cluster, NAME.data_key, b"something else")
    with pytest.raises(Refused, match="has 14 bytes, not 41"):
        store.commit(manifest(cluster, NOBODYS))
    assert keys(cluster) == [NAME.data_key]


def test_whether_the_data_is_there_must_be_known(store: SnapshotStore, cluster: str, gateway: Gateway) -> None:
    sent = store.upload(NAME, pieces(trailed(SMALL)))
    gateway.spoil("^GET .*db.zst", 404, b"<html>not here</html>", times=9)
    with pytest.raises(Unavailable):
        store.commit(manifest(cluster, sent))
    assert keys(cluster) == [NAME.data_key]


@pytest.mark.parametrize("lost", [*LOST, "hang"])
def test_a_manifest_whose_answer_was_lost_is_looked_up(
    store: SnapshotStore, cluster: str, gateway: Gateway, lost: str
) -> None:
    sent = manifest(cluster, store.upload(NAME, pieces(trailed(SMALL))))
    gateway.spoil("^PUT .*json", after=True, **LOST.get(lost, {"status": HANG}))
    store.commit(sent)
    store.commit(sent)
    assert Manifest.from_json(stored(cluster, NAME.manifest_key).decode()) == sent


def test_a_manifest_that_did_not_land_is_written_once_and_no_more(
    store: SnapshotStore, cluster: str, gateway: Gateway
) -> None:
    sent = manifest(cluster, store.upload(NAME, pieces(trailed(SMALL))))
    gateway.spoil("^PUT .*json", 503, s3_error("SlowDown"))
    with pytest.raises(Unavailable):
        store.commit(sent)
    assert len([line for line in gateway.heard if line.startswith("PUT") and "json" in line]) == 1


def test_anothers_manifest_stays(store: SnapshotStore, cluster: str) -> None:
    sent = uploaded(store, cluster)
    with pytest.raises(Refused, match="i-0a wrote another manifest"):
        store.commit(replace(sent, instance=InstanceId("i-0b")))
    assert Manifest.from_json(stored(cluster, NAME.manifest_key).decode()) == sent


# ---- down ----------------------------------------------------------------------------------------------------------


def damaged(cluster: str, key: str, at: int) -> None:
    body = bytearray(stored(cluster, key))
    body[at] ^= 1
    place(cluster, key, bytes(body))


def packed(snapshot: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(snapshot)


OTHER = trailed(SMALL[:32768] + bytes(32768))
SPOILT: dict[str, tuple[Callable[[str, Manifest], None], str]] = {
    "gone": (lambda c, m: s3().delete_object(Bucket=REAL, Key=f"etcd/{c}/{NAME.data_key}"), "data is not there"),
    "empty": (lambda c, m: place(c, NAME.data_key, b""), "has 0 bytes"),
    "truncated": (lambda c, m: place(c, NAME.data_key, stored(c, NAME.data_key)[:-9]), "its manifest says"),
    "longer": (lambda c, m: place(c, NAME.data_key, stored(c, NAME.data_key) + b"\0"), "its manifest says"),
    "a bit in the frame's head": (lambda c, m: damaged(c, NAME.data_key, 1), "cannot be unpacked"),
    "a bit in the middle": (lambda c, m: damaged(c, NAME.data_key, m.stored_bytes // 2), "sha256|cannot be unpacked"),
    "a bit at the end": (lambda c, m: damaged(c, NAME.data_key, m.stored_bytes - 1), "cannot be unpacked"),
    "not zstd": (lambda c, m: place(c, NAME.data_key, b"?" * m.stored_bytes), "cannot be unpacked"),
    "gzip": (lambda c, m: place(c, NAME.data_key, b"\x1f\x8b" + b"?" * (m.stored_bytes - 2)), "cannot be unpacked"),
    "another snapshot": (lambda c, m: place(c, NAME.data_key, padded(packed(OTHER), m.stored_bytes)), "sha256 is"),
    "half a snapshot": (lambda c, m: place(c, NAME.data_key, padded(packed(SMALL[:4096]), m.stored_bytes)), "unpacks"),
    "a bomb": (lambda c, m: place(c, NAME.data_key, padded(packed(bytes(64 * MIB)), m.stored_bytes)), "more than the"),
}


def padded(frame: bytes, size: int) -> bytes:
    """With a frame behind it that says nothing ("skippable" of RFC 8878), so that the object's size is as it was."""
    left = size - len(frame) - 8
    return frame if left < 0 else frame + b"\x50\x2a\x4d\x18" + left.to_bytes(4, "little") + bytes(left)


@pytest.mark.parametrize("spoilt", SPOILT)
def test_what_is_not_what_was_written_is_refused_and_leaves_no_file(
    store: SnapshotStore, cluster: str, tmp_path: Path, spoilt: str
) -> None:
    wanted = uploaded(store, cluster)
    spoil, words = SPOILT[spoilt]
    spoil(cluster, wanted)
    with pytest.raises(Refused, match=words) as raised:
        store.fetch(wanted, tmp_path / "seed.db")
    assert "restore an older one" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_lies_about_a_database_without_its_trailer_is_refused(
    store: SnapshotStore, cluster: str, tmp_path: Path
) -> None:
    body = SMALL + bytes(32)
    place(cluster, NAME.data_key, packed(body))
    lie = Uploaded(len(body), sha256(SMALL).hexdigest(), len(packed(body)))
    with pytest.raises(Refused, match="etcd's own trailing sha256"):
        store.fetch(manifest(cluster, lie), tmp_path / "seed.db")
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_of_another_cluster_is_refused(store: SnapshotStore, cluster: str, tmp_path: Path) -> None:
    wanted = uploaded(store, cluster)
    with pytest.raises(Refused, match="is of cluster 'another'"):
        store.fetch(replace(wanted, cluster="another"), tmp_path / "seed.db")


def test_what_a_killed_agent_left_is_replaced(store: SnapshotStore, cluster: str, tmp_path: Path) -> None:
    (tmp_path / "seed.db.partial").write_bytes(b"x" * (1 << 20))
    store.fetch(uploaded(store, cluster), tmp_path / "seed.db")
    assert (tmp_path / "seed.db").read_bytes() == trailed(SMALL)
    assert [each.name for each in tmp_path.iterdir()] == ["seed.db"]


def test_a_file_that_is_there_stays_where_the_new_one_is_no_good(
    store: SnapshotStore, cluster: str, tmp_path: Path
) -> None:
    wanted = uploaded(store, cluster)
    (tmp_path / "seed.db").write_bytes(b"older")
    damaged(cluster, NAME.data_key, 1)
    with pytest.raises(Refused):
        store.fetch(wanted, tmp_path / "seed.db")
    assert (tmp_path / "seed.db").read_bytes() == b"older"


def test_a_folder_that_is_not_there_is_refused(store: SnapshotStore, cluster: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="No such file or directory"):
        store.fetch(uploaded(store, cluster), tmp_path / "nowhere" / "seed.db")


@pytest.mark.parametrize("how", [{"status": 503, "body": s3_error("SlowDown")}, {"status": CUT, "after": True},
                                 {"status": DROP}, {"status": SLOW}])  # fmt: skip
def test_a_range_is_asked_for_again(
    store: SnapshotStore, cluster: str, gateway: Gateway, tmp_path: Path, how: dict[str, Any]
) -> None:
    wanted = uploaded(store, cluster, BIG)
    gateway.spoil("^GET .*db.zst", status=SLOW)  # the look at its size
    gateway.spoil("^GET .*db.zst", **how)
    store.fetch(wanted, tmp_path / "seed.db")
    assert (tmp_path / "seed.db").read_bytes() == trailed(BIG)


WAYS_DOWN: dict[str, tuple[dict[str, Any], Ignorance]] = {
    "503": ({"status": 503, "body": s3_error("SlowDown")}, Ignorance.THROTTLED),
    "cut": ({"status": CUT, "after": True}, Ignorance.UNREACHABLE),
    "drop": ({"status": DROP}, Ignorance.UNREACHABLE),
    "nonsense": ({"status": 404, "body": b"<html>404</html>"}, Ignorance.MALFORMED),
    "expired": ({"status": 400, "body": s3_error("ExpiredToken")}, Ignorance.OURS),
}


@pytest.mark.parametrize("way", WAYS_DOWN)
def test_weather_is_unavailable_and_leaves_no_file(
    store: SnapshotStore, cluster: str, gateway: Gateway, tmp_path: Path, way: str
) -> None:
    wanted = uploaded(store, cluster)
    how, why = WAYS_DOWN[way]
    gateway.spoil("^GET .*db.zst", times=99, **how)
    with pytest.raises(Unavailable) as raised:
        store.fetch(wanted, tmp_path / "seed.db")
    assert raised.value.unknown.why is why
    assert list(tmp_path.iterdir()) == []


def test_an_object_that_is_replaced_while_it_is_read_is_refused(
    store: SnapshotStore, cluster: str, gateway: Gateway, tmp_path: Path
) -> None:
    wanted = uploaded(store, cluster)
    headers = {"Content-Range": f"bytes 0-0/{wanted.stored_bytes}", "ETag": '"the one before"'}
    gateway.spoil("^GET .*db.zst", 206, b"(", headers=headers)
    with pytest.raises(Refused, match="replaced while it was read"):
        store.fetch(wanted, tmp_path / "seed.db")


# ---- what was made elsewhere ---------------------------------------------------------------------------------------

FOREIGN: dict[str, Callable[[bytes], bytes]] = {"plain": bytes, "zst": packed, "gz": gzip.compress}


@pytest.mark.parametrize("form", FOREIGN)
def test_a_file_of_etcdctls_is_adopted(store: SnapshotStore, cluster: str, tmp_path: Path, form: str) -> None:
    s3().put_object(Bucket=REAL, Key=f"backups/{cluster}/of old", Body=FOREIGN[form](trailed(BIG)))
    sent = store.adopt(f"s3://{REAL}/backups/{cluster}/of old", NAME)
    assert (sent.size_bytes, sent.sha256) == (len(BIG) + 32, sha256(BIG).hexdigest())
    store.commit(manifest(cluster, sent))
    store.fetch(manifest(cluster, sent), tmp_path / "seed.db")
    assert (tmp_path / "seed.db").read_bytes() == trailed(BIG)


UNFIT: dict[str, tuple[bytes, str]] = {
    "a database without a digest": (SMALL, "a copy of member/snap/db has no digest"),
    "a digest that is another's": (SMALL + sha256(b"").digest(), "etcd's own sha256 is not that of"),
    "nothing": (b"", "do not end in etcd's digest"),
    "half a gzip": (gzip.compress(trailed(SMALL))[:-5000], "cannot be unpacked"),
    "half a zstd": (packed(trailed(SMALL))[:-5000], "do not end in etcd's digest|cannot be unpacked"),
    "gzip of something else": (gzip.compress(b"hello"), "do not end in etcd's digest"),
}


@pytest.mark.parametrize("unfit", UNFIT)
def test_a_file_that_is_no_snapshot_is_refused(store: SnapshotStore, cluster: str, unfit: str) -> None:
    body, words = UNFIT[unfit]
    s3().put_object(Bucket=REAL, Key=f"backups/{cluster}", Body=body)
    with pytest.raises(Refused, match=words):
        store.adopt(f"s3://{REAL}/backups/{cluster}", NAME)
    assert nothing_is_left(cluster)


@pytest.mark.parametrize("url", ["", "https://x/y", "s3://", "s3://bucket", "s3://bucket/"])
def test_what_is_no_url_of_s3_is_refused(store: SnapshotStore, url: str) -> None:
    with pytest.raises(Refused, match="expected s3://BUCKET/KEY"):
        store.adopt(url, NAME)


def test_a_file_that_is_not_there_or_not_ours_to_read_is_refused(
    store: SnapshotStore, cluster: str, gateway: Gateway
) -> None:
    with pytest.raises(Refused, match="NoSuchKey"):
        store.adopt(f"s3://{REAL}/backups/none", NAME)
    gateway.spoil("^GET .*backups", 403, s3_error("AccessDenied"), times=9)
    with pytest.raises(Refused, match='"Action":"s3:GetObject","Resource":"arn:aws:s3:::acme-etcd/backups/none"'):
        store.adopt(f"s3://{REAL}/backups/none", NAME)


# ---- what is left behind -------------------------------------------------------------------------------------------

DAY = timedelta(days=1)


def begin(cluster: str, key: str = NAME.data_key) -> None:
    s3().create_multipart_upload(Bucket=REAL, Key=f"etcd/{cluster}/{key}")


def test_an_upload_that_could_not_be_aborted_is_aborted_later(
    store: SnapshotStore, cluster: str, gateway: Gateway
) -> None:
    gateway.spoil("^DELETE", 503, s3_error("SlowDown"), times=3)
    with pytest.raises(Unavailable):
        store.upload(NAME, pieces(BIG))
    assert len(unfinished(cluster)) == 1
    assert store.abort_stale_uploads(DAY) == 1  # moto says of every upload that it was begun in 2010
    assert unfinished(cluster) == []
    assert store.abort_stale_uploads(DAY) == 0


def test_only_our_own_snapshots_uploads_are_aborted(store: SnapshotStore, cluster: str) -> None:
    others = [f"{cluster}0", f"{cluster}/x", cluster]
    for other, key in zip(others, (NAME.data_key, NAME.data_key, "drills/x"), strict=True):
        begin(other, key)
    begin(cluster)
    assert store.abort_stale_uploads(DAY) == 1
    assert len(unfinished(cluster)) == 2
    assert len(unfinished(f"{cluster}0")) == 1


def page(cluster: str, begun: str, upload_id: str, more: str = "") -> bytes:
    return (
        f"<ListMultipartUploadsResult><IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}<Upload>"
        f"<Key>etcd/{cluster}/{NAME.data_key}</Key><UploadId>{upload_id}</UploadId><Initiated>{begun}</Initiated>"
        "</Upload></ListMultipartUploadsResult>"
    ).encode()


def test_a_young_upload_is_under_way_and_every_page_is_read(
    store: SnapshotStore, cluster: str, gateway: Gateway
) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    more = "<NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>"
    gateway.spoil("^GET .*uploads", 200, page(cluster, now, "young", more))
    gateway.spoil("^GET .*key-marker=k.*upload-id-marker=u", 200, page(cluster, "2020-01-01T00:00:00.000Z", "old"))
    assert store.abort_stale_uploads(DAY) == 1  # it is gone already: that is as good
    deleted = [line for line in gateway.heard if line.startswith("DELETE")]
    assert len(deleted) == 1
    assert "uploadId=old" in deleted[0]


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"<ListMultipartUploadsResult></ListMultipartUploadsResult>"])
def test_a_listing_of_uploads_that_is_none_is_unavailable(store: SnapshotStore, gateway: Gateway, body: bytes) -> None:
    gateway.spoil("^GET .*uploads", 200, body)
    with pytest.raises(Unavailable):
        store.abort_stale_uploads(DAY)


def test_a_missing_right_to_list_uploads_is_named(store: SnapshotStore, gateway: Gateway) -> None:
    gateway.spoil("^GET .*uploads", 403, s3_error("AccessDenied"))
    with pytest.raises(Refused, match='"s3:ListBucketMultipartUploads","Resource":"arn:aws:s3:::acme-etcd"'):
        store.abort_stale_uploads(DAY)


def test_deleting_is_manifest_first_and_stays_among_our_own(
    stores: Callable[[str], SnapshotStore], cluster: str
) -> None:
    ours, theirs = stores(cluster), stores(f"{cluster}0")
    uploaded(ours, cluster)
    uploaded(theirs, f"{cluster}0")
    ours.delete([NAME])
    ours.delete([NAME])
    assert keys(cluster) == []
    assert keys(f"{cluster}0") == [NAME.data_key, NAME.manifest_key]


# ---- whatever breaks, wherever it breaks ---------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("number", range(9))
def test_whichever_request_fails_for_good_there_is_no_manifest_without_verified_data(
    store: SnapshotStore, cluster: str, gateway: Gateway, tmp_path: Path, number: int, database: bytes
) -> None:
    """The n-th request of upload and commit is denied, and all after it: what then counts is whole."""
    gateway.spoil(".", 403, s3_error("AccessDenied"), skip=number, times=99)
    sent = None
    with contextlib.suppress(Trouble):
        sent = manifest(cluster, store.upload(NAME, pieces(trailed(database))))
        store.commit(sent)
    gateway.clear()
    if NAME.manifest_key in keys(cluster):
        assert sent is not None
        store.fetch(sent, tmp_path / "seed.db")


# ---- in bounded memory, and without a file -------------------------------------------------------------------------

SCRIPT = """
import os, resource, sys
from datetime import UTC, datetime
from hashlib import sha256
from agent.model.ids import GenerationNumber
from agent.model.snapshot import SnapshotName
from agent.world.aws import Aws
from agent.world.snapshot_store import SnapshotStore

def stream():
    digest = sha256()
    for _ in range(300 * 32):
        piece = os.urandom(32768)
        digest.update(piece)
        yield piece
    yield digest.digest()

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # whoever writes to a file ends here
store = SnapshotStore(Aws("eu-west-1"), "acme-etcd", "etcd", "c1")
name = SnapshotName(GenerationNumber(1), 1, datetime(2026, 11, 22, tzinfo=UTC))
store._client
before = peak_mb()
sent = store.upload(name, stream())
assert sent.stored_bytes > 300 << 20, sent
print(before, peak_mb())
"""


def test_a_stream_of_any_size_takes_a_bounded_amount_of_memory_and_no_file(gateway: Gateway) -> None:
    with sink.running(discard=True) as (url, _):
        environment = os.environ | {"AWS_ENDPOINT_URL": url}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stderr
    before, peak = map(float, done.stdout.split())
    assert peak - before < 80  # MiB: six parts of 8, and what the libraries take; the stream has 300
