"""One finding: what was found, what comes of it, what to do. Pure.

House rules. Unknown is neither good nor bad: it says why nothing is known, and ends no build. A failure is what keeps
the agent or etcd from doing what it is there for, now or in the next bad hour; everything else that one should change
is a warning. Checks are named once and for all: scripts and runbooks go by the names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from agent.model.known import Unknown


class Level(StrEnum):
    """The worst first, as they are shown."""

    FAILURE = "failure"
    WARNING = "warning"
    UNKNOWN = "unknown"
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """`found` is a fact; `consequence` and `fix` are empty where all is well."""

    check: str
    level: Level
    found: str
    consequence: str = ""
    fix: str = ""

    def __post_init__(self) -> None:
        assert self.check, "a finding belongs to a check"
        assert self.found, "a finding says what was found"
        if self.level is Level.OK:
            assert not self.consequence, "what has a consequence is not ok"
        else:
            assert self.consequence, "what is not ok has a consequence"
            assert self.fix, "what is not ok can be mended, or at least be learned"


def ok(check: str, found: str) -> Finding:
    return Finding(check, Level.OK, found)


def warning(check: str, found: str, consequence: str, fix: str) -> Finding:
    return Finding(check, Level.WARNING, found, consequence, fix)


def failure(check: str, found: str, consequence: str, fix: str) -> Finding:
    return Finding(check, Level.FAILURE, found, consequence, fix)


def unknown(check: str, why: Unknown | str, consequence: str, fix: str) -> Finding:
    """`why` is why nothing is known, `consequence` what might be overlooked."""
    return Finding(
        check, Level.UNKNOWN, (why.detail or str(why.why)) if isinstance(why, Unknown) else why, consequence, fix
    )


def exit_code(findings: Iterable[Finding]) -> int:
    """1 where anything fails. Warnings and ignorance fail nothing."""
    return int(any(each.level is Level.FAILURE for each in findings))


def lines(findings: Iterable[Finding]) -> Iterator[str]:
    """For people: the worst first, each with its consequence and its fix below it; then the sum."""
    found = list(findings)
    width = max((len(each.check) for each in found), default=0)
    for level in Level:
        for each in found:
            if each.level is level:
                yield from _told(each, width)
    yield summary(found)


def _told(finding: Finding, width: int) -> Iterator[str]:
    label = finding.level.value if finding.level is Level.OK else finding.level.value.upper()
    yield f"{label:<7}  {finding.check:<{width}}  {finding.found}"
    indent = " " * (7 + 2 + width + 2)
    if finding.consequence:
        yield f"{indent}so:  {finding.consequence}"
    if finding.fix:
        yield f"{indent}fix: {finding.fix}"


def summary(findings: Iterable[Finding]) -> str:
    """Such as `1 failure, 2 unknown, 14 ok`."""
    counted = Counter(each.level for each in findings)
    return ", ".join(f"{counted[level]} {level}" for level in Level if counted[level]) or "nothing was looked at"


def document(findings: Iterable[Finding]) -> dict[str, object]:
    """For scripts."""
    found = list(findings)
    return {
        "ok": exit_code(found) == 0,
        "counts": {level.value: sum(each.level is level for each in found) for level in Level},
        "findings": [
            {
                "check": each.check,
                "level": each.level.value,
                "found": each.found,
                "consequence": each.consequence,
                "fix": each.fix,
            }
            for each in found
        ],
    }
