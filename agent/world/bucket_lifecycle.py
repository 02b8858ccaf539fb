"""Which of a bucket's lifecycle rules could make a generation's record unreadable. Pure.

A record that expires looks like a cluster that never was. So this errs on the side of refusing: a rule that could
match is one that does. Tags and sizes do not excuse a rule, because both can be changed by others; expiring noncurrent
versions counts, because a version is what a deleted record is restored from; and so does moving to storage classes
that have to be thawed before they can be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

FROZEN_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})


def expiring_rule(rules: Iterable[Mapping[str, Any]], prefix: str) -> str | None:
    """The ID of the first rule that could take away an object below `prefix`."""
    for rule in rules:
        if rule.get("Status") == "Enabled" and _overlaps(_prefix_of(rule), prefix) and _takes_away(rule):
            return str(rule.get("ID") or "without an ID")
    return None


def _overlaps(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _prefix_of(rule: Mapping[str, Any]) -> str:
    """In its old place, its new one, or beside other conditions; none at all means the whole bucket."""
    conditions = rule.get("Filter") or {}
    both = conditions.get("And") or {}
    return str(conditions.get("Prefix") or both.get("Prefix") or rule.get("Prefix") or "")


def _takes_away(rule: Mapping[str, Any]) -> bool:
    expiration = rule.get("Expiration") or {}
    if "Days" in expiration or "Date" in expiration or rule.get("NoncurrentVersionExpiration"):
        return True
    moves = [*rule.get("Transitions", ()), *rule.get("NoncurrentVersionTransitions", ())]
    return any(move.get("StorageClass") in FROZEN_CLASSES for move in moves)
