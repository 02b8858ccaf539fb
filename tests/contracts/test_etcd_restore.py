"""Restoring snapshots with etcd's own tools, and copying a stopped member's files: every version at hand."""

from __future__ import annotations

import filecmp
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.model.faults import Refused
from agent.model.ids import PeerUrl
from agent.model.known import Ignorance
from agent.model.members import Survey
from agent.world.etcd import EtcdDoor, HashKv
from agent.world.etcd_restore import can_bump_revisions, copy_data_dir, restore, restore_tool
from agent.world.etcd_survey import survey
from agent.world.scratch_etcd import scratch_etcd
from tests.contracts.etcd_cluster import running
from tests.contracts.etcd_files import put
from tests.etcd_versions import EtcdVersion

pytestmark = pytest.mark.etcd

FOUNDERS = tuple((name, PeerUrl(f"http://127.0.0.1:{port}")) for name, port in (("a", 9), ("b", 10), ("c", 11)))
BUMP = 1000


@dataclass(frozen=True)
class Taken:
    """A snapshot file with etcd's trailer, and what the keyspace was like."""

    path: Path
    revision: int
    keys: int
    hash: HashKv


@pytest.fixture(scope="module")
def taken(version: EtcdVersion, tmp_path_factory: pytest.TempPathFactory) -> Taken:
    folder, door = tmp_path_factory.mktemp("taken"), EtcdDoor()
    with running(version.etcd, folder, 1) as cluster:
        endpoint = cluster.servers[0].client_url
        put(endpoint, [f"k{number}" for number in range(50)])
        path = folder / "snapshot.db"
        path.write_bytes(b"".join(door.snapshot(endpoint)))
        found = Taken(path, 51, door.count_keys(endpoint, 51), door.hash_kv(endpoint, 51))
    door.close()
    return found


@pytest.fixture
def door() -> Iterator[EtcdDoor]:
    door = EtcdDoor()
    yield door
    door.close()


def restored(version: EtcdVersion, snapshot: Path, into: Path, name: str = "a", bump: int = 0) -> Path:
    restore(
        restore_tool(version.etcd),
        snapshot,
        into,
        name=name,
        peer_url=dict(FOUNDERS)[name],
        token="prod-000002-x",
        initial_cluster=FOUNDERS,
        bump_revision=bump,
    )
    return into


def test_a_snapshot_is_a_database_and_its_digest(taken: Taken) -> None:
    content = taken.path.read_bytes()
    assert len(content) % 512 == 32
    assert hashlib.sha256(content[:-32]).digest() == content[-32:]
    assert taken.keys == 50


@pytest.mark.parametrize("with_trailer", [True, False])
def test_what_is_restored_is_what_was_taken_with_and_without_the_trailer(
    version: EtcdVersion, taken: Taken, door: EtcdDoor, tmp_path: Path, with_trailer: bool
) -> None:
    snapshot = tmp_path / "snapshot.db"
    content = taken.path.read_bytes()
    snapshot.write_bytes(content if with_trailer else content[:-32])
    data = restored(version, snapshot, tmp_path / "data")
    with scratch_etcd(version.etcd, data, "a", force_new_cluster=True) as endpoint:
        assert door.hash_kv(endpoint, taken.revision) == taken.hash
        assert door.count_keys(endpoint, taken.revision) == taken.keys
        assert [each.name for each in door.members_locally(endpoint)] == ["a"]


def test_every_founder_has_the_same_data_and_knows_all_founders(
    version: EtcdVersion, taken: Taken, door: EtcdDoor, tmp_path: Path
) -> None:
    bump = BUMP if can_bump_revisions(restore_tool(version.etcd)) else 0
    hashes, lists = set(), set()
    for name, _ in FOUNDERS:
        data = restored(version, taken.path, tmp_path / name, name, bump)
        found = survey(data)
        assert isinstance(found, Survey)
        lists.add((found.cluster_id, found.members))
        with scratch_etcd(version.etcd, data, name, force_new_cluster=True) as endpoint:
            assert door.status(endpoint).revision == taken.revision + bump
            assert door.count_keys(endpoint, 0) == taken.keys
            hashes.add(door.hash_kv(endpoint, 0))
    assert len(hashes) == 1
    ((_, members),) = lists
    assert {(each.name, each.peer_urls, each.is_learner) for each in members} == {
        (name, (url,), False) for name, url in FOUNDERS
    }


