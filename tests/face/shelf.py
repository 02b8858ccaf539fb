"""A bucket, a store and an errand runner made of values: what they hold is given, what is asked of them is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.model.faults import Trouble
from agent.model.generation import Exclusion, FiledReport, Formed, GenerationRecord
from agent.model.ids import GenerationNumber
from agent.model.snapshot import DrillRecord, Listed, Manifest, Origin, SnapshotName
from agent.progress import OnBytes
from agent.world.snapshot_stream import Uploaded


@dataclass
class Shelf:
    """Reads answer what is here; writes are kept in `written`."""

    record: GenerationRecord | None = None
    listed: tuple[Listed, ...] = ()
    manifests: dict[SnapshotName, Manifest | Trouble] = field(default_factory=dict)
    words: dict[SnapshotName, str] = field(default_factory=dict)
    drill: DrillRecord | None = None
    filed: tuple[FiledReport, ...] = ()
    off: tuple[Exclusion, ...] = ()
    wins: bool = True
    written: list[object] = field(default_factory=list)

    def head(self, after: GenerationRecord | None) -> GenerationRecord | None:
        assert after is None, "a command looks from the beginning"
        return self.record

    def formed(self, generation: GenerationNumber) -> Formed | None:
        return None

    def reports(self, generation: GenerationNumber) -> tuple[FiledReport, ...]:
        return self.filed

    def exclusions(self, generation: GenerationNumber) -> tuple[Exclusion, ...]:
        return self.off

    def exclude(self, generation: GenerationNumber, exclusion: Exclusion) -> bool:
        self.written.append((generation, exclusion))
        return self.wins

    def create_generation(self, record: GenerationRecord) -> bool:
        self.written.append(record)
        return self.wins

    def snapshots(self) -> tuple[Listed, ...]:
        return self.listed

    def manifest(self, name: SnapshotName) -> Manifest | None:
        found = self.manifests.get(name)
        if isinstance(found, Trouble):
            raise found
        return found

    def mark_bad(self, name: SnapshotName, why: str) -> None:
        self.written.append((name, why))

    def why_bad(self, name: SnapshotName) -> str | None:
        return self.words.get(name)

    def expire(self, names: Sequence[SnapshotName]) -> None:
        self.written.append(tuple(names))

    def last_drill(self) -> DrillRecord | None:
        return self.drill


@dataclass
class Store:
    """What is in `trouble` is raised; everything else is sound."""

    trouble: dict[SnapshotName, Trouble] = field(default_factory=dict)
    database: bytes = b""
    no_room: Trouble | None = None
    read: list[SnapshotName] = field(default_factory=list)
    adopted: list[tuple[str, SnapshotName]] = field(default_factory=list)
    committed: list[Manifest] = field(default_factory=list)

    def verify(self, manifest: Manifest, on_bytes: OnBytes) -> None:
        self.read.append(manifest.name)
        on_bytes(manifest.size_bytes)
        if manifest.name in self.trouble:
            raise self.trouble[manifest.name]

    def fetch_foreign(self, url: str, into: Path, on_bytes: OnBytes) -> None:
        if self.no_room is not None:
            raise self.no_room
        into.write_bytes(self.database)

    def adopt(self, url: str, name: SnapshotName, on_bytes: OnBytes) -> Uploaded:
        self.adopted.append((url, name))
        return Uploaded(2048 + 32, "ab" * 32, 100)

    def commit(self, manifest: Manifest) -> None:
        self.committed.append(manifest)


@dataclass
class Taker:
    """Takes the manifest that it is given."""

    manifest: Manifest
    asked: list[object] = field(default_factory=list)

    def take(self, generation: GenerationNumber, origin: Origin, rescued: None, on_bytes: OnBytes) -> Manifest:
        self.asked.append((generation, origin))
        on_bytes(1)
        return self.manifest

    def drill(self, name: SnapshotName, on_bytes: OnBytes) -> Manifest | None:
        self.asked.append(name)
        return self.manifest
