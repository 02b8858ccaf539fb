"""IMDSv2 of every instance, each on its own loopback address; and one switchboard thread that listens for them all.

Strict as on a well-kept instance: a token for every read, none through a proxy. House rule: what an instance may know
is asked of the cloud at the moment of the request; nothing is cached but its tokens and keys.
"""

from __future__ import annotations

import http.server
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.lab.spec import IMDS_PORT

TOKEN_PATH = "/latest/api/token"
TOKEN_HEADER = "X-aws-ec2-metadata-token"
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
LONGEST_TTL_S = 21_600
IDLE_S = 30.0
HANG_LIMIT_S = 120.0
Leaves = Callable[[], Mapping[str, str]]
"""Every path below /latest/ with its content, as of now."""


class ImdsFault(StrEnum):
    """What can be wrong with an instance's metadata service."""

    NONE = ""
    ERROR = "error"
    HANG = "hang"
    REFUSE = "refuse"


@dataclass
class Metadata:
    """One instance's metadata: what the cloud says, bent by what a test wants."""

    address: str
    leaves: Leaves
    overrides: dict[str, str | None] = field(default_factory=dict)
    """Path to content, or to None for 404; laid over what the cloud says."""
    fault: ImdsFault = ImdsFault.NONE
    _tokens: dict[str, float] = field(default_factory=dict)

    def new_token(self, ttl_s: int) -> str:
        """A token that lives for `ttl_s`."""
        now = time.monotonic()
        self._tokens = {token: end for token, end in self._tokens.items() if end > now}
        token = secrets.token_urlsafe(40)
        self._tokens[token] = now + ttl_s
        return token

    def accepts(self, token: str | None) -> bool:
        """Whether a token is one of ours and still good."""
        return token is not None and self._tokens.get(token, 0.0) > time.monotonic()

    def read(self, path: str) -> str | None:
        """The content of a path below /latest/, the names below a folder, or None."""
        path = path.rstrip("/")
        if path in self.overrides:
            return self.overrides[path]
        added = {name: text for name, text in self.overrides.items() if text is not None}
        leaves = {
            name: text
            for name, text in {**self.leaves(), **added}.items()
            if name not in self.overrides or name in added
        }
        return leaves[path] if path in leaves else _folder(path, leaves)


def _folder(path: str, leaves: Mapping[str, str]) -> str | None:
    """What a listing shows: names, folders with a slash."""
    stem = f"{path}/"
    below = {name.removeprefix(stem).partition("/") for name in leaves if name.startswith(stem)}
    return "\n".join(sorted({f"{head}{slash}" for head, slash, _ in below})) or None


class _Handler(http.server.BaseHTTPRequestHandler):
    """Speaks IMDSv2 for the metadata its server was given."""

    protocol_version = "HTTP/1.1"
    server_version = "EC2ws"
    sys_version = ""
    timeout = IDLE_S
    server: _Server

    def do_PUT(self) -> None:
        """The token."""
        ttl = self.headers.get(TTL_HEADER, "")
        if self._spoiled():
            return
        if self.path != TOKEN_PATH:
            self._answer(404)
        elif self.headers.get("X-Forwarded-For"):
            self._answer(403)
        elif not ttl.isdigit() or not 1 <= int(ttl) <= LONGEST_TTL_S:
            self._answer(400)
        else:
            self._answer(200, self.server.metadata.new_token(int(ttl)), {TTL_HEADER: ttl})

    def do_GET(self) -> None:
        """Everything else."""
        if self._spoiled():
            return
        if not self.server.metadata.accepts(self.headers.get(TOKEN_HEADER)):
            self._answer(401)
            return
        _, _, path = self.path.lstrip("/").partition("/")
        content = self.server.metadata.read(path) if self.path.startswith("/latest/") else None
        self._answer(404) if content is None else self._answer(200, content)

    def _spoiled(self) -> bool:
        fault = self.server.metadata.fault
        if fault is ImdsFault.HANG:
            self._hang()
            self.close_connection = True
            return True
        if fault is ImdsFault.ERROR:
            self._answer(500)
            return True
        return False

    def _hang(self) -> None:
        deadline = time.monotonic() + HANG_LIMIT_S
        while self.server.metadata.fault is ImdsFault.HANG and time.monotonic() < deadline:
            time.sleep(0.1)

    def _answer(self, status: int, content: str = "", headers: Mapping[str, str] | None = None) -> None:
        body = content.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's name for it
        """Say nothing: the call log is for AWS's APIs."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    timeout = 0

    def __init__(self, metadata: Metadata) -> None:
        self.metadata = metadata
        super().__init__((metadata.address, IMDS_PORT), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is its own business."""


class Switchboard:
    """Listens for every instance's metadata service in one thread; opening and closing take effect at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._servers: dict[str, _Server] = {}
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        threading.Thread(target=self._run, name="imds", daemon=True).start()

    def open(self, metadata: Metadata) -> None:
        """Begin to answer on an address; again is harmless."""
        with self._lock:
            if metadata.address not in self._servers:
                server = _Server(metadata)
                self._servers[metadata.address] = server
                self._selector.register(server.socket, selectors.EVENT_READ, server)
        self._wake.send(b"!")

    def close(self, address: str) -> None:
        """Stop answering: from now on, connections are refused."""
        with self._lock:
            server = self._servers.pop(address, None)
            if server is not None:
                self._selector.unregister(server.socket)
                server.server_close()
        self._wake.send(b"!")

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    self._woken.recv(4096)
                else:
                    self._accept(key.data)

    def _accept(self, server: _Server) -> None:
        with self._lock:
            if self._servers.get(server.metadata.address) is server:
                server.handle_request()
