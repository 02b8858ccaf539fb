"""Reads etcd's write-ahead log without etcd, and tells what raft would find in it at its next start.

The log is a row of segments `SEQUENCE-INDEX.wal` (server/storage/wal: wal.go); one by itself is read in `etcd_records`.

House rules. What a crash leaves is not damage: a log that breaks off within its last record, of which a sector was
never written; etcd cuts it off there (wal.Repair, decoder.isTornEntry). Everything else is, and here we are stricter
than etcd: it also cuts the log off, and runs on the rest, where a length in the last segment was garbled (measured:
3.4.23, 3.5.16, 3.5.30). etcd reads *all* segments that are there at its start (wal.ValidSnapshotEntries), and refuses
to start where an old one is garbled, so we read them, too; old ones may have been purged. A later entry with
an index that was there before replaces it and all that came after it. The log counts from the newest snapshot that
the log knows to be committed and whose file is whole. May be read while etcd writes.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from agent.model.ids import ClusterId, MemberId
from agent.world import durable
from agent.world.etcd_damage import Damage
from agent.world.etcd_records import STATE, Change, ChangeKind, HardState, Mark, Run, Segment, framed, parsed
from agent.world.protobuf_fields import encoded, fields, numbers, texts, varint

NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.wal")
SNAP_NAME = "{term:016x}-{index:016x}.snap"

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class End:
    """Where the log goes on."""

    path: Path
    offset: int
    crc: int


@dataclass(frozen=True, slots=True)
class Membership:
    """Raft's own list: who counts, and who only listens."""

    voters: frozenset[MemberId] = frozenset()
    learners: frozenset[MemberId] = frozenset()


@dataclass(frozen=True, slots=True)
class Log:
    """The whole log, as raft would find it."""

    cluster_id: ClusterId
    member_id: MemberId
    start: Mark  # the snapshot that it counts from
    start_membership: Membership  # as of that snapshot
    ends: tuple[
        Mark, ...
    ]  # how far the entries of one term reach, each; the first is the start, the last the log's end
    state: HardState
    changes: tuple[Change, ...]  # after the start, committed or not
    earlier: tuple[Change, ...]  # before it, as far as segments hold them: what became of them is in the snapshot
    end: End
    torn: bool

    @property
    def last_term(self) -> int:
        return self.ends[-1].term

    @property
    def last_index(self) -> int:
        return self.ends[-1].index

    def term_at(self, index: int) -> int:
        """Of this entry; of the log's first or last one for what is before or behind it."""
        return next((each.term for each in self.ends if each.index >= index), self.last_term)

    def membership_at(self, index: int) -> Membership:
        """As raft has it once it has applied this entry and everything before it."""
        return after(self.start_membership, (each for each in self.changes if each.index <= index))


Keep = Callable[[Path, Callable[[], Segment]], Segment]
"""A memory for segments that will not change any more: the one it has, or the one that it is given to make."""


def read(data_dir: Path, keep: Keep = lambda _, make: make()) -> Log:
    """Raises Damage; OSError where a file cannot be read, FileNotFoundError where etcd purged it meanwhile."""
    paths = _segment_paths(data_dir / "member" / "wal")
    segments = [_segment(path, path is paths[-1], keep) for path in paths]
    _check_the_chain(paths, segments)
    member_id, cluster_id = _identity([each for segment in segments for each in segment.metadata])
    state = next((segment.state for segment in reversed(segments) if segment.state is not None), HardState())
    start, membership = _newest_snapshot(data_dir, segments, state)
    if start.index == 0 and _begins_at(paths[0]) > 0:
        raise Damage(f"log: it begins at entry {_begins_at(paths[0])}, and no snapshot reaches up to there")
    if _begins_at(paths[0]) > start.index:
        raise Damage(f"log: the snapshot ends at entry {start.index}, and the log begins at {_begins_at(paths[0])}")
    runs = [run for segment in segments for run in segment.runs]
    ends, changes = _played(start, runs)
    return Log(
        cluster_id=cluster_id,
        member_id=member_id,
        start=start,
        start_membership=membership,
        ends=ends,
        state=state,
        changes=changes,
        earlier=tuple(change for run in runs for change in run.changes if change.index <= start.index),
        end=End(paths[-1], segments[-1].end, segments[-1].crc),
        torn=segments[-1].torn,
    )


