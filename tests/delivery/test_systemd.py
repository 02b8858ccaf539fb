"""The installed package on a Debian with systemd as PID 1, against the emulated AWS: what only a real systemd can show.

`make delivery` runs it, in a network of its own with nothing but loopback in it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.lab.client import Instance, Lab
from agent.lab.spec import IMDS_PORT, REGION
from agent.lab.toml import render
from tests import etcd_versions
from tests.delivery.booted import Booted, booted, copied, group_of_one, install
from tests.lab.harness import stays, wait_until
from tests.pages import all_blocks

CACHE = Path(__file__).parents[2] / ".cache" / "delivery"
AGENT, ETCD = "etcd-asg-agent.service", "etcd.service"
DROP_IN = """\
[Service]
Environment=AWS_REGION={region} AWS_ENDPOINT_URL={endpoint} AWS_EC2_METADATA_SERVICE_ENDPOINT=http://{address}:{port}
# A stuck loop is to be noticed while a test waits for it.
WatchdogSec=15
TimeoutAbortSec=5
"""

pytestmark = [
    pytest.mark.delivery,
    pytest.mark.root,
    pytest.mark.timeout(400),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("systemd-nspawn") is None, reason="needs systemd-nspawn (systemd-container)"),
    pytest.mark.skipif(not (CACHE / "tree").exists(), reason="no tree: run `make delivery`"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with group_of_one(tmp_path_factory.mktemp("cloud") / "lab") as lab:
        yield lab


@pytest.fixture(scope="module")
def instance(lab: Lab) -> Instance:
    return lab.instances()[0]


@pytest.fixture(scope="module")
def package() -> Path:
    (found,) = (CACHE / "one").glob("*.deb")
    return found


@pytest.fixture(scope="module")
def image(lab: Lab, instance: Instance, package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tree with the package and etcd in it, and with what user data would write on this instance."""
    root = copied(CACHE / "tree", tmp_path_factory.mktemp("image") / "root")
    install(root, package, *etcd_versions.default().folder.iterdir())
    configure(root, lab, instance)
    yield root
    shutil.rmtree(root)


def configure(root: Path, lab: Lab, instance: Instance) -> None:
    """What user data would write on this instance, and the way to the emulated AWS."""
    sections = tomllib.loads((instance.folder / "config.toml").read_text())
    sections["etcd"] = {}
    (root / "etc/etcd-asg-agent/config.toml").write_text(render(sections))
    drop_in = root / f"etc/systemd/system/{AGENT}.d/lab.conf"
    drop_in.parent.mkdir(exist_ok=True)
    drop_in.write_text(DROP_IN.format(region=REGION, endpoint=lab.endpoint, address=instance.address, port=IMDS_PORT))


@pytest.fixture(scope="module")
def shared_machine(image: Path) -> Iterator[Booted]:
    with booted(image, "etcd-asg-agent-delivery") as machine:
        yield machine


@pytest.fixture
def machine(shared_machine: Booted) -> Iterator[Booted]:
    """Up, with a cluster that serves; if a test fails, its journal is told."""
    with ExitStack() as told:
        told.callback(lambda: print(shared_machine.run("journalctl", "--no-pager", "-n60", check=False).stdout))  # noqa: T201
        wait_until(lambda: serves(shared_machine), 60, "a cluster that serves")
        yield shared_machine


def pid(machine: Booted, unit: str) -> int:
    return int(machine.show(unit, "MainPID"))


