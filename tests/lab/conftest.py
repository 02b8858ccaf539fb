"""Labs for tests: each in its own folder and its own loopback block, so that several run side by side."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.lab.client import Lab
from agent.lab.spec import LabError, LabSpec
from tests import etcd_versions
from tests.lab.harness import running_lab, tell_logs, wait_whole
from tests.lab.losing import PACE, QUICK, head, wait_snapshot
from tests.lab.watching import well_kept_lab

STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in.py")), "{config}")
"""For tests of the cloud itself: a machine that runs, has a child, and does nothing."""

MakeLab = Callable[..., Lab]


@pytest.fixture(scope="session")
def etcd_binary() -> str:
    """The etcd that labs run unless a test names another."""
    return str(etcd_versions.default().etcd)


@pytest.fixture
def make_lab(tmp_path: Path, etcd_binary: str) -> Iterator[MakeLab]:
    """`make_lab(instances=3, ...)`: a lab with the real agent; the keywords are LabSpec's."""
    with ExitStack() as stack:

        def make(**wanted: Any) -> Lab:
            spec = replace(LabSpec(etcd=etcd_binary), **wanted)
            folder = tmp_path / f"lab-{len(list(tmp_path.iterdir()))}"
            return stack.enter_context(running_lab(spec, folder))

        yield make


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    """Three instances, the real agent, real etcd."""
    return make_lab()


@pytest.fixture(scope="module")
def shared_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One emulated AWS for a module, with a stand-in for the agent and an etcd that nobody starts."""
    spec = LabSpec(instances=0, agent_command=STAND_IN, etcd=sys.executable).with_pace(boot_s=0.1, pending_s=0.2)
    with running_lab(spec, tmp_path_factory.mktemp("cloud") / "lab") as lab:
        yield lab


@pytest.fixture
def cloud(shared_cloud: Lab) -> Iterator[Lab]:
    """The module's cloud, empty and in fair weather."""
    yield shared_cloud
    make_empty(shared_cloud)


@pytest.fixture(scope="module")
def shared_three(tmp_path_factory: pytest.TempPathFactory, etcd_binary: str) -> Iterator[Lab]:
    """Three voters for a module, whose agents find a loss after seconds."""
    spec = LabSpec(etcd=etcd_binary, settings=QUICK, pace=PACE)
    with well_kept_lab(spec, tmp_path_factory.mktemp("three") / "lab") as lab:
        wait_whole(lab, 3)
        yield lab


@pytest.fixture
def three(shared_three: Lab) -> Iterator[Lab]:
    """The same, whole before each story; afterwards its logs are told, and what the story did to it ends."""
    wait_whole(shared_three, 3)
    yield shared_three
    tell_logs(shared_three.folder)
    shared_three.clear_faults()
    for each in shared_three.instances():
        with suppress(LabError):
            shared_three.heal(each.id)


@pytest.fixture
def fleet(three: Lab) -> Lab:
    """The same, with a snapshot of its generation."""
    wait_snapshot(three, head(three))
    return three


def make_empty(lab: Lab) -> None:
    """No faults, no hooks, no suspended processes, the usual pace, no instances."""
    lab.clear_faults()
    lab.change(
        pace={"boot_s": 0.1, "pending_s": 0.2, "shutting_down_s": 0.0, "terminated_visible_s": 3600.0,
              "replacement_s": 0.2, "agent_restart_s": 0.3},
        honours_preconditions=True,
        agent_command=list(STAND_IN),
        settings={},
    )  # fmt: skip
    autoscaling = lab.aws("autoscaling")
    for group in lab.status()["groups"]:
        autoscaling.resume_processes(AutoScalingGroupName=group)
        for hook in autoscaling.describe_lifecycle_hooks(AutoScalingGroupName=group)["LifecycleHooks"]:
            autoscaling.delete_lifecycle_hook(AutoScalingGroupName=group, LifecycleHookName=hook["LifecycleHookName"])
    lab.scale(0)
    living = [instance.id for instance in lab.instances()]
    if living:
        lab.aws("ec2").terminate_instances(InstanceIds=living)
    lab.wait_for("an empty group", lambda lab: not any(instance.lifecycle for instance in lab.instances(all=True)))
