"""etcd's authentication is on, and the agent has a password: everything that it does it does as before."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.lab import members
from agent.lab.client import Lab
from tests import etcd_versions
from tests.etcd_versions import EtcdVersion
from tests.lab.conftest import MakeLab
from tests.lab.harness import Writer, statuses, stays, voters, wait_until, wait_whole
from tests.lab.losing import (
    PACE,
    QUICK,
    document,
    head,
    keys,
    manifests,
    no_new_generation,
    terminate_for_good,
    wait_formed,
    wait_recovered,
)
from tests.lab.shelf import fill
from tests.lab.test_maintaining import let_go_of
from tests.lab.test_no_loss import Keys, all_ready
from tests.lab.watching import sample

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(580)]

PASSWORD = "a:b=c!"


@pytest.fixture(params=["3.4.23", "3.5.30"])
def version(request: pytest.FixtureRequest) -> EtcdVersion:
    return etcd_versions.named(request.param)


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(PASSWORD)
    path.chmod(0o600)
    return path


def turn_on(lab: Lab, version: EtcdVersion) -> None:
    """The way of docs/auth.md."""
    command = [str(version.etcdctl), f"--endpoints=http://{lab.addresses()[0]}:2379"]
    environment = {**os.environ, "ETCDCTL_API": "3"}
    for words, said in (
        (["user", "add", "root", "--interactive=false"], PASSWORD),
        (["user", "grant-role", "root", "root"], ""),
        (["auth", "enable"], ""),
    ):
        subprocess.run([*command, *words], input=said, text=True, check=True, capture_output=True, env=environment)


@contextmanager
def guarded(make_lab: MakeLab, version: EtcdVersion, password_file: Path, **settings: Any) -> Iterator[Lab]:
    """Three voters whose authentication was turned on while they served; this test asks as root from then on."""
    known = {"auth": {"user": "root", "password_file": str(password_file)}}
    lab = make_lab(etcd=str(version.etcd), settings={**QUICK, **known, **settings}, pace=PACE)
    wait_whole(lab, 3)
    turn_on(lab, version)
    assert members.put(lab.addresses()[0], "who", "nobody") is None, "nobody writes without a name"
    with members.as_user("root", PASSWORD):
        assert members.put(lab.addresses()[0], "who", "root") is not None
        yield lab
        assert all(PASSWORD not in path.read_text() for path in lab.folder.rglob("agent.log"))


def test_a_life_with_authentication_on(make_lab: MakeLab, version: EtcdVersion, password_file: Path) -> None:
    settings = {
        "snapshots": {**QUICK["snapshots"], "drill_interval": "1m"},
        "maintenance": {"after": "2s", "defragment_size": "16MiB"},
    }
    with guarded(make_lab, version, password_file, **settings) as lab:
        with Writer(lab) as writer:
            time.sleep(1)
            gone = lab.instances()[0]
            lab.terminate(gone.id)
            wait_until(lambda: gone.id not in (voters(lab) or {gone.id}), 60, "the dead member to be removed")
            wait_whole(lab, 3)
            for each in lab.instances():
                lab.kill_etcd(each.id)  # and with it its tokens
                wait_until(lambda: len(statuses(lab)) == 3, 60, "it to serve again")
                wait_whole(lab, 3)
            taken = len(manifests(lab, 1))
            wait_until(lambda: len(manifests(lab, 1)) > taken, 60, "another snapshot")
        writer.assert_nothing_lost()
        assert manifests(lab, 1)[-1]["fingerprint"] is not None
        wait_until(lambda: keys(lab, "drills/"), 120, "a drill")
        drilled = document(lab, keys(lab, "drills/")[-1])
        assert drilled["result"] == "passed"
        assert "HashKV" in drilled["detail"], "the drill's etcd takes the same password"
        fill(lab.addresses()[0], 40)
        let_go_of(lab.addresses()[0], "bulk/")
        with Writer(lab, prefix="more/"):  # where nobody writes, etcd does not tell what it does not use any more
            wait_until(lambda: sample(lab, "tasks_total", task="Defragment", outcome="done"), 120, "a defragmenting")
        assert head(lab) == 1


def test_what_is_lost_comes_back_with_its_users(make_lab: MakeLab, version: EtcdVersion, password_file: Path) -> None:
    with guarded(make_lab, version, password_file) as lab:
        with Writer(lab) as writer:
            time.sleep(2)
        last = max(write.revision or 0 for write in writer.ledger)
        survivor, *others = lab.instances()
        terminate_for_good(lab, *others)
        record = wait_formed(lab, 2)
        assert record["seed"]["source"] == f"survivor {survivor.id}"
        wait_recovered(lab, 2)
        writer.assert_nothing_lost()
        taken = len(manifests(lab, 2))
        wait_until(lambda: len(manifests(lab, 2)) > taken, 60, "a snapshot of the second generation")
        for each in lab.instances():
            lab.wipe(each.id)
        record = wait_formed(lab, 3)
        assert record["seed"]["source"] == "snapshot"
        wait_recovered(lab, 3)
        writer.assert_nothing_lost()
        assert last > 0
        address = lab.addresses()[0]
    assert members.put(address, "who", "nobody") is None, "its users came back with it"


def test_a_wrong_password_is_no_lost_quorum(make_lab: MakeLab, version: EtcdVersion, password_file: Path) -> None:
    """Of every agent at once, after a rotation that went wrong: etcd serves on, and nobody is removed or replaced."""
    with guarded(make_lab, version, password_file) as lab:
        before = voters(lab)
        pids = {each.id: each.etcd_pids for each in lab.instances()}
        password_file.write_text("another")
        with Writer(lab) as writer, no_new_generation(lab):
            for each in lab.instances():
                lab.kill_agent(each.id)
            stays(lambda: voters(lab) == before, 20, "everybody is a member")
        writer.assert_nothing_lost()
        assert {each.id: each.etcd_pids for each in lab.instances()} == pids
        password_file.write_text(PASSWORD)
        wait_until(lambda: manifests(lab, 1), 60, "a snapshot")
        taken = len(manifests(lab, 1))
        members.put(lab.addresses()[0], "more", "to take")
        wait_until(lambda: len(manifests(lab, 1)) > taken, 60, "another snapshot")


# ---- by certificate --------------------------------------------------------------------------------------------------


def test_a_certificate_named_root_needs_no_password(make_lab: MakeLab, version: EtcdVersion, tmp_path: Path) -> None:
    """Replaced, restarted, snapshot, and recovered from a survivor's log and from nothing but a snapshot."""
    folder = tmp_path / "tls"
    folder.mkdir()
    lab = make_lab(instances=0, etcd=str(version.etcd), settings=Keys.settings(folder), pace=PACE)
    tls = Keys(lab, folder, "root")
    tls.make()
    lab.scale(3)
    wait_until(lambda: all_ready(lab), 60, "three members that serve over TLS")
    for words in (["user", "add", "root", "--no-password"], ["user", "grant-role", "root", "root"], ["auth", "enable"]):
        done = tls.etcdctl(*words)
        assert done.returncode == 0, done.stderr
    wait_until(lambda: tls.etcdctl("put", "first", "it").returncode == 0, 60, "a write")
    gone = lab.instances()[0]
    lab.terminate(gone.id)
    wait_until(lambda: gone.id not in {each.id for each in lab.instances()} and all_ready(lab), 90, "its replacement")
    one, survivor, other = lab.instances()
    lab.kill_etcd(one.id)
    wait_until(lambda: all_ready(lab), 60, "it to serve again")
    wait_until(lambda: tls.etcdctl("put", "second", "it").returncode == 0, 60, "a write")
    terminate_for_good(lab, one, other)
    assert wait_formed(lab, 2, 90)["seed"]["source"] == f"survivor {survivor.id}"
    wait_until(lambda: all_ready(lab), 90, "the second generation")
    wait_until(lambda: manifests(lab, 2), 60, "a snapshot of it")
    for each in lab.instances():
        lab.wipe(each.id)
    assert wait_formed(lab, 3, 120)["seed"]["source"] == "snapshot"
    wait_until(lambda: all_ready(lab), 90, "the third generation")
    found = tls.etcdctl("get", "", "--prefix", "--print-value-only").stdout.split()
    assert found == ["it", "it"]
    assert "Authentication Status: true" in tls.etcdctl("auth", "status").stdout or version.number < (3, 5, 0)
