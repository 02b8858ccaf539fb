"""Which snapshots the bucket holds, by one listing, and what their manifests say.

House rules. A key that is not exactly one of ours (`agent.model.snapshot`) is nobody's snapshot and is left alone. What
belongs to a snapshot is listed whether or not the snapshot is whole; whether it counts is for `Listed.usable` to say.
IAM: s3:ListBucket, s3:GetObject, s3:PutObject, and s3:DeleteObject below `snapshots/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from agent.model.documents import Document, dump
from agent.model.faults import Unavailable
from agent.model.known import Ignorance
from agent.model.snapshot import BAD, DATA, MANIFEST, DrillRecord, Listed, Manifest, SnapshotName
from agent.world.aws_errors import AlreadyThere
from agent.world.objects import Objects, StoredObject

SNAPSHOTS = "snapshots/"
DRILLS = "drills/"


def snapshots(objects: Objects) -> tuple[Listed, ...]:
    """Every snapshot, whole or not, oldest first by name."""
    found: dict[SnapshotName, dict[str, StoredObject]] = {}
    for each in objects.listed(SNAPSHOTS):
        ours = _taken_apart(each.key)
        if ours is not None:
            name, suffix = ours
            found.setdefault(name, {})[suffix] = each
    return tuple(_listed(name, parts) for name, parts in sorted(found.items()))


def _taken_apart(key: str) -> tuple[SnapshotName, str] | None:
    for suffix in (DATA, MANIFEST, BAD):
        name = SnapshotName.parse(key.removesuffix(suffix)) if key.endswith(suffix) else None
        if name is not None and f"{name}{suffix}" == key:
            return name, suffix
    return None


def _listed(name: SnapshotName, parts: Mapping[str, StoredObject]) -> Listed:
    data = parts.get(DATA)
    return Listed(
        name=name,
        age_seconds=min(each.age_seconds for each in parts.values()),
        stored_bytes=None if data is None else data.size_bytes,
        committed=MANIFEST in parts,
        bad=BAD in parts,
    )


def manifest(objects: Objects, name: SnapshotName) -> Manifest | None:
    """None: there is none (any more). Unavailable(MALFORMED) where it makes no sense or is about something else."""
    found = objects.read(name.manifest_key, Manifest.from_json)
    if found is not None and (found.name, found.cluster) != (name, objects.cluster):
        said = f"{objects.root}{name.manifest_key} says it is {found.name} of cluster {found.cluster!r}"
        raise Unavailable(Ignorance.MALFORMED, said)
    return found


def mark_bad(objects: Objects, name: SnapshotName, why: str) -> None:
    """The first word about a snapshot stays."""
    with suppress(AlreadyThere):
        objects.put(name.bad_key, dump(snapshot=str(name), why=why), once=True)


def why_bad(objects: Objects, name: SnapshotName) -> str | None:
    """What was said of it; None where nobody left word."""
    return objects.read(name.bad_key, lambda text: Document(text).text("why"))


def expire(objects: Objects, names: Iterable[SnapshotName]) -> None:
    """Delete: the manifest first, so that no manifest ever stands without its data. Deleting twice is no error."""
    for name in names:
        for key in (name.manifest_key, name.data_key, name.bad_key):
            assert key.startswith(SNAPSHOTS)
            objects.delete(key)


def last_drill(objects: Objects) -> DrillRecord | None:
    """The one that was written last, with its age."""
    newest = min(objects.listed(DRILLS), key=lambda each: each.age_seconds, default=None)
    if newest is None:
        return None
    record = objects.read(newest.key, DrillRecord.from_json)
    return None if record is None else replace(record, age_seconds=newest.age_seconds)


def file_drill(objects: Objects, record: DrillRecord) -> None:
    """The same snapshot drilled again by the same instance is the newer word."""
    objects.put(record.key, record.to_json(), once=False)
