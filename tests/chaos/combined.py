"""Combinations drawn at random: one or two blows to machines while one or two troubles last around them.

A seed is a case: drawn again, it is the same script; what the real processes make of it may differ. What it may cost is
counted by the disks that the blows can have taken from the three: one leaves a quorum, two leave the best disk, three
leave the snapshot.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

from agent.lab.client import Instance
from tests.chaos import in_aws, network
from tests.chaos.case import Case, Next
from tests.chaos.checker import Loss
from tests.chaos.scene import Scene

NAME = "random"
LOST_ANSWERS = {"service": "s3", "operation": "PutObject", "status": 500, "after": True}
CONFLICT = {"service": "s3", "operation": "PutObject", "status": 409, "code": "ConditionalRequestConflict"}


@dataclass(frozen=True)
class Blow:
    """Something done to machines at once, and how many disks that costs for good."""

    name: str
    do: Callable[[Scene], None]
    disks: int = 0


@dataclass(frozen=True)
class Trouble:
    """Something that lasts for a while, and then is over."""

    name: str
    around: Callable[[Scene], AbstractContextManager[None]]


def every(scene: Scene) -> Sequence[Instance]:
    """All that there shall be, once they have power: what an earlier blow ended has been replaced by then."""
    scene.until(lambda: len(scene.lab.addresses()) == scene.size, 30, f"{scene.size} machines with power")
    return scene.everybody()


def one(scene: Scene) -> Instance:
    """Anybody, leader or not: there may be none."""
    return scene.chance.choice(every(scene))


def two(scene: Scene) -> Sequence[Instance]:
    return scene.chance.sample(every(scene), 2)


BLOWS = (
    Blow("kill one", lambda scene: scene.kill(one(scene))),
    Blow("kill two", lambda scene: scene.kill(*two(scene))),
    Blow("kill all", lambda scene: scene.kill(*every(scene))),
    Blow("reboot all", lambda scene: scene.reboot(*every(scene))),
    Blow("wipe one", lambda scene: scene.wipe(one(scene)), disks=1),
    Blow("wipe two", lambda scene: scene.wipe(*two(scene)), disks=2),
    Blow("wipe all", lambda scene: scene.wipe(*every(scene)), disks=3),
    Blow("terminate one", lambda scene: scene.terminate(one(scene)), disks=1),
    Blow("terminate two", lambda scene: scene.terminate(*two(scene)), disks=2),
    Blow("terminate all", lambda scene: scene.terminate(*every(scene)), disks=3),
)

TROUBLES = (
    Trouble("EC2 throttled", lambda scene: scene.weather(*in_aws.THROTTLED)),
    Trouble("EC2 lists nobody", lambda scene: scene.weather({"service": "ec2", "empty": True})),
    Trouble("Auto Scaling stale", lambda scene: scene.weather({"service": "autoscaling", "stale": True})),
    Trouble("S3 down", lambda scene: scene.weather(in_aws.S3_DOWN)),
    Trouble("S3 loses answers", lambda scene: scene.weather(LOST_ANSWERS)),
    Trouble("S3 in conflict", lambda scene: scene.weather(CONFLICT)),
    Trouble("S3 mute to one", lambda scene: scene.mute_from_s3(one(scene))),
    Trouble("one isolated", lambda scene: scene.isolated(one(scene))),
    Trouble("one link one-way", lambda scene: network.one_way(scene.lab, [(a, b) for a, b in [two(scene)]])),
    Trouble("lossy links", lambda scene: network.lossy(scene.lab, 10)),
    Trouble("an agent stopped", lambda scene: scene.stopped_agent(one(scene))),
    Trouble("an etcd stopped", lambda scene: scene.stopped_etcd(one(scene))),
)


def drawn(seed: int) -> Case:
    """The case of a seed."""
    chance = random.Random(seed)
    troubles = chance.sample(TROUBLES, chance.choice((1, 1, 2)))
    blows = [chance.choice(BLOWS) for _ in range(chance.choice((1, 1, 2)))]
    before, between, after = (chance.uniform(0, 8) for _ in range(3))
    disks = sum(each.disks for each in blows)

    def do(scene: Scene) -> None:
        with ExitStack() as stack:
            for trouble in troubles:
                scene.note(trouble.name)
                stack.enter_context(trouble.around(scene))
            scene.wait(before)
            for blow in blows:
                blow.do(scene)
                scene.wait(between)
            scene.wait(after)

    return Case(
        NAME,
        f"{' and '.join(each.name for each in blows)}, while {' and '.join(each.name for each in troubles)}",
        do,
        _loss(disks),
        Next.NEVER if disks < 2 else Next.MAY,
        within_s=90,
    )


def _loss(disks: int) -> Loss:
    if disks < 2:
        return Loss.NOTHING
    return Loss.BEST_DISK if disks == 2 else Loss.SNAPSHOT
