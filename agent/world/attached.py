"""Runs a command that does not outlive the agent: what it works on is of no use to anybody else.

Also a script, which becomes that command: it asks the kernel for SIGKILL at its parent's end (PR_SET_PDEATHSIG), and
looks whether the parent ended before it could ask. A script, because code between fork and exec in a process of many
threads may hang, and because `setpriv` and its options are not on every machine.

The kernel means the *thread* that started the command: whoever starts one has to stay until it ended. The command has
that thread's priority, too.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def attached(command: Sequence[str]) -> list[str]:
    """The command line that runs this one for as long as this process and thread live."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def become(parent: int, command: list[str]) -> None:
    """Does not return."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the agent ended")
    os.execvp(command[0], command)  # noqa: S606 - from arguments of our own, without a shell


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
