"""Real etcds of two minor versions in one fleet: an instance refresh, a binary that is exchanged, and the ways back.

House rule of these stories: which etcd an instance has is the image's doing, as on AWS; what changes it is a new
version of the group's launch template, or whoever installs another binary on the instance.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import time
from pathlib import Path

import pytest

from agent.lab.client import Instance, Lab
from tests import etcd_versions
from tests.lab.conftest import MakeLab
from tests.lab.harness import (
    Writer,
    agent_status,
    leader,
    member_list,
    statuses,
    stays,
    voters,
    wait_until,
    wait_whole,
)
from tests.lab.losing import PACE, QUICK, head, manifests, wait_formed, wait_snapshot
from tests.lab.watching import Watch

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(400)]

OLD, NEW = "3.4.23", "3.5.30"
NEW_IMAGE, OLD_IMAGE = "ami-00000000000000035", "ami-00000000000000034"
LET_IN_S = 90.0


def upgradable(make_lab: MakeLab, **wanted: object) -> Lab:
    """Three instances with the older etcd, whose group can be given the newer image."""
    old, new = etcd_versions.named(OLD), etcd_versions.named(NEW)
    images = {OLD_IMAGE: str(old.etcd), NEW_IMAGE: str(new.etcd)}
    lab = make_lab(etcd=str(old.etcd), images=images, settings=QUICK, pace=PACE, **wanted)
    wait_whole(lab, 3)
    return lab


def roll_out(lab: Lab, image: str) -> None:
    """A new version of the launch template, which whatever the group launches next is made of."""
    lab.aws("ec2").create_launch_template_version(
        LaunchTemplateName="lab", LaunchTemplateData={"ImageId": image, "InstanceType": "t3.micro"}
    )


def let_go(lab: Lab, instance: Instance, *, smaller: bool) -> None:
    lab.aws("autoscaling").terminate_instance_in_auto_scaling_group(
        InstanceId=instance.id, ShouldDecrementDesiredCapacity=smaller
    )
    wait_until(lambda: instance.id not in {each.id for each in lab.instances()}, 60, f"{instance.id} to be gone")


def in_service(lab: Lab, size: int) -> bool:
    found = lab.instances()
    return len(found) == size and all(each.lifecycle == "InService" for each in found)


def refresh(lab: Lab) -> None:
    """As an instance refresh does that launches before it terminates: one at a time, the leader first."""
    leading = leader(lab)
    assert leading is not None
    for each in sorted(lab.instances(), key=lambda each: each.id != leading.id):
        lab.scale(4)
        wait_until(lambda: in_service(lab, 4), LET_IN_S, "the newcomer to be let in")
        let_go(lab, each, smaller=True)
        wait_whole(lab, 3)


def versions(lab: Lab) -> list[str]:
    return sorted(status.version for status in statuses(lab).values())


def cluster_version(instance: Instance) -> str:
    """By etcd's own word."""
    connection = http.client.HTTPConnection(instance.address, 2379, timeout=2)
    try:
        connection.request("GET", "/version")
        said = json.loads(connection.getresponse().read())
        return str(said["etcdcluster"])
    finally:
        connection.close()


def said_to_a_human(instance: Instance) -> str:
    """The reason and the hint, if this instance's agent calls one."""
    decision = (agent_status(instance) or {}).get("decision") or {}
    if decision.get("action") != "CallHuman":
        return ""
    return f"{decision['because']}; {decision['details']['hint']}"


