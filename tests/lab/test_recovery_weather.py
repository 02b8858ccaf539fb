"""Recovery in bad weather and from bad snapshots: nothing is invented, nothing bad is restored, and it ends well.

House rules of these stories: the fleet of a module goes from total loss to total loss, each a generation further, so
no story may count on a number; what a generation was made from is read from its record, and what it holds from etcd.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.decide.snapshotting import MOST_AT_ONCE
from agent.lab import members
from agent.lab.client import Instance, Lab
from agent.lab.spec import LabSpec
from agent.model.snapshot import BAD, Manifest, SnapshotName
from agent.world.scratch_etcd import scratch_etcd
from tests import etcd_versions
from tests.lab.evidence import log_size
from tests.lab.founding import WAITING_FOR_US, start_all, wait_for_machines
from tests.lab.harness import agent_status, stays, tell_logs, wait_until, wait_whole
from tests.lab.losing import PACE, QUICK, rescues, terminate_for_good, wait_recovered
from tests.lab.shelf import Shelf, later, lines_about
from tests.lab.test_face import on
from tests.lab.watching import sample, well_kept_lab

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(150)]


@pytest.fixture(scope="module")
def shared_fleet(tmp_path_factory: pytest.TempPathFactory, etcd_binary: str) -> Iterator[Lab]:
    """Three voters, whose agents find a loss after seconds."""
    settings = {**QUICK, "snapshots": {**QUICK["snapshots"], "keep_newest": 3, "keep_hourly": 2, "keep_daily": 2}}
    spec = LabSpec(etcd=etcd_binary, settings=settings, pace=PACE)
    with well_kept_lab(spec, tmp_path_factory.mktemp("recovery-weather") / "lab") as lab:
        yield lab


@pytest.fixture
def fleet(shared_fleet: Lab) -> Iterator[Lab]:
    """The same, whole, in fair weather; its logs are told after each story."""
    wait_whole(shared_fleet, 3)
    yield shared_fleet
    shared_fleet.clear_faults()
    tell_logs(shared_fleet.folder)


def saved(lab: Lab, key: str, value: str) -> Manifest:
    """A key, and a snapshot with it, which an operator takes rather than wait for the interval."""
    assert members.put(lab.addresses()[0], key, value) is not None
    return take(Shelf(lab))


def take(shelf: Shelf) -> Manifest:
    """By `snapshot take`; again where it keeps out of the way of an agent that takes one itself."""

    def taken() -> str:
        done = on(shelf.lab.instances()[0], "snapshot", "take", "--json")
        return str(json.loads(done.stdout)["snapshot"]) if done.returncode == 0 else ""

    name = SnapshotName.parse(wait_until(taken, 30, "a snapshot on demand", every_s=0.5))
    assert name is not None
    return shelf.manifest(name)


def lose_everything(lab: Lab) -> set[str]:
    """All instances at once, for good; returns who they were."""
    gone = lab.instances()
    terminate_for_good(lab, *gone)
    return {each.id for each in gone}


def replacements_run(lab: Lab, gone: set[str]) -> bool:
    """Three new instances, whose agents were started."""
    return sum(each.id not in gone and each.agent_starts > 0 for each in lab.instances()) == 3


def seed_of(lab: Lab, generation: int) -> SnapshotName | None:
    """The snapshot that a generation's record says it was made from."""
    seed = Shelf(lab).record(generation)["seed"]
    return SnapshotName.parse(seed["manifest"].removesuffix(".json"))


def assert_made_from(lab: Lab, generation: int, snapshot: Manifest) -> None:
    """From this one, or from another of the same revision: an agent may have taken one a second later."""
    seed = seed_of(lab, generation)
    assert seed is not None
    assert (seed.generation, seed.revision) == (snapshot.name.generation, snapshot.name.revision)


def assert_everywhere(lab: Lab, key: str, value: str) -> None:
    for address in lab.addresses():
        assert members.get(address, key) == value, address


# ---- the bucket is away, or refuses ---------------------------------------------------------------------------------


