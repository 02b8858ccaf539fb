"""An etcd that cannot run: its instance heals itself while the others hold quorum, or calls for help."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent.decide.attention import ails
from agent.decide.healing import ASK_AGAIN, HEALED_LATELY, LOOP
from agent.decide.leaving import COMPLETE_EVERY
from agent.model.actions import (
    AskToBeReplaced,
    Blocker,
    CallHuman,
    CompleteHook,
    Quarantine,
    RemoveMember,
    StampIdentity,
    Wait,
)
from agent.model.cluster import Answers
from agent.model.disk import BROKEN, Data, Disk, EtcdRunning, Obstacle, ObstacleKind, Stage
from agent.model.fleet import Transition
from agent.model.known import Unknown
from agent.model.spot import SpotAction, SpotNotice
from tests.decide.examples import (
    LONG_AGO,
    MEMBERS,
    NOW,
    OTHER_CLUSTER,
    TIMEOUT,
    A,
    B,
    C,
    D,
    Example,
    a_broken_member,
    a_fenced_member,
    a_healthy_three,
    a_stopped_member,
    answers,
    identity,
    learner,
    membership,
    record,
    status,
    voter,
)

REMOVE_B = RemoveMember(MEMBERS[B])
FAILS = Obstacle(ObstacleKind.DISK, "the filesystem is read-only")


def lately(example: Example, minutes_ago: float = 59) -> Example:
    """It was given up for a new member so long ago."""
    disk = example.o.disk
    assert isinstance(disk, Disk)
    return example.seeing(disk=replace(disk, broken_at=(NOW - timedelta(minutes=minutes_ago),)))


def replaceable(example: Example) -> Example:
    return replace(example, policy=replace(example.policy, replace_unhealthy=True))


class TestHealing:
    def test_damaged_data_is_given_up_after_two_lives(self) -> None:
        assert a_broken_member(lives=1).action != REMOVE_B
        assert a_broken_member(lives=2).action == REMOVE_B
        assert a_broken_member(lives=2).rule == "remove-own-broken"

    def test_data_that_looks_sound_has_more_tries(self) -> None:
        assert a_broken_member(lives=LOOP - 1, damaged=False).action == Wait(Blocker.BACKOFF)
        assert a_broken_member(lives=LOOP, damaged=False).action == REMOVE_B

    def test_then_it_is_fenced_set_aside_by_its_name_and_joins_anew(self) -> None:
        removed = a_broken_member().seeing(membership=membership(voter(A), voter(C)), answers=answers(A, C))
        stamp = removed.action
        assert isinstance(stamp, StampIdentity)
        assert stamp.identity.stage is Stage.FENCED
        quarantine = removed.seeing(disk=Disk(stamp.identity, Data.PRESENT)).action
        assert isinstance(quarantine, Quarantine)
        assert quarantine.why.endswith(f"-{BROKEN}")
        assert a_fenced_member().action == Quarantine("generation-1-fenced"), "whose etcd ran well"

    @pytest.mark.parametrize(
        "change",
        [
            {"membership": TIMEOUT},
            {"answers": answers(A, silent=(B, C))},
            {"answers": answers(A, B, C)},
            {"membership": replace(membership(voter(A), voter(B), voter(C)), cluster_id=OTHER_CLUSTER)},
            {"membership": membership(voter(B))},
            {"membership": membership(voter(A), voter(B)), "answers": answers(silent=(A, B))},
            {"obstacle": TIMEOUT},
            {"obstacle": FAILS},
            {"disk": Disk(replace(identity(B), member_id=None), Data.PRESENT)},
        ],
        ids=[
            "no-quorum-answers",
            "too-few-of-the-others",
            "somebody-answers-as-it",
            "another-cluster",
            "it-is-all-there-is",
            "one-of-two",
            "nobody-could-look-around",
            "a-cause-that-all-share",
            "which-member-it-is-is-not-known",
        ],
    )
    def test_nothing_is_removed_where(self, change: dict[str, Any]) -> None:
        assert a_broken_member().seeing(**change).decided.action != REMOVE_B
        assert a_broken_member(lives=LOOP).seeing(**change).decided.action != REMOVE_B

    def test_data_that_never_told_whose_it_is_is_a_humans(self) -> None:
        unnamed = Disk(replace(identity(B, Stage.STARTING), member_id=None, cluster_id=None), Data.PRESENT)
        called = a_broken_member().seeing(disk=unnamed)
        assert isinstance(called.action, CallHuman)
        assert "identity.json" in called.action.hint
        assert "checksum" in called.carried_out.because
        assert not isinstance(a_broken_member(lives=1).seeing(disk=unnamed).action, CallHuman)
        due = called.remembering(etcd_ended_at=LONG_AGO)
        assert not isinstance(due.action, CallHuman), "it is started again all the same"
        assert not isinstance(called.seeing(membership=TIMEOUT).action, CallHuman), "what is here may be needed"

    def test_with_five_the_quorum_of_the_others_is_three(self) -> None:
        five = membership(*map(voter, (A, B, C, D)), replace(voter(D), id=MEMBERS[C] + 9))  # type: ignore[arg-type]
        assert a_broken_member().seeing(membership=five).action != REMOVE_B, "two of four"
        assert a_broken_member().seeing(membership=five, answers=answers(A, C, D)).action == REMOVE_B

    def test_a_learner_holds_no_vote(self) -> None:
        example = a_broken_member().seeing(membership=membership(voter(A), voter(C), learner(B)))
        assert example.action == REMOVE_B

    def test_an_etcd_that_runs_is_left_alone(self) -> None:
        running = a_broken_member().seeing(process=EtcdRunning(1), local=status(B))
        assert running.decided.rule == "rest"

    def test_data_of_an_older_generation_is_fenced(self) -> None:
        newer = record(A, C, D, generation=2)
        assert a_broken_member().seeing(head=newer).remembering(head=newer).rule == "fence-older-generation"
        unread = a_broken_member().seeing(head=TIMEOUT).remembering(head=newer)
        assert unread.decided.action != REMOVE_B

    def test_what_was_mended_is_given_its_tries(self) -> None:
        mended = a_broken_member(lives=LOOP).remembering(etcd_unexplained=1)
        assert mended.rule == "restart-in-place" or mended.rule == "back-off"


class TestOnceAnHour:
    def test_a_second_member_that_does_not_live_here_calls_a_human(self) -> None:
        example = lately(a_broken_member())
        assert isinstance(example.action, CallHuman)
        assert "last hour" in example.carried_out.because
        later = lately(a_broken_member(), minutes_ago=HEALED_LATELY / timedelta(minutes=1) + 1)
        assert later.action == REMOVE_B

    def test_a_clock_that_was_set_back_does_not_matter_for_long(self) -> None:
        assert isinstance(lately(a_broken_member(), minutes_ago=-59).action, CallHuman)
        assert lately(a_broken_member(), minutes_ago=-61).action == REMOVE_B

    def test_etcd_is_still_started_when_it_is_due(self) -> None:
        due = lately(a_broken_member()).remembering(etcd_ended_at=LONG_AGO)
        assert due.rule == "restart-in-place"


class TestReplacement:
    def test_only_where_the_operator_wants_it(self) -> None:
        example = lately(a_broken_member())
        assert isinstance(example.action, CallHuman)
        assert replaceable(example).action == AskToBeReplaced()

    def test_a_disk_that_fails_is_no_place_for_another_member(self) -> None:
        example = a_broken_member().seeing(obstacle=FAILS)
        assert isinstance(example.action, CallHuman)
        assert replaceable(example).action == AskToBeReplaced()
        assert replaceable(example).remembering(etcd_short_lives=0, etcd_refused=True).action == AskToBeReplaced()

    def test_it_is_asked_for_again_after_a_while(self) -> None:
        example = replaceable(a_broken_member().seeing(obstacle=FAILS))
        asked = example.remembering(replacement_asked_at=NOW - ASK_AGAIN + timedelta(seconds=1))
        assert isinstance(asked.action, CallHuman), "meanwhile it is told what the matter is"
        assert example.remembering(replacement_asked_at=NOW - ASK_AGAIN).action == AskToBeReplaced()

    @pytest.mark.parametrize("change", [{"membership": TIMEOUT}, {"answers": answers(A, silent=(B, C))}])
    def test_never_while_the_others_may_need_what_is_here(self, change: dict[str, Any]) -> None:
        for example in (lately(a_broken_member()), a_broken_member().seeing(obstacle=FAILS)):
            assert replaceable(example).seeing(**change).decided.action != AskToBeReplaced()

    def test_the_second_look(self) -> None:
        example = a_broken_member()
        assert example.objections_to(AskToBeReplaced()) == ()
        assert a_healthy_three(B).objections_to(AskToBeReplaced()), "it runs"
        assert example.seeing(answers=answers(A, silent=(B, C))).objections_to(AskToBeReplaced())
        assert example.seeing(membership=TIMEOUT).objections_to(AskToBeReplaced())
        assert example.seeing(disk=TIMEOUT).objections_to(AskToBeReplaced())


class TestWhatAnyEtcdWouldMeet:
    @pytest.mark.parametrize("kind", ObstacleKind)
    def test_it_is_named_to_a_human(self, kind: ObstacleKind) -> None:
        example = a_broken_member(lives=LOOP).seeing(obstacle=Obstacle(kind, "what was found"))
        assert isinstance(example.action, CallHuman)
        assert "what was found" in example.carried_out.because

    def test_so_is_an_etcd_that_is_older_than_the_others(self) -> None:
        newer = Answers({MEMBERS[each]: replace(status(each), version="3.6.1") for each in (A, C)})
        example = a_broken_member(lives=LOOP, damaged=False).seeing(answers=newer)
        assert isinstance(example.action, CallHuman)
        assert "3.6.1" in example.carried_out.because
        assert example.seeing(etcd_version="3.6.0").action == REMOVE_B
        assert example.seeing(etcd_version=TIMEOUT).action == REMOVE_B

    def test_but_not_while_only_some_of_them_are_newer(self) -> None:
        """A cluster that is being upgraded takes both."""
        mixed = Answers({**answers(A, C).of, MEMBERS[A]: replace(status(A), version="3.6.1")})
        assert a_broken_member(lives=LOOP, damaged=False).seeing(answers=mixed).action == REMOVE_B

    def test_it_is_started_again_all_the_same(self) -> None:
        example = a_broken_member(lives=LOOP).seeing(obstacle=FAILS)
        assert example.remembering(etcd_ended_at=LONG_AGO).rule == "restart-in-place"

    def test_one_life_is_too_few_to_say(self) -> None:
        full = Obstacle(ObstacleKind.FULL, "the disk is full")
        assert a_broken_member(lives=1).seeing(obstacle=full).remembering(etcd_ended_at=NOW).rule == "back-off"


class TestLeaving:
    @staticmethod
    def told(example: Example) -> Example:
        return example.seeing(lifecycle_target="Terminated").remembering(leaving_since=NOW)

    def test_a_broken_member_that_is_told_to_leave_does_so_whatever_is_wrong(self) -> None:
        assert self.told(a_broken_member(damaged=False)).action == REMOVE_B
        assert self.told(lately(a_broken_member())).action == REMOVE_B
        assert self.told(a_broken_member().seeing(obstacle=FAILS)).action == REMOVE_B
        assert self.told(a_broken_member().seeing(obstacle=TIMEOUT)).action == REMOVE_B

    def test_what_it_was_told_before_is_not_enough(self) -> None:
        """The objections would say no: no rule counts on that."""
        for example in (a_broken_member(damaged=False), lately(a_broken_member())):
            unheard = self.told(example).seeing(lifecycle_target=TIMEOUT)
            assert unheard.decided.action != REMOVE_B

    def test_ec2s_word_is_as_good(self) -> None:
        notice = SpotNotice(SpotAction.TERMINATE, NOW + timedelta(seconds=100))
        taken = a_broken_member().seeing(obstacle=FAILS, spot=notice).remembering(spot=notice, spot_since=NOW)
        assert taken.action == REMOVE_B

    def test_but_not_where_the_others_need_it(self) -> None:
        needed = self.told(a_broken_member()).seeing(answers=answers(A, silent=(B, C)))
        assert needed.decided.action != REMOVE_B

    def test_a_disk_that_takes_no_fence_holds_nobody_back(self) -> None:
        gone = membership(voter(A), voter(C))
        example = self.told(a_broken_member().seeing(obstacle=FAILS)).seeing(membership=gone, answers=answers(A, C))
        assert example.action == CompleteHook(Transition.TERMINATING)
        done = example.remembering(completed={Transition.TERMINATING: NOW})
        assert done.decided.action != CompleteHook(Transition.TERMINATING)
        again = example.remembering(completed={Transition.TERMINATING: NOW - COMPLETE_EVERY})
        assert again.action == CompleteHook(Transition.TERMINATING), "it may not have waited yet"
        elsewhere = example.seeing(membership=replace(gone, cluster_id=OTHER_CLUSTER))
        assert elsewhere.decided.action != CompleteHook(Transition.TERMINATING)
        assert elsewhere.objections_to(CompleteHook(Transition.TERMINATING))
        unknown = example.seeing(membership=TIMEOUT)
        assert unknown.objections_to(CompleteHook(Transition.TERMINATING))
        assert a_broken_member().seeing(obstacle=FAILS).decided.action != CompleteHook(Transition.TERMINATING)


class TestLookingForTheReason:
    def test_while_etcd_is_down_and_not_for_the_first_time(self) -> None:
        example = a_broken_member(lives=2)
        assert ails(example.o, example.memory)
        assert not ails(a_broken_member(lives=1).o, a_broken_member(lives=1).memory)
        assert not ails(example.seeing(process=EtcdRunning(1)).o, example.memory)
        assert not ails(example.seeing(disk=Disk(None, Data.ABSENT)).o, example.memory)
        assert not ails(example.seeing(process=Unknown(TIMEOUT.why)).o, example.memory)

    def test_or_could_not_be_started_at_all(self) -> None:
        example = a_stopped_member().remembering(etcd_refused=True)
        assert ails(example.o, example.memory)
