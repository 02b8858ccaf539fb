"""A quorum is gone, and may come back: no generation is called lost, somebody says whom it waits for, nothing is lost.

House rules of these stories: the test waits for several times the time in which this very fleet finds a true loss
(`test_recovery.py`); generation, cluster ID and the writes afterwards are those from before.
"""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.lab.client import Instance, Lab
from agent.lab.spec import LabSpec
from tests.contracts.tls_material import Authority
from tests.lab.evidence import Document, events
from tests.lab.harness import agent_status, cluster_ids, ready, tell_logs, wait_until, wait_whole
from tests.lab.losing import (
    GRACE_S,
    PACE,
    QUICK,
    Load,
    document,
    generations,
    on_machine,
    roles,
    root,
    stays_as_it_is,
    terminate_for_good,
    under_load,
)
from tests.lab.watching import well_kept_lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(150)]

LONG_ENOUGH_S = 4 * GRACE_S
"""A true loss has its next generation within two to three graces here."""


@contextmanager
def comes_back(lab: Lab) -> Iterator[Load]:
    """Under load; afterwards it is the cluster that it was, and holds every acknowledged write."""
    before, (cluster,) = generations(lab), cluster_ids(lab)
    with under_load(lab) as load:
        load.grows()
        yield load
        wait_whole(lab, 3)
        load.grows()
    assert generations(lab) == before
    assert cluster_ids(lab) == {cluster}
    assert [load.missing(address) for address in lab.addresses()] == [[], [], []]


def blockers(lab: Lab, instance: Instance) -> set[str]:
    """Whom `plan --json` on that machine names as what recovery waits for."""
    said = on_machine(lab, instance, "plan", "--json")
    assert said.returncode == 0, said.stderr
    return instances_in(json.loads(said.stdout).get("recovery"))


def blockers_of_agent(instance: Instance) -> set[str]:
    """Whom its running agent names."""
    return instances_in((agent_status(instance) or {}).get("recovery"))


def instances_in(recovery: Document | None) -> set[str]:
    """Each blocker is an instance, or a member with its instance's ID first."""
    return {each["who"].partition(" ")[0] for each in (recovery or {}).get("blockers", ())}


def waits_for(lab: Lab, survivor: Instance, *others: Instance) -> None:
    """No new generation for long; the survivor's agent and `plan` beside it name the others, and say since when."""
    names = {each.id for each in others}
    wait_until(lambda: names <= blockers_of_agent(survivor), 30, f"an agent waits for {names}")
    stays_as_it_is(lab, LONG_ENOUGH_S)
    assert names <= blockers_of_agent(survivor)
    status = agent_status(survivor)
    assert status is not None
    assert status["recovery"]["since"]
    assert not status["recovery"]["proven_lost"]
    waiting = [each["because"] for each in events(survivor) if each["message"] == "waiting"]
    assert any(all(name in because for name in names) for because in waiting), "its log does not name them"
    assert names <= blockers(lab, survivor)


def test_two_are_stopped(three: Lab) -> None:
    chosen = roles(three)
    gone = (chosen.leader, chosen.other)
    with comes_back(three):
        for each in gone:
            three.stop(each.id)
        waits_for(three, chosen.one, *gone)
        for each in gone:
            three.start_again(each.id)


@pytest.mark.long
@pytest.mark.root
def test_two_are_cut_off(three: Lab) -> None:
    """Neither they nor the third do anything that outlasts the cut: they see EC2 as little as it sees them."""
    if three.status()["cannot_isolate"]:
        pytest.skip(three.status()["cannot_isolate"])
    chosen = roles(three)
    gone = (chosen.leader, chosen.other)
    pids = {each.id: each.etcd_pids for each in three.instances()}
    with comes_back(three):
        for each in gone:
            three.isolate(each.id)
        waits_for(three, chosen.one, *gone)
        for each in gone:
            three.heal(each.id)
    assert {each.id: each.etcd_pids for each in three.instances()} == pids, "an etcd was started anew"


