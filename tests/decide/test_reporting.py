"""What an agent without a cluster tells the others: what its disk holds, what it sees, and what it can be held to."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent.model.actions import FileReport
from agent.model.disk import Data, Disk, EtcdRunning, EtcdStopped, Stage
from agent.model.generation import Holding, Report, Seat, Sight
from agent.model.known import NOT_ASKED
from agent.model.members import Damaged, LogPosition, Survey
from tests.decide.examples import (
    A_MINUTE_AGO,
    CLUSTER,
    MEMBERS,
    NONCE,
    NOW,
    OLD_NONCE,
    POSITION,
    THROTTLED,
    TIMEOUT,
    A,
    B,
    C,
    D,
    E,
    Example,
    a_healthy_three,
    a_lost_three,
    claim,
    entry,
    fresh,
    holding,
    identity,
    nothing,
    record,
    status,
    the_next,
)

LIST = tuple(entry(each) for each in (A, B, C))
SURVEY = Survey(CLUSTER, MEMBERS[A], LIST, POSITION, 900)


def unheard(seen_by: Any = A) -> Example:
    """Nobody has reported yet."""
    return a_lost_three(seen_by).seeing(reports=())


def report_of(example: Example) -> Report:
    action = example.action
    assert isinstance(action, FileReport), example.carried_out
    return action.report


def stopped(**changes: Any) -> Example:
    return unheard().seeing(process=EtcdStopped(), local=NOT_ASKED, own_list=NOT_ASKED, **changes)


class TestWhen:
    def test_a_steady_cluster_writes_nothing(self) -> None:
        assert a_healthy_three().rule == "rest"

    def test_nor_does_one_that_has_been_without_a_quorum_for_an_election(self) -> None:
        early = unheard().remembering(no_quorum_since=NOW - timedelta(seconds=4.9))
        assert early.rule == "wait-for-quorum"

    def test_then_everybody_reports_about_the_head(self) -> None:
        for name in (A, D, E):
            action = unheard(name).action
            assert isinstance(action, FileReport)
            assert (action.generation, action.report.instance) == (1, name)

    def test_also_while_the_head_is_not_read_in_this_round(self) -> None:
        assert unheard().seeing(head=THROTTLED).rule == "file-report"

    def test_where_no_record_was_ever_read_there_is_nothing_to_report_on(self) -> None:
        assert unheard().seeing(head=THROTTLED).remembering(head=None).rule != "file-report"

    def test_every_five_seconds_and_at_once_when_something_changed(self) -> None:
        told = holding(A, B, C)
        assert unheard().seeing(reports=fresh(told, age_seconds=5)).rule == "file-report"
        assert unheard().seeing(reports=fresh(told, age_seconds=4.9)).rule != "file-report"
        other = replace(told, sight=Sight.LEADERLESS)
        assert unheard().seeing(reports=fresh(other)).rule == "file-report"

    def test_a_store_that_lists_late_is_not_written_to_in_every_round(self) -> None:
        lately = unheard().remembering(reported=holding(A, B, C), reported_at=NOW - timedelta(seconds=4))
        assert lately.rule != "file-report"
        assert lately.remembering(reported_at=NOW - timedelta(seconds=5)).rule == "file-report"

    def test_it_is_the_first_of_all_rules_that_act(self) -> None:
        """Whoever calls a human, or is fenced, has said what it holds before."""
        corrupt = replace(status(A, leader=None), errors=("alarm:CORRUPT",))
        assert unheard().seeing(local=corrupt).rule == "file-report"
        assert unheard().seeing(head=the_next()).rule == "file-report"


class TestASurvivor:
    def test_what_runs_says_what_it_has_applied_and_how_far_its_log_reaches(self) -> None:
        assert report_of(unheard()) == holding(A, B, C)

    def test_its_own_etcd_knows_best_what_is_committed(self) -> None:
        ahead = replace(status(A, leader=None), committed_index=1003, applied_index=1003)
        files = replace(SURVEY, position=LogPosition(7, 1005, 990))
        assert report_of(unheard().seeing(local=ahead, survey=files)).position == LogPosition(7, 1005, 1003)

    def test_what_it_has_not_applied_may_be_a_change_of_members(self) -> None:
        behind = replace(status(A, leader=None), applied_index=999)
        position = report_of(unheard().seeing(local=behind)).position
        assert position is not None
        assert position.pending_changes

    def test_what_is_stopped_or_does_not_answer_is_told_by_its_files(self) -> None:
        files = replace(SURVEY, position=replace(POSITION, pending_changes=True))
        for example in (stopped(survey=files), unheard().seeing(local=TIMEOUT, own_list=NOT_ASKED, survey=files)):
            told = report_of(example)
            assert (told.running, told.position, told.members, told.revision) == (False, files.position, LIST, 900)

    def test_an_etcd_that_runs_tells_the_list_that_it_would_start_from_if_it_were_killed(self) -> None:
        """By its files, where the voters are others than those that it serves; a learner more is no other."""
        older = (entry(A),)
        for files in (replace(SURVEY, members=older), replace(SURVEY, restart_members=older)):
            assert report_of(unheard().seeing(survey=files)) == holding(A, B, C, restart_members=older)
        spare = (*LIST, entry(D, is_learner=True))
        assert report_of(unheard().seeing(survey=replace(SURVEY, members=spare))).restart_members == ()

    def test_one_that_is_stopped_tells_what_its_files_tell(self) -> None:
        older = (entry(A), entry(B))
        told = report_of(stopped(survey=replace(SURVEY, restart_members=older)))
        assert (told.members, told.restart_members) == (LIST, older)

    def test_a_member_that_was_removed_still_knows_its_own_name(self) -> None:
        nameless = tuple(replace(each, name="") if each.id == MEMBERS[A] else each for each in LIST)
        told = report_of(stopped(survey=replace(SURVEY, restart_members=nameless)))
        assert told.restart_members == LIST

    @pytest.mark.parametrize("field", ["survey", "own_list"])
    def test_what_cannot_be_read_is_not_said_to_be_nothing(self, field: str) -> None:
        """A holder without list or position is one that nobody can judge; see test_loss."""
        told = report_of(unheard().seeing(**{field: TIMEOUT}))
        assert told.data is Holding.INTACT
        assert (told.position is None) == (field == "survey")
        assert (told.members == ()) == (field == "own_list")

    def test_files_that_cannot_be_read_either(self) -> None:
        told = report_of(stopped(survey=TIMEOUT))
        assert (told.data, told.position, told.members, told.revision) == (Holding.INTACT, None, (), None)

    def test_a_founder_that_never_learned_its_ids_finds_them_in_its_files(self) -> None:
        told = report_of(stopped(disk=Disk(identity(A, Stage.STARTING), Data.PRESENT), survey=SURVEY))
        assert (told.member_id, told.cluster_id) == (MEMBERS[A], CLUSTER)
        blind = report_of(stopped(disk=Disk(identity(A, Stage.STARTING), Data.PRESENT), survey=TIMEOUT))
        assert (blind.member_id, blind.cluster_id) == (None, None)

    def test_damaged_files_are_damaged_data_unless_an_etcd_runs_on_them(self) -> None:
        broken = Damaged("a checksum of the log differs")
        told = report_of(stopped(survey=broken))
        assert (told.data, told.trouble) == (Holding.DAMAGED, "a checksum of the log differs")
        assert report_of(unheard().seeing(survey=broken)).data is Holding.INTACT

    def test_why_it_cannot_be_rescued_is_told_as_long_as_it_is_so(self) -> None:
        assert report_of(unheard().remembering(rescue_trouble="etcd panics")).trouble == "etcd panics"


class TestNoData:
    def test_an_empty_disk(self) -> None:
        assert report_of(unheard(D)) == nothing(D)

    def test_the_entry_that_it_was_about_to_start_as(self) -> None:
        joining = Disk(identity(D, Stage.JOINING), Data.EMPTY)
        assert report_of(unheard(D).seeing(disk=joining)).member_id == MEMBERS[D]

    @pytest.mark.parametrize(
        "signed", [None, identity(A, generation=2), identity(A, Stage.FENCED)], ids=["unsigned", "older", "fenced"]
    )
    def test_what_never_serves_this_generation_again_is_none_of_its_data(self, signed: Any) -> None:
        """A disk of generation 1 where the head is 2: fenced first, and moved aside."""
        head = record(A, B, C) if signed is None or signed.stage is Stage.FENCED else the_next()
        if signed is not None and signed.generation == 2:
            signed = replace(signed, generation=1)
        told = report_of(stopped(disk=Disk(signed, Data.PRESENT), head=head))
        assert told.data is Holding.NONE
        assert told.members == ()


class TestTheSeat:
    @staticmethod
    def seat(found: Any, disk: Disk, *founders: Any) -> Seat:
        head = record(*(founders or (A, B, C)))
        example = stopped(head=head, disk=disk, claim=found).remembering(head=head)
        return report_of(example).seat

    def test_who_is_no_founder_has_none(self) -> None:
        assert self.seat(NOT_ASKED, Disk(None, Data.ABSENT), B, C) is Seat.NONE

    @pytest.mark.parametrize("found", [None, TIMEOUT, NOT_ASKED])
    def test_without_a_claim_that_was_read_it_is_open(self, found: Any) -> None:
        assert self.seat(found, Disk(None, Data.ABSENT)) is Seat.OPEN

    def test_with_the_claim_of_this_very_disk_too(self) -> None:
        assert self.seat(claim(A, OLD_NONCE), Disk(identity(A, Stage.STARTING), Data.EMPTY)) is Seat.OPEN

    @pytest.mark.parametrize(
        "disk",
        [
            Disk(None, Data.ABSENT),
            Disk(identity(A, Stage.STARTING, nonce=NONCE), Data.EMPTY),
            Disk(identity(A, Stage.STARTING), Data.ABSENT),
            Disk(identity(A, Stage.ADDING), Data.EMPTY),
        ],
        ids=["lost", "another life's", "emptied", "joins instead"],
    )
    def test_a_claim_that_this_disk_cannot_use_is_spent(self, disk: Disk) -> None:
        assert self.seat(claim(A, OLD_NONCE), disk) is Seat.SPENT

    def test_who_has_data_needs_none(self) -> None:
        assert report_of(unheard()).seat is Seat.NONE


class TestSight:
    def test_without_a_leader_for_the_whole_grace(self) -> None:
        long = unheard().remembering(leaderless_since=NOW - timedelta(seconds=30))
        assert report_of(long).sight is Sight.LONG_LEADERLESS

    @pytest.mark.parametrize("since", [NOW - timedelta(seconds=29.9), None])
    def test_or_for_less(self, since: Any) -> None:
        assert report_of(unheard().remembering(leaderless_since=since)).sight is Sight.LEADERLESS

    def test_one_that_sees_a_leader_says_so(self) -> None:
        assert report_of(unheard().seeing(leader_seen=True)).sight is Sight.LEADER

    def test_a_certificate_that_expired_is_no_lost_leader(self) -> None:
        assert report_of(unheard().seeing(local=TIMEOUT, leader_seen=TIMEOUT)).sight is Sight.UNTOLD

    def test_an_etcd_that_is_only_starting_has_not_told_yet(self) -> None:
        """On an empty disk: it may be a joiner's, whose agent was killed; what it will hold nobody knows."""
        starting = unheard(D).seeing(process=EtcdRunning(1), disk=Disk(identity(D, Stage.JOINING), Data.EMPTY))
        assert report_of(starting).sight is Sight.UNTOLD

    def test_since_when_is_for_people(self) -> None:
        assert report_of(unheard()).leaderless_since == A_MINUTE_AGO
