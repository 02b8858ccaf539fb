"""The proof that a generation is lost: a lost three, one thing changed, and who keeps it from being proven.

Each story breaks one clause, and names the one instance or fact that is waited for. That the clauses together are
sound is shown elsewhere (properties/test_proof_of_loss.py).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent.decide.loss import Lost, NotProven, judge_loss
from agent.model.fleet import Fleet, InstanceState
from agent.model.generation import Exclusion, GenerationRecord, Holding, Report, Seat, Sight
from agent.model.ids import InstanceId, PeerUrl
from agent.model.known import NOT_ASKED
from agent.model.members import LogPosition, MemberEntry
from agent.model.observation import Observation
from tests.decide.examples import (
    A_MINUTE_AGO,
    LONG_AGO,
    MEMBERS,
    NOW,
    POSITION,
    THROTTLED,
    A,
    B,
    C,
    D,
    E,
    Example,
    a_lost_three,
    before_the_first_generation,
    entry,
    fleet,
    formed,
    fresh,
    holding,
    instance,
    manifest,
    never_formed,
    nothing,
    peer,
    record,
    snapshot_name,
    with_nobody_left,
)

ENDED = InstanceState.TERMINATED
LOST = a_lost_three()


def judged(example: Example) -> Lost | NotProven:
    return judge_loss(*example.values)


def proven(example: Example) -> bool:
    return isinstance(judged(example), Lost)


def blockers(example: Example) -> dict[str, str]:
    verdict = judged(example)
    assert isinstance(verdict, NotProven), verdict
    assert verdict.blockers
    return {each.who: each.why for each in verdict.blockers}


def reporting(*reports: Report, age_seconds: float = 1.0) -> Example:
    """The lost three with these reports."""
    return LOST.seeing(reports=fresh(*reports, age_seconds=age_seconds))


def with_c(state: InstanceState, lifecycle: str = "InService") -> Example:
    return LOST.seeing(
        fleet=fleet(instance(A), instance(B, ENDED), instance(C, state, lifecycle), instance(D), instance(E))
    )


def without_c(**more: Any) -> Fleet:
    """EC2 has not listed C."""
    return fleet(instance(A), instance(B, ENDED), instance(D), instance(E), **more)


# ---- proven


@pytest.mark.parametrize("seen_by", [A, D, E])
def test_two_of_three_ended_and_everybody_else_has_said_so(seen_by: InstanceId) -> None:
    verdict = judged(a_lost_three(seen_by))
    assert isinstance(verdict, Lost)
    assert [each.instance for each in verdict.holders] == [A]


def test_the_record_will_say_what_it_was_proven_by() -> None:
    verdict = judged(LOST)
    assert isinstance(verdict, Lost)
    assert verdict.evidence["judged_by"] == A
    assert verdict.evidence["ended"] == {B: "EC2 says terminated", C: "EC2 says terminated"}
    assert verdict.evidence["reports"][A]["voters"] == ["a", "b", "c"]
    assert verdict.evidence["reports"][A]["position"] == POSITION.to_document()
    assert verdict.evidence["reports"][D]["data"] == "none"
    assert len(verdict.evidence["members"]) == 3


def test_nobody_has_data_and_all_who_had_it_have_ended() -> None:
    assert proven(with_nobody_left())


def test_a_founder_that_spent_its_claim_and_lost_its_disk_starts_no_more() -> None:
    assert proven(never_formed())


# ---- what must be known


@pytest.mark.parametrize(
    ("field", "who"),
    [
        ("head", "the newest generation"),
        ("fleet", "EC2's word on the fleet"),
        ("reports", "the reports"),
        ("exclusions", "the operator's exclusions"),
        ("formed", "formed.json"),
    ],
)
@pytest.mark.parametrize("why", [THROTTLED, NOT_ASKED])
def test_a_fact_that_was_not_read_in_this_round_blocks_alone(field: str, who: str, why: Any) -> None:
    assert blockers(LOST.seeing(**{field: why})) == {who: str(why)}


def test_what_is_remembered_of_the_fleet_proves_nothing() -> None:
    assert LOST.memory.fleet is not None
    assert not proven(LOST.seeing(fleet=NOT_ASKED))


def test_where_there_is_no_generation_none_is_lost() -> None:
    assert blockers(before_the_first_generation().seeing(exclusions=(), formed=None)) == {
        "the newest generation": "there is none"
    }


def test_an_unread_manifest_or_listing_is_none_of_the_proof() -> None:
    assert proven(LOST.seeing(snapshots=THROTTLED, manifest=THROTTLED))


# ---- (1) nobody sees a leader, and has not for the whole grace


@pytest.mark.parametrize(
    ("sight", "why"),
    [
        (Sight.LEADER, "sees a leader"),
        (Sight.LEADERLESS, "less than the grace"),
        (Sight.UNTOLD, "cannot tell"),
    ],
)
@pytest.mark.parametrize("who", [A, D])
def test_one_that_sees_a_leader_or_cannot_tell_blocks(who: InstanceId, sight: Sight, why: str) -> None:
    """UNTOLD: its certificate expired, so its etcd does not tell, and may well have a leader."""
    a, d = holding(A, B, C), nothing(D)
    example = reporting(*(replace(each, sight=sight) if each.instance == who else each for each in (a, d)), nothing(E))
    found = blockers(example)
    assert list(found) == [who]
    assert why in found[who]


# ---- (2) everybody is here


@pytest.mark.parametrize("state", [InstanceState.STOPPED, InstanceState.STOPPING, InstanceState.PENDING])
def test_a_stopped_member_can_come_back_with_its_disk(state: InstanceState) -> None:
    found = blockers(with_c(state))
    assert set(found) == {C, str(entry(C))}, "absent, and its data unaccounted for"
    assert f"EC2 says {state}" in found[C]


def test_one_that_reaches_neither_the_others_nor_the_bucket_may_have_a_leader() -> None:
    found = blockers(reporting(holding(A, B, C), nothing(D)))
    assert found == {E: "EC2 says running, and it has not reported"}


def test_an_old_report_says_nothing_of_now() -> None:
    stale = fresh(holding(A, B, C), nothing(D)) + fresh(nothing(E), age_seconds=21)
    assert blockers(LOST.seeing(reports=stale)) == {E: "EC2 says running, and its last report is 21 s old"}


def test_who_is_shutting_down_may_serve_yet() -> None:
    found = blockers(with_c(InstanceState.SHUTTING_DOWN))
    assert set(found) == {C, str(entry(C))}


def test_even_if_nobody_here_has_ever_heard_of_it() -> None:
    """A's list is long out of date: D to F may have been the cluster, and are dying with acknowledged writes."""
    example = LOST.seeing(
        fleet=fleet(
            instance(A),
            instance(B, ENDED),
            instance(C, ENDED),
            instance(D, InstanceState.SHUTTING_DOWN),
            instance(E, InstanceState.SHUTTING_DOWN),
        ),
        reports=fresh(holding(A, B, C)),
    )
    assert set(blockers(example)) == {D, E}


