"""The snapshots in a lab's bucket, read where they lie; and what a test puts beside them: forged, torn, foreign.

House rules: whatever is said about a snapshot is read from its bytes and its manifest, never from an agent; a listing
reads every page of it.
"""

from __future__ import annotations

import base64
import io
import json
import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import zstandard
from botocore.exceptions import ClientError

from agent.lab import members
from agent.lab.client import Lab
from agent.model.ids import GenerationNumber
from agent.model.snapshot import BAD, DATA, MANIFEST, Manifest, SnapshotName
from tests.lab.harness import leader, member_list
from tests.lab.watching import logged

Document = dict[str, Any]
SUFFIXES = (DATA, MANIFEST, BAD)
TRAILER_BYTES = 32
HANDS = 8


@dataclass(frozen=True)
class Shelf:
    """One cluster's part of a lab's bucket; without another `cluster` or `prefix`, the lab's own."""

    lab: Lab
    cluster: str | None = None
    prefix: str | None = None

    @property
    def bucket(self) -> str:
        return str(self.lab.status()["bucket"])

    @property
    def root(self) -> str:
        state = self.lab.status()
        return f"{self.prefix or state['prefix']}/{self.cluster or state['cluster']}/"

    # ---- any object ----

    def keys(self, under: str = "") -> dict[str, datetime]:
        """Every object below the root and when it was written."""
        root, pages = self.root, self.lab.aws("s3").get_paginator("list_objects_v2")
        found = (
            each
            for page in pages.paginate(Bucket=self.bucket, Prefix=root + under)
            for each in page.get("Contents", ())
        )
        return {each["Key"].removeprefix(root): each["LastModified"] for each in found}

    def body(self, key: str) -> bytes:
        content: bytes = self.lab.aws("s3").get_object(Bucket=self.bucket, Key=self.root + key)["Body"].read()
        return content

    def document(self, key: str) -> Document:
        found: Document = json.loads(self.body(key))
        return found

    def put(self, key: str, body: bytes) -> None:
        self.lab.aws("s3").put_object(Bucket=self.bucket, Key=self.root + key, Body=body)

    def put_all(self, bodies: dict[str, bytes]) -> None:
        """Many, several at a time."""
        s3, bucket, root = self.lab.aws("s3"), self.bucket, self.root
        with ThreadPoolExecutor(HANDS) as hands:
            list(hands.map(lambda item: s3.put_object(Bucket=bucket, Key=root + item[0], Body=item[1]), bodies.items()))

    def contents(self, under: str = "") -> dict[str, str]:
        """Every object and the digest of its bytes."""
        return {key: sha256(self.body(key)).hexdigest() for key in self.keys(under)}

    def uploads(self) -> list[Document]:
        """Multipart uploads that were begun and neither completed nor aborted."""
        found = self.lab.aws("s3").list_multipart_uploads(Bucket=self.bucket, Prefix=self.root)
        return list(found.get("Uploads", ()))

    # ---- generations ----

    def head(self) -> int:
        """The number of the newest generation; 0 where there is none."""
        records = [key for key in self.keys("generations/") if key.count("/") == 1]
        return max((int(key.removeprefix("generations/").removesuffix(".json")) for key in records), default=0)

    def record(self, generation: int) -> Document:
        return self.document(f"generations/{generation:06d}.json")

    def has_formed(self, generation: int) -> bool:
        return f"generations/{generation:06d}/formed.json" in self.keys("generations/")

    # ---- snapshots ----

    def listed(self) -> dict[SnapshotName, set[str]]:
        """Of every snapshot, whole or not, which of its objects are there."""
        found: dict[SnapshotName, set[str]] = {}
        for key in self.keys("snapshots/"):
            suffix = next((each for each in SUFFIXES if key.endswith(each)), "")
            name = SnapshotName.parse(key.removesuffix(suffix))
            if suffix and name is not None:
                found.setdefault(name, set()).add(suffix)
        return dict(sorted(found.items()))

    def sound(self, generation: int | None = None) -> list[SnapshotName]:
        """Those that count, oldest first."""
        return [
            name
            for name, parts in self.listed().items()
            if {DATA, MANIFEST} <= parts and BAD not in parts and generation in (None, name.generation)
        ]

    def manifest(self, name: SnapshotName) -> Manifest:
        return Manifest.from_json(self.body(name.manifest_key).decode())

    def manifests(self, generation: int | None = None) -> list[Manifest]:
        return [self.manifest(name) for name in self.sound(generation)]

    def newest(self) -> Manifest:
        return self.manifest(self.sound()[-1])

    def database(self, manifest: Manifest) -> bytes:
        """The snapshot as etcd gave it, without its trailer. Fails if anything is not as manifest and trailer say."""
        stored = self.body(manifest.name.data_key)
        snapshot = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(stored)).read()
        database, trailer = snapshot[:-TRAILER_BYTES], snapshot[-TRAILER_BYTES:]
        assert len(stored) == manifest.stored_bytes
        assert len(snapshot) == manifest.size_bytes
        assert sha256(database).digest() == trailer
        assert trailer.hex() == manifest.sha256
        return database

    def assert_all_that_counts_is_whole(self) -> None:
        """No manifest without its data, no data without a digest that is its own. What is expired meanwhile is none."""
        for name, parts in self.listed().items():
            if MANIFEST in parts and BAD not in parts:
                assert DATA in parts, f"{name} has a manifest and no data"
                try:
                    self.database(self.manifest(name))
                except ClientError as error:
                    assert error.response["Error"]["Code"] == "NoSuchKey"
                    assert MANIFEST not in self.listed().get(name, set()), f"{name} has a manifest and no data"

    # ---- forged ----

    def forge(self, of: Manifest, name: SnapshotName, data: bytes | None = None, **changes: Any) -> Manifest:
        """Another snapshot with that one's data (or these bytes), under this name, with a manifest to fit but for
        `changes`."""
        stored = self.body(of.name.data_key) if data is None else data
        forged = replace(of, name=name, **changes)
        self.put(name.data_key, stored)
        self.put(name.manifest_key, forged.to_json().encode())
        return forged

    def remove(self, *names: SnapshotName) -> None:
        """As nobody but a test may."""
        keys = [{"Key": f"{self.root}{name}{suffix}"} for name in names for suffix in SUFFIXES]
        for at in range(0, len(keys), 1000):
            self.lab.aws("s3").delete_objects(Bucket=self.bucket, Delete={"Objects": keys[at : at + 1000]})


