"""Cutting an instance off: the kernel's firewall, told which machine began each connection.

Every machine runs under a group ID of its own. A connection inside the lab's block is marked at birth with the machine
that opened it, so that a cut severs whole connections, old and new, in both directions, and leaves a machine its own
addresses (its etcd, its IMDS). Needs root and `nft`; without them `isolate` is refused, never pretended.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess

from agent.lab.addresses import Block, group_id_of
from agent.lab.spec import LabError

SKELETON = """
table ip {table} {{
  map machines {{ type gid : mark; }}
  chain birth {{
    type filter hook output priority mangle; policy accept;
    ip daddr {cidr} ct state new ct mark set meta skgid map @machines
  }}
  chain severed {{
    type filter hook output priority filter; policy accept;
  }}
}}
"""
CUT = """
add rule ip {table} severed ct mark {mark} ct original ip daddr {cidr} ct original ip daddr != {address} drop
add rule ip {table} severed ct original ip daddr {address} ct mark != {mark} drop
"""


class Firewall:
    """One nft table, of this lab alone."""

    def __init__(self, block: Block) -> None:
        self._block = block
        self.table = table_name(block)
        self._cut: set[str] = set()
        self.missing = _what_is_missing()
        """Why nobody can be isolated here, in words; empty if somebody can."""
        if not self.missing:
            self._set_up()

    def _set_up(self) -> None:
        remove_table(self.table)
        error = _nft(SKELETON.format(table=self.table, cidr=self._block.cidr))
        if error:
            self.missing = f"nft refused the lab's rules ({error})"

    def admit(self, address: str) -> None:
        """Know the machine at an address, before its first process starts."""
        if not self.missing:
            _nft(f"add element ip {self.table} machines {{ {group_id_of(address)} : {_mark(address)} }}")

    def forget(self, address: str) -> None:
        """The machine at an address is no more."""
        if self.missing:
            return
        self.heal(address)
        _nft(f"delete element ip {self.table} machines {{ {group_id_of(address)} : {_mark(address)} }}")

    def isolate(self, address: str) -> None:
        """Cut the machine off from everybody else in the lab, AWS included. Raises LabError if that cannot be done."""
        if self.missing:
            raise LabError(f"cannot isolate: {self.missing}; `freeze` stops a machine without cutting its network")
        self._cut.add(address)
        self._write_cuts()

    def heal(self, address: str) -> None:
        """Let it talk again; harmless if it could."""
        if address in self._cut:
            self._cut.discard(address)
            self._write_cuts()

    def is_cut(self, address: str) -> bool:
        """Whether a machine is cut off now."""
        return address in self._cut

    def _write_cuts(self) -> None:
        rules = "".join(
            CUT.format(table=self.table, cidr=self._block.cidr, address=address, mark=_mark(address))
            for address in sorted(self._cut)
        )
        error = _nft(f"flush chain ip {self.table} severed\n{rules}")
        if error:
            raise LabError(f"nft refused the cut: {error}")

    def close(self) -> None:
        """Leave no rule behind."""
        if not self.missing:
            remove_table(self.table)


def table_name(block: Block) -> str:
    """The table of the lab on a block."""
    return f"etcd_asg_lab_{block.x}"


def remove_table(table: str) -> None:
    """Delete a table if it is there."""
    _nft(f"add table ip {table}\ndelete table ip {table}")


def _mark(address: str) -> int:
    return int(ipaddress.ip_address(address))


def _what_is_missing() -> str:
    if os.geteuid() != 0:
        return "it takes root (an nft rule per machine)"
    if shutil.which("nft") is None:
        return "the command nft (package nftables) is not installed"
    return ""


def _nft(script: str) -> str:
    """Apply a script as one transaction; returns the first line of what nft complains about, or nothing."""
    try:
        done = subprocess.run(["nft", "-f", "-"], input=script, text=True, capture_output=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.strip().splitlines()[0] if done.returncode else ""
