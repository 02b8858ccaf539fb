"""Everything that can happen, composed at random: the promises hold at every step, and afterwards the cluster becomes
whole by itself. `make simulate` plays as many of these seeds as wanted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.disasters import seeds
from tests.simulation.seeds import Ended, Trial, play, shrink, trial_of
from tests.simulation.walk import FAULTS, Step, Walk

LAST_LINES = 60
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("seed", seeds(32))
def test_after_a_random_walk_the_cluster_is_whole(seed: int) -> None:
    """Of an even seed a majority of the disks survives; of an odd one what is lost is judged at every generation."""
    ended = play(trial_of(seed))
    assert ended.broke is None, "\n".join((ended.broke, "the story ends so:", *ended.story[-LAST_LINES:]))


def test_every_fault_is_a_step_that_can_be_taken() -> None:
    assert all(callable(getattr(Walk, fault)) for fault in FAULTS)


def test_a_seed_is_the_same_story_in_every_process() -> None:
    """Whatever the order in which sets and dictionaries are hashed."""
    first, second = (_run("--first", "14", "--seeds", "1", "--story", hash_seed=each) for each in ("1", "2"))
    assert "all promises held" in first
    assert first == second


def test_seeds_are_played_by_several_processes() -> None:
    assert "2 seeds, 0 failed" in _run("--first", "14", "--seeds", "2", "--jobs", "2")


def _run(*arguments: str, hash_seed: str = "0") -> str:
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_failing_walk_is_shrunk_to_the_steps_that_it_takes() -> None:
    """Of twenty steps two are needed, and what breaks otherwise is another bug."""
    steps = tuple(Step("forget", each, 1.0) for each in range(20))
    needed = {steps[4], steps[17]}

    def played(trial: Trial) -> Ended:
        broke = "7 writes are lost" if needed <= {*trial.steps} else "another" if steps[5] in trial.steps else None
        return Ended(trial, [], 0.0, broke, len(trial.steps))

    shortest = shrink(played(Trial(0, 3, 0.0, True, steps)), played)
    assert shortest.broke == "7 writes are lost"
    assert {*shortest.trial.steps} == needed
