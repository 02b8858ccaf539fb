"""Spot notices, hooks that are shorter than the work, and whole rotations: who goes is out in time, or is kept."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest

from agent.lab.client import Instance, Lab
from tests.lab.conftest import MakeLab
from tests.lab.evidence import events
from tests.lab.harness import Writer, leader, member_list, voters, wait_until, wait_whole
from tests.lab.losing import PACE, QUICK, acted, manifests, roles, terminate_for_good
from tests.lab.shelf import Shelf
from tests.lab.test_leaving import is_gone, let_go, wait_let_in
from tests.lab.watching import Watch, deeds

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

STEADY_S = 6
"""etcd refuses to remove a voter before the others have been connected for 5 s."""

SHORTEST_HOOK_S = 30
"""Auto Scaling takes no shorter heartbeat timeout."""


def lab_with_hooks(make_lab: MakeLab, timeout_s: int = 120, instances: int = 3) -> Lab:
    """Voters in a group with both hooks, who were let in."""
    lab = make_lab(settings=QUICK, pace=PACE, launch_hook_s=timeout_s, terminate_hook_s=timeout_s, instances=instances)
    wait_let_in(lab, instances)
    return lab


def the_leader(lab: Lab) -> Instance:
    wait_until(lambda: leader(lab), 20, "a leader")
    found = leader(lab)
    assert found is not None
    return found


def wait_gone(lab: Lab, instance: Instance, within_s: float = 60) -> None:
    wait_until(lambda: is_gone(lab, instance), within_s, f"{instance.id} to be gone", every_s=0.05)


# ---- EC2 takes spot instances back ----------------------------------------------------------------------------------


@pytest.mark.long
def test_with_five_seconds_left_the_leader_hands_over_and_is_out(make_lab: MakeLab) -> None:
    lab = make_lab(settings=QUICK, pace=PACE)
    wait_whole(lab, 3)
    taken, since = the_leader(lab), datetime.now(UTC)
    with Writer(lab) as writer:
        time.sleep(STEADY_S)
        lab.interrupt(taken.id, seconds=5)
        wait_until(lambda: taken.id not in (voters(lab) or {taken.id}), 10, "the leader to be out", every_s=0.05)
        wait_gone(lab, taken)
        wait_whole(lab, 3)
    writer.assert_nothing_lost()
    assert [each.instance for each in deeds(lab, since, "MoveLeader")] == [taken.id]
    removed = acted(taken, "RemoveMember")
    assert removed, "its etcd may have ended before the answer came"
    assert datetime.fromisoformat(removed[0]["time"]) - since < timedelta(seconds=STEADY_S + 5)
    assert not acted(taken, "CompleteHook"), "there is none"
    assert not acted(taken, "HeartbeatHook")
    print(f"5 s: longest time without a write {writer.longest_gap_s():.2f} s, failed {len(writer.failed)}")  # noqa: T201


@pytest.mark.long
def test_with_two_minutes_left_a_spare_takes_the_vote_first(make_lab: MakeLab) -> None:
    lab = make_lab(settings=QUICK, pace=PACE, instances=4)
    wait_until(lambda: len(voters(lab) or ()) == 3 and len(member_list(lab) or ()) == 4, 60, "three voters and a spare")
    taken, since = the_leader(lab), datetime.now(UTC)
    with Watch(lab) as watch, Writer(lab) as writer:
        time.sleep(1)
        lab.interrupt(taken.id, seconds=120)
        wait_until(lambda: taken.id not in (voters(lab) or {taken.id}), 30, "it to be out")
        out_after = (datetime.now(UTC) - since).total_seconds()
        wait_gone(lab, taken, 130)
        wait_until(lambda: len(voters(lab) or ()) == 3, 60, "three voters")
    writer.assert_nothing_lost()
    assert [each.action for each in deeds(lab, since, "MoveLeader", "PromoteMember")][:2] == [
        "MoveLeader",
        "PromoteMember",
    ]
    assert min(len(seen.voters) for seen in watch.seen) >= 3
    print(f"120 s: out after {out_after:.1f} s, longest without a write {writer.longest_gap_s():.2f} s")  # noqa: T201


@pytest.mark.long
def test_three_that_are_taken_at_once_leave_everything_in_the_bucket(make_lab: MakeLab) -> None:
    """Nobody comes to take over: the last voter stops 45 s before its end."""
    lab = make_lab(settings=QUICK, pace=PACE)
    wait_whole(lab, 3)
    first = lab.instances()
    lab.aws("autoscaling").suspend_processes(AutoScalingGroupName="lab", ScalingProcesses=["Launch"])
    with Writer(lab) as writer:
        for each in first:
            lab.interrupt(each.id, seconds=60)
        for each in first:
            wait_gone(lab, each, 90)
    lab.aws("autoscaling").resume_processes(AutoScalingGroupName="lab")
    wait_whole(lab, 3)
    assert writer.acknowledged
    writer.assert_nothing_lost()
    assert Shelf(lab).head() == 2


# ---- hooks ----------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_hook_that_is_shorter_than_the_work_is_kept_and_an_operators_completion_is_no_error(
    make_lab: MakeLab,
) -> None:
    lab = lab_with_hooks(make_lab, SHORTEST_HOOK_S)
    found = roles(lab)
    lab.stop(found.one.id)
    let_go(lab, found.other)
    time.sleep(SHORTEST_HOOK_S * 1.5)
    assert not is_gone(lab, found.other), "without it the leader has no quorum"
    assert acted(found.other, "HeartbeatHook")
    lab.start_again(found.one.id)
    wait_gone(lab, found.other)
    wait_let_in(lab, 3)
    # An operator completes the hook of another before its agent does, and once more.
    last = lab.instance(found.one.id)
    hang = lab.fault(
        service="autoscaling", operation="CompleteLifecycleAction", caller=last.id, hang=True, times=1_000_000
    )
    let_go(lab, last)
    hooks = lab.aws("autoscaling").describe_lifecycle_hooks(AutoScalingGroupName="lab")["LifecycleHooks"]
    name = next(each["LifecycleHookName"] for each in hooks if each["LifecycleTransition"].endswith("TERMINATING"))
    which = {"AutoScalingGroupName": "lab", "LifecycleHookName": name, "InstanceId": last.id}
    wait_until(lambda: lab.instance(last.id).lifecycle == "Terminating:Wait", 20, "the hook to wait")
    lab.aws("autoscaling").complete_lifecycle_action(**which, LifecycleActionResult="CONTINUE")
    lab.clear_faults(hang)
    wait_gone(lab, last)
    wait_let_in(lab, 3)
    refused = [each for each in events(last) if each.get("outcome") == "refused"]
    assert not refused


@pytest.mark.long
def test_an_instance_that_never_joined_is_let_go_at_once(make_lab: MakeLab) -> None:
    """No learner slot for it: it waits, and holds nothing."""
    lab = lab_with_hooks(make_lab)
    before = {each.id for each in lab.instances()}
    with lab.weather(service="s3"):  # it can join nothing, and founds nothing
        lab.scale(4)
        newcomer = wait_until(
            lambda: next((each for each in lab.instances() if each.id not in before and each.agent_starts), None),
            30,
            "a newcomer",
        )
        assert newcomer is not None
        let_go(lab, newcomer)
        wait_gone(lab, newcomer, 40)
    lab.scale(3)
    assert voters(lab) == before


@pytest.mark.long
def test_a_survivor_of_a_lost_quorum_is_kept_until_its_rescue_is_in_the_bucket(make_lab: MakeLab) -> None:
    lab = lab_with_hooks(make_lab, SHORTEST_HOOK_S)
    found = roles(lab)
    survivor = found.one
    with Writer(lab) as writer:
        time.sleep(3)
        terminate_for_good(lab, found.leader, found.other)
        with lab.weather(service="s3", operation="PutObject", match=".db.zst", status=503, times=1_000_000):
            let_go(lab, survivor)
            time.sleep(SHORTEST_HOOK_S * 1.3)
            assert not is_gone(lab, survivor), "what it holds is nowhere else"
            assert not any(each.get("rescued") for each in manifests(lab, 1))
        wait_gone(lab, survivor, 90)
    assert any(each.get("rescued") for each in manifests(lab, 1))
    wait_whole(lab, 3, 90)
    writer.assert_nothing_lost()
    assert acted(survivor, "HeartbeatHook")


@pytest.mark.long
@pytest.mark.parametrize("deed", ["MoveLeader", "RemoveMember", "CompleteHook"])
def test_an_agent_that_is_killed_after_a_step_of_leaving_goes_on(make_lab: MakeLab, deed: str) -> None:
    lab = lab_with_hooks(make_lab)
    leaves = the_leader(lab)
    with Writer(lab) as writer:
        let_go(lab, leaves)
        wait_until(lambda: acted(leaves, deed) or is_gone(lab, leaves), 30, deed, every_s=0.01)
        pid = next((each.agent_pid for each in lab.instances() if each.id == leaves.id), None)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        wait_gone(lab, leaves)
        wait_let_in(lab, 3)
    writer.assert_nothing_lost()


@pytest.mark.long
def test_an_agent_that_stays_dead_while_it_leaves_leaves_a_member_that_serves(make_lab: MakeLab) -> None:
    """Until the hook's time is over: then the instance goes, as one that was terminated, and is replaced."""
    lab = lab_with_hooks(make_lab, SHORTEST_HOOK_S)
    leaves = next(each for each in lab.instances() if each.id != the_leader(lab).id)
    with Writer(lab) as writer:
        lab.stop_agent(leaves.id)
        let_go(lab, leaves)
        time.sleep(SHORTEST_HOOK_S / 2)
        assert leaves.id in (voters(lab) or ())
        assert lab.instance(leaves.id).etcd_pids == leaves.etcd_pids
        wait_gone(lab, leaves)
        wait_let_in(lab, 3)
    writer.assert_nothing_lost()


