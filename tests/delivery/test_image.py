"""The image that `make delivery` provisioned, on a booted Debian: what it is, and where its etcd's data goes.

The machine has a real block device for a data volume: a loop device, under the name that a launch template gives.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.lab.client import Lab
from tests.delivery.booted import Booted, booted, copied, group_of_one
from tests.delivery.test_systemd import AGENT, ETCD, configure, serves
from tests.lab.harness import wait_until

CACHE = Path(__file__).parents[2] / ".cache" / "delivery"
VOLUME, MOUNT = "etcd-data-volume.service", "var-lib-etcd.mount"
RUNS = ("first", "second", "anew")
NAME = "/dev/xvdb"
USER_DATA = Path(__file__).parents[2] / "terraform-example/modules/etcd-cluster/user-data.sh.tftpl"

pytestmark = [
    pytest.mark.delivery,
    pytest.mark.root,
    pytest.mark.timeout(400),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("systemd-nspawn") is None, reason="needs systemd-nspawn (systemd-container)"),
    pytest.mark.skipif(not (CACHE / "image").exists(), reason="no image: run `make delivery`"),
]


# ---- what it is ------------------------------------------------------------------------------------------------------


def test_provisioned_twice_and_on_another_machine_it_is_the_same() -> None:
    """Every package, and every file with its kind, mode, owner and digest (packer/image/manifest.py)."""
    first, second, anew = ((CACHE / f"image.{run}.manifest").read_text().splitlines() for run in RUNS)
    assert len(first) > 10_000
    assert sorted(set(first) ^ set(second)) == []
    assert sorted(set(first) ^ set(anew)) == []


def test_its_self_check_was_the_last_word_and_a_good_one() -> None:
    for run in RUNS:
        _, check = (CACHE / f"image.{run}.log").read_text().split("provision: the self-check\n")
        assert "etcd-version" in check, "etcd-asg-agent doctor --image"
        assert " check: " not in check
        assert "Builds finished" in check


def test_what_is_in_it() -> None:
    facts = (CACHE / "image.second.manifest").read_text()
    assert "\npackage etcd-server" not in facts, "the distribution's would start a cluster of its own"
    for package in ("amazon-ec2-utils", "prometheus-node-exporter", "etcd-asg-agent", "e2fsprogs"):
        assert f"\npackage {package}:" in facts
    for path, mode in (
        ("/usr/local/bin/etcd", "0755"),
        ("/usr/local/bin/etcdctl", "0755"),
        ("/usr/local/sbin/etcd-data-volume", "0755"),
        ("/etc/sysctl.d/60-etcd.conf", "0644"),
        ("/etc/systemd/journald.conf.d/60-etcd.conf", "0644"),
        ("/etc/etcd-asg-agent/data-volume", "0644"),
    ):
        assert f"\nfile {path} f {mode} root:root " in facts
    assert "/etc/systemd/system/apt-daily.timer l 0777 root:root /dev/null" in facts
    assert "/etc/ssh/ssh_host_" not in facts
    assert "/usr/sbin/policy-rc.d" not in facts
    assert "/usr/local/.apt" not in facts


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = copied(CACHE / "image", tmp_path_factory.mktemp("image") / "root")
    yield root
    shutil.rmtree(root)


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("root/.ssh/id_rsa", "-----BEGIN OPENSSH PRIVATE KEY-----\n", "/root/.ssh/id_rsa holds a private key"),
        ("home/admin/notes", "AKIAABCDEFGHIJKLMNOP\n", "/home/admin/notes holds an AWS access key"),
        ("var/lib/etcd/data/member/snap/db", "x", "/var/lib/etcd"),
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n", "/etc/machine-id is not empty"),
        ("etc/etcd-asg-agent/data-volume", "DEVICE=/dev/xvdb\n", "names a device"),
        ("etc/systemd/system/etcd.service.d/x.conf", "[Service]\nNonsense=1\n", "systemd finds"),
        ("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", "policy-rc.d"),
        ("usr/local/bin/etcd", "#!/bin/sh\necho etcd Version: 3.5.1\n", "doctor --image"),
    ],
)
def test_its_self_check_fails_the_build(bare: Path, path: str, text: str, said: str) -> None:
    shutil.copy(Path(__file__).parents[2] / "packer/image/check", bare / "root/check")
    planted = bare / path
    kept = planted.read_bytes() if planted.exists() else None
    made = [each for each in planted.parents if not each.exists()]
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.write_text(text)
    try:
        asked = ["unshare", "--net", "chroot", str(bare), "bash", "/root/check"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=100)
        assert done.returncode == 1
        assert said in done.stderr
    finally:
        if kept is not None:
            planted.write_bytes(kept)
        else:
            planted.unlink()
        for folder in made:
            folder.rmdir()


# ---- where its data goes ---------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    """A blank volume of 512 MiB."""
    with attached(tmp_path / "volume") as device:
        yield device


@contextmanager
def attached(file: Path) -> Iterator[str]:
    with file.open("wb") as made:
        made.truncate(1 << 29)
    device = out("losetup", "--find", "--show", str(file))
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def out(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def tell(root: Path, device: str) -> None:
    """As user data does, before the boot; an agent that finds no volume is not waited for a minute."""
    (root / "etc/etcd-asg-agent/data-volume").write_text(f"DEVICE={device}\n")
    hurried = root / f"etc/systemd/system/{VOLUME}.d/hurried.conf"
    hurried.parent.mkdir(exist_ok=True)
    hurried.write_text("[Service]\nExecStart=\nExecStart=/usr/local/sbin/etcd-data-volume --wait 1\n")


@pytest.fixture
def root(bare: Path) -> Iterator[Path]:
    """The image, with no more than a volume's name changed by a test."""
    written = [bare / "etc/etcd-asg-agent" / name for name in ("data-volume", "config.toml")]
    before = [each.read_text() for each in written]
    yield bare
    for path, text in zip(written, before, strict=True):
        path.write_text(text)
    assert list((bare / "var/lib").glob("etcd/*")) == [], "nothing was put on the root disk"


