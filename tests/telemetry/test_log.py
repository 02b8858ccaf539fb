"""Logs: one event, one line; facts as fields; no secret ever."""

import io
import json
import logging
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.ids import MemberId
from agent.telemetry.log import JsonLines, Text, facts, set_up
from agent.telemetry.plain import HIDDEN, plain

log = logging.getLogger("agent.test")


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("agent")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    logging.captureWarnings(capture=False)


def written(style: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    set_up(level, style, stream, {})
    return stream


def test_json_lines() -> None:
    out = written("auto")
    log.info("member removed", extra=facts(member=MemberId(0x8E9E05C52164694D), because="it was terminated", level=3))
    event = json.loads(out.getvalue())
    assert datetime.fromisoformat(event.pop("time")).tzinfo is not None
    assert event == {
        "level": "info",
        "logger": "agent.test",
        "message": "member removed",
        "member": "8e9e05c52164694d",
        "because": "it was terminated",
        "level_": 3,
    }


def test_text_for_people() -> None:
    out = written("text")
    log.warning("member removed", extra=facts(member=MemberId(255), because="it was terminated", left=3, note=""))
    assert out.getvalue().endswith('WARNING member removed  member=ff because="it was terminated" left=3 note=""\n')


def test_levels() -> None:
    out = written("text", "warning")
    log.info("quiet")
    logging.getLogger("botocore").info("a library's chatter")
    assert out.getvalue() == ""
    out = written("text", "debug")
    log.debug("loud")
    logging.getLogger("botocore").info("a library's chatter")
    assert "loud" in out.getvalue()
    assert "chatter" not in out.getvalue()


def test_setting_up_twice_does_not_double_lines() -> None:
    written("text")
    out = written("text")
    log.info("once")
    assert out.getvalue().count("once") == 1


def test_an_event_is_one_line_whatever_it_holds() -> None:
    out = written("json")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("it failed\nbadly", extra=facts(what="a\nb"))
    (line,) = out.getvalue().splitlines()
    assert "ValueError: two\nlines" in json.loads(line)["exception"]
    assert 'it failed badly  what="a\\nb"' in Text(journal=False).format(_record("it failed\nbadly", what="a\nb"))


def test_under_systemd_lines_carry_their_priority(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        found = os.fstat(stream.fileno())
        set_up("info", "text", stream, {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
        log.error("bad")
        log.info("good", extra=facts(n=1))
        stream.flush()
        assert (tmp_path / "journal").read_text() == "<3>ERROR   bad\n<6>INFO    good  n=1\n"
    formatted = Text(journal=True).format(_record("boom", error=ValueError("x")))
    assert all(line.startswith("<6>") for line in formatted.splitlines())


def test_somebody_elses_journal_is_not_ours(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+") as stream:
        set_up("info", "json", stream, {"JOURNAL_STREAM": "1:2"})
        log.error("bad")
        stream.flush()
        assert (tmp_path / "file").read_text().startswith("{")


SECRETS = [
    facts(password="hunter2"),
    facts(aws_secret_access_key="hunter2"),
    facts(session_token="hunter2"),
    facts(answer={"SecretAccessKey": "hunter2", "Authorization": "hunter2"}),
    facts(url="https://s3/x?X-Amz-Signature=hunter2&X-Amz-Security-Token=hunter2"),
    facts(key="-----BEGIN EC PRIVATE KEY-----\nhunter2\n-----END EC PRIVATE KEY-----"),
    facts(error=ValueError("X-Amz-Credential=hunter2")),
]


@pytest.mark.parametrize("extra", SECRETS)
def test_secrets_are_hidden(extra: dict[str, object]) -> None:
    for style in ("json", "text"):
        out = written(style)
        log.info("asked", extra=extra)
        assert "hunter2" not in out.getvalue()
        assert HIDDEN in out.getvalue()


def test_access_keys_in_errors_are_hidden() -> None:
    out = written("json")
    try:
        raise ValueError("the key ASIAABCDEFGHIJKLMNOP is not valid")
    except ValueError:
        log.exception("refused: %s", "AKIAABCDEFGHIJKLMNOP")
    assert "ABCDEFGHIJKLMNOP" not in out.getvalue()


def test_an_etcd_token_is_no_secret() -> None:
    """It is in the bucket, in the logs of etcd and in the metrics: hiding it would only hide trouble."""
    assert plain({"token": "prod-000004-9f3c2a71"}) == {"token": "prod-000004-9f3c2a71"}


class Colour(StrEnum):
    RED = "red"


def test_our_values_become_plain_ones() -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    ours = {
        "id": MemberId(255),
        "when": when,
        "for": timedelta(milliseconds=1500),
        "colour": Colour.RED,
        "set": frozenset({2, 1}),
        "nan": float("nan"),
        "bytes": b"abc",
        "path": Path("/x"),
    }
    assert plain(ours) == {
        "id": "ff",
        "when": "2026-01-02T03:04:05+00:00",
        "for": 1.5,
        "colour": "red",
        "set": [1, 2],
        "nan": "nan",
        "bytes": "3 bytes",
        "path": "/x",
    }


class Rude:
    def __str__(self) -> str:
        raise RuntimeError


def test_a_value_that_cannot_be_printed_is_no_trouble() -> None:
    assert plain(Rude()) == "<Rude>"
    endless: list[object] = []
    endless.append(endless)
    json.dumps(plain(endless))


_anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.timedeltas(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.frozensets(st.integers()),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), _anything))
def test_any_facts_make_one_line(fields: dict[str, object]) -> None:
    record = _record("happened")
    record.__dict__["facts"] = fields
    assert json.loads(JsonLines(journal=False).format(record))["message"] == "happened"
    assert Text(journal=False).format(record).isprintable()


def _record(message: str, error: Exception | None = None, **fields: object) -> logging.LogRecord:
    info = (type(error), error, None) if error else None
    return log.makeRecord(log.name, logging.INFO, __file__, 1, message, (), info, extra=facts(**fields))


def test_a_broken_format_is_still_a_line() -> None:
    record = log.makeRecord(log.name, logging.INFO, __file__, 1, "%d members", ("three",), None)
    assert json.loads(JsonLines(journal=False).format(record))["message"] == "%d members"


def to_journal(folder: Path, always: dict[str, object], stream: io.TextIOBase) -> socket.socket:
    """Logs to a journald of our own, as a unit's standard error is."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(folder / "journald"))
    listening.settimeout(5)
    found = os.fstat(stream.fileno())
    environment = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
    set_up("info", "auto", stream, environment, always, folder / "journald")  # type: ignore[arg-type]
    return listening


def test_in_the_journal_facts_are_fields(tmp_path: Path) -> None:
    always: dict[str, object] = {"cluster": "prod"}
    with (tmp_path / "stderr").open("w+") as stream, to_journal(tmp_path, always, stream) as journald:
        log.warning("acted", extra=facts(rule="remove the dead", member=MemberId(255), left=3, message="again"))
        event = journald.recv(65536).decode()
        assert event.splitlines() == [
            'MESSAGE=acted  rule="remove the dead" member=ff left=3 message=again',
            "PRIORITY=4",
            "SYSLOG_IDENTIFIER=etcd-asg-agent",
            "LOGGER=agent.test",
            "CLUSTER=prod",
            "RULE=remove the dead",
            "MEMBER=ff",
            "LEFT=3",
            "MESSAGE_=again",
        ]
        always["instance"] = "i-0abc"
        log.error("refused: %s", "AKIAABCDEFGHIJKLMNOP", extra=facts(password="hunter2"))
        event = journald.recv(65536).decode()
        assert "INSTANCE=i-0abc" in event
        assert "PRIORITY=3" in event
        assert "ABCDEFGHIJKLMNOP" not in event
        assert "hunter2" not in event
        try:
            raise ValueError("two\nlines")
        except ValueError:
            log.exception("it failed")
        assert b"ValueError: two\nlines" in journald.recv(65536)


def test_what_the_journal_does_not_take_is_a_line(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("w+") as stream:
        to_journal(tmp_path, {}, stream).close()
        log.error("bad", extra=facts(n=1))
        stream.flush()
        assert (tmp_path / "stderr").read_text() == "<3>ERROR   bad  n=1\n"
