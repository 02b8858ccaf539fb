"""A generation that is proven lost: from the best source there is to the record of the next, one step a round."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent.decide.recovering import STAY_DOWN
from agent.model.actions import (
    BeginTask,
    Blocker,
    CallHuman,
    CreateGeneration,
    MarkBad,
    Quarantine,
    StampIdentity,
    StopEtcd,
    Wait,
    WriteClaim,
)
from agent.model.disk import Data, Disk, EtcdStopped, Stage
from agent.model.fleet import InstanceState
from agent.model.generation import Exclusion, GenerationRecord, Holding, Seat
from agent.model.ids import GenerationNumber, InstanceId
from agent.model.known import NOT_ASKED, Ignorance, Unknown
from agent.model.members import LogPosition
from agent.model.observation import BucketUnsound
from agent.model.snapshot import Origin, Rescued, SnapshotName
from agent.model.work import Ended, FetchSeed, RescueLog, TakeSnapshot, Task, Working
from tests.decide.examples import (
    A_MINUTE_AGO,
    LONG_AGO,
    MEMBERS,
    NONCE,
    NOW,
    OTHER_CLUSTER,
    POSITION,
    SILENT,
    THROTTLED,
    TIMEOUT,
    A,
    B,
    C,
    D,
    E,
    Example,
    a_founder,
    a_healthy_three,
    a_lost_three,
    a_snapshot,
    a_stopped_member,
    claim,
    fleet,
    formed,
    fresh,
    holding,
    identity,
    instance,
    manifest,
    me,
    never_formed,
    nothing,
    peer,
    record,
    rescue_of,
    seed,
    seen_by_a_survivor,
    snapshot_name,
    status,
    the_next,
    with_nobody_left,
)

TAIL = LogPosition(last_term=7, last_index=1004, committed_index=1000)
"""Four entries that nobody here knows to be committed: a majority may have had them, and acknowledged them."""
OF_A = Rescued(A, MEMBERS[A], POSITION)
FULL_DISK = Unknown(Ignorance.FAILED, "no space left on device")
CORRUPT = Unknown(Ignorance.MALFORMED, "its digest differs")


def ended(task: Task, trouble: Unknown | None = None, *, seconds_ago: float = 60, **more: Any) -> Ended:
    return Ended(task, LONG_AGO, NOW - timedelta(seconds=seconds_ago), trouble, **more)


def waiting(example: Example, blocker: Blocker, *words: str) -> bool:
    decision = example.carried_out
    assert decision.action == Wait(blocker), decision
    assert all(word in decision.because for word in words), decision.because
    return True


def task_of(example: Example) -> Task:
    action = example.action
    assert isinstance(action, BeginTask), example.carried_out
    return action.task


def next_of(example: Example) -> GenerationRecord:
    action = example.action
    assert isinstance(action, CreateGeneration), example.carried_out
    return action.record


def with_a_tail(*, running: bool = True) -> Example:
    """A's log has more than its etcd has applied."""
    report = holding(A, B, C, position=TAIL, running=running)
    example = seen_by_a_survivor(a_lost_three(), report).seeing(reports=fresh(report, nothing(D), nothing(E)))
    return example if running else example.seeing(process=EtcdStopped(), local=NOT_ASKED, own_list=NOT_ASKED)


# ---- from a survivor's log


