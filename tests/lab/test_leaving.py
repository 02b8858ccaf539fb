"""Instances come and go by Auto Scaling's hooks all day, and the cluster does not notice."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from agent.lab import members
from agent.lab.client import Instance, Lab
from agent.model.hold import Hold, released
from tests.lab.conftest import MakeLab
from tests.lab.harness import (
    Writer,
    agent_status,
    cluster_ids,
    leader,
    member_list,
    metrics,
    stays,
    wait_until,
    wait_whole,
)
from tests.lab.losing import PACE, QUICK
from tests.lab.shelf import Shelf

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]


@pytest.fixture
def hooked(make_lab: MakeLab) -> Lab:
    """Three voters in a group with both hooks, who were let in."""
    lab = make_lab(settings=QUICK, pace=PACE, launch_hook_s=120, terminate_hook_s=120)
    wait_let_in(lab, 3)
    return lab


def wait_let_in(lab: Lab, size: int) -> None:
    """So many voters, and nobody whose launching hook still waits."""
    wait_whole(lab, size)
    wait_until(lambda: all(each.lifecycle == "InService" for each in lab.instances()), 20, "everybody in service")


def let_go(lab: Lab, instance: Instance) -> None:
    """As an instance refresh does that terminates first."""
    autoscaling = lab.aws("autoscaling")
    autoscaling.terminate_instance_in_auto_scaling_group(InstanceId=instance.id, ShouldDecrementDesiredCapacity=False)


def is_gone(lab: Lab, instance: Instance) -> bool:
    return instance.id not in {each.id for each in lab.instances()}


def longest_gap_s(writer: Writer) -> float:
    ends = sorted(each.at + each.took_s for each in writer.acknowledged)
    return max(later - earlier for earlier, later in pairwise(ends))


def test_all_three_are_replaced_one_after_another_and_no_client_notices(hooked: Lab) -> None:
    first = hooked.instances()
    with Writer(hooked) as writer:
        for each in sorted(first, key=lambda each: each == leader(hooked)):
            let_go(hooked, each)
            wait_until(lambda each=each: is_gone(hooked, each), 60, f"{each.id} to be let go")  # type: ignore[misc]
            wait_let_in(hooked, 3)
    writer.assert_nothing_lost()
    assert not {each.id for each in first} & {each.id for each in hooked.instances()}
    assert Shelf(hooked).head() == 1
    print(f"longest time without a write: {longest_gap_s(writer):.2f} s, failed: {len(writer.failed)}")  # noqa: T201


def test_three_told_to_go_at_once_hand_everything_to_their_replacements(hooked: Lab) -> None:
    first, cluster = hooked.instances(), cluster_ids(hooked)
    with Writer(hooked) as writer:
        for each in first:
            let_go(hooked, each)
        wait_until(lambda: all(is_gone(hooked, each) for each in first), 120, "the three to be let go")
        wait_let_in(hooked, 3)
    writer.assert_nothing_lost()
    assert cluster_ids(hooked) == cluster
    assert Shelf(hooked).head() == 1


@pytest.mark.long
def test_two_told_to_go_at_once_leave_one_after_the_other(hooked: Lab) -> None:
    """The leader is one of them."""
    leading = wait_until(lambda: leader(hooked), 15, "a leader")
    assert leading is not None
    both = (leading, next(each for each in hooked.instances() if each != leading))
    with Writer(hooked) as writer:
        for each in both:
            let_go(hooked, each)
        wait_until(lambda: all(is_gone(hooked, each) for each in both), 120, "the two to be let go")
        wait_let_in(hooked, 3)
    writer.assert_nothing_lost()
    assert Shelf(hooked).head() == 1
    print(f"two at once: longest time without a write: {longest_gap_s(writer):.2f} s")  # noqa: T201


def test_to_zero_and_back_with_a_write_between_each_step(hooked: Lab) -> None:
    written: list[str] = []
    for size in (5, 3, 1, 0, 3):
        if hooked.instances():
            key = f"before {size}, {len(written)}"
            wait_until(lambda: any(members.put(each, key, key) for each in hooked.addresses()), 10, "a write")  # noqa: B023
            written.append(key)
        hooked.scale(size)
        if size:
            wait_whole(hooked, size, timeout_s=90)
        else:
            wait_until(lambda: not hooked.instances(), 90, "the last one to be let go")
    for address in hooked.addresses():
        assert [members.get(address, key) for key in written] == written
    assert Shelf(hooked).head() == 2


def test_a_held_cluster_lets_nobody_go_until_it_is_released(hooked: Lab) -> None:
    shelf, before = Shelf(hooked), member_list(hooked)
    shelf.put("hold.json", Hold("anna", "we move the volumes", datetime.now(UTC)).to_json().encode())
    leaver = next(each for each in hooked.instances() if each != leader(hooked))
    with Writer(hooked) as writer:
        let_go(hooked, leaver)
        wait_until(lambda: decided(leaver) == "hold", 20, "the agent to hold back")
        stays(lambda: member_list(hooked) == before and not is_gone(hooked, leaver), 4, "everybody to stay")
        assert (metrics(leaver) or {})["etcd_asg_agent_hold"] == 1
        assert (agent_status(leaver) or {})["hold"]["why"] == "we move the volumes"
        shelf.put("hold.json", released("anna", "done", datetime.now(UTC)).encode())
        wait_until(lambda: is_gone(hooked, leaver), 60, "the leaving one to be let go")
        wait_let_in(hooked, 3)
    writer.assert_nothing_lost()


def decided(instance: Instance) -> str | None:
    status = agent_status(instance)
    return None if status is None else (status["decision"] or {}).get("rule")
