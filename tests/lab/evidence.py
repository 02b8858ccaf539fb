"""What a lab leaves to be read: the bucket's objects, the disks, the logs of agents and etcds, the processes.

House rules: read from where it lies, not from who tells of it; nothing here changes anything or waits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.lab import members
from agent.lab.client import Instance, Lab
from agent.lab.processes import marked
from tests.lab.harness import cluster_ids, member_list

Document = dict[str, Any]
RECORD = "generations/000001.json"
FORMED = "generations/000001/formed.json"


# ---- the bucket -----------------------------------------------------------------------------------------------------


def objects(lab: Lab, under: str = "", prefix: str | None = None) -> dict[str, Document]:
    """The cluster's documents by their keys below `PREFIX/CLUSTER/`; `prefix` where it is not the lab's own."""
    state = lab.status()
    root = f"{state['prefix'] if prefix is None else prefix}/{state['cluster']}/"
    listed = lab.aws("s3").list_objects_v2(Bucket=state["bucket"], Prefix=root + under)
    keys = [each["Key"] for each in listed.get("Contents", ())]
    found = {key: lab.aws("s3").get_object(Bucket=state["bucket"], Key=key)["Body"].read() for key in keys}
    return {key.removeprefix(root): json.loads(body) for key, body in found.items()}


def claim_of(instance_id: str) -> str:
    """The key of a founder's claim to generation 1."""
    return f"generations/000001/claims/{instance_id}.json"


def assert_one_cluster(lab: Lab, prefix: str | None = None) -> Document:
    """One record, one formed cluster, one lineage: whoever answers, answers from it. Returns the bucket's documents."""
    held = objects(lab, "generations/", prefix)
    assert [key for key in held if key.count("/") == 1] == [RECORD], f"not one generation: {sorted(held)}"
    listed = member_list(lab)
    assert listed is not None
    assert cluster_ids(lab) == {int(held[FORMED]["cluster_id"], 16)}
    assert len({member.name for member in listed}) == len(listed), f"an instance is two members: {listed}"
    return held


# ---- disks ----------------------------------------------------------------------------------------------------------


def identity(instance: Instance) -> Document | None:
    """The identity file as it lies on the disk; None where there is none."""
    try:
        found: Document = json.loads((instance.disk / "identity.json").read_text())
    except FileNotFoundError:
        return None
    return found


def contents(folder: Path) -> Mapping[str, str]:
    """Every file below a folder, by its relative path, as a digest of its bytes."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def quarantined(instance: Instance) -> list[Path]:
    """The folders of the quarantine, oldest first."""
    return sorted((instance.disk / "quarantine").glob("*"))


# ---- logs and processes ---------------------------------------------------------------------------------------------


def events(instance: Instance, since: int = 0) -> list[Document]:
    """What the instance's agents logged, from an offset in bytes on; a line cut off by a kill is left out."""
    found = []
    with instance.log.open("rb") as log:
        log.seek(since)
        for line in log:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found


def actions(instance: Instance, since: int = 0) -> list[Document]:
    """The effects among them, in their order."""
    return [event for event in events(instance, since) if event["message"] == "acted"]


def log_size(instance: Instance) -> int:
    """An offset for `events`: what is logged from now on."""
    return instance.log.stat().st_size if instance.log.exists() else 0


def starts_as_new(instance: Instance, since: int = 0) -> list[Document]:
    """The starts of etcd that began a lineage."""
    return [each for each in actions(instance, since) if each.get("launch", {}).get("state") == "new"]


def etcd_pids(instance_id: str) -> tuple[int, ...]:
    """The etcds that serve on a machine, without asking the lab: quick enough to catch one being born.

    One that was only asked for its version has been given no data directory.
    """
    return tuple(process.pid for process in marked([instance_id]) if process.name == "etcd" and _has_data(process.pid))


def _has_data(pid: int) -> bool:
    try:
        return b"\0ETCD_DATA_DIR=" in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def member_id(instance: Instance) -> int | None:
    """The ID under which the instance's etcd answers, or None."""
    status = members.status(instance.address)
    return None if status is None else status.member_id
