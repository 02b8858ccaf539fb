"""A round as values for people and scripts: what `/status`, `plan --json` and the logs show of it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from agent.decide.holding import hold_on
from agent.decide.loss import Lost, NotProven
from agent.model.actions import Action, CallHuman, Decision, Wait
from agent.model.known import Ignorance, Unknown
from agent.model.observation import Observation
from agent.model.round import Round
from agent.model.work import Ended, Work, Working
from agent.telemetry.plain import plain, without_secrets
from agent.telemetry.recovery import verdict

TASK_OUTCOMES = ("done", "failed", "refused")
"""`failed` may pass; `refused` will not."""


def evidence(o: Observation) -> dict[str, Any]:
    """The facts of an observation, without what nobody asked for in that round. An Unknown shows its why."""
    found = {each.name: getattr(o, each.name) for each in fields(o) if each.name != "nonce"}
    asked = {
        name: value
        for name, value in found.items()
        if not (isinstance(value, Unknown) and value.why is Ignorance.NOT_ASKED)
    }
    shown = {name: {"unknown": plain(v)} if isinstance(v, Unknown) else plain(v) for name, v in asked.items()}
    return {**shown, "work": work(o.work)}


def work(state: Work) -> dict[str, Any]:
    """What outlasts the rounds: which task, how far it is, or what became of it."""
    match state:
        case Working():
            return {"state": "working", "task": type(state.task).__name__, **_fields(state)}
        case Ended():
            return {"state": "ended", "task": type(state.task).__name__, "outcome": outcome(state), **_fields(state)}
        case _:
            return {"state": "idle"}


def outcome(ended: Ended) -> str:
    """One of TASK_OUTCOMES."""
    if ended.trouble is None:
        return "done"
    return "refused" if ended.final else "failed"


def _fields(state: Working | Ended) -> dict[str, Any]:
    found = plain(state)
    assert isinstance(found, dict)
    return {"details": found.pop("task"), **found}


def decision(decided: Decision) -> dict[str, Any]:
    """A decision with the name of its action."""
    return {
        "action": type(decided.action).__name__,
        "details": plain(decided.action),
        "rule": decided.rule,
        "because": decided.because,
        "runbook": runbook(decided.action),
    }


def runbook(action: Action) -> str | None:
    """Where the runbook says what it means, and what to do: of a wait, and of a call for a human."""
    match action:
        case CallHuman(reason=reason):
            return f"docs/operate.md#{reason}"
        case Wait(blocker=blocker):
            return f"docs/operate.md#waiting-{blocker}"
        case _:
            return None


def in_a_line(played: Round) -> str:
    """What the last round came to: systemd's status line."""
    said = played.decision
    return without_secrets(f"{type(said.action).__name__}, by {said.rule}: {said.because}")


def hold(played: Round) -> Any:
    """The operator's pause, as this agent last knew of it; None: there is none."""
    found = hold_on(played.observation, played.memory)
    return {"unknown": plain(found)} if isinstance(found, Unknown) else plain(found)


def whole_round(played: Round, judged: Lost | NotProven | None) -> dict[str, Any]:
    """Evidence, decision, objections and outcome of a round; and of a lost quorum, what its recovery waits for."""
    recovery = (
        {} if judged is None else {"recovery": {"since": plain(played.memory.no_quorum_since), **verdict(judged)}}
    )
    return {
        "instance": played.observation.me.instance,
        "at": plain(played.observation.now),
        "hold": hold(played),
        "decision": decision(played.decision),
        "decided": decision(played.decided),
        "objections": list(played.objections),
        "outcome": str(played.result.outcome),
        "detail": played.result.detail,
        **recovery,
        "observation": evidence(played.observation),
    }
