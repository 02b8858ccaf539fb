"""Cases in a group whose hooks wait for the agents: refreshes in both orders, and scaling to nothing and back.

Whoever leaves has time to hand over, so none of these may cost a write: not even at zero, where the last voter's log
is in the bucket before its instance goes.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.lab.client import Instance
from tests.chaos.case import Case, Next
from tests.chaos.scene import Scene

HEARTBEAT_S = 120
"""How long either hook waits for an agent that says nothing: longer than any of these steps takes."""

LET_GO_S, LET_IN_S = 60.0, 60.0


def terminate_first(scene: Scene) -> None:
    """An instance refresh that ends an instance and then replaces it, the leader last."""
    leader = scene.leader()
    for each in sorted(scene.everybody(), key=lambda each: each.id == leader.id):
        _let_go(scene, each, and_replace=True)
        _let_in(scene, scene.size)


def launch_first(scene: Scene) -> None:
    """An instance refresh that lets a spare in before it ends whom the spare is for, the leader first."""
    leader = scene.leader()
    for each in sorted(scene.everybody(), key=lambda each: each.id != leader.id):
        scene.note("launch one more")
        scene.lab.scale(scene.size + 1)
        _let_in(scene, scene.size + 1)
        _let_go(scene, each, and_replace=False)
        scene.whole(LET_IN_S)


def up_down_to_zero_and_up(scene: Scene) -> None:
    for size in (5, 3):
        scene.scale(size)
        scene.until(lambda: len(scene.everybody()) == scene.size, LET_GO_S, f"{size} instances")
        scene.whole(LET_IN_S)
        scene.wait(3)
    scene.scale(0)
    scene.until(lambda: not scene.everybody(), LET_GO_S, "nobody is left")
    scene.scale(3)


def _let_go(scene: Scene, target: Instance, *, and_replace: bool) -> None:
    scene.note(f"let go {target.id}")
    scene.lab.aws("autoscaling").terminate_instance_in_auto_scaling_group(
        InstanceId=target.id, ShouldDecrementDesiredCapacity=not and_replace
    )
    scene.until(lambda: target.id not in scene.ids(), LET_GO_S, f"{target.id} is let go")


def _let_in(scene: Scene, size: int) -> None:
    def all_are_in() -> bool:
        found = scene.everybody()
        return len(found) == size and all(each.lifecycle == "InService" for each in found)

    scene.until(all_are_in, LET_IN_S, f"{size} instances in service")


def hooked(name: str, what: str, do: Callable[[Scene], None], generation: Next = Next.NEVER) -> Case:
    """Launching and terminating hooks on the group."""
    return Case(name, what, do, generation=generation, within_s=90, hook_s=HEARTBEAT_S)


CASES = (
    hooked("refresh-terminate-first", "with hooks: every instance is ended and then replaced", terminate_first),
    hooked("refresh-launch-first", "with hooks: a spare is let in before each instance is ended", launch_first),
    hooked(
        "hooked-3-5-3-0-3",
        "with hooks: the group is scaled from 3 to 5, to 3, to none, and to 3",
        up_down_to_zero_and_up,
        Next.MUST,
    ),
)
