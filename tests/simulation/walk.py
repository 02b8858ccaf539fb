"""A random walk through everything that can happen.

Each step harms or heals something; everything may happen at any time and at once. What is lost for good (a terminated
instance, a wiped disk) leaves a quorum of the voters' disks, but for some walks' worse moments: they leave a survivor
or a snapshot. When the walk ends, all faults end, and the cluster must become whole again by itself.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.model.cluster import quorum_of
from agent.model.fleet import InstanceState
from tests.simulation.doors import Faults
from tests.simulation.logs import Lineage
from tests.simulation.machines import Machine
from tests.simulation.sim import Sim

WEATHER = ("down", "refuse", "garbled", "flaky", "storms", "lost_replies", "hidden", "tasks_fail")
DOORS = ("s3", "ec2", "imds", "etcd")


class Walk:
    """One walk through one world."""

    def __init__(self, sim: Sim, fatal: float = 0.0) -> None:
        self.sim = sim
        self.fatal = fatal  # how likely what would end a quorum for good is done all the same
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
        if not self.machines():
            self.sim.launch()  # the group's next one
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
        """Whether a quorum of the voters' disks is left without this one; and now and then although none is.

        Something to go on from is left even then: another disk with data, a sound snapshot, or nothing ever written.
        """
        if not self.sim.records:
            return False
        return self._leaves_a_quorum(machine) or (self.random.random() < self.fatal and self._leaves_something(machine))

    def _leaves_a_quorum(self, machine: Machine) -> bool:
        lineage = self.sim.lineage_of(self.sim.newest())
        if lineage is None or not lineage.writes:
            return False
        intact = {each.data.member for each in self._holders(lineage) if each.data is not None and each is not machine}
        voters = {each.id for each in lineage.voters}
        return len(voters & intact) >= quorum_of(len(voters))

    def _leaves_something(self, machine: Machine) -> bool:
        record = self.sim.newest()
        lineage = self.sim.lineage_of(record)
        names = [name for name, _ in self.sim.sound_snapshots()]
        if any(name.generation == record.generation for name in names):
            return True
        if record.seed is not None and any(name.manifest_key == record.seed.manifest for name in names):
            return lineage is None or not lineage.writes
        if lineage is None or not lineage.writes:
            return record.seed is None and not self.sim.formed(record.generation)
        return any(each is not machine and each.data and each.data.applied for each in self._holders(lineage))

    def _holders(self, lineage: Lineage) -> list[Machine]:
        return [each for each in self.machines() if each.data is not None and each.data.lineage is lineage]

    # ---- what

    def reboot(self) -> None:
        self.sim.reboot(self.anybody().id, after=self.random.uniform(0, 30))

    def reboot_all(self) -> None:
        for machine in self.machines():
            self.sim.reboot(machine.id, after=self.random.uniform(0, 30))

    def move(self) -> None:
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
        setattr(
            agent.faults, self.random.choice(("crash_before", "crash_after", "die_at_step")), self.random.randrange(4)
        )
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
        kind = self.random.choice(
            ("down", "refuse", "garbled", "flaky", "storms", "lost_replies", "hidden", "tasks_fail")
        )
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
