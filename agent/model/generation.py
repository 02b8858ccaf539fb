"""The documents in the bucket: records, claims, `formed.json` and reports, and how they read and write.

Records, claims and `formed.json` are written once (`If-None-Match: *`) and never changed. Readers ignore
fields they do not know, so that a newer agent may add some; a missing or mistyped field is a `ValueError`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from agent.model.ids import ClusterId, GenerationNumber, InstanceId, MemberId, Nonce, PeerUrl

FIRST = GenerationNumber(1)

T = TypeVar("T")


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
        }
        return _dump(
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
        doc = _Document(text)
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
            seed=None if seed is None else _seed(_Document(seed)),
            cause=Cause(str(cause.get("kind", "")), cause.get("evidence") or {}),
        )


def _seed(doc: _Document) -> Seed:
    return Seed(doc.text("manifest"), doc.integer("revision"), doc.text("sha256"), doc.text("source"))


@dataclass(frozen=True, slots=True)
class Claim:
    """`generations/N/claims/i-….json`: a founder's once-only permission to start."""

    instance: InstanceId
    nonce: Nonce

    def to_json(self) -> str:
        return _dump(instance=self.instance, nonce=self.nonce)

    @classmethod
    def from_json(cls, text: str) -> Claim:
        doc = _Document(text)
        return cls(InstanceId(doc.text("instance")), Nonce(doc.text("nonce")))


@dataclass(frozen=True, slots=True)
class Formed:
    """`generations/N/formed.json`: written when a quorum first answered."""

    cluster_id: ClusterId
    voters: Mapping[MemberId, InstanceId]

    def to_json(self) -> str:
        voters = {str(member): name for member, name in sorted(self.voters.items())}
        return _dump(cluster_id=str(self.cluster_id), voters=voters)

    @classmethod
    def from_json(cls, text: str) -> Formed:
        doc = _Document(text)
        voters = doc.mapping("voters")
        return cls(
            ClusterId(int(doc.text("cluster_id"), 16)),
            {MemberId(int(member, 16)): InstanceId(name) for member, name in voters.items()},
        )


@dataclass(frozen=True, slots=True)
class Report:
    """`assembly/N/i-….json`: what an agent without a working cluster has to say to the others."""

    instance: InstanceId
    peer_url: PeerUrl
    boot_id: str
    data: str  # `none` or `intact`
    generation: GenerationNumber | None = None  # which generation the data belongs to
    cluster_id: ClusterId | None = None
    member_id: MemberId | None = None

    def to_json(self) -> str:
        return _dump(
            instance=self.instance,
            peer_url=self.peer_url,
            boot_id=self.boot_id,
            data=self.data,
            generation=self.generation,
            cluster_id=None if self.cluster_id is None else str(self.cluster_id),
            member_id=None if self.member_id is None else str(self.member_id),
        )

    @classmethod
    def from_json(cls, text: str) -> Report:
        doc = _Document(text)
        generation, cluster, member = (doc.value.get(key) for key in ("generation", "cluster_id", "member_id"))
        return cls(
            instance=InstanceId(doc.text("instance")),
            peer_url=PeerUrl(doc.text("peer_url")),
            boot_id=doc.text("boot_id"),
            data=doc.text("data"),
            generation=None if generation is None else GenerationNumber(doc.integer("generation")),
            cluster_id=None if cluster is None else ClusterId(int(doc.text("cluster_id"), 16)),
            member_id=None if member is None else MemberId(int(doc.text("member_id"), 16)),
        )


@dataclass(frozen=True, slots=True)
class FiledReport:
    """A report as the bucket holds it; its age is by S3's clock on both ends, never by ours."""

    report: Report
    age_seconds: float


def _dump(**fields: object) -> str:
    return json.dumps(fields, indent=1) + "\n"


class _Document:
    """A JSON object whose fields are asked for by type; a ValueError names the field that is wrong."""

    def __init__(self, text: str | Mapping[str, Any]) -> None:
        value = json.loads(text) if isinstance(text, str) else text
        if not isinstance(value, Mapping):
            message = f"expected a JSON object, got {type(value).__name__}"
            raise ValueError(message)
        self.value = value

    def _get(self, key: str, kind: type[T]) -> T:
        found = self.value.get(key)
        if not isinstance(found, kind) or isinstance(found, bool):
            message = f"field {key!r}: expected {kind.__name__}, got {found!r}"
            raise ValueError(message)
        return found

    def text(self, key: str) -> str:
        return self._get(key, str)

    def integer(self, key: str) -> int:
        return self._get(key, int)

    def mapping(self, key: str) -> dict[str, Any]:
        return self._get(key, dict)

    def time(self, key: str) -> datetime:
        moment = datetime.fromisoformat(self.text(key))
        if moment.tzinfo is None:
            message = f"field {key!r}: a time needs its zone"
            raise ValueError(message)
        return moment
