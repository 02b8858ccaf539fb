"""What a stranger types first: make, the CI entry, and lock files that work anywhere."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock")


def pinned(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_name_no_host_and_hash_everything(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^--", text, re.MULTILINE), "no option of an index"
    for entry in re.split(r"\n(?=[a-z])", text.strip()):
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_the_locks_agree_and_hold_what_we_ask_for() -> None:
    runtime, dev = pinned(LOCKS[0]), pinned(LOCKS[1])
    assert runtime.items() <= dev.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for wanted in project["dependencies"]:
        assert re.match(r"[a-z0-9-]+", wanted)[0] in runtime  # type: ignore[index]
    assert runtime["etcd3"] == "0.12.0"
    assert tuple(map(int, pinned(LOCKS[0])["protobuf"].split("."))) >= (6, 33, 5)


def test_make_alone_lists_every_target() -> None:
    if not shutil.which("make"):
        pytest.skip("no make here")
    listed = subprocess.run(["make", "-C", ROOT, "help"], capture_output=True, text=True, check=True).stdout
    for target in re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE):
        assert f"make {target} " in listed


def test_scripts_can_be_run_and_parse() -> None:
    for script in (ROOT / ".ci" / "run", ROOT / "packer" / "install-etcd"):
        assert os.access(script, os.X_OK)
        subprocess.run(["bash", "-n", script], check=True)


def test_shell_scripts_pass_shellcheck() -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("no shellcheck here")
    subprocess.run(["shellcheck", ROOT / ".ci" / "run", ROOT / "packer" / "install-etcd"], check=True)
