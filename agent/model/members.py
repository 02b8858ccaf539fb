"""What a member's data says by itself, without a quorum behind it: its list, and how far its log reaches."""

from __future__ import annotations

from dataclasses import dataclass

from agent.model.documents import Document
from agent.model.ids import ClusterId, MemberId, PeerUrl


@dataclass(frozen=True, slots=True)
class MemberEntry:
    """A member as a list names it. Voters and learners alike: both may hold data that others lack."""

    id: MemberId
    name: str  # "" while it was never started
    peer_urls: tuple[PeerUrl, ...]
    is_learner: bool = False

    def __str__(self) -> str:
        return f"{self.name or ', '.join(self.peer_urls)} ({self.id})"

    def to_document(self) -> dict[str, object]:
        return {
            "id": str(self.id),
            "name": self.name,
            "peer_urls": list(self.peer_urls),
            "is_learner": self.is_learner,
        }

    @classmethod
    def from_document(cls, doc: Document) -> MemberEntry:
        urls = tuple(PeerUrl(str(url)) for url in doc.sequence("peer_urls"))
        return cls(MemberId(doc.hexadecimal("id")), doc.text("name"), urls, doc.flag("is_learner"))


@dataclass(frozen=True, slots=True)
class LogPosition:
    """How far a member's raft log reaches. Terms and indices are raft's."""

    last_term: int  # of the last entry that a rescue keeps: the log's last, or the last before the member's own removal
    last_index: int
    committed_index: int  # the last entry that this member knows to be committed
    pending_changes: bool = False
    """A running etcd has not applied all that it knows to be committed: its list is not its last word."""

    def to_document(self) -> dict[str, object]:
        return {
            "last_term": self.last_term,
            "last_index": self.last_index,
            "committed_index": self.committed_index,
            "pending_changes": self.pending_changes,
        }

    @classmethod
    def from_document(cls, doc: Document) -> LogPosition:
        last = doc.integer("last_term"), doc.integer("last_index")
        return cls(*last, doc.integer("committed_index"), doc.flag("pending_changes"))


@dataclass(frozen=True, slots=True)
class Survey:
    """What a look at etcd's files found: the write-ahead log to its end, and the database as it was last committed."""

    cluster_id: ClusterId
    member_id: MemberId
    members: tuple[MemberEntry, ...]
    position: LogPosition
    revision: int
    restart_members: tuple[MemberEntry, ...] = ()
    """What raft would go by if it started from its own note of what is committed, where that is an older list than
    `members`: the note reaches the disk late, and the database may be ahead of it. Empty where it is no other."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """The files are there, and etcd could not run on them: a checksum, a gap or a structure is wrong."""

    why: str