def test_while_the_bucket_is_down_nothing_is_invented_and_recovery_starts_when_it_is_back(fleet: Lab) -> None:
    generation = Shelf(fleet).head()
    newest = saved(fleet, "story", "down")
    with fleet.weather(service="s3", status=503):
        gone = lose_everything(fleet)
        wait_until(lambda: replacements_run(fleet, gone), 30, "three replacements")
        since = fleet.last_call()
        stays(lambda: not any(each.etcd_pids for each in fleet.instances()), 6, "no etcd is started")
        writes = [call for call in fleet.calls(since) if call["operation"].startswith("Put") and call["status"] == 200]
        assert not writes
        assert [call for call in fleet.calls(since) if call["service"] == "s3"], "nobody asked the bucket"
        back = datetime.now(UTC)
    record = wait_recovered(fleet, generation + 1)
    assert datetime.fromisoformat(record["created_at"]) > back
    assert_made_from(fleet, generation + 1, newest)
    assert_everywhere(fleet, "story", "down")


STORM: tuple[dict[str, Any], ...] = (
    {"operation": "PutObject", "match": "/generations/", "status": 409, "times": 2},
    {"operation": "PutObject", "match": "/generations/", "status": 503, "after": True, "times": 3},  # landed, unheard
    {"operation": "PutObject", "match": "/claims/", "status": 412, "times": 1},
    {"operation": "GetObject", "match": ".db.zst", "status": 503, "times": 9},
    {"operation": "GetObject", "match": ".db.zst", "delay_s": 1.0, "times": 3},
    {"operation": "GetObject", "match": "/snapshots/", "status": 403, "times": 3},
    {"operation": "ListObjectsV2", "match": "/snapshots/", "status": 500, "times": 3},
    {"operation": "ListObjectsV2", "match": "/assembly/", "status": 503, "times": 3},
)


def test_a_bucket_that_refuses_again_and_again_only_delays_a_recovery(fleet: Lab) -> None:
    generation = Shelf(fleet).head()
    newest = saved(fleet, "story", "storm")
    faults = {fleet.fault(service="s3", **each) for each in STORM}
    since, gone = fleet.last_call(), lose_everything(fleet)
    wait_until(lambda: replacements_run(fleet, gone), 30, "three replacements")
    wait_recovered(fleet, generation + 1)
    met = {call["fault"] for call in fleet.calls(since)}
    fleet.clear_faults()
    assert faults <= met, "some of the weather met nobody"
    assert_made_from(fleet, generation + 1, newest)
    assert_everywhere(fleet, "story", "storm")
    Shelf(fleet).assert_all_that_counts_is_whole()


def test_a_snapshot_that_nobody_may_read_just_now_is_waited_for_and_never_called_bad(fleet: Lab) -> None:
    shelf = Shelf(fleet)
    generation = shelf.head()
    newest, began = saved(fleet, "story", "denied"), datetime.now(UTC)
    with fleet.weather(service="s3", operation="GetObject", match=".db.zst", status=403):
        lose_everything(fleet)
        line = wait_until(lambda: lines_about(fleet, "s3:GetObject on", began), 40, "a line about the denied call")[0]
        assert f'"Resource":"arn:aws:s3:::{shelf.bucket}/{shelf.root}*"' in line["detail"]
        stays(lambda: shelf.head() == generation, 4, "nothing is restored")
        assert BAD not in shelf.listed()[newest.name]
    wait_recovered(fleet, generation + 1)
    assert_made_from(fleet, generation + 1, newest)
    assert_everywhere(fleet, "story", "denied")


def test_a_log_that_cannot_be_uploaded_just_now_is_waited_for_and_never_given_up_for_a_snapshot(fleet: Lab) -> None:
    shelf = Shelf(fleet)
    generation = shelf.head()
    saved(fleet, "story", "in the snapshot")
    survivor, *others = fleet.instances()
    began, since = datetime.now(UTC), log_size(survivor)
    with fleet.weather(service="s3", operation="PutObject", match="/snapshots/", status=403):
        assert members.put(survivor.address, "story", "in the log") is not None
        terminate_for_good(fleet, *others)
        wait_until(lambda: rescues(survivor, since), 40, "a try to rescue the log")
        wait_until(lambda: lines_about(fleet, "s3:PutObject", began), 20, "a line about the denied call")
        stays(lambda: shelf.head() == generation, 4, "no snapshot is taken for the log")
    record = wait_recovered(fleet, generation + 1)
    assert record["seed"]["source"] == f"survivor {survivor.id}"
    assert_everywhere(fleet, "story", "in the log")


