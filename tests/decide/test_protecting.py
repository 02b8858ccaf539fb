"""Voters are protected from scale-in while the cluster can spare nobody, and no longer."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent.decide import Ask, worth_asking
from agent.decide.protecting import SILENT_FOR, TRY_AGAIN, protect_while_it_is_needed
from agent.decide.situation import Situation
from agent.decide.table import situate
from agent.model.actions import Decision, Outcome, ProtectFromScaleIn, Rest, Result
from agent.model.cluster import Answers
from agent.model.fleet import Fleet
from agent.model.ids import InstanceId
from agent.model.memory import groups_are_due, remember, remember_result
from tests.decide.examples import (
    MEMBERS,
    NOW,
    TIMEOUT,
    A,
    B,
    C,
    D,
    E,
    Example,
    a_healthy_three,
    a_learner,
    answers,
    fleet,
    instance,
    membership,
    voter,
)

PROTECT, RELEASE = ProtectFromScaleIn(True), ProtectFromScaleIn(False)


def minding(example: Example, *, held: bool | None = False) -> Example:
    """The operator wants it; so it is at present."""
    example = replace(example, policy=replace(example.policy, protect_voters=True))
    return example.remembering(protected=held)


def thin(seen_by: Any = B, desired: int = 3, silent_s: float = 60, **held: Any) -> Example:
    """C of the three is silent."""
    listed = fleet(instance(A), instance(B), instance(C), desired=desired)
    return (
        minding(a_healthy_three(seen_by), **held)
        .seeing(answers=answers(A, B, silent=(C,)))
        .remembering(silent_since={MEMBERS[C]: NOW - timedelta(seconds=silent_s)}, fleet=listed)
    )


def test_where_one_more_loss_would_cost_the_quorum() -> None:
    assert thin(A).action == thin(B).action == PROTECT, "each for itself"
    assert thin(held=True).action == Rest()


def test_where_all_is_well_nobody_is() -> None:
    assert minding(a_healthy_three(B)).action == Rest()
    assert minding(a_healthy_three(B), held=True).action == RELEASE


def test_only_where_it_is_wanted() -> None:
    assert replace(thin(), policy=a_healthy_three().policy).action == Rest()


def test_an_answer_that_is_late_is_no_loss() -> None:
    assert thin(silent_s=SILENT_FOR.total_seconds() - 1).action == Rest()
    assert thin(silent_s=SILENT_FOR.total_seconds()).action == PROTECT


def test_where_a_member_is_missing_or_leaving() -> None:
    two = membership(voter(A), voter(B), via=B)
    missing = minding(a_healthy_three(B)).seeing(membership=two, answers=answers(A, B))
    assert missing.action == PROTECT
    listed = fleet(instance(A), instance(B), instance(C, lifecycle="Terminating:Wait"))
    assert minding(a_healthy_three(B)).remembering(fleet=listed).action == PROTECT


def test_what_the_operator_scales_in_is_let_go() -> None:
    """Two voters of a group of two can spare nobody, ever; scaled to one or none, they would never be let go."""
    assert thin(desired=1, held=True).action == RELEASE
    two = membership(voter(A), voter(B), via=B)
    for desired in (0, 1, 2):
        pair = fleet(instance(A), instance(B), desired=desired)
        whole = minding(a_healthy_three(B)).seeing(membership=two, answers=answers(A, B)).remembering(fleet=pair)
        assert whole.action == Rest(), desired


def test_with_five_one_may_be_silent() -> None:
    five = membership(*map(voter, (A, B, C, D, E)), via=B)
    listed = fleet(*map(instance, (A, B, C, D, E)), desired=5)
    example = thin().seeing(membership=five, answers=answers(A, B, D, E, silent=(C,))).remembering(fleet=listed)
    assert example.action == Rest()
    silent = dict.fromkeys((MEMBERS[C], MEMBERS[D]), NOW - timedelta(minutes=1))
    both = example.seeing(answers=answers(A, B, E, silent=(C, D))).remembering(silent_since=silent)
    assert both.action == PROTECT


@pytest.mark.parametrize(
    "change",
    [{"membership": TIMEOUT}, {"answers": Answers()}, {"answers": answers(A, B)}],
    ids=["no-quorum", "nobody-was-asked", "one-was-not-asked"],
)
def test_what_cannot_be_told_changes_nothing(change: dict[str, Any]) -> None:
    for held in (False, True):
        action = thin(held=held).seeing(**change).decided.action
        assert not isinstance(action, ProtectFromScaleIn)


def test_nor_does_what_is_not_known_of_this_instance() -> None:
    assert thin(held=None).action == Rest()
    assert thin().remembering(fleet=None).action == Rest()
    assert thin().remembering(fleet=fleet(instance(A))).action == Rest()
    arriving = fleet(instance(A), instance(B, lifecycle="Pending:Wait"), instance(C))
    assert not isinstance(thin().remembering(fleet=arriving).decided.action, ProtectFromScaleIn)


def test_it_keeps_nobody_from_leaving() -> None:
    leaving = thin().seeing(lifecycle_target="Terminated").remembering(leaving_since=NOW - timedelta(seconds=1))
    assert not isinstance(leaving.decided.action, ProtectFromScaleIn)


def test_a_learner_and_a_stranger_are_nobodys_quorum() -> None:
    listed = fleet(instance(A), instance(B), instance(D), desired=2)
    assert minding(a_learner()).seeing(fleet=listed).remembering(fleet=listed).action == Rest()
    assert protect_while_it_is_needed(situation(thin().seeing(membership=membership(voter(A), voter(C))))) is None
    assert protect_while_it_is_needed(situation(minding(a_learner()).remembering(fleet=listed_with(D)))) is None


def listed_with(name: InstanceId) -> Fleet:
    return fleet(instance(A), instance(B), instance(name))


def situation(example: Example) -> Situation:
    found = situate(example.o, example.memory, example.policy)
    assert found is not None
    return found


def test_what_was_refused_is_tried_again_after_a_while() -> None:
    asked = Decision(PROTECT, "because")
    refused = remember_result(thin().memory, asked, Result(Outcome.REFUSED), NOW)
    assert replace(thin(), memory=refused).action == Rest()
    assert replace(thin(), memory=replace(refused, protection_tried_at=NOW - TRY_AGAIN)).action == PROTECT
    done = remember_result(thin().memory, asked, Result(Outcome.DONE), NOW)
    assert replace(thin(), memory=done).action == Rest()
    assert done.protected


def test_what_the_group_says_counts() -> None:
    protected = replace(instance(B), protected=True)
    read = thin().seeing(fleet=fleet(instance(A), protected, instance(C)))
    assert remember(read.memory, read.o, read.policy).protected is True


def test_how_many_are_wanted_is_looked_up_while_it_matters() -> None:
    def fleet_is_asked(example: Example) -> bool:
        before = NOW - timedelta(minutes=1)
        memory = replace(example.memory, asked_at={"fleet": before}, groups_read_at=before)
        return Ask.FLEET in worth_asking(example.o, memory, example.policy)

    assert fleet_is_asked(thin())
    assert fleet_is_asked(minding(a_healthy_three(B), held=True))
    assert not fleet_is_asked(minding(a_healthy_three(B)))
    assert not fleet_is_asked(a_healthy_three(B))
    assert groups_are_due(thin(held=True).memory, NOW, thin().policy)
    assert not groups_are_due(thin().memory, NOW, thin().policy)


def test_without_a_quorum_nothing_is_said() -> None:
    assert protect_while_it_is_needed(situation(thin().seeing(membership=TIMEOUT))) is None
