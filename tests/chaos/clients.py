"""The clients of a chaos run: a writer and a reader at every endpoint, and the ledger of all they tried.

House rules: a client belongs to one address and never turns to another, so that every member is asked all the time; it
tries nothing twice; whether a failure was definite is decided here and nowhere else. Machines come and go: the crowd
follows the lab's list.
"""

from __future__ import annotations

import base64
import http.client
import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Self

from agent.lab.client import Lab
from agent.lab.members import ClientTls, connection
from agent.lab.spec import LabError
from tests.chaos.history import Held, Holding, Outcome, Read, Write
from tests.lab.harness import wait_until

LEDGER = "ledger/"
REGISTERS = tuple(f"register/{number}" for number in range(4))
PATIENCE_S, HOLDING_PATIENCE_S = 1.5, 20.0
WRITE_EVERY_S, READ_EVERY_S = 0.03, 0.06
LOOK_EVERY_S = 0.5
REFUSALS = ("space exceeded", "too many requests", "not supported for learner")
"""etcd says these before it proposes anything."""


@dataclass
class Crowd:
    """All clients of one lab. Use it in a `with`; afterwards nobody asks anything any more."""

    lab: Lab
    chance: random.Random
    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    _present: frozenset[str] = frozenset()
    _threads: dict[str, list[threading.Thread]] = field(default_factory=dict, repr=False)
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _numbers: Iterator[int] = field(default_factory=count, repr=False)

    def __enter__(self) -> Self:
        self._follow = threading.Thread(target=self._follow_the_lab, name="crowd", daemon=True)
        self._follow.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._follow.join(10)
        for thread in [each for pair in self._threads.values() for each in pair]:
            thread.join(2 * PATIENCE_S)

    # ---- who is there ----

    def _follow_the_lab(self) -> None:
        while not self._stop.is_set():
            with suppress(LabError):  # a busy daemon: the same machines for a little longer
                self._present = frozenset(self.lab.addresses())
            for address in sorted(self._present - set(self._threads)):
                self._threads[address] = [self._client(address, "writer"), self._client(address, "reader")]
            self._threads = {address: pair for address, pair in self._threads.items() if _any_alive(pair)}
            self._stop.wait(LOOK_EVERY_S)

    def _client(self, address: str, kind: str) -> threading.Thread:
        number, chance = next(self._numbers), random.Random(self.chance.getrandbits(64))
        loop = self._write if kind == "writer" else self._read
        thread = threading.Thread(target=loop, args=(number, address, chance), name=f"{kind} {number}", daemon=True)
        thread.start()
        return thread

    def _goes_on(self, address: str, pause_s: float) -> bool:
        return not self._stop.wait(pause_s) and address in self._present

    def _write(self, number: int, address: str, chance: random.Random) -> None:
        for turn in count():
            if not self._goes_on(address, WRITE_EVERY_S):
                return
            self.writes.append(
                write(f"w{number}", address, chance.choice(REGISTERS), f"{number}/{turn:08d}", self.lab.tls)
            )

    def _read(self, number: int, address: str, chance: random.Random) -> None:
        while self._goes_on(address, READ_EVERY_S):
            self.reads.append(read(f"r{number}", address, chance.choice(REGISTERS), self.lab.tls))

    # ---- what came of it ----

    def acknowledged(self, since_s: float = 0.0) -> list[Write]:
        """The acknowledged writes that began after a moment."""
        return [each for each in tuple(self.writes) if each.outcome is Outcome.OK and each.began_s >= since_s]

    def grows(self, writes: int = 60, timeout_s: float = 30.0) -> None:
        """Wait for that many further acknowledged writes."""
        since_s = time.monotonic()
        wait_until(lambda: len(self.acknowledged(since_s)) >= writes, timeout_s, f"{writes} more acknowledged writes")

    def served_everywhere(self, timeout_s: float = 30.0) -> None:
        """Wait until every machine has acknowledged a write and answered a read that began now or later."""
        since_s = time.monotonic()

        def lacking() -> set[str]:
            writing = {each.address for each in self.acknowledged(since_s)}
            reading = {
                each.address for each in tuple(self.reads) if each.outcome is Outcome.OK and each.began_s >= since_s
            }
            return set(self.lab.addresses()) - (writing & reading)

        wait_until(lambda: not lacking(), timeout_s, "every machine serves writes and reads")


def _any_alive(threads: list[threading.Thread]) -> bool:
    return any(each.is_alive() for each in threads)


# ---- one attempt -----------------------------------------------------------------------------------------------------


def write(client: str, address: str, register: str, turn: str, tls: ClientTls | None = None) -> Write:
    """Put one value to a register and to a ledger key of its own, in one transaction."""
    key, value = f"{LEDGER}{turn}", f"{client}:{turn}"
    puts = [{"requestPut": {"key": _encoded(each), "value": _encoded(value)}} for each in (register, key)]
    began_s = time.monotonic()
    with closing(connection(address, PATIENCE_S, tls)) as opened:
        outcome, said = _ask(opened, "/v3/kv/txn", {"success": puts})
    header = said.get("header", {})
    return Write(
        client, address, register, key, value, began_s, time.monotonic(), outcome,
        int(header.get("revision", 0)), int(header.get("cluster_id", 0)),
    )  # fmt: skip


def read(client: str, address: str, register: str, tls: ClientTls | None = None) -> Read:
    """A linearizable read of one register."""
    with closing(connection(address, PATIENCE_S, tls)) as opened:
        return read_over(opened, client, register)


def read_over(opened: http.client.HTTPConnection, client: str, register: str) -> Read:
    """The same over a connection that is kept, and opened if it is not open."""
    began_s = time.monotonic()
    outcome, said = _ask(opened, "/v3/kv/range", {"key": _encoded(register)})
    found, header = (said.get("kvs") or [{}])[0], said.get("header", {})
    return Read(
        client, opened.host, register, began_s, time.monotonic(), outcome,
        _decoded(found.get("value", "")), int(found.get("mod_revision", 0)),
        int(header.get("revision", 0)), int(header.get("cluster_id", 0)),
    )  # fmt: skip


def _ask(opened: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> tuple[Outcome, dict[str, Any]]:
    """One request to a member's JSON gateway. Without an answer only an unopened connection is definite.

    With TLS 1.3 it is open before the member has looked at the client's certificate.
    """
    try:
        if opened.sock is None:
            opened.connect()
    except OSError:
        return Outcome.FAILED, {}
    try:
        opened.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        said: dict[str, Any] = json.loads(opened.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return Outcome.UNKNOWN, {}
    if "header" in said:
        return Outcome.OK, said
    refused = any(words in str(said.get("error", "")) for words in REFUSALS)
    return Outcome.FAILED if refused else Outcome.UNKNOWN, {}


def holding(member: str, address: str, hash_kv: int, tls: ClientTls | None = None) -> Holding:
    """Everything below the ledger's prefix as one member tells it. Fails if it does not."""
    end = LEDGER[:-1] + chr(ord(LEDGER[-1]) + 1)
    wanted = {"key": _encoded(LEDGER), "range_end": _encoded(end)}
    with closing(connection(address, HOLDING_PATIENCE_S, tls)) as opened:
        outcome, said = _ask(opened, "/v3/kv/range", wanted)
    assert outcome is Outcome.OK, f"{member} does not tell what it holds"
    ledger = {
        _decoded(raw["key"]): Held(_decoded(raw.get("value", "")), int(raw["mod_revision"]))
        for raw in said.get("kvs", [])
    }
    return Holding(member, int(said["header"]["cluster_id"]), ledger, hash_kv)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()
