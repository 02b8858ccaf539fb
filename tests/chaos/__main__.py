"""`make chaos`: real etcd and real agents, broken in every way we know, under load with a ledger of every attempt.

    python -m tests.chaos                                  every case once
    python -m tests.chaos --case NAME,NAME --times 3       these, three times each
    python -m tests.chaos --random 60 --seed 7             combinations drawn at random for an hour
    python -m tests.chaos --list                           the cases and what they allow

Every run begins with a fresh lab of its own. What was seen is kept in docs/chaos.md, a row for each case. Exit code 1
if any run failed; its lab's files and its ledger stay in .cache/chaos.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from tests.chaos import combined, report, runner
from tests.chaos.case import Case
from tests.chaos.cases import CASES

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".cache" / "chaos"


def main() -> int:
    """Run what was asked for, and keep what was seen."""
    wanted = _arguments()
    cases = _named(wanted.case)
    if wanted.list:
        for each in cases:
            sys.stdout.write(f"{each.name:<34} loss allowed: {each.loss.value}; {each.what}\n")
        return 0
    failed = 0
    for case, seed in _drawn(wanted.seed, wanted.random) if wanted.random else _repeated(cases, wanted):
        result = runner.run(case, FOLDER / f"{case.name}-{seed}", seed)
        runner.tell(result)
        report.note(result)
        report.write()
        failed += not result.passed
    return 1 if failed else 0


def _repeated(cases: list[Case], wanted: argparse.Namespace) -> Iterator[tuple[Case, int]]:
    for case in cases:
        for turn in range(wanted.times):
            yield case, wanted.seed + turn


def _drawn(seed: int, minutes: float) -> Iterator[tuple[Case, int]]:
    """Seed after seed until the time is over."""
    end = time.monotonic() + 60 * minutes
    for each in count(seed):
        if time.monotonic() > end:
            return
        case = combined.drawn(each)
        sys.stdout.write(f"seed {each}: {case.what}\n")
        yield case, each


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Chaos on real etcd and real agents.")
    parser.add_argument("--case", default="", help="names, separated by commas; all, if none is given")
    parser.add_argument("--times", type=int, default=1, help="how often each is run")
    parser.add_argument("--seed", type=int, default=1, help="the first run's; each further run has the next")
    parser.add_argument("--random", type=float, default=0, help="draw combinations for so many minutes instead")
    parser.add_argument("--list", action="store_true", help="only tell what there is")
    return parser.parse_args()


def _named(names: str) -> list[Case]:
    known = {each.name: each for each in CASES}
    wanted = [name for name in names.split(",") if name] or list(known)
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        sys.exit(f"no case {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in wanted]


if __name__ == "__main__":
    sys.exit(main())
