"""The second look: whatever rule asks for it, these are not done. Each decision here is one no rule makes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.decide import object_to
from agent.decide.objections import veto
from agent.model.actions import (
    Action,
    AddLearner,
    BeginTask,
    Blocker,
    CreateGeneration,
    Decision,
    Disarm,
    ExpireSnapshots,
    FileReport,
    Launch,
    PromoteMember,
    PutInPlace,
    Quarantine,
    RemoveMember,
    Rest,
    StampIdentity,
    StartEtcd,
    StopEtcd,
    UpdatePeerUrl,
    Wait,
    WriteClaim,
)
from agent.model.cluster import Alarm, AlarmKind, Member
from agent.model.disk import Data, Disk, EtcdRunning, Stage
from agent.model.fleet import InstanceState
from agent.model.generation import FIRST, Exclusion, Holding, Report, Seat, Sight
from agent.model.ids import InstanceId, MemberId
from agent.model.members import MemberEntry
from agent.model.observation import BucketUnsound
from agent.model.snapshot import Manifest, Rescued
from agent.model.work import Drill, Ended, FetchSeed, RescueLog, TakeSnapshot
from tests.decide.examples import (
    MEMBERS,
    NONCE,
    NOW,
    OLD_NONCE,
    OTHER_CLUSTER,
    POSITION,
    TIMEOUT,
    A,
    B,
    C,
    D,
    E,
    Example,
    a_founder_that_restores,
    a_founder_with_its_claim,
    a_healthy_three,
    a_learner,
    a_lost_three,
    a_newcomer,
    a_prepared_founder,
    a_snapshot,
    a_stopped_member,
    answers,
    before_the_first_generation,
    claim,
    entry,
    filed,
    fleet,
    fresh,
    holding,
    identity,
    instance,
    learner,
    manifest,
    membership,
    nothing,
    peer,
    record,
    rescue_of,
    seed,
    snapshot_name,
    the_next,
    unstarted,
    voter,
    with_member_down,
    with_nobody_left,
)

NEW = Launch(A, peer(A), "new", "token", ((A, peer(A)),))
EXISTING = replace(NEW, state="existing")
ghost = MemberEntry(MEMBERS[C], "i-nobody", (peer(C),))


def vetoed(action: Action, example: Example) -> bool:
    return bool(object_to(Decision(action, "because", "rule"), example.o, example.memory))


def test_a_veto_is_a_wait_that_names_rule_and_objection() -> None:
    example = a_healthy_three()
    decision = Decision(RemoveMember(MEMBERS[C]), "it looked odd", "remove-departed")
    carried_out = veto(decision, object_to(decision, example.o, example.memory))
    assert carried_out.action == Wait(Blocker.VETO)
    assert carried_out.rule == "remove-departed"
    assert "it looked odd" in carried_out.because
    assert "dead" in carried_out.because


def test_doing_nothing_meets_no_objection() -> None:
    report = FileReport(FIRST, Report(A, peer(A), "boot-1", Holding.NONE))
    assert not any(vetoed(action, a_healthy_three()) for action in (Rest(), Wait(Blocker.SYNC), report))


class TestRemoving:
    gone = with_member_down(a_healthy_three(), C, InstanceState.TERMINATED)

    def test_the_proven_dead_may_go(self) -> None:
        assert not vetoed(RemoveMember(MEMBERS[C]), self.gone)

    @pytest.mark.parametrize("state", [None, InstanceState.STOPPED, InstanceState.STOPPING, InstanceState.PENDING])
    def test_the_silent_may_not(self, state: InstanceState | None) -> None:
        assert vetoed(RemoveMember(MEMBERS[C]), with_member_down(a_healthy_three(), C, state))

    def test_nobody_goes_on_an_unknown_fleet_or_list(self) -> None:
        assert vetoed(RemoveMember(MEMBERS[C]), self.gone.seeing(fleet=TIMEOUT))
        assert vetoed(RemoveMember(MEMBERS[C]), self.gone.seeing(membership=TIMEOUT))
        assert vetoed(RemoveMember(MEMBERS[E]), self.gone)

    def test_nobody_goes_where_too_few_remain(self) -> None:
        assert vetoed(RemoveMember(MEMBERS[C]), self.gone.seeing(answers=answers(A, silent=(B, C))))

    def test_nobody_goes_who_answers(self) -> None:
        assert vetoed(RemoveMember(MEMBERS[C]), self.gone.seeing(answers=answers(A, B, C)))

    def test_a_dying_instance_may_go_while_it_answers(self) -> None:
        dying = with_member_down(a_healthy_three(), C, InstanceState.SHUTTING_DOWN).seeing(answers=answers(A, B, C))
        assert not vetoed(RemoveMember(MEMBERS[C]), dying)

    def test_a_running_member_does_not_remove_itself(self) -> None:
        listed = fleet(instance(A, InstanceState.SHUTTING_DOWN), instance(B), instance(C))
        assert vetoed(RemoveMember(MEMBERS[A]), a_healthy_three().seeing(fleet=listed))

    def test_a_forgotten_instance_may_go_on_two_looks_and_an_hour(self) -> None:
        listed = fleet(instance(A), instance(B), unheard_of=frozenset({C}))
        example = self.gone.seeing(fleet=listed)
        assert not vetoed(RemoveMember(MEMBERS[C]), example.remembering(unheard_of={C: 2}))
        assert vetoed(RemoveMember(MEMBERS[C]), example.remembering(unheard_of={C: 1}))
        assert vetoed(RemoveMember(MEMBERS[C]), example.remembering(unheard_of={C: 2}, seen_since={}))
        assert vetoed(
            RemoveMember(MEMBERS[C]),
            example.seeing(fleet=fleet(unheard_of=frozenset({A, C}))).remembering(unheard_of={C: 2}),
        )

    def test_our_own_entry_may_go_once_the_disk_is_empty(self) -> None:
        wiped = a_newcomer(C).seeing(membership=membership(voter(A), voter(B), voter(C)))
        assert not vetoed(RemoveMember(MEMBERS[C]), wiped)
        assert vetoed(RemoveMember(MEMBERS[C]), wiped.seeing(disk=Disk(identity(C), Data.PRESENT)))

    def test_an_unstarted_voter_may_go_only_from_our_own_address(self) -> None:
        def pending(name: str) -> Member:
            return replace(unstarted(D if name == "ours" else E), is_learner=False)

        ours = a_newcomer().seeing(membership=membership(voter(A), voter(B), pending("ours")))
        others = a_newcomer().seeing(membership=membership(voter(A), voter(B), pending("theirs")))
        assert not vetoed(RemoveMember(MEMBERS[D]), ours)
        assert vetoed(RemoveMember(MEMBERS[E]), others)


class TestAdding:
    ready = a_newcomer().seeing(disk=Disk(identity(D, Stage.ADDING), Data.EMPTY))

    def test_a_prepared_disk_may_ask(self) -> None:
        assert not vetoed(AddLearner(peer(D)), self.ready)

    def test_nobody_else_may(self) -> None:
        assert vetoed(AddLearner(peer(D)), self.ready.seeing(membership=TIMEOUT))
        assert vetoed(AddLearner(peer(D)), self.ready.seeing(disk=TIMEOUT))
        assert vetoed(AddLearner(peer(D)), self.ready.seeing(disk=Disk(None, Data.EMPTY)))
        assert vetoed(AddLearner(peer(D)), self.ready.seeing(disk=Disk(identity(D, Stage.ADDING), Data.PRESENT)))

    def test_not_twice_and_not_beside_another(self) -> None:
        twice = self.ready.seeing(membership=membership(voter(A), voter(B), unstarted(D)))
        assert vetoed(AddLearner(peer(D)), twice)
        assert vetoed(AddLearner(peer(D)), self.ready.seeing(membership=membership(voter(A), learner(E))))


def test_only_a_listed_learner_is_promoted() -> None:
    assert not vetoed(PromoteMember(MEMBERS[D]), a_learner())
    assert vetoed(PromoteMember(MEMBERS[B]), a_learner())
    assert vetoed(PromoteMember(MEMBERS[E]), a_learner())
    assert vetoed(PromoteMember(MEMBERS[D]), a_learner().seeing(membership=TIMEOUT))


def test_only_a_listed_voter_is_moved() -> None:
    assert not vetoed(UpdatePeerUrl(MEMBERS[B], peer(E)), a_stopped_member())
    assert vetoed(UpdatePeerUrl(MEMBERS[D], peer(E)), a_learner())
    assert vetoed(UpdatePeerUrl(MEMBERS[B], peer(E)), a_stopped_member().seeing(membership=TIMEOUT))


class TestSettingAside:
    fenced = a_stopped_member().seeing(disk=Disk(identity(B, Stage.FENCED), Data.PRESENT))

    def test_only_what_is_fenced_is_stopped_or_moved(self) -> None:
        assert not vetoed(Quarantine("fenced"), self.fenced)
        assert not vetoed(StopEtcd("fenced"), self.fenced.seeing(process=EtcdRunning(1)))
        for example in (a_healthy_three(), a_stopped_member(), self.fenced.seeing(disk=TIMEOUT)):
            assert vetoed(StopEtcd("why not"), example)
            assert vetoed(Quarantine("why not"), example)

    def test_nothing_is_moved_under_a_running_or_unknown_etcd(self) -> None:
        assert vetoed(Quarantine("fenced"), self.fenced.seeing(process=EtcdRunning(1)))
        assert vetoed(Quarantine("fenced"), self.fenced.seeing(process=TIMEOUT))


class TestFencing:
    stamp = StampIdentity(identity(B, Stage.FENCED))

    def test_a_newer_generation_a_list_without_us_or_a_learner_may_be_fenced(self) -> None:
        newer = a_stopped_member().seeing(head=record(D, E, generation=2))
        removed = a_stopped_member().seeing(membership=membership(voter(A), voter(C)))
        assert not vetoed(self.stamp, newer)
        assert not vetoed(self.stamp, removed)
        assert not vetoed(self.stamp, a_stopped_member().seeing(membership=membership(voter(A), learner(B))))

    def test_nobody_else_may(self) -> None:
        assert vetoed(self.stamp, a_stopped_member())
        assert vetoed(self.stamp, a_stopped_member().seeing(membership=TIMEOUT, head=TIMEOUT))
        assert vetoed(self.stamp, a_stopped_member().seeing(disk=Disk(None, Data.PRESENT)))
        assert vetoed(self.stamp, a_stopped_member().seeing(disk=TIMEOUT))

    def test_a_list_does_not_fence_who_runs(self) -> None:
        running = a_healthy_three(seen_by=B).seeing(membership=membership(voter(A), voter(C)))
        assert vetoed(self.stamp, running)

    def test_a_founder_without_a_member_id_is_looked_for_by_name(self) -> None:
        early = a_stopped_member().seeing(disk=Disk(identity(B, Stage.STARTING), Data.PRESENT))
        stamp = StampIdentity(identity(B, Stage.FENCED))
        assert vetoed(stamp, early)
        assert not vetoed(stamp, early.seeing(membership=membership(voter(A), voter(C))))


class TestStamping:
    def test_data_never_changes_hands(self) -> None:
        for stage in (Stage.STARTING, Stage.ADDING):
            assert vetoed(StampIdentity(identity(B, stage, nonce=NONCE)), a_stopped_member())
        assert vetoed(StampIdentity(identity(B, Stage.MEMBER, generation=2)), a_stopped_member())
        assert vetoed(StampIdentity(identity(B)), a_stopped_member().seeing(disk=Disk(None, Data.PRESENT)))
        assert not vetoed(StampIdentity(replace(identity(B), peer_url=peer(D))), a_stopped_member())

    def test_a_fenced_disk_never_comes_back(self) -> None:
        example = a_stopped_member().seeing(disk=Disk(identity(B, Stage.FENCED), Data.PRESENT))
        assert vetoed(StampIdentity(identity(B, Stage.MEMBER)), example)

    def test_nobody_enters_a_generation_that_is_not_the_newest_we_know(self) -> None:
        example = a_newcomer().seeing(disk=Disk(None, Data.ABSENT))
        assert vetoed(StampIdentity(identity(D, Stage.ADDING, generation=0)), example)
        assert not vetoed(StampIdentity(identity(D, Stage.ADDING, generation=1)), example)

    def test_a_member_of_an_older_one_may_still_be_written_down(self) -> None:
        newer = record(D, E, generation=2)
        example = a_healthy_three().remembering(head=newer)
        assert not vetoed(StampIdentity(identity(A)), example)


class TestStartingNew:
    def test_with_claim_nonce_and_an_empty_disk(self) -> None:
        assert not vetoed(StartEtcd(NEW), a_founder_with_its_claim())

    def test_never_without_the_claim_or_with_somebody_elses(self) -> None:
        assert vetoed(StartEtcd(NEW), a_prepared_founder())
        assert vetoed(StartEtcd(NEW), a_founder_with_its_claim().seeing(claim=TIMEOUT))
        assert vetoed(StartEtcd(NEW), a_founder_with_its_claim().seeing(claim=claim(A, NONCE)))

    def test_never_once_the_seat_was_given_up(self) -> None:
        joins = Disk(identity(A, Stage.ADDING), Data.EMPTY)
        assert vetoed(StartEtcd(NEW), a_founder_with_its_claim().seeing(disk=joins))

    def test_never_with_data_or_on_a_disk_that_was_lost(self) -> None:
        for disk in (
            Disk(identity(A, Stage.STARTING), Data.PRESENT),
            Disk(identity(A, Stage.STARTING), Data.ABSENT),
            Disk(None, Data.EMPTY),
            TIMEOUT,
        ):
            assert vetoed(StartEtcd(NEW), a_founder_with_its_claim().seeing(disk=disk))

    def test_never_for_another_generation_or_as_somebody_not_named(self) -> None:
        assert vetoed(StartEtcd(NEW), a_founder_with_its_claim().seeing(head=record(A, B, C, generation=2)))
        assert vetoed(StartEtcd(NEW), a_founder_with_its_claim().seeing(head=record(B, C)))
        assert vetoed(StartEtcd(NEW), a_founder_with_its_claim().seeing(head=TIMEOUT))

    def test_never_twice(self) -> None:
        assert vetoed(StartEtcd(NEW), a_founder_with_its_claim().seeing(process=EtcdRunning(1)))


class TestStartingExisting:
    def test_on_our_own_data_or_under_an_unstarted_entry(self) -> None:
        joining = a_newcomer().seeing(
            disk=Disk(identity(D, Stage.JOINING), Data.EMPTY), membership=membership(voter(A), unstarted(D))
        )
        assert not vetoed(StartEtcd(EXISTING), a_stopped_member())
        assert not vetoed(StartEtcd(EXISTING), joining)
        assert vetoed(StartEtcd(EXISTING), joining.seeing(membership=membership(voter(A), learner(D))))
        assert vetoed(StartEtcd(EXISTING), joining.seeing(membership=TIMEOUT))

    def test_never_fenced_running_unsigned_or_behind_the_head(self) -> None:
        stopped = a_stopped_member()
        assert vetoed(StartEtcd(EXISTING), stopped.seeing(disk=Disk(identity(B, Stage.FENCED), Data.PRESENT)))
        assert vetoed(StartEtcd(EXISTING), stopped.seeing(process=EtcdRunning(1)))
        assert vetoed(StartEtcd(EXISTING), stopped.seeing(disk=Disk(None, Data.PRESENT)))
        assert vetoed(StartEtcd(EXISTING), stopped.seeing(disk=TIMEOUT))
        assert vetoed(StartEtcd(EXISTING), stopped.seeing(head=record(D, E, generation=2)))
        assert vetoed(StartEtcd(EXISTING), stopped.seeing(head=None))

    def test_while_the_bucket_is_unreadable_in_place(self) -> None:
        assert not vetoed(StartEtcd(EXISTING), a_stopped_member().seeing(head=TIMEOUT))


class TestCreating:
    ready = before_the_first_generation()

    def test_an_empty_bucket_and_empty_disks(self) -> None:
        assert not vetoed(CreateGeneration(record(A, B, C)), self.ready)

    def test_never_beside_a_generation_snapshots_or_data(self) -> None:
        create = CreateGeneration(record(A, B, C))
        assert vetoed(create, self.ready.seeing(head=record(A, B, C)))
        assert vetoed(create, self.ready.seeing(head=TIMEOUT))
        assert vetoed(create, self.ready.seeing(snapshots=(a_snapshot(),)))
        assert vetoed(create, self.ready.seeing(snapshots=TIMEOUT))
        assert vetoed(create, self.ready.seeing(disk=Disk(identity(A), Data.PRESENT)))
        assert vetoed(create, self.ready.seeing(disk=TIMEOUT))
        assert vetoed(create, self.ready.seeing(reports=(filed(A), filed(B), filed(C, "intact"))))
        assert vetoed(create, self.ready.seeing(reports=TIMEOUT))

    def test_never_beside_data_that_can_come_back(self) -> None:
        create = CreateGeneration(record(A, B, C))
        on_d = self.ready.seeing(reports=(filed(A), filed(B), filed(C), filed(D, "intact")))
        old = self.ready.seeing(reports=(filed(A), filed(B), filed(C), filed(D, "intact", age_seconds=9000)))
        ended = fleet(*map(instance, (A, B, C)), instance(D, InstanceState.TERMINATED))
        assert vetoed(create, on_d), "it is not listed, and spoke just now"
        assert vetoed(create, on_d.seeing(fleet=TIMEOUT).remembering(fleet=None)), "nobody knows how it is"
        assert not vetoed(create, on_d.seeing(fleet=ended)), "it is gone for good"
        assert not vetoed(create, old), "it is not listed, and has been silent for hours"

    def test_never_in_a_bucket_that_is_not_proven(self) -> None:
        create = CreateGeneration(record(A, B, C))
        assert vetoed(create, self.ready.seeing(bucket=TIMEOUT))
        assert vetoed(create, self.ready.seeing(bucket=BucketUnsound("ignores", "use S3")))

    def test_never_with_founders_that_nobody_heard(self) -> None:
        assert vetoed(CreateGeneration(record(A, B, D)), self.ready)
        assert vetoed(CreateGeneration(replace(record(A), founders={})), self.ready)

    def test_never_a_later_one(self) -> None:
        assert vetoed(CreateGeneration(record(A, B, C, generation=2)), self.ready)


class TestClaiming:
    def test_a_prepared_founder_may(self) -> None:
        assert not vetoed(WriteClaim(FIRST, claim(A)), a_prepared_founder())

    def test_nobody_else_may(self) -> None:
        write = WriteClaim(FIRST, claim(A))
        assert vetoed(write, a_founder_with_its_claim())
        assert vetoed(write, a_prepared_founder().seeing(claim=TIMEOUT))
        assert vetoed(write, a_prepared_founder().seeing(head=record(B, C)))
        assert vetoed(write, a_prepared_founder().seeing(head=TIMEOUT))
        assert vetoed(write, a_prepared_founder().seeing(disk=Disk(identity(A, Stage.STARTING), Data.ABSENT)))
        assert vetoed(write, a_prepared_founder().seeing(disk=TIMEOUT))

    def test_never_with_a_nonce_that_is_not_the_disks(self) -> None:
        assert vetoed(WriteClaim(FIRST, claim(A, NONCE)), a_prepared_founder())
        assert vetoed(WriteClaim(FIRST, claim(B)), a_prepared_founder())
        assert vetoed(WriteClaim(FIRST, claim(A)), a_prepared_founder().seeing(disk=Disk(None, Data.EMPTY)))


class TestSucceeding:
    """Writing the record that replaces a generation: each demand vetoes alone."""

    ready = with_nobody_left().seeing(disk=Disk(None, Data.ABSENT, seeds=frozenset({manifest().sha256})))
    create = CreateGeneration(replace(record(D, E, generation=2), seed=seed(manifest())))

    def of(self, **changes: Any) -> CreateGeneration:
        return CreateGeneration(replace(self.create.record, **changes))

    def test_a_lost_generation_may_be_replaced_from_a_verified_snapshot(self) -> None:
        assert not vetoed(self.create, self.ready)

    def test_only_by_the_next_one(self) -> None:
        for number in (1, 3):
            assert vetoed(self.of(generation=number), self.ready)
        assert vetoed(self.create, self.ready.seeing(head=TIMEOUT))

    def test_only_from_what_this_agent_has_verified(self) -> None:
        assert vetoed(self.create, self.ready.seeing(disk=Disk(None, Data.ABSENT)))
        assert vetoed(self.create, self.ready.seeing(disk=TIMEOUT))

    def test_never_empty_where_there_was_something(self) -> None:
        empty = self.of(seed=None)
        assert vetoed(empty, self.ready)
        assert vetoed(empty, self.ready.seeing(formed=None, head=replace(record(A), seed=seed(manifest()))))
        damaged = fresh(holding(A, data=Holding.DAMAGED, members=(), position=None), nothing(D), nothing(E))
        here = fleet(*map(instance, (A, D, E)))
        assert vetoed(empty, self.ready.seeing(formed=None, fleet=here, reports=damaged))
        assert not vetoed(empty, self.ready.seeing(formed=None))

    @pytest.mark.parametrize("field", ["fleet", "reports", "exclusions"])
    def test_never_while_it_is_not_known_who_is_here(self, field: str) -> None:
        assert vetoed(self.create, self.ready.seeing(**{field: TIMEOUT}))

    @pytest.mark.parametrize(
        "state",
        [
            InstanceState.RUNNING,
            InstanceState.PENDING,
            InstanceState.STOPPED,
            InstanceState.STOPPING,
            InstanceState.SHUTTING_DOWN,
        ],
    )
    def test_never_while_anybody_is_unheard_that_lives_or_is_dying(self, state: InstanceState) -> None:
        listed = fleet(instance(A, state), *map(instance, (D, E)))
        assert vetoed(self.create, self.ready.seeing(fleet=listed))
        old = fresh(nothing(D), nothing(E)) + fresh(nothing(A), age_seconds=61)
        assert vetoed(self.create, self.ready.seeing(fleet=listed, reports=old))
        off = (Exclusion(A, "burned", "admin", NOW),)
        assert not vetoed(self.create, self.ready.seeing(fleet=listed, exclusions=off))

    @pytest.mark.parametrize("sight", [Sight.LEADER, Sight.LEADERLESS, Sight.UNTOLD])
    def test_never_while_anybody_may_see_a_leader(self, sight: Sight) -> None:
        assert vetoed(self.create, self.ready.seeing(reports=fresh(nothing(D, sight=sight), nothing(E))))

    def test_never_while_a_founder_may_still_start(self) -> None:
        assert vetoed(self.create, self.ready.seeing(reports=fresh(nothing(D, seat=Seat.OPEN), nothing(E))))

    def test_never_while_a_list_finds_a_majority(self) -> None:
        two = fresh(holding(D, A, E, trouble="x"), holding(E, A, D, trouble="x"))
        assert vetoed(self.create, self.ready.seeing(reports=two))

    def test_never_while_a_named_member_is_nowhere(self) -> None:
        alone = fresh(holding(D, A, B, C, trouble="x", members=(*map(entry, (A, B, D)), ghost)), nothing(E))
        assert vetoed(self.create, self.ready.seeing(reports=alone))
        gone = fleet(*(instance(each, InstanceState.TERMINATED) for each in (A, B)), instance(D), instance(E))
        known = replace(gone, unheard_of=frozenset({InstanceId(ghost.name)}))
        assert not vetoed(self.create, self.ready.seeing(reports=alone, fleet=known))


class TestTheSource:
    """No snapshot where a survivor has more."""

    ready = a_lost_three(D).seeing(disk=Disk(None, Data.ABSENT, seeds=frozenset({manifest().sha256})))

    @staticmethod
    def from_(of: Manifest, source: str = "snapshot") -> CreateGeneration:
        return CreateGeneration(replace(record(D, E, generation=2), seed=seed(of, source)))

    def test_a_survivor_comes_first(self) -> None:
        assert vetoed(self.from_(manifest()), self.ready)

    def test_its_own_rescue_may_be_used(self) -> None:
        made = rescue_of(holding(A, B, C))
        for seen in ({"manifest": made}, {"work": Ended(TakeSnapshot(FIRST), NOW, NOW, manifest=made)}):
            example = a_lost_three(A).seeing(**seen)
            assert not vetoed(self.from_(made, "survivor i-a"), example)
            assert vetoed(self.from_(made, "survivor i-b"), example.seeing(manifest=TIMEOUT))

    def test_so_may_a_snapshot_that_covers_its_log(self) -> None:
        covers = manifest(raft_index=1000)
        assert not vetoed(self.from_(covers), self.ready.seeing(manifest=covers))
        for other in (
            replace(covers, raft_index=999),
            replace(covers, cluster_id=OTHER_CLUSTER),
            manifest(snapshot_name(1), raft_index=1000, sha256=covers.sha256),
            TIMEOUT,
        ):
            assert vetoed(self.from_(covers), self.ready.seeing(manifest=other))
        assert vetoed(CreateGeneration(record(D, E, generation=2)), self.ready.seeing(manifest=covers))

    def test_what_cannot_be_rescued_stands_in_nobodys_way(self) -> None:
        for report in (
            holding(A, B, C, trouble="etcd panics"),
            holding(A, data=Holding.DAMAGED, position=None, members=()),
        ):
            example = self.ready.seeing(reports=fresh(report, nothing(D), nothing(E)))
            assert not vetoed(self.from_(manifest()), example)


class TestStoppingASurvivor:
    stop = StopEtcd("rescue")

    def test_of_a_lost_generation_for_its_log(self) -> None:
        assert not vetoed(self.stop, a_lost_three(A))

    def test_never_beside_a_quorum_unheard_or_unproven(self) -> None:
        assert vetoed(self.stop, a_lost_three(A).seeing(membership=a_healthy_three().o.membership))
        assert vetoed(self.stop, a_lost_three(A).seeing(reports=fresh(nothing(D), nothing(E))))
        assert vetoed(self.stop, a_lost_three(A).seeing(reports=fresh(holding(A, B, C), nothing(D))))
        assert vetoed(self.stop, a_healthy_three())


class TestRestoring:
    restored = Disk(identity(D, Stage.STARTING, generation=2), Data.EMPTY, restored=frozenset({OLD_NONCE}))
    ready = a_founder_that_restores().seeing(disk=restored)
    put = PutInPlace(OLD_NONCE)

    def test_what_was_restored_for_the_claim_may_be_put_in_place(self) -> None:
        assert not vetoed(self.put, self.ready)

    @pytest.mark.parametrize(
        "changes",
        [
            {"process": EtcdRunning(1)},
            {"process": TIMEOUT},
            {"disk": replace(restored, data=Data.PRESENT)},
            {"disk": replace(restored, data=Data.ABSENT)},
            {"disk": replace(restored, restored=frozenset())},
            {"disk": replace(restored, identity=None)},
            {"disk": replace(restored, identity=identity(D, Stage.ADDING, generation=2))},
            {"disk": replace(restored, identity=identity(D, Stage.STARTING, generation=2, nonce=NONCE))},
            {"disk": replace(restored, identity=identity(D, Stage.STARTING, generation=1))},
            {"disk": TIMEOUT},
            {"claim": None},
            {"claim": TIMEOUT},
            {"claim": claim(D, NONCE)},
            {"head": TIMEOUT},
            {"head": record(A, D, E, generation=2)},
            {"head": replace(the_next(), founders={A: peer(A)})},
        ],
        ids=str,
    )
    def test_never_otherwise(self, changes: Any) -> None:
        assert vetoed(self.put, self.ready.seeing(**changes))

    def test_a_generation_with_a_seed_never_starts_as_new(self) -> None:
        launch = Launch(D, peer(D), "new", "token", ())
        assert vetoed(StartEtcd(launch), self.ready)
        head = replace(the_next(), seed=None)
        assert not vetoed(StartEtcd(launch), self.ready.seeing(head=head))


class TestTasks:
    def test_a_log_is_copied_only_where_nothing_writes_to_it(self) -> None:
        rescue = BeginTask(RescueLog(FIRST, Rescued(A, MEMBERS[A], POSITION)))
        assert not vetoed(rescue, a_stopped_member())
        assert vetoed(rescue, a_healthy_three())
        assert vetoed(rescue, a_stopped_member().seeing(process=TIMEOUT))

    def test_whatever_only_reads_meets_no_objection(self) -> None:
        for task in (TakeSnapshot(FIRST), FetchSeed(manifest()), Drill(snapshot_name())):
            assert not vetoed(BeginTask(task), a_healthy_three())


class TestExpiring:
    old, young = snapshot_name(700, minutes_ago=90), snapshot_name(800)
    listed = a_healthy_three().seeing(snapshots=(a_snapshot(old), a_snapshot(young)))

    def test_what_is_behind_a_newer_one_may_go(self) -> None:
        assert not vetoed(ExpireSnapshots((self.old,)), self.listed)

    def test_never_the_newest_or_all(self) -> None:
        assert vetoed(ExpireSnapshots((self.young,)), self.listed)
        assert vetoed(ExpireSnapshots((self.old, self.young)), self.listed)

    def test_never_on_the_strength_of_one_that_is_bad(self) -> None:
        bad = self.listed.seeing(snapshots=(a_snapshot(self.old), a_snapshot(self.young, bad=True)))
        assert vetoed(ExpireSnapshots((self.old,)), bad)

    def test_never_the_heads_seed(self) -> None:
        head = replace(record(A), seed=seed(manifest(self.old)))
        assert vetoed(ExpireSnapshots((self.old,)), self.listed.remembering(head=head))

    def test_never_blindly(self) -> None:
        assert vetoed(ExpireSnapshots((self.old,)), self.listed.seeing(snapshots=TIMEOUT))
        assert vetoed(ExpireSnapshots((self.old,)), self.listed.remembering(head=None))


def test_only_a_ghosts_alarm_for_want_of_space_is_taken_back() -> None:
    ghost = Alarm(MemberId(0xDEAD), AlarmKind.NOSPACE)
    assert not vetoed(Disarm(ghost), a_healthy_three())
    assert vetoed(Disarm(replace(ghost, member=MEMBERS[B])), a_healthy_three())
    assert vetoed(Disarm(replace(ghost, kind=AlarmKind.CORRUPT)), a_healthy_three())
    assert vetoed(Disarm(ghost), a_healthy_three().seeing(membership=TIMEOUT))
