"""A founder of a generation with a seed: fetched, restored, put in place, started; each step found again by looking.

Which seed it is, of all there might be, is told in test_recovering.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent.decide.seeding import best_snapshot, best_survivor, manifest_wanted, seed_of
from agent.model.actions import BeginTask, Blocker, CallHuman, PutInPlace, StampIdentity, StartEtcd, Wait
from agent.model.disk import Data, Disk, Stage
from agent.model.generation import Holding
from agent.model.ids import GenerationNumber
from agent.model.known import NOT_ASKED, Ignorance, Unknown
from agent.model.work import Ended, FetchSeed, RestoreSeed, Task, Working
from tests.decide.examples import (
    LONG_AGO,
    NONCE,
    NOW,
    OLD_NONCE,
    POSITION,
    THROTTLED,
    TIMEOUT,
    A,
    B,
    C,
    D,
    E,
    Example,
    a_founder_that_restores,
    a_snapshot,
    claim,
    holding,
    identity,
    manifest,
    peer,
    record,
    seed,
    snapshot_name,
    the_next,
)

DIGEST = manifest().sha256
PREPARED = identity(D, Stage.STARTING, generation=2)
RESTORE = RestoreSeed(
    seed(manifest()), OLD_NONCE, D, peer(D), "prod-000002-abcd", tuple((n, peer(n)) for n in (A, D, E))
)
NEWER = snapshot_name(900, generation=2, minutes_ago=1)
CORRUPT = Unknown(Ignorance.MALFORMED, "its digest differs")


def with_the_seed(**changes: Any) -> Example:
    disk = Disk(PREPARED, Data.EMPTY, seeds=frozenset({DIGEST}))
    return a_founder_that_restores().seeing(disk=disk, **changes)


def ended(task: Task, trouble: Unknown | None = None, *, seconds_ago: float = 60, final: bool = False) -> Ended:
    return Ended(task, LONG_AGO, NOW - timedelta(seconds=seconds_ago), trouble, final)


class TestStepByStep:
    def test_the_disk_is_prepared_and_the_start_claimed_before_anything_is_fetched(self) -> None:
        fresh_disk = a_founder_that_restores().seeing(claim=None, disk=Disk(None, Data.ABSENT))
        assert isinstance(fresh_disk.action, StampIdentity)
        assert a_founder_that_restores().seeing(claim=None).rule == "start-as-founder"

    def test_then_the_seed_is_fetched(self) -> None:
        assert a_founder_that_restores().action == BeginTask(FetchSeed(manifest()))

    def test_then_it_is_restored_as_the_record_says(self) -> None:
        assert with_the_seed(work=ended(FetchSeed(manifest()))).action == BeginTask(RESTORE)

    def test_every_founder_restores_the_same_under_its_own_name(self) -> None:
        one, other = (
            a_founder_that_restores(name).seeing(
                disk=Disk(identity(name, Stage.STARTING, generation=2), Data.EMPTY, seeds=frozenset({DIGEST}))
            )
            for name in (D, E)
        )
        tasks = [each.action.task for each in (one, other) if isinstance(each.action, BeginTask)]
        assert [each.name for each in tasks if isinstance(each, RestoreSeed)] == [D, E]
        assert (
            len({(each.seed, each.token, each.initial_cluster) for each in tasks if isinstance(each, RestoreSeed)}) == 1
        )

    def test_then_it_is_put_in_place(self) -> None:
        restored = Disk(PREPARED, Data.EMPTY, frozenset({DIGEST}), frozenset({OLD_NONCE}))
        assert a_founder_that_restores().seeing(disk=restored).action == PutInPlace(OLD_NONCE)

    def test_then_etcd_starts_on_it(self) -> None:
        action = a_founder_that_restores().seeing(disk=Disk(PREPARED, Data.PRESENT)).action
        assert isinstance(action, StartEtcd)
        assert action.launch.state == "existing"

    def test_it_never_starts_as_new(self) -> None:
        """An empty cluster under the record's token would be a second lineage."""
        for disk in (with_the_seed().o.disk, Disk(PREPARED, Data.EMPTY)):
            assert not isinstance(a_founder_that_restores().seeing(disk=disk).action, StartEtcd)

    def test_data_that_was_restored_for_another_life_is_not_put_in_place(self) -> None:
        other = Disk(PREPARED, Data.EMPTY, frozenset({DIGEST}), frozenset({NONCE}))
        assert a_founder_that_restores().seeing(disk=other).action == BeginTask(RESTORE)

    def test_a_founder_that_lost_its_disk_meanwhile_joins_as_somebody_new(self) -> None:
        lost = a_founder_that_restores().seeing(disk=Disk(None, Data.ABSENT, frozenset({DIGEST})))
        assert lost.action == Wait(Blocker.FORMATION)


