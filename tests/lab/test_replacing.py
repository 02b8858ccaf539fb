"""Members come and go with their instances: removed on EC2's word alone, one at a time; replaced, promoted, never lost.

House rules of these stories: under write load wherever somebody dies; what was removed when is read from the member
list itself, and held against the log of what EC2 was asked and what the agents did.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agent.lab import members
from agent.lab.client import Instance, Lab
from agent.lab.spec import LabSpec
from tests.lab.harness import Writer, leader, member_list, statuses, stays, voters, wait_until, wait_whole
from tests.lab.watching import SETTINGS, Watch, deeds, kept, looks, wait_calm, wait_kept_whole, well_kept_lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

WAIT_S = 20.0
"""How long nobody is removed in stories about that; EC2 is asked at least forty times meanwhile."""
JOIN_TIMEOUT_S = 10.0
LONG_AGO = datetime.min.replace(tzinfo=UTC)

MakeFleet = Callable[..., Lab]
T = TypeVar("T")


@pytest.fixture
def make_fleet(tmp_path: Path, etcd_binary: str) -> Iterator[MakeFleet]:
    """`make_fleet(instances, asgs=1)`: a lab of its own for a story, whole when the story begins."""
    with ExitStack() as stack:

        def make(instances: int, whole: int | None = None, **wanted: Any) -> Lab:
            spec = replace(LabSpec(instances=instances, etcd=etcd_binary, settings=SETTINGS), **wanted)
            lab = stack.enter_context(well_kept_lab(spec, tmp_path / "lab"))
            if whole is None:
                wait_kept_whole(lab, instances)
            return lab

        yield make


@pytest.fixture(scope="module")
def one_three(tmp_path_factory: pytest.TempPathFactory, etcd_binary: str) -> Iterator[Lab]:
    """Three instances for stories at whose end there are three again."""
    spec = LabSpec(etcd=etcd_binary, settings=SETTINGS)
    with well_kept_lab(spec, tmp_path_factory.mktemp("three") / "lab") as lab:
        wait_whole(lab, 3)
        yield lab


@pytest.fixture
def three(one_three: Lab) -> Lab:
    """The same, whole and at rest."""
    wait_kept_whole(one_three, 3)
    return one_three


def followers(lab: Lab) -> list[Instance]:
    leading = leader(lab)
    assert leading is not None
    return [each for each in lab.instances() if each.id != leading.id]


def the_leader(lab: Lab) -> Instance:
    found = wait_until(lambda: leader(lab), 15, "a leader")
    assert found is not None
    return found


# ---- the terminated are replaced ------------------------------------------------------------------------------------


def test_a_terminated_leader_is_removed_and_replaced_under_write_load(three: Lab) -> None:
    lab = three
    dead = the_leader(lab)
    with Watch(lab) as watch, Writer(lab) as writer:
        time.sleep(1)
        terminated_at = datetime.now(UTC)
        lab.terminate(dead.id)
        wait_until(lambda: dead.id not in (voters(lab) or {dead.id}), 60, "the dead member to be removed")
        found = wait_whole(lab, 3)
    writer.assert_nothing_lost()
    assert writer.ledger[-1].revision is not None
    assert dead.id not in {member.name for member in found}
    assert watch.removed_at(dead.id) > terminated_at
    removal = only(deeds(lab, terminated_at, "RemoveMember"))
    assert removal.instance != dead.id
    assert "EC2 says" in removal.because
    assert looks(lab, removal.instance, terminated_at, removal.at) >= 1, "removed without asking EC2"
    assert len(deeds(lab, terminated_at, "AddLearner")) == len(deeds(lab, terminated_at, "PromoteMember")) == 1


def only(found: list[T]) -> T:
    assert len(found) == 1, found
    return found[0]


def test_a_silent_member_is_removed_only_once_ec2_says_that_its_instance_is_gone(three: Lab) -> None:
    """EC2 knows the truth and does not tell it for a while: what it told before is not enough."""
    lab = three
    dead = followers(lab)[0]
    with Watch(lab) as watch, Writer(lab) as writer:
        with lab.weather(service="ec2", operation="DescribeInstances", stale=True):
            terminated_at = datetime.now(UTC)
            lab.terminate(dead.id)
            stays(lambda: dead.id in (voters(lab) or {dead.id}), 8, "the dead is a member while EC2 says that it runs")
            assert not deeds(lab, terminated_at, "RemoveMember")
            cleared_at = datetime.now(UTC)
        wait_whole(lab, 3)
    assert watch.removed_at(dead.id) >= cleared_at
    removal = only(deeds(lab, cleared_at, "RemoveMember"))
    assert looks(lab, removal.instance, cleared_at, removal.at) >= 1
    writer.assert_nothing_lost()


def test_a_member_is_removed_while_its_instance_is_still_shutting_down(three: Lab) -> None:
    """There is no way back from `shutting-down` either; AWS takes minutes over it."""
    lab = three
    lab.change(pace={"shutting_down_s": 60.0})
    dead = followers(lab)[0]
    lab.terminate(dead.id)
    wait_until(lambda: dead.id not in (voters(lab) or {dead.id}), 60, "the dying member to be removed")
    assert lab.instance(dead.id).state == "shutting-down"
    lab.change(pace={"shutting_down_s": 0.0})
    wait_whole(lab, 3)


@pytest.mark.long
def test_two_terminated_of_five_are_removed_one_at_a_time(make_fleet: MakeFleet) -> None:
    lab = make_fleet(5)
    dead = [the_leader(lab), followers(lab)[0]]
    survivors = {each.id for each in lab.instances()} - {each.id for each in dead}
    with Watch(lab) as watch, Writer(lab) as writer:
        terminated_at = datetime.now(UTC)
        for each in dead:
            lab.terminate(each.id)
        for each in dead:
            wait_until(lambda each=each: each.id not in (voters(lab) or {each.id}), 60, "the dead to be removed")  # type: ignore[misc]
        wait_whole(lab, 5)
    writer.assert_nothing_lost()
    watch.assert_quorum_of(survivors)
    for before, after in pairwise(watch.seen):
        assert len(before.names - after.names) <= 1, "two members left the list between two looks at it"
    removals = deeds(lab, terminated_at, "RemoveMember")
    assert len(removals) == 2
    since = terminated_at
    for removal in removals:
        assert looks(lab, removal.instance, since, removal.at) >= 1, f"no look at EC2 for {removal}"
        since = removal.at


def test_two_terminated_of_three_are_not_removed_while_there_is_no_quorum(make_fleet: MakeFleet) -> None:
    """The last one of three cannot change anything, and does not try to be a cluster of its own."""
    lab = make_fleet(3)
    lab.aws("autoscaling").suspend_processes(AutoScalingGroupName="lab", ScalingProcesses=["Launch"])
    dead = followers(lab)
    last = the_leader(lab)
    pids = last.etcd_pids
    terminated_at = datetime.now(UTC)
    for each in dead:
        lab.terminate(each.id)
    stays(lambda: lab.instance(last.id).etcd_pids == pids, 8, "the survivor's etcd runs on")
    assert not deeds(lab, terminated_at, "RemoveMember", "CreateGeneration", "StampIdentity", "StopEtcd", "Quarantine")
    assert members.status(last.address) is not None


# ---- nobody else is removed -----------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_stopped_instance_is_not_removed_and_comes_back(three: Lab) -> None:
    before = kept(three)
    away = followers(three)[0]
    with Writer(three) as writer:
        three.stop(away.id)
        stays_a_member(three, away)
        three.start_again(away.id)
        wait_kept_whole(three, 3)
    assert kept(three).members == before.members
    writer.assert_nothing_lost()


@pytest.mark.long
@pytest.mark.root
def test_an_unreachable_leader_is_not_removed_and_comes_back(three: Lab) -> None:
    if three.status()["cannot_isolate"]:
        pytest.skip(three.status()["cannot_isolate"])
    before = kept(three)
    away = the_leader(three)
    with Writer(three) as writer:
        three.isolate(away.id)
        wait_until(lambda: (found := leader(three)) is not None and found.id != away.id, 20, "another leader")
        stays_a_member(three, away)
        three.heal(away.id)
        wait_kept_whole(three, 3)
    assert kept(three) == before, "no restart of etcd, no other members"
    writer.assert_nothing_lost()


@pytest.mark.long
def test_a_frozen_leader_is_not_removed_and_comes_back(three: Lab) -> None:
    before = kept(three)
    away = the_leader(three)
    with Writer(three) as writer:
        three.freeze(away.id)
        stays_a_member(three, away)
        three.thaw(away.id)
        wait_kept_whole(three, 3)
    assert kept(three) == before
    writer.assert_nothing_lost()


@pytest.mark.long
def test_a_silent_member_that_no_listing_shows_is_not_removed(three: Lab) -> None:
    """Frozen, and neither EC2 nor Auto Scaling shows it: for a new member, that may only mean that they lag."""
    before = kept(three)
    away = followers(three)[0]
    with Writer(three) as writer:
        three.freeze(away.id)
        with three.weather(drop=[away.id]):
            stays_a_member(three, away)
        three.thaw(away.id)
        wait_kept_whole(three, 3)
    assert kept(three) == before
    writer.assert_nothing_lost()


@pytest.mark.parametrize(
    "operation", ["DescribeInstances", pytest.param("DescribeAutoScalingGroups", marks=pytest.mark.long)]
)
def test_a_silent_member_that_one_listing_does_not_show_is_not_removed(operation: str, three: Lab) -> None:
    before = kept(three)
    away = followers(three)[0]
    three.freeze(away.id)
    with three.weather(operation=operation, drop=[away.id]):
        stays_a_member(three, away, for_s=WAIT_S / 2)
    three.thaw(away.id)
    wait_kept_whole(three, 3)
    assert kept(three) == before


def stays_a_member(lab: Lab, away: Instance, for_s: float = WAIT_S) -> None:
    """For as long as the story waits, nobody leaves the list, and EC2 is asked about it again and again."""
    since, began = lab.last_call(), datetime.now(UTC)
    others = [each.address for each in lab.instances() if each.id != away.id]

    def is_listed() -> bool:
        found = next((found for address in others if (found := members.member_list(address))), None)
        return found is None or away.id in {member.name for member in found}

    stays(is_listed, for_s, f"{away.id} is a member")
    asked = [call for call in lab.calls(since) if call["operation"] == "DescribeInstances"]
    assert len(asked) >= for_s / 4, f"EC2 was asked only {len(asked)} times"
    assert not deeds(lab, began, "RemoveMember", "AddLearner")


# ---- how many voters ------------------------------------------------------------------------------------------------


def spares(lab: Lab) -> set[str]:
    """Learners that answer and have applied everything the leader had committed."""
    found = member_list(lab) or ()
    said = statuses(lab)
    newest = max((status.revision for status in said.values()), default=0)
    return {
        member.name
        for member in found
        if member.is_learner and member.name in said and said[member.name].revision >= newest
    }


def wait_with_spare(lab: Lab, size: int) -> str:
    """So many voters and one spare in sync; returns the spare."""
    wait_until(
        lambda: len(voters(lab) or ()) == size and len(spares(lab)) == 1, 60, f"{size} voters and a spare in sync"
    )
    return next(iter(spares(lab)))


def test_four_instances_are_three_voters_and_a_spare_that_takes_over(make_fleet: MakeFleet) -> None:
    lab = make_fleet(4, whole=0)
    spare = wait_with_spare(lab, 3)
    wait_calm(lab)
    stays(lambda: spare in spares(lab) or spare not in (voters(lab) or ()), 5, "the spare stays a learner")
    dead = next(each for each in followers(lab) if each.id != spare)
    with Writer(lab) as writer:
        lab.terminate(dead.id)
        wait_until(lambda: spare in (voters(lab) or ()), 60, "the spare to be promoted")
        after = wait_with_spare(lab, 3)
    assert after not in (spare, dead.id)
    assert dead.id not in (voters(lab) or {dead.id})
    writer.assert_nothing_lost()


def test_three_grow_to_five_and_shrink_to_three(three: Lab) -> None:
    lab = three
    with Watch(lab) as watch, Writer(lab) as writer:
        lab.scale(5)
        wait_whole(lab, 5, 90)
        lab.scale(3)
        wait_whole(lab, 3, 90)
    writer.assert_nothing_lost()
    for before, after in pairwise(watch.seen):
        assert len(before.members ^ after.members) <= 3, f"more than one change at once: {before} {after}"


def test_three_groups_in_three_zones_form_one_cluster_and_replace_within_a_zone(make_fleet: MakeFleet) -> None:
    lab = make_fleet(3, asgs=3)
    assert {each.group for each in lab.instances()} == {"lab-a", "lab-b", "lab-c"}
    dead = the_leader(lab)
    with Writer(lab) as writer:
        lab.terminate(dead.id)
        wait_until(lambda: dead.id not in (voters(lab) or {dead.id}), 60, "the dead to be removed")
        wait_whole(lab, 3)
    assert {each.group for each in lab.instances()} == {"lab-a", "lab-b", "lab-c"}
    writer.assert_nothing_lost()


# ---- learners that never come ---------------------------------------------------------------------------------------


def broken_etcd(folder: Path, real: str, instead: str) -> str:
    """An etcd that says its version and then does something else."""
    folder.mkdir()
    script = folder / "etcd"
    script.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec {real} --version\n{instead}\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return str(script)


def next_instance_runs(lab: Lab, etcd: str, desired: int) -> Instance:
    """Grow by one instance that runs this etcd; those after it run the usual one again."""
    before = {each.id for each in lab.instances()}
    lab.change(settings={**SETTINGS, "etcd": {"binary": etcd}})
    lab.scale(desired)

    def booted() -> list[Instance]:
        return [each for each in lab.instances() if each.id not in before and each.agent_starts]

    found = only(wait_until(booted, 30, "the next instance to boot"))
    lab.change(settings=SETTINGS)
    return found


def wait_for_its_entry(lab: Lab) -> None:
    wait_until(lambda: any(member.is_learner for member in member_list(lab) or ()), 30, "a learner's entry")


@pytest.mark.long
def test_a_learner_whose_etcd_never_starts_blocks_the_next_no_longer_than_join_timeout(
    make_fleet: MakeFleet, tmp_path: Path, etcd_binary: str
) -> None:
    lab = make_fleet(3)
    bad = next_instance_runs(lab, broken_etcd(tmp_path / "bad", etcd_binary, "exit 1"), 4)
    wait_for_its_entry(lab)
    the_next_one_joins(lab, besides=bad)


@pytest.mark.long
def test_a_learner_that_freezes_blocks_the_next_no_longer_than_join_timeout(
    make_fleet: MakeFleet, tmp_path: Path, etcd_binary: str
) -> None:
    lab = make_fleet(3)
    bad = next_instance_runs(lab, broken_etcd(tmp_path / "bad", etcd_binary, "exec sleep 1000"), 4)
    wait_for_its_entry(lab)
    lab.freeze(bad.id)
    the_next_one_joins(lab, besides=bad)


@pytest.mark.long
def test_a_learner_whose_instance_dies_blocks_the_next_no_longer_than_join_timeout(
    make_fleet: MakeFleet, tmp_path: Path, etcd_binary: str
) -> None:
    """It dies before its etcd ever started, so its entry has no name by which EC2 could be asked."""
    lab = make_fleet(3)
    bad = next_instance_runs(lab, broken_etcd(tmp_path / "bad", etcd_binary, "exec sleep 1000"), 4)
    wait_for_its_entry(lab)
    lab.terminate(bad.id)
    the_next_one_joins(lab, besides=bad)


def the_next_one_joins(lab: Lab, besides: Instance) -> None:
    """Another instance is a voter soon after `join_timeout`, and the cluster never lost a voter on the way."""
    founders = voters(lab)
    assert founders is not None
    entered = only(deeds(lab, LONG_AGO, "AddLearner")).at
    lab.scale(5)

    def has_joined() -> set[str]:
        return (voters(lab) or set()) - founders - {besides.id}

    wait_until(has_joined, JOIN_TIMEOUT_S + 30, "the next instance to join")
    assert founders <= (voters(lab) or set())
    removal = deeds(lab, entered, "RemoveMember")[0]
    assert "no progress" in removal.because
    assert removal.at - entered >= timedelta(seconds=JOIN_TIMEOUT_S) - timedelta(seconds=1), "it was given its time"
