"""IAM's decision on one request: is it allowed by these policies? Pure.

Covers Action, NotAction, Resource, Principal (of a bucket's policy: everybody) and the condition operators below, with
`IfExists`, `ForAllValues` and `ForAnyValue`. No NotResource, boundaries, session or service control policies. Written
from IAM's "Policy evaluation logic", "Condition operators" and "Multivalued context keys"; never compared with AWS.

House rule: what is not understood raises, because a condition that is skipped is a test that proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Statement = Mapping[str, Any]
Operator = Callable[[str, str], bool]


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. The keys of `context` are lower-case; one that the request does not carry is absent."""

    action: str
    resource: str
    context: Mapping[str, Sequence[str]] = field(default_factory=dict)


def allowed(request: Request, statements: Iterable[Statement]) -> bool:
    """Some statement allows it, and none denies it."""
    effects = {str(each["Effect"]) for each in statements if applies(each, request)}
    return effects == {"Allow"}


def denied(request: Request, statements: Iterable[Statement]) -> bool:
    """Some statement denies it, whoever allows it: what a bucket's policy does to its own account."""
    return any(each["Effect"] == "Deny" and applies(each, request) for each in statements)


def applies(statement: Statement, request: Request) -> bool:
    """Whether a statement is about this request at all."""
    assert "NotResource" not in statement
    assert statement.get("Principal", "*") in ("*", {"AWS": "*"}), "no other principal is known here"
    named = any(_like(request.action.lower(), each.lower()) for each in _each(statement.get("Action", ())))
    if "NotAction" in statement:
        named = not any(_like(request.action.lower(), each.lower()) for each in _each(statement["NotAction"]))
    about = any(_like(request.resource, each) for each in _each(statement["Resource"]))
    return named and about and _hold(statement.get("Condition", {}), request.context)


def _hold(conditions: Mapping[str, Mapping[str, Any]], context: Mapping[str, Sequence[str]]) -> bool:
    return all(
        _holds(operator, context.get(key.lower()), [str(each) for each in _each(wanted)])
        for operator, wants in conditions.items()
        for key, wanted in wants.items()
    )


def _holds(operator: str, found: Sequence[str] | None, wanted: Sequence[str]) -> bool:
    if operator == "Null":
        return (found is None) == (wanted[0].lower() == "true")
    quantifier, _, name = operator.rpartition(":")
    if_exists, name = name.endswith("IfExists"), name.removesuffix("IfExists")
    negated = NEGATED.get(name)
    if found is None:
        return if_exists or negated is not None or quantifier == "ForAllValues"
    test = OPERATORS[negated or name]
    hits = [any(test(value, each) for each in wanted) != (negated is not None) for value in found]
    return all(hits) if quantifier == "ForAllValues" else any(hits)


def _like(value: str, pattern: str) -> bool:
    """IAM's wildcards: any number of characters, slashes and colons too, or exactly one."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), value, re.DOTALL) is not None


OPERATORS: Mapping[str, Operator] = {
    "StringEquals": lambda value, wanted: value == wanted,
    "StringLike": _like,
    "ArnLike": _like,
    "ArnEquals": _like,
    "Bool": lambda value, wanted: value.lower() == wanted.lower(),
}
NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotLike": "StringLike",
    "ArnNotLike": "ArnLike",
    "ArnNotEquals": "ArnEquals",
}


def _each(value: Any) -> Sequence[str]:
    return [value] if isinstance(value, str) else list(value)
