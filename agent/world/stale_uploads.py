"""Multipart uploads that nobody will complete: what a killed agent leaves costs money, and is in no listing of objects.

House rules. Only below the prefix that is given; how old one is is by S3's clock on both ends.
IAM: s3:ListBucketMultipartUploads on the bucket, s3:AbortMultipartUpload on the objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from agent.model.faults import Unavailable
from agent.model.known import Ignorance
from agent.world.aws_errors import NotFound
from agent.world.objects import Objects


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A multipart upload that was begun and neither completed nor aborted."""

    key: str  # below the cluster's root
    upload_id: str
    age_seconds: float


def abort(objects: Objects, under: str, older_than: timedelta) -> int:
    """Abort those below `under` that were begun longer ago than that; how many there were."""
    stale = [each for each in unfinished(objects, under) if each.age_seconds > older_than.total_seconds()]
    for each in stale:
        where = {"Bucket": objects.bucket, "Key": objects.root + each.key, "UploadId": each.upload_id}
        with suppress(NotFound):  # somebody else was faster
            objects.aws.call(objects.asked("AbortMultipartUpload", each.key), **where)
    return len(stale)


def unfinished(objects: Objects, under: str) -> Iterator[Unfinished]:
    """Every one below this prefix, every page of them."""
    assert under.endswith("/")
    wanted = {"Bucket": objects.bucket, "Prefix": objects.root + under}
    while True:
        answer = objects.aws.call(objects.asked_of_bucket("ListMultipartUploads"), **wanted)
        if "IsTruncated" not in answer:
            raise Unavailable(Ignorance.MALFORMED, "the answer to ListMultipartUploads is none: is this S3?")
        for each in answer.get("Uploads", ()):
            if each["Key"].startswith(wanted["Prefix"]):  # a store may ignore the prefix
                key = each["Key"].removeprefix(objects.root)
                yield Unfinished(key, each["UploadId"], objects.age_seconds(key, answer, each.get("Initiated")))
        if not answer["IsTruncated"]:
            return
        wanted |= {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}