def ran(machine: Booted) -> bool:
    """Whether systemd let the agent start: without settings it then ends, with code 2."""
    return machine.show(AGENT, "ExecMainStatus") == "2"


def said(machine: Booted) -> str:
    return "\n".join(str(event["MESSAGE"]) for event in machine.journal(f"--unit={VOLUME}", "--boot"))


def test_until_it_is_told_where_nothing_is_touched(root: Path, disk: str) -> None:
    """A blank volume is there; then user data names it, as the Terraform module's does."""
    with booted(root, "etcd-image-untold", f"--bind={disk}:{NAME}") as machine:
        assert not ran(machine)
        assert "nobody said where etcd's data goes" in said(machine)
        assert out("blkid", "--probe", disk) == ""
        assert machine.run("systemctl", "start", ETCD, check=False).returncode != 0, "nor does etcd start"
        machine.run("sh", "-c", USER_DATA.read_text().replace("${config_toml}", "").replace("${data_volume}", NAME))
        wait_until(lambda: ran(machine), 30, "the agent to be started")
        assert machine.show(MOUNT, "ActiveState") == "active"
        assert "was blank" in said(machine)


def test_a_volume_that_holds_something_is_left_and_the_agent_with_it(root: Path, disk: str) -> None:
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-L", "photos", disk], check=True)
    before = out("sha256sum", disk)
    tell(root, NAME)
    with booted(root, "etcd-image-foreign", f"--bind={disk}:{NAME}") as machine:
        assert not ran(machine)
        assert machine.show(MOUNT, "ActiveState") == "inactive"
        assert "is left as it is" in said(machine)
        assert machine.run("systemctl", "start", AGENT, check=False).returncode != 0
        assert machine.run("systemctl", "start", ETCD, check=False).returncode != 0
        assert not ran(machine)
    assert out("sha256sum", disk) == before


