"""What a failed call to etcd means, told by its gRPC code and its details together.

The code alone lies: etcd answers `UNAVAILABLE` for a policy refusal ("unhealthy cluster"), and gRPC says `UNAVAILABLE`
for a refused port and for a certificate of ours that is wrong. So the order is: what etcd itself said, then what is
wrong on our side, then the network. A failure of our own is never taken for a dead member. What nobody has seen yet
is `Unavailable`, because only a definite no may be called one. Texts: etcd's api/v3rpc/rpctypes/error.go (3.4, 3.5 and
3.6 agree), gRPC's by experiment with grpcio 1.85; `tests/contracts/test_etcd.py` provokes them.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.model.faults import Refused, Unavailable
from agent.model.known import Ignorance
from agent.world.etcd_library import grpc

REFUSALS = (
    "etcdserver: unhealthy cluster",
    "etcdserver: re-configuration failed due to not enough started members",
    "etcdserver: too many learner members in cluster",
    "etcdserver: can only promote a learner member",  # also "… which is in sync with leader"
    "etcdserver: Peer URLs already exists",
    "etcdserver: given member URLs are invalid",
    "etcdserver: member not found",
    "etcdserver: member ID already exist",
    "etcdserver: rpc not supported for learner",
    "etcdserver: not capable",
    "etcdserver: corrupt cluster",
    "etcdserver: mvcc: database space exceeded",
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
)
"""What a live etcd says when it did nothing and will do nothing about the same request for now."""

AUTHENTICATION = (
    "etcdserver: user name is empty",
    "etcdserver: user name not found",
    "etcdserver: permission denied",
    "etcdserver: invalid auth token",
    "etcdserver: authentication failed",
    "etcdserver: revision of auth store is old",
    "auth: ",  # HashKV and its like answer in the words of etcd's innards
)
"""etcd's authentication is on and does not know us: our certificate's name has no user with the root role."""

UNKNOWN_TO_ETCD = (
    "user name is empty",
    "invalid auth token",
    "revision of auth store is old",
    "revision in header is old",
)
"""It does not know who asks; not that whoever asks may not."""

OUR_SIDE = (
    "CERTIFICATE_VERIFY_FAILED",  # another authority, or an expired server certificate
    "erification check failed",  # the server's certificate is not for this address
    "TSI_",  # any other failure of the TLS layer; "Unwrap failed (TSI_DATA_CORRUPTED)": our certificate is refused
    "Failed to create security handshaker",  # our files are no certificate, or no pair
    "Handshake read failed (Socket closed)",  # TLS to a plain port
    "Failed parsing HTTP/2",  # something else listens there: a metrics port, a proxy
    "Trying to connect an http1.x server",
)
"""A connection was made, and then TLS or HTTP/2 did not come about."""

SLOW_HANDSHAKE = ("before receiving SETTINGS frame", "Handshake read failed (Endpoint closing)")
"""Somebody accepted the connection and said nothing: a frozen etcd, or one restarted without a quorum."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """Why a call failed, and whether the other side refused for certain."""

    why: Ignorance
    refused: bool = False


DENIED = Meaning(Ignorance.DENIED, refused=True)
OURS = Meaning(Ignorance.OURS)
FAILED = Meaning(Ignorance.FAILED)
TIMEOUT = Meaning(Ignorance.TIMEOUT)
UNREACHABLE = Meaning(Ignorance.UNREACHABLE)

BY_CODE = {
    grpc.StatusCode.UNAUTHENTICATED: OURS,
    grpc.StatusCode.PERMISSION_DENIED: OURS,
    grpc.StatusCode.DEADLINE_EXCEEDED: TIMEOUT,
    grpc.StatusCode.CANCELLED: UNREACHABLE,  # our own channel was closed meanwhile: the certificates changed
    grpc.StatusCode.UNIMPLEMENTED: DENIED,  # an etcd without that call, or no etcd
    grpc.StatusCode.RESOURCE_EXHAUSTED: Meaning(Ignorance.THROTTLED),
    grpc.StatusCode.INTERNAL: Meaning(Ignorance.MALFORMED),  # also an answer that does not parse
}


def meaning(code: grpc.StatusCode, details: str) -> Meaning:
    """What a failed call says about etcd, the network or ourselves. Pure; see the head of this file."""
    if details.startswith(REFUSALS):
        return DENIED
    if details.startswith(AUTHENTICATION):
        return OURS
    if "context deadline exceeded" in details:  # 3.4 gives it the code UNKNOWN
        return TIMEOUT
    if code is grpc.StatusCode.UNAVAILABLE:
        return _unavailable(details)
    return BY_CODE.get(code, FAILED)


def _unavailable(details: str) -> Meaning:
    if details.startswith("etcdserver: "):
        return FAILED  # no leader, a leader lost while we asked, shutting down: a write may have landed
    if any(sign in details for sign in SLOW_HANDSHAKE):
        return TIMEOUT
    if any(sign in details for sign in OUR_SIDE) or _closed_before_a_word(details):
        return OURS
    return UNREACHABLE


def _closed_before_a_word(details: str) -> bool:
    """The server took the connection and hung up at once: plain text to a TLS port.

    "Socket closed" on a connection that had worked is a server that ended.
    """
    return details.startswith("failed to connect to all addresses") and details.endswith("Socket closed")


def wants_an_identity(details: str) -> bool:
    """Whether the same call may do with a token, or with a newer one. It has done nothing."""
    return details.startswith(AUTHENTICATION) and details.endswith(UNKNOWN_TO_ETCD)


def trouble(doing: str, code: grpc.StatusCode, details: str) -> Unavailable | Refused:
    """The error to raise; its text is `doing` and the telling part of the details, in one line."""
    what = meaning(code, details)
    said = details.rpartition("last error: ")[2] or code.name
    text = f"{doing}: {said}"
    return Refused(text, what.why) if what.refused else Unavailable(what.why, text)