class TestTheSurvivor:
    def test_an_etcd_that_serves_all_it_has_is_streamed_as_it_runs(self) -> None:
        assert task_of(a_lost_three(A)) == TakeSnapshot(GenerationNumber(1), Origin.RESCUE, OF_A)

    def test_one_whose_log_has_more_is_stopped_first(self) -> None:
        """With SIGTERM: a kill would lose what etcd keeps in its buffers."""
        assert with_a_tail().action == StopEtcd("rescue")

    def test_then_a_copy_of_its_data_is_run_alone(self) -> None:
        assert task_of(with_a_tail(running=False)) == RescueLog(GenerationNumber(1), replace(OF_A, position=TAIL))

    def test_one_that_was_restarted_answers_nothing_and_is_stopped_too(self) -> None:
        report = holding(A, B, C, running=False)
        example = a_lost_three(A).seeing(local=TIMEOUT, own_list=NOT_ASKED, reports=fresh(report, nothing(D)))
        both_here = fleet(instance(A), *(instance(each, InstanceState.TERMINATED) for each in (B, C)), instance(D))
        assert example.seeing(fleet=both_here).action == StopEtcd("rescue")

    def test_while_the_copy_runs_the_original_stays_stopped_whatever_else_is_unknown(self) -> None:
        working = Working(RescueLog(GenerationNumber(1), OF_A), A_MINUTE_AGO, 3_000_000)
        example = with_a_tail(running=False).seeing(work=working)
        assert waiting(example, Blocker.RESCUE, "RescueLog, 3 MB so far")
        blind = example.seeing(fleet=THROTTLED, reports=THROTTLED, head=THROTTLED)
        assert waiting(blind.remembering(proven_lost_at=None), Blocker.RESCUE)

    def test_a_stream_under_way_is_waited_for(self) -> None:
        example = a_lost_three(A).seeing(work=Working(TakeSnapshot(GenerationNumber(1), Origin.RESCUE, OF_A), NOW))
        assert waiting(example, Blocker.RESCUE, "TakeSnapshot")

    def test_a_failure_that_may_pass_is_tried_again_ever_more_slowly(self) -> None:
        failed = ended(RescueLog(GenerationNumber(1), OF_A), FULL_DISK, seconds_ago=3)
        example = with_a_tail(running=False).seeing(work=failed)
        assert isinstance(task_of(example.remembering(failures=1)), RescueLog)
        assert waiting(example.remembering(failures=2), Blocker.RESCUE, "no space left")
        assert waiting(
            example.seeing(work=replace(failed, at=NOW - timedelta(seconds=59))).remembering(failures=99),
            Blocker.RESCUE,
        )

    def test_what_is_rescued_becomes_the_seed_of_the_next_generation(self) -> None:
        made = rescue_of(holding(A, B, C))
        done = ended(TakeSnapshot(GenerationNumber(1), Origin.RESCUE, OF_A), manifest=made)
        created = next_of(a_lost_three(A).seeing(work=done))
        assert created.generation == 2
        assert created.seed == seed(made, "survivor i-a")
        assert created.founders == {A: peer(A), D: peer(D), E: peer(E)}
        assert created.token == f"prod-000002-{NONCE[:8]}"
        assert created.cause.kind == "quorum-lost"
        assert created.cause.evidence["judged_by"] == A

    def test_an_agent_that_was_restarted_finds_the_rescue_by_its_manifest(self) -> None:
        made = rescue_of(holding(A, B, C))
        found = a_lost_three(A).seeing(snapshots=(a_snapshot(), a_snapshot(made.name)), manifest=made)
        assert next_of(found).seed == seed(made, "survivor i-a")

    def test_a_rescue_of_a_shorter_log_is_not_this_ones(self) -> None:
        """It was made before a leader was found once more, and the log went on."""
        made = rescue_of(holding(A, B, C, position=replace(POSITION, last_index=900)))
        example = a_lost_three(A).seeing(snapshots=(a_snapshot(made.name),), manifest=made)
        assert isinstance(task_of(example), TakeSnapshot)

    def test_a_fetch_of_before_is_no_rescue(self) -> None:
        assert isinstance(task_of(a_lost_three(A).seeing(work=ended(FetchSeed(manifest())))), TakeSnapshot)


