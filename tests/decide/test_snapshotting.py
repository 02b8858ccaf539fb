"""Snapshots in a healthy cluster: whose turn it is, what is due, what may go, and what is put to the test."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent.decide.snapshotting import turn_of
from agent.model.actions import BeginTask, ExpireSnapshots, Rest
from agent.model.disk import Data, Disk, Stage
from agent.model.ids import GenerationNumber, InstanceId
from agent.model.known import NOT_ASKED, Ignorance, Unknown
from agent.model.snapshot import DrillRecord, DrillResult, Origin
from agent.model.work import Drill, Ended, TakeSnapshot, Working
from tests.decide.examples import (
    LONG_AGO,
    NOW,
    THROTTLED,
    TIMEOUT,
    A,
    B,
    C,
    D,
    Example,
    a_healthy_three,
    a_learner,
    a_snapshot,
    identity,
    learner,
    manifest,
    membership,
    record,
    seed,
    snapshot_name,
    status,
    voter,
)

TAKE = BeginTask(TakeSnapshot(GenerationNumber(1), Origin.SCHEDULE))


def listing(*snapshots: Any, seen_by: InstanceId = B, **changes: Any) -> Example:
    """A healthy three, led by A, in a round in which B (or another) has listed these."""
    example = a_healthy_three(seen_by).seeing(snapshots=snapshots, manifest=NOT_ASKED, **changes)
    remembered = {"snapshots": snapshots, "snapshots_read_at": NOW, "manifest": None}
    return example.remembering(**remembered, serving_since=LONG_AGO, behind_since=LONG_AGO)


def newest(minutes_ago: float, *, seen_by: InstanceId = B, index: int = 850) -> Example:
    """The newest is so many minutes old, and was taken when raft's index was at so much; now it is at 1000."""
    name = snapshot_name(minutes_ago=minutes_ago)
    return listing(
        a_snapshot(name),
        seen_by=seen_by,
    ).seeing(manifest=manifest(name, raft_index=index))


class TestTurns:
    def test_voters_by_their_ids_and_the_leader_last(self) -> None:
        members = a_healthy_three().o.membership
        assert [turn_of(members, status(each, leader=A)) for each in (B, C, A)] == [0, 1, 2]
        assert [turn_of(members, status(each, leader=B)) for each in (A, C, B)] == [0, 1, 2]

    def test_alone_it_is_the_leaders(self) -> None:
        assert turn_of(membership(voter(A)), status(A)) == 0

    def test_who_has_no_vote_or_no_list_has_no_turn(self) -> None:
        with_d = membership(voter(A), voter(B), learner(D))
        assert turn_of(with_d, replace(status(D), is_learner=True)) is None
        assert turn_of(with_d, status(C)) is None
        assert turn_of(TIMEOUT, status(A)) is None
        assert turn_of(with_d, TIMEOUT) is None

    def test_the_first_takes_one_when_the_newest_is_an_interval_old(self) -> None:
        assert newest(5).action == TAKE
        assert newest(4.9).action == Rest()

    @pytest.mark.parametrize(("seen_by", "minutes"), [(C, 7.5), (A, 10)])
    def test_each_further_one_takes_over_half_an_interval_later(self, seen_by: InstanceId, minutes: float) -> None:
        """Whoever is first may be dead, cut off or out of room; nobody needs to know which."""
        assert newest(minutes - 0.1, seen_by=seen_by).action == Rest()
        assert newest(minutes, seen_by=seen_by).action == TAKE

    @pytest.mark.parametrize(("seen_by", "minutes"), [(B, 0), (C, 2.5), (A, 5)])
    def test_after_a_rest_each_waits_in_its_turn_from_the_first_write_on(
        self, seen_by: InstanceId, minutes: float
    ) -> None:
        after = newest(600, seen_by=seen_by)
        assert after.remembering(behind_since=NOW - timedelta(minutes=minutes)).action == TAKE
        if minutes:
            assert after.remembering(behind_since=NOW - timedelta(minutes=minutes - 0.1)).action == Rest()
            assert after.remembering(behind_since=None).action == Rest(), "it was up to date a moment ago"

    def test_the_first_of_a_generation_is_taken_at_once(self) -> None:
        assert listing().action == TAKE
        assert listing(seen_by=C).remembering(serving_since=NOW).action == Rest()
        assert listing(seen_by=C).remembering(serving_since=NOW - timedelta(minutes=2.5)).action == TAKE
        assert listing().remembering(serving_since=None).action == Rest()

    def test_another_generations_protect_nothing_of_this_one(self) -> None:
        head = replace(record(A, B, C, generation=2), seed=seed(manifest()))
        mine = Disk(identity(B, generation=2), Data.PRESENT)
        example = listing(a_snapshot(), head=head, disk=mine).remembering(head=head)
        assert isinstance(example.action, BeginTask)

    @pytest.mark.parametrize(
        "unsound", [{"bad": True}, {"committed": False}, {"stored_bytes": None}], ids=["bad", "no manifest", "no data"]
    )
    def test_nor_does_what_is_not_sound(self, unsound: Any) -> None:
        assert listing(a_snapshot(**unsound)).action == TAKE


