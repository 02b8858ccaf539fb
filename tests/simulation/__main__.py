"""`make simulate`: as many seeds as wanted, and the story of each that fails.

    python -m tests.simulation [--seeds 1000] [--first 0] [--jobs 2]
    python -m tests.simulation --first 4711 --seeds 1 --story       told from beginning to end

Every seed is one world and one walk of faults through it (`tests.simulation.seeds`), the same here as in `make test`.
Rates are by the processors' time, so that a busy machine says the same as an idle one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Iterator, Sequence

from tests.simulation.seeds import Ended, play, play_seed, trial_of
from tests.simulation.sim import Sim

LAST_LINES = 60
CALM_SEEDS = 5
CALM_MINUTES = 15
EVERY = 30
"""Seconds between two lines of progress."""


def main() -> int:
    chosen = _parser().parse_args()
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    return _tell_whole(seeds) if chosen.story else _run(seeds, chosen.jobs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description="Seeded walks through a whole fleet"
    )
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--story", action="store_true", help="tell the whole story of each seed, failed or not")
    return parser


def _run(seeds: Sequence[int], jobs: int) -> int:
    print(
        f"calm: {_calm_rate():.1f} seeds/s/core, of {CALM_MINUTES} virtual minutes of three instances each", flush=True
    )
    began = said = time.monotonic()
    failed, done, minutes, spent = list[int](), 0, 0.0, 0.0
    for ended, seconds in _played(seeds, jobs):
        done, minutes, spent = done + 1, minutes + ended.minutes, spent + seconds
        if ended.broke is not None:
            failed.append(ended.trial.seed)
            _tell_failed(ended)
        if time.monotonic() - said >= EVERY:
            said = time.monotonic()
            print(f"{done} of {len(seeds)} seeds, {len(failed)} failed, {said - began:.0f} s", flush=True)
    rate = f"{done / spent:.2f} seeds/s/core, {minutes / done:.1f} virtual minutes a seed" if done else "nothing to do"
    print(f"{done} seeds, {len(failed)} failed, in {time.monotonic() - began:.0f} s with {jobs} jobs: {rate}")
    if failed:
        print(f"failed: {' '.join(map(str, sorted(failed)))}")
    return 1 if failed else 0


def _played(seeds: Sequence[int], jobs: int) -> Iterator[tuple[Ended, float]]:
    if jobs < 2:
        yield from map(play_seed, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(play_seed, seeds)


def _calm_rate() -> float:
    began = time.process_time()
    for seed in range(CALM_SEEDS):
        Sim(seed).run(CALM_MINUTES * 60)
    return CALM_SEEDS / (time.process_time() - began)


# ---- stories


def _tell_failed(ended: Ended) -> None:
    """Its shortest story: who saw what, who did what, and which check broke."""
    seed, steps = ended.trial.seed, ended.trial.steps
    shown = ended.story[-LAST_LINES:]
    print(f"\n== seed {seed} fails: {ended.broke}")
    print(f"   {ended.trial.instances} instances, and of its walk these {len(steps)} steps are enough:")
    print("\n".join(f"   {step}" for step in steps))
    print(f"   the last {len(shown)} of {len(ended.story)} lines:")
    print("\n".join(shown))
    print(f"== all of seed {seed}: python -m tests.simulation --first {seed} --seeds 1 --story\n", flush=True)


def _tell_whole(seeds: Sequence[int]) -> int:
    broken = 0
    for seed in seeds:
        ended = play(trial_of(seed))
        broken += ended.broke is not None
        print("\n".join(ended.story))
        print(f"seed {seed}: {ended.broke or 'all promises held'}; {ended.minutes:.1f} virtual minutes; {ended.trace}")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