@pytest.mark.long
def test_two_have_neither_agent_nor_etcd(three: Lab) -> None:
    """EC2 calls them running, and nobody reports from there."""
    chosen = roles(three)
    gone = (chosen.leader, chosen.other)
    with comes_back(three):
        for each in gone:
            three.stop_agent(each.id)
        wait_until(lambda: not any(three.instance(each.id).agent_pid for each in gone), 20, "two agents end")
        for each in gone:
            three.kill_etcd(each.id)
        waits_for(three, chosen.one, *gone)
        for each in gone:
            three.start_agent(each.id)


@pytest.mark.long
def test_one_ended_and_one_is_in_no_listing_and_does_not_answer(three: Lab) -> None:
    """What EC2 does not list it has not called terminated. The two that are left are a quorum once they meet."""
    chosen = roles(three)
    ended, hidden, survivor = chosen.leader, chosen.other, chosen.one
    replaced = {each.id for each in three.instances()}
    with comes_back(three):
        three.fault(drop=[hidden.id])
        three.freeze(hidden.id)
        terminate_for_good(three, ended)
        wait_until(lambda: {each.id for each in three.instances()} - replaced, 20, "a replacement")
        waits_for(three, survivor, hidden)
        three.clear_faults()
        three.thaw(hidden.id)


