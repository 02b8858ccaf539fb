"""What etcd's members say of themselves, over etcd's own JSON gateway: for eyes and tests, without gRPC.

House rule: no answer is None, never a guess; a member that does not answer within its deadline says nothing.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

CLIENT_PORT = 2379
PATIENCE_S = 2.0


@dataclass(frozen=True)
class ClientTls:
    """What a client shows to members that speak mutual TLS, and which authority it believes. Read once."""

    ca: Path
    cert: Path
    key: Path

    @cached_property
    def context(self) -> ssl.SSLContext:
        """Believes nobody whose certificate has expired, or is for another address."""
        found = ssl.create_default_context(cafile=str(self.ca))
        found.load_cert_chain(self.cert, self.key)
        return found


def connection(address: str, timeout_s: float, tls: ClientTls | None = None) -> http.client.HTTPConnection:
    """To a member's client port; not opened yet."""
    if tls is None:
        return http.client.HTTPConnection(address, CLIENT_PORT, timeout=timeout_s)
    return http.client.HTTPSConnection(address, CLIENT_PORT, timeout=timeout_s, context=tls.context)


def ask(
    address: str, path: str, body: dict[str, Any], timeout_s: float = PATIENCE_S, tls: ClientTls | None = None
) -> dict[str, Any] | None:
    """POST to a member's JSON gateway; None if it did not answer, {"error": ...} if it refused."""
    answer = _asked(address, path, body, timeout_s, tls)
    if answer is None:
        _tokens.pop(address, None)  # one of a cluster that was is waited for, until the deadline
    refusal = "" if answer is None else str(answer.get("message", answer.get("error", "")))
    if _user is not None and refusal.endswith(STRANGER):
        token = _asked(address, "/v3/auth/authenticate", {"name": _user[0], "password": _user[1]}, timeout_s, tls)
        _tokens[address] = str((token or {}).get("token", ""))
        answer = _asked(address, path, body, timeout_s, tls)
    return answer


STRANGER = ("user name is empty", "invalid auth token")
_user: tuple[str, str] | None = None
_tokens: dict[str, str] = {}


@contextmanager
def as_user(name: str, password: str) -> Iterator[None]:
    """For the length of a block everybody in this process asks as this user, where etcd wants to know."""
    global _user  # noqa: PLW0603 - writers and watchers in threads of their own ask for whoever began them
    before, _user = _user, (name, password)
    try:
        yield
    finally:
        _user = before
        _tokens.clear()


def _asked(
    address: str, path: str, body: dict[str, Any], timeout_s: float, tls: ClientTls | None
) -> dict[str, Any] | None:
    opened = connection(address, timeout_s, tls)
    token = _tokens.get(address)
    headers = {"Content-Type": "application/json", **({"Authorization": token} if token else {})}
    try:
        opened.request("POST", path, json.dumps(body), headers)
        answer: dict[str, Any] = json.loads(opened.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        opened.close()
    return answer


@dataclass(frozen=True)
class Status:
    """One member's own word. `leader` is 0 if it sees none."""

    member_id: int
    cluster_id: int
    leader: int
    is_learner: bool
    revision: int
    raft_term: int
    version: str
    size_bytes: int

    @property
    def role(self) -> str:
        """leader, voter or learner; "no leader" outranks them."""
        if self.leader == 0:
            return "no leader"
        if self.is_learner:
            return "learner"
        return "leader" if self.leader == self.member_id else "voter"


def status(address: str, timeout_s: float = PATIENCE_S, tls: ClientTls | None = None) -> Status | None:
    """The member at an address, or None if it does not answer."""
    said = ask(address, "/v3/maintenance/status", {}, timeout_s, tls)
    if said is None or "header" not in said:
        return None
    header = said["header"]
    return Status(
        member_id=int(header.get("member_id", 0)),
        cluster_id=int(header.get("cluster_id", 0)),
        leader=int(said.get("leader", 0)),
        is_learner=bool(said.get("isLearner", False)),
        revision=int(header.get("revision", 0)),
        raft_term=int(said.get("raftTerm", 0)),
        version=str(said.get("version", "")),
        size_bytes=int(said.get("dbSize", 0)),
    )


@dataclass(frozen=True)
class Member:
    """One entry of the member list."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    is_learner: bool

    @property
    def started(self) -> bool:
        """A member has a name from its first start on."""
        return bool(self.name)


def member_list(address: str, timeout_s: float = PATIENCE_S, tls: ClientTls | None = None) -> tuple[Member, ...] | None:
    """The members as one of them knows them, ordered by ID; None if it does not answer."""
    said = ask(address, "/v3/cluster/member/list", {}, timeout_s, tls)
    if said is None or "members" not in said:
        return None
    found = [
        Member(
            id=int(raw["ID"]),
            name=raw.get("name", ""),
            peer_urls=tuple(raw.get("peerURLs", ())),
            client_urls=tuple(raw.get("clientURLs", ())),
            is_learner=bool(raw.get("isLearner", False)),
        )
        for raw in said["members"]
    ]
    return tuple(sorted(found, key=lambda member: member.id))


def put(address: str, key: str, value: str, timeout_s: float = PATIENCE_S) -> int | None:
    """Write through one member; the revision if it was acknowledged, None if nobody knows."""
    said = ask(address, "/v3/kv/put", {"key": _encoded(key), "value": _encoded(value)}, timeout_s)
    return int(said["header"]["revision"]) if said is not None and "header" in said else None


def get(address: str, key: str, timeout_s: float = PATIENCE_S, *, serializable: bool = False) -> str | None:
    """Read a key through one member (linearizable unless asked otherwise); None if it is absent or nobody answers."""
    said = ask(address, "/v3/kv/range", {"key": _encoded(key), "serializable": serializable}, timeout_s)
    found = (said or {}).get("kvs", [])
    return _decoded(found[0].get("value", "")) if found else None


def get_prefix(address: str, prefix: str, timeout_s: float = 10.0) -> dict[str, str] | None:
    """Every key below a prefix, linearizable; None if the member does not answer or refuses."""
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    said = ask(address, "/v3/kv/range", {"key": _encoded(prefix), "range_end": _encoded(end)}, timeout_s)
    if said is None or "header" not in said:
        return None
    return {_decoded(raw["key"]): _decoded(raw.get("value", "")) for raw in said.get("kvs", [])}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()
