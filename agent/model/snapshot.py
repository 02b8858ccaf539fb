"""Snapshots: their names in the bucket, the manifest that makes one count, and what is offered to restore from.

    snapshots/000001/00000000000000123456-20261122T070000Z.db.zst   the data: etcd's own snapshot, compressed
    snapshots/000001/00000000000000123456-20261122T070000Z.json     the manifest, written last: the commit point
    snapshots/000001/00000000000000123456-20261122T070000Z.bad      somebody read it, and it is not what was written

Data without a manifest is an upload that broke off, and is nothing. Names order by generation first and by
revision second: a revision means something only within its own generation, because a recovery may begin at a
lower one than the lineage that it replaced had reached.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from agent.model.documents import Document, dump
from agent.model.ids import ClusterId, GenerationNumber, InstanceId, MemberId
from agent.model.members import LogPosition, MemberEntry

STAMP = "%Y%m%dT%H%M%SZ"
NAME = re.compile(r"snapshots/(\d{6,})/(\d{20})-(\d{8}T\d{6}Z)")

DATA, MANIFEST, BAD = ".db.zst", ".json", ".bad"


@dataclass(frozen=True, slots=True, order=True)
class SnapshotName:
    """Which snapshot: where it stands in history, and in the bucket. Orders as history does."""

    generation: GenerationNumber
    revision: int  # the snapshot holds at least everything up to this revision
    taken_at: datetime  # in whole seconds, by the clock of whoever took it

    def __str__(self) -> str:
        return f"snapshots/{self.generation:06d}/{self.revision:020d}-{self.taken_at.astimezone(UTC):{STAMP}}"

    @property
    def data_key(self) -> str:
        return f"{self}{DATA}"

    @property
    def manifest_key(self) -> str:
        return f"{self}{MANIFEST}"

    @property
    def bad_key(self) -> str:
        return f"{self}{BAD}"

    @classmethod
    def parse(cls, text: str) -> SnapshotName | None:
        """The name in a key, without what follows it; None for what is none of ours."""
        match = NAME.fullmatch(text)
        if match is None:
            return None
        try:
            taken_at = datetime.strptime(match[3], STAMP).replace(tzinfo=UTC)
        except ValueError:
            return None
        return cls(GenerationNumber(int(match[1])), int(match[2]), taken_at)


class Origin(StrEnum):
    """Why a snapshot was taken."""

    SCHEDULE = "schedule"  # the interval, or a generation that has just formed
    DEMAND = "demand"  # an operator's `snapshot take`
    RESCUE = "rescue"  # a survivor of a lost quorum
    IMPORT = "import"  # made elsewhere by plain etcd


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What the keyspace at the manifest's revision looks like, by etcd's own word; compared again by a drill."""

    key_count: int
    hash_kv: int  # etcd's HashKV at that revision
    compact_revision: int  # which it depends on

    def to_document(self) -> dict[str, object]:
        return {"key_count": self.key_count, "hash_kv": self.hash_kv, "compact_revision": self.compact_revision}

    @classmethod
    def from_document(cls, doc: Document) -> Fingerprint:
        return cls(doc.integer("key_count"), doc.integer("hash_kv"), doc.integer("compact_revision"))


@dataclass(frozen=True, slots=True)
class Rescued:
    """Whose log a rescue was made of, and how far it reached: tells whether it needs to be made again."""

    instance: InstanceId
    member_id: MemberId
    position: LogPosition


