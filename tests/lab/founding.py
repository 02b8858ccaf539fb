"""Founding again and again in one lab: three machines whose agents start when the test starts them.

House rules: every founding has a prefix of its own in the bucket and empty disks, so that none sees another.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from typing import Any

from agent.lab.client import Lab
from agent.lab.spec import Pace
from tests.lab.evidence import FORMED, assert_one_cluster, objects
from tests.lab.harness import wait_until, wait_whole

NEVER_S = 3600.0
WAITING_FOR_US = Pace(pending_s=0.1, boot_s=NEVER_S)
"""Machines run at once, and an agent starts when the test starts it."""

FOUNDINGS = itertools.count(1)


def wait_for_machines(lab: Lab) -> list[str]:
    """The IDs of three machines that have power."""
    wait_until(lambda: len(lab.addresses()) == 3, 15, "three machines")
    return [each.id for each in lab.instances()]


def anew(lab: Lab) -> str:
    """Three empty disks without agents, and a part of the bucket where nobody has written; returns its prefix."""
    prefix = f"etcd-{next(FOUNDINGS)}"
    lab.clear_faults()
    lab.change(settings={"storage": {"prefix": prefix}}, pace={"boot_s": NEVER_S})
    for instance_id in wait_for_machines(lab):
        lab.wipe(instance_id)
    return prefix


def start_all(lab: Lab, delays_s: Mapping[str, float] | None = None) -> None:
    """Start each agent at its time (by default all at once); the last one is told to when this returns."""
    began = time.monotonic()
    delays_s = dict.fromkeys(wait_for_machines(lab), 0.0) if delays_s is None else delays_s
    for instance_id, delay_s in sorted(delays_s.items(), key=lambda item: item[1]):
        time.sleep(max(0.0, began + delay_s - time.monotonic()))
        lab.start_agent(instance_id)


def wait_formed(lab: Lab, prefix: str | None = None) -> dict[str, Any]:
    """Three voters of one lineage, and the bucket says so; returns what it holds."""
    wait_whole(lab, 3)
    wait_until(lambda: FORMED in objects(lab, "generations/", prefix), 15, "formed.json")
    return assert_one_cluster(lab, prefix)
