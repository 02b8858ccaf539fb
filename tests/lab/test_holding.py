"""An operator holds the cluster: joining, removing, leaving, upkeep and recovery each wait for the release, one after
another on one fleet under write load, and nothing that was acknowledged is lost by the waiting."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.lab.client import Instance, Lab
from tests.lab.conftest import MakeLab
from tests.lab.harness import Writer, agent_status, leader, member_list, statuses, stays, voters, wait_until
from tests.lab.losing import PACE, QUICK, generations, on_machine, terminate_for_good, wait_snapshot
from tests.lab.shelf import fill
from tests.lab.test_leaving import is_gone, let_go, wait_let_in
from tests.lab.test_maintaining import let_go_of
from tests.lab.watching import logged

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(420)]

WAITS_S = 5.0
"""What is held back for so long would have been begun in a tenth of it."""

HELD_BACK = re.compile(r"held back: (\w+) \(rule ([\w-]+)")
SETTINGS = {**QUICK, "maintenance": {"after": "2s", "defragment_size": "8MiB"}}
GOES_ON = frozenset({"FileReport", "HeartbeatHook", "WriteFormed", "ExpireSnapshots"})


@dataclass
class Held:
    """A fleet, and when it was last held."""

    lab: Lab
    since: datetime | None = None

    @contextmanager
    def held(self, what: str, rule: str) -> Iterator[None]:
        """What happens within is answered by nothing but this rule's waiting, for as long as the hold is on."""
        self._order("on", "--why", what)
        self.since = datetime.now(UTC)
        began = time.monotonic()
        yield
        wait_until(lambda: rule in self.waiting(), 60, f"{rule} to be held back")
        shown = self.waiting()
        stays(lambda: not self.done(), WAITS_S, f"nothing to be done about {what}")
        took, records = time.monotonic() - began, generations(self.lab)
        self._order("off")
        print(f"{what}: held for {took:.1f} s, waiting: {sorted(shown.values())}; generations {records}")  # noqa: T201

    def _order(self, *words: str) -> None:
        """By the command line on some machine that has an agent."""
        host = wait_until(lambda: next((each for each in self.lab.instances() if each.agent_pid), None), 10, "an agent")
        assert host is not None
        said = on_machine(self.lab, host, "hold", *words)
        assert said.returncode == 0, said.stderr

    def waiting(self) -> dict[str, str]:
        """Which rules the agents hold back at the moment, and what these would do."""
        return {found[2]: found[1] for each in self.lab.instances() if (found := HELD_BACK.search(_because(each)))}

    def done(self) -> list[str]:
        """What they did since the hold began, apart from what a hold is not about."""
        assert self.since is not None
        return [
            f"{each.id} {line['action']}: {line['because']}"
            for each in self.lab.instances(all=True)
            for line in logged(each)
            if line["message"] == "acted" and datetime.fromisoformat(line["time"]) > self.since and not _goes_on(line)
        ]


def _because(instance: Instance) -> str:
    decision = (agent_status(instance) or {}).get("decision") or {}
    return str(decision.get("because", "")) if decision.get("rule") == "hold" else ""


def _goes_on(line: Mapping[str, Any]) -> bool:
    """Reports, heartbeats and snapshots of a cluster that serves."""
    is_snapshot = line["action"] == "BeginTask" and line["task"].get("origin") == "schedule"
    return line["action"] in GOES_ON or is_snapshot


def until(predicate: Callable[[], object], what: str) -> None:
    began = time.monotonic()
    wait_until(predicate, 120, what)
    print(f"released: {what} after {time.monotonic() - began:.1f} s")  # noqa: T201


def a_follower(lab: Lab) -> Instance:
    voting, leading = voters(lab) or set(), leader(lab)
    return next(each for each in lab.instances() if each.id in voting and each != leading)


def sizes_mb(lab: Lab) -> list[float]:
    """Of the voters' databases; a spare's stays as it is."""
    voting, said = voters(lab) or set(), statuses(lab)
    return [status.size_bytes / 1e6 for name, status in said.items() if name in voting]


def spares(lab: Lab) -> set[str]:
    return {each.name for each in member_list(lab) or () if each.is_learner and each.started}


def test_each_of_them_does_nothing_while_held_and_resumes_when_released(make_lab: MakeLab) -> None:
    lab = make_lab(settings=SETTINGS, pace=PACE, launch_hook_s=120, terminate_hook_s=120)
    wait_let_in(lab, 3)
    fleet = Held(lab)
    with Writer(lab) as writer:
        leaver = a_follower(lab)
        with fleet.held("leaving", "leave"):
            let_go(lab, leaver)
        until(lambda: is_gone(lab, leaver), "it is let go")
        wait_let_in(lab, 3)

        with fleet.held("joining", "join"):
            lab.scale(4)
        until(lambda: len(spares(lab)) == 1, "the fourth is a spare")
        until(lambda: all(each.lifecycle == "InService" for each in lab.instances()), "it is let in")

        lost, (spare,) = a_follower(lab), spares(lab)
        with fleet.held("removing", "remove-departed"):
            terminate_for_good(lab, lost)
            wait_until(lambda: len(lab.instances()) == 4, 30, "another instance in its place")
        until(lambda: spare in (voters(lab) or set()) and lost.id not in (voters(lab) or set()), "the spare votes")
        until(lambda: len(spares(lab)) == 1, "the new one is a spare")
        until(lambda: all(each.lifecycle == "InService" for each in lab.instances()), "it is let in")

        leading = leader(lab)
        assert leading is not None
        fill(leading.address, 24)
        with fleet.held("defragmenting", "defragment"):
            let_go_of(leading.address, "bulk/")
            stays(lambda: min(sizes_mb(lab)) > 24, 1, "every database to be as large as it was")
        until(lambda: max(sizes_mb(lab)) < 12, "the voters' databases are small")

        wait_snapshot(lab, 1)
        leading = leader(lab)
        assert leading is not None
        with fleet.held("recovering", "recover"):
            terminate_for_good(lab, *(each for each in lab.instances() if each != leading))
            wait_until(lambda: len(lab.instances()) == 4, 30, "others in their places")
        assert generations(lab) == [1]
        until(lambda: generations(lab) == [1, 2], "a next generation")
        until(lambda: len(voters(lab) or set()) == 3, "three voters")
    wait_until(lambda: len(voters(lab) or set()) == 3, 60, "three voters")
    writer.assert_nothing_lost()
    print(f"{len(writer.acknowledged)} acknowledged writes, none lost; {len(writer.failed)} failed")  # noqa: T201
