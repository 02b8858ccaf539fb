"""The agent's face over HTTP: /metrics, /livez, /readyz, /status, and / for people.

House rules: only GET and HEAD, nothing here changes anything; every answer is made from callables that were handed in,
and a callable that fails is a 500 on its own page, never the end of the server; everything on the page is escaped.
"""

import json
import logging
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import AF_INET, AF_INET6, SO_REUSEADDR, SOL_SOCKET
from typing import Any, Self

from agent.telemetry.log import facts
from agent.telemetry.page import page
from agent.telemetry.plain import plain

log = logging.getLogger(__name__)

Verdict = tuple[bool, str]
"""Yes or no, and why in a line."""

_MOST_AT_ONCE = 16
_REQUEST_SECONDS = 5


class CannotListen(Exception):
    """The address cannot be had; `str()` is one line that says which and why."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the answers come from. Called on the server's threads, so each must be quick and thread-safe."""

    metrics: Callable[[], tuple[bytes, str]]
    """The exposition and its content type."""
    alive: Callable[[], Verdict]
    """Does the loop make progress?"""
    ready: Callable[[], Verdict]
    """Does this member serve linearizable reads?"""
    status: Callable[[], Mapping[str, object]]
    """The last observation and decision; any of our values will do."""


class ServerFiles:
    """A certificate and its key in PEM, read anew when they change. Nobody is asked for a certificate."""

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert, self._key = cert, key
        self._stamp: object = None
        self._context: ssl.SSLContext | None = None
        self._lock = threading.Lock()

    def secured(self, connection: Any) -> ssl.SSLSocket:
        """The same connection after its handshake. Raises OSError, with files that cannot be read or used, too."""
        with self._lock:
            stamp = [(seen.st_mtime_ns, seen.st_ino) for seen in (self._cert.stat(), self._key.stat())]
            if self._context is None or stamp != self._stamp:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(self._cert, self._key)
                self._context, self._stamp = context, stamp
            context = self._context
        return context.wrap_socket(connection, server_side=True)


class Pulse:
    """Whether the loop still beats. `elapsed` is a clock that only goes forward, in seconds."""

    def __init__(self, elapsed: Callable[[], float], within_seconds: float) -> None:
        self._elapsed = elapsed
        self._within = within_seconds
        self._last = elapsed()

    def beat(self) -> None:
        """The loop made progress."""
        self._last = self._elapsed()

    def alive(self) -> Verdict:
        """False once the last beat is older than `within_seconds`."""
        age = self._elapsed() - self._last
        return age <= self._within, f"the loop made progress {age:.1f} s ago (limit {self._within:g} s)"


class StatusServer:
    """Serves until `stop`. The socket is bound at once, so that a bad address is known at the start."""

    def __init__(self, host: str, port: int, sources: Sources, tls: ServerFiles | None = None) -> None:
        """Raises CannotListen. Port 0 takes a free one: see `port`."""
        try:
            self._server = _Server(host, port, sources, tls)
        except OSError as error:
            reason = error.strerror or str(error)
            raise CannotListen(f"cannot listen on {host} port {port} (http.listen): {reason}") from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="status", daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Close the socket; requests under way end with the process."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(_REQUEST_SECONDS)
        self._server.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, sources: Sources, tls: ServerFiles | None) -> None:
        self.address_family = AF_INET6 if ":" in host else AF_INET
        self.sources = sources
        self._tls = tls
        self._places = threading.BoundedSemaphore(_MOST_AT_ONCE)
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """One thread a request, but never more than a few: a flood must not eat the agent's memory."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(self._secured(request), client_address)
        except OSError:  # no TLS came about
            self.handle_error(request, client_address)
            self.shutdown_request(request)
        finally:
            self._places.release()

    def _secured(self, request: Any) -> Any:
        """The handshake is on the request's own thread: one that never ends it keeps nobody else waiting."""
        if self._tls is None:
            return request
        request.settimeout(_REQUEST_SECONDS)
        return self._tls.secured(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's signature
        """Somebody hung up or sent nonsense: theirs to mend."""
        log.debug("status request broke off", extra=facts(client=client_address))

    def server_bind(self) -> None:
        """Without the look-up of our own name, which asks DNS and can hang for seconds."""
        self.socket.setsockopt(*_REUSE)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _REQUEST_SECONDS
    server_version = "etcd-asg-agent"
    sys_version = ""

    def do_GET(self) -> None:
        answer = _ANSWERS.get(self.path.partition("?")[0])
        if answer is None:
            self._send(HTTPStatus.NOT_FOUND, f"not found; there is {', '.join(_ANSWERS)}\n".encode(), _TEXT)
            return
        try:
            status, body, kind = answer(self.server.sources)
        except Exception:  # a bug in what is shown must not take down what shows it
            log.exception("status page failed", extra=facts(path=self.path.partition("?")[0]))
            status, body, kind = HTTPStatus.INTERNAL_SERVER_ERROR, b"this page failed: see the agent's log\n", _TEXT
        self._send(status, body, kind)

    do_HEAD = do_GET  # noqa: N815 - http.server looks methods up by these names

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header(
            "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
        )
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Health checks come every few seconds: nobody wants to read about them."""


_REUSE = (SOL_SOCKET, SO_REUSEADDR, 1)
_TEXT = "text/plain; charset=utf-8"
_Answer = tuple[HTTPStatus, bytes, str]


def _metrics(sources: Sources) -> _Answer:
    body, kind = sources.metrics()
    return HTTPStatus.OK, body, kind


def _verdict(verdict: Verdict) -> _Answer:
    yes, why = verdict
    return (
        HTTPStatus.OK if yes else HTTPStatus.SERVICE_UNAVAILABLE,
        f"{'ok' if yes else 'no'}: {why}\n".encode("utf-8", "replace"),
        _TEXT,
    )


def _status(sources: Sources) -> _Answer:
    body = json.dumps(plain(sources.status()), indent=2, allow_nan=False)
    return HTTPStatus.OK, f"{body}\n".encode(), "application/json"


def _page(sources: Sources) -> _Answer:
    text = page(sources.alive(), sources.ready(), plain(sources.status()))
    return HTTPStatus.OK, text.encode("utf-8", "replace"), "text/html; charset=utf-8"


_ANSWERS: Mapping[str, Callable[[Sources], _Answer]] = {
    "/": _page,
    "/metrics": _metrics,
    "/livez": lambda sources: _verdict(sources.alive()),
    "/readyz": lambda sources: _verdict(sources.ready()),
    "/status": _status,
}
