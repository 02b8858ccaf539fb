"""The host door's disk: what is there, written to last; and quarantine, which loses nothing however it is stopped."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.model.actions import Launch
from agent.model.disk import BROKEN, Data, Disk, EtcdProcess, EtcdRunning, EtcdStopped, Identity, Stage
from agent.model.faults import Refused, Unavailable
from agent.model.ids import ClusterId, GenerationNumber, InstanceId, MemberId, Nonce, PeerUrl
from agent.model.known import Ignorance
from agent.world import durable
from agent.world.clock import SystemClock
from agent.world.disk import DataRoot
from agent.world.doors import Host
from agent.world.etcd_data import state_of
from agent.world.etcd_launch import EtcdSettings
from agent.world.host import EtcdBinary, InstanceHost
from tests.contracts.dying import deaths
from tests.etcd_versions import EtcdVersion, available

IDENTITY = Identity(
    cluster="prod",
    instance=InstanceId("i-0a"),
    generation=GenerationNumber(3),
    stage=Stage.STARTING,
    nonce=Nonce("n1"),
    peer_url=PeerUrl("http://10.0.0.1:2380"),
)
MEMBER = replace(IDENTITY, stage=Stage.MEMBER, member_id=MemberId(0xABC), cluster_id=ClusterId(0xDEF))
FENCED = replace(MEMBER, stage=Stage.FENCED)
WAL = "member/wal/0000000000000000-0000000000000000.wal"


class StandIn:
    """A supervisor that only says what it was told to say."""

    def __init__(self) -> None:
        self.now: EtcdProcess = EtcdStopped()
        self.started: list[Mapping[str, str]] = []
        self.stopped: list[timedelta] = []

    def state(self) -> EtcdProcess:
        return self.now

    def start(self, environment: Mapping[str, str]) -> None:
        self.started.append(environment)

    def stop(self, timeout: timedelta) -> None:
        self.stopped.append(timeout)


@pytest.fixture
def supervisor() -> StandIn:
    return StandIn()


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    return a_binary(tmp_path / "etcd-stub", "etcd Version: 3.5.30\nGit SHA: x")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def host(root: Path, supervisor: StandIn, binary: Path) -> Host:
    disk = DataRoot(root, SystemClock(), "b1")
    settings = EtcdSettings(disk.data, "10.0.0.1")
    return InstanceHost(disk, supervisor, str(binary), settings, timedelta(seconds=7))


def a_binary(path: Path, says: str, code: int = 0) -> Path:
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\nexit {code}\n")
    path.chmod(0o755)
    return path


def with_data(root: Path) -> None:
    (root / "data" / WAL).parent.mkdir(parents=True)
    (root / "data" / WAL).write_bytes(b"log")


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


# ---- identity ------------------------------------------------------------------------------------------------------


def test_a_fresh_disk_holds_nothing(host: Host) -> None:
    assert host.disk() == Disk(None, Data.ABSENT)


@pytest.mark.parametrize("identity", [IDENTITY, MEMBER, FENCED])
def test_what_is_stamped_is_read(host: Host, identity: Identity) -> None:
    host.stamp(identity, prepare=False)
    assert host.disk() == Disk(identity, Data.ABSENT)


def test_preparing_creates_the_data_directory_for_etcd_alone(host: Host, root: Path) -> None:
    host.stamp(IDENTITY, prepare=True)
    assert host.disk() == Disk(IDENTITY, Data.EMPTY)
    assert (root / "data").stat().st_mode & 0o777 == 0o700
    host.stamp(replace(IDENTITY, nonce=Nonce("n2")), prepare=True)
    assert host.disk().data is Data.EMPTY


def test_preparing_over_a_members_data_is_refused_and_changes_nothing(host: Host, root: Path) -> None:
    with_data(root)
    host.stamp(MEMBER, prepare=False)
    with pytest.raises(Refused, match="holds a member's data"):
        host.stamp(IDENTITY, prepare=True)
    assert host.disk() == Disk(MEMBER, Data.PRESENT)


def test_nothing_is_prepared_or_moved_under_a_running_etcd(host: Host, supervisor: StandIn, root: Path) -> None:
    with_data(root)
    supervisor.now = EtcdRunning(123)
    with pytest.raises(Refused, match="etcd runs"):
        host.stamp(IDENTITY, prepare=True)
    with pytest.raises(Refused, match="etcd runs"):
        host.quarantine("x")
    host.stamp(MEMBER, prepare=False)
    assert host.disk() == Disk(MEMBER, Data.PRESENT)


def test_only_the_new_identity_is_left(host: Host, root: Path) -> None:
    host.stamp(IDENTITY, prepare=False)
    host.stamp(MEMBER, prepare=False)
    assert files(root) == ["identity.json"]


GOOD = {
    "cluster": "c",
    "instance": "i",
    "generation": 1,
    "stage": "member",
    "nonce": "n",
    "peer_url": "u",
    "member_id": "a",
    "cluster_id": "b",
}
MISTYPED: tuple[dict[str, object], ...] = (
    {"generation": 0},
    {"generation": "1"},
    {"generation": True},
    {"stage": "leader"},
    {"nonce": ""},
    {"member_id": 7},
    {"member_id": "xyz"},
    {"cluster": None},
)
MISSING = [{key: value for key, value in GOOD.items() if key != missing} for missing in GOOD]
GARBLED = [json.dumps(document).encode() for document in [*MISSING, *({**GOOD, **wrong} for wrong in MISTYPED)]]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"{}", *GARBLED])
def test_an_identity_that_makes_no_sense_is_named_and_kept(host: Host, root: Path, content: bytes) -> None:
    (root / "identity.json").write_bytes(content)
    with pytest.raises(Unavailable, match=r"identity\.json") as raised:
        host.disk()
    assert raised.value.unknown.why is Ignorance.MALFORMED
    assert "\n" not in str(raised.value)
    assert (root / "identity.json").read_bytes() == content


def test_a_stamp_that_is_killed_at_any_step_leaves_the_old_or_the_new_and_never_names_a_missing_directory(
    root: Path, host: Host
) -> None:
    body = """
