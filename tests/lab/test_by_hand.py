"""Where no proof holds and an operator's word decides: instances written off, or a beginning from nothing.

House rules: the command is the real one, on a machine of the fleet; what is written off may come back all the same.
"""

from __future__ import annotations

import json
import time

import pytest

from agent.lab import members
from agent.lab.client import Instance, Lab
from agent.lab.spec import LabSpec
from tests.lab.evidence import actions, etcd_pids, identity, log_size
from tests.lab.harness import agent_status, cluster_ids, metrics, stays, wait_until, wait_whole
from tests.lab.losing import (
    PACE,
    QUICK,
    document,
    formed_key,
    generations,
    head,
    manifests,
    on_machine,
    roles,
    set_aside,
    stays_as_it_is,
    tell,
    terminate_for_good,
    under_load,
    wait_formed,
    wait_recovered,
    wait_snapshot,
)
from tests.lab.watching import well_kept_lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(150)]

FENCED_WITHIN_S = 15.0
"""`head_interval` is 10 s here (the default is 5 minutes), and etcd takes its time to stop."""


# ---- an old majority that comes back ---------------------------------------------------------------------------------


def write_off_a_majority(lab: Lab) -> tuple[Instance, tuple[Instance, ...], int]:
    """Two of three are stopped, and an operator writes them off: the third founds the next generation alone.

    Returns it, the two, and the cluster ID that they have on their disks.
    """
    generation = head(lab)
    wait_snapshot(lab, generation)
    time.sleep(5)  # `report_max_age` is 4 s here: what was reported before the generation formed counts no more
    three, (old_cluster,) = roles(lab), cluster_ids(lab)
    survivor, stopped = three.leader, (three.one, three.other)
    for each in stopped:
        lab.stop(each.id)
    excluding = [word for each in stopped for word in ("--exclude", each.id)]

    def written_off() -> bool:
        """Refused as long as the agents have not seen for themselves that there is no leader."""
        return on_machine(lab, survivor, "recover", *excluding, "--why", "a test", "--yes").returncode == 0

    wait_until(written_off, 40, "the two are written off", every_s=0.5)
    record = wait_formed(lab, generation + 1)
    assert list(record["founders"]) == [survivor.id]
    assert sorted(record["cause"]["evidence"]["excluded"]) == sorted(each.id for each in stopped)
    wait_until(lambda: members.put(survivor.address, "next", "generation"), 20, "the next generation serves")
    return survivor, stopped, old_cluster


def serves_the_old(instances: tuple[Instance, ...], old_cluster: int) -> list[str]:
    """Who of them takes a linearizable read of the lineage that was replaced."""
    found = []
    for each in instances:
        status = members.status(each.address, 0.3)
        if status is not None and status.cluster_id == old_cluster and status.leader:
            found.append(each.id)
    return found


def runs_the_old(instance: Instance, generation: int) -> bool:
    """Whether an etcd runs there on data of that generation."""
    pids = etcd_pids(instance.id)
    stamped = identity(instance)
    return bool(pids) and stamped is not None and stamped["generation"] == generation


@pytest.mark.long
def test_an_old_majority_that_returns_never_starts_while_the_bucket_can_be_read(three: Lab) -> None:
    """Two of three would elect a leader among themselves, and serve what was replaced."""
    lost = head(three)
    survivor, returning, old_cluster = write_off_a_majority(three)
    logged = {each.id: log_size(each) for each in returning}
    with under_load(three, (survivor.address,)) as load:
        for each in returning:
            three.start_again(each.id)
        deadline, seen = time.monotonic() + 60, []
        while not (len(members.member_list(survivor.address) or ()) == 3 and seen_whole(three)):
            seen += [each.id for each in returning if runs_the_old(each, lost)]
            seen += serves_the_old(returning, old_cluster)
            assert time.monotonic() < deadline, "they have not joined within a minute"
            time.sleep(0.02)
        assert seen == [], "an etcd of the old lineage was started"
        load.grows()
    wait_recovered(three, lost + 1)
    for each in returning:
        done = [line["action"] for line in actions(three.instance(each.id), logged[each.id])]
        assert done.index("Quarantine") < done.index("StartEtcd")
        set_aside(three.instance(each.id), lost)
    tell("the two that returned never started their old etcds")
    assert load.missing(survivor.address) == []


