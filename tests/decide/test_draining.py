"""Who leaves is not ready before it goes: a round at least, and as long as the operator's load balancers take."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.model.actions import Blocker, RemoveMember, Wait
from agent.model.disk import EtcdStopped
from agent.model.spot import SpotAction, SpotNotice
from tests.decide.examples import (
    MEMBERS,
    NOW,
    TIMEOUT,
    A,
    B,
    C,
    Example,
    a_healthy_three,
    answers,
    learner,
    membership,
    voter,
)


def told(seconds_ago: float, drain: float = 0) -> Example:
    """B was told to leave."""
    example = a_healthy_three(seen_by=B).seeing(lifecycle_target="Terminated", answers=answers(A, B, C))
    example = example.remembering(leaving_since=NOW - timedelta(seconds=seconds_ago), heartbeat_at=NOW)
    return replace(example, policy=replace(example.policy, drain=timedelta(seconds=drain)))


def test_the_round_that_hears_of_it_only_tells_of_it() -> None:
    assert told(0).action == Wait(Blocker.LEAVING)
    assert told(0).rule == "drain"
    assert told(0.25).action == RemoveMember(MEMBERS[B])


@pytest.mark.parametrize(("seconds", "rule"), [(14.9, "drain"), (15, "leave")])
def test_it_serves_on_for_as_long_as_clients_need(seconds: float, rule: str) -> None:
    assert told(seconds, drain=15).rule == rule


def test_nobody_waits_for_clients_that_cannot_be_there() -> None:
    as_learner = membership(voter(A), voter(C), learner(B))
    assert told(1, drain=15).seeing(membership=as_learner).rule == "leave"
    assert told(1, drain=15).seeing(membership=membership(voter(A), voter(C))).rule == "leave", "its etcd is ending"
    assert told(1, drain=15).seeing(membership=TIMEOUT).rule != "drain"
    assert told(1, drain=15).seeing(process=EtcdStopped()).rule != "drain"


@pytest.mark.parametrize(("left", "rule"), [(120, "drain"), (60, "drain"), (59, "leave"), (5, "leave")])
def test_a_spot_notice_that_leaves_little_time_leaves_none_for_clients(left: float, rule: str) -> None:
    notice = SpotNotice(SpotAction.TERMINATE, NOW + timedelta(seconds=left))
    example = a_healthy_three(seen_by=B).seeing(spot=notice, answers=answers(A, B, C))
    example = example.remembering(spot=notice, spot_since=NOW - timedelta(seconds=0.1))
    assert replace(example, policy=replace(example.policy, drain=timedelta(seconds=15))).rule == rule


def test_nobody_else_drains() -> None:
    assert a_healthy_three(B).rule == "rest"
    assert a_healthy_three(B).seeing(lifecycle_target="Terminated").rule == "leave", "not remembered yet"
