"""What was asked of the emulated AWS: one request as service, operation, resource and caller; and the log of them.

House rule: reading a request never consumes it.
"""

from __future__ import annotations

import io
import json
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, unquote

KEPT = 50_000
S3_PLAIN = {
    ("GET", True): "GetObject",
    ("HEAD", True): "HeadObject",
    ("PUT", True): "PutObject",
    ("DELETE", True): "DeleteObject",
    ("GET", False): "ListObjects",
    ("HEAD", False): "HeadBucket",
    ("PUT", False): "CreateBucket",
    ("DELETE", False): "DeleteBucket",
}
S3_UPLOADS = {
    "GET": "ListParts", "PUT": "UploadPart", "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload",
}  # fmt: skip
S3_SUBRESOURCES = {
    "lifecycle": "LifecycleConfiguration",
    "versioning": "Versioning",
    "policy": "Policy",
    "encryption": "Encryption",
    "location": "Location",
    "tagging": "Tagging",
    "acl": "Acl",
    "object-lock": "ObjectLockConfiguration",
    "publicAccessBlock": "PublicAccessBlock",
}
S3_VERBS = {"GET": "Get", "PUT": "Put", "DELETE": "Delete"}


@dataclass(frozen=True)
class Call:
    """One request: `caller` is an instance ID, "operator", or the access key of a stranger."""

    service: str
    operation: str
    resource: str
    """S3: /bucket/key. Elsewhere: the parameters as they were sent, but for a value that is secret."""
    caller: str

    @property
    def question(self) -> str:
        """Equal for two requests that ask the same thing, whoever asks."""
        return f"{self.service} {self.operation} {self.resource}"

    @property
    def is_listing(self) -> bool:
        """Whether the answer may be empty, partial or old on a bad day."""
        return self.operation.startswith(("Describe", "List"))


def read_call(environ: dict[str, Any], who: Callable[[str], str]) -> Call:
    """What a WSGI request asks. `who` turns an access key ID into a name."""
    key, service = _credential(environ)
    if "HTTP_X_AMZ_TARGET" in environ:  # the JSON protocol, such as SSM's
        operation = str(environ["HTTP_X_AMZ_TARGET"]).rpartition(".")[2]
        return Call(service, operation, _named_in(_peek(environ)), who(key))
    if service == "s3" or not _is_form(environ):
        operation, resource = _s3_operation(environ)
        return Call(service or "s3", operation, resource, who(key))
    body = _peek(environ)
    form = parse_qs(body)
    return Call(service, form.get("Action", ["?"])[0], unquote(body), who(key))


def _named_in(body: str) -> str:
    """The parameters, without their values: those may be keys."""
    try:
        found = json.loads(body)
    except ValueError:
        return "?"
    return json.dumps({name: value for name, value in found.items() if name != "Value"})


def _credential(environ: dict[str, Any]) -> tuple[str, str]:
    """Access key ID and signing name out of a SigV4 header or a presigned URL."""
    signed = str(environ.get("HTTP_AUTHORIZATION", "")).partition("Credential=")[2].split(",")[0]
    if not signed:
        signed = parse_qs(str(environ.get("QUERY_STRING", ""))).get("X-Amz-Credential", [""])[0]
    parts = signed.split("/")
    return parts[0], parts[3] if len(parts) > 3 else ""


def _is_form(environ: dict[str, Any]) -> bool:
    return str(environ.get("CONTENT_TYPE", "")).startswith("application/x-www-form-urlencoded")


def _peek(environ: dict[str, Any]) -> str:
    body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return body.decode("utf-8", "replace")


def _s3_operation(environ: dict[str, Any]) -> tuple[str, str]:
    path = str(environ["PATH_INFO"])
    method = str(environ["REQUEST_METHOD"])
    query = parse_qs(str(environ.get("QUERY_STRING", "")), keep_blank_values=True)
    has_key = "/" in path.strip("/")
    prefix = query.get("prefix", [""])[0]
    token = query.get("continuation-token", [""])[0]
    resource = f"{path}?prefix={prefix}&token={token}" if method == "GET" and not has_key else path
    return _s3_name(environ, method, has_key, query), resource


def _s3_name(environ: dict[str, Any], method: str, has_key: bool, query: dict[str, list[str]]) -> str:
    if path_is_root(environ):
        return "ListBuckets"
    if "uploadId" in query:
        return S3_UPLOADS.get(method, method)
    if "uploads" in query:
        return "CreateMultipartUpload" if method == "POST" else "ListMultipartUploads"
    for name, operation in S3_SUBRESOURCES.items():
        if name in query:
            return f"{S3_VERBS.get(method, method)}{'Object' if has_key else 'Bucket'}{operation}"
    if "delete" in query:
        return "DeleteObjects"
    if "HTTP_X_AMZ_COPY_SOURCE" in environ:
        return "CopyObject"
    if "list-type" in query:
        return "ListObjectsV2"
    return S3_PLAIN.get((method, has_key), method)


def path_is_root(environ: dict[str, Any]) -> bool:
    """S3 without a bucket."""
    return not str(environ["PATH_INFO"]).strip("/")


@dataclass(frozen=True)
class Entry:
    """One line of the log. `fault` is the ID of the fault that met the call, if any did."""

    seq: int
    at: str
    service: str
    operation: str
    caller: str
    status: int
    resource: str
    fault: str


class CallLog:
    """Every call in order, the newest `KEPT` of them in full and all of them as counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seq = 0
        self._entries: deque[Entry] = deque(maxlen=KEPT)
        self._counts: Counter[tuple[str, str, str, int]] = Counter()

    def add(self, call: Call, status: int, fault: str = "") -> None:
        """Record one answered call; status 0 means that it got no answer."""
        with self._lock:
            self._seq += 1
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            self._entries.append(
                Entry(self._seq, at, call.service, call.operation, call.caller, status, call.resource[:500], fault)
            )
            self._counts[call.service, call.operation, call.caller, status] += 1

    def since(self, seq: int) -> list[dict[str, Any]]:
        """Entries after `seq`, oldest first."""
        with self._lock:
            return [asdict(entry) for entry in self._entries if entry.seq > seq]

    def counters(self) -> list[dict[str, Any]]:
        """How often each (service, operation, caller, status) was seen since the lab came up."""
        with self._lock:
            return [
                {"service": service, "operation": operation, "caller": caller, "status": status, "count": count}
                for (service, operation, caller, status), count in sorted(self._counts.items())
            ]