from pathlib import Path
from agent.world.clock import SystemClock
from agent.world.disk import DataRoot
from tests.contracts.test_host import IDENTITY
disk = DataRoot(Path(root), SystemClock(), "b1")
GO:
disk.stamp(IDENTITY, prepare=True)
"""
    outcomes = []
    for _ in deaths(body, root):
        found = host.disk()
        assert found.identity in (None, IDENTITY)
        assert found.identity is None or found.data is Data.EMPTY
        outcomes.append(found)
        host.stamp(IDENTITY, prepare=True)  # whoever comes next can go on
        assert host.disk() == Disk(IDENTITY, Data.EMPTY)
        shutil.rmtree(root)
        root.mkdir()
    assert {each.data for each in outcomes} == {Data.ABSENT, Data.EMPTY}
    assert len(outcomes) > 5


# ---- disks that fail -----------------------------------------------------------------------------------------------


def test_a_full_disk_is_refused_in_words() -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    said = str(durable.refused("writing identity.json", error))
    assert said == "writing identity.json: No space left on device: the disk is full"


def test_a_root_that_is_no_folder_is_refused(tmp_path: Path, supervisor: StandIn, binary: Path) -> None:
    (tmp_path / "file").write_text("")
    disk = DataRoot(tmp_path / "file" / "root", SystemClock(), "b1")
    host = InstanceHost(disk, supervisor, str(binary), EtcdSettings(disk.data, "10.0.0.1"))
    for call in (host.disk, lambda: host.stamp(IDENTITY, prepare=True), lambda: host.quarantine("x")):
        with pytest.raises(Refused, match="Not a directory"):
            call()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up being root")
def test_a_folder_that_is_not_ours_is_refused_with_a_hint(root: Path) -> None:
    body = """
import os
from pathlib import Path
from agent.model.faults import Refused
from agent.world.clock import SystemClock
from agent.world.disk import DataRoot
from tests.contracts.test_host import IDENTITY
os.setuid(65534)
disk = DataRoot(Path(root), SystemClock(), "b1")
for call in (lambda: disk.stamp(IDENTITY, prepare=True), lambda: disk.stamp(IDENTITY, prepare=False)):
    try:
        call()
    except Refused as error:
        assert "check the owner and mode" in str(error), error
    else:
        raise SystemExit("not refused")
