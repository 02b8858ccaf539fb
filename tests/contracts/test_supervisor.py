"""Both supervisors: one etcd at most, found again by the next agent, and never guessed at.

The process supervisor runs a stand-in for etcd that can be slow or deaf; systemd's is asked through a stand-in
`systemctl`, whose answers lie in a file and which writes down what it was asked.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from agent.model.disk import EtcdRunning, EtcdStopped
from agent.model.faults import Refused, Unavailable
from agent.model.known import Ignorance
from agent.world.clock import SystemClock
from agent.world.supervisor_process import ProcessSupervisor
from agent.world.supervisor_systemd import SystemdSupervisor, environment_file
from tests.contracts.dying import deaths

PATIENT = timedelta(seconds=10)
ETCD = f"""#!{sys.executable} -SE
import os, signal, sys, time
with open("started", "a") as file:
    print(os.getpid(), file=file)
if "STUB_EXIT" in os.environ:
    sys.exit(int(os.environ["STUB_EXIT"]))
if "STUB_DEAF" in os.environ:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open("environment", "w") as file:
    print(*sorted(f"{{key}}={{value}}" for key, value in os.environ.items()), sep="\\n", file=file)
print("I am etcd", flush=True)
time.sleep(60)
"""


def within(seconds: float, holds: Callable[[], object]) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "root"
    root.mkdir()
    binary = tmp_path / "etcd"
    binary.write_text(ETCD)
    binary.chmod(0o755)
    yield root
    for pid in started(root):
        if is_stub(pid, root):
            os.kill(pid, signal.SIGKILL)
    for each in agents:
        assert within(10, partial(stopped, each))
    agents.clear()


def stopped(supervisor: ProcessSupervisor) -> bool:
    return isinstance(supervisor.state(), EtcdStopped)


def started(root: Path) -> list[int]:
    """Every stand-in that ever ran here."""
    try:
        return [int(line) for line in (root / "started").read_text().split()]
    except FileNotFoundError:
        return []


def is_stub(pid: int, root: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").resolve() == root.resolve()
    except OSError:
        return False


agents: list[ProcessSupervisor] = []
"""Those of this test; a child that nobody waits for would stay a zombie until the tests end."""


def agent(root: Path) -> ProcessSupervisor:
    agents.append(ProcessSupervisor(str(root.parent / "etcd"), root, root / "etcd.log", SystemClock()))
    return agents[-1]


def environment(root: Path, **more: str) -> dict[str, str]:
    return {"ETCD_DATA_DIR": str(root / "data"), **more}


def wait_until_it_runs(root: Path, times: int = 1) -> None:
    assert within(10, lambda: len(started(root)) == times)


# ---- a process of the agent's --------------------------------------------------------------------------------------


def test_before_the_first_start_nothing_runs(root: Path) -> None:
    assert agent(root).state() == EtcdStopped(None)
    agent(root).stop(PATIENT)


def test_start_run_stop(root: Path) -> None:
    supervisor = agent(root)
    supervisor.start(environment(root))
    wait_until_it_runs(root)
    assert supervisor.state() == EtcdRunning(started(root)[0])
    assert within(5, lambda: "I am etcd" in (root / "etcd.log").read_text())
    supervisor.stop(PATIENT)
    assert supervisor.state() == EtcdStopped(-signal.SIGTERM)


def test_it_is_a_child_of_its_own_session_and_knows_only_what_it_is_told(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("ETCD_NAME", "the agent's own")
    agent(root).start(environment(root, ETCD_ELECTION_TIMEOUT="1000"))
    wait_until_it_runs(root)
    pid = started(root)[0]
    assert os.getsid(pid) == pid
    assert within(5, lambda: "ETCD_ELECTION_TIMEOUT=1000" in (root / "environment").read_text())
    told = (root / "environment").read_text()
    assert "PATH=" in told
    assert "AWS_" not in told
    assert "ETCD_NAME" not in told


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_exit_code_of_our_own_child_is_known_and_it_leaves_no_zombie(root: Path, code: int) -> None:
    supervisor = agent(root)
    supervisor.start(environment(root, STUB_EXIT=str(code)))
    assert within(10, lambda: supervisor.state() == EtcdStopped(code))
    assert not Path(f"/proc/{started(root)[0]}").exists()
    supervisor.start(environment(root, STUB_EXIT=str(code)))


def test_the_next_agent_adopts_it_and_can_stop_it(root: Path) -> None:
    agent(root).start(environment(root))
    wait_until_it_runs(root)
    second = agent(root)
    assert second.state() == EtcdRunning(started(root)[0])
    second.stop(PATIENT)
    assert second.state() == EtcdStopped(None)


@pytest.mark.parametrize("hint", ["", "not a number", "1", "OURS", "999999999"])
def test_it_is_found_whatever_the_lock_file_says(root: Path, hint: str) -> None:
    agent(root).start(environment(root))
    wait_until_it_runs(root)
    (root / "etcd.lock").write_text(hint.replace("OURS", str(os.getpid())))
    assert agent(root).state() == EtcdRunning(started(root)[0])


def test_a_number_that_now_means_another_process_is_never_believed(root: Path) -> None:
    other = subprocess.Popen(["sleep", "30"])
    try:
        (root / "etcd.lock").write_text(f"{other.pid}\n")
        assert agent(root).state() == EtcdStopped(None)
        agent(root).stop(PATIENT)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_second_start_is_refused_while_the_first_runs(root: Path) -> None:
    supervisor = agent(root)
    supervisor.start(environment(root))
    wait_until_it_runs(root)
    for each in (supervisor, agent(root)):
        with pytest.raises(Refused, match="already"):
            each.start(environment(root))
    assert len(started(root)) == 1


def test_looking_never_gets_in_the_way_of_a_start(root: Path) -> None:
    supervisors = [agent(root) for _ in range(3)]
    agent(root).start(environment(root, STUB_EXIT="0"))
    for number in range(2, 12):
        assert within(10, lambda: isinstance(supervisors[0].state(), EtcdStopped))
        supervisors[number % 3].start(environment(root, STUB_EXIT="0"))
        wait_until_it_runs(root, number)


def test_an_etcd_that_is_deaf_is_killed_after_its_time(root: Path) -> None:
    supervisor = agent(root)
    supervisor.start(environment(root, STUB_DEAF="1"))
    assert within(10, (root / "environment").exists)
    before = time.monotonic()
    supervisor.stop(timedelta(seconds=0.5))
    assert 0.5 <= time.monotonic() - before < 5
    assert supervisor.state() == EtcdStopped(-signal.SIGKILL)


def test_an_etcd_that_is_frozen_is_killed_after_its_time(root: Path) -> None:
    supervisor = agent(root)
    supervisor.start(environment(root))
    wait_until_it_runs(root)
    os.kill(started(root)[0], signal.SIGSTOP)
    assert supervisor.state() == EtcdRunning(started(root)[0])
    supervisor.stop(timedelta(seconds=0.3))
    assert isinstance(supervisor.state(), EtcdStopped)


def test_a_binary_that_is_missing_or_cannot_run_is_refused(root: Path) -> None:
    (root.parent / "etcd").write_bytes(b"\x7fELF-no")
    with pytest.raises(Refused, match="Exec format error"):
        agent(root).start(environment(root))
    (root.parent / "etcd").unlink()
    with pytest.raises(Refused, match=r"set etcd\.binary"):
        agent(root).start(environment(root))
    assert agent(root).state() == EtcdStopped(None)


def test_a_log_that_cannot_be_written_is_refused(root: Path) -> None:
    (root / "etcd.log").mkdir()
    with pytest.raises(Refused, match="Is a directory"):
        agent(root).start(environment(root))
    assert agent(root).state() == EtcdStopped(None)


START = """
from tests.contracts.test_supervisor import agent, environment
from pathlib import Path
root = Path(root)
supervisor = agent(root)
GO:
supervisor.start(environment(root))
"""


def test_an_agent_that_is_killed_at_any_step_of_a_start_never_leads_to_two(root: Path) -> None:
    states = set()
    for _ in deaths(START, root):
        following = agent(root)
        assert within(10, partial(knows, following))  # just forked, it has no environment of its own yet
        was = following.state()
        if isinstance(was, EtcdRunning):
            with pytest.raises(Refused):
                following.start(environment(root))
        else:
            following.start(environment(root))
        wait_until_it_runs(root)
        assert following.state() == EtcdRunning(started(root)[0])
        states.add(type(was))
        following.stop(PATIENT)
        (root / "started").unlink()
    assert states == {EtcdStopped, EtcdRunning}


def knows(supervisor: ProcessSupervisor) -> bool:
    try:
        supervisor.state()
    except Unavailable:
        return False
    return True


def test_an_etcd_outlives_the_agent_that_started_it(root: Path) -> None:
    script = START.replace("GO:", "") + "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    done = subprocess.run([sys.executable, "-c", f"root = {str(root)!r}\n{script}"], check=False, env={
        **os.environ, "PYTHONPATH": "."}, cwd=Path(__file__).parents[2])  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    wait_until_it_runs(root)
    assert agent(root).state() == EtcdRunning(started(root)[0])


# ---- systemd -------------------------------------------------------------------------------------------------------

SYSTEMCTL = """#!/bin/sh
cd "$(dirname "$0")"
echo "$*" >> asked
[ -e "slow-$1" ] && sleep 30
if [ -e "error-$1" ]; then cat "error-$1" >&2; exit 1; fi
case "$1" in
show) cat state ;;
start | stop) [ -e "then-$1" ] && cp "then-$1" state ;;
esac
exit 0
"""
RUNNING = {"ActiveState": "active", "SubState": "running", "MainPID": "4711"}
NEVER_RAN = {
    "LoadState": "loaded",
    "ActiveState": "inactive",
    "SubState": "dead",
    "MainPID": "0",
    "ExecMainStatus": "0",
    "ExecMainExitTimestampMonotonic": "0",
}
ENDED = {"ExecMainExitTimestampMonotonic": "123456"}


class Systemctl:
    """What systemd would say, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "systemctl"
        self.path.write_text(SYSTEMCTL)
        self.path.chmod(0o755)
        self.says()

    def says(self, file: str = "state", **properties: str) -> None:
        (self.folder / file).write_text("".join(f"{key}={value}\n" for key, value in (NEVER_RAN | properties).items()))

    def fails(self, verb: str, words: str) -> None:
        (self.folder / f"error-{verb}").write_text(words)

    def asked(self) -> list[str]:
        lines = (self.folder / "asked").read_text().splitlines()
        return [line for line in lines if not line.startswith("show")]

    def door(self) -> SystemdSupervisor:
        return SystemdSupervisor(self.folder, SystemClock(), systemctl=str(self.path))


