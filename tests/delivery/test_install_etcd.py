"""packer/install-etcd, with releases made up in a folder: what it takes, what it refuses, and what it leaves alone."""

import hashlib
import os
import platform
import subprocess
import tarfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "packer" / "install-etcd"
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "unknown")

pytestmark = pytest.mark.skipif(ARCH == "unknown", reason="etcd is released for x86_64 and aarch64")


def fake_etcd(folder: Path, version: str) -> Path:
    """Three commands that say that they are etcd of this version."""
    folder.mkdir(parents=True, exist_ok=True)
    for tool in ("etcd", "etcdctl", "etcdutl"):
        (folder / tool).write_text(f"#!/bin/sh\necho 'etcd Version: {version}'\n")
        (folder / tool).chmod(0o755)
    return folder


class Releases:
    """A site of releases on disk, as curl can read it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = f"file://{root}"

    def publish(self, version: str, really: str | None = None) -> str:
        """Returns the archive's SHA-256. `really`: what the binary inside says of itself."""
        name = f"etcd-v{version}-linux-{ARCH}"
        fake_etcd(self.root / "build" / name, really or version)
        archive = self.root / f"v{version}" / f"{name}.tar.gz"
        archive.parent.mkdir(parents=True)
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(self.root / "build" / name, name)
        return hashlib.sha256(archive.read_bytes()).hexdigest()


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return Releases(tmp_path / "releases")


def install(*arguments: str, releases: Releases, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    search = os.pathsep.join([*([str(path)] if path else []), "/usr/bin", "/bin"])
    environment = {"PATH": search, "HOME": "/nonexistent", "ETCD_RELEASE_URL": releases.url}
    return subprocess.run(
        [SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=50
    )


def test_what_is_on_path_and_good_is_taken(tmp_path: Path, releases: Releases) -> None:
    found = fake_etcd(tmp_path / "bin", "3.5.30")
    done = install("--into", str(tmp_path / "into"), releases=releases, path=found)
    assert done.returncode == 0, done.stderr
    assert sorted(each.name for each in (tmp_path / "into").iterdir()) == ["etcd", "etcdctl", "etcdutl"]
    assert install(releases=releases, path=found).returncode == 0, "and without --into nothing is installed at all"


def test_a_release_with_its_checksum_is_taken(tmp_path: Path, releases: Releases) -> None:
    checksum = releases.publish("3.6.99")
    arguments = ("--version", "v3.6.99", "--sha256", checksum, "--from", "release", "--into", str(tmp_path / "into"))
    done = install(*arguments, releases=releases)
    assert done.returncode == 0, done.stderr
    before = (tmp_path / "into" / "etcd").stat().st_mtime_ns
    assert install(*arguments, releases=releases).returncode == 0
    assert (tmp_path / "into" / "etcd").stat().st_mtime_ns == before, "the second run changes nothing"


def test_a_release_that_somebody_changed_is_refused(tmp_path: Path, releases: Releases) -> None:
    """Not even the next source is tried: this is no outage."""
    releases.publish("3.5.27")
    done = install("--into", str(tmp_path / "into"), "--from", "release,package", releases=releases)
    assert done.returncode == 1
    assert "NOT installed" in done.stderr
    assert not (tmp_path / "into" / "etcd").exists()


def test_a_release_without_a_known_checksum_is_refused(tmp_path: Path, releases: Releases) -> None:
    releases.publish("3.6.99")
    done = install("--version", "3.6.99", "--from", "release", "--into", str(tmp_path / "into"), releases=releases)
    assert done.returncode == 1
    assert "give --sha256" in done.stderr


def test_a_version_that_loses_data_is_refused(tmp_path: Path, releases: Releases) -> None:
    checksum = releases.publish("3.5.1")
    arguments = ("--version", "3.5.1", "--sha256", checksum, "--from", "release", "--into", str(tmp_path / "into"))
    done = install(*arguments, releases=releases)
    assert done.returncode == 1
    assert "loses acknowledged writes" in done.stderr


def test_a_binary_that_is_not_what_it_is_called_is_refused(tmp_path: Path, releases: Releases) -> None:
    checksum = releases.publish("3.6.99", really="3.6.1")
    arguments = ("--version", "3.6.99", "--sha256", checksum, "--from", "release", "--into", str(tmp_path / "into"))
    done = install(*arguments, releases=releases)
    assert done.returncode == 1
    assert "found etcd 3.6.1, wanted 3.6.99" in done.stderr


@pytest.mark.parametrize("version", ["3.4.23", "3.5.25", "3.5.0"])
def test_an_old_etcd_on_path_is_not_good_enough(version: str, tmp_path: Path, releases: Releases) -> None:
    found = fake_etcd(tmp_path / "bin", version)
    done = install("--into", str(tmp_path / "into"), "--from", "path", releases=releases, path=found)
    assert done.returncode == 1
    assert "Install etcd 3.5.26 or later" in done.stderr.splitlines()[-1]


def test_an_old_one_is_taken_when_asked_for(tmp_path: Path, releases: Releases) -> None:
    found = fake_etcd(tmp_path / "bin", "3.4.23")
    done = install("--version", "3.4.23", "--into", str(tmp_path / "into"), releases=releases, path=found)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("--version",), ("--version", "newest"), ("--sha256", "abc"), ("--from", "internet"), ("--into", ""), ("now",)],
)
def test_mistaken_arguments(arguments: tuple[str, ...], releases: Releases) -> None:
    done = install(*arguments, releases=releases)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_help(releases: Releases) -> None:
    done = install("--help", releases=releases)
    assert done.returncode == 0
    assert "--into DIR" in done.stdout
