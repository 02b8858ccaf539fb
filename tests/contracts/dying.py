"""Run a piece of the agent in a process of its own that is killed right before its Nth effect, for every N.

The effects are what Python's audit events tell of: files opened, renamed and made, locks taken, processes started.
So no step of the code is named here, and a step that is added later is tested, too.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

EVENTS = "('open', 'os.rename', 'os.mkdir', 'os.chmod', 'os.chown', 'os.remove', 'os.truncate', 'fcntl.flock', 'subprocess.Popen')"  # noqa: E501

PRELUDE = """
import os, signal, sys
left, root = int(sys.argv[1]), sys.argv[2]
below = root

def before(event, arguments):
    global left
    if event not in EVENTS or (event == "open" and not str(arguments[0]).startswith(below)):
        return
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def deaths(body: str, root: Path) -> Iterator[int]:
    """Runs `body`, in which `root` is a text, dying before effect 0, 1, 2 …; yields after each death, and once more
    after the run that lived to its end."""
    script = PRELUDE.replace("EVENTS", EVENTS) + body.replace("GO:", "sys.addaudithook(before)")
    for effects in itertools.count():
        done = subprocess.run(
            [sys.executable, "-c", script, str(effects), str(root)],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode in (0, -9), done.stderr
        yield effects
        if done.returncode == 0:
            return
        assert effects < 100
