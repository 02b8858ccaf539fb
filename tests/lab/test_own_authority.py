"""`tls.mode = "ca"` on real etcd, under load: forms, joins, recovers, renews and rotates with mutual TLS.

House rules: a client here has nothing but what `etcd-asg-agent tls issue` gave it; what a member trusts and shows is
read from its handshakes; keys are looked for wherever anything was written down.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import pytest

from agent.lab.client import Instance, Lab
from agent.lab.foundation import OPERATOR
from agent.lab.spec import LabSpec
from agent.world.signing import issuer_of
from agent.world.tls_handshake import shown_at
from tests.lab.conftest import MakeLab
from tests.lab.harness import metrics, ready, stays, wait_until
from tests.lab.losing import PACE, QUICK, generations, keys, on_machine, wait_snapshot
from tests.lab.test_permissions import denials
from tests.lab.watching import logged, well_kept_lab

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(400)]

LIFE_S = 60
"""Renewed after 40 s."""

SETTINGS: dict[str, dict[str, Any]] = {**QUICK, "tls": {"mode": "ca", "life": f"{LIFE_S}s"}}
PRIVATE = re.compile(rb"PRIVATE KEY-----(?:\\n|\s)*([A-Za-z0-9+/]{40})")


# ---- a client with a certificate -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Client:
    """An application: etcdctl with the files of one `tls issue`."""

    lab: Lab
    folder: Path
    name: str = "app"

    def etcdctl(self, *words: str, files: bool = True, port: int = 2379) -> subprocess.CompletedProcess[str]:
        endpoints = ",".join(f"https://{address}:{port}" for address in self.lab.addresses())
        mine = [f"--cert={self.folder / self.name}.crt", f"--key={self.folder / self.name}.key"] if files else []
        etcdctl = Path(self.lab.status()["etcd"]).with_name("etcdctl")
        command = [str(etcdctl), f"--endpoints={endpoints}", f"--cacert={self.folder / 'ca.crt'}", *mine]
        limits = ["--dial-timeout=1s", "--command-timeout=3s"]
        return subprocess.run([*command, *limits, *words], capture_output=True, text=True, check=False, timeout=30)

    def voters(self) -> list[str]:
        found = self.etcdctl("member", "list", "--write-out=json")
        members = json.loads(found.stdout)["members"] if found.returncode == 0 else []
        return [each.get("name", "") for each in members if not each.get("isLearner")]


def issue(lab: Lab, folder: Path, name: str = "app") -> Client:
    """As an operator does, on a machine of the fleet."""
    done = on_machine(lab, lab.instances()[0], "tls", "issue", "--client", name, "--out", str(folder))
    assert done.returncode == 0, done.stderr
    return Client(lab, folder, name)


@dataclass
class Load:
    """Writes on and on, each key once; what was acknowledged must be there in the end."""

    client: Client
    acknowledged: list[str] = field(default_factory=list)
    longest_gap_s: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()
        wait_until(lambda: self.acknowledged, 20, "the first write")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _write(self) -> None:
        number, last = 0, time.monotonic()
        while not self._stop.is_set():
            number += 1
            if self.client.etcdctl("put", f"load/{number:06d}", "x").returncode == 0:
                now = time.monotonic()
                self.longest_gap_s = max(self.longest_gap_s, now - last)
                last = now
                self.acknowledged.append(f"load/{number:06d}")

    def assert_nothing_lost(self, client: Client) -> None:
        found = set(client.etcdctl("get", "load/", "--prefix", "--keys-only").stdout.split())
        assert set(self.acknowledged) <= found


# ---- what is so ------------------------------------------------------------------------------------------------------


def all_ready(lab: Lab, size: int = 3) -> bool:
    return len(lab.instances()) == size and all(ready(each) for each in lab.instances())


def tls_status(lab: Lab) -> dict[str, Any]:
    done = on_machine(lab, lab.instances()[0], "tls", "status", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def all_members(lab: Lab, **wanted: list[int]) -> bool:
    members = tls_status(lab)["members"]
    return len(members) == 3 and all(each.get(name) == value for each in members for name, value in wanted.items())


def shown(instance: Instance) -> bytes:
    return shown_at(instance.address, 2379, timedelta(seconds=2)).certificate


def etcd_pids(lab: Lab) -> dict[str, tuple[int, ...]]:
    return {each.id: each.etcd_pids for each in lab.instances()}


def rotate(lab: Lab) -> subprocess.CompletedProcess[str]:
    return on_machine(lab, lab.instances()[0], "tls", "rotate")


def key_files(lab: Lab) -> list[Path]:
    return [each for machine in lab.instances() for each in (machine.disk / "tls").glob("*/*.key")]


def assert_no_key_was_written_down(lab: Lab, *more: Path) -> None:
    """Each key is in its own file, readable by its owner, and in none of the logs, ours or etcd's."""
    files = key_files(lab)
    assert files
    assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}
    secrets = [PRIVATE.search(each.read_bytes()) for each in files]
    written = [*lab.folder.glob("**/*.log"), *lab.folder.glob("**/*.env"), *lab.folder.glob("*.json"), *more]
    text = b"".join(each.read_bytes() for each in written if each.is_file())
    assert text
    assert b"PRIVATE KEY" not in text
    for secret in secrets:
        assert secret is not None
        assert secret[1] not in text