@pytest.mark.parametrize("report", [nothing(D), holding(D, E, B)])
def test_a_dying_one_that_reports_is_heard(report: Report) -> None:
    example = LOST.seeing(
        fleet=fleet(*(instance(each, ENDED) for each in (B, C)), instance(A), instance(D, InstanceState.SHUTTING_DOWN))
    )
    found = judged(example.seeing(reports=fresh(holding(A, B, C), report)))
    assert isinstance(found, Lost) is (report.data is Holding.NONE)


def test_a_holder_that_fell_silent_and_is_in_no_listing_can_come_back() -> None:
    """It is not in anybody's list, so only its own old report tells of it."""
    silent = fresh(holding(D, E), age_seconds=300)
    example = LOST.seeing(
        fleet=fleet(instance(A), instance(B, ENDED), instance(C, ENDED)),
        reports=fresh(holding(A, B, C)) + silent,
    )
    found = blockers(example)
    assert "has data, is not among the live, and last reported 300 s ago" in found[D]
    assert set(found) == {D, str(entry(D)), str(entry(E))}


def test_nobody_waits_for_a_warm_pool_that_never_had_data() -> None:
    warm = fleet(
        instance(A),
        instance(B, ENDED),
        instance(C, ENDED),
        instance(D, InstanceState.STOPPED, "Warmed:Stopped"),
        instance(E),
    )
    assert proven(LOST.seeing(fleet=warm, reports=fresh(holding(A, B, C), nothing(E))))


