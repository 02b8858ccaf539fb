"""The pieces around the checker: what is drawn at random, the late relay, the document, clients that speak TLS."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from http.client import HTTPSConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from agent.lab.members import ClientTls
from tests.chaos import combined, relay, report
from tests.chaos.case import Next
from tests.chaos.cases import CASES
from tests.chaos.checker import Loss
from tests.chaos.clients import REGISTERS, read_over
from tests.chaos.history import Outcome
from tests.chaos.report import Row
from tests.contracts.tls_material import Authority, Pair

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


# ---- clients that speak TLS ------------------------------------------------------------------------------------------

HOUR = timedelta(hours=1)


def test_a_member_that_is_not_believed_was_asked_nothing(tmp_path: Path) -> None:
    """So the failure is definite. Expired an hour ago, or for another address."""
    authority = Authority(tmp_path, "authority")
    own = authority.issue("client")
    tls = ClientTls(authority.cert, own.cert, own.key)
    with a_member(authority.issue("good", ("127.0.0.1",)), authority) as port:
        assert came_of_a_read(port, tls) is Outcome.OK
    for name, address, valid in (("old", "127.0.0.1", -HOUR), ("elsewhere", "127.0.0.2", HOUR)):
        with a_member(authority.issue(name, (address,), valid), authority) as port:
            assert came_of_a_read(port, tls) is Outcome.FAILED, name


def test_a_client_that_is_not_believed_does_not_know_what_came_of_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    stranger = Authority(tmp_path, "another").issue("client")
    with a_member(authority.issue("good", ("127.0.0.1",)), authority) as port:
        assert came_of_a_read(port, ClientTls(authority.cert, stranger.cert, stranger.key)) is Outcome.UNKNOWN


def came_of_a_read(port: int, tls: ClientTls) -> Outcome:
    with closing(HTTPSConnection("127.0.0.1", port, timeout=5, context=tls.context)) as opened:
        return read_over(opened, "r1", REGISTERS[0]).outcome


class Answer(BaseHTTPRequestHandler):
    """What a member says of a register that was never written."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"header": {"revision": "7", "cluster_id": "1"}}')

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@contextmanager
def a_member(shown: Pair, authority: Authority) -> Iterator[int]:
    """The port of somebody who speaks mutual TLS as etcd does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown.cert, shown.key)
    context.load_verify_locations(authority.cert)
    context.verify_mode = ssl.CERT_REQUIRED
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join(5)
