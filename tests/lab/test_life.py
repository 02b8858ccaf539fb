"""A lab's own life: up and down from the command line, side by side, and whatever dies, nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.lab import processes, sweep
from agent.lab.addresses import Block
from agent.lab.client import Lab, clean_up
from agent.lab.network import table_name
from agent.lab.spec import CLOUD_PORT, LabError, LabSpec
from tests.lab.conftest import STAND_IN
from tests.lab.harness import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
SPEC = LabSpec(instances=2, agent_command=STAND_IN, etcd=sys.executable).with_pace(boot_s=0.1)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "lab"
    clean_up(tmp_path / "lab")


def command(*arguments: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "agent.cli", "lab", *arguments, "--state-dir", str(folder)]


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments, folder=folder), capture_output=True, text=True, timeout=60, check=False)


def start(folder: Path, spec: LabSpec = SPEC) -> Lab:
    """As the command line does: the lab outlives whoever started it."""
    lab = Lab.start(spec, folder)
    lab.wait_agents()
    wait_until(lambda: len(everything(lab)) == 2 * spec.instances, 5, "agents and their children")
    return lab


def everything(lab: Lab) -> set[int]:
    return {process.pid for process in processes.marked(sweep.instances_of(lab.folder))}


def assert_nothing_left(lab: Lab, pids: set[int]) -> None:
    assert not any(processes.alive(pid) for pid in pids | {lab.pid})
    assert not lab.folder.exists()
    assert_no_table(lab)


def assert_no_table(lab: Lab) -> None:
    block = Block(int(lab.endpoint.split(".")[1]))
    assert table_name(block) not in tables()


def tables() -> set[str]:
    """The firewall tables of labs on this computer."""
    if os.geteuid() != 0 or shutil.which("nft") is None:
        return set()
    said = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    return {word for word in said.split() if word.startswith("etcd_asg_lab")}


def orphans() -> set[str]:
    """Those tables whose lab does not live any more; others come and go beside us."""
    found = {table_name(Block(x)): Block(x).cloud for x in range(1, 255)}
    return {table for table in tables() if not answers(found[table])}


def answers(address: str) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, CLOUD_PORT)) == 0


def test_down_leaves_nothing_behind(folder: Path) -> None:
    lab = start(folder)
    pids = everything(lab)
    lab.down()
    assert_nothing_left(lab, pids)


def test_two_labs_live_side_by_side(tmp_path: Path) -> None:
    one, other = start(tmp_path / "one"), start(tmp_path / "other")
    try:
        assert one.endpoint != other.endpoint
        assert not set(one.addresses()) & set(other.addresses())
        pids = everything(one)
        other.down()
        assert everything(one) == pids
    finally:
        one.down()
        clean_up(tmp_path / "other")


def test_up_twice_says_so(folder: Path) -> None:
    start(folder)
    again = run("up", folder=folder)
    assert (again.returncode, again.stdout) == (1, "")
    assert "already up" in again.stderr
    assert "Traceback" not in again.stderr


def test_a_daemon_that_dies_takes_its_machines_along_and_down_cleans_up(folder: Path) -> None:
    lab = start(folder)
    pids = everything(lab)
    os.kill(lab.pid, signal.SIGKILL)
    wait_until(lambda: not any(processes.alive(pid) for pid in pids), 5, "the end of its machines")
    wait_until(lambda: processes.alive(lab.pid) is False, 5, "the end of the daemon")
    with pytest.raises(LabError, match="died"):
        Lab.attach(folder)
    with pytest.raises(LabError, match="a lab died"):
        Lab.start(SPEC, folder)
    lab._await_end()
    assert run("down", folder=folder).stdout == "the lab is down\n"
    assert_nothing_left(lab, pids)


def test_a_lab_on_a_lifeline_ends_with_whoever_started_it(folder: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder), SPEC.to_json()], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    with owner:
        pid, *pids = map(int, owner.stdout.readline().split())
        assert len(pids) == 4
        owner.kill()
    wait_until(lambda: not any(processes.alive(one) for one in (pid, *pids)), 10, "the end of the lab")


OWNER = """
import sys, time
from pathlib import Path
from agent.lab.client import Lab
from agent.lab.processes import marked
from agent.lab.spec import LabSpec
from agent.lab.sweep import instances_of
folder = Path(sys.argv[1])
lab = Lab.start(LabSpec.from_json(sys.argv[2]), folder, lifeline=True)
lab.wait_agents()
while len(found := marked(instances_of(folder))) < 4:
    time.sleep(0.05)
