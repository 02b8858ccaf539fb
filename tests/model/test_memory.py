"""What an agent remembers: how long something has been so. It is a value, and losing it costs only time."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from agent.model.actions import (
    AskToBeReplaced,
    BeginTask,
    Blocker,
    CallHuman,
    CompleteHook,
    Decision,
    ExpireSnapshots,
    FileReport,
    HeartbeatHook,
    Launch,
    MoveLeader,
    Outcome,
    Quarantine,
    Reason,
    Rest,
    Result,
    StartEtcd,
    StopEtcd,
    Wait,
)
from agent.model.disk import Data, Disk, EtcdRunning, EtcdStopped, Obstacle, ObstacleKind, Stage
from agent.model.fleet import InstanceState, Transition
from agent.model.generation import FIRST, Holding, Report
from agent.model.ids import InstanceId
from agent.model.known import NOT_ASKED, Ignorance, Unknown
from agent.model.members import MemberEntry
from agent.model.memory import (
    A_LOOK,
    PROVEN_LOST,
    Memory,
    Progress,
    forget_asking,
    groups_are_due,
    is_settled,
    remember,
    remember_result,
)
from agent.model.observation import BucketSound
from agent.model.policy import Policy
from agent.model.snapshot import DrillRecord, DrillResult, Rescued
from agent.model.spot import SpotAction, SpotNotice
from agent.model.work import Drill, Ended, FetchSeed, RescueLog, TakeSnapshot, Task, Working
from tests.decide.examples import (
    A_MINUTE_AGO,
    LONG_AGO,
    MEMBERS,
    NOW,
    POSITION,
    THROTTLED,
    TIMEOUT,
    A,
    B,
    C,
    D,
    E,
    Example,
    a_broken_member,
    a_healthy_three,
    a_learner,
    a_lost_three,
    answers,
    before_the_first_generation,
    fleet,
    formed,
    fresh,
    holding,
    identity,
    instance,
    learner,
    manifest,
    membership,
    nothing,
    peer,
    record,
    status,
    the_next,
    unstarted,
    voter,
)

POLICY = Policy(cluster="prod")
LATER = NOW + timedelta(seconds=10)


def after(example: Example, memory: Memory | None = None, **changes: Any) -> Memory:
    """The memory after this round, with these things seen."""
    return remember(example.memory if memory is None else memory, example.seeing(**changes).o, POLICY)


class TestTheHead:
    def test_it_is_kept_while_the_bucket_does_not_answer(self) -> None:
        assert after(a_healthy_three(), head=THROTTLED, formed=THROTTLED).head == record(A, B, C)
        assert after(a_healthy_three(), head=THROTTLED, formed=THROTTLED).formed == formed(A, B, C)

    def test_a_newer_one_forgets_what_formed_before_it(self) -> None:
        memory = after(a_healthy_three(), head=record(D, E, generation=2), formed=THROTTLED)
        assert memory.head == record(D, E, generation=2)
        assert memory.formed is None

    def test_an_empty_bucket_is_remembered_as_empty(self) -> None:
        assert after(a_healthy_three(), head=None, formed=NOT_ASKED).head is None

    def test_the_verdict_of_the_bucket_is_kept(self) -> None:
        assert after(a_healthy_three(), bucket=THROTTLED).bucket == BucketSound()


class TestTheAssembly:
    def test_its_grace_runs_from_the_first_look_at_an_empty_bucket(self) -> None:
        example = before_the_first_generation()
        first = after(example, Memory())
        assert first.assembling_since == NOW
        assert after(example, first, now=LATER).assembling_since == NOW

    def test_an_unreadable_bucket_neither_begins_nor_ends_it(self) -> None:
        example = before_the_first_generation()
        assert after(example, Memory(), head=THROTTLED).assembling_since is None
        assert after(example, Memory(assembling_since=NOW), now=LATER, head=THROTTLED).assembling_since == NOW

    def test_a_record_ends_it(self) -> None:
        assert after(before_the_first_generation(), head=record(A, B, C)).assembling_since is None


class TestTheFleet:
    def test_an_unread_fleet_changes_nothing(self) -> None:
        memory = after(a_healthy_three(), now=LATER, fleet=THROTTLED)
        assert (memory.fleet_read_at, memory.groups_read_at) == (NOW, NOW)

    def test_looks_in_a_row_are_counted_and_one_that_knows_ends_them(self) -> None:
        gone = fleet(instance(A), instance(B), unheard_of=frozenset({C}))
        once = after(a_healthy_three(), fleet=gone)
        twice = after(a_healthy_three(), once, fleet=gone)
        assert (once.unheard_of, twice.unheard_of) == ({C: 1}, {C: 2})
        assert after(a_healthy_three(), twice, fleet=THROTTLED).unheard_of == {C: 2}, "no look is no look"
        assert after(a_healthy_three(), twice).unheard_of == {}

    def test_groups_are_read_seldom_while_all_is_well(self) -> None:
        settled = a_healthy_three().memory
        assert not groups_are_due(settled, NOW + timedelta(minutes=4), POLICY)
        assert groups_are_due(settled, NOW + timedelta(minutes=5), POLICY)
        assert groups_are_due(replace(settled, unsettled_since=NOW), NOW, POLICY), "and at once when it is not"
        assert groups_are_due(replace(settled, groups_read_at=None), NOW, POLICY)
        assert groups_are_due(replace(settled, leaving_since=NOW), NOW, POLICY), "who else is leaving"
        assert groups_are_due(replace(settled, arriving=True), NOW, POLICY), "whether the hook waits by now"

    @pytest.mark.parametrize(
        ("lifecycle", "arriving"), [("Pending", True), ("Pending:Wait", True), ("InService", False)]
    )
    def test_who_is_being_launched_is_known_until_it_is_in_service(self, lifecycle: str, arriving: bool) -> None:
        listed = fleet(instance(A, lifecycle=lifecycle), instance(B))
        assert after(a_healthy_three(), Memory(), fleet=listed).arriving is arriving
        assert not after(a_healthy_three(), Memory(), fleet=fleet(instance(B))).arriving

    def test_a_look_without_the_groups_is_not_one_at_them(self) -> None:
        soon, late = NOW + timedelta(minutes=1), NOW + timedelta(minutes=6)
        assert after(a_healthy_three(), now=soon).groups_read_at == NOW
        assert after(a_healthy_three(), now=late).groups_read_at == late


class TestTheCluster:
    def test_a_members_age_counts_from_the_first_list_that_held_it(self) -> None:
        memory = after(a_healthy_three(), membership=membership(voter(A), voter(B), voter(D)))
        assert memory.seen_since == {MEMBERS[A]: LONG_AGO, MEMBERS[B]: LONG_AGO, MEMBERS[D]: NOW}

    def test_without_a_quorum_time_runs_and_nothing_else_changes(self) -> None:
        memory = after(a_healthy_three(), membership=TIMEOUT)
        assert memory.no_quorum_since == NOW
        assert memory.membership == membership(voter(A), voter(B), voter(C))
        assert after(a_healthy_three(), memory, now=LATER, membership=TIMEOUT).no_quorum_since == NOW
        assert after(a_healthy_three(), memory, now=LATER).no_quorum_since is None

    def test_silence_counts_from_the_first_question_without_an_answer(self) -> None:
        quiet = answers(A, B, silent=(C,))
        first = after(a_healthy_three(), answers=quiet)
        assert first.silent_since == {MEMBERS[C]: NOW}
        assert after(a_healthy_three(), first, now=LATER, answers=quiet).silent_since == {MEMBERS[C]: NOW}
        assert after(a_healthy_three(), first, now=LATER).silent_since == {}

    def test_who_was_not_asked_is_not_silent(self) -> None:
        assert after(a_healthy_three(), answers=answers(A)).silent_since == {}


class TestLearners:
    @staticmethod
    def seen(memory: Memory, said: Any, *, started: bool = True) -> Progress:
        entry = learner(D) if started else unstarted(D)
        members = membership(voter(A), voter(B), voter(C), entry)
        everyone = answers(A, B, C)
        if said is not None:
            everyone = replace(everyone, of={**everyone.of, MEMBERS[D]: said})
        return after(a_healthy_three(), memory, now=LATER, membership=members, answers=everyone).learners[MEMBERS[D]]

    known = Memory(learners={MEMBERS[D]: Progress(500, NOW)})
    behind = replace(status(D), applied_index=500)

    def test_its_time_begins_when_it_is_first_seen(self) -> None:
        assert self.seen(Memory(), TIMEOUT, started=False) == Progress(0, LATER)

    def test_it_runs_while_it_is_silent(self) -> None:
        assert self.seen(self.known, TIMEOUT) == Progress(500, NOW)

    def test_it_does_not_run_for_an_agent_that_never_asks(self) -> None:
        """Else a spare would be taken for stalled by whoever becomes the leader's agent."""
        assert self.seen(self.known, None) == Progress(500, LATER)
        assert self.seen(Memory(), None) == Progress(0, LATER)

    def test_it_does_not_run_while_this_agent_stands_still(self) -> None:
        """Its machine was paused for minutes, and the first answer after it was lost: that is no silence of minutes."""
        paused = timedelta(minutes=5)
        looked = Memory(learners={MEMBERS[D]: Progress(500, LATER - paused, LATER - paused)})
        assert self.seen(looked, TIMEOUT) == Progress(500, LATER - A_LOOK)
        lately = Memory(learners={MEMBERS[D]: Progress(500, LATER - paused, LATER - A_LOOK)})
        assert self.seen(lately, TIMEOUT) == Progress(500, LATER - paused)

    def test_applying_entries_is_progress(self) -> None:
        assert self.seen(self.known, replace(self.behind, applied_index=501)) == Progress(501, LATER)

    def test_having_none_left_to_apply_is_progress_too(self) -> None:
        assert self.seen(self.known, replace(self.behind, committed_index=500)) == Progress(500, LATER)

    def test_standing_still_behind_the_leader_is_none(self) -> None:
        assert self.seen(self.known, self.behind) == Progress(500, NOW)

    def test_nor_is_being_level_with_itself_without_a_leader(self) -> None:
        alone = replace(self.behind, committed_index=500, leader=None)
        assert self.seen(self.known, alone) == Progress(500, NOW)

    def test_the_first_status_of_a_learner_begins_its_time(self) -> None:
        assert self.seen(Memory(), self.behind) == Progress(500, LATER)

    def test_who_votes_now_is_no_learner_any_more(self) -> None:
        assert after(a_healthy_three(), self.known).learners == {}


