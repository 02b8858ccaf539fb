"""What an agent remembers: how long something has been so. It is a value, and losing it costs only time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent.model.actions import (
    Blocker,
    CallHuman,
    Decision,
    FileReport,
    Launch,
    Outcome,
    Rest,
    Result,
    StartEtcd,
    StopEtcd,
    Wait,
)
from agent.model.disk import Data, Disk, EtcdStopped, Stage
from agent.model.generation import FIRST, Holding, Report
from agent.model.known import NOT_ASKED
from agent.model.memory import Memory, Progress, forget_asking, groups_are_due, is_settled, remember, remember_result
from agent.model.observation import BucketSound
from agent.model.policy import Policy
from tests.decide.examples import (
    LONG_AGO,
    MEMBERS,
    NOW,
    THROTTLED,
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
    before_the_first_generation,
    fleet,
    formed,
    identity,
    instance,
    learner,
    membership,
    peer,
    record,
    status,
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

    @pytest.mark.parametrize("idle", [Rest(), Wait(Blocker.SYNC), CallHuman("look")])
    def test_after_none_nothing_is(self, idle: Any) -> None:
        asked = Memory(asked_at={"head": NOW})
        assert remember_result(asked, Decision(idle, "x"), Result(Outcome.DONE), NOW) == asked

    def test_nor_after_a_definite_no(self) -> None:
        asked = Memory(asked_at={"head": NOW})
        assert remember_result(asked, Decision(StopEtcd("x"), "x"), Result(Outcome.REFUSED), NOW) == asked

    def test_a_report_that_is_filed_is_known_to_be(self) -> None:
        report = Report(A, peer(A), "boot-1", Holding.NONE)
        filing = Decision(FileReport(FIRST, report), "x")
        done = remember_result(Memory(), filing, Result(Outcome.DONE), NOW)
        assert (done.reported, done.reported_at) == (report, NOW)
        assert remember_result(Memory(), filing, Result(Outcome.MAYBE), NOW).reported is None
