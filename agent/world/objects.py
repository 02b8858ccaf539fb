"""One cluster's objects in S3, all below `PREFIX/CLUSTER/`: put, put once, read, list, delete.

House rules. Keys are given below that root. A write whose answer was lost, or was 409 or 412, is looked up: our own
content in it means that it was ours. Every prefix ends in a slash, so that cluster `c1` never sees `c10`. Ages are
S3's: an object's `Last-Modified` against the `Date` of the same answer. A document that makes no sense is
`Unavailable`, never absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from agent.model.faults import Unavailable
from agent.model.known import Ignorance
from agent.world.aws import Aws
from agent.world.aws_errors import AlreadyThere, Asked, NotFound
from agent.world.permissions import need_of, object_arn

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as a listing shows it."""

    key: str  # below the cluster's root
    size_bytes: int
    age_seconds: float  # by S3's clock on both ends


class Objects:
    """The calls, and how they fail. May be used from several threads."""

    def __init__(self, aws: Aws, bucket: str, prefix: str, cluster: str, kms_key_id: str = "") -> None:
        assert bucket
        assert cluster
        self.aws = aws
        self.bucket = bucket
        self.cluster = cluster
        self.root = f"{prefix.strip('/')}/{cluster}/".lstrip("/")
        self.encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key_id} if kms_key_id else {}

    def put_once(self, key: str, text: str, parse: Callable[[str], T]) -> T | None:
        """None: written, and known to be. Otherwise what is there: ours, if the answer was lost, or another's."""
        try:
            self.put(key, text, once=True)
        except AlreadyThere as error:
            found = self.read(key, parse)
            if found is None:
                raise Unavailable(Ignorance.FAILED, f"{self.root}{key} exists, and then it does not") from error
            return found
        except Unavailable:
            found = self.read(key, parse)
            if found is None:
                raise  # it may still land
            return found
        return None

    def put(self, key: str, text: str, once: bool) -> None:
        only_new = {"IfNoneMatch": "*"} if once else {}
        answer = self.aws.call(
            self.asked("PutObject", key),
            Bucket=self.bucket,
            Key=self.root + key,
            Body=text.encode(),
            ContentType="application/json",
            **only_new,
            **self.encryption,
        )
        if not answer.get("ETag"):
            said = f"the answer to PutObject of {self.root}{key} has no ETag: is this S3?"
            raise Unavailable(Ignorance.MALFORMED, said)

    def read(self, key: str, parse: Callable[[str], T]) -> T | None:
        """None: S3 says that there is no such object."""
        answer = self.get(key)
        return None if answer is None else self.parsed(key, answer["Body"], parse)

    def get(self, key: str) -> Mapping[str, Any] | None:
        """The whole answer, its body read. None: there is no such object."""
        try:
            return self.aws.call(self.asked("GetObject", key), Bucket=self.bucket, Key=self.root + key)
        except NotFound:
            return None

    def parsed(self, key: str, body: bytes, parse: Callable[[str], T]) -> T:
        try:
            return parse(body.decode())
        except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are among them
            raise Unavailable(Ignorance.MALFORMED, f"s3://{self.bucket}/{self.root}{key}: {error}") from error

    def delete(self, key: str) -> None:
        """What is not there is deleted. In a bucket with versions the last one stays, under a delete marker."""
        self.aws.call(self.asked("DeleteObject", key), Bucket=self.bucket, Key=self.root + key)

    def keys(self, under: str) -> Iterator[str]:
        """Keys right below this prefix, not those in folders of it."""
        for answer in self._pages(under, Delimiter="/"):
            yield from (each["Key"].removeprefix(self.root) for each in answer.get("Contents", ()))

    def listed(self, under: str) -> Iterator[StoredObject]:
        """Everything below this prefix, every page of it."""
        for answer in self._pages(under):
            for each in answer.get("Contents", ()):
                key = each["Key"].removeprefix(self.root)
                yield StoredObject(key, each.get("Size", 0), self.age_seconds(key, answer, each.get("LastModified")))

    def _pages(self, under: str, **more: str) -> Iterator[Mapping[str, Any]]:
        assert under.endswith("/")
        wanted = {"Bucket": self.bucket, "Prefix": self.root + under, "MaxKeys": 1000, **more}
        while True:
            answer = self.aws.call(self.asked_of_bucket("ListObjectsV2"), **wanted)
            if "IsTruncated" not in answer or answer.get("Prefix") != wanted["Prefix"]:
                said = f"the answer to a listing of {self.root}{under} is not about it: is this S3?"
                raise Unavailable(Ignorance.MALFORMED, said)
            yield answer
            if not answer["IsTruncated"]:
                return
            wanted["ContinuationToken"] = answer["NextContinuationToken"]

    def age_seconds(self, key: str, answer: Mapping[str, Any], since: Any) -> float:
        """From `since`, a time in this answer if there is one, to the moment of the answer; never less than 0."""
        try:
            now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
            return max(0.0, float((now - since).total_seconds()))
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable(Ignorance.MALFORMED, f"{self.root}{key} came without Date or Last-Modified") from error

    def asked(self, operation: str, key: str) -> Asked:
        need = need_of(f"s3:{operation}", key)
        arn = object_arn(self.bucket, self.root, need.place_of(key) if need else key)
        return Asked("s3", operation, f"s3://{self.bucket}/{self.root}{key}", arn, key)

    def asked_of_bucket(self, operation: str) -> Asked:
        return Asked("s3", operation, f"bucket {self.bucket}", f"arn:aws:s3:::{self.bucket}")
