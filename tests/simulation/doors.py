"""What every simulated door of an agent shares, which is the weather: every request can fail, every write can be lost,
lose its answer, or be the last thing that the agent's process does. And the small doors: clock, IMDS and EC2."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from agent.model.dns import RecordSet, RecordType
from agent.model.faults import Refused, Unavailable
from agent.model.fleet import Fleet, Instance, InstanceState, Transition
from agent.model.ids import InstanceId, Nonce, PeerUrl
from agent.model.known import Ignorance
from agent.model.observation import Me
from agent.model.spot import SpotNotice
from agent.model.targets import TargetGroup
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
    throttled: set[str] = field(default_factory=set)  # doors that want to be asked less often, most of the time
    flaky: float = 0.0  # reads that fail, the own disk's apart
    lost_replies: float = 0.0  # writes that land and whose answer is lost
    late: float = 0.0  # writes that nobody waits for any more when they land
    storms: float = 0.0  # writes to others that do not land and say so unclearly (503, 409)
    crash_after: int | None = None  # effects until the process dies
    crash_before: int | None = None
    die_at_step: int | None = None  # steps of a task until the process dies
    tasks_fail: float = 0.0  # steps of tasks that fail, in a way that may pass
    slow: float = 0.0  # seconds, at most, that a request to AWS takes
    pause_after: int | None = None  # requests until the process is stopped for a while, and goes on with what it saw
    pause: float = 0.0  # seconds

    @property
    def blind(self) -> bool:
        """Who answers may seem silent to this agent for long."""
        return self.flaky > 0 or "etcd" in self.throttled


BEHIND_AWS = ("s3", "ec2")

THROTTLED = 0.8
"""How many requests are turned away where there are too many."""

DEADLINE = 5.0
"""Seconds: gRPC sends nothing of a call whose time is over, however long its process was stopped."""

LATEST = 20.0
"""Seconds after which a request that its sender has given up is gone from the network, too."""

SETTLED = timedelta(hours=1)
"""EC2 is eventually consistent, and an instance of this age is known to all of it."""


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

    def knock(self) -> float:
        """Time for others to act between two requests of ours, in seconds; and this machine may be gone by then."""
        began = self.sim.now
        self.sim.meanwhile()
        self._linger()
        self.agent.calls[self.name] += 1
        if not self.agent.alive:
            raise Crash
        return (self.sim.now - began).total_seconds()

    def _linger(self) -> None:
        """The world goes on while this request is slow, or this agent's process is stopped between two requests."""
        faults = self.agent.faults
        if faults.pause_after is not None:
            faults.pause_after -= 1
            if faults.pause_after < 0:
                faults.pause_after = None
                self.sim.tell(f"the agent of {self.agent.name} is stopped for {faults.pause:.0f} s, before {self.name}")
                self.sim.go_on_without(self.agent, faults.pause)
        if faults.slow and self.name in BEHIND_AWS:
            self.sim.go_on_without(self.agent, self.sim.random.uniform(0, faults.slow))

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
        if self.name in faults.throttled and self.sim.random.random() < THROTTLED:
            raise Unavailable(Ignorance.THROTTLED, f"{self.name}: slow down")

    def write(self, effect: Callable[[], None]) -> None:
        """One effect, which may crash the agent before or after, be lost, or lose its answer."""
        waited = self.knock()
        self.weather()
        if self.name == "etcd" and waited > DEADLINE:
            raise Unavailable(Ignorance.TIMEOUT, "etcd: deadline exceeded")
        self.sim.promises.at_effect(self.agent)
        faults = self.agent.faults
        if faults.crash_before is not None:
            faults.crash_before -= 1
            if faults.crash_before < 0:
                faults.crash_before = None
                raise Crash
        if self.name not in ("host", "workshop") and faults.storms and self.sim.random.random() < faults.storms:
            raise Unavailable(Ignorance.THROTTLED, f"{self.name}: slow down")
        if self.name in ("s3", "etcd") and faults.late and self.sim.random.random() < faults.late:
            self.sim.after(self.sim.random.uniform(0.1, LATEST), lambda: self._land(effect))
            raise Unavailable(Ignorance.TIMEOUT, f"{self.name}: no answer")
        effect()
        if faults.crash_after is not None:
            faults.crash_after -= 1
            if faults.crash_after < 0:
                faults.crash_after = None
                raise Crash
        if self.name != "workshop" and faults.lost_replies and self.sim.random.random() < faults.lost_replies:
            raise Unavailable(Ignorance.TIMEOUT, f"{self.name}: no answer")

    def _land(self, effect: Callable[[], None]) -> None:
        self.sim.tell(f"a write of {self.agent.name} to {self.name} lands late")
        with suppress(Refused, Unavailable):
            effect()


