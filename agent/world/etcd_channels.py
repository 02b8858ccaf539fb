"""One gRPC channel per etcd endpoint, as python-etcd3 makes it: plain or TLS, found by URL, renewed with its files.

House rules. A channel is made when first needed, and closed when it has been unused for longest or the TLS files
changed: gRPC reads them once. Which methods exist, and whose messages they speak, is the table in `Link`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

from agent.model.faults import Unavailable
from agent.model.ids import ClientUrl
from agent.model.known import Ignorance
from agent.world.etcd_library import Etcd3Client, etcdrpc, grpc, wire
from agent.world.protobuf_fields import texts

Request = TypeVar("Request")
Answer = TypeVar("Answer")

OPTIONS: Final = (
    # gRPC's defaults (backoff to two minutes, subchannels shared between channels) call a server down for up to
    # 25 s after it is back (measured); with these it is about one second.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # how long a connection may take to come about; default 20 s
    ("grpc.use_local_subchannel_pool", 1),
    # Only while a call is under way: etcd hangs up on pings without one, and on more than one in 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.enable_retries", 0),  # a write is sent once
    # A snapshot is read by the thread that wants it, and not handed over by another one piece by piece: a fifth less
    # CPU, and a quarter less time, for a GB. A window of our own, because the one that gRPC probes grows to 30 MB more.
    ("SingleThreadedUnaryStream", 1),  # `grpc.experimental.ChannelOptions`
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 4 * 1024 * 1024),
    ("grpc.enable_http_proxy", 0),  # members are neighbours; an https_proxy is for the Internet
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.max_send_message_length", 64 * 1024),
)

MAX_CHANNELS: Final = 16
"""More than the members of one cluster; the one unused for longest is closed, so that the dead do not pile up."""

DEFAULT_PORT: Final = 2379


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: who may vouch for etcd and, where etcd asks for it, our own certificate and its key."""

    ca: Path
    cert: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        assert (self.cert is None) == (self.key is None), "a certificate and its key go together"

    def stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Differs after any of the files was written or replaced."""
        paths = (path for path in (self.ca, self.cert, self.key) if path is not None)
        return tuple((seen.st_mtime_ns, seen.st_ino, seen.st_size) for seen in (path.stat() for path in paths))


@dataclass(frozen=True, slots=True)
class Method(Generic[Request, Answer]):
    """One of etcd's calls on one channel. The name is a metric label."""

    name: str
    call: grpc.UnaryUnaryMultiCallable[Request, Answer]


@dataclass(frozen=True, slots=True)
class Stream(Generic[Request, Answer]):
    """One of etcd's calls that is answered in many pieces."""

    name: str
    call: grpc.UnaryStreamMultiCallable[Request, Answer]


class Link:
    """A channel to one endpoint and the calls on it."""

    def __init__(self, endpoint: ClientUrl, tls: TlsFiles | None) -> None:
        self.endpoint = endpoint
        files = _files_for(endpoint, tls)
        self._client = Etcd3Client(**_address_of(endpoint), **files, grpc_options=OPTIONS)
        kv, cluster, maintenance = self._client.kvstub, self._client.clusterstub, self._client.maintenancestub
        # python-etcd3's own messages
        self.range: Method[Any, Any] = Method("Range", kv.Range)
        self.member_remove: Method[Any, Any] = Method("MemberRemove", cluster.MemberRemove)
        self.member_update: Method[Any, Any] = Method("MemberUpdate", cluster.MemberUpdate)
        self.alarm: Method[Any, Any] = Method("Alarm", maintenance.Alarm)
        self.move_leader: Method[Any, Any] = Method("MoveLeader", maintenance.MoveLeader)
        self.hash_kv: Method[Any, Any] = Method("HashKV", maintenance.HashKV)
        self.compact: Method[Any, Any] = Method("Compact", kv.Compact)
        self.defragment: Method[Any, Any] = Method("Defragment", maintenance.Defragment)
        self.authenticate = self._own("Auth/Authenticate", etcdrpc.AuthenticateRequest, etcdrpc.AuthenticateResponse)
        # ours, for what its messages leave out
        self.status = self._own("Maintenance/Status", wire.StatusRequest, wire.StatusResponse)
        self.member_list = self._own("Cluster/MemberList", wire.MemberListRequest, wire.MemberListResponse)
        self.member_add = self._own("Cluster/MemberAdd", wire.MemberAddRequest, wire.MemberAddResponse)
        self.member_promote = self._own("Cluster/MemberPromote", wire.MemberPromoteRequest, wire.MemberPromoteResponse)

        # whose messages are many and large: python-etcd3's, in pure Python, cost more than everything else about them
        self.snapshot: Stream[Any, bytes] = Stream(
            "Snapshot",
            self._client.channel.unary_stream(
                "/etcdserverpb.Maintenance/Snapshot",
                request_serializer=etcdrpc.SnapshotRequest.SerializeToString,
                response_deserializer=_blob_of,
            ),
        )

    def _own(self, path: str, request: type[Request], answer: type[Answer]) -> Method[Request, Answer]:
        call: grpc.UnaryUnaryMultiCallable[Request, Answer] = self._client.channel.unary_unary(
            f"/etcdserverpb.{path}",
            request_serializer=request.SerializeToString,  # type: ignore[attr-defined]
            response_deserializer=answer.FromString,  # type: ignore[attr-defined]
        )
        return Method(path.partition("/")[2], call)

    def close(self) -> None:
        """End the connection and every call on it."""
        self._client.close()