def test_after_a_bump_a_watcher_of_old_revisions_is_told_and_nobody_reads_them(
    version: EtcdVersion, taken: Taken, door: EtcdDoor, tmp_path: Path
) -> None:
    if not can_bump_revisions(restore_tool(version.etcd)):
        pytest.skip("3.4 cannot bump revisions")
    data = restored(version, taken.path, tmp_path / "data", bump=BUMP)
    with (
        scratch_etcd(version.etcd, data, "a", force_new_cluster=True) as endpoint,
        pytest.raises(Refused, match="has been compacted"),
    ):
        door.count_keys(endpoint, taken.revision)


def test_bumping_is_what_the_tool_says_of_itself(version: EtcdVersion) -> None:
    assert can_bump_revisions(restore_tool(version.etcd)) is (version.number >= (3, 5, 10))


def test_nothing_is_restored_over_anything(version: EtcdVersion, taken: Taken, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(Refused, match="is there already"):
        restored(version, taken.path, tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_a_file_that_is_no_snapshot_is_refused_with_the_tools_own_words(version: EtcdVersion, tmp_path: Path) -> None:
    (tmp_path / "garbage.db").write_bytes(os.urandom(100_000))
    with pytest.raises(
        Refused, match=r"snapshot restore failed \(\d+\): .*(invalid database|corrupted|panic)"
    ) as raised:
        restored(version, tmp_path / "garbage.db", tmp_path / "data")
    assert raised.value.unknown.why is Ignorance.FAILED
    assert not (tmp_path / "data").exists()


def test_the_tool_lies_beside_etcd_or_where_links_lead_to_it(version: EtcdVersion, tmp_path: Path) -> None:
    (tmp_path / "etcd").symlink_to(version.etcd)
    expected = version.etcdutl or version.etcdctl
    assert restore_tool(tmp_path / "etcd") == restore_tool(version.etcd) == expected
    lonely = Path(shutil.copy(version.etcd, tmp_path / "lonely"))
    if shutil.which("etcdutl") or shutil.which("etcdctl"):
        pytest.skip("there is one on PATH")
    with pytest.raises(Refused, match="install it"):
        restore_tool(lonely)


# ---- copies ---------------------------------------------------------------------------------------------------------


def test_a_copy_is_the_same_and_shares_no_file(version: EtcdVersion, taken: Taken, tmp_path: Path) -> None:
    data = restored(version, taken.path, tmp_path / "data")
    (data / "member" / "wal" / "0.tmp").write_bytes(b"x" * 1000)
    copy_data_dir(data, tmp_path / "copy")
    files = [path.relative_to(data) for path in data.rglob("*") if path.is_file() and path.suffix != ".tmp"]
    assert sorted(files) == sorted(
        path.relative_to(tmp_path / "copy") for path in (tmp_path / "copy").rglob("*") if path.is_file()
    )
    for name in files:
        assert filecmp.cmp(data / name, tmp_path / "copy" / name, shallow=False)
        assert not (data / name).samefile(tmp_path / "copy" / name)
    with pytest.raises(Refused, match="is there already"):
        copy_data_dir(data, tmp_path / "copy")


def test_without_room_nothing_is_copied(version: EtcdVersion, tmp_path: Path) -> None:
    (tmp_path / "data" / "member").mkdir(parents=True)
    with (tmp_path / "data" / "member" / "db").open("wb") as file:
        file.truncate(10 << 40)  # a hole of 10 TiB
    with pytest.raises(Refused, match=r"MB are free on .* takes \d+ MB") as raised:
        copy_data_dir(tmp_path / "data", tmp_path / "copy")
    assert raised.value.unknown.why is Ignorance.OURS
    assert not (tmp_path / "copy").exists()
