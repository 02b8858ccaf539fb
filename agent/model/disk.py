"""What the instance's own disk holds: etcd's data, and the identity file that says whose it is.

The order on disk is what makes a start happen once. `data/` is created *before* the claim is written and
etcd creates its write-ahead log before it speaks to anybody. So, with our claim in the bucket:
`data/` without a log means that we never ran; no `data/` at all means that the disk was lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agent.model.ids import ClusterId, GenerationNumber, InstanceId, MemberId, Nonce, PeerUrl


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


@dataclass(frozen=True, slots=True)
class EtcdRunning:
    """etcd's process is alive. `pid` is the operating system's."""

    pid: int


@dataclass(frozen=True, slots=True)
class EtcdStopped:
    """No etcd process of ours. `exit_code` where somebody saw it end (etcd exits 0 when it was removed)."""

    exit_code: int | None = None


EtcdProcess = EtcdRunning | EtcdStopped
