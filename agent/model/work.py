"""Work that outlasts a round: what it is, and how far it came. One piece at a time, on a thread of its own.

A task never touches etcd's data directory or the identity: it reads, it writes below `scratch/`, it writes
snapshots to the bucket, and it asks etcd for what takes etcd long. What it has prepared is put in place by an
action of its own, which the rules decide on what they see then. So an agent may die, or be fenced, in the middle of
any task: nothing was changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from agent.model.generation import Seed
from agent.model.ids import ClientUrl, GenerationNumber, InstanceId, MemberId, Nonce, PeerUrl
from agent.model.known import Unknown
from agent.model.snapshot import Manifest, Origin, Rescued, SnapshotName


@dataclass(frozen=True, slots=True)
class TakeSnapshot:
    """Stream a snapshot of our own running etcd into the bucket, then let go of the old ones."""

    generation: GenerationNumber
    origin: Origin = Origin.SCHEDULE
    rescued: Rescued | None = None  # a survivor whose log has nothing beyond what it serves: no need to stop it


@dataclass(frozen=True, slots=True)
class RescueLog:
    """Copy the stopped data directory, run the copy alone on loopback with its whole log, and snapshot that."""

    generation: GenerationNumber
    rescued: Rescued


@dataclass(frozen=True, slots=True)
class FetchSeed:
    """Download a snapshot, verify it, and keep it here under its digest."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class RestoreSeed:
    """Make a data directory out of a verified snapshot, for the identity with this nonce."""

    seed: Seed
    nonce: Nonce
    name: InstanceId
    peer_url: PeerUrl
    token: str
    initial_cluster: tuple[tuple[str, PeerUrl], ...]


@dataclass(frozen=True, slots=True)
class Drill:
    """Restore a snapshot into a scratch etcd on loopback, and compare it with its manifest."""

    name: SnapshotName


@dataclass(frozen=True, slots=True)
class Defragment:
    """Have this member's etcd rewrite its database to what is in use; it answers nobody meanwhile."""

    member: MemberId
    endpoint: ClientUrl


Task = TakeSnapshot | RescueLog | FetchSeed | RestoreSeed | Drill | Defragment


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing is under way, and nothing was since the agent started."""


@dataclass(frozen=True, slots=True)
class Working:
    """Under way; `bytes_done` is of the database, uncompressed."""

    task: Task
    since: datetime
    bytes_done: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """The last task and what became of it.

    `trouble` None: it did what it was to do. `final`: a definite no, which the same task would meet again: a
    snapshot that is not what its manifest says, data that etcd cannot run on.
    """

    task: Task
    since: datetime
    at: datetime
    trouble: Unknown | None = None
    final: bool = False
    manifest: Manifest | None = None  # of what was taken, rescued or drilled


Work = Idle | Working | Ended
