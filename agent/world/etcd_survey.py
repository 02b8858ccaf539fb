"""What etcd's files say by themselves, whether or not etcd runs on them: the log to its end, and the database.

Whose list counts? The database has the members' names and addresses; who votes is raft's own list, made of the
newest snapshot's and the changes in the log since. They differ where etcd forgets: a promotion that etcd 3.5 before
3.5.20 does not write to the database, a member that was removed and is listed still. An election goes by raft's.

How far is a log committed? Raft's own note (HardState) comes late to the disk: the database may be ahead of it, and
the database may be behind (etcd writes it every 100 ms, and in 3.4 its index only with a key). So the list is the one
at the highest index that either of them knows. Where raft, started again from its note alone, would have other
voters, that list is told, too: both are possible then.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent.model.faults import Unavailable
from agent.model.ids import MemberId
from agent.model.known import Ignorance
from agent.model.members import Damaged, LogPosition, MemberEntry, Survey
from agent.world import durable, etcd_bolt, etcd_wal
from agent.world.etcd_damage import Damage
from agent.world.etcd_records import Change, ChangeKind, Mark, Segment

ATTEMPTS: Final = 20
KEPT_SEGMENTS: Final = 64  # 4 GiB of log


class SegmentMemory:
    """Sealed segments, read once: etcd writes only to the last one. A file that changed all the same is read anew."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], Segment] = OrderedDict()

    def __call__(self, path: Path, make: Callable[[], Segment]) -> Segment:
        mark = _mark(path)
        found = self._kept.get(mark)
        if found is None:
            found = self._kept[mark] = make()
        self._kept.move_to_end(mark)
        if len(self._kept) > KEPT_SEGMENTS:
            self._kept.popitem(last=False)
        return found


def survey(data_dir: Path, keep: etcd_wal.Keep = lambda _, make: make()) -> Survey | Damaged:
    """Reads only. Damage is what two looks in a row find, with not one file written in between.

    Unavailable: a file cannot be read (that says nothing about its content), or etcd wrote under every look.
    """
    seen: tuple[object, Damaged] | None = None
    for _ in range(ATTEMPTS):
        before = _marks(data_dir)
        found = _look(data_dir, keep)
        if isinstance(found, Survey):
            return found
        if found is not None and seen == (before, found) and before == _marks(data_dir):
            return found
        seen = None if found is None else (before, found)
    raise Unavailable(Ignorance.FAILED, f"{data_dir} changed under every one of {ATTEMPTS} looks")


def _look(data_dir: Path, keep: etcd_wal.Keep) -> Survey | Damaged | None:
    """None: etcd took a file away while we looked."""
    try:
        return _read(data_dir, keep)
    except Damage as damage:
        return Damaged(str(damage))
    except FileNotFoundError as error:
        if Path(error.filename).exists() or not data_dir.exists():
            raise Unavailable(Ignorance.FAILED, f"reading {data_dir}: {durable.explained(error)}") from error
        return None
    except OSError as error:
        raise Unavailable(Ignorance.OURS, f"reading {data_dir}: {durable.explained(error)}") from error


def _read(data_dir: Path, keep: etcd_wal.Keep) -> Survey:
    """The database first: what it has applied by then is in the log that is read after it.

    A log that ends before that has lost entries for which this member may have voted. etcd would run on it.
    """
    data_dir.stat()  # a directory that is gone says nothing of its content
    contents = _database(data_dir / "member" / "snap" / "db")
    log = etcd_wal.read(data_dir, keep)
    if log.start.index > contents.consistent_index:
        contents = _from_the_leader(data_dir, log.start)
    if log.last_index < contents.consistent_index:
        raise Damage(f"log: it ends at entry {log.last_index}, and the database has {contents.consistent_index}")
    return _told(log, contents)


def _database(path: Path) -> etcd_bolt.Contents:
    """Where there is none, etcd makes an empty one, and fills it from a log that is whole."""
    return etcd_bolt.read(path) if path.exists() and path.stat().st_size else etcd_bolt.NOTHING


def _from_the_leader(data_dir: Path, start: Mark) -> etcd_bolt.Contents:
    """A member that fell behind was sent a whole database, and did not come to put it in the old one's place.

    etcd does that at its next start, and refuses to start where it is missing (recoverSnapshotBackend).
    """
    sent = data_dir / "member" / "snap" / f"{start.index:016x}.snap.db"
    if not sent.exists():
        raise Damage(f"database: it ends before the log's snapshot at entry {start.index}, and {sent.name} is missing")
    return _database(sent)


def _told(log: etcd_wal.Log, contents: etcd_bolt.Contents) -> Survey:
    committed = max(log.state.commit, contents.consistent_index, _last_change_applied(log, contents))
    listed = log.membership_at(committed)
    noted, kept = log.membership_at(log.state.commit), max(committed, etcd_wal.rescuable_end(log))
    return Survey(
        log.cluster_id,
        log.member_id,
        _members(log, contents, listed),
        LogPosition(log.term_at(kept), kept, committed),
        contents.revision,
        _members(log, contents, noted) if noted.voters != listed.voters else (),
    )


def _last_change_applied(log: etcd_wal.Log, contents: etcd_bolt.Contents) -> int:
    """etcd 3.4 writes a change of the membership to the database, and its index only with the next key."""
    return max((change.index for change in log.changes if _shows(contents, change)), default=0)


def _shows(contents: etcd_bolt.Contents, change: Change) -> bool:
    if change.kind is ChangeKind.REMOVE:
        return change.member in contents.removed
    listed = next((each for each in contents.members if each.id == change.member), None)
    if listed is None or change.kind is ChangeKind.UPDATE:
        return False
    return not (change.promotes and listed.is_learner)


def _members(log: etcd_wal.Log, contents: etcd_bolt.Contents, listed: etcd_wal.Membership) -> tuple[MemberEntry, ...]:
    """Raft's list, with the names and addresses of the database, or of the change that added them."""
    known = {each.id: each for each in contents.members}
    return tuple(
        MemberEntry(entry.id, entry.name, entry.peer_urls, is_learner=member in listed.learners)
        for member in sorted(listed.voters | listed.learners)
        for entry in (known.get(member) or _as_added(log, member),)
    )


def _as_added(log: etcd_wal.Log, member: MemberId) -> MemberEntry:
    for change in (*log.earlier, *log.changes):
        if change.member == member and change.context:
            with suppress(ValueError, TypeError, AttributeError):
                return etcd_bolt.member_from(member, change.context)
    return MemberEntry(member, "", ())


def _marks(data_dir: Path) -> tuple[object, ...]:
    """Differs after any of the files was written, replaced, made or taken away."""
    found = []
    for folder in (data_dir / "member" / "wal", data_dir / "member" / "snap"):
        with suppress(OSError):
            found += [_mark(path) for path in sorted(folder.iterdir())]
    return tuple(found)


def _mark(path: Path) -> tuple[object, ...]:
    seen = path.stat()
    return (str(path), seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns)
