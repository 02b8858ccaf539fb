"""The TLS files: do they belong together, are they this instance's, for both sides of a connection, how long. Pure.

etcd uses each pair as a server's and as a client's: peers dial one another with what they listen with, and the agent
dials etcd with the clients' pair. etcd is dialled by its address, so that the address has to be among the names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.doctor.finding import Finding, failure, ok, unknown, warning
from agent.doctor.judging.installation import Account, Entry
from agent.model.known import Ignorance, Unknown

SOON = timedelta(days=14)
SHARE_LEFT = 5
"""Short-lived ones are renewed before a fifth of their life is left."""


@dataclass(frozen=True, slots=True)
class Shaken:
    """What a handshake with itself, at this address, showed of a pair. `refused`: why it did not come about."""

    refused: str
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """One certificate with its key and authority: `settings` are the keys that name them."""

    settings: str
    shaken: Shaken | Unknown
    key: Entry | Unknown | None


def judge(mode: str, pairs: Sequence[Pair], account: Account | None, now: datetime) -> Iterator[Finding]:
    """`pairs` for clients and for peers, unless tls.mode is `off`."""
    if mode == "off":
        told = "off: members and clients talk in the clear, and whoever reaches etcd's ports may read and write"
        yield ok("tls", told)
    elif not pairs:
        said = "a certificate that ends takes this instance out of the cluster"
        yield unknown("tls", f'tls.mode is "{mode}", and no files are named', said, "look at the agent's metrics")
    if mode == "ca" and not pairs:
        yield ok("tls", "ca: none were issued yet; the agent has them issued before it starts etcd")
    for each in pairs:
        yield from _pair(each, now)
        yield from _key(each, account)


def _pair(pair: Pair, now: datetime) -> Iterator[Finding]:
    check, shaken = "tls", pair.shaken
    if isinstance(shaken, Unknown) and shaken.why is Ignorance.DENIED:
        said = "they may have ended, or be another instance's"
        yield unknown(check, f"{pair.settings}: {shaken.detail}", said, "run the doctor as root")
    elif isinstance(shaken, Unknown):
        said = "etcd does not start without them"
        yield failure(check, f"{pair.settings}: {shaken.detail}", said, "put PEM files there that etcd's user may read")
    elif shaken.refused:
        said = "members or clients refuse this instance"
        fix = (
            "issue one by the authority named beside it, for server and client use (extendedKeyUsage), with this "
            "instance's private address as a subjectAltName"
        )
        yield failure(check, f"{pair.settings}: {shaken.refused}", said, fix)
    elif shaken.valid_until is None or shaken.valid_from is None:
        yield unknown(check, f"{pair.settings} do not say until when", "they may end soon", "openssl x509 -enddate")
    else:
        left, life = shaken.valid_until - now, shaken.valid_until - shaken.valid_from
        told = f"{pair.settings}: for {', '.join(shaken.names)} until {shaken.valid_until:%Y-%m-%dT%H:%MZ}"
        if left < min(SOON, life / SHARE_LEFT):
            said = "from then on members and clients refuse this instance; with all at once the cluster is down"
            yield warning(
                check, told, said, "put renewed files in their place: etcd and the agent take them up by themselves"
            )
        else:
            yield ok(check, told)


def _key(pair: Pair, account: Account | None) -> Iterator[Finding]:
    check, key = "tls-key", pair.key
    if key is None or isinstance(key, Unknown):
        return  # said above
    if key.mode & 0o007:
        yield warning(check, f"{key} can be read by anybody", "whoever has it is this member", f"chmod o= {key.path}")
    elif account is not None and key.owner_id != account.user_id and not key.mode & 0o070:
        said = f"agent and etcd run as {account.name} and may not read it"
        yield failure(check, str(key), said, f"chown {account.name} {key.path}")
    else:
        yield ok(check, str(key))
