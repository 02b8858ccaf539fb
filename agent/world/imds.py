"""The door to IMDS, version 2: what the instance knows of itself.

House rules. The endpoint is given, never assumed: where `AWS_EC2_METADATA_SERVICE_ENDPOINT` names another, nothing
here dials the link-local address. A token is kept until it is refused (401), then asked for once more. No proxy, no
redirect and no retry: the loop is the retry. Paths: AWS, "Instance metadata categories".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import urllib3

from agent.model.faults import Refused, Unavailable
from agent.model.ids import InstanceId, PeerUrl
from agent.model.known import Ignorance
from agent.model.observation import Me
from agent.model.spot import SpotAction, SpotNotice

LINK_LOCAL = "http://169.254.169.254"
TOKEN_TTL_SECONDS = 21600  # AWS's longest: six hours
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

OnCall = Callable[[str, str, str, float], None]
"""Hears of every request: `imds`, what was asked, the result (`ok`, `not-found`, an `Ignorance`), its seconds."""


def endpoint_from(environ: Mapping[str, str]) -> str:
    """Where IMDS is, by the variables that every AWS SDK knows."""
    if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise Refused("IMDS is disabled by AWS_EC2_METADATA_DISABLED: the agent cannot learn who it is", Ignorance.OURS)
    return environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or LINK_LOCAL


class Imds:
    """`agent.world.doors.Metadata` over HTTP. IMDS knows only the address; `scheme` and `peer_port` make it a URL."""

    def __init__(
        self,
        endpoint: str,
        scheme: str = "http",
        peer_port: int = 2380,
        timeout: timedelta = timedelta(seconds=2),
        boot_id: Path = BOOT_ID,
        on_call: OnCall = lambda *_: None,
    ) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._scheme = scheme
        self._peer_port = peer_port
        self._boot_id = boot_id
        self._on_call = on_call
        self._token: str | None = None
        seconds = timeout.total_seconds()
        self._http = urllib3.PoolManager(timeout=urllib3.Timeout(connect=seconds, read=seconds), retries=False)

    def me(self) -> Me:
        document = self._identity()
        address = _text(document, "privateIp")
        return Me(
            instance=InstanceId(_text(document, "instanceId")),
            private_ip=address,
            peer_url=PeerUrl(f"{self._scheme}://{address}:{self._peer_port}"),
            boot_id=self._read_boot_id(),
            zone=_text(document, "availabilityZone"),
        )

    def region(self) -> str:
        return _text(self._identity(), "region")

    def target_lifecycle_state(self) -> str | None:
        said = self._read("target-lifecycle-state", "/latest/meta-data/autoscaling/target-lifecycle-state")
        return None if said is None else said.strip()

    def spot_notice(self) -> SpotNotice | None:
        said = self._read("spot-instance-action", "/latest/meta-data/spot/instance-action")
        if said is None:
            return None
        notice = _object("spot notice", said)
        action = _text(notice, "action", "spot notice")
        if action not in list(SpotAction):
            raise Unavailable(Ignorance.MALFORMED, f"IMDS's spot notice has the action {action!r}, which nobody knows")
        return SpotNotice(SpotAction(action), _time(notice, "time", "spot notice"))

    def rebalance_recommended(self) -> datetime | None:
        said = self._read("rebalance", "/latest/meta-data/events/recommendations/rebalance")
        if said is None:
            return None
        return _time(_object("rebalance recommendation", said), "noticeTime", "rebalance recommendation")

    def tags(self) -> tuple[str, ...] | None:
        """The keys of the instance's tags. None (404): the metadata options do not show them, or there are none."""
        said = self._read("tags", "/latest/meta-data/tags/instance")
        return None if said is None else tuple(said.split())

    def needs_token(self) -> bool:
        """Whether IMDSv1, which asks for none, is off."""
        status, text = self._request("instance-id", "GET", "/latest/meta-data/instance-id", {})
        return status == 401 or _judged("instance-id", status, text) is None

    def _identity(self) -> Mapping[str, Any]:
        said = self._read("identity-document", "/latest/dynamic/instance-identity/document")
        return _object("identity document", said or "")

    def _read_boot_id(self) -> str:
        try:
            return self._boot_id.read_text().strip()
        except OSError as error:
            raise Unavailable(Ignorance.OURS, f"{self._boot_id} cannot be read: {error}") from error

    def _read(self, what: str, path: str) -> str | None:
        """The text at this path; None for 404. A token that has expired is replaced, once."""
        for fresh in (False, True):
            token = self._renewed_token() if fresh or self._token is None else self._token
            status, text = self._request(what, "GET", path, {"X-aws-ec2-metadata-token": token})
            if status != 401:
                return _judged(what, status, text)
            self._token = None
        raise Refused(f"IMDS refuses its own token for {what} (401)")

    def _renewed_token(self) -> str:
        ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_SECONDS)}
        status, text = self._request("token", "PUT", "/latest/api/token", ttl)
        if status != 200 or not text.strip():
            hint = "check the instance's metadata options: HttpEndpoint and HttpPutResponseHopLimit"
            why = Ignorance.FAILED if status >= 500 else Ignorance.DENIED
            raise Unavailable(why, f"IMDS gave no token at {self._endpoint} ({status}): {hint}")
        self._token = text.strip()
        return self._token

    def _request(self, what: str, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        started, result = perf_counter(), "ok"
        try:
            status, text = self._answer(what, method, path, headers)
            result = {200: "ok", 404: "not-found"}.get(status, str(Ignorance.FAILED))
        except Unavailable as error:
            result = str(error.unknown.why)
            raise
        else:
            return status, text
        finally:
            self._on_call("imds", what, result, perf_counter() - started)

    def _answer(self, what: str, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        url = self._endpoint + path
        try:
            answer = self._http.request(method, url, headers=dict(headers), redirect=False)
            text = answer.data.decode()
        except (urllib3.exceptions.HTTPError, UnicodeDecodeError) as error:
            raise _silence(error, f"IMDS did not answer {what} at {self._endpoint}") from error
        return answer.status, text


def _silence(error: Exception, said: str) -> Unavailable:
    refused = isinstance(error, urllib3.exceptions.NewConnectionError)  # to urllib3 a kind of timeout
    if isinstance(error, urllib3.exceptions.TimeoutError) and not refused:
        return Unavailable(Ignorance.TIMEOUT, f"{said}: no answer in time")
    if isinstance(error, UnicodeDecodeError):
        return Unavailable(Ignorance.MALFORMED, f"{said}: not text")
    return Unavailable(Ignorance.UNREACHABLE, f"{said}: {type(error).__name__}")


def _judged(what: str, status: int, text: str) -> str | None:
    match status:
        case 200:
            return text
        case 404:
            return None
        case 403:
            raise Refused(f"IMDS denies {what} (403): check the instance's metadata options")
        case _:
            why = Ignorance.THROTTLED if status == 429 else Ignorance.FAILED
            raise Unavailable(why, f"IMDS answered {status} for {what}")


def _object(what: str, said: str) -> Mapping[str, Any]:
    try:
        document = json.loads(said)
    except ValueError as error:
        raise Unavailable(Ignorance.MALFORMED, f"IMDS's {what} is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise Unavailable(Ignorance.MALFORMED, f"IMDS's {what} is no JSON object")
    return document


def _text(document: Mapping[str, Any], key: str, what: str = "identity document") -> str:
    value = document.get(key)
    if not isinstance(value, str) or not value:
        raise Unavailable(Ignorance.MALFORMED, f"IMDS's {what} has no {key}")
    return value


def _time(document: Mapping[str, Any], key: str, what: str) -> datetime:
    """AWS gives them in UTC, as in `2026-09-18T08:22:00Z`."""
    try:
        moment = datetime.fromisoformat(_text(document, key, what))
    except ValueError as error:
        raise Unavailable(Ignorance.MALFORMED, f"IMDS's {what} has a {key} that is no time: {error}") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
