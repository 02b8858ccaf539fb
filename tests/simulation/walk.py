"""A random walk through everything that can happen.

A walk is a list of steps, and a step is a value: which fault, when, and what it draws from. So a walk can be replayed,
and one of its steps left out. Each step harms something; much of what it harms heals by itself after a while, so that
faults overlap. Steps happen at their own times, also while agents are in the middle of their rounds or stopped there.
What is lost for good (a terminated instance, a wiped disk) leaves a quorum of the voters' disks, but for some walks'
worse moments: they leave a survivor or a snapshot. When the walk ends, all faults end, and the cluster must become
whole again by itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from agent.model.cluster import quorum_of
from agent.model.fleet import InstanceState
from agent.model.ids import InstanceId
from tests.simulation.agents import Agent
from tests.simulation.doors import Faults
from tests.simulation.logs import Lineage
from tests.simulation.machines import Machine
from tests.simulation.sim import Sim

DOORS = ("s3", "ec2", "imds", "etcd")

DOORS_FAIL = ("down", "refuse", "garbled", "throttled")
REQUESTS_FAIL = ("flaky", "storms", "lost_replies", "late", "tasks_fail")

FAULTS = {
    "reboot": 2,
    "reboot_all": 1,
    "move": 2,
    "kill_etcd": 2,
    "freeze_etcd": 2,
    "damage": 2,
    "kill_agent": 1,
    "pause_agent": 3,
    "crash": 4,
    "stop": 2,
    "isolate": 3,
    "partition": 1,
    "lose": 3,
    "wipe": 3,
    "disaster": 2,
    "move_volume": 1,
    "set_clock": 1,
    "bad_weather": 5,
    "odd_listings": 3,
    "scale": 2,
    "refresh": 2,
    "leave": 3,
    "leave_all": 1,
    "interrupt": 2,
    "detach": 1,
    "launch": 2,
    "take_an_old_address": 1,
    "forget": 1,
    "hold": 1,
}
"""Every fault is a method of `Walk`; the number is its weight."""

MOMENTS = (
    "start-as-founder",
    "join",
    "promote-myself",
    "remove-departed",
    "restart-in-place",
    "tell-of-move",
    "fence-older-generation",
    "fence-removed-member",
    "quarantine-fenced",
    "recover",
    "give-up-seat",
    "take-snapshot",
)
"""Rules in the middle of whose business a fault hurts most."""

PAUSES = {0.2: 100, 2: 100, 20: 100, 200: 100, 5000: 1}
WHILES = (3, 30, 120, 600)
"""Seconds, at most: between two steps (with weights), and until a fault ends by itself."""


@dataclass(frozen=True, slots=True)
class Step:
    """One fault, `pause` seconds after the one before, or as soon as some agent's rule is `moment`."""

    fault: str
    chance: int
    pause: float
    moment: str = ""

    def __str__(self) -> str:
        sooner = f", or at the first {self.moment!r}" if self.moment else ""
        return f"after {self.pause:.1f} s{sooner}: {self.fault} ({self.chance})"


def draw(chance: random.Random, length: int = 20) -> tuple[Step, ...]:
    """The steps of a walk."""
    faults = chance.choices(list(FAULTS), weights=list(FAULTS.values()), k=length)
    return tuple(
        Step(
            fault,
            chance.getrandbits(32),
            chance.choices(list(PAUSES), weights=list(PAUSES.values()))[0] * chance.random(),
            chance.choice(MOMENTS) if chance.random() < 0.3 else "",
        )
        for fault in faults
    )


