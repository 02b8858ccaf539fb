"""The simulated instance: its disk, its etcd process, and its workshop."""

from __future__ import annotations

from collections.abc import Generator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from agent.model import versions
from agent.model.actions import Launch
from agent.model.disk import BROKEN, Disk, EtcdProcess, EtcdRunning, EtcdStopped, Identity, Obstacle
from agent.model.faults import Refused, Unavailable
from agent.model.ids import ClientUrl, MemberId, Nonce
from agent.model.known import Ignorance
from agent.model.members import Damaged, LogPosition, MemberEntry, Survey
from agent.model.snapshot import DrillRecord, DrillResult, Manifest, Origin, Rescued, SnapshotName
from agent.model.work import (
    Defragment,
    Drill,
    Ended,
    FetchSeed,
    Idle,
    RescueLog,
    RestoreSeed,
    TakeSnapshot,
    Task,
    Work,
    Working,
)
from tests.simulation.door_etcd import entry_of
from tests.simulation.doors import Door
from tests.simulation.logs import DataDir, Entry, voters_in
from tests.simulation.machines import Broken, Crash, number
from tests.simulation.promises import holding

if TYPE_CHECKING:
    from tests.simulation.agents import Agent


class SimHost(Door):
    name = "host"

    def disk(self) -> Disk:
        self.read()
        machine = self.machine
        data = holding(machine.data, machine.prepared)
        seeds, restored = frozenset(machine.seeds), frozenset(machine.restored)
        return Disk(machine.identity, data, seeds, restored, tuple(machine.broken_at))

    def etcd_version(self) -> str:
        return self.machine.etcd

    def data_version(self) -> str | None:
        self.read()
        data = self.machine.data
        if data is None or data.version == (0, 0):
            return None
        return f"{data.version[0]}.{data.version[1]}.0"

    def stamp(self, identity: Identity, prepare: bool) -> None:
        def effect() -> None:
            self.machine.prepared = self.machine.prepared or prepare
            self.machine.identity = identity

        self.write(effect)

    def quarantine(self, why: str) -> None:
        def effect() -> None:
            if self.machine.running:
                raise Broken(f"{self.agent.name} moves data away under a running etcd")
            self.sim.promises.may_be_set_aside(self.machine, "moves away")
            self.machine.quarantine.append(self.machine.data)
            if why.endswith(BROKEN):
                self.machine.broken_at.append(self.agent.world.clock.now())
            self.machine.identity, self.machine.data, self.machine.prepared = None, None, False

        self.write(effect)

    def survey(self) -> Survey | Damaged:
        self.read()
        data = self.machine.data
        if data is None:
            raise Refused("there is no data")
        if data.damaged:
            return Damaged(data.damaged)
        known, noted = data.known, data.earlier if self.machine.running else data.committed
        position = LogPosition(*data.position, 0 if known is None else known.index)
        revision = max((each.revision for each in (data.applied, data.stored) if each is not None), default=0)
        after_a_restart = () if voters_in(noted) == voters_in(known) else _entries(noted)
        return Survey(data.lineage.cluster_id, data.member, _entries(known), position, revision, after_a_restart)

    def obstacle(self) -> Obstacle | None:
        self.read()
        return self.machine.obstacle

    def can_bump_revisions(self) -> bool:
        self.read()
        return versions.can_bump_revisions(self.machine.etcd)

    def put_in_place(self, nonce: Nonce) -> None:
        def effect() -> None:
            task = self.machine.restored.get(nonce)
            if task is None or self.machine.data is not None or not self.machine.prepared:
                raise Refused("nothing was restored for this identity, or there is data already")
            self.machine.data = self.sim.restored(task)
            del self.machine.restored[nonce]

        self.write(effect)

    def process(self) -> EtcdProcess:
        self.read()
        return EtcdRunning(1) if self.machine.running else EtcdStopped(self.machine.exit_code)

    def start(self, launch: Launch) -> None:
        self.write(lambda: self.sim.start_etcd(self.machine, launch))

    def stop(self) -> None:
        def effect() -> None:
            self.sim.promises.at_stop(self.machine)
            self.machine.end_etcd(0)
            self.machine.stops += 1

        self.write(effect)


