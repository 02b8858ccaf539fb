"""An etcd that runs: what it has become is written down, and a learner becomes a voter where one is wanted."""

from __future__ import annotations

from dataclasses import replace

from agent.model.actions import (
    Blocker,
    CallHuman,
    Disarm,
    PromoteMember,
    Rest,
    StampIdentity,
    UpdatePeerUrl,
    Wait,
    WriteFormed,
)
from agent.model.cluster import Alarm, AlarmKind
from agent.model.disk import Data, Disk, EtcdStopped, Stage
from agent.model.ids import InstanceId, MemberId
from agent.model.known import NOT_ASKED
from tests.decide.examples import (
    CLUSTER,
    MEMBERS,
    OTHER_CLUSTER,
    THROTTLED,
    TIMEOUT,
    A,
    B,
    C,
    D,
    Example,
    a_healthy_three,
    a_learner,
    fleet,
    formed,
    identity,
    instance,
    learner,
    me,
    membership,
    peer,
    record,
    status,
    voter,
)


def test_a_healthy_three_rests() -> None:
    for name in (A, B, C):
        assert a_healthy_three(seen_by=name).action == Rest()


class TestStamping:
    @staticmethod
    def first_answer(stage: Stage = Stage.STARTING) -> Example:
        return a_healthy_three().seeing(disk=Disk(identity(A, stage), Data.PRESENT))

    def test_a_founders_disk_learns_its_member_and_cluster(self) -> None:
        action = self.first_answer().action
        assert isinstance(action, StampIdentity)
        assert (action.identity.stage, action.identity.member_id) == (Stage.MEMBER, MEMBERS[A])
        assert action.identity.cluster_id == CLUSTER

    def test_a_joiner_that_runs_under_its_entry_is_a_member(self) -> None:
        assert self.first_answer(Stage.JOINING).rule == "stamp-membership"

    def test_another_etcd_at_this_address_is_not_ours(self) -> None:
        example = self.first_answer(Stage.JOINING).seeing(local=status(B))
        assert isinstance(example.action, CallHuman)

    def test_an_etcd_that_does_not_answer_yet_is_waited_for(self) -> None:
        example = self.first_answer().seeing(local=TIMEOUT, membership=NOT_ASKED)
        assert example.action == Wait(Blocker.STARTUP)

    def test_the_disk_of_a_stopped_etcd_learns_nothing(self) -> None:
        assert self.first_answer().seeing(process=EtcdStopped()).rule == "restart-in-place"


class TestForming:
    @staticmethod
    def answered() -> Example:
        return a_healthy_three().seeing(formed=None).remembering(formed=None)

    def test_the_first_quorum_is_written_down_with_its_voters(self) -> None:
        assert self.answered().action == WriteFormed(record(A).generation, formed(A, B, C))

    def test_not_without_a_quorum(self) -> None:
        assert self.answered().seeing(membership=TIMEOUT).action == Wait(Blocker.QUORUM)

    def test_not_while_nobody_knows_whether_it_is_written(self) -> None:
        assert self.answered().seeing(formed=THROTTLED).action == Rest()

    def test_not_before_our_own_etcd_answered(self) -> None:
        assert self.answered().seeing(local=TIMEOUT).action == Rest()

    def test_not_for_a_list_of_another_cluster(self) -> None:
        strange = replace(membership(voter(A), voter(B), voter(C)), cluster_id=OTHER_CLUSTER)
        assert self.answered().seeing(membership=strange).action == Rest()

    def test_a_founders_volume_may_have_moved_to_an_instance_that_is_none(self) -> None:
        example = self.answered().seeing(head=record(B, C, D)).remembering(head=record(B, C, D))
        assert isinstance(example.action, WriteFormed)

    def test_not_by_a_disk_that_does_not_know_its_cluster_yet(self) -> None:
        disk = self.answered().o.disk
        assert isinstance(disk, Disk)
        assert disk.identity is not None
        unknowing = replace(disk, identity=replace(disk.identity, cluster_id=None))
        assert self.answered().seeing(disk=unknowing).action == Rest()

    def test_not_without_a_record(self) -> None:
        assert self.answered().seeing(head=NOT_ASKED).remembering(head=None).action == Rest()


class TestCorrectingTheAddress:
    def test_a_list_that_has_us_elsewhere_is_corrected(self) -> None:
        example = a_healthy_three().seeing(me=replace(me(A), peer_url=peer(D)))
        assert example.action == UpdatePeerUrl(MEMBERS[A], peer(D))

    def test_and_then_the_disk(self) -> None:
        there = replace(voter(A), peer_urls=(peer(D),))
        example = a_healthy_three().seeing(
            me=replace(me(A), peer_url=peer(D)), membership=membership(there, voter(B), voter(C))
        )
        action = example.action
        assert isinstance(action, StampIdentity)
        assert action.identity.peer_url == peer(D)

    def test_not_for_a_learner(self) -> None:
        example = a_learner().seeing(me=replace(me(D), peer_url=peer(C)))
        assert example.rule == "promote-myself"

    def test_not_for_who_is_not_listed(self) -> None:
        assert a_healthy_three().seeing(membership=membership(voter(B), voter(C))).action == Rest()


