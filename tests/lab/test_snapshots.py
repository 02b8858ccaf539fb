"""Snapshots of a living cluster: who takes them and when, what they hold, and what happens when their taker dies.

House rules of these stories: what a snapshot is worth is read from the bucket, byte by byte, and held against etcd's
own word; the cluster beside it is not to notice anything.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from agent.lab.client import Instance, Lab
from agent.lab.spec import LabSpec
from agent.model.snapshot import MANIFEST, Manifest, SnapshotName
from tests.lab.harness import Writer, leader, metrics, statuses, stays, wait_until, wait_whole
from tests.lab.losing import count_keys, hash_kv
from tests.lab.shelf import Shelf, fill, first_in_turn, largest_file, later, lines_about, peak_of
from tests.lab.watching import SETTINGS, wait_calm, well_kept_lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

INTERVAL_S = 10.0
SCALE = 30
"""Every interval of these settings is a thirtieth of its default, so that a second stands for half a minute."""
QUICK: dict[str, dict[str, Any]] = {**SETTINGS, "snapshots": {"interval": "10s"}}
NEVER_S = 3600.0


@pytest.fixture(scope="module")
def one_three(tmp_path_factory: pytest.TempPathFactory, etcd_binary: str) -> Iterator[Lab]:
    """Three small members."""
    spec = LabSpec(etcd=etcd_binary, settings=QUICK).with_pace(agent_restart_s=0.2)
    with well_kept_lab(spec, tmp_path_factory.mktemp("three") / "lab") as lab:
        wait_whole(lab, 3)
        yield lab


@pytest.fixture
def three(one_three: Lab) -> Iterator[Lab]:
    """The same, whole, with a snapshot, and with every agent at work."""
    wait_whole(one_three, 3)
    wait_until(Shelf(one_three).sound, 40, "a first snapshot")
    yield one_three
    one_three.clear_faults()
    for each in one_three.instances():
        one_three.start_agent(each.id)
    wait_calm(one_three)


def taken_since(shelf: Shelf, before: list[Manifest]) -> list[Manifest]:
    """The snapshots that count, and did not before."""
    known = {each.name for each in before}
    return [shelf.manifest(name) for name in shelf.sound() if name not in known]


def the_leader(lab: Lab) -> Instance:
    found = wait_until(lambda: leader(lab), 15, "a leader")
    assert found is not None
    return found


# ---- what and when --------------------------------------------------------------------------------------------------


def test_a_first_snapshot_follows_right_after_a_generation_forms_and_is_what_etcd_says(three: Lab) -> None:
    shelf = Shelf(three)
    first = shelf.manifests()[0]
    written, formed = shelf.keys()[first.name.manifest_key], shelf.keys()["generations/000001/formed.json"]
    assert written - formed < timedelta(seconds=INTERVAL_S)
    voter = three.instance(first.instance)
    said = statuses(three)[voter.id]
    assert (first.cluster, first.cluster_id, first.member_id) == ("lab", said.cluster_id, said.member_id)
    assert first.etcd_version == said.version
    assert shelf.database(first)
    assert first.fingerprint is not None
    assert first.fingerprint.key_count == count_keys(voter.address, first.name.revision)
    assert {first.fingerprint.hash_kv} == {found for found, _ in hash_kv(three, first.name.revision)}


def test_one_is_taken_each_interval_under_writes_by_the_follower_with_the_lowest_id(three: Lab) -> None:
    """The simulation is strict about whose turn it is; here a busy machine may keep the first one from its turn."""
    shelf = Shelf(three)
    before, turn, term = shelf.manifests(), first_in_turn(three), the_leader(three)

    def in_turn() -> bool:
        found = taken_since(shelf, before)
        return len(found) >= 2 and turn in {each.instance for each in found}

    with Writer(three) as writer:
        wait_until(in_turn, 6 * INTERVAL_S, f"two snapshots, one of them by {turn}", every_s=0.5)
    taken = taken_since(shelf, before)
    assert the_leader(three).id == term.id, "another leader: another turn"
    gaps = [later.name.taken_at - earlier.name.taken_at for earlier, later in pairwise(taken)]
    assert all(timedelta(seconds=INTERVAL_S - 1) <= gap <= timedelta(seconds=1.7 * INTERVAL_S) for gap in gaps), gaps
    assert [each.name.revision for each in taken] == sorted(each.name.revision for each in taken)
    shelf.assert_all_that_counts_is_whole()
    assert not writer.failed


@pytest.mark.long
def test_none_is_taken_while_nothing_is_written_and_a_steady_three_costs_next_to_nothing(three: Lab) -> None:
    """By the agents' own intervals, a thirtieth of the defaults: 24 s are twelve minutes."""
    shelf, seconds = Shelf(three), 24
    revision = max(each.revision for each in statuses(three).values())
    wait_until(lambda: shelf.newest().name.revision >= revision, 3 * INTERVAL_S, "a snapshot with all there is")
    time.sleep(2 * INTERVAL_S)  # each voter has looked once more, in its turn, and knows that nothing is to be done
    before, since = shelf.sound(), three.last_call()
    time.sleep(seconds)
    calls = [call for call in three.calls(since) if call["caller"] != "operator"]
    asked = Counter(f"{call['service']} {call['operation']}" for call in calls)
    assert shelf.sound() == before
    assert not [call for call in calls if call["operation"].startswith(("Put", "Create", "Upload", "Delete"))], asked
    assert not [call["operation"] for call in calls if "/snapshots/" in call["resource"]], asked
    whole_periods = asked.total() - len(asked)  # one more of each may fall into the window
    assert whole_periods * 3600 / seconds / SCALE <= 150, asked


