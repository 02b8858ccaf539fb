"""Data of our generation and no etcd: start in place, whatever the others do; a new address is told first."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent.model.actions import Blocker, StampIdentity, StartEtcd, UpdatePeerUrl, Wait
from agent.model.disk import Data, Disk, EtcdStopped, Stage
from agent.model.known import NOT_ASKED, Ignorance, Unknown
from tests.decide.examples import (
    MEMBERS,
    NOW,
    OTHER_CLUSTER,
    THROTTLED,
    TIMEOUT,
    A,
    B,
    C,
    D,
    Example,
    a_learner,
    a_moved_member,
    a_stopped_member,
    identity,
    learner,
    me,
    membership,
    peer,
    voter,
)


def test_a_rebooted_member_starts_on_its_data() -> None:
    action = a_stopped_member(B).action
    assert isinstance(action, StartEtcd)
    assert action.launch.state == "existing", "the flags of a first start are ignored, and `new` is never among them"


def test_the_whole_fleet_rebooted_and_nobody_waits_for_anybody() -> None:
    """A restore here would lose what the snapshot did not have; a restart in place loses nothing."""
    for name in (A, B, C):
        assert a_stopped_member(name).seeing(membership=TIMEOUT, fleet=TIMEOUT).rule == "restart-in-place"


def test_data_is_compared_with_the_others_only_where_a_quorum_answers() -> None:
    """Members that start at once would wait for each other's answer, and none of them listens before it has one."""
    for answer, compared in ((membership(voter(A), voter(B), voter(C)), True), (TIMEOUT, False)):
        action = a_stopped_member(B).seeing(membership=answer).action
        assert isinstance(action, StartEtcd)
        assert action.launch.compare is compared


@pytest.mark.parametrize("unread", [TIMEOUT, THROTTLED, Unknown(Ignorance.DENIED, "s3")])
def test_a_bucket_that_cannot_be_read_keeps_nobody_down(unread: Any) -> None:
    assert a_stopped_member(B).seeing(head=unread, formed=unread).rule == "restart-in-place"


def test_but_it_must_have_been_tried() -> None:
    assert a_stopped_member(B).seeing(head=NOT_ASKED).action == Wait(Blocker.IGNORANCE)


class TestBackOff:
    @staticmethod
    def ended(lives: int, seconds_ago: float) -> Example:
        ended_at = NOW - timedelta(seconds=seconds_ago)
        return a_stopped_member(B).remembering(etcd_short_lives=lives, etcd_ended_at=ended_at)

    def test_an_etcd_that_just_ended_early_has_a_pause(self) -> None:
        assert self.ended(1, 0.5).action == Wait(Blocker.BACKOFF)
        assert self.ended(1, 1.0).rule == "restart-in-place"

    def test_the_pause_doubles_up_to_its_bound(self) -> None:
        assert self.ended(4, 7.9).action == Wait(Blocker.BACKOFF)
        assert self.ended(4, 8.0).rule == "restart-in-place"
        assert self.ended(99, 29.9).action == Wait(Blocker.BACKOFF)
        assert self.ended(99, 30.0).rule == "restart-in-place"

    def test_one_that_lived_long_starts_at_once(self) -> None:
        assert self.ended(0, 0).rule == "restart-in-place"


class TestMoved:
    """The volume is at another address: etcd's own procedure wants the list updated first."""

    def test_the_quorum_is_told_before_etcd_starts(self) -> None:
        assert a_moved_member().action == UpdatePeerUrl(MEMBERS[B], peer(D))

    def test_then_the_disk_learns_it_and_etcd_starts(self) -> None:
        there = replace(voter(B), peer_urls=(peer(D),))
        example = a_moved_member().seeing(membership=membership(voter(A), there, voter(C)))
        action = example.action
        assert isinstance(action, StampIdentity)
        assert action.identity.peer_url == peer(D)
        assert example.seeing(disk=Disk(action.identity, Data.PRESENT)).rule == "restart-in-place"

    def test_a_volume_on_another_instance_keeps_its_member(self) -> None:
        example = a_moved_member().seeing(me=me(D))
        assert example.action == UpdatePeerUrl(MEMBERS[B], peer(D))

    def test_so_does_that_of_a_founder_that_ran_and_was_never_stamped(self) -> None:
        """It died between its first start and its first answer, and came back elsewhere."""
        there = replace(voter(B), peer_urls=(peer(D),))
        unstamped = Disk(identity(B, Stage.STARTING), Data.PRESENT)
        example = a_moved_member().seeing(disk=unstamped, membership=membership(voter(A), there, voter(C)))
        action = example.action
        assert isinstance(action, StampIdentity)
        assert (action.identity.peer_url, action.identity.stage) == (peer(D), Stage.STARTING)

    @pytest.mark.parametrize("seconds", [None, 9])
    def test_a_quorum_that_does_not_answer_has_a_grace(self, seconds: float | None) -> None:
        since = None if seconds is None else NOW - timedelta(seconds=seconds)
        example = a_moved_member().seeing(membership=TIMEOUT).remembering(no_quorum_since=since)
        assert example.action == Wait(Blocker.QUORUM)

    def test_after_it_we_may_be_what_the_quorum_lacks(self) -> None:
        example = a_moved_member().seeing(membership=TIMEOUT)
        assert example.remembering(no_quorum_since=NOW - timedelta(seconds=10)).rule == "restart-in-place"

    def test_a_list_of_another_cluster_is_no_list(self) -> None:
        members = replace(membership(voter(A), voter(B), voter(C)), cluster_id=OTHER_CLUSTER)
        assert a_moved_member().seeing(membership=members).action == Wait(Blocker.QUORUM)

    def test_who_is_not_in_the_list_has_nothing_to_tell(self) -> None:
        """Known by name only, in a generation whose cluster ID nobody has written down."""
        unstamped = Disk(identity(B, Stage.STARTING), Data.PRESENT)
        example = a_moved_member().seeing(disk=unstamped, membership=membership(voter(A), voter(C)))
        assert example.remembering(formed=None).rule == "restart-in-place"

    def test_a_moved_learner_starts_over(self) -> None:
        """etcd below 3.5.31 promotes a learner whose URL is updated; it holds no vote, so nothing is lost."""
        stopped = a_learner().seeing(process=EtcdStopped(), me=replace(me(D), peer_url=peer(C)))
        example = stopped.seeing(membership=membership(voter(A), voter(B), learner(D)))
        action = example.action
        assert isinstance(action, StampIdentity)
        assert action.identity.stage is Stage.FENCED
