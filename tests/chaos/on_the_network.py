"""Cases that befall links: between members, in one direction, late, with losses; to AWS and to clients."""

from __future__ import annotations

from tests.chaos import network
from tests.chaos.case import Case, with_one_disk
from tests.chaos.scene import Scene


def partition_leader(scene: Scene) -> None:
    """From everybody: members, AWS, clients."""
    with scene.isolated(scene.leader()):
        scene.wait(15)


def partition_everybody(scene: Scene) -> None:
    """Nobody has a quorum, each is cut off from the bucket, and nobody calls it a loss."""
    with scene.isolated(*scene.everybody()):
        scene.wait(15)


def deaf_then_mute_leader(scene: Scene) -> None:
    """The others' packets do not reach the leader, but its heartbeats reach them; then, with another, the reverse."""
    leader = scene.leader()
    scene.note(f"{leader.id} is deaf")
    with network.one_way(scene.lab, [(each, leader) for each in scene.followers()]):
        scene.wait(10)
    scene.note("healed")
    leader = scene.leader()
    scene.note(f"{leader.id} is mute")
    with network.one_way(scene.lab, [(leader, each) for each in scene.followers()]):
        scene.wait(10)
    scene.note("healed")


def broken_link(scene: Scene) -> None:
    """Two followers do not reach each other, and both reach the leader; then the leader and one of them do not."""
    leader, (one, other) = scene.leader(), scene.followers()
    for here, there in ((one, other), (leader, one)):
        scene.note(f"no link between {here.id} and {there.id}")
        with network.one_way(scene.lab, [(here, there), (there, here)]):
            scene.wait(10)


def slow_links(scene: Scene) -> None:
    """A round trip between members takes 200 ms; a follower is terminated and replaced meanwhile."""
    scene.note("200 ms")
    with network.slow(scene.lab, 100):
        scene.wait(10)
        scene.terminate(scene.follower())
        scene.whole()
        scene.wait(5)
    scene.note("fast again")


def lossy_links(scene: Scene) -> None:
    """A tenth of all packets between machines is lost; a follower is terminated meanwhile."""
    scene.note("lossy")
    with network.lossy(scene.lab, 10):
        scene.wait(10)
        scene.terminate(scene.follower())
        scene.wait(20)
    scene.note("well again")


def majority_without_s3(scene: Scene) -> None:
    """Leader and follower do not reach S3; their etcds serve on."""
    with scene.mute_from_s3(*scene.majority()):
        scene.wait(25)


def survivor_without_s3(scene: Scene) -> None:
    """A follower does not reach S3 while the two others are terminated: its log is waited for."""
    survivor = scene.follower()
    with scene.mute_from_s3(survivor):
        scene.terminate(*(each for each in scene.everybody() if each.id != survivor.id))
        scene.wait(15)
        assert scene.generations() == [1], "a generation was called lost without the survivor's word"


CASES = (
    Case("partition-leader", "the leader is cut off from members, AWS and clients for 15 s", partition_leader),
    Case("partition-everybody", "each is cut off from all others and AWS for 15 s", partition_everybody),
    Case(
        "asymmetric-partition",
        "10 s in which the leader is heard and hears nobody, and 10 s of the reverse",
        deaf_then_mute_leader,
    ),
    Case("broken-link", "two followers, then leader and follower, do not reach each other for 10 s", broken_link),
    Case(
        "slow-links",
        "200 ms between members, while a follower is terminated and replaced",
        slow_links,
        settings={"etcd": {"election_ms": 2000}, "timing": {"leaderless_grace": "10s"}},
    ),
    Case("lossy-links", "a tenth of the packets is lost for 30 s, while a follower is terminated", lossy_links),
    Case("majority-without-s3", "leader and follower do not reach S3 for 25 s", majority_without_s3),
    with_one_disk(
        "survivor-without-s3",
        "a follower does not reach S3 for 15 s, while both others are terminated",
        survivor_without_s3,
    ),
)
