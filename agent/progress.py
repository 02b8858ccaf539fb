"""How far a transfer is, on a terminal: one line on standard error, written over. Silent where nobody watches.

House rules: nothing here ever reaches standard output, which may be a script's. Called from whatever thread moves the
bytes; the last call wins, and nothing is lost by that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TextIO

OnBytes = Callable[[int], None]

EVERY_SECONDS = 0.2
WIDTH = 24
CLEAR = "\r\x1b[K"


@contextmanager
def progress(
    label: str, total_bytes: int, stream: TextIO, elapsed: Callable[[], float] = perf_counter
) -> Iterator[OnBytes]:
    """Hears of the bytes that are done; `total_bytes` 0: nobody knows how many there will be."""
    if not stream.isatty():
        yield lambda _: None
        return
    began, shown = elapsed(), [-EVERY_SECONDS]

    def on_bytes(done: int) -> None:
        now = elapsed() - began
        if now - shown[0] >= EVERY_SECONDS:
            shown[0] = now
            stream.write(f"{CLEAR}{label}  {_bar(done, total_bytes)}  {_rate(done, now)}")
            stream.flush()

    try:
        yield on_bytes
    finally:
        stream.write(CLEAR)
        stream.flush()


def _bar(done: int, total: int) -> str:
    if total <= 0:
        return f"{done / 1e6:.0f} MB"
    share = min(1.0, done / total)
    full = int(share * WIDTH)
    return f"[{'#' * full}{'.' * (WIDTH - full)}] {share:4.0%}  {done / 1e6:.0f} of {total / 1e6:.0f} MB"


def _rate(done: int, seconds: float) -> str:
    return f"{done / 1e6 / seconds:.0f} MB/s" if seconds > 0 else ""
