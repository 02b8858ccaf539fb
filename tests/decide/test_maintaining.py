"""Upkeep of a cluster that serves: who is defragmented and when, and what is done about a full database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent.decide import Ask, worth_asking
from agent.decide.maintaining import is_safe_to_defragment
from agent.loop import pace
from agent.model.actions import BeginTask, Blocker, CallHuman, Compact, Disarm, Outcome, Rest, Result, Wait
from agent.model.cluster import Alarm, AlarmKind, Answers
from agent.model.fleet import InstanceState
from agent.model.ids import InstanceId
from agent.model.known import Unknown
from agent.model.memory import Memory, remember, remember_result
from agent.model.work import Defragment, Drill, Ended, Idle, Working
from tests.decide import examples as told
from tests.decide.examples import LONG_AGO, MEMBERS, NOW, SILENT, TIMEOUT, A, B, C, D, Example

MB = 1_000_000
NOSPACE = Alarm(MEMBERS[B], AlarmKind.NOSPACE)


def sized(name: InstanceId, size: int, used: int, **changes: Any) -> Any:
    return replace(told.status(name), db_size_bytes=size * MB, db_size_in_use_bytes=used * MB, **changes)


def databases(size: int, used: int, **changes: Any) -> Example:
    """A healthy three that has been so for hours, as the leader's agent sees it; each database is that large."""
    said = {MEMBERS[each]: sized(each, size, used, **changes) for each in (A, B, C)}
    example = told.a_healthy_three().seeing(answers=Answers(said), local=sized(A, size, used))
    return example.remembering(serving_since=LONG_AGO)


def with_a_spare(example: Example, size: int, used: int) -> Example:
    """D is a learner in sync, beside the three."""
    members = told.membership(told.voter(A), told.voter(B), told.voter(C), told.learner(D))
    listed = told.fleet(*(told.instance(each) for each in (A, B, C, D)), desired=4)
    spare = except_for(example, D, sized(D, size, used, is_learner=True))
    return spare.seeing(membership=members, fleet=listed).remembering(membership=members, fleet=listed)


def defragments(name: InstanceId) -> BeginTask:
    return BeginTask(Defragment(MEMBERS[name], told.client(name)))


def except_for(example: Example, name: InstanceId, status: Any) -> Example:
    return example.seeing(answers=Answers({**example.o.answers.of, MEMBERS[name]: status}))


