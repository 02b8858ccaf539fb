"""An etcd snapshot as it passes through: hashed, compressed, and never more of it in memory than one piece.

etcd's snapshot is its bolt file and then 32 bytes, the sha256 of that file (etcd's `snapshot save` writes the same, and
its `restore` tells such a file by `size % 512 == 32`). The bolt file is a whole number of pages.
House rules. Nothing here knows the network. Who reads to the end has a snapshot whose trailer agreed: otherwise the
reading raises, and it does so before it hands out the last bytes.
"""

from __future__ import annotations

import base64
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256

import zstandard

from agent.model.faults import Refused, Trouble, Unavailable
from agent.model.known import Ignorance

SECTOR, TRAILER_BYTES = 512, 32
LEVEL = 1
"""Of zstd: 0.6 s and 1.8 s for a GB of random and of JSON values; 3 takes half as long again for a few per cent."""

REPORTED_EVERY_BYTES = 1 << 20

OnBytes = Callable[[int], None]
"""Hears how many bytes of the uncompressed snapshot have passed so far, about once a MiB, in whatever thread it is."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What a manifest says of the data."""

    size_bytes: int  # with etcd's trailer, uncompressed
    sha256: str  # of the database without it, in hex
    stored_bytes: int  # compressed


class TrailedDigest:
    """The size and sha256 of a database whose last 32 bytes claim to be just that sha256."""

    def __init__(self) -> None:
        self._digest = sha256()
        self._tail = b""
        self.size_bytes = 0  # trailer included

    def update(self, blob: bytes) -> None:
        self.size_bytes += len(blob)
        if len(blob) < TRAILER_BYTES:
            self._tail += blob
            self._digest.update(self._tail[:-TRAILER_BYTES])
            self._tail = self._tail[-TRAILER_BYTES:]
        else:
            self._digest.update(self._tail)
            self._digest.update(memoryview(blob)[:-TRAILER_BYTES])
            self._tail = bytes(blob[-TRAILER_BYTES:])

    @property
    def trailed(self) -> bool:
        """By its size it ends in a trailer. What was cut off somewhere very rarely does."""
        return self.size_bytes % SECTOR == TRAILER_BYTES

    @property
    def agrees(self) -> bool:
        return self._digest.digest() == self._tail

    @property
    def sha256(self) -> str:
        """Of the database without the trailer, in hex."""
        return self._digest.hexdigest()


class PartSums:
    """What S3 says of an object that came in parts of this size: CRC32 of each, and CRC32 over those.

    S3 Developer Guide, "Checking object integrity": a composite checksum is over the concatenated checksums of the
    parts. An object shorter than one part is put whole, and its checksum is its own.
    """

    def __init__(self, part_bytes: int) -> None:
        self._part_bytes = part_bytes
        self._parts: list[int] = []
        self.size_bytes = 0

    def update(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            room = self._part_bytes - self.size_bytes % self._part_bytes
            if room == self._part_bytes:
                self._parts.append(0)
            self._parts[-1] = zlib.crc32(view[:room], self._parts[-1])
            self.size_bytes += len(view[:room])
            view = view[room:]

    @property
    def checksum(self) -> str:
        """In base64, without the number of parts that S3 adds after a dash."""
        sums = [each.to_bytes(4, "big") for each in self._parts]
        whole = (
            sums[0] if self.size_bytes < self._part_bytes and sums else zlib.crc32(b"".join(sums)).to_bytes(4, "big")
        )
        return base64.b64encode(whole).decode()


def torn(size_bytes: int) -> Trouble:
    """The stream ended where no snapshot ends: it may end elsewhere next time."""
    return Unavailable(Ignorance.FAILED, f"the snapshot's stream broke off after {size_bytes} bytes")


class CompressedSnapshot:
    """A snapshot's pieces as a readable file of zstd. Not seekable; read by one thread.

    `given_up` is asked before more is taken from the source: an upload that failed needs no more of it.
    """

    def __init__(
        self,
        blobs: Iterable[bytes],
        part_bytes: int,
        on_bytes: OnBytes = lambda _: None,
        cut_short: Callable[[int], Trouble] = torn,
    ) -> None:
        self._blobs = iter(blobs)
        self._on_bytes = on_bytes
        self._cut_short = cut_short
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
        self._ready: deque[bytes] = deque()
        self._ready_bytes = 0
        self._ended = False
        self._reported = 0
        self.plain = TrailedDigest()
        self.stored = PartSums(part_bytes)
        self.given_up: Callable[[], bool] = lambda: False

    def read(self, size: int = -1) -> bytes:
        """Exactly `size` bytes, unless the end comes first; everything that is left if it is negative.

        Raises what the source raises; `Unavailable` for a source that broke off; `Refused` where etcd's own digest
        is not that of what came.
        """
        while not self._ended and (size < 0 or self._ready_bytes < size):
            self._take_one()
        data = self._give(self._ready_bytes if size < 0 else size)
        self.stored.update(data)
        return data

    @property
    def passed(self) -> Uploaded | None:
        """What went through; None before the end was read."""
        if not self._ended or self._ready:
            return None
        return Uploaded(self.plain.size_bytes, self.plain.sha256, self.stored.size_bytes)

    def _take_one(self) -> None:
        if self.given_up():
            raise Unavailable(Ignorance.FAILED, "the upload failed")
        blob = next(self._blobs, None)
        if blob is None:
            self._end()
            return
        self.plain.update(blob)
        self._keep(self._compressor.compress(blob))
        if self.plain.size_bytes - self._reported >= REPORTED_EVERY_BYTES:
            self._report()

    def _end(self) -> None:
        check(self.plain, self._cut_short)
        self._keep(self._compressor.flush())
        self._ended = True
        self._report()

    def _report(self) -> None:
        self._reported = self.plain.size_bytes
        self._on_bytes(self._reported)

    def _keep(self, data: bytes) -> None:
        if data:
            self._ready.append(data)
            self._ready_bytes += len(data)

    def _give(self, size: int) -> bytes:
        pieces = []
        while size > 0 and self._ready:
            piece = self._ready.popleft()
            if len(piece) > size:
                self._ready.appendleft(piece[size:])
                piece = piece[:size]
            pieces.append(piece)
            size -= len(piece)
            self._ready_bytes -= len(piece)
        return b"".join(pieces)


def check(passed: TrailedDigest, cut_short: Callable[[int], Trouble]) -> None:
    """Raise unless what passed is a whole snapshot by etcd's own digest."""
    if not passed.trailed:
        raise cut_short(passed.size_bytes)
    if not passed.agrees:
        said = f"etcd's own sha256 is not that of the {passed.size_bytes} bytes before it"
        hint = "the member's database or the way from it is damaged: take the snapshot from another member"
        raise Refused(f"{said}; {hint}", Ignorance.MALFORMED)
