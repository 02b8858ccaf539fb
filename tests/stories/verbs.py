"""The words of the stories: what can happen to a fleet, and what can be said of it afterwards.

Whoever is spoken of stays in mind: `it` and `they` are the instances that were named last, `the others` all that live
besides them. What a story says of "before" is what was so when its cluster stood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from agent.model.actions import CallHuman
from agent.model.cluster import Alarm, AlarmKind
from agent.model.fleet import Fleet, InstanceState
from agent.model.ids import GenerationNumber, InstanceId, MemberId
from agent.model.snapshot import SnapshotName
from tests.simulation.agents import Agent
from tests.simulation.door_bucket import manifest_of
from tests.simulation.doors import Faults
from tests.simulation.logs import Entry, acknowledged
from tests.simulation.machines import Machine, number
from tests.simulation.sim import Sim
from tests.stories.reader import NUMBERS, Unread, Vocabulary

HAPPENS, HOLDS = Vocabulary(), Vocabulary()
"""What `given` and `when` say, and what `then` says."""

FORMING = 240
"""Seconds: two minutes of grace where somebody is late, and everybody's patience."""


class Stage:
    """The world of one story, and what the story remembers of it."""

    def __init__(self, begin: Callable[..., Sim], seed: int) -> None:
        self._begin, self.seed = begin, seed
        self._sim: Sim | None = None
        self.named: list[InstanceId] = []
        self.newcomers: list[InstanceId] = []
        self.members: dict[str, MemberId] = {}  # as they were when the cluster stood
        self.on_disks: set[Entry] = set()  # what was left on disks after the last loss
        self.in_snapshots: set[Entry] = set()
        self.writes = 0  # when time began to pass last

    @property
    def sim(self) -> Sim:
        assert self._sim is not None, "a story begins with a cluster or a group"
        return self._sim

    def begin(self, instances: int, **choices: object) -> None:
        self._sim = self._begin(self.seed, instances, interleave=0.1, **choices)

    def stands(self) -> None:
        """The cluster as it is now is what the story compares with."""
        self.members = {each.name: each.id for each in self.sim.current().members.values()}

    def after_a_loss(self) -> None:
        logs = [each.data.appended for each in self.sim.machines.values() if each.exists and each.data is not None]
        self.on_disks = {entry for log in logs for entry in acknowledged(log)}
        contents = [content for _, content in self.sim.sound_snapshots()]
        self.in_snapshots = {entry for content in contents for entry in acknowledged(content)}

    # ---- who

    def who(self, words: str) -> list[InstanceId]:
        """The instances that these words name; they are the ones in mind from now on."""
        self.named = self._who(words)
        assert self.named, f"nobody is {words}"
        return self.named

    def _who(self, words: str) -> list[InstanceId]:
        live = self.sim.live()
        match words.split():
            case ["it"] | ["they"] | ["them"]:
                return self.named
            case ["everybody"]:
                return live
            case ["the", "others"]:
                return [name for name in live if name not in self.named]
            case ["the", "leader"]:
                return [self.sim.leader_agent().name]
            case ["the", "survivor" | "survivors"]:
                return [name for name in live if self.sim.machines[name].data is not None]
            case ["the", "stopped"]:
                return sorted(each.id for each in self.existing() if each.state is InstanceState.STOPPED)
            case ["the", "newcomer" | "newcomers"]:
                return self.newcomers
            case ["the", "author"]:
                return [self.sim.newest().created_by]
            case [number, "follower" | "followers"]:
                leader = self.sim.leader_agent().name
                return self._some(number, [name for name in live if name != leader])
            case [number, "instance" | "instances"]:
                return self._some(number, live)
            case _:
                raise Unread(
                    f"who is {words!r}? known are: it, they, everybody, the others, the leader, the survivors, "
                    "the stopped, the newcomers, the author (of the newest record), two followers, three instances"
                )

    def _some(self, number: str, names: list[InstanceId]) -> list[InstanceId]:
        return self.sim.random.sample(names, 1 if number == "a" else NUMBERS.index(number))

    def machines(self, words: str) -> list[Machine]:
        return [self.sim.machines[name] for name in self.who(words)]

    def existing(self) -> list[Machine]:
        return [each for _, each in sorted(self.sim.machines.items()) if each.exists]

    def agents(self) -> list[Agent]:
        return [agent for _, agent in sorted(self.sim.agents.items())]


