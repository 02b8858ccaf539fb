"""What the instance's own disk holds: etcd's data, and the identity file that says whose it is.

The order on disk is what makes a start happen once. `data/` is created *before* the claim is written and
etcd creates its write-ahead log before it speaks to anybody. So, with our claim in the bucket:
`data/` without a log means that we never ran; no `data/` at all means that the disk was lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from agent.model.ids import ClusterId, GenerationNumber, InstanceId, MemberId, Nonce, PeerUrl

BROKEN = "broken"
"""How the name of a folder in the quarantine ends whose data etcd kept ending on (see `decide.healing`)."""


class Data(StrEnum):
    """The state of etcd's data directory."""

    ABSENT = "absent"  # no directory: nothing was ever prepared here, or it was lost
    EMPTY = "empty"  # prepared, but without a write-ahead log: etcd has never spoken from it
    PRESENT = "present"  # has a write-ahead log: a member lives here


class Stage(StrEnum):
    """How far this instance came on its way to membership."""

    STARTING = "starting"  # a founder that is about to claim its start
    ADDING = "adding"  # about to ask for a learner's entry
    JOINING = "joining"  # has the entry `member_id`, which nobody ever started
    MEMBER = "member"  # its etcd answered with `member_id` and `cluster_id`
    FENCED = "fenced"  # must never start again: to be quarantined


@dataclass(frozen=True, slots=True)
class Identity:
    """`identity.json` beside the data directory: whose data it is, and what it may be used for."""

    cluster: str
    instance: InstanceId
    generation: GenerationNumber
    stage: Stage
    nonce: Nonce
    peer_url: PeerUrl
    member_id: MemberId | None = None
    cluster_id: ClusterId | None = None


@dataclass(frozen=True, slots=True)
class Disk:
    """Identity and data directory, read in one go. `identity` is None where there is no such file."""

    identity: Identity | None
    data: Data
    seeds: frozenset[str] = frozenset()
    """Digests (sha256, hex) of the snapshots that lie here, fetched and verified."""
    restored: frozenset[Nonce] = frozenset()
    """Data directories that were restored for an identity of this nonce, and wait to be put in place."""
    broken_at: tuple[datetime, ...] = ()
    """When data went to quarantine on which etcd kept ending, oldest first; by this instance's clock."""


@dataclass(frozen=True, slots=True)
class EtcdRunning:
    """etcd's process is alive. `pid` is the operating system's."""

    pid: int


@dataclass(frozen=True, slots=True)
class EtcdStopped:
    """No etcd process of ours. `exit_code` where somebody saw it end (etcd exits 0 when it was removed)."""

    exit_code: int | None = None


EtcdProcess = EtcdRunning | EtcdStopped


class ObstacleKind(StrEnum):
    """What keeps any etcd from running here, whatever its data is."""

    DISK = "disk"  # writes to it fail, or it is read-only
    FULL = "full"
    PORT = "port"  # somebody else listens on one of etcd's
    BINARY = "binary"  # none, or not one for this data


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Found by looking while etcd does not run. `why` is one line for a person."""

    kind: ObstacleKind
    why: str

    def __str__(self) -> str:
        return self.why
