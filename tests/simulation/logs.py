"""Raft logs as far as decisions depend on them: entries, lineages, and what one member's disk holds.

A log is its last entry, because every entry knows the one before it. So a replica is brought up to date by one
assignment, two logs diverge like two branches of a tree, and nothing is ever copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agent.model.cluster import Alarm, Member
from agent.model.ids import ClusterId, MemberId

Members = Mapping[MemberId, Member]


@dataclass(eq=False, repr=False)
class Entry:
    """One entry, and with it the log that ends in it. Equal only to itself."""

    term: int
    index: int
    members: Members  # the list, once this entry is applied
    revision: int
    before: Entry | None  # None, or what the lineage was restored from, for a lineage's first
    write: bool = False  # a client's
    acknowledged: bool = False  # and the client was told so

    @property
    def position(self) -> tuple[int, int]:
        """Raft's order: of two logs the one with the higher last term is the more complete, then the longer one."""
        return self.term, self.index


def history(entry: Entry | None) -> Iterator[Entry]:
    """Everything that this log holds, newest first; beyond its lineage's beginning, what that was restored from."""
    while entry is not None:
        yield entry
        entry = entry.before


def holds(log: Entry | None, entry: Entry) -> bool:
    return any(each is entry for each in history(log))


def acknowledged(log: Entry | None) -> set[Entry]:
    """The clients' writes in this log that somebody was told of."""
    return {each for each in history(log) if each.acknowledged}


def voters_in(entry: Entry | None) -> set[MemberId]:
    """Who has a vote, once this entry is applied."""
    return set() if entry is None else {each.id for each in entry.members.values() if not each.is_learner}


@dataclass(eq=False, repr=False)
class Lineage:
    """One cluster's history, seen from above: what was ever committed in it. Members have their own parts of it."""

    cluster_id: ClusterId
    token: str
    first: Entry
    seed: str | None = None  # what its founders restored: digest and revision bump
    writes: int = 0  # of clients, that were accepted
    gone: set[MemberId] = field(default_factory=set)
    superseded_at: int | None = None  # how many writes it had when a newer generation was written
    alarms: set[Alarm] = field(default_factory=set)
    term: int = 1
    version: tuple[int, int] = (0, 0)  # of the cluster: the lowest that all its members have run at one time

    def __post_init__(self) -> None:
        self.committed = self.first  # the last entry that any leader has committed
        self.last_acknowledged: Entry | None = None

    @property
    def members(self) -> Members:
        return self.committed.members

    @property
    def voters(self) -> list[Member]:
        return [each for each in self.members.values() if not each.is_learner]


@dataclass(eq=False, repr=False)
class DataDir:
    """What one member's directory holds. All three are None on a joiner that nobody has sent anything yet."""

    lineage: Lineage
    member: MemberId
    appended: Entry | None = None
    committed: Entry | None = None  # as far as this member was told
    applied: Entry | None = None
    stored: Entry | None = None  # what its database has applied: after a kill perhaps more than `committed`
    noted: Entry | None = None  # what raft's note called committed when etcd last began: that much is on the disk
    leads: bool = False
    term: int = 0  # of its leadership
    damaged: str = ""  # why etcd cannot run on it
    unfit: bool = False  # it cannot, whatever its files look like
    version: tuple[int, int] = (0, 0)  # the cluster's, as this member was told; (0, 0): not yet

    @property
    def members(self) -> Members:
        """The list that this member goes by."""
        return {} if self.applied is None else self.applied.members

    @property
    def position(self) -> tuple[int, int]:
        return (0, 0) if self.appended is None else self.appended.position

    @property
    def known(self) -> Entry | None:
        """The last entry that its files know to be committed: by raft's note, or because the database has it."""
        both = [each for each in (self.committed, self.stored) if each is not None]
        return max(both, key=lambda each: each.index, default=None)

    @property
    def earlier(self) -> Entry | None:
        """What a running etcd would know to be committed if it were killed before raft's note of it is written."""
        if self.committed is None or self.committed in (self.lineage.first, self.noted):
            return self.committed
        return self.committed.before

    def forget_a_commit(self, *, the_database_too: bool) -> None:
        """Killed before the note was written. Raft begins at the note, whatever the database has applied."""
        self.stored = None if the_database_too else self.applied
        self.committed = self.applied = self.earlier
