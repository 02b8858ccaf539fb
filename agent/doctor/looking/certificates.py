"""Tries the TLS files out: each pair shakes hands with itself in memory, both sides proving who they are.

That is what etcd's peers do: one certificate is a server's and a client's, and is dialled by this instance's address.
Nothing is sent anywhere, and no key leaves this process.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.doctor.judging.certificates import Pair, Shaken
from agent.doctor.looking.installation import entry
from agent.doctor.looking.known import known
from agent.model.faults import Refused
from agent.model.known import Ignorance
from agent.settings import Tls

STEPS = 20
"""More than a handshake ever takes."""


def pairs(tls: Tls, address: str) -> tuple[Pair, ...]:
    """None where tls.mode is not `files`."""
    if tls.mode != "files":
        return ()
    named = (
        ("tls.cert with tls.key and tls.ca", tls.cert, tls.key, tls.ca),
        ("tls.peer_cert with tls.peer_key and tls.peer_ca", tls.peer_cert, tls.peer_key, tls.peer_ca),
    )
    found = []
    for settings, cert, key, authority in named:
        if cert is not None and key is not None and authority is not None:
            shaken = known(lambda c=cert, k=key, a=authority: shake(c, k, a, address))  # type: ignore[misc]
            found.append(Pair(settings, shaken, known(lambda k=key: entry(k))))  # type: ignore[misc]
    return tuple(found)


def shake(cert: Path, key: Path, authority: Path, address: str) -> Shaken:
    """Raises Refused where the files cannot be loaded at all."""
    server, client = _context(ssl.PROTOCOL_TLS_SERVER), _context(ssl.PROTOCOL_TLS_CLIENT)
    client.hostname_checks_common_name = False  # Go does not look at it
    server.verify_mode = ssl.CERT_REQUIRED
    for context in (server, client):
        _load(context, cert, key, authority)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    listens = server.wrap_bio(to_server, to_client, server_side=True)
    dials = client.wrap_bio(to_client, to_server, server_hostname=address)
    try:
        _shake_hands(dials, listens)
    except ssl.SSLCertVerificationError as error:
        return Shaken(error.verify_message)
    except ssl.SSLError as error:
        return Shaken(error.reason or str(error))
    return _told(dials.getpeercert() or {})


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _load(context: ssl.SSLContext, cert: Path, key: Path, authority: Path) -> None:
    try:
        context.load_cert_chain(cert, key, password=lambda: b"")  # etcd knows no password either
        context.load_verify_locations(authority)
    except ssl.SSLError as error:
        said = error.reason or str(error)
        raise Refused(f"{cert}, {key} and {authority} cannot be loaded together: {said}", Ignorance.OURS) from error


def _shake_hands(dials: ssl.SSLObject, listens: ssl.SSLObject) -> None:
    waiting = {dials, listens}
    for _ in range(STEPS):
        for side in tuple(waiting):
            try:
                side.do_handshake()
                waiting.discard(side)
            except ssl.SSLWantReadError:
                continue
        if not waiting:
            return
    raise ssl.SSLError("the handshake did not end")


def _told(certificate: dict[str, Any]) -> Shaken:
    def moment(name: str) -> datetime:
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate[name]), UTC)

    names = tuple(f"{value}" for _, value in certificate.get("subjectAltName", ()))
    return Shaken("", moment("notBefore"), moment("notAfter"), names)
