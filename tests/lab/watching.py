"""What a healthy cluster must keep while something around it fails, and what was really asked and done meanwhile.

House rules: what was done is read where it was written down (the members' own list, the agents' logs, the log of AWS
calls), never guessed from timing; a lab that ended well has no traceback in any of its logs.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from agent.lab import members, sweep
from agent.lab.client import Instance, Lab
from agent.lab.spec import LabSpec
from tests.lab.harness import agent_status, member_list, metrics, running_lab, wait_until, wait_whole

SETTINGS: dict[str, dict[str, Any]] = {
    "timing": {
        "loop_interval": "500ms",
        "fleet_interval": "2s",
        "trouble_fleet_interval": "500ms",
        "patient_trouble_fleet_interval": "1s",
        "groups_interval": "10s",
        "head_interval": "10s",
        "join_timeout": "10s",
        "aws_read_timeout": "1s",
    }
}
"""Every look as often as the settings allow, so that the agents really ask while a test watches."""


@contextmanager
def well_kept_lab(spec: LabSpec, folder: Path) -> Iterator[Lab]:
    """A lab whose agents never write a traceback, as long as the test itself holds."""
    with running_lab(spec, folder) as lab:
        yield lab
        assert_no_traceback(folder)


def assert_no_traceback(folder: Path) -> None:
    """No log of a lab tells of an error that nobody expected."""
    logs = (folder / sweep.LOG, *(folder / sweep.MACHINES).glob("*/agent.log"))
    bad = [f"{log}: {line[:2000]}" for log in logs if log.exists() for line in _lines(log) if "Traceback" in line]
    assert not bad, f"{len(bad)} tracebacks, the first: {bad[0]}"


def _lines(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()


# ---- what must not change -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """A cluster's members by ID, name and role, and the processes of each etcd."""

    members: frozenset[tuple[int, str, bool]]
    etcd_pids: dict[str, tuple[int, ...]]


def kept(lab: Lab) -> Kept:
    """The cluster as it is now. Fails if no member tells."""
    found = member_list(lab)
    assert found is not None, "no member answers"
    return Kept(
        frozenset((each.id, each.name, each.is_learner) for each in found),
        {each.id: each.etcd_pids for each in lab.instances()},
    )


def wait_calm(lab: Lab, timeout_s: float = 30.0) -> None:
    """Every agent has all it wants to know, and nothing to do."""
    wait_until(lambda: all(is_calm(each) for each in lab.instances()), timeout_s, "every agent at rest")


def is_calm(instance: Instance) -> bool:
    """Whether the agent's last round had no unknowns but silent peers' and ended in rest."""
    said = agent_status(instance) or {}
    decision = said.get("decision") or {}
    unknown = [
        name for name, value in said.get("observation", {}).items() if isinstance(value, dict) and "unknown" in value
    ]
    return decision.get("action") == "Rest" and not unknown


def wait_kept_whole(lab: Lab, size: int) -> Kept:
    """Whole and at rest; what it then is."""
    wait_whole(lab, size)
    wait_calm(lab)
    return kept(lab)


# ---- what was asked and done ----------------------------------------------------------------------------------------


def sample(lab: Lab, name: str, **labels: str) -> float:
    """The sum of a metric over the agents that answer, and over every series with these labels."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    found = [metrics(instance) or {} for instance in lab.instances()]
    return sum(
        value
        for samples in found
        for series, value in samples.items()
        if series.partition("{")[0] == f"etcd_asg_agent_{name}" and all(label in series for label in wanted)
    )


def logged(instance: Instance) -> list[dict[str, Any]]:
    """The agent's log, line by line; what is no JSON is left out."""
    return [json.loads(line) for line in _lines(instance.log) if line.startswith("{")] if instance.log.exists() else []


@dataclass(frozen=True)
class Deed:
    """One effect of an agent on the world, from its log."""

    at: datetime
    instance: str
    action: str
    member: str
    because: str


def deeds(lab: Lab, since: datetime, *actions: str) -> list[Deed]:
    """What the agents did and was done since a moment, in order of time."""
    found = [
        Deed(datetime.fromisoformat(line["time"]), each.id, line["action"], line.get("member", ""), line["because"])
        for each in lab.instances(all=True)
        for line in logged(each)
        if line["message"] == "acted" and line["outcome"] == "done" and line["action"] in actions
    ]
    return sorted((deed for deed in found if deed.at > since), key=lambda deed: deed.at)


def looks(lab: Lab, instance_id: str, since: datetime, until: datetime) -> int:
    """How often this instance's agent asked EC2 for its instances, with an answer, between two moments."""
    return sum(
        call["operation"] == "DescribeInstances"
        and call["caller"] == instance_id
        and call["status"] == 200
        and since <= datetime.fromisoformat(call["at"]) <= until
        for call in lab.calls()
    )


# ---- the member list, all the time ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """The member list from a moment on."""

    at: datetime
    members: frozenset[tuple[int, str, bool]]

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for _, name, _ in self.members if name)

    @property
    def voters(self) -> frozenset[str]:
        return frozenset(name for _, name, is_learner in self.members if name and not is_learner)


@dataclass
class Watch:
    """Reads the member list all the time, through whoever answers; keeps every change. Use it in a `with`."""

    lab: Lab
    seen: list[Seen] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()
        wait_until(lambda: self.seen, 30, "a first member list")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join(10)

    def _run(self) -> None:
        addresses: tuple[str, ...] = ()
        looked = 0.0
        while not self._stop.wait(0.03):
            if time.monotonic() - looked > 1 or not addresses:
                addresses, looked = self.lab.addresses(), time.monotonic()
            for address in addresses:
                found = members.member_list(address, 0.5)
                if found is not None:
                    self._note(found)
                    break

    def _note(self, found: tuple[members.Member, ...]) -> None:
        now = frozenset((each.id, each.name, each.is_learner) for each in found)
        if not self.seen or self.seen[-1].members != now:
            self.seen.append(Seen(datetime.now(UTC), now))

    def removed_at(self, name: str) -> datetime:
        """When a member was first missing. Fails if it never was."""
        for before, after in pairwise(self.seen):
            if name in before.names and name not in after.names:
                return after.at
        raise AssertionError(f"{name} was never removed: {self.seen}")

    def assert_quorum_of(self, survivors: set[str]) -> None:
        """At every moment those who live were a quorum of the voters in the list; `survivors` may grow later."""
        for seen in self.seen:
            newcomers = seen.voters - self.seen[0].voters
            living = seen.voters & (survivors | newcomers)
            assert 2 * len(living) > len(seen.voters), f"without quorum: {seen}"
