"""Bad links between the machines of a lab: one direction cut, packets lost, everything late.

This kernel has no netem, and on loopback every packet comes from 127.0.0.1. So the firewall's marks tell whose packet
it is (the lab marks every connection with the machine that opened it, see `agent.lab.network`): what A sends to B goes
forth in A's connections to B and back in B's connections to A. Delay is a relay into which new connections of peers are
led (`tests.chaos.relay`). Clients are no machines and are never met: what a cut-off member says to them is heard.

House rules: an nft table of its own for each block, gone at the end of the block; root and nft, or LabError.
"""

from __future__ import annotations

import ipaddress
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count, permutations

from agent.lab.client import Instance, Lab
from agent.lab.members import CLIENT_PORT
from agent.lab.spec import LabError

PEER_PORT = CLIENT_PORT + 1
RELAY_PORT = 7000

TABLE = """
add table ip {table}
delete table ip {table}
table ip {table} {{
  chain redirected {{ type nat hook output priority -100; policy accept; }}
  chain severed {{ type filter hook output priority 1; policy accept; }}
}}
{rules}
"""


@contextmanager
def one_way(lab: Lab, pairs: Iterable[tuple[Instance, Instance]]) -> Iterator[None]:
    """Nothing that the first of a pair sends arrives at the second; the other direction is as before."""
    with _rules(lab, [rule for sender, receiver in pairs for rule in _dropping(sender, receiver, "")]):
        yield


@contextmanager
def lossy(lab: Lab, percent: int) -> Iterator[None]:
    """So many of a hundred packets between machines are lost."""
    chance = f"numgen random mod 100 < {percent} "
    pairs = permutations(lab.instances(), 2)
    with _rules(lab, [rule for sender, receiver in pairs for rule in _dropping(sender, receiver, chance)]):
        yield


@contextmanager
def slow(lab: Lab, one_way_ms: int) -> Iterator[None]:
    """Everything between peers is late by so much in each direction; their old connections are reset."""
    address = f"{_block(lab)}.0.3"
    relay = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.relay", address, str(RELAY_PORT), str(one_way_ms)], stdout=subprocess.PIPE
    )
    try:
        assert relay.stdout is not None
        assert relay.stdout.readline(), "the relay did not come up"
        peers = f"ip daddr {_block(lab)}.0.0/16 tcp dport {PEER_PORT} ct mark != 0"
        rules = [
            f"redirected {peers} counter dnat to {address}:{RELAY_PORT}",
            f"severed {peers} ct state established reject with tcp reset",
        ]
        with _rules(lab, rules):
            yield
    finally:
        relay.terminate()
        relay.communicate()


def _dropping(sender: Instance, receiver: Instance, when: str) -> list[str]:
    here, there = _mark(sender), _mark(receiver)
    return [
        f"severed ct mark {here} ct original ip daddr {receiver.address} ct direction original {when}counter drop",
        f"severed ct mark {there} ct original ip daddr {sender.address} ct direction reply {when}counter drop",
    ]


def _mark(instance: Instance) -> int:
    """As the lab's own firewall marks the connections of this machine."""
    return int(ipaddress.ip_address(instance.address))


def _block(lab: Lab) -> str:
    """The first half of every address in this lab."""
    return ".".join(lab.endpoint.removeprefix("http://").split(".")[:2])


_TABLES = count(1)


@contextmanager
def _rules(lab: Lab, rules: Iterable[str]) -> Iterator[None]:
    table = f"etcd_asg_chaos_{_block(lab).partition('.')[2]}_{next(_TABLES)}"
    added = "\n".join(f"add rule ip {table} {rule}" for rule in rules)
    _nft("-f", "-", script=TABLE.format(table=table, rules=added))
    try:
        yield
        met = sum(int(packets) for packets in re.findall(r"counter packets (\d+)", _nft("list", "table", "ip", table)))
        assert met, f"the rules of {table} met no packet: nothing was broken"
    finally:
        _nft("delete", "table", "ip", table)


def _nft(*words: str, script: str = "") -> str:
    try:
        done = subprocess.run(["nft", *words], input=script, text=True, capture_output=True, check=False, timeout=10)
    except OSError as error:
        raise LabError(f"bad links take root and nft: {error}") from None
    if done.returncode:
        raise LabError(f"nft refused the rules of bad links (root?): {done.stderr.strip()[:300]}")
    return done.stdout