class TestTheProcess:
    def test_a_short_life_is_counted_and_a_long_one_forgives(self) -> None:
        started = Memory(etcd_running_since=NOW, etcd_short_lives=2)
        ended = after(a_healthy_three(), started, now=LATER, process=EtcdStopped())
        assert (ended.etcd_short_lives, ended.etcd_ended_at, ended.etcd_running_since) == (3, LATER, None)
        still = after(a_healthy_three(), started, now=NOW + timedelta(seconds=29))
        assert still.etcd_short_lives == 2
        assert after(a_healthy_three(), started, now=NOW + timedelta(seconds=30)).etcd_short_lives == 0

    def test_one_that_never_ran_did_not_end(self) -> None:
        memory = after(a_healthy_three(), Memory(), process=EtcdStopped())
        assert (memory.etcd_short_lives, memory.etcd_ended_at) == (0, None)

    def test_an_unknown_process_neither_runs_nor_ended(self) -> None:
        started = Memory(etcd_running_since=NOW)
        assert after(a_healthy_three(), started, process=TIMEOUT).etcd_running_since == NOW

    def test_a_start_counts_from_the_act(self) -> None:
        """It may have ended before we look again."""
        launch = Launch(A, peer(A), "existing", "", ())
        memory = remember_result(Memory(), Decision(StartEtcd(launch), "x"), Result(Outcome.DONE), NOW)
        assert memory.etcd_running_since == NOW
        assert after(a_healthy_three(), memory, now=LATER, process=EtcdStopped()).etcd_short_lives == 1

    def test_an_end_by_our_own_hand_is_no_short_life(self) -> None:
        running = Memory(etcd_running_since=NOW)
        memory = remember_result(running, Decision(StopEtcd("fenced"), "x"), Result(Outcome.DONE), NOW)
        assert after(a_healthy_three(), memory, process=EtcdStopped()).etcd_short_lives == 0


