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
    unknowns = [(each, each.outcome) for each in trials if isinstance(each.outcome, Unknown)]
    for trial, why in unknowns:
        if why.why is Ignorance.DENIED:
            fix = "add the statement to the instance role: `etcd-asg-agent iam-policy` prints all of them"
            said = f"the agent cannot see or do: {trial.what_for}"
            yield failure(f"permission-{trial.sid}", why.detail, said, fix)
    silent = [(trial, why) for trial, why in unknowns if why.why is not Ignorance.DENIED]
    if silent:
        found = f"no answer about {', '.join(trial.sid for trial, _ in silent)}: {silent[0][1].detail}"
        said = "what is missing is told in the agent's log when it is needed"
        yield unknown("permissions-unknown", found, said, "mend that, and run the doctor again")
    untried = [each.sid for each in trials if each.outcome is Outcome.UNTRIED]
    if untried:
        found = f"cannot be tried without doing it, or not before the agent's first start: {', '.join(untried)}"
        said = "what is missing is told in the agent's log when it is needed, by the statement's name"
        yield unknown("permissions-untried", found, said, "compare the role with `etcd-asg-agent iam-policy`")