def test_an_instance_refresh_is_a_rolling_upgrade_and_there_is_no_way_back(make_lab: MakeLab) -> None:
    lab = upgradable(make_lab, launch_hook_s=120, terminate_hook_s=120)
    before = {each.id for each in lab.instances()}
    assert versions(lab) == [OLD] * 3
    roll_out(lab, NEW_IMAGE)
    with Watch(lab) as watch, Writer(lab) as writer:
        refresh(lab)
        wait_until(lambda: cluster_version(lab.instances()[0]) == "3.5.0", 20, "the cluster's version")
        time.sleep(1)
    writer.assert_nothing_lost()
    assert versions(lab) == [NEW] * 3
    assert not before & {each.id for each in lab.instances()}
    assert min(len(seen.voters) for seen in watch.seen) >= 3
    assert head(lab) == 1
    print(  # noqa: T201
        f"3.4 to 3.5: {len(writer.acknowledged)} writes acknowledged, 0 lost, {len(writer.failed)} failed, "
        f"longest time without one {writer.longest_gap_s():.2f} s"
    )
    roll_out(lab, OLD_IMAGE)
    known = voters(lab)
    assert known is not None
    with Writer(lab) as writer:
        lab.scale(4)
        wait_until(lambda: len(lab.instances()) == 4, 30, "one more of the older image")
        (older,) = (each for each in lab.instances() if each.id not in known)
        said = wait_until(lambda: said_to_a_human(older), 60, "a human to be called")
        assert "cannot be downgraded" in said
        assert "install etcd 3.5" in said
        stays(lambda: {each.id for each in member_list(lab) or ()} and voters(lab) == known, 5, "nobody else is in")
        assert len(member_list(lab) or ()) == 3, "no entry is left that could never start"
        assert not older.etcd_pids
        let_go(lab, older, smaller=True)
    writer.assert_nothing_lost()
    wait_whole(lab, 3)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with links to an etcd and its tools, as a package would put them there."""
    folder = tmp_path / "installed"
    folder.mkdir()
    install(folder, OLD)
    return folder


def install(folder: Path, version: str) -> None:
    source = etcd_versions.named(version).folder
    for tool in ("etcd", "etcdctl", "etcdutl"):
        (folder / tool).unlink(missing_ok=True)
        if (source / tool).exists():
            (folder / tool).symlink_to(source / tool)


def digests(instance: Instance) -> dict[str, str]:
    files = sorted(path for path in (instance.disk / "data").rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_binary_that_is_exchanged_is_an_upgrade_at_the_next_start_and_never_a_downgrade(
    make_lab: MakeLab, installed: Path
) -> None:
    """The machines of a lab share it: all of them are upgraded by the same package, and restarted one by one."""
    lab = make_lab(etcd=str(installed / "etcd"), settings=QUICK, pace=PACE)
    wait_whole(lab, 3)
    wait_snapshot(lab, 1)
    install(installed, NEW)
    with Writer(lab) as writer:
        for done, each in enumerate(lab.instances(), start=1):
            assert versions(lab).count(NEW) == done - 1, "what runs is left running"
            lab.kill_etcd(each.id)
            wait_until(lambda done=done: versions(lab).count(NEW) == done, 60, "it to be upgraded")  # type: ignore[misc]
            wait_whole(lab, 3)
        wait_until(lambda: cluster_version(lab.instances()[0]) == "3.5.0", 20, "the cluster's version")
        time.sleep(2)
        install(installed, OLD)
        time.sleep(1)
        one = lab.instances()[0]
        lab.kill_etcd(one.id)
        wait_until(lambda: "cannot be downgraded" in said_to_a_human(one), 60, "a human to be called")
        before = digests(one)
        assert before
        stays(lambda: not lab.instance(one.id).etcd_pids, 5, "an older etcd is not started")
        assert digests(one) == before, "the data is as it was"
        install(installed, NEW)
        wait_whole(lab, 3)
    writer.assert_nothing_lost()


def test_a_fleet_that_is_half_upgraded_snapshots_and_recovers(make_lab: MakeLab) -> None:
    """Every disk is lost in the middle of it. Whoever can read what the bucket holds founds the next generation."""
    lab = upgradable(make_lab)
    roll_out(lab, NEW_IMAGE)
    first = lab.instances()[0]
    let_go(lab, first, smaller=False)
    wait_whole(lab, 3)
    assert versions(lab) == [OLD, OLD, NEW]
    with Writer(lab) as writer:
        time.sleep(3)
    last = max(write.revision or 0 for write in writer.ledger)
    wait_until(lambda: manifests(lab, 1)[-1]["revision"] >= last, 60, "a snapshot of all that was written")
    taken_by = manifests(lab, 1)[-1]["etcd_version"]
    newer = next(each for each in lab.instances() if statuses(lab)[each.id].version == NEW)
    for each in lab.instances():
        lab.wipe(each.id)
    founders = set(wait_formed(lab, 2, timeout_s=120)["founders"])
    print(f"the snapshot was taken by etcd {taken_by}, and {len(founders)} of 3 founded the next generation")  # noqa: T201
    everybody = {each.id for each in lab.instances()}
    assert founders == (everybody if taken_by == OLD else {newer.id})
    for each in lab.instances():
        if each.id not in founders:
            said = wait_until(lambda each=each: said_to_a_human(each), 60, "a human to be called")  # type: ignore[misc]
            assert "install etcd 3.5" in said
            let_go(lab, each, smaller=False)
    wait_whole(lab, 3, timeout_s=120)
    writer.assert_nothing_lost()
