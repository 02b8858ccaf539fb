"""A round in plain JSON values: what `/status`, `plan --json` and the page show of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from agent.model.actions import Decision
from agent.model.ids import ClusterId, MemberId
from agent.model.known import Ignorance, Unknown
from agent.model.observation import Observation
from agent.model.round import Round


def plain(value: object) -> Any:
    """Dataclasses as objects, IDs in hex, times in ISO 8601, durations in seconds, ignorance as ignorance."""
    match value:
        case Unknown(why=why, detail=detail):
            return {"unknown": str(why), "detail": detail}
        case MemberId() | ClusterId():
            return str(value)
        case datetime():
            return value.isoformat(timespec="milliseconds")
        case timedelta():
            return value.total_seconds()
        case Enum():
            return value.value
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
        case tuple() | list() | set() | frozenset():
            return [plain(each) for each in value]
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
        case _:
            return value


def evidence(o: Observation) -> dict[str, Any]:
    """The facts of an observation, without what nobody asked for in that round."""
    found = {each.name: getattr(o, each.name) for each in fields(o) if each.name != "nonce"}
    asked = {
        name: value
        for name, value in found.items()
        if not (isinstance(value, Unknown) and value.why is Ignorance.NOT_ASKED)
    }
    return {name: plain(value) for name, value in asked.items()}


def decision(decided: Decision) -> dict[str, Any]:
    """A decision with the name of its action."""
    return {
        "action": type(decided.action).__name__,
        "details": plain(decided.action),
        "rule": decided.rule,
        "because": decided.because,
    }


def whole_round(played: Round) -> dict[str, Any]:
    """Evidence, decision, objections and outcome of a round."""
    return {
        "instance": played.observation.me.instance,
        "at": plain(played.observation.now),
        "observation": evidence(played.observation),
        "decided": decision(played.decided),
        "objections": list(played.objections),
        "decision": decision(played.decision),
        "outcome": str(played.result.outcome),
        "detail": played.result.detail,
    }
