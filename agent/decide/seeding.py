"""What a generation that is lost can be restored from: which survivor, or which snapshot.

Survivors come first, because a log holds what no snapshot has yet. Among them, raft's own rule: the log with the
higher last term, then the longer one, is the more complete. It must reach whatever anybody knows to be committed.
(The current term says nothing: a member that was cut off for an hour has the highest, and the shortest log.)

Of snapshots, only those of the generation itself, and of its own past: what its seed was, and what is older than
that. What a fenced lineage went on to write after its successor began is nobody's past, whatever its revision.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.model.disk import Data, Disk
from agent.model.generation import Claim, GenerationRecord, Holding, Report
from agent.model.known import Unknown
from agent.model.observation import Observation
from agent.model.snapshot import MANIFEST, Listed, Manifest, SnapshotName


def best_survivor(reports: Iterable[Report]) -> Report | None:
    """Whose log to use. None: nobody's can be.

    Nothing in the choice changes by what is done about it, or two that are equal would take turns.
    """
    able = [each for each in reports if each.data is Holding.INTACT and not each.trouble]
    committed = max((each.position.committed_index for each in able if each.position), default=0)
    reaching = [each for each in able if each.position and each.position.last_index >= committed]
    return max(reaching, key=_completeness, default=None)


def _completeness(report: Report) -> tuple[int, int, str]:
    assert report.position is not None
    return report.position.last_term, report.position.last_index, report.instance


def holds_all_of(manifest: Manifest, survivor: Report) -> bool:
    """Whether a snapshot has everything that this survivor's log can have committed.

    Raft's indices mean the same in all logs of one cluster. So it is with whoever was stopped for days, and comes
    back as the only one: what the others wrote meanwhile is in the snapshot, and not in its log.
    """
    assert survivor.position is not None
    same = manifest.cluster_id is not None and manifest.cluster_id == survivor.cluster_id
    return same and manifest.raft_index >= survivor.position.last_index


def seed_of(record: GenerationRecord) -> SnapshotName | None:
    """The snapshot that a generation started from; None for none, or one made elsewhere under another name."""
    return None if record.seed is None else SnapshotName.parse(record.seed.manifest.removesuffix(MANIFEST))


def best_snapshot(record: GenerationRecord, listed: Iterable[Listed]) -> SnapshotName | None:
    """The newest that this generation can be restored from, by generation and then by revision."""
    names = (each.name for each in listed if each.usable)
    return max((name for name in names if _is_of_its_past(name, record)), default=None)


def _is_of_its_past(name: SnapshotName, record: GenerationRecord) -> bool:
    seed = seed_of(record)
    return name.generation == record.generation or (seed is not None and name <= seed)


def manifest_wanted(record: GenerationRecord, o: Observation) -> SnapshotName | None:
    """Whose manifest this round needs: the seed's for a founder that is to restore it, else the newest snapshot's."""
    without_data = isinstance(o.disk, Disk) and o.disk.data is not Data.PRESENT
    if without_data and o.me.instance in record.founders and isinstance(o.claim, Claim) and not _is_spent(o, o.claim):
        return seed_of(record)
    return None if isinstance(o.snapshots, Unknown) else best_snapshot(record, o.snapshots)


def _is_spent(o: Observation, claim: Claim) -> bool:
    identity = o.disk.identity if isinstance(o.disk, Disk) else None
    return identity is None or identity.nonce != claim.nonce