class TestLeaving:
    def test_since_when_outlasts_a_silent_imds_and_ends_with_its_word(self) -> None:
        told = after(a_healthy_three(), Memory(), lifecycle_target="Terminated")
        assert told.leaving_since == NOW
        assert after(a_healthy_three(), told, now=LATER, lifecycle_target=TIMEOUT).leaving_since == NOW
        assert after(a_healthy_three(), told, now=LATER, lifecycle_target="Terminated").leaving_since == NOW
        assert after(a_healthy_three(), told, now=LATER, lifecycle_target="InService").leaving_since is None

    def test_a_spot_notice_outlasts_a_silent_imds_and_ends_with_its_word(self) -> None:
        notice = SpotNotice(SpotAction.TERMINATE, LATER)
        heard = after(a_healthy_three(), Memory(), spot=notice)
        assert (heard.spot, heard.spot_since, heard.going_since) == (notice, NOW, NOW)
        silent = after(a_healthy_three(), heard, now=LATER, spot=TIMEOUT)
        assert (silent.spot, silent.spot_since) == (notice, NOW)
        assert after(a_healthy_three(), heard, now=LATER, spot=notice).spot_since == NOW
        assert after(a_healthy_three(), heard, now=LATER, spot=None).going_since is None
        assert replace(heard, leaving_since=LONG_AGO).going_since == LONG_AGO, "whoever said it first"
        assert after(a_healthy_three(), Memory(), spot=replace(notice, action=SpotAction.STOP)).going_since is None

    def test_when_the_lead_was_given_away(self) -> None:
        decision = Decision(MoveLeader(MEMBERS[B]), "x")
        assert remember_result(Memory(), decision, Result(Outcome.MAYBE), NOW).handed_over_at == NOW
        assert remember_result(Memory(), decision, Result(Outcome.REFUSED), NOW).handed_over_at is None

    @pytest.mark.parametrize("outcome", Outcome)
    def test_hooks_change_nothing_but_what_is_known_of_them(self, outcome: Outcome) -> None:
        asked = Memory(asked_at={"head": LONG_AGO})
        beaten = remember_result(asked, Decision(HeartbeatHook(), "x"), Result(outcome), NOW)
        assert beaten == replace(asked, heartbeat_at=NOW)
        over = remember_result(asked, Decision(CompleteHook(Transition.TERMINATING), "x"), Result(outcome), NOW)
        known = {Transition.TERMINATING: NOW} if outcome is Outcome.DONE else {}
        assert over == replace(asked, completed=known)


