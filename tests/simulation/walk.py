"""A random walk through everything that can happen, within what keeps a majority of the voters' disks.

Each step harms or heals something. What is lost for good (a terminated instance, a wiped disk) is chosen so
that a quorum of the voters' disks is left at every moment; everything else may happen at any time and at
once. When the walk ends, all faults end, and the cluster must become whole again by itself.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.model.cluster import quorum_of
from agent.model.fleet import InstanceState
from tests.simulation.doors import Faults
from tests.simulation.machines import Machine
from tests.simulation.sim import Sim

DOORS = ("s3", "ec2", "imds", "etcd")


class Walk:
    """One walk through one world."""

    def __init__(self, sim: Sim) -> None:
        self.sim = sim
        self.random = sim.random
        self.steps: tuple[Callable[[], None], ...] = (
            self.reboot,
            self.reboot_all,
            self.move,
            self.kill_etcd,
            self.kill_agent,
            self.stop_or_boot,
            self.isolate_or_heal,
            self.lose,
            self.lose,
            self.wipe,
            self.wipe,
            self.crash,
            self.crash,
            self.bad_weather,
            self.bad_weather,
            self.good_weather,
            self.scale,
            self.launch,
            self.take_an_old_address,
            self.forget,
        )

    def step(self) -> None:
        self.random.choice(self.steps)()
        self.sim.run(self.random.choice((0.2, 2, 20, 200)) * self.random.random())

    def end(self) -> None:
        """All faults end: everything that still exists is up, and the fleet has its size."""
        for agent in self.sim.agents.values():
            agent.cloud.hidden.clear()
        self.sim.weather = Faults
        for machine in self.machines():
            machine.reachable = True
            if machine.state is InstanceState.STOPPED:
                self.sim.reboot(machine.id)
        for agent in self.sim.agents.values():
            agent.faults, agent.at_crash = Faults(), lambda: None
        self.fill()
        self.sim.tell("all faults have ended")

    # ---- who

    def machines(self) -> list[Machine]:
        up = (InstanceState.RUNNING, InstanceState.STOPPED)
        return [each for _, each in sorted(self.sim.machines.items()) if each.state in up]

    def anybody(self) -> Machine:
        return self.random.choice(self.machines())

    def may_lose(self, machine: Machine) -> bool:
        """Whether a quorum of the voters' disks is left without this one."""
        lineages = [each for each in self.sim.lineages.values() if each.writes]
        if not lineages:
            return False
        (lineage,) = lineages
        intact = {each.data.member for each in self.machines() if each.data is not None and each is not machine}
        voters = {each.id for each in lineage.voters}
        return len(voters & intact) >= quorum_of(len(voters))

    # ---- what

    def reboot(self) -> None:
        self.sim.reboot(self.anybody().id, after=self.random.uniform(0, 30))

    def reboot_all(self) -> None:
        for machine in self.machines():
            self.sim.reboot(machine.id, after=self.random.uniform(0, 30))

    def move(self) -> None:
        """Not before the cluster formed: a majority of founders that moved can never form it (see Recovery)."""
        if not self.sim.formed():
            return
        taken = len(self.sim.story)
        self.sim.reboot(self.anybody().id, ip=f"10.{1 + taken // 65536}.{taken // 256 % 256}.{taken % 256}")

    def kill_etcd(self) -> None:
        self.sim.kill_etcd(self.anybody().id)

    def kill_agent(self) -> None:
        machine = self.anybody()
        if machine.up:
            self.sim.kill_agent(machine.id)

    def stop_or_boot(self) -> None:
        machine = self.anybody()
        if machine.state is InstanceState.STOPPED:
            self.sim.reboot(machine.id)
        else:
            self.sim.stop(machine.id)

    def isolate_or_heal(self) -> None:
        machine = self.anybody()
        (self.sim.isolate if machine.reachable else self.sim.heal)(machine.id)

    def lose(self) -> None:
        machine = self.anybody()
        if self.may_lose(machine):
            self.sim.terminate(machine.id)
            if self.random.random() < 0.8:
                self.launch()

    def wipe(self) -> None:
        machine = self.anybody()
        if self.may_lose(machine):
            self.sim.reboot(machine.id, wipe=True, after=self.random.uniform(0, 30))

    def crash(self) -> None:
        """The agent will die between two of its next effects, perhaps with its instance or its disk."""
        machine = self.anybody()
        agent = self.sim.agents.get(machine.id)
        if agent is None:
            return
        setattr(agent.faults, self.random.choice(("crash_before", "crash_after")), self.random.randrange(4))
        then = self.random.choice(("agent", "instance", "disk"))

        def at_crash() -> None:
            if then == "instance" or (then == "disk" and not self.may_lose(machine)):
                self.sim.reboot(machine.id)
            elif then == "disk":
                self.sim.reboot(machine.id, wipe=True)

        agent.at_crash = at_crash

    def bad_weather(self) -> None:
        if not self.sim.agents:
            return
        agent = self.sim.agents[self.random.choice(sorted(self.sim.agents))]
        doors = {self.random.choice(DOORS)}
        kind = self.random.choice(("down", "refuse", "garbled", "flaky", "storms", "lost_replies", "hidden"))
        if kind == "hidden":
            agent.cloud.hidden.add(self.anybody().id)
        elif kind in ("down", "refuse", "garbled"):
            setattr(agent.faults, kind, doors)
        else:
            setattr(agent.faults, kind, self.random.choice((0.1, 0.5, 0.9)))
        self.sim.tell(f"bad weather for {agent.name}: {kind} {sorted(doors)}")

    def good_weather(self) -> None:
        for agent in self.sim.agents.values():
            agent.faults = Faults()
            agent.cloud.hidden.clear()
        self.sim.tell("good weather")

    def scale(self) -> None:
        """Up by launching; down by terminating only what the voters' disks allow."""
        self.sim.desired = self.random.choice((3, 4, 5))
        self.fill()
        while len(self.machines()) > self.sim.desired:
            spare = [each for each in self.machines() if self.may_lose(each)]
            if not spare:
                self.sim.desired = len(self.machines())
                return
            self.sim.terminate(self.random.choice(spare).id)

    def fill(self) -> None:
        while len(self.machines()) < self.sim.desired:
            self.launch()

    def launch(self) -> None:
        if len(self.machines()) < self.sim.desired:
            self.sim.launch(after=self.random.uniform(0, 10))

    def take_an_old_address(self) -> None:
        """A new instance gets the address of one that is gone."""
        taken = {each.ip for each in self.machines()}
        free = sorted({each.ip for each in self.sim.machines.values()} - taken)
        if free and len(self.machines()) < self.sim.desired:
            self.sim.launch(ip=self.random.choice(free))

    def forget(self) -> None:
        """EC2 forgets what ended, though its group's activities do not."""
        ended = [name for name, each in self.sim.machines.items() if each.state is InstanceState.TERMINATED]
        self.sim.forgotten.update(ended)
        self.sim.ended_by_group.update(ended)