print(lab.pid, *(process.pid for process in found), flush=True)
time.sleep(100)
"""


def test_ctrl_c_during_up_is_clean(folder: Path) -> None:
    up = subprocess.Popen(
        command("up", "--boot", "30", folder=folder), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_until(lambda: sweep.read_state(folder), 30, "the daemon")
    pid = (sweep.read_state(folder) or {})["pid"]
    time.sleep(0.2)
    up.send_signal(signal.SIGINT)
    _, said = up.communicate(timeout=30)
    assert up.returncode == 130
    assert "Traceback" not in said
    assert not processes.alive(pid)
    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("after_s", [0.1, 1.0, 2.0, 3.0, 4.0])
def test_a_daemon_that_ends_while_it_starts_leaves_no_rule_behind(
    folder: Path, number: signal.Signals, after_s: float
) -> None:
    before = orphans()
    folder.mkdir()
    (folder / sweep.SPEC).write_text(SPEC.to_json())
    daemon = subprocess.Popen([sys.executable, "-m", "agent.lab.cloud", str(folder)], stderr=subprocess.DEVNULL)
    time.sleep(after_s)
    daemon.send_signal(number)
    daemon.wait(30)
    wait_until(lambda: orphans() <= before, 30, "no table that no lab answers for")
    wait_until(lambda: not processes.marked(sweep.instances_of(folder)), 10, "no process left")


def test_the_command_line_shows_and_changes_a_lab(folder: Path) -> None:
    lab = start(folder)
    first, second = lab.instances()
    assert first.id in run("status", folder=folder).stdout
    status = json.loads(run("status", "--json", folder=folder).stdout)
    assert [instance["id"] for instance in status["instances"]] == [first.id, second.id]
    assert run("logs", first.id[2:], folder=folder).stdout == "up\n"
    assert run("terminate", first.id[2:], folder=folder).stdout == f"terminated {first.id}\n"
    assert run("scale", "1", folder=folder).returncode == 0
    ambiguous = run("wipe", "i-", folder=folder)
    assert (ambiguous.returncode, len(ambiguous.stderr.splitlines())) == (1, 1)
    assert run("down", folder=folder).stdout == "the lab is down\n"
    assert run("down", folder=folder).stdout == f"no lab was up in {folder}\n"
    gone = run("status", folder=folder)
    assert (gone.returncode, gone.stderr) == (1, f"lab: no lab is up in {folder}: run `lab up` first\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--instances", "99"), "--instances must be between"),
        (("--asgs", "7"), "--asgs must be between"),
        (("--etcd", "/no/such/etcd"), "there is no /no/such/etcd"),
        (("--set", "nonsense"), "--set wants SECTION.KEY=VALUE"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(folder: Path, arguments: tuple[str, ...], complaint: str) -> None:
    refused = run("up", *arguments, folder=folder)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"lab: {complaint}")
    assert len(refused.stderr.splitlines()) == 1
    assert not folder.exists()


def test_one_group_a_zone(folder: Path) -> None:
    lab = Lab.start(LabSpec(instances=4, asgs=3, agent_command=STAND_IN, etcd=sys.executable), folder)
    lab.wait_agents()
    found = sorted((instance.group, instance.zone) for instance in lab.instances())
    a, b, c = (("lab-a", "eu-west-1a"), ("lab-b", "eu-west-1b"), ("lab-c", "eu-west-1c"))
    assert found == [a, a, b, c]
    lab.scale(3)
    wait_until(lambda: len(lab.instances()) == 3, 5, "one in each")
    lab.down()
