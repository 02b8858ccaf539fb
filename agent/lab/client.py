"""Lab: what tests, the demo and the command line do to a cloud in a box.

House rules: every method either did what its name says or raises LabError with one line for a person; instance IDs may
be abbreviated as long as they stay unambiguous; nothing here remembers what the daemon knows.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import agent
from agent.lab import processes, sweep
from agent.lab.members import ClientTls
from agent.lab.spec import LabError, LabSpec

READY_WITHIN_S = 60.0
DOWN_WITHIN_S = 20.0
CONTROL_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Instance:
    """One instance as the lab sees it from outside."""

    id: str
    group: str
    zone: str
    address: str
    state: str
    """EC2's word: pending, running, shutting-down, terminated, stopping, stopped."""
    lifecycle: str
    """Auto Scaling's word: Pending, Pending:Wait, ..., InService, ..., or empty outside any group."""
    health: str
    powered: bool
    frozen: bool
    isolated: bool
    agent_pid: int | None
    agent_starts: int
    agent_exit: int | None
    """How the agent last ended: its exit code, negative for a signal."""
    etcd_pids: tuple[int, ...]
    folder: Path

    @property
    def log(self) -> Path:
        """What the agent wrote to its standard output and error."""
        return self.folder / "agent.log"

    @property
    def disk(self) -> Path:
        """The agent's data root; it outlives the instance until the lab goes down."""
        return self.folder / "disk"

    @property
    def living(self) -> bool:
        """Whether EC2 would still start or run it."""
        return self.state not in ("shutting-down", "terminated")


