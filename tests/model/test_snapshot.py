"""Snapshots' names, manifests and drills: how they order, how they are written, and what is none of ours."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from agent.model.cluster import is_newer_minor, minor_of
from agent.model.ids import GenerationNumber, InstanceId
from agent.model.members import LogPosition
from agent.model.snapshot import DrillRecord, DrillResult, Fingerprint, Listed, Manifest, SnapshotName
from tests.decide.examples import A, holding, manifest, rescue_of

NAME = SnapshotName(GenerationNumber(1), 123_456, datetime(2026, 11, 22, 7, tzinfo=UTC))
TEXT = "snapshots/000001/00000000000000123456-20261122T070000Z"
MANIFEST = replace(manifest(NAME), fingerprint=Fingerprint(12, 0xFFFF_FFFF, 3))
RESCUE = rescue_of(holding(A, position=LogPosition(7, 12, 10, pending_changes=True)))
IMPORTED = replace(manifest(NAME), cluster_id=None, member_id=None, members=())
DRILL = DrillRecord(NAME, A, DrillResult.FAILED, "revision 3 instead of 4", 1.5)


class TestNames:
    def test_a_name_is_its_place_in_the_bucket(self) -> None:
        assert str(NAME) == TEXT
        assert (NAME.data_key, NAME.manifest_key, NAME.bad_key) == (f"{TEXT}.db.zst", f"{TEXT}.json", f"{TEXT}.bad")
        assert SnapshotName.parse(TEXT) == NAME

    def test_times_are_written_in_utc(self) -> None:
        local = replace(NAME, taken_at=NAME.taken_at.astimezone(timezone(timedelta(hours=5))))
        assert str(local) == TEXT

    @pytest.mark.parametrize(
        "text",
        [
            "",
            f"{TEXT}.json",
            f"other/{TEXT}",
            TEXT.replace("000001", "1"),
            TEXT.replace("20261122", "20261322"),
            TEXT.replace("Z", ""),
            "snapshots/000001/readme",
        ],
    )
    def test_what_is_none_of_ours_is_no_name(self, text: str) -> None:
        assert SnapshotName.parse(text) is None

    def test_they_order_by_generation_first_and_then_by_revision(self) -> None:
        """An older generation may have reached a higher revision, and been longer at it."""
        fenced = SnapshotName(GenerationNumber(1), 999_999, NAME.taken_at + timedelta(days=1))
        restored = SnapshotName(GenerationNumber(2), 5, NAME.taken_at)
        assert sorted([restored, fenced, NAME]) == [NAME, fenced, restored]
        assert sorted([str(each) for each in (restored, fenced, NAME)]) == [str(NAME), str(fenced), str(restored)]


class TestDocuments:
    @pytest.mark.parametrize(
        "document", [MANIFEST, RESCUE, IMPORTED, DRILL], ids=["plain", "rescue", "import", "drill"]
    )
    def test_what_is_written_can_be_read(self, document: Any) -> None:
        assert type(document).from_json(document.to_json()) == document

    @pytest.mark.parametrize("kind", [Manifest, DrillRecord])
    @pytest.mark.parametrize("name", ["elsewhere/backup", 5])
    def test_a_document_of_something_else_is_none(self, kind: Any, name: Any) -> None:
        text = (MANIFEST if kind is Manifest else DRILL).to_json()
        with pytest.raises(ValueError, match="'snapshot'"):
            kind.from_json(json.dumps({**json.loads(text), "snapshot": name}))

    @pytest.mark.parametrize(
        "field", ["cluster", "origin", "etcd_version", "size_bytes", "sha256", "stored_bytes", "raft_index", "members"]
    )
    def test_a_missing_field_is_no_default(self, field: str) -> None:
        with pytest.raises(ValueError, match=r"."):
            Manifest.from_json(json.dumps({**json.loads(MANIFEST.to_json()), field: None}))

    def test_a_drill_has_a_key_of_its_own_for_each_instance(self) -> None:
        assert DRILL.key == "drills/000001/00000000000000123456-20261122T070000Z-i-a.json"
        assert replace(DRILL, instance=InstanceId("i-b")).key != DRILL.key


@pytest.mark.parametrize(
    ("changes", "usable"),
    [({}, True), ({"bad": True}, False), ({"committed": False}, False), ({"stored_bytes": None}, False)],
)
def test_only_data_with_a_manifest_that_nobody_found_wanting_counts(changes: dict[str, Any], usable: bool) -> None:
    assert replace(Listed(NAME, 1.0, 100, committed=True), **changes).usable is usable


@pytest.mark.parametrize(
    ("version", "minor"), [("3.5.30", (3, 5)), ("3.6.0-rc.1", (3, 6)), ("3.6-dev", (3, 6)), ("main", None), ("3", None)]
)
def test_a_version_has_a_minor(version: str, minor: Any) -> None:
    assert minor_of(version) == minor


def test_etcd_reads_what_is_older_and_not_what_is_newer() -> None:
    assert is_newer_minor("3.6.1", than="3.5.30")
    assert not is_newer_minor("3.5.30", than="3.5.1")
    assert not is_newer_minor("3.4.44", than="3.5.1")
    assert not is_newer_minor("main", than="3.5.1"), "what says nothing forbids nothing"
