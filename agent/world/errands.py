"""What the tasks do: snapshots taken and rescued (`taking`), seeds fetched and restored (here), drills (`drills`).

House rules. Nothing here decides, and nothing here touches the member's data directory or identity: it is read, and
what is made lies below `scratch/` until an action of the rules puts it in place. Working copies in `scratch/` are
ours, and are deleted when they are of no use any more; data of a member never is. An operator's command may be at
work beside the agent: see `scratch`.
"""

from __future__ import annotations

import logging
import shutil
from datetime import timedelta
from pathlib import Path

from agent.model.faults import Trouble
from agent.model.ids import GenerationNumber
from agent.model.snapshot import Manifest, Origin, Rescued, SnapshotName
from agent.model.work import Defragment, Drill, FetchSeed, RescueLog, RestoreSeed, TakeSnapshot, Task
from agent.world.bucket import S3Bucket
from agent.world.disk import DataRoot
from agent.world.doors import Clock
from agent.world.drills import Drills
from agent.world.etcd import EtcdDoor
from agent.world.etcd_restore import restore, restore_tool
from agent.world.snapshot_store import SnapshotStore
from agent.world.taking import Taking
from agent.world.workplace import Workplace
from agent.world.workshop import OnBytes

log = logging.getLogger(__name__)

STALE_UPLOADS = timedelta(days=1)
"""Whoever uploads for longer than this has long been given up by its own timeouts."""


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
        self._store = store
        self._etcd = etcd
        self._root = root
        self._taking = Taking(place, clock, store, etcd, root)
        self._drills = Drills(place, bucket, store, etcd, root)

    def run(self, task: Task, on_bytes: OnBytes) -> Manifest | None:
        match task:
            case TakeSnapshot(generation=generation, origin=origin, rescued=rescued):
                taken = self.take(generation, origin, rescued, on_bytes)
                if rescued is None:
                    self._sweep()
                return taken
            case RescueLog(generation=generation, rescued=rescued):
                return self._taking.rescue(generation, rescued, on_bytes)
            case FetchSeed(manifest=manifest):
                self.fetch(manifest, on_bytes)
                return manifest
            case RestoreSeed():
                self._restore(task)
                return None
            case Drill(name=name):
                return self.drill(name, on_bytes)
            case Defragment(endpoint=endpoint):
                self._etcd.defragment(endpoint)
                return None

    def _sweep(self) -> None:
        """What broken-off tasks and uploads have left, while all is well and nothing of it is wanted.

        That is tidiness, and no reason to fail: what cannot be swept is told, and the next snapshot tries again.
        """
        try:
            self._root.clear_scratch()
            self._store.abort_stale_uploads(STALE_UPLOADS)
        except Trouble as trouble:
            log.warning("what was left behind cannot be swept: %s", trouble)

    def take(
        self, generation: GenerationNumber, origin: Origin, rescued: Rescued | None, on_bytes: OnBytes
    ) -> Manifest:
        """A snapshot of our own running etcd."""
        return self._taking.take(generation, origin, rescued, on_bytes)

    def drill(self, name: SnapshotName, on_bytes: OnBytes) -> Manifest:
        """Restore the snapshot, start it, compare it with its manifest; what came of it is filed in the bucket."""
        return self._drills.drill(name, on_bytes)

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
