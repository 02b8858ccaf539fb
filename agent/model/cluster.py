"""What etcd says of itself: members, one member's status, and the arithmetic of quorums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.model.ids import ClientUrl, ClusterId, MemberId, PeerUrl
from agent.model.known import Unknown


def quorum_of(voters: int) -> int:
    """How many of so many voters must agree."""
    return voters // 2 + 1


def voter_target(desired_capacity: int) -> int:
    """How many voters a fleet of this size should have: odd or two, at least one, at most seven.

    An even number of voters tolerates no more failures than the odd number below it, except that one of
    two cannot survive at all. Above seven, each write waits for more disks than it is worth (etcd's FAQ).
    """
    if desired_capacity <= 2:
        return max(1, desired_capacity)
    return min(7, desired_capacity - (1 - desired_capacity % 2))


def minor_of(version: str) -> tuple[int, int] | None:
    """(3, 5) for `3.5.30`; None for what is not such a version."""
    major, _, rest = version.partition(".")
    minor = rest.split(".")[0].split("-")[0]
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None


def is_newer_minor(version: str, than: str) -> bool:
    """Whether data of that version is too new for the other: etcd reads its own minor version's and older ones'."""
    one, other = minor_of(version), minor_of(than)
    return one is not None and other is not None and one > other


@dataclass(frozen=True, slots=True)
class Member:
    """An entry of the member list. A member has no name until it was started for the first time."""

    id: MemberId
    name: str
    peer_urls: tuple[PeerUrl, ...]
    client_urls: tuple[ClientUrl, ...] = ()
    is_learner: bool = False

    @property
    def started(self) -> bool:
        return self.name != ""

    def __str__(self) -> str:
        return f"{self.name or 'unstarted'} ({self.id})"


class AlarmKind(StrEnum):
    """etcd's AlarmType."""

    NOSPACE = "NOSPACE"
    CORRUPT = "CORRUPT"


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm that is raised, and by whom; a restored cluster still has those of the members it was made of."""

    member: MemberId
    kind: AlarmKind


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One member's answer to Status: its own view, which may be behind everybody else's."""

    member_id: MemberId
    cluster_id: ClusterId
    version: str
    leader: MemberId | None  # None: it knows of no leader
    raft_term: int
    committed_index: int
    applied_index: int
    is_learner: bool
    db_size_bytes: int
    revision: int
    errors: tuple[str, ...] = ()
    db_size_in_use_bytes: int = 0

    @property
    def leads(self) -> bool:
        return self.leader == self.member_id


@dataclass(frozen=True, slots=True)
class Membership:
    """The member list, read after a linearizable read through the same member: a quorum stood behind it."""

    cluster_id: ClusterId
    members: tuple[Member, ...]
    via: ClientUrl  # the endpoint that answered

    @property
    def voters(self) -> tuple[Member, ...]:
        return tuple(member for member in self.members if not member.is_learner)

    @property
    def learners(self) -> tuple[Member, ...]:
        return tuple(member for member in self.members if member.is_learner)

    def find(self, member: MemberId | None) -> Member | None:
        return next((each for each in self.members if each.id == member), None)

    def named(self, name: str) -> tuple[Member, ...]:
        return tuple(each for each in self.members if each.name == name)

    def at(self, url: PeerUrl) -> tuple[Member, ...]:
        return tuple(each for each in self.members if url in each.peer_urls)


@dataclass(frozen=True, slots=True)
class Answers:
    """Who of the members answered Status just now, and what; the silent ones are Unknown, not dead."""

    of: Mapping[MemberId, MemberStatus | Unknown] = field(default_factory=dict)

    def answered(self, member: MemberId) -> bool:
        return isinstance(self.of.get(member), MemberStatus)
