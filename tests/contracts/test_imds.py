"""The metadata door against a small IMDS of this file's own: tokens, who we are, and what silence means.

Nothing here, and nothing in the door, dials the link-local address.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from agent.model.faults import Refused, Trouble, Unavailable
from agent.model.ids import InstanceId, PeerUrl
from agent.model.known import Ignorance
from agent.model.observation import Me
from agent.model.spot import SpotAction, SpotNotice
from agent.world.imds import LINK_LOCAL, Imds, endpoint_from
from tests.contracts.aws_stand_in import DROP, HANG, Gateway, free_port, serving

STATE = "/latest/meta-data/autoscaling/target-lifecycle-state"
SPOT = "/latest/meta-data/spot/instance-action"
REBALANCE = "/latest/meta-data/events/recommendations/rebalance"
DOCUMENT = "/latest/dynamic/instance-identity/document"
IDENTITY: dict[str, Any] = {
    "instanceId": "i-0a",
    "privateIp": "10.0.1.5",
    "availabilityZone": "eu-west-1b",
    "region": "eu-west-1",
}


@dataclass
class Stand:
    """An IMDS whose answers a test may change."""

    gateway: Gateway = field(default_factory=lambda: Gateway(0))
    texts: dict[str, str] = field(default_factory=lambda: {DOCUMENT: json.dumps(IDENTITY)})
    tokens: set[str] = field(default_factory=set)
    handed_out: int = 0
    calls: list[tuple[str, str, str, float]] = field(default_factory=list)

    def door(self, **more: Any) -> Imds:
        return Imds(
            self.gateway.url, timeout=timedelta(seconds=0.5), on_call=lambda *call: self.calls.append(call), **more
        )

    def asked_for(self, path: str) -> int:
        return len([line for line in self.gateway.heard if path in line])


def _handler(stand: Stand) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            self.heard()
            if self.headers.get("X-aws-ec2-metadata-token-ttl-seconds") is None:
                return self.reply(400, "")
            if not self.spoilt():
                stand.handed_out += 1
                stand.tokens.add(token := f"token-{stand.handed_out}")
                self.reply(200, token)
            return None

        def do_GET(self) -> None:
            self.heard()
            if self.spoilt():
                return None
            if self.headers.get("X-aws-ec2-metadata-token") not in stand.tokens:
                return self.reply(401, "")
            text = stand.texts.get(self.path)
            return self.reply(404, "<html>404</html>") if text is None else self.reply(200, text)

        def heard(self) -> None:
            stand.gateway.heard.append(f"{self.command} {self.path}")

        def spoilt(self) -> bool:
            fault = stand.gateway.fault_for(f"{self.command} {self.path}")
            if fault is None:
                return False
            if fault.status == HANG:
                stand.gateway.over.wait(10)
            if isinstance(fault.status, int):
                self.reply(fault.status, fault.body.decode(errors="surrogateescape"))
            else:
                self.close_connection = True
            return True

        def reply(self, status: int, text: str) -> None:
            body = text.encode(errors="surrogateescape")
            with contextlib.suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def imds() -> Iterator[Stand]:
    stand = Stand()
    with serving(stand.gateway, _handler(stand)):
        yield stand


def test_who_we_are(imds: Stand, tmp_path: Path) -> None:
    boot = tmp_path / "boot_id"
    boot.write_text("b007\n")
    assert imds.door(scheme="https", peer_port=2390, boot_id=boot).me() == Me(
        instance=InstanceId("i-0a"),
        private_ip="10.0.1.5",
        peer_url=PeerUrl("https://10.0.1.5:2390"),
        boot_id="b007",
        zone="eu-west-1b",
    )
    assert imds.door().region() == "eu-west-1"


def test_the_boot_id_is_the_kernels(imds: Stand) -> None:
    assert len(imds.door().me().boot_id) == 36


def test_the_target_lifecycle_state(imds: Stand) -> None:
    door = imds.door()
    assert door.target_lifecycle_state() is None
    imds.texts[STATE] = "Terminated\n"
    assert door.target_lifecycle_state() == "Terminated"


def test_a_spot_notice(imds: Stand) -> None:
    door = imds.door()
    assert door.spot_notice() is None
    imds.texts[SPOT] = '{"action": "terminate", "time": "2026-09-18T08:22:00Z"}'
    assert door.spot_notice() == SpotNotice(SpotAction.TERMINATE, datetime(2026, 9, 18, 8, 22, tzinfo=UTC))


def test_a_rebalance_recommendation(imds: Stand) -> None:
    door = imds.door()
    assert door.rebalance_recommended() is None
    imds.texts[REBALANCE] = '{"noticeTime": "2026-10-27T08:22:00Z"}'
    assert door.rebalance_recommended() == datetime(2026, 10, 27, 8, 22, tzinfo=UTC)


def test_the_keys_of_the_instances_tags(imds: Stand) -> None:
    door = imds.door()
    assert door.tags() is None
    imds.texts["/latest/meta-data/tags/instance"] = "Name\netcd-cluster\n"
    assert door.tags() == ("Name", "etcd-cluster")


def test_whether_a_token_is_needed(imds: Stand) -> None:
    door = imds.door()
    assert door.needs_token()
    assert imds.handed_out == 0
    imds.texts["/latest/meta-data/instance-id"] = "i-0a"
    imds.tokens.add(None)  # type: ignore[arg-type]  # as IMDSv1: none will do
    assert not door.needs_token()
    imds.gateway.spoil("instance-id", 500)
    with pytest.raises(Unavailable):
        door.needs_token()


@pytest.mark.parametrize(
    "text",
    [
        "soon",
        "[]",
        "{}",
        '{"action": "explode", "time": "2026-09-18T08:22:00Z"}',
        '{"action": "stop"}',
        '{"action": "stop", "time": "noon"}',
    ],
)
def test_a_notice_that_makes_no_sense_is_unknown_and_not_none(imds: Stand, text: str) -> None:
    imds.texts[SPOT] = imds.texts[REBALANCE] = text
    for read in (imds.door().spot_notice, imds.door().rebalance_recommended):
        with pytest.raises(Unavailable, match="IMDS's") as caught:
            read()
        assert caught.value.unknown.why is Ignorance.MALFORMED


def test_one_token_serves_many_questions(imds: Stand) -> None:
    door = imds.door()
    for _ in range(3):
        door.me()
        door.target_lifecycle_state()
    assert imds.handed_out == 1


def test_a_token_that_expired_is_replaced_once(imds: Stand) -> None:
    door = imds.door()
    door.me()
    imds.tokens.clear()
    assert door.me().instance == "i-0a"
    assert imds.handed_out == 2


def test_an_imds_that_refuses_its_own_tokens_is_not_asked_for_ever(imds: Stand) -> None:
    imds.gateway.spoil("^GET", 401, times=99)
    with pytest.raises(Refused, match="401"):
        imds.door().me()
    assert imds.handed_out == 2


def test_after_trouble_the_next_question_is_asked_afresh(imds: Stand) -> None:
    door = imds.door()
    imds.gateway.spoil("token", 500)
    with pytest.raises(Unavailable):
        door.me()
    assert door.me().instance == "i-0a"


WEATHER: dict[str, tuple[dict[str, Any], Ignorance]] = {
    "500": ({"status": 500}, Ignorance.FAILED),
    "503": ({"status": 503}, Ignorance.FAILED),
    "429": ({"status": 429}, Ignorance.THROTTLED),
    "a redirect": ({"status": 302}, Ignorance.FAILED),
    "hang": ({"status": HANG}, Ignorance.TIMEOUT),
    "drop": ({"status": DROP}, Ignorance.UNREACHABLE),
    "not text": ({"status": 200, "body": b"\xff\xfe"}, Ignorance.MALFORMED),
    "not JSON": ({"status": 200, "body": b"<html>"}, Ignorance.MALFORMED),
    "no object": ({"status": 200, "body": b"[]"}, Ignorance.MALFORMED),
    "nothing in it": ({"status": 200, "body": b"{}"}, Ignorance.MALFORMED),
    "no address": ({"status": 200, "body": json.dumps({**IDENTITY, "privateIp": None}).encode()}, Ignorance.MALFORMED),
    "404": ({"status": 404}, Ignorance.MALFORMED),
}


@pytest.mark.parametrize("weather", WEATHER)
def test_bad_weather_is_unavailable_with_its_reason(imds: Stand, weather: str) -> None:
    how, why = WEATHER[weather]
    imds.gateway.spoil("^GET", **how)
    with pytest.raises(Unavailable) as raised:
        imds.door().me()
    assert raised.value.unknown.why is why


@pytest.mark.parametrize(
    ("status", "why"),
    [(403, Ignorance.DENIED), (404, Ignorance.DENIED), (500, Ignorance.FAILED), (HANG, Ignorance.TIMEOUT)],
)
def test_no_token_is_unavailable(imds: Stand, status: int | str, why: Ignorance) -> None:
    imds.gateway.spoil("token", status)
    with pytest.raises(Unavailable) as raised:
        imds.door().me()
    assert raised.value.unknown.why is why


def test_a_lifecycle_state_that_cannot_be_read_is_not_none(imds: Stand) -> None:
    imds.gateway.spoil(STATE, 500)
    with pytest.raises(Unavailable):
        imds.door().target_lifecycle_state()


def test_what_is_denied_is_refused(imds: Stand) -> None:
    imds.gateway.spoil("^GET", 403)
    with pytest.raises(Refused, match="metadata options"):
        imds.door().me()


def test_nobody_listening_is_unreachable() -> None:
    with pytest.raises(Unavailable) as raised:
        Imds(f"http://127.0.0.1:{free_port()}", timeout=timedelta(seconds=0.5)).me()
    assert raised.value.unknown.why is Ignorance.UNREACHABLE


def test_every_request_is_counted(imds: Stand) -> None:
    door = imds.door()
    door.me()
    door.target_lifecycle_state()
    assert [call[:3] for call in imds.calls] == [
        ("imds", "token", "ok"),
        ("imds", "identity-document", "ok"),
        ("imds", "target-lifecycle-state", "not-found"),
    ]


def test_a_proxy_is_never_asked(imds: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert imds.door().me().instance == "i-0a"


def test_the_endpoint_is_the_one_that_the_environment_names() -> None:
    assert endpoint_from({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.12:8254/"}) == "http://127.0.0.12:8254/"
    assert endpoint_from({}) == LINK_LOCAL


def test_where_imds_is_disabled_nothing_is_dialled() -> None:
    with pytest.raises(Trouble, match="AWS_EC2_METADATA_DISABLED"):
        endpoint_from({"AWS_EC2_METADATA_DISABLED": "true"})
