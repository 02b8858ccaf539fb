"""The same questions to a real etcd and to the simulated one: whoever differs is wrong, and that is the simulation.

Everything that decisions depend on: who answers what with a quorum and without one, and which changes of the membership
are refused. Real is the newest etcd 3.5 at hand, which the simulation stands for; other versions: see `test_etcd`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Protocol

import pytest

from agent.model.actions import Launch
from agent.model.cluster import Alarm, AlarmKind, Membership
from agent.model.faults import Refused, Unavailable
from agent.model.ids import ClientUrl, InstanceId, MemberId, PeerUrl
from agent.model.known import Ignorance
from agent.model.members import MemberEntry
from agent.world.doors import Etcd
from agent.world.etcd import Deadlines, EtcdDoor
from tests import etcd_versions
from tests.contracts.etcd_cluster import Cluster, Server, raise_alarm, running, wait_until
from tests.simulation.machines import Machine
from tests.simulation.promises import Promises
from tests.simulation.sim import Sim

DEADLINES = Deadlines(status=timedelta(seconds=1), read=timedelta(seconds=1.5), change=timedelta(seconds=2))
A_MOMENT = 15
"""Seconds, of a real clock or of the simulated one; of the real one on a busy machine."""


class Place(Protocol):
    """One etcd, running or not yet."""

    @property
    def client_url(self) -> ClientUrl: ...

    @property
    def peer_url(self) -> PeerUrl: ...


class Ground(Protocol):
    """Some etcds, and what can be done to them."""

    door: Etcd
    places: list[Place]

    def spare(self) -> Place:
        """Not in the list yet, and not running."""
        ...

    def join(self, place: Place) -> None:
        """Start it; it was added before."""
        ...

    def kill(self, place: Place) -> None: ...

    def restart(self, place: Place) -> None:
        """On the data that it left."""
        ...

    def raise_alarm(self, alarm: Alarm) -> None: ...

    def has_leader(self, place: Place) -> bool:
        """As its own agent asks, at its metrics port."""
        ...

    def until(self, holds: Callable[[], bool], complaint: str) -> None:
        """Let time pass until it holds."""
        ...


class Real:
    def __init__(self, cluster: Cluster) -> None:
        self.door: Etcd = EtcdDoor(deadlines=DEADLINES)
        self._cluster = cluster
        self.places: list[Place] = list(cluster.servers)

    def spare(self) -> Place:
        return self._cluster.spare()

    def join(self, place: Place) -> None:
        self._cluster.join(self._server(place))

    def kill(self, place: Place) -> None:
        self._cluster.kill(self._server(place))

    def restart(self, place: Place) -> None:
        self._server(place).start(self._cluster.servers)

    def _server(self, place: Place) -> Server:
        assert isinstance(place, Server)
        return place

    def raise_alarm(self, alarm: Alarm) -> None:
        raise_alarm(self.places[0].client_url, alarm.member, alarm.kind)

    def has_leader(self, place: Place) -> bool:
        return self.door.has_leader(place.client_url.replace("2379", "2381"))

    def until(self, holds: Callable[[], bool], complaint: str) -> None:
        wait_until(holds, A_MOMENT, complaint, 0.1)


@dataclass(frozen=True)
class SimPlace:
    name: InstanceId
    ip: str

    @property
    def client_url(self) -> ClientUrl:
        return ClientUrl(f"http://{self.ip}:2379")

    @property
    def peer_url(self) -> PeerUrl:
        return PeerUrl(f"http://{self.ip}:2380")


class AnythingGoes(Promises):
    """Here etcd is asked for what no agent may ask for."""

    def at_effect(self, *_: object) -> None: ...

    def at_removal(self, *_: object, **__: object) -> None: ...


class Simulated:
    """No agent plays a round here: time passes, and etcd is asked. One more instance, without etcd, asks."""

    def __init__(self, size: int) -> None:
        self._sim = Sim(size, size + 1, interleave=0.0)
        self._sim.promises = AnythingGoes(self._sim)
        everybody = [self._place(name) for name in self._sim.live()]
        *members, onlooker = everybody
        self.door: Etcd = self._sim.agents[onlooker.name].world.etcd
        self.places: list[Place] = list(members)
        self._record = self._sim.proclaim({each.name: each.peer_url for each in members})
        for place in members:
            self._start(place, "new")
        self._pass(10)

    def _place(self, name: InstanceId) -> SimPlace:
        return SimPlace(name, self._sim.machines[name].ip)

    def _start(self, place: SimPlace, state: str, beside: tuple[tuple[str, PeerUrl], ...] = ()) -> None:
        machine = self._sim.machines[place.name]
        machine.prepared = True
        founders = tuple((str(name), url) for name, url in self._record.founders.items())
        launch = Launch(place.name, place.peer_url, state, self._record.token, (*founders, *beside))
        self._sim.start_etcd(machine, launch)

    def _pass(self, seconds: float) -> None:
        for _ in range(int(seconds * 10)):
            self._sim.now += timedelta(seconds=0.1)
            self._sim.check()

    def spare(self) -> Place:
        return self._place(self._sim.launch())

    def join(self, place: Place) -> None:
        assert isinstance(place, SimPlace)
        self._start(place, "existing", ((place.name, place.peer_url),))

    def kill(self, place: Place) -> None:
        self._sim.kill_etcd(self._machine(place).id)

    def restart(self, place: Place) -> None:
        assert isinstance(place, SimPlace)
        self._start(place, "new")

    def _machine(self, place: Place) -> Machine:
        assert isinstance(place, SimPlace)
        return self._sim.machines[place.name]

    def raise_alarm(self, alarm: Alarm) -> None:
        self._sim.raise_alarm(alarm)

    def has_leader(self, place: Place) -> bool:
        return self._sim.agents[self._machine(place).id].world.etcd.has_leader(f"http://{self._machine(place).ip}:2381")

    def until(self, holds: Callable[[], bool], complaint: str) -> None:
        for _ in range(A_MOMENT * 10):
            if holds():
                return
            self._pass(0.1)
        raise AssertionError(complaint)


Grounds = Callable[[int], Ground]
BOTH = [pytest.param("real", marks=pytest.mark.etcd), "simulated"]


@pytest.fixture(scope="module", params=BOTH)
def grounds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grounds]:
    """A cluster of each size, made where it is first asked for; who hurts one leaves it as it was."""
    made: dict[int, Ground] = {}
    endings: list[Callable[[], object]] = []

    def of(size: int) -> Ground:
        if size not in made and request.param == "simulated":
            made[size] = Simulated(size)
        elif size not in made:
            context = running(etcd_versions.default().etcd, tmp_path_factory.mktemp(f"parity-{size}"), size)
            ground = Real(context.__enter__())
            made[size] = ground
            endings.extend((partial(context.__exit__, None, None, None), ground.door.close))  # type: ignore[attr-defined]
        return made[size]

    yield of
    for end in reversed(endings):
        end()


@pytest.fixture
def three(grounds: Grounds) -> Iterator[Ground]:
    """Three voters; who joins in a test is gone after it."""
    ground = grounds(3)
    yield ground
    ours = {each.peer_url for each in ground.places}
    for member in listed(ground, ground.places[0]).members:
        if not ours.intersection(member.peer_urls):
            ground.door.remove(ground.places[0].client_url, member.id)


@pytest.fixture
def five(grounds: Grounds) -> Ground:
    return grounds(5)


def leader_first(ground: Ground) -> list[Place]:
    return sorted(ground.places, key=lambda each: not ground.door.status(each.client_url).leads)


def member_at(ground: Ground, place: Place) -> MemberId:
    return ground.door.status(place.client_url).member_id


def refused(attempt: Callable[[], object], why: str) -> None:
    with pytest.raises(Refused, match=why):
        attempt()


def unanswered(attempt: Callable[[], object]) -> None:
    """It may happen yet, when the others come back."""
    with pytest.raises(Unavailable) as caught:
        attempt()
    assert caught.value.unknown.why in {Ignorance.TIMEOUT, Ignorance.FAILED, Ignorance.UNREACHABLE}


def add(ground: Ground, asked: Place, url: PeerUrl) -> MemberId:
    """Once whoever is asked has been connected to the others for five seconds."""
    added: list[MemberId] = []
    ground.until(
        lambda: takes(lambda: added.append(ground.door.add_learner(asked.client_url, url)), "unhealthy|same second"),
        "never added",
    )
    return added[0]


def takes(change: Callable[[], object], not_yet: str) -> bool:
    """Whether it is done; a refusal of another kind is a failure."""
    try:
        change()
    except Refused as refusal:
        assert any(each in str(refusal) for each in not_yet.split("|")), refusal
        return False
    return True


def answers(ground: Ground, place: Place) -> bool:
    try:
        return ground.door.status(place.client_url).leader is not None
    except Unavailable:
        return False


def listed(ground: Ground, asked: Place) -> Membership:
    return ground.door.membership(asked.client_url)


def restored(ground: Ground, *places: Place) -> None:
    """Those that were killed are back, and everybody answers."""
    for place in places:
        ground.restart(place)
    ground.until(lambda: all(answers(ground, each) for each in ground.places), "not back")


# ---- a healthy cluster


def test_every_member_tells_the_same_list_and_leader(three: Ground) -> None:
    said = [three.door.status(each.client_url) for each in three.places]
    assert len({each.member_id for each in said}) == 3
    assert len({(each.cluster_id, each.leader) for each in said}) == 1
    assert [each.leads for each in said].count(True) == 1
    for status in said:
        assert not status.is_learner
        assert status.errors == ()
        assert 0 < status.applied_index <= status.committed_index
    lists = [listed(three, each) for each in three.places]
    assert [each.via for each in lists] == [each.client_url for each in three.places]
    assert len({frozenset(each.members) for each in lists}) == 1
    for place, status in zip(three.places, said, strict=True):
        entry = lists[0].find(status.member_id)
        assert entry is not None
        assert (entry.peer_urls, entry.client_urls) == ((place.peer_url,), (place.client_url,))
        assert entry.started
    entries = {MemberEntry(each.id, each.name, each.peer_urls, each.is_learner) for each in lists[0].members}
    for place in three.places:
        three.until(partial(knows, three, place, entries), "is behind")
        assert three.has_leader(place)


def knows(ground: Ground, place: Place, entries: set[MemberEntry]) -> bool:
    return set(ground.door.members_locally(place.client_url)) == entries


def test_the_life_of_a_learner(three: Ground) -> None:
    leader, follower, _ = leader_first(three)
    newcomer = three.spare()
    learner = add(three, follower, newcomer.peer_url)
    entry = listed(three, leader).find(learner)
    assert entry is not None
    assert (entry.name, entry.peer_urls, entry.client_urls, entry.is_learner) == ("", (newcomer.peer_url,), (), True)
    refused(lambda: three.door.add_learner(leader.client_url, PeerUrl("http://127.0.0.1:23800")), "too many learner")
    refused(
        lambda: three.door.add_learner(leader.client_url, newcomer.peer_url),
        "Peer URLs already exists|member ID already exist",
    )
    refused(lambda: three.door.promote(leader.client_url, learner), "in sync with leader")
    with pytest.raises(Unavailable):
        three.door.status(newcomer.client_url)

    three.join(newcomer)
    three.until(lambda: answers(three, newcomer), "the learner never answered")
    assert three.door.status(newcomer.client_url).is_learner
    refused(lambda: listed(three, newcomer), "not supported for learner")
    three.until(
        lambda: takes(lambda: three.door.promote(leader.client_url, learner), "in sync with leader"), "never in sync"
    )
    three.until(lambda: not three.door.status(newcomer.client_url).is_learner, "does not know of its vote")
    entry = listed(three, newcomer).find(learner)
    assert entry is not None
    assert entry.started
    assert entry.client_urls == (newcomer.client_url,)
    refused(lambda: three.door.promote(leader.client_url, learner), r"can only promote a learner member$")

    three.until(lambda: takes(lambda: three.door.remove(follower.client_url, learner), "unhealthy"), "never removed")
    assert listed(three, follower).find(learner) is None
    refused(lambda: three.door.remove(leader.client_url, learner), "member not found")
    refused(lambda: three.door.promote(leader.client_url, learner), "member not found")
    three.until(lambda: is_gone(three, newcomer), "the removed member serves on")
    three.kill(newcomer)
    three.restart(newcomer)
    three.until(lambda: is_gone(three, newcomer), "the removed member is back")


def is_gone(ground: Ground, place: Place) -> bool:
    """Nobody listens there any more: a removed member ends, and ends again when it is started on its data."""
    try:
        ground.door.status(place.client_url)
    except Unavailable as silent:
        return silent.unknown.why is Ignorance.UNREACHABLE
    return False


def test_an_address_is_one_members(three: Ground) -> None:
    asked, other, _ = three.places
    learner = add(three, asked, PeerUrl("http://127.0.0.1:23801"))
    door, endpoint = three.door, asked.client_url
    refused(lambda: door.add_learner(endpoint, other.peer_url), "Peer URLs already exists")
    refused(lambda: door.update_peer_url(endpoint, member_at(three, asked), other.peer_url), "Peer URLs already exists")
    refused(lambda: door.update_peer_url(endpoint, MemberId(1), PeerUrl("http://127.0.0.1:23802")), "member not found")
    refused(lambda: door.remove(endpoint, MemberId(1)), "member not found")
    assert listed(three, other).at(PeerUrl("http://127.0.0.1:23801"))[0].id == learner


def test_an_id_that_was_removed_is_never_taken_again(three: Ground) -> None:
    """etcd makes it of the address and the second."""
    asked, url = three.places[0], PeerUrl("http://127.0.0.1:23803")
    taken = set()
    for _ in range(3):
        learner = add(three, asked, url)
        assert learner not in taken
        taken.add(learner)
        three.door.remove(asked.client_url, learner)
        assert listed(three, asked).at(url) == ()


def test_a_learner_whose_address_is_updated_votes_unasked(three: Ground) -> None:
    """Which is why nobody does that: etcd before 3.5.31 takes the update for the whole entry."""
    asked = three.places[0]
    learner = add(three, asked, PeerUrl("http://127.0.0.1:23810"))
    three.door.update_peer_url(asked.client_url, learner, PeerUrl("http://127.0.0.1:23811"))
    entry = listed(three, asked).find(learner)
    assert entry is not None
    assert not entry.is_learner


def test_alarms_are_raised_told_and_taken_back(three: Ground) -> None:
    asked = three.places[0]
    alarm = Alarm(member_at(three, asked), AlarmKind.NOSPACE)
    assert three.door.alarms(asked.client_url) == ()
    three.raise_alarm(alarm)
    assert three.door.alarms(asked.client_url) == (alarm,)
    assert any("NOSPACE" in each for each in three.door.status(asked.client_url).errors)
    learner = add(three, asked, PeerUrl("http://127.0.0.1:23804"))
    three.door.remove(asked.client_url, learner)
    three.door.disarm(asked.client_url, alarm)
    three.door.disarm(asked.client_url, alarm)
    assert three.door.alarms(asked.client_url) == ()
    assert three.door.status(asked.client_url).errors == ()


def test_history_is_dropped_once_and_a_database_is_defragmented(three: Ground) -> None:
    asked = three.places[0].client_url
    revision = three.door.status(asked).revision
    three.door.compact(asked, revision)
    three.door.compact(asked, revision)
    refused(lambda: three.door.compact(asked, revision + 1_000_000), "future revision")
    three.door.defragment(asked)
    after = three.door.status(asked)
    assert 0 < after.db_size_in_use_bytes <= after.db_size_bytes < after.db_size_in_use_bytes + 1_000_000
    assert after.leader is not None


# ---- without one, without two


def test_with_one_of_three_down_nobody_is_added_and_only_that_one_can_be_removed(three: Ground) -> None:
    leader, other, down = leader_first(three)
    dead, alive = member_at(three, down), member_at(three, other)
    add_and_remove(three, leader)
    three.kill(down)
    three.until(lambda: not answers(three, down), "still answers")
    for asked in (leader, other):
        assert len(listed(three, asked).voters) == 3
        refused(lambda asked=asked: three.door.add_learner(asked.client_url, three.spare().peer_url), "unhealthy")  # type: ignore[misc]
        refused(lambda asked=asked: three.door.remove(asked.client_url, alive), "unhealthy")  # type: ignore[misc]
    moved = PeerUrl(down.peer_url.replace("2380", "2390"))
    three.door.update_peer_url(leader.client_url, dead, moved)
    entry = listed(three, other).find(dead)
    assert entry is not None
    assert (entry.peer_urls, entry.name) == ((moved,), entry.name)
    three.door.update_peer_url(leader.client_url, dead, down.peer_url)
    restored(three, down)
    assert member_at(three, down) == dead


def add_and_remove(ground: Ground, asked: Place) -> None:
    """So that everybody has been connected for five seconds."""
    ground.door.remove(asked.client_url, add(ground, asked, PeerUrl("http://127.0.0.1:23805")))


def test_without_a_quorum_a_member_talks_of_itself_and_nothing_is_certain(three: Ground) -> None:
    survivor, *others = reversed(leader_first(three))
    door, endpoint = three.door, survivor.client_url
    now = {each.id for each in listed(three, survivor).members}
    three.until(lambda: {each.id for each in door.members_locally(endpoint)} == now, "has an older list")
    before, lost, entries = door.status(endpoint), member_at(three, others[0]), set(door.members_locally(endpoint))
    for place in others:
        three.kill(place)
    three.until(lambda: door.status(endpoint).leader is None, "still sees a leader")
    status = door.status(endpoint)
    assert (status.member_id, status.cluster_id) == (before.member_id, before.cluster_id)
    assert any("no leader" in each for each in status.errors)
    assert not three.has_leader(survivor)
    assert set(door.members_locally(endpoint)) == entries
    unanswered(lambda: listed(three, survivor))
    unanswered(lambda: door.alarms(endpoint))
    unanswered(lambda: door.remove(endpoint, lost))
    unanswered(lambda: door.promote(endpoint, lost))
    unanswered(lambda: door.update_peer_url(endpoint, lost, PeerUrl("http://127.0.0.1:23806")))
    refused(lambda: door.remove(endpoint, before.member_id), "unhealthy")
    refused(lambda: door.add_learner(endpoint, PeerUrl("http://127.0.0.1:23807")), "unhealthy")

    three.kill(survivor)
    three.restart(survivor)
    three.until(lambda: says(lambda: not three.has_leader(survivor)), "says nothing at its metrics port")
    with pytest.raises(Unavailable):
        door.status(endpoint)
    with pytest.raises(Unavailable):
        door.members_locally(endpoint)

    restored(three, *others)
    assert {each.id for each in listed(three, survivor).members} == {each.id for each in entries}
    assert three.has_leader(survivor)


def says(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except Unavailable:
        return False


def test_of_five_one_may_be_down_for_somebody_to_be_added_and_two_may_not(five: Ground) -> None:
    leader, other, third, fourth, fifth = leader_first(five)
    add_and_remove(five, leader)
    healthy, dead = member_at(five, third), member_at(five, fifth)
    five.kill(fifth)
    five.until(lambda: not answers(five, fifth), "still answers")
    learner = five.door.add_learner(other.client_url, PeerUrl("http://127.0.0.1:23808"))
    five.door.remove(other.client_url, learner)
    five.kill(fourth)
    five.until(lambda: not answers(five, fourth), "still answers")
    refused(lambda: five.door.add_learner(other.client_url, PeerUrl("http://127.0.0.1:23809")), "unhealthy")
    refused(lambda: five.door.remove(leader.client_url, healthy), "unhealthy")
    five.door.remove(leader.client_url, dead)
    assert len(listed(five, other).voters) == 4
    five.door.remove(leader.client_url, healthy)
    assert len(listed(five, other).voters) == 3, "the last three of which one may be down"