class Walk:
    """One walk through one world."""

    def __init__(self, sim: Sim, steps: tuple[Step, ...], fatal: float = 0.0) -> None:
        self.sim = sim
        self.steps = steps
        self.fatal = fatal  # how likely what would end a quorum for good is done all the same
        self.taken = 0
        self.to_zero = False  # there was a time when nobody was wanted: what came afterwards was restored
        self.took_the_last = False  # and waited for nobody: what only its disk held is lost
        self.random = random.Random(0)

    def play(self) -> None:
        """Take one step after another, and then end all faults."""
        self.sim.after_round = self._notice
        self._plan()
        while self.taken < len(self.steps):
            self.sim.run(60, until=lambda: self.taken >= len(self.steps))
        self.end()

    def _plan(self) -> None:
        if self.taken < len(self.steps):
            number = self.taken
            self.sim.after(self.steps[number].pause, lambda: self._take(number))

    def _notice(self, rule: str) -> None:
        number = self.taken
        if number < len(self.steps) and self.steps[number].moment == rule:
            self.sim.after(0, lambda: self._take(number))

    def _take(self, number: int) -> None:
        """The world's chance begins anew with each step: without one of them the others differ as little as may be."""
        if number != self.taken:
            return
        step = self.steps[number]
        self.taken += 1
        self.random = random.Random(step.chance)
        self.sim.random.seed(step.chance + 1)
        self.sim.tell(f"step {number + 1}: {step.fault}")
        if self.machines() or step.fault == "scale":
            getattr(self, step.fault)()
        elif self.sim.desired:
            self.sim.launch()  # the group's next one
        self._plan()

    def end(self) -> None:
        """All faults end: everything that still exists is up, and the fleet has its size."""
        self.sim.weather, self.sim.agenda = Faults, []
        self.sim.release()
        for name in sorted(self.sim.machines):
            self._come_back(self.sim.machines[name])
        for agent in self.sim.agents.values():
            agent.faults, agent.at_crash = Faults(), lambda: None
            agent.cloud.see_clearly()
        self.sim.ended_by_group.update(self._ended())
        self.sim.desired = self.sim.desired or 3
        self.fill()
        self.sim.tell("all faults have ended")

    def _come_back(self, machine: Machine) -> None:
        machine.reachable, machine.blocked = True, False
        self.sim.thaw_etcd(machine.id)
        may_go = not machine.awaited or machine.lifecycle == "Terminating:Proceed"
        if machine.leaving and machine.exists and may_go:
            self._ends(machine.id)
        if machine.state is InstanceState.STOPPED:
            self.sim.reboot(machine.id)

    # ---- who

    def machines(self) -> list[Machine]:
        """Who has come to stay."""
        return [each for _, each in sorted(self.sim.machines.items()) if each.exists and not each.leaving]

    def counted(self) -> list[Machine]:
        """By their group."""
        return [each for each in self.machines() if each.group is not None]

    def anybody(self) -> Machine:
        return self.random.choice(self.machines())

    def some_agent(self) -> Agent | None:
        return self.sim.agents.get(self.anybody().id)

    def for_a_while(self, end: Callable[[], None]) -> None:
        self.sim.after(self.random.choice(WHILES) * self.random.random(), end)

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
        there = [each.data for each in self._holders(lineage) if each.data is not None and each is not machine]
        intact = {each.member for each in there if not each.unfit}
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
        there = [each.data for each in self._holders(lineage) if each.data is not None and each is not machine]
        return any(each.applied is not None and not each.unfit for each in there)

    def _holders(self, lineage: Lineage) -> list[Machine]:
        return [each for each in self.machines() if each.data is not None and each.data.lineage is lineage]

    # ---- instances, agents and etcd

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

    def freeze_etcd(self) -> None:
        name = self.anybody().id
        self.sim.freeze_etcd(name)
        self.for_a_while(lambda: self.sim.thaw_etcd(name))

    def damage(self) -> None:
        """As `wipe`, but that the old data is still there, and etcd does not run on it; seldom twice on one disk."""
        machine = self.anybody()
        if machine.data is not None and not machine.broken_at and machine.up and self._leaves_a_quorum(machine):
            self.sim.damage(machine.id, visibly=self.random.random() < 0.7)

    def kill_agent(self) -> None:
        machine = self.anybody()
        if machine.up:
            self.sim.kill_agent(machine.id)

    def pause_agent(self) -> None:
        """Between two of its requests; then it goes on with what it had seen before."""
        agent = self.some_agent()
        if agent is not None:
            agent.faults.pause_after, agent.faults.pause = self.random.randrange(30), self.random.uniform(5, 400)

    def crash(self) -> None:
        """The agent will die between two of its next effects, perhaps with its instance or its disk."""
        machine = self.anybody()
        agent = self.sim.agents.get(machine.id)
        if agent is None:
            return
        moment = self.random.choice(("crash_before", "crash_after", "die_at_step"))
        setattr(agent.faults, moment, self.random.randrange(4))
        then = self.random.choice(("agent", "instance", "disk"))

        def at_crash() -> None:
            if then == "instance" or (then == "disk" and not self.may_lose(machine)):
                self.sim.reboot(machine.id)
            elif then == "disk":
                self.sim.reboot(machine.id, wipe=True)

        agent.at_crash = at_crash

    def stop(self) -> None:
        name = self.anybody().id
        if self.sim.machines[name].up:
            self.sim.stop(name)
            self.for_a_while(lambda: self._boot(name))

    def _boot(self, name: InstanceId) -> None:
        if self.sim.machines[name].state is InstanceState.STOPPED:
            self.sim.reboot(name)

    def isolate(self) -> None:
        name = self.anybody().id
        self.sim.isolate(name)
        self.for_a_while(lambda: self.sim.heal(name))

    def partition(self) -> None:
        """Some of them lose everybody else at once, and find them again at once."""
        there = self.machines()
        cut = [each.id for each in self.random.sample(there, self.random.randint(1, len(there)))]

        def mend() -> None:
            for name in cut:
                self.sim.heal(name)

        for name in cut:
            self.sim.isolate(name)
        self.for_a_while(mend)

    def lose(self) -> None:
        self._replace(self.anybody(), promptly=self.random.random() < 0.8)

    def _replace(self, machine: Machine, *, promptly: bool) -> None:
        """Terminated at once, or with a farewell; its group launches another, sooner or later."""
        if not self.may_lose(machine):
            return
        if self.random.random() < 0.5:
            self.sim.terminate(machine.id)
        else:
            self._terminate_slowly(machine.id)
        if promptly:
            self.launch()

    def _terminate_slowly(self, name: InstanceId) -> None:
        waits, shuts = self.random.uniform(0, 60), self.random.uniform(0, 60)
        self.sim.begin_to_terminate(name)
        self.sim.after(waits, lambda: self._unless_ended(name, self.sim.shut_down))
        self.sim.after(waits + shuts, lambda: self._unless_ended(name, self._ends))

    def _ends(self, name: InstanceId) -> None:
        """Nobody waits here; and those who were to stay when its end was decided may have left since, in good order."""
        self.took_the_last |= self._is_needed(self.sim.machines[name])
        self.sim.terminate(name)

    def _is_needed(self, machine: Machine) -> bool:
        lineage = None if machine.data is None else machine.data.lineage
        voters = set() if lineage is None else {each.id for each in lineage.voters}
        others = [each.data for each in self.sim.machines.values() if each.exists and each is not machine]
        left = {each.member for each in others if each is not None and each.lineage is lineage and not each.unfit}
        return bool(voters) and len(voters & left) < quorum_of(len(voters))

    def _unless_ended(self, name: InstanceId, happen: Callable[[InstanceId], None]) -> None:
        if self.sim.machines[name].exists:
            happen(name)

    def wipe(self) -> None:
        machine = self.anybody()
        if self.may_lose(machine):
            self.sim.reboot(machine.id, wipe=True, after=self.random.uniform(0, 30))

    def disaster(self) -> None:
        """Many at once: some end, some lose their disks, and the rest at least their power."""
        there = self.machines()
        for machine in self.random.sample(there, self.random.randint(1, len(there))):
            if not self.may_lose(machine):
                self.sim.reboot(machine.id, after=self.random.uniform(0, 60))
            elif self.random.random() < 0.3:
                self.sim.reboot(machine.id, wipe=True, after=self.random.uniform(0, 60))
            else:
                self.sim.terminate(machine.id)
        self.sim.after(self.random.uniform(0, 60), self.fill)

    def move_volume(self) -> None:
        """An instance ends, and its disk goes on in another one."""
        machine = self.anybody()
        self.sim.move_volume(machine.id, self.sim.launch(after=self.random.uniform(1, 10)))

    def set_clock(self) -> None:
        """An instance whose clock is an hour off, or right again; its agent starts with it."""
        name = self.anybody().id
        self.sim.machines[name].skew = timedelta(seconds=self.random.choice((-3600, -60, 0, 60, 3600)))
        self.sim.reboot(name)

    # ---- the weather

    def bad_weather(self) -> None:
        """For one agent, or for all of them and those that are yet to start."""
        kind, door = self.random.choice((*DOORS_FAIL, *REQUESTS_FAIL, "slow")), self.random.choice(DOORS)
        rate = self.random.uniform(1, 10) if kind == "slow" else self.random.choice((0.1, 0.5, 0.9))
        everybody = self.random.random() < 0.3
        agents = list(self.sim.agents.values()) if everybody else [each for each in (self.some_agent(),) if each]

        def set_in(faults: Faults) -> Faults:
            if kind in DOORS_FAIL:
                getattr(faults, kind).add(door)
            else:
                setattr(faults, kind, rate)
            return faults

        def clear_up() -> None:
            self.sim.weather = Faults if everybody else self.sim.weather
            for agent in agents:
                if kind in DOORS_FAIL:
                    getattr(agent.faults, kind).discard(door)
                else:
                    setattr(agent.faults, kind, 0.0)
            self.sim.tell(f"the weather clears up: {kind}")

        if everybody:
            self.sim.weather = lambda: set_in(Faults())
        for agent in agents:
            set_in(agent.faults)
        whom = "everybody" if everybody else ", ".join(each.name for each in agents)
        self.sim.tell(f"bad weather for {whom}: {kind} {door if kind in DOORS_FAIL else f'{rate:.1f}'}")
        self.for_a_while(clear_up)

    def odd_listings(self) -> None:
        """What EC2 tells one agent, or all of them, is old, or lacks some instances."""
        hidden, kind = self.anybody().id, self.random.choice(("hidden", "lag", "partial"))
        lag, partial = self.random.choice((10.0, 60.0, 300.0)), self.random.choice((0.1, 0.5))
        agents = self._one_or_all()
        for agent in agents:
            if kind == "hidden":
                agent.cloud.hidden.add(hidden)
            elif kind == "lag":
                agent.cloud.lag = lag
            else:
                agent.cloud.partial = partial
            self.for_a_while(agent.cloud.see_clearly)
        names = ", ".join(each.name for each in agents)
        self.sim.tell(f"EC2's listings for {names}: {kind} {hidden if kind == 'hidden' else ''}")

    def _one_or_all(self) -> list[Agent]:
        if self.random.random() < 0.3:
            return list(self.sim.agents.values())
        return [each for each in (self.some_agent(),) if each is not None]

    def forget(self) -> None:
        """EC2 forgets what ended, though its group's activities mostly do not."""
        self.sim.forgotten.update(self._ended())
        if self.random.random() < 0.7:
            self.sim.ended_by_group.update(self._ended())

    def _ended(self) -> list[InstanceId]:
        return [name for name, each in self.sim.machines.items() if each.state is InstanceState.TERMINATED]

    def hold(self) -> None:
        """By an operator, whatever else happens meanwhile."""
        self.sim.hold()
        self.for_a_while(self.sim.release)

    # ---- the group

    def scale(self) -> None:
        """Up by launching; down, even to nothing, by terminating only what the voters' disks allow."""
        self.sim.desired = self.random.choice((0, 1, 2, 3, 3, 4, 5, 5, 7))
        self.sim.tell(f"{self.sim.desired} instances are wanted")
        self.fill()
        while len(self.counted()) > self.sim.desired:
            spare = [each for each in self.counted() if self.may_lose(each)]
            if not spare:
                self.sim.desired = len(self.counted())
                return
            self.sim.terminate(self.random.choice(spare).id)
        self.to_zero |= self.sim.desired == 0  # whoever is leaving has nobody to hand over to

    def refresh(self) -> None:
        """Every instance is replaced by a new one, one after another; the group does not look whether all is well."""
        old, warm_up = [each.id for each in self.counted()], self.random.uniform(20, 200)
        launches_first = self.random.random() < 0.5
        self.sim.tell(f"an instance refresh begins, {warm_up:.0f} s each")

        def replace(number: int) -> None:
            machine = self.sim.machines[old[number]]
            if machine in self.machines():
                if launches_first:
                    self.sim.launch(after=self.random.uniform(0, 10))
                self._replace(machine, promptly=True)
            if number + 1 < len(old):
                self.sim.after(warm_up, lambda: replace(number + 1))

        if old:
            replace(0)

    def leave(self) -> None:
        """Whoever it is, and whatever depends on it: its hook waits. Its group launches another, now or afterwards."""
        self.sim.let_go(self.anybody().id)
        if self.random.random() < 0.5:
            self.launch()

    def leave_all(self) -> None:
        """At once: for others, who come now or later, or because nobody is wanted for a while."""
        leaving = self.machines()
        if self.random.random() < 0.5:
            self.sim.desired, self.to_zero = 0, True
            self.sim.tell("nobody is wanted")
            self.sim.after(self.random.uniform(0, 900), self._want_some)
        for each in leaving:
            self.sim.let_go(each.id)
        if self.random.random() < 0.5:
            self.fill()

    def interrupt(self) -> None:
        """EC2 takes a spot instance back, with or without time to step out."""
        machine = self.anybody()
        if self.may_lose(machine):
            self.sim.interrupt(machine.id, self.random.choice((1, 5, 30, 120)))
            if self.random.random() < 0.5:
                self.launch()

    def _want_some(self) -> None:
        self.sim.desired = self.sim.desired or 3
        self.fill()

    def detach(self) -> None:
        """The group launches another one in its place."""
        machine = self.anybody()
        if machine.group is not None:
            self.sim.detach(machine.id)
            self.launch()

    def fill(self) -> None:
        while len(self.counted()) < self.sim.desired:
            self.launch()

    def launch(self) -> None:
        if len(self.counted()) < self.sim.desired:
            self.sim.launch(after=self.random.uniform(0, 10))

    def take_an_old_address(self) -> None:
        """A new instance gets the address of one that is gone."""
        taken = {each.ip for each in self.sim.machines.values() if each.exists}
        free = sorted({each.ip for each in self.sim.machines.values()} - taken)
        if free and len(self.counted()) < self.sim.desired:
            self.sim.launch(ip=self.random.choice(free))
