"""An agent's errands on a folder, against whatever S3 the environment names; also run in a process that is killed.

As a script: `python -m tests.contracts.errand_desk ROOT`, with a pickled `Doomed` on stdin.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from agent.model.ids import ClientUrl, InstanceId
from agent.model.work import Task
from agent.world.aws import Aws
from agent.world.bucket import S3Bucket
from agent.world.clock import SystemClock
from agent.world.disk import DataRoot
from agent.world.errands import Errands
from agent.world.etcd import EtcdDoor
from agent.world.snapshot_store import SnapshotStore
from agent.world.workplace import Workplace
from tests.contracts.aws_stand_in import REAL, REGION

ROOT = Path(__file__).resolve().parents[2]
NOBODY = ClientUrl("http://127.0.0.1:9")
ME = InstanceId("i-0a")


@dataclass(frozen=True)
class Where:
    """What an agent is told of itself."""

    root: Path
    cluster: str
    binary: Path
    endpoint: ClientUrl = NOBODY
    instance: InstanceId = ME


class Desk:
    """Everything that errands touch."""

    def __init__(self, where: Where) -> None:
        aws = Aws(REGION, timedelta(seconds=5), timedelta(seconds=20))
        self.where = where
        self.called: list[str] = []  # of etcd, and over
        self.etcd = EtcdDoor(on_call=lambda method, _result, _seconds: self.called.append(method))
        self.root = DataRoot(where.root, SystemClock(), "b1")
        self.bucket = S3Bucket(aws, REAL, "etcd", where.cluster, "")
        self.store = SnapshotStore(aws, REAL, "etcd", where.cluster, "")
        place = Workplace(where.cluster, where.instance, "0", where.endpoint, str(where.binary))
        self.errands = Errands(place, SystemClock(), self.bucket, self.store, self.etcd, self.root)

    @property
    def left_in_scratch(self) -> list[str]:
        return sorted(str(path.relative_to(self.root.scratch)) for path in self.root.scratch.rglob("*"))


# ---- killed in the middle -------------------------------------------------------------------------------------------


def a_child_runs(_: Path) -> bool:
    return any(path.read_text() for path in Path("/proc/self/task").glob("*/children"))


def etcd_serves(root: Path) -> bool:
    return any(b"serving" in log.read_bytes() for log in root.glob("scratch/*/data.log"))


def never(_: Path) -> bool:
    return False


@dataclass(frozen=True)
class Doomed:
    """An errand, and the moment at which its agent dies."""

    where: Where
    task: Task
    moment: Callable[[Path], bool] = never

    def start(self) -> subprocess.Popen[bytes]:
        """By itself it ends at its moment; whoever gave none kills it."""
        command = [sys.executable, "-m", "tests.contracts.errand_desk", str(self.where.root)]
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": "."}, stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(pickle.dumps(self))
        process.stdin.close()
        return process


def _die_at(moment: Callable[[Path], bool], root: Path) -> None:
    while not moment(root):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    doomed: Doomed = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the test itself
    threading.Thread(target=_die_at, args=(doomed.moment, doomed.where.root), daemon=True).start()
    Desk(doomed.where).errands.run(doomed.task, lambda _: None)
