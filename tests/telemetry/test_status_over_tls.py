"""The status server over TLS: the same pages, with files that are read anew when they change."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from agent.telemetry.metrics import Metrics
from agent.telemetry.status import ServerFiles, Sources, StatusServer
from tests.contracts.tls_material import Authority, Pair


def serving(files: Pair) -> StatusServer:
    metrics = Metrics(version="1", rules=["rest"], blockers=[])
    sources = Sources(metrics.exposition, lambda: (True, "it beats"), lambda: (True, "it serves"), dict)
    return StatusServer("127.0.0.1", 0, sources, ServerFiles(files.cert, files.key))


def asked(server: StatusServer, authority: Authority) -> bytes:
    context = ssl.create_default_context(cafile=str(authority.cert))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the test's authorities say no more than they must
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=5)
    with plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
        secured.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: secured.recv(4096), b""))


def asked_plainly(server: StatusServer) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain:
            plain.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            return plain.recv(4096)
    except ConnectionResetError:
        return b""


def test_the_pages_are_served_without_asking_for_a_certificate(tmp_path: Path) -> None:
    ours = Authority(tmp_path, "ours")
    with serving(ours.issue("server", ("127.0.0.1",))) as server:
        assert b"ok: it beats" in asked(server, ours)


def test_new_files_are_served_without_a_restart(tmp_path: Path) -> None:
    ours, others = Authority(tmp_path, "ours"), Authority(tmp_path, "others")
    files = ours.issue("server", ("127.0.0.1",))
    with serving(files) as server:
        assert b"ok" in asked(server, ours)
        new = others.issue("server", ("127.0.0.1",))
        new.key.replace(files.key)
        new.cert.replace(files.cert)
        assert b"ok" in asked(server, others)
        with pytest.raises(ssl.SSLCertVerificationError):
            asked(server, ours)


def test_plain_words_nonsense_and_missing_files_get_nothing_and_end_nothing(tmp_path: Path) -> None:
    ours = Authority(tmp_path, "ours")
    files = ours.issue("server", ("127.0.0.1",))
    with serving(files) as server:
        assert b"ok" not in asked_plainly(server)
        kept = files.cert.rename(tmp_path / "kept.pem")
        with pytest.raises(OSError, match=r"EOF|closed|reset|SSL"):
            asked(server, ours)
        kept.rename(files.cert)
        assert b"ok" in asked(server, ours)