class Lab:
    """A running lab."""

    def __init__(self, folder: Path, state: Mapping[str, Any], daemon: subprocess.Popen[bytes] | None = None) -> None:
        self.folder = folder
        self.endpoint: str = state["endpoint"]
        self.region: str = state["region"]
        self.pid: int = state["pid"]
        self._daemon = daemon
        if daemon is not None:  # whoever ends it and whenever: somebody must collect what is left of a child
            threading.Thread(target=daemon.wait, name="lab-daemon", daemon=True).start()
        self.tls: ClientTls | None = None
        """By which its members are asked; None: they speak no TLS."""
        self._clients: dict[str, Any] = {}

    # ---- coming and going ----

    @classmethod
    def start(cls, spec: LabSpec, folder: Path, *, lifeline: bool = False) -> Lab:
        """Bring a lab up in a folder. With `lifeline` it ends by itself when this process does, however it dies."""
        folder = folder.resolve()
        _refuse_if_up(folder)
        _require_tools(spec)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / sweep.SPEC).write_text(spec.to_json())
        daemon = _spawn(folder, lifeline=lifeline)
        try:
            return cls(folder, _wait_ready(folder, daemon), daemon)
        except BaseException:
            _end(daemon)
            sweep.end_processes(folder)
            sweep.remove_files(folder)
            raise

    @classmethod
    def attach(cls, folder: Path) -> Lab:
        """The lab that runs in a folder. Raises LabError if none does."""
        folder = folder.resolve()
        state = sweep.read_state(folder)
        if state is None:
            raise LabError(f"no lab is up in {folder}: run `lab up` first")
        if not processes.alive(state["pid"]):
            raise LabError(f"the lab in {folder} died (see {folder / sweep.LOG}): run `lab down` to clean up")
        return cls(folder, state)

    def down(self, *, keep_files: bool = False) -> None:
        """End every process of the lab and, unless told otherwise, remove every file."""
        try:
            self._call("POST", "/lab/down")
        except LabError:
            processes.send(self.pid, signal.SIGTERM)
        self._await_end()
        _clear_away(self.folder, keep_files=keep_files)

    def _await_end(self) -> None:
        deadline = time.monotonic() + DOWN_WITHIN_S
        while self._is_alive():
            if time.monotonic() > deadline:
                processes.send(self.pid, signal.SIGKILL)
            time.sleep(0.02)
        if self._daemon is not None:
            self._daemon.wait()
            if self._daemon.stdin is not None:
                self._daemon.stdin.close()

    def _is_alive(self) -> bool:
        return self._daemon.poll() is None if self._daemon is not None else processes.alive(self.pid)

    # ---- looking ----

    def status(self) -> dict[str, Any]:
        """Everything the daemon knows, as JSON."""
        found: dict[str, Any] = self._call("GET", "/lab/status")
        return found

    def instances(self, *, all: bool = False) -> tuple[Instance, ...]:  # noqa: A002 - reads as what it means
        """The living instances in order of launch; with `all`, also those that EC2 still shows as terminated."""
        found = [_instance(raw) for raw in self.status()["instances"]]
        return tuple(instance for instance in found if all or instance.living)

    def instance(self, instance_id: str) -> Instance:
        """One instance, living or not, by its ID or an unambiguous part of it."""
        found = self.instances(all=True)
        exact = [instance for instance in found if instance.id == instance_id]
        matching = exact or [instance for instance in found if instance_id in instance.id]
        if len(matching) != 1:
            raise LabError(_which(instance_id, matching or found, known=bool(matching)))
        return matching[0]

    def addresses(self) -> tuple[str, ...]:
        """The addresses of the machines that have power."""
        return tuple(instance.address for instance in self.instances() if instance.powered)

    def calls(self, since: int = 0) -> list[dict[str, Any]]:
        """The AWS calls after a sequence number: seq, at, service, operation, caller, status, resource, fault."""
        found: list[dict[str, Any]] = self._call("GET", f"/lab/calls?since={since}")
        return found

    def last_call(self) -> int:
        """The sequence number of the newest call, to count from."""
        calls = self.calls()
        return int(calls[-1]["seq"]) if calls else 0

    def counters(self) -> list[dict[str, Any]]:
        """How often each (service, operation, caller, status) was called."""
        found: list[dict[str, Any]] = self._call("GET", "/lab/counters")
        return found

    def aws(self, service: str) -> Any:
        """A boto3 client of the emulated AWS, as its operator."""
        if service not in self._clients:
            from agent.lab.foundation import client

            self._clients[service] = client(service, self.endpoint)
        return self._clients[service]

    # ---- instances ----

    def terminate(self, instance_id: str) -> str:
        """EC2 TerminateInstances: power off, for ever. Returns the full ID, as every verb does."""
        return self._ec2(instance_id, "terminate_instances")

    def stop(self, instance_id: str) -> str:
        """EC2 StopInstances, with the group told not to replace it, as an operator would."""
        found = self.instance(instance_id)
        if found.group:
            self.aws("autoscaling").suspend_processes(
                AutoScalingGroupName=found.group, ScalingProcesses=["HealthCheck", "ReplaceUnhealthy"]
            )
        return self._ec2(found.id, "stop_instances")

    def start_again(self, instance_id: str) -> str:
        """EC2 StartInstances; when nothing in its group is stopped any more, the group looks after it again."""
        found = self.instance(instance_id)
        self._ec2(found.id, "start_instances")
        stopped = [other for other in self.instances() if other.group == found.group and other.state == "stopped"]
        if found.group and not stopped:
            self.aws("autoscaling").resume_processes(
                AutoScalingGroupName=found.group, ScalingProcesses=["HealthCheck", "ReplaceUnhealthy"]
            )
        return found.id

    def _ec2(self, instance_id: str, operation: str) -> str:
        found = self.instance(instance_id)
        if not found.living:
            raise LabError(f"{found.id} is {found.state}")
        getattr(self.aws("ec2"), operation)(InstanceIds=[found.id])
        return found.id

    def act(self, instance_id: str, verb: str) -> str:
        """One verb of the control API: kill-agent, kill-etcd, reboot, wipe, freeze, thaw, ..."""
        found = self.instance(instance_id).id
        self._call("POST", f"/lab/instances/{found}/{verb}")
        return found

    def kill_agent(self, instance_id: str) -> str:
        """SIGKILL to the agent alone; it is started again after the backoff."""
        return self.act(instance_id, "kill-agent")

    def stop_agent(self, instance_id: str) -> str:
        """SIGTERM to the agent, which stays stopped."""
        return self.act(instance_id, "stop-agent")

    def start_agent(self, instance_id: str) -> str:
        """Start a stopped agent."""
        return self.act(instance_id, "start-agent")

    def kill_etcd(self, instance_id: str) -> str:
        """SIGKILL to etcd alone."""
        return self.act(instance_id, "kill-etcd")

    def reboot(self, instance_id: str, *, address_changed: bool = False) -> str:
        """Power off and on, with the disk; under another address if wanted."""
        return self.act(instance_id, "move" if address_changed else "reboot")

    def wipe(self, instance_id: str) -> str:
        """Power off, lose the disk, power on."""
        return self.act(instance_id, "wipe")

    def isolate(self, instance_id: str) -> str:
        """Cut it off from the others and from AWS. LabError if this computer cannot do that (root and nft)."""
        return self.act(instance_id, "isolate")

    def heal(self, instance_id: str) -> str:
        """Undo `isolate`."""
        return self.act(instance_id, "heal")

    def freeze(self, instance_id: str) -> str:
        """SIGSTOP to everything on it."""
        return self.act(instance_id, "freeze")

    def thaw(self, instance_id: str) -> str:
        """Undo `freeze`."""
        return self.act(instance_id, "thaw")

    # ---- the fleet ----

    def scale(self, instances: int) -> None:
        """Set the desired capacity, spread over the groups."""
        from botocore.exceptions import ClientError

        from agent.lab.spec import shares

        groups = tuple(self.status()["groups"])
        try:
            for group, size in zip(groups, shares(instances, len(groups)), strict=True):
                self.aws("autoscaling").set_desired_capacity(AutoScalingGroupName=group, DesiredCapacity=size)
        except ClientError as error:
            raise LabError(error.response["Error"].get("Message", str(error))) from None

    # ---- weather and pace ----

    def fault(self, **fault: Any) -> str:
        """Begin a fault (the fields of `weather.Fault`); returns its ID."""
        return str(self._call("POST", "/lab/faults", fault)["id"])

    def clear_faults(self, fault_id: str | None = None) -> int:
        """End one fault, or all; returns how many ended."""
        return int(self._call("DELETE", f"/lab/faults/{fault_id}" if fault_id else "/lab/faults")["ended"])

    @contextmanager
    def weather(self, **fault: Any) -> Iterator[str]:
        """A fault for the length of a `with` block."""
        fault_id = self.fault(**fault)
        try:
            yield fault_id
        finally:
            self.clear_faults(fault_id)

    def imds(self, instance_id: str, path: str, value: str | None) -> None:
        """Let an instance's IMDS say `value` (None: 404) at a path below /latest/."""
        self._imds(instance_id, {"path": path, "value": value})

    def imds_restore(self, instance_id: str, path: str) -> None:
        """Let the cloud speak again at that path."""
        self._imds(instance_id, {"path": path, "restore": True})

    def imds_fault(self, instance_id: str, fault: str | None) -> None:
        """Break an instance's IMDS: "error" (500), "hang", "refuse", or None to mend it."""
        self._imds(instance_id, {"fault": fault})

    def spot_notice(self, instance_id: str, action: str = "terminate", at: str = "2030-01-01T00:00:00Z") -> None:
        """Announce a spot interruption in IMDS."""
        self.imds(instance_id, "meta-data/spot/instance-action", json.dumps({"action": action, "time": at}))

    def interrupt(self, instance_id: str, seconds: float = 120.0, action: str = "terminate") -> str:
        """EC2 takes a spot instance back: a notice now, and so many seconds later it is terminated (or stopped)."""
        found = self.instance(instance_id).id
        self._call("POST", f"/lab/instances/{found}/interrupt", {"action": action, "seconds": seconds})
        return found

    def recommend_rebalance(self, instance_id: str) -> str:
        """EC2 recommends to replace a spot instance; nothing follows from it."""
        found = self.instance(instance_id).id
        self._call("POST", f"/lab/instances/{found}/interrupt", {"action": "rebalance"})
        return found

    def _imds(self, instance_id: str, body: dict[str, Any]) -> None:
        self._call("POST", f"/lab/instances/{self.instance(instance_id).id}/imds", body)

    def change(self, **wanted: Any) -> None:
        """`pace={...}`, `settings={...}`, `environment={...}`, `agent_command=[...]`, `honours_preconditions=bool`."""
        self._call("POST", "/lab/change", wanted)

    # ---- etcd ----

    def etcdctl(
        self, *arguments: str, timeout_s: float = 30.0, capture: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run etcdctl against every machine that has power."""
        status = self.status()
        scheme = "http" if self.tls is None else "https"
        endpoints = ",".join(f"{scheme}://{address}:2379" for address in self.addresses())
        if not endpoints:
            raise LabError("no machine has power: there is nobody to ask")
        command = [_etcdctl_beside(status["etcd"]), f"--endpoints={endpoints}", *_flags(self.tls), *arguments]
        try:
            return subprocess.run(
                command,
                env={"PATH": os.environ.get("PATH", ""), "ETCDCTL_API": "3"},
                capture_output=capture,
                text=True,
                check=False,
                timeout=timeout_s,
            )
        except FileNotFoundError:
            raise LabError(f"there is no {command[0]}: install etcd's client, or pass --etcd") from None
        except subprocess.TimeoutExpired:
            raise LabError(f"etcdctl did not end within {timeout_s:g} s") from None

    # ---- waiting ----

    def wait_for(self, what: str, done: Callable[[Lab], bool], within_s: float = 30.0) -> float:
        """Wait until something holds; returns the seconds it took. LabError names what did not come about."""
        began = time.monotonic()
        while not done(self):
            if time.monotonic() - began > within_s:
                raise LabError(f"not within {within_s:g} s: {what}")
            time.sleep(0.05)
        return time.monotonic() - began

    def wait_agents(self, count: int | None = None, within_s: float = 30.0) -> float:
        """Wait until `count` agents (default: the desired capacity) were started."""
        wanted = sum(self.status()["groups"].values()) if count is None else count
        return self.wait_for(
            f"{wanted} agents started",
            lambda lab: sum(instance.agent_starts > 0 for instance in lab.instances()) >= wanted,
            within_s,
        )

    # ---- the wire ----

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        where = urlsplit(self.endpoint)
        assert where.hostname is not None
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=CONTROL_PATIENCE_S)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            answer = connection.getresponse()
            said = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise LabError(f"the lab's daemon does not answer ({error}): see {self.folder / sweep.LOG}") from None
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise LabError(said["error"])
        return said


def clean_up(folder: Path) -> bool:
    """Take down whatever is in a folder, dead or alive; whether there was anything."""
    folder = folder.resolve()
    state = sweep.read_state(folder)
    if state is not None and processes.alive(state["pid"]):
        Lab(folder, state).down()
        return True
    existed = any((folder / name).exists() for name in sweep.OURS)
    _clear_away(folder, keep_files=False)
    return existed


def _clear_away(folder: Path, *, keep_files: bool) -> None:
    if not sweep.end_processes(folder):
        raise LabError(f"some processes of the lab in {folder} would not die")
    if keep_files:
        (folder / sweep.STATE).unlink(missing_ok=True)
    else:
        sweep.remove_files(folder)


def _refuse_if_up(folder: Path) -> None:
    state = sweep.read_state(folder)
    if state is None:
        return
    if processes.alive(state["pid"]):
        raise LabError(f"a lab is already up in {folder} ({state['endpoint']}): `lab down` ends it")
    raise LabError(f"a lab died in {folder}: `lab down` cleans up after it")


def _require_tools(spec: LabSpec) -> None:
    if shutil.which(spec.etcd) is None:
        raise LabError(f"there is no {spec.etcd}: install etcd or pass --etcd PATH")
    missing = [name for name in ("moto", "flask", "flask_cors") if not _importable(name)]
    if missing:
        raise LabError(f"the lab needs {', '.join(missing)}: pip install 'etcd-asg-agent[lab]'")


def _importable(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def _spawn(folder: Path, *, lifeline: bool) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "agent.lab.cloud", str(folder), *(["--lifeline"] if lifeline else [])]
    root = str(Path(agent.__file__).resolve().parent.parent)
    with (folder / sweep.LOG).open("wb") as log:
        return subprocess.Popen(
            command,
            env=_daemon_environment() | {"PYTHONPATH": root},
            stdin=subprocess.PIPE if lifeline else subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _daemon_environment() -> dict[str, str]:
    """Ours, without anything that could lead an AWS client or a proxy off loopback."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "MOTO_")) and not name.lower().endswith("_proxy")
    }
    return kept | {"AWS_EC2_METADATA_DISABLED": "true"}


