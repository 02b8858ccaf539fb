"""An object in S3 as a readable stream: ranges fetched side by side, handed out in order, a few in memory at a time.

House rules. Every range is of one version of the object (`If-Match`). A range whose body broke off is asked for again,
twice at most; requests are repeated by botocore's standard rules. No time limit for the whole, only for silence.
IAM: s3:GetObject (and kms:Decrypt where the bucket encrypts with a key of KMS).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from agent.model.faults import Refused, Unavailable
from agent.model.known import Ignorance
from agent.world.aws_errors import AlreadyThere, Asked, OutOfRange, translated, trouble

CONTENT_RANGE = re.compile(r"bytes \d+-\d+/(\d+)")


class BrokenOff(Unavailable):
    """The answer began, and did not come to its end."""


THREE_TIMES = Retrying(retry=retry_if_exception_type(BrokenOff), stop=stop_after_attempt(3), reraise=True)


@dataclass(frozen=True, slots=True)
class Source:
    """One object, and by whom it is asked for."""

    client: Any
    asked: Asked
    bucket: str
    key: str

    def whole(self) -> tuple[int, str]:
        """The object's size in bytes and its ETag. Raises `NotFound` (a `Refused`) where there is none."""
        try:
            with translated(self.asked):
                answer = self.client.get_object(Bucket=self.bucket, Key=self.key, Range="bytes=0-0")
        except OutOfRange:
            return 0, ""
        with translated(self.asked):
            answer["Body"].read()
        match = CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))
        if match is None or not answer.get("ETag"):
            said = f"{self.asked}: the answer has no Content-Range or no ETag: is this S3?"
            raise Unavailable(Ignorance.MALFORMED, said)
        return int(match[1]), str(answer["ETag"])

    def range(self, begin: int, end: int, etag: str) -> bytes:
        """Bytes `begin` up to and without `end` of that version."""
        try:
            return THREE_TIMES.copy()(self._range, begin, end, etag)
        except (AlreadyThere, OutOfRange) as error:
            raise Refused(f"{self.asked}: the object was replaced while it was read", Ignorance.MALFORMED) from error

    def _range(self, begin: int, end: int, etag: str) -> bytes:
        wanted = {"Bucket": self.bucket, "Key": self.key, "Range": f"bytes={begin}-{end - 1}", "IfMatch": etag}
        with translated(self.asked):
            answer = self.client.get_object(**wanted)
        try:
            body: bytes = answer["Body"].read()
        except BotoCoreError as error:
            found = trouble(error, self.asked)
            assert isinstance(found, Unavailable)
            raise BrokenOff(found.unknown.why, str(found)) from error
        if len(body) != end - begin:
            raise BrokenOff(Ignorance.MALFORMED, f"{self.asked}: {len(body)} bytes came of {end - begin}")
        return body


class ReadAhead:
    """A file to read from, once and in order, by one thread."""

    def __init__(self, pool: ThreadPoolExecutor, fetch: Callable[[int, int], bytes], size: int, step: int, ahead: int):
        self._pool, self._fetch = pool, fetch
        self._size, self._step = size, step
        self._asked_to = 0
        self._coming: deque[Future[bytes]] = deque()
        self._here = memoryview(b"")
        for _ in range(ahead):
            self._ask_for_more()

    def _ask_for_more(self) -> None:
        if self._asked_to < self._size:
            begin, self._asked_to = self._asked_to, min(self._asked_to + self._step, self._size)
            self._coming.append(self._pool.submit(self._fetch, begin, self._asked_to))

    def peek(self, size: int) -> bytes:
        """At most so many of the next bytes, which stay where they are; as many as one range has."""
        if not self._here and self._coming:
            self._here = memoryview(self._coming.popleft().result())
            self._ask_for_more()
        return bytes(self._here[:size])

    def read(self, size: int = -1) -> bytes:
        """At least one byte unless the object is at its end, and at most `size` where that is not negative."""
        self.peek(0)
        taken = self._here if size < 0 else self._here[:size]
        self._here = self._here[len(taken) :]
        return bytes(taken)


@contextmanager
def reading(source: Source, size: int, etag: str, step: int, ahead: int) -> Iterator[ReadAhead]:
    """So many ranges of `step` bytes are fetched or held at any time; nothing is under way after it."""
    with ThreadPoolExecutor(ahead, "ranges") as pool:
        try:
            yield ReadAhead(pool, lambda begin, end: source.range(begin, end, etag), size, step, ahead)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