# ---- the agents' own keys --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Keys:
    """A fleet whose clients and members speak TLS, with files that all machines share, and how to spoil them.

    etcd reads its authority once, at its start; certificates it reads anew for every connection.
    """

    lab: Lab
    folder: Path
    name: str = "server"  # the certificates' common name, by which etcd knows whoever shows them

    @classmethod
    def settings(cls, folder: Path) -> dict[str, dict[str, str]]:
        names = {"ca": "ca.pem", "cert": "here.pem", "key": "here.key"}
        peers = {f"peer_{name}": str(folder / f"peer-{file}") for name, file in names.items()}
        return {
            **QUICK,
            "tls": {"mode": "files", **{name: str(folder / file) for name, file in names.items()}, **peers},
        }

    def make(self) -> None:
        """Certificates for everywhere."""
        addresses = addresses_in(self.lab)
        good = Authority(self.folder, "good")
        pair = good.issue(self.name, addresses)
        for prefix in ("", "peer-", "kept-"):
            self._put(good.cert, f"{prefix}ca.pem")
            self._put(pair.cert, f"{prefix}here.pem")
            self._put(pair.key, f"{prefix}here.key")
        old = good.issue("old", addresses, timedelta(minutes=-5))
        self._put(old.cert, "old.pem")
        self._put(old.key, "old.key")
        Authority(self.folder, "other")

    def _put(self, source: Path, name: str) -> None:
        """As whoever rotates certificates should: the file is whole at every moment."""
        beside = self.folder / f"{name}.new"
        shutil.copy(source, beside)
        beside.replace(self.folder / name)

    def another_authority(self) -> None:
        self._put(self.folder / "other.pem", "ca.pem")

    def expired(self) -> None:
        self._put(self.folder / "old.key", "here.key")
        self._put(self.folder / "old.pem", "here.pem")

    def mend(self) -> None:
        for name in ("ca.pem", "here.pem", "here.key"):
            self._put(self.folder / f"kept-{name}", name)

    def etcdctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """As a client with sound files of its own."""
        endpoints = ",".join(f"https://{address}:2379" for address in self.lab.addresses())
        files = [f"--{flag}={self.folder / f'kept-{name}'}" for flag, name in FILES.items()]
        etcdctl = Path(self.lab.status()["etcd"]).with_name("etcdctl")
        command = [str(etcdctl), f"--endpoints={endpoints}", *files, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def addresses_in(lab: Lab) -> tuple[str, ...]:
    """Every one that a machine of this lab may have, and the one that Linux dials from."""
    block = lab.endpoint.split(".")[1]
    machines = (f"127.{block}.{zone}.{number}" for zone in (1, 2, 3) for number in range(10, 20))
    return ("127.0.0.1", *machines)


FILES = {"cacert": "ca.pem", "cert": "here.pem", "key": "here.key"}


@pytest.fixture(scope="module")
def shared_keys(tmp_path_factory: pytest.TempPathFactory, etcd_binary: str) -> Iterator[Keys]:
    folder = tmp_path_factory.mktemp("tls")
    spec = LabSpec(instances=0, etcd=etcd_binary, settings=Keys.settings(folder), pace=PACE)
    with well_kept_lab(spec, folder / "lab") as lab:
        found = Keys(lab, folder)
        found.make()
        lab.scale(3)
        yield found


@pytest.fixture
def tls(shared_keys: Keys) -> Iterator[Keys]:
    """Three voters that speak TLS, before each story and after it."""
    wait_until(lambda: all_ready(shared_keys.lab), 60, "three members that serve over TLS")
    yield shared_keys
    shared_keys.mend()
    tell_logs(shared_keys.lab.folder)


def all_ready(lab: Lab) -> bool:
    return len(lab.instances()) == 3 and all(ready(each) for each in lab.instances())


def cannot_see_its_etcd(instance: Instance) -> bool:
    observation = (agent_status(instance) or {}).get("observation", {})
    return "unknown" in observation.get("local", {}) and "unknown" in observation.get("membership", {})


def sees_a_leader(instance: Instance) -> bool:
    """By etcd's own metrics, on the port that asks for no certificate."""
    connection = http.client.HTTPConnection(instance.address, 2381, timeout=2)
    try:
        connection.request("GET", "/metrics")
        return b"\netcd_server_has_leader 1\n" in connection.getresponse().read()
    finally:
        connection.close()


def sights(lab: Lab, since: datetime) -> set[str]:
    """What the reports that were written since then say of a leader."""
    bucket, prefix = root(lab)
    listed = lab.aws("s3").list_objects_v2(Bucket=bucket, Prefix=f"{prefix}assembly/").get("Contents", ())
    fresh = [each["Key"].removeprefix(prefix) for each in listed if each["LastModified"] > since]
    return {document(lab, key)["sight"] for key in fresh}


@pytest.mark.long
@pytest.mark.parametrize("spoil", [Keys.another_authority, Keys.expired], ids=["another-authority", "expired"])
def test_agents_whose_keys_are_of_no_use_stop_nothing_and_call_nothing_lost(
    spoil: Callable[[Keys], None], tls: Keys
) -> None:
    """Everywhere at once. Then the agents are killed, too, so that none remembers a better time."""
    lab = tls.lab
    assert tls.etcdctl("put", "before", "it").returncode == 0
    before = etcd_as_it_is(tls)
    spoiled = datetime.now(UTC)
    spoil(tls)
    wait_until(lambda: all(map(cannot_see_its_etcd, lab.instances())), 30, "no agent can speak to its etcd")
    for each in lab.instances():
        lab.kill_agent(each.id)
    wait_until(lambda: all(map(cannot_see_its_etcd, lab.instances())), 30, "no new agent can either")
    seen: set[str] = set()

    def as_before() -> bool:
        seen.update(sights(lab, spoiled))
        return all(map(sees_a_leader, lab.instances()))

    stays_as_it_is(lab, 2.5 * GRACE_S, also=as_before)
    if spoil is Keys.another_authority:  # only the agents have the wrong one: whoever has the right one is served
        assert tls.etcdctl("put", "meanwhile", "it").returncode == 0
    assert seen, "nobody reported"
    assert seen <= {"leader", "untold"}, "an agent took its own failure for a loss of the quorum"
    tls.mend()
    wait_until(lambda: all_ready(lab), 40, "three members that serve, as their agents see it")
    assert etcd_as_it_is(tls) == before
    assert tls.etcdctl("get", "before", "--print-value-only").stdout.strip() == "it"


def etcd_as_it_is(tls: Keys) -> tuple[dict[str, tuple[int, ...]], set[tuple[int, int]]]:
    """The processes of each etcd; cluster ID and member ID of each that answers."""
    said = tls.etcdctl("endpoint", "status", "--write-out=json")
    assert said.returncode == 0, said.stderr
    headers = [each["Status"]["header"] for each in json.loads(said.stdout)]
    pids = {each.id: each.etcd_pids for each in tls.lab.instances()}
    return pids, {(each["cluster_id"], each["member_id"]) for each in headers}
