"""No generation yet: who is waited for, who founds, and what stops the founding."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.model.actions import Blocker, CallHuman, CreateGeneration, FileReport, Wait
from agent.model.disk import Data, Disk
from agent.model.fleet import InstanceState
from agent.model.generation import FIRST
from agent.model.known import NOT_ASKED
from tests.decide.examples import (
    NONCE,
    NOW,
    THROTTLED,
    A,
    B,
    C,
    D,
    E,
    Example,
    a_snapshot,
    before_the_first_generation,
    filed,
    fleet,
    identity,
    instance,
    peer,
)

GRACE_OVER = NOW - timedelta(minutes=3)


def founders_of(example: Example) -> list[str]:
    action = example.action
    assert isinstance(action, CreateGeneration), example.carried_out
    return list(action.record.founders)


def waiting_for(example: Example) -> Blocker:
    action = example.action
    assert isinstance(action, Wait), example.carried_out
    return action.blocker


def test_the_whole_fleet_has_reported_so_one_of_it_writes_generation_1() -> None:
    example = before_the_first_generation(A)
    assert founders_of(example) == [A, B, C]
    action = example.action
    assert isinstance(action, CreateGeneration)
    assert action.record.founders[B] == peer(B), "each founder at the address that it reported"
    assert action.record.nonce == NONCE
    assert action.record.token.startswith("prod-000001-")


def test_one_is_missing_so_the_others_wait_and_name_it() -> None:
    example = before_the_first_generation(A, A, B)
    assert waiting_for(example) is Blocker.ASSEMBLY
    assert C in example.carried_out.because


def test_after_the_grace_a_majority_founds() -> None:
    example = before_the_first_generation(A, A, B).remembering(assembling_since=GRACE_OVER)
    assert founders_of(example) == [A, B]


def test_even_after_the_grace_a_minority_waits() -> None:
    example = before_the_first_generation(A, A).remembering(assembling_since=GRACE_OVER)
    assert waiting_for(example) is Blocker.ASSEMBLY


def test_one_instance_more_than_desired_does_not_stop_anybody() -> None:
    listed = fleet(instance(A), instance(B), instance(C), instance(D))
    example = before_the_first_generation(A, A, B, C, D).seeing(fleet=listed)
    assert len(founders_of(example)) == 3


def test_of_four_wanted_three_found_and_one_stays_for_a_spare() -> None:
    listed = fleet(*map(instance, (A, B, C, D)), desired=4)
    example = before_the_first_generation(A, A, B, C, D).seeing(fleet=listed)
    assert len(founders_of(example)) == 3


def test_founders_are_spread_over_the_zones() -> None:
    """Two zones of five: the three founders do not all sit in the first."""
    listed = fleet(*(replace(instance(each), zone="one" if each < D else "two") for each in (A, B, C, D)), desired=4)
    example = before_the_first_generation(A, A, B, C, D).seeing(fleet=listed)
    assert founders_of(example) == [A, B, D]


def test_a_stale_report_is_not_presence() -> None:
    reports = (filed(A), filed(B), filed(C, age_seconds=21))
    assert waiting_for(before_the_first_generation(A).seeing(reports=reports)) is Blocker.ASSEMBLY


def test_a_report_of_a_terminated_instance_is_not_presence() -> None:
    listed = fleet(instance(A), instance(B), instance(C, InstanceState.TERMINATED))
    assert waiting_for(before_the_first_generation(A).seeing(fleet=listed)) is Blocker.ASSEMBLY


@pytest.mark.parametrize("lifecycle", ["Warmed:Running", "Terminating:Wait"])
def test_warm_and_leaving_instances_found_nothing(lifecycle: str) -> None:
    listed = fleet(instance(A), instance(B), instance(C, lifecycle=lifecycle))
    example = before_the_first_generation(A).seeing(fleet=listed)
    assert waiting_for(example) is Blocker.ASSEMBLY
    assert C not in example.carried_out.because, "and nobody waits for them"


def test_no_group_is_listed_so_nobody_knows_how_many_there_should_be() -> None:
    listed = replace(fleet(instance(A)), groups=())
    assert waiting_for(before_the_first_generation(A, A).seeing(fleet=listed)) is Blocker.IGNORANCE


def test_a_fleet_that_is_wanted_to_be_empty_founds_nothing() -> None:
    example = before_the_first_generation(A, A).seeing(fleet=fleet(instance(A), desired=0))
    assert waiting_for(example) is Blocker.IGNORANCE


def test_two_founders_at_one_address_are_a_mistake_to_wait_out() -> None:
    twice = replace(filed(C), report=replace(filed(C).report, peer_url=peer(B)))
    example = before_the_first_generation(A).seeing(reports=(filed(A), filed(B), twice))
    assert waiting_for(example) is Blocker.ADDRESS


def test_snapshots_without_a_generation_are_a_contradiction() -> None:
    """An emptied generations/ beside backups: a new cluster would hide the old data."""
    example = before_the_first_generation(A).seeing(snapshots=(a_snapshot(),))
    assert isinstance(example.action, CallHuman)


@pytest.mark.parametrize("age", [1, 100_000])
def test_data_on_any_live_disk_is_a_contradiction_however_old_its_report(age: float) -> None:
    reports = (filed(A), filed(B), filed(C, data="intact", age_seconds=age))
    example = before_the_first_generation(A).seeing(reports=reports)
    assert isinstance(example.action, CallHuman)
    assert C in example.carried_out.because


def test_data_that_died_with_its_instance_holds_nobody_up() -> None:
    listed = fleet(instance(A), instance(B), instance(C), instance(D, InstanceState.TERMINATED))
    reports = (filed(A), filed(B), filed(C), filed(D, data="intact"), filed(E, data="intact", age_seconds=9000))
    assert founders_of(before_the_first_generation(A).seeing(fleet=listed, reports=reports)) == [A, B, C]


def test_data_on_an_instance_that_a_partial_listing_left_out_still_counts() -> None:
    reports = (filed(A), filed(B), filed(C), filed(D, data="intact"))
    assert isinstance(before_the_first_generation(A).seeing(reports=reports).action, CallHuman)


@pytest.mark.parametrize("unread", ["reports", "snapshots", "fleet", "bucket"])
def test_no_answer_is_not_no(unread: str) -> None:
    example = before_the_first_generation(A).remembering(fleet=None, fleet_read_at=None)
    assert waiting_for(example.seeing(**{unread: THROTTLED})) is Blocker.IGNORANCE


def test_a_fleet_of_some_seconds_ago_will_do_for_counting() -> None:
    assert founders_of(before_the_first_generation(A).seeing(fleet=NOT_ASKED)) == [A, B, C]


def test_a_fleet_of_minutes_ago_will_not() -> None:
    example = before_the_first_generation(A).seeing(fleet=THROTTLED)
    assert waiting_for(example.remembering(fleet_read_at=NOW - timedelta(minutes=5))) is Blocker.IGNORANCE


def test_an_unreadable_head_is_not_an_empty_bucket() -> None:
    """Sky-uk's and many others' mistake: an error read as `no cluster yet`."""
    example = before_the_first_generation(A).seeing(head=THROTTLED)
    assert waiting_for(example) is Blocker.IGNORANCE


class TestReports:
    def test_an_agent_that_the_bucket_does_not_know_reports_first(self) -> None:
        example = before_the_first_generation(A, B, C)
        assert example.action == FileReport(FIRST, filed(A).report)

    def test_a_report_is_filed_again_when_it_gets_old(self) -> None:
        example = before_the_first_generation(A).seeing(reports=(filed(A, age_seconds=6), filed(B), filed(C)))
        assert example.rule == "file-report"

    def test_a_report_of_an_earlier_boot_is_replaced_at_once(self) -> None:
        before = replace(filed(A), report=replace(filed(A).report, boot_id="boot-0"))
        example = before_the_first_generation(A).seeing(reports=(before, filed(B), filed(C)))
        assert example.rule == "file-report"

    def test_data_is_reported_before_a_human_is_called(self) -> None:
        """The bucket was emptied: this report is what keeps the others from founding beside our data."""
        example = before_the_first_generation(A).seeing(disk=Disk(identity(A), Data.PRESENT))
        action = example.action
        assert isinstance(action, FileReport)
        assert action.report.data == "intact"
        reported = example.seeing(reports=(filed(A, data="intact"), filed(B), filed(C)))
        assert reported.rule == "bucket-behind-disk"
        assert isinstance(reported.action, CallHuman)

    def test_unsigned_data_is_reported_too(self) -> None:
        example = before_the_first_generation(A).seeing(disk=Disk(None, Data.PRESENT))
        assert example.rule == "file-report"
        assert example.seeing(reports=(filed(A, data="intact"),)).rule == "unsigned-data"