class TestWhoseLog:
    @staticmethod
    def five(*more: Any, seen_by: InstanceId = A) -> Example:
        """A and B are left of A, B, C, D and E."""
        dead = (instance(each, InstanceState.TERMINATED) for each in (C, D, E))
        example = a_lost_three(A).seeing(fleet=fleet(instance(A), instance(B), *dead, desired=5))
        return seen_by_a_survivor(example, more[0] if seen_by == A else more[1]).seeing(reports=fresh(*more))

    def test_the_longer_log_is_the_more_complete(self) -> None:
        a = holding(A, B, C, D, E)
        b = holding(B, A, C, D, E, position=replace(POSITION, last_index=1001))
        assert waiting(self.five(a, b), Blocker.RESCUE, "i-b has the most complete log", "index 1001")
        assert self.five(a, b, seen_by=B).action == StopEtcd("rescue")

    def test_a_higher_last_term_counts_for_more_than_length(self) -> None:
        a = holding(A, B, C, D, E)
        b = holding(B, A, C, D, E, position=LogPosition(6, 2000, 999))
        assert isinstance(self.five(a, b).action, BeginTask)

    def test_two_that_are_equal_do_not_take_turns(self) -> None:
        """Whether an etcd runs is changed by its rescue: had it a part in the choice, both would be stopped."""
        a = holding(A, B, C, D, E)
        for running in (True, False):
            b = holding(B, A, C, D, E, running=running)
            assert waiting(self.five(a, b), Blocker.RESCUE, "i-b has")

    def test_what_cannot_be_rescued_there_is_rescued_from_the_next(self) -> None:
        """Less complete, and still more than any snapshot."""
        b = holding(B, A, C, D, E, position=LogPosition(7, 1010, 1010), trouble="etcd panics on it")
        assert isinstance(task_of(self.five(holding(A, B, C, D, E), b)), TakeSnapshot)

    def test_a_definite_no_is_told_to_the_others(self) -> None:
        """And not forgotten when the next task begins; see test_memory."""
        example = a_lost_three(A).remembering(rescue_trouble="etcd panics on it")
        decision = example.carried_out
        assert decision.rule == "file-report"
        told = holding(A, B, C, trouble="etcd panics on it")
        heard = example.seeing(reports=fresh(told, nothing(D), nothing(E)))
        assert task_of(heard) == FetchSeed(manifest()), "nobody else has any: the newest snapshot it is"

    def test_damaged_data_is_no_source(self) -> None:
        a = holding(A, data=Holding.DAMAGED, position=None, running=False, members=(), trouble="a checksum")
        example = a_lost_three(D).seeing(reports=fresh(a, nothing(D), nothing(E)))
        assert task_of(example) == FetchSeed(manifest())


class TestBehindASnapshot:
    """Whoever was stopped for days and is the only one left has less than the snapshot of five minutes ago."""

    newer = manifest(raft_index=1000)

    def test_the_snapshot_is_taken(self) -> None:
        for seen_by in (A, D):
            assert task_of(a_lost_three(seen_by).seeing(manifest=self.newer)) == FetchSeed(self.newer)

    def test_and_creates_the_next_generation_without_an_objection(self) -> None:
        here = a_lost_three(D).seeing(
            manifest=self.newer, disk=Disk(None, Data.ABSENT, seeds=frozenset({self.newer.sha256}))
        )
        assert next_of(here).seed == seed(self.newer)

    def test_not_where_the_log_reaches_one_entry_further(self) -> None:
        assert isinstance(task_of(a_lost_three(A).seeing(manifest=replace(self.newer, raft_index=999))), TakeSnapshot)

    @pytest.mark.parametrize("cluster_id", [OTHER_CLUSTER, None])
    def test_not_where_indices_mean_something_else(self, cluster_id: Any) -> None:
        foreign = replace(self.newer, cluster_id=cluster_id)
        assert isinstance(task_of(a_lost_three(A).seeing(manifest=foreign)), TakeSnapshot)

    def test_a_rescue_of_that_very_log_is_its_own(self) -> None:
        made = rescue_of(holding(A, B, C))
        example = a_lost_three(D).seeing(snapshots=(a_snapshot(made.name),), manifest=made)
        assert waiting(example, Blocker.RESCUE, "i-a has the most complete log")

    @pytest.mark.parametrize("seen_by", [A, D])
    @pytest.mark.parametrize("field", ["snapshots", "manifest"])
    def test_while_it_is_not_known_what_there_is_nothing_is_chosen(self, field: str, seen_by: InstanceId) -> None:
        assert waiting(a_lost_three(seen_by).seeing(**{field: THROTTLED}), Blocker.IGNORANCE, "throttled")


