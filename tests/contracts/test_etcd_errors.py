"""What a failed call to etcd means, as a table: code, details, and what the agent hears.

The details are quotations: etcd's from 3.4.23 and 3.5.30, gRPC's from grpcio 1.85. `test_etcd.py` provokes most.
"""

from __future__ import annotations

import pytest
from grpc import StatusCode

from agent.model.faults import Refused, Unavailable
from agent.model.known import Ignorance
from agent.world.etcd_errors import meaning, trouble

REFUSED = [
    (StatusCode.UNAVAILABLE, "etcdserver: unhealthy cluster"),
    (StatusCode.UNKNOWN, "etcdserver: re-configuration failed due to not enough started members"),
    (StatusCode.FAILED_PRECONDITION, "etcdserver: too many learner members in cluster"),
    (StatusCode.FAILED_PRECONDITION, "etcdserver: can only promote a learner member which is in sync with leader"),
    (StatusCode.FAILED_PRECONDITION, "etcdserver: can only promote a learner member"),
    (StatusCode.FAILED_PRECONDITION, "etcdserver: Peer URLs already exists"),
    (StatusCode.INVALID_ARGUMENT, "etcdserver: given member URLs are invalid"),
    (StatusCode.NOT_FOUND, "etcdserver: member not found"),
    (StatusCode.UNAVAILABLE, "etcdserver: rpc not supported for learner"),
    (StatusCode.DATA_LOSS, "etcdserver: corrupt cluster"),
    (StatusCode.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"),
    (StatusCode.UNIMPLEMENTED, "unknown method MemberPromote for service etcdserverpb.Cluster"),
]

CONNECTING = "failed to connect to all addresses; last error: {}: ipv4:127.0.0.1:2379: {}"

UNKNOWN = [
    # a live etcd that could not: the change may have happened
    (StatusCode.UNAVAILABLE, "etcdserver: request timed out", Ignorance.FAILED),
    (StatusCode.UNKNOWN, "etcdserver: request timed out", Ignorance.FAILED),
    (StatusCode.UNAVAILABLE, "etcdserver: no leader", Ignorance.FAILED),
    (StatusCode.UNAVAILABLE, "etcdserver: leader changed", Ignorance.FAILED),
    (StatusCode.UNAVAILABLE, "etcdserver: server stopped", Ignorance.FAILED),
    (StatusCode.UNKNOWN, "something that nobody has seen yet", Ignorance.FAILED),
    (StatusCode.RESOURCE_EXHAUSTED, "etcdserver: too many requests", Ignorance.THROTTLED),
    # no answer in time
    (StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", Ignorance.TIMEOUT),
    (StatusCode.DEADLINE_EXCEEDED, "context deadline exceeded", Ignorance.TIMEOUT),
    (StatusCode.UNKNOWN, "context deadline exceeded", Ignorance.TIMEOUT),
    (
        StatusCode.UNAVAILABLE,
        CONNECTING.format("UNKNOWN", "connection attempt timed out before receiving SETTINGS frame"),
        Ignorance.TIMEOUT,
    ),
    (
        StatusCode.UNAVAILABLE,
        CONNECTING.format("UNAVAILABLE", "Handshake read failed (Endpoint closing)"),
        Ignorance.TIMEOUT,
    ),
    # nobody there
    (
        StatusCode.UNAVAILABLE,
        CONNECTING.format("UNKNOWN", "Failed to connect to remote host: Connection refused"),
        Ignorance.UNREACHABLE,
    ),
    (
        StatusCode.UNAVAILABLE,
        CONNECTING.format("UNKNOWN", "Failed to connect to remote host: connect() timed out"),
        Ignorance.UNREACHABLE,
    ),
    (StatusCode.UNAVAILABLE, CONNECTING.format("UNKNOWN", "tcp handshaker shutdown"), Ignorance.UNREACHABLE),
    (
        StatusCode.UNAVAILABLE,
        CONNECTING.format("UNAVAILABLE", "recvmsg:Connection reset by peer (104)"),
        Ignorance.UNREACHABLE,
    ),
    (
        StatusCode.UNAVAILABLE,
        "errors resolving etcd.invalid:2379: [field:hostname lookup error: Domain name not found]",
        Ignorance.UNREACHABLE,
    ),
    (StatusCode.UNAVAILABLE, "Stream removed (recvmsg:Connection reset by peer (104))", Ignorance.UNREACHABLE),
    (StatusCode.UNAVAILABLE, "Socket closed", Ignorance.UNREACHABLE),
    (StatusCode.CANCELLED, "Channel closed!", Ignorance.UNREACHABLE),
    # our own certificate, CA, port or identity
    (
        StatusCode.UNAVAILABLE,
        CONNECTING.format(
            "UNKNOWN",
            "Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:1000007d:SSL routines:"
            "OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate: OK",
        ),
        Ignorance.OURS,
    ),
    (StatusCode.UNAVAILABLE, CONNECTING.format("UNAVAILABLE", "Unwrap failed (TSI_DATA_CORRUPTED)"), Ignorance.OURS),
    (
        StatusCode.UNAVAILABLE,
        CONNECTING.format("UNKNOWN", "Failed to create security handshaker."),
        Ignorance.OURS,
    ),
    (
        StatusCode.UNAVAILABLE,
        CONNECTING.format(
            "UNKNOWN",
            "Custom verification check failed with error: UNAUTHENTICATED: Hostname Verification Check failed.",
        ),
        Ignorance.OURS,
    ),
    (StatusCode.UNAVAILABLE, CONNECTING.format("UNAVAILABLE", "Socket closed"), Ignorance.OURS),
    (
        StatusCode.UNAVAILABLE,
        CONNECTING.format("UNAVAILABLE", "Handshake read failed (Socket closed)"),
        Ignorance.OURS,
    ),
    (
        StatusCode.UNAVAILABLE,
        CONNECTING.format(
            "INTERNAL",
            "Failed parsing HTTP/2 (Expected SETTINGS frame as the first frame, got frame type 80) "
            "(Trying to connect an http1.x server (HTTP status 400))",
        ),
        Ignorance.OURS,
    ),
    (StatusCode.INVALID_ARGUMENT, "etcdserver: user name is empty", Ignorance.OURS),
    (StatusCode.UNKNOWN, "etcdserver: user name is empty", Ignorance.OURS),
    (StatusCode.UNKNOWN, "auth: user name is empty", Ignorance.OURS),
    (StatusCode.UNAUTHENTICATED, "etcdserver: invalid auth token", Ignorance.OURS),
    (StatusCode.PERMISSION_DENIED, "etcdserver: permission denied", Ignorance.OURS),
    # an answer that makes no sense
    (StatusCode.INTERNAL, "Exception deserializing response!", Ignorance.MALFORMED),
]


@pytest.mark.parametrize(("code", "details"), REFUSED, ids=[details for _, details in REFUSED])
def test_a_definite_no(code: StatusCode, details: str) -> None:
    error = trouble("MemberAdd", code, details)
    assert isinstance(error, Refused)
    assert str(error) == f"MemberAdd: {details}"
    assert error.unknown.why is Ignorance.DENIED


@pytest.mark.parametrize(("code", "details", "why"), UNKNOWN, ids=[f"{code.name} {text}" for code, text, _ in UNKNOWN])
def test_no_answer_is_never_a_no(code: StatusCode, details: str, why: Ignorance) -> None:
    error = trouble("MemberAdd", code, details)
    assert isinstance(error, Unavailable)
    assert error.unknown.why is why


@pytest.mark.parametrize("code", [code for code in StatusCode if code is not StatusCode.UNIMPLEMENTED])
def test_without_a_word_from_etcd_no_code_is_a_refusal(code: StatusCode) -> None:
    assert not meaning(code, "").refused


def test_the_text_is_the_telling_part() -> None:
    details = CONNECTING.format("UNKNOWN", "Failed to connect to remote host: Connection refused")
    error = trouble("Status at http://127.0.0.1:2379", StatusCode.UNAVAILABLE, details)
    assert str(error) == (
        "Status at http://127.0.0.1:2379: UNKNOWN: ipv4:127.0.0.1:2379: "
        "Failed to connect to remote host: Connection refused"
    )