class TestSettled:
    def test_a_voter_that_knows_its_leader_and_has_a_quorum_is_settled(self) -> None:
        assert is_settled(a_healthy_three().o)
        assert after(a_healthy_three()).unsettled_since is None

    @pytest.mark.parametrize(
        "changes",
        [
            {"disk": TIMEOUT},
            {"local": TIMEOUT},
            {"membership": TIMEOUT},
            {"local": status(A, leader=None)},
            {"disk": Disk(identity(A, Stage.STARTING), Data.PRESENT)},
            {"disk": Disk(None, Data.EMPTY)},
        ],
        ids=["disk", "local", "membership", "leaderless", "unstamped", "no identity"],
    )
    def test_everybody_else_is_not(self, changes: dict[str, Any]) -> None:
        assert not is_settled(a_healthy_three().seeing(**changes).o)
        first = after(a_healthy_three(), **changes)
        assert first.unsettled_since == NOW
        assert after(a_healthy_three(), first, now=LATER, **changes).unsettled_since == NOW

    def test_nor_is_a_learner(self) -> None:
        assert not is_settled(a_learner().o)

    def test_a_step_begins_the_wait_anew(self) -> None:
        waiting = Memory(unsettled_since=LONG_AGO)
        told = after(a_healthy_three(), waiting, local=TIMEOUT)
        assert told.unsettled_since == NOW, "there is a head, and there was none"
        stepped = remember_result(waiting, Decision(StopEtcd("fenced"), "x"), Result(Outcome.DONE), NOW)
        assert stepped.unsettled_since == NOW

    def test_any_other_effect_is_one_too(self) -> None:
        stepped = remember_result(
            Memory(unsettled_since=LONG_AGO), Decision(Quarantine("x"), "x"), Result(Outcome.DONE), NOW
        )
        assert stepped.unsettled_since == NOW

    def test_a_report_is_no_step(self) -> None:
        report = Report(A, peer(A), "boot-1", Holding.NONE)
        filed = Decision(FileReport(FIRST, report), "x")
        memory = remember_result(Memory(unsettled_since=LONG_AGO), filed, Result(Outcome.DONE), NOW)
        assert memory.unsettled_since == LONG_AGO