# ---- clusters and groups


@HAPPENS.means("a cluster of {count}")
def a_cluster(stage: Stage, count: int) -> None:
    stage.begin(count)
    stage.sim.run_until(stage.sim.whole, within=FORMING)
    stage.sim.run(stage.sim.random.uniform(20, 60))
    stage.stands()


@HAPPENS.means("a group of {count}")
def a_group(stage: Stage, count: int) -> None:
    stage.begin(0, desired=count)


@HAPPENS.means("{count} groups of one instance each")
def groups(stage: Stage, count: int) -> None:
    stage.begin(0, desired=count, groups=count)


@HAPPENS.means("the group wants {count}")
def wants(stage: Stage, count: int) -> None:
    stage.sim.desired = count


@HAPPENS.means("(a newcomer boots|{count} newcomers boot)( {time} apart)?")
def newcomers_boot(stage: Stage, count: int | None = None, time: float | None = None) -> None:
    stage.newcomers = [stage.sim.launch(after=each * (time or 0.0)) for each in range(count or 1)]
    stage.named = stage.newcomers


@HAPPENS.means("the lost are replaced")
def replaced(stage: Stage) -> None:
    """By their group, each in its own time; who is only stopped is not lost."""
    lost = stage.sim.desired - len(stage.existing())
    stage.newcomers = [stage.sim.launch(after=stage.sim.random.uniform(0, 60)) for _ in range(lost)]


@HAPPENS.means("the volume of {who} is attached to a newcomer")
def volume(stage: Stage, who: str) -> None:
    (old,) = stage.who(who)
    stage.newcomers = [stage.sim.launch(after=30)]
    stage.sim.move_volume(old, stage.newcomers[0])


# ---- what is done to instances


@HAPPENS.means("{who} (is|are) terminated")
def terminated(stage: Stage, who: str) -> None:
    for name in stage.who(who):
        stage.sim.terminate(name)
    stage.after_a_loss()


@HAPPENS.means("{who} (is|are) stopped")
def stopped(stage: Stage, who: str) -> None:
    for name in stage.who(who):
        stage.sim.stop(name)


@HAPPENS.means("{who} (reboots|reboot|boots again|boot again)")
def reboots(stage: Stage, who: str) -> None:
    for name in stage.who(who):
        stage.sim.reboot(name, after=stage.sim.random.uniform(0, 30))


@HAPPENS.means("{who} (reboots|reboot) one by one")
def reboots_in_turn(stage: Stage, who: str) -> None:
    for name in stage.who(who):
        stage.sim.reboot(name, after=10)
        stage.sim.run_until(stage.sim.whole, within=FORMING)


@HAPPENS.means("{who} (is|are) replaced one by one")
def replaced_in_turn(stage: Stage, who: str) -> None:
    for name in stage.who(who):
        stage.sim.terminate(name)
        stage.newcomers = [stage.sim.launch(after=10)]
        stage.sim.run_until(stage.sim.whole, within=FORMING)


@HAPPENS.means("{who} (reboots|reboot) with an empty disk")
def wiped(stage: Stage, who: str) -> None:
    for name in stage.who(who):
        stage.sim.reboot(name, wipe=True, after=stage.sim.random.uniform(0, 30))
    stage.after_a_loss()


@HAPPENS.means("{who} (is|are) cut off")
def cut_off(stage: Stage, who: str) -> None:
    for name in stage.who(who):
        stage.sim.isolate(name)


@HAPPENS.means("{who} (is|are) reconnected")
def reconnected(stage: Stage, who: str) -> None:
    for name in stage.who(who):
        stage.sim.heal(name)


