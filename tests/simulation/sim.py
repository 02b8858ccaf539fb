"""A small world for the real agent: EC2, S3 and etcd's membership rules as values in one process.

The agent's loop, observe, decide and act run unmodified against doors of this module. Time is virtual, every
choice comes from one seed, and iteration is sorted, so a seed's trace is the same on every run. What is
modelled of etcd: one lineage for each token and founders; a commit needs a quorum of running voters that
reach each other; one learner at a time; an add needs every voter (or, past three, a quorum) connected; a
removed or forgotten member never serves; a member ID that runs on a disk that has forgotten it is an error
of the agent, and is reported at once. Not modelled: the log, lagging followers, elections that take time.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from agent.loop import play
from agent.model.actions import Launch
from agent.model.cluster import Member, Membership, MemberStatus, quorum_of
from agent.model.disk import Data, Disk, EtcdProcess, EtcdRunning, EtcdStopped, Identity
from agent.model.faults import Refused, Unavailable
from agent.model.fleet import Fleet, Group, Instance, InstanceState
from agent.model.generation import Claim, FiledReport, Formed, GenerationRecord, Report
from agent.model.ids import ClientUrl, ClusterId, GenerationNumber, InstanceId, MemberId, Nonce, PeerUrl
from agent.model.known import Ignorance, Unknown
from agent.model.memory import Memory
from agent.model.observation import BucketSound, BucketUnsound, BucketVerdict, Me
from agent.model.policy import Policy
from agent.model.round import Round
from agent.world.doors import World

START = datetime(2026, 1, 1, tzinfo=UTC)


class Broken(AssertionError):
    """A promise was broken: the seed that shows it is a bug."""


class Crash(BaseException):
    """The agent's process dies here, between two effects."""


def _number(*words: object) -> int:
    digest = hashlib.sha256("|".join(map(str, words)).encode()).digest()
    return int.from_bytes(digest[:8], "big")


# ---- etcd ------------------------------------------------------------------------------------------------------


@dataclass
class Lineage:
    """One cluster's committed membership; whoever has its data shares it."""

    cluster_id: ClusterId
    members: dict[MemberId, Member]
    writes: int = 0
    gone: set[MemberId] = field(default_factory=set)


@dataclass
class DataDir:
    """What a member's directory holds."""

    lineage: Lineage
    member: MemberId


@dataclass
class Machine:
    """An instance with a disk, an address, and perhaps an etcd process and an agent."""

    id: InstanceId
    ip: str
    zone: str
    launched_at: datetime
    state: InstanceState = InstanceState.RUNNING
    identity: Identity | None = None
    prepared: bool = False
    data: DataDir | None = None
    running: bool = False
    reachable: bool = True
    quarantine: list[DataDir | None] = field(default_factory=list)
    exit_code: int | None = None
    boot: int = 1


