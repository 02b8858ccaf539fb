"""The commands as they run where there is no IMDS: AWS credentials, a region, tags, and moto behind them.

Real doors to S3, EC2 and Auto Scaling; no instance answers, and none of them is this machine.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import boto3
import pytest

from agent import cli
from agent.model.generation import GenerationRecord, Holding, Report
from agent.model.ids import GenerationNumber, InstanceId, PeerUrl
from agent.model.snapshot import Manifest, Origin, SnapshotName
from agent.settings import Settings
from agent.wiring import BucketSide, bucket_only
from agent.world.etcd import EtcdDoor
from agent.world.scratch_etcd import scratch_etcd
from tests import etcd_versions
from tests.contracts.aws_stand_in import Gateway, moto_behind_a_gateway
from tests.contracts.etcd_files import put
from tests.decide.examples import record

REGION, BUCKET = "eu-west-1", "acme-etcd"
ONE = GenerationNumber(1)
names = (f"prod{number}" for number in itertools.count(1))
DATABASE = random.Random(3).randbytes(64 * 1024)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with moto_behind_a_gateway() as gateway, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_REGION", REGION)
        patch.delenv("AWS_DEFAULT_REGION", raising=False)
        client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield gateway


def client(service: str) -> Any:
    make: Any = boto3.client
    return make(service, region_name=REGION)


class Desk:
    """One cluster's corner of moto, and the command line."""

    def __init__(self, cluster: str, folder: Path) -> None:
        self.cluster = cluster
        self.config = folder / "config.toml"
        self.config.write_text(
            f'[cluster]\nname = "{cluster}"\n[storage]\nbucket = "{BUCKET}"\nprefix = "etcd"\n'
            f'[discovery]\ntags = {{ etcd-cluster = "{cluster}" }}\n[timing]\netcd_status_timeout = "200ms"\n'
        )

    @property
    def side(self) -> BucketSide:
        return bucket_only(Settings.load(self.config))

    def run(self, *words: str) -> int:
        return cli.main([*words, "--config", str(self.config)])

    def instances(self, count: int) -> tuple[InstanceId, ...]:
        """A group of so many, tagged as its instances are."""
        tag = {"Key": "etcd-cluster", "Value": self.cluster}
        group_tag = {**tag, "ResourceId": self.cluster, "ResourceType": "auto-scaling-group", "PropagateAtLaunch": True}
        image = client("ec2").describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        client("autoscaling").create_launch_configuration(
            LaunchConfigurationName=self.cluster, ImageId=image, InstanceType="t3.micro"
        )
        client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName=self.cluster,
            LaunchConfigurationName=self.cluster,
            MinSize=0,
            MaxSize=9,
            DesiredCapacity=count,
            AvailabilityZones=[f"{REGION}a", f"{REGION}b"],
            Tags=[group_tag],
        )
        groups = client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[self.cluster])
        return tuple(sorted(InstanceId(each["InstanceId"]) for each in groups["AutoScalingGroups"][0]["Instances"]))

    def generation(self, *founders: InstanceId) -> None:
        raw = json.loads(record(InstanceId("i-a")).to_json())
        urls = dict.fromkeys(founders, "http://10.9.9.9:2380")
        text = json.dumps({**raw, "cluster": self.cluster, "founders": urls})
        assert self.side.bucket.create_generation(GenerationRecord.from_json(text))

    def report(self, name: InstanceId) -> None:
        address = PeerUrl(f"http://10.0.0.{int(name[-2:], 16)}:2380")
        self.side.bucket.file_report(ONE, Report(name, address, "boot", Holding.NONE))

    def snapshot(self, revision: int, minute: int = 0) -> SnapshotName:
        name = SnapshotName(ONE, revision, datetime(2026, 1, 1, 12, minute, tzinfo=UTC))
        store = self.side.store
        sent = store.upload(name, [DATABASE, sha256(DATABASE).digest()])
        where = (name, self.cluster, Origin.SCHEDULE, InstanceId("i-0a"), "0", "3.5.30")
        store.commit(Manifest(*where, sent.size_bytes, sent.sha256, sent.stored_bytes))
        return name

    def spoil(self, name: SnapshotName) -> None:
        """One byte of what is stored turns over."""
        key = f"etcd/{self.cluster}/{name.data_key}"
        body = bytearray(client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read())
        body[len(body) // 2] ^= 1
        client("s3").put_object(Bucket=BUCKET, Key=key, Body=bytes(body))


@pytest.fixture
def desk(gateway: Gateway, tmp_path: Path) -> Iterator[Desk]:
    gateway.clear()
    yield Desk(next(names), tmp_path)
    gateway.clear()


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_snapshots_are_listed_verified_marked_and_pruned(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.generation(InstanceId("i-a"))
    old, new = desk.snapshot(10, minute=1), desk.snapshot(20, minute=2)
    assert desk.run("snapshot", "list", "--json") == 0
    rows = told(capsys)["snapshots"]
    assert [(row["name"], row["state"], row["recovery_would_use"]) for row in rows] == [
        (str(new), "sound", True),
        (str(old), "sound", False),
    ]
    assert desk.run("snapshot", "verify", "--all") == 0
    assert capsys.readouterr().out.count("sound ") == 2
    desk.spoil(new)
    assert desk.run("snapshot", "verify", "latest", "--mark") == 1
    assert "(marked)" in capsys.readouterr().out
    assert desk.run("snapshot", "list", "--json") == 0
    rows = told(capsys)["snapshots"]
    assert [(row["state"], row["recovery_would_use"]) for row in rows] == [("bad", False), ("sound", True)]
    assert rows[0]["why"]
    newest = desk.snapshot(30, minute=3)
    few = ("--set", "snapshots.keep_newest=1", "--set", "snapshots.keep_hourly=0", "--set", "snapshots.keep_daily=0")
    assert desk.run("snapshot", "prune", "--json", *few) == 0
    assert told(capsys)["expired"] == [str(old)]
    assert {each.name for each in desk.side.bucket.snapshots()} == {new, newest}, "the bad one stays for a day"


def test_take_and_drill_need_an_instance(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("take", "drill"):
        assert desk.run("snapshot", verb) == 1
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert "IMDS" in err


def test_the_next_generation_from_the_newest_snapshot(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody reports and nobody answers here: so nobody can tell whether the cluster lives."""
    instances = desk.instances(3)
    desk.generation(*instances)
    name = desk.snapshot(10)
    assert desk.run("recover", "--from", "latest", "--yes") == 1
    assert "--replace-living-cluster" in capsys.readouterr().err
    assert desk.run("recover", "--from", "latest", "--yes", "--replace-living-cluster", "--json") == 0
    found = told(capsys)
    assert found["life"] == "untold"
    assert found["wrote"] == ["generations/000002.json"]
    head = desk.side.bucket.head(None)
    assert head is not None
    assert (head.generation, head.created_by, set(head.founders)) == (2, "operator", set(instances))
    assert all(url.startswith("http://10.") and url.endswith(":2380") for url in head.founders.values())
    assert head.seed is not None
    assert (head.seed.manifest, head.seed.bump_revision) == (name.manifest_key, 10**9)


def test_whoever_is_written_off_is_in_the_bucket(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = desk.instances(3)
    desk.generation(first, second, third)
    desk.report(first)
    words = ("--exclude", second, "--exclude", third, "--why", "ticket", "--yes", "--replace-living-cluster")
    assert desk.run("recover", "--from", "survivor", *words, "--dry-run") == 0
    assert desk.side.bucket.exclusions(ONE) == ()
    assert desk.run("recover", "--from", "survivor", *words) == 0
    assert {each.instance for each in desk.side.bucket.exclusions(ONE)} == {second, third}
    assert "The agents take it from here." in capsys.readouterr().out


def test_without_tags_the_fleet_is_unknown_here(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.config.write_text(desk.config.read_text().replace("tags = {", "#"))
    assert desk.run("recover") == 1
    assert "discovery.tags" in capsys.readouterr().err


def test_without_a_region_there_is_one_line(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_REGION")
    assert desk.run("snapshot", "list") == 1
    err = capsys.readouterr().err
    assert "set AWS_REGION" in err
    assert err.count("\n") == 1


def test_a_bucket_that_does_not_answer_is_one_line(
    desk: Desk, gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (("snapshot", "list"), ("recover", "--from", "latest")):
        gateway.spoil("generations", status=503, times=5)
        assert desk.run(*words) == 1
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        gateway.clear()


@pytest.mark.etcd
def test_what_plain_etcd_saved_begins_a_generation(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fresh bucket: what there was of records is gone, and somebody has a file."""
    folder = tmp_path / "etcd"
    folder.mkdir()
    door = EtcdDoor()
    with scratch_etcd(etcd_versions.default().etcd, folder / "data", "old", force_new_cluster=False) as endpoint:
        put(endpoint, [f"key-{number}" for number in range(5)])
        revision = door.status(endpoint).revision
        saved = b"".join(door.snapshot(endpoint))
    door.close()
    client("s3").put_object(Bucket=BUCKET, Key=f"elsewhere/{desk.cluster}.db", Body=saved)
    instances = desk.instances(3)
    url = f"s3://{BUCKET}/elsewhere/{desk.cluster}.db"
    assert desk.run("recover", "--from", url, "--yes") == 0
    head = desk.side.bucket.head(None)
    assert head is not None
    assert head.seed is not None
    assert (head.generation, head.seed.revision, set(head.founders)) == (1, revision, set(instances))
    capsys.readouterr()
    assert desk.run("snapshot", "verify", "latest") == 0
    assert desk.run("snapshot", "list", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out.partition("\n")[2])["snapshots"]
    assert (row["revision"], row["seed_of_head"], row["recovery_would_use"]) == (revision, True, True)


def test_a_cluster_is_held_shown_and_released(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.run("hold", "on") == 2
    assert "--why" in capsys.readouterr().err
    assert desk.run("hold") == 0
    assert capsys.readouterr().out == "The cluster is not held.\n"
    assert desk.run("hold", "on", "--why", "we move the volumes", "--who", "anna") == 0
    assert "held by anna since" in capsys.readouterr().out
    assert desk.run("hold", "--json") == 0
    found = told(capsys)
    assert (found["held"], found["hold"]["who"], found["hold"]["why"]) == (True, "anna", "we move the volumes")
    assert desk.run("hold", "off", "--json") == 0
    assert told(capsys) == {"held": False, "hold": None}
