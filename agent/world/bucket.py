"""The door to S3: the generation protocol's objects, all below `PREFIX/CLUSTER/`.

House rules. What decides is written once, with `If-None-Match: *`, and never changed or deleted here. A write whose
answer was lost, or was 409 or 412, is looked up: our own content in it means that it was ours. Ages are S3's: an
object's `Last-Modified` against the `Date` of the same answer. Every prefix ends in a slash, so that cluster `c1`
never sees `c10`. Keys that nobody of ours writes are ignored; a document of ours that makes no sense is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from agent.model.faults import Unavailable
from agent.model.generation import FIRST, Claim, FiledReport, Formed, GenerationRecord, Report
from agent.model.ids import GenerationNumber, InstanceId
from agent.model.known import Ignorance
from agent.model.observation import BucketSound, BucketUnsound, BucketVerdict
from agent.world.aws import Aws
from agent.world.aws_errors import AlreadyThere, Asked, NotFound, NotSupported
from agent.world.bucket_lifecycle import expiring_rule

T = TypeVar("T")

RECORD = re.compile(r"(\d{6,})\.json")
AT_ONCE = 8
"""Reports read at the same time; a fleet has rarely more instances."""


def numbered(generation: GenerationNumber) -> str:
    return f"{generation:06d}"


class S3Bucket:
    """`agent.world.doors.Bucket` on S3 and what behaves like it. May be used from several threads."""

    def __init__(self, aws: Aws, bucket: str, prefix: str, cluster: str, kms_key_id: str = "") -> None:
        assert bucket
        assert cluster
        self._aws = aws
        self._bucket = bucket
        self._cluster = cluster
        self._root = f"{prefix.strip('/')}/{cluster}/".lstrip("/")
        self._encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key_id} if kms_key_id else {}

    # ---- is it fit? ------------------------------------------------------------------------------------------------

    def verdict(self) -> BucketVerdict:
        return self._precondition_fault() or self._lifecycle_fault() or BucketSound()

    def _precondition_fault(self) -> BucketUnsound | None:
        """A probe written twice: the second must be refused. One that is there already refuses the first."""
        try:
            self._put("probe.json", '{"probe": "If-None-Match"}\n', once=True)
            self._put("probe.json", '{"probe": "If-None-Match, ignored"}\n', once=True)
        except AlreadyThere:
            return None
        except NotSupported as error:
            why = f"bucket {self._bucket} does not know conditional writes ({error})"
        else:
            why = f"bucket {self._bucket} overwrote {self._root}probe.json in spite of If-None-Match"
        return BucketUnsound(why, "use a store that honours If-None-Match on PUT; AWS S3 does")

    def _lifecycle_fault(self) -> BucketUnsound | None:
        """A rule that could expire a record would, one day, make a second first generation."""
        rule = expiring_rule(self._lifecycle_rules(), self._root + "generations/")
        if rule is None:
            return None
        why = f"lifecycle rule {rule!r} of bucket {self._bucket} could expire {self._root}generations/"
        return BucketUnsound(why, f"limit that rule to other prefixes, such as {self._root}snapshots/")

    def _lifecycle_rules(self) -> list[Mapping[str, Any]]:
        asked = Asked("s3", "GetBucketLifecycleConfiguration", f"bucket {self._bucket}", f"arn:aws:s3:::{self._bucket}")
        try:
            return list(self._aws.call(asked, Bucket=self._bucket).get("Rules", ()))
        except NotFound:
            return []
        except NotSupported:
            return []  # a store that knows no lifecycle expires nothing

    # ---- generations -----------------------------------------------------------------------------------------------

    def head(self, after: GenerationRecord | None) -> GenerationRecord | None:
        newest = self._newest_listed() if after is None else after
        while newest is not None:
            successor = self._record(GenerationNumber(newest.generation + 1))
            if successor is None:
                return newest
            newest = successor
        return None

    def _newest_listed(self) -> GenerationRecord | None:
        numbers = [number for key in self._keys("generations/", nested=False) if (number := _number_in(key))]
        if not numbers:
            return None
        record = self._record(max(numbers))
        if record is None:
            said = f"{self._root}generations/{numbered(max(numbers))}.json is listed and not there"
            raise Unavailable(Ignorance.MALFORMED, said)
        return record

    def _record(self, generation: GenerationNumber) -> GenerationRecord | None:
        key = _record_key(generation)
        record = self._read(key, GenerationRecord.from_json)
        if record is not None and (record.generation, record.cluster) != (generation, self._cluster):
            said = f"{self._root}{key} says it is generation {record.generation} of cluster {record.cluster!r}"
            raise Unavailable(Ignorance.MALFORMED, said)
        return record

    def create_generation(self, record: GenerationRecord) -> bool:
        assert record.cluster == self._cluster
        assert record.generation >= FIRST
        found = self._write_once(_record_key(record.generation), record.to_json(), GenerationRecord.from_json)
        return found is None or found.nonce == record.nonce

    # ---- claims and formed -----------------------------------------------------------------------------------------

    def claim(self, generation: GenerationNumber, instance: InstanceId) -> Claim | None:
        return self._read(_claim_key(generation, instance), Claim.from_json)

    def write_claim(self, generation: GenerationNumber, claim: Claim) -> bool:
        found = self._write_once(_claim_key(generation, claim.instance), claim.to_json(), Claim.from_json)
        return found is None or found == claim

    def formed(self, generation: GenerationNumber) -> Formed | None:
        return self._read(_formed_key(generation), Formed.from_json)

    def write_formed(self, generation: GenerationNumber, formed: Formed) -> bool:
        found = self._write_once(_formed_key(generation), formed.to_json(), Formed.from_json)
        return found is None or found == formed

    # ---- reports ---------------------------------------------------------------------------------------------------

    def reports(self, generation: GenerationNumber) -> tuple[FiledReport, ...]:
        prefix = f"assembly/{numbered(generation)}/"
        keys = [key for key in self._keys(prefix, nested=False) if key.endswith(".json")]
        if len(keys) < 2:
            found = [self._report(key) for key in keys]
        else:
            with ThreadPoolExecutor(min(AT_ONCE, len(keys)), "reports") as pool:
                found = list(pool.map(self._report, keys))
        return tuple(each for each in found if each is not None)

    def _report(self, key: str) -> FiledReport | None:
        """None where it was deleted since it was listed."""
        answer = self._get(key)
        if answer is None:
            return None
        report = self._parsed(key, answer["Body"], Report.from_json)
        if not key.endswith(f"/{report.instance}.json"):
            raise Unavailable(Ignorance.MALFORMED, f"{self._root}{key} is signed by {report.instance}")
        return FiledReport(report, self._age_seconds(key, answer))

    def _age_seconds(self, key: str, answer: Mapping[str, Any]) -> float:
        try:
            written: datetime = answer["LastModified"]
            now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
            return max(0.0, (now - written).total_seconds())
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable(Ignorance.MALFORMED, f"{self._root}{key} came without Date or Last-Modified") from error

    def file_report(self, generation: GenerationNumber, report: Report) -> None:
        self._put(f"assembly/{numbered(generation)}/{report.instance}.json", report.to_json(), once=False)

    # ---- snapshots -------------------------------------------------------------------------------------------------

    def snapshots_exist(self) -> bool:
        return next(self._keys("snapshots/", page=1), None) is not None

    # ---- the four calls --------------------------------------------------------------------------------------------

    def _write_once(self, key: str, text: str, parse: Callable[[str], T]) -> T | None:
        """None: written, and known to be. Otherwise what is there: ours, if the answer was lost, or another's."""
        try:
            self._put(key, text, once=True)
        except AlreadyThere as error:
            found = self._read(key, parse)
            if found is None:
                raise Unavailable(Ignorance.FAILED, f"{self._root}{key} exists, and then it does not") from error
            return found
        except Unavailable:
            found = self._read(key, parse)
            if found is None:
                raise  # it may still land
            return found
        return None

    def _put(self, key: str, text: str, once: bool) -> None:
        only_new = {"IfNoneMatch": "*"} if once else {}
        answer = self._aws.call(
            self._asked("PutObject", key),
            Bucket=self._bucket,
            Key=self._root + key,
            Body=text.encode(),
            ContentType="application/json",
            **only_new,
            **self._encryption,
        )
        if not answer.get("ETag"):
            said = f"the answer to PutObject of {self._root}{key} has no ETag: is this S3?"
            raise Unavailable(Ignorance.MALFORMED, said)

    def _read(self, key: str, parse: Callable[[str], T]) -> T | None:
        """None: S3 says that there is no such object."""
        answer = self._get(key)
        return None if answer is None else self._parsed(key, answer["Body"], parse)

    def _get(self, key: str) -> Mapping[str, Any] | None:
        try:
            return self._aws.call(self._asked("GetObject", key), Bucket=self._bucket, Key=self._root + key)
        except NotFound:
            return None

    def _parsed(self, key: str, body: bytes, parse: Callable[[str], T]) -> T:
        try:
            return parse(body.decode())
        except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are among them
            raise Unavailable(Ignorance.MALFORMED, f"s3://{self._bucket}/{self._root}{key}: {error}") from error

    def _keys(self, under: str, nested: bool = True, page: int = 1000) -> Iterator[str]:
        """Keys below our root, every page of them as it is needed."""
        assert under.endswith("/")
        asked = Asked("s3", "ListObjectsV2", f"bucket {self._bucket}", f"arn:aws:s3:::{self._bucket}")
        wanted = {"Bucket": self._bucket, "Prefix": self._root + under, "MaxKeys": page}
        if not nested:
            wanted["Delimiter"] = "/"
        while True:
            answer = self._aws.call(asked, **wanted)
            if "IsTruncated" not in answer or answer.get("Prefix") != wanted["Prefix"]:
                said = f"the answer to a listing of {self._root}{under} is not about it: is this S3?"
                raise Unavailable(Ignorance.MALFORMED, said)
            yield from (each["Key"].removeprefix(self._root) for each in answer.get("Contents", ()))
            if not answer["IsTruncated"]:
                return
            wanted["ContinuationToken"] = answer["NextContinuationToken"]

    def _asked(self, operation: str, key: str) -> Asked:
        where = f"{self._bucket}/{self._root}"
        return Asked("s3", operation, f"s3://{where}{key}", f"arn:aws:s3:::{where}*")


def _number_in(key: str) -> GenerationNumber | None:
    """The generation of a record's key; None for what is none of ours."""
    match = RECORD.fullmatch(key.removeprefix("generations/"))
    if match is None:
        return None
    number = GenerationNumber(int(match[1]))
    return number if number >= FIRST and numbered(number) == match[1] else None


def _record_key(generation: GenerationNumber) -> str:
    return f"generations/{numbered(generation)}.json"


def _claim_key(generation: GenerationNumber, instance: InstanceId) -> str:
    return f"generations/{numbered(generation)}/claims/{instance}.json"


def _formed_key(generation: GenerationNumber) -> str:
    return f"generations/{numbered(generation)}/formed.json"