class TestNotNow:
    def test_an_idle_cluster_takes_none(self) -> None:
        """Raft's applied index stands still: not a key, not a lease, not a member has changed."""
        assert newest(600, index=1000).action == Rest()
        assert newest(600, index=999).action == TAKE

    @pytest.mark.parametrize("unread", [TIMEOUT, NOT_ASKED, Unknown(Ignorance.MALFORMED, "field 'x'")])
    def test_in_doubt_one_is_taken(self, unread: Any) -> None:
        assert newest(5).seeing(manifest=unread).action == TAKE
        assert newest(5).seeing(manifest=manifest(snapshot_name(1), raft_index=1000)).action == TAKE

    def test_an_unread_listing_is_no_empty_one(self) -> None:
        assert newest(600).seeing(snapshots=THROTTLED).action == Rest()

    def test_a_learner_takes_none(self) -> None:
        example = a_learner().seeing(snapshots=(), membership=membership(voter(A), voter(B), voter(C), learner(D)))
        assert example.remembering(serving_since=LONG_AGO).action == Rest()

    def test_nobody_does_in_a_generation_that_is_not_known_to_have_formed(self) -> None:
        """formed.json first: whatever is taken before it would be of nobody's lineage."""
        assert listing(formed=THROTTLED).remembering(formed=None).action == Rest()

    def test_nor_whoever_is_not_of_the_head_or_not_stamped(self) -> None:
        unstamped = Disk(identity(B, Stage.ADDING), Data.PRESENT)
        assert not isinstance(listing(disk=unstamped).action, BeginTask)
        assert listing(head=NOT_ASKED).remembering(head=record(A, B, C, generation=2), formed=None).action == Rest()

    def test_one_at_a_time(self) -> None:
        assert newest(5).seeing(work=Working(Drill(snapshot_name()), NOW)).action == Rest()

    def test_a_failing_one_backs_off(self) -> None:
        def failed(seconds_ago: float, failures: int) -> Example:
            work = Ended(TAKE.task, LONG_AGO, NOW - timedelta(seconds=seconds_ago), THROTTLED)
            return newest(5).seeing(work=work).remembering(failures=failures)

        assert failed(1.9, 1).action == Rest()
        assert failed(2, 1).action == TAKE
        assert failed(31, 5).action == Rest()
        assert failed(59, 999).action == Rest()
        assert failed(60, 999).action == TAKE

    def test_a_leaderless_one_leaves_its_snapshot_to_the_rescue(self) -> None:
        lost = newest(600).seeing(membership=TIMEOUT, local=status(B, leader=None))
        assert lost.action != TAKE


class TestLettingGo:
    many = tuple(a_snapshot(snapshot_name(900 - n, minutes_ago=1 + 10 * n)) for n in range(200, -1, -1))

    def test_the_first_lets_go_of_what_newer_ones_made_superfluous(self) -> None:
        action = listing(*self.many).action
        assert isinstance(action, ExpireSnapshots)
        assert self.many[-1].name not in action.names
        assert 0 < len(action.names) < len(self.many) - 24
        assert action.names[0] == self.many[0].name, "the oldest first, however many go in one round"

    @pytest.mark.parametrize("seen_by", [A, C])
    def test_nobody_else_does(self, seen_by: InstanceId) -> None:
        assert listing(*self.many, seen_by=seen_by).action == Rest()

    def test_nor_while_it_works_or_without_a_listing(self) -> None:
        assert listing(*self.many, work=Working(TAKE.task, NOW)).action == Rest()
        assert listing(*self.many).seeing(snapshots=THROTTLED).action == Rest()

    def test_nor_in_a_generation_that_is_not_known_to_have_formed(self) -> None:
        assert listing(*self.many, formed=THROTTLED).remembering(formed=None).action == Rest()

    def test_where_nothing_is_superfluous_nothing_is_done(self) -> None:
        assert newest(4).action == Rest()


class TestDrills:
    @staticmethod
    def drilled(hours_ago: float | None, **changes: Any) -> Example:
        last = None
        if hours_ago is not None:
            last = DrillRecord(snapshot_name(), A, DrillResult.PASSED, "", 3.0, hours_ago * 3600)
        return newest(4, seen_by=changes.pop("seen_by", B)).seeing(last_drill=last, **changes)

    @pytest.mark.parametrize("hours_ago", [None, 24])
    def test_the_newest_is_put_to_the_test_once_a_day(self, hours_ago: float | None) -> None:
        assert self.drilled(hours_ago).action == BeginTask(Drill(snapshot_name(minutes_ago=4)))

    def test_not_more_often(self) -> None:
        assert self.drilled(23.9).action == Rest()

    def test_a_listing_of_before_will_do(self) -> None:
        """Which is rarely read in the same round: it would never have come to a drill."""
        assert isinstance(self.drilled(None, snapshots=NOT_ASKED).action, BeginTask)

    def test_only_by_the_first(self) -> None:
        assert self.drilled(None, seen_by=C).action == Rest()

    def test_not_where_it_is_unknown_when_the_last_was(self) -> None:
        assert self.drilled(None).seeing(last_drill=THROTTLED).action == Rest()
        assert self.drilled(None).seeing(last_drill=NOT_ASKED).action == Rest()

    def test_not_where_there_is_nothing_to_restore(self) -> None:
        bad = (a_snapshot(bad=True, name=snapshot_name(minutes_ago=1)),)
        nothing_sound = self.drilled(None).seeing(snapshots=NOT_ASKED)
        assert nothing_sound.remembering(snapshots=bad).action == Rest()
        assert nothing_sound.remembering(snapshots=None).action == Rest()

    def test_not_where_the_operator_wants_none(self) -> None:
        example = self.drilled(None)
        assert replace(example, policy=replace(example.policy, drill_interval=timedelta(0))).action == Rest()

    def test_not_while_it_works_or_has_just_failed(self) -> None:
        task = Drill(snapshot_name())
        assert self.drilled(None, work=Working(task, NOW)).action == Rest()
        assert self.drilled(None, work=Ended(task, LONG_AGO, NOW, THROTTLED)).remembering(failures=1).action == Rest()