class TestDefragmenting:
    def test_followers_go_first_and_the_leader_last(self) -> None:
        example = databases(500, 100)
        for name in (B, C, A):
            assert example.action == defragments(name)
            example = except_for(example, name, sized(name, 101, 100))
        assert example.action == Rest()

    @pytest.mark.parametrize(("size", "used"), [(500, 300), (104, 1), (1, 0)])
    def test_what_is_small_or_mostly_in_use_is_left_as_it_is(self, size: int, used: int) -> None:
        assert databases(size, used).action == Rest()
        assert databases(105, 52).action == defragments(B)

    def test_it_can_be_turned_off(self) -> None:
        example = databases(500, 100)
        off = replace(example, policy=replace(example.policy, defragment=False))
        assert off.action == Rest()

    @pytest.mark.parametrize("status", [SILENT, sized(C, 500, 100, leader=None), sized(C, 500, 100, applied_index=0)])
    def test_nobody_is_blocked_while_another_is_not_well(self, status: Any) -> None:
        unwell = except_for(databases(500, 100), C, status)
        if not isinstance(status, Unknown) and status.applied_index == 0:
            status = replace(status, committed_index=6000)
            unwell = except_for(unwell, C, status)
        assert not isinstance(unwell.action, BeginTask)
        assert unwell.objections_to(defragments(B)) != ()

    def test_not_while_an_alarm_is_raised(self) -> None:
        alarmed = except_for(databases(500, 100), C, sized(C, 500, 100, errors=("memberID:12 alarm:CORRUPT",)))
        assert alarmed.action == Rest()
        assert alarmed.objections_to(defragments(B)) != ()

    def test_not_by_an_etcd_that_may_be_corrupted_by_it(self) -> None:
        assert except_for(databases(500, 100), C, sized(C, 500, 100, version="3.5.5")).action == Rest()

    @pytest.mark.parametrize("since", [None, NOW - timedelta(minutes=4)])
    def test_not_soon_after_a_change(self, since: Any) -> None:
        assert databases(500, 100).remembering(serving_since=since).action == Rest()

    def test_not_beside_a_task_or_right_after_one_that_failed(self) -> None:
        example = databases(500, 100)
        drill = Drill(told.snapshot_name())
        assert not isinstance(example.seeing(work=Working(drill, NOW)).action, BeginTask)
        failed = Ended(drill, NOW, NOW, TIMEOUT)
        assert example.seeing(work=failed).action == Rest()

    def test_not_while_somebody_comes_or_goes(self) -> None:
        example = databases(500, 100)
        leaving = told.fleet(told.instance(A), told.instance(B), told.instance(C, lifecycle="Terminating:Wait"))
        coming = told.fleet(*(told.instance(each) for each in (A, B, C, D)))
        for fleet in (leaving, coming, None):
            assert not isinstance(example.remembering(fleet=fleet).action, BeginTask)
        ended = told.instance(D, InstanceState.TERMINATED)
        gone = told.fleet(told.instance(A), told.instance(B), told.instance(C), ended)
        assert example.remembering(fleet=gone).action == defragments(B)

    def test_only_by_the_leaders_agent(self) -> None:
        assert databases(500, 100).seeing(local=told.status(A, leader=B)).action == Rest()
        assert not isinstance(databases(500, 100).seeing(membership=TIMEOUT).action, BeginTask)

    def test_one_that_is_fragmented_again_at_once_is_left_for_an_hour(self) -> None:
        begun = Ended(Defragment(MEMBERS[B], told.client(B)), NOW, NOW, TIMEOUT)
        example = databases(500, 100)
        o = replace(example.o, now=NOW + timedelta(minutes=10), work=begun)
        memory = remember(example.memory, o, example.policy)
        assert memory.defragmented == {MEMBERS[B]: NOW}
        assert replace(example, o=o, memory=memory).action == defragments(C)
        later = replace(example, o=replace(o, now=NOW + timedelta(hours=1)), memory=memory)
        assert later.action == defragments(B)

    def test_a_spare_is_left_as_it_is(self) -> None:
        example = with_a_spare(databases(500, 100), 500, 100)
        for name in (B, C, A):
            assert example.action == defragments(name)
            example = except_for(example, name, sized(name, 101, 100))
        assert example.action == Rest()
        assert example.objections_to(defragments(D)) != ()

    def test_a_member_is_asked_where_it_answers(self) -> None:
        example = databases(500, 100)
        assert example.objections_to(defragments(B)) == ()
        assert example.objections_to(BeginTask(Defragment(MEMBERS[B], told.client(C)))) != ()
        assert example.seeing(membership=TIMEOUT).objections_to(defragments(B)) != ()


@pytest.mark.parametrize(
    ("version", "safe"),
    [("3.5.30", True), ("3.5.6", True), ("3.5.5", False), ("3.4.22", True), ("3.4.21", False), ("3.6.0", True)],
)
def test_versions_that_survive_their_end_in_the_middle_of_it(version: str, safe: bool) -> None:
    assert is_safe_to_defragment(version) is safe
    assert is_safe_to_defragment(f"{version}-rc.0") is safe


@pytest.mark.parametrize("version", ["", "3", "three.five.six"])
def test_of_a_version_that_makes_no_sense_nothing_is_known(version: str) -> None:
    assert not is_safe_to_defragment(version)


def full(used: int = 100, size: int = 2100, nospace: bool = True, **changes: Any) -> Example:
    """B raised NOSPACE; the newest snapshot is at revision 800, and every member at 900."""
    example = databases(size, used, errors=("memberID:11 alarm:NOSPACE",)).seeing(alarms=(NOSPACE,))
    example = example.remembering(snapshots=(told.a_snapshot(),), **changes)
    return replace(example, policy=replace(example.policy, nospace=nospace))


