"""Upkeep of real databases under clients that use all endpoints: who waits for how long, and what fails."""

from __future__ import annotations

import base64
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from agent.lab import members
from agent.lab.client import Lab
from tests.lab.conftest import MakeLab
from tests.lab.harness import leader, statuses, wait_until, wait_whole
from tests.lab.losing import PACE, QUICK
from tests.lab.shelf import Shelf, fill

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(900)]

TRY_S = 0.5
"""A client's patience with one endpoint."""


@dataclass
class Clients:
    """One for each endpoint, which it tries first; where that does not answer in TRY_S, the next one, and so on."""

    addresses: tuple[str, ...]
    took_s: list[float] = field(default_factory=list)
    retried: int = 0
    failed: list[str] = field(default_factory=list)
    acknowledged: dict[str, str] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self, first: int) -> None:
        for number in itertools.count():
            if self.stopping.wait(0.02):
                return
            key, value = f"client/{first}/{number % 100}", str(number)
            began = time.monotonic()
            if self._ask(first, lambda address, key=key, value=value: members.put(address, key, value, TRY_S)):
                self.acknowledged[key] = value
            else:
                self.failed.append(f"put {key}")
            if self._ask(first, lambda address, key=key: members.get(address, key, TRY_S)) is None:
                self.failed.append(f"get {key}")
            self.took_s.append(time.monotonic() - began)

    def _ask(self, first: int, attempt: Any) -> Any:
        for number in range(2 * len(self.addresses)):
            answer = attempt(self.addresses[(first + number) % len(self.addresses)])
            if answer is not None:
                return answer
            self.retried += 1
        return None


@contextmanager
def clients(lab: Lab) -> Iterator[Clients]:
    working = Clients(lab.addresses())
    threads = [threading.Thread(target=working.run, args=(number,)) for number in range(len(working.addresses))]
    for each in threads:
        each.start()
    try:
        yield working
    finally:
        working.stopping.set()
        for each in threads:
            each.join(30)


def largest_mb(lab: Lab) -> float:
    return max((each.size_bytes for each in statuses(lab).values()), default=0) / 1e6


def let_go_of(address: str, prefix: str) -> None:
    """Delete everything below the prefix, and its history."""
    key, end = prefix.encode(), (prefix[:-1] + chr(ord(prefix[-1]) + 1)).encode()
    wanted = {"key": base64.b64encode(key).decode(), "range_end": base64.b64encode(end).decode()}
    said = members.ask(address, "/v3/kv/deleterange", wanted, 60)
    assert said is not None
    revision = said["header"]["revision"]
    assert members.ask(address, "/v3/kv/compaction", {"revision": revision, "physical": True}, 60) is not None


def test_500_mb_are_defragmented_on_three_members_and_no_request_fails(make_lab: MakeLab) -> None:
    seldom = {"interval": "1h", "drill_interval": "0s"}  # half a gigabyte takes moto longer than an interval
    lab = make_lab(settings={**QUICK, "snapshots": seldom, "maintenance": {"after": "5s"}}, pace=PACE)
    wait_whole(lab, 3)
    leading = leader(lab)
    assert leading is not None
    fill(leading.address, 500)
    term = {each.raft_term for each in statuses(lab).values()}
    assert largest_mb(lab) > 500
    with clients(lab) as working:
        let_go_of(leading.address, "bulk/")
        wait_until(lambda: len(statuses(lab)) == 3 and largest_mb(lab) < 100, 300, "three small databases", 1.0)
        time.sleep(2)
    slow = sorted(working.took_s)
    print(  # noqa: T201
        f"{len(slow)} rounds of put and get; longest {slow[-1]:.2f} s, 99 % below {slow[len(slow) * 99 // 100]:.3f} s; "
        f"{working.retried} tries of {TRY_S} s went on to the next endpoint; failed: {len(working.failed)}; "
        f"terms {term} and { ({each.raft_term for each in statuses(lab).values()}) }"
    )
    assert working.failed == []
    for key, value in working.acknowledged.items():
        assert members.get(leading.address, key) == value
    assert Shelf(lab).head() == 1


def test_a_full_database_is_made_room_in_where_that_is_wanted(make_lab: MakeLab) -> None:
    settings = {
        **QUICK,
        "etcd": {**QUICK["etcd"], "quota_backend_bytes": 16 << 20},
        "maintenance": {"after": "2s", "nospace": True},
    }
    lab = make_lab(settings=settings, pace=PACE)
    wait_whole(lab, 3)
    address, value = lab.addresses()[0], "x" * 1_000_000
    wait_until(lambda: members.put(address, "same", value, 10) is None, 60, "the database to be full", 0.0)
    wait_until(lambda: members.put(address, "same", "small", 10) is not None, 120, "room", 0.5)
    assert largest_mb(lab) < 16