# ---- what history says ----------------------------------------------------------------------------------------------


def test_an_older_generation_never_wins_by_its_revision_and_never_keeps_a_new_snapshot_from_being_taken(
    fleet: Lab,
) -> None:
    """What a fenced lineage could have left: far higher revisions, younger, sound in every way."""
    shelf = Shelf(fleet)
    if shelf.head() == 1:
        saved(fleet, "story", "before")
        lose_everything(fleet)
        wait_recovered(fleet, 2)
    generation = shelf.head()
    before = saved(fleet, "story", "history")
    older = [later(before.name, 5_000_000_000 + number, generation - 1) for number in range(2)]
    forged = [shelf.forge(before, name, raft_index=1 << 40) for name in older]
    assert all(each.name.revision > before.name.revision for each in forged)
    assert members.put(fleet.addresses()[0], "story", "after the forgery") is not None
    wait_until(lambda: shelf.sound(generation)[-1] > before.name, 30, "a snapshot by the agents, who are not misled")
    newest = shelf.manifest(shelf.sound(generation)[-1])
    lose_everything(fleet)
    wait_recovered(fleet, generation + 1)
    assert_made_from(fleet, generation + 1, newest)
    assert_everywhere(fleet, "story", "after the forgery")


# ---- bad snapshots --------------------------------------------------------------------------------------------------


def listed_by_command(lab: Lab) -> dict[str, dict[str, Any]]:
    """`snapshot list --json`, by name."""
    done = on(lab.instances()[0], "snapshot", "list", "--json")
    assert done.returncode == 0, done.stderr
    return {each["name"]: each for each in json.loads(done.stdout)["snapshots"]}


