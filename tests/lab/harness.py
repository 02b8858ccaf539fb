"""What tests in the lab stand on: waiting, the cluster as its members tell it, the agents' face, and a writer that
remembers every write.

House rules: nothing here is a fixture; every wait has a limit and says what it waited for; what could not be read is
None, never an empty answer.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from agent.lab import members, sweep
from agent.lab.client import Instance, Lab
from agent.lab.members import Member, Status
from agent.lab.spec import IMDS_PORT, ROLE, LabSpec

T = TypeVar("T")

HTTP_PORT = 9379
LOG_LINES_SHOWN = 25


# ---- waiting ---------------------------------------------------------------------------------------------------------


def wait_until(predicate: Callable[[], T], timeout_s: float, what: str, every_s: float = 0.1) -> T:
    """The first true answer of `predicate`. Fails the test, naming `what`, if there is none in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what} (last answer: {answer!r})")
        time.sleep(every_s)


def stays(predicate: Callable[[], object], for_s: float, what: str, every_s: float = 0.2) -> None:
    """Fails the test as soon as `predicate` is false during `for_s`."""
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        answer = predicate()
        assert answer, f"did not stay so for {for_s:g} s: {what}"
        time.sleep(every_s)


# ---- a lab for the length of a block ---------------------------------------------------------------------------------


@contextmanager
def running_lab(spec: LabSpec, folder: Path) -> Iterator[Lab]:
    """A lab that is gone afterwards, come what may; its files stay for whoever looks at a failure.

    Should this very process be killed, the lab's lifeline ends it all the same. With LAB_ENFORCES_IAM=1 in the
    environment every lab enforces the policy that `iam-policy` prints.
    """
    enforces_iam = spec.enforces_iam or os.environ.get("LAB_ENFORCES_IAM") == "1"
    lab = Lab.start(replace(spec, enforces_iam=enforces_iam), folder, lifeline=True)
    try:
        yield lab
    finally:
        try:
            tell_logs(lab.folder)
        finally:
            lab.down(keep_files=True)


def tell_logs(folder: Path) -> None:
    """Print the end of every log of a lab; pytest shows it with a test that failed."""
    for log in (folder / sweep.LOG, *sorted((folder / sweep.MACHINES).glob("*/agent.log"))):
        if log.exists():
            with log.open(errors="replace") as lines:
                last = deque(lines, LOG_LINES_SHOWN)
            sys.stdout.write(f"---- {log.relative_to(folder)}\n{''.join(last)}\n")


# ---- the cluster, by its own word ------------------------------------------------------------------------------------


def statuses(lab: Lab) -> dict[str, Status]:
    """What each etcd that answers says of itself, by instance ID."""
    powered = [each for each in lab.instances() if each.powered]
    found = {each.id: members.status(each.address, tls=lab.tls) for each in powered}
    return {instance_id: status for instance_id, status in found.items() if status is not None}


def member_list(lab: Lab) -> tuple[Member, ...] | None:
    """The members as the first one that answers knows them, by ID: its own view. None if nobody answers."""
    for address in lab.addresses():
        found = members.member_list(address, tls=lab.tls)
        if found is not None:
            return found
    return None


def voters(lab: Lab) -> set[str] | None:
    """The names of the started voters, which are their instances' IDs."""
    found = member_list(lab)
    return None if found is None else {member.name for member in found if member.started and not member.is_learner}


def leader(lab: Lab) -> Instance | None:
    """The instance whose etcd leads, if one says so."""
    leading = {instance_id for instance_id, status in statuses(lab).items() if status.role == "leader"}
    return next((instance for instance in lab.instances() if instance.id in leading), None)


def is_whole(lab: Lab, size: int) -> bool:
    """Whether exactly `size` members are there, all of them voters, each the etcd of a living instance that answers."""
    found = member_list(lab)
    if found is None or len(found) != size or any(member.is_learner or not member.started for member in found):
        return False
    answering = statuses(lab)
    names = {member.name for member in found}
    return names == set(answering) and len({status.cluster_id for status in answering.values()}) == 1


def wait_whole(lab: Lab, size: int, timeout_s: float = 60.0) -> tuple[Member, ...]:
    """Wait for a whole cluster of `size` voters; returns its members."""
    wait_until(lambda: is_whole(lab, size), timeout_s, f"a whole cluster of {size}")
    found = member_list(lab)
    assert found is not None
    return found


def cluster_ids(lab: Lab) -> set[int]:
    """The cluster IDs that are about: more than one is two clusters."""
    return {status.cluster_id for status in statuses(lab).values()}


# ---- the agents' face ------------------------------------------------------------------------------------------------


