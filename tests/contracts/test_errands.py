"""What the tasks do, against real etcd and moto's S3: what a snapshot's manifest claims is what is in it, a rescue
loses nothing and touches nothing, a seed makes founders that are one cluster, and a drill finds what is wrong.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest

from agent.model.actions import Launch
from agent.model.disk import Identity, Stage
from agent.model.faults import Refused, Unavailable
from agent.model.generation import Seed
from agent.model.ids import ClientUrl, GenerationNumber, InstanceId, Nonce, PeerUrl
from agent.model.known import Ignorance
from agent.model.members import Damaged, Survey
from agent.model.snapshot import DrillResult, Fingerprint, Manifest, Origin, Rescued, SnapshotName
from agent.model.work import Drill, FetchSeed, RescueLog, RestoreSeed, TakeSnapshot
from agent.world.clock import SystemClock
from agent.world.etcd import EtcdDoor
from agent.world.etcd_launch import EtcdSettings
from agent.world.etcd_library import etcdrpc, grpc
from agent.world.etcd_restore import can_bump_revisions, restore, restore_tool
from agent.world.etcd_survey import survey
from agent.world.fingerprints import look
from agent.world.host import InstanceHost
from agent.world.scratch import working_folder
from agent.world.scratch_etcd import scratch_etcd
from agent.world.supervisor_process import ProcessSupervisor
from agent.world.workshop import MAY_PASS
from tests import etcd_versions
from tests.contracts.aws_stand_in import HANG, REAL, REGION, Gateway, s3_error
from tests.contracts.errand_desk import ME, NOBODY, Desk, Doomed, Where, a_child_runs, etcd_serves
from tests.contracts.etcd_cluster import Cluster, Server, _free_block, running, wait_until
from tests.contracts.etcd_files import client_of, end, flip, keys, put, segments, under_load
from tests.contracts.test_scratch_etcd import killed_at_the_last_acknowledgement, turn_plain_auth_on
from tests.etcd_versions import EtcdVersion

pytestmark = pytest.mark.etcd

GENERATION = GenerationNumber(1)
BUMP = 1_000_000
clusters = (f"errands-{number}" for number in itertools.count(1))


@pytest.fixture(autouse=True)
def fair_weather(gateway: Gateway) -> Iterator[None]:
    gateway.clear()
    yield
    gateway.clear()


@cache
def s3() -> Any:
    return boto3.client("s3", region_name=REGION)


@pytest.fixture(scope="module")
def three(version: EtcdVersion, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Of which nobody is hurt."""
    with running(version.etcd, tmp_path_factory.mktemp("three"), 3) as cluster:
        yield cluster


def desk_at(root: Path, version: EtcdVersion, endpoint: ClientUrl = NOBODY, cluster: str = "") -> Desk:
    """Each test's objects are a cluster of their own."""
    return Desk(Where(root, cluster or next(clusters), version.etcd, endpoint))


def silently(_: int) -> None:
    pass


def etcdctl(version: EtcdVersion, endpoint: ClientUrl, *words: str) -> Any:
    """etcd's own client: what it says is not by our door."""
    return json.loads(told(version, endpoint, "--write-out=json", *words))


def told(version: EtcdVersion, endpoint: ClientUrl, *words: str) -> bytes:
    command = [str(version.etcdctl), f"--endpoints={endpoint}", *words]
    done = subprocess.run(command, check=False, capture_output=True, env={**os.environ, "ETCDCTL_API": "3"})
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def hash_by_etcdctl(version: EtcdVersion, endpoint: ClientUrl, revision: int) -> tuple[int, int]:
    ((answer),) = etcdctl(version, endpoint, "endpoint", "hashkv", f"--rev={revision}")
    return answer["HashKV"]["hash"], answer["HashKV"]["compact_revision"]


@contextmanager
def served_again(desk: Desk, version: EtcdVersion, manifest: Manifest, folder: Path) -> Iterator[ClientUrl]:
    """The snapshot of this manifest, fetched, restored and served."""
    desk.store.fetch(manifest, folder / "snapshot.db")
    url, tool = PeerUrl("http://127.0.0.1:9"), restore_tool(version.etcd)
    more: dict[str, Any] = {"peer_url": url, "token": "t", "initial_cluster": (("x", url),)}
    restore(tool, folder / "snapshot.db", folder / "data", name="x", **more)
    with scratch_etcd(version.etcd, folder / "data", "x", force_new_cluster=False) as endpoint:
        yield endpoint


