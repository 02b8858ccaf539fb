"""`make mutants`: the agent made wrong on purpose, one rule or effect at a time; each time a check must break.

    python -m tests.mutants [NAME …] [--jobs N]        nobody named: all of them, and the control
    python -m tests.mutants [NAME …] --walks           how far the random walks alone would see them

A check that no mutant breaks checks nothing; a rule that can be broken unnoticed is not tested. So each mutant of
`catalogue` is tried on a copy of the agent by the tests that it names, nearly all of them of the simulation, until one
breaks: which one, and how many seeds it took, is printed. A mutant that survives is a hole: exit code 1. The control
is the agent as it is, which survives every test that any mutant was tried by.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import WALKS, Mutant
from tests.mutants.trial import Verdict, tried, unmutated

WIDTH = 72
ROW = "| {} | {} | {} | {} | {} |"


def main() -> int:
    """Try them, print a row for each, and say whether all were killed."""
    wanted = _arguments()
    mutants = [each for each in MUTANTS if not wanted.names or each.name in wanted.names]
    if wanted.walks:
        mutants = [replace(each, tried_by=WALKS, times=1, breaks="") for each in mutants]
    print(ROW.format("mutant", "killed by", "which said", "seeds", "s"))
    print(ROW.format(*["---"] * 5), flush=True)
    with ThreadPoolExecutor(wanted.jobs) as pool:
        verdicts = pool.map(tried, mutants)
        survivors = [each.name for each, verdict in zip(mutants, verdicts, strict=True) if not _told(each, verdict)]
    print(f"\n{len(mutants) - len(survivors)} of {len(mutants)} mutants killed", flush=True)
    if survivors:
        print(f"SURVIVED: {', '.join(survivors)}")
    unharmed = bool(wanted.names) or _control_survives(mutants)
    return 0 if unharmed and not survivors else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of mutants; none: all, and the control")
    parser.add_argument("--jobs", type=int, default=1, help="how many trials at once")
    parser.add_argument("--walks", action="store_true", help="try them by random walks and nothing else")
    arguments = parser.parse_args()
    strange = set(arguments.names) - {each.name for each in MUTANTS}
    if strange:
        parser.error(f"no mutant {', '.join(sorted(strange))}; there are {', '.join(each.name for each in MUTANTS)}")
    return arguments


def _told(mutant: Mutant, verdict: Verdict) -> bool:
    """Whether it was killed by a check, after printing its row."""
    said = _short(verdict.said.replace("|", "/"), WIDTH)
    if verdict.killed and mutant.breaks not in f"{verdict.test} {verdict.said}":
        said += f" (expected: {mutant.breaks})"
    name, bracket, seed = verdict.test.partition("[")
    test = f"{_short(name, WIDTH)}{bracket}{seed}" if verdict.killed else "SURVIVED"
    print(ROW.format(mutant.name, test, said, verdict.seeds, round(verdict.seconds)), flush=True)
    return verdict.killed


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _control_survives(mutants: Iterable[Mutant]) -> bool:
    """The agent as it is passes every test that any of them was tried by, with as many seeds."""
    times: dict[str, int] = {}
    for mutant in mutants:
        for test in mutant.tried_by:
            times[test] = max(mutant.times, times.get(test, 1))
    survives = True
    for many in sorted(set(times.values())):
        verdict = unmutated([test for test in times if times[test] == many], many)
        found = f"{verdict.test} {verdict.said}".strip() or "survives"
        print(f"the agent as it is: {found} ({verdict.seeds} seeds, {verdict.seconds:.0f} s)", flush=True)
        survives = survives and not verdict.test and not verdict.said
    return survives


if __name__ == "__main__":
    sys.exit(main())