# ---- from a snapshot


class TestTheNewestSnapshot:
    def test_everybody_fetches_it(self) -> None:
        for name in (D, E):
            assert task_of(with_nobody_left(name)) == FetchSeed(manifest())

    def test_while_it_is_fetched_the_round_tells_how_far(self) -> None:
        example = with_nobody_left().seeing(work=Working(FetchSeed(manifest()), NOW, 5_000_000))
        assert waiting(example, Blocker.RESTORE, "5 MB")

    def test_who_has_it_first_writes_the_record(self) -> None:
        here = Disk(None, Data.ABSENT, seeds=frozenset({manifest().sha256}))
        created = next_of(with_nobody_left().seeing(disk=here, work=ended(FetchSeed(manifest()))))
        assert created.seed == seed(manifest())
        assert list(created.founders) == [D, E]

    def test_a_store_that_is_out_is_asked_again(self) -> None:
        failed = ended(FetchSeed(manifest()), THROTTLED, seconds_ago=1)
        example = with_nobody_left().seeing(work=failed).remembering(failures=1)
        assert waiting(example, Blocker.RESTORE, "throttled")
        assert task_of(example.seeing(work=replace(failed, at=NOW - timedelta(seconds=2)))) == FetchSeed(manifest())

    def test_one_that_is_not_what_it_should_be_is_marked(self) -> None:
        bad = ended(FetchSeed(manifest()), CORRUPT, final=True)
        assert with_nobody_left().seeing(work=bad).action == MarkBad(snapshot_name(), "its digest differs")

    def test_and_the_next_best_is_taken(self) -> None:
        older = snapshot_name(700, minutes_ago=9)
        example = with_nobody_left().seeing(
            work=ended(FetchSeed(manifest()), CORRUPT, final=True),
            snapshots=(a_snapshot(older), a_snapshot(bad=True)),
            manifest=manifest(older),
        )
        assert task_of(example) == FetchSeed(manifest(older))

    def test_a_manifest_that_makes_no_sense_marks_it_too(self) -> None:
        garbled = Unknown(Ignorance.MALFORMED, "field 'sha256'")
        assert with_nobody_left().seeing(manifest=garbled).action == MarkBad(snapshot_name(), "field 'sha256'")

    @pytest.mark.parametrize(
        ("found", "said"), [(None, "gone"), (TIMEOUT, "timeout"), (manifest(snapshot_name(1)), "0000001-")]
    )
    def test_a_manifest_that_is_not_there_yet_is_looked_for_again(self, found: Any, said: str) -> None:
        """It was read as true or false once, which no Unknown is: every round of the recovery failed."""
        assert waiting(with_nobody_left().seeing(manifest=found), Blocker.IGNORANCE, said)

    def test_another_task_is_let_to_its_end(self) -> None:
        example = with_nobody_left().seeing(work=Working(TakeSnapshot(GenerationNumber(1)), NOW))
        assert waiting(example, Blocker.RESTORE, "fetching")

    @pytest.mark.parametrize("name", [snapshot_name(9_000, generation=1), snapshot_name(9_000, generation=3)])
    def test_a_higher_revision_of_another_generation_never_wins(self, name: SnapshotName) -> None:
        """What a fenced lineage went on to write after its successor began is nobody's past."""
        origin = snapshot_name(800, generation=1)
        head = replace(record(A, B, C, generation=2), seed=seed(manifest(origin)))
        own = snapshot_name(810, generation=2)
        example = with_nobody_left().seeing(
            head=head,
            snapshots=(a_snapshot(origin), a_snapshot(name), a_snapshot(own)),
            manifest=manifest(own),
        )
        assert task_of(example.remembering(head=head)) == FetchSeed(manifest(own))
        before_its_first = example.seeing(snapshots=(a_snapshot(origin), a_snapshot(name)), manifest=manifest(origin))
        assert task_of(before_its_first.remembering(head=head)) == FetchSeed(manifest(origin))

    def test_one_of_a_newer_etcd_is_not_passed_over_for_an_older_one(self) -> None:
        """An older snapshot would give up what this one holds, and installing etcd is all that is wanted."""
        newer = replace(manifest(), etcd_version="3.6.4")
        older = a_snapshot(snapshot_name(700, minutes_ago=9))
        action = with_nobody_left().seeing(manifest=newer, snapshots=(older, a_snapshot())).action
        assert isinstance(action, CallHuman)
        assert "3.6.4" in action.hint
        said = fresh(*(nothing(each, etcd_version="3.6.0") for each in (D, E)))
        upgraded = with_nobody_left().seeing(manifest=newer, etcd_version="3.6.0", reports=said)
        assert task_of(upgraded) == FetchSeed(newer)

    def test_while_etcds_version_is_unknown_nobody_can_tell(self) -> None:
        unknown = with_nobody_left().seeing(etcd_version=TIMEOUT).remembering(etcd_version="3.5.30")
        assert waiting(unknown, Blocker.IGNORANCE, "version")