class TestAsking:
    def test_what_was_asked_in_vain_was_asked(self) -> None:
        memory = after(a_healthy_three(), Memory(), fleet=THROTTLED, head=NOT_ASKED)
        assert memory.asked_at["fleet"] == NOW
        assert "head" not in memory.asked_at

    def test_after_an_effect_everything_but_fleet_and_bucket_is_asked_anew(self) -> None:
        asked = Memory(asked_at={"fleet": NOW, "bucket": NOW, "head": NOW, "others": NOW})
        assert forget_asking(asked).asked_at == {"fleet": NOW, "bucket": NOW}

    @pytest.mark.parametrize("idle", [Rest(), Wait(Blocker.SYNC), CallHuman("look", Reason.DISK_FULL)])
    def test_after_none_nothing_is(self, idle: Any) -> None:
        asked = Memory(asked_at={"head": NOW})
        assert remember_result(asked, Decision(idle, "x"), Result(Outcome.DONE), NOW) == asked

    def test_nor_after_a_definite_no(self) -> None:
        asked = Memory(asked_at={"head": NOW})
        assert remember_result(asked, Decision(StopEtcd("x"), "x"), Result(Outcome.REFUSED), NOW) == asked

    def test_a_fleet_that_was_read_while_a_report_was_due_is_asked_for_once_more(self) -> None:
        """Who reports proves nothing in that round; were both due together for ever, no round would have all facts."""
        filing = Decision(FileReport(FIRST, Report(A, peer(A), "boot-1", Holding.NONE)), "x")
        for head, fleet_at, kept in ((record(A), NOW, False), (record(A), LONG_AGO, True), (None, NOW, True)):
            asked = Memory(head=head, asked_at={"fleet": fleet_at, "process": NOW})
            assert ("fleet" in remember_result(asked, filing, Result(Outcome.DONE), NOW).asked_at) is kept
        never = Memory(head=record(A), asked_at={"process": NOW})
        assert remember_result(never, filing, Result(Outcome.DONE), NOW).asked_at == {}

    def test_a_report_that_is_filed_is_known_to_be(self) -> None:
        report = Report(A, peer(A), "boot-1", Holding.NONE)
        filing = Decision(FileReport(FIRST, report), "x")
        done = remember_result(Memory(), filing, Result(Outcome.DONE), NOW)
        assert (done.reported, done.reported_at) == (report, NOW)
        assert remember_result(Memory(), filing, Result(Outcome.MAYBE), NOW).reported is None


