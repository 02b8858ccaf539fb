"""Who is being terminated steps out while the others serve; whoever holds what others need is not let go."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.decide.leaving import A_LOOK, COMPLETE_EVERY, HEARTBEAT_EVERY, LAST_SAVE, SPARE_NEEDS, SPARE_PATIENCE
from agent.model.actions import (
    BeginTask,
    Blocker,
    CompleteHook,
    HeartbeatHook,
    MoveLeader,
    PromoteMember,
    RemoveMember,
    Rest,
    StartEtcd,
    StopEtcd,
    Wait,
)
from agent.model.disk import Data, Disk, EtcdStopped, Stage
from agent.model.fleet import InstanceState, Transition
from agent.model.ids import InstanceId
from agent.model.known import NOT_ASKED, Ignorance, Unknown
from agent.model.members import Survey
from agent.model.snapshot import Rescued
from agent.model.spot import NOTICE, SpotAction, SpotNotice
from agent.model.work import Ended, Idle, RescueLog, Working
from tests.decide.examples import (
    A_MINUTE_AGO,
    CLUSTER,
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
    a_healthy_three,
    a_learner,
    a_lost_three,
    a_newcomer,
    a_stopped_member,
    answers,
    entry,
    fleet,
    identity,
    instance,
    learner,
    manifest,
    membership,
    status,
    voter,
)

SECOND = timedelta(seconds=1)
LET_GO = CompleteHook(Transition.TERMINATING)
LET_IN = CompleteHook(Transition.LAUNCHING)
DONE_WITH = {Transition.TERMINATING: NOW}


def told(example: Example, seconds_ago: float = 1) -> Example:
    """Auto Scaling is terminating it; it has known for so long, and has kept its hook then."""
    since = NOW - timedelta(seconds=seconds_ago)
    return example.seeing(lifecycle_target="Terminated").remembering(leaving_since=since, heartbeat_at=since)


def leaving(name: InstanceId = B) -> Example:
    """One of three that serve."""
    return told(a_healthy_three(seen_by=name)).seeing(answers=answers(A, B, C))


def with_a_spare(example: Example, **changes: object) -> Example:
    """D is a learner, in sync unless it is said otherwise."""
    spare = replace(status(D), is_learner=True, **changes)  # type: ignore[arg-type]
    four = membership(voter(A), voter(B), voter(C), learner(D))
    said = replace(example.o.answers, of={**example.o.answers.of, MEMBERS[D]: spare})
    return example.seeing(membership=four, answers=said)


class TestAVoter:
    def test_a_follower_removes_itself(self) -> None:
        assert leaving(B).action == RemoveMember(MEMBERS[B])

    def test_nobody_leaves_who_was_not_told_so_in_this_very_round(self) -> None:
        assert leaving(B).seeing(lifecycle_target="InService").action == Rest()
        unheard = leaving(B).seeing(lifecycle_target=TIMEOUT)
        assert unheard.action == Wait(Blocker.IGNORANCE), "it was told so before"
        assert unheard.objections_to(RemoveMember(MEMBERS[B]))

    def test_the_leader_hands_its_lead_over_first(self) -> None:
        ahead = answers(A, B, C)
        ahead = replace(ahead, of={**ahead.of, MEMBERS[B]: replace(status(B), applied_index=1001)})
        assert leaving(A).seeing(answers=ahead).action == MoveLeader(MEMBERS[B])

    def test_and_only_to_one_that_stays(self) -> None:
        """Two who leave would hand it to each other for ever."""
        b = instance(B, lifecycle="Terminating:Wait")
        assert leaving(A).seeing(fleet=fleet(instance(A), b, instance(C))).action == MoveLeader(MEMBERS[C])
        assert leaving(A).seeing(fleet=fleet(instance(A), b)).action == MoveLeader(MEMBERS[C]), "nothing is said of C"
        all_three = fleet(instance(A), b, instance(C, lifecycle="Terminating:Wait"))
        assert leaving(A).seeing(fleet=all_three).action == Wait(Blocker.LEAVING)

    def test_who_else_leaves_is_looked_up_before_but_not_for_long(self) -> None:
        unread = leaving(A).seeing(fleet=TIMEOUT).remembering(fleet_read_at=LONG_AGO)
        assert unread.action == Wait(Blocker.IGNORANCE)
        assert told(unread, A_LOOK.total_seconds()).action == MoveLeader(MEMBERS[B])
        assert unread.remembering(leaving_since=None).action == MoveLeader(MEMBERS[B])
        assert taken(unread, 5).action == MoveLeader(MEMBERS[B]), "no time for that"

    def test_with_four_others_the_silent_one_is_not_chosen(self) -> None:
        five = membership(*map(voter, (A, B, C, D, E)))
        example = leaving(A).seeing(membership=five, answers=answers(A, C, D, E, silent=(B,)), fleet=TIMEOUT)
        assert told(example, 10).remembering(fleet_read_at=LONG_AGO).action == MoveLeader(MEMBERS[C])

    def test_while_the_others_have_no_quorum_without_it_it_stays(self) -> None:
        assert leaving(B).seeing(answers=answers(A, B, silent=(C,))).action == Wait(Blocker.LEAVING)

    def test_a_spare_in_sync_is_to_take_the_vote_first(self) -> None:
        assert with_a_spare(leaving(B)).action == Wait(Blocker.LEAVING)

    def test_one_that_is_some_entries_behind_is_in_sync_by_etcds_measure(self) -> None:
        assert with_a_spare(leaving(B), applied_index=900).action == Wait(Blocker.LEAVING)

    @pytest.mark.parametrize("changes", [{"applied_index": 899}, {"leader": None}])
    def test_one_that_is_not_in_sync_is_not_waited_for(self, changes: dict[str, object]) -> None:
        assert with_a_spare(leaving(B), **changes).action == RemoveMember(MEMBERS[B])

    def test_nor_is_one_for_ever(self) -> None:
        late = with_a_spare(told(leaving(B), SPARE_PATIENCE.total_seconds()))
        assert late.remembering(heartbeat_at=NOW).action == RemoveMember(MEMBERS[B])
        just_restarted = with_a_spare(leaving(B)).remembering(leaving_since=None)
        assert just_restarted.action == RemoveMember(MEMBERS[B])

    def test_once_removed_it_waits_for_its_etcd_to_end(self) -> None:
        assert leaving(B).seeing(membership=membership(voter(A), voter(C))).action == Wait(Blocker.LEAVING)

    def test_a_quorum_that_does_not_answer_is_not_left(self) -> None:
        assert leaving(B).seeing(membership=TIMEOUT).action == Wait(Blocker.QUORUM)


class TestALearner:
    def test_it_goes_at_once(self) -> None:
        assert told(a_learner()).action == RemoveMember(MEMBERS[D])

    def test_a_spare_takes_the_vote_of_one_that_is_leaving(self) -> None:
        spare = a_learner().seeing(membership=membership(voter(A), voter(B), voter(C), learner(D)))
        here = [instance(A), instance(C), instance(D)]
        stays = fleet(*here, instance(B))
        goes = fleet(*here, instance(B, lifecycle="Terminating:Wait"))
        assert spare.seeing(fleet=stays).action == Rest()
        assert spare.seeing(fleet=goes).action == PromoteMember(MEMBERS[D])


class TestTheOnlyVoter:
    alone = leaving(A).seeing(membership=membership(voter(A)), answers=answers(A))
    nobody_wanted = fleet(instance(A, lifecycle="Terminating:Wait"), desired=0)

    def test_while_somebody_is_wanted_it_waits_for_another(self) -> None:
        assert self.alone.action == Wait(Blocker.LEAVING)
        assert self.alone.seeing(fleet=THROTTLED).remembering(fleet_read_at=LONG_AGO).action == Wait(Blocker.LEAVING)

    def test_of_a_fleet_that_goes_to_zero_it_stops_before_its_log_is_saved(self) -> None:
        assert self.alone.seeing(fleet=self.nobody_wanted).action == StopEtcd("leave")

    def test_but_not_while_there_are_learners(self) -> None:
        example = self.alone.seeing(fleet=self.nobody_wanted, membership=membership(voter(A), learner(D)))
        assert example.action == Wait(Blocker.LEAVING)

    def test_nor_where_no_group_says_how_many_are_wanted(self) -> None:
        nobody_said = replace(self.nobody_wanted, groups=())
        assert self.alone.seeing(fleet=nobody_said).action == Wait(Blocker.LEAVING)
        assert self.alone.seeing(fleet=nobody_said).objections_to(StopEtcd("leave"))

    def test_nor_on_an_old_listing(self) -> None:
        example = self.alone.seeing(fleet=TIMEOUT).remembering(fleet=self.nobody_wanted, fleet_read_at=NOW)
        assert example.decided.action == StopEtcd("leave")
        assert example.action == Wait(Blocker.VETO)


SURVEY = Survey(CLUSTER, MEMBERS[A], (entry(A),), POSITION, 900)
MADE = manifest(rescued=Rescued(A, MEMBERS[A], POSITION))
TASK = RescueLog(identity(A).generation, Rescued(A, MEMBERS[A], POSITION))


def stopped_for_good() -> Example:
    """The last voter of a fleet that goes to zero, its etcd stopped."""
    return (
        told(a_stopped_member(A), 10)
        .seeing(membership=TIMEOUT, fleet=TestTheOnlyVoter.nobody_wanted, survey=SURVEY, leader_seen=False)
        .remembering(no_quorum_since=NOW)
    )


class TestTheLastLog:
    def test_it_is_saved(self) -> None:
        assert stopped_for_good().action == BeginTask(TASK)

    def test_that_is_waited_for(self) -> None:
        assert stopped_for_good().seeing(work=Working(TASK, NOW)).action == Wait(Blocker.RESCUE)

    def test_and_tried_again(self) -> None:
        failed = Ended(TASK, A_MINUTE_AGO, NOW, Unknown(Ignorance.TIMEOUT, "S3 did not answer"))
        waits = stopped_for_good().seeing(work=failed).remembering(failures=1)
        assert waits.action == Wait(Blocker.RESCUE)
        assert "S3 did not answer" in waits.decided.because
        assert waits.seeing(work=replace(failed, at=A_MINUTE_AGO)).action == BeginTask(TASK)

    def test_before_it_is_known_nothing_is_started_again(self) -> None:
        assert stopped_for_good().seeing(survey=NOT_ASKED).action == Wait(Blocker.RESCUE)
        assert stopped_for_good().seeing(survey=NOT_ASKED, work=Idle()).carried_out.rule == "save-last-log"

    def test_once_it_is_saved_the_instance_is_let_go(self) -> None:
        assert stopped_for_good().seeing(manifest=MADE).action == LET_GO
        assert stopped_for_good().seeing(manifest=MADE).remembering(completed=DONE_WITH).action == Wait(Blocker.LEAVING)

    @pytest.mark.parametrize("other", [manifest(), manifest(rescued=Rescued(B, MEMBERS[B], POSITION)), None])
    def test_a_snapshot_of_another_log_lets_nobody_go(self, other: object) -> None:
        assert stopped_for_good().seeing(manifest=other).action == BeginTask(TASK)

    def test_where_somebody_is_wanted_again_it_serves_them_first(self) -> None:
        wanted = fleet(instance(A, lifecycle="Terminating:Wait"))
        assert isinstance(stopped_for_good().seeing(fleet=wanted).action, StartEtcd)

    def test_where_there_were_others_it_starts_again(self) -> None:
        two = replace(SURVEY, members=(entry(A), entry(B)))
        assert isinstance(stopped_for_good().seeing(survey=two).action, StartEtcd)


class TestASurvivor:
    def test_it_is_kept_until_its_log_is_saved_and_let_go_then(self) -> None:
        """The rescue itself is what it does anyway: see test_recovering."""
        position = POSITION
        lost = told(a_lost_three(), 5).seeing(survey=replace(SURVEY, members=tuple(map(entry, (A, B, C)))))
        assert lost.action not in (LET_GO, Wait(Blocker.LEAVING))
        assert lost.seeing(manifest=manifest(rescued=Rescued(A, MEMBERS[A], position))).action == LET_GO

    def test_it_is_let_go_if_the_last_ones_snapshot_has_all_that_it_holds_and_nobody_stays(self) -> None:
        """Its removal was committed, the last one stopped right then, and nobody is left to tell it."""
        made = manifest(raft_index=POSITION.last_index, rescued=Rescued(B, MEMBERS[B], POSITION))
        lost = told(a_lost_three(), 5)
        ended = fleet(
            instance(A, lifecycle="Terminating:Wait"),
            *(instance(each, InstanceState.TERMINATED) for each in (B, C, D, E)),
            desired=0,
        )
        survey = replace(SURVEY, members=tuple(map(entry, (A, B, C))))
        last = lost.seeing(manifest=made, fleet=ended, survey=survey)
        last = last.seeing(disk=Disk(identity(A), Data.PRESENT, seeds=frozenset({made.sha256})))
        assert last.action == LET_GO
        assert last.remembering(completed=DONE_WITH).action == Wait(Blocker.ASSEMBLY)
        assert last.remembering(completed={Transition.TERMINATING: NOW - COMPLETE_EVERY}).action == LET_GO
        assert last.seeing(manifest=replace(made, raft_index=POSITION.last_index - 1)).action != LET_GO
        assert last.seeing(manifest=replace(made, raft_index=POSITION.last_index - 1)).objections_to(LET_GO)


class TestTheHook:
    def test_an_instance_without_a_member_is_let_go(self) -> None:
        assert told(a_newcomer()).action == LET_GO

    def test_and_does_nothing_more(self) -> None:
        assert told(a_newcomer()).remembering(completed=DONE_WITH).action == Wait(Blocker.LEAVING)

    @pytest.mark.parametrize(("ago", "beat"), [(4, False), (5, True)])
    def test_soon_after_the_agent_has_heard_of_it(self, ago: float, beat: bool) -> None:
        """The one before it may have been killed just before it was due."""
        just_started = told(leaving(B), ago).remembering(heartbeat_at=None)
        assert (just_started.action == HeartbeatHook()) is beat
        of_another_time = told(leaving(B), ago).remembering(heartbeat_at=LONG_AGO)
        assert (of_another_time.action == HeartbeatHook()) is beat

    @pytest.mark.parametrize(("ago", "beat"), [(19, False), (20, True)])
    def test_while_it_takes_time_it_is_kept(self, ago: float, beat: bool) -> None:
        again = told(leaving(B), 100).remembering(heartbeat_at=NOW - timedelta(seconds=ago))
        assert (again.action == HeartbeatHook()) is beat

    def test_it_is_completed_again_while_the_instance_lives(self) -> None:
        """IMDS may tell of the end before the hook begins to wait: the first word then reached nobody."""
        for example in (told(a_newcomer()), stopped_for_good().seeing(manifest=MADE)):
            waits = example.remembering(completed={Transition.TERMINATING: NOW - COMPLETE_EVERY + SECOND})
            assert waits.action == Wait(Blocker.LEAVING)
            assert example.remembering(completed={Transition.TERMINATING: NOW - COMPLETE_EVERY}).action == LET_GO
        assert timedelta(seconds=30) > COMPLETE_EVERY, "Auto Scaling's shortest timeout"

    def test_but_not_after_it_is_over(self) -> None:
        assert told(a_newcomer(), 100).remembering(completed=DONE_WITH).action == Wait(Blocker.LEAVING)
        assert timedelta(seconds=30) > HEARTBEAT_EVERY, "Auto Scaling's shortest timeout"

    def test_data_that_a_cluster_still_lists_lets_nobody_go(self) -> None:
        """Whatever rule would ask for it."""
        for example in (leaving(B), told(a_stopped_member(B)), told(a_learner())):
            assert example.objections_to(LET_GO)
        fenced = Disk(identity(B, Stage.FENCED), Data.PRESENT)
        assert not leaving(B).seeing(disk=fenced, process=EtcdStopped()).objections_to(LET_GO)
        assert a_newcomer().objections_to(LET_GO), "nobody told it to leave"


class TestArriving:
    @staticmethod
    def waiting(example: Example, lifecycle: str = "Pending:Wait") -> Example:
        here = example.o.me.instance
        listed = fleet(*(instance(each) for each in (A, B, C) if each != here), instance(here, lifecycle=lifecycle))
        return example.seeing(lifecycle_target="InService").remembering(fleet=listed)

    def test_a_voter_is_let_in(self) -> None:
        assert self.waiting(a_healthy_three(seen_by=B)).action == LET_IN

    def test_once(self) -> None:
        let_in = self.waiting(a_healthy_three(seen_by=B)).remembering(completed={Transition.LAUNCHING: NOW})
        assert let_in.action == Rest()

    def test_again_where_it_waits_still(self) -> None:
        """Who was let into a warm pool is to be let into service, too."""
        pooled_at = {Transition.LAUNCHING: NOW - COMPLETE_EVERY}
        assert self.waiting(a_healthy_three(seen_by=B)).remembering(completed=pooled_at).action == LET_IN

    def test_on_the_way_into_a_warm_pool_it_joins_nothing_and_nobody_waits_for_it(self) -> None:
        pooled = self.waiting(a_newcomer(), "Warmed:Pending:Wait").seeing(lifecycle_target="Warmed:Stopped")
        assert pooled.action == LET_IN
        assert pooled.remembering(completed={Transition.LAUNCHING: NOW}).action == Wait(Blocker.LEAVING)
        assert pooled.seeing(lifecycle_target="InService").objections_to(LET_IN)
        assert pooled.seeing(disk=a_healthy_three().o.disk).objections_to(LET_IN)

    def test_who_waits_for_nothing_is_left_alone(self) -> None:
        assert self.waiting(a_healthy_three(seen_by=B), "InService").action == Rest()
        assert a_healthy_three(seen_by=B).remembering(fleet=fleet(instance(A))).action == Rest()

    def test_a_spare_is_let_in_once_it_is_in_sync(self) -> None:
        spare = self.waiting(a_learner())
        assert isinstance(spare.o.local, type(status(D)))
        assert spare.action == LET_IN
        behind = spare.seeing(local=replace(spare.o.local, applied_index=1))
        assert behind.action != LET_IN

    @pytest.mark.parametrize("why", ["no quorum", "no leader", "not listed"])
    def test_who_does_not_serve_waits_outside(self, why: str) -> None:
        example = self.waiting(a_healthy_three(seen_by=B))
        assert isinstance(example.o.local, type(status(B)))
        outside = {
            "no quorum": example.seeing(membership=TIMEOUT),
            "no leader": example.seeing(local=replace(example.o.local, leader=None)),
            "not listed": example.seeing(membership=membership(voter(A), voter(C))),
        }[why]
        assert outside.action != LET_IN
        assert self.waiting(a_newcomer()).objections_to(LET_IN)


def test_only_who_is_leaving_moves_the_lead_or_stops_a_member_that_serves() -> None:
    leads = a_healthy_three()
    assert leads.objections_to(MoveLeader(MEMBERS[B]))
    assert leads.objections_to(StopEtcd("leave"))
    assert leaving(A).objections_to(MoveLeader(MEMBERS[A])), "to itself"
    assert with_a_spare(leaving(A)).objections_to(MoveLeader(MEMBERS[D])), "to a learner"
    assert leaving(A).seeing(answers=answers(A, B)).objections_to(MoveLeader(MEMBERS[C])), "to one that is silent"
    assert leaving(A).objections_to(StopEtcd("leave")), "there are others"
    gone = fleet(instance(A, InstanceState.RUNNING), desired=0)
    assert TestTheOnlyVoter.alone.seeing(fleet=gone).objections_to(StopEtcd("leave")) == ()


def taken(example: Example, left: float = 120, ago: float = 0, action: SpotAction = SpotAction.TERMINATE) -> Example:
    """EC2 takes this spot instance back in so many seconds, and said so so many seconds ago; its group says nothing."""
    notice = SpotNotice(action, NOW + timedelta(seconds=left))
    return example.seeing(spot=notice).remembering(spot=notice, spot_since=NOW - timedelta(seconds=ago))


def interrupted(name: InstanceId = B, left: float = 120, ago: float = 1) -> Example:
    """One of three that serve."""
    return taken(a_healthy_three(seen_by=name), left, ago).seeing(answers=answers(A, B, C))


class TestASpotNotice:
    def test_is_a_leaving_without_a_hook(self) -> None:
        assert interrupted(B).action == RemoveMember(MEMBERS[B])
        assert interrupted(A).action == MoveLeader(MEMBERS[B])
        gone = taken(a_newcomer(), left=10, ago=110)
        assert gone.action == Wait(Blocker.LEAVING), "nothing to complete, and nothing to heartbeat"
        assert gone.objections_to(LET_GO)

    def test_where_a_hook_waits_too_it_is_completed(self) -> None:
        assert told(taken(a_newcomer())).action == LET_GO
        assert told(taken(a_newcomer(), 90, 30), 30).action == HeartbeatHook()

    def test_it_holds_while_imds_is_silent_but_nothing_is_done_on_it(self) -> None:
        unheard = interrupted(B).seeing(spot=TIMEOUT)
        assert unheard.action == Wait(Blocker.IGNORANCE)
        assert unheard.objections_to(RemoveMember(MEMBERS[B]))

    def test_taken_back_it_is_none(self) -> None:
        assert interrupted(B).seeing(spot=None).action == Rest()

    def test_the_quorum_of_the_others_is_never_given_up(self) -> None:
        for left in (120, 5, 0.5, -5):
            assert interrupted(B, left).seeing(answers=answers(A, B, silent=(C,))).action == Wait(Blocker.LEAVING)

    def test_a_spare_in_sync_is_given_the_vote_because_nobody_else_knows(self) -> None:
        assert with_a_spare(interrupted(B)).action == PromoteMember(MEMBERS[D])
        assert with_a_spare(interrupted(B), applied_index=899).action == RemoveMember(MEMBERS[B])
        goes = fleet(instance(A), instance(B), instance(C), instance(D, lifecycle="Terminating:Wait"))
        assert with_a_spare(interrupted(B)).seeing(fleet=goes).action == RemoveMember(MEMBERS[B])

    def test_one_that_leaves_by_its_hook_too_waits_for_the_spare_that_sees_it(self) -> None:
        assert with_a_spare(told(interrupted(B))).action == Wait(Blocker.LEAVING)

    @pytest.mark.parametrize("left", [SPARE_NEEDS.total_seconds(), 5, -1])
    def test_with_little_time_left_no_spare_is_waited_for(self, left: float) -> None:
        assert with_a_spare(interrupted(B, left)).action == RemoveMember(MEMBERS[B])
        assert with_a_spare(told(interrupted(B, left))).action == RemoveMember(MEMBERS[B])

    def test_a_clock_that_is_wrong_makes_it_hurry_at_the_latest_after_two_minutes(self) -> None:
        hours = 3600
        late = interrupted(B, left=hours, ago=NOTICE.total_seconds() - SPARE_NEEDS.total_seconds())
        assert with_a_spare(late).action == RemoveMember(MEMBERS[B])
        assert with_a_spare(interrupted(B, left=-hours)).action == RemoveMember(MEMBERS[B])
        just_restarted = with_a_spare(interrupted(B)).remembering(spot_since=None)
        assert just_restarted.action == RemoveMember(MEMBERS[B]), "for how long it has known is not known"

    def test_in_a_hurry_the_lead_goes_even_to_one_that_leaves_later(self) -> None:
        others_go = fleet(*(instance(each, lifecycle="Terminating:Wait") for each in (B, C)), instance(A))
        assert interrupted(A, 60).seeing(fleet=others_go).action == Wait(Blocker.LEAVING)
        assert interrupted(A, 5).seeing(fleet=others_go).action == MoveLeader(MEMBERS[B])


class TestTheOnlyVoterOfASpotFleet:
    @staticmethod
    def alone(left: float, ago: float = 0) -> Example:
        two = membership(voter(A), learner(D))
        return interrupted(A, left, ago).seeing(membership=two, answers=answers(A, D))

    def test_it_serves_as_long_as_somebody_may_take_over(self) -> None:
        assert self.alone(LAST_SAVE.total_seconds() + 1).action == Wait(Blocker.LEAVING)
        assert self.alone(100).objections_to(StopEtcd("leave"))

    @pytest.mark.parametrize(("left", "ago"), [(LAST_SAVE.total_seconds(), 0), (5, 0), (3600, 80)])
    def test_then_it_stops_so_that_nothing_is_acknowledged_that_is_not_saved(self, left: float, ago: float) -> None:
        assert self.alone(left, ago).action == StopEtcd("leave")
        with_another = self.alone(left, ago).seeing(membership=membership(voter(A), voter(B)))
        assert with_another.objections_to(StopEtcd("leave"))

    def test_its_whole_log_is_saved_and_it_is_not_started_again(self) -> None:
        stopped = taken(stopped_for_good(), 40).seeing(lifecycle_target="InService", fleet=fleet(instance(A)))
        stopped = stopped.remembering(leaving_since=None)
        assert stopped.action == BeginTask(TASK)
        assert stopped.seeing(manifest=MADE).action == Wait(Blocker.LEAVING)
        assert isinstance(taken(stopped, 100).action, StartEtcd), "stopped by somebody else: it has time to serve"


class TestStoppedByEc2:
    @pytest.mark.parametrize("action", [SpotAction.STOP, SpotAction.HIBERNATE])
    def test_it_stays_a_member_and_only_does_not_lead(self, action: SpotAction) -> None:
        example = taken(a_healthy_three(seen_by=B), action=action).seeing(answers=answers(A, B, C))
        assert example.action == Rest()
        assert example.objections_to(RemoveMember(MEMBERS[B]))
        leads = taken(a_healthy_three(), action=action).seeing(answers=answers(A, B, C))
        assert leads.action == MoveLeader(MEMBERS[B])

    def test_the_lead_is_given_away_once(self) -> None:
        """Of two that are stopped together each would give it back to the other."""
        leads = taken(a_healthy_three(), action=SpotAction.STOP).seeing(answers=answers(A, B, C))
        assert leads.remembering(handed_over_at=NOW - NOTICE + SECOND).action == Rest()
        assert leads.remembering(handed_over_at=NOW - NOTICE).action == MoveLeader(MEMBERS[B])

    def test_where_nobody_else_can_lead_it_leads(self) -> None:
        alone = taken(a_healthy_three(), action=SpotAction.STOP)
        assert alone.seeing(membership=membership(voter(A)), answers=answers(A)).action == Rest()

    def test_a_rebalance_recommendation_changes_nothing(self) -> None:
        assert a_healthy_three().seeing(rebalance=NOW).action == Rest()