@HAPPENS.means("(the agent|the agents) of {who} (is|are) killed")
def killed(stage: Stage, who: str) -> None:
    for name in stage.who(who):
        stage.sim.kill_agent(name)


@HAPPENS.means("(the agent|the agents) of {who} (sleeps|sleep) for {time}")
def sleeps(stage: Stage, who: str, time: float) -> None:
    for name in stage.who(who):
        stage.sim.kill_agent(name, after=time)


@HAPPENS.means("(the agent|the agents) of {who} (dies|die) between two effects")
def agent_dies(stage: Stage, who: str) -> None:
    """Its etcd runs on."""
    for name in stage.who(who):
        _dies(stage, name, lambda sim, name: None)


@HAPPENS.means("{who} (loses|lose) power between two effects")
def loses_power(stage: Stage, who: str) -> None:
    for name in stage.who(who):
        _dies(stage, name, lambda sim, name: sim.reboot(name, after=20))


@HAPPENS.means("{who} (is|are) terminated between two effects")
def terminated_between(stage: Stage, who: str) -> None:
    """And replaced."""

    def death(sim: Sim, name: InstanceId) -> None:
        sim.terminate(name)
        sim.launch(after=20)

    for name in stage.who(who):
        _dies(stage, name, death)


def _dies(stage: Stage, name: InstanceId, death: Callable[[Sim, InstanceId], None]) -> None:
    """Chance says which of its effects is its last one, and whether that still lands."""
    agent = stage.sim.agents[name]
    setattr(agent.faults, stage.sim.random.choice(("crash_before", "crash_after")), stage.sim.random.randrange(6))
    agent.at_crash = partial(death, stage.sim, name)


# ---- what neighbours do


@HAPPENS.means("{door} does not answer( {who})?")
def down(stage: Stage, door: str, who: str | None = None) -> None:
    _weather(stage, who, lambda faults: faults.down.add(door))


@HAPPENS.means("{door} answers( {who})? with errors")
def refusing(stage: Stage, door: str, who: str | None = None) -> None:
    _weather(stage, who, lambda faults: faults.refuse.add(door))


@HAPPENS.means("{door} answers( {who})? with nonsense")
def nonsense(stage: Stage, door: str, who: str | None = None) -> None:
    _weather(stage, who, lambda faults: faults.garbled.add(door))


@HAPPENS.means("every answer to a write is lost")
def replies_lost(stage: Stage) -> None:
    _weather(stage, None, lambda faults: setattr(faults, "lost_replies", 1.0))


@HAPPENS.means("every upload fails")
def uploads_fail(stage: Stage) -> None:
    _weather(stage, None, lambda faults: setattr(faults, "tasks_fail", 1.0))


@HAPPENS.means("everything answers again")
def good_weather(stage: Stage) -> None:
    stage.sim.weather = Faults
    for agent in stage.agents():
        agent.faults = Faults()
        agent.cloud.unlisted, agent.cloud.hidden, agent.cloud.frozen = set(), set(), None


def _weather(stage: Stage, who: str | None, worse: Callable[[Faults], object]) -> None:
    """For those who are named; or for everybody, whoever is yet to come included."""
    if who is None:
        before = stage.sim.weather

        def weather() -> Faults:
            faults = before()
            worse(faults)
            return faults

        stage.sim.weather = weather
    for name in stage.sim.live() if who is None else stage.who(who):
        worse(stage.sim.agents[name].faults)


@HAPPENS.means("EC2 lists nobody")
def lists_nobody(stage: Stage) -> None:
    _lists(stage, lambda fleet, agent: Fleet((), ()))


@HAPPENS.means("EC2 lists to everybody only itself")
def lists_itself(stage: Stage) -> None:
    _lists(
        stage, lambda fleet, me: replace(fleet, instances=tuple(each for each in fleet.instances if each.id == me.name))
    )


@HAPPENS.means("EC2 lists on and on what it lists now")
def lists_the_past(stage: Stage) -> None:
    _lists(stage, lambda fleet, agent: fleet)