# ---- rotations ------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_rotation_by_hooks_beside_the_same_by_sigkill(make_lab: MakeLab) -> None:
    """The leader last, each time when three are whole again: what a client sees of both."""
    gaps: dict[str, tuple[float, int]] = {}
    for how in ("hooks", "SIGKILL"):
        lab = lab_with_hooks(make_lab) if how == "hooks" else make_lab(settings=QUICK, pace=PACE)
        wait_whole(lab, 3)
        with Writer(lab) as writer:
            time.sleep(1)
            for each in sorted(lab.instances(), key=lambda each: each == leader(lab)):
                let_go(lab, each) if how == "hooks" else lab.terminate(each.id)
                wait_gone(lab, each)
                wait_whole(lab, 3)
            time.sleep(1)
        writer.assert_nothing_lost()
        gaps[how] = (writer.longest_gap_s(), len(writer.failed))
    for how, (gap, failed) in gaps.items():
        print(f"rotation by {how}: longest time without a write {gap:.2f} s, failed writes {failed}, lost 0")  # noqa: T201
    assert gaps["hooks"][0] < 1.0, "a handover"


@pytest.mark.long
def test_a_refresh_that_launches_first_never_has_fewer_than_three_voters(make_lab: MakeLab) -> None:
    """Even though an agent dies in the middle of it."""
    lab = lab_with_hooks(make_lab)
    first = lab.instances()
    with Watch(lab) as watch, Writer(lab) as writer:
        for number, each in enumerate(first):
            lab.scale(4)
            wait_until(lambda: len(in_service(lab)) == 4, 60, "the fourth to be let in")
            autoscaling = lab.aws("autoscaling")
            autoscaling.terminate_instance_in_auto_scaling_group(
                InstanceId=each.id, ShouldDecrementDesiredCapacity=True
            )
            if number == 1:
                lab.kill_agent(next(other.id for other in lab.instances() if other.id != each.id))
            wait_gone(lab, each)
            wait_let_in(lab, 3)
    writer.assert_nothing_lost()
    assert min(len(seen.voters) for seen in watch.seen) >= 3
    assert not {each.id for each in first} & {each.id for each in lab.instances()}
    print(f"launch-first: longest time without a write {writer.longest_gap_s():.2f} s")  # noqa: T201


def in_service(lab: Lab) -> list[Instance]:
    return [each for each in lab.instances() if each.lifecycle == "InService"]


# ---- warm pools -----------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_what_goes_to_a_warm_pool_joins_nothing(make_lab: MakeLab) -> None:
    lab = make_lab(settings=QUICK, pace=PACE)
    wait_whole(lab, 3)
    lab.change(pace={"boot_s": 2.0})  # its IMDS says where it goes before its agent asks
    before = {each.id for each in lab.instances()}
    lab.scale(4)
    found = wait_until(lambda: [each for each in lab.instances() if each.id not in before and each.powered], 20, "it")
    lab.imds(found[0].id, "meta-data/autoscaling/target-lifecycle-state", "Warmed:Stopped")
    time.sleep(10)
    assert voters(lab) == before
    assert len(member_list(lab) or ()) == 3
    lab.imds_restore(found[0].id, "meta-data/autoscaling/target-lifecycle-state")
    wait_until(lambda: len(member_list(lab) or ()) == 4, 30, "it to join once it is wanted")