class TestNothingToRestoreFrom:
    def test_a_generation_that_had_formed_calls_a_human(self) -> None:
        example = with_nobody_left().seeing(snapshots=(), manifest=NOT_ASKED)
        assert isinstance(example.action, CallHuman)

    def test_so_do_snapshots_that_are_all_bad(self) -> None:
        example = with_nobody_left().seeing(snapshots=(a_snapshot(bad=True),), manifest=NOT_ASKED)
        assert isinstance(example.action, CallHuman)

    def test_one_that_never_formed_and_of_which_nobody_has_data_begins_empty(self) -> None:
        created = next_of(never_formed())
        assert (created.generation, created.seed, list(created.founders)) == (2, None, [A])

    def test_but_data_that_cannot_be_used_may_be_all_there_is(self) -> None:
        """Its quorum may have served for a second before anybody wrote formed.json."""
        damaged = holding(A, data=Holding.DAMAGED, position=None, running=False, members=())
        seen_by_d = never_formed(D).seeing(
            reports=fresh(damaged, nothing(D)),
            claim=NOT_ASKED,
            fleet=fleet(*(instance(each, InstanceState.TERMINATED) for each in (B, C)), instance(A), instance(D)),
        )
        assert isinstance(seen_by_d.action, CallHuman)

    def test_one_that_was_restored_and_never_formed_is_restored_again(self) -> None:
        head = replace(record(A, generation=2), seed=seed(manifest()))
        example = with_nobody_left().seeing(head=head, formed=None).remembering(head=head, formed=None)
        assert task_of(example) == FetchSeed(manifest())

    def test_a_snapshot_of_what_never_formed_on_paper_is_still_one(self) -> None:
        example = never_formed().seeing(snapshots=(a_snapshot(),), manifest=manifest())
        assert task_of(example) == FetchSeed(manifest())


# ---- the record


