"""What a newer generation or a quorum has replaced is stopped and moved aside; ignorance fences nobody."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.model.actions import Quarantine, Rest, StampIdentity, StopEtcd
from agent.model.disk import Data, Disk, Stage
from agent.model.known import NOT_ASKED
from tests.decide.examples import (
    OTHER_CLUSTER,
    THROTTLED,
    TIMEOUT,
    A,
    B,
    C,
    D,
    E,
    Example,
    a_healthy_three,
    a_stopped_member,
    identity,
    membership,
    record,
    unstarted,
    voter,
)

NEWER = record(D, E, generation=2)


def superseded(*, running: bool) -> Example:
    example = a_healthy_three() if running else a_stopped_member(A).seeing(membership=TIMEOUT)
    return example.seeing(head=NEWER).remembering(head=NEWER, formed=None)


def fenced(*, running: bool) -> Example:
    return superseded(running=running).seeing(disk=Disk(identity(A, Stage.FENCED), Data.PRESENT))


@pytest.mark.parametrize("running", [True, False])
def test_a_disk_of_an_older_generation_is_stamped_first(running: bool) -> None:
    """The stamp is what counts: whatever happens after it, this disk never starts again."""
    action = superseded(running=running).action
    assert isinstance(action, StampIdentity)
    assert action.identity == replace(identity(A), stage=Stage.FENCED)


def test_then_its_etcd_is_stopped() -> None:
    assert fenced(running=True).action == StopEtcd("fenced")


def test_then_its_data_is_moved_aside() -> None:
    assert fenced(running=False).action == Quarantine("generation-1-fenced")


@pytest.mark.parametrize("unread", [TIMEOUT, THROTTLED, NOT_ASKED])
def test_an_unreadable_bucket_fences_nobody(unread: Any) -> None:
    """A running etcd serves on, whatever is remembered."""
    assert superseded(running=True).seeing(head=unread).action == Rest()


def test_a_member_that_was_removed_while_away_is_fenced() -> None:
    example = a_stopped_member(B).seeing(membership=membership(voter(A), voter(C)))
    action = example.action
    assert isinstance(action, StampIdentity)
    assert action.identity.stage is Stage.FENCED


def test_a_founder_that_never_learned_its_member_id_is_known_by_name() -> None:
    early = Disk(identity(B, Stage.STARTING), Data.PRESENT)
    example = a_stopped_member(B).seeing(disk=early, membership=membership(voter(A), voter(C)))
    assert example.rule == "fence-removed-member"
    assert example.seeing(membership=membership(voter(A), voter(B), voter(C))).rule == "restart-in-place"


def test_a_founder_that_comes_late_with_its_restored_data_is_known_by_its_address() -> None:
    """The others restored the same seed and serve already; none of them has heard this founder's name."""
    restored = Disk(identity(B, Stage.STARTING), Data.PRESENT)
    seat = replace(unstarted(B), is_learner=False)
    example = a_stopped_member(B).seeing(disk=restored, membership=membership(voter(A), seat, voter(C)))
    assert example.rule == "restart-in-place"
    assert example.seeing(membership=membership(voter(A), unstarted(B), voter(C))).rule == "fence-removed-member"


def test_a_list_of_another_cluster_says_nothing_of_ours() -> None:
    """Not being on somebody else's list is no removal: other tools wipe here."""
    members = replace(membership(voter(A), voter(C)), cluster_id=OTHER_CLUSTER)
    assert a_stopped_member(B).seeing(membership=members).rule == "restart-in-place"


def test_an_unstamped_disk_and_an_unformed_generation_give_no_cluster_to_compare_with() -> None:
    example = a_stopped_member(B).seeing(
        disk=Disk(identity(B, Stage.STARTING), Data.PRESENT), membership=membership(voter(A), voter(C)), formed=None
    )
    assert example.remembering(formed=None).rule == "restart-in-place"


def test_no_list_is_no_removal() -> None:
    assert a_stopped_member(B).seeing(membership=TIMEOUT).rule == "restart-in-place"


def test_a_running_member_is_left_to_etcd_to_end() -> None:
    """etcd ends by itself when it was removed; we do not stop it on a list alone."""
    example = a_healthy_three(seen_by=B).seeing(membership=membership(voter(A), voter(C)))
    assert example.action == Rest()


def test_what_is_fenced_already_is_not_stamped_again() -> None:
    example = a_stopped_member(B).seeing(
        disk=Disk(identity(B, Stage.FENCED), Data.PRESENT), membership=membership(voter(A), voter(C))
    )
    assert isinstance(example.action, Quarantine)


def test_a_fenced_identity_without_data_is_moved_aside_too() -> None:
    example = fenced(running=False).seeing(disk=Disk(identity(A, Stage.FENCED), Data.ABSENT))
    assert isinstance(example.action, Quarantine)
