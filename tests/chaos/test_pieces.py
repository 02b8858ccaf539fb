"""The pieces around the checker: what is drawn at random, the late relay, the document."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from tests.chaos import combined, relay, report
from tests.chaos.case import Next
from tests.chaos.cases import CASES
from tests.chaos.checker import Loss
from tests.chaos.report import Row

ROW = Row("kill-leader", 1, True, 500, 0, 0.0, 1.5, 0, "3.5.30", "2026-01-02")


def test_every_case_has_a_name_of_its_own() -> None:
    names = [each.name for each in CASES]
    assert len(set(names)) == len(names)
    assert combined.NAME not in names


def test_a_seed_draws_the_same_combination_again() -> None:
    assert [combined.drawn(seed).what for seed in range(50)] == [combined.drawn(seed).what for seed in range(50)]
    assert len({combined.drawn(seed).what for seed in range(50)}) > 25


def test_a_combination_may_cost_what_its_disks_are_worth() -> None:
    for seed in range(300):
        case = combined.drawn(seed)
        blows = case.what.partition(", while ")[0].split(" and ")
        disks = sum({each.name: each.disks for each in combined.BLOWS}[name] for name in blows)
        assert case.loss is (Loss.NOTHING, Loss.NOTHING, Loss.BEST_DISK, Loss.SNAPSHOT)[min(disks, 3)]
        assert (case.generation is Next.NEVER) is (disks < 2)


def test_the_relay_is_late_and_keeps_the_order() -> None:
    async def through(delay_s: float) -> tuple[bytes, float]:
        source, sink = asyncio.StreamReader(), asyncio.StreamReader()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            sink.feed_data(await reader.read())
            sink.feed_eof()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        began = time.monotonic()
        for number in range(100):
            source.feed_data(b"%d," % number)
        source.feed_eof()
        await relay.carry(source, writer, delay_s)
        writer.close()
        told = await sink.read()
        server.close()
        return told, time.monotonic() - began

    told, took_s = asyncio.run(through(0.2))
    assert told == b"".join(b"%d," % number for number in range(100))
    assert took_s >= 0.2


def test_the_document_shows_every_run_and_what_was_not_run() -> None:
    rows = [ROW, replace(ROW, seed=2, unavailable_s=2.5, lost=3, lost_s=0.4, passed=False)]
    text = report.document(rows)
    (line,) = (line for line in text.splitlines() if line.startswith("| kill-leader |"))
    assert line.endswith("| 1.5, 2.5 | 0, 3 (0.4) | 500, 500 | 1 of 2 |")
    assert "Not run yet: kill-follower" in text


def test_the_document_tells_of_failed_combinations() -> None:
    rows = [replace(ROW, case=combined.NAME, seed=seed, passed=seed != 7) for seed in range(9)]
    assert "9 combinations, 8 passed (failed: seed 7)." in report.document(rows)


def test_the_plot_has_a_bar_for_every_case_that_was_run() -> None:
    drawing = report.plot([ROW, replace(ROW, case="kill-all", unavailable_s=6.0)])
    assert drawing.startswith("<svg ")
    assert all(f">{name}</text>" in drawing for name in ("kill-leader", "kill-all"))
