"""What is known of etcd's versions: which lose data, which are advised against, and what their tools can do.

Sources: etcd's changelogs and advisories; each line names its issue or what it is about.
"""

from __future__ import annotations

from dataclasses import dataclass

Number = tuple[int, int, int]

END_OF_LIFE = (3, 5, 0)
"""What is older gets no fixes any more."""

BUMPS_SINCE: Number = (3, 5, 10)
"""`snapshot restore --bump-revision` (etcd 3.5.10)."""

PROMOTIONS_ARE_KEPT: Number = (3, 5, 26)
"""The promotion of a learner is in every member's database for good since this patch of 3.5 (etcd 3.5.20, 3.5.24 and
3.5.26 mend it bit by bit). Before, a restart may find a voter to be a learner; a later 3.6 goes by that."""


ADVICE = ("end-of-life", "lost-promotions", "unknown")
"""Bounded, because it is a metric label."""


@dataclass(frozen=True, slots=True)
class Advice:
    """Works, and there is something better to run."""

    kind: str  # one of ADVICE
    why: str


def number_of(version: str) -> Number | None:
    """(3, 5, 30) for `3.5.30`, also with a suffix; None for what is not such a version."""
    parts = version.split("-", maxsplit=1)[0].split("+", maxsplit=1)[0].split(".")
    if len(parts) != 3 or not all(each.isdecimal() for each in parts):
        return None
    major, minor, patch = map(int, parts)
    return major, minor, patch


def may_have_lost_promotions(version: str) -> bool:
    """Of the 3.5 line, before the fixes."""
    number = number_of(version)
    return number is not None and (3, 5, 0) <= number < PROMOTIONS_ARE_KEPT


def can_bump_revisions(version: str) -> bool:
    """Whether the restore tool of that version raises revisions; what cannot be told is taken for a current one."""
    number = number_of(version)
    return number is None or number >= BUMPS_SINCE


def advice_on(version: str) -> Advice | None:
    """Why an operator should run another version than this one; None: no reason is known."""
    number = number_of(version)
    if number is None:
        return Advice("unknown", f"{version!r} is no version of etcd that anything is known of")
    if number < END_OF_LIFE:
        return Advice("end-of-life", f"etcd {version} gets no fixes any more: upgrade to 3.5 (docs/upgrade.md)")
    if may_have_lost_promotions(version):
        return Advice(
            "lost-promotions",
            f"etcd {version} may forget that a learner was promoted: upgrade to 3.5.26 or later, and before 3.6 at all",
        )
    return None