def _blob_of(message: bytes) -> bytes:
    """Field 3 of etcdserverpb.SnapshotResponse; empty where it has none."""
    return texts(message).get(3, b"")


class Links:
    """The open channels, by endpoint. May be used from several threads."""

    def __init__(self, tls: TlsFiles | None) -> None:
        self._tls = tls
        self._lock = threading.Lock()
        self._open: OrderedDict[ClientUrl, Link] = OrderedDict()
        self._stamp: object = None

    def to(self, endpoint: ClientUrl) -> Link:
        """The channel to this endpoint; `Unavailable` where the endpoint or our files cannot make one."""
        with self._lock:
            self._forget_old_files()
            link = self._open.get(endpoint)
            if link is None:
                link = self._open[endpoint] = _opened(endpoint, self._tls)
            self._open.move_to_end(endpoint)
            if len(self._open) > MAX_CHANNELS:
                self._open.popitem(last=False)[1].close()
            return link

    def apart(self, endpoint: ClientUrl) -> Link:
        """A channel that nobody else uses, for a call that outlasts the others. Whoever asks for it closes it."""
        with self._lock:
            self._forget_old_files()
        return _opened(endpoint, self._tls)

    def close(self) -> None:
        with self._lock:
            self._close_all()

    def _forget_old_files(self) -> None:
        if self._tls is None:
            return
        try:
            stamp = self._tls.stamp()
        except OSError as error:
            raise Unavailable(Ignorance.OURS, f"TLS files: {error}") from error
        if stamp != self._stamp:  # taken before the files are read: a change in between is seen the next time
            self._stamp = stamp
            self._close_all()

    def _close_all(self) -> None:
        while self._open:
            self._open.popitem()[1].close()


def _opened(endpoint: ClientUrl, tls: TlsFiles | None) -> Link:
    try:
        return Link(endpoint, tls)
    except OSError as error:
        raise Unavailable(Ignorance.OURS, f"TLS files: {error}") from error


def _address_of(endpoint: ClientUrl) -> dict[str, str | int]:
    try:
        url = urlsplit(endpoint)
        host, port = url.hostname, url.port or DEFAULT_PORT
    except ValueError:
        host, port = None, DEFAULT_PORT
    if host is None:
        raise Unavailable(Ignorance.MALFORMED, f"{endpoint!r} is no URL of an etcd client port")
    return {"host": f"[{host}]" if ":" in host else host, "port": port}


def _files_for(endpoint: ClientUrl, tls: TlsFiles | None) -> dict[str, str]:
    """python-etcd3 speaks TLS exactly when it is given a CA file."""
    if not endpoint.startswith("https://"):
        return {}
    if tls is None:
        raise Unavailable(Ignorance.OURS, f"{endpoint} speaks TLS and no CA file is configured")
    own = {"cert_cert": str(tls.cert), "cert_key": str(tls.key)} if tls.cert is not None else {}
    return {"ca_cert": str(tls.ca), **own}
