"""Facts that exclude each other: a human is called, and etcd stays exactly as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.model.actions import CallHuman, FileReport, Rest
from agent.model.disk import Data, Disk
from agent.model.known import NOT_ASKED, Ignorance, Unknown
from agent.model.observation import BucketUnsound
from tests.decide.examples import (
    OTHER_CLUSTER,
    TIMEOUT,
    A,
    B,
    C,
    Example,
    a_founder_with_its_claim,
    a_healthy_three,
    a_snapshot,
    a_stopped_member,
    before_the_first_generation,
    filed,
    formed,
    identity,
    record,
    status,
)

GARBLED = Unknown(Ignorance.MALFORMED, "generations/000001.json: field 'token'")


def calls_a_human(example: Example, rule: str) -> None:
    assert isinstance(example.action, CallHuman), example.carried_out
    assert example.rule == rule
    assert example.action.hint
    assert example.carried_out.because


@pytest.mark.parametrize("example", [before_the_first_generation(), a_founder_with_its_claim(), a_healthy_three()])
def test_a_bucket_that_ignores_preconditions_arbitrates_nothing(example: Example) -> None:
    calls_a_human(example.seeing(bucket=BucketUnsound("it ignores If-None-Match", "use S3")), "unsound-bucket")


@pytest.mark.parametrize("field", ["head", "formed", "claim"])
def test_a_garbled_record_is_not_an_absent_one(field: str) -> None:
    calls_a_human(a_founder_with_its_claim().seeing(**{field: GARBLED}), "garbled-record")


def test_data_that_nobody_signed_is_touched_by_nobody() -> None:
    calls_a_human(a_stopped_member(A).seeing(disk=Disk(None, Data.PRESENT)), "unsigned-data")


def test_data_of_a_cluster_of_another_name_is_not_ours() -> None:
    foreign = Disk(replace(identity(A), cluster="staging"), Data.PRESENT)
    calls_a_human(a_stopped_member(A).seeing(disk=foreign), "foreign-cluster")


def test_a_marker_lost_from_the_bucket_stops_no_running_cluster() -> None:
    """etcd-manager stopped every etcd and moved the data when its marker was gone (kops#16416)."""
    reported = (filed(A, "intact"), filed(B, "intact"), filed(C, "intact"))
    example = a_healthy_three().seeing(head=None, formed=NOT_ASKED, reports=reported, snapshots=(a_snapshot(),))
    calls_a_human(example.remembering(head=None, formed=None), "bucket-behind-disk")


def test_a_marker_lost_from_the_bucket_starts_nothing_either() -> None:
    example = a_stopped_member(A).seeing(head=None, formed=NOT_ASKED, reports=(filed(A, "intact"),))
    calls_a_human(example.remembering(head=None, formed=None), "bucket-behind-disk")


def test_a_bucket_with_an_older_head_than_the_disk_is_the_wrong_bucket() -> None:
    newer = Disk(identity(A, generation=3), Data.PRESENT)
    calls_a_human(a_healthy_three().seeing(disk=newer), "bucket-behind-disk")


def test_an_unreadable_bucket_is_behind_nothing() -> None:
    assert a_healthy_three().seeing(head=TIMEOUT).action == Rest()


def test_our_etcd_of_another_lineage_than_the_one_that_formed() -> None:
    strange = replace(status(A), cluster_id=OTHER_CLUSTER)
    calls_a_human(a_healthy_three().seeing(local=strange), "strange-cluster-id")


def test_a_generation_that_nobody_saw_formed_has_no_cluster_id_to_differ_from() -> None:
    strange = replace(status(A), cluster_id=OTHER_CLUSTER)
    example = a_healthy_three().seeing(local=strange, formed=NOT_ASKED, head=NOT_ASKED)
    assert example.remembering(formed=None).action == Rest()


def test_what_formed_in_another_generation_is_not_compared() -> None:
    strange = replace(status(A), cluster_id=OTHER_CLUSTER)
    newer = record(A, B, C, generation=2)
    example = a_healthy_three().seeing(local=strange, head=newer).remembering(head=newer, formed=formed(A, B, C))
    assert example.rule == "fence-older-generation"


def test_under_a_corrupt_alarm_nothing_is_repaired() -> None:
    alarmed = replace(status(A), errors=("etcdserver: corrupt", "memberID:10 alarm:CORRUPT"))
    calls_a_human(a_healthy_three().seeing(local=alarmed), "corruption")


@pytest.mark.parametrize(
    ("member", "accused"),
    [(f"{0xB}", "i-b (b)"), (f"{0xBAD}", "member bad"), ("0", "no member in particular"), ("?", "no member in part")],
)
def test_whom_the_alarm_accuses_is_named_as_people_know_it(member: str, accused: str) -> None:
    alarmed = replace(status(A), errors=(f"memberID:{member} alarm:CORRUPT ",))
    for example in (a_healthy_three(), a_healthy_three().seeing(membership=TIMEOUT)):
        assert accused in example.seeing(local=alarmed).carried_out.because
    unlisted = a_healthy_three().seeing(local=alarmed, membership=TIMEOUT).remembering(membership=None)
    assert "it accuses" in unlisted.carried_out.because


def test_another_alarm_is_not_corruption() -> None:
    assert a_healthy_three().seeing(local=replace(status(A), errors=("alarm:NOSPACE",))).action == Rest()


@pytest.mark.parametrize("version", ["3.5.0", "3.5.1", "3.5.2"])
def test_a_version_that_loses_writes_is_refused(version: str) -> None:
    calls_a_human(a_stopped_member(A).seeing(etcd_version=version), "corrupting-version")


def test_an_unknown_version_is_not_a_bad_one() -> None:
    assert a_healthy_three().seeing(etcd_version=TIMEOUT).action == Rest()


def test_a_report_is_the_one_effect_that_comes_before_the_call() -> None:
    example = a_stopped_member(A).seeing(head=None, formed=NOT_ASKED, reports=())
    assert isinstance(example.remembering(head=None).action, FileReport)