class TestTheRecord:
    ready = with_nobody_left().seeing(disk=Disk(None, Data.ABSENT, seeds=frozenset({manifest().sha256})))

    def test_revisions_are_bumped_where_the_tool_can(self) -> None:
        found = next_of(self.ready).seed
        assert found is not None
        assert found.bump_revision == self.ready.policy.bump_revision > 0

    def test_not_where_it_cannot_or_the_operator_does_not_want_it(self) -> None:
        unwanted = replace(self.ready, policy=replace(self.ready.policy, bump_revision=0))
        for example in (self.ready.seeing(can_bump_revisions=False), unwanted.seeing(can_bump_revisions=TIMEOUT)):
            found = next_of(example).seed
            assert found is not None
            assert found.bump_revision == 0

    def test_nor_where_another_founders_tool_cannot(self) -> None:
        """They are being upgraded: all have to restore the same bytes in the same way."""
        older = manifest(etcd_version="3.4.23")
        mixed = fresh(nothing(D), nothing(E, etcd_version="3.4.23"))
        record = next_of(self.ready.seeing(reports=mixed, manifest=older))
        assert record.seed is not None
        assert record.seed.bump_revision == 0
        assert set(record.founders) == {D, E}
        gone = (*fresh(nothing(D), nothing(E)), *fresh(nothing(A, etcd_version="3.4.23"), age_seconds=600))
        record = next_of(self.ready.seeing(reports=gone, manifest=older))
        assert record.seed is not None
        assert record.seed.bump_revision > 0

    def test_who_cannot_read_the_seed_is_no_founder(self) -> None:
        """Its etcd is older than the one that took the snapshot: it would wait for a human, and hold up the quorum."""
        mixed = self.ready.seeing(reports=fresh(nothing(D), nothing(E, etcd_version="3.4.23")))
        record = next_of(mixed)
        assert set(record.founders) == {D}
        both = replace(record, founders={each: peer(each) for each in (D, E)})
        assert mixed.objections_to(CreateGeneration(record)) == ()
        assert mixed.objections_to(CreateGeneration(both)) == ("every founder can read its source is not so",)
        untold = self.ready.seeing(reports=fresh(nothing(D), nothing(E, etcd_version="")))
        assert set(next_of(untold).founders) == {D, E}

    def test_without_the_restore_tool_a_human_is_called(self) -> None:
        missing = Unknown(Ignorance.OURS, "there is no etcdutl beside etcd")
        assert isinstance(self.ready.seeing(can_bump_revisions=missing).action, CallHuman)
        done = ended(TakeSnapshot(GenerationNumber(1), Origin.RESCUE, OF_A), manifest=rescue_of(holding(A, B, C)))
        assert isinstance(a_lost_three(A).seeing(work=done, can_bump_revisions=missing).action, CallHuman)

    def test_a_tool_that_was_only_slow_is_asked_again(self) -> None:
        assert waiting(self.ready.seeing(can_bump_revisions=TIMEOUT), Blocker.IGNORANCE, "timeout")

    def test_a_bucket_that_is_not_proven_arbitrates_nothing(self) -> None:
        assert waiting(self.ready.seeing(bucket=TIMEOUT), Blocker.IGNORANCE, "preconditions")
        assert isinstance(self.ready.seeing(bucket=BucketUnsound("ignores them", "use S3")).action, CallHuman)

    def test_who_is_leaving_founds_nothing(self) -> None:
        leaving = fleet(
            *(instance(each, InstanceState.TERMINATED) for each in (A, B, C)),
            *(instance(each, lifecycle="Terminating:Wait") for each in (D, E)),
        )
        assert waiting(self.ready.seeing(fleet=leaving), Blocker.ASSEMBLY, "leaving")

    def test_two_founders_at_one_address_are_a_mistake_to_wait_out(self) -> None:
        twice = fresh(nothing(D), nothing(E, peer_url=peer(D)))
        assert waiting(self.ready.seeing(reports=twice), Blocker.ADDRESS)

    def test_who_was_written_off_may_found_the_next_one_if_it_is_here(self) -> None:
        off = (Exclusion(E, "cut off", "admin", NOW),)
        assert list(next_of(self.ready.seeing(exclusions=off)).founders) == [D, E]


# ---- before and after the proof


