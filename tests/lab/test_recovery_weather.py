"""Recovery in bad weather and from bad snapshots: nothing is invented, nothing bad is restored, and it ends well.

House rules of these stories: the fleet of a module goes from total loss to total loss, each a generation further, so
no story may count on a number; what a generation was made from is read from its record, and what it holds from etcd.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.lab import members
from agent.lab.client import Lab
from agent.lab.spec import LabSpec, Pace
from agent.model.snapshot import BAD, Manifest, SnapshotName
from tests.lab.evidence import log_size
from tests.lab.harness import agent_status, stays, tell_logs, wait_until, wait_whole
from tests.lab.losing import QUICK, rescues, terminate_for_good, wait_recovered
from tests.lab.shelf import Shelf, later, lines_about
from tests.lab.test_face import on
from tests.lab.watching import sample, well_kept_lab

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(150)]

PACE = Pace(pending_s=0.1, boot_s=0.2, replacement_s=0.2, agent_restart_s=0.3)


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
    """A key, and the newest snapshot once that holds it."""
    shelf, generation = Shelf(lab), Shelf(lab).head()
    revision = members.put(lab.addresses()[0], key, value)
    assert revision is not None
    wait_until(
        lambda: any(name.revision >= revision for name in shelf.sound(generation)), 40, f"a snapshot that holds {key}"
    )
    return shelf.manifests(generation)[-1]


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
        stays(lambda: not any(each.etcd_pids for each in fleet.instances()), 8, "no etcd is started")
        writes = [call for call in fleet.calls(since) if call["operation"].startswith("Put") and call["status"] == 200]
        assert not writes
        assert [call for call in fleet.calls(since) if call["service"] == "s3"], "nobody asked the bucket"
        back = datetime.now(UTC)
    record = wait_recovered(fleet, generation + 1)
    assert datetime.fromisoformat(record["created_at"]) > back
    assert seed_of(fleet, generation + 1) == newest.name
    assert_everywhere(fleet, "story", "down")


STORM: tuple[dict[str, Any], ...] = (
    {"operation": "PutObject", "match": "/generations/", "status": 409, "times": 2},
    {"operation": "PutObject", "match": "/generations/", "status": 503, "after": True, "times": 3},  # landed, unheard
    {"operation": "PutObject", "match": "/claims/", "status": 412, "times": 1},
    {"operation": "GetObject", "match": ".db.zst", "status": 503, "times": 12},
    {"operation": "GetObject", "match": ".db.zst", "delay_s": 1.0, "times": 3},
    {"operation": "GetObject", "match": "/snapshots/", "status": 403, "times": 3},
    {"operation": "ListObjectsV2", "match": "/snapshots/", "status": 500, "times": 6},
    {"operation": "ListObjectsV2", "match": "/assembly/", "status": 503, "times": 6},
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
    assert seed_of(fleet, generation + 1) == newest.name
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
    assert seed_of(fleet, generation + 1) == newest.name
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
    newest = saved(fleet, "story", "after the forgery")
    assert newest.name.generation == generation
    assert newest.name > before.name
    lose_everything(fleet)
    wait_recovered(fleet, generation + 1)
    assert seed_of(fleet, generation + 1) == newest.name
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
    assert seed_of(fleet, generation + 1) == sound.name
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
    assert seed_of(fleet, generation + 1) == sound.name
    assert_everywhere(fleet, "story", "of today")
    shelf.remove(future.name)


def says(instance: Any, what: str) -> bool:
    return what in json.dumps((agent_status(instance) or {}).get("decision") or {})
