"""From an empty disk to a learner, one step a round, never as a voter and never twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.model.actions import AddLearner, Blocker, CallHuman, RemoveMember, StampIdentity, StartEtcd, Wait
from agent.model.disk import Data, Disk, EtcdRunning, Stage
from agent.model.fleet import InstanceState
from agent.model.known import NOT_ASKED
from tests.decide.examples import (
    MEMBERS,
    NONCE,
    OTHER_CLUSTER,
    TIMEOUT,
    A,
    B,
    C,
    D,
    E,
    Example,
    a_newcomer,
    about_to_join,
    answers,
    fleet,
    identity,
    instance,
    learner,
    me,
    membership,
    peer,
    record,
    status,
    unstarted,
    voter,
    with_an_entry,
)


class TestTheWayIn:
    def test_first_the_disk_says_that_an_entry_will_be_asked_for(self) -> None:
        action = a_newcomer().action
        assert isinstance(action, StampIdentity)
        assert (action.identity.stage, action.identity.nonce, action.prepare) == (Stage.ADDING, NONCE, True)

    def test_then_a_learner_is_asked_for_and_never_a_voter(self) -> None:
        assert about_to_join().action == AddLearner(peer(D))

    def test_then_the_entry_is_written_down(self) -> None:
        action = about_to_join().seeing(membership=membership(voter(A), voter(B), unstarted(D))).action
        assert isinstance(action, StampIdentity)
        assert (action.identity.stage, action.identity.member_id) == (Stage.JOINING, MEMBERS[D])

    def test_then_etcd_starts_with_exactly_the_list_of_the_cluster(self) -> None:
        action = with_an_entry().action
        assert isinstance(action, StartEtcd)
        assert action.launch.state == "existing"
        assert dict(action.launch.initial_cluster) == {A: peer(A), B: peer(B), D: peer(D)}

    def test_others_that_never_started_are_in_the_list_by_their_id(self) -> None:
        members = membership(voter(A), replace(unstarted(E), is_learner=False), unstarted(D))
        action = with_an_entry().seeing(membership=members).action
        assert isinstance(action, StartEtcd)
        assert dict(action.launch.initial_cluster)[str(MEMBERS[E])] == peer(E)


class TestOldLives:
    def test_our_entry_of_a_life_whose_disk_is_gone_is_removed_by_its_id(self) -> None:
        """The same identity on an empty disk makes etcd panic for ever; only remove and add ends it."""
        example = a_newcomer(C).seeing(membership=membership(voter(A), voter(B), voter(C)))
        assert example.action == RemoveMember(MEMBERS[C])

    def test_it_stays_while_too_few_others_answer(self) -> None:
        members = membership(voter(A), voter(B), voter(C))
        example = a_newcomer(C).seeing(membership=members, answers=answers(A, silent=(B, C)))
        assert example.action == Wait(Blocker.QUORUM)

    def test_an_entry_at_our_address_that_nobody_ever_started_is_removed(self) -> None:
        example = a_newcomer().seeing(membership=membership(voter(A), voter(B), unstarted(D)))
        assert example.action == RemoveMember(MEMBERS[D])

    def test_an_entry_that_somebody_else_runs_under_is_asked_for_anew(self) -> None:
        theirs = replace(learner(D), name=E)
        action = with_an_entry().seeing(membership=membership(voter(A), voter(B), theirs)).action
        assert isinstance(action, StampIdentity)
        assert action.identity.stage is Stage.ADDING

    def test_a_disk_that_came_from_elsewhere_before_etcd_ran_on_it_begins_anew(self) -> None:
        """Its entry belongs to the other instance: its time will run out, or that instance starts it."""
        members = membership(voter(A), voter(B), voter(C))
        example = with_an_entry(C).seeing(me=me(E), head=record(A, B, C), membership=members)
        action = example.action
        assert isinstance(action, StampIdentity)
        assert (action.identity.instance, action.identity.stage) == (E, Stage.ADDING)

    def test_an_unstarted_voter_at_our_address_is_not_adopted(self) -> None:
        """Somebody added it by hand; we would be the voter that the quorum waits for."""
        pending = replace(unstarted(D), is_learner=False)
        example = about_to_join().seeing(membership=membership(voter(A), voter(B), voter(C), pending))
        assert example.seeing(answers=answers(A, B, C)).action == RemoveMember(MEMBERS[D])

    def test_an_entry_that_was_removed_before_we_started_is_asked_for_anew(self) -> None:
        action = with_an_entry().seeing(membership=membership(voter(A), voter(B))).action
        assert isinstance(action, StampIdentity)
        assert (action.identity.stage, action.identity.member_id) == (Stage.ADDING, None)

    def test_an_entry_that_has_run_elsewhere_than_on_this_empty_disk_is_removed(self) -> None:
        assert with_an_entry().seeing(membership=membership(voter(A), voter(B), learner(D))).action == RemoveMember(
            MEMBERS[D]
        )

    def test_an_adding_disk_meets_its_own_started_entry_and_removes_it(self) -> None:
        example = about_to_join().seeing(membership=membership(voter(A), voter(B), learner(D)))
        assert example.action == RemoveMember(MEMBERS[D])

    def test_an_identity_of_an_older_generation_does_not_count(self) -> None:
        disk = Disk(identity(D, Stage.ADDING, generation=0), Data.EMPTY)
        action = a_newcomer().seeing(disk=disk).action
        assert isinstance(action, StampIdentity)
        assert action.identity.stage is Stage.FENCED, "first it is put aside"


class TestAddresses:
    def test_a_dead_members_address_is_ours_once_it_is_proven_gone(self) -> None:
        listed = fleet(instance(A), instance(B), instance(C, InstanceState.TERMINATED), instance(D))
        example = self._at_the_address_of_c().seeing(fleet=listed)
        assert example.action == RemoveMember(MEMBERS[C])

    def test_a_silent_members_address_is_not(self) -> None:
        listed = fleet(instance(A), instance(B), instance(C, InstanceState.STOPPED), instance(D))
        example = self._at_the_address_of_c().seeing(fleet=listed)
        assert example.action == Wait(Blocker.ADDRESS)

    def test_nor_is_it_while_ec2_is_throttled(self) -> None:
        assert self._at_the_address_of_c().seeing(fleet=TIMEOUT).action == Wait(Blocker.ADDRESS)

    @staticmethod
    def _at_the_address_of_c() -> Example:
        members = membership(voter(A), voter(B), voter(C))
        return about_to_join().seeing(
            me=replace(me(D), peer_url=peer(C)), membership=members, answers=answers(A, B, silent=(C,))
        )


class TestWaiting:
    def test_one_learner_at_a_time(self) -> None:
        example = about_to_join().seeing(membership=membership(voter(A), voter(B), learner(E)))
        assert example.action == Wait(Blocker.LEARNER_SLOT)

    def test_an_instance_on_its_way_to_a_warm_pool_joins_nothing(self) -> None:
        assert a_newcomer().seeing(lifecycle_target="Warmed:Stopped").action == Wait(Blocker.LEAVING)

    def test_an_unknown_lifecycle_does_not_keep_anybody_out(self) -> None:
        assert about_to_join().seeing(lifecycle_target=TIMEOUT).action == AddLearner(peer(D))

    def test_a_generation_that_has_not_formed_is_waited_for(self) -> None:
        assert a_newcomer().seeing(formed=None).action == Wait(Blocker.FORMATION)

    @pytest.mark.parametrize(
        ("field", "blocker"),
        [("head", Blocker.IGNORANCE), ("formed", Blocker.IGNORANCE), ("membership", Blocker.QUORUM)],
    )
    def test_what_cannot_be_read_is_waited_for(self, field: str, blocker: Blocker) -> None:
        assert about_to_join().seeing(**{field: TIMEOUT}).action == Wait(blocker)

    def test_a_strange_cluster_at_our_members_addresses_is_a_humans_business(self) -> None:
        members = replace(membership(voter(A), voter(B)), cluster_id=OTHER_CLUSTER)
        assert isinstance(about_to_join().seeing(membership=members).action, CallHuman)

    def test_an_etcd_that_runs_is_no_newcomer(self) -> None:
        example = with_an_entry().seeing(process=EtcdRunning(1), local=status(D), head=NOT_ASKED)
        assert example.rule == "stamp-membership"
