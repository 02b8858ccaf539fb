"""What every simulated door of an agent shares, which is the weather: every request can fail, every write can be lost,
lose its answer, or be the last thing that the agent's process does. And the small doors: clock, IMDS and EC2."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from agent.model.faults import Refused, Unavailable
from agent.model.fleet import Fleet, Instance, InstanceState
from agent.model.ids import InstanceId, Nonce, PeerUrl
from agent.model.known import Ignorance
from agent.model.observation import Me
from tests.simulation.machines import Crash, Machine

if TYPE_CHECKING:
    from tests.simulation.agents import Agent
    from tests.simulation.sim import Sim


@dataclass
class Faults:
    """What goes wrong for one agent. Rates are per request, from the world's one source of chance."""

    refuse: set[str] = field(default_factory=set)  # doors that answer with a definite no
    down: set[str] = field(default_factory=set)  # doors that do not answer
    garbled: set[str] = field(default_factory=set)  # doors whose answers make no sense
    flaky: float = 0.0  # reads that fail, the own disk's apart
    lost_replies: float = 0.0  # writes that land and whose answer is lost
    storms: float = 0.0  # writes to others that do not land and say so unclearly (503, 409)
    crash_after: int | None = None  # effects until the process dies
    crash_before: int | None = None
    die_at_step: int | None = None  # steps of a task until the process dies
    tasks_fail: float = 0.0  # steps of tasks that fail, in a way that may pass


class Door:
    """What every simulated door shares: the weather at it, and what happens elsewhere meanwhile."""

    name = ""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    @property
    def sim(self) -> Sim:
        return self.agent.sim

    @property
    def machine(self) -> Machine:
        return self.agent.machine

    def knock(self) -> None:
        """Time for others to act between two requests of ours; and this machine may be gone by then."""
        self.sim.meanwhile()
        self.agent.calls[self.name] += 1
        if not self.agent.alive:
            raise Crash

    def read(self) -> None:
        self.knock()
        self.weather()
        flaky = 0.0 if self.name == "host" else self.agent.faults.flaky
        if flaky and self.sim.random.random() < flaky:
            raise Unavailable(Ignorance.FAILED, f"{self.name}: internal error")

    def weather(self) -> None:
        faults = self.agent.faults
        if self.name in faults.down:
            raise Unavailable(Ignorance.TIMEOUT, f"{self.name} does not answer")
        if self.name in faults.refuse:
            raise Refused(f"{self.name} denies access")
        if self.name in faults.garbled:
            raise Unavailable(Ignorance.MALFORMED, f"{self.name} talks nonsense")

    def write(self, effect: Callable[[], None]) -> None:
        """One effect, which may crash the agent before or after, be lost, or lose its answer."""
        self.knock()
        self.weather()
        faults = self.agent.faults
        if faults.crash_before is not None:
            faults.crash_before -= 1
            if faults.crash_before < 0:
                faults.crash_before = None
                raise Crash
        if self.name not in ("host", "workshop") and faults.storms and self.sim.random.random() < faults.storms:
            raise Unavailable(Ignorance.THROTTLED, f"{self.name}: slow down")
        effect()
        if faults.crash_after is not None:
            faults.crash_after -= 1
            if faults.crash_after < 0:
                faults.crash_after = None
                raise Crash
        if self.name != "workshop" and faults.lost_replies and self.sim.random.random() < faults.lost_replies:
            raise Unavailable(Ignorance.TIMEOUT, f"{self.name}: no answer")


class SimClock(Door):
    def now(self) -> datetime:
        return self.sim.now

    def sleep(self, duration: timedelta) -> None:
        raise AssertionError("rounds are scheduled, they do not sleep")

    def nonce(self) -> Nonce:
        return Nonce(f"{self.sim.random.getrandbits(64):016x}")

    def jitter(self) -> float:
        return self.sim.random.random()


class SimMetadata(Door):
    name = "imds"

    def me(self) -> Me:
        machine = self.machine
        return Me(machine.id, machine.ip, PeerUrl(f"http://{machine.ip}:2380"), str(machine.boot), machine.zone)

    def target_lifecycle_state(self) -> str | None:
        self.read()
        return "Terminated" if self.machine.lifecycle.startswith("Terminating") else "InService"


INSTANCE_ID = re.compile(r"i-[0-9a-f]{4,17}")
"""Of what is none (a member that somebody added by hand) EC2 says nothing."""


class SimCloud(Door):
    """EC2 as this agent sees it: complete, or with some of what AWS has been seen to answer."""

    name = "ec2"

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent)
        self.unlisted: set[InstanceId] = set()  # in no listing; asked for by its ID, EC2 knows it
        self.hidden: set[InstanceId] = set()  # in no listing, and nothing is said of them: only their group knows them
        self.denied: set[InstanceId] = set()  # EC2 says that it knows no such instance, be it the one that asks
        self.groups_unseen = False  # Auto Scaling knows no group of these instances
        self.frozen: Fleet | None = None  # an old answer, given again and again

    def fleet(self, also: frozenset[InstanceId], desired_capacity_too: bool) -> Fleet:
        self.read()
        if self.frozen is not None:
            return self.frozen
        known = {name: each for name, each in sorted(self.sim.machines.items()) if name not in self.sim.forgotten}
        left_out = self.hidden | self.denied | (self.unlisted - also)
        if self.agent.name in self.hidden | self.unlisted:
            raise Unavailable(Ignorance.MALFORMED, f"EC2's listing does not contain this instance ({self.agent.name})")
        shown = [each for name, each in known.items() if name not in left_out]
        groups = () if self.groups_unseen else self.sim.groups()
        unheard_of = frozenset(filter(INSTANCE_ID.fullmatch, (also - set(known)) | (also & self.denied)))
        return Fleet(tuple(map(self._instance, shown)), groups, unheard_of, unheard_of & self.sim.ended_by_group)

    def _instance(self, machine: Machine) -> Instance:
        return Instance(
            id=machine.id,
            state=machine.state,
            launched_at=machine.launched_at,
            private_ip=machine.ip if machine.state is not InstanceState.TERMINATED else None,
            zone=machine.zone,
            group=None if self.groups_unseen else machine.group,
            lifecycle=None if self.groups_unseen else machine.lifecycle,
        )