def _entries(entry: Entry | None) -> tuple[MemberEntry, ...]:
    return () if entry is None else tuple(entry_of(each) for _, each in sorted(entry.members.items()))


class Final(Exception):
    """A definite no, which the same task would meet again."""


Steps = Generator[float, None, Manifest | None]
"""Seconds until the next step; between two steps anything may happen."""


class SimWorkshop(Door):
    """Tasks in virtual time. A task dies with its agent, and leaves what its finished steps have left."""

    name = "workshop"

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent)
        self.work: Work = Idle()
        self.steps: Steps | None = None
        self.due = self.sim.now

    def state(self) -> Work:
        return self.work

    def begin(self, task: Task) -> None:
        def effect() -> None:
            if isinstance(self.work, Working):
                raise Refused(f"{type(self.work.task).__name__} is under way")
            self.work, self.steps = Working(task, self._now()), self._steps(task)
            self.due = self.sim.now + timedelta(seconds=self._pause())

        self.write(effect)

    def step(self) -> None:
        """The next step of the task that is under way."""
        assert isinstance(self.work, Working)
        assert self.steps is not None
        task, since = self.work.task, self.work.since
        try:
            self._fate()
            self.due = self.sim.now + timedelta(seconds=next(self.steps))
        except StopIteration as done:
            self._end(Ended(task, since, self._now(), manifest=done.value))
        except Unavailable as trouble:
            self._end(Ended(task, since, self._now(), trouble.unknown))
        except Final as trouble:
            unknown = Refused(str(trouble)).unknown
            self._end(Ended(task, since, self._now(), unknown, final=True))

    def _end(self, ended: Ended) -> None:
        self.work, self.steps = ended, None
        what = f"fails: {ended.trouble}" if ended.trouble is not None else "is done"
        self.sim.tell(f"{self.agent.name}'s {type(ended.task).__name__} {what}")

    def _fate(self) -> None:
        faults = self.agent.faults
        if faults.die_at_step is not None:
            faults.die_at_step -= 1
            if faults.die_at_step < 0:
                faults.die_at_step = None
                raise Crash
        if faults.tasks_fail and self.sim.random.random() < faults.tasks_fail:
            raise Unavailable(Ignorance.TIMEOUT, "the task was interrupted")

    def _now(self) -> datetime:
        return self.agent.world.clock.now()

    def _pause(self) -> float:
        return self.sim.random.uniform(0.1, 3)

    # ---- the bucket, as a task meets it

    def _get(self, key: str) -> str | None:
        self._weather_at("s3")
        found = self.sim.objects.get(key)
        return None if found is None else found[0]

    def _put(self, key: str, text: str) -> None:
        self._weather_at("s3")
        if key in self.sim.objects:
            raise Unavailable(Ignorance.FAILED, f"{key} exists")
        self.sim.objects[key] = (text, self.sim.now)
        if self.agent.faults.lost_replies and self.sim.random.random() < self.agent.faults.lost_replies:
            raise Unavailable(Ignorance.TIMEOUT, f"{key}: no answer")

    def _weather_at(self, door: str) -> None:
        faults = self.agent.faults
        if door in faults.down | faults.refuse | faults.garbled:
            raise Unavailable(Ignorance.TIMEOUT, f"{door} does not answer")
        if faults.flaky and self.sim.random.random() < faults.flaky:
            raise Unavailable(Ignorance.FAILED, f"{door}: internal error")

    # ---- what the tasks do

    def _steps(self, task: Task) -> Steps:
        match task:
            case TakeSnapshot():
                return self._take(task)
            case RescueLog():
                return self._rescue(task)
            case FetchSeed(manifest=manifest):
                return self._fetch(manifest)
            case RestoreSeed():
                return self._restore(task)
            case Drill(name=name):
                return self._drill(name)
            case Defragment(member=member, endpoint=endpoint):
                return self._defragment(member, endpoint)

    def _take(self, task: TakeSnapshot) -> Steps:
        """Of what the running etcd has applied; also without a leader, but not of one that was only just started."""
        machine = self.machine
        data = machine.data
        if not machine.running or not machine.answers or data is None or data.applied is None:
            raise Unavailable(Ignorance.TIMEOUT, "our etcd does not answer")
        return (yield from self._upload(data, data.applied, task.generation, task.origin, task.rescued))

    def _rescue(self, task: RescueLog) -> Steps:
        """Of a copy of the whole log, what its end is not known to be committed included."""
        data = self._stopped()
        yield self._pause()
        assert self._stopped() is data
        if data.damaged or data.appended is None or self.machine.cannot_be_rescued:
            self.machine.cannot_be_rescued = True
            raise Final("etcd does not run on a copy of this data")
        content = data.appended
        yield self._pause()
        return (yield from self._upload(data, content, task.generation, Origin.RESCUE, task.rescued))

    def _stopped(self) -> DataDir:
        if self.machine.running or self.machine.data is None:
            raise Broken(f"{self.agent.name} copies the data of an etcd that runs, or nothing")
        return self.machine.data

    def _upload(self, data: DataDir, content: Entry, generation: int, origin: Origin, rescued: Rescued | None) -> Steps:
        name = SnapshotName(generation, content.revision, self._now().replace(microsecond=0))  # type: ignore[arg-type]
        sha256 = f"{number(name, self.agent.name, data.lineage.cluster_id, content.position):064x}"
        self.sim.contents[sha256] = content
        self.sim.alarmed[sha256] = frozenset(data.lineage.alarms)
        manifest = Manifest(
            name=name,
            cluster="prod",
            origin=origin,
            instance=self.agent.name,
            agent="0",
            etcd_version=self.machine.etcd,
            size_bytes=1,
            sha256=sha256,
            stored_bytes=1,
            cluster_id=data.lineage.cluster_id,
            member_id=data.member,
            raft_term=content.term,
            raft_index=content.index,
            members=tuple(entry_of(each) for _, each in sorted(content.members.items())),
            rescued=rescued,
        )
        yield self._pause()
        self._put(name.data_key, sha256)
        yield self._pause()
        if self._get(name.data_key) != sha256:
            raise Unavailable(Ignorance.FAILED, "what the bucket holds is not what was sent")
        yield self._pause()
        self._put(name.manifest_key, manifest.to_json())
        return manifest

    def _fetch(self, manifest: Manifest) -> Steps:
        found = self._get(manifest.name.data_key)
        yield self._pause()
        if found is None:
            raise Final("its data is gone")
        if found != manifest.sha256:
            raise Final(f"its digest is {found}")
        self.machine.seeds.add(found)
        return manifest

    def _restore(self, task: RestoreSeed) -> Steps:
        yield self._pause()
        if task.seed.sha256 not in self.machine.seeds:
            raise Unavailable(Ignorance.FAILED, "the seed is not here")
        yield self._pause()
        self.machine.restored[task.nonce] = task
        return None

    def _defragment(self, member: MemberId, endpoint: ClientUrl) -> Steps:
        """Its member answers nobody for as long as it takes; it beats, and keeps its lead."""
        self._weather_at("etcd")
        machine = self.sim.at(endpoint)
        if machine is None or machine.data is None or machine.data.member != member or not machine.speaks:
            raise Unavailable(Ignorance.UNREACHABLE, f"{endpoint} does not answer")
        if machine.data.lineage.members[member].is_learner:
            raise Unavailable(Ignorance.DENIED, "etcdserver: rpc not supported for learner")
        seconds, machine.blocked = self._pause(), True
        self.sim.tell(f"{machine.id} is being defragmented")
        self.sim.after(seconds, machine.end_defragmenting)  # whether or not this task lives to see it
        yield seconds
        return None

    def _drill(self, name: SnapshotName) -> Steps:
        text, data = self._get(name.manifest_key), self._get(name.data_key)
        if text is None:
            raise Unavailable(Ignorance.FAILED, f"{name} has no manifest any more")
        yield self._pause()
        manifest = Manifest.from_json(text)
        result = DrillResult.PASSED if data == manifest.sha256 else DrillResult.FAILED
        record = DrillRecord(name, self.agent.name, result, "", 1.0)
        self._weather_at("s3")
        self.sim.objects[record.key] = (record.to_json(), self.sim.now)
        return manifest
