"""What is read from a member's files, against what a real etcd makes of the same files; and what is damage.

The measure is raft's own line at etcd's start: term, commit, lastindex, lastterm. Each story runs on every version.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.model.faults import Unavailable
from agent.model.members import Damaged, LogPosition, Survey
from agent.world import etcd_bolt, etcd_wal
from agent.world.etcd import EtcdDoor
from agent.world.etcd_records import LENGTH_MASK
from agent.world.etcd_survey import SegmentMemory, survey
from tests import etcd_versions
from tests.contracts.etcd_cluster import Cluster, Server, running, wait_until
from tests.contracts.etcd_files import boot, copied, end, flip, put, segments, under_load
from tests.contracts.test_etcd import add_when_settled, promote_when_in_sync, succeeds
from tests.etcd_versions import EtcdVersion

pytestmark = pytest.mark.etcd


@pytest.fixture
def door() -> Iterator[EtcdDoor]:
    door = EtcdDoor()
    yield door
    door.close()


def surveyed(data: Path) -> Survey:
    found = survey(data)
    assert isinstance(found, Survey), found
    return found


def damage(data: Path) -> str:
    found = survey(data)
    assert isinstance(found, Damaged), found
    return found.why


def data_of(server: Server) -> Path:
    return server.folder / server.name


# ---- what is there ----------------------------------------------------------------------------------------------


def test_the_files_say_what_the_members_say_through_every_change_of_membership(
    version: EtcdVersion, tmp_path: Path, door: EtcdDoor
) -> None:
    with running(version.etcd, tmp_path, 3) as cluster:
        first, *others = cluster.servers
        put(first.client_url, [f"k{number}" for number in range(20)])
        agrees(door, first)
        leader = next(each for each in cluster.servers if door.status(each.client_url).leads)
        gone = next(each for each in others if each is not leader)
        member = door.status(gone.client_url).member_id
        gone.kill()
        refused = ("unhealthy cluster",)  # on a busy machine the others may not have been connected for long yet
        wait_until(lambda: succeeds(lambda: door.remove(leader.client_url, member), refused), 20, "never removed", 0.2)
        spare = cluster.spare()
        learner = add_when_settled(door, leader.client_url, spare.peer_url)
        agrees(door, leader)
        spare.start([*(each for each in cluster.servers if each is not gone), spare], state="existing")
        promote_when_in_sync(door, leader.client_url, learner)
        put(first.client_url if first is not gone else leader.client_url, ["last"])
        wait_until(spare.healthy, 10, "the newcomer does not serve")
        for server in (leader, spare):
            agrees(door, server)


def agrees(door: EtcdDoor, server: Server) -> None:
    """The survey of a running member, once what it applied has come to its disk, is what it says of itself."""

    def same() -> bool:
        status, found = door.status(server.client_url), surveyed(data_of(server))
        assert (found.member_id, found.cluster_id) == (status.member_id, status.cluster_id)
        members = {replace(each, name="") for each in door.members_locally(server.client_url)}
        return (
            {replace(each, name="") for each in found.members} == members
            and found.revision == status.revision
            and found.position.last_index == status.committed_index
            and found.restart_members == ()
        )

    wait_until(same, 3, f"{survey(data_of(server))} is not {door.members_locally(server.client_url)}")


def test_members_that_are_killed_at_any_moment_under_load_are_found_as_raft_finds_them(
    version: EtcdVersion, tmp_path: Path, door: EtcdDoor
) -> None:
    with running(version.etcd, tmp_path, 3) as cluster:
        with under_load([each.client_url for each in cluster.servers]):
            time.sleep(0.3 + random.random() * 0.5)
            for server in random.sample(cluster.servers, 3):
                server.kill()
        for server in cluster.servers:
            is_what_raft_finds(version, data_of(server))


def is_what_raft_finds(version: EtcdVersion, data: Path) -> None:
    found, log = surveyed(data), etcd_wal.read(data)
    copy = copied(data, data.with_name(f"{data.name}.copy"))
    raft = boot(version.etcd, copy).raft
    shutil.rmtree(copy)
    assert (found.position.last_term, found.position.last_index) == (raft["lastterm"], raft["lastindex"])
    assert (log.state.commit, log.start.index, log.state.term) == (raft["commit"], raft["applied"], raft["term"])
    assert raft["commit"] <= found.position.committed_index <= raft["lastindex"]
    assert len(found.members) == 3


def test_a_running_member_under_load_is_never_taken_for_damaged_and_only_goes_forward(
    version: EtcdVersion, tmp_path: Path
) -> None:
    with running(version.etcd, tmp_path, 1) as cluster:
        server, keep, before = cluster.servers[0], SegmentMemory(), LogPosition(0, 0, 0)
        with under_load([server.client_url], value=b"x" * 5000, writers=2):
            stop = time.monotonic() + 1.5
            while time.monotonic() < stop:
                found = survey(data_of(server), keep)
                assert isinstance(found, Survey)
                assert found.position.last_index >= before.last_index
                assert found.position.committed_index >= before.committed_index
                before = found.position
    assert before.last_index > 20


# ---- one member's files, and what may become of them ------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(version: EtcdVersion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a cluster of one that was ended with SIGTERM; not to be touched."""
    folder = tmp_path_factory.mktemp("stopped")
    with running(version.etcd, folder, 1) as cluster:
        put(cluster.servers[0].client_url, [f"k{number}" for number in range(300)], bytes(range(1, 251)) * 8)
        end(cluster.servers[0])
    return data_of(cluster.servers[0])


