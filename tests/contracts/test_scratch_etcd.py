"""An etcd of our own on a scratch directory: what it serves, how it ends, and that a survivor's log is served whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.model.faults import Refused, Unavailable
from agent.model.ids import ClientUrl, PeerUrl
from agent.model.members import Survey
from agent.world import etcd_bolt, etcd_wal
from agent.world.etcd import EtcdDoor
from agent.world.etcd_library import etcdrpc
from agent.world.etcd_records import ENTRY, ChangeKind
from agent.world.etcd_restore import copy_data_dir, restore, restore_tool
from agent.world.etcd_survey import survey
from agent.world.protobuf_fields import as_varint, encoded
from agent.world.scratch_etcd import scratch_etcd
from tests import etcd_versions
from tests.contracts.etcd_cluster import Server, running, wait_until
from tests.contracts.etcd_files import boot, client_of, copied, end, keys, put
from tests.etcd_versions import EtcdVersion

pytestmark = pytest.mark.etcd

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def door() -> Iterator[EtcdDoor]:
    door = EtcdDoor()
    yield door
    door.close()


@pytest.fixture(scope="module")
def stopped(version: EtcdVersion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return one_of_three(version, tmp_path_factory.mktemp("stopped"))


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For what is ours alone, and the same with every etcd."""
    return one_of_three(etcd_versions.default(), tmp_path_factory.mktemp("newest"))


def one_of_three(version: EtcdVersion, folder: Path) -> Path:
    """The data directory of a member that was ended with SIGTERM; not to be touched."""
    with running(version.etcd, folder, 3) as cluster:
        put(cluster.servers[0].client_url, [f"k{number}" for number in range(30)])
        for server in cluster.servers:
            end(server)
    return folder / cluster.servers[0].name


# ---- the heart of a rescue --------------------------------------------------------------------------------------


def test_not_one_write_is_lost_that_the_survivors_disk_holds(
    version: EtcdVersion, tmp_path: Path, door: EtcdDoor
) -> None:
    """The majority was leader and survivor; the leader is killed right at the last acknowledgement.

    The survivor does not know yet that the last entry is committed, and etcd alone would discard it.
    """
    with running(version.etcd, tmp_path, 3) as cluster:
        leader, survivor, behind = sorted(cluster.servers, key=lambda each: not door.status(each.client_url).leads)
        behind.freeze()
        acknowledged = killed_at_the_last_acknowledgement(leader, survivor, [f"k{number:03d}" for number in range(40)])
        behind.kill()
    original = tmp_path / survivor.name
    plain, marked = tmp_path / "plain", tmp_path / "marked"
    for copy in (plain, marked):
        copy_data_dir(original, copy)
    etcd_wal.mark_committed(marked)
    with scratch_etcd(version.etcd, plain, "x", force_new_cluster=True) as endpoint:
        assert len(acknowledged - keys(endpoint)) == 1, "etcd has become better: is mark_committed still needed?"
    with scratch_etcd(version.etcd, marked, "x", force_new_cluster=True) as endpoint:
        assert acknowledged - keys(endpoint) == set()


def killed_at_the_last_acknowledgement(leader: Server, survivor: Server, names: list[str]) -> set[bytes]:
    client = client_of(leader.client_url)
    for name in names:
        client.kvstub.Put(etcdrpc.PutRequest(key=name.encode(), value=b"v"), timeout=5)
    for server in (leader, survivor):
        assert server.process is not None
        os.kill(server.process.pid, signal.SIGKILL)
    leader.kill()
    survivor.kill()
    client.close()
    return {name.encode() for name in names}


def test_marking_is_one_record_that_etcd_reads_and_twice_is_once(
    version: EtcdVersion, stopped: Path, tmp_path: Path
) -> None:
    copy = copied(stopped, tmp_path / "copy")
    before = etcd_wal.read(copy)
    etcd_wal._append(before.end, ENTRY, an_entry(before.last_index + 1, before.last_term, b""))
    marked = etcd_wal.mark_committed(copy)
    assert marked.state == replace(before.state, commit=before.last_index + 1)
    assert etcd_wal.mark_committed(copy) == marked
    raft = boot(version.etcd, copy).raft
    assert raft["commit"] == raft["lastindex"] == marked.last_index


def test_marking_takes_a_torn_record_away(version: EtcdVersion, stopped: Path, tmp_path: Path) -> None:
    copy = copied(stopped, tmp_path / "copy")
    log = etcd_wal.read(copy)
    with log.end.path.open("r+b") as file:
        file.seek(log.end.offset)
        file.write((5000).to_bytes(8, "little") + b"\x08\x02\x10" + b"y" * 4000)
    assert etcd_wal.read(copy).torn
    marked = etcd_wal.mark_committed(copy)
    assert not marked.torn
    assert marked.last_index == log.last_index
    assert boot(version.etcd, copy).raft["lastindex"] == log.last_index


