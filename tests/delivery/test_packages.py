"""The packages: the same commit makes the same bytes, and nothing of the machine that made them is inside."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import __version__

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "packer" / "package"
BUILT = ROOT / ".cache" / "delivery"
SCRIPTS = ("build", "postinstall", "preremove", "postremove")

# ---- as they are written -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_parse(script: str) -> None:
    subprocess.run(["bash", "-n", PACKAGE / script], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", PACKAGE / script], check=True)


def test_the_tools_are_locked_with_hashes_and_name_no_host() -> None:
    text = (PACKAGE / "tools.lock").read_text()
    assert "://" not in text
    for entry in re.split(r"\n(?=[a-z])", text.strip()):
        assert re.match(r"[a-z-]+==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", entry), entry


def test_mistaken_arguments_are_one_line() -> None:
    for arguments in (["--target", "debian1"], ["--arch", "mips"], ["--target"], ["now"]):
        done = subprocess.run([PACKAGE / "build", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1


def test_the_package_puts_the_units_where_they_say_that_things_are() -> None:
    nfpm = (PACKAGE / "nfpm.yaml").read_text()
    unit = (ROOT / "systemd" / "etcd-asg-agent.service").read_text()
    binary = re.search(r"^ExecStart=(\S+)", unit, re.MULTILINE)
    assert binary is not None
    assert f"src: {binary[1]}, dst: /usr/bin/etcd-asg-agent, type: symlink" in nfpm
    assert 'sys.path.insert(0, "/opt/etcd-asg-agent/lib")' in (PACKAGE / "etcd-asg-agent").read_text()
    assert "dst: /etc/etcd-asg-agent/config.toml, type: config|noreplace" in nfpm
    documented = re.search(r"^Documentation=file:/usr/share/doc/etcd-asg-agent/(\S+)$", unit, re.MULTILINE)
    assert documented is not None
    assert (ROOT / "docs" / documented[1]).exists()


# ---- as they are built ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The first of the two that `make delivery` made, unpacked."""
    folder = tmp_path_factory.mktemp("package")
    (package,) = (BUILT / "one").glob("*.deb")
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder / "root"], check=True)
    yield folder / "root"
    shutil.rmtree(folder)


@pytest.mark.delivery
def test_the_same_commit_makes_the_same_bytes() -> None:
    one, two = (sorted((BUILT / each).glob("*.deb")) for each in ("one", "two"))
    assert [each.name for each in one] == [each.name for each in two]
    assert one[0].read_bytes() == two[0].read_bytes()
    assert one[0].name.startswith(f"etcd-asg-agent_{__version__}-1~debian12_")


@pytest.mark.delivery
def test_nothing_of_the_building_machine_is_inside(built: Path) -> None:
    here = str(ROOT).encode()
    files = [each for each in built.rglob("*") if each.is_file() and not each.is_symlink()]
    assert len(files) > 1000
    (when,) = {int(each.stat().st_mtime) for each in files if "DEBIAN" not in each.parts}
    assert when <= _commit_time(), "a commit's time: of this one, or of an earlier one that it was built from"
    assert not [each for each in files if here in each.read_bytes()]
    assert not [each for each in files if each.suffix == ".pyc" or each.name in ("RECORD", "direct_url.json")]
    assert not [each for each in files if each.stat().st_mode & 0o022]


@pytest.mark.delivery
def test_dependencies_are_those_of_the_lock(built: Path) -> None:
    locked = dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    library = built / "opt/etcd-asg-agent/lib"
    found = [each.name.removesuffix(".dist-info").rpartition("-") for each in library.glob("*.dist-info")]
    assert {name.replace("_", "-"): version for name, _, version in found} == locked


@pytest.mark.delivery
def test_its_settings_name_no_bucket(built: Path) -> None:
    """Whoever forgets to edit them is told so; nobody's bucket is taken for theirs."""
    settings = (built / "etc/etcd-asg-agent/config.toml").read_text()
    assert "\n#name = " in settings
    assert "\n#bucket = " in settings
    assert not re.search(r"^[a-z_]+ = ", settings, re.MULTILINE)


def _commit_time() -> int:
    said = (
        os.environ.get("SOURCE_DATE_EPOCH")
        or subprocess.run(
            ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
    )
    return int(said)
