"""The front door of the emulated AWS: every API call passes here, is named, meets its weather, and is logged.

House rules: EC2 and Auto Scaling calls run one at a time under the cloud's lock, and the cloud settles before the lock
is released. Conditional S3 writes to one key run one at a time, as S3's do; so do the steps of its multipart uploads,
which moto does not bear side by side. What moto cannot answer becomes a well-formed error, never a page of HTML.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from agent.lab.answers import emptied, error_body, without
from agent.lab.calls import Call, CallLog, read_call
from agent.lab.weather import HANG_LIMIT_S, Fault, Meeting, Weather

log = logging.getLogger(__name__)

Headers = list[tuple[str, str]]
Environ = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]
SERIALISED = frozenset({"ec2", "autoscaling"})
MULTIPART = frozenset({"UploadPart", "CompleteMultipartUpload", "AbortMultipartUpload"})
LISTINGS_REMEMBERED = 500


@dataclass(frozen=True)
class Answer:
    """A finished HTTP answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def with_body(self, body: bytes) -> Answer:
        """The same answer saying something else."""
        kept = tuple(
            (name, value) for name, value in self.headers if name.lower() not in ("content-length", "x-amz-crc32")
        )
        return Answer(self.status, (*kept, ("Content-Length", str(len(body)))), body)


def xml(status: int, body: bytes) -> Answer:
    """An XML answer of our own."""
    return Answer(status, (("Content-Type", "text/xml"), ("Content-Length", str(len(body)))), body)


class Gateway:
    """A WSGI application around moto's."""

    def __init__(
        self,
        moto: App,
        control: App,
        lock: AbstractContextManager[Any],
        settle: Callable[[], None],
        who: Callable[[str], str],
        objection: Callable[[Environ, Call], str | None] = lambda _environ, _call: None,
    ) -> None:
        """`objection` says why a call is denied, if it is."""
        self._moto, self._control, self._lock, self._settle, self._who = moto, control, lock, settle, who
        self._objection = objection
        self.weather = Weather()
        self.calls = CallLog()
        self.honours_preconditions = True
        self._keys: dict[str, threading.Lock] = {}
        self._memory = threading.Lock()
        self._last: OrderedDict[str, Answer] = OrderedDict()

    def __call__(self, environ: Environ, start: StartResponse) -> Iterable[bytes]:
        """Serve the control API or an AWS call."""
        if str(environ["PATH_INFO"]).startswith("/lab/"):
            return self._control(environ, start)
        call = read_call(environ, self._who)
        meeting = self.weather.meet(call)
        answer = self._serve(environ, call, meeting)
        self.calls.add(call, answer.status, meeting.id if meeting else "")
        start(f"{answer.status} Lab", list(answer.headers))
        return [answer.body]

    def _serve(self, environ: Environ, call: Call, meeting: Meeting | None) -> Answer:
        if meeting is None:
            return self._remember(call, self._ask(environ, call))
        fault = meeting.fault
        time.sleep(fault.delay_s)
        if fault.hang or fault.status:
            return self._fail(environ, call, meeting)
        if fault.stale and call.question in self._last:
            return self._last[call.question]
        answer = self._remember(call, self._ask(environ, call))
        return _bend(answer, fault) if answer.status == 200 else answer

    def _fail(self, environ: Environ, call: Call, meeting: Meeting) -> Answer:
        if meeting.fault.after:
            self._ask(environ, call)
        else:
            _drain(environ)
        if meeting.fault.hang:
            meeting.cleared.wait(HANG_LIMIT_S)
        status = meeting.fault.status or 504
        return xml(status, error_body(call.service, status, meeting.fault.code))

    def _ask(self, environ: Environ, call: Call) -> Answer:
        denied = self._objection(environ, call)  # as it was sent: a turn may take its preconditions off
        if denied is not None:
            return _refusal(environ, call, denied)
        with self._turn(environ, call):
            answer = self._ask_moto(environ, call)
            if call.service in SERIALISED:
                self._settle()
            return answer

    def _turn(self, environ: Environ, call: Call) -> AbstractContextManager[Any]:
        """Whatever this call must hold while it runs."""
        if call.service in SERIALISED:
            return self._lock
        if call.service == "s3" and environ["REQUEST_METHOD"] in ("PUT", "POST", "DELETE"):
            if not self.honours_preconditions:
                environ.pop("HTTP_IF_NONE_MATCH", None)
                environ.pop("HTTP_IF_MATCH", None)
            conditional = "HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MATCH" in environ
            if conditional or call.operation in MULTIPART:
                with self._memory:
                    return self._keys.setdefault(call.resource, threading.Lock())
        return nullcontext()

    def _ask_moto(self, environ: Environ, call: Call) -> Answer:
        started: list[tuple[str, Headers]] = []

        def start(status: str, headers: Headers, _error: object = None) -> None:
            started.append((status, headers))

        try:
            body = self._moto(environ, start)
            content = b"".join(body)
        except NotImplementedError as error:
            log.warning("%s %s: %s", call.service, call.operation, error)
            return xml(*_not_implemented(call, str(error)))
        except Exception as error:  # whatever moto cannot do, the caller gets an answer
            if call.operation in MULTIPART and isinstance(error, KeyError):
                return xml(404, error_body(call.service, 404, "NoSuchUpload"))  # it was aborted meanwhile
            log.exception("%s %s failed", call.service, call.operation)
            return xml(500, error_body(call.service, 500, "InternalError"))
        status, headers = started[-1]
        return Answer(int(status.split()[0]), tuple(headers), content)

    def _remember(self, call: Call, answer: Answer) -> Answer:
        """Keep the newest listing of every kind, for the day when an old one is wanted."""
        if call.is_listing and answer.status == 200:
            with self._memory:
                self._last[call.question] = answer
                self._last.move_to_end(call.question)
                while len(self._last) > LISTINGS_REMEMBERED:
                    self._last.popitem(last=False)
        return answer


def _refusal(environ: Environ, call: Call, why: str) -> Answer:
    """A HEAD is refused without a word, as by S3."""
    _drain(environ)
    return xml(403, b"" if environ["REQUEST_METHOD"] == "HEAD" else error_body(call.service, 403, "", why))


def _bend(answer: Answer, fault: Fault) -> Answer:
    if fault.empty:
        return answer.with_body(emptied(answer.body))
    if fault.drop:
        return answer.with_body(without(answer.body, frozenset(fault.drop)))
    return answer


def _not_implemented(call: Call, why: str) -> tuple[int, bytes]:
    """moto raises the same for a filter nobody has heard of, which AWS refuses, and for what moto itself lacks."""
    if "filter" in why.lower():
        return 400, error_body(call.service, 400, "InvalidParameterValue")
    return 501, error_body(call.service, 501, "NotImplemented")


def _drain(environ: Environ) -> None:
    """Read what was sent, or the client would see a broken pipe where we mean an error."""
    left = int(environ.get("CONTENT_LENGTH") or 0)
    while left > 0:
        chunk = environ["wsgi.input"].read(min(left, 1 << 16))
        if not chunk:
            return
        left -= len(chunk)
