"""Random lives of a fleet: raft (raft.py) on instances that are partitioned, killed, stopped, wiped and terminated.

A `World` is a seeded driver of the model and its cloud. At any moment `World.example()` is what an agent would
observe if all agents are honest: each files what its own disk says, when it has no leader and reaches the bucket.
Whatever an instance could not say is missing or old; what EC2 does not list yet is not in the fleet.

What the world promises, and the proof may count on, is what AWS and our agents promise:
a terminated instance is gone with its disk; a wiped disk never returns under its old member ID (the identity file is
gone, too); a founder starts once; an instance that joins asks a quorum first; an excluded instance never comes back.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.model.fleet import LIVE, Fleet, Group, Instance, InstanceState
from agent.model.generation import (
    FIRST,
    Cause,
    Exclusion,
    FiledReport,
    Formed,
    GenerationRecord,
    Holding,
    Report,
    Seat,
    Sight,
)
from agent.model.ids import ClusterId, InstanceId, MemberId, Nonce, PeerUrl
from agent.model.members import LogPosition, MemberEntry
from agent.model.memory import Memory
from agent.model.observation import Me, Observation
from agent.model.policy import Policy
from tests.decide.examples import Example
from tests.properties.raft import (
    Kind,
    Log,
    Member,
    campaign,
    can_ever_lead,
    lists_of,
    propose,
    replicate,
    rescuable_end,
)

POLICY = Policy(cluster="prod")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
CLUSTER = ClusterId(0xC1)
FORGOTTEN_AFTER = 3600  # seconds until EC2 no longer lists a terminated instance
MOST_MACHINES = 9
ASLEEP = 9  # the side of those that hear nobody for long


@dataclass(slots=True)
class Machine:
    """An instance, its disk, and what its agent last told the others."""

    name: InstanceId
    ip: str
    launched: float
    state: InstanceState = InstanceState.RUNNING
    lifecycle: str = "InService"
    ended: float = 0.0
    member: Member | None = None
    process: bool = False
    serves: bool = False  # it has seen a leader since its start: only then it answers for itself
    damaged: bool = False  # so that not even its list can be told
    seat: Seat = Seat.NONE
    entry: int | None = None  # the learner's entry that it asked for and has not started as
    excluded: bool = False
    heard: float = 0.0  # when it last saw a leader
    sees: bool = False
    report: Report | None = None
    filed: float = 0.0
    side: int = 0  # of the partition
    asleep: bool = False  # cut off for long, so that life goes on without it
    bucket: bool = True  # it reaches the bucket

    @property
    def url(self) -> PeerUrl:
        return PeerUrl(f"http://{self.ip}:2380")

    @property
    def up(self) -> bool:
        return self.state in (InstanceState.RUNNING, InstanceState.SHUTTING_DOWN) and not self.excluded

    @property
    def raft(self) -> Member | None:
        """Its member, if that runs."""
        return self.member if self.up and self.process and not self.damaged else None

    @property
    def exists(self) -> bool:
        return self.state is not InstanceState.TERMINATED and not self.excluded


@dataclass(frozen=True, slots=True)
class Weather:
    """What may happen beyond what is promised: each of these defeats the proof, as the stories of the test tell."""

    hidden: bool = False  # EC2 may fail to list a stranger: a holder of data whom no report names
    warm: bool = False  # an instance may go to the warm pool, stopped, with its data


FAIR = Weather()


@dataclass
class World:
    chance: random.Random
    weather: Weather = FAIR
    clock: float = 0.0
    machines: list[Machine] = field(default_factory=list)
    founders: tuple[Machine, ...] = ()
    formed: Formed | None = None
    homes: dict[int, Machine] = field(default_factory=dict)  # where each member lives, or lived
    written_off: set[int] = field(default_factory=set)  # members that an operator named, and that are nowhere
    committed: Log = ()  # the longest log that was ever known to be committed
    story: list[str] = field(default_factory=list)

    @classmethod
    def begin(cls, chance: random.Random, weather: Weather = FAIR) -> World:
        world = cls(chance, weather)
        count = chance.choice((1, 2, 3, 3, 3, 3, 4, 5))
        world.founders = tuple(world.launch() for _ in range(count))
        for number, machine in enumerate(world.founders, 1):
            machine.seat = Seat.OPEN
            world.homes[number] = machine
        for machine in world.founders:
            if chance.random() < 0.9:
                world.found(machine)
        for _ in range(chance.choice((0, 1, 1, 2))):
            world.launch()
        return world

    # ---- the cloud

    def tell(self, what: str) -> None:
        self.story.append(f"{self.clock:6.0f} {what}")

    def launch(self) -> Machine:
        number = len(self.machines)
        free = [each.ip for each in self.machines if each.state is InstanceState.TERMINATED]
        ip = self.chance.choice(free) if free and self.chance.random() < 0.3 else f"10.0.0.{number + 1}"
        machine = Machine(InstanceId(f"i-{number:02d}"), ip, self.clock, heard=self.clock)
        self.machines.append(machine)
        self.tell(f"{machine.name} is launched at {ip}")
        return machine

    def some(self, wanted: Callable[[Machine], bool]) -> Machine | None:
        found = [each for each in self.machines if wanted(each)]
        return self.chance.choice(found) if found else None

    def kill(self, machine: Machine) -> None:
        if machine.member is not None and machine.process:
            machine.member.restart(forgetful=self.chance.random() < 0.7)
        machine.process = machine.serves = False
        self.tell(f"{machine.name}: its etcd is killed")

    def end(self, machine: Machine) -> None:
        self.kill(machine)
        machine.state, machine.ended, machine.member = InstanceState.TERMINATED, self.clock, None
        self.tell(f"{machine.name} is terminated")

    def wipe(self, machine: Machine) -> None:
        self.kill(machine)
        machine.member, machine.damaged, machine.entry = None, False, None
        self.tell(f"{machine.name} loses its disk")

    def partition(self) -> None:
        sides = self.chance.choice((1, 1, 1, 2, 2, 3))
        for machine in self.machines:
            machine.side = ASLEEP if machine.asleep else self.chance.randrange(sides)
            machine.bucket = self.chance.random() < 0.9
        self.tell("sides: " + " ".join(f"{each.name}={each.side}" for each in self.machines if each.exists))

    def heal(self) -> None:
        for machine in self.machines:
            machine.side, machine.bucket = ASLEEP if machine.asleep else 0, True

    # ---- raft's steps

    def found(self, machine: Machine) -> None:
        """A founder starts, once."""
        if machine.seat is Seat.OPEN and machine.up:
            number = self.founders.index(machine) + 1
            machine.member = Member.founder(number, range(1, len(self.founders) + 1))
            machine.seat, machine.process, machine.serves = Seat.SPENT, True, True
            self.tell(f"{machine.name} starts as founder {number}")

    def beside(self, machine: Machine) -> list[Machine]:
        return [each for each in self.machines if each is not machine and each.raft and each.side == machine.side]

    @property
    def leaders(self) -> list[Machine]:
        return [each for each in self.machines if each.raft is not None and each.raft.leading]

    def elect(self, machine: Machine) -> None:
        member = machine.raft
        if member is None:
            return
        heard = [each.raft for each in self.beside(machine) if each.raft and self.chance.random() < 0.9]
        if campaign(member, heard):
            machine.heard, machine.serves = self.clock, True
            self.tell(f"{machine.name} leads term {member.term}")

    def send(self, leader: Machine, follower: Machine, upto: int | None = None) -> None:
        """One message and its answer; the answer may be lost, and whoever hears may not come to apply it."""
        lead, member = leader.raft, follower.raft
        if lead is None or member is None or not lead.leading:
            return
        if member.id in lead.lists.voters | lead.lists.learners and replicate(lead, member, upto):
            follower.heard, follower.serves = self.clock, True
            self.note(lead)
            if self.chance.random() < 0.8:
                member.apply(None if self.chance.random() < 0.8 else self.chance.randint(0, len(member.log)))
            if self.chance.random() < 0.5:
                self.rest(member)
        if lead.leading and self.chance.random() < 0.9:
            lead.apply()

    def rest(self, member: Member) -> None:
        """Its database reaches the disk. What is committed may reach the log only with the next entry."""
        member.apply()
        member.saved_applied = member.applied
        if self.chance.random() < 0.5:
            member.save()

    def note(self, member: Member) -> None:
        if member.commit > len(self.committed):
            assert member.log[: len(self.committed)] == self.committed, "two histories have been committed"
            self.committed = member.log[: member.commit]

    def sync(self, leader: Machine, share: float = 0.85) -> None:
        for _ in range(2):
            for follower in self.beside(leader):
                if self.chance.random() < share:
                    self.send(leader, follower)
            if leader.raft is not None and leader.raft.leading:
                leader.raft.apply()
                self.note(leader.raft)

    def say(self, leader: Machine, kind: Kind, member: int = 0) -> bool:
        lead = leader.raft
        if lead is None or not lead.leading or not propose(lead, kind, member):
            return False
        self.note(lead)
        self.tell(f"{leader.name}: {kind.value} {member or ''}")
        return True

    # ---- changes of membership, as agents go about them

    def add(self, leader: Machine) -> Machine | None:
        spare = self.some(lambda each: each.up and each.member is None and each.entry is None and not each.excluded)
        lead = leader.raft
        if spare is None or lead is None or spare.side != leader.side or lead.lists.learners:
            return None
        number = len(self.homes) + 1
        if not self.say(leader, Kind.ADD_LEARNER, number):
            return None
        self.homes[number] = spare
        spare.entry, spare.seat = number, Seat.NONE if spare.seat is Seat.NONE else Seat.SPENT
        return spare

    def start_joined(self, leader: Machine, spare: Machine) -> None:
        lead, entry = leader.raft, spare.entry
        if lead is None or entry is None or not spare.up or spare.side != leader.side:
            return
        if entry in lead.lists.learners and lead.leading:
            spare.member, spare.process, spare.entry = Member(entry), True, None
            self.tell(f"{spare.name} starts as learner {entry}")

    def promote(self, leader: Machine) -> None:
        lead = leader.raft
        if lead is None:
            return
        for learner in sorted(lead.lists.learners):
            if lead.match.get(learner, 0) >= 0.9 * len(lead.log):
                if self.chance.random() < 0.8:
                    self.say(leader, Kind.PUBLISH, learner)
                self.say(leader, Kind.PROMOTE, learner)

    def remove(self, leader: Machine) -> None:
        lead = leader.raft
        if lead is None or len(lead.lists.voters) < 2:
            return
        everybody = sorted(lead.lists.voters | lead.lists.learners)
        homes = {each: self.homes[each] for each in everybody}
        gone = [each for each, home in homes.items() if not home.exists or not home.raft or home.raft.id != each]
        self.say(leader, Kind.REMOVE, self.chance.choice(gone if gone and self.chance.random() < 0.8 else everybody))

    def roll(self, leader: Machine) -> None:
        """Replace a member by a newcomer, with whoever happens to hear of it."""
        if self.chance.random() < 0.5:
            self.remove(leader)
            self.sync(leader)
        spare = self.add(leader)
        self.sync(leader)
        if spare is not None:
            self.start_joined(leader, spare)
            self.sync(leader)
            if self.chance.random() < 0.15:
                self.doze()
            self.promote(leader)
            self.sync(leader)
        if self.chance.random() < 0.5:
            self.remove(leader)
            self.sync(leader)

    def refresh(self) -> None:
        """An instance refresh: newcomers take over one by one, and whoever was removed is terminated, mostly."""
        for _ in range(self.chance.choice((2, 3, 4, 6))):
            if not self.leaders:
                self.some_elect()
            if self.leaders:
                if len([each for each in self.machines if each.exists]) < MOST_MACHINES:
                    self.launch()
                self.roll(self.chance.choice(self.leaders))
            self.retire()

    def retire(self) -> None:
        lists = lists_of(self.committed)
        members = lists.voters | lists.learners
        for machine in self.machines:
            out = machine.exists and machine.member is not None and machine.member.id not in members
            if out and not machine.asleep and self.chance.random() < 0.6:
                self.end(machine)

    # ---- time

    def pass_time(self, seconds: float) -> None:
        """Nothing happens for so long but heartbeats, applying, and agents filing reports at the end of it."""
        for machine in self.machines:
            machine.sees = False
        for leader in sorted(self.leaders, key=lambda each: -(each.raft.term if each.raft else 0)):
            self.beat(leader)
        self.clock += seconds
        for machine in self.machines:
            if machine.sees:
                machine.heard = self.clock
            if machine.raft is not None:
                self.rest(machine.raft)
        for machine in self.machines:
            if machine.up and machine.bucket and not machine.sees and self.chance.random() < 0.93:
                machine.report, machine.filed = self.report(machine), self.clock

    def beat(self, leader: Machine) -> None:
        """A leader that no quorum answers stands down; whoever hears one knows it."""
        lead = leader.raft
        if lead is None or not lead.leading:
            return
        audience = self.beside(leader)
        answering = {lead.id} | {each.raft.id for each in audience if each.raft and each.raft.term <= lead.term}
        if len(answering & lead.lists.voters) < lead.lists.quorum:
            lead.stand_down()
            return
        leader.sees = True
        for follower in audience:
            member = follower.raft
            if member and member.id in lead.lists.voters | lead.lists.learners:
                self.send(leader, follower, min(len(lead.log), lead.match.get(member.id, 0)))
                follower.sees = True
        if self.formed is None and lead.commit >= len(self.founders) + 1:
            names = {MemberId(number): self.homes[number].name for number in sorted(lead.lists.voters)}
            self.formed = Formed(CLUSTER, names)
        for machine in self.machines:
            if machine.up and machine.member is None and machine.side == leader.side:
                machine.sees = True

    def report(self, machine: Machine) -> Report:
        """What an honest agent files."""
        long = self.clock - machine.heard >= POLICY.leaderless_grace.total_seconds()
        sight = Sight.LONG_LEADERLESS if long else Sight.LEADERLESS
        member = machine.member
        if member is None:
            entry = None if machine.entry is None else MemberId(machine.entry)
            return Report(
                machine.name, machine.url, "boot", Holding.NONE, member_id=entry, seat=machine.seat, sight=sight
            )
        return Report(
            machine.name,
            machine.url,
            "boot",
            Holding.DAMAGED if machine.damaged else Holding.INTACT,
            generation=FIRST,
            cluster_id=CLUSTER,
            member_id=MemberId(member.id),
            sight=sight,
            running=machine.serves,
            **({} if machine.damaged else self.running(member) if machine.serves else self.survey(member)),
        )

    def survey(self, member: Member) -> dict[str, Any]:
        """What its files tell: its list, and the one of the hard state's commit, where raft would begin again."""
        known = max(member.saved_commit, member.saved_applied)
        kept = max(known, rescuable_end(member))
        listed, noted = self.entries(member.log[:known]), self.entries(member.log[: member.saved_commit])
        return {
            "position": LogPosition(member.log[kept - 1].term if kept else 0, kept, known),
            "members": listed,
            "restart_members": noted if voters_of(noted) != voters_of(listed) else (),
        }

    def running(self, member: Member) -> dict[str, Any]:
        """What an etcd that answers tells of itself, and what its files tell besides."""
        read, listed = self.survey(member), self.entries(member.log[: member.applied])
        position, on_disk = read["position"], read["restart_members"] or read["members"]
        committed, pending = max(member.commit, position.committed_index), member.applied < member.commit
        return {
            "position": replace(position, committed_index=committed, pending_changes=pending),
            "members": listed,
            "restart_members": on_disk if voters_of(on_disk) != voters_of(listed) else (),
        }

    def entries(self, log: Log) -> tuple[MemberEntry, ...]:
        lists = lists_of(log)
        return tuple(
            MemberEntry(
                MemberId(number),
                self.homes[number].name if number in lists.named else "",
                (self.homes[number].url,),
                number in lists.learners,
            )
            for number in sorted(lists.voters | lists.learners)
        )

    # ---- one life

    def step(self) -> None:
        leader = self.chance.choice(self.leaders) if self.leaders else None
        if leader is None or self.chance.random() < 0.12:
            self.some_elect()
        elif self.chance.random() < 0.75:
            deed = self.chance.choices(LEADERS_DEEDS, LEADERS_WEIGHTS)[0]
            deed(self, leader)
        if self.chance.random() < 0.45:
            self.chance.choices(MISFORTUNES, MISFORTUNE_WEIGHTS)[0](self)
        if self.chance.random() < 0.25:
            self.pass_time(self.chance.choice((1, 4, 12, 19, 25, 31)))

    def some_elect(self) -> None:
        machine = self.some(lambda each: each.raft is not None and each.raft.may_campaign)
        if machine is not None and self.chance.random() < 0.8:
            self.elect(machine)

    def send_some(self, leader: Machine) -> None:
        followers = self.beside(leader)
        if followers and leader.raft is not None:
            upto = self.chance.choice((None, self.chance.randint(0, len(leader.raft.log))))
            self.send(leader, self.chance.choice(followers), upto)

    def write(self, leader: Machine) -> None:
        self.say(leader, Kind.WRITE)

    def kill_one(self) -> None:
        machine = self.some(lambda each: each.process and each.up)
        if machine is not None:
            self.kill(machine)

    def start_one(self) -> None:
        machine = self.some(lambda each: each.up and each.member is not None and not each.process and not each.damaged)
        if machine is not None:
            machine.process = True
            self.tell(f"{machine.name}: its etcd starts")

    def stop_one(self) -> None:
        machine = self.some(lambda each: each.state is InstanceState.RUNNING)
        if machine is not None:
            self.kill(machine)
            machine.state = InstanceState.STOPPED
            if self.weather.warm and self.chance.random() < 0.7:
                machine.lifecycle = "Warmed:Stopped"
            self.tell(f"{machine.name} is stopped")

    def unstop_one(self) -> None:
        machine = self.some(lambda each: each.state is InstanceState.STOPPED)
        if machine is not None:
            machine.state, machine.lifecycle = InstanceState.RUNNING, "InService"
            self.tell(f"{machine.name} is started again")

    def wipe_one(self) -> None:
        machine = self.some(lambda each: each.exists and each.member is not None)
        if machine is not None:
            self.wipe(machine)

    def damage_one(self) -> None:
        machine = self.some(lambda each: each.up and each.member is not None)
        if machine is not None:
            self.kill(machine)
            machine.damaged = True
            self.tell(f"{machine.name}: its data is damaged")

    def shut_one_down(self) -> None:
        machine = self.some(lambda each: each.state in LIVE)
        if machine is not None:
            machine.state = InstanceState.SHUTTING_DOWN
            self.tell(f"{machine.name} is shutting down")

    def end_one(self) -> None:
        machine = self.some(lambda each: each.exists)
        if machine is not None:
            self.end(machine)

    def exclude_one(self) -> None:
        machine = self.some(lambda each: each.state is InstanceState.STOPPED)
        if machine is not None:
            self.kill(machine)
            machine.excluded = True
            self.tell(f"{machine.name} is written off by an operator")

    def exclude_a_ghost(self) -> None:
        """A member that was added, never started, and never will be: it has no name, and is named by its ID."""
        joined = [each for each in self.homes if each > len(self.founders)]
        ghosts = [each for each in joined if not self.homes[each].exists]
        if ghosts:
            self.written_off.add(self.chance.choice(ghosts))

    def launch_one(self) -> None:
        if len([each for each in self.machines if each.exists]) < MOST_MACHINES:
            self.launch()

    def found_one(self) -> None:
        machine = self.some(lambda each: each.seat is Seat.OPEN)
        if machine is not None:
            self.found(machine)

    def live(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    def doze(self) -> None:
        """Somebody falls behind for long: what its list says will be history."""
        machine = self.some(lambda each: each.raft is not None)
        if machine is not None:
            machine.asleep, machine.side = True, ASLEEP
            self.tell(f"{machine.name} is cut off for long")

    def wake(self) -> None:
        for machine in self.machines:
            machine.asleep = False

    def whole(self) -> World:
        """A whole life: some of it with a member cut off while the others are replaced; a disaster; and quiet."""
        self.live(self.chance.randrange(2, 15))
        if self.chance.random() < 0.6:
            for _ in range(self.chance.choice((1, 1, 2, 3))):
                self.doze()
            if self.chance.random() < 0.6:
                self.refresh()
            self.live(self.chance.randrange(2, 20))
        if self.chance.random() < 0.2:
            self.rush()
            return self
        self.disaster()
        self.quiet()
        return self

    def rush(self) -> None:
        """Everybody says that there is no leader; then there is one, and much happens before they say so again."""
        for machine in self.machines:
            machine.side = machine.side if machine.asleep else ASLEEP + 1 + self.machines.index(machine)
        self.pass_time(31)
        self.wake()
        self.heal()
        self.some_elect()
        self.refresh()
        self.disaster()
        self.wake()
        self.pass_time(self.chance.choice((1, 9, 18)))

    def disaster(self) -> None:
        """Most of what is left is lost, and the rest is given the time to say so."""
        if self.chance.random() < 0.3:
            self.power_cut()
        mildness = self.chance.choice((0.6, 1, 1.5, 3))
        for machine in [each for each in self.machines if each.exists]:
            fate = self.chance.random() * mildness
            if fate < 0.4:
                self.end(machine)
            elif fate < 0.55 and machine.member is not None:
                self.wipe(machine)
            elif fate < 0.68:
                machine.state = InstanceState.SHUTTING_DOWN
                self.tell(f"{machine.name} is shutting down")
            elif machine.state is InstanceState.STOPPED and fate < 0.9:
                machine.state, machine.lifecycle = InstanceState.RUNNING, "InService"
        if self.chance.random() < 0.6:
            self.launch()

    def power_cut(self) -> None:
        """Right after a change, which is when it matters what the disks had heard of it."""
        if not self.leaders:
            self.some_elect()
        if self.leaders:
            leader = self.chance.choice(self.leaders)
            self.sync(leader)
            self.chance.choice((self.roll, self.promote, self.remove))(leader)
            self.sync(leader)
        for machine in [each for each in self.machines if each.process]:
            if machine.raft is not None and self.chance.random() < 0.7:
                machine.raft.apply()
                machine.raft.saved_applied = machine.raft.applied
            self.kill(machine)
            machine.process = machine.up and not machine.damaged and self.chance.random() < 0.7

    def quiet(self) -> None:
        """Everybody finds everybody, or nearly, and time goes by; nobody stands for election."""
        if self.chance.random() < 0.9:
            self.wake()
            self.heal()
        mute = self.some(lambda each: each.exists)
        if mute is not None and self.chance.random() < 0.2:
            mute.bucket = False
        self.pass_time(31)
        self.pass_time(self.chance.choice((5, 5, 5, 15, 4000)))
        if self.chance.random() < 0.8:
            self.pass_time(5)

    # ---- what is true, and what an agent observes of it

    @property
    def holders(self) -> list[Member]:
        """All data that exists anywhere and etcd runs on, and what founders who may still start will have."""
        found = [each.member for each in self.machines if each.exists and each.member and not each.damaged]
        unstarted = [each for each in self.founders if each.exists and each.seat is Seat.OPEN]
        numbers = range(1, len(self.founders) + 1)
        return found + [Member.founder(self.founders.index(each) + 1, numbers) for each in unstarted]

    @property
    def repaired(self) -> list[Member]:
        """Damaged data that somebody may yet get to run."""
        return [each.member for each in self.machines if each.exists and each.member and each.damaged]

    @property
    def can_come_back(self) -> Member | None:
        return can_ever_lead(self.holders, also_voting=self.repaired, forgetful=True)

    @property
    def exclusions(self) -> list[InstanceId]:
        ghosts = [InstanceId(str(MemberId(each))) for each in sorted(self.written_off)]
        return [each.name for each in self.machines if each.excluded] + ghosts

    def strangers(self) -> list[Machine]:
        """Holders of data whom no report names, and who filed none lately."""
        named, limit = self.named(), POLICY.report_max_age.total_seconds()
        return [
            each
            for each in self.machines
            if each.exists
            and (each.member is not None or each.seat is Seat.OPEN)
            and each.name not in named
            and not (each.report and each.report.member_id and self.clock - each.filed <= limit)
        ]

    def named(self) -> frozenset[str]:
        told = [each.report for each in self.machines if each.report is not None]
        return frozenset(entry.name for report in told for entry in report.members)

    def example(self, *, clear: bool = False) -> Example:
        """An agent's round, all of it read just now. On a clear day EC2 lists everybody, and is long watched."""
        hidden = [] if clear else self.hidden()
        me = self.some(lambda each: each.up and each.report is not None and each.filed == self.clock)
        me = me or self.machines[0]
        forgotten = [each for each in self.machines if each.ended and self.clock - each.ended > FORGOTTEN_AFTER]
        listed = [each for each in self.machines if each not in forgotten and each not in hidden]
        unheard = [*forgotten, *(each for each in hidden if self.clock - each.launched < FORGOTTEN_AFTER)]
        now = EPOCH + timedelta(days=1, seconds=self.clock)
        patience = FORGOTTEN_AFTER * 3 if clear else self.chance.choice((0, 100, FORGOTTEN_AFTER * 3))
        named_since = {
            each.name: now - timedelta(seconds=min(patience, self.clock - each.launched)) for each in self.machines
        }
        ended_since = {
            each.name: now - timedelta(seconds=max(0, self.clock - each.ended - self.chance.choice((0, 2, 10))))
            for each in self.machines
            if each.state is InstanceState.TERMINATED
        }
        ended = frozenset(
            each.name for each in self.machines if each.state is InstanceState.TERMINATED and self.chance.random() < 0.3
        )
        o = Observation(
            now=now,
            nonce=Nonce("n"),
            me=Me(me.name, me.ip, me.url, "boot"),
            fleet=Fleet(
                tuple(self.instance(each) for each in listed),
                (Group("group", 3),),
                frozenset(each.name for each in unheard),
                ended,
            ),
            head=GenerationRecord(
                FIRST,
                "prod",
                "prod-000001-abcd",
                self.founders[0].name,
                EPOCH + timedelta(days=1),
                "0",
                Nonce("o"),
                {each.name: each.url for each in self.founders},
                Cause("first", {}),
            ),
            formed=self.formed,
            reports=self.filed(),
            exclusions=tuple(Exclusion(each, "", "", now) for each in self.exclusions),
        )
        memory = Memory(unheard_of={each.name: 2 for each in unheard}, named_since=named_since, ended_since=ended_since)
        return Example(o, memory, POLICY)

    def filed(self) -> tuple[FiledReport, ...]:
        return tuple(
            FiledReport(each.report, self.clock - each.filed) for each in self.machines if each.report is not None
        )

    def hidden(self) -> Sequence[Machine]:
        """Whom EC2 does not list this time, although it lives."""
        strangers = [] if self.weather.hidden else self.strangers()
        machine = self.some(lambda each: each.state is not InstanceState.TERMINATED and each not in strangers)
        return [machine] if machine is not None and self.chance.random() < 0.15 else []

    def instance(self, machine: Machine) -> Instance:
        ip = None if machine.state is InstanceState.TERMINATED else machine.ip
        launched = EPOCH + timedelta(days=1, seconds=machine.launched)
        return Instance(machine.name, machine.state, launched, ip, "zone", "group", machine.lifecycle)


def voters_of(members: Sequence[MemberEntry]) -> set[MemberId]:
    return {each.id for each in members if not each.is_learner}


LEADERS_DEEDS: Sequence[Callable[[World, Machine], object]] = (
    World.send_some,
    World.sync,
    World.write,
    World.add,
    World.promote,
    World.remove,
    World.roll,
)
LEADERS_WEIGHTS = (3, 4, 3, 1, 2, 1, 5)
MISFORTUNES: Sequence[Callable[[World], object]] = (
    World.partition,
    World.heal,
    World.kill_one,
    World.start_one,
    World.stop_one,
    World.unstop_one,
    World.wipe_one,
    World.damage_one,
    World.shut_one_down,
    World.end_one,
    World.exclude_one,
    World.exclude_a_ghost,
    World.launch_one,
    World.found_one,
)
MISFORTUNE_WEIGHTS = (5, 3, 2, 4, 1, 2, 0.7, 0.3, 0.5, 1, 0.2, 0.3, 3, 2)
