"""etcd as a unit of systemd's. The agent writes its environment and asks; systemd starts, stops and remembers.

The unit has to read `DATA_ROOT/etcd.env` (EnvironmentFile=) and must not restart etcd by itself (Restart=no): when a
member may start is the agent's decision, and etcd ends with 0 when it was removed. Every call has a timeout; what
systemd was asked to do is then looked up, never assumed.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

from agent.model.disk import EtcdProcess, EtcdRunning, EtcdStopped
from agent.model.faults import Refused, Unavailable
from agent.model.known import Ignorance
from agent.world import durable
from agent.world.doors import Clock

PROPERTIES = ("LoadState", "ActiveState", "SubState", "MainPID", "ExecMainStatus", "ExecMainExitTimestampMonotonic")
BINARY = "AGENT_ETCD_BINARY"
CALL_TIMEOUT = timedelta(seconds=10)
START_TIMEOUT = timedelta(seconds=10)
POLL = timedelta(milliseconds=100)
DENIALS = ("Access denied", "Permission denied", "Interactive authentication required", "Operation not permitted")
SILENCES = ("Failed to connect to bus", "System has not been booted with systemd")


class SystemdSupervisor:
    """`agent.world.supervisor.Supervisor` by way of `systemctl`."""

    def __init__(
        self,
        data_root: Path,
        clock: Clock,
        binary: str = "etcd",
        unit: str = "etcd.service",
        systemctl: str = "systemctl",
    ) -> None:
        self._environment_file = data_root / "etcd.env"
        self._clock = clock
        self._binary = binary
        self._unit = unit
        self._systemctl = systemctl

    def state(self) -> EtcdProcess:
        shown = self._show()
        pid, active = shown["MainPID"], shown["ActiveState"]
        if shown["LoadState"] not in ("loaded", "masked"):
            raise Refused(f'{self._unit} is {shown["LoadState"]}: install it, or set etcd.supervisor to "process"')
        if pid != "0":
            return EtcdRunning(int(pid))
        if shown["SubState"] == "auto-restart":
            raise Unavailable(Ignorance.OURS, f"systemd restarts {self._unit} by itself: set Restart=no in it")
        if active in ("inactive", "failed"):
            return EtcdStopped(_exit_code(shown))
        raise Unavailable(Ignorance.FAILED, f"{self._unit} is {active} ({shown['SubState']}), and has no process now")

    def start(self, environment: Mapping[str, str]) -> None:
        if isinstance(self.state(), EtcdRunning):
            raise Refused(f"{self._unit} runs already", Ignorance.FAILED)
        told = {**environment, BINARY: self._binary}  # which etcd the unit runs
        durable.write(self._environment_file, environment_file(told), mode=0o600)
        self._ask("reset-failed", self._unit)  # or a few failures in a row would be held against it
        self._ask("start", "--no-block", self._unit)
        if not self._wait(START_TIMEOUT, lambda state: isinstance(state, EtcdRunning)):
            raise Unavailable(Ignorance.TIMEOUT, f"{self._unit} was asked to start, and does not run: see journalctl")

    def stop(self, timeout: timedelta) -> None:
        """systemd sends SIGTERM, and SIGKILL after the unit's TimeoutStopSec=, which `timeout` should exceed."""
        if isinstance(self.state(), EtcdStopped):
            return
        self._ask("stop", "--no-block", self._unit)
        if not self._wait(timeout, lambda state: isinstance(state, EtcdStopped)):
            raise Unavailable(Ignorance.TIMEOUT, f"{self._unit} was asked to stop, and still runs")

    def _wait(self, timeout: timedelta, until: Callable[[EtcdProcess], bool]) -> bool:
        """Whether it came about in time. In between, systemd may be in a state that says neither."""
        for _ in range(max(1, timeout // POLL)):
            try:
                if until(self.state()):
                    return True
            except Unavailable:
                pass
            self._clock.sleep(POLL)
        return False

    # ---- systemctl -------------------------------------------------------------------------------------------------

    def _show(self) -> dict[str, str]:
        said = self._ask("show", f"--property={','.join(PROPERTIES)}", self._unit)
        shown = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
        if not shown.keys() >= {"LoadState", "ActiveState", "SubState", "MainPID"} or not shown["MainPID"].isdecimal():
            raise Unavailable(Ignorance.MALFORMED, f"systemctl show {self._unit} said: {said.strip()[:200]!r}")
        return shown

    def _ask(self, verb: str, *arguments: str) -> str:
        command = [self._systemctl, verb, *arguments]
        doing = f"systemctl {verb} {self._unit}"
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=CALL_TIMEOUT.total_seconds(),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(Ignorance.TIMEOUT, f"{doing} did not answer in time") from error
        except OSError as error:
            raise durable.refused(doing, error) from error
        if done.returncode != 0 and verb != "reset-failed":
            raise _trouble(doing, " ".join(done.stderr.split()))
        return done.stdout


def _trouble(doing: str, said: str) -> Refused | Unavailable:
    if any(denial in said for denial in DENIALS):
        return Refused(f"{doing} was denied ({said}): the package's polkit rule allows it to the user etcd")
    if any(silence in said for silence in SILENCES):
        return Unavailable(Ignorance.UNREACHABLE, f"{doing}: {said}")
    if "not found" in said or "not loaded" in said or "masked" in said:
        return Refused(f"{doing}: {said}", Ignorance.OURS)
    return Unavailable(Ignorance.FAILED, f"{doing}: {said or 'failed without a word'}")


def _exit_code(shown: Mapping[str, str]) -> int | None:
    """Of the last run. systemd shows 0 for a unit that never ran, too; then nobody saw it end."""
    status = shown.get("ExecMainStatus", "")
    never_ran = shown.get("ExecMainExitTimestampMonotonic", "0") == "0"
    return int(status) if status.isdecimal() and not never_ran else None


def environment_file(environment: Mapping[str, str]) -> str:
    """In systemd's syntax (systemd.exec, EnvironmentFile=): double quotes, in which four characters are escaped."""
    return "".join(f'{name}="{_escaped(name, value)}"\n' for name, value in sorted(environment.items()))


def _escaped(name: str, value: str) -> str:
    if any(character in value for character in "\n\r\0"):
        raise Refused(f"{name} has more than one line: systemd could not read it", Ignorance.OURS)
    return "".join(f"\\{character}" if character in '"\\`$' else character for character in value)
