"""Logs: a constant message that can be counted, and its facts as fields.

    log = logging.getLogger(__name__)
    log.info("member removed", extra=facts(member=member.id, because=decision.because))

House rules: messages are constant, whatever varies is a fact; changes are logged, not states; secrets never, neither as
facts nor inside errors' texts; one event is one line, except on a terminal, where a traceback may be read.
"""

import json
import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from agent.telemetry.plain import plain, without_secrets
from agent.world.journal import SOCKET, Journal, field_name

_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
"""sd-daemon(3): what journald reads from `<N>` at the head of a line."""


def facts(**fields: object) -> dict[str, Any]:
    """The facts of one event, for a logging call's `extra`."""
    return {"facts": fields}


def set_up(
    level: str,
    style: str,
    stream: TextIO,
    environment: Mapping[str, str] | None = None,
    always: Mapping[str, object] | None = None,
    journal: Path = SOCKET,
) -> None:
    """Send this process's logs to `stream`. `style` is auto, text or json.

    Where the stream is journald's, auto hands it every event with its facts as fields, and beside them `always`, which
    is read anew for each event; the other styles write lines with their priority.
    """
    environment = os.environ if environment is None else environment
    is_journal = _is_journal(stream, environment)
    readable = style == "text" or (style == "auto" and stream.isatty())
    handler: logging.Handler = logging.StreamHandler(stream)
    if is_journal and style == "auto":
        handler = JournalFields(Journal(journal), stream, {} if always is None else always)
    else:
        handler.setFormatter(Text(journal=is_journal) if readable else JsonLines(journal=is_journal))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)  # libraries: only when it matters
    logging.getLogger("agent").setLevel(level.upper())
    logging.captureWarnings(capture=True)


def _is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """systemd names the device and inode of the stream that it connected (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class _Lines(logging.Formatter):
    """What both formats share: the facts, and journald's priority in front of every line."""

    def __init__(self, *, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        text = self.event(record)
        if not self._journal:
            return text
        priority = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(priority + line for line in text.splitlines())

    def event(self, record: logging.LogRecord) -> str:
        raise NotImplementedError

    def facts(self, record: logging.LogRecord) -> dict[str, object]:
        found = plain(getattr(record, "facts", {}))
        return found if isinstance(found, dict) else {"facts": found}

    def message(self, record: logging.LogRecord) -> str:
        try:
            return without_secrets(record.getMessage())
        except (TypeError, ValueError, KeyError):
            return without_secrets(str(record.msg))

    def traceback(self, record: logging.LogRecord) -> str:
        return without_secrets(self.formatException(record.exc_info)) if record.exc_info else ""


class JsonLines(_Lines):
    """One JSON object a line: time, level, logger, message, then the facts."""

    def event(self, record: logging.LogRecord) -> str:
        event: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.message(record),
        }
        for name, value in self.facts(record).items():
            event[name if name not in event else f"{name}_"] = value
        if traceback := self.traceback(record):
            event["exception"] = traceback
        return json.dumps(event)


class Text(_Lines):
    """For people: time, level, message, then the facts as name=value. Without the time where journald has its own."""

    def event(self, record: logging.LogRecord) -> str:
        line = f"{self._when(record)}{record.levelname:<7} {self.sentence(record)}"
        traceback = self.traceback(record)
        return f"{line}\n{traceback}" if traceback else line

    def _when(self, record: logging.LogRecord) -> str:
        return "" if self._journal else datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3] + " "

    def sentence(self, record: logging.LogRecord) -> str:
        """The message and its facts, in one line."""
        said = " ".join(f"{_word(name)}={_word(value)}" for name, value in self.facts(record).items())
        return f"{_one_line(self.message(record))}{'  ' if said else ''}{said}"


class JournalFields(logging.Handler):
    """One event of journald's for each of ours: MESSAGE for people, every fact as a field for `journalctl FIELD=value`.

    Where journald does not take it, it goes to the stream as a line.
    """

    def __init__(self, journal: Journal, stream: TextIO, always: Mapping[str, object]) -> None:
        super().__init__()
        self._sink, self._always, self._text = journal, always, Text(journal=True)
        self._fallback = logging.StreamHandler(stream)
        self._fallback.setFormatter(self._text)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if not self._sink.send(self.fields(record)):
                self._fallback.emit(record)
        except Exception:  # noqa: BLE001 - as the standard library's handlers do: a line is not worth a round
            self.handleError(record)

    def fields(self, record: logging.LogRecord) -> dict[str, str]:
        """journald's names (systemd.journal-fields(7)) first; a fact of the same name gets an underscore."""
        traceback = self._text.traceback(record)
        fields = {
            "MESSAGE": self._text.sentence(record) + (f"\n{traceback}" if traceback else ""),
            "PRIORITY": str(_PRIORITIES.get(record.levelno, 6)),
            "SYSLOG_IDENTIFIER": "etcd-asg-agent",
            "LOGGER": record.name,
        }
        always = {name: plain(value) for name, value in self._always.items()}
        for name, value in {**always, **self._text.facts(record)}.items():
            key = field_name(name)
            fields[key if key not in fields else f"{key}_"] = value if isinstance(value, str) else json.dumps(value)
        return fields


def _word(value: object) -> str:
    """Itself where that is one printable word, else quoted, with everything odd escaped."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if not text.isprintable():
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False) if not text or " " in text or '"' in text else text


def _one_line(text: str) -> str:
    words = " ".join(text.split())
    return words if words.isprintable() else json.dumps(words)
