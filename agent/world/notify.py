"""What systemd is told of this process (sd_notify(3)): one datagram an event, and silence where nobody listens.

House rules. Nothing here raises: whether systemd hears is no condition for looking after etcd. Progress is told by
whoever made it, never by a timer, or the watchdog would watch a timer.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta

PATIENCE_SECONDS = 1.0
"""systemd reads at once; where it does not, the next event says the same."""

LONGEST_STATUS = 300


class Notifier:
    """The socket of NOTIFY_SOCKET. A leading @ means the abstract namespace."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog = _watchdog(environment)
        """Without progress for so long systemd ends this process; None: it never does."""

    def ready(self, status: str) -> None:
        """Started, and from now on there must be progress."""
        self._send("READY=1", _status(status))

    def progress(self, status: str) -> None:
        self._send("WATCHDOG=1", _status(status))

    def stopping(self) -> None:
        self._send("STOPPING=1", _status("stopping; etcd is left as it is"))

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.settimeout(PATIENCE_SECONDS)
            out.sendto("\n".join(lines).encode(errors="replace"), self._address)


def _status(text: str) -> str:
    """One line: a second one would be another variable."""
    words = " ".join(text.split())
    return f"STATUS={words if len(words) <= LONGEST_STATUS else words[: LONGEST_STATUS - 1] + '…'}"


def _watchdog(environment: Mapping[str, str]) -> timedelta | None:
    """sd_watchdog_enabled(3): only where it is meant for this very process."""
    microseconds, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or pid not in ("", str(os.getpid())):
        return None
    return timedelta(microseconds=int(microseconds))