@dataclass(frozen=True, slots=True)
class Manifest:
    """The commit point of a snapshot: written once, after its data was uploaded and verified."""

    name: SnapshotName
    cluster: str
    origin: Origin
    instance: InstanceId  # who took it
    agent: str  # the version that did
    etcd_version: str  # of the server that gave it; an older minor cannot read it
    size_bytes: int  # etcd's snapshot with its trailing digest, uncompressed
    sha256: str  # of the database, without the trailer; in hex. etcd's own trailer says the same
    stored_bytes: int  # the object's size
    cluster_id: ClusterId | None = None  # None: unknown, as of a file made elsewhere
    member_id: MemberId | None = None
    raft_term: int = 0
    raft_index: int = 0  # applied, when the snapshot was begun: it holds at least everything up to this
    members: tuple[MemberEntry, ...] = ()
    fingerprint: Fingerprint | None = None  # None: it could not be taken (a leaderless member, a file made elsewhere)
    rescued: Rescued | None = None

    def to_json(self) -> str:
        rescued = self.rescued and {
            "instance": self.rescued.instance,
            "member_id": str(self.rescued.member_id),
            "position": self.rescued.position.to_document(),
        }
        return dump(
            snapshot=str(self.name),
            cluster=self.cluster,
            origin=self.origin.value,
            generation=self.name.generation,
            revision=self.name.revision,
            taken_at=self.name.taken_at.isoformat(),
            instance=self.instance,
            agent=self.agent,
            etcd_version=self.etcd_version,
            size_bytes=self.size_bytes,
            sha256=self.sha256,
            stored_bytes=self.stored_bytes,
            cluster_id=None if self.cluster_id is None else str(self.cluster_id),
            member_id=None if self.member_id is None else str(self.member_id),
            raft_term=self.raft_term,
            raft_index=self.raft_index,
            members=[each.to_document() for each in self.members],
            fingerprint=self.fingerprint and self.fingerprint.to_document(),
            rescued=rescued,
        )

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        doc = Document(text)
        name = SnapshotName.parse(doc.text("snapshot"))
        if name is None:
            raise ValueError(f"field 'snapshot': expected a snapshot's name, got {doc.text('snapshot')!r}")
        rescued, fingerprint = doc.optional("rescued"), doc.optional("fingerprint")
        return cls(
            name=name,
            cluster=doc.text("cluster"),
            origin=Origin(doc.text("origin")),
            instance=InstanceId(doc.text("instance")),
            agent=doc.text("agent"),
            etcd_version=doc.text("etcd_version"),
            size_bytes=doc.integer("size_bytes"),
            sha256=doc.text("sha256"),
            stored_bytes=doc.integer("stored_bytes"),
            cluster_id=None if doc.lacks("cluster_id") else ClusterId(doc.hexadecimal("cluster_id")),
            member_id=None if doc.lacks("member_id") else MemberId(doc.hexadecimal("member_id")),
            raft_term=doc.integer("raft_term"),
            raft_index=doc.integer("raft_index"),
            members=tuple(MemberEntry.from_document(Document(each)) for each in doc.sequence("members")),
            fingerprint=None if fingerprint is None else Fingerprint.from_document(fingerprint),
            rescued=None if rescued is None else _rescued(rescued),
        )


def _rescued(doc: Document) -> Rescued:
    position = LogPosition.from_document(Document(doc.mapping("position")))
    return Rescued(InstanceId(doc.text("instance")), MemberId(doc.hexadecimal("member_id")), position)


@dataclass(frozen=True, slots=True)
class Listed:
    """A snapshot as a listing of the bucket shows it, without reading its manifest.

    It counts only with a manifest; `bad` says that somebody who read it found it wanting.
    """

    name: SnapshotName
    age_seconds: float  # of the newest of its objects, by the bucket's clock on both ends
    stored_bytes: int | None  # of the data object; None: there is none
    committed: bool  # it has a manifest
    bad: bool = False

    @property
    def usable(self) -> bool:
        return self.committed and self.stored_bytes is not None and not self.bad


class DrillResult(StrEnum):
    """What became of a drill. Bounded, because it is a metric label."""

    PASSED = "passed"
    FAILED = "failed"  # it does not restore, or not to what its manifest says
    SKIPPED = "skipped"  # not tried, for lack of room


@dataclass(frozen=True, slots=True)
class DrillRecord:
    """`drills/…json`: a snapshot was restored into a scratch etcd and compared with its manifest."""

    name: SnapshotName
    instance: InstanceId  # whose agent did it
    result: DrillResult
    detail: str  # what was compared, what differed, or why not
    duration_seconds: float
    age_seconds: float = 0.0  # by the bucket's clock on both ends; not part of the document

    @property
    def key(self) -> str:
        """One for each snapshot and instance, so that nothing is ever written over."""
        return f"drills/{str(self.name).removeprefix('snapshots/')}-{self.instance}.json"

    def to_json(self) -> str:
        return dump(
            snapshot=str(self.name),
            instance=self.instance,
            result=self.result.value,
            detail=self.detail,
            duration_milliseconds=round(self.duration_seconds * 1000),
        )

    @classmethod
    def from_json(cls, text: str) -> DrillRecord:
        doc = Document(text)
        name = SnapshotName.parse(doc.text("snapshot"))
        if name is None:
            raise ValueError(f"field 'snapshot': expected a snapshot's name, got {doc.text('snapshot')!r}")
        took = doc.integer("duration_milliseconds") / 1000
        return cls(name, InstanceId(doc.text("instance")), DrillResult(doc.text("result")), doc.text("detail"), took)
