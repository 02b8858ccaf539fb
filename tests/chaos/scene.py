"""What a case may do: the verbs of the lab, all at once where a story says so, and waiting.

House rules: a verb returns when it is done, not when the cluster has recovered; whatever a case breaks around the
cluster (weather, networks, stopped processes) it mends itself; a note says when something happened.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from agent.lab.client import Instance, Lab
from agent.lab.spec import LabError
from tests.chaos.certificates import Certificates
from tests.chaos.clients import Crowd
from tests.lab.harness import is_whole, leader, wait_until
from tests.lab.losing import generations, head, manifests


@dataclass
class Scene:
    """A running lab under load, and the chance that a case may use."""

    lab: Lab
    crowd: Crowd
    chance: random.Random
    size: int = 3
    """How many voters there shall be in the end."""
    certificates: Certificates | None = None
    """Where everybody speaks TLS."""
    snapshot_revision: int = 0
    """What the newest snapshot held when the disks were last in danger."""
    notes: list[tuple[float, str]] = field(default_factory=list)
    afterwards: list[Callable[[], None]] = field(default_factory=list)
    """What is to be undone once the lab is down."""

    def note(self, what: str) -> None:
        """Remember when something happened."""
        self.notes.append((time.monotonic(), what))

    def note_snapshot(self) -> None:
        """What is in the bucket by now may not be lost any more."""
        self.snapshot_revision = int(manifests(self.lab, head(self.lab))[-1]["revision"])

    def generations(self) -> list[int]:
        """The numbers of all records in the bucket."""
        return generations(self.lab)

    # ---- who ----

    def everybody(self) -> tuple[Instance, ...]:
        return self.lab.instances()

    def leader(self) -> Instance:
        found = wait_until(lambda: leader(self.lab), 20, "a leader")
        assert found is not None
        return found

    def followers(self) -> tuple[Instance, ...]:
        """In a random order, so that repeated runs differ."""
        leading = self.leader().id
        found = [each for each in self.everybody() if each.id != leading]
        self.chance.shuffle(found)
        return tuple(found)

    def follower(self) -> Instance:
        return self.followers()[0]

    def majority(self) -> tuple[Instance, ...]:
        """The leader and as many followers as it takes."""
        return (self.leader(), *self.followers()[: len(self.everybody()) // 2])

    # ---- time ----

    def wait(self, seconds: float) -> None:
        """Let it be as it is for so long."""
        time.sleep(seconds)

    # ---- power, processes and disks ----

    def kill(self, *targets: Instance) -> None:
        """SIGKILL to every etcd and every agent at once; the agents are started again as systemd would."""
        self.note(f"kill {_names(targets)}")
        found = [self.lab.instance(each.id) for each in targets]
        _signal([pid for each in found for pid in each.etcd_pids], signal.SIGKILL)
        _signal([each.agent_pid for each in found if each.agent_pid], signal.SIGKILL)

    def wipe(self, *targets: Instance) -> None:
        """All lose their power at once, and then their disks."""
        self.note(f"wipe {_names(targets)}")
        self._quiet_kill(targets)
        for each in targets:
            self.lab.wipe(each.id)

    def _quiet_kill(self, targets: Iterable[Instance]) -> None:
        """So that those whose turn comes last acknowledge nothing while the first already lose their disks."""
        found = [self.lab.instance(each.id) for each in targets]
        _signal([pid for each in found for pid in each.etcd_pids], signal.SIGKILL)

    def terminate(self, *targets: Instance) -> None:
        """For good, in one call to EC2; the group replaces them."""
        self.note(f"terminate {_names(targets)}")
        self.lab.aws("ec2").terminate_instances(InstanceIds=[each.id for each in targets])

    def stop(self, *targets: Instance) -> None:
        """EC2 StopInstances; returns when all are without power."""
        self.note(f"stop {_names(targets)}")
        for each in targets:
            self.lab.stop(each.id)
        ids = {each.id for each in targets}
        self.until(lambda: not any(each.powered for each in self.everybody() if each.id in ids), 20, "no power")

    def reboot(self, *targets: Instance, address_changed: bool = False) -> None:
        """All lose their power in one moment, and come back with their disks."""
        self.note(f"reboot {_names(targets)}")
        self._quiet_kill(targets)
        for each in targets:
            self.lab.reboot(each.id, address_changed=address_changed)

    def start(self, *targets: Instance) -> None:
        self.note(f"start {_names(targets)}")
        for each in targets:
            self.lab.start_again(each.id)

    @contextmanager
    def stopped_processes(self, pids: Iterable[int], what: str) -> Iterator[None]:
        """SIGSTOP for the length of a block."""
        stopped = tuple(pids)
        assert stopped, f"nothing to stop: {what}"
        self.note(f"SIGSTOP {what}")
        _signal(stopped, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(stopped, signal.SIGCONT)
            self.note(f"SIGCONT {what}")

    def stopped_agent(self, target: Instance) -> AbstractContextManager[None]:
        """SIGSTOP to an agent alone."""
        self.until(lambda: self.lab.instance(target.id).agent_pid, 20, f"an agent on {target.id}")
        pid = self.lab.instance(target.id).agent_pid
        return self.stopped_processes([pid] if pid else [], f"the agent of {target.id}")

    def stopped_etcd(self, target: Instance) -> AbstractContextManager[None]:
        """SIGSTOP to an etcd alone."""
        return self.stopped_processes(self.lab.instance(target.id).etcd_pids, f"the etcd of {target.id}")

    # ---- around it ----

    @contextmanager
    def weather(self, *faults: dict[str, Any]) -> Iterator[None]:
        """Faults of AWS for the length of a block."""
        self.note(f"weather {faults}")
        with ExitStack() as stack:
            for fault in faults:
                stack.enter_context(self.lab.weather(**fault))
            yield
        self.note("fair weather")

    @contextmanager
    def mute_from_s3(self, *targets: Instance) -> Iterator[None]:
        """S3 does not answer these, as behind a broken link."""
        with self.weather(*({"service": "s3", "caller": each.id, "hang": True} for each in targets)):
            yield

    @contextmanager
    def isolated(self, *targets: Instance) -> Iterator[None]:
        """Cut off from the others, from AWS and from clients, each on its own."""
        self.note(f"isolate {_names(targets)}")
        for each in targets:
            self.lab.isolate(each.id)
        try:
            yield
        finally:
            for each in targets:
                with suppress(LabError):  # it may have ended meanwhile
                    self.lab.heal(each.id)
            self.note("healed")

    def serves_nothing(self, target: Instance, for_s: float) -> None:
        """It really is out of order: it acknowledges no write for so long."""
        since_s = time.monotonic()
        self.wait(for_s)
        served = [each for each in self.crowd.acknowledged(since_s) if each.address == target.address]
        assert not served, f"{target.id} acknowledged {len(served)} writes: nothing was broken"

    # ---- the fleet ----

    def ids(self) -> set[str]:
        return {each.id for each in self.everybody()}

    def gone(self, target: Instance) -> None:
        """Wait until EC2 has ended it."""
        self.until(lambda: target.id not in self.ids(), 20, f"{target.id} is gone")

    def scale(self, size: int) -> None:
        """Set the desired capacity; the cluster shall have that many voters."""
        self.note(f"scale to {size}")
        self.lab.scale(size)
        self.size = size

    # ---- waiting for the cluster ----

    def whole(self, within_s: float = 60) -> None:
        """Wait until exactly the voters that there shall be are there, and all answer."""
        self.until(lambda: is_whole(self.lab, self.size), within_s, f"a whole cluster of {self.size}")

    def until(self, predicate: Callable[[], object], within_s: float, what: str) -> None:
        """Wait; a daemon that is too busy to answer has said nothing."""

        def patient() -> object:
            try:
                return predicate()
            except LabError:
                return False

        wait_until(patient, within_s, what)


def _names(targets: Iterable[Instance]) -> str:
    return ", ".join(each.id for each in targets)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