def _wait_ready(folder: Path, daemon: subprocess.Popen[bytes]) -> dict[str, Any]:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        state = sweep.read_state(folder)
        if state is not None:
            return state
        if daemon.poll() is not None:
            lines = (folder / sweep.LOG).read_text().strip().splitlines() or ["it said nothing"]
            raise LabError(f"the lab did not come up: {lines[-1].removeprefix('lab: ')}")
        time.sleep(0.02)
    raise LabError(f"the lab did not come up within {READY_WITHIN_S:g} s")


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(DOWN_WITHIN_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
    if daemon.stdin is not None:
        daemon.stdin.close()


def _instance(raw: Mapping[str, Any]) -> Instance:
    values = {entry.name: raw[entry.name] for entry in fields(Instance)}
    return Instance(**{**values, "etcd_pids": tuple(raw["etcd_pids"]), "folder": Path(raw["folder"])})


def _which(instance_id: str, candidates: list[Instance] | tuple[Instance, ...], *, known: bool) -> str:
    names = ", ".join(instance.id for instance in candidates) or "none"
    return f"{instance_id} could be {names}" if known else f"no instance {instance_id}; there are: {names}"


def _flags(tls: ClientTls | None) -> list[str]:
    return [] if tls is None else [f"--cacert={tls.ca}", f"--cert={tls.cert}", f"--key={tls.key}"]


def _etcdctl_beside(etcd: str) -> str:
    beside = Path(etcd).with_name("etcdctl")
    return str(beside) if "/" in etcd and beside.exists() else "etcdctl"