# ---- take -------------------------------------------------------------------------------------------------------


def test_a_manifest_says_what_etcd_says(version: EtcdVersion, three: Cluster, tmp_path: Path) -> None:
    endpoint = three.servers[1].client_url
    put(endpoint, [f"k{number % 20}" for number in range(30)])
    desk = desk_at(tmp_path, version, endpoint)
    manifest = desk.errands.take(GENERATION, Origin.DEMAND, None, silently)
    ((answer),) = etcdctl(version, endpoint, "endpoint", "status")
    status, revision = answer["Status"], answer["Status"]["header"]["revision"]
    assert manifest.name.revision == revision
    assert (manifest.cluster_id, manifest.member_id) == (status["header"]["cluster_id"], status["header"]["member_id"])
    assert (manifest.raft_term, manifest.raft_index) == (status["raftTerm"], status["raftIndex"])
    assert manifest.etcd_version == str(version) == status["version"]
    listed = etcdctl(version, endpoint, "member", "list")["members"]
    assert {(each.id, each.name, *each.peer_urls) for each in manifest.members} == {
        (each["ID"], each["name"], *each["peerURLs"]) for each in listed
    }
    (count, *_) = (len(keys(each.client_url)) for each in three.servers)
    assert manifest.fingerprint == Fingerprint(count, *hash_by_etcdctl(version, endpoint, revision))
    assert desk.bucket.manifest(manifest.name) == manifest
    desk.store.verify(manifest)
    assert desk.left_in_scratch == []


def test_under_load_and_compactions_a_fingerprint_is_right_or_absent(
    version: EtcdVersion, three: Cluster, tmp_path: Path
) -> None:
    endpoints = [each.client_url for each in three.servers]
    desk = desk_at(tmp_path / "root", version, endpoints[2])
    taken: list[Manifest] = []
    with under_load(endpoints):
        for pause in (0.4, 0.01):
            with compacting(endpoints[0], pause):
                taken.append(desk.errands.take(GENERATION, Origin.DEMAND, None, silently))
        while not any(each.fingerprint for each in taken):
            assert len(taken) < 10, "a fingerprint can never be had"
            taken.append(desk.errands.take(GENERATION, Origin.DEMAND, None, silently))
    for number, manifest in enumerate(taken):
        folder = tmp_path / str(number)
        folder.mkdir()
        with served_again(desk, version, manifest, folder) as endpoint:
            if manifest.fingerprint is not None:
                revision = manifest.name.revision
                found = hash_by_etcdctl(version, endpoint, revision)
                assert (manifest.fingerprint.hash_kv, manifest.fingerprint.compact_revision) == found
                assert desk.etcd.count_keys(endpoint, revision) == manifest.fingerprint.key_count
            assert desk.etcd.status(endpoint).revision >= manifest.name.revision


def test_a_fingerprint_at_the_revision_that_was_compacted_last_is_right(
    version: EtcdVersion, three: Cluster, tmp_path: Path
) -> None:
    """As in every cluster to which nobody wrote for an hour, with etcd's auto-compaction on."""
    endpoint = three.servers[0].client_url
    desk = desk_at(tmp_path, version, endpoint)
    put(endpoint, [f"again-{number % 3}" for number in range(12)])
    now = desk.etcd.status(endpoint).revision
    told(version, endpoint, "compaction", "--physical", str(now - 6))
    told(version, endpoint, "compaction", "--physical", str(now))
    manifest = desk.errands.take(GENERATION, Origin.DEMAND, None, silently)
    assert manifest.name.revision == now
    assert manifest.fingerprint is not None
    with served_again(desk, version, manifest, tmp_path) as restored:
        found = look(desk.etcd, restored, now)
    assert found == manifest.fingerprint
    assert drilled(desk, manifest)[0] is DrillResult.PASSED


@contextmanager
def compacting(endpoint: ClientUrl, pause: float) -> Iterator[None]:
    over, failed = threading.Event(), list[str]()

    def compact() -> None:
        client = client_of(endpoint)
        while not over.wait(pause):
            try:
                now = client.kvstub.Range(etcdrpc.RangeRequest(key=b"a"), timeout=5).header.revision
                client.kvstub.Compact(etcdrpc.CompactionRequest(revision=now - 3), timeout=5)
            except grpc.RpcError as error:
                failed.append(str(error))
        client.close()

    thread = threading.Thread(target=compact)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert all("compacted" in each for each in failed), failed


