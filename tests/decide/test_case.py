"""Whether the newest generation lives, as an operator has to know before replacing it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.decide.case import Case, Life, life_of, silent, unheard
from agent.decide.loss import Lost, NotProven
from agent.model.fleet import Fleet, InstanceState
from agent.model.generation import Exclusion, Report, Sight
from agent.model.ids import InstanceId
from agent.model.memory import Memory
from agent.model.policy import Policy
from tests.decide.examples import (
    NOW,
    A,
    B,
    C,
    D,
    E,
    Example,
    a_lost_three,
    a_snapshot,
    fleet,
    formed,
    fresh,
    holding,
    instance,
    manifest,
    membership,
    nothing,
    peer,
    record,
    status,
    voter,
)

STOPPED, TERMINATED = InstanceState.STOPPED, InstanceState.TERMINATED


def case_of(example: Example, **changes: Any) -> Case:
    """What `agent.inquiry` would find of this example."""
    o = example.o
    assert isinstance(o.fleet, Fleet)
    assert isinstance(o.reports, tuple)
    assert isinstance(o.snapshots, tuple)
    assert isinstance(o.exclusions, tuple)
    head = example.memory.head
    found = Case(
        o=replace(o, head=head),
        memory=Memory(head=head, formed=example.memory.formed),
        policy=Policy(cluster="prod"),
        head=head,
        fleet=o.fleet,
        filed=o.reports,
        listed=o.snapshots,
        exclusions=o.exclusions,
        peer_urls={each.id: peer(each.id) for each in o.fleet.up},
    )
    return replace(found, **changes)


def seeing(*reports: Report, within: Fleet | None = None, age_seconds: float = 1.0, **changes: Any) -> Case:
    """A three of which these report; everything the proof reads is the same."""
    example = a_lost_three(A).seeing(reports=fresh(*reports, age_seconds=age_seconds))
    return case_of(example if within is None else example.seeing(fleet=within), **changes)


def two_of_three_unknown() -> Case:
    """A reports; B is running and says nothing; C is stopped."""
    return seeing(holding(A, B, C), within=fleet(instance(A), instance(B), instance(C, STOPPED)))


def excluded(name: InstanceId) -> Exclusion:
    return Exclusion(name, "gone", "alice", NOW)


def test_a_proven_loss_is_called_lost() -> None:
    case = case_of(a_lost_three(A))
    assert life_of(case)[0] is Life.LOST
    assert isinstance(case.verdict, Lost)
    assert [each.instance for each in case.holders] == [A]
    assert [each.instance for each in case.fresh] == [A, D, E]


def test_a_quorum_that_answers_lives() -> None:
    example = a_lost_three(A).seeing(membership=membership(voter(A), voter(B), voter(C)))
    life, why = life_of(case_of(example))
    assert life is Life.SERVES
    assert "a quorum answers at http://10.0.0.1:2379" in why


def test_whoever_sees_a_leader_is_believed() -> None:
    by_report = seeing(nothing(D, sight=Sight.LEADER))
    by_status = case_of(a_lost_three(A), answers={B: status(B)})
    for case, name in ((by_report, D), (by_status, B)):
        assert life_of(case) == (Life.SERVES, f"a leader is seen by {name}")


def test_somebody_up_who_was_not_heard_may_serve() -> None:
    case = two_of_three_unknown()
    life, why = life_of(case)
    assert life is Life.UNTOLD
    assert why.startswith(f"not heard, though EC2 calls them up: {B};")
    assert silent(case) == {B}
    assert unheard(case) == (B, C)
    assert isinstance(case.verdict, NotProven)


@pytest.mark.parametrize(
    "told",
    [
        lambda: life_of(two_of_three_unknown(), frozenset({B})),
        lambda: life_of(two_of_three_unknown().writing_off((excluded(B),))),
        lambda: life_of(replace(two_of_three_unknown(), answers={B: status(B, leader=None)})),
    ],
    ids=["the operator says so", "it was written off", "its etcd sees no leader"],
)
def test_where_everybody_up_was_heard_it_has_no_leader(told: Any) -> None:
    assert told()[0] in (Life.LEADERLESS, Life.LOST)


def test_an_old_report_says_nothing() -> None:
    case = seeing(holding(A, B, C), nothing(D), nothing(E), age_seconds=60)
    assert case.fresh == ()
    assert life_of(case)[0] is Life.UNTOLD


def test_without_a_record_only_empty_disks_are_no_cluster() -> None:
    empty = seeing(nothing(A), head=None)
    assert life_of(empty)[0] is Life.NONE
    assert life_of(seeing(holding(A, B, C), head=None))[0] is Life.UNTOLD
    assert life_of(replace(empty, answers={B: status(B, leader=None)}))[0] is Life.UNTOLD


def test_writing_off_twice_is_once() -> None:
    case = two_of_three_unknown().writing_off((excluded(B),))
    assert case.written_off == {B}
    again = case.writing_off((excluded(B), excluded(C)))
    assert [each.instance for each in again.exclusions] == [B, C]
    assert again.o.exclusions == again.exclusions
    assert isinstance(again.verdict, Lost), str(again.verdict)


def test_the_examples_are_what_they_say() -> None:
    """What the tests of by_hand stand on."""
    case = case_of(a_lost_three(A), listed=(a_snapshot(),))
    assert case.head == record(A, B, C)
    assert case.memory.formed == formed(A, B, C)
    assert case.o.manifest == manifest()
    assert case.fleet.find(B) == instance(B, TERMINATED)
