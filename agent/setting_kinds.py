"""What a setting's value may be: each kind reads TOML and plain text, says what it expects, and prints itself.

House rules: `read` takes any TOML value and `read_text` any string, from a file, an environment variable or a flag;
both return the value or raise `Wrong`, never anything else. What is expected is one phrase, fit for an error message,
for `config show` and for the documentation alike.
"""

import ipaddress
import re
import reprlib
import tomllib
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol


class Wrong(ValueError):
    """The value is not of this kind; `str()` is what was expected instead."""


class Kind(Protocol):
    """One kind of value. `expected` completes the sentence "expected ..."."""

    @property
    def expected(self) -> str: ...
    def read(self, raw: object) -> object: ...
    def read_text(self, text: str) -> object: ...
    def toml(self, value: object) -> str:
        """The value as it stands in a config file."""
        ...


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: an IP address and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def quoted(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in escaped) + '"'


@dataclass(frozen=True, slots=True)
class Text:
    """A string of one line that matches `pattern` as a whole and `refuse` nowhere."""

    expected: str
    pattern: str = r".+"
    refuse: str | None = None
    max_length: int = 1024

    def read(self, raw: object) -> str:
        if not isinstance(raw, str) or len(raw) > self.max_length or not raw.isprintable():
            raise Wrong(self.expected)
        if not re.fullmatch(self.pattern, raw) or (self.refuse and re.search(self.refuse, raw)):
            raise Wrong(self.expected)
        return raw

    def read_text(self, text: str) -> str:
        return self.read(text)

    def toml(self, value: object) -> str:
        return quoted(str(value))


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words. `refused` names words that are understood but not to be had, with the reason."""

    words: tuple[str, ...]
    refused: tuple[tuple[str, str], ...] = ()

    @property
    def expected(self) -> str:
        return " or ".join(f'"{word}"' for word in self.words)

    def read(self, raw: object) -> str:
        for word, reason in self.refused:
            if raw == word:
                raise Wrong(f"{self.expected} ({reason})")
        if not isinstance(raw, str) or raw not in self.words:
            raise Wrong(self.expected)
        return raw

    def read_text(self, text: str) -> str:
        return self.read(text)

    def toml(self, value: object) -> str:
        return quoted(str(value))


@dataclass(frozen=True, slots=True)
class Switch:
    """On or off."""

    expected: str = "true or false"

    def read(self, raw: object) -> bool:
        if not isinstance(raw, bool):
            raise Wrong(self.expected)
        return raw

    def read_text(self, text: str) -> bool:
        if text not in ("true", "false"):
            raise Wrong(self.expected)
        return text == "true"

    def toml(self, value: object) -> str:
        return "true" if value else "false"


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `least` to `most`, in `unit`."""

    least: int
    most: int
    unit: str = ""

    @property
    def expected(self) -> str:
        return " ".join(f"a whole number from {self.least} to {self.most} {self.unit}".split())

    def read(self, raw: object) -> int:
        if not isinstance(raw, int) or isinstance(raw, bool) or not self.least <= raw <= self.most:
            raise Wrong(self.expected)
        return raw

    def read_text(self, text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,18}", text, re.ASCII):
            raise Wrong(self.expected)
        return self.read(int(text))

    def toml(self, value: object) -> str:
        return str(value)


PORT = Whole(1, 65535, "(a port)")