@pytest.fixture
def data(stopped: Path, tmp_path: Path) -> Path:
    return copied(stopped, tmp_path / "data")


def hurt_the_log(data: Path) -> None:
    log = etcd_wal.read(data)
    flip(log.end.path, log.end.offset // 2)


def cut_the_database(data: Path) -> None:
    """To the quarter that is used first: etcd reserves more than it uses."""
    os.truncate(data / "member" / "snap" / "db", 100 * 4096)


def hurt_both_metas(data: Path) -> None:
    for page in (0, 4096):
        flip(data / "member" / "snap" / "db", page + 16 + 30)


def take_the_log(data: Path) -> None:
    for path in segments(data):
        path.unlink()


HURTS: dict[Callable[[Path], None], tuple[str, bool]] = {
    # what it is called, and whether etcd itself sees it
    hurt_the_log: ("is not what was written", True),
    cut_the_database: ("are in use", True),
    hurt_both_metas: ("neither of its two meta pages", True),
    take_the_log: ("no segment", False),  # it starts as somebody new, with the old keys
}


@pytest.mark.parametrize("hurt", HURTS, ids=lambda hurt: hurt.__name__)
def test_damage_has_a_reason_and_etcd_refuses_to_start_on_it(
    version: EtcdVersion, data: Path, hurt: Callable[[Path], None]
) -> None:
    reason, etcd_sees_it = HURTS[hurt]
    hurt(data)
    assert reason in damage(data)
    assert "\n" not in damage(data)
    if etcd_sees_it:
        assert boot(version.etcd, data).exit_code not in (None, 0)


def test_a_log_that_breaks_off_within_a_record_ends_before_it_for_us_and_for_etcd(
    version: EtcdVersion, data: Path
) -> None:
    whole, log = surveyed(data), etcd_wal.read(data)
    with log.end.path.open("r+b") as file:  # 3000 bytes announced, 700 written
        file.seek(log.end.offset)
        file.write(struct.pack("<q", 3000) + b"\x08\x02\x10\x99\x01\x1a" + b"x" * 694)
    assert surveyed(data) == whole
    assert etcd_wal.read(data).torn
    raft = boot(version.etcd, data).raft
    assert (raft["lastindex"], raft["commit"]) == (whole.position.last_index, whole.position.committed_index)


def test_a_log_that_ends_before_its_database_has_lost_entries_and_etcd_would_not_mind(
    version: EtcdVersion, data: Path
) -> None:
    at, path = 0, segments(data)[0]
    content = path.read_bytes()
    for _ in range(50):
        (frame,) = struct.unpack_from("<q", content, at)
        at += 8 + (frame & LENGTH_MASK) + ((frame >> 56) & 7 if frame < 0 else 0)
    os.truncate(path, at)
    os.truncate(path, len(content))
    assert "and the database has" in damage(data)
    assert boot(version.etcd, data).exit_code is None


def test_a_database_that_is_missing_is_filled_from_the_whole_log(version: EtcdVersion, data: Path) -> None:
    whole = surveyed(data)
    (data / "member" / "snap" / "db").unlink()
    found = surveyed(data)
    assert found.position == whole.position
    assert [each.id for each in found.members] == [each.id for each in whole.members]
    assert boot(version.etcd, data).raft["lastindex"] == whole.position.last_index


def test_what_cannot_be_read_is_unknown_and_not_damaged(data: Path, tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        survey(tmp_path / "nowhere")
    shutil.rmtree(data / "member" / "wal")
    (data / "member" / "wal").write_text("")
    with pytest.raises(Unavailable, match="Not a directory"):
        survey(data)


def test_garbage_anywhere_in_the_database_is_damage_or_no_matter_but_never_a_traceback(
    data: Path, version: EtcdVersion
) -> None:
    if version != etcd_versions.available()[-1]:
        pytest.skip("once is enough")
    database = data / "member" / "snap" / "db"
    whole, dice = database.read_bytes(), random.Random(7)
    for _ in range(60):
        hurt = bytearray(whole)
        for _ in range(dice.randint(1, 60)):
            hurt[dice.randrange(min(len(hurt), 1 << 18))] = dice.randrange(256)
        database.write_bytes(hurt)
        assert isinstance(survey(data), Survey | Damaged)


# ---- logs of several segments ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three segments and two snapshots, of the version that production runs; not to be touched."""
    folder = tmp_path_factory.mktemp("long")
    server = Server(etcd_versions.default().etcd, "m1", f"127.{random.randint(2, 250)}.8.1", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ETCD_SNAPSHOT_COUNT", "60")
        server.start([server])
    try:
        wait_until(server.healthy, 20, "not healthy")
        put(server.client_url, [f"k{number % 7}" for number in range(140)], b"x" * 1_000_000)
        end(server)
    finally:
        server.kill()
    assert len(segments(data_of(server))) == 3
    return data_of(server)


@pytest.fixture
def long_copy(long_log: Path, tmp_path: Path) -> Path:
    """Its segments are links: they are taken away or replaced, never written to."""
    return Path(shutil.copytree(long_log, tmp_path / "long", copy_function=os.link))


def test_the_log_counts_from_the_newest_snapshot_or_from_its_beginning(long_copy: Path) -> None:
    whole, log = surveyed(long_copy), etcd_wal.read(long_copy)
    assert log.start.index > 100
    assert boot(etcd_versions.default().etcd, copied(long_copy, long_copy.with_name("c"))).raft == {
        "term": log.state.term,
        "commit": log.state.commit,
        "applied": log.start.index,
        "lastindex": log.last_index,
        "lastterm": log.last_term,
    }
    for path in sorted((long_copy / "member" / "snap").glob("*.snap"), reverse=True):
        path.unlink()
        assert etcd_wal.read(long_copy).start.index < log.start.index
        assert surveyed(long_copy) == whole
    segments(long_copy)[0].unlink()
    assert "no snapshot reaches" in damage(long_copy)


def test_old_segments_may_have_been_purged(long_copy: Path) -> None:
    whole = surveyed(long_copy)
    segments(long_copy)[0].unlink()
    assert surveyed(long_copy) == whole


def test_a_missing_segment_and_a_garbled_old_one_are_damage(long_copy: Path, tmp_path: Path) -> None:
    first, middle, _ = segments(long_copy)
    kept = middle.read_bytes()
    middle.unlink()
    assert "is missing" in damage(long_copy)
    middle.write_bytes(kept)
    surveyed(long_copy)
    content = first.read_bytes()
    first.unlink()
    first.write_bytes(content)
    flip(first, len(content) // 2)
    assert "is not what was written" in damage(long_copy)
    first.write_bytes(content[: len(content) // 2])
    assert "is not what was written" in damage(long_copy)


def test_a_snapshot_that_is_garbled_is_passed_over_for_an_older_one(long_copy: Path) -> None:
    log = etcd_wal.read(long_copy)
    newest = max((long_copy / "member" / "snap").glob("*.snap"))
    content = newest.read_bytes()
    newest.unlink()
    newest.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    found = etcd_wal.read(long_copy)
    assert 0 < found.start.index < log.start.index
    assert found.last_index == log.last_index


def test_sealed_segments_are_read_once(long_copy: Path) -> None:
    keep = SegmentMemory()
    first = time.perf_counter()
    survey(long_copy, keep)
    second = time.perf_counter()
    survey(long_copy, keep)
    assert time.perf_counter() - second < second - first
    assert len(keep._kept) == 2


def test_a_joiner_that_was_sent_a_database_is_read_before_and_after_that_took_its_place(
    version: EtcdVersion, tmp_path: Path, door: EtcdDoor
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ETCD_SNAPSHOT_COUNT", "20")
        patch.setenv("ETCD_EXPERIMENTAL_SNAPSHOT_CATCHUP_ENTRIES", "5")
        with running(version.etcd, tmp_path, 1) as cluster:
            joiner = a_joiner(cluster, door)
    data = data_of(joiner)
    whole, log = surveyed(data), etcd_wal.read(data)
    assert log.start.index > 20
    assert boot(version.etcd, copied(data, tmp_path / "copy")).raft["applied"] == log.start.index
    assert {each.is_learner for each in whole.members} == {True, False}
    database = data / "member" / "snap" / "db"
    database.rename(database.with_name(f"{log.start.index:016x}.snap.db"))
    assert surveyed(data) == whole
    assert boot(version.etcd, copied(data, tmp_path / "other")).raft["lastindex"] == log.last_index
    database.with_name(f"{log.start.index:016x}.snap.db").unlink()
    assert "is missing" in damage(data)
    assert boot(version.etcd, data).exit_code not in (None, 0)


def a_joiner(cluster: Cluster, door: EtcdDoor) -> Server:
    server, joiner = cluster.servers[0], cluster.spare()
    put(server.client_url, [f"k{number}" for number in range(90)])
    add_when_settled(door, server.client_url, joiner.peer_url)
    cluster.join(joiner)
    wait_until(lambda: list((data_of(joiner) / "member" / "snap").glob("*.snap")) != [], 10, "no snapshot came")
    wait_until(lambda: surveyed(data_of(joiner)).position.committed_index > 90, 10, "it did not catch up")
    end(joiner)
    return joiner


def test_the_database_alone_is_what_etcd_serves(stopped: Path) -> None:
    contents = etcd_bolt.read(stopped / "member" / "snap" / "db")
    assert contents.revision == 301
    assert [each.name for each in contents.members] == ["m1"]
    assert contents.removed == frozenset()


def test_the_database_tells_the_clusters_version_once_the_leader_has_determined_it(
    version: EtcdVersion, tmp_path: Path
) -> None:
    """3.0 is what it writes first, and what an etcd that is ended within seconds leaves behind."""
    with running(version.etcd, tmp_path, 1) as cluster:
        database = data_of(cluster.servers[0]) / "member" / "snap" / "db"
        minor = ".".join(map(str, version.number[:2]))
        wait_until(lambda: etcd_bolt.read(database).cluster_version == f"{minor}.0", 20, "no version in the database")