def test_bad_snapshots_are_refused_marked_and_named_and_the_next_best_is_used(fleet: Lab) -> None:
    shelf = Shelf(fleet)
    generation = shelf.head()
    sound = saved(fleet, "story", "sound")
    data = shelf.body(sound.name.data_key)
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 0x10
    names = [later(sound.name, number) for number in (1, 2, 3, 4)]
    shelf.forge(sound, names[0], data[: len(data) // 2], stored_bytes=len(data) // 2)
    shelf.forge(sound, names[1], bytes(flipped))
    shelf.forge(sound, names[2], cluster="another")
    shelf.forge(sound, names[3], sha256="0" * 64)
    lose_everything(fleet)
    wait_recovered(fleet, generation + 1)
    assert_made_from(fleet, generation + 1, sound)
    assert_everywhere(fleet, "story", "sound")
    marked = {name: shelf.document(name.bad_key)["why"] for name, parts in shelf.listed().items() if BAD in parts}
    assert set(names) <= set(marked)
    assert all(marked[name] for name in names)
    shown = listed_by_command(fleet)
    for name in names:
        assert shown[str(name)]["state"] == "bad"
        assert shown[str(name)]["why"] == marked[name]
    wait_until(lambda: sample(fleet, "snapshots", state="bad") >= len(names), 30, "a metric counts the bad ones")
    for name in names:
        shelf.remove(name)


def test_a_snapshot_of_a_newer_etcd_calls_a_human_who_may_take_an_older_one(fleet: Lab) -> None:
    shelf = Shelf(fleet)
    generation = shelf.head()
    sound = saved(fleet, "story", "of today")
    future = shelf.forge(sound, later(sound.name, 1), etcd_version="3.99.0")
    lose_everything(fleet)
    wait_until(lambda: len(fleet.instances()) == 3, 30, "three replacements")
    wait_until(lambda: all(says(each, "3.99.0") for each in fleet.instances()), 60, "every agent names the version")
    assert sample(fleet, "needs_human") == 3
    stays(lambda: shelf.head() == generation, 4, "nothing is restored by itself")
    done = on(fleet.instances()[0], "recover", "--from", str(sound.name), "--yes")
    assert done.returncode == 0, done
    wait_recovered(fleet, generation + 1)
    assert_made_from(fleet, generation + 1, sound)
    assert_everywhere(fleet, "story", "of today")
    shelf.remove(future.name)


def says(instance: Instance, what: str) -> bool:
    return what in json.dumps((agent_status(instance) or {}).get("decision") or {})


# ---- letting go -----------------------------------------------------------------------------------------------------

MANY = 520
"""Each is two objects, so that a listing has two pages."""
FEW = 2
"""The last of its hour and the last of its day may stay, of what is kept for every hour and day that has any."""


def test_more_than_a_thousand_objects_of_the_past_go_and_what_counts_and_what_is_not_ours_stays(fleet: Lab) -> None:
    shelf, generation = Shelf(fleet), Shelf(fleet).head()
    if generation == 1:
        saved(fleet, "story", "before")
        lose_everything(fleet)
        wait_recovered(fleet, 2)
        generation = 2
    newest = saved(fleet, "story", "kept")
    seed = seed_of(fleet, generation)
    assert seed is not None
    past = [
        SnapshotName(newest.name.generation, 1 + number, newest.name.taken_at - timedelta(days=30, minutes=number))
        for number in range(MANY)
    ]
    foreign = {"snapshots/README.txt": b"ours", f"{past[0]}.db.zst.bak": b"a copy", "notes/today.json": b"{}"}
    shelf.put_all(
        dict.fromkeys((name.data_key for name in past), b"their data")
        | {name.manifest_key: replace(newest, name=name).to_json().encode() for name in past}
        | foreign
    )
    best, since = {name.generation: name for name in shelf.sound()}, fleet.last_call()
    saved(fleet, "story", "another")

    def still_there() -> int:
        return len(set(past) & set(shelf.listed()))

    # some of those that go at once may be older generations' own
    wait_until(lambda: still_there() <= MANY - MOST_AT_ONCE // 2, 40, "the oldest to go", every_s=2)
    stays(lambda: still_there() >= MANY - 2 * MOST_AT_ONCE, 3, "no more than so many go in one round", every_s=1)
    pruned = on(fleet.instances()[0], "snapshot", "prune", "--json", "--dry-run")
    going = {SnapshotName.parse(name) for name in json.loads(pruned.stdout)["expired"]}
    left = set(shelf.sound())
    assert len(left & set(past) - going) <= FEW
    assert not going & {seed, *{name.generation: name for name in sorted(left)}.values()}
    assert seed in left
    assert {name for name in best.values() if name.generation < generation} <= left
    assert max(left) >= newest.name
    gone = [call["resource"] for call in fleet.calls(since) if call["operation"].startswith("Delete")]
    ours = [key.removeprefix(f"/{shelf.bucket}/{shelf.root}").rpartition(".")[0] for key in gone]
    assert all(SnapshotName.parse(key.removesuffix(".db")) not in {None, seed, *left} for key in ours), ours
    assert {key: shelf.body(key) for key in foreign} == foreign
    shelf.remove(*past)


# ---- another line of etcd -------------------------------------------------------------------------------------------


def test_on_etcd_3_4_all_are_lost_and_the_newest_snapshot_is_restored(tmp_path: Path) -> None:
    spec = LabSpec(etcd=str(etcd_versions.named("3.4.23").etcd), settings=QUICK, pace=PACE)
    with well_kept_lab(spec, tmp_path / "lab") as lab:
        wait_whole(lab, 3)
        newest = saved(lab, "story", "3.4")
        lose_everything(lab)
        record = wait_recovered(lab, 2)
        assert newest.etcd_version == "3.4.23"
        assert_made_from(lab, 2, newest)
        assert record["seed"]["bump_revision"] == 0
        assert_everywhere(lab, "story", "3.4")


# ---- machines whose agents start when a story starts them -----------------------------------------------------------


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory, etcd_binary: str) -> Iterator[Lab]:
    """Three machines that run, without agents."""
    spec = LabSpec(etcd=etcd_binary, settings=QUICK, pace=WAITING_FOR_US)
    with well_kept_lab(spec, tmp_path_factory.mktemp("machines") / "lab") as lab:
        wait_for_machines(lab)
        yield lab


def anew(lab: Lab, cluster: str, prefix: str) -> Shelf:
    """Three empty disks without agents, for a cluster of this name below this prefix."""
    lab.change(settings={**QUICK, "cluster": {"name": cluster}, "storage": {"prefix": prefix}})
    for instance_id in wait_for_machines(lab):
        lab.wipe(instance_id)
    return Shelf(lab, cluster, prefix)


def wait_serving(shelf: Shelf, generation: int) -> None:
    wait_until(lambda: shelf.has_formed(generation), 60, f"generation {generation} of {shelf.cluster}")
    wait_whole(shelf.lab, 3)


def test_a_cluster_never_sees_the_objects_of_one_whose_name_begins_with_its_own(machines: Lab) -> None:
    """c10 was here first: generations, reports, snapshots of higher revisions, in the same bucket and prefix."""
    other = anew(machines, "c10", "shared")
    start_all(machines)
    wait_serving(other, 1)
    for number in range(20):
        members.put(machines.addresses()[0], f"c10/{number}", "theirs")
    take(other)
    shelf = anew(machines, "c1", "shared")
    record = other.document("generations/000001.json")
    other.put("generations/000002.json", json.dumps(record | {"generation": 2}).encode())
    theirs, since = other.contents(), machines.last_call()
    start_all(machines)
    wait_serving(shelf, 1)
    assert members.get_prefix(machines.addresses()[0], "c10/") == {}
    assert members.put(machines.addresses()[0], "story", "c1") is not None
    assert take(shelf).name.revision < max(other.sound()).revision
    for instance_id in wait_for_machines(machines):
        machines.wipe(instance_id)
    start_all(machines)
    wait_serving(shelf, 2)
    assert_everywhere(machines, "story", "c1")
    assert members.get_prefix(machines.addresses()[0], "c10/") == {}
    assert other.contents() == theirs
    strayed = [call for call in machines.calls(since) if call["caller"] != "operator" and "/c10/" in call["resource"]]
    assert not strayed


def saved_elsewhere(folder: Path, etcd: etcd_versions.EtcdVersion, value: str) -> bytes:
    """What `etcdctl snapshot save` makes of a bare etcd that no agent ever knew, with a key of this value."""
    with scratch_etcd(str(etcd.etcd), folder / "elsewhere", "elsewhere", force_new_cluster=False) as endpoint:
        for words in (("put", "story", value), ("put", "other", "key"), ("snapshot", "save", str(folder / "saved.db"))):
            environment = {"ETCDCTL_API": "3", "PATH": ""}
            subprocess.run([etcd.etcdctl, f"--endpoints={endpoint}", *words], env=environment, check=True, timeout=30)
    return (folder / "saved.db").read_bytes()


def test_what_etcdctl_saved_elsewhere_seeds_a_first_generation_and_replaces_a_living_one(
    machines: Lab, tmp_path: Path
) -> None:
    shelf, s3 = anew(machines, "imported", "imports"), machines.aws("s3")
    s3.create_bucket(Bucket="backups", CreateBucketConfiguration={"LocationConstraint": machines.region})
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        body = saved_elsewhere(tmp_path / name, etcd_versions.default(), name)
        s3.put_object(Bucket="backups", Key=f"old/{name}.db", Body=body)
    one, two, three = wait_for_machines(machines)
    start_all(machines, {one: 0, two: 0})
    wait_until(lambda: len(shelf.keys("assembly/000001/")) == 2, 30, "two that wait for the third")
    done = on(machines.instance(one), "recover", "--from", "s3://backups/old/first.db", "--yes")
    assert done.returncode == 0, done
    machines.start_agent(three)
    wait_serving(shelf, 1)
    assert_everywhere(machines, "story", "first")
    assert shelf.record(1)["cause"]["kind"] == "operator"

    over = ("recover", "--from", "s3://backups/old/second.db", "--yes")
    refused = on(machines.instance(two), *over)
    assert refused.returncode == 1
    assert "--replace-living-cluster" in refused.stderr
    assert shelf.head() == 1
    assert members.put(machines.addresses()[0], "mine", "of generation 1") is not None
    done = on(machines.instance(two), *over, "--replace-living-cluster")
    assert done.returncode == 0, done
    wait_serving(shelf, 2)
    assert_everywhere(machines, "story", "second")
    assert all(members.get(address, "mine") is None for address in machines.addresses())
