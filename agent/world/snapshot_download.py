"""A snapshot out of the bucket and into a file: verified while it comes, and whole, or not there at all.

House rules. What is read is compared with the manifest (stored size, size, sha256) and with etcd's own trailer: what
passes may be restored with `--skip-hash-check`. The file carries its own name only when all of that held; before, it
is `NAME.partial`, which whoever comes next writes over. It is not synced, and good only until the machine's power
goes: what is made of it is (`disk.put_in_place`). What never can be right is `Refused` with what to do.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

import zstandard

from agent.model.faults import Refused
from agent.model.known import Ignorance
from agent.world import durable
from agent.world.read_ahead import ReadAhead
from agent.world.snapshot_stream import SECTOR, TRAILER_BYTES, OnBytes, TrailedDigest, Uploaded

PIECE_BYTES = 1 << 20
ZSTD, GZIP = b"\x28\xb5\x2f\xfd", b"\x1f\x8b"
HINT = "restore an older one (`etcd-asg-agent snapshot list`)"


def refused(what: str, why: str, hint: str = HINT) -> Refused:
    """This object is no good, and never will be."""
    return Refused(f"{what}: {why}; {hint}", Ignorance.MALFORMED)


def unpacked(source: ReadAhead, what: str) -> Iterator[bytes]:
    """Pieces of at most a MiB of a zstd stream, however much it unpacks to. Refused where it is none."""
    unpacker = zstandard.ZstdDecompressor()
    with refusing_rubbish(what), unpacker.stream_reader(cast(IO[bytes], source), read_across_frames=True) as plain:
        yield from _pieces(plain)


def unpacked_by_magic(source: ReadAhead, what: str) -> Iterator[bytes]:
    """The same of what may be zstd, gzip or not compressed at all: its first bytes tell."""
    first = source.peek(len(ZSTD))
    if first.startswith(ZSTD):
        yield from unpacked(source, what)
    elif first.startswith(GZIP):
        with refusing_rubbish(what), gzip.GzipFile(fileobj=cast(IO[bytes], source), mode="rb") as plain:
            yield from _pieces(plain)
    else:
        yield from _pieces(source)


@contextmanager
def refusing_rubbish(what: str) -> Iterator[None]:
    try:
        yield
    except (zstandard.ZstdError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise refused(what, f"it cannot be unpacked ({error})") from error


def _pieces(plain: Any) -> Iterator[bytes]:
    while piece := plain.read(PIECE_BYTES):
        yield piece


def verified(pieces: Iterator[bytes], wanted: Uploaded, what: str, on_bytes: OnBytes) -> Iterator[bytes]:
    """The same pieces; comes to its end only if they are what was wanted and etcd's trailer agrees. Else `Refused`."""
    passed = TrailedDigest()
    for piece in pieces:
        passed.update(piece)
        if passed.size_bytes > wanted.size_bytes:
            raise refused(what, f"it unpacks to more than the {wanted.size_bytes} bytes of its manifest")
        yield piece
        on_bytes(passed.size_bytes)
    if passed.size_bytes != wanted.size_bytes:
        raise refused(what, f"it unpacks to {passed.size_bytes} bytes; its manifest says {wanted.size_bytes}")
    if passed.sha256 != wanted.sha256:
        raise refused(what, f"its sha256 is {passed.sha256}; its manifest says {wanted.sha256}")
    if not (passed.trailed and passed.agrees):
        raise refused(what, "etcd's own trailing sha256 is not that of its database")


def counted(pieces: Iterator[bytes], passed: TrailedDigest, on_bytes: OnBytes) -> Iterator[bytes]:
    """The same pieces, hashed as they pass."""
    for piece in pieces:
        passed.update(piece)
        yield piece
        on_bytes(passed.size_bytes)


def untrailed(what: str) -> Callable[[int], Refused]:
    """A file that somebody else made does not end as etcd's snapshots do."""
    hint = "import what `etcdctl snapshot save` wrote; a copy of member/snap/db has no digest to check it by"
    return lambda size: refused(
        what, f"its {size} bytes do not end in etcd's digest (size % {SECTOR} must be {TRAILER_BYTES})", hint
    )


@contextmanager
def whole_or_nothing(path: Path) -> Iterator[IO[bytes]]:
    """A new file that gets its name when all of it is written. One that was there is replaced."""
    partial = path.with_name(f"{path.name}.partial")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with durable.refusing(f"writing {path}"):
            with os.fdopen(os.open(partial, flags, 0o600), "wb", buffering=0) as file:
                yield file
            partial.rename(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_all(file: IO[bytes], pieces: Iterator[bytes]) -> None:
    """One piece is written while the next one is unpacked: neither needs Python's lock for long."""
    with ThreadPoolExecutor(1, "writing") as pool:
        writing: Future[None] | None = None
        for piece in pieces:
            if writing is not None:
                writing.result()
            writing = pool.submit(_write, file, piece)
        if writing is not None:
            writing.result()


def _write(file: IO[bytes], piece: bytes) -> None:
    left = memoryview(piece)
    while left:
        left = left[file.write(left) :]
