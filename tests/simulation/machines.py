"""The nouns of the simulated world: instances with their disks, and what breaks a promise."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from agent.model.certificates import Issued
from agent.model.disk import Identity, Obstacle
from agent.model.fleet import GOING, InstanceState
from agent.model.ids import InstanceId, Nonce
from agent.model.spot import SpotNotice
from agent.model.work import RestoreSeed
from tests.simulation.logs import DataDir

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
class Machine:
    """An instance with a disk, an address, and perhaps an etcd process and an agent."""

    id: InstanceId
    ip: str
    zone: str
    group: str | None  # None: detached from it
    launched_at: datetime
    state: InstanceState = InstanceState.RUNNING
    lifecycle: str | None = "InService"
    skew: timedelta = timedelta(0)  # how far its clock is ahead
    protected: bool = False  # from scale-in
    awaited: bool = False  # its terminating hook ends when its agent completes it, and not before
    notice: SpotNotice | None = None  # EC2 takes it back
    # ---- the disk
    identity: Identity | None = None
    prepared: bool = False
    data: DataDir | None = None
    seeds: set[str] = field(default_factory=set)  # digests of snapshots that lie here
    restored: dict[Nonce, RestoreSeed] = field(default_factory=dict)
    quarantine: list[DataDir | None] = field(default_factory=list)
    broken_at: list[datetime] = field(default_factory=list)  # when data was put aside that etcd kept ending on
    obstacle: Obstacle | None = None  # no etcd runs here, whatever its data is
    issued: Issued | None = None  # its certificates
    # ---- etcd
    running: bool = False
    frozen: bool = False  # SIGSTOP: it runs, and does nothing
    blocked: bool = False  # it is being defragmented: it beats, and answers nobody
    answers: bool = False  # its client port: not before it has seen a leader once since its start
    trusts: frozenset[int] = frozenset()  # whose certificates its etcd takes, since its last start
    launched_as: str = ""  # etcd's --name at its last start
    reachable: bool = True
    steady_since: datetime | None = None  # since when etcd runs and can be reached
    exit_code: int | None = None
    unused_bytes: int = 0  # of its database
    cannot_be_rescued: bool = False  # a copy of its log does not run
    boot: int = 1
    starts: int = 0
    stops: int = 0  # of etcd, by its agent

    @property
    def up(self) -> bool:
        return self.state is InstanceState.RUNNING

    @property
    def speaks(self) -> bool:
        """Its etcd runs, and would answer whoever reaches it."""
        return self.running and not self.frozen

    @property
    def leaving(self) -> bool:
        """On its way to its end, which nothing stops any more."""
        taken = self.notice is not None and self.notice.takes_the_disk
        return taken or self.state in GOING or (self.lifecycle or "").startswith("Terminating")

    @property
    def exists(self) -> bool:
        return self.state is not InstanceState.TERMINATED

    def end_etcd(self, exit_code: int | None = None) -> None:
        self.running, self.frozen, self.answers, self.exit_code = False, False, False, exit_code
        self.blocked = False

    def end_defragmenting(self) -> None:
        if self.blocked:
            self.blocked, self.unused_bytes = False, 0

    def lose_disk(self) -> None:
        self.identity, self.data, self.prepared = None, None, False
        self.seeds, self.restored = set(), {}
        self.issued = None

    def take_disk_of(self, other: Machine) -> None:
        self.identity, self.data, self.prepared = other.identity, other.data, other.prepared
        self.seeds, self.restored = other.seeds, other.restored
        self.issued = other.issued
        other.lose_disk()