class TestNotYet:
    def test_a_quorum_that_answers_has_lost_nothing(self) -> None:
        assert a_healthy_three().seeing(reports=a_lost_three().o.reports, exclusions=()).rule == "rest"

    def test_nothing_is_done_before_others_can_know(self) -> None:
        early = a_lost_three(A).remembering(no_quorum_since=NOW - timedelta(seconds=4))
        assert early.action == Wait(Blocker.QUORUM)

    def test_a_survivor_that_is_not_proven_the_last_waits_and_names_whom_it_waits_for(self) -> None:
        example = a_lost_three(A).seeing(reports=fresh(holding(A, B, C), nothing(D)))
        assert waiting(example, Blocker.QUORUM, "our etcd knows no leader", "i-e: EC2 says running")

    def test_so_does_one_without_data(self) -> None:
        example = a_lost_three(D).seeing(reports=fresh(holding(A, B, C), nothing(D)))
        assert waiting(example, Blocker.QUORUM, "no quorum of generation 1 answers", "i-e: EC2 says running")

    def test_what_was_not_asked_again_is_told_as_it_was(self) -> None:
        """Most rounds do not ask EC2: what is waited for must not seem to change with that."""
        example = a_lost_three(A).seeing(reports=fresh(holding(A, B, C), nothing(D)), fleet=NOT_ASKED, head=NOT_ASKED)
        assert waiting(example, Blocker.QUORUM, "i-e: EC2 says running")

    def test_and_where_only_that_is_wanting_nothing_is_said_to_be(self) -> None:
        because = a_lost_three(A).seeing(fleet=NOT_ASKED).carried_out.because
        assert "recovery waits for" not in because
        blind = a_lost_three(A).seeing(fleet=NOT_ASKED, head=NOT_ASKED).remembering(fleet=None, head=None)
        assert blind.remembering(formed=None).action == Wait(Blocker.QUORUM)

    def test_a_survivor_that_does_not_answer_or_sees_a_leader_says_so(self) -> None:
        early = a_lost_three(A).remembering(no_quorum_since=NOW)
        silent = early.seeing(local=TIMEOUT)
        assert silent.action == Wait(Blocker.STARTUP)
        led = early.seeing(local=status(A, leader=B))
        assert waiting(led, Blocker.QUORUM, "our etcd sees leader b")
        late = a_lost_three(A).seeing(
            local=TIMEOUT, own_list=NOT_ASKED, fleet=THROTTLED, reports=fresh(holding(A, B, C, running=False))
        )
        assert waiting(late, Blocker.QUORUM, "our etcd runs and answers nothing")


class TestStayingDown:
    down = with_a_tail(running=False).remembering(proven_lost=GenerationNumber(1), proven_lost_at=A_MINUTE_AGO)

    @pytest.mark.parametrize("field", ["fleet", "reports", "exclusions", "head"])
    def test_between_two_steps_of_a_rescue_an_unread_fact_restarts_nothing(self, field: str) -> None:
        assert waiting(self.down.seeing(**{field: THROTTLED}), Blocker.RESCUE, "60 s ago")

    def test_but_not_for_long(self) -> None:
        late = self.down.seeing(fleet=THROTTLED).remembering(proven_lost_at=NOW - STAY_DOWN - timedelta(seconds=1))
        assert late.rule == "restart-in-place"

    def test_nor_without_a_proof(self) -> None:
        assert self.down.seeing(fleet=THROTTLED).remembering(proven_lost_at=None).rule == "restart-in-place"

    def test_a_running_etcd_is_left_running(self) -> None:
        example = (
            a_lost_three(A).seeing(fleet=THROTTLED).remembering(proven_lost_at=NOW, proven_lost=record(A).generation)
        )
        assert example.action == Wait(Blocker.QUORUM)

    def test_the_next_generation_is_not_kept_down_by_the_loss_of_the_one_before(self) -> None:
        """It was, for two minutes after every recovery."""
        restored = Disk(identity(A, Stage.STARTING, generation=2), Data.PRESENT)
        head = the_next()
        example = self.down.seeing(head=head, formed=None, disk=restored).remembering(head=head, formed=None)
        assert example.seeing(fleet=NOT_ASKED).remembering(no_quorum_since=NOW).rule == "restart-in-place"


