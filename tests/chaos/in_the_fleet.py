"""Cases that befall the fleet: replacements that race, scaling, an instance refresh, and a rescuer that dies."""

from __future__ import annotations

from tests.chaos.case import Case, Next, with_one_disk, without_disks
from tests.chaos.checker import Loss
from tests.chaos.scene import Scene
from tests.lab.losing import wait_snapshot
from tests.lab.test_rescuers_die import (
    ABOUT_TO_RECORD,
    COMMITTED,
    RECORDED,
    UPLOADED,
    UPLOADING,
    die_at,
    kill_agent,
)


def slow_replacement(scene: Scene) -> None:
    """All are terminated; the replacements boot slowly and one of them ends while the others wait for it."""
    scene.lab.change(pace={"boot_s": 6.0})
    before = {each.id for each in scene.everybody()}
    scene.terminate(*scene.everybody())
    scene.until(lambda: len(scene.ids() - before) == 3, 30, "three replacements")
    scene.wait(4)
    scene.terminate(next(each for each in scene.everybody() if each.id not in before))
    scene.lab.change(pace={"boot_s": 0.5})


def two_replacements(scene: Scene) -> None:
    """Two of five end at once, and their replacements race for the two seats."""
    scene.terminate(*scene.followers()[:2])


def rescuer_dies_at_every_step(scene: Scene) -> None:
    """The two others end for good; the survivor's agent is killed at each step of its rescue."""
    survivor = scene.follower()
    scene.terminate(*(each for each in scene.everybody() if each.id != survivor.id))
    for step in (UPLOADING, UPLOADED, COMMITTED, ABOUT_TO_RECORD, RECORDED):
        scene.note(f"the rescuer dies: {step.name}")
        die_at(scene.lab, survivor, step, 1, kill_agent)


def scale_up_down_to_zero_and_up(scene: Scene) -> None:
    for size in (5, 3):
        scene.scale(size)
        scene.whole()
        scene.wait(3)
    wait_snapshot(scene.lab, 1)
    scene.note_snapshot()
    scene.scale(0)
    scene.until(lambda: not scene.everybody(), 30, "nobody is left")
    scene.wait(5)
    scene.scale(3)


def instance_refresh(scene: Scene) -> None:
    """One after another, each when the one before has been replaced by a voter."""
    autoscaling = scene.lab.aws("autoscaling")
    for each in scene.everybody():
        scene.note(f"refresh {each.id}")
        autoscaling.terminate_instance_in_auto_scaling_group(InstanceId=each.id, ShouldDecrementDesiredCapacity=False)
        scene.gone(each)
        scene.whole()


CASES = (
    without_disks(
        "replacement-booting",
        "all are terminated; the replacements boot for 6 s, and one of them is terminated meanwhile",
        slow_replacement,
    ),
    Case("two-replacements", "two of five are terminated at once", two_replacements, size=5),
    with_one_disk(
        "rescuer-dies",
        "leader and follower are terminated; the survivor's agent is killed at each step of its rescue",
        rescuer_dies_at_every_step,
        within_s=90,
    ),
    Case(
        "scale-3-5-3-0-3",
        "the group is scaled from 3 to 5, to 3, to none, and to 3",
        scale_up_down_to_zero_and_up,
        Loss.SNAPSHOT,
        Next.MUST,
    ),
    Case("instance-refresh", "every instance is replaced, one after another", instance_refresh),
)
