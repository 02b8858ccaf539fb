"""One trial: a copy of the agent and its tests in a folder of its own, mutated, and tests run until one breaks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.mutants.mutant import Mutant

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 1800

BROKEN = re.compile(r"^(?:FAILED|ERROR) tests/(\S+?)test_([^/\s]+)\.py::(\S+) - (.*)$", re.MULTILINE)
PASSED = re.compile(r"(\d+) passed")
A_CHECK = re.compile(r"(?:[\w.]*Broken|AssertionError|assert|Failed)\b:?\s*")
"""How a check speaks; anything else (a NameError, say) is a mutant that only fell over."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant. `seeds`: tests that were run, each with a seed of its own, up to the one that broke."""

    killed: bool
    test: str  # which broke; "" for a survivor
    said: str  # by its check; or how the mutant fell over
    seeds: int
    seconds: float


def copy_to(root: Path) -> None:
    """The agent and its tests, so that nothing that happens there touches the repository."""
    for name in ("agent", "tests"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", root)
    binaries = REPOSITORY / ".cache" / "etcd"
    if binaries.exists():
        (root / ".cache").mkdir()
        (root / ".cache" / "etcd").symlink_to(binaries)


def tried(mutant: Mutant) -> Verdict:
    """Raises MovedOn where the code is no longer what the mutant was made of."""
    with TemporaryDirectory(prefix="mutant-") as folder:
        root = Path(folder).resolve()
        copy_to(root)
        for path, text in mutant.made_of(root / "agent").items():
            path.write_text(text)
        return judged(root, mutant.tried_by, mutant.times)


def unmutated(tests: Sequence[str], times: int) -> Verdict:
    """The same with the agent as it is: the control."""
    with TemporaryDirectory(prefix="control-") as folder:
        root = Path(folder).resolve()
        copy_to(root)
        assert _agent_used_at(root).is_relative_to(root), "a trial must run its own copy of the agent"
        return judged(root, tests, times)


def judged(root: Path, tests: Sequence[str], times: int) -> Verdict:
    """Run these tests on what lies at `root`, until one breaks."""
    began = time.monotonic()
    ended = _pytest(root, tests, times)
    seconds = time.monotonic() - began
    passed = PASSED.search(ended.stdout)
    seeds = int(passed[1]) if passed else 0
    if ended.returncode == 0:
        return Verdict(killed=False, test="", said="", seeds=seeds, seconds=seconds)
    broken = BROKEN.search(ended.stdout)
    if ended.returncode != 1 or broken is None:
        return Verdict(False, "", f"pytest ended with {ended.returncode}: {ended.stdout[-2000:]}", seeds, seconds)
    rung, file, test, what = broken.groups()
    check = A_CHECK.match(what)
    said = what if check is None else what[check.end() :]
    name = f"{rung}{file}: {test.removeprefix('test_')}"
    return Verdict(check is not None, name, said, seeds + 1, seconds)


def _pytest(root: Path, tests: Sequence[str], times: int) -> subprocess.CompletedProcess[str]:
    """In the order in which they are named, with the same seeds every time."""
    options = ("-x", "-q", "-rfE", "--tb=no", "-p", "no:randomly", "--hypothesis-seed=0")
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    here = {"PYTHONPATH": str(root), "SIMULATION_SEEDS_TIMES": str(times), "COLUMNS": "1000"}
    return subprocess.run(
        (sys.executable, "-m", "pytest", *options, *tests),
        cwd=root,
        env=ours | here,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def _agent_used_at(root: Path) -> Path:
    told = subprocess.run(
        (sys.executable, "-c", "import agent.act; print(agent.act.__file__)"),
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(told.stdout.strip())
