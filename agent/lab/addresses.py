"""Loopback addresses: every lab owns one 127.X.0.0/16, every zone a /24 in it, every instance one address.

House rule: owning a block is having bound its first address. The kernel arbitrates, and a dead lab's block is free.
"""

from __future__ import annotations

import ipaddress
import random
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from agent.lab.spec import CLOUD_PORT, ZONES, LabError

FAVOURITE = 77
FIRST_HOST, LAST_HOST = 11, 250
GID_BASE = 0x4000_0000
"""Machines run under a group of their own (root only), so that the firewall can tell them apart."""
PROBED_PORTS = (2379, 2380, 9379)


@dataclass(frozen=True)
class Block:
    """127.X.0.0/16, for one lab."""

    x: int

    @property
    def cidr(self) -> str:
        """The whole block: the emulated VPC."""
        return f"127.{self.x}.0.0/16"

    @property
    def cloud(self) -> str:
        """The address of the emulated AWS."""
        return f"127.{self.x}.0.1"

    def subnet(self, zone: str) -> str:
        """The /24 of one availability zone."""
        return f"127.{self.x}.{ZONES.index(zone) + 1}.0/24"

    def holds(self, address: str | None) -> bool:
        """Whether an address is one of ours; instances elsewhere get no machine."""
        return address is not None and ipaddress.ip_address(address) in ipaddress.ip_network(self.cidr)


def claim_block(candidates: Iterable[int] | None = None) -> tuple[Block, socket.socket]:
    """A free block and the listening socket that makes it ours. Raises LabError if every block is taken."""
    for x in candidates or (FAVOURITE, *random.sample(range(1, 255), 254)):
        block = Block(x)
        listener = _listen(block.cloud, CLOUD_PORT)
        if listener is not None:
            return block, listener
    raise LabError("no free loopback block: every 127.X.0.1 has a lab on it")


def _listen(address: str, port: int) -> socket.socket | None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        listener.listen(128)
    except OSError:
        listener.close()
        return None
    return listener


def free_address(subnet: str, used: frozenset[str], after: int) -> str:
    """The next address of a subnet that nobody has had since `after` wrapped; raises LabError if none is left."""
    base = subnet.rsplit(".", 1)[0]
    span = LAST_HOST - FIRST_HOST + 1
    for step in range(1, span + 1):
        host = FIRST_HOST + (after - FIRST_HOST + step) % span
        address = f"{base}.{host}"
        if address not in used and _nobody_listens(address):
            return address
    raise LabError(f"no free address in {subnet}")


def _nobody_listens(address: str) -> bool:
    """A leftover of a lab that was killed hard may still sit on an address."""
    for port in PROBED_PORTS:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True


def group_id_of(address: str) -> int:
    """The numeric group under which the machine at a loopback address runs, unique on this computer."""
    return GID_BASE + (int(ipaddress.ip_address(address)) & 0xFF_FFFF)
