"""What the tasks do: snapshots taken and rescued, seeds fetched and restored, drills.

House rules. Nothing here decides, and nothing here touches the member's data directory or identity: it is read, and
what is made lies below `scratch/` until an action of the rules puts it in place. Working copies in `scratch/` are
ours, and are deleted when they are of no use any more; data of a member never is.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Any

from agent.model.faults import Refused, Unavailable
from agent.model.ids import ClientUrl, GenerationNumber, InstanceId, PeerUrl
from agent.model.known import Ignorance, Unknown
from agent.model.members import Damaged
from agent.model.snapshot import DrillRecord, DrillResult, Fingerprint, Manifest, Origin, Rescued, SnapshotName
from agent.model.work import Drill, FetchSeed, RescueLog, RestoreSeed, TakeSnapshot, Task
from agent.world import durable, etcd_bolt
from agent.world.bucket import S3Bucket
from agent.world.disk import DataRoot
from agent.world.doors import Clock
from agent.world.etcd import EtcdDoor
from agent.world.etcd_damage import Damage
from agent.world.etcd_restore import copy_data_dir, restore, restore_tool
from agent.world.etcd_survey import survey
from agent.world.etcd_wal import mark_committed
from agent.world.host import EtcdBinary
from agent.world.scratch_etcd import scratch_etcd
from agent.world.snapshot_store import SnapshotStore
from agent.world.snapshot_stream import Uploaded
from agent.world.workshop import OnBytes

STALE_UPLOADS = timedelta(days=1)
"""Whoever uploads for longer than this has long been given up by its own timeouts."""

DRILL_ROOM = 3
"""A drill has the snapshot, the restored database and its log on the disk, and leaves as much as that free."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where this agent's errands are run: its cluster, its member, and its tools."""

    cluster: str
    instance: InstanceId
    agent: str  # its version
    endpoint: ClientUrl  # of its own etcd
    binary: str


