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
from typing import Any, TextIO

from agent.telemetry.plain import plain, without_secrets

_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
"""sd-daemon(3): what journald reads from `<N>` at the head of a line."""


def facts(**fields: object) -> dict[str, Any]:
    """The facts of one event, for a logging call's `extra`."""
    return {"facts": fields}


def set_up(level: str, style: str, stream: TextIO, environment: Mapping[str, str] | None = None) -> None:
    """Send this process's logs to `stream`. `style` is auto, text or json; journald gets its priorities by itself."""
    environment = os.environ if environment is None else environment
    journal = _is_journal(stream, environment)
    readable = style == "text" or (style == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Text(journal=journal) if readable else JsonLines(journal=journal))
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
        when = "" if self._journal else datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3] + " "
        said = " ".join(f"{_word(name)}={_word(value)}" for name, value in self.facts(record).items())
        line = f"{when}{record.levelname:<7} {_one_line(self.message(record))}{'  ' if said else ''}{said}"
        traceback = self.traceback(record)
        return f"{line}\n{traceback}" if traceback else line


def _word(value: object) -> str:
    """Itself where that is one printable word, else quoted, with everything odd escaped."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if not text.isprintable():
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False) if not text or " " in text or '"' in text else text


def _one_line(text: str) -> str:
    words = " ".join(text.split())
    return words if words.isprintable() else json.dumps(words)
