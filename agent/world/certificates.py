"""This instance's certificates on its disk: made here, signed by the authority, exchanged all at once.

    DATA_ROOT/tls/current -> TIME-NONCE      the one rename that counts
    DATA_ROOT/tls/TIME-NONCE/
        peer.crt, peer.key, peers-ca.crt     between members
        server.crt, server.key               for clients; clients-ca.crt is whom etcd takes for a client
        agent.crt, agent.key                 the agent's own, as a client
        about.json                           what they were made for; written last

A key is made here, is readable by its owner alone, and never leaves this folder. etcd reads certificate and key anew
for each handshake: two opens of one link, and who is caught in between dials again. The set before stays until the next
one, for whoever has just resolved the link.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from agent.model.certificates import Authorities, Issued
from agent.model.faults import Refused, Trouble, Unavailable
from agent.model.ids import ClientUrl, Nonce
from agent.model.known import Ignorance, Unknown
from agent.world import durable
from agent.world.authorities import FIRST, AuthorityStore, Keys
from agent.world.etcd_channels import TlsFiles
from agent.world.etcd_launch import ServerTls
from agent.world.signing import Pair, Wanted, ends_at, issue, subject_of
from agent.world.tls_handshake import shown_at

LOOPBACK = "127.0.0.1"
AGENT = "root"
"""The CN of the agent's own certificate: etcd's administrator, where authentication is on."""

SOMEBODY_ELSE = 0
"""Stands for an authority that this instance does not know (any more)."""

ANOTHER_STANDS_THERE = (
    "another certificate authority stands where {number} stood, and no member would believe the others: restore it; or "
    "delete it and make one of a number that was never used: etcd-asg-agent tls init --number"
)


@dataclass(frozen=True, slots=True)
class Here:
    """Whom the certificates are for."""

    instance: str
    address: str
    names: tuple[str, ...] = ()  # under which clients find this instance


class InstanceCertificates:
    """`agent.world.doors.Certificates` below one data root."""

    def __init__(
        self,
        root: Path,
        store: AuthorityStore,
        here: Here,
        life: timedelta,
        now: Callable[[], datetime],
        nonce: Callable[[], Nonce],
        handshake_within: timedelta,
    ) -> None:
        self._folder = root / "tls"
        self._store, self._here, self._life = store, here, life
        self._now, self._nonce, self._within = now, nonce, handshake_within

    def issued(self) -> Issued | None:
        about = self._about()
        return None if about is None else _issued(about)

    def authorities(self) -> Authorities | None:
        return self._store.authorities()

    def create_authority(self) -> bool:
        return self._store.create(FIRST, self._here.instance)

    def issue(self, authorities: Authorities) -> None:
        keys = self._store.keys(authorities.trusted)
        self._refuse_another(keys)
        issuer = keys[authorities.issuer]
        now = self._now()
        addresses = (self._here.address, LOOPBACK)
        server = Wanted(self._here.instance, addresses, ("localhost", *self._here.names), server=True)
        pairs = {
            "peer": issue(Wanted(self._here.instance, addresses, server=True), issuer.peers, now, self._life),
            "server": issue(server, issuer.clients, now, self._life),
            "agent": issue(Wanted(AGENT), issuer.clients, now, self._life),
        }
        self._put_in_place(pairs, keys, authorities, now)

    def trusted_by(self, endpoints: Sequence[ClientUrl]) -> Mapping[ClientUrl, frozenset[int] | Unknown]:
        about = self._about() or {}
        known = {bytes.fromhex(subject): int(number) for number, subject in about.get("subjects", {}).items()}
        return {each: self._trusted_at(each, known) for each in endpoints}

    def _trusted_at(self, endpoint: ClientUrl, known: Mapping[bytes, int]) -> frozenset[int] | Unknown:
        url = urlsplit(endpoint)
        try:
            shown = shown_at(url.hostname or "", url.port or 0, self._within)
        except Trouble as trouble:
            return trouble.unknown if isinstance(trouble, Unavailable | Refused) else Unknown(Ignorance.FAILED)
        return frozenset(known.get(each, SOMEBODY_ELSE) for each in shown.authorities)

    def _about(self) -> dict[str, dict[str, str]] | None:
        """What we wrote last; None where there is none, or none that is whole: it can be made anew at any time."""
        path = self._folder / "current" / "about.json"
        with durable.refusing(f"reading {path}"):
            try:
                found = json.loads(path.read_text())
                _issued(found)
            except FileNotFoundError:
                return None
            except (ValueError, KeyError, TypeError, AssertionError):
                return None
        assert isinstance(found, dict)
        return found

    def _refuse_another(self, keys: Mapping[int, Keys]) -> None:
        """A number is never given twice: or members would be parted from each other one by one."""
        about = self._about() or {}
        for number, subject in about.get("subjects", {}).items():
            there = keys.get(int(number))
            if there is not None and subject_of(there.clients.certificate).hex() != subject:
                raise Refused(ANOTHER_STANDS_THERE.format(number=number), Ignorance.OURS)

    def _put_in_place(
        self, pairs: Mapping[str, Pair], keys: Mapping[int, Keys], authorities: Authorities, now: datetime
    ) -> None:
        roots = [each for number in authorities.trusted for each in (keys[number].peers, keys[number].clients)]
        about = {
            "trusted": list(authorities.trusted),
            "issuer": authorities.issuer,
            "instance": self._here.instance,
            "address": self._here.address,
            "issued_at": now.isoformat(),
            "expires_at": min(ends_at(each.certificate) for each in pairs.values()).isoformat(),
            "authority_expires_at": min(ends_at(each.certificate) for each in roots).isoformat(),
            "subjects": {str(number): subject_of(each.clients.certificate).hex() for number, each in keys.items()},
        }
        files = {f"{name}.crt": pair.certificate for name, pair in pairs.items()}
        files |= {f"{name}.key": pair.key for name, pair in pairs.items()}
        files["peers-ca.crt"] = "".join(keys[each].peers.certificate for each in authorities.trusted)
        files["clients-ca.crt"] = "".join(keys[each].clients.certificate for each in authorities.trusted)
        name = f"{now:%Y%m%dT%H%M%SZ}-{self._nonce()[:8]}"
        with durable.refusing(f"writing certificates below {self._folder}"):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            fresh = self._folder / name
            fresh.mkdir(mode=0o700)
        for file, text in files.items():
            durable.write(fresh / file, text, mode=0o600)
        durable.write(fresh / "about.json", json.dumps(about, indent=2), mode=0o600)
        self._point_to(name)

    def _point_to(self, name: str) -> None:
        current, new = self._folder / "current", self._folder / ".current.new"
        with durable.refusing(f"exchanging {current}"):
            before = str(current.readlink()) if current.is_symlink() else ""
            new.unlink(missing_ok=True)
            new.symlink_to(name)
            new.rename(current)
        durable.sync_after(self._folder, f"exchanging {current}")
        self._remove_all_but(name, before)

    def _remove_all_but(self, *kept: str) -> None:
        """Old keys are worth nothing to anybody good."""
        with suppress(OSError):
            for entry in os.scandir(self._folder):
                if entry.is_dir(follow_symlinks=False) and entry.name not in kept:
                    shutil.rmtree(entry.path, ignore_errors=True)


def server_tls(root: Path) -> ServerTls:
    """The files that etcd is started with."""
    here = root / "tls" / "current"
    clients = (here / "clients-ca.crt", here / "server.crt", here / "server.key")
    return ServerTls(*clients, here / "peers-ca.crt", here / "peer.crt", here / "peer.key")


def client_tls(root: Path) -> TlsFiles:
    """The files that the agent speaks to etcd with."""
    here = root / "tls" / "current"
    return TlsFiles(here / "clients-ca.crt", here / "agent.crt", here / "agent.key")


def _issued(about: Mapping[str, object]) -> Issued:
    trusted, issuer = about["trusted"], about["issuer"]
    assert isinstance(trusted, list)
    assert isinstance(issuer, int)
    return Issued(
        Authorities(tuple(map(int, trusted)), issuer),
        str(about["instance"]),
        str(about["address"]),
        *(datetime.fromisoformat(str(about[each])) for each in ("issued_at", "expires_at", "authority_expires_at")),
    )