def later(name: SnapshotName, revisions: int, generation: int | None = None) -> SnapshotName:
    """A name that is newer by so many revisions, and as many seconds."""
    number = name.generation if generation is None else GenerationNumber(generation)
    return SnapshotName(number, name.revision + revisions, name.taken_at + timedelta(seconds=revisions))


# ---- the cluster beside it ------------------------------------------------------------------------------------------


def first_in_turn(lab: Lab) -> str:
    """The instance whose agent is to take the next snapshot: the follower with the lowest member ID."""
    found, leading = member_list(lab), leader(lab)
    assert found is not None
    assert leading is not None
    return next(each.name for each in sorted(found, key=lambda each: each.id) if each.name != leading.id)


def lines_about(lab: Lab, what: str, since: datetime) -> list[dict[str, Any]]:
    """What any agent logged in detail about it."""
    return [
        line
        for each in lab.instances()
        for line in logged(each)
        if what in line.get("detail", "") and datetime.fromisoformat(line["time"]) > since
    ]


def fill(address: str, megabytes: int, prefix: str = "bulk/") -> None:
    """Values of a megabyte that no compressor makes any smaller."""
    some = random.Random(7)
    for number in range(megabytes):
        key, value = f"{prefix}{number:04d}".encode(), some.randbytes(1_000_000)
        wanted = {"key": base64.b64encode(key).decode(), "value": base64.b64encode(value).decode()}
        said = members.ask(address, "/v3/kv/put", wanted, 20)
        assert said is not None, "no answer while filling"
        assert "header" in said, said


NOT_OF_AN_UPLOAD = ("data", "scratch/drill")
"""Where files as large as the database belong: the member's own, and what a drill restores."""


@contextmanager
def largest_file(lab: Lab, instance_id: str) -> Iterator[list[int]]:
    """Watches the rest of an instance's disk: the size of the largest file ever seen there."""
    disk, stop, seen = lab.instance(instance_id).disk, threading.Event(), [0]

    def look() -> None:
        while not stop.wait(0.02):
            for folder, _, names in os.walk(disk):
                if not Path(folder).relative_to(disk).as_posix().startswith(NOT_OF_AN_UPLOAD):
                    seen[0] = max(seen[0], *(_size(Path(folder, name)) for name in names), 0)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        stop.set()
        watcher.join(5)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # gone while we looked


@contextmanager
def peak_of(pid: int) -> Iterator[list[int]]:
    """The most memory that a process had at once during the block, in bytes, and what it had before."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    found = [_memory(pid, "VmRSS")]
    yield found
    found.append(_memory(pid, "VmHWM"))


def _memory(pid: int, what: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))
