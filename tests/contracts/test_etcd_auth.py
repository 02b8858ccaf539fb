"""The door with a password: every call goes through while etcd's authentication is on, whatever becomes of tokens."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from agent.model.cluster import Alarm, AlarmKind, Membership, MemberStatus
from agent.model.faults import Refused, Unavailable
from agent.model.ids import ClientUrl, MemberId, PeerUrl
from agent.model.known import Ignorance, Unknown
from agent.world.etcd import Deadlines, EtcdDoor
from agent.world.etcd_auth import Login
from agent.world.etcd_errors import wants_an_identity
from tests.contracts.etcd_cluster import Cluster, Server, running, wait_until
from tests.contracts.etcd_files import put
from tests.contracts.test_etcd import add_when_settled
from tests.etcd_versions import EtcdVersion

pytestmark = pytest.mark.etcd

PASSWORD = "a:b=c!"
QUICK = Deadlines(status=timedelta(seconds=3), read=timedelta(seconds=6), progress=timedelta(seconds=6))


def turn_auth_on(etcdctl: Path, endpoint: ClientUrl, password: str = PASSWORD) -> None:
    """The way of docs/auth.md."""
    add = ["user", "add", "root", "--interactive=false"]
    for words, said in ((add, password), (["user", "grant-role", "root", "root"], ""), (["auth", "enable"], "")):
        command = [str(etcdctl), f"--endpoints={endpoint}", *words]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        subprocess.run(command, input=said, text=True, check=True, capture_output=True, env=environment)


def login(folder: Path, password: str = PASSWORD, mode: int = 0o600) -> Login:
    path = folder / f"password-{len(list(folder.iterdir()))}"
    path.write_text(f"{password}\n")
    path.chmod(mode)
    return Login("root", path)


@pytest.fixture(scope="module")
def guarded(version: EtcdVersion, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three members with authentication on."""
    with running(version.etcd, tmp_path_factory.mktemp("guarded"), 3) as cluster:
        put(cluster.servers[0].client_url, [f"k{number}" for number in range(10)])
        turn_auth_on(version.etcdctl, cluster.servers[0].client_url)
        yield cluster


@pytest.fixture
def door(tmp_path: Path) -> Iterator[EtcdDoor]:
    door = EtcdDoor(deadlines=QUICK, login=login(tmp_path))
    yield door
    door.close()


@pytest.mark.long
def test_every_call_goes_through(door: EtcdDoor, guarded: Cluster) -> None:
    leader, other = by_leadership(door, guarded)
    assert {each.version for each in door.statuses([leader, other]).values() if not isinstance(each, Unknown)}
    membership = door.membership(leader)
    assert len(membership.voters) == 3
    assert len(door.members_locally(other)) == 3
    assert door.alarms(leader) == ()
    revision = door.status(leader).revision
    assert door.hash_kv(leader, revision) == door.hash_kv(other, revision)
    assert door.count_keys(leader, revision) == 10
    door.compact(leader, revision)
    door.defragment(other)
    assert sum(map(len, door.snapshot(other))) > 1000
    changes_the_membership(door, leader, membership)


def changes_the_membership(door: EtcdDoor, leader: ClientUrl, membership: Membership) -> None:
    found = add_when_settled(door, leader, PeerUrl("http://127.0.0.1:23804"))
    with pytest.raises(Refused, match="in sync"):
        door.promote(leader, found)
    door.remove(leader, found)
    voter = next(each for each in membership.voters)
    door.update_peer_url(leader, voter.id, voter.peer_urls[0])
    own = door.status(leader).member_id
    door.move_leader(leader, next(each.id for each in membership.voters if each.id != own))


@pytest.mark.long
def test_a_token_of_a_cluster_that_was_is_forgotten(version: EtcdVersion, tmp_path: Path) -> None:
    """It was given at a higher raft index than the new one has reached, and etcd would wait until it has."""
    with running(version.etcd, tmp_path, 1) as cluster:
        (server,) = cluster.servers
        put(server.client_url, [f"k{number}" for number in range(300)])
        turn_auth_on(version.etcdctl, server.client_url)
        door = EtcdDoor(deadlines=QUICK, login=login(tmp_path))
        assert len(door.membership(server.client_url).voters) == 1
        server.kill()
        assert _status_of(door, server.client_url) is None, "an agent looks in every round, and sees that it has ended"
        shutil.rmtree(tmp_path / server.name)
        server.start(cluster.servers)
        cluster.settle()
        turn_auth_on(version.etcdctl, server.client_url)
        wait_until(lambda: _status_of(door, server.client_url) is not None, 15, "Status waits for ever", 0.2)
        assert len(door.membership(server.client_url).voters) == 1
        assert sum(map(len, door.snapshot(server.client_url))) > 1000
        door.close()


@pytest.mark.long
def test_a_learner_takes_a_voters_token(version: EtcdVersion, tmp_path: Path) -> None:
    """It gives none. One from before it came is not known to it."""
    with running(version.etcd, tmp_path, 1) as cluster:
        voter, learner = cluster.servers[0].client_url, cluster.spare()
        turn_auth_on(version.etcdctl, voter)
        door = EtcdDoor(deadlines=QUICK, login=login(tmp_path))
        add_when_settled(door, voter, learner.peer_url)
        cluster.join(learner)
        wait_until(lambda: _status_of(door, learner.client_url) is not None, 15, "the learner tells nothing", 0.2)
        found = _status_of(door, learner.client_url)
        assert found is not None
        assert found.is_learner
        door.close()


def _status_of(door: EtcdDoor, endpoint: ClientUrl) -> MemberStatus | None:
    found = door.statuses([endpoint])[endpoint]
    return found if isinstance(found, MemberStatus) else None


