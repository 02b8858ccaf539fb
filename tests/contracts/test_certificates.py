"""This instance's certificates on its disk: exchanged all at once, believed by whom they should be, and never shown."""

from __future__ import annotations

import itertools
import socket
import ssl
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.model.certificates import Authorities
from agent.model.faults import Refused, Unavailable
from agent.model.ids import ClientUrl, Nonce
from agent.model.known import Unknown
from agent.world.authorities import AuthorityStore, Keys
from agent.world.certificates import SOMEBODY_ELSE, Here, InstanceCertificates, client_tls, server_tls
from agent.world.signing import AUTHORITY_LIFE, Wanted, ends_at, issue, new_authority, subject_of
from agent.world.tls_handshake import shown_at

NOW = datetime.now(UTC).replace(microsecond=0)
LIFE = timedelta(hours=1)
FIRST, BOTH, SECOND = Authorities((1,), 1), Authorities((1, 2), 1), Authorities((2,), 2)


MARKS = itertools.count(1)


def authority(number: int) -> Keys:
    """Like the real ones, no two have the same name."""
    return Keys(*(new_authority(f"{kind} {number} {next(MARKS)}", NOW) for kind in ("peers", "clients")))


@dataclass
class Shelf:
    """What Parameter Store would hold."""

    held: dict[int, Keys] = field(default_factory=lambda: {number: authority(number) for number in (1, 2)})

    def keys(self, numbers: tuple[int, ...]) -> dict[int, Keys]:
        return {number: self.held[number] for number in numbers}


@dataclass
class Made:
    """The door below one folder, at a time of its own."""

    root: Path
    shelf: Shelf = field(default_factory=Shelf)
    now: datetime = NOW
    issues: int = 0

    def door(self) -> InstanceCertificates:
        store = cast("AuthorityStore", self.shelf)
        here = Here("i-0abc", "127.0.0.1", ("etcd.example.internal",))
        return InstanceCertificates(self.root, store, here, LIFE, lambda: self.now, self.nonce, timedelta(seconds=2))

    def nonce(self) -> Nonce:
        self.issues += 1
        return Nonce(f"{self.issues:08x}")

    def pem(self, name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.root / "tls" / "current" / name).read_bytes())


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def test_none_are_none_and_what_was_issued_is_told(made: Made) -> None:
    door = made.door()
    assert door.issued() is None
    door.issue(BOTH)
    found = door.issued()
    assert found is not None
    assert (found.authorities, found.instance, found.address) == (BOTH, "i-0abc", "127.0.0.1")
    assert (found.issued_at, found.expires_at) == (NOW, NOW + LIFE)
    assert found.authority_expires_at == NOW + AUTHORITY_LIFE


def test_each_certificate_says_what_etcd_asks_for(made: Made) -> None:
    made.door().issue(FIRST)
    both = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    for name, usages, common_name in (
        ("peer.crt", both, "i-0abc"),
        ("server.crt", both, "i-0abc"),
        ("agent.crt", {ExtendedKeyUsageOID.CLIENT_AUTH}, "root"),
    ):
        certificate = made.pem(name)
        assert set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == usages
        assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == common_name
    names = made.pem("server.crt").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "etcd.example.internal"]
    with pytest.raises(x509.ExtensionNotFound):
        made.pem("agent.crt").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    peers = made.pem("peer.crt").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert peers.get_values_for_type(x509.DNSName) == [], "addresses alone: etcd would look names up"


def test_keys_are_the_owners_alone_new_each_time_and_the_last_but_one_is_gone(made: Made) -> None:
    door, keys = made.door(), set[bytes]()
    for _ in range(4):
        door.issue(FIRST)
        keys.add((made.root / "tls" / "current" / "peer.key").read_bytes())
    assert len(keys) == 4
    folders = [each for each in (made.root / "tls").iterdir() if not each.is_symlink()]
    assert len(folders) == 2
    assert {stat.S_IMODE(each.stat().st_mode) for each in folders} == {0o700}
    assert {stat.S_IMODE(each.stat().st_mode) for each in (made.root / "tls").glob("*/*.key")} == {0o600}


def test_a_certificate_ends_with_its_authority_at_the_latest(made: Made) -> None:
    made.now = NOW + AUTHORITY_LIFE - timedelta(minutes=5)
    made.door().issue(FIRST)
    found = made.door().issued()
    assert found is not None
    assert found.expires_at == NOW + AUTHORITY_LIFE


def test_a_set_that_is_torn_is_none(made: Made) -> None:
    made.door().issue(FIRST)
    for text in ("", "{}", '{"trusted": 1}', "[]", '{"trusted": [1], "issuer": 7}'):
        (made.root / "tls" / "current" / "about.json").write_text(text)
        assert made.door().issued() is None
    made.door().issue(FIRST)
    assert made.door().issued() is not None


def test_an_unreadable_disk_is_no_empty_one(made: Made) -> None:
    (made.root / "tls").write_text("a file where the folder should be")
    with pytest.raises(Refused):
        made.door().issued()
    with pytest.raises(Refused):
        made.door().issue(FIRST)


