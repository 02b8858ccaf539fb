"""What is worth asking for: next to nothing while all is well, and at once whatever a decision waits for."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.decide import Ask, worth_asking
from agent.decide.attention import waiting_interval
from agent.model.disk import Data, Disk, Stage
from agent.model.known import NOT_ASKED
from tests.decide.examples import (
    NOW,
    TIMEOUT,
    A,
    B,
    C,
    D,
    Example,
    a_healthy_three,
    a_learner,
    a_moved_member,
    a_newcomer,
    a_stopped_member,
    answers,
    before_the_first_generation,
    fleet,
    identity,
    instance,
    membership,
    status,
    voter,
)

EVERYTHING = tuple(Ask)


def asked(example: Example, seconds_ago: float | None = 0.0) -> frozenset[Ask]:
    """What is asked where all of it was asked so many seconds ago (None: never)."""
    at = {} if seconds_ago is None else dict.fromkeys(map(str, EVERYTHING), NOW - timedelta(seconds=seconds_ago))
    return worth_asking(example.o, replace(example.memory, asked_at=at), example.policy)


def test_a_healthy_follower_looks_for_a_newer_generation_every_five_minutes_and_for_nothing_else() -> None:
    follower = a_healthy_three(seen_by=B)
    assert asked(follower, 299) == frozenset()
    assert asked(follower, 300) == {Ask.HEAD}


def test_beside_the_leader_the_fleet_is_looked_at_once_a_minute() -> None:
    assert asked(a_healthy_three(), 59) == frozenset()
    assert asked(a_healthy_three(), 60) == {Ask.FLEET}


def test_a_member_that_falls_silent_is_asked_about_at_once() -> None:
    silent = a_healthy_three().seeing(answers=answers(A, B, silent=(C,)))
    assert asked(silent, 2) == {Ask.FLEET}
    assert asked(silent, 1) == frozenset()


def test_and_less_often_the_longer_it_is_silent() -> None:
    silent = a_healthy_three().seeing(answers=answers(A, B, silent=(C,)))
    for_long = silent.remembering(silent_since={each.id: NOW - timedelta(hours=1) for each in [voter(C)]})
    assert asked(for_long, 14) == frozenset()
    assert asked(for_long, 15) == {Ask.FLEET}


def test_at_first_everything_is_asked_that_is_not_at_hand() -> None:
    """But for the lifecycle, which concerns who has no data, and the others, while our own etcd lists them."""
    first = a_healthy_three().remembering(bucket=None, head=None)
    assert asked(first, None) == {Ask.HEAD, Ask.BUCKET, Ask.FLEET}


def test_a_bucket_that_was_judged_is_not_judged_again() -> None:
    assert Ask.BUCKET not in asked(a_newcomer(), None)
    assert Ask.BUCKET in asked(a_newcomer().remembering(bucket=None), 5)


def test_an_empty_disk_asks_for_everything_it_joins_by() -> None:
    assert asked(a_newcomer().seeing(membership=NOT_ASKED), 3) == {Ask.HEAD, Ask.FLEET, Ask.LIFECYCLE, Ask.OTHERS}
    assert Ask.FLEET in asked(before_the_first_generation(), 3)


def test_a_member_that_restarts_in_place_needs_nothing_of_ec2() -> None:
    assert Ask.FLEET not in asked(a_stopped_member(), None)


@pytest.mark.parametrize("why", ["moved", "ends early", "learns", "unread", "unsigned"])
def test_unless_it_moved_or_keeps_ending_or_cannot_tell(why: str) -> None:
    """An etcd that was removed while everybody else moved finds the others only through EC2."""
    example = {
        "moved": a_moved_member(),
        "ends early": a_stopped_member().remembering(etcd_short_lives=1),
        "learns": a_learner().seeing(membership=NOT_ASKED),
        "unread": a_stopped_member().seeing(disk=TIMEOUT),
        "unsigned": a_stopped_member().seeing(disk=Disk(None, Data.EMPTY)),
    }[why]
    assert Ask.FLEET in asked(example, 3)


class TestTheHead:
    def test_without_a_quorum_a_running_etcd_looks_every_five_seconds(self) -> None:
        lost = a_healthy_three(seen_by=B).seeing(membership=TIMEOUT)
        assert Ask.HEAD not in asked(lost, 4)
        assert Ask.HEAD in asked(lost, 5)

    def test_whoever_waits_without_an_etcd_looks_in_every_round(self) -> None:
        """It starts nothing without a look; and its rounds come ever less often the longer it waits."""
        waiting = before_the_first_generation().remembering(unsettled_since=NOW - timedelta(minutes=9))
        assert Ask.HEAD in asked(waiting, 0)
        assert waiting_interval(*waiting.values) == timedelta(seconds=5)
        assert waiting_interval(*before_the_first_generation().values) == timedelta(milliseconds=250)

    def test_an_etcd_that_was_never_stamped_is_still_on_its_way(self) -> None:
        starting = a_healthy_three().seeing(disk=Disk(identity(A, Stage.STARTING), Data.PRESENT), membership=NOT_ASKED)
        assert Ask.HEAD in asked(starting, 0.25)
        assert Ask.HEAD in asked(starting.seeing(disk=TIMEOUT), 0.25)

    def test_a_settled_member_that_never_saw_a_record_keeps_looking(self) -> None:
        """The bucket was emptied, or has not answered since this agent started."""
        assert Ask.HEAD in asked(a_healthy_three(seen_by=B).remembering(head=None, formed=None), 5)

    def test_so_does_one_whose_generation_nobody_has_written_down_as_formed(self) -> None:
        assert Ask.HEAD in asked(a_healthy_three(seen_by=B).remembering(formed=None), 5)


class TestASpare:
    spare = (
        a_learner()
        .seeing(fleet=NOT_ASKED, membership=NOT_ASKED)
        .remembering(
            membership=membership(voter(A), voter(B), voter(C)), fleet=fleet(*map(instance, (A, B, C, D)), desired=4)
        )
    )

    def test_it_asks_its_members_and_hardly_aws(self) -> None:
        assert asked(self.spare, 59) == {Ask.OTHERS}
        assert asked(self.spare, 60) == {Ask.OTHERS, Ask.FLEET}

    @pytest.mark.parametrize("forgotten", ["membership", "fleet"])
    def test_a_learner_that_does_not_know_its_place_is_no_spare(self, forgotten: str) -> None:
        assert Ask.FLEET in asked(self.spare.remembering(**{forgotten: None}), 3)

    def test_nor_is_one_that_does_not_answer(self) -> None:
        assert Ask.HEAD in asked(self.spare.seeing(local=TIMEOUT), 5)


def test_who_has_a_list_of_its_own_does_not_ask_the_others_for_it() -> None:
    assert Ask.OTHERS not in asked(a_healthy_three(seen_by=B), None)
    leaderless = a_healthy_three(seen_by=B).seeing(local=status(B, leader=None), membership=NOT_ASKED)
    assert Ask.OTHERS in asked(leaderless, None)
