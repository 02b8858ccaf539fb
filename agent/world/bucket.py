"""The door to S3: the generation protocol's objects, all below `PREFIX/CLUSTER/`.

House rules. What decides is written once, with `If-None-Match: *`, and never changed or deleted here. Lost answers,
ages and prefixes: see `agent.world.objects`. Keys that nobody of ours writes are ignored; a document of ours that
makes no sense is not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from agent.model.faults import Unavailable
from agent.model.generation import FIRST, Claim, Exclusion, FiledReport, Formed, GenerationRecord, Report
from agent.model.hold import Hold, released
from agent.model.ids import GenerationNumber, InstanceId
from agent.model.known import Ignorance
from agent.model.observation import BucketSound, BucketUnsound, BucketVerdict
from agent.model.snapshot import DrillRecord, Listed, Manifest, SnapshotName
from agent.world import snapshot_listing
from agent.world.aws import Aws
from agent.world.aws_errors import AlreadyThere, NotFound, NotSupported
from agent.world.bucket_lifecycle import expiring_rule
from agent.world.objects import Objects

RECORD = re.compile(r"(\d{6,})\.json")
HOLD = "hold.json"
AT_ONCE = 8
"""Reports read at the same time; a fleet has rarely more instances."""


def numbered(generation: GenerationNumber) -> str:
    return f"{generation:06d}"


class S3Bucket:
    """`agent.world.doors.Bucket` on S3 and what behaves like it. May be used from several threads."""

    def __init__(self, aws: Aws, bucket: str, prefix: str, cluster: str, kms_key_id: str = "") -> None:
        self._objects = Objects(aws, bucket, prefix, cluster, kms_key_id)
        self._root = self._objects.root

    # ---- is it fit? ------------------------------------------------------------------------------------------------

    def verdict(self) -> BucketVerdict:
        return self._precondition_fault() or self._lifecycle_fault() or BucketSound()

    def _precondition_fault(self) -> BucketUnsound | None:
        """A probe written twice: the second must be refused. One that is there already refuses the first."""
        try:
            self._objects.put("probe.json", '{"probe": "If-None-Match"}\n', once=True)
            self._objects.put("probe.json", '{"probe": "If-None-Match, ignored"}\n', once=True)
        except AlreadyThere:
            return None
        except NotSupported as error:
            why = f"bucket {self._objects.bucket} does not know conditional writes ({error})"
        else:
            why = f"bucket {self._objects.bucket} overwrote {self._root}probe.json in spite of If-None-Match"
        return BucketUnsound(why, "use a store that honours If-None-Match on PUT; AWS S3 does")

    def _lifecycle_fault(self) -> BucketUnsound | None:
        """A rule that could expire a record would, one day, make a second first generation."""
        rule = expiring_rule(self._lifecycle_rules(), self._root + "generations/")
        if rule is None:
            return None
        why = f"lifecycle rule {rule!r} of bucket {self._objects.bucket} could expire {self._root}generations/"
        return BucketUnsound(why, f"limit that rule to other prefixes, such as {self._root}snapshots/")

    def _lifecycle_rules(self) -> list[Mapping[str, Any]]:
        asked = self._objects.asked_of_bucket("GetBucketLifecycleConfiguration")
        try:
            return list(self._objects.aws.call(asked, Bucket=self._objects.bucket).get("Rules", ()))
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
        numbers = [number for key in self._objects.keys("generations/") if (number := _number_in(key))]
        if not numbers:
            return None
        record = self._record(max(numbers))
        if record is None:
            said = f"{self._root}generations/{numbered(max(numbers))}.json is listed and not there"
            raise Unavailable(Ignorance.MALFORMED, said)
        return record

    def _record(self, generation: GenerationNumber) -> GenerationRecord | None:
        key = _record_key(generation)
        record = self._objects.read(key, GenerationRecord.from_json)
        if record is not None and (record.generation, record.cluster) != (generation, self._objects.cluster):
            said = f"{self._root}{key} says it is generation {record.generation} of cluster {record.cluster!r}"
            raise Unavailable(Ignorance.MALFORMED, said)
        return record

    def create_generation(self, record: GenerationRecord) -> bool:
        assert record.cluster == self._objects.cluster
        assert record.generation >= FIRST
        found = self._objects.put_once(_record_key(record.generation), record.to_json(), GenerationRecord.from_json)
        return found is None or found.nonce == record.nonce

    # ---- claims and formed -----------------------------------------------------------------------------------------

    def claim(self, generation: GenerationNumber, instance: InstanceId) -> Claim | None:
        return self._objects.read(_claim_key(generation, instance), Claim.from_json)

    def write_claim(self, generation: GenerationNumber, claim: Claim) -> bool:
        found = self._objects.put_once(_claim_key(generation, claim.instance), claim.to_json(), Claim.from_json)
        return found is None or found == claim

    def formed(self, generation: GenerationNumber) -> Formed | None:
        return self._objects.read(_formed_key(generation), Formed.from_json)

    def write_formed(self, generation: GenerationNumber, formed: Formed) -> bool:
        found = self._objects.put_once(_formed_key(generation), formed.to_json(), Formed.from_json)
        return found is None or found == formed

    # ---- reports ---------------------------------------------------------------------------------------------------

    def reports(self, generation: GenerationNumber) -> tuple[FiledReport, ...]:
        prefix = f"assembly/{numbered(generation)}/"
        keys = [key for key in self._objects.keys(prefix) if key.endswith(".json")]
        if len(keys) < 2:
            found = [self._report(key) for key in keys]
        else:
            with ThreadPoolExecutor(min(AT_ONCE, len(keys)), "reports") as pool:
                found = list(pool.map(self._report, keys))
        return tuple(each for each in found if each is not None)

    def _report(self, key: str) -> FiledReport | None:
        """None where it was deleted since it was listed."""
        answer = self._objects.get(key)
        if answer is None:
            return None
        report = self._objects.parsed(key, answer["Body"], Report.from_json)
        if not key.endswith(f"/{report.instance}.json"):
            raise Unavailable(Ignorance.MALFORMED, f"{self._root}{key} is signed by {report.instance}")
        return FiledReport(report, self._objects.age_seconds(key, answer, answer.get("LastModified")))

    def file_report(self, generation: GenerationNumber, report: Report) -> None:
        self._objects.put(f"assembly/{numbered(generation)}/{report.instance}.json", report.to_json(), once=False)

    # ---- snapshots -------------------------------------------------------------------------------------------------

    def snapshots(self) -> tuple[Listed, ...]:
        return snapshot_listing.snapshots(self._objects)

    def manifest(self, name: SnapshotName) -> Manifest | None:
        return snapshot_listing.manifest(self._objects, name)

    def mark_bad(self, name: SnapshotName, why: str) -> None:
        snapshot_listing.mark_bad(self._objects, name, why)

    def why_bad(self, name: SnapshotName) -> str | None:
        return snapshot_listing.why_bad(self._objects, name)

    def expire(self, names: Sequence[SnapshotName]) -> None:
        snapshot_listing.expire(self._objects, names)

    def last_drill(self) -> DrillRecord | None:
        return snapshot_listing.last_drill(self._objects)

    def file_drill(self, record: DrillRecord) -> None:
        snapshot_listing.file_drill(self._objects, record)

    # ---- an operator's word ----------------------------------------------------------------------------------------

    def hold(self) -> Hold | None:
        answer = self._objects.get(HOLD)
        return None if answer is None else Hold.from_json(answer["Body"].decode(errors="replace"))

    def put_on_hold(self, hold: Hold) -> None:
        self._objects.put(HOLD, hold.to_json(), once=False)

    def release(self, who: str, why: str, when: datetime) -> None:
        """Nothing is deleted: who released it stays on record."""
        self._objects.put(HOLD, released(who, why, when), once=False)

    def exclusions(self, generation: GenerationNumber) -> tuple[Exclusion, ...]:
        found = (self._exclusion(key) for key in self._objects.keys(_excluded(generation)) if key.endswith(".json"))
        return tuple(each for each in found if each is not None)

    def _exclusion(self, key: str) -> Exclusion | None:
        """None where it was deleted since it was listed: nobody of ours does that."""
        exclusion = self._objects.read(key, Exclusion.from_json)
        if exclusion is not None and not key.endswith(f"/{exclusion.instance}.json"):
            raise Unavailable(Ignorance.MALFORMED, f"{self._root}{key} is about {exclusion.instance}")
        return exclusion

    def exclude(self, generation: GenerationNumber, exclusion: Exclusion) -> bool:
        key = f"{_excluded(generation)}{exclusion.instance}.json"
        found = self._objects.put_once(key, exclusion.to_json(), Exclusion.from_json)
        return found is None or found == exclusion


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


def _excluded(generation: GenerationNumber) -> str:
    return f"generations/{numbered(generation)}/excluded/"
