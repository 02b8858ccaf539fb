"""What is worth asking for: next to nothing while all is well, and at once whatever a decision waits for."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.decide import Ask, worth_asking
from agent.decide.attention import waiting_interval
from agent.model.disk import Data, Disk, Stage
from agent.model.ids import InstanceId
from agent.model.known import NOT_ASKED
from agent.model.work import Drill, Ended, TakeSnapshot, Working
from tests.decide.examples import (
    LONG_AGO,
    NOW,
    TIMEOUT,
    A,
    B,
    C,
    D,
    Example,
    a_healthy_three,
    a_learner,
    a_lost_three,
    a_moved_member,
    a_newcomer,
    a_snapshot,
    a_stopped_member,
    answers,
    before_the_first_generation,
    fleet,
    identity,
    instance,
    manifest,
    membership,
    record,
    snapshot_name,
    status,
    the_next,
    voter,
)

EVERYTHING = tuple(Ask)


def asked(example: Example, seconds_ago: float | None = 0.0) -> frozenset[Ask]:
    """What is asked where all of it was asked so many seconds ago (None: never); IMDS is always asked, and near."""
    at = {} if seconds_ago is None else dict.fromkeys(map(str, EVERYTHING), NOW - timedelta(seconds=seconds_ago))
    return worth_asking(example.o, replace(example.memory, asked_at=at), example.policy) - {
        Ask.LIFECYCLE,
        Ask.REBALANCE,
    }


def test_an_instance_asks_every_few_seconds_whether_it_is_leaving_and_without_data_in_every_round() -> None:
    for example, every in ((a_healthy_three(seen_by=B), 3), (a_newcomer(), 0.25)):
        for seconds, due in ((every - 0.1, False), (every, True)):
            memory = replace(example.memory, asked_at={Ask.LIFECYCLE: NOW - timedelta(seconds=seconds)})
            assert (Ask.LIFECYCLE in worth_asking(example.o, memory, example.policy)) is due


def test_who_is_leaving_looks_at_the_fleet_and_at_the_others() -> None:
    leaving = a_healthy_three(seen_by=B).remembering(leaving_since=NOW)
    assert asked(leaving, 2) == {Ask.FLEET, Ask.OTHERS}


def test_a_follower_looks_at_the_fleet_once_lest_its_launching_hook_waits() -> None:
    for_the_first_time = a_healthy_three(seen_by=B).remembering(fleet=None)
    assert asked(for_the_first_time, 14) == frozenset()
    assert asked(for_the_first_time, 15) == {Ask.FLEET}


def test_while_its_group_launches_it_it_looks_whether_the_hook_waits_by_now() -> None:
    assert asked(a_healthy_three(seen_by=B).remembering(arriving=True), 15) == {Ask.FLEET}


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
    """But for the others, while our own etcd lists them."""
    first = a_healthy_three().remembering(bucket=None, head=None, snapshots=None, hold=NOT_ASKED)
    assert asked(first, None) == {Ask.HEAD, Ask.BUCKET, Ask.FLEET, Ask.SNAPSHOTS, Ask.HOLD}


def test_a_bucket_that_was_judged_is_not_judged_again() -> None:
    assert Ask.BUCKET not in asked(a_newcomer(), None)
    assert Ask.BUCKET in asked(a_newcomer().remembering(bucket=None), 5)


def test_an_empty_disk_asks_for_everything_it_joins_by() -> None:
    assert asked(a_newcomer().seeing(membership=NOT_ASKED), 3) == {Ask.HEAD, Ask.FLEET, Ask.OTHERS}
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


class TestSnapshots:
    """What a voter of a healthy cluster lists, and when: by its last listing and the clock, it may be its turn."""

    @staticmethod
    def listed(minutes_ago: float, seen_by: InstanceId = B, *, read: float = 0, index: int = 850) -> Example:
        """The newest was so old when this agent last listed them, so many minutes ago; raft's index is at 1000."""
        name = snapshot_name(minutes_ago=minutes_ago)
        return a_healthy_three(seen_by).remembering(
            snapshots=(a_snapshot(name),),
            snapshots_read_at=NOW - timedelta(minutes=read),
            manifest=manifest(name, raft_index=index),
            behind_since=LONG_AGO,
            last_drill_at=NOW,
        )

    @pytest.mark.parametrize(("seen_by", "minutes"), [(B, 5), (C, 7.5), (A, 10)])
    def test_they_are_listed_when_it_is_this_voters_turn(self, seen_by: InstanceId, minutes: float) -> None:
        assert asked(self.listed(minutes, seen_by), 5) == {Ask.SNAPSHOTS}
        assert asked(self.listed(minutes, seen_by), 4) == frozenset()
        assert asked(self.listed(minutes - 0.1, seen_by), 59) == frozenset()
        assert asked(self.listed(minutes - 3, seen_by, read=3), 5) == {Ask.SNAPSHOTS}, "it has aged since it was read"

    @pytest.mark.parametrize(("seen_by", "minutes"), [(C, 2.5), (A, 5)])
    def test_after_a_rest_those_before_have_their_time(self, seen_by: InstanceId, minutes: float) -> None:
        rested = self.listed(600, seen_by)
        assert asked(rested.remembering(behind_since=NOW - timedelta(minutes=minutes)), 5) == {Ask.SNAPSHOTS}
        assert asked(rested.remembering(behind_since=NOW - timedelta(minutes=minutes - 0.1)), 5) == frozenset()

    @pytest.mark.parametrize("seen_by", [A, B, C])
    def test_an_idle_cluster_lists_none_but_once_a_day_by_one_of_its_members(self, seen_by: InstanceId) -> None:
        """Nothing was written since: the index stands still."""
        idle = self.listed(60 * 23, seen_by, read=60 * 20, index=1000)
        assert Ask.SNAPSHOTS not in asked(idle, 86_399)
        assert (Ask.SNAPSHOTS in asked(idle, 86_400)) == (seen_by == B)

    @pytest.mark.parametrize("seen_by", [A, B, C])
    def test_without_any_all_voters_look_until_there_is_one(self, seen_by: InstanceId) -> None:
        none = a_healthy_three(seen_by).remembering(snapshots=(), last_drill_at=NOW)
        for example in (none, none.remembering(snapshots=None, snapshots_read_at=None), none.remembering(head=None)):
            assert Ask.SNAPSHOTS in asked(example, 5)
            assert Ask.SNAPSHOTS not in asked(example, 4)

    def test_what_was_just_made_is_looked_at_once(self) -> None:
        done = Ended(TakeSnapshot(record(A).generation), LONG_AGO, NOW)
        made = self.listed(4, read=1).seeing(work=done)
        assert Ask.SNAPSHOTS in asked(made, 0)
        assert Ask.SNAPSHOTS not in asked(made.remembering(snapshots_read_at=NOW), 0)

    def test_nothing_is_listed_while_one_is_taken(self) -> None:
        busy = self.listed(60).seeing(work=Working(TakeSnapshot(record(A).generation), NOW))
        assert asked(busy, 299) == frozenset()

    def test_who_has_no_turn_lists_none(self) -> None:
        without_us = a_healthy_three(B).seeing(membership=membership(voter(A), voter(C)))
        assert Ask.SNAPSHOTS not in asked(without_us, 9999)
        assert Ask.SNAPSHOTS not in asked(a_learner(), 9999)