class TestALostQuorum:
    """Since when nobody sees a leader, whom EC2 is asked about, and what was proven; gone with the first quorum."""

    lost = a_lost_three(A)
    fresh_start = Memory(head=record(A, B, C), formed=formed(A, B, C))

    def test_its_time_runs_from_the_first_look_without_a_leader(self) -> None:
        first = after(self.lost, self.fresh_start)
        assert first.leaderless_since == NOW
        assert after(self.lost, first, now=LATER).leaderless_since == NOW

    @pytest.mark.parametrize("blind", [{"leader_seen": TIMEOUT}, {"process": TIMEOUT, "leader_seen": False}])
    def test_what_cannot_be_told_neither_begins_nor_ends_it(self, blind: dict[str, Any]) -> None:
        """An etcd that nobody knows to run or not may have a leader."""
        assert after(self.lost, self.fresh_start, **blind).leaderless_since is None
        assert after(self.lost, now=LATER, **blind).leaderless_since == A_MINUTE_AGO

    @pytest.mark.parametrize("seen", [{"leader_seen": True}, {"membership": membership(voter(A), voter(B))}])
    def test_a_leader_or_a_quorum_ends_it_and_all_that_was_proven(self, seen: dict[str, Any]) -> None:
        proven = replace(self.lost.memory, proven_lost=record(A).generation, proven_lost_at=NOW)
        memory = after(self.lost, proven, **seen)
        assert (memory.leaderless_since, memory.named_since, memory.proven_lost_at) == (None, {}, None)

    def test_ec2_is_asked_about_everybody_who_is_named_anywhere(self) -> None:
        ghost = MemberEntry(MEMBERS[E], "i-in-a-list", ())
        memory = after(
            self.lost,
            replace(self.fresh_start, formed=replace(formed(A, B), voters={MEMBERS[E]: InstanceId("i-formed")})),
            formed=THROTTLED,
            manifest=manifest(
                members=(MemberEntry(MEMBERS[E], "i-in-a-manifest", ()), MemberEntry(MEMBERS[D], "", ()))
            ),
            reports=fresh(holding(A, members=(ghost, replace(ghost, name=""))), nothing(D)),
        )
        again = after(self.lost, memory, reports=THROTTLED, manifest=NOT_ASKED)
        assert {"i-a", "i-b", "i-c", "i-d", "i-formed", "i-in-a-list"} <= set(again.named_since)
        assert set(again.named_since) == set(memory.named_since) | {"i-in-a-manifest"}

    def test_since_when_each_is_known(self) -> None:
        memory = after(self.lost, now=LATER)
        assert (memory.named_since[B], memory.named_since[D]) == (A_MINUTE_AGO, LATER)

    def test_nobody_is_named_where_nothing_is_known(self) -> None:
        assert after(self.lost, Memory(), head=THROTTLED, reports=THROTTLED, manifest=NOT_ASKED).named_since == {}

    def test_since_when_an_end_is_known(self) -> None:
        """Reports from before it are not held against it; see decide/test_loss.py."""
        gone = fleet(instance(A), instance(B, InstanceState.TERMINATED), unheard_of=frozenset({C, D}))
        first = after(self.lost, self.fresh_start, fleet=gone)
        assert first.ended_since == {B: NOW, C: NOW, D: NOW}
        later = after(self.lost, first, now=LATER, fleet=replace(gone, ended_by_group=frozenset({E})))
        assert later.ended_since == {B: NOW, C: NOW, D: NOW, E: LATER}
        assert after(self.lost, later, fleet=THROTTLED).ended_since == later.ended_since
        assert after(self.lost, later, fleet=fleet(instance(A))).ended_since == {}

    def test_a_new_generation_begins_with_new_clocks(self) -> None:
        """That the one before was without a leader for an hour says nothing of it."""
        old = replace(
            self.lost.memory, no_quorum_since=LONG_AGO, leaderless_since=LONG_AGO, rescue_trouble="etcd panics"
        )
        memory = after(self.lost, old, head=the_next())
        assert (memory.no_quorum_since, memory.leaderless_since, memory.rescue_trouble) == (NOW, NOW, "")
        same = after(self.lost, old)
        assert (same.no_quorum_since, same.leaderless_since, same.rescue_trouble) == (LONG_AGO, LONG_AGO, "etcd panics")

    def test_what_was_proven_is_remembered_with_its_generation(self) -> None:
        proven = remember_result(
            self.fresh_start, Decision(Wait(Blocker.RESCUE), "x", PROVEN_LOST), Result(Outcome.DONE), NOW
        )
        assert (proven.proven_lost, proven.proven_lost_at) == (1, NOW)
        nothing_known = remember_result(
            Memory(), Decision(Wait(Blocker.RESCUE), "x", PROVEN_LOST), Result(Outcome.DONE), NOW
        )
        assert nothing_known.proven_lost_at is None


