"""What must hold whatever the weather is, judged by what nobody in the world can see: every disk, every log.

1. Never two clusters: from the moment at which a generation's record is written, no older lineage accepts a client's
   write any more; and of the generations that nothing has superseded, only one lineage ever accepts one.
2. Never less than the disks hold: every leader that is elected has all acknowledged writes of its lineage (checked in
   `raft`); and what a new generation starts from holds every acknowledged write that any surviving log of the one
   before holds, or any sound snapshot of it. A generation that starts empty replaces one that never accepted anything.
3. Never a guess: when a generation is written, no set of the disks that still exist, and of the founders that may
   still start, could elect a leader of the one before under any list that any of them has applied.
4. Never two seeds for one generation: all its founders restore the same bytes in the same way.
5. Never a deletion: records, claims and `formed.json` stay as they were written; a snapshot goes only behind a newer
   sound one of its own generation or a later one, and never the one that the head started from.
6. The data plane is left alone: etcd is stopped, and data is moved away, only where a newer generation or a quorum
   has replaced it; it is stopped for its own rescue only where it is lost in truth. A member runs on one instance.
7. The operator's hold: no round that began after it was set does anything of what it forbids, but for an agent that
   could not read it; and no agent that was told of it does before it is told otherwise.
8. One thing at a time: an agent's round has one effect, so one change of membership is under way from it at most.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from agent.model.cluster import Member
from agent.model.disk import Data, Stage
from agent.model.dns import RecordSet, RecordType
from agent.model.fleet import GOING
from agent.model.generation import Claim, GenerationRecord
from agent.model.hold import Hold
from agent.model.ids import GenerationNumber, InstanceId, MemberId
from agent.model.known import NOT_ASKED, Unknown
from agent.model.round import Round
from agent.model.snapshot import MANIFEST, SnapshotName
from tests.properties.oracle import is_forbidden_while_held
from tests.simulation.logs import DataDir, Entry, Lineage, Members, acknowledged
from tests.simulation.machines import Broken, Machine, number

if TYPE_CHECKING:
    from tests.simulation.agents import Agent
    from tests.simulation.sim import Sim


class Promises:
    def __init__(self, sim: Sim) -> None:
        self.sim = sim
        self.written_once: dict[str, str] = {}
        self.written_off: set[tuple[GenerationNumber, InstanceId]] = set()  # by an operator, who is believed

    # ---- (1) and (5): after every round

    def at_write(self, lineage: Lineage) -> None:
        if lineage.superseded_at is not None:
            raise Broken(f"lineage {lineage.cluster_id} writes although a newer generation exists")
        others = [each for each in self.sim.lineages.values() if each.writes and each.superseded_at is None]
        if any(each is not lineage for each in others):
            raise Broken("two lineages accepted writes")

    def nothing_is_rewritten(self) -> None:
        for key, text in self.written_once.items():
            if key not in self.sim.objects or self.sim.objects[key][0] != text:
                raise Broken(f"{key} was changed or deleted")
        kept = {key: text for key, (text, _) in self.sim.objects.items() if key.startswith("generations/")}
        self.written_once.update(kept)

    def at_effect(self, agent: Agent) -> None:
        """One effect a round: so there is never more than one change of membership under way from one agent."""
        if agent.effects:
            raise Broken(f"{agent.name} has a second effect in one round")
        agent.effects += 1

    # ---- (7): the operator's hold

    def at_hold(self, agent: Agent, played: Round, began: datetime) -> None:
        """An agent reads the hold right before it acts; where that fails, its last answer counts."""
        o, action = played.observation, played.decision.action
        if not is_forbidden_while_held(action, o.disk):
            return
        if isinstance(o.hold, Hold) or isinstance(played.memory.hold, Hold):
            raise Broken(f"{agent.name} was told of the hold, and does {type(action).__name__}")
        since = self.sim.held_since
        if since is not None and since < began and not isinstance(o.hold, Unknown):
            raise Broken(f"{agent.name} does {type(action).__name__} while the cluster is held")
        if o.hold == NOT_ASKED:
            raise Broken(f"{agent.name} does {type(action).__name__} without looking whether it may")

    # ---- (2) and (3): when a generation is written

    def at_creation(self, record: GenerationRecord) -> None:
        before = max(
            (each for each in self.sim.records.values() if each.generation < record.generation),
            key=lambda each: each.generation,
            default=None,
        )
        if before is None:
            return
        self.is_lost(before, f"generation {record.generation} is written")
        lineage = self.sim.lineage_of(before)
        if record.seed is None:
            if lineage is not None and lineage.writes:
                raise Broken(f"generation {record.generation} starts empty after {lineage.writes} writes")
            if before.seed is not None:
                raise Broken(f"generation {record.generation} starts empty, and {before.generation} was restored")
            return
        seed = self.sim.contents.get(record.seed.sha256)
        if seed is None:
            raise Broken(f"generation {record.generation} starts from what nobody ever took")
        self._is_enough(record, before, acknowledged(seed))

    def _is_enough(self, record: GenerationRecord, before: GenerationRecord, seed: set[Entry]) -> None:
        for machine in self.disks(before):
            assert machine.data is not None
            if machine.data.damaged or machine.cannot_be_rescued:
                continue
            lost = acknowledged(machine.data.appended) - seed
            if lost:
                raise Broken(f"{len(lost)} writes that {machine.id} still holds are not in {record.generation}")
        for name, content in self.sim.sound_snapshots():
            lost = acknowledged(content) - seed
            if name.generation == before.generation and lost:
                raise Broken(f"{len(lost)} writes that {name} holds are not in {record.generation}")

    def is_lost(self, record: GenerationRecord, doing: str) -> None:
        electable = self.could_elect(record)
        if electable:
            who = ", ".join(each.id if isinstance(each, Machine) else f"founder {each}" for each in electable)
            raise Broken(f"{doing}, and {who} could still lead generation {record.generation}")

    def could_elect(self, record: GenerationRecord) -> list[Machine | MemberId]:
        """Whoever could still be elected, if every disk there is came back."""
        return self.sim.raft.could_elect(
            self.disks(record), self._open_seats(record), lambda each: bool(each.data and each.data.damaged)
        )

    def disks(self, record: GenerationRecord) -> list[Machine]:
        """The machines that exist and hold a generation's data; what is fenced and stopped never starts again."""
        lineage = self.sim.lineage_of(record)
        found = [each for _, each in sorted(self.sim.machines.items()) if each.exists and each.data is not None]
        mine = [each for each in found if each.data is not None and each.data.lineage is lineage]
        mine = [each for each in mine if (record.generation, each.id) not in self.written_off]
        return [each for each in mine if each.running or not _is_fenced(each)]

    def _open_seats(self, record: GenerationRecord) -> dict[MemberId, Members]:
        """The founders that have not started, and still may."""
        ids = {name: MemberId(number(url, record.token)) for name, url in record.founders.items()}
        start = {ids[name]: Member(ids[name], name, (url,)) for name, url in record.founders.items()}
        return {ids[name]: start for name in record.founders if self._is_open(self.sim.machines.get(name), record)}

    def _is_open(self, machine: Machine | None, record: GenerationRecord) -> bool:
        if machine is None or not machine.exists:
            return False
        text = self.sim.objects.get(f"generations/{record.generation:06d}/claims/{machine.id}.json")
        if text is None:
            return True
        if machine.identity is None or machine.data is not None or not machine.prepared:
            return False
        usable = machine.identity.stage is Stage.STARTING and machine.identity.instance == machine.id
        return usable and machine.identity.nonce == Claim.from_json(text[0]).nonce

    # ---- (4): one seed

    def at_founding(self, lineage: Lineage, seed: str | None) -> None:
        if lineage.seed != seed:
            raise Broken(f"founders of lineage {lineage.cluster_id} start from {lineage.seed} and from {seed}")

    # ---- (5): snapshots

    def at_expiry(self, names: Sequence[SnapshotName]) -> None:
        left = [name for name, _ in self.sim.sound_snapshots() if name not in names]
        seeds = {each.seed.manifest.removesuffix(MANIFEST) for each in self.sim.records.values() if each.seed}
        for name in names:
            if not any(name < each for each in left):
                raise Broken(f"{name} is deleted, and no newer sound snapshot stays")
            if not any(name < each and name.generation == each.generation for each in left) and self._is_sound(name):
                raise Broken(f"{name} is deleted, the newest of its generation")
            if str(name) in seeds and self._is_of_the_head(name):
                raise Broken(f"{name} is deleted, which the head started from")

    def _is_sound(self, name: SnapshotName) -> bool:
        return any(each == name for each, _ in self.sim.sound_snapshots())

    def _is_of_the_head(self, name: SnapshotName) -> bool:
        head = max(self.sim.records.values(), key=lambda each: each.generation)
        return head.seed is not None and head.seed.manifest == name.manifest_key

    # ---- (6): the data plane

    def at_start(self, machine: Machine) -> None:
        """A member runs on one instance, and never without certificates where others ask for them."""
        assert machine.data is not None
        if self.sim.certified and machine.issued is None:
            raise Broken(f"{machine.id} starts an etcd that nobody would believe")
        for other in self.sim.raft.running(machine.data.lineage):
            if other is not machine and other.data is not None and other.data.member == machine.data.member:
                raise Broken(f"member {other.data.member} starts on {machine.id}, and runs on {other.id}")

    def at_stop(self, machine: Machine) -> None:
        """Fenced, or lost in truth and about to be rescued; or the only member there is, told to leave."""
        if machine.data is None or _is_fenced(machine):
            self.may_be_set_aside(machine, "stops")
            return
        if machine.leaving and {each.id for each in machine.data.lineage.voters} == {machine.data.member}:
            return
        if machine.issued is not None and machine.trusts != frozenset(machine.issued.authorities.trusted):
            return  # it starts again in place, and `they_believe_each_other` and the stories look after the others
        record = self.sim.record_of(machine.data.lineage)
        if record is None:
            raise Broken(f"{machine.id} stops what no generation knows")
        self.is_lost(record, f"{machine.id} stops its etcd")

    def at_authority(self) -> None:
        """Once, and before anything was founded with another."""
        if self.sim.records:
            raise Broken("a certificate authority is made beside a cluster that has had one")

    def they_believe_each_other(self) -> None:
        """Whatever etcds run: each shows a certificate that is valid, and whose authority all the others trust."""
        running = [each for each in self.sim.machines.values() if each.running and each.issued is not None]
        for each in running:
            assert each.issued is not None
            if each.issued.expires_at <= self.sim.now + each.skew:
                raise Broken(f"{each.id} shows a certificate that is over")
            for other in running:
                if each.issued.authorities.issuer not in other.trusts:
                    raise Broken(f"{other.id} does not believe {each.id}")

    def may_be_set_aside(self, machine: Machine, doing: str) -> None:
        """Only what a newer generation or a quorum has replaced: by the disk's word, and in truth."""
        if not _is_fenced(machine):
            raise Broken(f"{machine.id} {doing} what is not fenced")
        data = machine.data
        if data is None or data.lineage.superseded_at is not None:
            return
        entry = data.lineage.members.get(data.member)
        if entry is not None and not entry.is_learner:
            raise Broken(f"{machine.id} {doing} voter {entry} of a lineage that lives")

    def at_removal(self, by: str, lineage: Lineage, entry: Member, *, blind: bool) -> None:
        """No voter whose instance can come back with its data, and no learner that is doing well, if it can be seen."""
        holders = [
            each
            for each in self.sim.machines.values()
            if each.data is not None and each.data.member == entry.id and each.state not in GOING
        ]
        if any(each.leaving and each.id == entry.name == by for each in holders):
            return  # it is told to leave, and takes itself out
        if any(each.data and each.data.unfit and each.id == entry.name == by for each in holders):
            return  # no etcd runs on its data any more
        serving = [each for each in holders if each.speaks and each.reachable]
        if serving and not (entry.is_learner and (blind or self.sim.is_fresh(serving[0]))):
            raise Broken(f"{by} removes {entry}, which serves on {serving[0].id}")
        if any(each.id == entry.name for each in holders) and not entry.is_learner:
            raise Broken(f"{by} removes voter {entry}, whose data can come back on {holders[0].id}")

    def at_replacement(self, machine: Machine) -> None:
        """Its group ends it with its disk: the others serve without it."""
        if machine.running:
            raise Broken(f"{machine.id} asks to be replaced, and its etcd runs")
        lineage = None if machine.data is None else machine.data.lineage
        if lineage is None or self.sim.leader(lineage) is None:
            raise Broken(f"{machine.id} asks to be replaced, and the others may need its disk")

    def at_publishing(self, records: Collection[RecordSet]) -> None:
        """Clients are never sent nowhere, and only to addresses of voters."""
        voters = " ".join(url for each in self.sim.current().voters for url in each.client_urls)
        for record in records:
            if not record.values:
                raise Broken(f"{record.name} is emptied")
            if record.type is RecordType.A and not any(f"//{each}:" in voters for each in record.values):
                raise Broken(f"{record.name} leads to nobody: {record.values}")

    def at_registering(self, machine: Machine) -> None:
        """Clients are sent to voters only."""
        if machine.id not in {each.name for each in self.sim.current().voters}:
            raise Broken(f"{machine.id} becomes a target, and is no voter")

    def at_deregistering(self, machine: Machine, group: str) -> None:
        """By who serves no clients any more, or soon; and never by the last one."""
        going = machine.leaving or (machine.notice is not None and machine.notice.takes_the_disk)
        if machine.id in {each.name for each in self.sim.current().voters} and not going:
            raise Broken(f"{machine.id} is no target any more, and a voter that stays")
        if not self.sim.targets[group] - {machine.id}:
            raise Broken(f"{machine.id} was the last target of {group}")

    def at_letting_go(self, machine: Machine) -> None:
        """Nobody needs its disk any more: its data is fenced, or removed, or every write of it is in the bucket."""
        data = machine.data
        if data is None or _is_fenced(machine) or data.lineage.superseded_at is not None or machine.cannot_be_rescued:
            return
        if data.member not in data.lineage.members:
            return
        saved = {each for name, content in self.sim.sound_snapshots() for each in acknowledged(content)}
        if acknowledged(data.appended) - saved:
            raise Broken(f"{machine.id} is let go, and holds what is nowhere else")
        record = self.sim.record_of(data.lineage)
        if record is not None and machine.running:
            self.is_lost(record, f"{machine.id} is let go while it serves")


def _is_fenced(machine: Machine) -> bool:
    return machine.identity is not None and machine.identity.stage is Stage.FENCED


def holding(data: DataDir | None, prepared: bool) -> Data:
    return Data.PRESENT if data is not None else Data.EMPTY if prepared else Data.ABSENT
