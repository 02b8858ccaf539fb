"""Cleaning up after a lab: its processes, its firewall table, its files.

Run as a program it is the lab's last will: it waits for the daemon's end on standard input and then ends whatever the
daemon left running, so that even SIGKILL of the daemon leaves no process behind. The files stay until `down`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from agent.lab import processes
from agent.lab.addresses import Block
from agent.lab.network import remove_table, table_name

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


def end_processes(folder: Path) -> bool:
    """Kill what the lab's machines still run, and drop its firewall table; whether everything is gone."""
    gone = processes.kill_all(instances_of(folder))
    state = read_state(folder)
    if state is not None and os.geteuid() == 0 and shutil.which("nft"):
        remove_table(table_name(Block(state["block"])))
    return gone


def remove_files(folder: Path) -> None:
    """Remove what the lab made, and the folder itself if nothing else is in it."""
    for name in OURS:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def main() -> None:
    """Wait until nobody holds the other end of standard input, then end the lab's processes."""
    folder = Path(sys.argv[1])
    while sys.stdin.buffer.read(1):
        pass
    end_processes(folder)


if __name__ == "__main__":
    main()