def test_what_is_taken_as_a_task_sweeps_what_was_left_behind_but_not_what_is_worked_in(
    version: EtcdVersion, three: Cluster, tmp_path: Path
) -> None:
    """An operator's drill may be under way beside the agent."""
    desk = desk_at(tmp_path, version, three.servers[0].client_url)
    (desk.root.scratch / "rescue-killed.work" / "data").mkdir(parents=True)
    with working_folder(desk.root.scratch, "drill") as folder:
        (folder / "snapshot.db").write_bytes(b"x")
        assert desk.errands.run(TakeSnapshot(GENERATION), silently) is not None
        assert desk.left_in_scratch == [folder.name, f"{folder.name}/snapshot.db"]


def test_what_cannot_be_swept_is_told_and_costs_no_snapshot(
    version: EtcdVersion, three: Cluster, tmp_path: Path, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """A role that may put objects and may not list uploads keeps its backups."""
    desk = desk_at(tmp_path, version, three.servers[0].client_url)
    gateway.spoil("^GET .*uploads", 403, s3_error("AccessDenied"), times=9)
    manifest = desk.errands.run(TakeSnapshot(GENERATION), silently)
    assert manifest is not None
    desk.store.verify(manifest)
    assert "s3:ListBucketMultipartUploads" in caplog.text


# ---- rescue -----------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file's digest, and when it was last written."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rescue_of(desk: Desk) -> RescueLog:
    found = survey(desk.root.data)
    assert isinstance(found, Survey)
    return RescueLog(GENERATION, Rescued(ME, found.member_id, found.position))


def test_a_rescue_loses_nothing_that_was_acknowledged_and_leaves_the_original_as_it_was(
    version: EtcdVersion, tmp_path: Path
) -> None:
    """The survivor holds the last write, and was killed before it heard that this was committed."""
    survivor, acknowledged = one_that_knows_less_than_it_has(version, tmp_path)
    desk = desk_at(tmp_path / "root", version)
    task, before = moved_in(desk, survivor)
    manifest = desk.errands.run(task, silently)
    assert manifest is not None
    assert contents(desk.root.data) == before
    assert desk.left_in_scratch == []
    assert (manifest.name.revision, len(manifest.members), manifest.rescued) == (41, 3, task.rescued)
    assert manifest.raft_index >= task.rescued.position.last_index
    assert desk.bucket.manifest(manifest.name) == manifest
    with served_again(desk, version, manifest, tmp_path) as endpoint:
        assert acknowledged - keys(endpoint) == set()
        assert manifest.fingerprint == Fingerprint(40, *hash_by_etcdctl(version, endpoint, 41))


def one_that_knows_less_than_it_has(version: EtcdVersion, folder: Path) -> tuple[Path, set[bytes]]:
    """Mostly at once: the survivor may have been told in the last millisecond."""
    names = [f"k{number:02d}" for number in range(40)]
    for attempt in range(5):
        (folder / str(attempt)).mkdir()
        with running(version.etcd, folder / str(attempt), 3) as cluster:
            leader, survivor, behind = by_leadership(cluster)
            behind.freeze()
            acknowledged = killed_at_the_last_acknowledgement(leader, survivor, names)
        found = survey(survivor.folder / survivor.name)
        assert isinstance(found, Survey)
        if found.position.last_index > found.position.committed_index:
            return survivor.folder / survivor.name, acknowledged
    pytest.fail("it knew of all that it had, each time")


def by_leadership(cluster: Cluster) -> list[Server]:
    door = EtcdDoor()
    try:
        return sorted(cluster.servers, key=lambda each: not door.status(each.client_url).leads)
    finally:
        door.close()


def moved_in(desk: Desk, data: Path) -> tuple[RescueLog, dict[str, tuple[str, int]]]:
    desk.root.data.parent.mkdir(exist_ok=True)
    data.rename(desk.root.data)
    return rescue_of(desk), contents(desk.root.data)


def test_the_same_with_authentication_on_and_its_drill_compares_the_revision_alone(
    version: EtcdVersion, tmp_path: Path
) -> None:
    """Nobody on loopback is etcd's root. The last entry, which the survivor must not lose, turned it on."""
    with running(version.etcd, tmp_path, 3) as cluster:
        leader, survivor, behind = by_leadership(cluster)
        behind.freeze()
        put(leader.client_url, [f"k{number}" for number in range(10)])
        turn_plain_auth_on(version.etcdctl, leader.client_url)
    desk = desk_at(tmp_path / "root", version)
    task, before = moved_in(desk, tmp_path / survivor.name)
    manifest = desk.errands.run(task, silently)
    assert manifest is not None
    assert contents(desk.root.data) == before
    assert desk.left_in_scratch == []
    assert (manifest.name.revision, manifest.fingerprint) == (11, None)
    with served_again(desk, version, manifest, tmp_path) as endpoint:
        found = etcdctl(version, endpoint, "--user=root:unused", "get", "k", "--prefix", "--keys-only")
        assert found["count"] == 10
    assert desk.errands.run(Drill(manifest.name), silently) == manifest
    record = desk.bucket.last_drill()
    assert record is not None
    assert record.result is DrillResult.PASSED
    assert record.detail == "its revision is (etcd's authentication keeps its keys from us) as the manifest says"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A member's data that was ended with SIGTERM, for whoever moves a copy of it in."""
    folder = tmp_path_factory.mktemp("stopped")
    with running(etcd_versions.default().etcd, folder, 1) as cluster:
        (server,) = cluster.servers
        put(server.client_url, [f"k{number}" for number in range(10)])
        end(server)
    return folder / server.name


def a_survivor(desk: Desk, stopped: Path) -> RescueLog:
    desk.root.data.parent.mkdir(exist_ok=True)
    subprocess.run(["cp", "-a", str(stopped), str(desk.root.data)], check=True)
    return rescue_of(desk)


def test_a_damaged_log_is_refused_for_good(stopped: Path, tmp_path: Path) -> None:
    desk = desk_at(tmp_path, etcd_versions.default())
    task = a_survivor(desk, stopped)
    log = segments(desk.root.data)[-1]
    flip(log, log.read_bytes().index(b"k5"))
    assert isinstance(survey(desk.root.data), Damaged)
    before = contents(desk.root.data)
    with pytest.raises(Refused, match=r"the data of i-0a cannot be rescued: log: .*") as raised:
        desk.errands.run(task, silently)
    assert raised.value.unknown.why not in MAY_PASS
    assert contents(desk.root.data) == before
    assert desk.bucket.snapshots() == ()
    assert desk.left_in_scratch == []


# ---- from a seed to a cluster -----------------------------------------------------------------------------------


def test_three_founders_restore_one_seed_and_are_one_cluster(
    version: EtcdVersion, three: Cluster, tmp_path: Path
) -> None:
    endpoint = three.servers[0].client_url
    put(endpoint, ["seed"])
    desk = desk_at(tmp_path / "taking", version, endpoint)
    manifest = desk.errands.take(GENERATION, Origin.DEMAND, None, silently)
    bump = BUMP if can_bump_revisions(restore_tool(version.etcd)) else 0
    assert (bump > 0) == (version.number >= (3, 5, 10))
    with ExitStack() as running_etcds:
        endpoints = founded(version, desk, manifest, bump, tmp_path, running_etcds)
        wait_until(lambda: all(serves(desk.etcd, each) for each in endpoints), 30, "the founders do not serve")
        lists = {desk.etcd.membership(each).cluster_id for each in endpoints}
        assert len(lists) == 1
        assert lists != {manifest.cluster_id}
        revision = manifest.name.revision + bump
        assert {desk.etcd.status(each).revision for each in endpoints} == {revision}
        put(endpoints[0], ["after"])
        wait_until(lambda: {desk.etcd.status(each).revision for each in endpoints} == {revision + 1}, 10, "not in step")
        hashes = {hash_by_etcdctl(version, each, revision) for each in endpoints}
        assert len(hashes) == 1
        wanted = manifest.fingerprint
        assert wanted is not None
        assert desk.etcd.count_keys(endpoints[1], revision) == wanted.key_count
        if bump == 0:
            assert hashes == {(wanted.hash_kv, wanted.compact_revision)}


def founded(
    version: EtcdVersion, desk: Desk, manifest: Manifest, bump: int, folder: Path, running_etcds: ExitStack
) -> list[ClientUrl]:
    block = _free_block()
    founders = {InstanceId(f"i-{number}"): f"{block}.{number}" for number in (1, 2, 3)}
    peers = tuple((name, PeerUrl(f"http://{ip}:2380")) for name, ip in founders.items())
    seed = Seed(manifest.name.manifest_key, manifest.name.revision, manifest.sha256, "snapshot", bump)
    for name, url in peers:
        ours = Desk(Where(folder / name, desk.where.cluster, version.etcd, instance=name))
        host = a_host(ours, version, founders[name])
        host.stamp(Identity("prod", name, GenerationNumber(2), Stage.STARTING, Nonce("n1"), url), prepare=True)
        assert ours.errands.run(FetchSeed(manifest), silently) == manifest
        assert host.disk().seeds == {manifest.sha256}
        ours.errands.run(RestoreSeed(seed, Nonce("n1"), name, url, "prod-2", peers), silently)
        assert host.disk().restored == {Nonce("n1")}
        host.put_in_place(Nonce("n1"))
        running_etcds.callback(host.stop)
        host.start(Launch(name, url, "new", "prod-2", peers))
    return [ClientUrl(f"http://{ip}:2379") for ip in founders.values()]


def a_host(desk: Desk, version: EtcdVersion, ip: str) -> InstanceHost:
    root = desk.where.root
    supervisor = ProcessSupervisor(str(version.etcd), root, root / "etcd.log", SystemClock())
    settings = EtcdSettings(data_dir=desk.root.data, private_ip=ip)
    return InstanceHost(desk.root, supervisor, str(version.etcd), settings)


def serves(door: EtcdDoor, endpoint: ClientUrl) -> bool:
    try:
        return len(door.membership(endpoint).members) == 3
    except Exception:  # noqa: BLE001 - not yet
        return False


# ---- drills -----------------------------------------------------------------------------------------------------


@pytest.fixture
def tested(three_of_newest: Desk, tmp_path: Path) -> tuple[Desk, Manifest]:
    """A sound snapshot, and a desk to try it out at."""
    source = three_of_newest
    desk = Desk(Where(tmp_path, next(clusters), source.where.binary, source.where.endpoint))
    return desk, desk.errands.take(GENERATION, Origin.SCHEDULE, None, silently)


@pytest.fixture(scope="module")
def three_of_newest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder, version = tmp_path_factory.mktemp("newest"), etcd_versions.default()
    with running(version.etcd, folder, 1) as cluster:
        put(cluster.servers[0].client_url, [f"k{number}" for number in range(30)])
        yield Desk(Where(folder, "unused", version.etcd, cluster.servers[0].client_url))


def drilled(desk: Desk, manifest: Manifest) -> tuple[DrillResult, str]:
    """What was filed of it."""
    assert desk.errands.run(Drill(manifest.name), silently) == manifest
    record = desk.bucket.last_drill()
    assert record is not None
    assert (record.name, record.instance) == (manifest.name, ME)
    assert desk.left_in_scratch == []
    return record.result, record.detail


def test_a_sound_snapshot_passes(tested: tuple[Desk, Manifest]) -> None:
    assert drilled(*tested) == (DrillResult.PASSED, "revision, key count and HashKV are as the manifest says")


def test_an_operators_drill_and_the_agents_are_not_in_each_others_way(tested: tuple[Desk, Manifest]) -> None:
    """A command beside the running agent: two processes on one scratch folder."""
    desk, manifest = tested
    with Doomed(desk.where, Drill(manifest.name)).start() as operator:
        wait_until(lambda: desk.left_in_scratch != [], 30, "the operator does not begin")
        assert desk.errands.run(Drill(manifest.name), silently) == manifest
        desk.root.clear_scratch()
        assert operator.wait(60) == 0
    assert drilled(desk, manifest)[0] is DrillResult.PASSED


def as_another(desk: Desk, manifest: Manifest, **lies: Any) -> Manifest:
    """The same data again, under a manifest that says something else."""
    name = lies.get("name") or replace(manifest.name, taken_at=manifest.name.taken_at + timedelta(hours=1))
    key = f"etcd/{desk.where.cluster}/"
    s3().copy_object(
        Bucket=REAL, Key=key + name.data_key, CopySource={"Bucket": REAL, "Key": key + manifest.name.data_key}
    )
    other = replace(manifest, **(lies | {"name": name}))
    desk.store.commit(other)
    return other


def test_a_flipped_bit_fails(tested: tuple[Desk, Manifest]) -> None:
    desk, manifest = tested
    key = f"etcd/{desk.where.cluster}/{manifest.name.data_key}"
    data = bytearray(s3().get_object(Bucket=REAL, Key=key)["Body"].read())
    data[len(data) // 2] ^= 0x10
    s3().put_object(Bucket=REAL, Key=key, Body=bytes(data))
    result, detail = drilled(desk, manifest)
    assert result is DrillResult.FAILED
    assert str(manifest.name) in detail


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ({"hash_kv": 7}, r"its hash kv is \d+, and not 7"),
        ({"key_count": 7}, "its key count is 30, and not 7"),
    ],
    ids=["hash", "count"],
)
def test_another_fingerprint_fails(tested: tuple[Desk, Manifest], lie: dict[str, int], said: str) -> None:
    desk, manifest = tested
    assert manifest.fingerprint is not None
    other = as_another(desk, manifest, fingerprint=replace(manifest.fingerprint, **lie))
    result, detail = drilled(desk, other)
    assert result is DrillResult.FAILED
    assert re.fullmatch(said, detail), detail