@pytest.mark.long
def test_the_leaders_agent_takes_it_where_nobody_else_can(three: Lab) -> None:
    shelf, leading = Shelf(three), the_leader(three)
    for each in three.instances():
        if each.id != leading.id:
            three.stop_agent(each.id)
            wait_until(lambda each=each: three.instance(each.id).agent_pid is None, 10, "the agent to end")  # type: ignore[misc]
    before = shelf.manifests()
    with Writer(three) as writer:
        wait_until(lambda: taken_since(shelf, before), 3.5 * INTERVAL_S, "a snapshot by the leader's agent")
    assert {each.instance for each in taken_since(shelf, before)} == {leading.id}
    assert not writer.failed


def test_denied_is_a_line_that_names_the_statement_and_nothing_goes_while_nothing_comes(three: Lab) -> None:
    shelf = Shelf(three)
    began, before = datetime.now(UTC), shelf.keys("snapshots/")
    since = three.last_call()
    with Writer(three) as writer, three.weather(service="s3", operation="PutObject", match="/snapshots/", status=403):
        wait_until(lambda: lines_about(three, "s3:PutObject", began), 3 * INTERVAL_S, "a line about the denied call")
        stays(lambda: shelf.keys("snapshots/") == before, 5, "what is there stays there, and nothing comes")
        assert not writer.failed
        assert not [call for call in three.calls(since) if call["operation"].startswith("Delete")]
    line = lines_about(three, "s3:PutObject", began)[0]
    assert f'"Resource":"arn:aws:s3:::{shelf.bucket}/{shelf.root}snapshots/*"' in line["detail"]
    wait_until(lambda: len(shelf.sound()) > len(before) / 2, 2 * INTERVAL_S, "a snapshot in fair weather")


# ---- a database that takes its time ---------------------------------------------------------------------------------

MEGABYTES = 32
MOST_BYTES = 180_000_000
FEW_BYTES = 8 << 20


@pytest.fixture(scope="module")
def big_three(tmp_path_factory: pytest.TempPathFactory, etcd_binary: str) -> Iterator[Lab]:
    """Three members with a database of several parts, whose snapshots are put to the test all the time."""
    settings = {**QUICK, "snapshots": {"interval": "10s", "drill_interval": "10s"}}
    spec = LabSpec(etcd=etcd_binary, settings=settings).with_pace(agent_restart_s=0.2)
    with well_kept_lab(spec, tmp_path_factory.mktemp("big") / "lab") as lab:
        wait_whole(lab, 3)
        fill(lab.addresses()[0], MEGABYTES)
        yield lab


