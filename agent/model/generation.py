"""The documents in the bucket: records, claims, `formed.json` and reports, and how they read and write.

Records, claims and `formed.json` are written once (`If-None-Match: *`) and never changed. Readers ignore
fields they do not know, so that a newer agent may add some; a missing or mistyped field is a `ValueError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from agent.model.documents import Document, dump
from agent.model.ids import ClusterId, GenerationNumber, InstanceId, MemberId, Nonce, PeerUrl
from agent.model.members import LogPosition, MemberEntry

FIRST = GenerationNumber(1)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a generation exists: `first`, `quorum-lost` or `operator`, with every fact the proof used."""

    kind: str
    evidence: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Seed:
    """The snapshot that a generation starts from."""

    manifest: str  # the manifest's key, below the cluster's prefix
    revision: int
    sha256: str
    source: str  # `survivor i-…`, `snapshot` or `operator`
    bump_revision: int = 0  # added to every revision at the restore, the same for all founders; 0: not at all


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """`generations/N.json`: one incarnation's birth certificate."""

    generation: GenerationNumber
    cluster: str
    token: str  # etcd's --initial-cluster-token
    created_by: InstanceId
    created_at: datetime
    agent: str  # the version that wrote it
    nonce: Nonce
    founders: Mapping[InstanceId, PeerUrl]
    cause: Cause
    seed: Seed | None = None

    def to_json(self) -> str:
        seed = self.seed and {
            "manifest": self.seed.manifest,
            "revision": self.seed.revision,
            "sha256": self.seed.sha256,
            "source": self.seed.source,
            "bump_revision": self.seed.bump_revision,
        }
        return dump(
            generation=self.generation,
            cluster=self.cluster,
            token=self.token,
            created_by=self.created_by,
            created_at=self.created_at.isoformat(),
            agent=self.agent,
            nonce=self.nonce,
            founders=dict(sorted(self.founders.items())),
            seed=seed,
            cause={"kind": self.cause.kind, "evidence": dict(self.cause.evidence)},
        )

    @classmethod
    def from_json(cls, text: str) -> GenerationRecord:
        doc = Document(text)
        seed = doc.value.get("seed")
        cause = doc.mapping("cause")
        return cls(
            generation=GenerationNumber(doc.integer("generation")),
            cluster=doc.text("cluster"),
            token=doc.text("token"),
            created_by=InstanceId(doc.text("created_by")),
            created_at=doc.time("created_at"),
            agent=doc.text("agent"),
            nonce=Nonce(doc.text("nonce")),
            founders={InstanceId(name): PeerUrl(url) for name, url in doc.mapping("founders").items()},
            seed=None if seed is None else _seed(Document(seed)),
            cause=Cause(str(cause.get("kind", "")), cause.get("evidence") or {}),
        )


def _seed(doc: Document) -> Seed:
    bump = 0 if doc.lacks("bump_revision") else doc.integer("bump_revision")
    return Seed(doc.text("manifest"), doc.integer("revision"), doc.text("sha256"), doc.text("source"), bump)


@dataclass(frozen=True, slots=True)
class Claim:
    """`generations/N/claims/i-….json`: a founder's once-only permission to start."""

    instance: InstanceId
    nonce: Nonce

    def to_json(self) -> str:
        return dump(instance=self.instance, nonce=self.nonce)

    @classmethod
    def from_json(cls, text: str) -> Claim:
        doc = Document(text)
        return cls(InstanceId(doc.text("instance")), Nonce(doc.text("nonce")))


@dataclass(frozen=True, slots=True)
class Formed:
    """`generations/N/formed.json`: written when a quorum first answered."""

    cluster_id: ClusterId
    voters: Mapping[MemberId, InstanceId]

    def to_json(self) -> str:
        voters = {str(member): name for member, name in sorted(self.voters.items())}
        return dump(cluster_id=str(self.cluster_id), voters=voters)

    @classmethod
    def from_json(cls, text: str) -> Formed:
        doc = Document(text)
        voters = doc.mapping("voters")
        return cls(
            ClusterId(int(doc.text("cluster_id"), 16)),
            {MemberId(int(member, 16)): InstanceId(name) for member, name in voters.items()},
        )


class Holding(StrEnum):
    """What a reporter's disk holds of the generation that the report is about."""

    NONE = "none"  # nothing: what was here, if anything, can never serve again
    INTACT = "intact"  # a member's data
    DAMAGED = "damaged"  # a member's data that etcd cannot run on as it is


class Seat(StrEnum):
    """Whether a founder without data may still start the generation under its founder's identity."""

    NONE = "none"  # no founder of it
    OPEN = "open"  # it may, so it must not be written off: it is what may bring the quorum back
    SPENT = "spent"  # its claim is in the bucket, and this disk cannot use it


