"""Reads who listens where, out of /proc (proc(5)): it dials nobody but the agent's own page."""

from __future__ import annotations

import pwd
import re
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import urllib3

from agent.doctor.judging.ports import Holder
from agent.model.faults import Refused, Unavailable
from agent.model.known import Ignorance
from agent.world import durable

PROC = Path("/proc")
LISTEN = "0A"
ANY = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
SOCKET = re.compile(r"socket:\[(\d+)\]")
FILES = re.compile(r"^Max open files\s+(\d+|unlimited)", re.MULTILINE)
TIMEOUT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Listening:
    """One line of /proc/net/tcp or tcp6."""

    address: str
    port: int
    user_id: int
    inode: str


def holders(addresses: frozenset[str], ports: frozenset[int]) -> Mapping[int, tuple[Holder, ...]]:
    """Who listens on these ports at one of these addresses, or at every address."""
    found = list[Listening]()
    for name in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):  # a kernel without IPv6
            found += listening((PROC / "net" / name).read_text())
    there = [each for each in found if each.port in ports and each.address in {*addresses, *ANY}]
    owners = _owners(frozenset(each.inode for each in there))
    return {port: tuple(_holder(each, owners) for each in there if each.port == port) for port in ports}


def listening(text: str) -> Iterator[Listening]:
    """`text` is the kernel's table: addresses are in hex, in the processor's own order of bytes, 32 bits at a time."""
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == LISTEN:
            address, _, port = fields[1].partition(":")
            yield Listening(_address(address), int(port, 16), int(fields[7]), fields[9])


def _address(text: str) -> str:
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    found = socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed)
    return found.removeprefix("::ffff:")


def _owners(inodes: frozenset[str]) -> Mapping[str, int]:
    """The processes behind these sockets, as far as we may look."""
    found: dict[str, int] = {}
    for process in PROC.iterdir():
        if not process.name.isdecimal():
            continue
        with suppress(OSError):  # another user's, or it ended
            for descriptor in (process / "fd").iterdir():
                with suppress(OSError):
                    match = SOCKET.fullmatch(str(descriptor.readlink()))
                    if match is not None and match[1] in inodes:
                        found.setdefault(match[1], int(process.name))
    return found


def _holder(found: Listening, owners: Mapping[str, int]) -> Holder:
    pid = owners.get(found.inode)
    command = ""
    if pid is not None:
        with suppress(OSError):
            command = (PROC / str(pid) / "comm").read_text().strip()
    try:
        user = pwd.getpwuid(found.user_id).pw_name
    except KeyError:
        user = f"user {found.user_id}"
    return Holder(pid, user, command)


def instance_of_the_agent(host: str, port: int) -> str:
    """On which instance the agent behind this port says it is; empty where it does not know yet."""
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/status"
    try:
        answer = urllib3.request("GET", url, timeout=TIMEOUT_SECONDS, retries=False, redirect=False)
        found = answer.json()
        if "decision" not in found:
            raise ValueError(url)
        return str(found.get("instance") or "")
    except (urllib3.exceptions.HTTPError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise Unavailable(Ignorance.MALFORMED, f"{url} is no agent's: {type(error).__name__}") from error


def files_of(pid: int) -> int:
    """How many descriptors this process may have."""
    with durable.refusing(f"reading the limits of process {pid}"):
        match = FILES.search((PROC / str(pid) / "limits").read_text())
    if match is None:
        raise Refused(f"process {pid} says nothing of its open files", Ignorance.MALFORMED)
    return 1 << 30 if match[1] == "unlimited" else int(match[1])
