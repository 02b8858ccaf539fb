"""The simulated bucket: the store's own rules about what is written once, and what lies in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import TypeVar

from agent.model.faults import Unavailable
from agent.model.generation import Claim, Exclusion, FiledReport, Formed, GenerationRecord, Report
from agent.model.hold import Hold
from agent.model.ids import GenerationNumber, InstanceId
from agent.model.known import Ignorance
from agent.model.observation import BucketSound, BucketUnsound, BucketVerdict
from agent.model.snapshot import BAD, DATA, MANIFEST, DrillRecord, Listed, Manifest, SnapshotName
from tests.simulation.doors import Door

T = TypeVar("T")

CLUSTER = "prod"
RECORD = re.compile(r"generations/(?!000000)\d{6}\.json")

report_of, manifest_of = lru_cache(512)(Report.from_json), lru_cache(512)(Manifest.from_json)
"""Frozen values, read again and again: most of the simulation's time would go into their JSON."""


class SimBucket(Door):
    name = "s3"

    def _once(
        self,
        key: str,
        text: str,
        parse: Callable[[str], T],
        is_ours: Callable[[T], bool],
        landed: Callable[[], None] = lambda: None,
    ) -> bool:
        """The store's own rule: 412 where it exists. Whoever is in doubt reads back; our own word means that we won."""
        taken: list[str] = []

        def effect() -> None:
            if key in self.sim.objects and self.sim.honours_preconditions:
                taken.append(key)
            else:
                self.sim.objects[key] = (text, self.sim.now)
                landed()

        try:
            self.write(effect)
        except Unavailable:
            found = self._read(key, parse)
            if found is None:
                raise  # it may still land
            return is_ours(found)
        if not taken:
            return True
        found = self._read(key, parse)
        if found is None:
            raise Unavailable(Ignorance.FAILED, f"{key} exists, and then it does not")
        return is_ours(found)

    def _get(self, key: str) -> str | None:
        self.read()
        found = self.sim.objects.get(key)
        return None if found is None else found[0]

    def _read(self, key: str, parse: Callable[[str], T]) -> T | None:
        text = self._get(key)
        return None if text is None else _parsed(key, text, parse)

    def _right_below(self, prefix: str) -> list[str]:
        self.read()
        return [key for key in sorted(self.sim.objects) if key.startswith(prefix) and "/" not in key[len(prefix) :]]

    def _below(self, prefix: str, parse: Callable[[str], T]) -> list[tuple[str, T, datetime]]:
        found = [(key, *self.sim.objects[key]) for key in self._right_below(prefix) if key.endswith(".json")]
        return [(key, _parsed(key, text, parse), at) for key, text, at in found]

    def _age(self, at: datetime) -> float:
        return (self.sim.now - at).total_seconds()

    def verdict(self) -> BucketVerdict:
        self.read()
        return BucketSound() if self.sim.honours_preconditions else BucketUnsound("ignores them", "use S3")

    # ---- generations

    def head(self, after: GenerationRecord | None) -> GenerationRecord | None:
        newest = self._newest_listed() if after is None else after
        while newest is not None:
            successor = self._record(GenerationNumber(newest.generation + 1))
            if successor is None:
                return newest
            newest = successor
        return None

    def _newest_listed(self) -> GenerationRecord | None:
        keys = [key for key in self._right_below("generations/") if RECORD.fullmatch(key)]
        return self._record(GenerationNumber(int(max(keys)[12:18]))) if keys else None

    def _record(self, generation: GenerationNumber) -> GenerationRecord | None:
        record = self._read(key := f"generations/{generation:06d}.json", GenerationRecord.from_json)
        if record is not None and (record.generation, record.cluster) != (generation, CLUSTER):
            raise Unavailable(Ignorance.MALFORMED, f"{key} says it is {record.generation} of {record.cluster}")
        return record

    def create_generation(self, record: GenerationRecord) -> bool:
        return self._once(
            f"generations/{record.generation:06d}.json",
            record.to_json(),
            GenerationRecord.from_json,
            lambda found: found.nonce == record.nonce,
            lambda: self.sim.generation_begins(record),
        )

    def claim(self, generation: GenerationNumber, instance: InstanceId) -> Claim | None:
        return self._read(f"generations/{generation:06d}/claims/{instance}.json", Claim.from_json)

    def write_claim(self, generation: GenerationNumber, claim: Claim) -> bool:
        key = f"generations/{generation:06d}/claims/{claim.instance}.json"
        return self._once(key, claim.to_json(), Claim.from_json, claim.__eq__)

    def formed(self, generation: GenerationNumber) -> Formed | None:
        return self._read(f"generations/{generation:06d}/formed.json", Formed.from_json)

    def write_formed(self, generation: GenerationNumber, formed: Formed) -> bool:
        key = f"generations/{generation:06d}/formed.json"
        return self._once(key, formed.to_json(), Formed.from_json, formed.__eq__)

    def exclusions(self, generation: GenerationNumber) -> tuple[Exclusion, ...]:
        found = self._below(f"generations/{generation:06d}/excluded/", Exclusion.from_json)
        return tuple(_signed(key, each, each.instance) for key, each, _ in found)

    def exclude(self, generation: GenerationNumber, exclusion: Exclusion) -> bool:
        key = f"generations/{generation:06d}/excluded/{exclusion.instance}.json"
        return self._once(key, exclusion.to_json(), Exclusion.from_json, exclusion.__eq__)

    def hold(self) -> Hold | None:
        text = self._get("hold.json")
        return None if text is None else Hold.from_json(text)

    # ---- the assembly

    def reports(self, generation: GenerationNumber) -> tuple[FiledReport, ...]:
        found = self._below(f"assembly/{generation:06d}/", report_of)
        return tuple(FiledReport(_signed(key, each, each.instance), self._age(at)) for key, each, at in found)

    def file_report(self, generation: GenerationNumber, report: Report) -> None:
        key = f"assembly/{generation:06d}/{report.instance}.json"
        self.write(lambda: self.sim.objects.update({key: (report.to_json(), self.sim.now)}))

    # ---- snapshots

    def snapshots(self) -> tuple[Listed, ...]:
        self.read()
        return tuple(self._listed(name) for name in self.sim.snapshot_names())

    def _listed(self, name: SnapshotName) -> Listed:
        parts = {end: self.sim.objects.get(f"{name}{end}") for end in (DATA, MANIFEST, BAD)}
        data, age = parts[DATA], min(self._age(part[1]) for part in parts.values() if part is not None)
        return Listed(name, age, None if data is None else 1, parts[MANIFEST] is not None, parts[BAD] is not None)

    def manifest(self, name: SnapshotName) -> Manifest | None:
        found = self._read(name.manifest_key, manifest_of)
        if found is not None and (found.name, found.cluster) != (name, CLUSTER):
            raise Unavailable(Ignorance.MALFORMED, f"{name.manifest_key} says it is {found.name} of {found.cluster}")
        return found

    def mark_bad(self, name: SnapshotName, why: str) -> None:
        """The first word stays. A lost answer is not looked up."""

        def effect() -> None:
            self.sim.objects.setdefault(name.bad_key, (why, self.sim.now))

        self.write(effect)

    def expire(self, names: Sequence[SnapshotName]) -> None:
        def effect() -> None:
            self.sim.promises.at_expiry(names)
            for key in (key for name in names for key in (name.manifest_key, name.data_key, name.bad_key)):
                self.sim.objects.pop(key, None)

        self.write(effect)

    def last_drill(self) -> DrillRecord | None:
        self.read()
        keys = [key for key in sorted(self.sim.objects) if key.startswith("drills/")]
        if not keys:
            return None
        at, newest = max((self.sim.objects[key][1], key) for key in keys)
        record = self._read(newest, DrillRecord.from_json)
        return None if record is None else replace(record, age_seconds=self._age(at))


def _parsed(key: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise Unavailable(Ignorance.MALFORMED, f"{key}: {error}") from error


def _signed(key: str, document: T, by: InstanceId) -> T:
    if not key.endswith(f"/{by}.json"):
        raise Unavailable(Ignorance.MALFORMED, f"{key} is of {by}")
    return document