def test_a_member_that_went_to_the_warm_pool_took_its_data_along() -> None:
    found = blockers(with_c(InstanceState.STOPPED, "Warmed:Stopped"))
    assert found == {str(entry(C)): "is not here, and EC2 says stopped"}


def test_so_did_one_of_whom_only_its_own_old_report_tells() -> None:
    asleep = instance(D, InstanceState.STOPPED, "Warmed:Stopped")
    told = holding(D, members=(entry(D, is_learner=True),))
    example = LOST.seeing(
        fleet=fleet(instance(A), instance(B, ENDED), instance(C, ENDED), asleep),
        reports=fresh(holding(A, B, C)) + fresh(told, age_seconds=300),
    )
    assert D in blockers(example)


# ---- reports and ends are of different moments


def test_a_report_from_before_an_end_is_not_held_against_it() -> None:
    """B led D after D had reported, and was terminated since: what D held then says nothing of what it holds now."""
    just_now = LOST.remembering(ended_since={B: NOW - timedelta(seconds=3), C: A_MINUTE_AGO})
    old = fresh(holding(A, B, C), nothing(E)) + fresh(nothing(D), age_seconds=5)
    assert blockers(just_now.seeing(reports=old)) == {
        D: "last reported 5 s ago, before i-b was known to have ended",
    }
    assert proven(just_now.seeing(reports=fresh(holding(A, B, C), nothing(D), nothing(E), age_seconds=2)))
    assert proven(just_now.seeing(reports=old).remembering(ended_since={})), "nobody's end was looked up"


# ---- (3) everybody is accounted for


