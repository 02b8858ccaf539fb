"""A small world for the real agent: EC2, S3 and etcd as values in one process.

The agent's loop, observe, decide and act run unmodified against simulated doors. Time is virtual, every
choice comes from one seed, and iteration is sorted, so a seed's trace is the same on every run. Between any
two requests of an agent others may play whole rounds (`interleave`), and between any two steps of its tasks
anything may happen, so what one has seen may be old when it acts. What is modelled of etcd: see `raft`.

What must hold at every moment, whatever the weather is: see `promises`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from heapq import heappop, heappush

from agent.model.actions import Launch
from agent.model.certificates import Authorities
from agent.model.cluster import Alarm, Member, minor_of, voter_target
from agent.model.dns import DnsNames, RecordSet, RecordType
from agent.model.faults import Refused
from agent.model.fleet import Group, InstanceState
from agent.model.generation import FIRST, Cause, Exclusion, GenerationRecord
from agent.model.hold import Hold, released
from agent.model.ids import ClusterId, GenerationNumber, InstanceId, MemberId, Nonce, PeerUrl
from agent.model.snapshot import BAD, DATA, MANIFEST, Manifest, SnapshotName
from agent.model.spot import SpotAction, SpotNotice
from agent.model.work import RestoreSeed, Working
from tests.simulation.agents import Agent
from tests.simulation.doors import Faults
from tests.simulation.logs import DataDir, Entry, Lineage, acknowledged
from tests.simulation.machines import START, Broken, Machine, number
from tests.simulation.promises import Promises
from tests.simulation.raft import Raft

name_of = lru_cache(512)(SnapshotName.parse)

UNWRITTEN = 0.3
"""How likely the disk of an etcd that is killed does not know the last commit."""

FREED_BYTES = 50_000_000

DEEPEST = 3
"""How many agents may be in the middle of a round at once."""


class Sim:
    """The world; `agents` play their rounds in it."""

    def __init__(
        self,
        seed: int,
        instances: int = 3,
        *,
        desired: int | None = None,
        groups: int = 1,
        interleave: float = 0.05,
        replace_unhealthy: bool = False,
        protect_voters: bool = False,
        names: DnsNames | None = None,
        image: str = "3.5.30",
        certified: bool = False,
        target_groups: tuple[str, ...] = (),
    ) -> None:
        self.random = random.Random(seed)
        self.interleave = interleave
        self.replace_unhealthy = replace_unhealthy
        self.protect_voters = protect_voters
        self.image = image  # the etcd of whatever is launched
        self.names, self.zone = names, dict[tuple[str, RecordType], RecordSet]()
        self.certified = certified
        self.authorities: Authorities | None = None  # as Parameter Store has them
        self.targets: dict[str, set[InstanceId]] = {each: set() for each in target_groups}
        self.now = START
        self.objects: dict[str, tuple[str, datetime]] = {}
        self.contents: dict[str, Entry] = {}  # what a snapshot with this digest holds
        self.alarmed: dict[str, frozenset[Alarm]] = {}
        self.records: dict[GenerationNumber, GenerationRecord] = {}  # as they were written, whatever the bucket says
        self.raft, self.promises = Raft(self), Promises(self)
        self.lineages: dict[str, Lineage] = {}
        self.born: set[MemberId] = set()
        self.machines: dict[InstanceId, Machine] = {}
        self.forgotten: set[InstanceId] = set()
        self.ended_by_group: set[InstanceId] = set()
        self.group_count = groups
        self.desired = instances if desired is None else desired
        self.honours_preconditions = True
        self.held_since: datetime | None = None
        self.story: list[str] = []
        self.weather: Callable[[], Faults] = Faults  # what every new agent meets
        self.planned = 0
        self.agenda: list[tuple[datetime, int, Callable[[], None]]] = []  # what happens at a time of its own
        self.after_round: Callable[[str], None] = lambda rule: None
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
        self.machines[name] = Machine(name, ip or f"10.0.0.{serial}", zone, group, self.now, etcd=self.image)
        self._new_agent(name, after)
        self.tell(f"{name} is launched at {self.machines[name].ip}")
        return name

    def _new_agent(self, name: InstanceId, after: float = 0.0) -> None:
        if name in self.agents:
            self.agents[name].alive = False
        self.agents[name] = Agent(self, name, after)

    def terminate(self, name: InstanceId) -> None:
        machine = self.machines[name]
        machine.state = InstanceState.TERMINATED
        machine.end_etcd()
        self._end_agent(name)
        for registered in self.targets.values():
            registered.discard(name)
        self.tell(f"{name} is terminated")

    def begin_to_terminate(self, name: InstanceId) -> None:
        """Its group has chosen it; agent and etcd still run."""
        self.machines[name].lifecycle = "Terminating:Wait"
        self.tell(f"{name} is on its way out of its group")

    def let_go(self, name: InstanceId, early: float = 0.0) -> None:
        """The same, with a hook that waits until the agent completes it; IMDS tells of it so many seconds before."""
        machine = self.machines[name]
        machine.awaited = True
        self.begin_to_terminate(name)
        if early:
            machine.lifecycle = "Terminating"
            self.after(early, lambda: setattr(machine, "lifecycle", "Terminating:Wait"))

    def interrupt(self, name: InstanceId, seconds: float) -> None:
        """EC2 takes this spot instance back so soon, whatever depends on it; Auto Scaling knows nothing of it yet."""
        at = self.now + timedelta(seconds=seconds)
        self.machines[name].notice = SpotNotice(SpotAction.TERMINATE, at)
        self.tell(f"{name} is to be taken back in {seconds:.0f} s")
        self.after(seconds, lambda: self.terminate(name) if self.machines[name].exists else None)

    def protect(self, name: InstanceId, protected: bool) -> None:
        """Only of what is in service, as Auto Scaling has it."""
        if self.machines[name].lifecycle != "InService":
            raise Refused(f"The instance {name} is not in InService")
        self.machines[name].protected = protected
        self.tell(f"{name} is {'protected' if protected else 'not protected any more'}")

    def answers_health_checks(self, name: InstanceId) -> bool:
        """As a load balancer finds it by `/readyz`: its agent runs, its member serves, and it is not on its way out."""
        machine, agent = self.machines[name], self.agents.get(name)
        going = machine.leaving or (machine.notice is not None and machine.notice.takes_the_disk)
        return machine.speaks and machine.reachable and agent is not None and not going

    def call_unhealthy(self, name: InstanceId) -> None:
        """Its group ends it, with a hook, and launches another."""
        if not self.machines[name].leaving:
            self.promises.at_replacement(self.machines[name])
            self.let_go(name)
            self.launch()

    def complete_hook(self, name: InstanceId) -> None:
        machine = self.machines[name]
        if machine.lifecycle != "Terminating:Wait":
            return
        self.promises.at_letting_go(machine)
        machine.lifecycle = "Terminating:Proceed"
        self.tell(f"{name} may go")
        self.after(self.random.uniform(0, 5), lambda: self.terminate(name) if machine.exists else None)

    def shut_down(self, name: InstanceId) -> None:
        """On its way to `terminated`: agent and etcd still run."""
        self.machines[name].state = InstanceState.SHUTTING_DOWN
        self.tell(f"{name} is shutting down")

    def stop(self, name: InstanceId) -> None:
        machine = self.machines[name]
        machine.state = InstanceState.STOPPED
        self._cut_off(machine)
        self._end_agent(name)
        self.tell(f"{name} is stopped")

    def _end_agent(self, name: InstanceId) -> None:
        agent = self.agents.pop(name, None)
        if agent is not None:
            agent.alive = False

    def reboot(self, name: InstanceId, *, ip: str | None = None, wipe: bool = False, after: float = 0.0) -> None:
        """Also starts what was stopped. A wiped disk has lost identity and data."""
        machine = self.machines[name]
        machine.state, machine.boot = InstanceState.RUNNING, machine.boot + 1
        self._cut_off(machine)
        machine.ip = ip or machine.ip
        if wipe:
            machine.lose_disk()
        self._new_agent(name, after)
        self.tell(f"{name} is rebooted at {machine.ip}{' with an empty disk' if wipe else ''}")

    def kill_agent(self, name: InstanceId, after: float = 1.0) -> None:
        self._new_agent(name, after)
        self.tell(f"the agent of {name} is killed")

    def kill_etcd(self, name: InstanceId) -> None:
        self._cut_off(self.machines[name], -9)
        self.tell(f"etcd on {name} is killed")

    def _cut_off(self, machine: Machine, exit_code: int | None = None) -> None:
        """etcd ends without a goodbye. What it appended is on the disk; how far it was committed perhaps not yet."""
        data = machine.data
        if machine.running and data is not None and self.random.random() < UNWRITTEN:
            data.forget_a_commit(the_database_too=self.random.random() < 0.5)
        machine.end_etcd(exit_code)

    def damage(self, name: InstanceId, *, visibly: bool = True) -> None:
        """etcd dies, and does not run on this data any more; whether its files show it to whoever reads them, too."""
        machine = self.machines[name]
        assert machine.data is not None
        machine.end_etcd(2)
        machine.data.damaged, machine.data.unfit = "a checksum differs" if visibly else "", True
        self.tell(f"the data of {name} is damaged{'' if visibly else ', where nobody sees it'}")

    def freeze_etcd(self, name: InstanceId) -> None:
        """SIGSTOP."""
        machine = self.machines[name]
        if machine.running:
            machine.frozen = True
            self.raft.lose_touch(machine)
            self.tell(f"etcd on {name} is stopped where it stands")

    def thaw_etcd(self, name: InstanceId) -> None:
        if self.machines[name].frozen:
            self.machines[name].frozen = False
            self.tell(f"etcd on {name} goes on")

    def detach(self, name: InstanceId) -> None:
        """From its group, which does not count it any more; it runs on, and is found by its tags."""
        self.machines[name].group = self.machines[name].lifecycle = None
        self.tell(f"{name} is detached from its group")

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
        self.machines[new].take_disk_of(self.machines[old])
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
        self.records[generation] = record
        self._supersede()
        self.objects[f"generations/{generation:06d}.json"] = (record.to_json(), self.now)
        return record

    def exclude(self, name: InstanceId) -> None:
        """An operator's word that this instance will never serve the newest generation again."""
        generation = max(self.records)
        word = Exclusion(name, "it burnt down", "a test", self.now)
        self.objects[f"generations/{generation:06d}/excluded/{name}.json"] = (word.to_json(), self.now)
        self.promises.written_off.add((generation, name))
        self.tell(f"{name} is written off")

    def hold(self) -> None:
        self.held_since = self.held_since or self.now
        self.objects["hold.json"] = (Hold("an operator", "a test", self.now).to_json(), self.now)
        self.tell("the cluster is held")

    def release(self) -> None:
        self.held_since = None
        self.objects["hold.json"] = (released("an operator", "", self.now), self.now)
        self.tell("the cluster is released")

    def skip(self, seconds: float) -> None:
        """Time in which nothing happens that anybody would care to watch."""
        self.now += timedelta(seconds=seconds)
        self.tell(f"{seconds:.0f} s go by")

    # ---- generations

    def generation_begins(self, record: GenerationRecord) -> None:
        """Its record was just written: is it rightly so?"""
        if record.generation in self.records:
            raise Broken(f"generation {record.generation} is written a second time")
        self.promises.at_creation(record)
        self.records[record.generation] = record
        self._supersede()
        self.tell(f"generation {record.generation} begins, from {record.seed.source if record.seed else 'nothing'}")

    def _supersede(self) -> None:
        newest = max(self.records)
        for lineage in self.lineages.values():
            if lineage.superseded_at is None and lineage.token != self.records[newest].token:
                lineage.superseded_at = lineage.writes

    def lineage_of(self, record: GenerationRecord) -> Lineage | None:
        return next((each for each in self.lineages.values() if each.token == record.token), None)

    def record_of(self, lineage: Lineage) -> GenerationRecord | None:
        return next((each for each in self.records.values() if each.token == lineage.token), None)

    # ---- snapshots

    def snapshot_names(self) -> list[SnapshotName]:
        """Whatever lies there, whole or not, oldest first."""
        keys = [key for key in self.objects if key.startswith("snapshots/")]
        stems = {key.removesuffix(end) for key in keys for end in (DATA, MANIFEST, BAD) if key.endswith(end)}
        return sorted(name for name in map(name_of, stems) if name is not None)

    def sound_snapshots(self) -> Iterator[tuple[SnapshotName, Entry]]:
        """Those that can be restored in truth, with what they hold."""
        for name in self.snapshot_names():
            data, manifest = self.objects.get(name.data_key), self.objects.get(name.manifest_key)
            content = None if data is None else self.contents.get(data[0])
            whole = manifest is not None and data is not None and data[0] in manifest[0]
            if content is not None and whole and name.bad_key not in self.objects:
                yield name, content

    def newest_manifest(self) -> Manifest:
        name, _ = max(self.sound_snapshots(), key=lambda each: each[0])
        return Manifest.from_json(self.objects[name.manifest_key][0])

    # ---- etcd

    def serving(self, lineage: Lineage) -> dict[MemberId, Machine]:
        """The members of a lineage whose etcd runs and can be reached."""
        running = [(each.data.member, each) for each in self.raft.running(lineage) if each.reachable and each.data]
        return {member: machine for member, machine in running if member in lineage.members}

    def leader(self, lineage: Lineage) -> MemberId | None:
        """Of those that reach each other."""
        leader = self.raft.leader_in([each for each in self.raft.running(lineage) if each.reachable])
        return None if leader is None or leader.data is None else leader.data.member

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
            machine.data = self._born(born)
        if machine.data.damaged or machine.data.unfit or machine.obstacle is not None:
            machine.exit_code = 2
            return
        if not self._fits(machine, machine.data):
            machine.exit_code = 1
            return
        self.promises.at_start(machine)
        machine.runs = machine.etcd
        if machine.issued is not None:
            machine.trusts = frozenset(machine.issued.authorities.trusted)
        machine.data.leads = False
        machine.data.noted = machine.data.applied = machine.data.committed
        machine.running, machine.answers, machine.launched_as = True, False, launch.name

    def _fits(self, machine: Machine, data: DataDir) -> bool:
        """etcd: "cluster cannot be downgraded"; and a newer one reads one minor version back."""
        installed = minor_of(machine.etcd)
        assert installed is not None
        known = max(data.version, data.lineage.version if data.appended is None else (0, 0))
        if installed < known:
            self.tell(f"{machine.id} starts an etcd that is too old")
            return False
        if known != (0, 0) and installed > (known[0], known[1] + 1):
            raise Broken(f"{machine.id} skips a minor version of etcd")
        return True

    def _determine_versions(self) -> None:
        """As a leader does: the lowest of all members', where all of them run; whoever runs is told."""
        for lineage in self.lineages.values():
            serving = self.serving(lineage)
            if self.leader(lineage) is None or set(serving) != set(lineage.members):
                continue
            minors = [minor_of(each.runs) for each in serving.values()]
            lineage.version = max(lineage.version, min(each for each in minors if each is not None))
            for each in serving.values():
                if each.data is not None:
                    each.data.version = lineage.version

    def _born(self, data: DataDir) -> DataDir:
        if data.member in self.born:
            raise Broken(f"member {data.member} starts a second time on an empty disk")
        self.born.add(data.member)
        return data

    def _found(self, launch: Launch) -> DataDir:
        return self._founder(launch.token, launch.initial_cluster, launch.peer_url, None, None)

    def restored(self, task: RestoreSeed) -> DataDir:
        """A founder's directory, made of the seed."""
        seed = task.seed
        how = f"{seed.sha256} bumped by {seed.bump_revision}"
        return self._born(self._founder(task.token, task.initial_cluster, task.peer_url, how, seed.sha256))

    def _founder(
        self, token: str, founders: tuple[tuple[str, PeerUrl], ...], url: PeerUrl, seed: str | None, sha256: str | None
    ) -> DataDir:
        key = f"{token} {sorted(founders)}"
        if key not in self.lineages:
            ids = {name: MemberId(number(each, token)) for name, each in founders}
            members = {ids[name]: Member(ids[name], name, (each,)) for name, each in founders}
            content = None if sha256 is None else self.contents[sha256]
            first = Entry(1, len(members), members, 1 if content is None else content.revision + 10**9, content)
            alarms = set() if sha256 is None else set(self.alarmed[sha256])
            self.lineages[key] = Lineage(ClusterId(number(key)), token, first, seed, alarms=alarms)
            self._supersede()
        lineage = self.lineages[key]
        self.promises.at_founding(lineage, seed)
        member = MemberId(number(url, token))
        if member in lineage.gone:
            raise Broken(f"founder {member} starts, which was removed long ago")
        return DataDir(lineage, member, lineage.first, lineage.first, lineage.first)

    def _join(self, launch: Launch) -> DataDir | None:
        urls = sorted(url for _, url in launch.initial_cluster)
        for lineage in self.lineages.values():
            known = sorted(url for each in lineage.members.values() for url in each.peer_urls)
            entry = next((m for m in lineage.members.values() if launch.peer_url in m.peer_urls), None)
            if entry is not None and known == urls and self.leader(lineage) is not None:
                return DataDir(lineage, entry.id)
        return None

    def is_fresh(self, machine: Machine) -> bool:
        """Its etcd has run and could be reached for a moment only."""
        since = machine.steady_since
        return since is None or self.now - since < timedelta(seconds=20)

    def compacted(self, lineage: Lineage, revision: int) -> None:
        """Most of what every member has stored is history."""
        self.tell(f"the history before revision {revision} is dropped")
        for machine in self.serving(lineage).values():
            machine.unused_bytes = max(machine.unused_bytes, FREED_BYTES)

    def fragment(self, unused_bytes: int) -> None:
        """Of every member's database so much is not in use."""
        for machine in self.machines.values():
            machine.unused_bytes = unused_bytes
        self.tell(f"databases have {unused_bytes / 1e6:.0f} MB that nobody uses")

    def raise_alarm(self, alarm: Alarm) -> None:
        """Writes are refused from now on."""
        self.current().alarms.add(alarm)

    # ---- what must always hold

    def check(self) -> None:
        for machine in self.machines.values():
            up = machine.speaks and machine.reachable
            machine.steady_since = (machine.steady_since or self.now) if up else None
        self.raft.pass_time()
        self._determine_versions()
        self.promises.nothing_is_rewritten()
        if self.certified:
            self.promises.they_believe_each_other()

    # ---- what tests ask

    def newest(self) -> GenerationRecord:
        return self.records[max(self.records)]

    def kept(self) -> set[Entry]:
        """Every client's write that the cluster of now still has, and that was acknowledged."""
        return acknowledged(self.current().committed)

    def acknowledged(self) -> set[Entry]:
        """All there ever were."""
        return {each for lineage in self.lineages.values() for each in acknowledged(lineage.committed)}

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
        """At least the voters that are wanted, every member serving on its own instance, every agent at rest.

        Of more instances than are wanted some may wait: etcd takes one learner at a time, and a spare may be that one.
        """
        alive = [each for each in self.lineages.values() if each.writes and each.superseded_at is None]
        if len(alive) != 1:
            return False
        serving = self.serving(alive[0])
        names = {each.name for each in alive[0].members.values()}
        return (
            len(alive[0].voters) >= voter_target(self.desired)  # a voter that scale-in left over is kept
            and set(serving) == set(alive[0].members)
            and names == {each.id for each in serving.values()} <= {*self.live()}
            and len(names) >= min(self.desired, len(self.live()))
            and all(each.settled for each in self.agents.values() if each.name in names)
        )

    def leader_agent(self) -> Agent:
        leader = self.leader(self.current())
        assert leader is not None
        return self.agents[self.serving(self.current())[leader].id]

    # ---- running

    @property
    def elapsed(self) -> float:
        """Seconds of virtual time."""
        return (self.now - START).total_seconds()

    def tell(self, line: str) -> None:
        self.story.append(f"{self.elapsed:8.2f} {line}")

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let the agents play, in the order in which they wake, ties by chance."""
        end = self.now + timedelta(seconds=seconds)
        while not until():
            due = list(self._due())
            at, happen = min(due, key=lambda each: (each[0], self.random.random())) if due else (end, None)
            if happen is None or at > end:
                self.now = max(self.now, end)
                return
            self.now = max(self.now, at) + timedelta(milliseconds=self.random.randrange(1, 40))
            happen()

    def _due(self) -> Iterator[tuple[datetime, Callable[[], None]]]:
        """Who is in the middle of something goes on when the others have had their time."""
        for agent in self.agents.values():
            if agent in self.in_turn:
                continue
            yield agent.wakes_at, agent.turn
            if isinstance(agent.workshop.work, Working):
                yield agent.workshop.due, agent.step
        if self.agenda:
            yield self.agenda[0][0], self._next_of_the_agenda

    def _next_of_the_agenda(self) -> None:
        _, _, happen = heappop(self.agenda)
        happen()
        self.check()

    def after(self, seconds: float, happen: Callable[[], None]) -> None:
        """Let something happen by itself, whatever else is under way by then."""
        self.planned += 1
        heappush(self.agenda, (self.now + timedelta(seconds=seconds), self.planned, happen))

    def go_on_without(self, agent: Agent, seconds: float) -> None:
        """Time for everybody else, while this agent is in the middle of its round."""
        if len(self.in_turn) < DEEPEST:
            self.run(seconds, until=lambda: not agent.alive)

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
