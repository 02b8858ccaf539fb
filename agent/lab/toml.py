"""Settings written as TOML: the few kinds of value that the agent's configuration has.

House rule: what is written here is read back by `tomllib` as the same value; a test says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def render(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Sections of strings, numbers, truths, lists and tables."""
    return "\n".join(_section(name, values) for name, values in sections.items())


def _section(name: str, values: Mapping[str, Any]) -> str:
    lines = [f"[{name}]", *(f"{_text(key)} = {_value(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_text(key)} = {_value(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(entry) for entry in value) + "]"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise TypeError(f"TOML has no word for {value!r}")


def _text(text: str) -> str:
    """JSON's string is TOML's, but for surrogate pairs, which TOML has not, and DEL, which it wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
