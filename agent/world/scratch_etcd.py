"""An etcd of our own, alone on loopback, on a scratch data directory: for rescues and drills.

House rules. Never on a member's data: that is copied or restored first. On free ports that no client and no peer
knows, with an environment that says nothing of the agent's. It ends with the `with` block, and with the agent.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import perf_counter

from agent.model.faults import Refused, Unavailable
from agent.model.ids import ClientUrl
from agent.model.known import Ignorance
from agent.world import durable
from agent.world.attached import attached
from agent.world.etcd import Deadlines, EtcdDoor
from agent.world.etcd_launch import variable
from agent.world.supervisor_process import INHERITED

LOOPBACK = "127.0.0.1"
UNLIMITED_BYTES = 8 << 30
"""What etcd allows at most without a warning; a copy may be at its member's quota, and must not raise an alarm."""

AFTER_SIGTERM = timedelta(seconds=30)
AFTER_SIGKILL = timedelta(seconds=10)
LOOK_EVERY_SECONDS = 0.05
LINES_OF_LOG_BYTES = 64 * 1024
ASKING = Deadlines(status=timedelta(seconds=1), read=timedelta(seconds=1), change=timedelta(seconds=1))
KNOWS_US_NOT = ("user name is empty", "permission denied")
"""etcd's authentication is on. It answers so only after it has read linearizably, so it serves."""


@contextmanager
def scratch_etcd(
    binary: str | Path,
    data_dir: Path,
    name: str,
    *,
    force_new_cluster: bool,
    deadline: timedelta | None = None,
    extra: tuple[tuple[str, str], ...] = (),
) -> Iterator[ClientUrl]:
    """The URL of an etcd that serves linearizable reads; ended with SIGTERM, so that its files are whole after it.

    `extra` are flags without dashes in front, and their values. Refused: etcd ended by itself, with the last telling
    line of its log. Unavailable: it did not serve within the deadline, by default one that its data's size decides.
    Its log lies beside the data directory. Must be left by the thread that entered it (see `attached`).
    """
    found = found_on_path(binary)
    deadline = deadline or patience(data_dir)
    ports = _free_ports(3)
    log = data_dir.with_name(f"{data_dir.name}.log")
    more = {variable(flag): value for flag, value in extra}
    environment = _environment(data_dir, name, ports, force_new_cluster) | more
    with durable.refusing(f"starting {found} on {data_dir}"), log.open("wb") as output:
        process = subprocess.Popen(
            attached([found]),
            env=inherited() | environment,
            cwd=data_dir.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    endpoint = ClientUrl(f"http://{LOOPBACK}:{ports[0]}")
    try:
        _wait_until_it_serves(process, endpoint, log, deadline)
        yield endpoint
    finally:
        _end(process)


def found_on_path(binary: str | Path) -> str:
    found = shutil.which(binary)
    if found is None:
        raise Refused(f"there is no {binary}: it is not on PATH or not executable", Ignorance.OURS)
    return found


def inherited() -> dict[str, str]:
    """What a command gets of our own environment: none of our AWS credentials, above all, and no `ETCD_…`."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


def patience(data: Path) -> timedelta:
    """How long a start or a copy of so many bytes may take: a minute, and one for each GB (measured: 14 s, idle)."""
    with durable.refusing(f"reading {data}"):
        files = [data] if data.is_file() else [path for path in data.rglob("*") if path.is_file()]
        size_bytes = sum(path.stat().st_size for path in files)
    return timedelta(seconds=60 + 60 * size_bytes / 1e9)


def _free_ports(count: int) -> list[int]:
    """Free now, and chosen by the kernel, which takes its time before it gives one of them to somebody else."""
    probes = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    try:
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _environment(data_dir: Path, name: str, ports: list[int], force: bool) -> dict[str, str]:
    """Loopback in every place, and nothing that changes data by itself: no compaction, no quota, no alarm."""
    client, peer, metrics = (f"http://{LOOPBACK}:{port}" for port in ports)
    return {
        "ETCD_NAME": name,
        "ETCD_DATA_DIR": str(data_dir),
        "ETCD_LISTEN_CLIENT_URLS": client,
        "ETCD_ADVERTISE_CLIENT_URLS": client,
        "ETCD_LISTEN_PEER_URLS": peer,
        "ETCD_INITIAL_ADVERTISE_PEER_URLS": peer,
        "ETCD_INITIAL_CLUSTER": f"{name}={peer}",
        "ETCD_LISTEN_METRICS_URLS": metrics,
        "ETCD_QUOTA_BACKEND_BYTES": str(UNLIMITED_BYTES),
        **({"ETCD_FORCE_NEW_CLUSTER": "true"} if force else {}),
        "ETCD_LOGGER": "zap",  # 3.4 has another; later ones know no other
    }


def _wait_until_it_serves(
    process: subprocess.Popen[bytes], endpoint: ClientUrl, log: Path, deadline: timedelta
) -> None:
    end = perf_counter() + deadline.total_seconds()
    door = EtcdDoor(deadlines=ASKING)
    try:
        while not _serves(door, endpoint):
            if _ended(process, LOOK_EVERY_SECONDS):
                raise Refused(f"etcd ended ({process.returncode}): {last_words(log)}", Ignorance.FAILED)
            if perf_counter() > end:
                said = f"etcd on {log.stem} did not serve within {deadline.total_seconds():.0f} s: {last_words(log)}"
                raise Unavailable(Ignorance.TIMEOUT, said)
    finally:
        door.close()


def _serves(door: EtcdDoor, endpoint: ClientUrl) -> bool:
    try:
        door.membership(endpoint)
    except (Unavailable, Refused) as trouble:
        return any(text in str(trouble) for text in KNOWS_US_NOT)
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """Popen waits for nobody but its own child, so a process ID that came to mean another is never signalled."""
    process.terminate()
    if not _ended(process, AFTER_SIGTERM.total_seconds()):
        process.kill()
        _ended(process, AFTER_SIGKILL.total_seconds())


def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def last_words(log: Path) -> str:
    """The last line that tells of a failure, or else the last line; in one line, without stack and time."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LINES_OF_LOG_BYTES))
            lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError as error:
        return durable.explained(error)
    telling = [line for line in lines if _is_telling(line)]
    return _in_words((telling or lines or ["it said nothing"])[-1])


def _is_telling(line: str) -> bool:
    return line.startswith(("panic:", "Error:")) or '"level":"fatal"' in line or '"level":"panic"' in line


def _in_words(line: str) -> str:
    try:
        said = json.loads(line)
        text = ": ".join(str(said[key]) for key in ("msg", "error") if said.get(key))
    except (ValueError, AttributeError, TypeError):
        text = line
    return " ".join(text.split())[:300]