@pytest.fixture(scope="module")
def own_three(tmp_path_factory: pytest.TempPathFactory, etcd_binary: str) -> Iterator[Lab]:
    spec = LabSpec(etcd=etcd_binary, settings=SETTINGS, pace=PACE, enforces_iam=True)
    with well_kept_lab(spec, tmp_path_factory.mktemp("own") / "lab") as lab:
        wait_until(lambda: all_ready(lab), 60, "three members with certificates of their own")
        yield lab


@pytest.fixture
def three(own_three: Lab) -> Lab:
    wait_until(lambda: all_ready(own_three), 60, "three members that serve")
    return own_three


# ---- forms, and lets nobody in ---------------------------------------------------------------------------------------


def test_three_agents_at_once_make_one_authority_and_form_with_it(three: Lab) -> None:
    made = [each for each in three.calls() if each["operation"] == "PutParameter"]
    assert [each["status"] for each in made].count(200) == 1
    parameters = three.aws("ssm").get_parameters_by_path(Path="/etcd-asg-agent/lab", Recursive=True)["Parameters"]
    assert [each["Name"] for each in parameters] == ["/etcd-asg-agent/lab/000001/authority"]
    assert parameters[0]["Type"] == "SecureString"
    assert len(json.dumps(parameters[0]["Value"])) < 4096, "a standard parameter"
    assert denials(three) == []
    assert len({shown(each) for each in three.instances()}) == 3, "each has its own"


def test_without_a_certificate_of_the_right_kind_nobody_gets_anything(three: Lab, tmp_path: Path) -> None:
    client = issue(three, tmp_path / "client")
    assert client.etcdctl("put", "a", "b").returncode == 0
    assert stat.S_IMODE((client.folder / "app.key").stat().st_mode) == 0o600
    assert client.etcdctl("get", "a", files=False).returncode != 0, "a client without a certificate"
    address = three.instances()[0].address
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for files in (False, True):
        if files:
            context.load_cert_chain(client.folder / "app.crt", client.folder / "app.key")
        for port in (2379, 2380):
            answered = asked(context, address, port)
            assert answered == (files and port == 2379), f"port {port}, with a client's certificate: {files}"


def asked(context: ssl.SSLContext, address: str, port: int) -> bool:
    """Whether anything at all comes back for a request."""
    try:
        with socket.create_connection((address, port), timeout=3) as plain, context.wrap_socket(plain) as secured:
            secured.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return b"etcdserver" in secured.recv(4096)
    except OSError:
        return False


# ---- renews, joins ---------------------------------------------------------------------------------------------------


def test_certificates_are_renewed_in_place_before_they_end_under_load(three: Lab, tmp_path: Path) -> None:
    client = issue(three, tmp_path / "client")
    before, pids = {each.id: shown(each) for each in three.instances()}, etcd_pids(three)
    with Load(client) as load:
        wait_until(lambda: all(shown(each) != before[each.id] for each in three.instances()), LIFE_S, "new ones")
        stays(lambda: all_ready(three), LIFE_S / 2, "past the end of those before")
    assert etcd_pids(three) == pids, "no etcd was restarted for that"
    load.assert_nothing_lost(client)
    assert load.longest_gap_s < 3
    for each in three.instances():
        until = (metrics(each) or {})["etcd_asg_agent_certificate_expiry_timestamp_seconds"]
        assert until == pytest.approx(issuer_of(shown(each))[1].timestamp(), abs=1)
        assert until > time.time() + LIFE_S / 6
    assert_no_key_was_written_down(three)


def test_a_replacement_joins_with_certificates_of_its_own(three: Lab, tmp_path: Path) -> None:
    client = issue(three, tmp_path / "client")
    with Load(client) as load:
        gone = three.instances()[0].id
        three.terminate(gone)
        wait_until(lambda: all_ready(three) and gone not in client.voters(), 90, "the replacement to serve")
        wait_until(lambda: len(client.voters()) == 3, 30, "three voters")
    load.assert_nothing_lost(client)


def test_an_agent_without_parameter_store_goes_on_with_what_it_has(three: Lab, tmp_path: Path) -> None:
    client = issue(three, tmp_path / "client")
    with three.weather(service="ssm", status=500):
        for each in three.instances():
            three.kill_agent(each.id)
        time.sleep(2)
        wait_until(lambda: all_ready(three), 30, "new agents, old certificates")
        assert client.etcdctl("put", "meanwhile", "x").returncode == 0
        assert not [each for each in three.calls() if each["operation"] == "PutParameter" and each["status"] == 500]