class TestAccountedFor:
    def test_unknown_to_ec2_in_one_look_is_no_proof(self) -> None:
        example = LOST.seeing(fleet=without_c(unheard_of=frozenset({C}))).remembering(
            unheard_of={C: 1}, named_since={C: LONG_AGO}
        )
        assert blockers(example) == {str(entry(C)): "is not here, and EC2 does not prove that it ended"}

    def test_nor_is_it_in_two_while_it_is_young(self) -> None:
        example = LOST.seeing(fleet=without_c(unheard_of=frozenset({C}))).remembering(
            unheard_of={C: 2}, named_since={C: NOW - timedelta(minutes=59)}
        )
        assert set(blockers(example.seeing(head=self._younger(example.o)))) == {str(entry(C))}

    def test_but_of_one_that_is_old_it_is(self) -> None:
        example = LOST.seeing(fleet=without_c(unheard_of=frozenset({C}))).remembering(
            unheard_of={C: 2}, named_since={C: NOW - timedelta(hours=1)}
        )
        assert proven(example.seeing(head=self._younger(example.o)))

    def test_a_founder_is_as_old_as_the_record(self) -> None:
        """By a clock that is not ours, so it has to be two hours."""
        example = LOST.seeing(fleet=without_c(unheard_of=frozenset({C}))).remembering(
            unheard_of={C: 2}, named_since={C: A_MINUTE_AGO}
        )
        assert proven(example)
        assert not proven(example.seeing(head=self._younger(example.o)))

    @staticmethod
    def _younger(o: Observation) -> GenerationRecord:
        assert isinstance(o.head, GenerationRecord)
        return replace(o.head, created_at=NOW - timedelta(minutes=90))

    def test_one_that_ec2_simply_left_out_is_not_gone(self) -> None:
        assert set(blockers(LOST.seeing(fleet=without_c()))) == {str(entry(C))}

    def test_its_groups_own_word_will_do(self) -> None:
        assert proven(LOST.seeing(fleet=without_c(ended_by_group=frozenset({C}))))

    def test_an_ec2_that_does_not_know_ourselves_knows_nobody(self) -> None:
        """Asked in another account or region."""
        elsewhere = fleet(unheard_of=frozenset({A, B, C}), ended_by_group=frozenset({B, C}))
        example = LOST.seeing(fleet=elsewhere, reports=fresh(holding(A, B, C))).remembering(
            unheard_of=dict.fromkeys((A, B, C), 5), named_since=dict.fromkeys((A, B, C), LONG_AGO)
        )
        assert set(blockers(example)) == {str(entry(B)), str(entry(C))}

    def test_a_founder_with_an_open_seat_is_what_may_bring_the_quorum_back(self) -> None:
        c = nothing(C, seat=Seat.OPEN)
        example = with_c(InstanceState.RUNNING).seeing(reports=fresh(holding(A, B, C), c, nothing(D), nothing(E)))
        assert blockers(example) == {str(entry(C)): "has no data, and may still start as a founder"}
        spent = fresh(holding(A, B, C), replace(c, seat=Seat.SPENT), nothing(D), nothing(E))
        assert proven(example.seeing(reports=spent))

    def test_a_wiped_member_attests_that_its_data_is_gone(self) -> None:
        example = with_c(InstanceState.RUNNING)
        assert proven(example.seeing(reports=fresh(holding(A, B, C), nothing(C), nothing(D), nothing(E))))

    def test_so_does_one_that_has_been_another_member_since(self) -> None:
        """It was wiped and joined as somebody new; the member that the list names is in nobody's hands."""
        again = holding(C, A, B, member_id=MEMBERS[D], members=(entry(A), entry(B), replace(entry(D), name=C)))
        example = with_c(InstanceState.RUNNING).seeing(
            reports=fresh(holding(A, B, C), again, nothing(D), nothing(E)),
        )
        assert str(entry(C)) not in blockers(example), "it is accounted for"
        assert blockers(example) == {C: "may yet be elected: 2 of its 3 voters still have their data (i-a, i-c)"}

    @pytest.mark.parametrize("is_learner", [False, True])
    def test_a_learner_that_nobody_can_account_for_may_have_been_promoted_since(self, is_learner: bool) -> None:
        strange = MemberEntry(MEMBERS[D], "i-nobody", (peer(D),), is_learner)
        a = holding(A, members=(entry(A), entry(B), entry(C), strange))
        assert set(blockers(reporting(a, nothing(D), nothing(E)))) == {str(strange)}

    def test_an_entry_that_was_never_started_is_somewhere(self) -> None:
        nowhere = MemberEntry(MEMBERS[D], "", (peer(B),), is_learner=True)
        a = holding(A, members=(entry(A), entry(B), entry(C), nowhere))
        found = blockers(reporting(a, nothing(D), nothing(E)))
        assert list(found) == [f"{peer(B)} (d)"]
        assert "was never started as far as is known here, and nobody says where it is" in found[f"{peer(B)} (d)"]

    def test_unless_whoever_is_at_its_address_says_that_it_has_nothing(self) -> None:
        here = MemberEntry(MEMBERS[D], "", (peer(D),), is_learner=True)
        a = holding(A, members=(entry(A), entry(B), entry(C), here))
        assert proven(reporting(a, nothing(D, member_id=MEMBERS[D]), nothing(E)))

    def test_an_older_list_that_has_no_name_for_it_does_not_hide_the_name(self) -> None:
        """A heard of an unstarted entry at C's old address; D's list knows that it is i-nobody, who is not here."""
        unnamed = MemberEntry(MEMBERS[E], "", (peer(E),), is_learner=True)
        named = replace(unnamed, name="i-nobody")
        a = holding(A, members=(entry(A), entry(B), entry(C), unnamed))
        for one, other in ((named, unnamed), (unnamed, named)):
            d = holding(D, members=(entry(D, is_learner=True), entry(B), entry(C), one))
            a = holding(A, members=(entry(A), entry(B), entry(C), other))
            assert str(named) in blockers(reporting(a, d, nothing(E)))

    def test_who_was_named_by_somebody_long_ended_is_asked_after_too(self) -> None:
        told_by_b = holding(B, C, members=(entry(B), entry(C), MemberEntry(MEMBERS[E], "i-nobody", ())))
        example = LOST.seeing(
            reports=fresh(holding(A, B, C), nothing(D), nothing(E)) + fresh(told_by_b, age_seconds=999)
        )
        assert set(blockers(example)) == {"i-nobody (e)"}


