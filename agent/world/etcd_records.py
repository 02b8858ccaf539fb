"""One segment of etcd's write-ahead log: its records, each with its checksum, and what raft wrote into them.

The format is etcd's (server/storage/wal: encoder.go, decoder.go; walpb and raftpb). A segment is a row of frames: a
length of 8 bytes, whose highest byte tells of padding to the next multiple of 8, and a record {type, crc, data}. The
checksum is CRC-32C, and runs on over all records of all segments; every segment begins with the sum so far.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum

import google_crc32c

from agent.model.ids import MemberId
from agent.world.etcd_damage import Damage
from agent.world.protobuf_fields import as_varint, encoded, numbers, texts, varint

FRAME = struct.Struct("<q")
LENGTH_MASK = (1 << 56) - 1
SECTOR_BYTES = 512  # etcd's minSectorSize: what a disk writes whole or not at all

MAX_RECORD_BYTES = 1 << 30  # far above --max-request-bytes, far below what a flipped bit makes of a length

METADATA, ENTRY, STATE, CRC, SNAPSHOT = 1, 2, 3, 4, 5  # walpb.Record's types


class ChangeKind(IntEnum):
    """raftpb.ConfChangeType."""

    ADD = 0  # also: promote
    REMOVE = 1
    UPDATE = 2
    ADD_LEARNER = 3


@dataclass(frozen=True, slots=True)
class Change:
    """An entry that changes the membership: who, and etcd's own description of it in JSON."""

    index: int
    kind: ChangeKind
    member: MemberId
    context: bytes

    @property
    def promotes(self) -> bool:
        """An addition of a member that is a learner already (etcd's ConfigChangeContext)."""
        return b'"isPromote":true' in self.context


@dataclass(frozen=True, slots=True)
class HardState:
    """What raft must remember: its term, whom it voted for in it, and how far it knows to be committed."""

    term: int = 0
    vote: int = 0
    commit: int = 0


@dataclass(frozen=True, slots=True)
class Mark:
    """A snapshot's place in the log; 0, 0 is the log's beginning."""

    term: int = 0
    index: int = 0


@dataclass(slots=True)
class Run:
    """Entries of one term with consecutive indices, in the order in which they were written."""

    first: int
    last: int
    term: int
    changes: list[Change] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Segment:
    """What one file holds, by itself."""

    begins_with: int  # the checksum that its predecessor ended with
    crc: int
    end: int  # where the next record would be written, in bytes
    torn: bool  # it breaks off there, within a record
    metadata: tuple[bytes, ...]
    state: HardState | None
    snapshots: tuple[Mark, ...]
    runs: tuple[Run, ...]


