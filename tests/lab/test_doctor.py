"""`doctor` beside a running agent and etcd: on a healthy instance all is well, and what is broken is named, and alone.

Each story breaks one thing on purpose, and puts it right again. What depends on how busy this machine is (its disk) is
looked at, and not judged.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.doctor.looking.aws import ATTEMPTS
from agent.lab.client import Instance, Lab
from agent.lab.spec import LabSpec
from tests.lab.conftest import MakeLab
from tests.lab.harness import running_lab, wait_until, wait_whole
from tests.lab.losing import keys
from tests.lab.test_permissions import Policy
from tests.lab.test_ways_in import a_target_group
from tests.lab.watching import sample

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
HERE = {"disk-latency", "etcd-fsync", "etcd-files", "filesystem", "command"}
"""What this machine, its neighbours and the way in which the agent is installed here decide."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, etcd_binary: str) -> Iterator[Lab]:
    """Three voters, IAM in force, and a bucket as `terraform-example/` makes it."""
    spec = LabSpec(etcd=etcd_binary, enforces_iam=True)
    with running_lab(spec, tmp_path_factory.mktemp("doctor") / "lab") as lab:
        state, s3 = lab.status(), lab.aws("s3")
        s3.put_bucket_versioning(Bucket=state["bucket"], VersioningConfiguration={"Status": "Enabled"})
        block_public_access(lab)
        wait_whole(lab, 3)
        wait_until(lambda: sample(lab, "tasks_total", task="Drill", outcome="done"), 60, "the first drill to be over")
        for each in lab.instances():
            each.disk.chmod(0o700)  # as StateDirectoryMode= does
        yield lab


def block_public_access(lab: Lab) -> None:
    on = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
    lab.aws("s3").put_public_access_block(Bucket=lab.status()["bucket"], PublicAccessBlockConfiguration=on)


@pytest.fixture
def instance(lab: Lab) -> Instance:
    return lab.instances()[0]


def environment(instance: Instance) -> dict[str, str]:
    assert instance.agent_pid is not None
    variables = Path(f"/proc/{instance.agent_pid}/environ").read_text().split("\0")
    return {**dict(each.split("=", 1) for each in variables if each), "PYTHONPATH": str(ROOT)}