"""
    for folder in (root, *root.parents):
        if folder.stat().st_mode & 0o5 != 0o5 and folder != root:
            folder.chmod(folder.stat().st_mode | 0o5)
        if folder == Path("/tmp"):
            break
    assert list(deaths(body, root)) == [0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_roots_agent_gives_the_data_directory_to_the_owner_of_the_root(host: Host, root: Path) -> None:
    os.chown(root, 65534, 65534)
    host.stamp(IDENTITY, prepare=True)
    assert (root / "data").stat().st_uid == 65534


# ---- quarantine ----------------------------------------------------------------------------------------------------


def test_data_and_identity_move_together(host: Host, root: Path) -> None:
    with_data(root)
    host.stamp(FENCED, prepare=False)
    host.quarantine("Fenced: generation 3!")
    assert host.disk() == Disk(None, Data.ABSENT)
    folder = next((root / "quarantine").iterdir())
    assert folder.name.endswith("Z-g000003-fenced-generation-3")
    assert files(folder) == [f"data/{WAL}", "identity.json"]


def test_two_quarantines_in_one_second_do_not_meet(host: Host, root: Path) -> None:
    for _ in range(3):
        with_data(root)
        host.stamp(FENCED, prepare=False)
        host.quarantine("fenced")
    assert len([name for name in files(root) if name.endswith(".wal")]) == 3
    assert len([name for name in files(root) if name.endswith("identity.json")]) == 3


def test_data_without_an_identity_and_an_identity_without_data_can_be_moved(host: Host, root: Path) -> None:
    with_data(root)
    host.quarantine("foreign")
    host.stamp(FENCED, prepare=False)
    host.quarantine("fenced")
    assert host.disk() == Disk(None, Data.ABSENT)


def test_an_identity_that_cannot_be_read_can_be_moved(host: Host, root: Path) -> None:
    (root / "identity.json").write_text("?")
    host.quarantine("garbled")
    assert host.disk() == Disk(None, Data.ABSENT)
    assert (next((root / "quarantine").iterdir()) / "identity.json").read_text() == "?"


@pytest.mark.parametrize("why", ["../../etc", "a/b", "", "…", "x" * 300])
def test_a_reason_never_leads_out_of_the_quarantine(host: Host, root: Path, why: str) -> None:
    host.stamp(FENCED, prepare=False)
    host.quarantine(why)
    assert [path.parent for path in (root / "quarantine").iterdir()] == [root / "quarantine"]


def test_a_quarantine_that_is_killed_at_any_step_loses_nothing_and_is_finished_by_the_next(
    root: Path, host: Host
) -> None:
    """What may never be found afterwards: data without an identity, or an identity that may start."""
    body = """
from pathlib import Path
from agent.world.clock import SystemClock
from agent.world.disk import DataRoot
disk = DataRoot(Path(root), SystemClock(), "b1")
GO:
disk.quarantine("fenced")
"""
    with_data(root)
    host.stamp(FENCED, prepare=False)
    seen = set()
    for _ in deaths(body, root):
        found = host.disk()
        assert (found.identity, found.data) in ((FENCED, Data.PRESENT), (FENCED, Data.ABSENT), (None, Data.ABSENT))
        seen.add((found.identity is None, found.data))
        host.quarantine("fenced")
        assert host.disk() == Disk(None, Data.ABSENT)
        assert len([name for name in files(root) if name.endswith(".wal")]) == 1
        assert len([name for name in files(root) if name.endswith("identity.json")]) == 1
        shutil.rmtree(root)
        root.mkdir()
        with_data(root)
        host.stamp(FENCED, prepare=False)
    assert len(seen) == 3, "every one of the three states came up"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.root
def test_a_quarantine_on_another_filesystem_is_refused_with_a_hint_and_nothing_moves(host: Host, root: Path) -> None:
    with_data(root)
    host.stamp(FENCED, prepare=False)
    (root / "quarantine").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(root / "quarantine")], check=False)
    if mounted.returncode != 0:
        pytest.skip("cannot mount here")
    try:
        with pytest.raises(Refused, match="must be on one"):
            host.quarantine("fenced")
        assert host.disk() == Disk(FENCED, Data.PRESENT)
    finally:
        subprocess.run(["umount", str(root / "quarantine")], check=True)


# ---- what was restored ---------------------------------------------------------------------------------------------

SHA = "ab" * 32


def restored(root: Path, nonce: str = "n1", boot: str = "b1") -> Path:
    """What etcd's tool leaves: a log and a database."""
    folder = root / "scratch" / f"restored-{nonce}-{boot}"
    for name in (WAL, "member/snap/db"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"restored")
    return folder