def test_a_volume_that_is_missing_keeps_the_agent_from_the_root_disk(root: Path) -> None:
    tell(root, NAME)
    with booted(root, "etcd-image-missing") as machine:
        assert not ran(machine)
        assert "is not attached" in said(machine)
        assert machine.run("systemctl", "start", AGENT, check=False).returncode != 0
        machine.run("sh", "-c", "echo DEVICE=none >/etc/etcd-asg-agent/data-volume")
        machine.run("systemctl", "start", AGENT, check=False)
        assert ran(machine), "unless that is what was asked for"
        assert "root disk" in said(machine)
        assert machine.show(MOUNT, "ActiveState") == "inactive"


def test_metrics_limits_and_order(root: Path, disk: str) -> None:
    tell(root, NAME)
    with booted(root, "etcd-image-facts", f"--bind={disk}:{NAME}") as machine:
        assert not [event for event in machine.journal("--boot") if "ordering cycle" in str(event["MESSAGE"])]
        metrics = machine.run("curl", "--silent", "--fail", "http://127.0.0.1:9100/metrics").stdout
        assert 'node_systemd_unit_state{name="etcd-data-volume.service",state="active",type="oneshot"} 1' in metrics
        assert 'fstype="ext4",mountpoint="/var/lib/etcd"' in metrics
        assert "SystemMaxUse=500M" in machine.run("systemd-analyze", "cat-config", "systemd/journald.conf").stdout
        assert machine.run("systemctl", "is-enabled", "apt-daily.timer", check=False).stdout.strip() == "masked"
        options = machine.run("findmnt", "--noheadings", "--output=OPTIONS", "/var/lib/etcd").stdout
        assert {"noatime", "nodev", "nosuid", "noexec"} <= set(options.strip().split(","))


# ---- and a cluster on it ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with group_of_one(tmp_path_factory.mktemp("cloud") / "lab") as lab:
        yield lab


def test_a_member_lives_on_its_volume_through_reboots(lab: Lab, disk: str, tmp_path: Path) -> None:
    """And it needs its volume: without it the instance does not come up as somebody new."""
    root = copied(CACHE / "image", tmp_path / "root")
    configure(root, lab, lab.instances()[0])
    tell(root, NAME)
    with booted(root, "etcd-image-member", f"--bind={disk}:{NAME}") as machine:
        wait_until(lambda: serves(machine), 60, "a cluster that serves")
        uuid, identity = out("blkid", "--probe", "-o", "value", "-s", "UUID", disk), identity_on(machine)
        assert machine.run("findmnt", "--noheadings", "--output=FSTYPE", "/var/lib/etcd").stdout.strip() == "ext4"
        began = time.monotonic()
        machine.power_off()
        assert time.monotonic() - began < 60
        assert "clean" in out("sh", "-c", f"dumpe2fs -h {disk} 2>/dev/null | grep 'Filesystem state'")
        assert "needs_recovery" not in out("sh", "-c", f"dumpe2fs -h {disk} 2>/dev/null"), "unmounted, in order"
        machine.boot()
        wait_until(lambda: serves(machine), 60, "a cluster that serves")
        assert (out("blkid", "--probe", "-o", "value", "-s", "UUID", disk), identity_on(machine)) == (uuid, identity)
    assert list((root / "var/lib/etcd").glob("*")) == [], "nothing of it is on the root disk"
    with booted(root, "etcd-image-lost") as machine:
        assert machine.show(AGENT, "ActiveState") == "inactive"
        assert machine.run("systemctl", "start", AGENT, check=False).returncode != 0
    with booted(root, "etcd-image-again", f"--bind={disk}:{NAME}") as machine:
        wait_until(lambda: serves(machine), 60, "a cluster that serves")
        assert identity_on(machine) == identity


def identity_on(machine: Booted) -> dict[str, object]:
    read: dict[str, object] = json.loads(machine.run("cat", "/var/lib/etcd/identity.json").stdout)
    return read