class TestWithoutData:
    """Nobody who could say so has data: then the documents say who may."""

    @pytest.mark.parametrize("by", ["founders", "formed", "manifest"])
    def test_everybody_that_the_documents_name_is_asked_after(self, by: str) -> None:
        example, ghost = with_nobody_left(), InstanceId("i-nobody")
        founders = {each: peer(each) for each in (A, B, C)}
        changed = {
            "founders": example.seeing(head=replace(record(A), founders={**founders, ghost: peer(E)})),
            "formed": example.seeing(
                formed=replace(formed(A, B, C), voters={**formed(A, B, C).voters, MEMBERS[E]: ghost})
            ),
            "manifest": example.seeing(
                manifest=manifest(members=(entry(A), MemberEntry(MEMBERS[E], ghost, (peer(E),)))),
            ),
        }[by]
        found = blockers(changed)
        assert [who for who in found if ghost not in who] == []
        assert proven(example)

    def test_a_generation_that_never_formed_has_its_founders(self) -> None:
        assert proven(never_formed())
        running = fleet(instance(A), instance(B, ENDED), instance(C))
        assert set(blockers(never_formed().seeing(fleet=running))) == {C}

    def test_founders_that_have_just_begun_their_logs_may_only_be_starting(self) -> None:
        begun = [holding(name, members=(), position=LogPosition(0, 0, 0)) for name in (A, B, C)]
        starting = never_formed().seeing(
            fleet=fleet(*(instance(name) for name in (A, B, C))), reports=fresh(*begun, age_seconds=1)
        )
        why = "its log is empty yet: as a founder, it may only be starting"
        assert blockers(starting) == dict.fromkeys((A, B, C), why)

    def test_a_manifest_of_an_older_generation_names_nobody_of_this_one(self) -> None:
        old = manifest(snapshot_name(generation=0), members=(MemberEntry(MEMBERS[E], "i-nobody", ()),))
        assert proven(with_nobody_left().seeing(manifest=old))

    def test_data_that_is_here_says_more_than_documents(self) -> None:
        """A's list is what A would be elected under: a founder that was removed from it long ago is not waited for."""
        founded = replace(record(A), founders={A: peer(A), InstanceId("i-nobody"): peer(E)})
        assert proven(LOST.seeing(head=founded))


# ---- (4) no holder finds a quorum


class TestQuorums:
    def test_two_of_three_with_data_may_yet_elect(self) -> None:
        c = holding(C, A, B)
        example = with_c(InstanceState.RUNNING).seeing(reports=fresh(holding(A, B, C), c, nothing(D), nothing(E)))
        assert set(blockers(example)) == {A, C}

    def test_damaged_data_counts_as_data(self) -> None:
        """Somebody may yet repair it."""
        c = holding(C, A, B, data=Holding.DAMAGED, position=None, running=False, members=(), trouble="a checksum")
        example = with_c(InstanceState.RUNNING).seeing(reports=fresh(holding(A, B, C), c, nothing(D), nothing(E)))
        assert blockers(example) == {A: "may yet be elected: 2 of its 3 voters still have their data (i-a, i-c)"}

    def test_but_who_cannot_read_its_list_campaigns_under_none(self) -> None:
        damaged = holding(A, data=Holding.DAMAGED, position=None, running=False, members=())
        example = with_c(ENDED).seeing(reports=fresh(damaged, nothing(D), nothing(E)))
        assert proven(example)

    def test_data_whose_reach_cannot_be_told_is_not_judged(self) -> None:
        for a in (holding(A, B, C, position=None), holding(A, members=())):
            assert "cannot tell how far" in blockers(reporting(a, nothing(D), nothing(E)))[A]
        why = blockers(reporting(holding(A, B, C, position=None, trouble="unreadable"), nothing(D), nothing(E)))[A]
        assert why.endswith("(unreadable)")

    def test_a_list_that_is_about_to_change_is_not_the_last_word(self) -> None:
        a = holding(A, B, C, position=LogPosition(7, 1000, 1000, pending_changes=True))
        assert blockers(reporting(a, nothing(D), nothing(E))) == {
            A: "has membership changes that are committed and not applied yet"
        }

    def test_a_restart_may_go_by_an_older_list(self) -> None:
        """Raft's own note of what is committed reaches the disk late: both lists are judged, and both asked after."""
        older = (entry(A),)
        found = blockers(reporting(holding(A, B, C, restart_members=older), nothing(D), nothing(E)))
        assert found == {A: "may yet be elected: 1 of its 1 voters still have their data (i-a)"}
        ghost = MemberEntry(MEMBERS[E], "i-nobody", (peer(E),))
        named = (entry(A), entry(B), ghost)
        assert set(blockers(reporting(holding(A, B, C, restart_members=named), nothing(D), nothing(E)))) == {str(ghost)}

    def test_a_learner_that_was_sent_nothing_yet_has_no_list_to_campaign_under(self) -> None:
        d = holding(D, members=(), position=LogPosition(0, 0, 0))
        assert proven(reporting(holding(A, B, C), d, nothing(E)))

    def test_each_holder_is_judged_by_its_own_list(self) -> None:
        """A was cut off before D and E joined: by its list two of three are gone, by D's two of three are here."""
        d = holding(D, A, B, members=(entry(A), entry(B), entry(D)))
        found = blockers(reporting(holding(A, B, C), d, nothing(E)))
        assert set(found) == {D}
        assert "2 of its 3 voters" in found[D]

    def test_a_learner_has_no_vote(self) -> None:
        d = holding(D, members=(entry(A), entry(B), entry(C), entry(D, is_learner=True)))
        a = holding(A, members=(entry(A), entry(B), entry(C), entry(D, is_learner=True)))
        assert proven(reporting(a, d, nothing(E)))

    def test_a_voter_that_has_no_name_yet_is_told_by_its_id(self) -> None:
        d = replace(entry(D), name="")
        a, other = holding(A, members=(entry(A), entry(B), d)), holding(D, members=(entry(A), entry(B), d))
        assert "(d, i-a)" in blockers(reporting(a, other, nothing(E)))[A]


