"""Which statements of the role's policy are in force, as far as that can be tried without doing anything. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from agent.doctor.finding import Finding, failure, ok, unknown
from agent.model.known import Ignorance, Unknown


class Outcome(StrEnum):
    ALLOWED = "allowed"
    UNTRIED = "untried"  # it cannot be tried without doing it


@dataclass(frozen=True, slots=True)
class Trial:
    """One statement of the table (`agent.world.permissions.NEEDS`), by its name, and what became of a harmless call."""

    sid: str
    what_for: str
    outcome: Outcome | Unknown


def judge(trials: Sequence[Trial]) -> Iterator[Finding]:
    allowed = [each.sid for each in trials if each.outcome is Outcome.ALLOWED]
    if allowed:
        yield ok("permissions", f"allowed: {', '.join(allowed)}")
    for each in trials:
        if isinstance(each.outcome, Unknown):
            yield _not_allowed(each, each.outcome)
    untried = [each.sid for each in trials if each.outcome is Outcome.UNTRIED]
    if untried:
        found = f"cannot be tried without doing it: {', '.join(untried)}"
        said = "what is missing is told in the agent's log when it is needed, by the statement's name"
        yield unknown("permissions-untried", found, said, "compare the role with `etcd-asg-agent iam-policy`")


def _not_allowed(trial: Trial, why: Unknown) -> Finding:
    check = f"permission-{trial.sid}"
    if why.why is Ignorance.DENIED:
        fix = "add the statement to the instance role: `etcd-asg-agent iam-policy` prints all of them"
        return failure(check, why.detail, f"the agent cannot see or do: {trial.what_for}", fix)
    return unknown(check, why, f"needed for: {trial.what_for}", "mend that, and run the doctor again")
