"""The nouns of the simulated world: instances with disks, lineages of data, and what breaks a promise."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime

from agent.model.cluster import Member
from agent.model.disk import Identity
from agent.model.fleet import InstanceState
from agent.model.ids import ClusterId, InstanceId, MemberId

START = datetime(2026, 1, 1, tzinfo=UTC)


class Broken(AssertionError):
    """A promise was broken: the seed that shows it is a bug."""


class Crash(BaseException):
    """The agent's process dies here, between two effects."""


def number(*words: object) -> int:
    """A number that depends on nothing but these words."""
    digest = hashlib.sha256("|".join(map(str, words)).encode()).digest()
    return int.from_bytes(digest[:8], "big")


@dataclass
class Lineage:
    """One cluster's committed membership; whoever has its data shares it."""

    cluster_id: ClusterId
    members: dict[MemberId, Member]
    token: str
    writes: int = 0
    gone: set[MemberId] = field(default_factory=set)
    superseded_at: int | None = None  # how many writes it had when a newer generation was proclaimed

    @property
    def voters(self) -> list[Member]:
        return [each for each in self.members.values() if not each.is_learner]


@dataclass
class DataDir:
    """What a member's directory holds."""

    lineage: Lineage
    member: MemberId


@dataclass
class Machine:
    """An instance with a disk, an address, and perhaps an etcd process and an agent."""

    id: InstanceId
    ip: str
    zone: str
    group: str
    launched_at: datetime
    state: InstanceState = InstanceState.RUNNING
    lifecycle: str = "InService"
    identity: Identity | None = None
    prepared: bool = False
    data: DataDir | None = None
    running: bool = False
    reachable: bool = True
    launched_as: str = ""  # etcd's --name at its last start
    steady_since: datetime | None = None  # since when etcd runs and can be reached
    quarantine: list[DataDir | None] = field(default_factory=list)
    exit_code: int | None = None
    boot: int = 1
    starts: int = 0
    stops: int = 0  # of etcd, by its agent

    @property
    def up(self) -> bool:
        return self.state is InstanceState.RUNNING
