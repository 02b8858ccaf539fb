"""A founder's once-only start: identity, claim, etcd. Whoever lost the identity never starts again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.model.actions import Blocker, StampIdentity, StartEtcd, Wait, WriteClaim
from agent.model.cluster import Membership
from agent.model.disk import Data, Disk, EtcdRunning, Stage
from agent.model.generation import Claim
from agent.model.ids import ClientUrl, Nonce
from tests.decide.examples import (
    CLUSTER,
    NONCE,
    OLD_NONCE,
    TIMEOUT,
    A,
    B,
    C,
    D,
    a_founder,
    a_founder_with_its_claim,
    a_prepared_founder,
    answers,
    claim,
    client,
    formed,
    identity,
    me,
    membership,
    peer,
    record,
    voter,
)


def test_first_the_disk_is_prepared_and_signed() -> None:
    action = a_founder().action
    assert isinstance(action, StampIdentity)
    assert action.prepare
    assert (action.identity.stage, action.identity.nonce) == (Stage.STARTING, NONCE)


def test_then_the_start_is_claimed_with_the_nonce_of_the_disk() -> None:
    action = a_prepared_founder().action
    assert isinstance(action, WriteClaim)
    assert action.claim == Claim(A, OLD_NONCE)


def test_then_etcd_starts_as_new_with_all_founders_and_the_token() -> None:
    action = a_founder_with_its_claim().action
    assert isinstance(action, StartEtcd)
    assert (action.launch.state, action.launch.token) == ("new", "prod-000001-abcd")
    assert dict(action.launch.initial_cluster) == {A: peer(A), B: peer(B), C: peer(C)}


def test_once_the_others_have_formed_it_joins_as_somebody_new() -> None:
    example = a_founder_with_its_claim().seeing(
        claim=claim(A, NONCE),
        formed=formed(A, B, C),
        membership=membership(voter(B), voter(C), via=B),
        answers=answers(B, C),
    )
    action = example.action
    assert isinstance(action, StampIdentity)
    assert action.identity.stage is Stage.ADDING


@pytest.mark.parametrize("data", [Data.ABSENT, Data.EMPTY])
def test_a_founder_whose_claim_outlived_its_identity_never_starts_again(data: Data) -> None:
    example = a_founder_with_its_claim().seeing(disk=Disk(None, data))
    assert example.action == Wait(Blocker.FORMATION)


def test_a_claim_with_another_nonce_is_of_another_life() -> None:
    example = a_founder_with_its_claim().seeing(claim=claim(A, NONCE))
    assert example.action == Wait(Blocker.FORMATION)


def test_without_its_directory_the_identity_alone_is_a_lost_disk() -> None:
    """`data/` is created before the claim: an identity beside no directory has lost what raft had written."""
    example = a_founder_with_its_claim().seeing(disk=Disk(identity(A, Stage.STARTING), Data.ABSENT))
    assert example.action == Wait(Blocker.FORMATION)


def test_a_founder_that_cannot_read_its_claim_waits() -> None:
    assert a_prepared_founder().seeing(claim=TIMEOUT).action == Wait(Blocker.IGNORANCE)


def test_who_is_not_named_does_not_found() -> None:
    example = a_founder_with_its_claim().seeing(head=record(B, C, D))
    assert example.action == Wait(Blocker.FORMATION)


def test_a_founder_at_another_address_does_not_found() -> None:
    """Every founder's member ID is made of the record's peer URLs."""
    moved = replace(me(A), private_ip="10.9.9.9", peer_url=peer(D))
    assert isinstance(a_founder().seeing(me=moved).action, StampIdentity), "it gives up its seat: see test_recovering"
    claimed = a_founder_with_its_claim()
    assert isinstance(claimed.seeing(me=moved).action, StampIdentity), "and lets go of a claim that it never used"
    spent = claimed.seeing(me=moved, claim=Claim(A, Nonce("another life's")))
    assert spent.action == Wait(Blocker.FORMATION)


def test_a_running_etcd_is_not_started_again() -> None:
    assert a_founder_with_its_claim().seeing(process=EtcdRunning(1)).action == Wait(Blocker.STARTUP)


def test_a_founder_that_ran_restarts_in_place() -> None:
    example = a_founder_with_its_claim().seeing(disk=Disk(identity(A, Stage.STARTING), Data.PRESENT))
    assert example.rule == "restart-in-place"


def test_a_late_founder_whom_the_others_still_list_starts_under_its_own_name() -> None:
    never_started = replace(voter(A), client_urls=())
    members = membership(never_started, voter(B), voter(C), via=B)
    example = a_founder().seeing(membership=members, answers=answers(B, C, silent=(A,)), formed=formed(A, B, C))
    assert example.rule == "start-as-founder"


def test_a_late_founder_of_a_restored_generation_is_known_to_the_others_by_its_address_alone() -> None:
    nameless = replace(voter(A), name="", client_urls=())
    example = a_founder().seeing(
        membership=membership(nameless, voter(B), voter(C), via=B),
        answers=answers(B, C, silent=(A,)),
        formed=formed(A, B, C),
    )
    assert example.rule == "start-as-founder"
    learner = replace(nameless, is_learner=True)
    assert example.seeing(membership=membership(learner, voter(B), voter(C), via=B)).rule == "join"


def test_a_late_founder_whom_the_others_removed_joins_as_somebody_new() -> None:
    members = Membership(CLUSTER, (voter(B), voter(C)), ClientUrl(client(B)))
    example = a_founder().seeing(membership=members, answers=answers(B, C), formed=formed(A, B, C))
    action = example.action
    assert isinstance(action, StampIdentity)
    assert action.identity.stage is Stage.ADDING


def test_a_founder_that_joins_instead_spends_its_claim_first() -> None:
    members = membership(voter(B), voter(C), via=B)
    example = a_founder().seeing(
        disk=Disk(identity(A, Stage.ADDING), Data.EMPTY),
        membership=members,
        answers=answers(B, C),
        formed=formed(A, B, C),
    )
    assert isinstance(example.action, WriteClaim)
    assert example.seeing(claim=TIMEOUT).action == Wait(Blocker.IGNORANCE)
    assert example.seeing(claim=claim(A)).rule == "join"
    assert not isinstance(example.seeing(claim=claim(A)).action, WriteClaim)


def test_a_moved_founder_that_joins_and_cannot_read_its_claim_waits() -> None:
    example = a_founder().seeing(
        me=replace(me(A), peer_url=peer(D)),
        disk=Disk(identity(A, Stage.ADDING), Data.EMPTY),
        membership=membership(voter(B), voter(C), via=B),
        answers=answers(B, C),
        formed=formed(A, B, C),
        claim=TIMEOUT,
    )
    assert example.action == Wait(Blocker.IGNORANCE)
    assert "joins" in example.carried_out.because