@pytest.fixture
def systemctl(tmp_path: Path) -> Systemctl:
    return Systemctl(tmp_path)


def test_a_unit_that_never_ran(systemctl: Systemctl) -> None:
    assert systemctl.door().state() == EtcdStopped(None)


@pytest.mark.parametrize("active", ["active", "activating", "deactivating", "reloading"])
def test_a_unit_with_a_process_runs(systemctl: Systemctl, active: str) -> None:
    systemctl.says(ActiveState=active, SubState="start", MainPID="4711")
    assert systemctl.door().state() == EtcdRunning(4711)


@pytest.mark.parametrize(("active", "code"), [("inactive", 0), ("failed", 1), ("failed", 9)])
def test_the_exit_code_of_a_unit_that_ended(systemctl: Systemctl, active: str, code: int) -> None:
    systemctl.says(ActiveState=active, ExecMainStatus=str(code), **ENDED)
    assert systemctl.door().state() == EtcdStopped(code)


@pytest.mark.parametrize("load", ["not-found", "bad-setting", "error"])
def test_a_unit_that_is_not_there_is_refused(systemctl: Systemctl, load: str) -> None:
    systemctl.says(LoadState=load)
    with pytest.raises(Refused, match=f"etcd.service is {load}"):
        systemctl.door().state()


