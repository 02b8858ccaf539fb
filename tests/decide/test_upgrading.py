"""Another minor version of etcd: forward, one at a time, all well, with a way back; and never back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.decide.upgrading import wants_a_snapshot_first
from agent.model.actions import AddLearner, Blocker, CallHuman, Launch, StampIdentity, StartEtcd, Wait
from agent.model.cluster import Answers
from agent.model.ids import InstanceId
from agent.model.known import NOT_ASKED
from tests.decide import examples as told
from tests.decide.examples import MEMBERS, SILENT, TIMEOUT, A, B, C, D, Example

OLD, NEW, NEWER, NEXT = "3.4.23", "3.5.30", "3.6.4", "3.7.0"
FRESH = told.a_snapshot()


def running(*versions: str, of: tuple[InstanceId, ...] = (A, B)) -> Answers:
    pairs = zip(of, versions, strict=True)
    return Answers({MEMBERS[name]: replace(told.status(name), version=version) for name, version in pairs})


def newcomer(installed: str, *versions: str) -> Example:
    """About to ask for an entry beside two voters that run these; a snapshot of theirs is four minutes old."""
    made = told.manifest(etcd_version=versions[0])
    seen = {"snapshots": (FRESH,), "manifest": made, "data_version": None}
    return told.about_to_join().seeing(etcd_version=installed, answers=running(*versions), **seen)


def stopped(installed: str, data: str, *versions: str) -> Example:
    """B's etcd is down, on data of that cluster version; A and C run these."""
    made = told.manifest(etcd_version=(versions or (data,))[0])
    seen = {"snapshots": (FRESH,), "manifest": made, "data_version": data}
    answers = running(*versions, of=(A, C)) if versions else Answers()
    return told.a_stopped_member(B).seeing(etcd_version=installed, answers=answers, **seen)


class TestANewcomer:
    @pytest.mark.parametrize("versions", [(NEW, NEW), (NEW, "3.5.16"), (OLD, NEW)])
    def test_of_the_same_version_or_one_that_others_run_joins(self, versions: tuple[str, str]) -> None:
        assert isinstance(newcomer(NEW, *versions).action, AddLearner)

    def test_the_first_of_a_newer_version_joins_behind_a_fresh_snapshot(self) -> None:
        assert isinstance(newcomer(NEW, OLD, OLD).action, AddLearner)

    def test_it_is_checked_before_its_disk_is_prepared(self) -> None:
        example = newcomer(OLD, NEW, NEW).seeing(disk=told.a_newcomer().o.disk)
        assert isinstance(example.action, CallHuman)
        assert isinstance(example.seeing(etcd_version=NEW).action, StampIdentity)

    def test_an_older_one_joins_nothing(self) -> None:
        refused = newcomer(OLD, NEW, NEW)
        assert refused.rule == "check-version"
        assert isinstance(refused.action, CallHuman)
        assert "install etcd 3.5" in refused.action.hint
        assert "cannot be downgraded" in refused.carried_out.because
        assert "not all members run a newer etcd is not so" in refused.objections_to(AddLearner(told.peer(D)))

    def test_an_older_one_joins_while_the_others_are_being_upgraded(self) -> None:
        mixed = newcomer(OLD, OLD, NEW)
        assert isinstance(mixed.action, AddLearner)

    def test_who_is_silent_may_hold_the_version_down(self) -> None:
        silent = Answers({**running(NEW, of=(A,)).of, MEMBERS[B]: SILENT})
        example = newcomer(OLD, NEW, NEW).seeing(answers=silent)
        assert example.action == Wait(Blocker.UPGRADE)
        assert example.objections_to(AddLearner(told.peer(D))) == ()
        assert newcomer(NEW, OLD, OLD).seeing(answers=silent).rule != "check-version"

    def test_nobody_is_upgraded_while_another_is_not_well(self) -> None:
        leaderless = {MEMBERS[B]: replace(told.status(B), version=OLD, leader=None)}
        for unwell in ({MEMBERS[B]: SILENT}, leaderless):
            example = newcomer(NEW, OLD, OLD).seeing(answers=Answers({**running(OLD, of=(A,)).of, **unwell}))
            assert example.action == Wait(Blocker.UPGRADE)
            assert "i-b" in example.carried_out.because

    def test_no_minor_version_is_left_out(self) -> None:
        skips = newcomer(NEWER, OLD, OLD)
        assert isinstance(skips.action, CallHuman)
        assert "install etcd 3.5 first" in skips.action.hint
        assert isinstance(newcomer("4.0.0", NEW, NEW).action, CallHuman)

    def test_3_6_comes_after_a_3_5_that_keeps_promotions(self) -> None:
        assert isinstance(newcomer(NEWER, NEW, "3.5.16").action, CallHuman)
        assert isinstance(newcomer(NEWER, NEW, NEW).action, AddLearner)
        assert isinstance(newcomer(NEXT, NEWER, NEWER).action, AddLearner)
        assert isinstance(newcomer("3.5.30", OLD, "3.5.16").action, AddLearner)

    def test_what_cannot_be_told_keeps_nobody_out(self) -> None:
        assert isinstance(newcomer("what", NEW, NEW).action, AddLearner)
        assert isinstance(newcomer(NEW, "what", "is").action, AddLearner)
        assert isinstance(newcomer(NEW, NEW, NEW).seeing(etcd_version=TIMEOUT).action, AddLearner)
        assert isinstance(newcomer(OLD, NEW, NEW).seeing(data_version=TIMEOUT).decided.action, AddLearner)


