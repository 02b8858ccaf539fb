"""Quorums, targets, fleets and ignorance: the small truths that everything else stands on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.model.cluster import Answers, quorum_of, voter_target
from agent.model.faults import Refused, Unavailable
from agent.model.fleet import Fleet, Group, InstanceState
from agent.model.ids import InstanceId
from agent.model.known import NOT_ASKED, Ignorance, Unknown
from agent.model.policy import Policy
from tests.decide.examples import (
    MEMBERS,
    SILENT,
    THROTTLED,
    A,
    B,
    C,
    D,
    a_healthy_three,
    answers,
    client,
    entry,
    fleet,
    instance,
    learner,
    membership,
    peer,
    status,
    unstarted,
    voter,
)


class TestCluster:
    @pytest.mark.parametrize(("voters", "quorum"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)])
    def test_a_quorum_is_more_than_half(self, voters: int, quorum: int) -> None:
        assert quorum_of(voters) == quorum

    @pytest.mark.parametrize(
        ("desired", "voters"), [(0, 1), (1, 1), (2, 2), (3, 3), (4, 3), (5, 5), (6, 5), (7, 7), (8, 7), (9, 7), (50, 7)]
    )
    def test_voters_are_odd_or_two_and_at_most_seven(self, desired: int, voters: int) -> None:
        assert voter_target(desired) == voters

    def test_a_list_is_asked_by_id_name_and_address(self) -> None:
        members = membership(voter(A), voter(B), learner(C), unstarted(D))
        assert members.voters == (voter(A), voter(B))
        assert members.learners == (learner(C), unstarted(D))
        assert members.find(MEMBERS[B]) == voter(B)
        assert members.find(None) is None
        assert members.named(C) == (learner(C),)
        assert members.at(peer(D)) == (unstarted(D),)

    def test_a_member_has_no_name_before_it_started(self) -> None:
        assert (voter(A).started, unstarted(D).started) == (True, False)
        assert (str(voter(A)), str(unstarted(D))) == ("i-a (a)", "unstarted (d)")

    def test_silence_is_no_answer(self) -> None:
        said = answers(A, silent=(B,))
        assert said.answered(MEMBERS[A])
        assert not said.answered(MEMBERS[B])
        assert not said.answered(MEMBERS[C]), "nor is not having been asked"
        assert not Answers().answered(MEMBERS[A])

    def test_a_member_leads_when_it_says_so_itself(self) -> None:
        assert status(A, leader=A).leads
        assert not status(B, leader=A).leads
        assert not status(A, leader=None).leads


class TestFleet:
    def test_what_can_come_back_is_live_and_what_can_speak_is_up(self) -> None:
        listed = fleet(
            instance(A),
            instance(B, InstanceState.STOPPED),
            instance(C, InstanceState.TERMINATED),
            instance(D, lifecycle="Warmed:Running"),
        )
        assert [each.id for each in listed.up] == [A]
        assert [each.id for each in listed.live] == [A, B]
        assert listed.find(C) == instance(C, InstanceState.TERMINATED)
        assert listed.find("i-nobody") is None

    def test_the_capacity_of_all_groups_counts(self) -> None:
        assert replace(fleet(), groups=(Group("a", 1), Group("b", 2))).desired_capacity == 3

    @pytest.mark.parametrize("names", [("i-b", "i-a"), ("i-a", "i-a")])
    def test_instances_are_unique_and_in_order(self, names: tuple[str, str]) -> None:
        with pytest.raises(AssertionError):
            Fleet(tuple(replace(instance(A), id=InstanceId(name)) for name in names), ())

    @pytest.mark.parametrize(
        ("lifecycle", "leaving"), [("InService", False), ("Terminating:Wait", True), ("Terminating", True)]
    )
    def test_who_is_being_terminated_is_leaving(self, lifecycle: str, leaving: bool) -> None:
        assert instance(A, lifecycle=lifecycle).leaving is leaving
        assert not replace(instance(A), lifecycle=None).leaving
        assert not replace(instance(A), lifecycle=None).warmed


class TestIgnorance:
    def test_unknown_is_neither_true_nor_false(self) -> None:
        with pytest.raises(TypeError, match="isinstance"):
            assert not Unknown(Ignorance.TIMEOUT)

    def test_it_says_why(self) -> None:
        assert str(THROTTLED) == "unknown (throttled: slow down)"
        assert str(NOT_ASKED) == "unknown (not-asked)"

    def test_a_round_tells_what_it_asked_for_in_vain(self) -> None:
        example = a_healthy_three().seeing(fleet=THROTTLED, head=NOT_ASKED)
        assert example.o.ignorance() == {"fleet": THROTTLED}

    def test_only_the_agent_beside_the_leader_knows_that_it_is(self) -> None:
        assert a_healthy_three(seen_by=A).o.beside_the_leader
        assert not a_healthy_three(seen_by=B).o.beside_the_leader
        assert not a_healthy_three(seen_by=A).seeing(local=SILENT).o.beside_the_leader


class TestTrouble:
    def test_no_answer_and_a_definite_no_leave_different_unknowns(self) -> None:
        assert Unavailable(Ignorance.TIMEOUT, "s3").unknown == Unknown(Ignorance.TIMEOUT, "s3")
        assert Refused("403").unknown == Unknown(Ignorance.DENIED, "403")
        assert Refused("403", Ignorance.OURS).unknown.why is Ignorance.OURS


def test_the_policy_knows_where_clients_go() -> None:
    assert Policy(cluster="prod").client_url("10.0.0.1") == client(A)
    assert Policy(cluster="prod").founding_grace == timedelta(minutes=2)


def test_and_where_etcd_tells_its_metrics() -> None:
    assert Policy(cluster="prod").metrics_url("10.0.0.1") == "http://10.0.0.1:2381"


def test_an_entry_of_a_list_is_named_by_its_instance_or_by_where_it_is_to_be() -> None:
    assert str(entry(A)) == "i-a (a)"
    assert str(replace(entry(A), name="")) == f"{peer(A)} (a)"