def test_a_unit_that_restarts_by_itself_is_told_of(systemctl: Systemctl) -> None:
    systemctl.says(ActiveState="activating", SubState="auto-restart")
    with pytest.raises(Unavailable, match="Restart=no"):
        systemctl.door().state()


def test_a_unit_between_two_states_is_unknown_and_not_stopped(systemctl: Systemctl) -> None:
    systemctl.says(ActiveState="activating", SubState="start-pre")
    with pytest.raises(Unavailable):
        systemctl.door().state()


@pytest.mark.parametrize("text", ["", "hello", "LoadState=loaded\n", "MainPID=x\n"])
def test_an_answer_that_makes_no_sense_is_unknown(systemctl: Systemctl, text: str) -> None:
    (systemctl.folder / "state").write_text(text)
    with pytest.raises(Unavailable) as raised:
        systemctl.door().state()
    assert raised.value.unknown.why is Ignorance.MALFORMED


def test_a_start_writes_the_environment_first_and_waits_for_a_process(systemctl: Systemctl) -> None:
    systemctl.says("then-start", **RUNNING)
    door = systemctl.door()
    door.start({"ETCD_NAME": "i-0a", "ETCD_DATA_DIR": "/var/lib/etcd/data"})
    assert systemctl.asked() == ["reset-failed etcd.service", "start --no-block etcd.service"]
    file = systemctl.folder / "etcd.env"
    told = ['AGENT_ETCD_BINARY="etcd"', 'ETCD_DATA_DIR="/var/lib/etcd/data"', 'ETCD_NAME="i-0a"']
    assert file.read_text().splitlines() == told
    assert file.stat().st_mode & 0o777 == 0o600
    assert door.state() == EtcdRunning(4711)


