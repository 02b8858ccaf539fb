"""An operator holds the cluster: whatever a rule would change is left, and all that keeps it as it is goes on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent.decide import Ask, worth_asking
from agent.loop import pace
from agent.model.actions import (
    AddLearner,
    BeginTask,
    Blocker,
    CompleteHook,
    CreateGeneration,
    Disarm,
    FileReport,
    HeartbeatHook,
    MarkBad,
    MoveLeader,
    Outcome,
    PromoteMember,
    PutInPlace,
    Quarantine,
    RemoveMember,
    Rest,
    Result,
    StampIdentity,
    StartEtcd,
    StopEtcd,
    UpdatePeerUrl,
    Wait,
    WriteClaim,
)
from agent.model.cluster import Alarm, AlarmKind
from agent.model.disk import Data, Disk, EtcdStopped, Stage
from agent.model.fleet import Fleet, Group, InstanceState, Transition
from agent.model.hold import Hold
from agent.model.ids import MemberId
from agent.model.known import NOT_ASKED
from agent.model.snapshot import Rescued
from agent.model.work import Drill, RescueLog, TakeSnapshot
from tests.decide import examples as told
from tests.decide.examples import MEMBERS, NOW, TIMEOUT, A, B, C, D, Example

HELD = Hold("anna", "we move the volumes", NOW - timedelta(minutes=5))
LEAVING = {"lifecycle_target": "Terminated"}
A_MOMENT_AGO = NOW - timedelta(seconds=1)


def held(example: Example) -> Example:
    """By the bucket's last answer; nobody asked in this very round."""
    return example.remembering(hold=HELD)


def with_inherited_alarm() -> Example:
    return told.a_healthy_three().seeing(alarms=(Alarm(MemberId(0x99), AlarmKind.NOSPACE),))


def a_leaving_voter() -> Example:
    example = told.a_healthy_three(seen_by=B).remembering(leaving_since=A_MOMENT_AGO, heartbeat_at=NOW)
    return example.seeing(local=told.status(B), **LEAVING)


def a_leaving_leader() -> Example:
    return told.a_healthy_three().remembering(leaving_since=A_MOMENT_AGO, heartbeat_at=NOW).seeing(**LEAVING)


def let_in() -> Example:
    """A voter whose launching hook waits."""
    waiting = told.instance(B, lifecycle="Pending:Wait")
    fleet = told.fleet(told.instance(A), waiting, told.instance(C))
    example = told.a_healthy_three(seen_by=B).seeing(fleet=fleet, local=told.status(B))
    return example.remembering(fleet=fleet, arriving=True, heartbeat_at=NOW)