def fetch(instance: Instance, path: str, timeout_s: float = 2.0) -> tuple[int, str] | None:
    """Status and body of a path on an instance's agent, or None if it does not answer."""
    connection = http.client.HTTPConnection(instance.address, HTTP_PORT, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Accept": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def agent_status(instance: Instance) -> dict[str, Any] | None:
    """What the agent last saw and decided, or None if it does not answer."""
    said = fetch(instance, "/status")
    if said is None or said[0] != http.client.OK:
        return None
    status: dict[str, Any] = json.loads(said[1])
    return status


def metrics(instance: Instance) -> dict[str, float] | None:
    """Every sample of /metrics by its name with labels, as it is written there; None if the agent does not answer."""
    said = fetch(instance, "/metrics")
    if said is None or said[0] != http.client.OK:
        return None
    lines = (line for line in said[1].splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def ready(instance: Instance) -> bool:
    """Whether the agent says that its member serves."""
    said = fetch(instance, "/readyz")
    return said is not None and said[0] == http.client.OK


# ---- the instance metadata service -----------------------------------------------------------------------------------

TTL = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}


def ask_imds(
    instance: Instance, method: str, path: str, headers: dict[str, str] | None = None, timeout_s: float = 5.0
) -> tuple[int, str]:
    """One bare request to an instance's IMDS; raises what the socket raises."""
    connection = http.client.HTTPConnection(instance.address, IMDS_PORT, timeout=timeout_s)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def read_imds(instance: Instance, path: str) -> tuple[int, str]:
    """Status and content of a path below /latest/, asked with a token as one should."""
    _, token = ask_imds(instance, "PUT", "/latest/api/token", TTL)
    return ask_imds(instance, "GET", f"/latest/{path}", {"X-aws-ec2-metadata-token": token})


def role_keys(instance: Instance) -> dict[str, str]:
    """The keys of an instance's role, as boto3 takes them."""
    _, text = read_imds(instance, f"meta-data/iam/security-credentials/{ROLE}")
    keys: dict[str, str] = json.loads(text)
    return {
        "aws_access_key_id": keys["AccessKeyId"],
        "aws_secret_access_key": keys["SecretAccessKey"],
        "aws_session_token": keys["Token"],
    }


# ---- a writer that remembers -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Write:
    """One attempt. `revision` is None when no acknowledgement came: it may have happened or not."""

    key: str
    value: str
    address: str
    at: float
    took_s: float
    revision: int | None


@dataclass
class Writer:
    """Writes all the time through every member in turn, and keeps a ledger of what was tried and acknowledged."""

    lab: Lab
    prefix: str = "ledger/"
    pause_s: float = 0.02
    timeout_s: float = 2.0
    through: tuple[str, ...] = ()
    """The addresses to write through; every machine that has power, if none are given."""
    ledger: list[Write] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Write no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(self.timeout_s + 5)

    def _run(self) -> None:
        addresses = self.through
        for number in itertools.count():
            if self._stop.wait(self.pause_s):
                return
            if not self.through and (number % 10 == 0 or not addresses):
                addresses = self.lab.addresses()
            if addresses:
                self.ledger.append(self._write(number, random.choice(addresses)))

    def _write(self, number: int, address: str) -> Write:
        key, value = f"{self.prefix}{number:08d}", f"{number}-{random.getrandbits(64):x}"
        began = time.monotonic()
        revision = members.put(address, key, value, self.timeout_s)
        return Write(key, value, address, began, time.monotonic() - began, revision)

    @property
    def acknowledged(self) -> list[Write]:
        """The writes that the cluster promised to keep."""
        return [write for write in self.ledger if write.revision is not None]

    @property
    def failed(self) -> list[Write]:
        """The writes that nobody acknowledged."""
        return [write for write in self.ledger if write.revision is None]

    def longest_gap_s(self) -> float:
        """The longest time without an acknowledgement, between the first and the last."""
        ends = [write.at + write.took_s for write in self.acknowledged]
        return max((later - earlier for earlier, later in itertools.pairwise(ends)), default=0.0)

    def missing(self) -> list[Write]:
        """The acknowledged writes that the cluster no longer has. Fails if nobody can be asked."""
        for address in self.lab.addresses():
            held = members.get_prefix(address, self.prefix)
            if held is not None:
                return [write for write in self.acknowledged if held.get(write.key) != write.value]
        raise AssertionError("no member answers: what it holds cannot be known")

    def assert_nothing_lost(self) -> None:
        """Every acknowledged write is there."""
        missing = self.missing()
        assert not missing, f"{len(missing)} of {len(self.acknowledged)} acknowledged writes are gone: {missing[:3]}"