def outside(machine: Booted, inside: int) -> int:
    """The process ID by which this process knows one of the container's."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            ids = next(line for line in status.read_text().splitlines() if line.startswith("NSpid:")).split()
            same = (status.parent / "ns/pid").readlink() == Path(f"/proc/{machine.init}/ns/pid").readlink()
        except (OSError, StopIteration):
            continue
        if same and int(ids[-1]) == inside:
            return int(ids[1])
    raise AssertionError(f"no process {inside}")


def serves(machine: Booted) -> bool:
    return pid(machine, ETCD) > 0 and "Rest, by" in machine.show(AGENT, "StatusText")


def restarts(machine: Booted) -> int:
    return int(machine.show(AGENT, "NRestarts"))


def test_systemd_finds_nothing_wrong(machine: Booted) -> None:
    done = machine.run("systemd-analyze", "verify", AGENT, ETCD)
    assert done.stdout + done.stderr == ""
    for unit in (AGENT, ETCD):
        machine.run("systemd-analyze", "security", "--threshold=20", unit)


def test_it_starts_at_boot_notifies_and_makes_a_cluster(machine: Booted, instance: Instance) -> None:
    assert machine.show(AGENT, "UnitFileState") == "enabled"
    assert machine.show(ETCD, "UnitFileState") == "static"
    assert machine.show(AGENT, "Type") == "notify"
    assert machine.show(AGENT, "ActiveState") == "active"
    status = json.loads(machine.run("etcd-asg-agent", "status", "--json", user="etcd").stdout)
    assert status["instance"] == instance.id
    assert status["decision"]["action"] == "Rest"


def test_after_a_reboot_it_is_the_same_member(machine: Booted, instance: Instance) -> None:
    before = machine.run("cat", "/var/lib/etcd/identity.json").stdout
    machine.power_off()
    machine.boot()
    wait_until(lambda: serves(machine), 60, "a cluster that serves")
    assert machine.run("cat", "/var/lib/etcd/identity.json").stdout == before


def test_both_are_etcds_user_and_may_nothing(machine: Booted) -> None:
    for unit in (AGENT, ETCD):
        status = machine.run("cat", f"/proc/{pid(machine, unit)}/status").stdout
        owner = machine.run("stat", "-c", "%U %G", f"/proc/{pid(machine, unit)}").stdout.split()
        assert owner == ["etcd", "etcd"]
        assert "CapEff:\t0000000000000000" in status
        assert "CapBnd:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        assert "Seccomp:\t2" in status
    assert machine.run("stat", "-c", "%U %G %a", "/var/lib/etcd").stdout.split() == ["etcd", "etcd", "700"]


def test_polkit_lets_that_user_do_that_and_nothing_else(machine: Booted) -> None:
    before = pid(machine, ETCD)
    for user, asked in (
        ("etcd", ("stop", "dbus.service")),
        ("etcd", ("restart", ETCD)),
        ("etcd", ("kill", ETCD)),
        ("etcd", ("stop", AGENT)),
        ("etcd", ("daemon-reload",)),
        ("etcd", ("enable", ETCD)),
        ("nobody", ("stop", ETCD)),
    ):
        done = machine.run("systemctl", "--no-ask-password", *asked, user=user, check=False)
        assert done.returncode != 0, asked
        assert "authentication required" in done.stderr or "denied" in done.stderr.lower(), done.stderr
    assert pid(machine, ETCD) == before
    machine.run("systemctl", "--no-ask-password", "start", ETCD, user="etcd")
    assert pid(machine, ETCD) == before


def doctor(machine: Booted, lab: Lab, instance: Instance, *words: str, user: str = "", code: int = 0) -> dict[str, str]:
    """What it finds, and how bad: nothing is said of what is well, nor of what is this machine's."""
    variables = DROP_IN.format(region=REGION, endpoint=lab.endpoint, address=instance.address, port=IMDS_PORT)
    environment = variables.partition("Environment=")[2].splitlines()[0].split()
    asked = ["env", *environment, "etcd-asg-agent", "doctor", "--json", *words]
    done = machine.run(*asked, user=user, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    found = json.loads(done.stdout)["findings"]
    return {each["check"]: each["level"] for each in found if each["level"] != "ok" and each["check"] not in HERE}


HERE = {"disk-latency", "etcd-fsync", "filesystem", "etcd-files"}
"""What is this machine's, and may be too little."""


def test_the_doctor_finds_a_healthy_instance_well(machine: Booted, lab: Lab, instance: Instance) -> None:
    """As root, and as etcd's user, who may not look at polkit's rules. One member is warned of."""
    before = pid(machine, ETCD), contents(machine)
    unsaid = {"permissions-untried": "unknown", "capacity": "warning"}
    buckets = {"bucket-versioning": "warning", "bucket-public-access": "warning", "bucket-encryption": "warning"}
    found = doctor(machine, lab, instance)
    assert {check: found[check] for check in unsaid} == unsaid
    assert set(found) - set(unsaid) <= {*buckets, "clock-service"}
    as_etcd = doctor(machine, lab, instance, user="etcd")
    assert set(as_etcd) - set(found) <= {"polkit"}
    assert as_etcd.get("polkit", "unknown") == "unknown"
    assert (pid(machine, ETCD), contents(machine)) == before


def contents(machine: Booted) -> set[str]:
    """Of the data root, but for where the agent's own tasks work."""
    return set(machine.run("ls", "-A", "/var/lib/etcd").stdout.split()) - {"scratch"}


def test_the_doctor_names_what_an_instance_and_an_image_must_not_have(
    machine: Booted, lab: Lab, instance: Instance
) -> None:
    well = doctor(machine, lab, instance)
    drop_in = machine.root / f"etc/systemd/system/{ETCD}.d/worse.conf"
    drop_in.parent.mkdir(exist_ok=True)
    drop_in.write_text("[Service]\nRestart=always\nLimitNOFILE=1024\nNoSuchThing=1\n")
    rule = machine.root / "usr/share/polkit-1/rules.d/50-etcd-asg-agent.rules"
    hidden = rule.rename(rule.with_suffix(".away"))
    try:
        worse = doctor(machine, lab, instance, code=1)
    finally:
        drop_in.unlink()
        hidden.rename(rule)
    assert {check: level for check, level in worse.items() if check not in well} == {
        "etcd-unit": "failure",
        "file-limits": "warning",
        "polkit": "failure",
    }
    assert doctor(machine, lab, instance, "--image", code=1) == {"data-root": "failure"}, "a member lives here"


def test_events_are_fields_of_the_journal(machine: Booted, instance: Instance) -> None:
    events = machine.journal(f"--unit={AGENT}")
    acted = [event for event in events if event.get("RULE")]
    assert acted
    for event in acted:
        assert event["INSTANCE"] == instance.id
        assert event["CLUSTER"] == "lab"
        assert event["_SYSTEMD_UNIT"] == AGENT
        assert event["PRIORITY"] in ("3", "4", "6")
        assert event["SYSLOG_IDENTIFIER"] == "etcd-asg-agent"
        assert event["RULE"] in event["MESSAGE"]
    rule = acted[0]["RULE"]
    assert machine.journal(f"RULE={rule}")
    assert {event["_TRANSPORT"] for event in acted} == {"journal"}


def test_a_restart_does_not_touch_etcd(machine: Booted) -> None:
    agent, etcd = pid(machine, AGENT), pid(machine, ETCD)
    machine.run("systemctl", "restart", AGENT)
    wait_until(lambda: serves(machine), 90, "the next agent's first round")
    assert pid(machine, AGENT) != agent
    assert pid(machine, ETCD) == etcd


def test_a_stop_is_clean_and_etcd_serves_on(machine: Booted) -> None:
    etcd = pid(machine, ETCD)
    machine.run("systemctl", "stop", AGENT)
    assert machine.show(AGENT, "ActiveState") == "inactive"
    assert machine.show(AGENT, "Result") == "success"
    assert machine.show(AGENT, "ExecMainStatus") == "0"
    assert pid(machine, ETCD) == etcd
    machine.run("systemctl", "start", AGENT)
    assert pid(machine, ETCD) == etcd


def test_etcd_that_dies_is_started_again_by_the_agent(machine: Booted) -> None:
    """Through polkit: the agent is nobody."""
    etcd = pid(machine, ETCD)
    os.kill(outside(machine, etcd), signal.SIGKILL)
    wait_until(lambda: pid(machine, ETCD) not in (0, etcd) and serves(machine), 90, "another etcd")


def test_a_stuck_loop_is_ended_by_the_watchdog(machine: Booted) -> None:
    """A read of the disk that never returns. Other threads run on, and a timer would go on feeding the watchdog."""
    before, etcd = restarts(machine), pid(machine, ETCD)
    data = machine.root / "var/lib/etcd"
    os.link(data / "identity.json", data / "kept")
    os.mkfifo(data / "pipe", 0o644)
    (data / "pipe").rename(data / "identity.json")
    try:
        stays(lambda: restarts(machine) == before, 8, "the loop is stuck, and the watchdog patient")
    finally:
        (data / "kept").rename(data / "identity.json")
    wait_until(lambda: restarts(machine) == before + 1, 120, "a restart by the watchdog")
    wait_until(lambda: serves(machine), 90, "the next agent's first round")
    assert pid(machine, ETCD) == etcd
    said = "\n".join(str(event["MESSAGE"]) for event in machine.journal(f"--unit={AGENT}", "--lines=200"))
    assert "Watchdog timeout" in said
    assert "world/disk.py" in said, "the journal shows where it was stuck"


def test_a_stopped_process_is_ended_by_the_watchdog(machine: Booted) -> None:
    before, etcd = restarts(machine), pid(machine, ETCD)
    os.kill(outside(machine, pid(machine, AGENT)), signal.SIGSTOP)
    wait_until(lambda: restarts(machine) == before + 1, 120, "a restart by the watchdog")
    wait_until(lambda: serves(machine), 90, "the next agent's first round")
    assert pid(machine, ETCD) == etcd


def test_settings_with_a_mistake_do_not_loop(machine: Booted) -> None:
    etcd = pid(machine, ETCD)
    settings = machine.root / "etc/etcd-asg-agent/config.toml"
    good = settings.read_text()
    settings.write_text(good.replace("bucket", "bukket", 1))
    try:
        assert machine.run("systemctl", "restart", AGENT, check=False).returncode != 0
        stays(lambda: machine.show(AGENT, "ActiveState") == "failed", 4, "left alone")
        assert machine.show(AGENT, "ExecMainStatus") == "2"
        assert pid(machine, ETCD) == etcd
    finally:
        settings.write_text(good)
    machine.run("systemctl", "start", AGENT)


def test_an_upgrade_restarts_the_agent_and_leaves_etcd(machine: Booted, package: Path) -> None:
    agent, etcd = pid(machine, AGENT), pid(machine, ETCD)
    settings = machine.run("cat", "/etc/etcd-asg-agent/config.toml").stdout
    machine.run("dpkg", "--install", f"/root/{package.name}")
    wait_until(lambda: pid(machine, AGENT) not in (0, agent) and serves(machine), 90, "another agent")
    assert pid(machine, ETCD) == etcd
    assert machine.run("cat", "/etc/etcd-asg-agent/config.toml").stdout == settings, "the operator's"


def test_a_removal_leaves_etcd_and_the_data(machine: Booted, package: Path) -> None:
    etcd = pid(machine, ETCD)
    machine.run("dpkg", "--remove", "etcd-asg-agent")
    assert not (machine.root / "opt/etcd-asg-agent").exists()
    machine.run("kill", "-0", str(etcd))
    assert (machine.root / "var/lib/etcd/data").is_dir()
    machine.run("dpkg", "--install", f"/root/{package.name}")
    machine.run("systemctl", "start", AGENT)
    wait_until(lambda: serves(machine), 90, "the next agent's first round")
    assert pid(machine, ETCD) == etcd
    assert machine.show(AGENT, "UnitFileState") == "enabled"


def test_the_operators_pages_are_typed(machine: Booted, lab: Lab, instance: Instance) -> None:
    """docs/operate.md: the blocks that need systemd, each as it stands; AWS is where the unit's drop-in says."""
    typed = [block for block in all_blocks() if block.with_systemd]
    assert typed
    aws = next(line for line in DROP_IN.splitlines() if line.startswith("Environment=")).removeprefix("Environment=")
    aws = aws.format(region=REGION, endpoint=lab.endpoint, address=instance.address, port=IMDS_PORT)
    for block in typed:
        machine.run("env", *aws.split(), "bash", "-euo", "pipefail", "-c", block.script)
        wait_until(lambda: serves(machine), 90, f"all is well after {block}")