class TestAFullDatabase:
    def test_a_human_is_called_and_told_what_to_do(self) -> None:
        called = full(nospace=False)
        assert isinstance(called.action, CallHuman)
        assert "maintenance.nospace" in called.action.hint
        assert f"{B} " in called.carried_out.because
        assert "NOSPACE" in called.carried_out.because

    def test_compact_defragment_each_and_disarm(self) -> None:
        example = full()
        assert example.action == Compact(800), "what came before is in a snapshot"
        memory = remember_result(example.memory, example.carried_out, Result(Outcome.DONE), NOW)
        assert (memory.compacted, memory.defragmented) == (800, {})
        example = replace(example, memory=memory)
        for name in (B, C, A):
            assert example.action == defragments(name)
            example = example.remembering(defragmented={**example.memory.defragmented, MEMBERS[name]: NOW})
            example = except_for(example, name, sized(name, 101, 100, errors=("memberID:11 alarm:NOSPACE",)))
        assert example.action == Disarm(NOSPACE)

    def test_a_compaction_that_may_not_have_happened_is_asked_for_again(self) -> None:
        for outcome in (Outcome.MAYBE, Outcome.REFUSED):
            memory = remember_result(full().memory, full().carried_out, Result(outcome), NOW)
            assert memory.compacted is None

    def test_nothing_beyond_what_every_member_has(self) -> None:
        behind = except_for(full(), C, sized(C, 2100, 100, revision=700))
        assert behind.action == Compact(700)
        assert behind.objections_to(Compact(800)) != ()

    @pytest.mark.parametrize("listed", [None, (), (told.a_snapshot(told.snapshot_name(generation=2)),)])
    def test_nothing_is_compacted_before_there_is_a_snapshot(self, listed: Any) -> None:
        waiting = full().remembering(snapshots=listed)
        assert waiting.action == Wait(Blocker.MAINTENANCE)
        assert full().remembering(snapshots=None).objections_to(Compact(800)) != ()
        assert full().remembering(head=None).seeing(head=TIMEOUT).action == Wait(Blocker.MAINTENANCE)

    def test_nothing_while_somebody_is_not_well(self) -> None:
        unwell = except_for(full(), C, SILENT)
        assert unwell.action == Wait(Blocker.MAINTENANCE)
        pause = pace(unwell.carried_out, Result(Outcome.DONE), unwell.o, unwell.memory, unwell.policy)
        assert pause == unwell.policy.loop_interval

    def test_what_stays_full_is_a_humans(self) -> None:
        done = dict.fromkeys(MEMBERS.values(), NOW)
        assert isinstance(full(used=2050, compacted=800, defragmented=done).action, CallHuman)

    def test_a_spare_that_stays_full_is_named_to_a_human(self) -> None:
        done = {MEMBERS[each]: NOW for each in (A, B, C)}
        roomy = full(size=101, compacted=800, defragmented=done)
        assert with_a_spare(roomy, 101, 100).action == Disarm(NOSPACE)
        stuffed = with_a_spare(roomy, 2100, 100)
        assert isinstance(stuffed.action, CallHuman)
        assert "terminate" in stuffed.action.hint
        assert D in stuffed.carried_out.because

    def test_a_full_database_alone_lets_nothing_be_compacted_or_disarmed(self) -> None:
        healthy = databases(500, 100).remembering(snapshots=(told.a_snapshot(),))
        assert healthy.objections_to(Compact(800)) != ()
        assert full().objections_to(Disarm(NOSPACE)) != ()
        assert full(compacted=800).objections_to(Disarm(NOSPACE)) == ()
        assert full(compacted=800).objections_to(Disarm(Alarm(MEMBERS[B], AlarmKind.CORRUPT))) != ()

    @pytest.mark.parametrize("changes", [{"alarms": TIMEOUT}, {"alarms": ()}, {"membership": TIMEOUT}])
    def test_it_is_known_by_its_alarm(self, changes: Any) -> None:
        assert not isinstance(full(nospace=False).seeing(**changes).action, CallHuman)

    @pytest.mark.parametrize("nospace", [True, False])
    def test_snapshots_are_listed_where_one_is_wanted(self, nospace: bool) -> None:
        example = full(nospace=nospace).remembering(snapshots_read_at=NOW)
        local = sized(A, 2100, 100, errors=("memberID:11 alarm:NOSPACE",))
        o, asked_at = replace(example.o, local=local), {"snapshots": NOW - timedelta(seconds=5)}
        asked = worth_asking(o, replace(example.memory, asked_at=asked_at), example.policy)
        assert (Ask.SNAPSHOTS in asked) is nospace


def test_idle_work_is_remembered_as_nothing() -> None:
    example = databases(500, 100).seeing(work=Idle())
    assert remember(Memory(), example.o, example.policy).defragmented == {}
