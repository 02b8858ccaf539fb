"""`snapshot list, verify, prune, take, drill`: what a person reads, what a script reads, and the exit codes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from agent import cli
from agent.model.faults import Refused, Unavailable
from agent.model.ids import GenerationNumber
from agent.model.known import Ignorance
from agent.model.policy import Policy
from agent.model.snapshot import DrillRecord, DrillResult, Listed, Manifest, Origin, SnapshotName
from agent.snapshot_cli import age, drill, latest, named, prune, show_list, take, verify
from tests.decide.examples import A, B, a_snapshot, manifest, record, snapshot_name, the_next
from tests.face.shelf import Shelf, Store, Taker

OLD, NEW = snapshot_name(700, minutes_ago=9), snapshot_name(800, minutes_ago=4)
TORN, BAD, OTHER = snapshot_name(900, minutes_ago=1), snapshot_name(750), snapshot_name(9999, generation=2)
POLICY = Policy(cluster="prod", keep_newest=1, keep_hourly=0, keep_daily=0)


def shelf(*extra: Listed, **changes: Any) -> Shelf:
    """Two sound ones, one that somebody found bad, and an upload that broke off or is under way."""
    listed = (a_snapshot(OLD), a_snapshot(BAD, bad=True), a_snapshot(NEW), a_snapshot(TORN, committed=False), *extra)
    found = Shelf(
        record(A, B),
        tuple(sorted(listed, key=lambda each: each.name)),
        {name: manifest(name) for name in (OLD, BAD, NEW)},
        words={BAD: "its sha256 is another"},
    )
    return replace(found, **changes)


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


# ---- list -----------------------------------------------------------------------------------------------------------


def test_the_list_is_newest_first_and_says_what_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_list(shelf(), as_json=False) == 0
    _, head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "age", "size", "state", "note"]
    assert [row.split()[0] for row in rows] == [str(each) for each in (TORN, NEW, BAD, OLD)]
    assert "unfinished: it has no manifest" in rows[0]
    assert rows[1].endswith("sound  recovery would use this") or "recovery would use this" in rows[1]
    assert "bad: its sha256 is another" in rows[2]
    assert rows[3].split()[1:] == ["9", "min", "0.0", "MB", "sound"]


def test_the_list_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_list(shelf(a_snapshot(OTHER, stored_bytes=None)), as_json=True) == 0
    found = told(capsys)
    assert found["head"] == 1
    rows = {row["revision"]: row for row in found["snapshots"]}
    assert [row["state"] for row in found["snapshots"]] == ["unfinished", "unfinished", "sound", "bad", "sound"]
    assert [revision for revision, row in rows.items() if row["recovery_would_use"]] == [800]
    assert rows[750]["why"] == "its sha256 is another"
    assert (rows[9999]["stored_bytes"], rows[9999]["why"]) == (None, "it has no data")
    assert rows[800]["age_seconds"] == 240


def test_the_seed_of_the_head_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_list(shelf(record=the_next(manifest(OLD))), as_json=True) == 0
    assert [each["revision"] for each in told(capsys)["snapshots"] if each["seed_of_head"]] == [700]


def test_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_list(Shelf(), as_json=False) == 0
    assert capsys.readouterr().out == "There are no snapshots in the bucket.\n"
    assert show_list(Shelf(), as_json=True) == 0
    assert told(capsys) == {"head": None, "snapshots": []}


def test_a_bad_one_of_which_nobody_said_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_list(shelf(words={}), as_json=False) == 0
    assert "bad: nobody said why" in capsys.readouterr().out


def test_what_latest_means() -> None:
    listed = shelf(a_snapshot(OTHER)).listed
    assert latest(record(A), listed) == NEW, "generation 2 is not the past of generation 1"
    assert latest(None, listed) == OTHER
    assert latest(record(A), ()) is None


@pytest.mark.parametrize("text", [str(NEW), NEW.data_key, NEW.manifest_key, str(NEW).removeprefix("snapshots/")])
def test_a_snapshot_has_many_names(text: str) -> None:
    assert named(text, record(A), shelf().listed) == NEW


@pytest.mark.parametrize(
    ("text", "said"),
    [("nonsense", "is no snapshot's name"), (str(OTHER), "there is no snapshots/000002"), ("latest", "no sound")],
)
def test_a_name_that_is_none(text: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        named(text, record(A), ())


@pytest.mark.parametrize(("seconds", "said"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (2e5, "2 d")])
def test_ages(seconds: float, said: str) -> None:
    assert age(seconds) == said


# ---- verify ---------------------------------------------------------------------------------------------------------

MALFORMED = Refused("its sha256 is another", Ignorance.MALFORMED)
DENIED = Refused("denied")
SILENT = Unavailable(Ignorance.TIMEOUT, "S3 does not answer")


def test_a_sound_one(capsys: pytest.CaptureFixture[str]) -> None:
    store = Store()
    assert verify(shelf(), store, "latest", mark=False, as_json=False) == 0
    assert store.read == [NEW]
    out, err = capsys.readouterr()
    assert out.startswith(f"sound   {NEW}  1.0 MB  sha256 {manifest(NEW).sha256}")
    assert err == "", "no progress where nobody watches"


def test_all_of_them_newest_first(capsys: pytest.CaptureFixture[str]) -> None:
    store, bucket = Store({OLD: MALFORMED}), shelf()
    assert verify(bucket, store, None, mark=False, as_json=True) == 1
    assert store.read == [NEW, BAD, OLD]
    found = told(capsys)["snapshots"]
    assert [each["state"] for each in found] == ["sound", "sound", "bad"]
    assert found[2]["why"] == "its sha256 is another"
    assert bucket.written == [], "nothing is marked unless it is asked for"


def test_what_is_bad_is_marked_where_that_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    bucket = shelf()
    assert verify(bucket, Store({NEW: MALFORMED}), str(NEW), mark=True, as_json=False) == 1
    assert bucket.written == [(NEW, "its sha256 is another")]
    assert "(marked)" in capsys.readouterr().out


@pytest.mark.parametrize("trouble", [DENIED, SILENT], ids=["denied", "silent"])
def test_what_could_not_be_read_is_not_bad(trouble: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bucket = shelf()
    assert verify(bucket, Store({NEW: trouble}), "latest", mark=True, as_json=True) == 1
    assert told(capsys)["snapshots"][0]["state"] == "unread"
    assert bucket.written == []


def test_a_manifest_that_makes_no_sense_is_bad(capsys: pytest.CaptureFixture[str]) -> None:
    garbled: dict[SnapshotName, Any] = {NEW: Unavailable(Ignorance.MALFORMED, "no JSON")}
    assert verify(shelf(manifests=garbled), Store(), "latest", mark=False, as_json=False) == 1
    assert capsys.readouterr().out == f"bad     {NEW}  no JSON\n"


def test_one_without_a_manifest_cannot_be_verified(capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(shelf(), Store(), str(TORN), mark=True, as_json=False) == 1
    assert capsys.readouterr().out == f"unread  {TORN}  it has no manifest\n"


def test_nothing_to_verify(capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(Shelf(record(A)), Store(), None, mark=False, as_json=False) == 0
    assert "no snapshots" in capsys.readouterr().out


# ---- prune ----------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_go_and_why_the_rest_stays(capsys: pytest.CaptureFixture[str]) -> None:
    bucket = shelf()
    assert prune(bucket, POLICY, dry_run=True, as_json=False) == 0
    assert bucket.written == []
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0].strip() for line in lines[:-1]] == ["stays", "stays", "stays", "goes"]
    assert lines[0] == f"stays  {TORN}  there is no newer sound one"
    assert lines[1] == f"stays  {NEW}  the newest sound one of generation 1"
    assert lines[2] == f"stays  {BAD}  not sound, and kept for a day to be looked at"
    assert lines[-1] == "1 would go, 3 stay."


def test_what_goes_is_deleted(capsys: pytest.CaptureFixture[str]) -> None:
    bucket = shelf()
    assert prune(bucket, POLICY, dry_run=False, as_json=True) == 0
    assert bucket.written == [(OLD,)]
    found = told(capsys)
    assert found["expired"] == [str(OLD)]
    assert set(found["kept"]) == {str(TORN), str(NEW), str(BAD)}
    assert found["dry_run"] is False


def test_where_nothing_goes_nothing_is_deleted(capsys: pytest.CaptureFixture[str]) -> None:
    bucket = shelf()
    assert prune(bucket, replace(POLICY, keep_newest=9), dry_run=False, as_json=False) == 0
    assert bucket.written == []
    assert capsys.readouterr().out.endswith("0 are gone, 4 stay.\n")


def test_without_a_generation_nothing_goes() -> None:
    with pytest.raises(Refused, match="no generation"):
        prune(shelf(record=None), POLICY, dry_run=False, as_json=False)


# ---- take and drill -------------------------------------------------------------------------------------------------


def test_what_was_taken_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    taker = Taker(manifest(NEW))
    assert take(taker, GenerationNumber(1), 1, as_json=False) == 0
    assert taker.asked == [(1, Origin.DEMAND)]
    out = capsys.readouterr().out
    for word in (str(NEW), "revision  800 of generation 1", "1.0 MB", "0.0 MB in the bucket", manifest(NEW).sha256):
        assert word in out
    assert take(taker, GenerationNumber(1), 1, as_json=True) == 0
    assert Manifest.from_json(capsys.readouterr().out) == manifest(NEW)


@pytest.mark.parametrize(("result", "code"), [("passed", 0), ("failed", 1), ("skipped", 1)])
def test_a_drill_says_what_came_of_it(result: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    taker, word = Taker(manifest(NEW)), DrillRecord(NEW, A, DrillResult(result), "compared", 2.5)
    assert drill(shelf(drill=word), taker, "latest", A, as_json=False) == code
    assert taker.asked == [NEW]
    assert capsys.readouterr().out == f"{result}  {NEW}  in 2.5 s: compared\n"
    assert drill(shelf(drill=word), taker, str(NEW), A, as_json=True) == code
    assert told(capsys)["result"] == result


@pytest.mark.parametrize("found", [None, DrillRecord(NEW, B, DrillResult.PASSED, "another's", 1.0)])
def test_a_drill_of_which_there_is_no_word(found: DrillRecord | None) -> None:
    with pytest.raises(Unavailable, match="not in the bucket"):
        drill(shelf(drill=found), Taker(manifest(NEW)), "latest", A, as_json=False)


# ---- the command line -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["take", "list", "verify", "prune", "drill"])
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main(["snapshot", verb, "--help"])
    assert done.value.code == 0
    out = capsys.readouterr().out
    assert "--json" in out
    assert "--config" in out


@pytest.mark.parametrize(
    "words", [["snapshot"], ["snapshot", "verify"], ["snapshot", "verify", "latest", "--all"], ["snapshot", "burn"]]
)
def test_a_wrong_command_line_is_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main(words)
    assert done.value.code == 2
    assert capsys.readouterr().out == ""