def test_a_members_own_removal_is_not_declared_committed(
    version: EtcdVersion, stopped: Path, tmp_path: Path, door: EtcdDoor
) -> None:
    """It would stop itself, and serve nothing at all."""
    copy = copied(stopped, tmp_path / "copy")
    log = etcd_wal.read(copy)
    removal = encoded(7, ChangeKind.REMOVE, log.member_id)
    etcd_wal._append(log.end, ENTRY, an_entry(log.last_index + 1, log.last_term, removal, kind=1))
    later = an_entry(log.last_index + 2, log.last_term + 1, b"")
    etcd_wal._append(etcd_wal.read(copy).end, ENTRY, later)
    found = survey(copy)
    assert isinstance(found, Survey)
    assert (found.position.last_term, found.position.last_index) == (log.last_term, log.last_index)
    assert etcd_wal.read(copy).last_term == log.last_term + 1
    assert etcd_wal.mark_committed(copy).state.commit == log.last_index
    with scratch_etcd(version.etcd, copy, "x", force_new_cluster=True) as endpoint:
        assert len(keys(endpoint)) == 30


def an_entry(index: int, term: int, data: bytes, kind: int = 0) -> bytes:
    payload = b"\x22" + as_varint(len(data)) + data if data else b""
    return b"\x08" + bytes([kind]) + b"\x10" + as_varint(term) + b"\x18" + as_varint(index) + payload


# ---- raft's list ------------------------------------------------------------------------------------------------


def test_changes_of_the_membership_count_once_they_are_committed_and_are_pending_between_the_lists(
    newest: Path, tmp_path: Path
) -> None:
    copy = copied(newest, tmp_path / "copy")
    log, whole = etcd_wal.read(copy), survey(copy)
    assert isinstance(whole, Survey)
    other = next(each for each in whole.members if each.id != log.member_id)
    removal = encoded(7, ChangeKind.REMOVE, other.id)
    etcd_wal._append(log.end, ENTRY, an_entry(log.last_index + 1, log.last_term, removal, kind=1))
    proposed = survey(copy)
    assert isinstance(proposed, Survey)
    assert proposed.members == whole.members
    assert proposed.restart_members == ()
    etcd_wal.mark_committed(copy)
    committed = survey(copy)
    assert isinstance(committed, Survey)
    assert other not in committed.members
    assert len(committed.members) == 2


def test_an_entry_replaces_what_came_after_its_index_and_a_gap_is_damage(newest: Path, tmp_path: Path) -> None:
    copy = copied(newest, tmp_path / "copy")
    log = etcd_wal.read(copy)
    added = encoded(7, ChangeKind.ADD_LEARNER, 0xABC)
    for index, term, kind, data in ((1, 0, 1, added), (2, 0, 0, b"a"), (1, 3, 0, b"b")):
        entry = an_entry(log.last_index + index, log.last_term + term, data, kind)
        etcd_wal._append(etcd_wal.read(copy).end, ENTRY, entry)
    found = etcd_wal.read(copy)
    assert (found.last_index, found.last_term) == (log.last_index + 1, log.last_term + 3)
    assert found.changes == log.changes
    etcd_wal._append(found.end, ENTRY, an_entry(found.last_index + 3, 9, b""))
    assert "are missing" in str(survey(copy))


# ---- authentication ---------------------------------------------------------------------------------------------


def test_with_authentication_on_it_serves_and_its_files_are_the_snapshot(
    version: EtcdVersion, tmp_path: Path, door: EtcdDoor
) -> None:
    """Nobody on loopback is its root user, so that it gives nothing to us; it has replayed its log all the same."""
    with running(version.etcd, tmp_path, 1) as cluster:
        (server,) = cluster.servers
        put(server.client_url, ["k"])
        turn_plain_auth_on(version.etcdctl, server.client_url)
        server.kill()
    copy, snapshot = tmp_path / "copy", tmp_path / "snapshot.db"
    copy_data_dir(tmp_path / server.name, copy)
    etcd_wal.mark_committed(copy)
    with (
        scratch_etcd(version.etcd, copy, "x", force_new_cluster=True) as endpoint,
        pytest.raises(Unavailable, match="user name is empty"),
    ):
        next(door.snapshot(endpoint))
    snapshot.write_bytes(b"".join(etcd_bolt.as_snapshot(copy / "member" / "snap" / "db")))
    tool, url = restore_tool(version.etcd), PeerUrl("http://127.0.0.1:9")
    restore(tool, snapshot, tmp_path / "data", name="x", peer_url=url, token="t", initial_cluster=(("x", url),))
    (copied_, restored_) = survey(copy), survey(tmp_path / "data")
    assert isinstance(copied_, Survey)
    assert isinstance(restored_, Survey)
    assert copied_.revision == restored_.revision == 2
    with scratch_etcd(version.etcd, tmp_path / "data", "x", force_new_cluster=False):
        pass


