"""A trivial S3-shaped store in a process of its own, for measuring clients: moto is slower than what is to be measured.

    python -m tests.bench.sink [--discard]        prints its port; ends with its standard input

Threads and the standard library alone; everything is in memory, and with --discard only sizes and checksums are.
It is truthful about checksums (CRC32 of every part as it came, and S3's composite of them), about `If-None-Match: *`
and `If-Match`; it knows no authentication, no errors of S3's but the few below, and no more than one page of a listing.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Piece:
    """A body as it came. `data` is empty where the store discards."""

    size: int
    crc: int
    data: bytes | bytearray


@dataclass
class Stored:
    """An object: one piece, or the parts of a multipart upload."""

    pieces: list[Piece]
    multipart: bool
    modified: str = field(default_factory=lambda: formatdate(usegmt=True))
    listed: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"))

    @property
    def size(self) -> int:
        return sum(each.size for each in self.pieces)

    @property
    def etag(self) -> str:
        word = hashlib.sha256(repr([(each.size, each.crc) for each in self.pieces]).encode()).hexdigest()[:32]
        return f'"{word}-{len(self.pieces)}"' if self.multipart else f'"{word}"'

    @property
    def checksum(self) -> str:
        """S3's: of the one piece, or the composite over the parts' checksums."""
        if not self.multipart:
            return _base64(self.pieces[0].crc)
        joined = b"".join(each.crc.to_bytes(4, "big") for each in self.pieces)
        return f"{_base64(zlib.crc32(joined))}-{len(self.pieces)}"

    def between(self, begin: int, end: int) -> Iterator[memoryview]:
        """The bytes from `begin` up to and without `end`."""
        at = 0
        for each in self.pieces:
            low, high = max(begin - at, 0), min(end - at, each.size)
            if low < high:
                yield memoryview(each.data)[low:high]
            at += each.size


@dataclass
class Upload:
    """A multipart upload that was begun."""

    key: str
    parts: dict[int, Piece] = field(default_factory=dict)
    begun: str = "2026-01-01T00:00:00.000Z"


@dataclass
class Store:
    """Everything there is, by "bucket/key"."""

    discard: bool
    objects: dict[str, Stored] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, key: str, stored: Stored, only_new: bool) -> bool:
        with self.lock:
            if only_new and key in self.objects:
                return False
            self.objects[key] = stored
            return True


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    store: Store

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        url = urlsplit(self.path)
        self.key = unquote(url.path).lstrip("/")
        self.query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        return True

    def handle_expect_100(self) -> bool:
        """Clients wait for it, so it must not wait in our buffer."""
        answered = super().handle_expect_100()
        self.wfile.flush()
        return answered

    # ---- what comes ------------------------------------------------------------------------------------------------

    def do_PUT(self) -> None:
        piece = self._piece()
        if "/" not in self.key:
            return self._answer(200)  # a bucket
        if "uploadId" in self.query:
            upload = self.store.uploads.get(self.query["uploadId"])
            if upload is None:
                return self._error(404, "NoSuchUpload")
            upload.parts[int(self.query["partNumber"])] = piece
            return self._answer(200, {"ETag": f'"{piece.crc:08x}"', "x-amz-checksum-crc32": _base64(piece.crc)})
        return self._keep(self.key, Stored([piece], multipart=False))

    def do_POST(self) -> None:
        self._piece()
        if "uploads" in self.query:
            upload_id = f"u{next(self.store.numbers)}"
            self.store.uploads[upload_id] = Upload(self.key)
            return self._xml(
                f"<InitiateMultipartUploadResult><UploadId>{upload_id}</UploadId></InitiateMultipartUploadResult>"
            )
        upload = self.store.uploads.pop(self.query.get("uploadId", ""), None)
        if upload is None:
            return self._error(404, "NoSuchUpload")
        return self._keep(upload.key, Stored([upload.parts[number] for number in sorted(upload.parts)], multipart=True))

    def _keep(self, key: str, stored: Stored) -> None:
        if not self.store.keep(key, stored, self.headers.get("If-None-Match") == "*"):
            return self._error(412, "PreconditionFailed")
        headers = {"ETag": stored.etag, "x-amz-checksum-crc32": stored.checksum}
        said = f"<CompleteMultipartUploadResult><ETag>{escape(stored.etag)}</ETag></CompleteMultipartUploadResult>"
        return self._answer(200, headers, said.encode() if stored.multipart else b"")

    def do_DELETE(self) -> None:
        self.store.uploads.pop(self.query.get("uploadId", ""), None)
        if "uploadId" not in self.query:
            self.store.objects.pop(self.key, None)
        self._answer(204)

    def _piece(self) -> Piece:
        left = int(self.headers.get("Content-Length") or 0)
        if self.store.discard:
            crc, size = 0, left
            while left:
                block = self.rfile.read(min(left, 1 << 20))
                crc, left = zlib.crc32(block, crc), left - len(block)
            return Piece(size, crc, b"")
        data = bytearray(left)
        with memoryview(data) as view:
            at = 0
            while at < left:
                came = self.rfile.readinto(view[at:])
                if not came:
                    raise ConnectionError("the client went away")
                at += came
        return Piece(left, zlib.crc32(data), data)

    # ---- what is asked for -----------------------------------------------------------------------------------------

    def do_GET(self) -> None:
        if "list-type" in self.query:
            return self._list()
        if "uploads" in self.query:
            return self._list_uploads()
        stored = self.store.objects.get(self.key)
        if stored is None:
            return self._error(404, "NoSuchKey")
        if self.headers.get("If-Match") not in (None, stored.etag):
            return self._error(412, "PreconditionFailed")
        begin, end = self._range(stored.size)
        if begin >= end and "Range" in self.headers:
            return self._error(416, "InvalidRange")
        self._head(206 if "Range" in self.headers else 200, stored, begin, end)
        if self.command != "HEAD":
            for view in stored.between(begin, end):
                self.wfile.write(view)
        return None

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def _range(self, size: int) -> tuple[int, int]:
        first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        return int(first or 0), min(int(last or size) + 1, size)

    def _head(self, status: int, stored: Stored, begin: int, end: int) -> None:
        self.send_response(status)
        whole = {"ETag": stored.etag, "Last-Modified": stored.modified, "Accept-Ranges": "bytes"}
        if status == 206:
            whole["Content-Range"] = f"bytes {begin}-{end - 1}/{stored.size}"
        elif self.headers.get("x-amz-checksum-mode") == "ENABLED":
            whole["x-amz-checksum-crc32"] = stored.checksum
        for name, value in (whole | {"Content-Length": str(end - begin)}).items():
            self.send_header(name, value)
        self.end_headers()

    def _list(self) -> None:
        prefix, bucket = self.query.get("prefix", ""), self.key.rstrip("/")
        found = {key.partition("/")[2]: stored for key, stored in sorted(self.store.objects.items())
                 if key.startswith(f"{bucket}/{prefix}")}  # fmt: skip
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{stored.size}</Size><ETag>{escape(stored.etag)}</ETag>"
            f"<LastModified>{stored.listed}</LastModified></Contents>"
            for key, stored in found.items()
        )
        said = f"<Prefix>{escape(prefix)}</Prefix><IsTruncated>false</IsTruncated><KeyCount>{len(found)}</KeyCount>"
        self._xml(f"<ListBucketResult>{said}{contents}</ListBucketResult>")

    def _list_uploads(self) -> None:
        prefix, bucket = self.query.get("prefix", ""), self.key.rstrip("/")
        found = "".join(
            f"<Upload><Key>{escape(upload.key.partition('/')[2])}</Key><UploadId>{upload_id}</UploadId>"
            f"<Initiated>{upload.begun}</Initiated></Upload>"
            for upload_id, upload in self.store.uploads.items()
            if upload.key.startswith(f"{bucket}/{prefix}")
        )
        self._xml(f"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>{found}</ListMultipartUploadsResult>")

    # ---- answers ---------------------------------------------------------------------------------------------------

    def _error(self, status: int, code: str) -> None:
        self._answer(status, {}, f"<Error><Code>{code}</Code><Message>the sink</Message></Error>".encode())

    def _xml(self, text: str) -> None:
        self._answer(200, {"Content-Type": "application/xml"}, f'<?xml version="1.0"?>{text}'.encode())

    def _answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _base64(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(4, "big")).decode()


@contextlib.contextmanager
def running(discard: bool = False) -> Iterator[tuple[str, int]]:
    """The URL of one in a process of its own, and its PID; gone at the end."""
    command = [sys.executable, "-m", "tests.bench.sink", *(["--discard"] if discard else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}", process.pid
        finally:
            process.stdin.close()
            process.wait(30)


def main() -> None:
    Handler.store = Store(discard="--discard" in sys.argv)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