def test_a_revision_that_it_does_not_reach_fails(tested: tuple[Desk, Manifest]) -> None:
    desk, manifest = tested
    result, detail = drilled(desk, as_another(desk, manifest, name=replace(manifest.name, revision=99)))
    assert result is DrillResult.FAILED
    assert detail.startswith("its revision is 31, and not at least 99; its keys at revision 99 cannot be read: ")


def test_a_foreign_file_fails(tested: tuple[Desk, Manifest]) -> None:
    """Whole by every digest, and no etcd's."""
    desk, manifest = tested
    database = random.Random(1).randbytes(64 * 1024)
    name = SnapshotName(GENERATION, 812, datetime(2026, 11, 22, 7, tzinfo=UTC))
    sent = desk.store.upload(name, [database, hashlib.sha256(database).digest()])
    sizes: dict[str, Any] = {"size_bytes": sent.size_bytes, "sha256": sent.sha256, "stored_bytes": sent.stored_bytes}
    foreign = replace(manifest, name=name, fingerprint=None, **sizes)
    desk.store.commit(foreign)
    result, detail = drilled(desk, foreign)
    assert result is DrillResult.FAILED
    assert "snapshot restore failed" in detail


def test_without_room_it_is_skipped(tested: tuple[Desk, Manifest]) -> None:
    desk, manifest = tested
    result, detail = drilled(desk, as_another(desk, manifest, size_bytes=10 << 50))
    assert result is DrillResult.SKIPPED
    assert "there is no room to try a restore" in detail