_SIZES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes: a whole number, or text such as "8GiB"."""

    least: int
    most: int

    @property
    def expected(self) -> str:
        return f'a size from {size_text(self.least)} to {size_text(self.most)}, such as "2GiB" or a number of bytes'

    def read(self, raw: object) -> int:
        if isinstance(raw, str):
            return self.read_text(raw)
        if not isinstance(raw, int) or isinstance(raw, bool) or not self.least <= raw <= self.most:
            raise Wrong(self.expected)
        return raw

    def read_text(self, text: str) -> int:
        parts = re.fullmatch(r"([0-9]{1,18})(KiB|MiB|GiB)?", text, re.ASCII)
        if not parts:
            raise Wrong(self.expected)
        return self.read(int(parts[1]) * _SIZES.get(parts[2] or "", 1))

    def toml(self, value: object) -> str:
        assert isinstance(value, int)
        text = size_text(value)
        return text if text.isdigit() else quoted(text)


def size_text(size_bytes: int) -> str:
    """2147483648 -> "2GiB"; sizes that are no round number stay bytes."""
    for unit, factor in reversed(_SIZES.items()):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)


_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


@dataclass(frozen=True, slots=True)
class Span:
    """A length of time from `least` to `most`, written "500ms", "5s", "2m", "1h30m"."""

    least: timedelta
    most: timedelta

    @property
    def expected(self) -> str:
        return f'a duration from {span_text(self.least)} to {span_text(self.most)}, such as "500ms", "5s" or "2m"'

    def read(self, raw: object) -> timedelta:
        if not isinstance(raw, str):
            raise Wrong(self.expected)
        return self.read_text(raw)

    def read_text(self, text: str) -> timedelta:
        if len(text) > 40 or not re.fullmatch(r"([0-9]{1,7}(d|h|ms|m|s))+", text, re.ASCII):
            raise Wrong(self.expected)
        parts = re.findall(r"([0-9]+)(d|h|ms|m|s)", text)
        span = timedelta(milliseconds=sum(int(number) * _MILLISECONDS[unit] for number, unit in parts))
        if not self.least <= span <= self.most:
            raise Wrong(self.expected)
        return span

    def toml(self, value: object) -> str:
        assert isinstance(value, timedelta)
        return quoted(span_text(value))


def span_text(span: timedelta) -> str:
    """90 seconds -> "1m30s"; nothing -> "0s"."""
    rest, text = round(span / timedelta(milliseconds=1)), ""
    for unit, factor in _MILLISECONDS.items():
        count, rest = divmod(rest, factor)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


@dataclass(frozen=True, slots=True)
class AbsolutePath:
    """A path from the root, without `..`; with `optional`, nothing at all is fine too."""

    optional: bool = False

    @property
    def expected(self) -> str:
        return 'an absolute path without ".."'

    def read(self, raw: object) -> Path | None:
        if raw == "" and self.optional:
            return None
        if not isinstance(raw, str) or not raw.isprintable() or len(raw) > 1024:
            raise Wrong(self.expected)
        path = Path(raw)
        if not path.is_absolute() or ".." in path.parts or path == Path("/"):
            raise Wrong(self.expected)
        return path

    def read_text(self, text: str) -> Path | None:
        return self.read(text)

    def toml(self, value: object) -> str:
        return quoted("" if value is None else str(value))


@dataclass(frozen=True, slots=True)
class Listen:
    """An IP address and a port."""

    expected: str = 'an IP address and a port, such as "0.0.0.0:9379" or "[::1]:9379"'

    def read(self, raw: object) -> Address:
        parts = re.fullmatch(r"(\[[^\]]+\]|[^:]+):([0-9]{1,5})", raw, re.ASCII) if isinstance(raw, str) else None
        if not parts or not 1 <= int(parts[2]) <= 65535:
            raise Wrong(self.expected)
        try:
            host = ipaddress.ip_address(parts[1].strip("[]"))
        except ValueError:
            raise Wrong(self.expected) from None
        if (host.version == 6) != parts[1].startswith("["):
            raise Wrong(self.expected)
        return Address(str(host), int(parts[2]))

    def read_text(self, text: str) -> Address:
        return self.read(text)

    def toml(self, value: object) -> str:
        return quoted(str(value))


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts in the operator's order, none twice. As plain text: `a,b`, or a TOML array."""

    expected: str
    each: Text
    most: int = 50

    def read(self, raw: object) -> tuple[str, ...]:
        if not isinstance(raw, list) or len(raw) > self.most:
            raise Wrong(self.expected)
        for text in raw:
            try:
                self.each.read(text)
            except Wrong as wrong:
                raise Wrong(f"{self.expected}; for {reprlib.repr(text)}: {wrong}") from None
        return tuple(dict.fromkeys(raw))

    def read_text(self, text: str) -> tuple[str, ...]:
        if text.lstrip().startswith("["):
            try:
                return self.read(tomllib.loads(f"texts = {text}")["texts"])
            except Wrong:
                raise
            except (ValueError, RecursionError):
                raise Wrong(self.expected) from None
        return self.read([part.strip() for part in text.split(",") if part.strip()])

    def toml(self, value: object) -> str:
        assert isinstance(value, tuple)
        return f"[{', '.join(map(quoted, value))}]"


@dataclass(frozen=True, slots=True)
class Table:
    """Names and texts. As plain text: `a=1,b=2`, or a TOML inline table."""

    expected: str
    key: Text
    value: Text
    refused_keys: str | None = None
    most: int = 50

    def read(self, raw: object) -> tuple[tuple[str, str], ...]:
        if not isinstance(raw, dict) or len(raw) > self.most:
            raise Wrong(self.expected)
        for key, value in raw.items():
            try:
                self.key.read(key)
                self.value.read(value)
            except Wrong as wrong:
                raise Wrong(f"{self.expected}; for {reprlib.repr(key)}: {wrong}") from None
            if self.refused_keys and re.fullmatch(self.refused_keys, key):
                raise Wrong(f"{self.expected}; {key} is the agent's own to set")
        return tuple(sorted(raw.items()))

    def read_text(self, text: str) -> tuple[tuple[str, str], ...]:
        if text.lstrip().startswith("{"):
            try:
                return self.read(tomllib.loads(f"table = {text}")["table"])
            except Wrong:
                raise
            except (ValueError, RecursionError):
                raise Wrong(self.expected) from None
        pairs = [part.split("=", 1) for part in text.split(",") if part.strip()]
        if any(len(pair) != 2 for pair in pairs):
            raise Wrong(self.expected)
        return self.read({key.strip(): value.strip() for key, value in pairs})

    def toml(self, value: object) -> str:
        assert isinstance(value, tuple)
        inside = ", ".join(f"{quoted(k)} = {quoted(v)}" for k, v in value)
        return f"{{ {inside} }}" if inside else "{}"