class Sim:
    """The world; `agents` play their rounds in it one at a time."""

    def __init__(self, seed: int, instances: int = 3, *, desired: int | None = None, groups: int = 1) -> None:
        self.random = random.Random(seed)
        self.now = START
        self.objects: dict[str, tuple[str, datetime]] = {}
        self.lineages: dict[str, Lineage] = {}
        self.born: set[MemberId] = set()
        self.machines: dict[InstanceId, Machine] = {}
        self.groups = groups
        self.desired = instances if desired is None else desired
        self.honours_preconditions = True
        self.story: list[str] = []
        self.agents: dict[InstanceId, Agent] = {}
        for _ in range(instances):
            self.launch()

    def launch(self) -> InstanceId:
        number = len(self.machines) + 1
        name = InstanceId(f"i-{number:04d}")
        zone = f"z{(number - 1) % 3}"
        self.machines[name] = Machine(name, f"10.0.0.{number}", zone, self.now)
        self.agents[name] = Agent(self, name)
        return name

    def terminate(self, name: InstanceId) -> None:
        machine = self.machines[name]
        machine.state, machine.running = InstanceState.TERMINATED, False
        self.agents.pop(name, None)

    def reboot(self, name: InstanceId, *, ip: str | None = None, wipe: bool = False) -> None:
        machine = self.machines[name]
        machine.running, machine.boot = False, machine.boot + 1
        machine.ip = ip or machine.ip
        if wipe:
            machine.identity, machine.data, machine.prepared = None, None, False
        self.agents[name] = Agent(self, name)

    def at(self, url: str) -> Machine | None:
        host = urlsplit(url).hostname
        return next((each for each in self.machines.values() if each.ip == host), None)

    # -- etcd's rules

    def serving(self, lineage: Lineage, viewer: Machine | None = None) -> dict[MemberId, Machine]:
        """The members of a lineage whose etcd runs and can be reached."""
        found = {
            each.data.member: each
            for each in self.machines.values()
            if each.running
            and each.data is not None
            and each.data.lineage is lineage
            and (each.reachable or each is viewer)
        }
        return {member: machine for member, machine in sorted(found.items()) if member in lineage.members}

    def leader(self, lineage: Lineage) -> MemberId | None:
        voters = [each for each in lineage.members.values() if not each.is_learner]
        up = [each.id for each in voters if each.id in self.serving(lineage)]
        return min(up) if len(up) >= quorum_of(len(voters)) else None

    def start_etcd(self, machine: Machine, launch: Launch) -> None:
        if machine.data is None:
            if not machine.prepared:
                raise Broken(f"{machine.id} started etcd without a prepared directory")
            born = self._bootstrap(machine, launch)
            if born is None:
                machine.exit_code = 1
                return
            machine.data = born
        lineage, member = machine.data.lineage, machine.data.member
        if member in lineage.gone:
            machine.running, machine.exit_code = False, 0
            return
        machine.running = True
        entry = lineage.members.get(member)
        if entry is not None and self.leader(lineage) is not None:
            url = ClientUrl(f"http://{machine.ip}:2379")
            lineage.members[member] = replace(entry, name=launch.name, client_urls=(url,))

    def _bootstrap(self, machine: Machine, launch: Launch) -> DataDir | None:
        data: DataDir | None = self._found(launch) if launch.state == "new" else self._join(launch)
        if data is not None:
            if data.member in self.born:
                raise Broken(f"member {data.member} of {machine.id} starts a second time on an empty disk")
            self.born.add(data.member)
        return data

    def _found(self, launch: Launch) -> DataDir:
        key = f"{launch.token} {sorted(launch.initial_cluster)}"
        if key not in self.lineages:
            members = {}
            for name, url in launch.initial_cluster:
                member = MemberId(_number(url, launch.token))
                members[member] = Member(member, name, (url,), (ClientUrl(url.replace("2380", "2379")),))
            self.lineages[key] = Lineage(ClusterId(_number(key)), members)
        lineage = self.lineages[key]
        return DataDir(lineage, MemberId(_number(launch.peer_url, launch.token)))

    def _join(self, launch: Launch) -> DataDir | None:
        urls = sorted(url for _, url in launch.initial_cluster)
        for lineage in self.lineages.values():
            known = sorted(url for each in lineage.members.values() for url in each.peer_urls)
            entry = next((m for m in lineage.members.values() if launch.peer_url in m.peer_urls), None)
            if entry is not None and known == urls and self.leader(lineage) is not None:
                return DataDir(lineage, entry.id)
        return None

    # -- what must always hold

    def check(self) -> None:
        for lineage in self.lineages.values():
            if self.leader(lineage) is not None:
                lineage.writes += 1
        written = [each for each in self.lineages.values() if each.writes]
        if len(written) > 1:
            raise Broken("two lineages accepted writes")

    def writes(self) -> int:
        return sum(each.writes for each in self.lineages.values())

    def current(self) -> Lineage:
        written = [each for each in self.lineages.values() if each.writes]
        assert len(written) == 1, f"{len(written)} lineages have accepted writes"
        return written[0]

    def voters(self) -> list[str]:
        return sorted(each.name for each in self.current().members.values() if not each.is_learner)

    # -- running

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let the agents play, in the order in which they wake, ties by chance."""
        end = self.now + timedelta(seconds=seconds)
        while not until():
            waking = [each for each in self.agents.values() if each.alive]
            if not waking:
                self.now = end
                return
            agent = min(waking, key=lambda each: (each.wakes_at, self.random.random()))
            if agent.wakes_at > end:
                self.now = end
                return
            self.now = max(self.now, agent.wakes_at) + timedelta(milliseconds=self.random.randrange(1, 40))
            agent.turn()
            self.check()


class Agent:
    """One agent's process: memory, doors and a place in time. A crash loses the memory only."""

    def __init__(self, sim: Sim, name: InstanceId) -> None:
        self.sim, self.name, self.alive = sim, name, True
        self.memory, self.rounds, self.wakes_at = Memory(), 0, sim.now
        self.last: Round | None = None
        self.faults = Faults()
        self.policy = Policy(cluster="prod", groups_interval=timedelta(seconds=30))
        self.world = World(
            SimClock(self), SimMetadata(self), SimCloud(self), SimBucket(self), SimEtcd(self), SimHost(self)
        )

    @property
    def machine(self) -> Machine:
        return self.sim.machines[self.name]

    def turn(self) -> None:
        try:
            self.last = play(self.world, self.world.metadata.me(), self.memory, self.policy)
        except Crash:
            self.sim.story.append(f"{self._when()} {self.name} crashed")
            self.memory, self.wakes_at = Memory(), self.sim.now + timedelta(seconds=1)
            self.faults.crash_after = None
            return
        self.memory = self.last.memory
        self.wakes_at = self.sim.now + self.last.pause
        decision, result = self.last.decision, self.last.result
        self.sim.story.append(
            f"{self._when()} {self.name} {decision.rule}: {type(decision.action).__name__}"
            f" ({decision.because}) -> {result.outcome} {result.detail}"
        )

    def _when(self) -> str:
        return f"{(self.sim.now - START).total_seconds():8.2f}"


