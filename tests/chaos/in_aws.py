"""Cases that befall AWS: throttled, stale or lying answers, storms and outages of S3, also across a recovery."""

from __future__ import annotations

from tests.chaos.case import Case, with_one_disk, without_disks
from tests.chaos.scene import Scene

THROTTLED = (
    {"service": "ec2", "operation": "Describe*", "status": 503},
    {"service": "autoscaling", "operation": "Describe*", "status": 503},
)
S3_DOWN = {"service": "s3", "status": 503}


def throttled_ec2(scene: Scene) -> None:
    """The leader is terminated while EC2 answers nobody: nothing is proven, nobody removed, until it answers again."""
    with scene.weather(*THROTTLED):
        scene.terminate(scene.leader())
        scene.wait(20)


def partial_and_stale_listing(scene: Scene) -> None:
    """For a minute EC2 lists one instance of three, and Auto Scaling tells the past; a follower's etcd is killed."""
    leader = scene.leader()
    others = [each.id for each in scene.everybody() if each.id != leader.id]
    with scene.weather({"service": "ec2", "drop": others}, {"service": "autoscaling", "stale": True}):
        scene.wait(20)
        scene.kill(scene.follower())
        scene.wait(40)


def empty_listing_across_a_loss(scene: Scene) -> None:
    """A quorum is terminated while EC2 lists nobody: that proves nothing."""
    with scene.weather({"service": "ec2", "empty": True}):
        scene.terminate(*scene.majority())
        scene.wait(12)
        assert scene.generations() == [1], "an empty listing was taken for a proof"


def storms_across_a_recovery(scene: Scene) -> None:
    """Every disk is lost, and the bucket answers writes with 503, 409 and 412, and loses answers, in turn."""
    lost_answers = {"service": "s3", "operation": "PutObject", "status": 500, "after": True}
    scene.terminate(*scene.everybody())
    for _ in range(4):
        for status, code in ((503, "SlowDown"), (409, "ConditionalRequestConflict"), (412, "PreconditionFailed")):
            storm = {"service": "s3", "operation": "*Object*", "status": status, "code": code}
            with scene.weather(storm if status == 503 else storm | {"operation": "PutObject"}):
                scene.wait(1.5)
        with scene.weather(lost_answers):
            scene.wait(1.5)
        scene.wait(0.5)


def outage_across_a_recovery(scene: Scene) -> None:
    """S3 goes, a quorum is terminated, and S3 comes back later, to go once more while the survivor is rescued."""
    with scene.weather(S3_DOWN):
        scene.terminate(*scene.majority())
        scene.wait(15)
    scene.wait(2.5)
    with scene.weather(S3_DOWN):
        scene.wait(8)


def everything_down(scene: Scene) -> None:
    """EC2, Auto Scaling and S3 are all down, and every etcd and every agent is killed: they restart in place."""
    with scene.weather(*THROTTLED, S3_DOWN):
        scene.kill(*scene.everybody())
        scene.wait(15)


CASES = (
    Case("ec2-throttled", "EC2 answers nobody for 20 s, while the leader is terminated", throttled_ec2),
    Case(
        "listing-partial-and-stale",
        "one of three is listed and the groups are stale for 60 s, while a follower is killed",
        partial_and_stale_listing,
    ),
    with_one_disk(
        "listing-empty-across-a-loss",
        "EC2 lists nobody for 12 s, while leader and follower are terminated",
        empty_listing_across_a_loss,
    ),
    without_disks(
        "s3-storms", "all are terminated in storms of 503, 409, 412 and lost answers", storms_across_a_recovery
    ),
    with_one_disk(
        "s3-outage-across-recovery",
        "S3 is down for 15 s and again for 8 s, while leader and follower are terminated",
        outage_across_a_recovery,
    ),
    Case("aws-down-kill-all", "all of AWS is down for 15 s, while everybody is killed", everything_down),
)