def test_what_is_about_us_is_told_and_filed_against_nobody(tested: tuple[Desk, Manifest], gateway: Gateway) -> None:
    desk, manifest = tested
    gateway.spoil(r"(GET|HEAD) .*\.db\.zst", 403, s3_error("AccessDenied"), times=9)
    with pytest.raises(Refused) as raised:
        desk.errands.run(Drill(manifest.name), silently)
    assert raised.value.unknown.why is Ignorance.DENIED
    assert desk.bucket.last_drill() is None
    assert desk.left_in_scratch == []


# ---- killed in the middle ---------------------------------------------------------------------------------------


def scratch_processes(desk: Desk) -> list[int]:
    """Whatever runs on anything in its scratch folder."""
    below, found = f"{desk.root.scratch}/".encode(), []
    for each in Path("/proc").iterdir():
        if each.name.isdecimal():
            try:
                said = (each / "environ").read_bytes() + (each / "cmdline").read_bytes()
            except OSError:
                continue
            found += [int(each.name)] if below in said else []
    return found


def is_killed_at_its_moment(doomed: Doomed, desk: Desk) -> None:
    with doomed.start() as agent:
        assert agent.wait(30) == -9, "it came to its end before its moment"
    wait_until(lambda: scratch_processes(desk) == [], 5, "what it started lives on")


