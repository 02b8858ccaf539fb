"""`recover`: the evidence, every refusal, the consent, and what is written in the end."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from agent import cli
from agent.decide.case import Case
from agent.model.faults import Refused, Unavailable
from agent.model.generation import Exclusion, GenerationRecord
from agent.model.ids import InstanceId
from agent.model.known import Ignorance
from agent.model.observation import Me
from agent.model.snapshot import Origin
from agent.recover_cli import Order, Person, recover
from tests.decide.examples import (
    A,
    B,
    C,
    D,
    E,
    a_lost_three,
    a_snapshot,
    manifest,
    me,
    membership,
    nothing,
    seed,
    snapshot_name,
    the_next,
    voter,
    with_nobody_left,
)
from tests.decide.test_case import case_of, excluded, seeing, two_of_three_unknown
from tests.face.shelf import Shelf, Store

NAME = snapshot_name()
ALIVE = case_of(a_lost_three(A).seeing(membership=membership(voter(A), voter(B), voter(C))))


@dataclass
class Desk:
    """An operator with a bucket, a store, and looks at the world, one after another; the last one lasts."""

    looks: list[Case]
    shelf: Shelf = field(default_factory=lambda: Shelf(manifests={NAME: manifest()}))
    store: Store = field(default_factory=Store)
    here: Me = field(default_factory=lambda: me(D))
    tool_bumps: bool = True

    def inquire(self) -> Case:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def recover(self, person: Person | None = None, **order: Any) -> int:
        post = Office(self.shelf, self.here)
        return recover(post, self.store, self.inquire, lambda: self.tool_bumps, Order(**order), person or SURE)

    @property
    def record(self) -> GenerationRecord:
        (found,) = self.shelf.written
        assert isinstance(found, GenerationRecord)
        return found


@dataclass
class Office:
    """Where the order is given."""

    bucket: Shelf
    me: Me


@dataclass
class Typing:
    """A person at a terminal who types this, and is remembered with what they were asked."""

    words: str
    asked: list[str] = field(default_factory=list)

    def __call__(self, prompt: str) -> str:
        self.asked.append(prompt)
        return self.words


SURE = Person("alice@desk", None, yes=True)
CERTAIN = replace(SURE, replace_living=True)
NOBODY = Person("cron@desk", None)


def typing(words: str) -> Person:
    return Person("alice@desk", Typing(words))


# ---- what is shown --------------------------------------------------------------------------------------------------


def test_a_dry_run_shows_everything_and_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk([case_of(a_lost_three(A))])
    assert desk.recover(NOBODY, source="latest", dry_run=True) == 0
    assert (desk.shelf.written, desk.store.read) == ([], [])
    out, err = capsys.readouterr()
    assert err == ""
    for said in (
        "cluster prod: LOST: it is proven",
        "newest generation 1, of 2026-01-01T09:00:00Z (first)",
        f"{A}, 1 s ago; intact data to term 7, index 1000 (committed 1000), revision 900; no leader since",
        f"{D}, 1 s ago; no data; no leader since",
        f"{NAME}, 4 min old (latest)",
        f"- generation 2 begins with {NAME}",
        f"! {A} reports data to term 7, index 1000: --from survivor would keep it",
        "Nothing was done.",
    ):
        assert said in out, out


def test_the_blockers_are_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    case = two_of_three_unknown().writing_off((excluded(C),))
    with pytest.raises(Refused, match="--exclude"):
        Desk([case]).recover(source="survivor")
    out = capsys.readouterr().out.splitlines()
    assert f"  {B}: EC2 says running, and it has not reported" in out
    assert f"  {B}, running: no report lately" in out
    assert f"  {C}: written off by alice: gone" in out
    assert out[0].startswith("cluster prod: UNTOLD")


def test_a_machine_that_is_none_of_the_fleet_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    case = two_of_three_unknown()
    elsewhere = replace(case, o=replace(case.o, me=replace(me(A), instance=InstanceId("operator"))))
    Desk([elsewhere]).recover(source="latest", dry_run=True)
    assert "this machine is none of the fleet" in capsys.readouterr().out


def test_where_a_quorum_answers_nobody_asks_what_keeps_it_from_being_lost(capsys: pytest.CaptureFixture[str]) -> None:
    Desk([ALIVE]).recover(source="latest", dry_run=True)
    assert "not proven lost" not in capsys.readouterr().out


def test_only_the_newest_snapshots_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    many = tuple(a_snapshot(snapshot_name(revision)) for revision in range(100, 107))
    Desk([case_of(with_nobody_left(), listed=many, head=None)]).recover(source="empty", dry_run=True)
    out = capsys.readouterr().out
    assert "and 2 more" in out
    assert "revision" not in out.partition("sound snapshots:")[0]


def test_nothing_to_show(capsys: pytest.CaptureFixture[str]) -> None:
    Desk([seeing(head=None, listed=())]).recover(source="empty", dry_run=True)
    out = capsys.readouterr().out
    assert "reports: none" in out
    assert "sound snapshots: none" in out
    assert "not proven" not in out


def test_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk([case_of(a_lost_three(A))])
    assert desk.recover(NOBODY, source="latest", dry_run=True, as_json=True) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    assert (found["cluster"], found["head"], found["life"]) == ("prod", 1, "lost")
    assert found["verdict"] == {"proven_lost": True, "holders": [A], "blockers": []}
    assert {each["instance"]: each["data"] for each in found["reports"]} == {A: "intact", D: "none", E: "none"}
    assert found["plan"]["generation"] == 2
    assert set(found["plan"]["founders"]) == {A, D, E}
    assert (found["wrote"], found["said"]) == ([], "nothing was done")


def test_a_refusal_for_scripts_has_the_evidence_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Refused):
        Desk([two_of_three_unknown()]).recover(source="survivor", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["plan"] is None
    assert found["unheard"] == [B, C]
    assert "--exclude" in found["said"]
    assert found["verdict"]["blockers"][0]["who"] == B


def test_a_person_beside_a_script_reads_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk([case_of(with_nobody_left())])
    assert desk.recover(typing("yes"), source="latest", as_json=True) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["wrote"] == ["generations/000002.json"]
    assert "LOST" in err
    assert "what this does" in err


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_without_a_source_the_survivors_come_first() -> None:
    desk = Desk([case_of(a_lost_three(A))])
    assert desk.recover() == 0
    assert desk.shelf.written == [], "the agents do it by themselves"


def test_without_a_source_and_without_survivors_a_source_must_be_named() -> None:
    with pytest.raises(Refused, match="--from latest"):
        Desk([case_of(with_nobody_left())]).recover()


REFUSED: dict[str, tuple[Case, dict[str, Any], str]] = {
    "no snapshot": (case_of(with_nobody_left(), listed=()), {"source": "latest"}, "no sound snapshot"),
    "no name": (case_of(with_nobody_left()), {"source": "yesterday"}, "is no snapshot's name"),
    "not there": (case_of(with_nobody_left()), {"source": str(snapshot_name(1))}, "there is no snapshots/"),
    "no manifest": (
        case_of(with_nobody_left(), listed=(a_snapshot(snapshot_name(1), committed=False),)),
        {"source": str(snapshot_name(1))},
        "has no manifest",
    ),
    "a stranger": (case_of(a_lost_three(A)), {"exclude": (InstanceId("i-x"),)}, "nobody knows i-x"),
    "nobody up": (case_of(with_nobody_left()), {"source": "latest", "exclude": (D, E)}, "no instance is up"),
    "alive": (ALIVE, {"exclude": (B,)}, "generation 1 lives"),
}


@pytest.mark.parametrize(("case", "order", "said"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_is_one_line_and_writes_nothing(case: Case, order: dict[str, Any], said: str) -> None:
    desk = Desk([case])
    with pytest.raises(Refused, match=said) as refused:
        desk.recover(CERTAIN, **order)
    assert "\n" not in str(refused.value)
    assert desk.shelf.written == []


# ---- consent --------------------------------------------------------------------------------------------------------


def test_where_nobody_can_be_asked_a_flag_must_say_it() -> None:
    desk = Desk([case_of(with_nobody_left())])
    with pytest.raises(Refused, match="--yes"):
        desk.recover(NOBODY, source="latest")
    assert desk.recover(SURE, source="latest") == 0


@pytest.mark.parametrize(("words", "code"), [("yes", 0), ("no", 1), ("", 1), ("prod", 1)])
def test_yes_is_asked_for(words: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    desk, person = Desk([case_of(with_nobody_left())]), typing(words)
    assert desk.recover(person, source="latest") == code
    assert len(desk.shelf.written) == (1 if code == 0 else 0)
    assert ("not agreed to" in capsys.readouterr().out) == (code == 1)


@pytest.mark.parametrize("case", [ALIVE, two_of_three_unknown()], ids=["alive", "nobody can tell"])
def test_a_cluster_that_may_live_takes_more_than_yes(case: Case) -> None:
    for person in (SURE, NOBODY, replace(NOBODY, replace_living=True)):
        desk = Desk([case])
        with pytest.raises(Refused, match="--replace-living-cluster"):
            desk.recover(person, source="latest")
        assert desk.shelf.written == []
    desk = Desk([case])
    assert desk.recover(CERTAIN, source="latest") == 0
    assert desk.record.generation == 2


@pytest.mark.parametrize(("words", "code"), [("prod", 0), ("yes", 1), ("PROD", 1)])
def test_the_living_are_called_by_their_name(words: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    desk, person = Desk([ALIVE]), typing(words)
    assert desk.recover(person, source="latest") == code
    assert isinstance(person.type_in, Typing)
    assert person.type_in.asked == ["Type the cluster's name to go on: "]
    err = capsys.readouterr().err
    assert "YOU ARE ABOUT TO REPLACE A CLUSTER THAT MAY BE ALIVE: a quorum answers" in err
    assert len(desk.shelf.written) == (1 if code == 0 else 0)


# ---- what is written ------------------------------------------------------------------------------------------------


def test_whoever_is_written_off_is_written_down(capsys: pytest.CaptureFixture[str]) -> None:
    case = two_of_three_unknown()
    desk = Desk([case])
    assert desk.recover(typing("prod"), exclude=(B, C), why="ticket 4711") == 0
    assert desk.shelf.written == [(1, Exclusion(each, "ticket 4711", "alice@desk", case.o.now)) for each in (B, C)]
    out, err = capsys.readouterr()
    assert "YOU ARE ABOUT TO WRITE OFF INSTANCES OF" in err
    assert f"wrote generations/000001/excluded/{B}.json" in out
    assert "The agents take it from here." in out


def test_the_record_says_who_why_and_from_what() -> None:
    desk = Desk([case_of(with_nobody_left())])
    assert desk.recover(source="latest", why="ticket 4711", exclude=(A,)) == 0
    record = desk.record
    assert record.seed == seed(manifest(), source="operator")
    assert set(record.founders) == {D, E}
    assert record.cause.kind == "operator"
    evidence = record.cause.evidence
    assert (evidence["by"], evidence["why"], evidence["from"]) == ("alice@desk", "ticket 4711", "latest")
    assert (evidence["excluded"], evidence["life"]) == ([A], "lost")
    assert GenerationRecord.from_json(record.to_json()) == record
    assert desk.store.read == [NAME], "verified before anything is written"


def test_what_was_not_proven_is_in_the_record() -> None:
    desk = Desk([two_of_three_unknown()])
    assert desk.recover(CERTAIN, source=NAME.manifest_key) == 0
    evidence = desk.record.cause.evidence
    assert evidence["blockers"][0]["who"] == B
    assert list(evidence["reports"]) == [A]


def test_an_empty_generation_has_no_seed() -> None:
    desk = Desk([case_of(with_nobody_left())])
    assert desk.recover(source="empty") == 0
    assert desk.record.seed is None
    assert desk.store.read == []


@pytest.mark.parametrize(
    ("here", "tool", "bump"),
    [(me(D), True, 1_000_000_000), (me(D), False, 0), (replace(me(D), instance=InstanceId("operator")), False, 10**9)],
    ids=["the tool can", "the tool cannot", "another machine's tool says nothing"],
)
def test_revisions_are_raised_as_the_tool_can(here: Me, tool: bool, bump: int) -> None:
    desk = Desk([case_of(with_nobody_left())], here=here, tool_bumps=tool)
    assert desk.recover(source="latest") == 0
    assert desk.record.seed is not None
    assert desk.record.seed.bump_revision == bump


def test_a_seed_that_is_no_good_is_found_out_before_anything_is_written() -> None:
    desk = Desk([case_of(with_nobody_left())], store=Store({NAME: Refused("it is torn", Ignorance.MALFORMED)}))
    with pytest.raises(Refused, match="torn"):
        desk.recover(source="latest")
    assert desk.shelf.written == []


@pytest.mark.parametrize(
    "later",
    [ALIVE, case_of(with_nobody_left(), head=the_next(manifest()))],
    ids=["it came back", "somebody else was faster"],
)
def test_what_changed_meanwhile_is_looked_at_again(later: Case) -> None:
    desk = Desk([case_of(with_nobody_left()), later])
    with pytest.raises(Refused, match="things changed meanwhile"):
        desk.recover(source="latest")
    assert desk.shelf.written == []


def test_who_left_meanwhile_is_looked_at_again() -> None:
    desk = Desk([case_of(with_nobody_left()), seeing(within=case_of(with_nobody_left()).fleet, peer_urls={})])
    with pytest.raises(Refused, match="no instance is up"):
        desk.recover(source="latest")


def test_another_record_that_came_first_is_an_error() -> None:
    desk = Desk([case_of(with_nobody_left())], Shelf(manifests={NAME: manifest()}, wins=False))
    with pytest.raises(Unavailable, match="came first"):
        desk.recover(source="latest")


# ---- a file made elsewhere ------------------------------------------------------------------------------------------

URL = "s3://backups/prod.db"


def test_a_file_is_taken_in_before_the_record_names_it() -> None:
    no_room = Refused("no space left", Ignorance.OURS)
    desk = Desk([case_of(with_nobody_left())], store=Store(no_room=no_room))
    assert desk.recover(source=URL) == 0
    ((url, name),) = desk.store.adopted
    assert (url, name.generation, name.revision) == (URL, 1, 0)
    (made,) = desk.store.committed
    assert (made.origin, made.etcd_version, made.sha256) == (Origin.IMPORT, "unknown", "ab" * 32)
    assert type(made).from_json(made.to_json()) == made
    assert desk.record.seed == seed(made, source="operator")


def test_into_an_empty_bucket_it_is_taken_as_of_generation_1() -> None:
    desk = Desk([seeing(nothing(A), head=None, listed=())], store=Store(no_room=Refused("", Ignorance.OURS)))
    assert desk.recover(source=URL) == 0
    assert desk.store.adopted[0][1].generation == 1
    assert desk.record.generation == 1


def test_a_file_that_is_none_of_etcds_is_refused() -> None:
    desk = Desk([case_of(with_nobody_left())], store=Store(database=b"not a database"))
    with pytest.raises(Refused, match=URL):
        desk.recover(source=URL)
    assert (desk.store.adopted, desk.shelf.written) == ([], [])


def test_a_file_that_cannot_be_read_is_refused() -> None:
    denied = Refused("denied")
    desk = Desk([case_of(with_nobody_left())], store=Store(no_room=denied))
    with pytest.raises(Refused, match="denied"):
        desk.recover(source=URL)


# ---- the command line -----------------------------------------------------------------------------------------------


def test_help_that_a_stranger_understands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["recover", "--help"])
    out = capsys.readouterr().out
    for word in ("survivor", "latest", "MANIFEST", "s3://BUCKET/KEY", "empty", "--exclude", "--dry-run", "examples:"):
        assert word in out


def test_wrong_settings_are_2(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    assert cli.main(["recover", "--config", str(config)]) == 2
    assert "cluster.name" in capsys.readouterr().err
