"""The door to the instance itself: its disk, its etcd binary and its etcd process."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from agent.model.actions import Launch
from agent.model.disk import Disk, EtcdProcess, EtcdRunning, Identity, Obstacle
from agent.model.faults import Refused, Unavailable
from agent.model.ids import Nonce
from agent.model.known import Ignorance
from agent.model.members import Damaged, Survey
from agent.world import durable, etcd_bolt
from agent.world.disk import DataRoot
from agent.world.etcd_damage import Damage
from agent.world.etcd_launch import EtcdSettings, etcd_environment
from agent.world.etcd_restore import can_bump_revisions, restore_tool
from agent.world.etcd_survey import SegmentMemory, survey
from agent.world.obstacles import obstacle
from agent.world.supervisor import Supervisor

VERSION = re.compile(r"^etcd Version: (\S+)", re.MULTILINE)
VERSION_TIMEOUT = timedelta(seconds=10)


class InstanceHost:
    """`agent.world.doors.Host` on a real disk, with etcd under a supervisor."""

    def __init__(
        self,
        disk: DataRoot,
        supervisor: Supervisor,
        binary: str,
        settings: EtcdSettings,
        stop_timeout: timedelta = timedelta(seconds=30),
    ) -> None:
        assert settings.data_dir == disk.data
        self._disk = disk
        self._supervisor = supervisor
        self._settings = settings
        self._stop_timeout = stop_timeout
        self._binary = binary
        self._segments = SegmentMemory()
        self._bumps: tuple[object, bool] | None = None
        self.etcd_version: Callable[[], str] = EtcdBinary(binary).version

    def disk(self) -> Disk:
        return self._disk.read()

    def stamp(self, identity: Identity, prepare: bool) -> None:
        if prepare:
            self._only_while_stopped("preparing the data directory")
        self._disk.stamp(identity, prepare)

    def quarantine(self, why: str) -> None:
        self._only_while_stopped("moving data aside")
        self._disk.quarantine(why)

    def survey(self) -> Survey | Damaged:
        return survey(self._disk.data, self._segments)

    def data_version(self) -> str | None:
        path = self._disk.data / "member" / "snap" / "db"
        try:
            with durable.refusing(f"reading {path}"):
                return etcd_bolt.read(path).cluster_version if path.exists() else None
        except Damage as damage:
            raise Refused(f"{path}: {damage}", Ignorance.MALFORMED) from damage

    def obstacle(self) -> Obstacle | None:
        etcd = self._settings
        ports = (etcd.client_port, etcd.peer_port, etcd.metrics_port)
        return obstacle(self._disk.root, etcd.private_ip, ports, self.etcd_version)

    def can_bump_revisions(self) -> bool:
        """Asked of the tool once, and again when another was installed."""
        tool = restore_tool(self._binary)
        with durable.refusing(f"looking at {tool}"):
            mark = _mark_of(tool)
        if self._bumps is None or self._bumps[0] != mark:
            self._bumps = (mark, can_bump_revisions(tool))
        return self._bumps[1]

    def put_in_place(self, nonce: Nonce) -> None:
        self._only_while_stopped("putting restored data in place")
        self._disk.put_in_place(nonce)

    def _only_while_stopped(self, doing: str) -> None:
        """Rules and objections say so too; moving files under a running etcd is worth a third look."""
        state = self._supervisor.state()
        if isinstance(state, EtcdRunning):
            raise Refused(f"{doing}: etcd runs (process {state.pid})", Ignorance.FAILED)

    def process(self) -> EtcdProcess:
        return self._supervisor.state()

    def start(self, launch: Launch) -> None:
        self._supervisor.start(etcd_environment(launch, self._settings, self.etcd_version()))

    def stop(self) -> None:
        self._supervisor.stop(self._stop_timeout)


class EtcdBinary:
    """The installed etcd; asked for its version once, and again when another was installed."""

    def __init__(self, binary: str) -> None:
        self._binary = binary
        self._known: tuple[object, str] | None = None

    def version(self) -> str:
        path = shutil.which(self._binary)
        if path is None:
            said = f"there is no etcd: {self._binary!r} is not on PATH or not executable; set etcd.binary"
            raise Refused(said, Ignorance.OURS)
        with durable.refusing(f"running {path} --version"):
            mark = _mark_of(Path(path))
            if self._known is None or self._known[0] != mark:
                self._known = (mark, _version_of(path))
        return self._known[1]


def _mark_of(path: Path) -> object:
    """Differs after another was installed in its place."""
    found = path.stat()
    return (path, found.st_ino, found.st_size, found.st_mtime_ns)


def _version_of(path: str) -> str:
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_TIMEOUT.total_seconds(),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(Ignorance.TIMEOUT, f"{path} --version did not end in time") from error
    match = VERSION.search(done.stdout)
    if match is None:
        raise Unavailable(Ignorance.MALFORMED, f"{path} --version did not say a version: is it etcd?")
    return match[1]