def by_leadership(door: EtcdDoor, cluster: Cluster) -> tuple[ClientUrl, ClientUrl]:
    urls = [each.client_url for each in cluster.servers]
    leading = [url for url in urls if door.status(url).leads]
    return leading[0], next(url for url in urls if url not in leading)


@pytest.mark.long
def test_without_an_identity_a_few_calls_are_answered_and_none_since_3_5_28(
    guarded: Cluster, version: EtcdVersion
) -> None:
    """Before that, anybody who reaches the port may compact, and take an alarm back."""
    nobody, endpoint = EtcdDoor(deadlines=QUICK), guarded.servers[0].client_url
    peer, member = PeerUrl("http://127.0.0.1:23804"), MemberId(1)
    calls: dict[str, Callable[[], object]] = {
        "Status": lambda: nobody.status(endpoint),
        "MemberList": lambda: nobody.members_locally(endpoint),
        "Alarm": lambda: nobody.alarms(endpoint),
        "Range": lambda: nobody.count_keys(endpoint, 0),
        "HashKV": lambda: nobody.hash_kv(endpoint, 0),
        "Snapshot": lambda: next(nobody.snapshot(endpoint)),
        "Compact": lambda: nobody.compact(endpoint, 1),
        "Defragment": lambda: nobody.defragment(endpoint),
        "MemberAdd": lambda: nobody.add_learner(endpoint, peer),
        "MemberPromote": lambda: nobody.promote(endpoint, member),
        "MemberRemove": lambda: nobody.remove(endpoint, member),
        "MemberUpdate": lambda: nobody.update_peer_url(endpoint, member, peer),
        "Alarm DEACTIVATE": lambda: nobody.disarm(endpoint, Alarm(member, AlarmKind.NOSPACE)),
    }
    open_to_all = {name for name, call in calls.items() if not _is_unknown(call)}
    nobody.close()
    before = {"Status", "MemberList", "Alarm", "Alarm DEACTIVATE", "Compact"}
    assert open_to_all == (before if version.number < (3, 5, 28) else set())


def _is_unknown(call: Callable[[], object]) -> bool:
    """Whether etcd wants to know who asks."""
    try:
        call()
    except (Unavailable, Refused) as trouble:
        return trouble.unknown.why is Ignorance.OURS
    return False


@pytest.mark.long
def test_a_token_that_died_with_its_member_is_renewed(door: EtcdDoor, guarded: Cluster) -> None:
    server = guarded.servers[0]
    assert len(door.membership(server.client_url).voters) == 3
    restart(guarded, server)
    assert len(door.membership(server.client_url).voters) == 3
    restart(guarded, server)
    assert sum(map(len, door.snapshot(server.client_url))) > 1000


def restart(cluster: Cluster, server: Server) -> None:
    server.kill()
    server.start(cluster.servers)
    cluster.settle()
    time.sleep(1)  # gRPC's own wait before it connects again


@pytest.mark.parametrize("mode", [0o600, 0o640, None])
def test_a_wrong_password_or_one_that_others_may_read_is_our_failure(
    guarded: Cluster, tmp_path: Path, mode: int | None
) -> None:
    """Never the cluster's: whoever cannot ask has lost no quorum."""
    wrong = login(tmp_path, "another" if mode == 0o600 else PASSWORD, mode or 0o600)
    if mode is None:
        wrong.password_file.unlink()
    door, endpoint = EtcdDoor(deadlines=QUICK, login=wrong), guarded.servers[0].client_url
    for _ in range(2):
        with pytest.raises(Unavailable) as caught:
            door.membership(endpoint)
        assert caught.value.unknown.why is Ignorance.OURS
        assert PASSWORD not in str(caught.value)
        assert "another" not in str(caught.value)
    with pytest.raises(Unavailable) as caught:
        next(door.snapshot(endpoint))
    assert caught.value.unknown.why is Ignorance.OURS
    door.close()


@pytest.mark.long
def test_without_authentication_nobody_logs_in(version: EtcdVersion, tmp_path: Path) -> None:
    """So a password can be put in place first, and authentication turned on and off while agents run."""
    called: list[str] = []
    heard = login(tmp_path)
    heard.password_file.unlink()
    with running(version.etcd, tmp_path, 1) as cluster:
        endpoint = cluster.servers[0].client_url
        door = EtcdDoor(deadlines=QUICK, login=heard, on_call=lambda method, *_: called.append(method))
        assert len(door.membership(endpoint).voters) == 1
        turn_auth_on(version.etcdctl, endpoint)
        heard.password_file.write_text(PASSWORD)
        heard.password_file.chmod(0o600)
        assert len(door.membership(endpoint).voters) == 1
        command = [str(version.etcdctl), f"--endpoints={endpoint}", f"--user=root:{PASSWORD}", "auth", "disable"]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "ETCDCTL_API": "3"})
        assert len(door.membership(endpoint).voters) == 1
        door.close()
    assert set(called) == {"Range", "MemberList"}


@pytest.mark.parametrize(
    ("details", "wants"),
    [
        ("etcdserver: user name is empty", True),
        ("auth: user name is empty", True),
        ("etcdserver: invalid auth token", True),
        ("etcdserver: revision of auth store is old", True),
        ("etcdserver: permission denied", False),
        ("etcdserver: authentication failed, invalid user ID or password", False),
        ("etcdserver: no leader", False),
        ("", False),
    ],
)
def test_only_who_is_not_known_may_ask_again(details: str, wants: bool) -> None:
    assert wants_an_identity(details) is wants