def test_a_start_while_it_runs_is_refused_and_changes_nothing(systemctl: Systemctl) -> None:
    systemctl.says(**RUNNING)
    with pytest.raises(Refused, match="already"):
        systemctl.door().start({})
    assert systemctl.asked() == []
    assert not (systemctl.folder / "etcd.env").exists()


def test_a_stop_waits_for_the_end(systemctl: Systemctl) -> None:
    systemctl.says(**RUNNING)
    systemctl.says("then-stop", **ENDED)
    door = systemctl.door()
    door.stop(PATIENT)
    assert systemctl.asked() == ["stop --no-block etcd.service"]
    assert door.state() == EtcdStopped(0)
    door.stop(PATIENT)
    assert len(systemctl.asked()) == 1


def test_a_stop_that_does_not_come_about_is_unknown(systemctl: Systemctl) -> None:
    systemctl.says(**RUNNING)
    with pytest.raises(Unavailable, match="still runs"):
        systemctl.door().stop(timedelta(seconds=0.3))


@pytest.mark.parametrize(
    "words", ["Failed to start etcd.service: Access denied", "Interactive authentication required."]
)
@pytest.mark.parametrize("verb", ["start", "stop"])
def test_what_we_may_not_is_refused_with_a_hint(systemctl: Systemctl, verb: str, words: str) -> None:
    systemctl.fails(verb, words)
    door = systemctl.door()
    if verb == "stop":
        systemctl.says(**RUNNING)
    with pytest.raises(Refused, match="polkit"):
        door.start({}) if verb == "start" else door.stop(PATIENT)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Failed to connect to bus: No such file or directory", Unavailable),
        ("System has not been booted with systemd as init system (PID 1). Can't operate.", Unavailable),
        ("Failed to start etcd.service: Unit etcd.service not found.", Refused),
        ("Failed to start etcd.service: Unit etcd.service is masked.", Refused),
        ("something new", Unavailable),
    ],
)
def test_systemctls_errors_are_told_apart(systemctl: Systemctl, words: str, kind: type[Exception]) -> None:
    systemctl.fails("start", words)
    with pytest.raises(kind):
        systemctl.door().start({})


def test_a_systemctl_that_does_not_answer_is_unknown(systemctl: Systemctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.world.supervisor_systemd.CALL_TIMEOUT", timedelta(seconds=0.3))
    (systemctl.folder / "slow-show").touch()
    with pytest.raises(Unavailable) as raised:
        systemctl.door().state()
    assert raised.value.unknown.why is Ignorance.TIMEOUT


def test_without_systemd_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="No such file"):
        SystemdSupervisor(tmp_path, SystemClock(), systemctl=str(tmp_path / "none")).state()


def test_the_environment_file_is_quoted_as_systemd_reads_it() -> None:
    assert environment_file({"A": "plain"}) == 'A="plain"\n'
    assert environment_file({"A": 'a "b" \\ $c `d` #e'}) == 'A="a \\"b\\" \\\\ \\$c \\`d\\` #e"\n'
    with pytest.raises(Refused, match="more than one line"):
        environment_file({"A": "a\nETCD_FORCE_NEW_CLUSTER=true"})