@pytest.fixture
def big(big_three: Lab) -> Iterator[Lab]:
    """The same, whole, and with a snapshot that holds it all."""
    wait_whole(big_three, 3)
    enough = MEGABYTES * 1_000_000
    wait_until(lambda: [each for each in Shelf(big_three).manifests() if each.size_bytes > enough], 60, "a snapshot")
    yield big_three
    big_three.clear_faults()
    big_three.change(pace={"agent_restart_s": 0.2})
    for each in big_three.instances():
        big_three.start_agent(each.id)
    wait_calm(big_three)


def wait_uploading(shelf: Shelf, since: int) -> str:
    """Until some part of a snapshot is in the bucket, and not all of them; whose it is."""
    s3, bucket = shelf.lab.aws("s3"), shelf.bucket

    def parts() -> bool:
        listed = [s3.list_parts(Bucket=bucket, Key=each["Key"], UploadId=each["UploadId"]) for each in shelf.uploads()]
        return any(each.get("Parts") for each in listed)

    wait_until(parts, 3 * INTERVAL_S, "an upload half-way")
    begun = [call for call in shelf.lab.calls(since) if call["operation"] == "CreateMultipartUpload"]
    return str(begun[-1]["caller"])


def test_an_upload_is_streamed_in_little_memory_and_without_a_file(big: Lab) -> None:
    shelf, agents = Shelf(big), big.instances()
    before = shelf.manifests()
    with Writer(big) as writer, ExitStack() as stack:
        largest = {each.id: stack.enter_context(largest_file(big, each.id)) for each in agents}
        memory = {each.id: stack.enter_context(peak_of(each.agent_pid or 0)) for each in agents}
        stack.enter_context(big.weather(service="s3", operation="UploadPart", delay_s=0.5))
        taken = wait_until(lambda: taken_since(shelf, before), 3 * INTERVAL_S, "a snapshot of slow parts")
    assert all(each.size_bytes > MEGABYTES * 1_000_000 for each in taken)
    takers = {each.instance for each in taken}
    assert max(largest[each][0] for each in takers) < FEW_BYTES
    assert max(memory[each][-1] for each in takers) < MOST_BYTES, memory
    shelf.assert_all_that_counts_is_whole()
    assert not writer.failed


def test_the_next_voter_takes_over_from_one_that_dies_half_way(big: Lab) -> None:
    shelf, since = Shelf(big), big.last_call()
    before = shelf.manifests()
    big.change(pace={"agent_restart_s": NEVER_S})
    with Writer(big) as writer:
        with big.weather(service="s3", operation="UploadPart", delay_s=6):
            taker = wait_uploading(shelf, since)
            big.kill_agent(taker)
            died = datetime.now(UTC)
            left = {each["UploadId"] for each in shelf.uploads()}
        assert left
        taken = wait_until(lambda: taken_since(shelf, before), 2 * INTERVAL_S, "a snapshot by another")
    assert taker not in {each.instance for each in taken}
    assert min(each.name.taken_at for each in taken) - died < timedelta(seconds=INTERVAL_S)
    wait_until(lambda: not left & {each["UploadId"] for each in shelf.uploads()}, 20, "what was broken off to go")
    shelf.assert_all_that_counts_is_whole()
    assert not writer.failed


STORM: tuple[dict[str, Any], ...] = (
    {"operation": "CreateMultipartUpload", "status": 500, "times": 1},
    {"operation": "UploadPart", "status": 500, "after": True, "times": 2},  # torn: it landed, and nobody was told
    {"operation": "UploadPart", "status": 503, "times": 6},
    {"operation": "UploadPart", "delay_s": 1.0, "times": 2},
    {"operation": "AbortMultipartUpload", "status": 403, "times": 1},
    {"operation": "CompleteMultipartUpload", "status": 409, "times": 1},
    {"operation": "CompleteMultipartUpload", "status": 412, "times": 1},
    {"operation": "CompleteMultipartUpload", "status": 503, "after": True, "times": 1},
    {"operation": "PutObject", "match": "/snapshots/", "status": 503, "after": True, "times": 1},
)


