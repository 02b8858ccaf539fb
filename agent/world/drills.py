"""Drills: a snapshot is restored, started alone on loopback, and compared with its manifest.

What came of it is filed in the bucket, for everybody. Only what the snapshot itself is to blame for is a failure:
whatever is about us (our rights, our disk, our tools) is told to whoever asked, and tried again another time.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from time import perf_counter

from agent.model.faults import Refused, Unavailable
from agent.model.ids import PeerUrl
from agent.model.known import Ignorance, Unknown
from agent.model.snapshot import DrillRecord, DrillResult, Manifest, SnapshotName
from agent.world import etcd_bolt
from agent.world.bucket import S3Bucket
from agent.world.disk import DataRoot
from agent.world.etcd import EtcdDoor
from agent.world.etcd_restore import restore, restore_tool
from agent.world.fingerprints import compared, differences, look
from agent.world.scratch import working_folder
from agent.world.scratch_etcd import scratch_etcd
from agent.world.snapshot_store import SnapshotStore
from agent.world.workplace import Workplace, working_on
from agent.world.workshop import MAY_PASS, OnBytes

DRILL_ROOM = 3
"""A drill has the snapshot, the restored database and its log on the disk, and leaves as much as that free."""

SAYS_SOMETHING = frozenset({Ignorance.DENIED, Ignorance.OURS})
"""Why a look at restored keys may fail for good: there is no such revision in them, or authentication is on."""


class Drills:
    """Tries snapshots out."""

    def __init__(
        self, place: Workplace, bucket: S3Bucket, store: SnapshotStore, etcd: EtcdDoor, root: DataRoot
    ) -> None:
        self._place = place
        self._bucket = bucket
        self._store = store
        self._etcd = etcd
        self._root = root

    def drill(self, name: SnapshotName, on_bytes: OnBytes) -> Manifest:
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
            with working_folder(self._root.scratch, "drill") as folder:
                return self._restored_and_compared(manifest, folder, on_bytes)
        except Refused as refused:
            if refused.unknown.why in MAY_PASS:
                raise
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
            seen = look(self._etcd, endpoint, manifest.name.revision)
        if isinstance(seen, Unknown) and seen.why not in SAYS_SOMETHING:
            raise Unavailable(seen.why, f"looking at what was restored: {seen.detail}")
        with working_on("the restored snapshot"):
            revision = etcd_bolt.read(data / "member" / "snap" / "db").revision
        found = differences(manifest, revision, seen)
        if found:
            return DrillResult.FAILED, "; ".join(found)
        return DrillResult.PASSED, f"{compared(manifest, seen)} as the manifest says"
