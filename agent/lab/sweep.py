"""Cleaning up after a lab: its processes, its firewall table, its files.

Run as a program it is the lab's last will: it waits for the daemon's end on standard input and then ends whatever the
daemon left running, so that even SIGKILL of the daemon leaves no process behind. The files stay until `down`, unless
the spec says `leaves_nothing`; then two may remove them at once, and what one finds gone the other removed.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.lab import processes
from agent.lab.addresses import Block, claim_block
from agent.lab.network import remove_table, table_name
from agent.lab.spec import LabError

STATE, SPEC, LOG, MACHINES = "lab.json", "spec.json", "daemon.log", "machines"
OURS = (STATE, SPEC, LOG, MACHINES)


def read_state(folder: Path) -> dict[str, Any] | None:
    """What the daemon wrote about itself when it was ready, or None."""
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_text())
    except (OSError, ValueError):
        return None
    return state


def instances_of(folder: Path) -> tuple[str, ...]:
    """Every instance that ever had a machine in this lab."""
    try:
        return tuple(entry.name for entry in (folder / MACHINES).iterdir())
    except OSError:
        return ()


def end_processes(folder: Path, block: Block | None = None) -> bool:
    """Kill what the lab's machines still run, and drop its firewall table; whether everything is gone."""
    gone = processes.kill_all(instances_of(folder))
    block = block or _block_of(folder)
    if block is not None and os.geteuid() == 0 and shutil.which("nft"):
        _drop_table(block)
    return gone


def _drop_table(block: Block) -> None:
    """Only with the block in our hands: a dead lab's is free, and its successor's table has the same name."""
    try:
        _, held = claim_block([block.x])
    except LabError:
        return
    with held:
        remove_table(table_name(block))


def _block_of(folder: Path) -> Block | None:
    state = read_state(folder)
    return None if state is None else Block(state["block"])


def remove_files(folder: Path) -> None:
    """Remove what the lab made, and the folder itself if nothing else is in it."""
    for name in OURS:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    with suppress(OSError):  # not empty, or gone
        folder.rmdir()


def main() -> None:
    """Wait until nobody holds the other end of standard input, then end the lab's processes."""
    folder, block = Path(sys.argv[1]), Block(int(sys.argv[2]))
    while sys.stdin.buffer.read(1):
        pass
    end_processes(folder, block)
    if _leaves_nothing(folder):
        remove_files(folder)


def _leaves_nothing(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / SPEC).read_text())["leaves_nothing"])
    except (OSError, ValueError, KeyError):
        return False


if __name__ == "__main__":
    main()