@pytest.mark.parametrize("moment", [a_child_runs, etcd_serves])
def test_a_rescue_that_was_killed_is_made_again(stopped: Path, tmp_path: Path, moment: Any) -> None:
    desk = desk_at(tmp_path, etcd_versions.default())
    task = a_survivor(desk, stopped)
    before = contents(desk.root.data)
    is_killed_at_its_moment(Doomed(desk.where, task, moment), desk)
    assert desk.left_in_scratch != []
    assert contents(desk.root.data) == before
    assert desk.bucket.snapshots() == ()
    assert desk.errands.run(task, silently) is not None
    assert contents(desk.root.data) == before
    assert desk.left_in_scratch == []


@pytest.mark.parametrize("moment", [a_child_runs, etcd_serves])
def test_a_drill_that_was_killed_is_done_again(tested: tuple[Desk, Manifest], moment: Any) -> None:
    desk, manifest = tested
    is_killed_at_its_moment(Doomed(desk.where, Drill(manifest.name), moment), desk)
    assert desk.left_in_scratch != []
    assert desk.bucket.last_drill() is None
    assert drilled(desk, manifest)[0] is DrillResult.PASSED


def test_a_fetch_and_a_restore_that_were_killed_are_done_again(
    tested: tuple[Desk, Manifest], stopped: Path, gateway: Gateway
) -> None:
    desk, manifest = tested
    a_survivor(desk, stopped)  # whose data is another's, and stays
    before = contents(desk.root.data)
    gateway.clear()
    gateway.spoil(r"GET .*\.db\.zst", HANG)
    with Doomed(desk.where, FetchSeed(manifest)).start() as agent:
        wait_until(lambda: any("GET" in each and ".db.zst" in each for each in gateway.heard), 30, "nothing is fetched")
        agent.kill()
    assert desk.root.read().seeds == frozenset()
    desk.errands.run(FetchSeed(manifest), silently)
    assert desk.root.read().seeds == {manifest.sha256}
    url = PeerUrl("http://127.0.0.1:9")
    seed = Seed(manifest.name.manifest_key, manifest.name.revision, manifest.sha256, "snapshot")
    task = RestoreSeed(seed, Nonce("n1"), ME, url, "t", ((ME, url),))
    is_killed_at_its_moment(Doomed(desk.where, task, a_child_runs), desk)
    assert desk.root.read().restored == frozenset()
    desk.errands.run(task, silently)
    assert desk.root.read().restored == {Nonce("n1")}
    assert isinstance(survey(desk.root.restored(Nonce("n1"))), Survey)
    assert contents(desk.root.data) == before


