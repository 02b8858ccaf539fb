"""What an etcd shows to anybody who begins a handshake: its certificate, and whose certificates it takes.

etcd reads its certificate anew for every handshake and the authorities that it trusts only when it starts (seen with
3.4 and 3.5), so neither its files nor its flags say what it trusts by now. The server itself does: in TLS 1.2 it
lists the names of its authorities in CertificateRequest, in plain sight and before anybody has shown a certificate
(RFC 5246, 7.4.4; Go sends its whole pool). The handshake is left there. Nothing secret is needed or sent.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from agent.model.faults import Unavailable
from agent.model.known import Ignorance

HANDSHAKE = 22
CERTIFICATE, CERTIFICATE_REQUEST, SERVER_HELLO_DONE = 11, 13, 14
MOST = 256 * 1024
"""No first flight of an etcd is as long; who sends more is something else."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The server's certificate and the subjects of the authorities that it takes clients from, all of them DER."""

    certificate: bytes
    authorities: frozenset[bytes]


def shown_at(host: str, port: int, within: timedelta) -> Shown:
    """`Unavailable` where nobody answers there, or not with TLS 1.2."""
    try:
        with socket.create_connection((host, port), timeout=within.total_seconds()) as connection:
            connection.sendall(_client_hello())
            return _shown(connection)
    except TimeoutError as error:
        raise Unavailable(Ignorance.TIMEOUT, f"{host}:{port} did not show its certificate in time") from error
    except OSError as error:
        raise Unavailable(Ignorance.UNREACHABLE, f"{host}:{port}: {error.strerror or error}") from error
    except (IndexError, ValueError) as error:
        raise Unavailable(Ignorance.MALFORMED, f"{host}:{port} does not speak TLS 1.2: {error}") from error


def _client_hello() -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # whoever answers is only asked what it shows
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # in 1.3 all of this is encrypted
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def _shown(connection: socket.socket) -> Shown:
    certificate, authorities = b"", frozenset[bytes]()
    for kind, body in _messages(connection):
        if kind == CERTIFICATE:
            certificate = _vector(body[3:], 3)[0]
        elif kind == CERTIFICATE_REQUEST:
            authorities = frozenset(_names(body))
        elif kind == SERVER_HELLO_DONE:
            break
    if not certificate:
        raise ValueError("no certificate")
    return Shown(certificate, authorities)


def _messages(connection: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Handshake messages: one may span records, and a record may hold several."""
    pending, total = b"", 0
    while total < MOST:
        head = _exactly(connection, 5)
        if head[0] != HANDSHAKE:
            raise ValueError(f"a record of type {head[0]}")
        pending += _exactly(connection, int.from_bytes(head[3:5]))
        while len(pending) >= 4 and len(pending) >= 4 + int.from_bytes(pending[1:4]):
            end = 4 + int.from_bytes(pending[1:4])
            yield pending[0], pending[4:end]
            total, pending = total + end, pending[end:]
    raise ValueError("an endless handshake")


def _names(request: bytes) -> Iterator[bytes]:
    """CertificateRequest: certificate types, signature algorithms, then the distinguished names."""
    _types, rest = _vector(request, 1)
    _algorithms, rest = _vector(rest, 2)
    listed, _ = _vector(rest, 2)
    while listed:
        name, listed = _vector(listed, 2)
        yield name


def _vector(data: bytes, width: int) -> tuple[bytes, bytes]:
    """What stands behind a length of so many bytes, and the rest."""
    end = width + int.from_bytes(data[:width])
    if len(data) < end:
        raise ValueError("cut short")
    return data[width:end], data[end:]


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = connection.recv(size - len(found))
        if not piece:
            raise ValueError("the connection was closed")
        found += piece
    return found