def test_another_authority_of_the_same_number_is_refused(made: Made) -> None:
    made.door().issue(FIRST)
    before = (made.root / "tls" / "current").readlink()
    made.shelf = Shelf()
    with pytest.raises(Refused, match="another certificate authority stands where 1 stood"):
        made.door().issue(FIRST)
    assert (made.root / "tls" / "current").readlink() == before
    made.door().issue(SECOND)


# ---- who believes whom -----------------------------------------------------------------------------------------------


@contextmanager
def serving(made: Made) -> Iterator[ClientUrl]:
    """A server with this instance's files, that asks for certificates as etcd does."""
    tls = server_tls(made.root)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.cert, tls.key)
    context.load_verify_locations(tls.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        thread = threading.Thread(target=_answer_all, args=(listener, context), daemon=True)
        thread.start()
        yield ClientUrl(f"https://127.0.0.1:{listener.getsockname()[1]}")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(6)


def _answer_all(listener: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        with plain:
            plain.settimeout(2)
            try:
                with context.wrap_socket(plain, server_side=True) as secured:
                    secured.sendall(b"hello")
            except OSError:
                pass


def hello(url: ClientUrl, made: Made, cert: Path, key: Path) -> bytes:
    context = ssl.create_default_context(cafile=str(client_tls(made.root).ca))
    context.load_cert_chain(cert, key)
    host, _, port = url.removeprefix("https://").rpartition(":")
    plain = socket.create_connection((host, int(port)), timeout=3)
    with plain, context.wrap_socket(plain, server_hostname=host) as secured:
        return secured.recv(10)


def test_the_agent_is_believed_and_a_peers_certificate_is_no_clients(made: Made) -> None:
    made.door().issue(FIRST)
    agent, servers = client_tls(made.root), server_tls(made.root)
    assert agent.cert is not None
    assert agent.key is not None
    with serving(made) as url:
        assert hello(url, made, agent.cert, agent.key) == b"hello"
        with pytest.raises(ssl.SSLError):
            hello(url, made, servers.peer_cert, servers.peer_key)


def flight(certificate: bytes, authorities: list[bytes]) -> bytes:
    """What a server says first, as Go does: each message in a record of its own, but for one that is cut in two."""

    def vector(width: int, data: bytes) -> bytes:
        return len(data).to_bytes(width) + data

    def message(kind: int, body: bytes) -> bytes:
        return bytes([kind]) + vector(3, body)

    def record(data: bytes) -> bytes:
        return b"\x16\x03\x03" + vector(2, data)

    names = b"".join(vector(2, each) for each in authorities)
    shown = message(11, vector(3, vector(3, certificate)))
    request = message(13, vector(1, b"\x01\x40") + vector(2, b"\x04\x03") + vector(2, names))
    hello, done = message(2, b"\x03\x03" + bytes(36)), message(14, b"")
    return record(hello + shown[:50]) + record(shown[50:]) + record(request + done)


@contextmanager
def saying(says: bytes, times: int = 1) -> Iterator[ClientUrl]:
    """A server that says this to whoever says something."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for _ in range(times):
                plain, _peer = listener.accept()
                with plain:
                    plain.recv(4096)
                    plain.sendall(says)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield ClientUrl(f"https://127.0.0.1:{listener.getsockname()[1]}")
        thread.join(5)


def test_whom_a_server_trusts_is_read_from_its_handshake(made: Made) -> None:
    door = made.door()
    door.issue(BOTH)
    certificate = made.pem("server.crt").public_bytes(serialization.Encoding.DER)
    trusted = [subject_of(made.shelf.held[number].clients.certificate) for number in (1, 2)]
    with saying(flight(certificate, trusted), times=3) as url:
        assert door.trusted_by([url]) == {url: frozenset({1, 2})}
        door.issue(SECOND)
        assert door.trusted_by([url]) == {url: frozenset({2, SOMEBODY_ELSE})}, "it has not reloaded yet"
        other = replace(made, root=made.root / "other", shelf=Shelf())
        other.root.mkdir()
        other.door().issue(FIRST)
        assert other.door().trusted_by([url]) == {url: frozenset({SOMEBODY_ELSE})}


def test_who_does_not_answer_is_unknown(made: Made) -> None:
    made.door().issue(FIRST)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = ClientUrl(f"https://127.0.0.1:{listener.getsockname()[1]}")
    assert isinstance(made.door().trusted_by([nobody])[nobody], Unknown)


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x16\x03\x03\x00\x04\x0e\x00\x00\x00"])
def test_who_speaks_something_else_has_shown_nothing(says: bytes) -> None:
    with saying(says) as url, pytest.raises(Unavailable):
        shown_at("127.0.0.1", int(url.rpartition(":")[2]), timedelta(seconds=2))


def test_a_clients_certificate_is_for_any_address() -> None:
    keys = authority(1)
    pair = issue(Wanted("app"), keys.clients, NOW, LIFE)
    assert ends_at(pair.certificate) == NOW + LIFE
    with pytest.raises(x509.ExtensionNotFound):
        x509.load_pem_x509_certificate(pair.certificate.encode()).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
