"""journald's native protocol, to a socket of our own that reads as journald does."""

from __future__ import annotations

import array
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.world.journal import Journal, field_name


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listening:
        listening.bind(str(tmp_path / "journal"))
        listening.settimeout(5)
        yield listening


def received(journald: socket.socket) -> dict[str, str]:
    """One event, from a datagram or from the file that came with it."""
    message, ancillary, _, _ = journald.recvmsg(1 << 20, socket.CMSG_SPACE(4))
    for _, _, data in ancillary:
        (descriptor,) = array.array("i", data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        with os.fdopen(descriptor, "rb") as file:
            message = file.read()
    return parsed(message)


def parsed(event: bytes) -> dict[str, str]:
    found = {}
    while event:
        line, _, rest = event.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + length], rest[9 + length :]
        found[name.decode()] = value.decode()
        event = rest
    return found


EVENTS = [
    {"MESSAGE": "member removed", "PRIORITY": "6", "RULE": "remove the dead"},
    {"MESSAGE": "it failed\nTraceback:\n  here\n", "EMPTY": "", "WITH_EQUALS": "a=b", "PRIORITY": "3"},
    {"MESSAGE": "long", "DETAIL": "é" * 1_000_000},
]


@pytest.mark.parametrize("event", EVENTS, ids=["short", "lines", "longer than a datagram"])
def test_an_event_arrives_as_it_was_sent(event: dict[str, str], journald: socket.socket) -> None:
    assert Journal(Path(journald.getsockname())).send(event)
    assert received(journald) == event


def test_nobody_listens(tmp_path: Path) -> None:
    assert not Journal(tmp_path / "nobody").send({"MESSAGE": "lost"})


def test_a_journald_that_does_not_read_holds_nobody_up(journald: socket.socket) -> None:
    journal = Journal(Path(journald.getsockname()))
    sent = 0
    while journal.send({"MESSAGE": "again"}):
        sent += 1
        assert sent < 100_000
    assert sent > 0


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("rule", "RULE"), ("peer_url", "PEER_URL"), ("_pid", "PID"), ("2nd", "ND"), ("größe", "GR_SSE"), ("", "FIELD")],
)
def test_names(ours: str, theirs: str) -> None:
    assert field_name(ours) == theirs


@given(st.text())
def test_any_name_is_one_that_journald_keeps(name: str) -> None:
    found = field_name(name)
    assert found[0].isascii()
    assert found[0].isupper()
    assert len(found) <= 64
    assert set(found) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
