"""The simulated bucket: the store's own rules about what is written once, and what lies in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import TypeVar

from agent.model.faults import Unavailable
from agent.model.generation import Claim, Exclusion, FiledReport, Formed, GenerationRecord, Report
from agent.model.ids import GenerationNumber, InstanceId
from agent.model.known import Ignorance
from agent.model.observation import BucketSound, BucketUnsound, BucketVerdict
from agent.model.snapshot import BAD, DATA, MANIFEST, DrillRecord, Listed, Manifest, SnapshotName
from tests.simulation.doors import Door

T = TypeVar("T")

report_of, manifest_of = lru_cache(512)(Report.from_json), lru_cache(512)(Manifest.from_json)
"""Frozen values, read again and again: most of the simulation's time would go into their JSON."""


class SimBucket(Door):
    name = "s3"

    def _once(self, key: str, text: str, landed: Callable[[], None] = lambda: None) -> bool:
        """The store's own rule: 412 where it exists; our own text read back means that we won."""

        def effect() -> None:
            if key not in self.sim.objects or not self.sim.honours_preconditions:
                self.sim.objects[key] = (text, self.sim.now)
                landed()

        try:
            self.write(effect)
        except Unavailable:
            if key not in self.sim.objects:
                raise
        return self.sim.objects[key][0] == text

    def _get(self, key: str) -> str | None:
        self.read()
        found = self.sim.objects.get(key)
        return None if found is None else found[0]

    def _below(self, prefix: str, read: Callable[[str], T]) -> list[tuple[T, datetime]]:
        self.read()
        return [
            (read(text), at)
            for key, (text, at) in sorted(self.sim.objects.items())
            if key.startswith(prefix) and key.endswith(".json")
        ]

    def _age(self, at: datetime) -> float:
        return (self.sim.now - at).total_seconds()

    def verdict(self) -> BucketVerdict:
        self.read()
        return BucketSound() if self.sim.honours_preconditions else BucketUnsound("ignores them", "use S3")

    # ---- generations

    def head(self, after: GenerationRecord | None) -> GenerationRecord | None:
        head, after_number = after, 0 if after is None else after.generation
        while (text := self._get(f"generations/{after_number + 1:06d}.json")) is not None:
            head, after_number = GenerationRecord.from_json(text), after_number + 1
        return head

    def create_generation(self, record: GenerationRecord) -> bool:
        key = f"generations/{record.generation:06d}.json"
        return self._once(key, record.to_json(), lambda: self.sim.generation_begins(record))

    def claim(self, generation: GenerationNumber, instance: InstanceId) -> Claim | None:
        text = self._get(f"generations/{generation:06d}/claims/{instance}.json")
        return None if text is None else Claim.from_json(text)

    def write_claim(self, generation: GenerationNumber, claim: Claim) -> bool:
        return self._once(f"generations/{generation:06d}/claims/{claim.instance}.json", claim.to_json())

    def formed(self, generation: GenerationNumber) -> Formed | None:
        text = self._get(f"generations/{generation:06d}/formed.json")
        return None if text is None else Formed.from_json(text)

    def write_formed(self, generation: GenerationNumber, formed: Formed) -> bool:
        return self._once(f"generations/{generation:06d}/formed.json", formed.to_json())

    def exclusions(self, generation: GenerationNumber) -> tuple[Exclusion, ...]:
        found = self._below(f"generations/{generation:06d}/excluded/", Exclusion.from_json)
        return tuple(each for each, _ in found)

    def exclude(self, generation: GenerationNumber, exclusion: Exclusion) -> bool:
        return self._once(f"generations/{generation:06d}/excluded/{exclusion.instance}.json", exclusion.to_json())

    # ---- the assembly

    def reports(self, generation: GenerationNumber) -> tuple[FiledReport, ...]:
        found = self._below(f"assembly/{generation:06d}/", report_of)
        return tuple(FiledReport(each, self._age(at)) for each, at in found)

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
        text = self._get(name.manifest_key)
        if text is None:
            return None
        try:
            return manifest_of(text)
        except ValueError as error:
            raise Unavailable(Ignorance.MALFORMED, f"{name.manifest_key}: {error}") from error

    def mark_bad(self, name: SnapshotName, why: str) -> None:
        self._once(name.bad_key, why)

    def expire(self, names: Sequence[SnapshotName]) -> None:
        def effect() -> None:
            self.sim.promises.at_expiry(names)
            for key in (key for name in names for key in (name.manifest_key, name.data_key, name.bad_key)):
                self.sim.objects.pop(key, None)

        self.write(effect)

    def last_drill(self) -> DrillRecord | None:
        found = self._below("drills/", DrillRecord.from_json)
        if not found:
            return None
        record, at = max(found, key=lambda each: each[1])
        return replace(record, age_seconds=self._age(at))
