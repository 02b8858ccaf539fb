"""An instance is a target while its member serves; it goes before its member does, and never as the last one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent.decide import Ask, worth_asking
from agent.decide.registering import TRY_AGAIN
from agent.model.actions import Decision, DeregisterTarget, Outcome, RegisterTarget, RemoveMember, Rest, Result
from agent.model.hold import Hold
from agent.model.ids import InstanceId
from agent.model.memory import remember, remember_result
from agent.model.spot import SpotAction, SpotNotice
from agent.model.targets import TargetGroup
from tests.decide.examples import (
    LONG_AGO,
    MEMBERS,
    NOW,
    TIMEOUT,
    A,
    B,
    C,
    D,
    Example,
    a_healthy_three,
    a_learner,
    a_newcomer,
    answers,
    fleet,
    instance,
    learner,
    membership,
    status,
    voter,
)

GROUP, SECOND = "arn:first", "arn:second"
A_MOMENT = timedelta(seconds=1)


def group(*registered: InstanceId, sick: tuple[InstanceId, ...] = (), arn: str = GROUP) -> TargetGroup:
    return TargetGroup(arn, frozenset(registered), frozenset(registered) - frozenset(sick))


def minding(example: Example, *groups: TargetGroup) -> Example:
    """The operator wants it; so the groups are."""
    example = replace(example, policy=replace(example.policy, target_groups=(GROUP, SECOND)))
    return example.remembering(targets=groups, targets_read_at=NOW)


def serving(*groups: TargetGroup) -> Example:
    return minding(a_healthy_three(B), *groups)


def leaving(*groups: TargetGroup, seconds_ago: float = 1, **gone: Any) -> Example:
    """B was told so."""
    listed = fleet(instance(A), instance(B, lifecycle="Terminating:Wait"), instance(C, **gone))
    example = minding(a_healthy_three(B), *groups).seeing(lifecycle_target="Terminated", answers=answers(A, B, C))
    since = NOW - timedelta(seconds=seconds_ago)
    example = example.remembering(leaving_since=since, heartbeat_at=NOW)
    return example.seeing(fleet=listed).remembering(fleet=listed, fleet_read_at=NOW)


def spare(*groups: TargetGroup) -> Example:
    """D is a learner beside the three voters that are wanted."""
    members = membership(voter(A), voter(B), voter(C), learner(D))
    listed = fleet(instance(A), instance(B), instance(C), instance(D), desired=4)
    example = minding(a_learner(), *groups).seeing(membership=members, answers=answers(A, B, C, D))
    return example.remembering(membership=members, fleet=listed, fleet_read_at=NOW)


def homeless(*groups: TargetGroup, minutes: float) -> Example:
    """D has an empty disk, and waits to join."""
    return minding(a_newcomer(D), *groups).remembering(unsettled_since=NOW - timedelta(minutes=minutes))


def is_silent(example: Example) -> bool:
    return not isinstance(example.decided.action, RegisterTarget | DeregisterTarget)


class TestIn:
    def test_who_serves_goes_in(self) -> None:
        assert serving(group(A, C)).action == RegisterTarget(GROUP)
        assert serving(group()).action == RegisterTarget(GROUP), "the first one, too"
        assert serving(group(A, B, C)).action == Rest()

    def test_one_group_after_another(self) -> None:
        assert serving(group(B), group(A, arn=SECOND)).action == RegisterTarget(SECOND)
        assert serving(group(A), group(A, arn=SECOND)).action == RegisterTarget(GROUP)

    @pytest.mark.parametrize(
        "change",
        [
            {"membership": TIMEOUT},
            {"local": TIMEOUT},
            {"local": replace(status(B), is_learner=True)},
            {"membership": membership(voter(A), voter(B), voter(C), via=C)},
        ],
        ids=["no-quorum", "no-status", "a-learner", "a-quorum-of-others"],
    )
    def test_nobody_goes_in_who_does_not_serve_or_does_not_know(self, change: dict[str, Any]) -> None:
        own = membership(voter(A), voter(B), voter(C), via=B)
        assert serving(group(A, C)).seeing(membership=own).action == RegisterTarget(GROUP)
        assert is_silent(serving(group(A, C)).seeing(**{"membership": own, **change}))

    def test_nobody_goes_anywhere_before_the_groups_were_read(self) -> None:
        assert is_silent(serving().remembering(targets=None))
        assert is_silent(leaving().remembering(targets=None))

    def test_who_leaves_does_not_go_in(self) -> None:
        assert is_silent(leaving(group(A, C)))
        assert is_silent(leaving(group(A, C), seconds_ago=0))

    def test_a_spare_does_not_go_in(self) -> None:
        assert is_silent(spare(group(A, B, C)))


class TestOut:
    def test_who_leaves_goes_before_its_member_does(self) -> None:
        assert leaving(group(A, B, C)).action == DeregisterTarget(GROUP)
        assert leaving(group(A, C)).action == RemoveMember(MEMBERS[B])

    def test_who_else_is_healthy_is_read_once_more(self) -> None:
        before = NOW - timedelta(seconds=2)
        assert leaving(group(A, B, C)).remembering(targets_read_at=before).action == RemoveMember(MEMBERS[B])
        assert leaving(group(A, B, C)).remembering(targets_read_at=None).action == RemoveMember(MEMBERS[B])

    def test_from_every_group(self) -> None:
        assert leaving(group(A, C), group(B, C, arn=SECOND)).action == DeregisterTarget(SECOND)

    @pytest.mark.parametrize(
        "example",
        [
            leaving(group(B)),
            leaving(group(A, B, C, sick=(A, C))),
            leaving(group(B, C), lifecycle="Terminating:Wait"),
        ],
        ids=["alone", "the-others-are-sick", "the-other-leaves-too"],
    )
    def test_nobody_goes_as_the_last_one_and_nobody_stays_for_it(self, example: Example) -> None:
        assert example.action == RemoveMember(MEMBERS[B])

    def test_what_is_not_known_of_the_fleet_keeps_nobody_in(self) -> None:
        unread = leaving(group(B, C), lifecycle="Terminating:Wait").seeing(fleet=TIMEOUT)
        unread = unread.remembering(fleet_read_at=LONG_AGO)
        assert unread.action == DeregisterTarget(GROUP)

    @pytest.mark.parametrize("change", [{"membership": TIMEOUT}, {"local": TIMEOUT}])
    def test_nobody_goes_on_ignorance(self, change: dict[str, Any]) -> None:
        assert is_silent(leaving(group(A, B, C)).seeing(**change))

    @pytest.mark.parametrize("change", [{"membership": TIMEOUT}, {"local": status(B, leader=None)}])
    def test_who_serves_nobody_for_the_moment_stays(self, change: dict[str, Any]) -> None:
        assert is_silent(serving(group(A, B, C)).seeing(**change))

    def test_a_spare_goes_and_a_learner_that_is_to_vote_stays(self) -> None:
        assert spare(group(A, B, C, D)).action == DeregisterTarget(GROUP)
        assert is_silent(spare(group(D)))
        assert is_silent(minding(a_learner(), group(A, B, D)))

    def test_an_instance_without_a_member_goes_after_a_while(self) -> None:
        assert homeless(group(A, B, D), minutes=5).action == DeregisterTarget(GROUP)
        assert is_silent(homeless(group(A, B, D), minutes=4.9))
        assert is_silent(homeless(group(A, B, D), minutes=5).seeing(membership=TIMEOUT))
        assert is_silent(homeless(group(D), minutes=5))
        named = membership(voter(A), voter(B), voter(C), voter(D))
        assert is_silent(homeless(group(A, B, D), minutes=5).seeing(membership=named))
        assert is_silent(homeless(group(A, B, D), minutes=5).remembering(unsettled_since=None))

    @pytest.mark.parametrize(("left", "goes"), [(120, True), (60, True), (59, False), (5, False)])
    def test_a_spot_notice_that_leaves_little_time_leaves_none_for_targets(self, left: float, goes: bool) -> None:
        notice = SpotNotice(SpotAction.TERMINATE, NOW + timedelta(seconds=left))
        example = serving(group(A, B, C)).seeing(spot=notice, answers=answers(A, B, C))
        example = example.remembering(spot=notice, spot_since=NOW - A_MOMENT)
        assert isinstance(example.action, DeregisterTarget) is goes

    def test_who_is_only_stopped_stays(self) -> None:
        notice = SpotNotice(SpotAction.STOP, NOW + timedelta(seconds=120))
        assert is_silent(serving(group(A, B, C)).seeing(spot=notice).remembering(spot=notice, spot_since=NOW))

    def test_a_hold_keeps_no_clients_with_a_member_that_is_not_ready(self) -> None:
        held = leaving(group(A, B, C)).seeing(hold=Hold("somebody", "looking", LONG_AGO))
        assert held.action == DeregisterTarget(GROUP)
        assert held.remembering(targets=(group(A, C),)).rule == "hold"


class TestAgain:
    def test_not_for_a_minute_and_the_way_out_does_not_wait(self) -> None:
        example = leaving(group(A, B, C))
        lately = example.remembering(registering_tried_at={DeregisterTarget(GROUP): NOW - TRY_AGAIN + A_MOMENT})
        assert lately.action == RemoveMember(MEMBERS[B])
        assert example.remembering(registering_tried_at={DeregisterTarget(GROUP): NOW - TRY_AGAIN}).action == (
            DeregisterTarget(GROUP)
        )
        assert serving(group(A)).remembering(registering_tried_at={RegisterTarget(GROUP): NOW}).action == Rest()

    def test_another_group_and_the_other_direction_do_not_wait(self) -> None:
        tried = {RegisterTarget(GROUP): NOW}
        assert leaving(group(A, B, C)).remembering(registering_tried_at=tried).action == DeregisterTarget(GROUP)
        two = serving(group(A), group(A, arn=SECOND)).remembering(registering_tried_at=tried)
        assert two.action == RegisterTarget(SECOND)

    @pytest.mark.parametrize("outcome", Outcome)
    def test_whatever_came_of_it_is_read_at_once(self, outcome: Outcome) -> None:
        example = serving(group(A)).remembering(asked_at={"targets": NOW, "fleet": NOW})
        decided = Decision(RegisterTarget(GROUP), "because")
        after = remember_result(example.memory, decided, Result(outcome), NOW)
        assert (after.targets, after.asked_at) == (None, {"fleet": NOW})
        assert after.registering_tried_at == {RegisterTarget(GROUP): NOW}


class TestTheSecondLook:
    def test_in(self) -> None:
        example = serving(group(A))
        assert example.objections_to(RegisterTarget(GROUP)) == ()
        assert leaving(group(A)).objections_to(RegisterTarget(GROUP))
        assert spare(group(A)).objections_to(RegisterTarget(GROUP))
        assert example.seeing(local=replace(status(B), is_learner=True)).objections_to(RegisterTarget(GROUP))
        assert example.seeing(membership=membership(voter(A), voter(C))).objections_to(RegisterTarget(GROUP))
        for change in ({"membership": TIMEOUT}, {"local": TIMEOUT}):
            assert example.seeing(**change).objections_to(RegisterTarget(GROUP))

    def test_out(self) -> None:
        assert leaving(group(A, B, C)).objections_to(DeregisterTarget(GROUP)) == ()
        assert spare(group(A, D)).objections_to(DeregisterTarget(GROUP)) == ()
        assert homeless(group(A, D), minutes=5).objections_to(DeregisterTarget(GROUP)) == ()
        assert homeless(group(A, D), minutes=5).seeing(membership=TIMEOUT).objections_to(DeregisterTarget(GROUP))
        assert serving(group(A, B, C)).objections_to(DeregisterTarget(GROUP)), "a voter that stays"
        silent = serving(group(A, B, C)).seeing(local=TIMEOUT)
        assert silent.objections_to(DeregisterTarget(GROUP)), "a voter whose etcd does not answer"
        assert leaving(group(B)).objections_to(DeregisterTarget(GROUP)), "the last one"
        assert leaving(group(A, B), group(B, arn=SECOND)).objections_to(DeregisterTarget(SECOND))
        assert leaving().remembering(targets=None).objections_to(DeregisterTarget(GROUP))


class TestWhenItIsRead:
    @staticmethod
    def asks(example: Example, seconds_ago: float | None) -> bool:
        asked_at = {} if seconds_ago is None else {"targets": NOW - timedelta(seconds=seconds_ago)}
        return Ask.TARGETS in worth_asking(example.o, replace(example.memory, asked_at=asked_at), example.policy)

    def test_seldom_by_each_voter_and_each_spare(self) -> None:
        waiting = homeless(minutes=5).remembering(membership=membership(voter(A), voter(B)))
        for example in (serving(), spare(), waiting):
            assert self.asks(example, None)
            assert not self.asks(example, 299)
            assert self.asks(example, 300)

    def test_again_soon_where_it_is_not_known(self) -> None:
        unread = serving().remembering(targets=None)
        assert not self.asks(unread, 14)
        assert self.asks(unread, 15)

    def test_what_was_read_is_kept(self) -> None:
        example = serving(group(A)).remembering(targets_read_at=None)
        read = remember(example.memory, example.seeing(targets=(group(B),)).o, example.policy)
        assert (read.targets, read.targets_read_at) == ((group(B),), NOW)
        unread = remember(example.memory, example.seeing(targets=TIMEOUT).o, example.policy)
        assert (unread.targets, unread.targets_read_at) == ((group(A),), None)

    def test_by_nobody_else(self) -> None:
        assert not self.asks(a_healthy_three(B), None)
        assert not self.asks(serving().seeing(membership=TIMEOUT), None)
        assert not self.asks(minding(a_learner()), None)
        assert not self.asks(homeless(minutes=5).remembering(membership=None), None)

    def test_at_once_where_it_begins_to_serve_or_to_leave(self) -> None:
        assert self.asks(serving().remembering(serving_since=NOW - A_MOMENT), 2)
        assert not self.asks(serving().remembering(serving_since=NOW - A_MOMENT), 1)
        assert self.asks(leaving(seconds_ago=1), 2)
        assert not self.asks(leaving(seconds_ago=9), 8)
        assert self.asks(leaving(seconds_ago=60), 15)

    @pytest.mark.parametrize(("left", "asks"), [(60, True), (59, False)])
    def test_not_where_ec2_leaves_little_time(self, left: float, asks: bool) -> None:
        notice = SpotNotice(SpotAction.TERMINATE, NOW + timedelta(seconds=left))
        example = serving().remembering(spot=notice, spot_since=NOW - A_MOMENT)
        assert self.asks(example, 9999) is asks
        stops = replace(notice, action=SpotAction.STOP)
        assert self.asks(example.remembering(spot=stops), 9999)
