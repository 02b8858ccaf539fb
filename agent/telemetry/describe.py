"""A round as values for people and scripts: what `/status`, `plan --json` and the logs show of it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from agent.model.actions import Decision
from agent.model.known import Ignorance, Unknown
from agent.model.observation import Observation
from agent.model.round import Round
from agent.telemetry.plain import plain


def evidence(o: Observation) -> dict[str, Any]:
    """The facts of an observation, without what nobody asked for in that round. An Unknown shows its why."""
    found = {each.name: getattr(o, each.name) for each in fields(o) if each.name != "nonce"}
    asked = {
        name: value
        for name, value in found.items()
        if not (isinstance(value, Unknown) and value.why is Ignorance.NOT_ASKED)
    }
    return {name: {"unknown": plain(v)} if isinstance(v, Unknown) else plain(v) for name, v in asked.items()}


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
        "decision": decision(played.decision),
        "decided": decision(played.decided),
        "objections": list(played.objections),
        "outcome": str(played.result.outcome),
        "detail": played.result.detail,
        "observation": evidence(played.observation),
    }