class TestBehind:
    """Since when there is more in our etcd, at raft's index 1000, than in the newest snapshot."""

    healthy = a_healthy_three()

    def test_from_the_first_entry_on_that_is_not_in_it(self) -> None:
        up_to_date = after(self.healthy, manifest=manifest(raft_index=1000))
        assert up_to_date.behind_since is None
        behind = after(self.healthy, up_to_date, local=replace(status(B), applied_index=1001))
        assert behind.behind_since == NOW
        assert after(self.healthy, replace(behind, behind_since=LONG_AGO)).behind_since is None
        known = replace(behind, behind_since=LONG_AGO)
        assert after(self.healthy, known, local=replace(status(B), applied_index=1002)).behind_since == LONG_AGO

    def test_another_generation_counts_its_log_anew(self) -> None:
        up_to_date = after(self.healthy, manifest=manifest(raft_index=10**6))
        assert after(self.healthy, up_to_date, head=the_next()).behind_since == NOW

    def test_before_any_manifest_was_read(self) -> None:
        assert after(self.healthy).behind_since == NOW

    def test_an_etcd_that_does_not_answer_tells_nothing(self) -> None:
        assert (
            after(self.healthy, replace(self.healthy.memory, behind_since=LONG_AGO), local=TIMEOUT).behind_since
            == LONG_AGO
        )


