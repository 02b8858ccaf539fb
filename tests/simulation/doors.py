"""The simulated doors of one agent, and the weather at them: every request can fail, every write can be
lost, lose its answer, or be the last thing that the agent's process does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from agent.model.actions import Launch
from agent.model.cluster import Member, Membership, MemberStatus, quorum_of
from agent.model.disk import Data, Disk, EtcdProcess, EtcdRunning, EtcdStopped, Identity, Stage
from agent.model.faults import Refused, Unavailable
from agent.model.fleet import GOING, Fleet, Instance, InstanceState
from agent.model.generation import Claim, FiledReport, Formed, GenerationRecord, Report
from agent.model.ids import ClientUrl, GenerationNumber, InstanceId, MemberId, Nonce, PeerUrl
from agent.model.known import Ignorance, Unknown
from agent.model.observation import BucketSound, BucketUnsound, BucketVerdict, Me
from tests.simulation.machines import Broken, Crash, Lineage, Machine, number

if TYPE_CHECKING:
    from tests.simulation.sim import Agent, Sim

CONNECTED = timedelta(seconds=5)
"""etcd adds nobody before its voters have been connected for so long (HealthInterval)."""


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


class _Door:
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
        if self.name != "host" and faults.storms and self.sim.random.random() < faults.storms:
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
        return "Terminated" if self.machine.lifecycle.startswith("Terminating") else "InService"


class SimCloud(_Door):
    """EC2 as this agent sees it: complete, or with some of what AWS has been seen to answer."""

    name = "ec2"

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent)
        self.hidden: set[InstanceId] = set()  # in no listing, and nothing is said of them
        self.denied: set[InstanceId] = set()  # EC2 answers, and says that it knows no such instance
        self.groups_unseen = False  # Auto Scaling lists no group
        self.frozen: Fleet | None = None  # an old answer, given again and again

    def fleet(self, also: frozenset[InstanceId], desired_capacity_too: bool) -> Fleet:
        self.read()
        if self.frozen is not None:
            return self.frozen
        known = {name: each for name, each in sorted(self.sim.machines.items()) if name not in self.sim.forgotten}
        shown = [each for name, each in known.items() if name not in self.hidden | self.denied]
        groups = () if self.groups_unseen else self.sim.groups()
        unheard_of = (also - set(known)) | (also & self.denied)
        return Fleet(tuple(map(self._instance, shown)), groups, unheard_of, frozenset(also & self.sim.ended_by_group))

    def _instance(self, machine: Machine) -> Instance:
        return Instance(
            id=machine.id,
            state=machine.state,
            launched_at=machine.launched_at,
            private_ip=machine.ip if machine.state is not InstanceState.TERMINATED else None,
            zone=machine.zone,
            group=machine.group,
            lifecycle=machine.lifecycle,
        )


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
        head, after_number = after, 0 if after is None else after.generation
        while (text := self._get(f"generations/{after_number + 1:06d}.json")) is not None:
            head, after_number = GenerationRecord.from_json(text), after_number + 1
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
        machine = self.sim.at(endpoint)
        reaches = machine is not None and (machine is self.machine or (machine.reachable and self.machine.reachable))
        if machine is None or not machine.running or machine.data is None or not reaches:
            raise Unavailable(Ignorance.UNREACHABLE, f"{endpoint} does not answer")
        if machine.data.member not in machine.data.lineage.members:
            raise Unavailable(Ignorance.UNREACHABLE, f"{endpoint} is on its way out")
        return machine, machine.data.lineage, machine.data.member

    def _with_quorum(self, endpoint: ClientUrl) -> Lineage:
        machine, lineage, member = self._target(endpoint)
        if self.sim.leader(lineage) is None or not machine.reachable:
            raise Unavailable(Ignorance.FAILED, "etcdserver: request timed out")
        if lineage.members[member].is_learner:
            raise Refused("etcdserver: rpc not supported for learner")
        return lineage

    def status(self, endpoint: ClientUrl) -> MemberStatus:
        self.read()
        machine, lineage, member = self._target(endpoint)
        leader = self.sim.leader(lineage) if machine.reachable else None
        learner = lineage.members[member].is_learner
        index = lineage.writes
        return MemberStatus(member, lineage.cluster_id, "3.5.30", leader, 2, index, index, learner, 1, 1)

    def statuses(self, endpoints: Sequence[ClientUrl]) -> Mapping[ClientUrl, MemberStatus | Unknown]:
        found: dict[ClientUrl, MemberStatus | Unknown] = {}
        for endpoint in endpoints:
            try:
                found[endpoint] = self.status(endpoint)
            except (Unavailable, Refused) as trouble:
                found[endpoint] = trouble.unknown
        return found

    def membership(self, endpoint: ClientUrl) -> Membership:
        self.read()
        lineage = self._with_quorum(endpoint)
        return Membership(lineage.cluster_id, tuple(each for _, each in sorted(lineage.members.items())), endpoint)

    def _change(self, endpoint: ClientUrl, change: Callable[[Lineage], None]) -> None:
        """A change of membership, judged by etcd's rules at the moment at which it arrives."""
        self.write(lambda: change(self._with_quorum(endpoint)))

    def add_learner(self, endpoint: ClientUrl, peer_url: PeerUrl) -> MemberId:
        added: list[MemberId] = []

        def change(lineage: Lineage) -> None:
            self._must_be_connected(lineage)
            if any(each.is_learner for each in lineage.members.values()):
                raise Refused("etcdserver: too many learner members in cluster")
            if any(peer_url in each.peer_urls for each in lineage.members.values()):
                raise Refused("etcdserver: Peer URLs already exists")
            member = MemberId(number(peer_url, lineage.cluster_id, self.sim.now))
            lineage.members[member] = Member(member, "", (peer_url,), (), is_learner=True)
            added.append(member)

        self._change(endpoint, change)
        return added[0]

    def _must_be_connected(self, lineage: Lineage) -> None:
        """etcd 3.5.30: every voter of three, a quorum of more, for five seconds."""
        steady = [each.id for each in lineage.voters if self._steady(lineage, each.id)]
        enough = len(lineage.voters) if len(lineage.voters) <= 3 else quorum_of(len(lineage.voters))
        if len(steady) < enough:
            raise Refused("etcdserver: unhealthy cluster")

    def _steady(self, lineage: Lineage, member: MemberId) -> bool:
        machine = self.sim.serving(lineage).get(member)
        since = machine.steady_since if machine is not None else None
        return since is not None and self.sim.now - since >= CONNECTED

    def promote(self, endpoint: ClientUrl, member: MemberId) -> None:
        def change(lineage: Lineage) -> None:
            entry = lineage.members.get(member)
            if entry is None or not entry.is_learner or member not in self.sim.serving(lineage):
                raise Refused("etcdserver: can only promote a learner member which is in sync with leader")
            lineage.members[member] = replace(entry, is_learner=False)

        self._change(endpoint, change)

    def remove(self, endpoint: ClientUrl, member: MemberId) -> None:
        def change(lineage: Lineage) -> None:
            entry = lineage.members.get(member)
            if entry is None:
                raise Refused("etcdserver: member not found")
            self._must_not_lose(lineage, entry)
            del lineage.members[member]
            lineage.gone.add(member)

        self._change(endpoint, change)

    def _must_not_lose(self, lineage: Lineage, entry: Member) -> None:
        """No voter whose instance can come back with its data, and no learner that is doing well."""
        holders = [
            each
            for each in self.sim.machines.values()
            if each.data is not None and each.data.member == entry.id and each.state not in GOING
        ]
        serving = [each for each in holders if each.running and each.reachable]
        blind = self.agent.faults.flaky > 0
        if serving and not (entry.is_learner and (blind or self._fresh(serving[0]))):
            raise Broken(f"{self.agent.name} removes {entry}, which serves on {serving[0].id}")
        if any(each.id == entry.name for each in holders) and not entry.is_learner:
            raise Broken(f"{self.agent.name} removes voter {entry}, whose data can come back on {holders[0].id}")

    def _fresh(self, machine: Machine) -> bool:
        since = machine.steady_since
        return since is None or self.sim.now - since < timedelta(seconds=20)

    def update_peer_url(self, endpoint: ClientUrl, member: MemberId, peer_url: PeerUrl) -> None:
        def change(lineage: Lineage) -> None:
            entry = lineage.members.get(member)
            if entry is None:
                raise Refused("etcdserver: member not found")
            if any(peer_url in each.peer_urls and each.id != member for each in lineage.members.values()):
                raise Refused("etcdserver: Peer URLs already exists")
            lineage.members[member] = replace(entry, peer_urls=(peer_url,))

        self._change(endpoint, change)