def test_seeds_and_restored_directories_count_by_their_names_alone(host: Host, root: Path) -> None:
    """A power cut takes what was not synced, and leaves its name: so the name tells in which boot it was made."""
    restored(root, "n1")
    restored(root, "n2", boot="b2")
    restored(root, "n3", boot="b1.partial")
    other = SHA[2:] + "00"
    for name in (f"seed-{SHA}-b1.db", f"seed-{other}-b2.db", f"seed-{other}-b1.db.partial", "seed-x.db", "rescue"):
        (root / "scratch" / name).write_bytes(b"")
    assert host.disk() == Disk(None, Data.ABSENT, frozenset({SHA}), frozenset({Nonce("n1")}))


def test_restored_data_takes_the_place_of_the_prepared_directory(host: Host, root: Path) -> None:
    host.stamp(IDENTITY, prepare=True)
    restored(root)
    host.put_in_place(Nonce("n1"))
    assert host.disk() == Disk(IDENTITY, Data.PRESENT)
    assert (root / "data").stat().st_mode & 0o777 == 0o700
    assert files(root / "data") == ["member/snap/db", WAL]
    with pytest.raises(Refused, match="nothing was restored"):
        host.put_in_place(Nonce("n1"))


def test_what_an_etcd_left_that_never_spoke_is_no_obstacle(host: Host, root: Path) -> None:
    host.stamp(IDENTITY, prepare=True)
    for name in (".touch", "member/snap/db", "member/wal.tmp/0.tmp"):
        (root / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "data" / name).write_bytes(b"")
    restored(root)
    host.put_in_place(Nonce("n1"))
    assert files(root / "data") == ["member/snap/db", WAL]


def test_nothing_takes_the_place_of_a_members_data_of_a_lost_disk_or_of_a_running_etcd(
    host: Host, root: Path, supervisor: StandIn
) -> None:
    restored(root)
    with pytest.raises(Refused, match="is absent"):
        host.put_in_place(Nonce("n1"))
    with_data(root)
    with pytest.raises(Refused, match="is present"):
        host.put_in_place(Nonce("n1"))
    shutil.rmtree(root / "data" / "member")
    supervisor.now = EtcdRunning(123)
    with pytest.raises(Refused, match="etcd runs"):
        host.put_in_place(Nonce("n1"))
    assert files(root / "scratch") == ["restored-n1-b1/member/snap/db", f"restored-n1-b1/{WAL}"]
    assert files(root / "data") == []


@pytest.mark.parametrize("nonce", ["../data", "", "n1.partial", "a/b"])
def test_a_nonce_never_leads_out_of_the_scratch_folder(host: Host, root: Path, nonce: str) -> None:
    host.stamp(IDENTITY, prepare=True)
    restored(root)
    with pytest.raises(Refused, match="no nonce of ours"):
        host.put_in_place(Nonce(nonce))


def test_a_change_of_place_that_is_killed_at_any_step_leaves_the_old_or_the_new(host: Host, root: Path) -> None:
    body = """
from pathlib import Path
from agent.world.clock import SystemClock
from agent.world.disk import DataRoot
disk = DataRoot(Path(root), SystemClock(), "b1")
GO:
disk.put_in_place("n1")
"""
    restored(root)
    host.stamp(IDENTITY, prepare=True)
    (root / "data" / ".touch").touch()
    seen = set()
    for _ in deaths(body, root):
        found = host.disk()
        assert (found.data is Data.PRESENT) is (found.restored == frozenset())
        assert found.data is not Data.ABSENT
        seen.add(found.data)
        if found.data is Data.EMPTY:
            host.put_in_place(Nonce("n1"))
        assert files(root / "data") == ["member/snap/db", WAL]
        shutil.rmtree(root)
        root.mkdir()
        restored(root)
        host.stamp(IDENTITY, prepare=True)
        (root / "data" / ".touch").touch()
    assert seen == {Data.EMPTY, Data.PRESENT}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_roots_agent_gives_restored_data_to_the_owner_of_the_root(host: Host, root: Path) -> None:
    os.chown(root, 65534, 65534)
    host.stamp(IDENTITY, prepare=True)
    restored(root)
    host.put_in_place(Nonce("n1"))
    assert {path.stat().st_uid for path in [root / "data", *(root / "data").rglob("*")]} == {65534}