class TestTrouble:
    def test_while_it_works_it_tells_how_far(self) -> None:
        fetching = a_founder_that_restores().seeing(work=Working(FetchSeed(manifest()), NOW, 7_000_000))
        assert fetching.action == Wait(Blocker.RESTORE)
        assert "7 MB" in fetching.carried_out.because
        assert with_the_seed(work=Working(RESTORE, NOW)).action == Wait(Blocker.RESTORE)

    def test_what_may_pass_is_tried_again(self) -> None:
        for task, example in ((FetchSeed(manifest()), a_founder_that_restores()), (RESTORE, with_the_seed())):
            failed = example.seeing(work=ended(task, THROTTLED, seconds_ago=1)).remembering(failures=1)
            assert failed.action == Wait(Blocker.RESTORE)
            assert "throttled" in failed.carried_out.because
            assert failed.seeing(work=ended(task, THROTTLED, seconds_ago=2)).action == BeginTask(task)

    def test_another_task_of_before_is_none_of_it(self) -> None:
        other = ended(FetchSeed(manifest(snapshot_name(1))), CORRUPT, final=True)
        assert a_founder_that_restores().seeing(work=other).action == BeginTask(FetchSeed(manifest()))
        assert with_the_seed(work=replace(other, at=NOW)).remembering(failures=1).action == Wait(Blocker.RESTORE)

    @pytest.mark.parametrize(
        "example",
        [
            a_founder_that_restores().seeing(work=ended(FetchSeed(manifest()), CORRUPT, final=True)),
            a_founder_that_restores().seeing(manifest=manifest(sha256="f" * 64)),
            with_the_seed(work=ended(RESTORE, CORRUPT, final=True)),
            with_the_seed(can_bump_revisions=False),
            a_founder_that_restores().seeing(manifest=manifest(etcd_version="3.6.1")),
        ],
        ids=["corrupt", "another digest", "cannot be restored", "cannot bump", "of a newer etcd"],
    )
    def test_what_will_not_pass_calls_a_human(self, example: Example) -> None:
        """Founders that restored differently would be members of one cluster with different data."""
        assert isinstance(example.action, CallHuman)

    def test_a_tool_that_cannot_bump_will_do_where_nobody_bumps(self) -> None:
        head = replace(the_next(), seed=seed(manifest(), bump=0))
        plain = with_the_seed(head=head, can_bump_revisions=False).remembering(head=head)
        assert isinstance(plain.action, BeginTask)

    @pytest.mark.parametrize("found", [None, TIMEOUT, NOT_ASKED, manifest(snapshot_name(1))])
    def test_a_seed_whose_manifest_is_not_read_is_waited_for(self, found: Any) -> None:
        assert a_founder_that_restores().seeing(manifest=found).action == Wait(Blocker.IGNORANCE)

    def test_an_unknown_version_of_etcd_keeps_nobody_from_fetching(self) -> None:
        assert isinstance(a_founder_that_restores().seeing(etcd_version=TIMEOUT).action, BeginTask)


class TestWhichManifest:
    """One manifest a round is read: the one that this round can need."""

    def wanted(self, **changes: Any) -> Any:
        example = a_founder_that_restores().seeing(snapshots=(a_snapshot(), a_snapshot(NEWER)), **changes)
        return manifest_wanted(the_next(), example.o)

    def test_a_founder_that_is_to_restore_needs_the_seeds(self) -> None:
        assert self.wanted() == snapshot_name()

    @pytest.mark.parametrize(
        "changes",
        [
            {"disk": Disk(PREPARED, Data.PRESENT)},
            {"disk": TIMEOUT},
            {"claim": None},
            {"claim": claim(D, NONCE)},
            {"disk": Disk(None, Data.ABSENT)},
        ],
        ids=["has data", "unread", "unclaimed", "spent", "lost"],
    )
    def test_everybody_else_the_newest(self, changes: Any) -> None:
        assert self.wanted(**changes) == NEWER

    def test_nobody_any_where_none_are_listed(self) -> None:
        example = a_founder_that_restores().seeing(claim=None, snapshots=THROTTLED)
        assert manifest_wanted(the_next(), example.o) is None

    def test_a_seed_that_was_made_elsewhere_has_no_name_of_ours(self) -> None:
        foreign = replace(the_next(), seed=replace(seed(manifest()), manifest="elsewhere/backup.json"))
        assert seed_of(foreign) is None
        assert seed_of(record(A)) is None
        assert best_snapshot(foreign, (a_snapshot(),)) is None


def test_an_older_generation_may_have_reached_a_higher_revision() -> None:
    """The second began with less, because that one was bad then; whatever the third needs, it is not that."""
    seeded = snapshot_name(revision=820, generation=2)
    third = replace(the_next(manifest(seeded)), generation=GenerationNumber(3))
    higher = snapshot_name(revision=5000, generation=1)
    assert best_snapshot(third, (a_snapshot(higher), a_snapshot(seeded))) == seeded


def test_of_nobody_nobody_is_the_best() -> None:
    assert best_survivor(()) is None
    assert best_survivor([holding(A, position=None), holding(B, data=Holding.DAMAGED)]) is None


def test_a_log_that_does_not_reach_what_another_knows_committed_is_not_chosen() -> None:
    """Raft rules it out: whoever has the later term has it all. If it were so, the choice must not lose it."""
    long = holding(A, B, C)
    short = holding(C, A, B, position=replace(POSITION, last_term=9, last_index=990))
    assert best_survivor([long, short]) == long