class Sight(StrEnum):
    """Whether a reporter sees a raft leader."""

    LEADER = "leader"
    LEADERLESS = "leaderless"  # none, for less than the grace
    LONG_LEADERLESS = "long-leaderless"  # none, for the whole of `leaderless_grace`
    UNTOLD = "untold"  # its etcd runs, and does not tell: a certificate of ours, or it is only starting


@dataclass(frozen=True, slots=True)
class Report:
    """`assembly/N/i-….json`: what an agent without a working cluster has to say to the others about generation N.

    Nothing in it changes while nothing happens, so that filing it again only renews its age.
    """

    instance: InstanceId
    peer_url: PeerUrl
    boot_id: str
    data: Holding
    generation: GenerationNumber | None = None  # which generation the data belongs to
    cluster_id: ClusterId | None = None
    member_id: MemberId | None = None  # of its data; without data, of the entry that it was about to start as
    seat: Seat = Seat.NONE
    sight: Sight = Sight.LONG_LEADERLESS
    leaderless_since: datetime | None = None  # by the reporter's own clock: for people only
    running: bool = False  # its etcd runs, and answers for itself
    position: LogPosition | None = None  # how far its log reaches; None without data, or where it cannot be told
    revision: int | None = None
    members: tuple[MemberEntry, ...] = ()  # the list that its data has applied
    restart_members: tuple[MemberEntry, ...] = ()  # the older one that a restart might go by; empty: no other
    trouble: str = ""  # what is wrong with its data, or why it cannot be rescued from here
    etcd_version: str = ""  # of the installed one: who cannot read a seed is no founder; "" as long as it is unknown

    def to_json(self) -> str:
        since = self.leaderless_since
        return dump(
            instance=self.instance,
            peer_url=self.peer_url,
            boot_id=self.boot_id,
            data=self.data.value,
            generation=self.generation,
            cluster_id=None if self.cluster_id is None else str(self.cluster_id),
            member_id=None if self.member_id is None else str(self.member_id),
            seat=self.seat.value,
            sight=self.sight.value,
            leaderless_since=None if since is None else since.isoformat(),
            running=self.running,
            position=self.position and self.position.to_document(),
            revision=self.revision,
            members=[each.to_document() for each in self.members],
            restart_members=[each.to_document() for each in self.restart_members],
            trouble=self.trouble,
            etcd_version=self.etcd_version,
        )

    @classmethod
    def from_json(cls, text: str) -> Report:
        doc = Document(text)
        position = doc.optional("position")
        return cls(
            instance=InstanceId(doc.text("instance")),
            peer_url=PeerUrl(doc.text("peer_url")),
            boot_id=doc.text("boot_id"),
            data=Holding(doc.text("data")),
            generation=None if doc.lacks("generation") else GenerationNumber(doc.integer("generation")),
            cluster_id=None if doc.lacks("cluster_id") else ClusterId(doc.hexadecimal("cluster_id")),
            member_id=None if doc.lacks("member_id") else MemberId(doc.hexadecimal("member_id")),
            seat=Seat(doc.text("seat")),
            sight=Sight(doc.text("sight")),
            leaderless_since=None if doc.lacks("leaderless_since") else doc.time("leaderless_since"),
            running=doc.flag("running"),
            position=None if position is None else LogPosition.from_document(position),
            revision=None if doc.lacks("revision") else doc.integer("revision"),
            members=_entries(doc, "members"),
            restart_members=_entries(doc, "restart_members"),
            trouble=doc.text("trouble"),
            etcd_version="" if doc.lacks("etcd_version") else doc.text("etcd_version"),
        )


def _entries(doc: Document, key: str) -> tuple[MemberEntry, ...]:
    return tuple(MemberEntry.from_document(Document(each)) for each in doc.sequence(key))


@dataclass(frozen=True, slots=True)
class Exclusion:
    """`generations/N/excluded/i-….json`: an operator's word that this instance will never serve generation N again.

    A member that was never started as far as is known has no instance: it is named by its member ID, in hex.
    """

    instance: InstanceId
    why: str
    by: str
    at: datetime

    def to_json(self) -> str:
        return dump(instance=self.instance, why=self.why, by=self.by, at=self.at.isoformat())

    @classmethod
    def from_json(cls, text: str) -> Exclusion:
        doc = Document(text)
        return cls(InstanceId(doc.text("instance")), doc.text("why"), doc.text("by"), doc.time("at"))


@dataclass(frozen=True, slots=True)
class FiledReport:
    """A report as the bucket holds it; its age is by S3's clock on both ends, never by ours."""

    report: Report
    age_seconds: float
