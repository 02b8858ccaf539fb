"""A small world for the real agent: EC2, S3 and etcd's membership rules as values in one process.

The agent's loop, observe, decide and act run unmodified against simulated doors. Time is virtual, every
choice comes from one seed, and iteration is sorted, so a seed's trace is the same on every run. Between any
two requests of an agent others may play whole rounds (`interleave`), so what one has seen may be old when it
acts. What is modelled of etcd: one lineage for each token and founders; a commit needs a quorum of running
voters that reach each other; one learner at a time; an add needs voters that have been connected for five
seconds; names and client URLs appear once a quorum has committed them; a removed or forgotten member never
serves. Not modelled: the log, lagging followers, elections that take time.

`Sim.check` runs after every round: the promises that must hold whatever the weather is.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from agent.loop import play
from agent.model.actions import Launch
from agent.model.cluster import Member, quorum_of, voter_target
from agent.model.fleet import Group, InstanceState
from agent.model.generation import FIRST, Cause, GenerationRecord
from agent.model.ids import ClientUrl, ClusterId, GenerationNumber, InstanceId, MemberId, Nonce, PeerUrl
from agent.model.memory import Memory
from agent.model.policy import Policy
from agent.model.round import Round
from agent.world.doors import World
from tests.simulation.doors import Faults, SimBucket, SimClock, SimCloud, SimEtcd, SimHost, SimMetadata
from tests.simulation.machines import START, Broken, Crash, DataDir, Lineage, Machine, number

DEEPEST = 3
"""How many agents may be in the middle of a round at once."""


class Sim:
    """The world; `agents` play their rounds in it."""

    def __init__(
        self, seed: int, instances: int = 3, *, desired: int | None = None, groups: int = 1, interleave: float = 0.05
    ) -> None:
        self.random = random.Random(seed)
        self.interleave = interleave
        self.now = START
        self.objects: dict[str, tuple[str, datetime]] = {}
        self.written_once: dict[str, str] = {}
        self.lineages: dict[str, Lineage] = {}
        self.born: set[MemberId] = set()
        self.machines: dict[InstanceId, Machine] = {}
        self.forgotten: set[InstanceId] = set()
        self.ended_by_group: set[InstanceId] = set()
        self.group_count = groups
        self.desired = instances if desired is None else desired
        self.honours_preconditions = True
        self.story: list[str] = []
        self.weather: Callable[[], Faults] = Faults  # what every new agent meets
        self.agents: dict[InstanceId, Agent] = {}
        self.in_turn: list[Agent] = []
        for _ in range(instances):
            self.launch()

    # ---- what AWS and its machines do

    def groups(self) -> tuple[Group, ...]:
        share, rest = divmod(self.desired, self.group_count)
        return tuple(Group(f"g{each}", share + (each < rest)) for each in range(self.group_count))

    def launch(self, *, ip: str | None = None, after: float = 0.0) -> InstanceId:
        """A new instance, whose agent speaks `after` seconds."""
        serial = len(self.machines) + 1
        name = InstanceId(f"i-{serial:04d}")
        zone, group = f"z{(serial - 1) % 3}", f"g{(serial - 1) % self.group_count}"
        self.machines[name] = Machine(name, ip or f"10.0.0.{serial}", zone, group, self.now)
        self._new_agent(name, after)
        self.tell(f"{name} is launched at {self.machines[name].ip}")
        return name

    def _new_agent(self, name: InstanceId, after: float = 0.0) -> None:
        if name in self.agents:
            self.agents[name].alive = False
        self.agents[name] = Agent(self, name, after)

    def terminate(self, name: InstanceId) -> None:
        machine = self.machines[name]
        machine.state, machine.running = InstanceState.TERMINATED, False
        self._end_agent(name)
        self.tell(f"{name} is terminated")

    def shut_down(self, name: InstanceId) -> None:
        """On its way to `terminated`: agent and etcd still run."""
        self.machines[name].state = InstanceState.SHUTTING_DOWN

    def stop(self, name: InstanceId) -> None:
        machine = self.machines[name]
        machine.state, machine.running = InstanceState.STOPPED, False
        self._end_agent(name)
        self.tell(f"{name} is stopped")

    def _end_agent(self, name: InstanceId) -> None:
        agent = self.agents.pop(name, None)
        if agent is not None:
            agent.alive = False

    def reboot(self, name: InstanceId, *, ip: str | None = None, wipe: bool = False, after: float = 0.0) -> None:
        """Also starts what was stopped. A wiped disk has lost identity and data."""
        machine = self.machines[name]
        machine.state, machine.running, machine.boot = InstanceState.RUNNING, False, machine.boot + 1
        machine.ip = ip or machine.ip
        if wipe:
            machine.identity, machine.data, machine.prepared = None, None, False
        self._new_agent(name, after)
        self.tell(f"{name} is rebooted at {machine.ip}{' with an empty disk' if wipe else ''}")

    def kill_agent(self, name: InstanceId, after: float = 1.0) -> None:
        self._new_agent(name, after)
        self.tell(f"the agent of {name} is killed")

    def kill_etcd(self, name: InstanceId) -> None:
        self.machines[name].running, self.machines[name].exit_code = False, -9
        self.tell(f"etcd on {name} is killed")

    def isolate(self, name: InstanceId) -> None:
        self.machines[name].reachable = False
        self.tell(f"{name} is isolated")

    def heal(self, name: InstanceId) -> None:
        self.machines[name].reachable = True
        self.tell(f"{name} is healed")

    def hide(self, name: InstanceId) -> None:
        """Missing from every listing, and cut off; EC2 says nothing of it."""
        for agent in self.agents.values():
            agent.cloud.hidden.add(name)
        self.isolate(name)

    def move_volume(self, old: InstanceId, new: InstanceId) -> None:
        """The old instance is terminated, and its disk attached to the new one."""
        self.terminate(old)
        of, to = self.machines[old], self.machines[new]
        to.identity, to.data, to.prepared = of.identity, of.data, of.prepared
        of.identity, of.data, of.prepared = None, None, False
        self.tell(f"the volume of {old} is attached to {new}")

    def at(self, url: str) -> Machine | None:
        host = url.split("/")[2].split(":", maxsplit=1)[0]
        return next((each for each in self.machines.values() if each.ip == host and each.up), None)

    def proclaim(self, founders: dict[InstanceId, PeerUrl]) -> GenerationRecord:
        """Write the next generation by hand, as a recovery would; what lived before must never write again."""
        last = max((int(key[12:18]) for key in self.objects if key.startswith("generations/")), default=0)
        generation = GenerationNumber(last + 1)
        record = GenerationRecord(
            generation,
            "prod",
            f"prod-{generation:06d}-cafe",
            InstanceId("i-operator"),
            self.now,
            "0",
            Nonce("cafe"),
            founders,
            Cause("operator", {}),
        )
        for lineage in self.lineages.values():
            lineage.superseded_at = lineage.writes
        self.objects[f"generations/{generation:06d}.json"] = (record.to_json(), self.now)
        return record

    def skip(self, seconds: float) -> None:
        """Time in which nothing happens that anybody would care to watch."""
        self.now += timedelta(seconds=seconds)
        self.tell(f"{seconds:.0f} s go by")

    # ---- etcd's rules

    def serving(self, lineage: Lineage) -> dict[MemberId, Machine]:
        """The members of a lineage whose etcd runs and can be reached."""
        found = {
            each.data.member: each
            for each in self.machines.values()
            if each.running and each.reachable and each.data is not None and each.data.lineage is lineage
        }
        return {member: machine for member, machine in sorted(found.items()) if member in lineage.members}

    def leader(self, lineage: Lineage) -> MemberId | None:
        serving = self.serving(lineage)
        up = [each.id for each in lineage.voters if each.id in serving]
        return min(up) if len(up) >= quorum_of(len(lineage.voters)) else None

    def start_etcd(self, machine: Machine, launch: Launch) -> None:
        if machine.running:
            raise Broken(f"{machine.id} starts etcd a second time")
        machine.starts += 1
        if machine.data is None:
            if not machine.prepared:
                raise Broken(f"{machine.id} started etcd without a prepared directory")
            born = self._found(launch) if launch.state == "new" else self._join(launch)
            if born is None:
                machine.exit_code = 1
                return
            if born.member in self.born:
                raise Broken(f"member {born.member} of {machine.id} starts a second time on an empty disk")
            self.born.add(born.member)
            machine.data = born
        machine.running, machine.launched_as = True, launch.name

    def _found(self, launch: Launch) -> DataDir:
        key = f"{launch.token} {sorted(launch.initial_cluster)}"
        if key not in self.lineages:
            members = {}
            for name, url in launch.initial_cluster:
                member = MemberId(number(url, launch.token))
                members[member] = Member(member, name, (url,))
            self.lineages[key] = Lineage(ClusterId(number(key)), members, launch.token)
        lineage = self.lineages[key]
        member = MemberId(number(launch.peer_url, launch.token))
        if member in lineage.gone:
            raise Broken(f"{launch.name} starts as founder {member}, which was removed long ago")
        return DataDir(lineage, member)

    def _join(self, launch: Launch) -> DataDir | None:
        urls = sorted(url for _, url in launch.initial_cluster)
        for lineage in self.lineages.values():
            known = sorted(url for each in lineage.members.values() for url in each.peer_urls)
            entry = next((m for m in lineage.members.values() if launch.peer_url in m.peer_urls), None)
            if entry is not None and known == urls and self.leader(lineage) is not None:
                return DataDir(lineage, entry.id)
        return None

    def _commit(self, lineage: Lineage) -> None:
        """With a leader: a write, everybody's name and client URL, and the end of those who were removed."""
        if self.leader(lineage) is None:
            return
        lineage.writes += 1
        for member, machine in self.serving(lineage).items():
            urls = (ClientUrl(f"http://{machine.ip}:2379"),)
            entry = lineage.members[member]
            if (entry.name, entry.client_urls) != (machine.launched_as, urls):
                lineage.members[member] = replace(entry, name=machine.launched_as, client_urls=urls)
        for machine in self.machines.values():
            removed = machine.data is not None and machine.data.member in lineage.gone
            if removed and machine.running and machine.reachable:
                machine.running, machine.exit_code = False, 0

    # ---- what must always hold

    def check(self) -> None:
        for machine in self.machines.values():
            up = machine.running and machine.reachable
            machine.steady_since = (machine.steady_since or self.now) if up else None
        for lineage in self.lineages.values():
            self._commit(lineage)
        self._one_lineage_writes()
        self._nothing_is_rewritten()

    def _one_lineage_writes(self) -> None:
        alive = [each for each in self.lineages.values() if each.writes and each.superseded_at is None]
        if len(alive) > 1:
            raise Broken("two lineages accepted writes")
        for lineage in self.lineages.values():
            if lineage.superseded_at is not None and lineage.writes > lineage.superseded_at:
                raise Broken(f"lineage {lineage.cluster_id} writes although a newer generation exists")

    def _nothing_is_rewritten(self) -> None:
        """What is written once stays as it was: no record, claim or formed.json changes or goes away."""
        for key, text in self.written_once.items():
            if key not in self.objects or self.objects[key][0] != text:
                raise Broken(f"{key} was changed or deleted")
        kept = {key: text for key, (text, _) in self.objects.items() if key.startswith("generations/")}
        self.written_once.update(kept)

    # ---- what tests ask

    def writes(self) -> int:
        return sum(each.writes for each in self.lineages.values())

    def current(self) -> Lineage:
        alive = [each for each in self.lineages.values() if each.writes and each.superseded_at is None]
        assert len(alive) == 1, f"{len(alive)} lineages have accepted writes"
        return alive[0]

    def voters(self) -> list[str]:
        return sorted(each.name for each in self.current().voters)

    def learners(self) -> list[str]:
        return sorted(each.name for each in self.current().members.values() if each.is_learner)

    def live(self) -> list[InstanceId]:
        return sorted(name for name, each in self.machines.items() if each.state is InstanceState.RUNNING)

    def formed(self, generation: int = FIRST) -> bool:
        return f"generations/{generation:06d}/formed.json" in self.objects

    def whole(self) -> bool:
        """At least the voters that are wanted, every member serving on its own instance, every agent at rest."""
        alive = [each for each in self.lineages.values() if each.writes and each.superseded_at is None]
        if len(alive) != 1:
            return False
        serving = self.serving(alive[0])
        names = {each.name for each in alive[0].members.values()}
        return (
            len(alive[0].voters) >= voter_target(self.desired)  # a voter that scale-in left over is kept
            and set(serving) == set(alive[0].members)
            and names == {each.id for each in serving.values()} == {*self.live()}
            and all(each.settled for each in self.agents.values())
        )

    def leader_agent(self) -> Agent:
        leader = self.leader(self.current())
        assert leader is not None
        return self.agents[self.serving(self.current())[leader].id]

    # ---- running

    def tell(self, line: str) -> None:
        self.story.append(f"{(self.now - START).total_seconds():8.2f} {line}")

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let the agents play, in the order in which they wake, ties by chance."""
        end = self.now + timedelta(seconds=seconds)
        while not until():
            waking = list(self.agents.values())
            agent = min(waking, key=lambda each: (each.wakes_at, self.random.random())) if waking else None
            if agent is None or agent.wakes_at > end:
                self.now = end
                return
            self.now = max(self.now, agent.wakes_at) + timedelta(milliseconds=self.random.randrange(1, 40))
            agent.turn()

    def run_until(self, holds: Callable[[], bool], within: float) -> float:
        """Seconds until it holds; Broken where it does not within the bound."""
        began = self.now
        self.run(within, until=holds)
        if not holds():
            raise Broken(f"it took longer than {within} s")
        return (self.now - began).total_seconds()

    def meanwhile(self) -> None:
        """Between two requests of one agent, perhaps a whole round of another."""
        if not self.in_turn or len(self.in_turn) >= DEEPEST or self.random.random() >= self.interleave:
            return
        due = [each for each in self.agents.values() if each not in self.in_turn and each.wakes_at <= self.now]
        if due:
            self.random.choice(due).turn()


class Agent:
    """One agent's process: memory, doors and a place in time. A crash loses the memory only."""

    def __init__(self, sim: Sim, name: InstanceId, after: float = 0.0) -> None:
        self.sim, self.name, self.alive = sim, name, True
        self.memory, self.wakes_at = Memory(), sim.now + timedelta(seconds=after)
        self.last: Round | None = None
        self.faults = sim.weather()
        self.calls: Counter[str] = Counter()  # requests by door
        self.at_crash: Callable[[], None] = lambda: None
        self.policy = Policy(cluster="prod", groups_interval=timedelta(seconds=30))
        self.cloud = SimCloud(self)
        self.world = World(SimClock(self), SimMetadata(self), self.cloud, SimBucket(self), SimEtcd(self), SimHost(self))

    @property
    def machine(self) -> Machine:
        return self.sim.machines[self.name]

    @property
    def rule(self) -> str:
        return "" if self.last is None else self.last.decision.rule

    @property
    def settled(self) -> bool:
        return self.rule in ("rest", "promote-myself")

    def turn(self) -> None:
        self.sim.in_turn.append(self)
        try:
            self._round()
        except Crash:
            self.sim.tell(f"the agent of {self.name} dies")
            self.memory, self.wakes_at = Memory(), self.sim.now + timedelta(seconds=1)
            self.at_crash()
        finally:
            self.sim.in_turn.remove(self)
        self.sim.check()

    def _round(self) -> None:
        self.last = play(self.world, self.world.metadata.me(), self.memory, self.policy)
        self.memory = self.last.memory
        self.wakes_at = self.sim.now + self.last.pause * (1 + self.sim.random.random() / 4)
        decision, result = self.last.decision, self.last.result
        self.sim.tell(
            f"{self.name} {decision.rule}: {type(decision.action).__name__}"
            f" ({decision.because}) -> {result.outcome} {result.detail}"
        )