# ---- the operator's word


class TestExcluded:
    @staticmethod
    def but_for(*names: InstanceId) -> Example:
        return LOST.seeing(exclusions=tuple(Exclusion(each, "its volume burned", "admin", NOW) for each in names))

    def test_who_is_written_off_is_waited_for_no_more(self) -> None:
        running = with_c(InstanceState.STOPPED).o.fleet
        assert proven(self.but_for(C).seeing(fleet=running))
        verdict = judged(self.but_for(C).seeing(fleet=running))
        assert isinstance(verdict, Lost)
        assert verdict.evidence["excluded"] == [C]

    def test_a_member_that_was_never_started_is_written_off_by_its_id(self) -> None:
        ghost = MemberEntry(MEMBERS[E], "", (PeerUrl("https://10.0.9.9:2380"),), is_learner=True)
        a = holding(A, members=(entry(A), entry(B), entry(C), ghost))
        example = reporting(a, nothing(D), nothing(E))
        assert f"`--exclude {ghost.id}`" in blockers(example)[str(ghost)]
        word = Exclusion(InstanceId(str(ghost.id)), "never started", "admin", NOW)
        assert proven(example.seeing(exclusions=(word,)))

    def test_its_data_counts_for_nothing_even_while_it_speaks(self) -> None:
        running = with_c(InstanceState.RUNNING).o.fleet
        both = fresh(holding(A, B, C), holding(C, A, B), nothing(D), nothing(E))
        example = self.but_for(C).seeing(fleet=running, reports=both)
        assert proven(example)
        assert not proven(example.seeing(exclusions=()))

    def test_nor_is_it_missed_where_only_an_old_report_tells_of_it(self) -> None:
        old = fresh(holding(A, B, C), nothing(D), nothing(E)) + fresh(holding(C, A, B), age_seconds=300)
        assert proven(self.but_for(C).seeing(fleet=without_c(), reports=old))

    def test_a_survivor_can_be_written_off_too(self) -> None:
        verdict = judged(self.but_for(A))
        assert isinstance(verdict, Lost)
        assert verdict.holders == ()


def test_every_blocker_is_a_line_for_people() -> None:
    verdict = judged(reporting(holding(A, B, C), nothing(D)))
    assert str(verdict) == "i-e: EC2 says running, and it has not reported"