class TestAFreshSnapshot:
    def test_none_at_all(self) -> None:
        for unread in ({"snapshots": ()}, {"snapshots": TIMEOUT}, {"manifest": TIMEOUT}, {"manifest": None}):
            assert newcomer(NEW, OLD, OLD).seeing(**unread).action == Wait(Blocker.UPGRADE)
        assert newcomer(NEW, OLD, OLD).seeing(manifest=told.manifest(told.snapshot_name(1))).action == Wait(
            Blocker.UPGRADE
        )

    def test_an_old_one_will_do_if_nothing_was_written_since(self) -> None:
        name = told.snapshot_name(minutes_ago=60)
        made = told.manifest(name, etcd_version=OLD, raft_index=850)
        old = newcomer(NEW, OLD, OLD).seeing(snapshots=(told.a_snapshot(name),), manifest=made)
        assert old.action == Wait(Blocker.UPGRADE)
        assert "1:00:00 old" in old.carried_out.because
        assert isinstance(old.seeing(manifest=replace(made, raft_index=1000)).action, AddLearner)

    def test_one_of_another_version_is_no_way_back(self) -> None:
        assert newcomer(NEW, OLD, OLD).seeing(manifest=told.manifest(etcd_version=NEW)).action == Wait(Blocker.UPGRADE)

    def test_only_the_first_waits_for_it(self) -> None:
        assert isinstance(newcomer(NEW, OLD, NEW).seeing(snapshots=()).action, AddLearner)

    def test_without_a_generation_nothing_is_known(self) -> None:
        example = stopped(NEW, OLD, OLD, OLD).seeing(head=TIMEOUT).remembering(head=None)
        assert example.action == Wait(Blocker.UPGRADE)

    def test_only_who_is_newer_asks_for_the_list(self) -> None:
        assert wants_a_snapshot_first(newcomer(NEW, OLD, OLD).o)
        assert not wants_a_snapshot_first(newcomer(NEW, NEW, NEW).o)
        assert not wants_a_snapshot_first(newcomer(NEW, OLD, OLD).seeing(membership=TIMEOUT).o)
        assert not wants_a_snapshot_first(newcomer(NEW, OLD, OLD).seeing(etcd_version=NOT_ASKED).o)


class TestARestart:
    @pytest.mark.parametrize("example", [stopped(NEW, "3.5.0", NEW, NEW), stopped(OLD, "3.4.0", NEW, NEW)])
    def test_on_data_of_its_own_version_goes_on_whatever_the_others_run(self, example: Example) -> None:
        """Also the last one of the older version: while it is away, the cluster's version cannot rise."""
        assert isinstance(example.action, StartEtcd)

    def test_on_newer_data_is_refused_and_leaves_it_as_it_is(self) -> None:
        for others in ((NEW, NEW), ()):
            refused = stopped(OLD, "3.5.0", *others)
            assert refused.rule == "check-upgrade"
            assert isinstance(refused.action, CallHuman)
            assert "this data stays as it is" in refused.carried_out.because

    def test_the_objections_know_it_too(self) -> None:
        start = StartEtcd(Launch(B, told.peer(B), "existing", "", ((B, told.peer(B)),)))
        words = "its data is of no newer version is not so"
        assert words in stopped(OLD, "3.5.0", NEW, NEW).objections_to(start)
        assert words not in stopped(NEW, "3.5.0", NEW, NEW).objections_to(start)
        assert words not in stopped(OLD, "3.5.0").seeing(lifecycle_target="Terminated").objections_to(start)

    def test_who_leaves_tries_all_the_same(self) -> None:
        assert isinstance(stopped(OLD, "3.5.0").seeing(lifecycle_target="Terminated").action, StartEtcd)

    def test_one_step_forward_needs_the_others_well_and_a_snapshot(self) -> None:
        assert isinstance(stopped(NEW, "3.4.0", OLD, OLD).action, StartEtcd)
        assert stopped(NEW, "3.4.0", OLD, OLD).seeing(snapshots=()).action == Wait(Blocker.UPGRADE)
        silent = Answers({**running(OLD, of=(A,)).of, MEMBERS[C]: SILENT})
        assert stopped(NEW, "3.4.0", OLD, OLD).seeing(answers=silent).action == Wait(Blocker.UPGRADE)

    def test_where_no_quorum_answers_it_may_be_what_a_quorum_needs(self) -> None:
        lonely = stopped(NEW, "3.4.0").seeing(membership=TIMEOUT)
        assert isinstance(lonely.action, StartEtcd)
        assert isinstance(lonely.seeing(etcd_version=NEWER).action, CallHuman)

    def test_a_cluster_of_one_is_upgraded_by_its_restart(self) -> None:
        alone = stopped(NEW, "3.4.0").seeing(membership=told.membership(told.voter(B), via=B), snapshots=())
        assert isinstance(alone.action, StartEtcd)

    def test_data_that_does_not_tell_goes_on(self) -> None:
        for unread in (TIMEOUT, NOT_ASKED):
            assert isinstance(stopped(OLD, "3.5.0", NEW, NEW).seeing(data_version=unread).action, StartEtcd)
        assert isinstance(stopped(OLD, "3.4.0", OLD, OLD).seeing(data_version=None).action, StartEtcd)
        assert isinstance(stopped(OLD, "what").action, StartEtcd)

    def test_data_of_the_first_seconds_has_no_version_yet(self) -> None:
        """etcd's leader writes 3.0 at first: an etcd that is killed then has not skipped five versions."""
        assert isinstance(stopped(OLD, "3.0.0", OLD, OLD).action, StartEtcd)
        assert isinstance(stopped(OLD, "3.0.0", NEW, NEW).action, StartEtcd)
        assert isinstance(stopped(NEW, "3.0.0", OLD, OLD).action, StartEtcd)
        assert stopped(NEW, "3.0.0", OLD, OLD).seeing(snapshots=()).action == Wait(Blocker.UPGRADE)
