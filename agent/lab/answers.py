"""Answers bent on purpose: error bodies in each service's dialect, listings emptied or with entries missing.

House rule: what comes out parses like the real thing, or the agent would be tested against our XML and not AWS's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from xml.etree import ElementTree
from xml.sax.saxutils import escape

LISTS = frozenset(
    {
        "reservationSet",
        "instanceStatusSet",
        "AutoScalingGroups",
        "AutoScalingInstances",
        "Activities",
        "Instances",
        "tagSet",
    }
)
NAMES = frozenset({"instanceId", "InstanceId", "Key"})
ENTRIES = frozenset({"item", "member", "Contents"})
CODES = {403: "AccessDenied", 409: "ConditionalRequestConflict", 412: "PreconditionFailed", 503: "SlowDown"}
THROTTLED = {"ec2": "RequestLimitExceeded", "s3": "SlowDown"}


def error_body(service: str, status: int, code: str, message: str = "injected by the lab") -> bytes:
    """An error as this service words it; without a code, the one that usually goes with the status."""
    code = code or _usual_code(service, status)
    if service == "ssm":
        return json.dumps({"__type": code, "message": message}).encode()
    error = f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
    if service == "s3":
        return f'<?xml version="1.0" encoding="UTF-8"?>{error}'.encode()
    if service == "ec2":
        return f"<Response><Errors>{error}</Errors><RequestID>lab</RequestID></Response>".encode()
    return f"<ErrorResponse>{error}<RequestId>lab</RequestId></ErrorResponse>".encode()


def _usual_code(service: str, status: int) -> str:
    if service == "ec2" and status == 403:
        return "UnauthorizedOperation"
    if service == "ssm" and status == 403:
        return "AccessDeniedException"
    if status == 503:
        return THROTTLED.get(service, "Throttling")
    return CODES.get(status, "InternalError" if status >= 500 else "ValidationError")


def emptied(body: bytes) -> bytes:
    """The same listing with nothing in it and no next page."""
    root = _parse(body)
    for element in root.iter():
        if _local(element) in LISTS:
            for child in list(element):
                element.remove(child)
    _prune(root, lambda child: _local(child) in ("Contents", "CommonPrefixes", "NextToken", "nextToken"))
    for element in root.iter():
        if _local(element) == "KeyCount":
            element.text = "0"
    return _unparse(root)


def without(body: bytes, names: frozenset[str]) -> bytes:
    """The same listing without the instances (or objects) of these names."""
    root = _parse(body)
    _prune(root, lambda child: _local(child) in ENTRIES and _name(child) in names)
    _prune(root, _is_empty_reservation)
    return _unparse(root)


def _prune(element: ElementTree.Element, doomed: Callable[[ElementTree.Element], bool]) -> None:
    for child in list(element):
        if doomed(child):
            element.remove(child)
        else:
            _prune(child, doomed)


def _name(entry: ElementTree.Element) -> str | None:
    return next((child.text for child in entry if _local(child) in NAMES), None)


def _is_empty_reservation(element: ElementTree.Element) -> bool:
    return any(_local(child) == "instancesSet" and len(child) == 0 for child in element)


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _parse(body: bytes) -> ElementTree.Element:
    namespace = re.search(rb'xmlns="([^"]+)"', body)
    if namespace:
        ElementTree.register_namespace("", namespace.group(1).decode())
    return ElementTree.fromstring(body)  # noqa: S314 - the emulator's own answer, not a stranger's


def _unparse(root: ElementTree.Element) -> bytes:
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text
