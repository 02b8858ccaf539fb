"""JSON documents, written and read: a field that is missing or mistyped is a `ValueError` that names it.

Readers ignore fields they do not know, so that a newer agent may add some.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

T = TypeVar("T")


def dump(**fields: object) -> str:
    """The same facts are the same bytes: a lost answer is recognised by reading our own text back."""
    return json.dumps(fields, indent=1) + "\n"


class Document:
    """A JSON object whose fields are asked for by type."""

    def __init__(self, text: str | Mapping[str, Any]) -> None:
        value = json.loads(text) if isinstance(text, str) else text
        if not isinstance(value, Mapping):
            message = f"expected a JSON object, got {type(value).__name__}"
            raise ValueError(message)
        self.value = value

    def _get(self, key: str, kind: type[T]) -> T:
        found = self.value.get(key)
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            message = f"field {key!r}: expected {kind.__name__}, got {found!r}"
            raise ValueError(message)
        return found

    def lacks(self, key: str) -> bool:
        """Not there, or null."""
        return self.value.get(key) is None

    def text(self, key: str) -> str:
        return self._get(key, str)

    def integer(self, key: str) -> int:
        return self._get(key, int)

    def flag(self, key: str) -> bool:
        return self._get(key, bool)

    def hexadecimal(self, key: str) -> int:
        """A number as etcdctl prints IDs."""
        return int(self.text(key), 16)

    def mapping(self, key: str) -> dict[str, Any]:
        return self._get(key, dict)

    def sequence(self, key: str) -> list[Any]:
        return self._get(key, list)

    def optional(self, key: str) -> Document | None:
        """A document within this one; None where there is none."""
        return None if self.lacks(key) else Document(self.mapping(key))

    def time(self, key: str) -> datetime:
        moment = datetime.fromisoformat(self.text(key))
        if moment.tzinfo is None:
            message = f"field {key!r}: a time needs its zone"
            raise ValueError(message)
        return moment
