"""Losing generations in the lab: what is done to a fleet, and what the bucket and the survivors' disks say afterwards.

House rules. What a survivor held is read from its own files, byte by byte and without the agent's code: whoever
acknowledged a write put its key there before. The graces here are as short as the settings allow, so that minutes
become seconds; every story says how long it waited and for what.
"""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.lab import members
from agent.lab.client import Instance, Lab
from agent.lab.processes import ETCD_IN_SCRATCH, marked
from agent.lab.spec import Pace
from tests.lab.evidence import Document, events, quarantined
from tests.lab.harness import Write, Writer, cluster_ids, leader, member_list, stays, wait_until, wait_whole

GRACE_S = 4.0
INTERVAL_S = 10.0
PACE = Pace(pending_s=0.1, boot_s=0.2, replacement_s=0.2, agent_restart_s=0.3)
QUICK: dict[str, dict[str, Any]] = {
    "timing": {
        "leaderless_grace": f"{GRACE_S:.0f}s",
        "report_interval": "500ms",
        "report_max_age": "4s",
        "loop_interval": "500ms",
        "patient_interval": "1s",
        "fleet_interval": "2s",
        "trouble_fleet_interval": "500ms",
        "patient_trouble_fleet_interval": "1s",
        "head_interval": "10s",
        "etcd_status_timeout": "1s",
    },
    "snapshots": {"interval": f"{INTERVAL_S:.0f}s", "drill_interval": "0s"},
    "etcd": {"election_ms": 600},
}
"""As quick as the settings allow: a loss is found after 4 s without a leader, and not after 30."""

KEY = re.compile(rb"ledger/\d+/\d{8}")


# ---- the bucket ------------------------------------------------------------------------------------------------------


def root(lab: Lab) -> tuple[str, str]:
    """The bucket and the prefix of everything that is the cluster's."""
    state = lab.status()
    return state["bucket"], f"{state['prefix']}/{state['cluster']}/"