class TestDrills:
    due = TestSnapshots.listed(4).remembering(last_drill_at=None)

    def test_where_one_is_due_the_first_asks_when_the_last_was(self) -> None:
        for example in (self.due, self.due.remembering(last_drill_at=NOW - timedelta(days=1))):
            assert asked(example, 5) == {Ask.DRILL}
            assert asked(example, 4) == frozenset()

    def test_and_then_not_for_a_day(self) -> None:
        """It asked every five seconds for ever once it had done one, in an idle cluster."""
        done = Ended(Drill(snapshot_name()), LONG_AGO, NOW - timedelta(minutes=1))
        lately = self.due.remembering(last_drill_at=NOW - timedelta(hours=23)).seeing(work=done)
        assert Ask.DRILL not in asked(lately.remembering(snapshots_read_at=NOW), 9999)

    def test_nobody_else_asks_and_nobody_without_need(self) -> None:
        unwanted = replace(self.due, policy=replace(self.due.policy, drill_interval=timedelta(0)))
        for example in (
            TestSnapshots.listed(4, C).remembering(last_drill_at=None),
            self.due.remembering(snapshots=()),
            self.due.seeing(work=Working(Drill(snapshot_name()), NOW)),
            self.due.seeing(local=TIMEOUT),
            unwanted,
        ):
            assert Ask.DRILL not in asked(example, 9999)


class TestALostQuorum:
    lost = a_lost_three(A).seeing(membership=NOT_ASKED)

    def test_before_anybody_is_told_nothing_more_is_asked(self) -> None:
        early = self.lost.remembering(no_quorum_since=NOW - timedelta(seconds=4), leaderless_since=NOW)
        assert asked(early, 5) == {Ask.HEAD, Ask.OTHERS}

    def test_then_the_others_and_the_snapshots_in_every_round(self) -> None:
        young = self.lost.remembering(leaderless_since=NOW - timedelta(seconds=29))
        assert asked(young, 0) == {Ask.ASSEMBLY, Ask.OTHERS, Ask.SNAPSHOTS}

    def test_and_the_head_once_the_grace_is_over(self) -> None:
        assert asked(self.lost, 0) == {Ask.ASSEMBLY, Ask.OTHERS, Ask.SNAPSHOTS, Ask.HEAD}

    def test_and_the_fleet_as_in_any_trouble(self) -> None:
        assert Ask.FLEET in asked(self.lost, 2)

    def test_once_it_was_proven_every_fact_of_the_proof_in_every_round(self) -> None:
        """However long a round takes: between two steps of a rescue the proof is wanted again."""
        proven = self.lost.remembering(proven_lost=record(A).generation, proven_lost_at=NOW - timedelta(minutes=2))
        assert Ask.FLEET in asked(proven, 0)
        assert Ask.FLEET not in asked(proven.remembering(proven_lost_at=NOW - timedelta(minutes=3)), 0)
        assert Ask.FLEET not in asked(proven.remembering(proven_lost=the_next().generation), 0)
        assert Ask.FLEET not in asked(proven.remembering(head=None), 0)

    def test_a_quorum_that_answers_ends_all_that(self) -> None:
        healed = a_healthy_three().remembering(no_quorum_since=LONG_AGO, leaderless_since=LONG_AGO)
        assert asked(healed, 59) == frozenset()


def test_alarms_are_asked_for_where_etcd_speaks_of_a_full_database() -> None:
    full = replace(status(A), errors=("etcdserver: no space", "memberID:255 alarm:NOSPACE"))
    assert asked(a_healthy_three().seeing(local=full), 5) == {Ask.ALARMS}
    assert asked(a_healthy_three().seeing(local=full), 4) == frozenset()
    assert Ask.ALARMS not in asked(a_healthy_three(B).seeing(local=replace(full, member_id=status(B).member_id)), 5)
