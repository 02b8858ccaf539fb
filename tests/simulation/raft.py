"""etcd's rules, as far as decisions depend on them.

A leader is elected by a candidate under the list that it has applied, with the votes of a quorum of that list, from
members whose logs are no more complete than its own. It replicates its log to whom it reaches; what a quorum of its
list has appended is committed, applied and acknowledged. The others learn of a commit one message later, and some are
slow. So whoever is left of a quorum may hold entries that it does not know to be committed, and lists lag as logs do.
A leader that loses its quorum may keep entries that nobody else ever saw.

Elections and replication take no time. One learner at a time; an add needs voters that have been connected for five
seconds; a removed member ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.model.cluster import Member, quorum_of
from agent.model.faults import Refused
from agent.model.ids import ClientUrl, MemberId
from tests.simulation.logs import Entry, Lineage, Members, holds
from tests.simulation.machines import Broken, Machine

if TYPE_CHECKING:
    from tests.simulation.sim import Sim

WRITES = 0.6
"""How likely a client writes between two rounds of any agents."""
SLOW = 0.15
"""How likely one message to a follower is late, where it is not needed for a quorum."""
IN_FLIGHT = 0.5
"""How likely a leader that loses its quorum has appended something for which it finds nobody."""


class Raft:
    """All members of all lineages, by what their machines hold."""

    def __init__(self, sim: Sim) -> None:
        self.sim = sim
        self.idle = False  # clients write nothing

    # ---- who reaches whom

    def running(self, lineage: Lineage) -> list[Machine]:
        found = [each for each in self.sim.machines.values() if each.speaks and each.data is not None]
        mine = [each for each in found if each.data is not None and each.data.lineage is lineage]
        return sorted(mine, key=_member)

    def group_of(self, machine: Machine) -> list[Machine]:
        """Who can talk with this one: the reachable with each other, the isolated with themselves."""
        assert machine.data is not None
        if not machine.reachable:
            return [machine]
        return [each for each in self.running(machine.data.lineage) if each.reachable]

    def groups(self, lineage: Lineage) -> Iterator[list[Machine]]:
        running = self.running(lineage)
        yield [each for each in running if each.reachable]
        yield from ([each] for each in running if not each.reachable)

    # ---- elections

    def leader_of(self, machine: Machine) -> Machine | None:
        """Whom this member follows; elected on the spot where there is none."""
        return self.leader_in(self.group_of(machine))

    def leader_in(self, group: list[Machine]) -> Machine | None:
        for each in group:
            if each.data is not None and each.data.leads:
                if self._backed(each, group):
                    return each
                self._step_down(each)
        return next((each for each in group if self._wins(each, group)), None)

    def _backed(self, leader: Machine, group: list[Machine]) -> bool:
        voters = _voters(leader)
        here = [each for each in group if _member(each) in voters]
        return leader in here and len(here) >= quorum_of(len(voters))

    def lose_touch(self, machine: Machine) -> None:
        """It hears and says nothing any more; if it leads, it will find when it wakes that nobody follows."""
        if machine.data is not None and machine.data.leads:
            self._step_down(machine)

    def _step_down(self, leader: Machine) -> None:
        data = leader.data
        assert data is not None
        data.leads = False
        if not self.idle and self.sim.random.random() < IN_FLIGHT:
            self._append(leader, data.appended.members if data.appended else {}, write=True)

    def _wins(self, candidate: Machine, group: list[Machine]) -> bool:
        data = candidate.data
        assert data is not None
        data.applied = data.committed
        voters = _voters(candidate)
        votes = [each for each in group if _member(each) in voters and _position(each) <= data.position]
        if candidate not in votes or len(votes) < quorum_of(len(voters)):
            return False
        last = data.lineage.last_acknowledged
        if last is not None and not holds(data.appended, last):
            raise Broken(f"{candidate.id} leads lineage {data.lineage.cluster_id} without all acknowledged writes")
        data.lineage.term += 1
        for each in group:
            assert each.data is not None
            each.data.leads = each is candidate
        data.term = data.lineage.term
        self._append(candidate, data.appended.members if data.appended else {})
        self._replicate(candidate, group)
        return True

    # ---- the log

    def _append(self, leader: Machine, members: Members, *, write: bool = False) -> None:
        data = leader.data
        assert data is not None
        assert data.appended is not None, "who leads has a log"
        before = data.appended
        data.appended = Entry(data.term, before.index + 1, members, before.revision + write, before, write)

    def _replicate(self, leader: Machine, group: list[Machine], *, slow: bool = False) -> None:
        """One message to everybody: the log, and how far it was committed until then. Then the leader commits."""
        data = leader.data
        assert data is not None
        listed = [each for each in group if _member(each) in data.members and each is not leader]
        late = self._late(leader, listed) if slow else []
        for each in listed:
            if each not in late:
                assert each.data is not None
                each.data.appended, each.data.committed = data.appended, data.committed
                if self.sim.random.random() >= SLOW:
                    each.data.applied = data.committed
        self._commit(leader, [leader, *(each for each in listed if each not in late)])

    def _late(self, leader: Machine, listed: list[Machine]) -> list[Machine]:
        voters = _voters(leader)
        spare = 1 + sum(_member(each) in voters for each in listed) - quorum_of(len(voters))
        late: list[Machine] = []
        for each in listed:
            if len(late) < spare and self.sim.random.random() < SLOW:
                late.append(each)
        return late

    def _commit(self, leader: Machine, appended: list[Machine]) -> None:
        data = leader.data
        assert data is not None
        voters = _voters(leader)
        if sum(_member(each) in voters for each in appended) < quorum_of(len(voters)):
            return
        entry = data.appended
        while entry is not None and entry is not data.committed:
            if entry.write:
                entry.acknowledged = True
                self.sim.promises.at_write(data.lineage)
                data.lineage.writes += 1
                if data.lineage.last_acknowledged is None or entry.index > data.lineage.last_acknowledged.index:
                    data.lineage.last_acknowledged = entry
            entry = entry.before
        assert data.appended is not None
        data.committed = data.applied = data.lineage.committed = data.appended

    def propose(self, leader: Machine, members: Members) -> None:
        """A change of membership, appended, replicated and committed.

        A leader that was removed by it stays for a second, so that the others hear of the commit (etcd: stopWithDelay).
        """
        self._append(leader, members)
        self._replicate(leader, self.group_of(leader))
        if _member(leader) not in members:
            self._replicate(leader, self.group_of(leader))

    def move_leader(self, leader: Machine, to: MemberId) -> None:
        """The other one gets the whole log, and is elected."""
        group = self.group_of(leader)
        other = next((each for each in group if _member(each) == to), None)
        if other is None or to not in _voters(leader):
            raise Refused("etcdserver: request timed out, leader transfer took too long")
        self._replicate(leader, group)
        self._wins(other, group)

    def remove_by_hand(self, lineage: Lineage, member: MemberId) -> None:
        """`etcdctl member remove`."""
        leader = next(each for each in map(self.leader_in, self.groups(lineage)) if each is not None)
        assert leader.data is not None
        lineage.gone.add(member)
        self.propose(leader, {each: entry for each, entry in leader.data.members.items() if each != member})

    # ---- time

    def pass_time(self) -> None:
        for lineage in self.sim.lineages.values():
            for group in self.groups(lineage):
                self._pass(group)

    def _pass(self, group: list[Machine]) -> None:
        for each in group:
            assert each.data is not None
            each.data.applied = each.data.committed
        leader = self.leader_in(group)
        if leader is None or leader.data is None:
            return
        self._publish(leader, group)
        if not self.idle and not leader.data.lineage.alarms and self.sim.random.random() < WRITES:
            self._append(leader, leader.data.appended.members if leader.data.appended else {}, write=True)
        self._replicate(leader, group, slow=True)
        for each in group:
            assert each.data is not None
            if each.data.member in leader.data.lineage.gone:
                each.end_etcd(0)
            elif each.data.applied is not None:
                each.answers = True

    def _publish(self, leader: Machine, group: list[Machine]) -> None:
        """Names and client URLs appear once a quorum has committed them."""
        assert leader.data is not None
        members = dict(leader.data.members)
        for each in group:
            entry, urls = members.get(_member(each)), (ClientUrl(f"http://{each.ip}:2379"),)
            if entry is not None and (entry.name, entry.client_urls) != (each.launched_as, urls):
                members[entry.id] = replace(entry, name=each.launched_as, client_urls=urls)
        if members != leader.data.members:
            self._append(leader, members)

    # ---- the truth

    def could_elect(
        self, machines: list[Machine], open_seats: dict[MemberId, Members], is_dead: Callable[[Machine], bool]
    ) -> list[Machine | MemberId]:
        """Who could win an election if all these disks ran and reached each other; seats start with an empty log."""
        holders = {_member(each): each for each in machines if not is_dead(each)}
        start = (1, len(next(iter(open_seats.values())))) if open_seats else (1, 0)
        logs = dict.fromkeys(open_seats, start) | {member: _position(each) for member, each in holders.items()}
        lists: list[tuple[MemberId, Members]] = list(open_seats.items())
        for member, each in holders.items():
            assert each.data is not None
            lists.append((member, each.data.members))
            told = (each.data.committed, each.data.earlier if each.running else None)
            lists += [(member, entry.members) for entry in told if entry is not None]
        found: list[Machine | MemberId] = []
        for member, members in lists:
            voters = [each.id for each in members.values() if not each.is_learner]
            votes = [each for each in voters if each in logs and logs[each] <= logs[member]]
            winner = holders.get(member, member)
            if member in votes and len(votes) >= quorum_of(len(voters)) and winner not in found:
                found.append(winner)
        return found


def _member(machine: Machine) -> MemberId:
    assert machine.data is not None
    return machine.data.member


def _position(machine: Machine) -> tuple[int, int]:
    assert machine.data is not None
    return machine.data.position


def _voters(machine: Machine) -> dict[MemberId, Member]:
    """Of the list that this member goes by."""
    assert machine.data is not None
    return {member: each for member, each in machine.data.members.items() if not each.is_learner}
