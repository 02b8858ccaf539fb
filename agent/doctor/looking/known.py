"""A read that fails leaves the reason behind, and the doctor goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from agent.model.faults import Refused, Unavailable
from agent.model.known import Ignorance, Unknown
from agent.world import durable

T = TypeVar("T")


def known(read: Callable[[], T]) -> T | Unknown:
    """What a door or the system does not say is an Unknown, with the reason."""
    try:
        return read()
    except (Unavailable, Refused) as trouble:
        return trouble.unknown
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        why = Ignorance.DENIED if isinstance(error, PermissionError) else Ignorance.OURS
        return Unknown(why, f"{where}{durable.explained(error)}")
