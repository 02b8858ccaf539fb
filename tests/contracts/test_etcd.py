"""The contract of `agent.world.doors.Etcd` on real etcd: what it answers, refuses, and admits not to know.

Each story runs on every etcd version at hand. Stories that hurt a cluster have one of their own.
"""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.model.cluster import Alarm, AlarmKind, Member, Membership, MemberStatus
from agent.model.faults import Refused, Unavailable
from agent.model.ids import ClientUrl, MemberId, PeerUrl
from agent.model.known import Ignorance, Unknown
from agent.model.members import MemberEntry
from agent.world.doors import Etcd
from agent.world.etcd import Deadlines, EtcdDoor
from agent.world.etcd_channels import MAX_CHANNELS, TlsFiles
from agent.world.etcd_metrics import sync_histogram
from tests.contracts.etcd_cluster import Cluster, Server, ServerTls, raise_alarm, running, turn_auth_on, wait_until
from tests.contracts.etcd_files import put
from tests.contracts.tls_material import Authority, Pair
from tests.etcd_versions import EtcdVersion

pytestmark = pytest.mark.etcd

DEADLINES = Deadlines(status=timedelta(seconds=1), read=timedelta(seconds=1.5), change=timedelta(seconds=5))
NOBODY = ClientUrl("http://127.0.0.1:9")
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Heard:
    """What the metrics would hear."""

    calls: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, method: str, result: str, seconds: float) -> None:
        assert 0 <= seconds < 20
        self.calls.append((method, result))


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def door(heard: Heard) -> Iterator[EtcdDoor]:
    door = EtcdDoor(deadlines=DEADLINES, on_call=heard)
    yield door
    door.close()


