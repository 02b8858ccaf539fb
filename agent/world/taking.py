"""Snapshots into the bucket: of our own running etcd, and of the whole log of one that has stopped.

House rules. The member's data directory is read and never written; what runs, runs on a copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import chain
from typing import Any

from agent.model.faults import Refused
from agent.model.ids import ClientUrl, GenerationNumber
from agent.model.known import Ignorance
from agent.model.members import Damaged
from agent.model.snapshot import Fingerprint, Manifest, Origin, Rescued, SnapshotName
from agent.world import etcd_bolt
from agent.world.disk import DataRoot
from agent.world.doors import Clock
from agent.world.etcd import EtcdDoor
from agent.world.etcd_restore import copy_data_dir
from agent.world.etcd_survey import survey
from agent.world.etcd_wal import mark_committed
from agent.world.fingerprints import look, look_now
from agent.world.host import EtcdBinary
from agent.world.scratch import working_folder
from agent.world.scratch_etcd import scratch_etcd
from agent.world.snapshot_store import SnapshotStore
from agent.world.snapshot_stream import Uploaded
from agent.world.workplace import Workplace, working_on
from agent.world.workshop import OnBytes


class Taking:
    """Takes and rescues: uploads, and writes the manifest last."""

    def __init__(self, place: Workplace, clock: Clock, store: SnapshotStore, etcd: EtcdDoor, root: DataRoot) -> None:
        self._place = place
        self._clock = clock
        self._store = store
        self._etcd = etcd
        self._root = root
        self._version = EtcdBinary(place.binary).version

    def take(
        self, generation: GenerationNumber, origin: Origin, rescued: Rescued | None, on_bytes: OnBytes
    ) -> Manifest:
        """A snapshot of our own running etcd."""
        endpoint = self._place.endpoint
        members, status = self._etcd.members_locally(endpoint), self._etcd.status(endpoint)
        name = self._named(generation, status.revision)
        with self._stream(endpoint, status.revision) as (blobs, fingerprint):
            uploaded = self._store.upload(name, blobs, on_bytes)
        return self._commit(
            Manifest(
                **self._signed(name, origin, uploaded),
                etcd_version=status.version,
                cluster_id=status.cluster_id,
                member_id=status.member_id,
                raft_term=status.raft_term,
                raft_index=status.applied_index,
                members=members,
                fingerprint=fingerprint,
                rescued=rescued,
            )
        )

    def _named(self, generation: GenerationNumber, revision: int) -> SnapshotName:
        return SnapshotName(generation, revision, self._clock.now().replace(microsecond=0))

    def _signed(self, name: SnapshotName, origin: Origin, uploaded: Uploaded) -> dict[str, Any]:
        """What every manifest of ours says of who took it, and of what was stored."""
        return {
            "name": name,
            "cluster": self._place.cluster,
            "origin": origin,
            "instance": self._place.instance,
            "agent": self._place.agent,
            "size_bytes": uploaded.size_bytes,
            "sha256": uploaded.sha256,
            "stored_bytes": uploaded.stored_bytes,
        }

    def _commit(self, manifest: Manifest) -> Manifest:
        self._store.commit(manifest)
        return manifest

    @contextmanager
    def _stream(self, endpoint: ClientUrl, revision: int) -> Iterator[tuple[Iterator[bytes], Fingerprint | None]]:
        """The snapshot, opened, and what the keyspace looked like to it at this revision.

        etcd reads a snapshot in one transaction, which is open once the first piece is here. If nothing was compacted
        between a look before that and one after it, the snapshot looks the same.
        """
        before = look(self._etcd, endpoint, revision)
        with closing(self._etcd.snapshot(endpoint)) as blobs:  # else whoever keeps an error keeps the transaction open
            first = next(blobs, b"")
            after = look(self._etcd, endpoint, revision)
            same = before if before == after and isinstance(before, Fingerprint) else None
            yield chain((first,), blobs), same

    def rescue(self, generation: GenerationNumber, rescued: Rescued, on_bytes: OnBytes) -> Manifest:
        """The whole log of a stopped member, its uncommitted end included; the original stays as it is.

        A copy replays it, alone, and is stopped again: its database is the snapshot, whether or not etcd's own could
        be had of it (with authentication on, nobody on loopback is its root).
        """
        found = survey(self._root.data)
        if isinstance(found, Damaged):
            raise Refused(f"the data of {rescued.instance} cannot be rescued: {found.why}", Ignorance.MALFORMED)
        with working_folder(self._root.scratch, "rescue") as folder, working_on(f"the data of {rescued.instance}"):
            copy = folder / "data"
            database = copy / "member" / "snap" / "db"
            copy_data_dir(self._root.data, copy)
            mark_committed(copy)
            with scratch_etcd(self._place.binary, copy, rescued.instance, force_new_cluster=True) as endpoint:
                fingerprint = look_now(self._etcd, endpoint)
            contents = etcd_bolt.read(database)
            name = self._named(generation, contents.revision)
            uploaded = self._store.upload(name, etcd_bolt.as_snapshot(database), on_bytes)
        return self._commit(
            Manifest(
                **self._signed(name, Origin.RESCUE, uploaded),
                etcd_version=self._version(),  # what the copy ran on
                cluster_id=found.cluster_id,
                member_id=found.member_id,
                raft_term=rescued.position.last_term,
                raft_index=contents.consistent_index,
                members=found.members,
                fingerprint=fingerprint if isinstance(fingerprint, Fingerprint) else None,
                rescued=rescued,
            )
        )