class TestTheOthersFollow:
    """Everybody who finds a newer head than the disk's sets the disk aside, and founds anew."""

    def survivor(self, **changes: Any) -> Example:
        head = the_next()
        return a_lost_three(A).seeing(head=head, formed=None, **changes).remembering(head=head, formed=None)

    def test_its_disk_is_fenced_stopped_and_moved_aside(self) -> None:
        told = fresh(nothing(A, seat=Seat.OPEN, member_id=None), nothing(D), nothing(E))
        assert isinstance(self.survivor(reports=told).action, StampIdentity)
        fenced = Disk(identity(A, Stage.FENCED), Data.PRESENT)
        assert self.survivor(reports=told, disk=fenced).action == StopEtcd("fenced")
        stopped = self.survivor(reports=told, disk=fenced, process=EtcdStopped(), local=NOT_ASKED, own_list=NOT_ASKED)
        assert stopped.action == Quarantine("generation-1-fenced")

    def test_a_lost_head_is_not_judged_by_a_disk_of_an_older_generation(self) -> None:
        """It is fenced first: what a veto or a stamp that failed leaves behind has nothing to say of the head."""
        head = replace(the_next(), founders={D: peer(D)})
        dead = fleet(instance(A), instance(D, InstanceState.TERMINATED))
        example = self.survivor(fleet=dead, reports=fresh(nothing(A))).seeing(head=head)
        assert example.remembering(head=head).rule == "fence-older-generation"


class TestGivingUpASeat:
    @staticmethod
    def moved(**changes: Any) -> Example:
        """A founder that never started, and is at another address than its record's now."""
        return a_founder().seeing(me=replace(me(A), peer_url=peer(D)), **changes)

    def adding(self, **changes: Any) -> Example:
        stage = Disk(replace(identity(A, Stage.ADDING), peer_url=peer(D)), Data.EMPTY)
        return self.moved(disk=stage, **changes)

    def test_the_disk_says_first_that_it_will_not_found(self) -> None:
        for disk in (Disk(None, Data.ABSENT), Disk(identity(A, Stage.STARTING, generation=0), Data.EMPTY)):
            action = self.moved(disk=disk).action
            assert isinstance(action, StampIdentity)
        action = self.moved().action
        assert isinstance(action, StampIdentity)
        assert (action.identity.stage, action.prepare) == (Stage.ADDING, True)

    def test_one_that_was_prepared_to_found_is_stamped_over(self) -> None:
        action = self.moved(disk=Disk(identity(A, Stage.STARTING), Data.EMPTY)).action
        assert isinstance(action, StampIdentity)
        assert (action.identity.stage, action.identity.peer_url, action.prepare) == (Stage.ADDING, peer(D), False)

    def test_then_the_claim_is_spent(self) -> None:
        action = self.adding().action
        assert isinstance(action, WriteClaim)
        assert action.claim == claim(A)

    def test_also_where_the_others_have_formed_and_lost_their_quorum(self) -> None:
        """Its seat was open for ever, and the others waited for it: joining needs a quorum, giving up does not."""
        assert isinstance(self.adding(formed=formed(B, C), membership=SILENT).action, WriteClaim)

    @pytest.mark.parametrize("known", [claim(A), TIMEOUT])
    def test_once_is_enough_and_ignorance_is_no_reason(self, known: Any) -> None:
        assert self.adding(claim=known).action == Wait(Blocker.FORMATION)

    def test_nobody_else_gives_up_anything(self) -> None:
        assert a_founder().rule == "start-as-founder"
        assert not isinstance(self.moved(head=record(B, C)).action, StampIdentity)
        assert self.moved(head=TIMEOUT).action == Wait(Blocker.IGNORANCE)
        assert a_stopped_member(A).seeing(me=replace(me(A), peer_url=peer(D)), formed=None).rule == "tell-of-move"
