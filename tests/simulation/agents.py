"""One agent's process in the simulated world: the real loop, its memory and its doors. A crash loses the memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from agent.loop import play
from agent.model.ids import InstanceId
from agent.model.memory import Memory
from agent.model.policy import Policy
from agent.model.round import Round
from agent.world.doors import World
from tests.simulation.door_bucket import SimBucket
from tests.simulation.door_certificates import SimCertificates
from tests.simulation.door_etcd import SimEtcd
from tests.simulation.door_host import SimHost, SimWorkshop
from tests.simulation.doors import SimClock, SimCloud, SimDns, SimMetadata, SimTargets
from tests.simulation.machines import Crash, Machine

if TYPE_CHECKING:
    from tests.simulation.sim import Sim

AT_EASE = frozenset(
    {
        "issue-certificates",
        "rest",
        "promote-myself",
        "take-snapshot",
        "expire-snapshots",
        "drill",
        "make-room",
        "defragment",
        "publish-names",
        "register",
    }
)
"""The rules that speak where all is well."""


class Agent:
    def __init__(self, sim: Sim, name: InstanceId, after: float = 0.0) -> None:
        self.sim, self.name, self.alive = sim, name, True
        self.memory, self.wakes_at = Memory(), sim.now + timedelta(seconds=after)
        self.last: Round | None = None
        self.faults = sim.weather()
        self.effects = 0  # of this round
        self.calls: Counter[str] = Counter()  # requests by door
        self.at_crash: Callable[[], None] = lambda: None
        self.policy = Policy(
            cluster="prod",
            groups_interval=timedelta(seconds=30),
            replace_unhealthy=sim.replace_unhealthy,
            protect_voters=sim.protect_voters,
            dns=sim.names,
            issues_certificates=sim.certified,
            target_groups=tuple(sim.targets),
        )
        self.cloud = SimCloud(self)
        self._open_doors()

    def _open_doors(self) -> None:
        self.workshop = SimWorkshop(self)
        here = SimMetadata(self), self.cloud, SimBucket(self), SimEtcd(self), SimHost(self), self.workshop
        certificates = SimCertificates(self) if self.sim.certified else None
        self.world = World(SimClock(self), *here, dns=SimDns(self), targets=SimTargets(self), certificates=certificates)

    def keep(self, newest: int, hourly: int, daily: int) -> None:
        """How many snapshots."""
        self.policy = replace(self.policy, keep_newest=newest, keep_hourly=hourly, keep_daily=daily)

    @property
    def machine(self) -> Machine:
        return self.sim.machines[self.name]

    @property
    def rule(self) -> str:
        return "" if self.last is None else self.last.decision.rule

    @property
    def settled(self) -> bool:
        return self.rule in AT_EASE

    def turn(self) -> None:
        """One round."""
        self._unless_it_dies(self._round)

    def step(self) -> None:
        """One step of the task that is under way."""
        self._unless_it_dies(self.workshop.step)

    def _unless_it_dies(self, live: Callable[[], None]) -> None:
        self.sim.in_turn.append(self)
        try:
            live()
        except Crash:
            if self.alive:
                self._begin_anew()
        finally:
            self.sim.in_turn.remove(self)
        self.sim.check()

    def _begin_anew(self) -> None:
        self.sim.tell(f"the agent of {self.name} dies")
        self.memory, self.wakes_at = Memory(), self.sim.now + timedelta(seconds=1)
        self._open_doors()
        self.at_crash()

    def _round(self) -> None:
        self.effects, began = 0, self.sim.now
        self.last = play(self.world, self.world.metadata.me(), self.memory, self.policy)
        self.memory = self.last.memory
        self.wakes_at = self.sim.now + self.last.pause * (1 + self.sim.random.random() / 4)
        decision, result = self.last.decision, self.last.result
        self.sim.tell(
            f"{self.name} {decision.rule}: {type(decision.action).__name__}"
            f" ({decision.because}) -> {result.outcome} {result.detail}"
        )
        self.sim.promises.at_hold(self, self.last, began)
        self.sim.after_round(decision.rule)
