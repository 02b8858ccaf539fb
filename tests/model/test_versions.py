"""What is known of etcd's versions."""

from __future__ import annotations

import pytest

from agent.model.versions import ADVICE, advice_on, can_bump_revisions, may_have_lost_promotions, number_of


@pytest.mark.parametrize(
    ("version", "number"),
    [
        ("3.5.30", (3, 5, 30)),
        ("3.6.0-rc.1", (3, 6, 0)),
        ("3.5.16+git", (3, 5, 16)),
        ("3.5", None),
        ("", None),
        ("3.x.1", None),
    ],
)
def test_a_version_is_three_numbers(version: str, number: tuple[int, int, int] | None) -> None:
    assert number_of(version) == number


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("3.4.23", "end-of-life"),
        ("3.5.3", "lost-promotions"),
        ("3.5.25", "lost-promotions"),
        ("3.5.26", None),
        ("3.6.4", None),
        ("unknown", "unknown"),
    ],
)
def test_what_is_advised_against(version: str, kind: str | None) -> None:
    advice = advice_on(version)
    assert (None if advice is None else advice.kind) == kind
    assert kind is None or kind in ADVICE


def test_promotions_are_lost_in_the_3_5_line_only() -> None:
    assert [may_have_lost_promotions(each) for each in ("3.4.23", "3.5.25", "3.5.26", "3.6.0", "")] == [
        False,
        True,
        False,
        False,
        False,
    ]


def test_revisions_are_bumped_since_3_5_10_and_by_what_nobody_knows() -> None:
    assert [can_bump_revisions(each) for each in ("3.4.23", "3.5.9", "3.5.10", "3.6.0", "")] == [
        False,
        False,
        True,
        True,
        True,
    ]
