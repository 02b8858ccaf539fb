"""The image as it is written: its template, its files, and what the data volume's script makes of names and bytes."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.settings import Settings
from packer.image import data_volume, manifest
from packer.image.data_volume import EDGE, MIB, SAMPLE, STRIDE, GivenUp, NotBlank, Signature

ROOT = Path(__file__).parents[2]
PACKER = ROOT / "packer"
IMAGE = PACKER / "image"
UNITS = IMAGE / "root/etc/systemd/system"
TEMPLATES = ("etcd.pkr.hcl", "plugins.pkr.hcl")
OLD_PACKER = ROOT / ".cache/delivery/packer/usr/bin/packer"

NEWER_THAN_1_6 = re.compile(r"^  imds_support [^\n]*\n|^  metadata_options \{.*?^  \}\n", re.DOTALL | re.MULTILINE)
"""What Debian's Packer (1.6.6) does not know yet: it validates everything else."""


def unit(path: Path) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment, method-assign]
    parsed.read_string(path.read_text())
    return parsed


# ---- the template ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_template_is_formatted(name: str) -> None:
    """By Terraform, which reads the same language and fails where it is none."""
    if shutil.which("terraform") is None:
        pytest.skip("no terraform here")
    text = (PACKER / name).read_text()
    environment = {"PATH": os.environ["PATH"], "CHECKPOINT_DISABLE": "1"}
    done = subprocess.run(
        ["terraform", "fmt", "-"], input=text, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == text


@pytest.mark.delivery
def test_packer_validates_it(tmp_path: Path) -> None:
    if not OLD_PACKER.exists():
        pytest.skip("no Packer here")
    shutil.copytree(IMAGE, tmp_path / "image")
    shutil.copy(PACKER / "install-etcd", tmp_path)
    template = tmp_path / "etcd.pkr.hcl"
    text, stripped = NEWER_THAN_1_6.subn("", (PACKER / "etcd.pkr.hcl").read_text())
    assert stripped == 2
    ours = ("-var", 'ssh_from=["203.0.113.7/32"]')
    for written, arguments, fine in (
        (text, ours, True),
        (text, (), False),  # nobody's SSH port is open to everybody because a variable was forgotten
        (text.replace("encrypt_boot ", "encrypted_boot "), ours, False),
        (text.replace("local.uploaded", "local.upload"), ours, False),
    ):
        template.write_text(written)
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CHECKPOINT_DISABLE": "1"}
        asked = [OLD_PACKER, "validate", *arguments, template]
        done = subprocess.run(asked, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == fine, done.stdout + done.stderr


def test_the_template_makes_what_is_promised() -> None:
    """What no Packer at hand can validate is at least there."""
    text = (PACKER / "etcd.pkr.hcl").read_text()
    (options,) = re.findall(r"^  metadata_options \{(.*?)^  \}", text, re.DOTALL | re.MULTILINE)
    assert re.search(r'http_tokens\s+= "required"', options)
    assert re.search(r"http_put_response_hop_limit\s+= 1\n", options)
    assert re.search(r'^  imds_support\s+= "v2\.0"$', text, re.MULTILINE)
    assert re.search(r"^  encrypt_boot\s+= true$", text, re.MULTILINE)
    assert re.findall(r'architecture\s+= "(x86_64|arm64)"\n', text) == ["x86_64", "arm64"]
    assert text.count("owners      = [local.debian]") == text.count("source_ami_filter {") == 2
    assert "access_key" not in text
    assert 'source  = "github.com/hashicorp/amazon"' in (PACKER / "plugins.pkr.hcl").read_text()
    assert text.rindex("/provision") > text.rindex("install-etcd"), "everything is there before it is provisioned"


@pytest.mark.parametrize("script", ["provision", "check"])
def test_scripts_parse(script: str) -> None:
    subprocess.run(["bash", "-n", IMAGE / script], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", IMAGE / script], check=True)


@pytest.mark.parametrize(
    "arguments", [["--packages"], ["--etcd"], ["now"], ["--packages", "/nonexistent"]], ids=" ".join
)
def test_mistaken_arguments_change_nothing(arguments: list[str]) -> None:
    done = subprocess.run([IMAGE / "provision", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("provision: ")


# ---- the files -------------------------------------------------------------------------------------------------------


def test_neither_agent_nor_etcd_runs_without_the_mount() -> None:
    settings = Settings.load(None, flags={"cluster.name": "prod", "storage.bucket": "acme"})
    mount = unit(UNITS / "var-lib-etcd.mount")
    assert mount["Mount"]["Where"] == str(settings.etcd.data_root)
    assert mount["Mount"]["What"] == str(data_volume.RUN / "device")
    assert mount["Unit"]["ConditionPathExists"] == f"!{data_volume.RUN / 'root-disk'}"
    assert mount["Unit"]["Requires"] == mount["Unit"]["After"] == "etcd-data-volume.service"
    for name in ("etcd-asg-agent", "etcd"):
        drop_in = unit(UNITS / f"{name}.service.d" / "data-volume.conf")
        assert drop_in["Unit"]["RequiresMountsFor"] == str(settings.etcd.data_root)
    service = unit(UNITS / "etcd-data-volume.service")["Service"]
    assert service["RuntimeDirectory"] == data_volume.RUN.name
    assert service["RemainAfterExit"] == "yes"
    assert "install -o root -g root -m 0755 data_volume.py " + service["ExecStart"] in (IMAGE / "provision").read_text()


def test_the_image_names_no_volume() -> None:
    """Another blank volume of an instance is not taken for etcd's."""
    assert data_volume.asked_for(IMAGE / "root/etc/etcd-asg-agent/data-volume") is None


def test_what_is_no_part_of_the_image_is_said_with_a_reason() -> None:
    assert all(manifest.SKIPPED.values())
    assert not [path for path in manifest.SKIPPED if path.startswith(("/etc/etcd", "/etc/systemd", "/usr", "/opt"))]


# ---- which volume ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("", None),
        ("DEVICE=\n", None),
        ("DEVICE=\n#DEVICE=/dev/xvdc\n", None),
        ("# DEVICE=/dev/xvdb\n", None),
        ("DEVICE=/dev/xvdb", "/dev/xvdb"),
        ("DEVICE=/dev/xvdb\nDEVICE=/dev/xvdc\n", "/dev/xvdc"),
        ('  DEVICE = "/dev/xvdb"  \n', "/dev/xvdb"),
        ("DEVICE=none\n", "none"),
    ],
)
def test_what_the_settings_say(tmp_path: Path, text: str, device: str | None) -> None:
    (tmp_path / "data-volume").write_text(text)
    assert data_volume.asked_for(tmp_path / "data-volume") == device


def test_settings_that_are_not_there_name_nothing_and_those_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    assert data_volume.asked_for(tmp_path / "absent") is None
    (tmp_path / "folder").mkdir()
    with pytest.raises(GivenUp, match="cannot be read"):
        data_volume.asked_for(tmp_path / "folder")


def test_a_volume_is_looked_for_by_every_name_that_it_may_have() -> None:
    names = [str(each) for each in data_volume.names_of("/dev/sdf")]
    assert names == ["/dev/sdf", "/dev/xvdf"]
    assert [str(each) for each in data_volume.names_of("/dev/xvdb")] == ["/dev/xvdb", "/dev/sdb"]
    assert len(data_volume.names_of("/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0abc")) == 1


def test_one_that_is_not_attached_is_not_guessed() -> None:
    with pytest.raises(GivenUp, match="/dev/xvdzz is not attached after 0 s"):
        data_volume.found("/dev/xvdzz", wait_seconds=0)


def test_without_a_name_nothing_is_done(tmp_path: Path) -> None:
    with pytest.raises(GivenUp, match="nobody said"):
        data_volume.prepare(tmp_path / "absent", tmp_path, wait_seconds=0, dry_run=False)
    assert list(tmp_path.iterdir()) == []


def test_the_root_disk_is_used_where_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("DEVICE=none\n")
    data_volume.prepare(tmp_path / "config", tmp_path, wait_seconds=0, dry_run=True)
    assert not (tmp_path / "root-disk").exists()
    data_volume.prepare(tmp_path / "config", tmp_path, wait_seconds=0, dry_run=False)
    assert (tmp_path / "root-disk").exists()


# ---- blank or not, by its bytes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2 * EDGE, 2 * EDGE + 512, 3 * STRIDE, 20 << 30, 64 << 40])
def test_both_ends_are_read_whole_and_what_is_read_lies_within(size: int) -> None:
    regions = list(data_volume.regions(size))
    assert all(offset >= 0 and offset + length <= size for offset, length in regions)
    assert {offset for offset, _ in regions} >= {*range(0, EDGE, MIB), *range(size - EDGE, size, MIB)}
    assert len(regions) <= 2 * EDGE // MIB + data_volume.SAMPLES + 4
    assert sum(length for _, length in regions) <= 2 * EDGE + (data_volume.SAMPLES + 4) * SAMPLE, (
        "in seconds, not hours"
    )


def test_every_copy_of_an_ext4s_superblock_is_looked_for() -> None:
    """sparse_super: at the beginning of groups 1, and of powers of 3, 5 and 7 (ext4's documentation)."""
    read = {offset for offset, _ in data_volume.regions(20 << 30)}
    assert {STRIDE * group for group in (1, 3, 5, 7, 9, 25, 27, 49, 81, 125)} <= read


def test_a_volume_that_is_zero_is_blank_and_one_byte_is_enough_against_it(tmp_path: Path) -> None:
    size = 2 * EDGE + MIB
    path = tmp_path / "volume"
    with path.open("w+b") as file:
        file.truncate(size)
        data_volume.must_be_zero(file.fileno(), size)
        os.pwrite(file.fileno(), b"\1", size - 1)
        with pytest.raises(NotBlank, match="it holds data"):
            data_volume.must_be_zero(file.fileno(), size)


def test_a_read_that_fails_proves_nothing() -> None:
    """Linux answers EIO for the first page of a process, which nobody has."""
    with Path("/proc/self/mem").open("rb", buffering=0) as nothing, pytest.raises(NotBlank, match="cannot be read"):
        data_volume.must_be_zero(nothing.fileno(), 4 * EDGE)


def test_a_read_that_ends_early_proves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "volume"
    with path.open("w+b") as file:
        file.truncate(2 * EDGE - 1)
        with pytest.raises(NotBlank, match="cannot be read"):
            data_volume.must_be_zero(file.fileno(), 2 * EDGE)


@pytest.mark.parametrize(
    ("tags", "ours"),
    [
        ({"TYPE": "ext4", "LABEL": "etcd-data", "USAGE": "filesystem"}, True),
        ({"TYPE": "ext4", "LABEL": "etcd-data", "USAGE": "filesystem", "PTTYPE": "dos"}, False),
        ({"TYPE": "xfs", "LABEL": "etcd-data", "USAGE": "filesystem"}, False),
        ({"TYPE": "ext4", "LABEL": "data", "USAGE": "filesystem"}, False),
        ({"TYPE": "ext4", "USAGE": "filesystem"}, False),
        ({"PTTYPE": "gpt"}, False),
        ({}, False),
    ],
)
def test_ours_is_an_ext4_with_our_label_and_nothing_beside_it(tags: dict[str, str], ours: bool) -> None:
    assert Signature(tuple(tags.items())).is_ours() == ours