def keys(lab: Lab, under: str = "") -> list[str]:
    """The names of the cluster's objects, oldest first."""
    bucket, prefix = root(lab)
    pages = lab.aws("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix + under)
    found = [each for page in pages for each in page.get("Contents", ())]
    return [each["Key"].removeprefix(prefix) for each in sorted(found, key=lambda each: each["LastModified"])]


def document(lab: Lab, key: str) -> Document:
    bucket, prefix = root(lab)
    found: Document = json.loads(lab.aws("s3").get_object(Bucket=bucket, Key=prefix + key)["Body"].read())
    return found


def put_document(lab: Lab, key: str, content: Document) -> None:
    """As an operator would by hand: once, and never over something."""
    bucket, prefix = root(lab)
    lab.aws("s3").put_object(Bucket=bucket, Key=prefix + key, Body=json.dumps(content).encode(), IfNoneMatch="*")


def record_key(generation: int) -> str:
    return f"generations/{generation:06d}.json"


def formed_key(generation: int) -> str:
    return f"generations/{generation:06d}/formed.json"


def generations(lab: Lab) -> list[int]:
    """The numbers of all records."""
    names = (re.fullmatch(r"generations/(\d{6})\.json", key) for key in keys(lab, "generations/"))
    return sorted(int(name[1]) for name in names if name)


def head(lab: Lab) -> int:
    return max(generations(lab))


def manifests(lab: Lab, generation: int) -> list[Document]:
    """What the snapshots of a generation say of themselves, oldest first."""
    return [document(lab, key) for key in keys(lab, f"snapshots/{generation:06d}/") if key.endswith(".json")]


def wait_snapshot(lab: Lab, generation: int, *, after: int = 0) -> Document:
    """The newest manifest of a generation, once there are more than `after`."""
    wait_until(lambda: len(manifests(lab, generation)) > after, 60, f"snapshot {after + 1} of generation {generation}")
    return manifests(lab, generation)[-1]


def wait_formed(lab: Lab, generation: int, timeout_s: float = 60.0) -> Document:
    """The record of a generation, once that has formed."""
    wait_until(lambda: formed_key(generation) in keys(lab, "generations/"), timeout_s, f"generation {generation}")
    return document(lab, record_key(generation))


def wait_recovered(lab: Lab, generation: int, size: int = 3) -> Document:
    """Three voters of that generation, of one lineage, and no newer one. Returns its record."""
    wait_formed(lab, generation)
    wait_whole(lab, size)
    assert generations(lab) == list(range(1, generation + 1))
    assert cluster_ids(lab) == {int(document(lab, formed_key(generation))["cluster_id"], 16)}
    return document(lab, record_key(generation))


# ---- what is done to a fleet -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Roles:
    """Three members: who leads, and the others."""

    leader: Instance
    one: Instance
    other: Instance


def roles(lab: Lab) -> Roles:
    """A whole three with a leader."""
    wait_whole(lab, 3)
    wait_until(lambda: leader(lab) is not None, 20, "a leader")
    leading = leader(lab)
    assert leading is not None
    one, other = (each for each in lab.instances() if each.id != leading.id)
    return Roles(leading, one, other)


def terminate_for_good(lab: Lab, *instances: Instance) -> None:
    """All in one call to EC2, as near to one moment as it goes."""
    lab.aws("ec2").terminate_instances(InstanceIds=[each.id for each in instances])


def scratch_pids(instance: Instance) -> list[int]:
    """The etcds that run on copies: for rescues and drills."""
    return [process.pid for process in marked([instance.id]) if process.name == ETCD_IN_SCRATCH]


def on_machine(
    lab: Lab, instance: Instance, *words: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command of the agent as its operator would type it on that machine, beside its agent or without one.

    `environment` is what the operator adds to the machine's, such as credentials.
    """
    pids = [process.pid for process in marked([instance.id]) if process.pid == lab.instance(instance.id).agent_pid]
    assert pids, f"{instance.id} runs no agent whose environment could be borrowed"
    variables = Path(f"/proc/{pids[0]}/environ").read_text().split("\0")
    return subprocess.run(
        [sys.executable, "-m", "agent.cli", *words, "--config", str(instance.folder / "config.toml")],
        env={**dict(each.split("=", 1) for each in variables if each), **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


# ---- writes, and what became of them ---------------------------------------------------------------------------------


@dataclass
class Load:
    """Several writers at once, and all that was acknowledged to any of them."""

    lab: Lab
    writers: list[Writer] = field(default_factory=list)

    @property
    def acknowledged(self) -> list[Write]:
        return [write for each in self.writers for write in each.acknowledged]

    def acknowledged_before(self, loss: float) -> list[Write]:
        """By the generation that was lost at a moment: nobody acknowledges anything before the grace is over."""
        return [write for write in self.acknowledged if write.at + write.took_s < loss + GRACE_S]

    def stop(self) -> None:
        for each in self.writers:
            each.stop()

    def grows(self, writes: int = 30) -> None:
        """Wait for that many further acknowledged writes."""
        before = len(self.acknowledged)
        wait_until(lambda: len(self.acknowledged) >= before + writes, 30, f"{writes} more acknowledged writes")

    def missing(self, address: str) -> list[Write]:
        """The acknowledged writes that a linearizable read through this member does not show."""
        acknowledged = self.acknowledged
        held = members.get_prefix(address, "ledger/")
        assert held is not None, f"the member at {address} does not answer"
        return [write for write in acknowledged if held.get(write.key) != write.value]

    def gap_s(self, since: float) -> float:
        """From a loss to the first write that was acknowledged after it."""
        later = [write.at + write.took_s for write in self.acknowledged if write.at + write.took_s >= since + GRACE_S]
        return min(later) - since if later else float("inf")


_LOADS = iter(range(10_000))


@contextmanager
def under_load(
    lab: Lab, through: Sequence[str] = (), writers: int = 1, pause_s: float = 0.01, timeout_s: float = 1.0
) -> Iterator[Load]:
    """Write all the time, through every machine or through these addresses; every key is written once."""
    load = Load(lab)
    with ExitStack() as stack:
        for _ in range(writers):
            prefix = f"ledger/{next(_LOADS)}/"
            writer = Writer(lab, prefix=prefix, pause_s=pause_s, timeout_s=timeout_s, through=tuple(through))
            load.writers.append(stack.enter_context(writer))
        yield load


def keys_on_disk(data: Path) -> set[str]:
    """Every key that a member's files hold: its log's and its database's bytes, searched without understanding them."""
    files = [*(data / "member" / "wal").glob("*.wal"), data / "member" / "snap" / "db"]
    assert len(files) > 1, f"no data in {data}"
    return {key.decode() for path in files for key in KEY.findall(path.read_bytes())}


@dataclass(frozen=True)
class Account:
    """What became of the writes that were acknowledged before the loss, and of those after it."""

    acknowledged: int
    held: int
    """So many of them on the survivor's own disk."""
    missing: tuple[Write, ...]
    lost: tuple[Write, ...]
    """Missing although the survivor's disk held them, or the new members acknowledged them. This must be none."""


def account(load: Load, lab: Lab, survivor: Instance, generation: int, lost_at: float) -> Account:
    """Compare the ledger with what every new member serves and with what the survivor's quarantine holds."""
    on_disk = keys_on_disk(set_aside(survivor, generation))
    before = load.acknowledged_before(lost_at)
    assert before, "nothing was acknowledged before the loss"
    answers = [load.missing(each.address) for each in lab.instances()]
    assert all(each == answers[0] for each in answers), "the members do not agree"
    lost = tuple(write for write in answers[0] if write.key in on_disk or write not in before)
    held = sum(write.key in on_disk for write in before)
    found = Account(len(before), held, tuple(answers[0]), lost)
    tell(
        f"{found.acknowledged} writes were acknowledged before the loss, {found.held} of them are on the survivor's"
        f" disk; {len(found.missing)} are missing afterwards, {len(found.lost)} of those that it had"
    )
    return found


def tell(what: str) -> None:
    """A measured fact, for whoever reads the test's output."""
    sys.stdout.write(f"\n{what}\n")


def set_aside(instance: Instance, generation: int) -> Path:
    """The data of a generation in an instance's quarantine. Fails if there is not exactly one such folder."""
    folders = [each for each in quarantined(instance) if f"g{generation:06d}" in each.name and (each / "data").exists()]
    assert len(folders) == 1, f"{instance.id} has set aside {[each.name for each in quarantined(instance)]}"
    return folders[0] / "data"


# ---- etcd's own word on a keyspace -----------------------------------------------------------------------------------


def hash_kv(lab: Lab, revision: int) -> set[tuple[int, int]]:
    """Every member's HashKV at a revision and what it was compacted at: one pair if all hold the same."""
    said = lab.etcdctl("endpoint", "hashkv", f"--rev={revision}", "--write-out=json")
    assert said.returncode == 0, said.stderr
    found = [each["HashKV"] for each in json.loads(said.stdout)]
    assert len(found) == len(lab.addresses()), found
    return {(each["hash"], each.get("compact_revision", 0)) for each in found}


def count_keys(address: str, revision: int) -> int:
    everything = {"key": "AA==", "range_end": "AA==", "count_only": True, "revision": revision}
    said = members.ask(address, "/v3/kv/range", everything)
    assert said is not None, f"{address} does not answer"
    assert "header" in said, said
    return int(said.get("count", 0))


def watch(address: str, since: int, timeout_s: float = 10.0) -> Iterator[Document]:
    """What a client is told that watches every key from a revision on, until nobody tells it anything any more."""
    connection = http.client.HTTPConnection(address, members.CLIENT_PORT, timeout=timeout_s)
    wanted = {"create_request": {"key": "AA==", "range_end": "AA==", "start_revision": since}}
    try:
        connection.request("POST", "/v3/watch", json.dumps(wanted))
        for line in connection.getresponse():
            yield json.loads(line)["result"]
    finally:
        connection.close()


# ---- what must not happen --------------------------------------------------------------------------------------------


@contextmanager
def no_new_generation(lab: Lab) -> Iterator[None]:
    """Whatever is done in the block: the records afterwards are those from before."""
    before = generations(lab)
    yield
    assert generations(lab) == before, "a generation was called lost"


def stays_as_it_is(lab: Lab, for_s: float, also: Callable[[], object] = lambda: True) -> None:
    """No new generation for so long; and whatever else."""
    before = generations(lab)
    stays(lambda: generations(lab) == before and also(), for_s, f"generations {before}, and no more", every_s=0.5)


def acted(instance: Instance, action: str, since: int = 0) -> list[Document]:
    """The log's lines on one kind of action."""
    return [each for each in events(instance, since) if each["message"] == "acted" and each["action"] == action]


def rescues(instance: Instance, since: int = 0) -> list[Mapping[str, Any]]:
    """The tasks that were to save what this survivor has."""
    tasks = [each["task"] for each in acted(instance, "BeginTask", since)]
    return [each for each in tasks if each.get("rescued")]


def voters_of(lab: Lab) -> set[str]:
    return {each.name for each in member_list(lab) or () if not each.is_learner}


def by_the_wall(write: Write) -> datetime:
    """When a write was acknowledged, by the clock that snapshots are named by."""
    ago = time.monotonic() - (write.at + write.took_s)
    return datetime.now(UTC) - timedelta(seconds=ago)