CASES: dict[str, tuple[Example, type]] = {
    "removing": (told.with_member_down(told.a_healthy_three(), C, InstanceState.TERMINATED), RemoveMember),
    "removing a stalled learner": (told.with_a_stalled_learner(60), RemoveMember),
    "joining": (told.a_newcomer(D), StampIdentity),
    "asking for an entry": (told.about_to_join(D), AddLearner),
    "voting": (told.a_learner(D), PromoteMember),
    "founding": (told.before_the_first_generation(), CreateGeneration),
    "preparing as a founder": (told.a_founder(A), StampIdentity),
    "claiming": (told.a_prepared_founder(A), WriteClaim),
    "starting as a founder": (told.a_founder_with_its_claim(A), StartEtcd),
    "restoring": (told.a_founder_that_restores(A), BeginTask),
    "recovering": (told.a_lost_three(A), object),
    "clearing an alarm": (with_inherited_alarm(), Disarm),
    "leaving": (a_leaving_voter(), RemoveMember),
    "handing the lead over": (a_leaving_leader(), MoveLeader),
    "arriving": (let_in(), CompleteHook),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_done_when_nobody_holds_and_left_while_held(name: str) -> None:
    example, kind = CASES[name]
    free = example.carried_out
    assert isinstance(free.action, kind)
    assert free.action != Wait(Blocker.HOLD)
    left = held(example).carried_out
    assert left.action == Wait(Blocker.HOLD), left
    assert left.rule == "hold"
    assert free.rule in left.because
    assert "anna" in left.because
    assert held(example).objections_to(free.action) != ()
    assert held(example).seeing(hold=None).carried_out == free, "released, and resumed"


def test_a_member_that_moved_starts_at_its_new_address_and_tells_later() -> None:
    moved = told.a_moved_member(B)
    assert isinstance(moved.action, UpdatePeerUrl)
    assert isinstance(held(moved).action, StartEtcd)


def test_an_etcd_that_ended_is_started_on_its_own_data() -> None:
    stopped = told.a_stopped_member(B)
    assert isinstance(held(stopped).action, StartEtcd)
    assert held(stopped).carried_out == stopped.carried_out


def test_what_a_newer_generation_replaced_is_fenced_stopped_and_moved_aside() -> None:
    running, still = told.a_fenced_member(B, running=True), told.a_fenced_member(B, running=False)
    assert held(running).action == StopEtcd("fenced")
    assert isinstance(held(still).action, Quarantine)


def test_snapshots_go_on_although_something_is_held_back() -> None:
    dead = told.with_member_down(told.a_healthy_three(), C, InstanceState.TERMINATED)
    assert isinstance(dead.action, RemoveMember)
    due = held(dead).seeing(snapshots=(told.a_snapshot(age_seconds=3600.0),)).remembering(behind_since=told.LONG_AGO)
    assert due.action == BeginTask(TakeSnapshot(told.record(A).generation))
    assert due.objections_to(BeginTask(Drill(told.snapshot_name()))) == ()


def test_a_rescue_is_no_such_snapshot() -> None:
    rescued = Rescued(A, MEMBERS[A], told.POSITION)
    generation = told.record(A).generation
    for task in (RescueLog(generation, rescued), TakeSnapshot(generation, rescued=rescued)):
        assert held(told.a_healthy_three()).objections_to(BeginTask(task)) != ()


def test_a_healthy_cluster_rests_although_it_is_held() -> None:
    assert held(told.a_healthy_three()).action == Rest()


@pytest.mark.parametrize(
    "action",
    [
        PutInPlace(told.NONCE),
        MarkBad(told.snapshot_name(), "no"),
        CompleteHook(Transition.TERMINATING),
        StopEtcd("rescue"),
        StopEtcd("leave"),
        StampIdentity(told.identity(A, Stage.JOINING)),
    ],
    ids=lambda action: type(action).__name__,
)
def test_the_second_look_objects_to_this_too(action: Any) -> None:
    assert any("nobody holds" in each for each in held(told.a_healthy_three()).objections_to(action))


def test_a_report_is_filed_and_a_hook_kept() -> None:
    report = FileReport(told.record(A).generation, told.nothing(A))
    assert held(told.a_lost_three(A)).objections_to(report) == ()
    a_while_ago = NOW - timedelta(seconds=21)
    leaving = held(a_leaving_voter()).remembering(leaving_since=a_while_ago, heartbeat_at=a_while_ago)
    assert leaving.action == HeartbeatHook()


class TestALaunchThatIsHeldUp:
    """Nobody is let in while held, and Auto Scaling terminates who does not speak up in time."""

    def test_its_hook_is_kept(self) -> None:
        late = held(let_in()).remembering(heartbeat_at=None)
        assert late.action == HeartbeatHook(Transition.LAUNCHING)
        assert held(let_in()).remembering(heartbeat_at=NOW - timedelta(seconds=20)).action == late.action

    def test_not_more_often_than_needed(self) -> None:
        assert held(let_in()).action == Wait(Blocker.HOLD)

    def test_not_once_it_is_completed(self) -> None:
        done = held(let_in()).remembering(heartbeat_at=None, completed={Transition.LAUNCHING: NOW})
        assert done.action == Rest()


class TestATag:
    def test_of_the_group_holds_everybody(self) -> None:
        example, _ = CASES["voting"]
        assert isinstance(example.o.fleet, Fleet)
        fleet = replace(example.o.fleet, groups=(Group("group", 5, HELD),))
        assert example.seeing(fleet=fleet).action == Wait(Blocker.HOLD)
        assert any("tag" in each for each in example.seeing(fleet=fleet).objections_to(example.action))
        assert example.seeing(fleet=TIMEOUT).remembering(fleet=fleet).action == Wait(Blocker.HOLD), "as last known"

    def test_of_an_instance_holds_its_own_agent(self) -> None:
        example, _ = CASES["removing"]
        assert isinstance(example.o.fleet, Fleet)
        fleet = example.o.fleet

        def tagged(who: str) -> Example:
            marked = tuple(replace(each, hold=HELD) if each.id == who else each for each in fleet.instances)
            return example.seeing(fleet=replace(fleet, instances=marked))

        assert tagged(A).action == Wait(Blocker.HOLD)
        assert tagged(B).carried_out == example.carried_out

    def test_nobody_knows_of_a_fleet(self) -> None:
        example = told.a_prepared_founder(A).seeing(fleet=TIMEOUT).remembering(fleet=None)
        assert isinstance(example.action, WriteClaim)


class TestIgnorance:
    def test_the_last_answer_stays(self) -> None:
        example, _ = CASES["removing"]
        assert held(example).seeing(hold=TIMEOUT).action == Wait(Blocker.HOLD)
        assert example.seeing(hold=TIMEOUT).carried_out == example.carried_out

    @pytest.mark.parametrize("answer", [NOT_ASKED, TIMEOUT])
    def test_whoever_was_never_told_waits(self, answer: Any) -> None:
        example, _ = CASES["removing"]
        never = example.seeing(hold=answer).remembering(hold=TIMEOUT)
        assert never.action == Wait(Blocker.HOLD)
        assert "never read" in never.carried_out.because
        assert any("is known is not so" in each for each in never.objections_to(example.action))

    def test_and_starts_its_etcd_all_the_same(self) -> None:
        never = told.a_stopped_member(B).remembering(hold=TIMEOUT)
        assert isinstance(never.action, StartEtcd)


def test_a_round_that_is_held_back_is_followed_by_another_in_a_while() -> None:
    example, _ = CASES["removing"]
    decision = held(example).carried_out
    pause = pace(decision, Result(Outcome.DONE), example.o, example.memory, example.policy)
    assert pause == example.policy.loop_interval


@pytest.mark.parametrize(
    ("hold", "seconds", "asked"),
    [(NOT_ASKED, 5, True), (None, 899, False), (None, 900, True), (HELD, 14, False), (HELD, 15, True)],
)
def test_how_often_it_is_read_where_nothing_is_to_be_done(hold: Any, seconds: int, asked: bool) -> None:
    example = told.a_healthy_three()
    memory = replace(example.memory, hold=hold, asked_at={"hold": NOW - timedelta(seconds=seconds)})
    assert (Ask.HOLD in worth_asking(example.o, memory, example.policy)) is asked


def test_a_start_without_data_is_a_founders_or_a_joiners() -> None:
    empty = Disk(told.identity(D, Stage.JOINING), Data.EMPTY)
    example = held(told.with_an_entry(D)).seeing(disk=empty, process=EtcdStopped())
    assert not isinstance(example.action, StartEtcd)
    assert MEMBERS[D]