@dataclass
class Faults:
    """What goes wrong for one agent. Rates are per request, from the world's one source of chance."""

    refuse: set[str] = field(default_factory=set)  # doors that answer with a definite no
    down: set[str] = field(default_factory=set)  # doors that do not answer
    lost_replies: float = 0.0  # writes that land and whose answer is lost
    storms: float = 0.0  # writes that do not land and say so unclearly (503, 409)
    crash_after: int | None = None  # effects until the process dies
    crash_before: int | None = None


class _Door:
    """What every simulated door shares: the weather at it."""

    name = ""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    @property
    def sim(self) -> Sim:
        return self.agent.sim

    @property
    def machine(self) -> Machine:
        return self.agent.machine

    def read(self) -> None:
        if self.name in self.agent.faults.down:
            raise Unavailable(Ignorance.TIMEOUT, f"{self.name} does not answer")
        if self.name in self.agent.faults.refuse:
            raise Refused(f"{self.name} denies access")

    def write(self, effect: Callable[[], None]) -> None:
        """One effect, which may crash the agent before or after, be lost, or lose its answer."""
        self.read()
        faults = self.agent.faults
        if faults.crash_before is not None:
            faults.crash_before -= 1
            if faults.crash_before < 0:
                faults.crash_before = None
                raise Crash
        if faults.storms and self.sim.random.random() < faults.storms:
            raise Unavailable(Ignorance.THROTTLED, f"{self.name}: slow down")
        effect()
        if faults.crash_after is not None:
            faults.crash_after -= 1
            if faults.crash_after < 0:
                faults.crash_after = None
                raise Crash
        if faults.lost_replies and self.sim.random.random() < faults.lost_replies:
            raise Unavailable(Ignorance.TIMEOUT, f"{self.name}: no answer")


class SimClock(_Door):
    def now(self) -> datetime:
        return self.sim.now

    def sleep(self, duration: timedelta) -> None:
        raise AssertionError("rounds are scheduled, they do not sleep")

    def nonce(self) -> Nonce:
        return Nonce(f"{self.sim.random.getrandbits(64):016x}")

    def jitter(self) -> float:
        return self.sim.random.random()


class SimMetadata(_Door):
    name = "imds"

    def me(self) -> Me:
        machine = self.machine
        return Me(machine.id, machine.ip, PeerUrl(f"http://{machine.ip}:2380"), str(machine.boot), machine.zone)

    def target_lifecycle_state(self) -> str | None:
        self.read()
        return "InService"


class SimCloud(_Door):
    name = "ec2"

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent)
        self.hidden: set[InstanceId] = set()

    def fleet(self, also: frozenset[InstanceId], desired_capacity_too: bool) -> Fleet:
        self.read()
        instances = tuple(
            Instance(
                id=each.id,
                state=each.state,
                launched_at=each.launched_at,
                private_ip=each.ip if each.state is not InstanceState.TERMINATED else None,
                zone=each.zone,
                group="g",
                lifecycle="InService",
            )
            for name, each in sorted(self.sim.machines.items())
            if name not in self.hidden
        )
        return Fleet(instances, (Group("g", self.sim.desired),), also - set(self.sim.machines))


