"""The lab's own API, beside the emulated AWS on the same address: JSON over HTTP below /lab/.

    GET    /lab/status                    everything there is
    POST   /lab/down                      end every process and exit
    POST   /lab/change                    {"pace": {...}, "settings": {...}, "honours_preconditions": false}
    POST   /lab/instances/ID/VERB         kill-agent, kill-etcd, reboot, wipe, freeze, thaw, isolate, heal, ...
    POST   /lab/instances/ID/move         reboot under another address
    POST   /lab/instances/ID/interrupt    {"action": A, "seconds": 120}; A: terminate, stop, hibernate, rebalance
    POST   /lab/instances/ID/imds         {"path": P, "value": V}, {"path": P, "restore": true} or {"fault": F}
    GET    /lab/faults                    the faults of the moment
    POST   /lab/faults                    begin one (the fields of `weather.Fault`); answers {"id": ...}
    DELETE /lab/faults[/ID]               end one, or all
    GET    /lab/calls?since=SEQ           the log of API calls
    GET    /lab/counters                  the same as counts

Errors are {"error": "one sentence"} with status 400.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qs

from agent.lab.calls import CallLog
from agent.lab.spec import LabError
from agent.lab.weather import Fault, Weather

Reply = dict[str, Any] | list[dict[str, Any]]


class Controlled(Protocol):
    """What the control API needs of the cloud."""

    def status(self) -> dict[str, Any]:
        """Everything there is."""

    def change(self, wanted: dict[str, Any]) -> None:
        """Another pace, other settings, another kind of store."""

    def act(self, instance_id: str, verb: str) -> dict[str, Any]:
        """One verb on one machine."""

    def spoil_imds(self, instance_id: str, wanted: dict[str, Any]) -> None:
        """Override or break an instance's metadata."""

    def interrupt(self, instance_id: str, wanted: dict[str, Any]) -> None:
        """Take a spot instance back, after a notice."""

    def go_down(self) -> None:
        """End soon."""


@dataclass(frozen=True)
class Request:
    """A control request, taken apart."""

    method: str
    path: tuple[str, ...]
    query: dict[str, list[str]]
    body: dict[str, Any]


class Control:
    """A WSGI application; `weather` and `calls` are the gateway's."""

    def __init__(self, cloud: Controlled, weather: Callable[[], Weather], calls: Callable[[], CallLog]) -> None:
        self._cloud, self._weather, self._calls = cloud, weather, calls

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request in JSON."""
        try:
            status, reply = "200 OK", self._answer(_read(environ))
        except (LabError, TypeError, ValueError) as error:
            status, reply = "400 Bad Request", {"error": str(error)}
        body = json.dumps(reply).encode()
        start(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    def _answer(self, request: Request) -> Reply:
        match request.method, request.path:
            case "GET", ("status",):
                return self._cloud.status()
            case "POST", ("down",):
                self._cloud.go_down()
            case "POST", ("change",):
                self._cloud.change(request.body)
            case "POST", ("instances", instance_id, "imds"):
                self._cloud.spoil_imds(instance_id, request.body)
            case "POST", ("instances", instance_id, "interrupt"):
                self._cloud.interrupt(instance_id, request.body)
            case "POST", ("instances", instance_id, verb):
                return self._cloud.act(instance_id, verb)
            case _:
                return self._answer_about_calls(request)
        return {}

    def _answer_about_calls(self, request: Request) -> Reply:
        match request.method, request.path:
            case "GET", ("faults",):
                return self._weather().listing()
            case "POST", ("faults",):
                return {"id": self._weather().add(Fault.from_json(request.body))}
            case "DELETE", ("faults", *rest):
                return {"ended": self._weather().clear(rest[0] if rest else None)}
            case "GET", ("calls",):
                return self._calls().since(int(request.query.get("since", ["0"])[0]))
            case "GET", ("counters",):
                return self._calls().counters()
            case _:
                pass
        raise LabError(f"no {request.method} /lab/{'/'.join(request.path)}")


def _read(environ: dict[str, Any]) -> Request:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = json.loads(environ["wsgi.input"].read(length)) if length else {}
    path = tuple(str(environ["PATH_INFO"]).strip("/").split("/")[1:])
    return Request(str(environ["REQUEST_METHOD"]), path, parse_qs(str(environ.get("QUERY_STRING", ""))), body)