def seen_whole(lab: Lab) -> bool:
    statuses = [members.status(each.address, 0.5) for each in lab.instances()]
    return len(statuses) == 3 and all(each is not None and each.leader and not each.is_learner for each in statuses)


@pytest.mark.long
def test_an_old_majority_that_cannot_read_the_bucket_is_fenced_as_soon_as_it_can(three: Lab) -> None:
    """Silence fences nobody: it starts what it has, which is a quorum of the old lineage. Then the record is read."""
    lost = head(three)
    survivor, returning, old_cluster = write_off_a_majority(three)
    outages = [three.fault(service="s3", caller=each.id, status=503, code="SlowDown") for each in returning]
    began = time.monotonic()
    with under_load(three, (survivor.address,)) as load:
        for each in returning:
            three.start_again(each.id)
        wait_until(lambda: serves_the_old(returning, old_cluster), 40, "the old lineage, which nobody could fence")
        tell(f"the old majority served {time.monotonic() - began:.1f} s after its start, without the bucket")
        for outage in outages:
            three.clear_faults(outage)
        readable = time.monotonic()
        wait_until(
            lambda: not any(runs_the_old(each, lost) for each in returning), 40, "no etcd of the old lineage", 0.02
        )
        fenced_s = time.monotonic() - readable
        tell(f"it was stopped {fenced_s:.1f} s after the bucket could be read again")
        assert fenced_s < FENCED_WITHIN_S
        stays(lambda: not serves_the_old(returning, old_cluster), 2, "the old lineage is gone")
        wait_recovered(three, lost + 1)
        load.grows()
    assert load.missing(survivor.address) == []
    for each in returning:
        set_aside(three.instance(each.id), lost)


# ---- nothing to restore from -----------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_generation_that_left_nothing_calls_a_human_and_begins_anew_only_by_hand(
    tmp_path_factory: pytest.TempPathFactory, etcd_binary: str
) -> None:
    """Three disks are gone, and S3 never took a snapshot."""
    spec = LabSpec(instances=0, etcd=etcd_binary, settings=QUICK, pace=PACE)
    with well_kept_lab(spec, tmp_path_factory.mktemp("nothing") / "lab") as lab:
        lab.fault(service="s3", operation="PutObject", match="/snapshots/", status=403, code="AccessDenied")
        lab.scale(3)
        wait_whole(lab, 3)
        with under_load(lab) as load:
            load.grows()
        wait_formed(lab, 1)
        assert manifests(lab, 1) == []
        terminate_for_good(lab, *lab.instances())
        wait_until(lambda: everybody_calls(lab), 60, "three newcomers call a human")
        stays_as_it_is(lab, 6, also=lambda: everybody_calls(lab))
        asked = on_machine(lab, lab.instances()[0], "plan", "--json")
        assert json.loads(asked.stdout)["recovery"]["proven_lost"]

        done = on_machine(lab, lab.instances()[0], "recover", "--from", "empty", "--yes", "--why", "the data is gone")
        assert done.returncode == 0, done.stdout + done.stderr
        record = wait_recovered(lab, 2)
        assert record["seed"] is None
        assert record["cause"]["kind"] == "operator"
        assert generations(lab) == [1, 2]
        assert cluster_ids(lab) != {int(document(lab, formed_key(1))["cluster_id"], 16)}
        wait_until(lambda: not any(calls_human(each) for each in lab.instances()), 20, "nobody calls any more")
        assert [members.get_prefix(address, "ledger/") for address in lab.addresses()] == [{}, {}, {}]


def everybody_calls(lab: Lab) -> bool:
    """The gauge is up on three machines, and the status of one says what to do."""
    instances = lab.instances()
    return len(instances) == 3 and all(map(calls_human, instances)) and any(map(says_what_to_do, instances))


def calls_human(instance: Instance) -> bool:
    return (metrics(instance) or {}).get("etcd_asg_agent_needs_human") == 1


def says_what_to_do(instance: Instance) -> bool:
    decision = (agent_status(instance) or {}).get("decision") or {}
    return decision.get("action") != "CallHuman" or "recover --from" in json.dumps(decision["details"])
