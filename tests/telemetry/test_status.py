"""The status server on real sockets."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.client import HTTPConnection, HTTPResponse

import pytest

from agent.model.ids import MemberId
from agent.telemetry.metrics import Metrics
from agent.telemetry.status import CannotListen, Pulse, Sources, StatusServer

STATUS: Mapping[str, object] = {
    "cluster": {"generation": 3, "members": [{"id": MemberId(255), "name": "<script>alert(1)</script>"}]},
    "decision": {"rule": "rest", "because": 'all is "well" & good'},
}


def sources() -> Sources:
    metrics = Metrics(version="1", rules=["rest"], blockers=[])
    return Sources(metrics.exposition, lambda: (True, "it beats"), lambda: (True, "it serves"), lambda: STATUS)


@pytest.fixture(scope="module")
def server() -> Iterator[StatusServer]:
    with StatusServer("127.0.0.1", 0, sources()) as running:
        yield running


def get(server: StatusServer, path: str, method: str = "GET") -> tuple[HTTPResponse, str]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response, response.read().decode()
    finally:
        connection.close()


def serving(changed: Sources) -> StatusServer:
    return StatusServer("127.0.0.1", 0, changed)


def test_metrics(server: StatusServer) -> None:
    response, body = get(server, "/metrics")
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    assert "etcd_asg_agent_build_info" in body


def test_alive_and_ready(server: StatusServer) -> None:
    assert [get(server, path)[0].status for path in ("/livez", "/readyz")] == [200, 200]
    assert get(server, "/readyz?verbose")[1] == "ok: it serves\n"


def test_not_ready_says_why() -> None:
    with serving(replace(sources(), ready=lambda: (False, "a learner"), alive=lambda: (False, "stuck"))) as server:
        response, body = get(server, "/readyz")
        assert (response.status, body) == (503, "no: a learner\n")
        assert get(server, "/livez")[0].status == 503


def test_status_is_json(server: StatusServer) -> None:
    response, body = get(server, "/status")
    assert response.headers["Content-Type"] == "application/json"
    assert json.loads(body)["cluster"]["members"][0]["id"] == "ff"


def test_the_page_escapes_everything_and_needs_nobody(server: StatusServer) -> None:
    response, body = get(server, "/")
    assert response.status == 200
    assert "<script" not in body
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in body
    assert "all is &quot;well&quot; &amp; good" in body
    assert "http://" not in body
    assert "https://" not in body
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]


def test_odd_requests(server: StatusServer) -> None:
    assert get(server, "/nothing")[0].status == 404
    assert get(server, "/status", "POST")[0].status == 501
    response, body = get(server, "/livez", "HEAD")
    assert (response.status, body) == (200, "")
    assert int(response.headers["Content-Length"]) > 0


def test_a_page_that_fails_does_not_end_the_server() -> None:
    def broken() -> Mapping[str, object]:
        raise RuntimeError("oh")

    with serving(replace(sources(), status=broken)) as server:
        for path in ("/status", "/"):
            response, body = get(server, path)
            assert response.status == 500
            assert "oh" not in body
        assert get(server, "/livez")[0].status == 200


def test_text_that_is_no_unicode_is_shown_all_the_same() -> None:
    """A file name on disk may be any bytes."""
    odd = replace(sources(), status=lambda: {"path": "\udc80"}, ready=lambda: (True, "\udc80"))
    with serving(odd) as server:
        assert [get(server, path)[0].status for path in ("/", "/status", "/readyz")] == [200, 200, 200]


def test_a_port_in_use_is_one_clear_line(server: StatusServer) -> None:
    with pytest.raises(CannotListen) as raised:
        StatusServer("127.0.0.1", server.port, sources())
    assert str(raised.value) == f"cannot listen on 127.0.0.1 port {server.port} (http.listen): Address already in use"


def test_a_foreign_address_is_one_clear_line() -> None:
    with pytest.raises(CannotListen, match=r"cannot listen on 192\.0\.2\.1 port 9379"):
        StatusServer("192.0.2.1", 9379, sources())


def test_ipv6() -> None:
    try:
        running = StatusServer("::1", 0, sources())
    except CannotListen:
        pytest.skip("no IPv6 on this machine")
    with running, socket.create_connection(("::1", running.port), timeout=5) as client:
        client.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.0 200")


def test_silent_clients_do_not_lock_out_the_others(server: StatusServer) -> None:
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(8)]
    try:
        assert get(server, "/livez")[0].status == 200
    finally:
        for client in silent:
            client.close()


def test_a_flood_is_turned_away_and_passes() -> None:
    let_go = threading.Event()

    def slow() -> tuple[bool, str]:
        let_go.wait(5)
        return True, "slow"

    with serving(replace(sources(), alive=slow)) as server:
        held = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(16)]
        for client in held:
            client.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as extra:
            extra.settimeout(5)
            assert extra.recv(10) == b""
        let_go.set()
        for client in held:
            while client.recv(4096):
                pass
            client.close()
        assert get(server, "/readyz")[0].status == 200


def test_stopping_frees_the_port() -> None:
    with serving(sources()) as server:
        port = server.port
    StatusServer("127.0.0.1", port, sources()).stop()


def test_the_pulse() -> None:
    now = [100.0]
    pulse = Pulse(lambda: now[0], within_seconds=15)
    now[0] = 115.0
    assert pulse.alive() == (True, "the loop made progress 15.0 s ago (limit 15 s)")
    now[0] = 116.0
    assert pulse.alive()[0] is False
    pulse.beat()
    assert pulse.alive()[0] is True
