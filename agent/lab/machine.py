"""One machine: the folder, the address and the processes that an EC2 instance is, while it has power.

House rules: the agent is started exactly as systemd would start it on a real instance and is told nothing more; losing
power is SIGKILL to everything at once; the disk survives everything but `wipe`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import agent
from agent.lab import processes
from agent.lab.addresses import group_id_of
from agent.lab.imds import Metadata
from agent.lab.spec import IMDS_PORT, REGION, LabSpec
from agent.lab.toml import render

ETCD_PORT, PEER_PORT, HTTP_PORT = 2379, 2380, 9379
NO_RESTART = frozenset({0, 2})
"""Exit codes after which systemd would leave the agent alone: done, and wrong settings."""


@dataclass
class Machine:
    """What the lab knows of one machine. Times are monotonic seconds."""

    instance: str
    address: str
    zone: str
    folder: Path
    endpoint: str
    spec: LabSpec
    metadata: Metadata
    told: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The agent's settings in the instance's user data, section by section."""
    etcd: str = "etcd"
    """The one in the image that it was launched from."""
    powered: bool = False
    frozen: bool = False
    agent_held: bool = False
    """The operator stopped the agent (`systemctl stop`): do not start it again."""
    start_at: float = 0.0
    agent: subprocess.Popen[bytes] | None = None
    starts: int = 0
    last_exit: int | None = None
    _log: Any = field(default=None, repr=False)

    @property
    def config(self) -> Path:
        """The agent's configuration file."""
        return self.folder / "config.toml"

    @property
    def disk(self) -> Path:
        """The agent's data root."""
        return self.folder / "disk"

    # ---- power ----

    def power_on(self, now: float) -> None:
        """Boot: the agent starts after the boot delay."""
        self.disk.mkdir(parents=True, exist_ok=True)
        self.config.write_text(render(self.configuration()))
        self.powered, self.frozen, self.agent_held = True, False, False
        self.start_at = now + self.spec.pace.boot_s

    def power_off(self) -> None:
        """Everything ends at once, as when the plug is pulled."""
        self.powered = self.frozen = False
        processes.kill_all([self.instance])
        self._reap()

    def wipe(self) -> None:
        """A new, empty disk; the machine must have no power."""
        assert not self.powered
        shutil.rmtree(self.disk, ignore_errors=True)

    # ---- the agent ----

    def tick(self, now: float) -> None:
        """Notice that the agent ended, and start it when it is time."""
        if self.agent is not None and self.agent.poll() is not None:
            self._note_exit(now)
        if self.powered and self.agent is None and not self.agent_held and now >= self.start_at:
            self._start_agent()

    def _note_exit(self, now: float) -> None:
        assert self.agent is not None
        self.last_exit = self.agent.returncode
        self.agent = None
        self.start_at = now + self.spec.pace.agent_restart_s
        if self.last_exit in NO_RESTART:
            self.agent_held = True

    def _start_agent(self) -> None:
        command = [part.format(config=self.config, folder=self.folder) for part in self.spec.agent_command]
        with (self.folder / "agent.log").open("ab") as log:
            self.agent = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **_own_group(self.address),
            )
        self.starts += 1

    def kill_agent(self, number: signal.Signals) -> bool:
        """Signal the agent process alone; whether there was one."""
        return self.agent is not None and processes.send(self.agent.pid, number)

    def hold_agent(self) -> None:
        """Stop the agent politely and keep it stopped."""
        self.agent_held = True
        self.kill_agent(signal.SIGTERM)

    def release_agent(self, now: float) -> None:
        """Start the agent again."""
        self.agent_held = False
        self.start_at = now

    def _reap(self) -> None:
        if self.agent is not None:
            self.agent.wait()
            self.last_exit = self.agent.returncode
            self.agent = None

    # ---- etcd ----

    def etcd_pids(self) -> tuple[int, ...]:
        """The machine's etcd processes, by the name of the binary it was given."""
        name = Path(self.etcd).name[:15]
        return tuple(process.pid for process in processes.marked([self.instance]) if process.name == name)

    def kill_etcd(self, number: signal.Signals) -> int:
        """Signal etcd alone; to how many processes."""
        return sum(processes.send(pid, number) for pid in self.etcd_pids())

    # ---- the whole machine ----

    def freeze(self) -> None:
        """Stop time for it: connections stay open, nothing moves."""
        processes.signal_all([self.instance], signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        """Let time go on."""
        processes.signal_all([self.instance], signal.SIGCONT)
        self.frozen = False

    # ---- what the agent is told ----

    def environment(self) -> dict[str, str]:
        """What a real instance's unit would have, plus the two endpoints and the mark."""
        variables = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{self.address}:{IMDS_PORT}",
            processes.MARK: self.instance,
            **_import_path(),
        }
        return variables | dict(self.spec.environment)

    def configuration(self) -> dict[str, dict[str, Any]]:
        """The agent's settings: the lab's, what user data says, and what the test wants, section by section."""
        sections: dict[str, dict[str, Any]] = {
            "cluster": {"name": self.spec.cluster},
            "discovery": {"tags": {"etcd-cluster": self.spec.cluster}},
            "storage": {"bucket": self.spec.bucket, "prefix": self.spec.prefix},
            "etcd": {
                "binary": self.etcd,
                "data_root": str(self.disk),
                "supervisor": "process",
                "client_port": ETCD_PORT,
                "peer_port": PEER_PORT,
            },
            "http": {"listen": f"{self.address}:{HTTP_PORT}"},
        }
        for name, values in (*self.told.items(), *self.spec.settings.items()):
            sections[name] = sections.get(name, {}) | dict(values)
        return sections


def _own_group(address: str) -> dict[str, Any]:
    """As root every machine has a group of its own, by which the firewall knows it."""
    return {"group": group_id_of(address), "extra_groups": []} if os.geteuid() == 0 else {}


def _import_path() -> dict[str, str]:
    """A checkout that is not installed must still be importable by the machine."""
    root = Path(agent.__file__).resolve().parent.parent
    if root.name == "site-packages" or str(root) in (entry for entry in sys.path if "site-packages" in entry):
        return {}
    return {"PYTHONPATH": str(root)}
