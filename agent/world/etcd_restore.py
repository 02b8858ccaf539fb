"""A data directory out of a snapshot, by etcd's own tool; and a copy of one, for a rescue.

House rules. Nothing is ever written over: the target must not be there. The tool's own check of the digest is
skipped, because whoever calls has verified it, and a file without etcd's trailer is as good. Every founder of a
generation runs the same tool on the same bytes with the same arguments, and so has the same data.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

from agent.model.faults import Refused, Unavailable
from agent.model.ids import PeerUrl
from agent.model.known import Ignorance
from agent.world import durable
from agent.world.attached import attached
from agent.world.scratch_etcd import inherited, patience

TOOLS: Final = ("etcdutl", "etcdctl")
"""In this order: from 3.5 on etcdutl restores, and since 3.6 only it does; 3.4 has but the other."""

HELP_TIMEOUT: Final = timedelta(seconds=10)
FICLONE: Final = 0x40049409  # linux/fs.h
CHUNK_BYTES: Final = 64 << 20
ROOM_TO_RUN_BYTES: Final = 256 << 20
"""What an etcd on the copy takes besides: two segments of its log in reserve, and the database's growth."""


# ---- restore --------------------------------------------------------------------------------------------------------


def restore_tool(binary: str | Path) -> Path:
    """The tool beside the configured etcd, where links lead to it, or on PATH. Refused where there is none."""
    etcd = shutil.which(binary)
    folders = [] if etcd is None else [Path(etcd).parent, Path(etcd).resolve().parent]
    for tool in TOOLS:
        for found in (*(shutil.which(folder / tool) for folder in folders), shutil.which(tool)):
            if found is not None:
                return Path(found)
    raise Refused(f"there is no {' or '.join(TOOLS)} beside {binary} or on PATH: install it", Ignorance.OURS)


def can_bump_revisions(tool: Path) -> bool:
    """Whether it has `--bump-revision` (etcd 3.5.10 and later), by its own help."""
    doing = f"{tool} snapshot restore --help"
    with durable.refusing(doing):
        try:
            done = subprocess.run(
                [tool, "snapshot", "restore", "--help"],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=HELP_TIMEOUT.total_seconds(),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(Ignorance.TIMEOUT, f"{doing} did not end in time") from error
    return b"--bump-revision" in done.stdout + done.stderr


def restore(
    tool: Path,
    snapshot: Path,
    into: Path,
    *,
    name: str,
    peer_url: PeerUrl,
    token: str,
    initial_cluster: Sequence[tuple[str, PeerUrl]],
    bump_revision: int = 0,
) -> None:
    """Make `into`, a data directory of a new cluster of these members, with the snapshot's keys.

    `bump_revision` > 0: revisions go on so many higher, and all before are compacted, so that a client that watches
    is told to look anew instead of waiting in silence. Refused: the tool failed, with its last line. Unavailable:
    it did not end in time, which the snapshot's size decides. What it left then is removed.
    """
    if into.exists():
        raise Refused(f"restoring {snapshot}: {into} is there already", Ignorance.OURS)
    command = [
        *(str(tool), "snapshot", "restore", str(snapshot), f"--data-dir={into}", "--skip-hash-check"),
        *(f"--name={name}", f"--initial-advertise-peer-urls={peer_url}", f"--initial-cluster-token={token}"),
        f"--initial-cluster={','.join(f'{each}={url}' for each, url in initial_cluster)}",
        *((f"--bump-revision={bump_revision}", "--mark-compacted") if bump_revision > 0 else ()),
    ]
    try:
        _run(command, patience(snapshot))
    except (Refused, Unavailable):
        shutil.rmtree(into, ignore_errors=True)
        raise


def _run(command: list[str], timeout: timedelta) -> None:
    doing = f"{Path(command[0]).name} snapshot restore"
    with durable.refusing(doing):
        try:
            done = subprocess.run(
                attached(command),
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout.total_seconds(),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            said = f"{doing} did not end within {timeout.total_seconds():.0f} s"
            raise Unavailable(Ignorance.TIMEOUT, said) from error
    if done.returncode != 0:
        said = _last_line(done.stdout)
        why = Ignorance.OURS if "no space left" in said else Ignorance.FAILED
        raise Refused(f"{doing} failed ({done.returncode}): {said}", why)


def _environment() -> dict[str, str]:
    return inherited() | {"ETCDCTL_API": "3"}


def _last_line(output: bytes) -> str:
    lines = [line for line in output.decode(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("Error:", "panic:"))]
    return " ".join((telling or lines or ["it said nothing"])[-1].split())[:300]


# ---- copy -----------------------------------------------------------------------------------------------------------


def copy_data_dir(source: Path, into: Path) -> None:
    """Copy the member's files of a *stopped* etcd. Never links: what runs on the copy writes into it.

    Where the filesystem can, the copy shares the blocks until then. Refused where there is no room for it, or
    something fails; what was copied until then is removed. Not durable: it is scratch.
    """
    if into.exists():
        raise Refused(f"copying {source}: {into} is there already", Ignorance.OURS)
    with durable.refusing(f"copying {source} to {into}"):
        files = [path for path in sorted((source / "member").rglob("*")) if path.is_file() and _is_needed(path)]
        _check_room(into.parent, sum(path.stat().st_size for path in files))
        try:
            for path in files:
                target = into / path.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                _copy(path, target)
            into.chmod(0o700)
        except OSError:
            shutil.rmtree(into, ignore_errors=True)
            raise


def _is_needed(path: Path) -> bool:
    """Neither the log's space in reserve nor a database that was being received."""
    return path.suffix != ".tmp" and not path.name.startswith("tmp") and not path.is_symlink()


def _check_room(folder: Path, size_bytes: int) -> None:
    free, wanted = shutil.disk_usage(folder).free, size_bytes + ROOM_TO_RUN_BYTES
    if free < wanted:
        said = f"{free / 1e6:.0f} MB are free on {folder}, and a copy that etcd can run on takes {wanted / 1e6:.0f} MB"
        raise Refused(said, Ignorance.OURS)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb", buffering=0) as old, target.open("xb", buffering=0) as new:
        with suppress(OSError):  # not every filesystem can
            fcntl.ioctl(new.fileno(), FICLONE, old.fileno())
            return
        left = os.fstat(old.fileno()).st_size
        while left > 0:
            done = _copy_chunk(old.fileno(), new.fileno(), min(left, CHUNK_BYTES))
            if done == 0:
                raise OSError(0, f"{source} became shorter: does etcd run on it?")
            left -= done


def _copy_chunk(old: int, new: int, count: int) -> int:
    """Within the kernel where it can, between the files' own positions."""
    try:
        return os.copy_file_range(old, new, count)
    except OSError:
        return os.sendfile(new, old, None, count)
