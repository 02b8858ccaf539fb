"""The harness with the real agent and real etcd: the shortest story that uses all of it."""

from __future__ import annotations

import pytest

from agent.lab.client import Lab
from tests.lab.harness import (
    Writer,
    agent_status,
    cluster_ids,
    is_whole,
    leader,
    metrics,
    ready,
    voters,
    wait_until,
    wait_whole,
)

pytestmark = [pytest.mark.lab, pytest.mark.etcd, pytest.mark.timeout(180)]


@pytest.mark.long
def test_a_terminated_voter_is_replaced_and_no_acknowledged_write_is_lost(lab: Lab) -> None:
    wait_whole(lab, 3)
    (cluster,) = cluster_ids(lab)
    victim = leader(lab)
    assert victim is not None
    wait_until(lambda: all(ready(instance) for instance in lab.instances()), 10, "three ready agents")
    assert all(agent_status(instance) and metrics(instance) for instance in lab.instances())
    with Writer(lab) as writer:
        wait_until(lambda: len(writer.acknowledged) > 20, 10, "some writes")
        lab.terminate(victim.id)
        wait_until(lambda: victim.id not in (voters(lab) or {victim.id}), 30, "the dead member's removal")
        wait_until(lambda: is_whole(lab, 3), 60, "a whole three again")
    assert cluster_ids(lab) == {cluster}
    writer.assert_nothing_lost()
    assert writer.longest_gap_s() < 15
