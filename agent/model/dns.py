"""The names under which clients find the cluster: record sets as DNS and Route 53 know them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from agent.model.ids import ClientUrl


class RecordType(StrEnum):
    """Those that are kept."""

    A = "A"
    SRV = "SRV"


@dataclass(frozen=True, slots=True)
class RecordSet:
    """All values of one name and type. Names are in lower case, and end in a dot."""

    name: str
    type: RecordType
    ttl_seconds: int
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class DnsNames:
    """What the operator wants published, and with which time to live."""

    name: str  # with its dot at the end
    ttl: timedelta
    service: str = "_etcd-client._tcp"  # as etcd's --discovery-srv asks; `_etcd-client-ssl._tcp` with TLS

    @property
    def watched(self) -> tuple[tuple[str, RecordType], ...]:
        """What is compared with what is wanted."""
        return (self.name, RecordType.A), (f"{self.service}.{self.name}", RecordType.SRV)

    def of(self, endpoints: frozenset[tuple[str, int]]) -> frozenset[RecordSet]:
        """For these addresses and ports: all of them under one name, one name for each, and how to find these.

        A name like `ip-10-0-1-5.NAME` says nothing but where that address is. So it is true for ever, whoever has the
        address, and never needs to be taken away; who serves is said by the two others alone.
        """
        seconds = int(self.ttl.total_seconds())
        (all_of_them, a), (service, srv) = self.watched
        hosts = {address: f"ip-{address.replace('.', '-')}.{self.name}" for address, _ in endpoints}
        found = {RecordSet(host, a, seconds, frozenset({address})) for address, host in hosts.items()}
        found.add(RecordSet(all_of_them, a, seconds, frozenset(hosts)))
        targets = frozenset(f"0 0 {port} {hosts[address]}" for address, port in endpoints)
        return frozenset(found | {RecordSet(service, srv, seconds, targets)})


def endpoint_of(url: ClientUrl) -> tuple[str, int] | None:
    """The IPv4 address and port of a client URL; None for what an A record cannot hold."""
    host, _, port = url.rpartition("//")[2].rstrip("/").rpartition(":")
    octets = host.split(".")
    known = len(octets) == 4 and all(each.isdecimal() and int(each) < 256 for each in octets)
    return (host, int(port)) if known and port.isdecimal() else None
