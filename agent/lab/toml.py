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
    lines = [f"[{name}]", *(f"{json.dumps(key)} = {_value(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_value(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(entry) for entry in value) + "]"
    if isinstance(value, bool | int | float | str):
        return json.dumps(value)
    raise TypeError(f"TOML has no word for {value!r}")