@pytest.fixture(scope="module")
def shared(version: EtcdVersion, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(version.etcd, tmp_path_factory.mktemp("shared"), 3) as cluster:
        yield cluster


@pytest.fixture
def three(shared: Cluster, door: Etcd) -> Iterator[Cluster]:
    """Three voters, serving; who joins in a story is gone after it."""
    yield shared
    ours = {server.peer_url for server in shared.servers}
    for member in door.membership(shared.servers[0].client_url).members:
        if not ours.intersection(member.peer_urls):
            door.remove(shared.servers[0].client_url, member.id)


@pytest.fixture
def own_three(version: EtcdVersion, tmp_path: Path) -> Iterator[Cluster]:
    """Three voters to be hurt."""
    with running(version.etcd, tmp_path, 3) as cluster:
        yield cluster


@pytest.fixture
def single(version: EtcdVersion, tmp_path: Path) -> Iterator[Cluster]:
    with running(version.etcd, tmp_path, 1) as cluster:
        yield cluster


def leader_first(door: Etcd, cluster: Cluster) -> list[Server]:
    """The servers, the leader's in front."""
    return sorted(cluster.servers, key=lambda server: not door.status(server.client_url).leads)


def add_when_settled(door: Etcd, endpoint: ClientUrl, peer_url: PeerUrl) -> MemberId:
    """etcd adds nobody before the members were connected for 5 s, nor an ID that it just removed."""
    added: list[MemberId] = []
    expected = ("unhealthy cluster", "same second")
    wait_until(
        lambda: succeeds(lambda: added.append(door.add_learner(endpoint, peer_url)), expected), 12, "never added", 0.2
    )
    return added[0]


def succeeds(attempt: Callable[[], None], expected: tuple[str, ...]) -> bool:
    """Whether it was not refused; a refusal of another kind than expected is a failure."""
    try:
        attempt()
    except Refused as refusal:
        if not any(text in str(refusal) for text in expected):
            raise
        return False
    return True


def promote_when_in_sync(door: Etcd, endpoint: ClientUrl, member: MemberId) -> None:
    expected = ("in sync with leader",)
    wait_until(lambda: succeeds(lambda: door.promote(endpoint, member), expected), 10, "never in sync", 0.1)


def find(membership: Membership, member: MemberId) -> Member:
    found = membership.find(member)
    assert found is not None
    return found


# ---- a healthy cluster ------------------------------------------------------------------------------------------


def test_every_member_tells_its_status(door: Etcd, three: Cluster, version: EtcdVersion, heard: Heard) -> None:
    endpoints = [server.client_url for server in three.servers]
    said = [door.status(endpoint) for endpoint in endpoints]
    assert len({status.member_id for status in said}) == 3
    assert len({status.cluster_id for status in said}) == 1
    assert len({status.leader for status in said}) == 1
    assert sum(status.leads for status in said) == 1
    for status in said:
        assert status.version == str(version)
        assert status.errors == ()
        assert not status.is_learner
        assert 0 < status.applied_index <= status.committed_index
        assert status.raft_term > 0
        assert 0 < status.db_size_in_use_bytes <= status.db_size_bytes
        assert status.revision >= 1
    assert heard.calls == [("Status", "ok")] * 3


def test_the_member_list_is_the_same_through_everybody(door: Etcd, three: Cluster, heard: Heard) -> None:
    lists = [door.membership(server.client_url) for server in three.servers]
    assert [each.via for each in lists] == [server.client_url for server in three.servers]
    assert len({frozenset(each.members) for each in lists}) == 1
    for server in three.servers:
        (member,) = lists[0].named(server.name)
        status = door.status(server.client_url)
        assert (status.member_id, status.cluster_id) == (member.id, lists[0].cluster_id)
        assert member == Member(status.member_id, server.name, (server.peer_url,), (server.client_url,))
    assert heard.calls[:2] == [("Range", "ok"), ("MemberList", "ok")]


def test_all_statuses_at_once_each_with_its_own_answer(door: Etcd, three: Cluster, heard: Heard) -> None:
    alive = [server.client_url for server in three.servers]
    strange, plain = ClientUrl("not a url"), ClientUrl("https://127.0.0.1:9")
    said = door.statuses([*alive, NOBODY, strange, plain])
    assert list(said) == [*alive, NOBODY, strange, plain]
    assert all(isinstance(said[endpoint], MemberStatus) for endpoint in alive)
    assert why(said[NOBODY]) is Ignorance.UNREACHABLE
    assert why(said[strange]) is Ignorance.MALFORMED
    assert why(said[plain]) is Ignorance.OURS  # https, and we have no CA
    assert sorted(heard.calls) == [("Status", "ok")] * 3 + [("Status", "unreachable")]
    assert door.statuses([]) == {}


def why(answer: MemberStatus | Unknown) -> Ignorance:
    assert isinstance(answer, Unknown)
    return answer.why


def test_a_cluster_of_one_takes_a_learner_and_lets_it_go(door: Etcd, single: Cluster) -> None:
    endpoint = single.servers[0].client_url
    assert door.status(endpoint).leads
    assert len(door.membership(endpoint).voters) == 1
    learner = add_when_settled(door, endpoint, single.spare().peer_url)
    assert [each.id for each in door.membership(endpoint).learners] == [learner]
    door.remove(endpoint, learner)
    assert len(door.membership(endpoint).members) == 1


# ---- membership -------------------------------------------------------------------------------------------------


def test_the_life_of_a_learner(door: Etcd, three: Cluster) -> None:
    leader, follower, _ = leader_first(door, three)
    newcomer = three.spare()
    learner = add_when_settled(door, follower.client_url, newcomer.peer_url)

    entry = find(door.membership(leader.client_url), learner)
    assert entry == Member(learner, "", (newcomer.peer_url,), (), is_learner=True)
    assert not entry.started
    with pytest.raises(Refused, match="too many learner members"):
        door.add_learner(leader.client_url, PeerUrl("http://127.0.0.1:23800"))
    with pytest.raises(Refused, match="in sync with leader"):
        door.promote(leader.client_url, learner)

    three.join(newcomer)
    wait_until(lambda: is_learner(door, newcomer.client_url), 10, "the learner never answered")
    with pytest.raises(Refused, match="rpc not supported for learner"):
        door.membership(newcomer.client_url)

    promote_when_in_sync(door, leader.client_url, learner)
    entry = find(door.membership(leader.client_url), learner)
    assert entry == Member(learner, newcomer.name, (newcomer.peer_url,), (newcomer.client_url,))
    wait_until(newcomer.healthy, 10, "the new voter never served")
    assert not door.status(newcomer.client_url).is_learner
    with pytest.raises(Refused, match="can only promote a learner member"):
        door.promote(leader.client_url, learner)

    door.remove(leader.client_url, learner)
    assert door.membership(follower.client_url).find(learner) is None
    with pytest.raises(Refused, match="member not found"):
        door.remove(leader.client_url, learner)
    with pytest.raises(Refused, match="member not found"):
        door.promote(leader.client_url, learner)
    newcomer.kill()


def is_learner(door: Etcd, endpoint: ClientUrl) -> bool:
    try:
        return door.status(endpoint).is_learner
    except Unavailable:
        return False


def test_a_url_removed_within_the_second_is_refused_and_taken_in_the_next(door: Etcd, three: Cluster) -> None:
    endpoint, url = three.servers[0].client_url, PeerUrl("http://127.0.0.1:23801")
    add_when_settled(door, endpoint, url)

    def refused_with_the_reason() -> bool:
        for member in door.membership(endpoint).at(url):
            door.remove(endpoint, member.id)
        reason = "member not found: this URL's last member was removed within the same second"
        return not succeeds(lambda: void(door.add_learner(endpoint, url)), (reason,))  # or the second just turned

    wait_until(refused_with_the_reason, 5, "never refused")
    time.sleep(1.1)
    assert door.membership(endpoint).at(url) == ()
    assert door.add_learner(endpoint, url)


def void(_: object) -> None: ...


def test_an_address_is_one_members(door: Etcd, three: Cluster) -> None:
    endpoint, taken = three.servers[0].client_url, three.servers[1].peer_url
    settled = add_when_settled(door, endpoint, PeerUrl("http://127.0.0.1:23802"))
    door.remove(endpoint, settled)
    with pytest.raises(Refused, match="Peer URLs already exists"):
        door.add_learner(endpoint, taken)
    with pytest.raises(Refused, match="Peer URLs already exists"):
        door.update_peer_url(endpoint, door.status(endpoint).member_id, taken)
    with pytest.raises(Refused, match="given member URLs are invalid"):
        door.add_learner(endpoint, PeerUrl("no url"))
    with pytest.raises(Refused, match="member not found"):
        door.update_peer_url(endpoint, MemberId(1), PeerUrl("http://127.0.0.1:23803"))


def test_a_member_that_moved_gets_its_new_address(door: Etcd, own_three: Cluster) -> None:
    _, moving, witness = leader_first(door, own_three)
    member = door.status(moving.client_url).member_id
    new_home = PeerUrl(moving.peer_url.replace("2380", "2390"))
    moving.kill()
    door.update_peer_url(witness.client_url, member, new_home)
    assert find(door.membership(witness.client_url), member).peer_urls == (new_home,)


def test_a_member_that_ended_can_be_removed_and_nobody_added_before(door: Etcd, own_three: Cluster) -> None:
    leader, lost, other = leader_first(door, own_three)
    member, healthy = door.status(lost.client_url).member_id, door.status(other.client_url).member_id
    lost.kill()
    with pytest.raises(Refused, match="unhealthy cluster"):
        door.add_learner(leader.client_url, own_three.spare().peer_url)
    with pytest.raises(Refused, match=r"unhealthy cluster|not enough started members"):
        door.remove(leader.client_url, healthy)
    door.remove(leader.client_url, member)
    assert [each.name for each in sorted(door.membership(other.client_url).members, key=lambda each: each.name)] == (
        sorted([leader.name, other.name])
    )


# ---- members that do not answer ---------------------------------------------------------------------------------


def test_a_frozen_member_costs_one_deadline_and_answers_when_thawed(door: Etcd, three: Cluster) -> None:
    _, frozen, other = leader_first(door, three)
    door.status(frozen.client_url)  # the channel is established: without a deadline it would hang for ever
    frozen.freeze()
    try:
        started = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            door.status(frozen.client_url)
        assert caught.value.unknown.why is Ignorance.TIMEOUT
        said = door.statuses([frozen.client_url, other.client_url])
        assert why(said[frozen.client_url]) is Ignorance.TIMEOUT
        assert isinstance(said[other.client_url], MemberStatus)
        with pytest.raises(Unavailable) as caught:
            door.membership(frozen.client_url)
        assert caught.value.unknown.why is Ignorance.TIMEOUT
        assert time.monotonic() - started < 1 + 1 + 1.5 + 1
        assert len(door.membership(other.client_url).voters) == 3
    finally:
        frozen.thaw()
    wait_until(lambda: answers(door, frozen.client_url), 2, "frozen still")


def answers(door: Etcd, endpoint: ClientUrl) -> bool:
    try:
        return door.status(endpoint).leader is not None
    except Unavailable:
        return False


def test_a_killed_member_is_unreachable_and_back_within_a_second(door: Etcd, own_three: Cluster) -> None:
    _, victim, other = leader_first(door, own_three)
    victim.kill()
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            door.status(victim.client_url)
        assert caught.value.unknown.why is Ignorance.UNREACHABLE
    assert len(door.membership(other.client_url).voters) == 3
    time.sleep(3)  # long enough for gRPC's backoff to reach its maximum
    victim.start(own_three.servers)
    wait_until(victim.healthy, 10, "not restarted")
    started = time.monotonic()
    wait_until(lambda: answers(door, victim.client_url), 5, "still down for us")
    assert time.monotonic() - started < 1.5


def test_without_a_quorum_a_member_talks_of_itself_and_nothing_is_certain(door: Etcd, own_three: Cluster) -> None:
    survivor, *others = reversed(leader_first(door, own_three))
    before, lost = door.status(survivor.client_url), door.status(others[0].client_url).member_id
    for server in others:
        server.kill()
    wait_until(lambda: door.status(survivor.client_url).leader is None, 5, "still sees a leader")
    status = door.status(survivor.client_url)
    assert (status.member_id, status.cluster_id) == (before.member_id, before.cluster_id)
    assert any("no leader" in error for error in status.errors)
    with pytest.raises(Unavailable) as caught:
        door.membership(survivor.client_url)
    assert caught.value.unknown.why in {Ignorance.TIMEOUT, Ignorance.FAILED}
    with pytest.raises(Unavailable) as caught:  # it may happen yet, when the others come back
        door.remove(survivor.client_url, lost)
    assert caught.value.unknown.why in {Ignorance.TIMEOUT, Ignorance.FAILED}


def test_restarted_without_a_quorum_only_the_peer_port_answers(door: Etcd, own_three: Cluster) -> None:
    survivor, *others = own_three.servers
    before = door.status(survivor.client_url)
    for server in [survivor, *others]:
        server.kill()
    survivor.start(own_three.servers)
    at_the_peer_port = ClientUrl(survivor.peer_url)

    def back() -> bool:
        said = door.statuses([at_the_peer_port])[at_the_peer_port]
        return isinstance(said, MemberStatus) and said.member_id == before.member_id and said.leader is None

    wait_until(back, 10, "silent at its peer port, too")
    with pytest.raises(Unavailable) as caught:
        door.status(survivor.client_url)
    assert caught.value.unknown.why in {Ignorance.TIMEOUT, Ignorance.UNREACHABLE}


# ---- what is wrong on our side ------------------------------------------------------------------------------------


@dataclass
class Secured:
    """A cluster of one behind TLS, and the authorities around it."""

    cluster: Cluster
    ours: Authority
    others: Authority
    folder: Path

    @property
    def endpoint(self) -> ClientUrl:
        return self.cluster.servers[0].client_url

    def door(self, ca: Authority | Path, pair: Pair | None = None) -> EtcdDoor:
        path = ca if isinstance(ca, Path) else ca.cert
        files = TlsFiles(path, pair.cert, pair.key) if pair else TlsFiles(path)
        return EtcdDoor(tls=files, deadlines=DEADLINES)

    def says_ours(self, door: EtcdDoor, endpoint: ClientUrl | None = None) -> None:
        """Twice, because the second failure may come from gRPC's memory of the first."""
        for _ in range(2):
            with pytest.raises(Unavailable) as caught:
                door.status(endpoint or self.endpoint)
            assert caught.value.unknown.why is Ignorance.OURS, caught.value
        door.close()


def secured(
    binary: Path, folder: Path, asks_for_certificates: bool = False, make: Callable[..., Pair] = Authority.issue
) -> Iterator[Secured]:
    ours, others = Authority(folder, "ours"), Authority(folder, "others")

    def server_tls(addresses: tuple[str, ...]) -> ServerTls:
        return ServerTls(make(ours, "server", addresses), ours.cert if asks_for_certificates else None)

    data = folder / "data"
    data.mkdir()
    with running(binary, data, 1, server_tls) as cluster:
        yield Secured(cluster, ours, others, folder)


@pytest.fixture(scope="module")
def tls(version: EtcdVersion, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    yield from secured(version.etcd, tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def mutual_tls(version: EtcdVersion, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    yield from secured(version.etcd, tmp_path_factory.mktemp("mutual"), asks_for_certificates=True)


def test_the_right_files_open_the_door(tls: Secured, mutual_tls: Secured) -> None:
    for secured_by, pair in ((tls, None), (mutual_tls, mutual_tls.ours.issue("client"))):
        door = secured_by.door(secured_by.ours, pair)
        assert door.status(secured_by.endpoint).leads
        assert len(door.membership(secured_by.endpoint).voters) == 1
        door.close()


def test_another_authoritys_server_is_our_failure(tls: Secured) -> None:
    tls.says_ours(tls.door(tls.others))


HANDSHAKE = """
import sys
from pathlib import Path
from agent.world.etcd import EtcdDoor, TlsFiles
print(EtcdDoor(TlsFiles(Path(sys.argv[1]))).statuses([sys.argv[2]])[sys.argv[2]].why)
"""


def test_a_failed_handshake_is_an_error_and_no_line_on_stderr(tls: Secured) -> None:
    """In a process of its own, where ours is the first import of gRPC and every warning an error."""
    command = [sys.executable, "-W", "error", "-c", HANDSHAKE, str(tls.others.cert), tls.endpoint]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (done.stdout.strip(), done.stderr) == ("ours", "")


def test_files_that_are_none_are_our_failure(tls: Secured, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("not a certificate")
    one, other = tls.ours.issue("one"), tls.ours.issue("other")
    tls.says_ours(tls.door(tmp_path / "missing.pem"))
    tls.says_ours(tls.door(garbage))
    tls.says_ours(tls.door(tls.ours, Pair(one.cert, other.key)))


def test_the_wrong_kind_of_port_is_our_failure(tls: Secured, three: Cluster) -> None:
    tls.says_ours(EtcdDoor(), ClientUrl(tls.endpoint.replace("https", "http")))
    tls.says_ours(tls.door(tls.ours), ClientUrl(three.servers[0].client_url.replace("http", "https")))
    tls.says_ours(EtcdDoor(), ClientUrl(three.servers[0].client_url.replace("2379", "2381")))  # metrics


def test_a_certificate_that_etcd_refuses_is_our_failure(mutual_tls: Secured) -> None:
    expired = mutual_tls.ours.issue("expired", valid=timedelta(minutes=-5))
    for pair in (None, mutual_tls.others.issue("stranger"), expired):
        mutual_tls.says_ours(mutual_tls.door(mutual_tls.ours, pair))


def test_a_server_certificate_that_ended_or_is_for_elsewhere_is_our_failure(
    version: EtcdVersion, tmp_path: Path
) -> None:
    def expired(authority: Authority, name: str, addresses: tuple[str, ...]) -> Pair:
        return authority.issue(name, addresses, valid=timedelta(minutes=-5))

    def elsewhere(authority: Authority, name: str, addresses: tuple[str, ...]) -> Pair:
        return authority.issue(name, ("127.1.1.1",))

    for make in (expired, elsewhere):
        folder = tmp_path / make.__name__
        folder.mkdir()
        for site in secured(version.etcd, folder, make=make):
            site.says_ours(site.door(site.ours))


def test_new_files_are_taken_up_without_a_restart(tls: Secured, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(tls.others.cert.read_bytes())
    door = tls.door(ca)
    with pytest.raises(Unavailable):
        door.status(tls.endpoint)
    ca.write_bytes(tls.ours.cert.read_bytes())
    assert door.status(tls.endpoint).leads
    door.close()


def test_renewing_files_under_other_threads_calls_raises_nothing_foreign(tls: Secured, tmp_path: Path) -> None:
    ca, stop, strange = tmp_path / "ca.pem", threading.Event(), list[BaseException]()
    ca.write_bytes(tls.ours.cert.read_bytes())
    door = tls.door(ca)

    def ask() -> None:
        while not stop.is_set():
            try:
                door.statuses([tls.endpoint])
                door.status(tls.endpoint)
            except Unavailable as fault:
                if fault.unknown.why is Ignorance.OURS:
                    strange.append(fault)
            except BaseException as error:  # noqa: BLE001 - that there is none is the point
                strange.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(15):
        renewed = tmp_path / "renewed.pem"
        renewed.write_bytes(tls.ours.cert.read_bytes())
        renewed.replace(ca)
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    door.close()
    assert strange == []


def test_authentication_that_does_not_know_us_is_our_failure(version: EtcdVersion, tmp_path: Path) -> None:
    for site in secured(version.etcd, tmp_path, asks_for_certificates=True):
        root, stranger = site.ours.issue("root"), site.ours.issue("stranger")
        turn_auth_on(version.etcdctl, site.endpoint, site.ours.cert, root)
        door = site.door(site.ours, root)
        assert len(door.membership(site.endpoint).voters) == 1
        learner = door.add_learner(site.endpoint, PeerUrl("http://127.0.0.1:23804"))
        door.close()
        door = site.door(site.ours, stranger)
        with pytest.raises(Unavailable) as caught:
            door.membership(site.endpoint)
        assert caught.value.unknown.why is Ignorance.OURS
        with pytest.raises(Unavailable) as caught:
            door.remove(site.endpoint, learner)
        assert caught.value.unknown.why is Ignorance.OURS
        door.close()


# ---- alarms -------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_and_membership_goes_on(door: Etcd, single: Cluster) -> None:
    endpoint = single.servers[0].client_url
    raise_alarm(endpoint, door.status(endpoint).member_id, "NOSPACE")
    assert any("NOSPACE" in error for error in door.status(endpoint).errors)
    learner = add_when_settled(door, endpoint, single.spare().peer_url)
    door.remove(endpoint, learner)


def test_a_corrupt_cluster_is_told_by_status_alone(door: Etcd, single: Cluster) -> None:
    endpoint = single.servers[0].client_url
    raise_alarm(endpoint, door.status(endpoint).member_id, "CORRUPT")
    assert any("CORRUPT" in error for error in door.status(endpoint).errors)
    assert len(door.membership(endpoint).voters) == 1  # only writes are refused


def test_alarms_are_listed_by_whoever_raised_them_and_taken_back(door: Etcd, single: Cluster) -> None:
    endpoint = single.servers[0].client_url
    assert door.alarms(endpoint) == ()
    raised = {Alarm(MemberId(0xDEAD), AlarmKind.NOSPACE), Alarm(door.status(endpoint).member_id, AlarmKind.CORRUPT)}
    for alarm in raised:
        raise_alarm(endpoint, alarm.member, alarm.kind)
    assert set(door.alarms(endpoint)) == raised
    for alarm in raised:
        door.disarm(endpoint, alarm)
        door.disarm(endpoint, alarm)
    assert door.alarms(endpoint) == ()


# ---- room ---------------------------------------------------------------------------------------------------------


def test_history_is_compacted_and_a_defragmented_database_is_what_is_in_use(
    door: EtcdDoor, single: Cluster, heard: Heard
) -> None:
    endpoint = single.servers[0].client_url
    for _ in range(3):
        put(endpoint, [f"k{number}" for number in range(20)], b"x" * 100_000)
    wait_until(lambda: door.status(endpoint).db_size_bytes > 6_000_000, 5, "nothing was stored")
    full = door.status(endpoint)
    door.compact(endpoint, full.revision)
    door.compact(endpoint, full.revision)
    with pytest.raises(Refused, match="future revision"):
        door.compact(endpoint, full.revision + 1)
    wait_until(lambda: is_freed(door, endpoint), 10, "nothing was freed")
    assert door.status(endpoint).db_size_bytes >= full.db_size_bytes, "the disk has nothing of it yet"
    door.defragment(endpoint)
    after = door.status(endpoint)
    assert after.db_size_bytes < 4_000_000
    assert door.count_keys(endpoint, 0) == 20
    assert {("Compact", "ok"), ("Compact", "refused"), ("Defragment", "ok")} <= set(heard.calls)


def is_freed(door: Etcd, endpoint: ClientUrl) -> bool:
    """etcd 3.4 counts only when it writes."""
    put(endpoint, ["k0"])
    return door.status(endpoint).db_size_in_use_bytes < 3_000_000


def test_whoever_does_not_answer_is_not_known_to_be_defragmented(heard: Heard) -> None:
    impatient = EtcdDoor(deadlines=replace(DEADLINES, defragment=timedelta(seconds=0.5)), on_call=heard)
    with pytest.raises(Unavailable):
        impatient.defragment(NOBODY)
    impatient.close()


# ---- one member's own word, and its data ---------------------------------------------------------------------------


def test_a_member_alone_lists_what_it_knows_and_its_metrics_say_that_nobody_leads(
    door: Etcd, own_three: Cluster
) -> None:
    survivor, *others = own_three.servers
    metrics, endpoint = f"http://{survivor.address}:2381", survivor.client_url
    members = {MemberEntry(each.id, each.name, each.peer_urls) for each in door.membership(endpoint).members}
    assert set(door.members_locally(endpoint)) == members
    assert door.has_leader(metrics)
    syncs = sync_histogram(metrics, timedelta(seconds=2))
    assert syncs[float("inf")] == max(syncs.values()) > 0
    for server in others:
        server.kill()
    wait_until(lambda: not door.has_leader(metrics), 5, "still sees a leader")
    assert set(door.members_locally(endpoint)) == members
    survivor.kill()
    with pytest.raises(Unavailable) as caught:
        door.has_leader(metrics)
    assert caught.value.unknown.why is Ignorance.UNREACHABLE
    survivor.start(own_three.servers)
    wait_until(lambda: says(lambda: not door.has_leader(metrics)), 5, "says nothing at its metrics port")


def says(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except Unavailable:
        return False


@pytest.mark.parametrize(
    "page", [b"", b"HTTP/1.1 200 OK\r\n\r\nx 1\n", b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n"]
)
def test_a_metrics_port_that_is_none_is_unavailable_within_its_deadline(door: Etcd, page: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as port:
        threading.Thread(target=answer_once, args=(port, page), daemon=True).start()
        started = time.monotonic()
        with pytest.raises(Unavailable):
            door.has_leader(f"http://127.0.0.1:{port.getsockname()[1]}")
        assert time.monotonic() - started < 2
    with pytest.raises(Unavailable):
        door.has_leader("no url")


def answer_once(port: socket.socket, page: bytes) -> None:
    connection, _ = port.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(page)
        if not page:
            time.sleep(1.5)  # says nothing, and stays for longer than the deadline


def test_a_snapshot_is_the_database_and_its_digest_also_without_a_quorum(
    own_three: Cluster, door: EtcdDoor, heard: Heard
) -> None:
    survivor, *others = own_three.servers
    put(survivor.client_url, [f"k{number}" for number in range(20)], b"x" * 10_000)
    revision = door.status(survivor.client_url).revision
    wait_until(lambda: {door.status(each.client_url).revision for each in own_three.servers} == {revision}, 5, "behind")
    digests = {door.hash_kv(server.client_url, revision) for server in own_three.servers}
    assert len(digests) == 1
    for server in others:
        server.kill()
    heard.calls.clear()
    content = b"".join(door.snapshot(survivor.client_url))
    assert len(content) % 512 == 32
    assert hashlib.sha256(content[:-32]).digest() == content[-32:]
    assert door.count_keys(survivor.client_url, revision) == 20
    assert door.count_keys(survivor.client_url, revision - 5) == 15
    assert digests == {door.hash_kv(survivor.client_url, revision)}
    assert heard.calls[0] == ("Snapshot", "ok")
    with pytest.raises(Refused, match="future revision"):
        door.count_keys(survivor.client_url, revision + 1)


def test_a_snapshot_that_is_let_go_of_early_ends_its_call(single: Cluster, door: EtcdDoor, heard: Heard) -> None:
    endpoint, threads = single.servers[0].client_url, threading.active_count()
    put(endpoint, [f"k{number}" for number in range(20)], b"x" * 100_000)
    stream = door.snapshot(endpoint)
    assert next(stream)
    stream.close()
    assert heard.calls == [("Snapshot", "ok")]
    wait_until(lambda: threading.active_count() <= threads + 1, 5, "something of it runs on")
    assert door.status(endpoint).leads


def test_a_snapshot_that_stands_still_is_given_up_and_one_that_is_read_slowly_is_not(
    version: EtcdVersion, tmp_path: Path
) -> None:
    door = EtcdDoor(deadlines=Deadlines(progress=timedelta(seconds=1)))
    with running(version.etcd, tmp_path, 1) as cluster:
        server = cluster.servers[0]
        put(server.client_url, [f"k{number}" for number in range(50)], b"x" * 1_000_000)  # more than all buffers hold
        stream = door.snapshot(server.client_url)
        next(stream)
        time.sleep(2)
        next(stream)
        server.freeze()
        try:
            with pytest.raises(Unavailable) as caught:
                for _ in stream:
                    pass
        finally:
            server.thaw()
    assert caught.value.unknown.why is Ignorance.TIMEOUT
    door.close()


def test_a_snapshot_of_nobody_is_unavailable(door: EtcdDoor, heard: Heard) -> None:
    with pytest.raises(Unavailable) as caught:
        next(door.snapshot(NOBODY))
    assert caught.value.unknown.why is Ignorance.UNREACHABLE
    assert heard.calls == [("Snapshot", "unreachable")]


# ---- the channels -------------------------------------------------------------------------------------------------


def test_a_port_that_accepts_and_says_nothing_costs_one_deadline(door: Etcd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        endpoint = ClientUrl(f"http://127.0.0.1:{mute.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            door.status(endpoint)
        assert caught.value.unknown.why is Ignorance.TIMEOUT
        assert time.monotonic() - started < 1.5


def test_channels_of_the_departed_do_not_pile_up(three: Cluster) -> None:
    door = EtcdDoor(deadlines=DEADLINES)
    endpoint = three.servers[0].client_url
    for number in range(3 * MAX_CHANNELS):
        door.statuses([endpoint, ClientUrl(f"http://127.0.0.1:{number + 1}")])
    assert len(door._links._open) <= MAX_CHANNELS
    assert door.status(endpoint).leader
    door.close()