class SimBucket(_Door):
    name = "s3"

    def _once(self, key: str, text: str) -> bool:
        """The store's own rule: 412 where it exists; our own text read back means that we won."""

        def effect() -> None:
            if key not in self.sim.objects or not self.sim.honours_preconditions:
                self.sim.objects[key] = (text, self.sim.now)

        try:
            self.write(effect)
        except Unavailable:
            if key not in self.sim.objects:
                raise
        return self.sim.objects[key][0] == text

    def _get(self, key: str) -> str | None:
        self.read()
        found = self.sim.objects.get(key)
        return None if found is None else found[0]

    def verdict(self) -> BucketVerdict:
        self.read()
        return BucketSound() if self.sim.honours_preconditions else BucketUnsound("ignores them", "use S3")

    def head(self, after: GenerationRecord | None) -> GenerationRecord | None:
        head, number = after, 0 if after is None else after.generation
        while (text := self._get(f"generations/{number + 1:06d}.json")) is not None:
            head, number = GenerationRecord.from_json(text), number + 1
        return head

    def create_generation(self, record: GenerationRecord) -> bool:
        return self._once(f"generations/{record.generation:06d}.json", record.to_json())

    def claim(self, generation: GenerationNumber, instance: InstanceId) -> Claim | None:
        text = self._get(f"generations/{generation:06d}/claims/{instance}.json")
        return None if text is None else Claim.from_json(text)

    def write_claim(self, generation: GenerationNumber, claim: Claim) -> bool:
        return self._once(f"generations/{generation:06d}/claims/{claim.instance}.json", claim.to_json())

    def formed(self, generation: GenerationNumber) -> Formed | None:
        text = self._get(f"generations/{generation:06d}/formed.json")
        return None if text is None else Formed.from_json(text)

    def write_formed(self, generation: GenerationNumber, formed: Formed) -> bool:
        return self._once(f"generations/{generation:06d}/formed.json", formed.to_json())

    def reports(self, generation: GenerationNumber) -> tuple[FiledReport, ...]:
        self.read()
        prefix = f"assembly/{generation:06d}/"
        return tuple(
            FiledReport(Report.from_json(text), (self.sim.now - at).total_seconds())
            for key, (text, at) in sorted(self.sim.objects.items())
            if key.startswith(prefix)
        )

    def file_report(self, generation: GenerationNumber, report: Report) -> None:
        key = f"assembly/{generation:06d}/{report.instance}.json"
        self.write(lambda: self.sim.objects.update({key: (report.to_json(), self.sim.now)}))

    def snapshots_exist(self) -> bool:
        self.read()
        return any(key.startswith("snapshots/") for key in self.sim.objects)