class TestPromoting:
    def test_a_learner_asks_for_its_vote_while_voters_are_wanted(self) -> None:
        assert a_learner().action == PromoteMember(MEMBERS[D])

    def test_with_enough_voters_it_is_a_hot_spare(self) -> None:
        members = membership(voter(A), voter(B), voter(C), learner(D))
        example = a_learner().seeing(membership=members, fleet=fleet(*map(instance, (A, B, C, D)), desired=4))
        assert example.action == Rest()
        assert "hot spare" in example.carried_out.because

    def test_a_voter_has_nothing_to_ask_for_however_many_are_wanted(self) -> None:
        example = a_healthy_three().seeing(fleet=fleet(*map(instance, (A, B, C)), desired=5))
        assert example.action == Rest()

    def test_it_takes_over_when_a_voter_left(self) -> None:
        example = a_learner().seeing(fleet=fleet(*map(instance, (A, B, D)), desired=4))
        assert example.action == PromoteMember(MEMBERS[D])

    def test_without_a_desired_capacity_it_waits(self) -> None:
        example = a_learner().seeing(fleet=THROTTLED).remembering(fleet=None, fleet_read_at=None)
        assert example.action == Wait(Blocker.IGNORANCE)

    def test_one_of_some_seconds_ago_will_do(self) -> None:
        assert a_learner().seeing(fleet=NOT_ASKED).action == PromoteMember(MEMBERS[D])

    def test_not_through_a_list_of_another_cluster(self) -> None:
        strange = replace(membership(voter(A), voter(B), learner(D)), cluster_id=OTHER_CLUSTER)
        assert a_learner().seeing(membership=strange).action == Rest()

    def test_not_without_a_quorum(self) -> None:
        assert a_learner().seeing(membership=TIMEOUT).action == Wait(Blocker.QUORUM)

    def test_an_identity_that_has_no_member_yet_has_nothing_to_promote(self) -> None:
        assert a_learner().seeing(disk=Disk(identity(D, Stage.ADDING), Data.PRESENT)).action == Rest()


def test_without_its_identity_a_running_etcd_is_watched_only() -> None:
    example = a_healthy_three().seeing(disk=Disk(None, Data.EMPTY))
    assert example.action == Rest()
    assert example.seeing(membership=TIMEOUT).action == Wait(Blocker.QUORUM)


def test_an_etcd_without_a_leader_is_never_restarted() -> None:
    """It still answers Status and Snapshot; a restarted one would not."""
    example = a_healthy_three(seen_by=B).seeing(local=status(B, leader=None), membership=NOT_ASKED)
    assert example.action == Wait(Blocker.QUORUM)
    assert "knows no leader" in example.carried_out.because


def test_an_unreadable_disk_or_process_is_no_reason_to_do_anything() -> None:
    for field in ("disk", "process"):
        example = a_healthy_three().seeing(**{field: TIMEOUT})
        assert example.action == Wait(Blocker.IGNORANCE)
        assert example.rule == "unseen"


class TestInheritedAlarms:
    """A restored cluster has the alarms of the members it was made of, under IDs that are nobody's any more."""

    ghost = Alarm(MemberId(0xDEAD), AlarmKind.NOSPACE)

    def with_alarms(self, *alarms: Alarm, seen_by: InstanceId = A) -> Example:
        full = replace(status(seen_by), errors=("memberID:57005 alarm:NOSPACE",))
        return a_healthy_three(seen_by).seeing(local=full, alarms=alarms)

    def test_beside_the_leader_a_ghosts_alarm_is_taken_back(self) -> None:
        assert self.with_alarms(self.ghost).action == Disarm(self.ghost)

    def test_one_at_a_time_and_never_a_members_own(self) -> None:
        own = Alarm(MEMBERS[B], AlarmKind.NOSPACE)
        assert self.with_alarms(own, self.ghost).action == Disarm(self.ghost)
        assert isinstance(self.with_alarms(own).action, CallHuman)
        assert self.with_alarms().action == Rest()

    def test_corruption_is_a_humans_whoever_raised_it(self) -> None:
        assert self.with_alarms(replace(self.ghost, kind=AlarmKind.CORRUPT)).action == Rest()

    def test_nobody_else_does_and_nobody_without_a_list(self) -> None:
        assert self.with_alarms(self.ghost, seen_by=B).action == Rest()
        assert self.with_alarms().seeing(alarms=TIMEOUT).action == Rest()
        assert self.with_alarms(self.ghost).seeing(membership=TIMEOUT).action == Wait(Blocker.QUORUM)