def test_scratch_is_cleared_of_what_nobody_will_ask_for(host: Host, root: Path) -> None:
    disk = DataRoot(root, SystemClock(), "b1")
    disk.clear_scratch()
    restored(root)
    restored(root, "n2", boot="b2")
    restored(root, "n3", boot="b1.partial")
    (root / "scratch" / f"seed-{SHA}-b1.db").write_bytes(b"")
    (root / "scratch" / f"seed-{SHA}-b2.db").write_bytes(b"")
    (root / "scratch" / "rescue").symlink_to(root)
    disk.clear_scratch()
    assert host.disk() == Disk(None, Data.ABSENT, frozenset({SHA}), frozenset({Nonce("n1")}))
    assert len(list((root / "scratch").iterdir())) == 2
    with_data(root)
    disk.clear_scratch()
    assert list((root / "scratch").iterdir()) == []
    assert host.disk().data is Data.PRESENT


def test_the_restore_tool_is_asked_once_and_again_after_an_upgrade(host: Host, binary: Path, tmp_path: Path) -> None:
    tool = tmp_path / "etcdutl"
    tool.write_text(f"#!/bin/sh\necho x >> {tmp_path}/runs\necho ' --bump-revision uint'\n")
    tool.chmod(0o755)
    assert host.can_bump_revisions()
    assert host.can_bump_revisions()
    assert (tmp_path / "runs").read_text() == "x\n"
    a_binary(tool, "  --data-dir string")
    assert not host.can_bump_revisions()


def test_a_host_without_data_has_nothing_to_survey(host: Host) -> None:
    with pytest.raises(Unavailable):
        host.survey()
    assert host.data_version() is None


def test_a_database_that_makes_no_sense_tells_no_version(host: Host, root: Path) -> None:
    database = root / "data" / "member" / "snap" / "db"
    database.parent.mkdir(parents=True)
    database.write_bytes(b"no database" * 1000)
    with pytest.raises(Refused):
        host.data_version()


# ---- what etcd leaves behind ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paths", "state"),
    [
        ([], Data.EMPTY),
        (["member/"], Data.EMPTY),
        (["member/snap/"], Data.EMPTY),
        ([".touch", "member/snap/.touch"], Data.EMPTY),
        (["member/snap/db"], Data.EMPTY),  # of no length: etcd was killed right after opening it
        (["member/snap/tmp123456"], Data.EMPTY),
        (["member/wal.tmp/0.tmp", "member/wal.tmp/0000000000000000-0000000000000000.wal"], Data.EMPTY),
        ([WAL], Data.PRESENT),
        (["member/wal/"], Data.PRESENT),  # etcd makes it whole: its logs were taken out
        (["member/snap/0000000000000001-0000000000000001.snap"], Data.PRESENT),
        (["member/snap/0000000000000001.snap.db"], Data.PRESENT),
        (["lost+found/"], Data.PRESENT),
        (["notes.txt"], Data.PRESENT),
        (["default.etcd/member/wal/x.wal"], Data.PRESENT),
    ],
)
def test_only_what_etcd_leaves_before_it_speaks_is_empty(tmp_path: Path, paths: list[str], state: Data) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for path in paths:
        target = data / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.mkdir() if path.endswith("/") else target.touch()
    assert state_of(data) is state


def test_a_link_is_never_taken_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match="data"):
        state_of(tmp_path / "data")


@pytest.mark.parametrize("content", [b"x", b"\0" * 16384, b"\xff" * 40000])
def test_a_database_that_makes_no_sense_is_not_nothing(tmp_path: Path, content: bytes) -> None:
    database = tmp_path / "data" / "member" / "snap" / "db"
    database.parent.mkdir(parents=True)
    database.write_bytes(content)
    assert state_of(tmp_path / "data") is Data.PRESENT


@pytest.mark.etcd
@pytest.mark.parametrize("version", available(), ids=str)
def test_a_joiner_that_found_nobody_left_nothing(tmp_path: Path, version: EtcdVersion) -> None:
    """It leaves a database, in 3.5.30 one of 16 MiB, and no log."""
    for _ in range(3):
        etcd(version, tmp_path, "existing", peers=2).wait(20)
    assert (tmp_path / "data" / "member" / "snap" / "db").exists()
    assert state_of(tmp_path / "data") is Data.EMPTY


@pytest.mark.etcd
@pytest.mark.parametrize("peers", [1, 2])
@pytest.mark.parametrize("version", available(), ids=str)
def test_a_database_that_lost_its_log_is_not_nothing(tmp_path: Path, version: EtcdVersion, peers: int) -> None:
    process = etcd(version, tmp_path, "new", peers)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3)
    finally:
        process.terminate()
        process.wait(20)
    assert state_of(tmp_path / "data") is Data.PRESENT
    shutil.rmtree(tmp_path / "data" / "member" / "wal")
    assert state_of(tmp_path / "data") is Data.PRESENT


