"""Reads etcd's database without etcd: the few facts in member/snap/db that a survey needs. Never writes.

The format is bbolt's (go.etcd.io/bbolt: page.go, db.go): pages of one size; two of them, the meta pages, are written
in turn and carry a checksum; the valid one with the higher transaction is the root of a tree of copied pages.

May be read while etcd writes. A transaction writes into pages that its predecessor let go of, so the pages of the
newest transaction stay whole until it has a successor: what was read counts if the newest one is still the same
afterwards. With `pread`, not a map: a map of a file that somebody cuts short kills the process.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from agent.model.faults import Unavailable
from agent.model.ids import MemberId, PeerUrl
from agent.model.known import Ignorance
from agent.model.members import MemberEntry
from agent.world.etcd_damage import Damage

MAGIC, VERSION = 0xED0CDAED, 2
META = struct.Struct("<IIIIQQQQQQ")  # magic, version, page size, flags, root, sequence, freelist, pages, txid, checksum
PAGE = struct.Struct("<QHHI")  # number, flags, elements, overflow: pages that follow it and belong to it
BRANCH = struct.Struct("<IIQ")  # offset of the key, its length, page
LEAF = struct.Struct("<IIII")  # flags, offset of the key, its length, the value's, which follows it
BUCKET = struct.Struct("<QQ")  # root page, sequence; a root of 0: the page itself follows, inline

IS_BRANCH, IS_LEAF, IS_BUCKET = 0x01, 0x02, 0x01
SIZES = tuple(512 << power for power in range(8))  # of a page: the operating system's, on whatever machine made it
MAX_DEPTH = 32
MAX_PAGE_BYTES = 64 << 20  # a page with its overflow: etcd's largest value is below 2 MiB, a huge request's below this
ATTEMPTS = 50
PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Meta:
    """The newest transaction: where its tree begins."""

    txid: int
    page_size: int
    root: int
    pages: int  # one more than the highest page in use


@dataclass(frozen=True, slots=True)
class Contents:
    """What the database says of itself, all as of one transaction."""

    consistent_index: int  # the last raft entry whose effect is in here for certain
    term: int  # of that entry; 0 below etcd 3.5
    revision: int
    members: tuple[MemberEntry, ...]
    removed: frozenset[MemberId]
    cluster_version: str | None = None  # as etcd's leader determined it, `3.5.0`; None while it has not yet


NOTHING = Contents(consistent_index=0, term=0, revision=1, members=(), removed=frozenset())


def read(path: Path) -> Contents:
    """Raises Damage; OSError where it cannot be read; Unavailable where etcd wrote faster than we read."""
    for _ in range(ATTEMPTS):
        with path.open("rb", buffering=0) as file:
            database = _Database(file.fileno())
            found = _attempt(database)
            if database.unchanged() and _same(path, file.fileno()):
                if isinstance(found, Damage):
                    raise found
                return found
    raise Unavailable(Ignorance.FAILED, f"{path} changed under every one of {ATTEMPTS} looks")


def as_snapshot(path: Path) -> Iterator[bytes]:
    """The database of a *stopped* etcd as etcd itself would stream it: what is in use, and its SHA-256.

    For where etcd's own snapshot cannot be had, because its authentication is on and knows nobody on loopback.
    Raises Damage, and OSError.
    """
    with path.open("rb", buffering=0) as file:
        meta = _Database(file.fileno()).meta
        if meta is None:
            raise Damage("database: neither of its two meta pages is whole")
        digest, left = sha256(), meta.pages * meta.page_size
        while left > 0:
            piece = file.read(min(left, PIECE_BYTES))
            if not piece:
                raise Damage(f"database: it ends {left} bytes before its last page in use")
            digest.update(piece)
            left -= len(piece)
            yield piece
        yield digest.digest()


def _attempt(database: _Database) -> Contents | Damage:
    try:
        return database.contents()
    except Damage as damage:
        return damage  # counts only if nobody wrote meanwhile


def _same(path: Path, descriptor: int) -> bool:
    """etcd replaces the file when it defragments, or takes a snapshot over from its leader."""
    now, then = path.stat(), os.fstat(descriptor)
    return (now.st_dev, now.st_ino) == (then.st_dev, then.st_ino)


class _Database:
    """One look at the tree of the transaction that was the newest when it began."""

    def __init__(self, descriptor: int) -> None:
        self._file = descriptor
        self.meta = self._newest()

    def unchanged(self) -> bool:
        return self._newest() == self.meta

    def _newest(self) -> Meta | None:
        head = os.pread(self._file, 2 * SIZES[-1], 0)
        metas = (_meta_at(head, 0), *(_meta_at(head, size) for size in SIZES))
        return max((meta for meta in metas if meta is not None), key=lambda meta: meta.txid, default=None)

    def contents(self) -> Contents:
        if self.meta is None:
            raise Damage("database: neither of its two meta pages is whole")
        size, used = os.fstat(self._file).st_size, self.meta.pages * self.meta.page_size
        if size < used:
            raise Damage(f"database: {size} bytes long, and {used} are in use")
        with _making_sense():
            buckets = {key: value for flags, key, value in self._elements(self.meta.root) if flags & IS_BUCKET}
            meta = dict(self._pairs(buckets.get(b"meta")))
            return Contents(
                consistent_index=_number(meta, b"consistent_index"),
                term=_number(meta, b"term"),
                revision=self._revision(buckets.get(b"key"), meta),
                members=tuple(_member(key, value) for key, value in self._pairs(buckets.get(b"members"))),
                removed=frozenset(MemberId(int(key, 16)) for key, _ in self._pairs(buckets.get(b"members_removed"))),
                cluster_version=_text(dict(self._pairs(buckets.get(b"cluster"))), b"clusterVersion"),
            )

    def _revision(self, bucket: bytes | None, meta: dict[bytes, bytes]) -> int:
        """As etcd finds it at its start: the newest key's, or that of a compaction which left no key (mvcc/kvstore)."""
        last = self._last_key(bucket)
        known = (last, meta.get(b"scheduledCompactRev", b""), meta.get(b"finishedCompactRev", b""))
        return max(1, *(int.from_bytes(each[:8], "big") for each in known))

    def _pairs(self, bucket: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Everything in a bucket. Only for small ones."""
        if bucket is not None:
            root, _ = BUCKET.unpack_from(bucket)
            elements = _leaf(bucket[BUCKET.size :]) if root == 0 else self._elements(root)
            yield from ((key, value) for _, key, value in elements)

    def _elements(self, number: int, depth: int = 0) -> Iterator[tuple[int, bytes, bytes]]:
        page = self._page(number, depth)
        if not _is_branch(page):
            yield from _leaf(page)
            return
        for child in _children(page):
            yield from self._elements(child, depth + 1)

    def _last_key(self, bucket: bytes | None) -> bytes:
        """By one path down the right edge of the tree, whatever the tree's size."""
        if bucket is None:
            return b""
        number, _ = BUCKET.unpack_from(bucket)
        page = bucket[BUCKET.size :] if number == 0 else self._page(number)
        depth = 0
        while _is_branch(page):
            depth += 1
            page = self._page(_children(page)[-1], depth)
        count = _count(page)
        return _leaf_key(page, count - 1) if count else b""

    def _page(self, number: int, depth: int = 0) -> bytes:
        """The page with its overflow."""
        assert self.meta is not None
        size = self.meta.page_size
        if depth > MAX_DEPTH or not 2 <= number < self.meta.pages:
            raise Damage(f"database: page {number} cannot be where the tree points to it")
        head = os.pread(self._file, size, number * size)
        itself, flags, _, overflow = PAGE.unpack_from(head)
        if itself != number or flags not in (IS_BRANCH, IS_LEAF) or overflow * size > MAX_PAGE_BYTES:
            raise Damage(f"database: page {number} is not a page of the tree")
        return head + os.pread(self._file, overflow * size, (number + 1) * size) if overflow else head


@contextmanager
def _making_sense() -> Iterator[None]:
    """What Python says of offsets that point nowhere and texts that are none."""
    try:
        yield
    except (struct.error, ValueError, KeyError, TypeError, IndexError) as error:
        raise Damage(f"database: its content makes no sense ({type(error).__name__}: {error})") from error


def _meta_at(head: bytes, offset: int) -> Meta | None:
    """The meta page at this offset, if it is one and whole."""
    begin = offset + PAGE.size
    if len(head) < begin + META.size:
        return None
    magic, version, size, _, root, _, _, pages, txid, checksum = META.unpack_from(head, begin)
    if (magic, version) != (MAGIC, VERSION) or size not in SIZES or offset not in (0, size):
        return None
    return Meta(txid, size, root, pages) if _fnv(head[begin : begin + META.size - 8]) == checksum else None


def _fnv(content: bytes) -> int:
    """FNV-1a with 64 bits."""
    digest = 0xCBF29CE484222325
    for byte in content:
        digest = ((digest ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return digest


def _is_branch(page: bytes) -> bool:
    return bool(PAGE.unpack_from(page)[1] & IS_BRANCH)


def _count(page: bytes) -> int:
    return int(PAGE.unpack_from(page)[2])


def _children(page: bytes) -> list[int]:
    count = _count(page)
    if not count:
        raise Damage("database: a branch of the tree without children")
    return [BRANCH.unpack_from(page, PAGE.size + index * BRANCH.size)[2] for index in range(count)]


def _leaf(page: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Flags, key and value of every element."""
    for index in range(_count(page)):
        at = PAGE.size + index * LEAF.size
        flags, _, _, length = LEAF.unpack_from(page, at)
        key, begin = _leaf_key(page, index), _end_of_key(page, at)
        value = page[begin : begin + length]
        if len(value) != length:
            raise Damage("database: a value reaches beyond its page")
        yield flags, key, value


def _leaf_key(page: bytes, index: int) -> bytes:
    at = PAGE.size + index * LEAF.size
    _, offset, length, _ = LEAF.unpack_from(page, at)
    key = page[at + offset : at + offset + length]
    if len(key) != length:
        raise Damage("database: a key reaches beyond its page")
    return key


def _end_of_key(page: bytes, at: int) -> int:
    _, offset, length, _ = LEAF.unpack_from(page, at)
    return int(at + offset + length)


def _number(meta: dict[bytes, bytes], key: bytes) -> int:
    return int.from_bytes(meta.get(key, b""), "big")


def _text(bucket: dict[bytes, bytes], key: bytes) -> str | None:
    return bucket[key].decode() if key in bucket else None


def _member(key: bytes, value: bytes) -> MemberEntry:
    return member_from(MemberId(int(key, 16)), value)


def member_from(member: MemberId, text: bytes) -> MemberEntry:
    """etcd's membership.Member in JSON, in the database and in membership changes alike. Raises ValueError and kin."""
    said = json.loads(text)
    urls = tuple(PeerUrl(str(url)) for url in said.get("peerURLs") or ())
    return MemberEntry(member, str(said.get("name") or ""), urls, bool(said.get("isLearner", False)))
