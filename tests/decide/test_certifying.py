"""Own certificates: issued when they are wanted, an authority made only where nothing was ever founded, and etcds that
reload one at a time, the leader last."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent.decide import Ask, worth_asking
from agent.decide.certifying import WHOLE_FOR
from agent.model.actions import (
    Action,
    Blocker,
    CallHuman,
    CreateAuthority,
    Decision,
    IssueCertificates,
    Outcome,
    ReloadEtcd,
    Rest,
    Result,
    StartEtcd,
    Wait,
)
from agent.model.certificates import TRY_AGAIN, Authorities, Issued
from agent.model.disk import Data, Disk, Stage
from agent.model.hold import Hold
from agent.model.ids import InstanceId
from agent.model.memory import Memory, remember, remember_result
from agent.model.work import Drill, Working
from tests.decide.examples import (
    IPS,
    MEMBERS,
    NOW,
    SILENT,
    THROTTLED,
    TIMEOUT,
    A,
    B,
    C,
    D,
    Example,
    a_healthy_three,
    a_moved_member,
    a_newcomer,
    a_stopped_member,
    answers,
    before_the_first_generation,
    identity,
    snapshot_name,
    status,
)

OLD, BOTH, NEW = Authorities((1,), 1), Authorities((1, 2), 1), Authorities((2,), 2)
DAY = timedelta(days=1)


def certified(example: Example, **changes: Any) -> Example:
    """The same with `tls.mode = "ca"`: fresh certificates of authority 1, which Parameter Store names."""
    example = replace(example, policy=replace(example.policy, issues_certificates=True))
    seen: dict[str, Any] = {"issued": issued(example.o.me.instance), "authorities": OLD, **changes}
    return example.seeing(**seen)


def issued(name: InstanceId, authorities: Authorities = OLD, age: timedelta = DAY, left: timedelta = 6 * DAY) -> Issued:
    return Issued(authorities, name, IPS[name], NOW - age, NOW + left, NOW + 3000 * DAY)


def trusts(**numbers: int | tuple[int, ...]) -> dict[Any, frozenset[int]]:
    members = {"a": A, "b": B, "c": C}
    return {MEMBERS[members[k]]: frozenset((v,) if isinstance(v, int) else v) for k, v in numbers.items()}


# ---- issuing


def test_fresh_certificates_of_the_right_authority_are_left_alone() -> None:
    assert certified(a_healthy_three()).action == Rest()


def test_without_the_mode_nothing_of_it_is_done() -> None:
    example = a_healthy_three().seeing(issued=None, authorities=NEW)
    assert example.action == Rest()
    assert not {Ask.AUTHORITIES, Ask.TRUSTING} & worth_asking(*example.values)


@pytest.mark.parametrize(
    "held",
    [
        None,
        issued(A, age=4 * DAY, left=2 * DAY),
        issued(A, age=7 * DAY, left=-DAY),
        replace(issued(A), address="10.9.9.9"),
        replace(issued(A), instance="i-another"),
        issued(A, Authorities((0, 1), 0)),
    ],
    ids=["none", "two thirds worn", "expired", "moved", "another's disk", "another authority"],
)
def test_certificates_are_issued_when_they_are_wanted(held: Issued | None) -> None:
    for example in (a_healthy_three(), a_stopped_member(A)):
        assert certified(example, issued=held).action == IssueCertificates(OLD)


def test_an_answer_of_before_the_last_step_is_late_and_not_followed() -> None:
    issuing = Authorities((1, 2), 2)
    for late, held in ((BOTH, issuing), (issuing, NEW), (OLD, NEW)):
        assert certified(a_healthy_three(), issued=issued(A, held), authorities=late).action == Rest()
    worn = issued(A, NEW, age=5 * DAY, left=DAY)
    assert certified(a_healthy_three(), issued=worn, authorities=NEW).action == IssueCertificates(NEW)


def test_renewal_begins_with_a_third_of_its_life_left() -> None:
    assert certified(a_healthy_three(), issued=issued(A, age=4 * DAY, left=2.1 * DAY)).action == Rest()


@pytest.mark.parametrize("ignorance", [{"authorities": THROTTLED}, {"issued": TIMEOUT}])
def test_ignorance_issues_nothing_and_creates_nothing(ignorance: dict[str, Any]) -> None:
    for example in (a_healthy_three(), before_the_first_generation()):
        seen: dict[str, Any] = {"issued": None, **ignorance}
        decided = certified(example, **seen).decided.action
        assert not isinstance(decided, IssueCertificates | CreateAuthority)


def test_an_issue_that_failed_is_not_tried_again_at_once_and_the_rest_goes_on() -> None:
    worn = certified(a_healthy_three(), issued=issued(A, age=5 * DAY, left=DAY))
    assert worn.remembering(issuing_failed_at=NOW).action == Rest()
    assert worn.remembering(issuing_failed_at=NOW - TRY_AGAIN).action == IssueCertificates(OLD)
    none = certified(a_newcomer(), issued=None).remembering(issuing_failed_at=NOW)
    assert none.action == Wait(Blocker.CERTIFICATES)
    assert none.remembering(issuing_failed_at=NOW - timedelta(seconds=5)).action == IssueCertificates(OLD)


def test_an_operators_hold_lets_nothing_expire() -> None:
    held = Hold("somebody", "maintenance")
    worn = certified(a_healthy_three(), issued=issued(A, age=5 * DAY, left=DAY), hold=held)
    assert worn.action == IssueCertificates(OLD)
    assert worn.seeing(authorities=None, head=None, issued=None).objections_to(CreateAuthority())


# ---- the authority


def test_the_first_authority_is_made_where_nothing_was_founded() -> None:
    first = certified(before_the_first_generation(), issued=None, authorities=None)
    assert first.action == CreateAuthority()
    assert not isinstance(first.remembering(issuing_failed_at=NOW).action, CreateAuthority)


def test_the_second_look_at_an_authority() -> None:
    first = certified(before_the_first_generation(), issued=None, authorities=None)
    assert first.objections_to(CreateAuthority()) == ()
    assert first.seeing(authorities=THROTTLED).objections_to(CreateAuthority())
    assert first.seeing(authorities=OLD).objections_to(CreateAuthority())
    assert first.seeing(head=TIMEOUT).objections_to(CreateAuthority())
    assert certified(a_stopped_member(), authorities=None, head=None).objections_to(CreateAuthority())


@pytest.mark.parametrize("changes", [{"head": THROTTLED}, {"head": TIMEOUT}])
def test_where_it_cannot_be_told_none_is_made(changes: dict[str, Any]) -> None:
    first = certified(before_the_first_generation(), issued=None, authorities=None, **changes)
    assert not isinstance(first.decided.action, CreateAuthority | CallHuman)


def test_a_founded_cluster_without_an_authority_calls_a_human_once_it_matters() -> None:
    assert isinstance(certified(a_newcomer(), issued=None, authorities=None).action, CallHuman)
    assert certified(a_healthy_three(), authorities=None).action == Rest()
    nearly = issued(A, age=6.5 * DAY, left=0.5 * DAY)
    assert isinstance(certified(a_healthy_three(), authorities=None, issued=nearly).action, CallHuman)


def test_data_without_a_record_is_no_first_start() -> None:
    odd = certified(a_stopped_member(), issued=None, authorities=None, head=None)
    assert isinstance(odd.action, CallHuman)


# ---- starting


def test_no_etcd_is_started_without_certificates_and_old_ones_will_do() -> None:
    assert certified(a_stopped_member(B), issued=None, authorities=THROTTLED).action == Wait(Blocker.CERTIFICATES)
    assert certified(a_stopped_member(B), issued=TIMEOUT).action == Wait(Blocker.CERTIFICATES)
    expired = issued(B, age=9 * DAY, left=-DAY)
    assert isinstance(certified(a_stopped_member(B), issued=expired, authorities=THROTTLED).action, StartEtcd)


def test_a_member_that_moved_gets_its_certificates_first() -> None:
    moved = certified(a_moved_member())
    moved = moved.seeing(me=replace(moved.o.me, private_ip=IPS[D]))
    assert moved.action == IssueCertificates(OLD)


# ---- reloading


def rotating(name: InstanceId, **trusting: int | tuple[int, ...]) -> Example:
    """Authority 2 is trusted, too, and every agent has been issued that; these are what the etcds trust."""
    example = certified(a_healthy_three(name), issued=issued(name, BOTH), authorities=BOTH, trusting=trusts(**trusting))
    return example.remembering(whole_since=NOW - WHOLE_FOR, must_reload=True)


def reloads(example: Example) -> bool:
    return isinstance(example.action, ReloadEtcd)


def test_followers_reload_in_the_order_of_their_ids_and_the_leader_last() -> None:
    both = (1, 2)
    turns: list[dict[str, Any]] = [
        {"a": 1, "b": 1, "c": 1},
        {"a": 1, "b": both, "c": 1},
        {"a": 1, "b": both, "c": both},
        {"a": both, "b": both, "c": both},
    ]
    whose = [[name for name in (A, B, C) if reloads(rotating(name, **turn))] for turn in turns]
    assert whose == [[B], [C], [A], []]


@pytest.mark.parametrize(
    "changes",
    [
        {"answers": answers(A, B, silent=(C,))},
        {"answers": answers(A, B)},
        {"trusting": TIMEOUT},
        {"trusting": {}},
        {"trusting": {MEMBERS[B]: TIMEOUT}},
        {"membership": TIMEOUT},
        {"local": TIMEOUT},
        {"authorities": THROTTLED},
        {"authorities": NEW},
        {"issued": None},
        {"lifecycle_target": "Terminated"},
        {"work": Working(Drill(snapshot_name()), NOW)},
    ],
)
def test_nobody_reloads_where_somebody_is_away_or_anything_is_unknown(changes: dict[str, Any]) -> None:
    assert reloads(rotating(B, a=1, b=1, c=1))
    assert not isinstance(rotating(B, a=1, b=1, c=1).seeing(**changes).decided.action, ReloadEtcd)


def test_nobody_reloads_beside_a_member_that_is_behind_or_leaderless() -> None:
    for odd in (replace(status(C), applied_index=0, committed_index=5000), status(C, leader=None)):
        said = replace(answers(A, B, C), of={**answers(A, B, C).of, MEMBERS[C]: odd})
        assert not reloads(rotating(B, a=1, b=1, c=1).seeing(answers=said))


def test_all_is_well_for_a_while_before_the_next_one_goes() -> None:
    for since in (None, NOW, NOW - WHOLE_FOR + timedelta(seconds=1)):
        assert not reloads(rotating(B, a=1, b=1, c=1).remembering(whole_since=since))


def test_a_hold_keeps_every_etcd_running() -> None:
    held = rotating(B, a=1, b=1, c=1).seeing(hold=Hold("somebody", "maintenance"))
    assert held.action == Wait(Blocker.HOLD)


@pytest.mark.parametrize(
    "changes",
    [
        {"answers": answers(A, B, silent=(C,))},
        {"membership": TIMEOUT},
        {"issued": None},
        {"issued": issued(B, BOTH, age=9 * DAY, left=-DAY)},
    ],
)
def test_the_second_look_at_a_reload(changes: dict[str, Any]) -> None:
    example = rotating(B, a=1, b=1, c=1)
    assert example.objections_to(ReloadEtcd()) == ()
    assert example.seeing(**changes).objections_to(ReloadEtcd())
    fenced = Disk(identity(B, Stage.FENCED), Data.PRESENT)
    assert example.seeing(disk=fenced).objections_to(ReloadEtcd())


# ---- what is asked, and remembered


def asks(example: Example) -> set[Ask]:
    return {Ask.AUTHORITIES, Ask.TRUSTING} & worth_asking(*example.values)


def test_whom_to_trust_is_asked_seldom_while_all_is_well_and_often_while_it_is_not() -> None:
    example = certified(a_healthy_three(), authorities=THROTTLED)
    assert asks(example) == {Ask.AUTHORITIES, Ask.TRUSTING}
    lately = example.remembering(asked_at=dict.fromkeys(Ask, NOW - timedelta(seconds=20)))
    assert asks(lately) == set()
    assert asks(lately.seeing(issued=None)) == {Ask.AUTHORITIES}
    assert asks(lately.seeing(issued=issued(A, age=5 * DAY, left=DAY))) == {Ask.AUTHORITIES}
    assert asks(lately.seeing(me=replace(example.o.me, private_ip=IPS[D]))) == {Ask.AUTHORITIES}
    assert asks(lately.remembering(must_reload=True)) == {Ask.AUTHORITIES, Ask.TRUSTING}
    assert asks(lately.seeing(local=SILENT).remembering(must_reload=True)) == {Ask.AUTHORITIES}


def test_what_our_etcd_trusts_is_remembered_and_the_wait_begins_anew() -> None:
    o, memory, policy = rotating(B, a=1, b=1, c=1).values
    begins = remember(replace(memory, must_reload=False), o, policy)
    assert (begins.must_reload, begins.whole_since) == (True, None)
    then = remember(begins, o, policy)
    assert then.whole_since == NOW
    silent = remember(then, replace(o, answers=answers(A, B, silent=(C,))), policy)
    assert silent.whole_since is None
    unknown: tuple[dict[str, Any], ...] = (
        {"trusting": TIMEOUT},
        {"trusting": {}},
        {"trusting": {MEMBERS[B]: TIMEOUT}},
        {"issued": TIMEOUT},
        {"local": TIMEOUT},
    )
    for changes in unknown:
        assert remember(then, replace(o, **changes), policy).must_reload, "as last seen"
    assert not remember(then, replace(o, trusting=trusts(b=(1, 2))), policy).must_reload


@pytest.mark.parametrize("action", [CreateAuthority(), IssueCertificates(OLD)])
def test_a_failed_issue_is_remembered_until_one_goes_well(action: Action) -> None:
    decision = Decision(action, "because")
    failed = Memory()
    for outcome in (Outcome.REFUSED, Outcome.MAYBE, Outcome.STALE):
        failed = remember_result(Memory(), decision, Result(outcome), NOW)
        assert failed.issuing_failed_at == NOW
    assert remember_result(failed, decision, Result(Outcome.DONE), NOW).issuing_failed_at is None


def test_a_reload_is_no_life_that_was_too_short() -> None:
    before = Memory(etcd_running_since=NOW)
    after = remember_result(before, Decision(ReloadEtcd(), "because"), Result(Outcome.DONE), NOW)
    assert after.etcd_running_since is None
