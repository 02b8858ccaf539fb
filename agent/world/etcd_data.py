"""Whether a member lives in a data directory: what etcd leaves on disk before it has spoken to anybody, and after.

etcd creates `member/snap/db` first and then its write-ahead log, in a folder of another name that is renamed to
`member/wal` when it is whole; only then does it open a port to its peers. A joiner whose member list is refused ends
before the log, and leaves the database behind. So no log means that it never spoke, but only if nothing else says that
it did: a database that holds members has lost its log, and would, started again, skip what it believes to have.
(Seen with 3.4.23 and 3.5.30: a database without a log has 4 to 5 pages in use, and no member in it.)
"""

from __future__ import annotations

import struct
from pathlib import Path

from agent.model.disk import Data

BEFORE_THE_LOG = frozenset({".touch", "member", "member/.touch", "member/snap", "member/snap/.touch", "member/snap/db"})
"""What may be there before the log; etcd tries with `.touch` whether it can write."""

UNFINISHED_LOG = "member/wal.tmp"
FRESH_PAGES = 16
META = struct.Struct("<IIIIQQQQQQ")  # magic, version, page size, flags, root, sequence, freelist, pages, txid, checksum
BOLT_MAGIC = 0xED0CDAED


def state_of(data: Path) -> Data:
    """Raises OSError where the directory cannot be read: that it is empty is then not known."""
    if not data.exists() and not data.is_symlink():
        return Data.ABSENT
    for path in _walk(data):
        name = path.relative_to(data).as_posix()
        if name == UNFINISHED_LOG or name.startswith((UNFINISHED_LOG + "/", "member/snap/tmp")):
            continue
        if name not in BEFORE_THE_LOG or (name == "member/snap/db" and not _is_fresh(path)):
            return Data.PRESENT
    return Data.EMPTY


def _walk(folder: Path) -> list[Path]:
    """Everything below the folder, down to the depth at which a log lies. Links are not followed."""
    found = []
    for path in sorted(folder.iterdir()):
        found.append(path)
        if path.is_dir() and not path.is_symlink() and path.name != "wal":
            found += _walk(path)
    return found


def _is_fresh(database: Path) -> bool:
    """Few pages in use, and no member in any of them."""
    with database.open("rb") as file:
        head = file.read(2 * 65536)
        if not head:
            return True
        used = max((_used_bytes(head, offset) for offset in (0, _page_size(head))), default=0)
        if not 0 < used <= FRESH_PAGES * _page_size(head):
            return False
        file.seek(0)
        return b'"peerURLs"' not in file.read(used)


def _page_size(head: bytes) -> int:
    magic, _, size, *_ = META.unpack_from(head.ljust(16 + META.size, b"\0"), 16)
    return int(size) if magic == BOLT_MAGIC and 512 <= size <= 65536 else 4096


def _used_bytes(head: bytes, offset: int) -> int:
    """By the meta page at this offset; 0 where there is none."""
    if len(head) < offset + 16 + META.size:
        return 0
    magic, _, size, _, _, _, _, pages, _, _ = META.unpack_from(head, offset + 16)
    return int(size * pages) if magic == BOLT_MAGIC else 0