# ---- rotates ---------------------------------------------------------------------------------------------------------


def test_the_authority_is_rotated_under_load_with_no_more_than_one_member_away(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    """Two rolling restarts; the old client's certificate is refused in the end, and the new one's is not."""
    three = make_lab(settings=SETTINGS, pace=PACE, enforces_iam=True)
    wait_until(lambda: all_ready(three), 60, "three members with certificates of their own")
    old, started = issue(three, tmp_path / "old"), etcd_pids(three)
    refused = rotate(three)
    assert refused.returncode == 1, "the instances' role may not rotate"
    assert '"Sid":"CreateAuthority"' not in refused.stderr
    first = by_operator(three, "tls", "rotate")
    assert "make authority" in first.stdout, first.stderr
    too_early = by_operator(three, "tls", "rotate")
    assert too_early.returncode == 1
    assert "nothing was changed" in too_early.stderr

    with Load(old) as load:
        watch = Watch(three)
        with watch:
            wait_until(lambda: all_members(three, trusts=[1, 2], shows=[1]), 150, "all to trust both")
        assert watch.most_away <= 1
        assert all(started[name] != pids for name, pids in etcd_pids(three).items()), "each was restarted"

        assert by_operator(three, "tls", "rotate").returncode == 0
        before = etcd_pids(three)
        wait_until(lambda: all_members(three, trusts=[1, 2], shows=[2]), 60, "the new one to issue")
        new = issue(three, tmp_path / "new")
        assert new.etcdctl("put", "by", "the new one").returncode == 0
        assert etcd_pids(three) == before, "issuing needs no restart"
    load.assert_nothing_lost(new)
    first_gap = load.longest_gap_s

    assert by_operator(three, "tls", "rotate").returncode == 0
    with Load(new) as load, Watch(three) as watch:
        wait_until(lambda: all_members(three, trusts=[2], shows=[2]), 150, "the old one to be dropped")
    assert watch.most_away <= 1
    load.assert_nothing_lost(new)
    assert old.etcdctl("get", "by").returncode != 0
    assert new.etcdctl("get", "by").stdout.split("\n")[1] == "the new one"
    assert_no_key_was_written_down(three)
    assert max(first_gap, load.longest_gap_s) < 5
    done = by_operator(three, "tls", "status")
    assert "make authority 3" in done.stdout


def operators_keys() -> dict[str, str]:
    return {name.upper(): value for name, value in OPERATOR.items()}


def by_operator(lab: Lab, *words: str) -> subprocess.CompletedProcess[str]:
    """On a machine of the fleet, with credentials of his own."""
    return on_machine(lab, lab.instances()[0], *words, environment=operators_keys())


@dataclass
class Watch:
    """How many of three etcds were away at once, by their processes."""

    lab: Lab
    most_away: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _look(self) -> None:
        while not self._stop.wait(0.1):
            away = [pids for pids in etcd_pids(self.lab).values() if not pids]
            self.most_away = max(self.most_away, len(away))


# ---- the agent's own port --------------------------------------------------------------------------------------------


def test_the_agents_own_port_over_tls(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab(instances=1, settings={**SETTINGS, "http": {"tls": True}}, pace=PACE)
    wait_until(lambda: lab.instances()[0].agent_pid, 20, "an agent")
    said = wait_until(lambda: on_machine(lab, lab.instances()[0], "status").stdout, 60, "its status over TLS")
    assert lab.instances()[0].id in said
    client, address = issue(lab, tmp_path / "client"), lab.instances()[0].address
    context = ssl.create_default_context(cafile=str(client.folder / "ca.crt"))
    plain = socket.create_connection((address, 9379), timeout=3)
    with plain, context.wrap_socket(plain, server_hostname=address) as secured:
        secured.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert b"200 OK" in secured.recv(4096)
    assert metrics(lab.instances()[0]) is None, "and nothing without"


# ---- recovers --------------------------------------------------------------------------------------------------------


def test_a_lost_majority_is_recovered_with_certificates_of_the_same_authority(three: Lab, tmp_path: Path) -> None:
    client = issue(three, tmp_path / "client")
    with Load(client) as load:
        wait_until(lambda: len(load.acknowledged) > 20, 30, "some writes")
    generation = max(generations(three))
    wait_snapshot(three, generation)
    for each in three.instances()[:2]:
        three.terminate(each.id)
    wait_until(
        lambda: f"generations/{generation + 1:06d}/formed.json" in keys(three, "generations/"), 120, "a recovery"
    )
    wait_until(lambda: all_ready(three), 60, "three members again")
    load.assert_nothing_lost(client)
    assert {word for each in three.instances() for word in re.findall("denied", json.dumps(logged(each)))} == set()