class Errands:
    """Carries out one task at a time; raises `Unavailable` for what may pass and `Refused` for what will not."""

    def __init__(
        self,
        place: Workplace,
        clock: Clock,
        bucket: S3Bucket,
        store: SnapshotStore,
        etcd: EtcdDoor,
        root: DataRoot,
    ) -> None:
        self._place = place
        self._clock = clock
        self._bucket = bucket
        self._store = store
        self._etcd = etcd
        self._root = root
        self._version = EtcdBinary(place.binary).version

    def run(self, task: Task, on_bytes: OnBytes) -> Manifest | None:
        match task:
            case TakeSnapshot(generation=generation, origin=origin, rescued=rescued):
                if rescued is None:
                    self._sweep()
                return self.take(generation, origin, rescued, on_bytes)
            case RescueLog(generation=generation, rescued=rescued):
                return self._rescue(generation, rescued, on_bytes)
            case FetchSeed(manifest=manifest):
                self.fetch(manifest, on_bytes)
                return manifest
            case RestoreSeed():
                self._restore(task)
                return None
            case Drill(name=name):
                return self.drill(name, on_bytes)

    def _sweep(self) -> None:
        """What broken-off tasks and uploads have left, while all is well and nothing of it is wanted."""
        self._root.clear_scratch()
        self._store.abort_stale_uploads(STALE_UPLOADS)

    # ---- into the bucket -------------------------------------------------------------------------------------------

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
        before = self._look(endpoint, revision)
        blobs = self._etcd.snapshot(endpoint)
        first = next(blobs, b"")
        after = self._look(endpoint, revision)
        same = before if before == after and isinstance(before, Fingerprint) else None
        yield chain((first,), blobs), same

    def _look(self, endpoint: ClientUrl, revision: int) -> Fingerprint | Unknown:
        """Unknown where it cannot be had: a compaction came between, or etcd does not know us. It is worth no less."""
        try:
            hashed = self._etcd.hash_kv(endpoint, revision)
            return Fingerprint(self._etcd.count_keys(endpoint, revision), hashed.hash, hashed.compact_revision)
        except (Unavailable, Refused) as trouble:
            return trouble.unknown

    def _look_now(self, endpoint: ClientUrl) -> Fingerprint | Unknown:
        """At a scratch etcd, to which nobody else writes."""
        try:
            return self._look(endpoint, self._etcd.status(endpoint).revision)
        except (Unavailable, Refused) as trouble:
            return trouble.unknown

    def _rescue(self, generation: GenerationNumber, rescued: Rescued, on_bytes: OnBytes) -> Manifest:
        """The whole log of a stopped member, its uncommitted end included; the original stays as it is.

        A copy replays it, alone, and is stopped again: its database is the snapshot, whether or not etcd's own could
        be had of it (with authentication on, nobody on loopback is its root).
        """
        found = survey(self._root.data)
        if isinstance(found, Damaged):
            raise Refused(f"the data of {rescued.instance} cannot be rescued: {found.why}", Ignorance.MALFORMED)
        with self._fresh_folder("rescue") as folder, _files_of(rescued.instance):
            copy = folder / "data"
            database = copy / "member" / "snap" / "db"
            copy_data_dir(self._root.data, copy)
            mark_committed(copy)
            with scratch_etcd(self._place.binary, copy, rescued.instance, force_new_cluster=True) as endpoint:
                fingerprint = self._look_now(endpoint)
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

    # ---- out of the bucket -----------------------------------------------------------------------------------------

    def fetch(self, manifest: Manifest, on_bytes: OnBytes) -> Path:
        """The verified snapshot as a file, in the place where the disk is looked at for it."""
        path = self._root.seed(manifest.sha256)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._store.fetch(manifest, path, on_bytes)
        return path

    def _restore(self, task: RestoreSeed) -> None:
        into = self._root.restored(task.nonce)
        unfinished = into.with_name(f"{into.name}.partial")
        shutil.rmtree(unfinished, ignore_errors=True)
        restore(
            restore_tool(self._place.binary),
            self._root.seed(task.seed.sha256),
            unfinished,
            name=task.name,
            peer_url=task.peer_url,
            token=task.token,
            initial_cluster=task.initial_cluster,
            bump_revision=task.seed.bump_revision,
        )
        unfinished.rename(into)

    # ---- to the test -----------------------------------------------------------------------------------------------

    def drill(self, name: SnapshotName, on_bytes: OnBytes) -> Manifest | None:
        """Restore the snapshot, start it, compare it with its manifest; what came of it is filed in the bucket."""
        manifest = self._bucket.manifest(name)
        if manifest is None:
            raise Unavailable(Ignorance.FAILED, f"{name} has no manifest any more")
        began = perf_counter()
        result, detail = self._try_out(manifest, on_bytes)
        took = perf_counter() - began
        self._bucket.file_drill(DrillRecord(name, self._place.instance, result, detail, took))
        return manifest

    def _try_out(self, manifest: Manifest, on_bytes: OnBytes) -> tuple[DrillResult, str]:
        free = shutil.disk_usage(self._root.scratch.parent).free
        if free < DRILL_ROOM * 2 * manifest.size_bytes:
            room = f"{free / 1e6:.0f} MB are free, and {DRILL_ROOM * 2} times {manifest.size_bytes / 1e6:.0f} MB wanted"
            return DrillResult.SKIPPED, f"there is no room to try a restore: {room}"
        try:
            with self._fresh_folder("drill") as folder:
                return self._restored_and_compared(manifest, folder, on_bytes)
        except Refused as refused:
            return DrillResult.FAILED, str(refused)

    def _restored_and_compared(self, manifest: Manifest, folder: Path, on_bytes: OnBytes) -> tuple[DrillResult, str]:
        snapshot, data = folder / "snapshot.db", folder / "data"
        self._store.fetch(manifest, snapshot, on_bytes)
        url = PeerUrl("http://127.0.0.1:2380")  # nobody listens there: a cluster of one never dials itself
        restore(
            restore_tool(self._place.binary),
            snapshot,
            data,
            name="drill",
            peer_url=url,
            token=f"drill-{manifest.sha256[:8]}",
            initial_cluster=(("drill", url),),
            bump_revision=0,
        )
        with scratch_etcd(self._place.binary, data, "drill", force_new_cluster=False) as endpoint:
            seen = self._look(endpoint, manifest.name.revision)
        with _files_of("the restored snapshot"):
            revision = etcd_bolt.read(data / "member" / "snap" / "db").revision
        differences = _differences(manifest, revision, seen)
        if differences:
            return DrillResult.FAILED, "; ".join(differences)
        return DrillResult.PASSED, f"{_compared(manifest, seen)} as the manifest says"

    @contextmanager
    def _fresh_folder(self, name: str) -> Iterator[Path]:
        """Empty, below `scratch/`, and gone afterwards; what a killed agent left there goes first."""
        folder = self._root.scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _files_of(whose: str) -> Iterator[None]:
    """Working copies of etcd's files: what is wrong with them is final, what cannot be read may pass."""
    try:
        yield
    except Damage as damage:
        raise Refused(f"the data of {whose} cannot be used: {damage}", Ignorance.MALFORMED) from damage
    except OSError as error:
        raise Unavailable(Ignorance.OURS, f"working on a copy of {whose}: {durable.explained(error)}") from error


def _differences(manifest: Manifest, revision: int, seen: Fingerprint | Unknown) -> list[str]:
    """What a restored snapshot has other than its manifest says. Its revision may be higher: writes went on."""
    found = []
    if revision < manifest.name.revision:
        found.append(f"its revision is {revision}, and not at least {manifest.name.revision}")
    wanted = manifest.fingerprint
    if wanted is None or _knows_us_not(seen):
        return found
    if isinstance(seen, Unknown):
        return [*found, f"its keys at revision {manifest.name.revision} cannot be read: {seen}"]
    for what in ("key_count", "hash_kv", "compact_revision"):
        has, wants = getattr(seen, what), getattr(wanted, what)
        if has != wants:
            found.append(f"its {what.replace('_', ' ')} is {has}, and not {wants}")
    return found


def _compared(manifest: Manifest, seen: Fingerprint | Unknown) -> str:
    if manifest.fingerprint is not None and isinstance(seen, Fingerprint):
        return "revision, key count and HashKV are"
    why = "etcd's authentication keeps its keys from us" if _knows_us_not(seen) else "the manifest says no more"
    return f"its revision is ({why})"


def _knows_us_not(seen: Fingerprint | Unknown) -> bool:
    """With authentication on, nobody on loopback is etcd's root."""
    return isinstance(seen, Unknown) and seen.why is Ignorance.OURS