class SimEtcd(_Door):
    name = "etcd"

    def _target(self, endpoint: ClientUrl) -> tuple[Machine, Lineage, MemberId]:
        self.read()
        machine = self.sim.at(endpoint)
        reaches = machine is not None and (machine is self.machine or (machine.reachable and self.machine.reachable))
        if machine is None or not machine.running or machine.data is None or not reaches:
            raise Unavailable(Ignorance.UNREACHABLE, f"{endpoint} does not answer")
        return machine, machine.data.lineage, machine.data.member

    def _with_quorum(self, endpoint: ClientUrl) -> Lineage:
        machine, lineage, member = self._target(endpoint)
        if self.sim.leader(lineage) is None or not machine.reachable:
            raise Unavailable(Ignorance.FAILED, "etcdserver: request timed out")
        if lineage.members[member].is_learner:
            raise Refused("etcdserver: rpc not supported for learner")
        return lineage

    def status(self, endpoint: ClientUrl) -> MemberStatus:
        machine, lineage, member = self._target(endpoint)
        leader = self.sim.leader(lineage) if machine.reachable else None
        entry = lineage.members.get(member)
        if entry is None:
            raise Unavailable(Ignorance.UNREACHABLE, "removed")
        return MemberStatus(
            member, lineage.cluster_id, "3.5.30", leader, 2, lineage.writes, lineage.writes, entry.is_learner, 1, 1
        )

    def statuses(self, endpoints: Sequence[ClientUrl]) -> Mapping[ClientUrl, MemberStatus | Unknown]:
        found: dict[ClientUrl, MemberStatus | Unknown] = {}
        for endpoint in endpoints:
            try:
                found[endpoint] = self.status(endpoint)
            except (Unavailable, Refused) as trouble:
                found[endpoint] = trouble.unknown
        return found

    def membership(self, endpoint: ClientUrl) -> Membership:
        lineage = self._with_quorum(endpoint)
        return Membership(lineage.cluster_id, tuple(each for _, each in sorted(lineage.members.items())), endpoint)

    def add_learner(self, endpoint: ClientUrl, peer_url: PeerUrl) -> MemberId:
        lineage = self._with_quorum(endpoint)
        voters = [each for each in lineage.members.values() if not each.is_learner]
        if any(each.id not in self.sim.serving(lineage) for each in voters) and len(voters) <= 3:
            raise Refused("etcdserver: unhealthy cluster")
        if any(each.is_learner for each in lineage.members.values()):
            raise Refused("etcdserver: too many learner members in cluster")
        if any(peer_url in each.peer_urls for each in lineage.members.values()):
            raise Refused("etcdserver: Peer URLs already exists")
        member = MemberId(_number(peer_url, lineage.cluster_id, self.sim.now))
        entry = Member(member, "", (peer_url,), (), is_learner=True)
        self.write(lambda: lineage.members.update({member: entry}))
        return member

    def promote(self, endpoint: ClientUrl, member: MemberId) -> None:
        lineage = self._with_quorum(endpoint)
        entry = lineage.members.get(member)
        if entry is None or not entry.is_learner or member not in self.sim.serving(lineage):
            raise Refused("etcdserver: can only promote a learner member which is in sync with leader")
        self.write(lambda: lineage.members.update({member: replace(entry, is_learner=False)}))

    def remove(self, endpoint: ClientUrl, member: MemberId) -> None:
        lineage = self._with_quorum(endpoint)
        entry = lineage.members.get(member)
        if entry is None:
            raise Refused("etcdserver: member not found")
        self._must_not_lose(lineage, entry)

        def effect() -> None:
            del lineage.members[member]
            lineage.gone.add(member)
            for machine in self.sim.machines.values():
                if machine.data is not None and machine.data.member == member and machine.running:
                    machine.running, machine.exit_code = False, 0

        self.write(effect)

    def _must_not_lose(self, lineage: Lineage, entry: Member) -> None:
        """No live voter is removed: not one that runs, nor one whose instance can come back with its data."""
        holders = [
            each.id
            for each in self.sim.machines.values()
            if each.data is not None and each.data.member == entry.id and each.state is not InstanceState.TERMINATED
        ]
        if holders and not entry.is_learner:
            raise Broken(f"{self.agent.name} removes voter {entry}, whose data lives on {holders}")

    def update_peer_url(self, endpoint: ClientUrl, member: MemberId, peer_url: PeerUrl) -> None:
        lineage = self._with_quorum(endpoint)
        entry = lineage.members.get(member)
        if entry is None:
            raise Refused("etcdserver: member not found")
        self.write(lambda: lineage.members.update({member: replace(entry, peer_urls=(peer_url,))}))


class SimHost(_Door):
    name = "host"

    def disk(self) -> Disk:
        machine = self.machine
        data = Data.PRESENT if machine.data else Data.EMPTY if machine.prepared else Data.ABSENT
        return Disk(machine.identity, data)

    def etcd_version(self) -> str:
        return "3.5.30"

    def stamp(self, identity: Identity, prepare: bool) -> None:
        def effect() -> None:
            self.machine.prepared = self.machine.prepared or prepare
            self.machine.identity = identity

        self.write(effect)

    def quarantine(self, why: str) -> None:
        def effect() -> None:
            if self.machine.running:
                raise Broken(f"{self.agent.name} moves data away under a running etcd")
            self.machine.quarantine.append(self.machine.data)
            self.machine.identity, self.machine.data, self.machine.prepared = None, None, False

        self.write(effect)

    def process(self) -> EtcdProcess:
        return EtcdRunning(1) if self.machine.running else EtcdStopped(self.machine.exit_code)

    def start(self, launch: Launch) -> None:
        self.write(lambda: self.sim.start_etcd(self.machine, launch))

    def stop(self) -> None:
        self.write(lambda: setattr(self.machine, "running", False))
