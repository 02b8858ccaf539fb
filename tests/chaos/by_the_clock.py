"""Cases of clocks that differ: each agent lives by a clock of its own, and they jump while they run.

libfaketime lies to the agents alone: etcd asks the kernel without the C library, and keeps the machine's time.
`true_sleeps.c` goes before it: needs a C compiler.
"""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.lab.client import Instance
from tests.chaos.case import Case, with_one_disk
from tests.chaos.scene import Scene
from tests.lab.harness import agent_status

HOUR = 3600
NEAR_S = 30
SLEEPS = Path(__file__).with_name("true_sleeps.c")
LIAR = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
ITS_CLOCK = ".faketimerc"
"""In its home: by how much an agent's clock is off; read again within a second."""


def clocks_apart(scene: Scene) -> None:
    """An hour each way; two change places while they run, and a follower ends for good."""
    one, other, *_ = _lied_to(scene)
    victim = next(each for each in scene.followers() if each.id != one.id)
    _sets(scene, one, HOUR)
    _sets(scene, other, -HOUR)
    scene.wait(5)
    _sets(scene, one, -HOUR)
    _sets(scene, other, HOUR)
    scene.terminate(victim)
    scene.gone(victim)
    scene.whole()


def clocks_apart_across_a_loss(scene: Scene) -> None:
    """The survivor is an hour behind and then one ahead, in the middle of what it proves and rescues."""
    survivor = _lied_to(scene)[0]
    _sets(scene, survivor, -HOUR)
    scene.terminate(*(each for each in scene.everybody() if each.id != survivor.id))
    scene.wait(4)
    _sets(scene, survivor, HOUR)


def _lied_to(scene: Scene) -> tuple[Instance, ...]:
    """From now on every agent, of those to come too, can be lied to. The first is a follower."""
    assert LIAR is not None, "libfaketime is not installed: apt-get install libfaketime"
    sleeps = scene.lab.folder / "true_sleeps.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", sleeps, SLEEPS], check=True)
    preloaded = f"{sleeps}:{LIAR}"
    scene.lab.change(
        environment={"LD_PRELOAD": preloaded, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_CACHE_DURATION": "1"}
    )
    scene.note("agents start again, with clocks of their own")
    for each in scene.everybody():
        scene.lab.kill_agent(each.id)
    for each in scene.everybody():
        _sets(scene, each, 60)  # nobody believes the machine's any more
    scene.whole()
    return scene.followers()


def _sets(scene: Scene, target: Instance, seconds: int) -> None:
    """Done once its agent lives by it."""
    scene.note(f"the clock of {target.id} is {seconds:+} s off")
    beside = target.folder / f"{ITS_CLOCK}.new"
    beside.write_text(f"{seconds:+}\n")
    beside.replace(target.folder / ITS_CLOCK)

    def so_it_is() -> bool:
        told = (agent_status(target) or {}).get("at")  # nothing before its first round
        off = datetime.fromisoformat(told) - datetime.now(UTC) if told else timedelta()
        return abs(off.total_seconds() - seconds) < NEAR_S

    scene.until(so_it_is, 20, f"{target.id} lives by that clock")


CASES = (
    Case("clocks-apart", "agents' clocks jump an hour each way, while a follower is terminated", clocks_apart),
    with_one_disk(
        "clocks-apart-across-a-loss",
        "leader and follower are terminated; the survivor's clock is an hour behind, and then one ahead",
        clocks_apart_across_a_loss,
        within_s=90,
    ),
)
