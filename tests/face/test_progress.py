"""A bar on a terminal, and nothing anywhere else."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

from agent.progress import CLEAR, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def clock(*moments: float) -> Callable[[], float]:
    left: Iterator[float] = iter(moments)
    return lambda: next(left)


def test_where_nobody_watches_nothing_is_written() -> None:
    stream = io.StringIO()
    with progress("taking", 100, stream) as on_bytes:
        on_bytes(50)
    assert stream.getvalue() == ""


def test_how_far_and_how_fast() -> None:
    stream = Terminal()
    with progress("taking", 100_000_000, stream, clock(0, 1, 1.1, 2)) as on_bytes:
        for done in (25_000_000, 30_000_000, 200_000_000):
            on_bytes(done)
    shown = stream.getvalue().split(CLEAR)
    assert shown[1] == "taking  [######..................]  25%  25 of 100 MB  25 MB/s"
    assert shown[2] == "taking  [########################] 100%  200 of 100 MB  100 MB/s", "the second came too soon"
    assert shown[-1] == "", "the line is gone at the end"


def test_a_whole_that_nobody_knows() -> None:
    stream = Terminal()
    with progress("taking", 0, stream, clock(0, 0)) as on_bytes:
        on_bytes(3_000_000)
    assert "taking  3 MB" in stream.getvalue()
