"""What an operator orders: what would be done, what is lost, what is refused, and what is grave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.decide.by_hand import (
    Draft,
    FromNothing,
    FromSnapshot,
    FromSurvivor,
    FromUrl,
    Refusal,
    Source,
    bump_for,
    draft,
    next_number,
    what_agents_do,
)
from agent.decide.case import Case
from agent.decide.loss import Lost
from agent.model.fleet import InstanceState
from agent.model.generation import Exclusion, Report
from agent.model.ids import GenerationNumber, InstanceId, MemberId
from agent.model.members import LogPosition, MemberEntry
from agent.model.policy import Policy
from agent.model.snapshot import Origin
from tests.decide.examples import (
    MEMBERS,
    NOW,
    A,
    B,
    C,
    D,
    E,
    a_lost_three,
    a_snapshot,
    filed,
    fleet,
    fresh,
    holding,
    instance,
    manifest,
    membership,
    nothing,
    peer,
    seed,
    snapshot_name,
    the_next,
    voter,
    with_nobody_left,
)
from tests.decide.test_case import case_of, excluded, seeing, two_of_three_unknown

LATEST = FromSnapshot(manifest())
BUMP = Policy(cluster="prod").bump_revision


def drafted(case: Case, source: Source = LATEST, *exclude: InstanceId, bumps: bool | None = True) -> Draft:
    found = draft(case, source, tuple(map(excluded, exclude)), bumps)
    assert isinstance(found, Draft), found
    return found


def refused(case: Case, source: Source = LATEST, *exclude: InstanceId) -> str:
    found = draft(case, source, tuple(map(excluded, exclude)), None)
    assert isinstance(found, Refusal), found
    return found.why


def said(found: Draft) -> str:
    return "\n".join((*found.consequences, *found.warnings))


# ---- writing off ----------------------------------------------------------------------------------------------------


def test_what_is_proven_lost_needs_no_order() -> None:
    found = drafted(case_of(a_lost_three(A)), FromSurvivor(), B)
    assert found.idle
    assert f"begin the next generation from {A}" in said(found)


def test_what_was_said_before_the_first_generation_formed_proves_nothing_of_it() -> None:
    """Such reports lie among those for it, and are fresh for a while: "no data" was true of empty disks."""
    example = a_lost_three(A).seeing(fleet=fleet(instance(A), instance(B), instance(C)))
    example = example.seeing(reports=(filed(A), filed(B), filed(C)))
    assert not isinstance(case_of(example).verdict, Lost)
    assert isinstance(case_of(example.seeing(reports=fresh(*map(nothing, (A, B, C))))).verdict, Lost), "said of it"
    found = drafted(case_of(example), FromSurvivor(), B, C)
    assert [each.instance for each in found.exclusions] == [B, C], "they are written off, and not left to the agents"


def test_a_cluster_that_answers_is_not_recovered() -> None:
    example = a_lost_three(A).seeing(membership=membership(voter(A), voter(B), voter(C)))
    assert "generation 1 lives" in refused(case_of(example), FromSurvivor(), B)


def test_without_an_exclusion_the_agents_go_on_waiting() -> None:
    assert "--exclude" in refused(two_of_three_unknown(), FromSurvivor())
    off = two_of_three_unknown().writing_off((excluded(B),))
    assert "--exclude" in refused(off, FromSurvivor(), B), "it is written off already"


def test_without_a_generation_nobody_is_written_off() -> None:
    assert "--from" in refused(seeing(nothing(A), head=None), FromSurvivor(), A)


def test_a_stranger_is_a_typing_error() -> None:
    assert "i-typo" in refused(two_of_three_unknown(), FromSurvivor(), InstanceId("i-typo"))


@pytest.mark.parametrize(
    "name",
    [A, B, D, E, InstanceId(str(MEMBERS[E])), InstanceId("f00")],
    ids=["reporter", "founder", "instance", "in a report", "by its member ID", "in the newest manifest"],
)
def test_whoever_is_named_anywhere_is_no_stranger(name: InstanceId) -> None:
    listed = fleet(instance(A), instance(D))
    unstarted = MemberEntry(MemberId(0xF00), "", (peer(E),))
    case = seeing(holding(A, B, C, E), within=listed)
    case = replace(case, o=replace(case.o, manifest=manifest(members=(unstarted,))))
    assert drafted(case, FromNothing(), name).generation == 2


def test_writing_off_who_is_up_and_unheard_is_grave() -> None:
    found = drafted(two_of_three_unknown(), FromSurvivor(), B)
    assert [each.instance for each in found.exclusions] == [B]
    assert found.generation == 1
    assert f"not heard, though EC2 calls them up: {B}" in found.grave
    assert "still wait for" in said(found)
    assert C in said(found)


def test_writing_off_who_is_stopped_is_not_grave() -> None:
    listed = fleet(instance(A), instance(B, InstanceState.STOPPED), instance(C, InstanceState.STOPPED))
    found = drafted(seeing(holding(A, B, C), within=listed), FromSurvivor(), B, C)
    assert found.grave == ""
    assert f"from {A}: nothing is lost that reached its log" in said(found)


def test_a_holder_that_is_left_out_is_named() -> None:
    short = LogPosition(last_term=7, last_index=990, committed_index=990)
    listed = fleet(instance(A), instance(B), instance(C, InstanceState.STOPPED))
    reports = (holding(A, B, C), holding(B, A, C, position=short))
    found = drafted(seeing(*reports, within=listed), FromSurvivor(), B)
    assert f"{B} is here and reports intact data to index 990: it will be left out" in found.warnings
    unread = (holding(A, B, C), holding(B, A, C, position=None))
    assert "reports intact data: it" in said(drafted(seeing(*unread, within=listed), FromSurvivor(), B))


def test_what_the_agents_do_next() -> None:
    behind = LogPosition(last_term=7, last_index=800, committed_index=800)
    case = case_of(a_lost_three(A))
    assert "nothing is lost that reached its log" in what_agents_do(case)
    returned = case_of(a_lost_three(A).seeing(reports=fresh(holding(A, B, C, position=behind), nothing(D), nothing(E))))
    assert f"from {snapshot_name()}, which has all that {A} has" in what_agents_do(returned)
    nobody = case_of(with_nobody_left())
    assert f"from {snapshot_name()}, 240 s old: what was written since is lost" in what_agents_do(nobody)
    assert "call a human" in what_agents_do(replace(nobody, listed=()))


# ---- replacing ------------------------------------------------------------------------------------------------------


def test_from_the_newest_snapshot() -> None:
    found = drafted(case_of(with_nobody_left()))
    assert found.generation == 2
    assert found.founders == {D: peer(D), E: peer(E)}
    assert found.bump_revision == BUMP
    assert found.grave == ""
    assert f"generation 2 begins with {snapshot_name()}, taken 0:04:00 ago by {B}" in found.consequences
    assert "what was written after revision 800 is lost" in found.consequences
    assert f"its founders are {D}, {E}; it serves once 2 of them have started" in found.consequences
    assert "within 0:05:00 where they serve" in said(found)
    assert "quarantine/" in said(found)
    assert found.warnings == ()


def test_a_survivor_that_is_passed_over_is_named() -> None:
    found = drafted(case_of(a_lost_three(A)))
    assert f"{A} reports data to term 7, index 1000: --from survivor would keep it" in found.warnings
    assert "is lost: at least 100 revisions" in said(found)


def test_a_living_cluster_is_grave_and_so_is_one_nobody_can_see() -> None:
    alive = a_lost_three(A).seeing(membership=membership(voter(A), voter(B), voter(C)))
    assert "a quorum answers" in drafted(case_of(alive)).grave
    assert f"though EC2 calls them up: {B}" in drafted(two_of_three_unknown()).grave
    assert drafted(two_of_three_unknown(), LATEST, B).grave == "", "the operator's word"


def test_whoever_is_written_off_founds_nothing() -> None:
    case = case_of(with_nobody_left())
    assert set(drafted(case, LATEST, D).founders) == {E}
    assert set(drafted(case.writing_off((excluded(E),))).founders) == {D}
    assert "no instance is up" in refused(case, LATEST, D, E)


def test_whoever_leaves_or_has_no_address_founds_nothing() -> None:
    listed = fleet(instance(A, lifecycle="Terminating:Wait"), instance(B), instance(C))
    case = seeing(within=listed, peer_urls={A: peer(A), B: peer(B)})
    assert set(drafted(case).founders) == {B}


def test_without_reports_founders_are_found_by_their_addresses() -> None:
    case = seeing(within=fleet(instance(A), instance(B), instance(C)), head=None)
    assert drafted(case).founders == {each: peer(each) for each in (A, B, C)}


def test_those_who_spoke_come_first_where_they_are_enough() -> None:
    listed = fleet(*(instance(each) for each in (A, B, C, D, E)))
    spoke = seeing(nothing(C), nothing(D), nothing(E), within=listed)
    assert set(drafted(spoke).founders) == {C, D, E}
    few = seeing(nothing(E), within=fleet(instance(A), instance(E)))
    found = drafted(few)
    assert set(found.founders) == {A, E}
    assert f"not heard lately: {A}; do their agents run?" in found.warnings


def test_two_at_one_address_found_nothing() -> None:
    case = case_of(with_nobody_left().seeing(reports=fresh(nothing(D), nothing(E, peer_url=peer(D)))))
    assert "same peer URL" in refused(case)


def test_the_number_follows_every_trace_of_a_generation() -> None:
    def number(case: Case, source: Source = FromNothing()) -> int:  # noqa: B008 - a value
        return next_number(case, source)

    empty = seeing(nothing(A), head=None, listed=())
    fifth = snapshot_name(generation=5)
    assert number(empty) == 1
    assert number(replace(empty, listed=(a_snapshot(fifth),))) == 6
    assert number(replace(empty, listed=(a_snapshot(fifth),)), FromSnapshot(manifest(fifth))) == 6
    assert number(seeing(holding(A, B, C, generation=GenerationNumber(3)), head=None, listed=())) == 4
    assert number(replace(empty, filed=(filed(A),))) == 1
    assert number(two_of_three_unknown()) == 2


def test_a_file_that_was_taken_in_is_no_trace_of_a_generation() -> None:
    case = seeing(nothing(A), head=None, listed=(a_snapshot(),))
    assert next_number(case, FromSnapshot(manifest(origin=Origin.IMPORT))) == 1
    assert next_number(case, FromSnapshot(manifest())) == 2


def test_a_first_generation_has_nobody_to_fence() -> None:
    found = drafted(seeing(nothing(A), nothing(B), nothing(C), head=None, listed=()), FromNothing())
    assert (found.generation, found.grave, found.bump_revision) == (1, "", 0)
    assert "quarantine" not in said(found)
    assert "EMPTY" in said(found)
    assert "revisions" not in said(found)


def test_a_file_made_elsewhere_has_no_age() -> None:
    found = drafted(case_of(with_nobody_left()), FromUrl("s3://b/k"), bumps=None)
    assert "generation 2 begins with what is in s3://b/k: every later write is lost" in found.consequences
    assert found.bump_revision == BUMP


@pytest.mark.parametrize(
    ("version", "tool", "bump"),
    [
        ("3.5.30", True, BUMP),
        ("3.5.30", False, 0),
        ("3.5.30", None, BUMP),
        ("3.5.9", None, 0),
        ("3.4.23", None, 0),
        ("3.6.0-rc.1", None, BUMP),
        ("unknown", None, BUMP),
        ("3.5", None, BUMP),
    ],
)
def test_revisions_are_raised_where_the_tool_can(version: str, tool: bool | None, bump: int) -> None:
    source = FromSnapshot(manifest(etcd_version=version))
    assert bump_for(Policy(cluster="prod"), source, tool) == bump
    found = drafted(case_of(with_nobody_left()), source, bumps=tool)
    assert found.bump_revision == bump
    assert ("revisions are not raised" in said(found)) == (bump == 0)


def another(generation: int, **changes: Any) -> FromSnapshot:
    return FromSnapshot(manifest(snapshot_name(700, generation=generation)), **changes)


def test_another_lineage_and_a_bad_mark_are_told() -> None:
    found = drafted(case_of(with_nobody_left()), another(9, marked_bad=True))
    assert any("another lineage" in each for each in found.warnings)
    assert any("marked this snapshot as bad" in each for each in found.warnings)


def test_the_past_of_a_restored_generation_is_its_own_lineage() -> None:
    head = the_next(manifest())
    assert head.seed == seed(manifest())
    case = seeing(nothing(D), nothing(E), head=head)
    assert not any("lineage" in each for each in drafted(case, LATEST).warnings)
    assert not any("lineage" in each for each in drafted(case, another(2)).warnings)
    later = FromSnapshot(manifest(snapshot_name(801)))
    assert any("lineage" in each for each in drafted(case, later).warnings)


def test_a_report_of_who_has_gone_counts_for_nothing() -> None:
    """Its age says so; its revision is still known."""
    gone: Report = holding(A, B, C)
    case = case_of(with_nobody_left().seeing(reports=(*fresh(nothing(D), nothing(E)), *fresh(gone, age_seconds=999))))
    found = drafted(case)
    assert not any("--from survivor" in each for each in found.warnings)
    assert "at least 100 revisions" in said(found)


def test_an_exclusion_is_signed() -> None:
    word = Exclusion(B, "ticket 4711", "alice", NOW)
    found = draft(two_of_three_unknown(), FromSurvivor(), (word,), None)
    assert isinstance(found, Draft)
    assert found.exclusions == (word,)