def test_a_snapshot_whose_taker_was_killed_is_nothing_and_is_taken_again(
    three_of_newest: Desk, tmp_path: Path, gateway: Gateway
) -> None:
    desk = Desk(replace(three_of_newest.where, root=tmp_path, cluster=next(clusters)))
    gateway.spoil(r"PUT .*\.db\.zst", HANG)
    with Doomed(desk.where, TakeSnapshot(GENERATION)).start() as agent:
        wait_until(lambda: any("PUT" in each and ".db.zst" in each for each in gateway.heard), 30, "nothing is sent")
        agent.kill()
    assert desk.bucket.snapshots() == ()
    manifest = desk.errands.run(TakeSnapshot(GENERATION), silently)
    assert manifest is not None
    desk.store.verify(manifest)
    assert [each.name for each in desk.bucket.snapshots() if each.usable] == [manifest.name]


def test_a_snapshot_that_cannot_be_uploaded_is_let_go_of_at_once(
    version: EtcdVersion, tmp_path: Path, gateway: Gateway
) -> None:
    """As long as its stream is open etcd keeps every page of it: the database grows, and cannot be defragmented."""
    with running(version.etcd, tmp_path, 1) as cluster:
        server = cluster.servers[0]
        for number in range(80):  # more than is held at once
            put(server.client_url, [f"k{number}"], random.Random(number).randbytes(1_000_000))
        desk = desk_at(tmp_path / "desk", version, server.client_url)
        gateway.spoil(r"PUT .*partNumber=3", 404, s3_error("NoSuchUpload"), times=9)
        with pytest.raises((Refused, Unavailable)) as caught:
            desk.errands.take(GenerationNumber(1), Origin.SCHEDULE, None, silently)
        assert desk.called[-1] == "Snapshot", "over, although somebody keeps the error and all that hangs on it"
        assert caught.value.__traceback__ is not None
