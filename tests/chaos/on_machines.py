"""Cases that befall machines: processes killed or stopped, disks lost or full, instances ended for good.

The first eight are etcd-cloud-operator's.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from agent.lab import members
from agent.lab.client import Instance
from tests.chaos.case import Case, with_one_disk, without_disks
from tests.chaos.scene import Scene
from tests.lab.harness import statuses, wait_whole

# ---- etcd-cloud-operator's eight -------------------------------------------------------------------------------------


def kill_leader(scene: Scene) -> None:
    scene.kill(scene.leader())


def kill_follower(scene: Scene) -> None:
    scene.kill(scene.follower())


def kill_majority(scene: Scene) -> None:
    scene.kill(*scene.majority())


def kill_all(scene: Scene) -> None:
    scene.kill(*scene.everybody())


def wipe_follower(scene: Scene) -> None:
    scene.wipe(scene.follower())


def wipe_majority(scene: Scene) -> None:
    scene.wipe(*scene.majority())


def wipe_all(scene: Scene) -> None:
    scene.wipe(*scene.everybody())


def stop_and_wipe_all(scene: Scene) -> None:
    everybody = scene.everybody()
    scene.stop(*everybody)
    for each in everybody:
        shutil.rmtree(each.disk)
    scene.start(*everybody)


# ---- terminated for good ---------------------------------------------------------------------------------------------


def terminate_leader(scene: Scene) -> None:
    scene.terminate(scene.leader())


def terminate_majority(scene: Scene) -> None:
    scene.terminate(*scene.majority())


def terminate_all(scene: Scene) -> None:
    scene.terminate(*scene.everybody())


# ---- power -----------------------------------------------------------------------------------------------------------


def reboot_all(scene: Scene) -> None:
    scene.reboot(*scene.everybody())


def move_follower(scene: Scene) -> None:
    scene.reboot(scene.follower(), address_changed=True)


# ---- stopped for a while ---------------------------------------------------------------------------------------------


def freeze_leader(scene: Scene) -> None:
    """The whole machine stands still, for longer than it takes to call a generation lost; then it goes on."""
    leader = scene.leader()
    scene.note(f"freeze {leader.id}")
    scene.lab.freeze(leader.id)
    scene.wait(20)
    scene.lab.thaw(leader.id)


def pause_etcd_of_leader(scene: Scene) -> None:
    with scene.stopped_etcd(scene.leader()):
        scene.wait(15)


def pause_agent(scene: Scene) -> None:
    """The agent beside the leader misses the end of a member, its replacement, and fifteen graces; then it goes on."""
    with scene.stopped_agent(scene.leader()):
        scene.terminate(scene.follower())
        scene.wait(60)


def pause_agent_across_a_loss(scene: Scene) -> None:
    """The only survivor's agent stands still while its generation is lost; nobody can prove that without it."""
    survivor = scene.follower()
    with scene.stopped_agent(survivor):
        scene.terminate(*(each for each in scene.everybody() if each.id != survivor.id))
        scene.wait(20)
        assert scene.generations() == [1], "somebody proved a loss without the survivor's word"


def pause_agents_in_turn_during_a_recovery(scene: Scene) -> None:
    """Every disk is lost; each agent stands still for longer than a report is fresh, one after another."""
    scene.wipe(*scene.everybody())
    for each in scene.everybody():
        with scene.stopped_agent(each):
            scene.wait(6)


# ---- a full disk -----------------------------------------------------------------------------------------------------

ROOM_MB = 400
GROWTH_MB = 30
"""More than the 16 MB in which bolt takes room, so that every member's file has to grow."""


def full_disk(scene: Scene) -> None:
    """A follower's disk, a small file system of its own, fills up; after a while there is room again."""
    victim = scene.follower()
    _onto_a_small_disk(scene, victim)
    wait_whole(scene.lab, scene.size)
    ballast = victim.disk / "ballast"
    scene.note(f"the disk of {victim.id} is full")
    with ballast.open("wb") as file:
        try:
            while file.write(bytes(2**20)):
                file.flush()
        except OSError:
            pass
    _grow(scene.leader(), GROWTH_MB)
    scene.wait(5)
    scene.serves_nothing(victim, for_s=5)
    ballast.unlink(missing_ok=True)
    scene.note("there is room again")


