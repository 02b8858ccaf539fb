"""The names under which clients find the cluster: of voters that serve, kept by the leader's agent, never emptied."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent.decide import Ask, worth_asking
from agent.decide.naming import SILENT_FOR, TRY_AGAIN
from agent.model.actions import Decision, Outcome, PublishRecords, Rest, Result
from agent.model.cluster import Answers
from agent.model.dns import DnsNames, RecordSet, RecordType, endpoint_of
from agent.model.ids import ClientUrl, InstanceId
from agent.model.memory import remember, remember_result
from tests.decide.examples import (
    IPS,
    MEMBERS,
    NOW,
    TIMEOUT,
    A,
    B,
    C,
    D,
    Example,
    a_healthy_three,
    a_learner,
    answers,
    fleet,
    instance,
    learner,
    membership,
    status,
    voter,
)

NAMES = DnsNames("etcd.example.internal.", timedelta(seconds=30))


def records(*who: InstanceId) -> frozenset[RecordSet]:
    return NAMES.of(frozenset((IPS[each], 2379) for each in who))


def known(*who: InstanceId) -> frozenset[RecordSet]:
    """Those of them that are read."""
    return frozenset(each for each in records(*who) if (each.name, each.type) in NAMES.watched)


def publishing(example: Example, *published: InstanceId) -> Example:
    """The operator wants it; these are what is published now."""
    example = replace(example, policy=replace(example.policy, dns=NAMES))
    return example.remembering(published=known(*published) if published else frozenset())


def test_what_is_published_are_the_addresses_and_how_to_find_each() -> None:
    found = {(each.name, each.type.value): each for each in records(A, B)}
    assert found["etcd.example.internal.", "A"].values == {"10.0.0.1", "10.0.0.2"}
    service = found["_etcd-client._tcp.etcd.example.internal.", "SRV"]
    assert service.values == {
        "0 0 2379 ip-10-0-0-1.etcd.example.internal.",
        "0 0 2379 ip-10-0-0-2.etcd.example.internal.",
    }
    assert found["ip-10-0-0-1.etcd.example.internal.", "A"].values == {"10.0.0.1"}
    assert len(found) == 4
    assert {each.ttl_seconds for each in found.values()} == {30}


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://10.0.0.1:2379", ("10.0.0.1", 2379)),
        ("https://10.0.0.1:2379/", ("10.0.0.1", 2379)),
        ("http://[fd00::1]:2379", None),
        ("http://etcd.internal:2379", None),
        ("http://10.0.0.999:2379", None),
        ("http://10.0.0.1:etcd", None),
        ("unix://x", None),
    ],
)
def test_only_an_ipv4_address_goes_into_an_a_record(url: str, found: Any) -> None:
    assert endpoint_of(ClientUrl(url)) == found


def test_the_leaders_agent_writes_what_is_not_there() -> None:
    assert publishing(a_healthy_three(A)).action == PublishRecords(records(A, B, C))
    assert publishing(a_healthy_three(A), A, B).action == PublishRecords(records(A, B, C))
    assert "10.0.0.1, 10.0.0.2" in publishing(a_healthy_three(A), A, B).carried_out.because


def test_nobody_writes_what_is_there_or_what_was_not_read() -> None:
    assert publishing(a_healthy_three(A), A, B, C).action == Rest()
    assert publishing(a_healthy_three(A)).remembering(published=None).action == Rest()
    assert a_healthy_three(A).action == Rest(), "nobody wants it"


def test_nobody_else_writes() -> None:
    assert publishing(a_healthy_three(B)).seeing(answers=answers(A, B, C)).action == Rest()
    assert not isinstance(publishing(a_learner()).decided.action, PublishRecords)


def test_another_time_to_live_is_another_record() -> None:
    example = publishing(a_healthy_three(A), A, B, C)
    longer = replace(example, policy=replace(example.policy, dns=replace(NAMES, ttl=timedelta(minutes=5))))
    assert isinstance(longer.action, PublishRecords)


def test_who_is_silent_goes_after_a_while() -> None:
    silent = publishing(a_healthy_three(A), A, B, C).seeing(answers=answers(A, B, silent=(C,)))
    lately = silent.remembering(silent_since={MEMBERS[C]: NOW - SILENT_FOR + timedelta(seconds=1)})
    assert lately.action == Rest()
    gone = silent.remembering(silent_since={MEMBERS[C]: NOW - SILENT_FOR})
    assert gone.action == PublishRecords(records(A, B))


def test_who_knows_no_leader_or_is_leaving_goes_at_once() -> None:
    said = answers(A, B, C)
    leaderless = replace(said, of={**said.of, MEMBERS[C]: status(C, leader=None)})
    example = publishing(a_healthy_three(A), A, B, C)
    assert example.seeing(answers=leaderless).action == PublishRecords(records(A, B))
    leaving = fleet(instance(A), instance(B), instance(C, lifecycle="Terminating:Wait"))
    assert example.remembering(fleet=leaving).action == PublishRecords(records(A, B))
    assert example.remembering(fleet=None).action == Rest()


def test_a_learner_serves_nobody() -> None:
    four = membership(voter(A), voter(B), voter(C), learner(D))
    example = publishing(a_healthy_three(A), A, B, C).seeing(membership=four, answers=answers(A, B, C, D))
    assert not isinstance(example.decided.action, PublishRecords)


@pytest.mark.parametrize(
    "change",
    [{"membership": TIMEOUT}, {"answers": Answers()}, {"local": TIMEOUT}],
    ids=["no-quorum", "nobody-was-asked", "we-may-not-lead"],
)
def test_nothing_is_ever_emptied(change: dict[str, Any]) -> None:
    assert not isinstance(publishing(a_healthy_three(A), A).seeing(**change).decided.action, PublishRecords)


def test_without_an_address_that_can_be_published_nothing_is() -> None:
    six = tuple(replace(voter(each), client_urls=(ClientUrl("http://[fd00::1]:2379"),)) for each in (A, B, C))
    assert publishing(a_healthy_three(A), A).seeing(membership=membership(*six)).action == Rest()


def test_the_second_look() -> None:
    example = publishing(a_healthy_three(A))
    assert example.objections_to(PublishRecords(records(A, B, C))) == ()
    assert example.objections_to(PublishRecords(records(D))), "it is no voter"
    assert example.objections_to(PublishRecords(frozenset()))
    emptied = RecordSet(NAMES.name, RecordType.A, 30, frozenset())
    assert example.objections_to(PublishRecords(frozenset({emptied})))
    assert example.seeing(membership=TIMEOUT).objections_to(PublishRecords(records(A)))


class TestWhenItIsRead:
    @staticmethod
    def asks(example: Example, seconds_ago: float) -> bool:
        asked_at = {"dns": NOW - timedelta(seconds=seconds_ago)}
        return Ask.DNS in worth_asking(example.o, replace(example.memory, asked_at=asked_at), example.policy)

    def test_seldom_once_it_is_known(self) -> None:
        example = publishing(a_healthy_three(A), A, B, C)
        assert not self.asks(example, 299)
        assert self.asks(example, 300)
        assert self.asks(example.remembering(published=None), 15)

    def test_by_nobody_else(self) -> None:
        assert not self.asks(publishing(a_healthy_three(B)), 9999)
        assert not self.asks(a_healthy_three(A), 9999)
        assert not self.asks(publishing(a_healthy_three(A)).seeing(membership=TIMEOUT), 9999)

    def test_what_was_read_is_kept(self) -> None:
        example = publishing(a_healthy_three(A))
        assert remember(example.memory, example.seeing(dns=known(A)).o, example.policy).published == known(A)
        assert remember(example.memory, example.seeing(dns=TIMEOUT).o, example.policy).published == frozenset()

    def test_after_a_change_it_is_read_at_once_and_after_a_refusal_tried_again_later(self) -> None:
        example = publishing(a_healthy_three(A), A)
        wrote = Decision(PublishRecords(records(A, B)), "because")
        memory = replace(example.memory, asked_at={"dns": NOW, "fleet": NOW})
        for outcome in (Outcome.DONE, Outcome.MAYBE):
            after = remember_result(memory, wrote, Result(outcome), NOW)
            assert (after.published, after.asked_at) == (None, {"fleet": NOW})
        refused = replace(example, memory=remember_result(memory, wrote, Result(Outcome.REFUSED), NOW))
        assert refused.action == Rest()
        assert isinstance(refused.remembering(publishing_refused_at=NOW - TRY_AGAIN).action, PublishRecords)