@pytest.mark.long
def test_a_bucket_that_refuses_again_and_again_never_has_a_manifest_without_its_data(big: Lab) -> None:
    shelf, since = Shelf(big), big.last_call()
    faults = {big.fault(service="s3", **each) for each in STORM}

    def met() -> bool:
        listed = shelf.listed()
        bare = [name for name, parts in listed.items() if parts == {MANIFEST}]
        assert not bare, f"manifests without data: {bare}"
        return faults <= {call["fault"] for call in big.calls(since)}

    with Writer(big) as writer:
        wait_until(met, 90, "every kind of weather")
        big.clear_faults()
        before = shelf.manifests()
        wait_until(lambda: taken_since(shelf, before), 3 * INTERVAL_S, "a snapshot in fair weather")
        wait_until(lambda: not shelf.uploads(), 2 * INTERVAL_S, "what was broken off to be swept")
    shelf.assert_all_that_counts_is_whole()
    assert not writer.failed


# ---- drills ---------------------------------------------------------------------------------------------------------


def drills(shelf: Shelf) -> dict[str, dict[str, Any]]:
    """What is on record, by key."""
    return {key: shelf.document(key) for key in shelf.keys("drills/")}


def test_drills_restore_the_newest_snapshot_and_say_so_while_the_member_beside_them_serves(big: Lab) -> None:
    shelf, turn = Shelf(big), big.instance(first_in_turn(big))
    known = set(drills(shelf))
    with Writer(big, through=(turn.address,)) as writer:
        found = wait_until(
            lambda: [each for key, each in drills(shelf).items() if key not in known], 5 * INTERVAL_S, "another drill"
        )
    assert not writer.failed
    assert {(each["result"], each["instance"]) for each in found} == {("passed", turn.id)}
    assert all("HashKV" in each["detail"] for each in found)
    assert SnapshotName.parse(found[0]["snapshot"]) in shelf.sound()
    wait_until(lambda: not list((turn.disk / "scratch").rglob("*")), 10, "an empty scratch")
    wait_until(lambda: says(turn, "passed"), 10, "metrics that tell of the drill")
    told = metrics(turn) or {}
    assert time.time() - told["etcd_asg_agent_drill_last_timestamp_seconds"] < 6 * INTERVAL_S
    assert told["etcd_asg_agent_drill_last_duration_seconds"] > 0


def says(instance: Instance, result: str) -> bool:
    return (metrics(instance) or {}).get(f'etcd_asg_agent_drill_last_result{{result="{result}"}}') == 1


@pytest.mark.long
def test_a_drill_of_a_snapshot_with_a_flipped_bit_fails_and_says_so(big: Lab) -> None:
    shelf, turn = Shelf(big), big.instance(first_in_turn(big))
    newest = shelf.newest()
    flipped = bytearray(shelf.body(newest.name.data_key))
    flipped[len(flipped) // 2] ^= 1
    forged = shelf.forge(newest, later(newest.name, 1_000_000), bytes(flipped), raft_index=0)

    def about_it() -> list[dict[str, Any]]:
        return [each for each in drills(shelf).values() if each["snapshot"] == str(forged.name)]

    try:
        with Writer(big, through=(turn.address,)) as writer:
            record = wait_until(about_it, 120, "a record of the drill")[0]  # by a thread in no hurry at all
            by = big.instance(record["instance"])
            wait_until(lambda: says(by, "failed"), 10, "a metric that tells of the failed drill")
        assert not writer.failed
        assert record["result"] == "failed"
        assert str(forged.name) in record["detail"]
        wait_until(lambda: not list((by.disk / "scratch").rglob("*")), 10, "an empty scratch")
    finally:
        shelf.remove(forged.name)
