"""Our values as JSON has them, for logs and the status page; and what must never leave the process.

House rule: nothing raises here. A log line about trouble must not be trouble itself.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from enum import Enum

HIDDEN = "[hidden]"

_SECRET_NAMES = re.compile(
    r"password|secret|credential|authorization|private_?key|access_?key|session_?token", re.IGNORECASE
)
_SECRET_TEXTS = re.compile(
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS access key IDs; botocore repeats them in some errors
    r"|(?<=X-Amz-Signature=)[^&\s]+|(?<=X-Amz-Security-Token=)[^&\s]+|(?<=X-Amz-Credential=)[^&\s]+"
    r"|(?<=Signature=)[0-9a-f]{64}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
    re.DOTALL,
)
_DEEPEST = 12


def without_secrets(text: str) -> str:
    """The text with everything that looks like a credential hidden."""
    return _SECRET_TEXTS.sub(HIDDEN, text)


def plain(value: object, depth: int = 0) -> object:
    """The value made of dict, list, str, int, float, bool and None alone. Durations become seconds, times ISO 8601.

    Numbers with a print of their own (member IDs, in hex) become that print: JSON readers lose digits above 2**53.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return without_secrets(str(value))
    if depth > _DEEPEST:
        return "…"
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, Enum):
        return plain(value.value, depth)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return _container(value, depth + 1)


def _number(value: float) -> object:
    if type(value) not in (int, float):
        return str(value)
    return value if isinstance(value, int) or math.isfinite(value) else str(value)


def _container(value: object, depth: int) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {one.name: getattr(value, one.name, None) for one in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {
            str(key): HIDDEN if _SECRET_NAMES.search(str(key)) else plain(inner, depth) for key, inner in value.items()
        }
    if isinstance(value, AbstractSet):
        return sorted((plain(inner, depth) for inner in value), key=str)
    if isinstance(value, list | tuple):
        return [plain(inner, depth) for inner in value]
    if isinstance(value, bytes | bytearray):
        return f"{len(value)} bytes"
    try:
        return without_secrets(str(value))
    except Exception:  # noqa: BLE001 - somebody's __str__; what it raises is not worth the agent's life
        return f"<{type(value).__name__}>"