def _lists(stage: Stage, answer: Callable[[Fleet, Agent], Fleet]) -> None:
    for agent in stage.agents():
        agent.cloud.frozen = answer(agent.cloud.fleet(frozenset(), True), agent)


@HAPPENS.means("EC2 leaves {who} out of its lists")
def left_out(stage: Stage, who: str) -> None:
    """Asked for by their IDs, it knows them."""
    names = stage.who(who)
    for agent in stage.agents():
        agent.cloud.unlisted.update(names)


@HAPPENS.means("EC2 tells nothing of {who}")
def untold(stage: Stage, who: str) -> None:
    """In no way of asking; only their group lists them."""
    names = stage.who(who)
    for agent in stage.agents():
        agent.cloud.hidden.update(names)


@HAPPENS.means("EC2 has forgotten {who}")
def forgotten(stage: Stage, who: str) -> None:
    stage.sim.forgotten.update(stage.who(who))


# ---- what is done to the bucket


@HAPPENS.means("the bucket is emptied")
def emptied(stage: Stage) -> None:
    _delete(stage, "")


@HAPPENS.means("a lifecycle rule expires the generation's record")
def record_expired(stage: Stage) -> None:
    _delete(stage, f"generations/{stage.sim.newest().generation:06d}.json")


@HAPPENS.means("a lifecycle rule expires all that says that the cluster formed")
def formed_expired(stage: Stage) -> None:
    _delete(stage, f"generations/{stage.sim.newest().generation:06d}/")


def _delete(stage: Stage, prefix: str) -> None:
    """By somebody else than us: of these objects the promises are told that they are gone."""
    for key in [key for key in stage.sim.objects if key.startswith(prefix)]:
        del stage.sim.objects[key]
        stage.sim.promises.written_once.pop(key, None)


@HAPPENS.means("{count} snapshots are kept, and none for their age")
def kept_snapshots(stage: Stage, count: int) -> None:
    for agent in stage.agents():
        agent.keep(newest=count, hourly=0, daily=0)


@HAPPENS.means("a snapshot is taken")
def taken(stage: Stage) -> None:
    generation = stage.sim.newest().generation
    before = set(_snapshots(stage, generation))
    stage.sim.run_until(lambda: bool(set(_snapshots(stage, generation)) - before), within=700)


@HAPPENS.means("the newest snapshot of generation {count} turns up once more, with a revision that nobody reached")
def odd_snapshot(stage: Stage, count: int) -> None:
    sim = stage.sim
    manifest = manifest_of(sim.objects[_snapshots(stage, count)[-1].manifest_key][0])
    odd = replace(manifest, name=SnapshotName(manifest.name.generation, 10**15, manifest.name.taken_at))
    sim.objects[odd.name.data_key] = (odd.sha256, sim.now)
    sim.objects[odd.name.manifest_key] = (odd.to_json(), sim.now)


def _snapshots(stage: Stage, generation: int) -> list[SnapshotName]:
    return [name for name, _ in stage.sim.sound_snapshots() if name.generation == generation]


# ---- what is done to etcd


@HAPPENS.means("{who} (is|are) removed by hand")
def removed_by_hand(stage: Stage, who: str) -> None:
    for machine in stage.machines(who):
        assert machine.data is not None
        stage.sim.raft.remove_by_hand(machine.data.lineage, machine.data.member)


@HAPPENS.means("an operator writes {who} off")
def written_off(stage: Stage, who: str) -> None:
    for name in stage.who(who):
        stage.sim.exclude(name)


@HAPPENS.means("the database is full")
def full(stage: Stage) -> None:
    stage.sim.raise_alarm(Alarm(stage.sim.leader(stage.sim.current()) or MemberId(0), AlarmKind.NOSPACE))


# ---- time


@HAPPENS.means("{time} (passes|pass)")
def passes(stage: Stage, time: float) -> None:
    stage.writes = stage.sim.writes()
    stage.sim.run(time)


@HAPPENS.means("{time} (passes|pass) in which nobody looks")
def skips(stage: Stage, time: float) -> None:
    stage.sim.skip(time)


