"""The simulated API of etcd: who answers what, and membership changes by etcd's rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from agent.model.cluster import Alarm, Member, Membership, MemberStatus, quorum_of
from agent.model.faults import Refused, Unavailable
from agent.model.ids import ClientUrl, MemberId, PeerUrl
from agent.model.known import Ignorance, Unknown
from agent.model.members import MemberEntry
from tests.simulation.doors import Door
from tests.simulation.logs import DataDir, Entry, Lineage
from tests.simulation.machines import START, Machine, number

CONNECTED = timedelta(seconds=5)
"""Whoever has been connected for so long counts where etcd guards a quorum (HealthInterval)."""

IN_USE_BYTES = 1_000_000

TOO_FEW_STARTED = "etcdserver: re-configuration failed due to not enough started members"


def entry_of(member: Member) -> MemberEntry:
    return MemberEntry(member.id, member.name, member.peer_urls, member.is_learner)


class SimEtcd(Door):
    name = "etcd"

    def _target(self, endpoint: ClientUrl) -> tuple[Machine, DataDir, Entry]:
        """Whoever answers there, with its data and what it has applied of it."""
        machine = self.sim.at(endpoint)
        reaches = machine is not None and (machine is self.machine or (machine.reachable and self.machine.reachable))
        if machine is None or not machine.running or machine.data is None or not reaches:
            raise Unavailable(Ignorance.UNREACHABLE, f"{endpoint} does not answer")
        if machine.frozen or machine.blocked or not machine.answers or machine.data.applied is None:
            raise Unavailable(Ignorance.TIMEOUT, f"{endpoint} accepts, and answers nothing")
        if machine.data.member in machine.data.lineage.gone:
            raise Unavailable(Ignorance.UNREACHABLE, f"{endpoint} is on its way out")
        return machine, machine.data, machine.data.applied

    def _leader(self, endpoint: ClientUrl) -> tuple[Machine, DataDir]:
        """The leader that stands behind a linearizable answer."""
        machine, data, applied = self._target(endpoint)
        leader = self.sim.raft.leader_of(machine)
        if leader is None or leader.data is None:
            raise Unavailable(Ignorance.FAILED, "etcdserver: request timed out")
        own = applied.members.get(data.member)
        if own is None or own.is_learner:
            raise Refused("etcdserver: rpc not supported for learner")
        return leader, leader.data

    def status(self, endpoint: ClientUrl) -> MemberStatus:
        self.read()
        machine, data, applied = self._target(endpoint)
        leader = self.sim.raft.leader_of(machine)
        own = applied.members.get(data.member)
        assert data.committed is not None
        return MemberStatus(
            member_id=data.member,
            cluster_id=data.lineage.cluster_id,
            version=machine.runs,
            leader=None if leader is None or leader.data is None else leader.data.member,
            raft_term=data.lineage.term,
            committed_index=data.committed.index,
            applied_index=applied.index,
            is_learner=own is None or own.is_learner,
            db_size_bytes=IN_USE_BYTES + machine.unused_bytes,
            db_size_in_use_bytes=IN_USE_BYTES,
            revision=applied.revision,
            errors=tuple(
                ["etcdserver: no leader"] * (leader is None)
                + [f"memberID:{each.member} alarm:{each.kind}" for each in sorted_alarms(data.lineage)]
            ),
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
        self.read()
        _, data = self._leader(endpoint)
        members = tuple(each for _, each in sorted(data.members.items()))
        return Membership(data.lineage.cluster_id, members, endpoint)

    def members_locally(self, endpoint: ClientUrl) -> tuple[MemberEntry, ...]:
        self.read()
        _, _, applied = self._target(endpoint)
        return tuple(entry_of(each) for _, each in sorted(applied.members.items()))

    def has_leader(self, metrics_url: str) -> bool:
        self.read()
        machine = self.sim.at(metrics_url)
        if machine is not self.machine or not machine.running:
            raise Unavailable(Ignorance.UNREACHABLE, f"{metrics_url} does not answer")
        if machine.frozen:
            raise Unavailable(Ignorance.TIMEOUT, f"{metrics_url} accepts, and answers nothing")
        return self.sim.raft.leader_of(machine) is not None

    def alarms(self, endpoint: ClientUrl) -> tuple[Alarm, ...]:
        self.read()
        _, data = self._leader(endpoint)
        return sorted_alarms(data.lineage)

    def disarm(self, endpoint: ClientUrl, alarm: Alarm) -> None:
        def effect() -> None:
            _, data = self._leader(endpoint)
            data.lineage.alarms.discard(alarm)

        self.write(effect)

    def compact(self, endpoint: ClientUrl, revision: int) -> None:
        def effect() -> None:
            _, data = self._leader(endpoint)
            assert data.committed is not None
            if revision > data.committed.revision:
                raise Refused("etcdserver: mvcc: required revision is a future revision")
            self.sim.compacted(data.lineage, revision)

        self.write(effect)

    def defragment(self, endpoint: ClientUrl) -> None:
        def effect() -> None:
            machine, _, _ = self._target(endpoint)
            machine.unused_bytes = 0

        self.write(effect)

    # ---- changes of membership

    def _change(
        self,
        endpoint: ClientUrl,
        change: Callable[[Lineage, dict[MemberId, Member]], None],
        guard: Callable[[Machine], None] = lambda asked: None,
    ) -> None:
        """Judged by etcd's rules at the moment at which it arrives: by the member that is asked, as it sees the others
        (etcd's strict-reconfig-check), and then, through a leader, by all of them."""

        def effect() -> None:
            guard(self._target(endpoint)[0])
            leader, data = self._leader(endpoint)
            members = dict(data.members)
            change(data.lineage, members)
            self.sim.raft.propose(leader, members)

        self.write(effect)

    def add_learner(self, endpoint: ClientUrl, peer_url: PeerUrl) -> MemberId:
        added: list[MemberId] = []

        def change(lineage: Lineage, members: dict[MemberId, Member]) -> None:
            second = int((self.sim.now - START).total_seconds())
            member = MemberId(number(peer_url, lineage.cluster_id, second))
            if member in lineage.gone:
                raise Refused("etcdserver: member not found: this URL's last member was removed within the same second")
            if member in members:
                raise Refused("etcdserver: member ID already exist")
            if any(peer_url in each.peer_urls for each in members.values()):
                raise Refused("etcdserver: Peer URLs already exists")
            if any(each.is_learner for each in members.values()):
                raise Refused("etcdserver: too many learner members in cluster")
            members[member] = Member(member, "", (peer_url,), (), is_learner=True)
            added.append(member)

        self._change(endpoint, change, self._must_be_connected)
        return added[0]

    def _must_be_connected(self, asked: Machine) -> None:
        """etcd 3.5.30: a quorum of the voters and one more. That is all of two or three, and all but one of four or
        five; a single voter is enough for itself."""
        voters = _voters(asked)
        if self._connected(asked, voters) < (1 if len(voters) == 1 else quorum_of(len(voters) + 1)):
            raise Refused("etcdserver: unhealthy cluster")

    def _connected(self, asked: Machine, voters: list[Member]) -> int:
        """How many voters this member has been connected to for a while; it counts itself."""
        near = {each.data.member: each for each in self.sim.raft.group_of(asked) if each.data is not None}
        steady = [each for each in voters if each.id in near and self._is_steady(near[each.id])]
        assert asked.data is not None
        others = [each for each in steady if each.id != asked.data.member] if self._is_steady(asked) else []
        return len(others) + any(each.id == asked.data.member for each in voters)

    def _is_steady(self, machine: Machine) -> bool:
        return machine.steady_since is not None and self.sim.now - machine.steady_since >= CONNECTED

    def promote(self, endpoint: ClientUrl, member: MemberId) -> None:
        def change(lineage: Lineage, members: dict[MemberId, Member]) -> None:
            entry = members.get(member)
            if entry is None:
                raise Refused("etcdserver: member not found")
            if not entry.is_learner:
                raise Refused("etcdserver: can only promote a learner member")
            if not self._is_in_sync(lineage, member):
                raise Refused("etcdserver: can only promote a learner member which is in sync with leader")
            voters = [each for each in members.values() if not each.is_learner]
            if 1 + sum(each.started for each in voters) < quorum_of(1 + len(voters)):
                raise Refused(TOO_FEW_STARTED)
            members[member] = replace(entry, is_learner=False)

        self._change(endpoint, change)

    def _is_in_sync(self, lineage: Lineage, member: MemberId) -> bool:
        learner = self.sim.serving(lineage).get(member)
        return learner is not None and learner.data is not None and learner.data.appended is not None

    def remove(self, endpoint: ClientUrl, member: MemberId) -> None:
        def change(lineage: Lineage, members: dict[MemberId, Member]) -> None:
            entry = members.pop(member, None)
            if entry is None:
                raise Refused("etcdserver: member not found")
            blind = self.agent.faults.blind or not self.machine.reachable
            self.sim.promises.at_removal(self.agent.name, lineage, entry, blind=blind)
            lineage.gone.add(member)

        self._change(endpoint, change, lambda asked: self._must_be_spared(asked, member))

    def _must_be_spared(self, asked: Machine, member: MemberId) -> None:
        """Enough of those who stay were started, and no quorum needs whoever is connected. Any learner may go."""
        assert asked.data is not None
        voters = _voters(asked)
        entry = asked.data.members.get(member)
        if entry is not None and entry.is_learner:
            return
        rest = [each for each in voters if each.id != member]
        if sum(each.started for each in rest) < quorum_of(len(rest)):
            raise Refused(TOO_FEW_STARTED)
        near = [each.data.member for each in self.sim.raft.group_of(asked) if each.data is not None]
        if member in near and self._connected(asked, voters) - 1 < quorum_of(len(voters) - 1):
            raise Refused("etcdserver: unhealthy cluster")

    def move_leader(self, endpoint: ClientUrl, to: MemberId) -> None:
        def effect() -> None:
            machine, _, _ = self._target(endpoint)
            leader, _ = self._leader(endpoint)
            if leader is not machine:
                raise Refused("etcdserver: not leader")
            self.sim.raft.move_leader(leader, to)

        self.write(effect)

    def update_peer_url(self, endpoint: ClientUrl, member: MemberId, peer_url: PeerUrl) -> None:
        def change(lineage: Lineage, members: dict[MemberId, Member]) -> None:
            entry = members.get(member)
            if entry is None:
                raise Refused("etcdserver: member not found")
            if any(peer_url in each.peer_urls and each.id != member for each in members.values()):
                raise Refused("etcdserver: Peer URLs already exists")
            members[member] = replace(entry, peer_urls=(peer_url,), is_learner=False)  # before 3.5.31 also a learner

        self._change(endpoint, change)


def _voters(asked: Machine) -> list[Member]:
    """As this member knows them."""
    assert asked.data is not None
    return [each for each in asked.data.members.values() if not each.is_learner]


def sorted_alarms(lineage: Lineage) -> tuple[Alarm, ...]:
    return tuple(sorted(lineage.alarms, key=lambda each: (each.member, each.kind)))