def etcd(version: EtcdVersion, folder: Path, state: str, peers: int) -> subprocess.Popen[bytes]:
    address = f"127.{os.getpid() % 250 + 1}.77.1"
    urls = [f"http://{address}:2380", f"http://{address}:2390"][:peers]
    flags: dict[str, Any] = {
        "name": "m0",
        "data-dir": folder / "data",
        "initial-cluster": ",".join(f"m{number}={url}" for number, url in enumerate(urls)),
        "initial-cluster-state": state,
        "initial-advertise-peer-urls": urls[0],
        "listen-peer-urls": urls[0],
        "listen-client-urls": f"http://{address}:2379",
        "advertise-client-urls": f"http://{address}:2379",
    }
    command = [str(version.etcd), *(f"--{name}={value}" for name, value in flags.items())]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


# ---- the binary and the process ------------------------------------------------------------------------------------


def test_the_version_is_asked_for_once_and_again_after_an_upgrade(tmp_path: Path) -> None:
    binary = tmp_path / "etcd"
    binary.write_text(f"#!/bin/sh\necho x >> {tmp_path}/runs\necho etcd Version: 3.4.23\n")
    binary.chmod(0o755)
    door = EtcdBinary(str(binary))
    assert [door.version(), door.version()] == ["3.4.23", "3.4.23"]
    assert (tmp_path / "runs").read_text() == "x\n"
    a_binary(binary, "etcd Version: 3.5.30")
    assert door.version() == "3.5.30"


def test_a_missing_binary_is_refused_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"set etcd\.binary"):
        EtcdBinary(str(tmp_path / "none")).version()


@pytest.mark.parametrize("says", ["", "busybox 1.36", "Version: 3.5.30"])
def test_a_binary_that_is_not_etcd_is_unavailable(tmp_path: Path, says: str) -> None:
    with pytest.raises(Unavailable, match="is it etcd"):
        EtcdBinary(str(a_binary(tmp_path / "etcd", says))).version()


def test_a_binary_that_cannot_be_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "etcd").write_bytes(b"\x7fELF-no")
    (tmp_path / "etcd").chmod(0o755)
    with pytest.raises(Refused, match="Exec format error"):
        EtcdBinary(str(tmp_path / "etcd")).version()


def test_start_hands_over_the_environment_and_stop_the_timeout(host: Host, supervisor: StandIn) -> None:
    launch = Launch(InstanceId("i-0a"), PeerUrl("http://10.0.0.1:2380"), "new", "t", (("i-0a", PeerUrl("u")),))
    host.start(launch)
    assert supervisor.started[0]["ETCD_NAME"] == "i-0a"
    assert supervisor.started[0]["ETCD_EXPERIMENTAL_COMPACT_HASH_CHECK_ENABLED"] == "true"
    host.stop()
    assert supervisor.stopped == [timedelta(seconds=7)]


def test_the_process_is_what_the_supervisor_says(host: Host, supervisor: StandIn) -> None:
    supervisor.now = EtcdStopped(0)
    assert host.process() == EtcdStopped(0)


# ---- what went to quarantine because etcd kept ending on it ----------------------------------------------------------


def test_what_was_set_aside_as_broken_is_dated_and_the_rest_is_not(host: Host, root: Path) -> None:
    for name in ("20260101T120000Z-g000001-generation-1-broken", "20260101T130000Z-g000002-generation-2-broken.1"):
        (root / "quarantine" / name).mkdir(parents=True)
    (root / "quarantine" / "20260101T140000Z-g000003-generation-3-fenced").mkdir()
    assert [f"{each:%H}" for each in host.disk().broken_at] == ["12", "13"]


def test_the_name_that_the_rules_give_is_the_one_that_is_found_again(host: Host, root: Path) -> None:
    with_data(root)
    host.stamp(FENCED, prepare=False)
    host.quarantine(f"generation-1-{BROKEN}")
    (at,) = host.disk().broken_at
    assert abs(SystemClock().now() - at) < timedelta(minutes=1)


def test_a_stopped_etcd_finds_nothing_in_its_way(root: Path, supervisor: StandIn, binary: Path) -> None:
    disk = DataRoot(root, SystemClock(), "b1")
    ports = EtcdSettings(disk.data, "127.0.0.1", client_port=0, metrics_port=0, peer_port=0)
    assert InstanceHost(disk, supervisor, str(binary), ports).obstacle() is None