@HAPPENS.means("the record of a generation is written")
def recorded(stage: Stage) -> None:
    before = len(stage.sim.records)
    stage.sim.run_until(lambda: len(stage.sim.records) > before, within=FORMING)


@HAPPENS.means("the cluster has formed")
def formed(stage: Stage) -> None:
    """And somebody has written to it."""
    sim = stage.sim
    sim.run_until(lambda: bool(sim.records) and sim.formed(sim.newest().generation) and _is_written_to(sim), FORMING)
    stage.stands()


def _is_written_to(sim: Sim) -> bool:
    lineage = sim.lineage_of(sim.newest())
    return lineage is not None and lineage.writes > 0


@HAPPENS.means("the cluster is whole again")
def whole_again(stage: Stage) -> None:
    stage.sim.run_until(stage.sim.whole, within=FORMING)
    stage.stands()


@HAPPENS.means("the cluster has lost (it|them)")
def lost(stage: Stage) -> None:
    stage.sim.run_until(lambda: not set(stage.named) & set(stage.sim.voters()), within=60)


@HAPPENS.means("a learner has been added that never started")
def learner_added(stage: Stage) -> None:
    stage.sim.run_until(lambda: "" in stage.sim.learners(), within=60)


@HAPPENS.means("a write is acknowledged that {who} does not know to be committed")
def unknown_commit(stage: Stage, who: str) -> None:
    """It has it in its log: it was half of the quorum."""
    (machine,), lineage = stage.machines(who), stage.sim.current()
    data = machine.data
    assert data is not None
    stage.sim.run_until(
        lambda: data.appended is lineage.last_acknowledged and data.committed is not data.appended, within=300
    )


# ---- what is so then: of clusters


@HOLDS.means("the cluster is whole within {time}")
def whole(stage: Stage, time: float) -> None:
    stage.sim.run_until(stage.sim.whole, within=time)


@HOLDS.means("the cluster is whole")
def whole_now(stage: Stage) -> None:
    assert stage.sim.whole()


@HOLDS.means("there is one cluster")
def one_cluster(stage: Stage) -> None:
    assert len([each for each in stage.sim.lineages.values() if each.writes and each.superseded_at is None]) == 1


@HOLDS.means("there is no cluster yet")
def no_cluster(stage: Stage) -> None:
    assert not [each for each in stage.sim.lineages.values() if each.superseded_at is None]


@HOLDS.means("there never was another cluster")
def never_another(stage: Stage) -> None:
    assert len(stage.sim.lineages) == 1


@HOLDS.means("generation {count} is the newest")
def newest(stage: Stage, count: int) -> None:
    assert stage.sim.newest().generation == GenerationNumber(count)


@HOLDS.means("it began from the survivor's log")
def from_a_log(stage: Stage) -> None:
    assert _source(stage).startswith("survivor")


@HOLDS.means("it began from the newest snapshot")
def from_the_newest(stage: Stage) -> None:
    seed = stage.sim.newest().seed
    assert seed is not None
    assert seed.manifest == _snapshots(stage, stage.sim.newest().generation - 1)[-1].manifest_key


@HOLDS.means("it began from a snapshot of generation {count}")
def from_a_snapshot(stage: Stage, count: int) -> None:
    seed = stage.sim.newest().seed
    assert seed is not None
    assert seed.source == "snapshot"
    assert seed.manifest.startswith(f"snapshots/{count:06d}/"), seed.manifest


def _source(stage: Stage) -> str:
    seed = stage.sim.newest().seed
    return "" if seed is None else seed.source


# ---- of members


@HOLDS.means("{count} members vote")
def voters(stage: Stage, count: int) -> None:
    assert len(stage.sim.voters()) == count, stage.sim.voters()


@HOLDS.means("the members are the same as before")
def same_members(stage: Stage) -> None:
    assert {each.name: each.id for each in stage.sim.current().members.values()} == stage.members


