"""Who leaves the list: the proven dead and the stalled learner, one at a time, and nobody else ever."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent.model.actions import Blocker, RemoveMember, Rest, Wait
from agent.model.fleet import GOING, LIVE, InstanceState
from tests.decide.examples import (
    LONG_AGO,
    MEMBERS,
    NOW,
    THROTTLED,
    TIMEOUT,
    A,
    B,
    C,
    D,
    E,
    Example,
    a_healthy_three,
    answers,
    fleet,
    instance,
    learner,
    membership,
    status,
    unstarted,
    voter,
    with_a_forgotten_member,
    with_a_stalled_learner,
    with_member_down,
)


@pytest.mark.parametrize("state", sorted(GOING))
def test_a_member_whose_instance_ended_is_removed(state: InstanceState) -> None:
    example = with_member_down(a_healthy_three(), C, state)
    assert example.action == RemoveMember(MEMBERS[C])
    assert state in example.carried_out.because


@pytest.mark.parametrize("state", sorted(LIVE))
def test_a_member_whose_instance_can_come_back_stays(state: InstanceState) -> None:
    assert with_member_down(a_healthy_three(), C, state).action == Rest()


@pytest.mark.parametrize("unknown", [THROTTLED, TIMEOUT])
def test_a_throttled_listing_removes_nobody(unknown: Any) -> None:
    assert with_member_down(a_healthy_three(), C).seeing(fleet=unknown).action == Rest()


def test_a_partial_listing_removes_nobody() -> None:
    listed = fleet(instance(A), instance(B))
    assert with_member_down(a_healthy_three(), C).seeing(fleet=listed).action == Rest()


def test_a_fleet_of_the_last_round_removes_nobody() -> None:
    """What is remembered may count whom to expect; it never removes."""
    listed = fleet(instance(A), instance(B), instance(C, InstanceState.TERMINATED))
    example = with_member_down(a_healthy_three(), C).seeing(fleet=TIMEOUT).remembering(fleet=listed)
    assert example.action == Rest()


def test_only_the_leaders_agent_removes() -> None:
    example = with_member_down(a_healthy_three(seen_by=B), C, InstanceState.TERMINATED)
    assert example.action == Rest()


def test_without_a_list_that_a_quorum_stood_behind_nobody_is_removed() -> None:
    example = with_member_down(a_healthy_three(), C, InstanceState.TERMINATED).seeing(membership=TIMEOUT)
    assert example.action == Wait(Blocker.QUORUM)


def test_the_dead_stay_while_too_few_of_the_others_answer() -> None:
    """After the quorum blip another tool would clean up here, and lose the cluster."""
    example = with_member_down(a_healthy_three(), C, InstanceState.TERMINATED)
    assert example.seeing(answers=answers(A, silent=(B, C))).action == Rest()


def test_the_last_voter_is_never_removed() -> None:
    members = membership(voter(C))
    listed = fleet(instance(A), instance(C, InstanceState.TERMINATED))
    example = a_healthy_three().seeing(membership=members, fleet=listed, answers=answers(silent=(C,)))
    assert example.action == Rest()


def test_nobody_removes_itself() -> None:
    listed = fleet(instance(A, InstanceState.SHUTTING_DOWN), instance(B), instance(C))
    assert a_healthy_three().seeing(fleet=listed).action == Rest()


def five_with_two_dead() -> Example:
    members = membership(*map(voter, (A, B, C, D, E)))
    ended = (instance(D, InstanceState.TERMINATED), instance(E, InstanceState.TERMINATED))
    listed = fleet(instance(A), instance(B), instance(C), *ended, desired=5)
    return a_healthy_three().seeing(membership=members, fleet=listed, answers=answers(A, B, C, silent=(D, E)))


def test_two_dead_of_five_go_one_at_a_time() -> None:
    first = five_with_two_dead()
    assert first.action == RemoveMember(MEMBERS[D])
    second = first.seeing(membership=membership(*map(voter, (A, B, C, E))))
    assert second.action == RemoveMember(MEMBERS[E])


def test_a_dead_learner_goes_first_because_it_blocks_whoever_would_join() -> None:
    members = membership(*map(voter, (A, B, C, D)), learner(E))
    assert five_with_two_dead().seeing(membership=members).action == RemoveMember(MEMBERS[E])


class TestForgottenByEc2:
    """`InvalidInstanceID.NotFound` alone does not mean terminated."""

    def test_twice_unknown_and_older_than_an_hour_is_gone(self) -> None:
        assert with_a_forgotten_member().action == RemoveMember(MEMBERS[C])

    def test_looks_of_before_do_not_count_where_this_one_says_nothing(self) -> None:
        listed = fleet(instance(A), instance(B))
        assert with_a_forgotten_member().seeing(fleet=listed).action == Rest()

    def test_once_is_not_enough(self) -> None:
        assert with_a_forgotten_member(looks=1).action == Rest()

    def test_a_member_younger_than_an_hour_may_not_be_known_yet(self) -> None:
        young = dict.fromkeys(MEMBERS.values(), NOW - timedelta(minutes=59))
        assert with_a_forgotten_member().remembering(seen_since=young).action == Rest()

    def test_a_member_that_answers_is_not_gone(self) -> None:
        assert with_a_forgotten_member().seeing(answers=answers(A, B, C)).action == Rest()

    def test_an_ec2_that_does_not_know_ourselves_speaks_of_another_account(self) -> None:
        listed = fleet(unheard_of=frozenset({A, B, C}))
        assert with_a_forgotten_member().seeing(fleet=listed).action == Rest()

    def test_its_groups_word_is_enough(self) -> None:
        ended = fleet(instance(A), instance(B), ended_by_group=frozenset({C}))
        assert with_a_forgotten_member(looks=1).seeing(fleet=ended).action == RemoveMember(MEMBERS[C])


def test_a_volume_that_moved_answers_under_the_name_of_an_instance_that_ended() -> None:
    listed = fleet(instance(A), instance(B), instance(C, InstanceState.TERMINATED), instance(D))
    assert a_healthy_three().seeing(fleet=listed).action == Rest()


class TestStalledLearners:
    def test_a_learner_that_never_started_is_removed_after_join_timeout(self) -> None:
        assert with_a_stalled_learner(2.1).action == RemoveMember(MEMBERS[D])

    def test_before_that_it_has_time(self) -> None:
        assert with_a_stalled_learner(1.9).action == Rest()

    def test_a_large_database_gives_it_more(self) -> None:
        """10 GB at 10 MB/s: seventeen minutes on top."""
        big = replace(status(A), db_size_bytes=10_000_000_000)
        assert with_a_stalled_learner(10).seeing(local=big).action == Rest()
        assert with_a_stalled_learner(20).seeing(local=big).action == RemoveMember(MEMBERS[D])

    def test_a_learner_never_seen_before_has_all_its_time(self) -> None:
        assert with_a_stalled_learner(10).remembering(learners={}).action == Rest()

    def test_only_the_leaders_agent_ends_its_time(self) -> None:
        assert with_a_stalled_learner(10).seeing(local=status(A, leader=B)).action == Rest()

    def test_a_silent_voter_has_no_such_time(self) -> None:
        example = with_member_down(a_healthy_three(), C).remembering(silent_since={MEMBERS[C]: LONG_AGO})
        assert example.action == Rest()

    def test_an_unstarted_voter_of_somebody_else_is_left_alone(self) -> None:
        """Added by hand with etcdctl: we did not ask for it and cannot tell whose it is."""
        members = membership(*map(voter, (A, B, C)), replace(unstarted(D), is_learner=False))
        assert a_healthy_three().seeing(membership=members).action == Rest()

    def test_nor_has_a_learner_that_votes_by_now(self) -> None:
        example = with_a_stalled_learner(10).seeing(membership=membership(*map(voter, (A, B, C, D))))
        assert example.action == Rest()