class SimClock(Door):
    def now(self) -> datetime:
        return self.sim.now + self.machine.skew

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
        if self.machine.lifecycle is None:
            return None
        if self.machine.lifecycle.startswith("Warmed:"):
            return "Warmed:Stopped"
        return "Terminated" if self.machine.lifecycle.startswith("Terminating") else "InService"

    def spot_notice(self) -> SpotNotice | None:
        """In one breath with the lifecycle state: nothing happens in between."""
        self.weather()
        return self.machine.notice

    def rebalance_recommended(self) -> datetime | None:
        """It steers nothing."""
        return None


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
        self.lag = 0.0  # seconds for which an answer is given again
        self.partial = 0.0  # how likely an instance is missing from one answer, and the young ones are denied
        self._last: Fleet | None = None
        self._read_at = self.sim.now

    def fleet(self, also: frozenset[InstanceId], desired_capacity_too: bool) -> Fleet:
        self.read()
        if self.frozen is not None:
            return self.frozen
        if self._last is None or (self.sim.now - self._read_at).total_seconds() >= self.lag:
            self._last, self._read_at = self._answer(also), self.sim.now
        if self.agent.name in self.hidden | self.unlisted:
            raise Unavailable(Ignorance.MALFORMED, f"EC2's listing does not contain this instance ({self.agent.name})")
        return self._last

    def complete_hook(self, transition: Transition) -> None:
        def effect() -> None:
            if transition is Transition.TERMINATING:
                self.sim.complete_hook(self.agent.name)
            elif self.machine.lifecycle == "Warmed:Pending:Wait":
                self.machine.lifecycle = "Warmed:Running"

        self.write(effect)

    def heartbeat_hook(self, transition: Transition) -> None:
        self.write(lambda: None)

    def protect(self, protected: bool) -> None:
        self.write(lambda: self.sim.protect(self.agent.name, protected))

    def call_unhealthy(self) -> None:
        self.write(lambda: self.sim.call_unhealthy(self.agent.name))

    def see_clearly(self) -> None:
        """Answers are complete and of now."""
        self.unlisted, self.hidden, self.denied, self.frozen = set(), set(), set(), None
        self.groups_unseen, self.lag, self.partial = False, 0.0, 0.0

    def _answer(self, also: frozenset[InstanceId]) -> Fleet:
        known = {name: each for name, each in sorted(self.sim.machines.items()) if name not in self.sim.forgotten}
        missing = {name for name in known if self._is_missed(name)}
        denied = self.denied | {name for name in missing if self.sim.now - known[name].launched_at < SETTLED}
        found_by_id = (also & (missing | self.unlisted)) - denied - self.hidden
        left_out = (self.hidden | self.unlisted | denied | missing) - found_by_id
        shown = [each for name, each in known.items() if name not in left_out]
        groups = () if self.groups_unseen else self.sim.groups()
        unheard_of = frozenset(filter(INSTANCE_ID.fullmatch, (also - set(known)) | (also & denied)))
        return Fleet(tuple(map(self._instance, shown)), groups, unheard_of, unheard_of & self.sim.ended_by_group)

    def _is_missed(self, name: InstanceId) -> bool:
        if not self.partial or name == self.agent.name:
            return False
        return self.sim.random.random() < self.partial

    def _instance(self, machine: Machine) -> Instance:
        return Instance(
            id=machine.id,
            state=machine.state,
            launched_at=machine.launched_at,
            private_ip=machine.ip if machine.state is not InstanceState.TERMINATED else None,
            zone=machine.zone,
            group=None if self.groups_unseen else machine.group,
            lifecycle=None if self.groups_unseen else machine.lifecycle,
            protected=None if self.groups_unseen or machine.group is None else machine.protected,
        )


class SimDns(Door):
    """One hosted zone for everybody."""

    name = "route53"

    def records(self, wanted: Sequence[tuple[str, RecordType]]) -> frozenset[RecordSet]:
        self.read()
        return frozenset(self.sim.zone[each] for each in wanted if each in self.sim.zone)

    def upsert(self, records: Collection[RecordSet]) -> None:
        def effect() -> None:
            self.sim.promises.at_publishing(records)
            self.sim.zone.update({(each.name, each.type): each for each in records})

        self.write(effect)


class SimTargets(Door):
    """The target groups, one load balancer before all of them."""

    name = "elbv2"

    def groups(self) -> tuple[TargetGroup, ...]:
        self.read()
        return tuple(
            TargetGroup(arn, frozenset(registered), frozenset(filter(self.sim.answers_health_checks, registered)))
            for arn, registered in self.sim.targets.items()
        )

    def register(self, arn: str) -> None:
        def effect() -> None:
            self.sim.promises.at_registering(self.machine)
            self.sim.targets[arn].add(self.agent.name)

        self.write(effect)

    def deregister(self, arn: str) -> None:
        def effect() -> None:
            self.sim.promises.at_deregistering(self.machine, arn)
            self.sim.targets[arn].discard(self.agent.name)

        self.write(effect)