@HOLDS.means("the members are the founders")
def founders(stage: Stage) -> None:
    """Each under the ID that its address and the record's token give it."""
    record = stage.sim.newest()
    expected = {name: MemberId(number(url, record.token)) for name, url in record.founders.items()}
    assert {each.name: each.id for each in stage.sim.current().members.values()} == expected


@HOLDS.means("{who} (is|are) no (member|members) any more")
def no_members(stage: Stage, who: str) -> None:
    assert not {each.name for each in stage.sim.current().members.values()} & set(stage.who(who))


@HOLDS.means("{who} (is another member|are other members) than before")
def other_members(stage: Stage, who: str) -> None:
    now = {each.name: each.id for each in stage.sim.current().members.values()}
    for name in stage.who(who):
        assert now[name] != stage.members[name]


# ---- of instances


@HOLDS.means("nobody has started etcd")
def nobody_started(stage: Stage) -> None:
    assert [each.id for each in stage.existing() if each.up and each.starts] == []


@HOLDS.means("{who} (has|have) not started etcd")
def not_started(stage: Stage, who: str) -> None:
    assert [each.id for each in stage.machines(who) if each.starts] == []


@HOLDS.means("no etcd was stopped")
def none_stopped(stage: Stage) -> None:
    assert [each.id for each in stage.existing() if each.stops] == []


@HOLDS.means("every etcd runs")
def all_run(stage: Stage) -> None:
    assert [each.id for each in stage.existing() if each.up and not each.running] == []


@HOLDS.means("no data was moved away")
def none_moved(stage: Stage) -> None:
    assert [each.id for each in stage.existing() if each.quarantine] == []


@HOLDS.means("the data of {who} (is|are) kept")
def data_kept(stage: Stage, who: str) -> None:
    for machine in stage.machines(who):
        assert any(kept is not None for kept in machine.quarantine)


# ---- of data


@HOLDS.means("no write is lost")
def no_write_lost(stage: Stage) -> None:
    assert stage.sim.acknowledged() <= stage.sim.kept()


@HOLDS.means("no write is lost that a disk still had")
def nothing_on_disks_lost(stage: Stage) -> None:
    assert stage.on_disks
    assert stage.on_disks <= stage.sim.kept()


@HOLDS.means("no write is lost that a snapshot had")
def nothing_in_snapshots_lost(stage: Stage) -> None:
    assert stage.in_snapshots
    assert stage.in_snapshots <= stage.sim.kept()


@HOLDS.means("writes were accepted meanwhile")
def writes_went_on(stage: Stage) -> None:
    assert stage.sim.writes() > stage.writes


@HOLDS.means("{count} (snapshot is|snapshots are) left of generation {generation}")
def snapshots_left(stage: Stage, count: int, generation: int) -> None:
    assert len(_snapshots(stage, generation)) == count


# ---- of agents


@HOLDS.means("the agents call a human because {quote}")
def human(stage: Stage, quote: str) -> None:
    calls = [each.last.decision for each in stage.agents() if each.last is not None]
    said = [each.because for each in calls if isinstance(each.action, CallHuman)]
    assert any(quote in each for each in said), said


@HOLDS.means("nobody calls a human")
def no_human(stage: Stage) -> None:
    said = [each.last.decision for each in stage.agents() if each.last is not None]
    assert [each.because for each in said if isinstance(each.action, CallHuman)] == []


@HOLDS.means("{who} (waits|wait) because {quote}")
def waits(stage: Stage, who: str, quote: str) -> None:
    """Says so in one of its next rounds: now and then one is spent on a report."""
    for name in stage.who(who):
        stage.sim.run_until(partial(_says, stage.sim.agents[name], quote), within=20)


def _says(agent: Agent, quote: str) -> bool:
    return agent.last is not None and quote in agent.last.decision.because


@HAPPENS.means("the requests are counted from now on")
def count(stage: Stage) -> None:
    for agent in stage.agents():
        agent.calls.clear()


@HOLDS.means("AWS was asked fewer than {count} times")
def asked(stage: Stage, count: int) -> None:
    calls = sum(each.calls[door] for each in stage.agents() for door in ("s3", "ec2"))
    assert calls < count, calls
