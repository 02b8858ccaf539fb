"""journald's own socket: one event with its fields, as the "Native Journal Protocol" document of systemd has it.

House rules. An event either arrives whole or is told to have been lost; nothing waits long for a journald that is slow
or restarting. This is all of the protocol, so no library is worth its place: those that are kept bind libsystemd.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")
PATIENCE_SECONDS = 1.0
LONGEST_NAME = 64
NOT_IN_NAMES = re.compile(r"[^A-Z0-9_]")
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class Journal:
    """Where events go. Safe in several threads: each event is one datagram from a socket of its own."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = str(path)

    def send(self, fields: Mapping[str, str]) -> bool:
        """Whether journald was handed the event."""
        event = b"".join(_field(name, value) for name, value in fields.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.settimeout(PATIENCE_SECONDS)
                out.connect(self._path)
                _send(out, event)
        except OSError:
            return False
        return True


def _send(out: socket.socket, event: bytes) -> None:
    """An event that is too long for a datagram goes as a sealed file in memory."""
    try:
        out.send(event)
    except OSError as error:
        if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
            raise
        memory = os.memfd_create("event", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.write(memory, event)
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)
            socket.send_fds(out, [b""], [memory])
        finally:
            os.close(memory)


def _field(name: str, value: str) -> bytes:
    """`NAME=value`, or with its length in front where the value has more than one line."""
    said = value.encode(errors="replace")
    if b"\n" not in said:
        return b"%s=%s\n" % (name.encode(), said)
    return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(said)), said)


def field_name(name: str) -> str:
    """journald drops a field whose name has other than capitals, digits and underscores, or no capital first."""
    return NOT_IN_NAMES.sub("_", name.upper()).lstrip("_0123456789")[:LONGEST_NAME] or "FIELD"
