"""The bucket's documents: what is written can be read, by this agent and by the next; what is garbled is said."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.model.documents import Document
from agent.model.generation import (
    FIRST,
    Cause,
    Claim,
    Exclusion,
    Formed,
    GenerationRecord,
    Holding,
    Report,
    Seat,
    Seed,
    Sight,
)
from agent.model.ids import ClusterId, GenerationNumber, InstanceId, MemberId, Nonce, PeerUrl
from agent.model.members import LogPosition, MemberEntry

A, B = InstanceId("i-a"), InstanceId("i-b")
RECORD = GenerationRecord(
    generation=GenerationNumber(4),
    cluster="prod",
    token="prod-000004-9f3c2a71",
    created_by=A,
    created_at=datetime(2026, 1, 1, 12, 30, tzinfo=UTC),
    agent="0.3.0",
    nonce=Nonce("9f3c"),
    founders={B: PeerUrl("https://10.0.1.6:2380"), A: PeerUrl("https://10.0.1.5:2380")},
    cause=Cause("first", {"desired_capacity": 3, "reported": ["i-a", "i-b"]}),
)
SEEDED = replace(RECORD, seed=Seed("snapshots/000003/x.json", 812, "ab" * 32, "survivor i-a"))
FORMED = Formed(ClusterId(0xC1), {MemberId(0xB): B, MemberId(0xA): A})
REPORT = Report(A, PeerUrl("https://10.0.1.5:2380"), "boot-1", Holding.INTACT, FIRST, ClusterId(0xC1), MemberId(0xA))
FULL_REPORT = replace(
    REPORT,
    sight=Sight.LEADER,
    seat=Seat.SPENT,
    leaderless_since=datetime(2026, 1, 1, 12, 30, 0, 123_456, tzinfo=UTC),
    running=True,
    position=LogPosition(7, 1004, 1000, pending_changes=True),
    revision=900,
    members=(MemberEntry(MemberId(0xA), "i-a", (PeerUrl("https://10.0.1.5:2380"),), is_learner=True),),
    restart_members=(MemberEntry(MemberId(0xB), "", (PeerUrl("https://10.0.1.6:2380"),)),),
    trouble="a checksum differs",
)
EXCLUSION = Exclusion(A, "its volume burned", "admin", datetime(2026, 1, 1, 13, tzinfo=UTC))
EMPTY_REPORT = Report(A, PeerUrl("https://10.0.1.5:2380"), "boot-1", Holding.NONE)


@pytest.mark.parametrize(
    "document",
    [RECORD, SEEDED, Claim(A, Nonce("9f3c")), FORMED, REPORT, EMPTY_REPORT, FULL_REPORT, EXCLUSION],
    ids=lambda each: type(each).__name__,
)
def test_what_is_written_can_be_read(document: Any) -> None:
    assert type(document).from_json(document.to_json()) == document


def test_the_same_facts_are_the_same_bytes() -> None:
    """A lost answer is recognised by reading our own text back."""
    turned = GenerationRecord.from_json(RECORD.to_json())
    assert turned.to_json() == RECORD.to_json()
    assert list(json.loads(RECORD.to_json())["founders"]) == [A, B]


def test_ids_are_written_as_etcdctl_prints_them() -> None:
    assert json.loads(FORMED.to_json()) == {"cluster_id": "c1", "voters": {"a": "i-a", "b": "i-b"}}
    assert (str(MemberId(0xAB)), repr(ClusterId(0xAB))) == ("ab", "ClusterId(0xab)")


def test_a_newer_agent_may_add_fields() -> None:
    text = json.dumps({**json.loads(RECORD.to_json()), "colour": "green"})
    assert GenerationRecord.from_json(text) == RECORD


@pytest.mark.parametrize("field", sorted(set(json.loads(RECORD.to_json())) - {"seed"}))
@pytest.mark.parametrize("wrong", [None, True, [], 1.5])
def test_a_missing_or_mistyped_field_is_named(field: str, wrong: Any) -> None:
    text = json.dumps({**json.loads(RECORD.to_json()), field: wrong})
    with pytest.raises(ValueError, match=f"'{field}'"):
        GenerationRecord.from_json(text)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"generation"', "<html>proxy</html>"])
@pytest.mark.parametrize("kind", [GenerationRecord, Claim, Formed, Report])
def test_what_is_no_object_is_no_document(kind: Any, text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        kind.from_json(text)


def test_a_time_without_a_zone_is_no_time() -> None:
    text = json.dumps({**json.loads(RECORD.to_json()), "created_at": "2026-01-01T12:00:00"})
    with pytest.raises(ValueError, match="zone"):
        GenerationRecord.from_json(text)


def test_a_seed_that_lacks_its_digest_is_named() -> None:
    document = json.loads(SEEDED.to_json())
    del document["seed"]["sha256"]
    with pytest.raises(ValueError, match="'sha256'"):
        GenerationRecord.from_json(json.dumps(document))


def test_a_mistyped_optional_field_of_a_report_is_named_too() -> None:
    text = json.dumps({**json.loads(REPORT.to_json()), "member_id": 10})
    with pytest.raises(ValueError, match="'member_id'"):
        Report.from_json(text)


def test_a_cause_without_evidence_is_read_as_one_without_evidence() -> None:
    text = json.dumps({**json.loads(RECORD.to_json()), "cause": {"kind": "operator"}})
    assert GenerationRecord.from_json(text).cause == Cause("operator", {})


def test_a_seed_of_before_revisions_were_bumped_is_read_as_not_bumped() -> None:
    document = json.loads(SEEDED.to_json())
    del document["seed"]["bump_revision"]
    assert GenerationRecord.from_json(json.dumps(document)) == SEEDED


@pytest.mark.parametrize("field", ["data", "seat", "sight"])
def test_a_word_that_nobody_knows_is_not_guessed(field: str) -> None:
    text = json.dumps({**json.loads(REPORT.to_json()), field: "maybe"})
    with pytest.raises(ValueError, match="maybe"):
        Report.from_json(text)


def test_a_flag_is_true_or_false_and_a_number_is_no_flag() -> None:
    doc = Document('{"yes": true, "one": 1, "none": null, "within": {"x": 1}}')
    assert doc.flag("yes")
    assert doc.lacks("none")
    assert doc.optional("none") is None
    within = doc.optional("within")
    assert within is not None
    assert within.integer("x") == 1
    with pytest.raises(ValueError, match="'one'"):
        doc.flag("one")
    with pytest.raises(ValueError, match="'yes'"):
        doc.integer("yes")
