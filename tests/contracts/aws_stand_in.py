"""moto's server in a process of its own, and in front of it a gateway that can spoil any request on its way.

Everything is on 127.0.0.1. What was started here is ended here. A `Fault` either answers instead of moto (the request
had no effect), or lets moto answer and spoils what comes back (it had).
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

REGION, REAL = "eu-west-1", "acme-etcd"

HANG = "hang"  # say nothing until the test is over
DROP = "drop"  # close the connection without a word
CUT = "cut"  # close it in the middle: of the request's body, or (`after`) of the answer's
SLOW = "slow"  # answer as moto does, half a second later

SEEN_BYTES = 4096
"""Of a body, for the faults to match; a part of a snapshot has megabytes."""


def s3_error(code: str) -> bytes:
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>said the test</Message></Error>'.encode()


def ec2_error(code: str) -> bytes:
    said = f"<Error><Code>{code}</Code><Message>said the test</Message></Error>"
    return f"<Response><Errors>{said}</Errors><RequestID>r</RequestID></Response>".encode()


def asg_error(code: str) -> bytes:
    said = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>said the test</Message></Error>"
    return f"<ErrorResponse>{said}<RequestId>r</RequestId></ErrorResponse>".encode()


@dataclass
class Fault:
    """`match` is searched for in "METHOD path?query body"; `after` tells whether moto hears the request first."""

    match: str
    status: int | str = 500
    body: bytes = b""
    after: bool = False
    times: int = 1
    skip: int = 0  # so many of what matches pass unspoilt first
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Gateway:
    """What clients talk to. `heard` is every request that came, as the faults see it."""

    port: int
    faults: list[Fault] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def spoil(self, match: str, status: int | str = 500, body: bytes = b"", **more: object) -> None:
        self.faults.append(Fault(match, status, body, **more))  # type: ignore[arg-type]

    def clear(self) -> None:
        self.faults.clear()
        self.heard.clear()

    def fault_for(self, line: str, early: bool = False) -> Fault | None:
        """`early`: those that strike before the request's body has come."""
        for fault in self.faults:
            is_early = fault.status == CUT and not fault.after
            if fault.times > 0 and is_early == early and re.search(fault.match, line):
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None


def _handler(gateway: Gateway, upstream: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            if gateway.fault_for(f"{self.command} {self.path} ", early=True):
                self.rfile.read(size // 2)
                self.close_connection = True
                return None
            body = self.rfile.read(size)
            line = f"{self.command} {self.path} {body[:SEEN_BYTES].decode(errors='replace')}"
            gateway.heard.append(line)
            fault = gateway.fault_for(line)
            if fault is not None and fault.status == SLOW:
                time.sleep(0.5)
            if fault is None or fault.after or fault.status == SLOW:
                status, headers, answer = self.forward(body)
                if fault is None or fault.status in (SLOW, CUT):
                    return self.reply(status, headers, answer, cut=fault is not None and fault.status == CUT)
            if fault.status == HANG:
                gateway.over.wait(30)
            if isinstance(fault.status, int):
                self.reply(fault.status, dict(fault.headers), fault.body)
            else:
                self.close_connection = True
            return None

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any  # noqa: N815 - the library's names

        def forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", upstream, timeout=30)
            with contextlib.closing(connection):
                headers = {key: value for key, value in self.headers.items() if key != "Expect"}
                connection.request(self.command, self.path, body or None, headers)
                answer = connection.getresponse()
                return answer.status, dict(answer.getheaders()), answer.read()

        def reply(self, status: int, headers: dict[str, str], body: bytes, cut: bool = False) -> None:
            ours = {"connection", "transfer-encoding", "content-length", "date", "server"}
            sent = {key: value for key, value in headers.items() if key.lower() not in ours}
            with contextlib.suppress(OSError):
                self.send_response(status)
                for key, value in sent.items():
                    self.send_header(key, value)
                if status not in (204, 304):
                    size = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
                    self.send_header("Content-Length", size)
                self.end_headers()
                if cut:
                    self.close_connection, body = True, body[: len(body) // 2]
                if self.command != "HEAD":
                    self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextlib.contextmanager
def serving(gateway: Gateway, handler: type[BaseHTTPRequestHandler]) -> Iterator[None]:
    """Serve with this handler on a free port of 127.0.0.1, which the gateway then knows."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    gateway.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        gateway.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "moto's server ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("moto's server does not listen")


@contextlib.contextmanager
def moto_behind_a_gateway() -> Iterator[Gateway]:
    """The environment of AWS's SDKs points at it, and away from every real account, file and IMDS."""
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        use_endpoint(patch, "")
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(port, process)
            gateway = Gateway(0)
            with serving(gateway, _handler(gateway, port)):
                use_endpoint(patch, gateway.url)
                yield gateway
        finally:
            process.terminate()
            process.wait(10)


def use_endpoint(patch: pytest.MonkeyPatch, url: str) -> None:
    """Made-up credentials, no configuration files, no IMDS, and this endpoint for every service."""
    patch.setenv("AWS_ENDPOINT_URL", url)
    patch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patch.setenv("AWS_CONFIG_FILE", "/dev/null")
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        patch.delenv(name, raising=False)
