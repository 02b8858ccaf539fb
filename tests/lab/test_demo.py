"""`make demo`, as a stranger runs it: the story is told, and nothing is left of it, however it ends.

House rule: everything that a demo starts inherits a TMPDIR of the test's own, by which it is found again.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.lab import processes
from agent.lab.addresses import Block, claim_block
from agent.lab.network import table_name
from agent.lab.spec import LabError
from tests.lab.harness import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = (
    "an emulated AWS is up",
    "three agents are running",
    "one cluster of three voters",
    "EC2 terminates",
    "its member is removed: EC2 said terminated",
    "is added as a learner",
    "is in sync and promoted: three voters again",
    "scaled to five",
    "4 voters",
    "5 voters",
    "writes were acknowledged meanwhile, 0 of them are missing",
    "no quorum is left, and none can come back",
    "agents call it a loss after 5 s without a leader here, and after 30 s by default",
    "the group launched 3 others",
    "proven lost",
    "is a verified snapshot in the bucket",
    "generation 2 is written down: 5 founders restore it",
    "the first write is acknowledged again",
    "generation 2 has five voters",
    "of those that",
    ", 0 are missing",
    "no process and no file is left",
)


@dataclass
class Demo:
    """A demo under way, and what it has said so far."""

    process: subprocess.Popen[str]
    folder: Path
    lines: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._readers = [
            threading.Thread(target=_keep, args=(stream, lines), daemon=True)
            for stream, lines in ((self.process.stdout, self.lines), (self.process.stderr, self.complaints))
        ]
        for reader in self._readers:
            reader.start()

    def has_told(self, chapter: str) -> bool:
        return any(chapter in line for line in self.lines)

    def wait_told(self, chapter: str) -> None:
        wait_until(lambda: self.has_told(chapter) or self.process.poll() is not None, 90, chapter)
        assert self.process.poll() is None, "".join(self.lines + self.complaints)

    def end(self, timeout_s: float) -> int:
        """Its exit code; everything it said is then in `lines` and `complaints`."""
        code = self.process.wait(timeout_s)
        for reader, stream in zip(self._readers, (self.process.stdout, self.process.stderr), strict=True):
            reader.join(10)
            assert stream is not None
            stream.close()
        return code

    @property
    def blocks(self) -> set[Block]:
        """Of the labs whose address it told."""
        return {Block(int(x)) for line in self.lines for x in re.findall(r"http://127\.(\d+)\.0\.1:", line)}


def _keep(stream: object, lines: list[str]) -> None:
    assert isinstance(stream, Iterator)
    lines.extend(iter(stream.readline, ""))  # type: ignore[attr-defined]


@pytest.fixture
def start_demo(tmp_path: Path, etcd_binary: str) -> Iterator[Callable[[], Demo]]:
    """`make demo`'s command with a temporary folder of its own; whatever a failed test left is ended."""
    folder = tmp_path / "temporary"
    folder.mkdir()

    def start() -> Demo:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs tests in the background ignores it
        process = subprocess.Popen(
            [sys.executable, "-m", "agent.cli", "lab", "demo", "--etcd", etcd_binary],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(folder), "HOME": str(folder / "home")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        signal.signal(signal.SIGINT, before)
        demos.append(Demo(process, folder))
        return demos[-1]

    demos: list[Demo] = []
    yield start
    for demo in demos:
        demo.process.kill()
        demo.end(10)
    for pid in born_in(folder):
        processes.send(pid, signal.SIGKILL)


def born_in(folder: Path) -> list[int]:
    """Every process with this folder in its environment, which is every one that a demo started."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal() and _names(entry, folder)]


def _names(process: Path, folder: Path) -> bool:
    try:
        return str(folder).encode() in (process / "environ").read_bytes()
    except OSError:
        return False


def tables() -> str:
    """The firewall's tables, where this computer has one that we may look at."""
    if os.geteuid() != 0 or shutil.which("nft") is None:
        return ""
    return subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False).stdout


def assert_nothing_left(demo: Demo) -> None:
    wait_until(lambda: not born_in(demo.folder), 20, "no process is left")
    wait_until(lambda: not list(demo.folder.rglob("*")), 20, "no file is left")
    for block in demo.blocks:
        assert is_clean_or_taken(block), "a firewall table is left"


def is_clean_or_taken(block: Block) -> bool:
    """Whether there is no firewall table of this block, or another lab has the block by now."""
    try:
        _, held = claim_block([block.x])
    except LabError:
        return True
    with held:
        return f" {table_name(block)}\n" not in tables()


def test_make_demo_runs_the_command_that_is_tested_here() -> None:
    if shutil.which("make") is None:
        pytest.skip("no make")
    said = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert ".venv/bin/etcd-asg-agent lab demo" in said.splitlines()


def test_the_demo_tells_the_whole_story_and_leaves_nothing_behind(start_demo: Callable[[], Demo]) -> None:
    demo = start_demo()
    code = demo.end(150)
    told = "".join(demo.lines)
    assert code == 0, told + "".join(demo.complaints)
    places = [told.find(chapter) for chapter in CHAPTERS]
    assert -1 not in places, f"not told: {CHAPTERS[places.index(-1)]}\n{told}"
    assert places == sorted(places), told
    times = [float(line.split()[0]) for line in demo.lines]
    assert times == sorted(times)
    assert sum(bool(re.match(r"\s*[\d.]+ s\s+\+\d+\.\d\d s  ", line)) for line in demo.lines) >= 6, "measured times"
    assert demo.complaints == []
    assert_nothing_left(demo)


@pytest.mark.parametrize(
    "chapter",
    [
        pytest.param("", id="start"),
        pytest.param(CHAPTERS[0], id="up"),
        pytest.param(CHAPTERS[2], id="formed", marks=pytest.mark.long),
        pytest.param(CHAPTERS[3], id="replacing"),
    ],
)
def test_ctrl_c_ends_the_demo_and_leaves_nothing_behind(chapter: str, start_demo: Callable[[], Demo]) -> None:
    demo = start_demo()
    if chapter:
        demo.wait_told(chapter)
    else:
        wait_until(lambda: list(demo.folder.iterdir()), 30, "the demo's folder")
        time.sleep(0.3)
    os.killpg(demo.process.pid, signal.SIGINT)  # a terminal tells the whole group
    assert demo.end(60) == 130
    assert "Traceback" not in "".join(demo.lines + demo.complaints)
    assert_nothing_left(demo)


@pytest.mark.parametrize(
    "chapter", [pytest.param(CHAPTERS[0], id="up", marks=pytest.mark.long), pytest.param(CHAPTERS[2], id="formed")]
)
def test_a_killed_demo_leaves_nothing_behind(chapter: str, start_demo: Callable[[], Demo]) -> None:
    demo = start_demo()
    demo.wait_told(chapter)
    demo.process.kill()
    demo.end(10)
    assert_nothing_left(demo)


def test_sigterm_ends_the_demo_and_leaves_nothing_behind(start_demo: Callable[[], Demo]) -> None:
    demo = start_demo()
    demo.wait_told(CHAPTERS[0])
    demo.process.terminate()
    demo.end(60)
    assert "Traceback" not in "".join(demo.lines + demo.complaints)
    assert_nothing_left(demo)


def test_a_demo_without_etcd_says_so_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent.cli", "lab", "demo", "--etcd", str(tmp_path / "no-etcd")],
        capture_output=True, text=True, check=False, env=os.environ | {"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "no-etcd" in done.stderr
    assert list(tmp_path.iterdir()) == []