def _grow(through: Instance, megabytes: int) -> None:
    for number in range(2 * megabytes):
        members.put(through.address, f"ballast/{number}", "x" * 500_000, timeout_s=5)


def full_quota(scene: Scene) -> None:
    """The database reaches its quota: etcd refuses writes until an operator makes room, and is left alone until then.

    By etcd's own instructions: compact, defragment, disarm.
    """
    pids = {each.id: each.etcd_pids for each in scene.everybody()}
    scene.note("the database grows to its quota")
    scene.until(lambda: not any(members.put(each.address, "ballast", "x" * 500_000) for each in scene.everybody()), 60,
                "a refused write")  # fmt: skip
    since_s = time.monotonic()
    scene.wait(10)
    assert not scene.crowd.acknowledged(since_s), "there was room left"
    assert scene.generations() == [1], "a full database was taken for a lost one"
    assert {each.id: each.etcd_pids for each in scene.everybody()} == pids, "an etcd was stopped"
    scene.note("an operator makes room")
    revision = max(each.revision for each in statuses(scene.lab).values())
    for words in (("compact", str(revision), "--physical"), ("defrag",), ("alarm", "disarm")):
        said = scene.lab.etcdctl(*words)
        assert said.returncode == 0, said.stderr


def _onto_a_small_disk(scene: Scene, victim: Instance) -> None:
    scene.stop(victim)
    elsewhere = victim.disk.with_name("disk.before")
    victim.disk.rename(elsewhere)
    victim.disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM_MB}m", "chaos", str(victim.disk)], check=True)
    scene.afterwards.append(lambda: _unmount(victim.disk))
    shutil.copytree(elsewhere, victim.disk, dirs_exist_ok=True)
    scene.start(victim)


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


CASES = (
    Case("kill-leader", "SIGKILL to the leader's etcd and agent", kill_leader),
    Case("kill-follower", "SIGKILL to a follower's etcd and agent", kill_follower),
    Case("kill-majority", "SIGKILL to etcd and agent of the leader and a follower", kill_majority),
    Case("kill-all", "SIGKILL to every etcd and every agent", kill_all),
    Case("wipe-follower", "a follower loses power and disk", wipe_follower),
    with_one_disk("wipe-majority", "the leader and a follower lose power and disk", wipe_majority),
    without_disks("wipe-all", "all lose power and disk", wipe_all),
    without_disks("stop-and-wipe-all", "EC2 stops all, and they start with empty disks", stop_and_wipe_all),
    Case("terminate-leader", "EC2 terminates the leader's instance", terminate_leader),
    with_one_disk("terminate-majority", "EC2 terminates the leader and a follower", terminate_majority),
    without_disks("terminate-all", "EC2 terminates all", terminate_all),
    Case("reboot-all", "all lose power in one moment, and come back", reboot_all),
    Case("move-follower", "a follower comes back with its disk under another address", move_follower),
    Case("freeze-leader", "the leader's machine stands still for 20 s", freeze_leader),
    Case("pause-etcd", "SIGSTOP to the leader's etcd for 15 s", pause_etcd_of_leader),
    Case("pause-agent", "SIGSTOP to the leader's agent for 60 s, while a follower is terminated", pause_agent),
    with_one_disk(
        "pause-agent-across-a-loss",
        "SIGSTOP to a follower's agent for 20 s, while both others are terminated",
        pause_agent_across_a_loss,
    ),
    without_disks(
        "pause-agents-in-recovery",
        "all lose power and disk; each agent in turn is stopped for 6 s",
        pause_agents_in_turn_during_a_recovery,
    ),
    Case("full-disk", "a follower's disk is full for 10 s, while the database has to grow", full_disk, within_s=90),
    Case(
        "full-quota",
        "the database reaches its quota (NOSPACE) and stays so for 10 s, until an operator makes room",
        full_quota,
        settings={"etcd": {"quota_backend_bytes": 32 * 2**20}},
    ),
)
