"""One seed, one world, one walk: what `make test` runs for a few seeds, and `make simulate` for as many as wanted.

A seed that fails is shrunk: steps of its walk are left out, halves first and then one by one, as long as the same check
breaks. What is left is the shortest story of the same bug that this finds.
"""

from __future__ import annotations

import gc
import hashlib
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from agent.model.cluster import voter_target
from tests.simulation.disasters import becomes_whole
from tests.simulation.machines import Broken
from tests.simulation.sim import Sim
from tests.simulation.walk import Step, Walk, draw

WITHIN = 900
"""Seconds: a learner's time-out, twice (one per ghost), etcd's back-off, a recovery, and everybody's patience."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a seed stands for. `fatal` walks may lose a quorum's disks for good; the others never do."""

    seed: int
    instances: int
    fatal: float
    settles: bool  # the cluster is whole before the walk begins
    steps: tuple[Step, ...]


def trial_of(seed: int) -> Trial:
    chance = random.Random(f"trial {seed}")
    instances, settles = chance.choice((1, 2, 3, 3, 3, 4, 5, 6, 7)), chance.random() < 0.75
    return Trial(seed, instances, 0.5 if seed % 2 else 0.0, settles, draw(chance))


@dataclass(slots=True)
class Ended:
    """How it went. `broke` is the check that failed, None where all held."""

    trial: Trial
    story: list[str]
    minutes: float  # of virtual time
    broke: str | None = None
    steps: int = 0  # taken
    generations: int = 0

    @property
    def trace(self) -> str:
        """The whole story in one word."""
        return hashlib.sha256("\n".join(self.story).encode()).hexdigest()[:16]

    @property
    def check(self) -> str:
        """Which check broke, whoever and whatever it was about."""
        return re.sub(r"[\da-f]{6,}|\d+", "*", (self.broke or "").partition("\n")[0])[:60]


def play(trial: Trial) -> Ended:
    """The whole of it: to its good end, or to the first broken check."""
    sim = Sim(trial.seed, trial.instances, interleave=0.1)
    walk = Walk(sim, trial.steps, trial.fatal)
    broke: str | None = None
    try:
        if trial.settles:
            sim.run_until(sim.whole, within=120)
        walk.play()
        becomes_whole(sim, WITHIN)
        _is_as_it_should_be(sim, trial, walk)
    except Broken as broken:
        broke = str(broken)
        sim.tell(f"BROKEN: {broke}")
    except Exception as error:  # noqa: BLE001 - whatever the agent raises is a bug, and has a story
        broke = f"{type(error).__name__}: {error}"
        sim.tell(f"CRASHED: {broke}")
    return Ended(trial, sim.story, sim.elapsed / 60, broke, walk.taken, len(sim.records))


def _is_as_it_should_be(sim: Sim, trial: Trial, walk: Walk) -> None:
    if len(sim.voters()) < voter_target(sim.desired):
        raise Broken(f"{len(sim.voters())} voters for a desired capacity of {sim.desired}")
    # Who was written off could not be elected any more.
    lost_for_good = trial.fatal or bool(sim.promises.written_off) or walk.took_the_last
    if not lost_for_good and not walk.to_zero and len([each for each in sim.lineages.values() if each.writes]) != 1:
        raise Broken("a majority of the disks survived, and still there was a recovery")
    lost = set() if lost_for_good else sim.acknowledged() - sim.kept()
    if lost:
        raise Broken(f"a majority of the disks survived, and {len(lost)} acknowledged writes did not")


def shrink(failed: Ended, play: Callable[[Trial], Ended] = play, tries: int = 60) -> Ended:
    """The shortest walk found that breaks the same check; the failed one itself where every step is needed."""
    best = failed
    chunk = len(failed.trial.steps)
    while chunk and tries > 0:
        for shorter in _without_a_chunk(best.trial, chunk):
            tries -= 1
            ended = play(shorter)
            if ended.check == failed.check:
                best = ended
                break
            if tries <= 0:
                break
        else:
            chunk //= 2
        chunk = min(chunk, len(best.trial.steps))
    return best


def _without_a_chunk(trial: Trial, chunk: int) -> Iterator[Trial]:
    """The later steps first: what came after the cause is the likeliest to be of no use."""
    for start in reversed(range(0, len(trial.steps), chunk)):
        yield replace(trial, steps=trial.steps[:start] + trial.steps[start + chunk :])


def play_seed(seed: int) -> tuple[Ended, float]:
    """How it ended, and the seconds of a core that it took: what a process of `make simulate` does with each seed.

    What failed comes back shrunk. A world is full of circles, none of which can go before its seed is done: they are
    looked for only then.
    """
    gc.disable()
    began = time.process_time()
    ended = play(trial_of(seed))
    gc.collect()
    took = time.process_time() - began
    return (replace(ended, story=[]) if ended.broke is None else shrink(ended)), took