# ---- segments -------------------------------------------------------------------------------------------------------


def _segment_paths(folder: Path) -> list[Path]:
    try:
        paths = sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))
    except FileNotFoundError:
        raise Damage("log: there is none") from None
    if not paths:
        raise Damage("log: it has no segment")
    sequence = [int(path.name[:16], 16) for path in paths]
    for before, number in itertools.pairwise(sequence):
        if number != before + 1:
            raise Damage(f"log: segment {before + 1:016x} is missing")
    return paths


def _begins_at(path: Path) -> int:
    """The first entry that this segment may hold, by its name; 0: the log's beginning."""
    return int(path.name[17:33], 16)


def _segment(path: Path, last: bool, keep: Keep) -> Segment:
    if last:
        return _last_segment(path)
    return keep(path, lambda: parsed(path.read_bytes(), path.name, last=False))


def _last_segment(path: Path) -> Segment:
    """Most of it is space that etcd has reserved: read up to there, unless that is in the middle of a record."""
    segment = parsed(b"".join(_until_zeros(path)), path.name, last=True)
    return parsed(path.read_bytes(), path.name, last=True) if segment.torn else segment


def _until_zeros(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while (chunk := file.read(CHUNK_BYTES)) and any(chunk):
            yield chunk


def _check_the_chain(paths: Sequence[Path], segments: Sequence[Segment]) -> None:
    for path, before, segment in zip(paths[1:], segments, segments[1:], strict=False):
        if before.crc != segment.begins_with and before.crc != 0:
            raise Damage(f"log: {path.name} does not continue the segment before it")


# ---- what the segments say together ---------------------------------------------------------------------------------


def _identity(metadata: list[bytes]) -> tuple[MemberId, ClusterId]:
    """etcdserverpb.Metadata {NodeID, ClusterID}."""
    if len(set(metadata)) != 1:
        raise Damage("log: it does not say whose it is" if not metadata else "log: it is of two members")
    said = numbers(metadata[0])
    return MemberId(said.get(1, 0)), ClusterId(said.get(2, 0))


def _newest_snapshot(data_dir: Path, segments: Sequence[Segment], state: HardState) -> tuple[Mark, Membership]:
    """As etcd chooses: named in the log, committed, and with a file that is whole (snap.LoadNewestAvailable)."""
    marks = {mark for segment in segments for mark in segment.snapshots if 0 < mark.index <= state.commit}
    for mark in sorted(marks, key=lambda mark: (mark.term, mark.index), reverse=True):
        membership = snapshot_membership(data_dir / "member" / "snap" / SNAP_NAME.format(**_as_dict(mark)), mark)
        if membership is not None:
            return mark, membership
    return Mark(), Membership()


def _as_dict(mark: Mark) -> dict[str, int]:
    return {"term": mark.term, "index": mark.index}


def snapshot_membership(path: Path, mark: Mark) -> Membership | None:
    """What raft's list was at this snapshot; None where the file is missing or not what was written.

    snappb.Snapshot {crc, data} around raftpb.Snapshot {data, metadata {conf_state {voters, learners}, index, term}}.
    """
    try:
        outer = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        content = texts(outer)[2]
        metadata = texts(content)[2]
        if google_crc32c.value(content) != numbers(outer)[1]:
            return None
        said = numbers(metadata)
        if (said.get(3, 0), said.get(2, 0)) != (mark.term, mark.index):
            return None
        return _conf_state(texts(metadata).get(1, b""))
    except (IndexError, KeyError, ValueError):
        return None


def _conf_state(data: bytes) -> Membership:
    found: dict[int, set[MemberId]] = {1: set(), 2: set()}
    for number, value in fields(data):
        if number in found:
            found[number] |= set(_ids(value))
    return Membership(frozenset(found[1]), frozenset(found[2]))


def _ids(value: int | bytes) -> Iterator[MemberId]:
    """One, or several that are packed."""
    if isinstance(value, int):
        yield MemberId(value)
        return
    at = 0
    while at < len(value):
        number, at = varint(value, at)
        yield MemberId(number)


def _played(start: Mark, runs: Sequence[Run]) -> tuple[tuple[Mark, ...], tuple[Change, ...]]:
    """Where each term's entries end, and the changes that are left, once each run has replaced what it replaces."""
    ends, changes = [start], list[Change]()
    for run in runs:
        if run.last <= start.index:
            continue
        first = max(run.first, start.index + 1)
        if first > ends[-1].index + 1:
            raise Damage(f"log: entries {ends[-1].index + 1} to {first - 1} are missing")
        changes = [each for each in changes if each.index < first]
        changes += [each for each in run.changes if each.index > start.index]
        ends = [*_cut_off_before(first, ends), Mark(run.term, run.last)]
    return tuple(ends), tuple(changes)


def _cut_off_before(first: int, ends: Sequence[Mark]) -> list[Mark]:
    kept = [each for each in ends if each.index < first]
    if len(kept) < len(ends) and kept[-1].index < first - 1:
        kept.append(Mark(ends[len(kept)].term, first - 1))
    return kept


def after(membership: Membership, changes: Iterator[Change]) -> Membership:
    """What raft makes of these changes, without those that etcd finds invalid (ValidateConfigurationChange).

    A member that is there is added only to be promoted, and a removed one never comes back.
    """
    voters, learners, removed = set(membership.voters), set(membership.learners), set[MemberId]()
    for change in changes:
        member = change.member
        known = member in voters or member in learners
        if change.kind is ChangeKind.REMOVE:
            removed.add(member)
            voters.discard(member)
            learners.discard(member)
        elif change.kind is ChangeKind.ADD and (not known or change.promotes):
            if member not in removed:
                voters.add(member)
                learners.discard(member)
        elif change.kind is ChangeKind.ADD_LEARNER and not known and member not in removed:
            learners.add(member)
    return Membership(frozenset(voters), frozenset(learners))


# ---- the one thing that is written, to a copy ------------------------------------------------------------------------


def mark_committed(data_dir: Path) -> Log:
    """Note in this *copy* of a log that all of it is committed; returns the log as it is then.

    `etcd --force-new-cluster` discards every entry that its member did not know to be committed, and on a survivor
    those are the writes that its leader acknowledged last. The note is a HardState record at the log's end, as raft
    writes it itself. Never in a member's own directory: raft may still replace those entries while others live.
    The one change that is not declared committed is this member's own removal: it would stop itself.
    Raises Damage, and OSError.
    """
    log = read(data_dir)
    state = HardState(max(log.state.term, log.last_term), _vote(log), max(log.state.commit, rescuable_end(log)))
    if state != log.state or log.torn:
        _append(log.end, STATE, encoded(state.term, state.vote, state.commit))
    return read(data_dir)


def _vote(log: Log) -> int:
    """A vote is of one term."""
    return log.state.vote if log.last_term <= log.state.term else 0


def rescuable_end(log: Log) -> int:
    """The last entry that `mark_committed` declares committed."""
    leaving = (
        each.index - 1
        for each in log.changes
        if each.kind is ChangeKind.REMOVE and each.member == log.member_id and each.index > log.state.commit
    )
    return min(leaving, default=log.last_index)


def _append(end: End, kind: int, data: bytes) -> None:
    """One record; what a torn write left behind it becomes zeros, as etcd has it (fileutil.ZeroToEnd)."""
    written = framed(kind, data, end.crc)
    with end.path.open("r+b") as file:
        size = max(os.fstat(file.fileno()).st_size, end.offset + len(written))
        file.truncate(end.offset)
        file.seek(end.offset)
        file.write(written)
        file.flush()
        file.truncate(size)
        os.fsync(file.fileno())
    durable.sync(end.path.parent)