class TestTasks:
    trouble = Unknown(Ignorance.FAILED, "etcd panics")
    rescued = Rescued(A, MEMBERS[A], POSITION)

    def ended(self, task: Task, *, final: bool = True, at: datetime = NOW, trouble: Unknown | None = trouble) -> Ended:
        return Ended(task, LONG_AGO, at, trouble, final)

    def test_failures_in_a_row_are_counted_once_each(self) -> None:
        work = self.ended(FetchSeed(manifest()), final=False)
        once = after(a_healthy_three(), work=work)
        assert (once.failures, after(a_healthy_three(), once, work=work).failures) == (1, 1)
        again = after(a_healthy_three(), once, work=replace(work, at=LATER))
        assert again.failures == 2
        assert after(a_healthy_three(), again, work=self.ended(FetchSeed(manifest()), trouble=None)).failures == 0

    @pytest.mark.parametrize("task", [RescueLog(FIRST, rescued), TakeSnapshot(FIRST, rescued=rescued)])
    def test_a_rescue_that_can_never_be_is_not_forgotten_when_the_next_task_begins(self, task: Task) -> None:
        """The survivor was the best one again, while it fetched the snapshot instead, and was rescued again."""
        told = after(a_lost_three(A), work=self.ended(task))
        assert told.rescue_trouble == "etcd panics"
        assert after(a_lost_three(A), told, work=Working(FetchSeed(manifest()), NOW)).rescue_trouble == "etcd panics"

    def test_what_may_pass_or_is_none_of_it_is_no_trouble_of_the_rescue(self) -> None:
        for work in (
            self.ended(RescueLog(FIRST, self.rescued), final=False),
            self.ended(RescueLog(FIRST, self.rescued), trouble=None),
            self.ended(TakeSnapshot(FIRST)),
            self.ended(FetchSeed(manifest())),
        ):
            assert after(a_lost_three(A), work=work).rescue_trouble == ""

    def test_a_drill_that_can_never_be_filed_counts_as_one(self) -> None:
        assert after(a_healthy_three(), work=self.ended(Drill(manifest().name))).last_drill_at == NOW
        assert after(a_healthy_three(), work=self.ended(Drill(manifest().name), final=False)).last_drill_at == LONG_AGO

    def test_the_last_drill_is_dated_by_its_age(self) -> None:
        drilled = DrillRecord(manifest().name, A, DrillResult.PASSED, "", 3.0, age_seconds=60)
        assert after(a_healthy_three(), last_drill=drilled).last_drill_at == A_MINUTE_AGO
        assert after(a_healthy_three(), last_drill=None).last_drill_at == LONG_AGO

    def test_a_listing_and_a_manifest_are_kept(self) -> None:
        seen = after(a_healthy_three(), now=LATER, snapshots=(), manifest=manifest(raft_index=7))
        assert (seen.snapshots, seen.snapshots_read_at) == ((), LATER)
        assert seen.manifest == manifest(raft_index=7)
        kept = after(a_healthy_three(), seen, snapshots=THROTTLED, manifest=THROTTLED)
        assert (kept.snapshots, kept.manifest) == ((), manifest(raft_index=7))

    def test_beginning_one_and_letting_snapshots_go_changes_nothing_that_is_worth_asking_for(self) -> None:
        asked = Memory(asked_at={"head": NOW, "snapshots": NOW}, unsettled_since=LONG_AGO)
        for action in (BeginTask(TakeSnapshot(FIRST)), ExpireSnapshots((manifest().name,))):
            for outcome in Outcome:
                assert remember_result(asked, Decision(action, "x"), Result(outcome), LATER) == asked

    def test_serving_counts_from_when_it_settled(self) -> None:
        assert after(a_healthy_three(), Memory()).serving_since == NOW
        assert after(a_healthy_three()).serving_since == LONG_AGO
        assert after(a_healthy_three(), membership=TIMEOUT).serving_since is None


class TestLivesThatNothingExplains:
    @staticmethod
    def after(example: Example, **seen: Any) -> Memory:
        return remember(example.memory, replace(example.o, **seen), example.policy)

    def test_another_short_life_is_one_more_of_both(self) -> None:
        ended = a_broken_member(lives=3).remembering(etcd_running_since=NOW)
        assert (self.after(ended).etcd_short_lives, self.after(ended).etcd_unexplained) == (4, 4)

    def test_what_is_found_beside_the_data_explains_them_all(self) -> None:
        full = Obstacle(ObstacleKind.FULL, "the disk is full")
        memory = self.after(a_broken_member(lives=3), obstacle=full)
        assert (memory.etcd_short_lives, memory.etcd_unexplained) == (3, 0)

    def test_so_does_another_etcd(self) -> None:
        assert self.after(a_broken_member(lives=3), etcd_version="3.5.31").etcd_unexplained == 0
        assert self.after(a_broken_member(lives=3), etcd_version=TIMEOUT).etcd_unexplained == 3

    def test_an_etcd_that_lived_long_ended_the_row(self) -> None:
        lives = a_broken_member(lives=3).remembering(etcd_running_since=LONG_AGO)
        assert self.after(lives, process=EtcdRunning(1)).etcd_unexplained == 0

    def test_a_start_that_was_refused_is_remembered_until_the_next(self) -> None:
        start = Decision(StartEtcd(Launch(A, peer(A), "existing", "", ())), "because")
        refused = remember_result(Memory(), start, Result(Outcome.REFUSED), NOW)
        assert refused.etcd_refused
        assert not remember_result(refused, start, Result(Outcome.DONE), NOW).etcd_refused

    def test_when_a_replacement_was_asked_for(self) -> None:
        for outcome in Outcome:
            asked = remember_result(Memory(), Decision(AskToBeReplaced(), "because"), Result(outcome), NOW)
            assert asked.replacement_asked_at == NOW
