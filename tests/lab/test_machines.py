"""Machines: what the agent is given, who restarts it, and what power, disks and addresses do."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from pathlib import Path

import pytest

from agent.lab.client import Instance, Lab
from agent.lab.processes import alive, marked
from agent.lab.spec import LabError
from tests.lab.harness import stays, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


@pytest.fixture
def machine(cloud: Lab) -> Instance:
    cloud.scale(1)
    wait_until(lambda: [one for one in cloud.instances() if booted(one)], 10, "a machine")
    return cloud.instances()[0]


def boots(instance: Instance) -> list[str]:
    path = instance.disk / "boots"
    return path.read_text().split() if path.exists() else []


def booted(instance: Instance, times: int = 1) -> bool:
    """As often as that, and with its child."""
    return len(boots(instance)) >= times and len(marked([instance.id])) >= 2


def processes_of(instance: Instance) -> set[int]:
    return {process.pid for process in marked([instance.id])}


def test_the_agent_gets_what_an_instance_has_and_nothing_else(machine: Instance) -> None:
    environment = json.loads((machine.disk / "environment.json").read_text())
    names = set(environment) - {"LC_CTYPE"}
    assert names <= {"PATH", "HOME", "LANG", "PYTHONUNBUFFERED", "PYTHONPATH", "LAB_INSTANCE"} | {
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    }
    assert environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] == f"http://{machine.address}:1338"
    assert environment["LAB_INSTANCE"] == machine.id


def test_the_settings_are_valid_and_its_own(machine: Instance) -> None:
    from agent.settings import Settings

    raw = tomllib.loads((machine.folder / "config.toml").read_text())
    assert raw["http"]["listen"] == f"{machine.address}:9379"
    assert Settings.load(machine.folder / "config.toml").etcd.data_root == machine.disk


def test_settings_can_be_overridden_from_the_next_boot_on(cloud: Lab, machine: Instance) -> None:
    cloud.change(settings={"timing": {"loop_interval": "2s"}, "etcd": {"client_port": 12379}})
    cloud.reboot(machine.id)
    raw = tomllib.loads((machine.folder / "config.toml").read_text())
    assert raw["timing"] == {"loop_interval": "2s"}
    assert (raw["etcd"]["client_port"], raw["etcd"]["peer_port"]) == (12379, 2380)


def test_a_killed_agent_comes_back_and_its_child_lives_on(cloud: Lab, machine: Instance) -> None:
    before = processes_of(machine)
    assert machine.agent_pid is not None
    cloud.kill_agent(machine.id)
    wait_until(lambda: booted(machine, 2), 5, "the second start")
    assert cloud.instance(machine.id).agent_exit == -9
    assert before - {machine.agent_pid} <= processes_of(machine)


@pytest.mark.parametrize(("code", "again"), [(1, True), (0, False), (2, False)])
def test_an_agent_is_started_again_as_systemd_would(cloud: Lab, machine: Instance, code: int, *, again: bool) -> None:
    stop = machine.disk / "exit"
    stop.write_text(str(code))
    wait_until(lambda: cloud.instance(machine.id).agent_exit == code, 5, "the end of the agent")
    stop.unlink()
    if again:
        wait_until(lambda: cloud.instance(machine.id).agent_pid, 5, "another start")
    else:
        stays(lambda: cloud.instance(machine.id).agent_pid is None, 1.5, "stopped")
        cloud.start_agent(machine.id)
        wait_until(lambda: cloud.instance(machine.id).agent_pid, 5, "the start that was asked for")


def test_a_stopped_agent_stays_stopped(cloud: Lab, machine: Instance) -> None:
    cloud.stop_agent(machine.id)
    wait_until(lambda: cloud.instance(machine.id).agent_pid is None, 5, "stopped")
    stays(lambda: cloud.instance(machine.id).agent_pid is None, 1.0, "stopped")


def test_a_reboot_ends_everything_and_keeps_the_disk(cloud: Lab, machine: Instance) -> None:
    before = processes_of(machine)
    cloud.reboot(machine.id)
    assert not any(alive(pid) for pid in before)
    wait_until(lambda: booted(machine, 2), 5, "the second boot")
    assert cloud.instance(machine.id).address == machine.address


def test_a_reboot_can_change_the_address(cloud: Lab, machine: Instance) -> None:
    cloud.reboot(machine.id, address_changed=True)
    moved = cloud.instance(machine.id)
    assert moved.address != machine.address
    (found,) = cloud.aws("ec2").describe_instances(InstanceIds=[machine.id])["Reservations"][0]["Instances"]
    assert found["PrivateIpAddress"] == moved.address
    wait_until(lambda: booted(machine, 2), 5, "the boot at the new address")
    environment = json.loads((machine.disk / "environment.json").read_text())
    assert moved.address in environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"]


def test_a_wipe_loses_the_disk(cloud: Lab, machine: Instance) -> None:
    (machine.disk / "data").write_text("precious")
    cloud.wipe(machine.id)
    wait_until(lambda: booted(machine), 5, "the boot from an empty disk")
    assert not (machine.disk / "data").exists()


def test_a_frozen_machine_does_nothing_until_it_is_thawed(cloud: Lab, machine: Instance) -> None:
    cloud.freeze(machine.id)
    (machine.disk / "exit").write_text("1")
    stays(lambda: cloud.instance(machine.id).agent_pid == machine.agent_pid, 0.6, "frozen")
    cloud.thaw(machine.id)
    wait_until(lambda: cloud.instance(machine.id).agent_exit == 1, 5, "time to go on")


def test_a_verb_on_a_dead_machine_is_one_plain_sentence(cloud: Lab, machine: Instance) -> None:
    cloud.stop(machine.id)
    with pytest.raises(LabError, match="has no power"):
        cloud.reboot(machine.id)
    cloud.terminate(machine.id)
    with pytest.raises(LabError, match="not a machine of this lab"):
        cloud.reboot(machine.id)
    with pytest.raises(LabError, match="no instance i-nobody"):
        cloud.wipe("i-nobody")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("nft") is None, reason="needs root and nft")
def test_isolation_cuts_a_machine_off_from_all_but_itself(cloud: Lab) -> None:
    cloud.change(agent_command=["python3", str(TALKER), "{folder}", cloud.endpoint])
    cloud.scale(2)
    wait_until(lambda: len([one for one in cloud.instances() if said(one)]) == 2, 10, "two talkers")
    lonely, other = cloud.instances()
    everything = {"self", "imds", "cloud", "neighbour"}
    wait_until(lambda: said(lonely) == said(other) == everything, 5, "everybody heard")
    cloud.isolate(lonely.id)
    wait_until(lambda: said(lonely) == {"self", "imds"}, 8, "silence around it")
    wait_until(lambda: said(other) == {"self", "imds", "cloud"}, 8, "its silence")
    cloud.heal(lonely.id)
    wait_until(lambda: said(lonely) == said(other) == everything, 15, "everybody heard again")


TALKER = Path(__file__).with_name("talker.py")


def said(instance: Instance) -> set[str]:
    path = instance.folder / "heard"
    return set(path.read_text().split()) if path.exists() else set()