class SimHost(_Door):
    name = "host"

    def disk(self) -> Disk:
        self.read()
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
            self._must_be_fenced("moves away")
            self.machine.quarantine.append(self.machine.data)
            self.machine.identity, self.machine.data, self.machine.prepared = None, None, False

        self.write(effect)

    def process(self) -> EtcdProcess:
        self.read()
        return EtcdRunning(1) if self.machine.running else EtcdStopped(self.machine.exit_code)

    def start(self, launch: Launch) -> None:
        self.write(lambda: self.sim.start_etcd(self.machine, launch))

    def stop(self) -> None:
        def effect() -> None:
            self._must_be_fenced("stops")
            self.machine.running = False
            self.machine.stops += 1

        self.write(effect)

    def _must_be_fenced(self, doing: str) -> None:
        """Only what a newer generation or a quorum has replaced: by the disk's word, and in truth."""
        identity, data = self.machine.identity, self.machine.data
        if identity is None or identity.stage is not Stage.FENCED:
            raise Broken(f"{self.agent.name} {doing} what is not fenced")
        if data is None or data.lineage.superseded_at is not None:
            return
        entry = data.lineage.members.get(data.member)
        if entry is not None and not entry.is_learner:
            raise Broken(f"{self.agent.name} {doing} voter {entry} of a lineage that lives")