def doctor(
    instance: Instance, *words: str, code: int = 0, env: Mapping[str, str] | None = None
) -> dict[str, dict[str, Any]]:
    """The findings by their checks; those that are well, too."""
    command = [sys.executable, "-m", "agent.cli", "doctor", "--json", "--config", f"{instance.folder}/config.toml"]
    done = subprocess.run(
        [*command, *words],
        env=environment(instance) | dict(env or {}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == code, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["ok"] is (code == 0)
    return {each["check"]: each for each in said["findings"]}


def not_well(found: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """But for what is not judged here."""
    wrong = {check: each["level"] for check, each in found.items() if each["level"] not in ("ok", "unknown")}
    return {check: level for check, level in wrong.items() if check not in HERE}


AS_ADMINISTRATOR = {"AWS_ACCESS_KEY_ID": "LABOPERATOR", "AWS_SECRET_ACCESS_KEY": "lab"}


def names(instance: Instance) -> set[str]:
    """What lies in the data root, but for etcd's own."""
    return {str(each) for each in instance.disk.rglob("*") if "data" not in each.relative_to(instance.disk).parts}


# ---- a healthy instance ---------------------------------------------------------------------------------------------


def test_all_is_well_beside_a_running_member_and_nothing_is_left_behind(lab: Lab, instance: Instance) -> None:
    before, since, etcd = names(instance), lab.last_call(), instance.etcd_pids
    found = doctor(instance)
    expect(found)
    unknown = {check for check, each in found.items() if each["level"] == "unknown"}
    assert unknown <= {
        "agent-unit",  # no systemd here
        "clock-service",  # nor a time service
        "bucket-versioning", "bucket-encryption", "bucket-public-access",  # the role may not look
        "permissions-untried",
    } | HERE  # fmt: skip
    assert "fdatasync" in found["disk-latency"]["found"]
    assert "AnswerHooks" in found["permissions"]["found"]
    assert "etcd listens" in found["etcd-ports"]["found"]
    assert instance.id in found["agent-port"]["found"]

    assert names(instance) == before
    assert lab.instance(instance.id).etcd_pids == etcd
    tried = [each for each in lab.calls(since) if "doctor-cannot-land" in each["resource"]]
    assert {each["operation"] for each in tried} >= {"PutObject", "AbortMultipartUpload", "CompleteLifecycleAction"}
    assert all(each["status"] >= 400 for each in tried), "none of them lands"
    probes = [
        each
        for each in lab.calls(since)
        if each["resource"].endswith("probe.json") and each["operation"] == "PutObject"
    ]
    assert [each["status"] for each in probes] == [412]


def test_an_administrator_sees_the_buckets_rules_too(lab: Lab, instance: Instance) -> None:
    found = doctor(instance, env=AS_ADMINISTRATOR)
    assert set(not_well(found)) <= {"bucket-encryption"}, "the emulated S3 has none by default"
    assert found["bucket-versioning"]["level"] == found["bucket-public-access"]["level"] == "ok"


# ---- broken on purpose ----------------------------------------------------------------------------------------------


def expect(found: Mapping[str, Mapping[str, Any]], **levels: str) -> None:
    assert not_well(found) == {check.replace("_", "-"): level for check, level in levels.items()}, found


@pytest.fixture(scope="module")
def options(lab: Lab) -> tuple[str, ...]:
    """Settings of the doctor's alone, with which every statement that it can try is needed."""
    groups = f'load_balancer.target_groups=["{a_target_group(lab)}"]'
    return ("--set", "autoscaling.protect_voters=true", "--set", "tls.mode=ca", "--set", groups)


def printed(instance: Instance, options: Sequence[str]) -> list[dict[str, Any]]:
    """What `iam-policy` prints for them."""
    command = [sys.executable, "-m", "agent.cli", "iam-policy", "--config", f"{instance.folder}/config.toml", *options]
    said = subprocess.run(command, env=environment(instance), cwd=ROOT, capture_output=True, check=True, timeout=60)
    statements: list[dict[str, Any]] = json.loads(said.stdout)["Statement"]
    return statements


@contextmanager
def with_policy(lab: Lab, statements: list[dict[str, Any]]) -> Iterator[None]:
    policy = Policy(lab)
    before = policy.statements()
    policy.put(statements)
    try:
        yield
    finally:
        policy.put(before)


def test_what_it_can_try_is_allowed_by_the_printed_policy(
    lab: Lab, instance: Instance, options: tuple[str, ...]
) -> None:
    with with_policy(lab, printed(instance, options)):
        found = doctor(instance, *options)
    assert set(ATTEMPTS) <= set(found["permissions"]["found"].removeprefix("allowed: ").split(", "))
    expect(found)


@pytest.mark.parametrize("sid", ATTEMPTS)
def test_a_missing_statement_is_named(sid: str, lab: Lab, instance: Instance, options: tuple[str, ...]) -> None:
    """Each that can be tried: without it the doctor says so, and misses no other."""
    left = [each for each in printed(instance, options) if each["Sid"] != sid]
    with with_policy(lab, left):
        found = doctor(instance, *options, code=1)
    wrong = not_well(found)
    assert wrong.pop(f"permission-{sid}") == "failure"
    assert f'"Sid":"{sid}"' in found[f"permission-{sid}"]["found"]
    assert set(wrong) <= {"discovery"}, "who may not look at instances or groups sees no fleet"


def test_a_bucket_that_would_lose_what_decides(lab: Lab, instance: Instance) -> None:
    bucket, s3 = lab.status()["bucket"], lab.aws("s3")
    rule = {"ID": "tidy-up", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    s3.delete_public_access_block(Bucket=bucket)
    try:
        found = doctor(instance, code=1, env=AS_ADMINISTRATOR)
    finally:
        s3.delete_bucket_lifecycle(Bucket=bucket)
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        block_public_access(lab)
    levels = {check: each["level"] for check, each in found.items()}
    assert levels["bucket-lifecycle"] == "failure"
    assert "tidy-up" in found["bucket-lifecycle"]["found"]
    assert (levels["bucket-versioning"], levels["bucket-public-access"]) == ("warning", "warning")


def test_a_bucket_that_is_not_there(instance: Instance) -> None:
    found = doctor(instance, "--set", "storage.bucket=no-such-bucket", code=1, env=AS_ADMINISTRATOR)
    assert not_well(found)["bucket"] == "failure"
    assert "there is no such bucket" in found["bucket"]["found"]


def test_a_store_that_ignores_preconditions(lab: Lab, instance: Instance) -> None:
    lab.change(honours_preconditions=False)
    since = lab.last_call()
    try:
        found = doctor(instance, code=1)
    finally:
        lab.change(honours_preconditions=True)
    expect(found, bucket_preconditions="failure")
    assert not [
        each
        for each in lab.calls(since)
        if "doctor-cannot-land" in each["resource"] and each["operation"] == "PutObject"
    ]


@contextmanager
def listener(address: str) -> Iterator[int]:
    with socket.create_server((address, 0)) as somebody:
        yield somebody.getsockname()[1]


def test_somebody_elses_port(instance: Instance) -> None:
    with listener(instance.address) as port:
        expect(doctor(instance, "--set", f"etcd.metrics_port={port}", code=1), etcd_ports="failure")
        found = doctor(instance, "--set", f"http.listen={instance.address}:{port}", code=1)
        expect(found, agent_port="failure")
        assert str(os.getpid()) in found["agent-port"]["found"]


def test_an_etcd_that_loses_data(instance: Instance, etcd_binary: str, tmp_path: Path) -> None:
    for tool in ("etcdutl", "etcdctl"):
        (tmp_path / tool).symlink_to(Path(etcd_binary).parent / tool)
    bad = tmp_path / "etcd"
    bad.write_text("#!/bin/sh\necho 'etcd Version: 3.5.1'\n")
    bad.chmod(0o755)
    expect(doctor(instance, "--set", f"etcd.binary={bad}", code=1), etcd_version="failure")


def test_a_data_root_that_is_open_to_others(instance: Instance) -> None:
    instance.disk.chmod(0o755)
    try:
        expect(doctor(instance), data_root="warning")
    finally:
        instance.disk.chmod(0o700)


def test_tags_that_find_somebody_else(instance: Instance) -> None:
    found = doctor(instance, "--set", 'discovery.tags={ etcd-cluster = "other" }', code=1)
    assert not_well(found)["discovery"] == "failure"
    assert instance.id in found["discovery"]["found"]


def test_imds_that_fails(lab: Lab, instance: Instance) -> None:
    """Its role's keys come from there, too."""
    lab.imds_fault(instance.id, "error")
    try:
        found = doctor(instance, code=1)
    finally:
        lab.imds_fault(instance.id, None)
    assert not_well(found)["imds"] == "failure"
    assert "permissions" not in found, "nothing is said to be allowed"


# ---- TLS ------------------------------------------------------------------------------------------------------------


def test_certificates_of_the_agents_own_are_tried_out(make_lab: MakeLab) -> None:
    """With the agent's own port over TLS, too."""
    lab = make_lab(instances=1, enforces_iam=True, settings={"tls": {"mode": "ca"}, "http": {"tls": True}})
    wait_until(lambda: "generations/000001/formed.json" in keys(lab, "generations/"), 60, "a cluster")
    instance = lab.instances()[0]
    instance.disk.chmod(0o700)
    found = doctor(instance)
    expect(found, capacity="warning")
    assert (found["tls"]["level"], found["tls-key"]["level"]) == ("ok", "ok")
    assert instance.address in found["tls"]["found"]
    assert instance.id in found["agent-port"]["found"]
    assert "ReadAuthority" in found["permissions"]["found"]