def turn_plain_auth_on(etcdctl: Path, endpoint: ClientUrl) -> None:
    for words in (["user", "add", "root:unused"], ["user", "grant-role", "root", "root"], ["auth", "enable"]):
        command = [str(etcdctl), f"--endpoints={endpoint}", *words]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "ETCDCTL_API": "3"})


# ---- how it runs ------------------------------------------------------------------------------------------------


def test_it_serves_alone_knows_nothing_of_us_and_is_gone_afterwards(
    version: EtcdVersion, stopped: Path, tmp_path: Path, door: EtcdDoor
) -> None:
    copy = copied(stopped, tmp_path / "copy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("ETCD_INITIAL_CLUSTER_TOKEN", "ours")
        with scratch_etcd(version.etcd, copy, "x", force_new_cluster=True) as endpoint:
            (process,) = processes_of(copy)
            environment = Path(f"/proc/{process}/environ").read_bytes()
            assert b"secret" not in environment
            assert b"ETCD_INITIAL_CLUSTER_TOKEN" not in environment
            assert len(door.membership(endpoint).members) == 1
            assert endpoint.startswith("http://127.0.0.1:")
    assert processes_of(copy) == []
    found = survey(copy)
    assert isinstance(found, Survey)
    assert [each.name for each in found.members] != []
    assert len(found.members) == 1


def processes_of(data: Path) -> list[int]:
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdecimal():
            try:
                environment = (each / "environ").read_bytes()
            except OSError:
                continue
            if f"ETCD_DATA_DIR={data}\0".encode() in environment + b"\0":
                found.append(int(each.name))
    return found


def test_one_that_ends_by_itself_is_refused_with_its_last_words(newest: Path, tmp_path: Path) -> None:
    copy = copied(newest, tmp_path / "copy")
    log = etcd_wal.read(copy)
    with log.end.path.open("r+b") as file:
        file.seek(log.end.offset // 2)
        file.write(b"garbage")
    with (
        pytest.raises(Refused, match=r"etcd ended \(\d+\): .*(crc mismatch|out of range|proto: )"),
        scratch_etcd(etcd_versions.default().etcd, copy, "x", force_new_cluster=True),
    ):
        pytest.fail("it serves")
    assert processes_of(copy) == []


def test_one_that_does_not_serve_in_time_is_unavailable_and_gone(newest: Path, tmp_path: Path) -> None:
    copy = copied(newest, tmp_path / "copy")  # one of three, without the others
    with (
        pytest.raises(Unavailable, match="did not serve within 2 s"),
        scratch_etcd(etcd_versions.default().etcd, copy, "x", force_new_cluster=False, deadline=timedelta(seconds=2)),
    ):
        pytest.fail("it serves")
    assert processes_of(copy) == []


def test_without_a_binary_it_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(Refused, match="not on PATH"),
        scratch_etcd(tmp_path / "none", tmp_path / "data", "x", force_new_cluster=True),
    ):
        pytest.fail("it serves")


AGENT = """
import sys, time
from pathlib import Path
from agent.world.scratch_etcd import scratch_etcd
with scratch_etcd(sys.argv[1], Path(sys.argv[2]), "x", force_new_cluster=True):
    print("up", flush=True)
    time.sleep(60)
"""


def test_it_does_not_outlive_an_agent_that_is_killed(newest: Path, tmp_path: Path) -> None:
    copy = copied(newest, tmp_path / "copy")
    command = [sys.executable, "-c", AGENT, str(etcd_versions.default().etcd), str(copy)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == b"up\n"
        assert len(processes_of(copy)) == 1
        agent.kill()
    wait_until(lambda: processes_of(copy) == [], 5, "it lives on")


def test_what_the_block_raises_is_raised_and_etcd_ends(newest: Path, tmp_path: Path) -> None:
    copy, started = copied(newest, tmp_path / "copy"), time.monotonic()

    def fail(endpoint: ClientUrl) -> None:
        raise KeyError(endpoint)

    with (
        pytest.raises(KeyError),
        scratch_etcd(etcd_versions.default().etcd, copy, "x", force_new_cluster=True) as endpoint,
    ):
        fail(endpoint)
    assert processes_of(copy) == []
    assert time.monotonic() - started < 20
