"""The workshop: one task at a time on a thread of its own, and what is known of it while it runs and after."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from agent.model.faults import Refused, Unavailable
from agent.model.ids import GenerationNumber
from agent.model.known import Ignorance
from agent.model.snapshot import SnapshotName
from agent.model.work import Drill, Ended, Idle, TakeSnapshot, Task, Working
from agent.world.clock import SystemClock
from agent.world.workshop import Errand, ThreadWorkshop
from tests.contracts.etcd_cluster import wait_until

TASK = TakeSnapshot(GenerationNumber(1))
DRILL = Drill(SnapshotName(GenerationNumber(1), 7, SystemClock().now().replace(microsecond=0)))


def ended(workshop: ThreadWorkshop) -> Ended:
    wait_until(lambda: isinstance(workshop.state(), Ended), 10, "the task did not end")
    state = workshop.state()
    assert isinstance(state, Ended)
    return state


def workshop(errand: Errand) -> ThreadWorkshop:
    return ThreadWorkshop(errand, SystemClock())


def test_a_task_is_known_while_it_runs_and_no_other_begins_meanwhile() -> None:
    go_on = threading.Event()

    def errand(_: Task, on_bytes: Callable[[int], None]) -> None:
        on_bytes(4096)
        assert go_on.wait(10)

    shop = workshop(errand)
    assert shop.state() == Idle()
    shop.begin(TASK)
    wait_until(lambda: getattr(shop.state(), "bytes_done", 0) == 4096, 10, "it did not tell how far it is")
    assert isinstance(shop.state(), Working)
    with pytest.raises(Refused, match="TakeSnapshot is under way"):
        shop.begin(DRILL)
    go_on.set()
    assert (ended(shop).task, ended(shop).trouble) == (TASK, None)
    shop.begin(DRILL)
    assert ended(shop).trouble is None


@pytest.mark.parametrize(
    ("error", "why", "final"),
    [
        (Unavailable(Ignorance.TIMEOUT, "slow"), Ignorance.TIMEOUT, False),
        (Refused("its digest differs", Ignorance.MALFORMED), Ignorance.MALFORMED, True),
        (Refused("the disk is full", Ignorance.OURS), Ignorance.OURS, False),
        (ZeroDivisionError("a bug"), Ignorance.MALFORMED, False),
    ],
    ids=["may pass", "is final", "is our own fault", "is a bug"],
)
def test_whatever_ends_a_task_is_told_and_the_next_can_begin(error: Exception, why: Ignorance, final: bool) -> None:
    def errand(_: Task, __: object) -> None:
        raise error

    shop = workshop(errand)
    shop.begin(TASK)
    state = ended(shop)
    assert state.trouble is not None
    assert (state.trouble.why, state.final) == (why, final)
    assert str(error) in state.trouble.detail
    shop.begin(TASK)


def test_a_drill_is_in_no_hurry_and_neither_is_what_it_starts() -> None:
    seen: dict[type, int] = {}

    def errand(task: Task, _: object) -> None:
        seen[type(task)] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    shop = workshop(errand)
    before = os.getpriority(os.PRIO_PROCESS, 0)
    for task in (DRILL, TASK):
        shop.begin(task)
        ended(shop)
        wait_until(lambda task=task: type(task) in seen, 10, "it did not run")  # type: ignore[misc]
    assert seen == {Drill: 19, TakeSnapshot: before}