class _Builder:
    """A segment while it is read."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.begins_with: int | None = None
        self.crc = 0
        self.metadata: list[bytes] = []
        self.state: HardState | None = None
        self.snapshots: list[Mark] = []
        self.runs: list[Run] = []

    def take(self, kind: int, crc: int, data: bytes) -> None:
        """A record whose checksum is right, or one of type CRC."""
        if kind == ENTRY:
            self._entry(data)
        elif kind == STATE:
            said = numbers(data)
            self.state = HardState(said.get(1, 0), said.get(2, 0), said.get(3, 0))
        elif kind == METADATA:
            self.metadata.append(data)
        elif kind == CRC:
            if self.begins_with is not None and self.crc not in (0, crc):
                raise Damage(f"log: {self.name}: a checksum within it is wrong")
            self.begins_with = crc if self.begins_with is None else self.begins_with
            self.crc = crc
        elif kind == SNAPSHOT:
            said = numbers(data)
            self.snapshots.append(Mark(term=said.get(2, 0), index=said.get(1, 0)))
        else:
            raise Damage(f"log: {self.name}: a record of the unknown type {kind}")

    def _entry(self, data: bytes) -> None:
        """raftpb.Entry {Type, Term, Index, Data}; etcd writes the first three always, and in this order."""
        if data[0] != 0x08 or data[2] != 0x10:
            raise Damage(f"log: {self.name}: an entry that is none")
        term, at = varint(data, 3)
        index, at = varint(data, at + 1)
        run = self.runs[-1] if self.runs else None
        if run is None or index != run.last + 1 or term != run.term:
            run = Run(index, index, term)
            self.runs.append(run)
        run.last = index
        if data[1]:
            run.changes.append(_change(index, data[1], texts(data).get(4, b"")))

    def built(self, end: int, torn: bool) -> Segment:
        begins_with = self.begins_with or 0
        marks, runs = tuple(self.snapshots), tuple(self.runs)
        return Segment(begins_with, self.crc, end, torn, tuple(self.metadata), self.state, marks, runs)


def parsed(data: bytes, name: str, last: bool) -> Segment:
    """The records of one segment. Only the last one may break off."""
    builder, at, size = _Builder(name), 0, len(data)
    while at < size:
        begin = at + FRAME.size
        if begin > size:
            return _broken_off(builder, at, last, b"\0" * SECTOR_BYTES)
        (frame,) = FRAME.unpack_from(data, at)
        if frame == 0:
            break  # space that etcd has reserved
        end = begin + (frame & LENGTH_MASK)
        if end - begin > MAX_RECORD_BYTES:
            raise Damage(f"log: {name}: the record at byte {at} is longer than any")
        behind = end + ((frame >> 56) & 7 if frame < 0 else 0)
        if behind > size:
            return _broken_off(builder, at, last, b"\0" * SECTOR_BYTES)
        if not _took(builder, data, begin, end):
            return _broken_off(builder, at, last, data[begin:behind], begin)
        at = behind
    return builder.built(at, torn=False)


def _took(builder: _Builder, data: bytes, begin: int, end: int) -> bool:
    """Whether the record is whole; it is counted then."""
    try:
        kind, crc, payload = _record(data, begin, end)
    except (IndexError, ValueError):
        return False
    if kind != CRC:
        running = google_crc32c.extend(builder.crc, payload)
        if running != crc:
            return False
        builder.crc = running
    try:
        builder.take(kind, crc, payload)
    except (IndexError, ValueError) as error:
        raise Damage(f"log: {builder.name}: a record at byte {begin} makes no sense: {error}") from error
    return True


def _record(data: bytes, begin: int, end: int) -> tuple[int, int, bytes]:
    """walpb.Record {type, crc, data}; etcd writes its fields always, and in this order."""
    if data[begin] != 0x08 or data[begin + 2] != 0x10:
        raise ValueError("no record")
    crc, at = varint(data, begin + 3)
    if at == end:
        return data[begin + 1], crc, b""
    if data[at] != 0x1A:
        raise ValueError("no record")
    length, at = varint(data, at + 1)
    if at + length != end:
        raise ValueError("no record")
    return data[begin + 1], crc, data[at:end]


def _broken_off(builder: _Builder, at: int, last: bool, record: bytes, offset: int = 0) -> Segment:
    """A record that is not whole ends the log where etcd would cut it off; anywhere else it is damage."""
    if last and _is_torn(record, offset):
        return builder.built(at, torn=True)
    raise Damage(f"log: {builder.name}: the record at byte {at} is not what was written")


def _is_torn(record: bytes, offset: int) -> bool:
    """Whether a sector of it was never written (decoder.isTornEntry)."""
    at = 0
    while at < len(record):
        length = SECTOR_BYTES - (offset + at) % SECTOR_BYTES
        if not any(record[at : at + length]):
            return True
        at += length
    return False


def _change(index: int, entry_type: int, data: bytes) -> Change:
    """raftpb.ConfChange {ID, Type, NodeID, Context}; etcd up to 3.6 writes no other kind."""
    if entry_type != 1:
        raise ValueError(f"a membership change of the unknown kind {entry_type}")
    said = numbers(data)
    return Change(index, ChangeKind(said.get(2, 0)), MemberId(said.get(3, 0)), texts(data).get(4, b""))


def framed(kind: int, data: bytes, crc: int) -> bytes:
    """A record as etcd writes it behind others whose checksum is this."""
    record = encoded(kind, google_crc32c.extend(crc, data)) + b"\x1a" + as_varint(len(data)) + data
    padding = -len(record) % 8
    frame = len(record) | ((0x80 | padding) << 56 if padding else 0)
    return struct.pack("<Q", frame) + record + b"\0" * padding
