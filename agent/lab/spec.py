"""What a lab is asked to be: sizes, paces and paths, as one value that is written down and read back as JSON.

House rule: durations are seconds and say so in their names; everything has a default that suits a person at a laptop.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

REGION = "eu-west-1"
ZONES = ("a", "b", "c")
ACCOUNT = "123456789012"
ROLE = "etcd-asg-agent"
IMDS_PORT = 1338
CLOUD_PORT = 4566
AGENT_COMMAND = (sys.executable, "-m", "agent.cli", "run", "--config", "{config}")


class LabError(Exception):
    """What a person is told in one line: the sentence says what to do next."""


@dataclass(frozen=True)
class Pace:
    """How long the cloud takes over things; AWS takes minutes, we take what a test can wait for."""

    pending_s: float = 0.5
    """EC2 `pending` before `running`."""
    shutting_down_s: float = 0.0
    """EC2 `shutting-down` before `terminated`; the machine has no power from the first moment on."""
    stopping_s: float = 0.0
    """EC2 `stopping` before `stopped`; likewise without power."""
    terminated_visible_s: float = 3600.0
    """How long DescribeInstances still shows a terminated instance (AWS: about an hour)."""
    replacement_s: float = 0.5
    """From the moment an Auto Scaling group notices a dead or unhealthy member to the launch of its replacement."""
    boot_s: float = 1.0
    """From power on to the first start of the agent."""
    agent_restart_s: float = 1.0
    """The backoff before an agent that died is started again, as systemd's RestartSec."""


@dataclass(frozen=True)
class LabSpec:
    """Everything `up` needs to know. `settings` overrides the agent's configuration, section by section."""

    instances: int = 3
    asgs: int = 1
    cluster: str = "lab"
    bucket: str = "etcd-lab"
    prefix: str = "etcd"
    etcd: str = "etcd"
    images: Mapping[str, str] = field(default_factory=dict)
    """By the ID of an AMI: the etcd that is installed in it. Every other image has `etcd`."""
    agent_command: tuple[str, ...] = AGENT_COMMAND
    """`{config}` and `{folder}` are replaced by the machine's own."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to every machine's environment, after the lab's own."""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    launch_hook_s: int = 0
    """Heartbeat timeout of a launching hook on every group; 0: no such hook."""
    terminate_hook_s: int = 0
    """Heartbeat timeout of a terminating hook on every group; 0: no such hook."""
    honours_preconditions: bool = True
    """False: the emulated S3 ignores If-None-Match and If-Match, as some stores do."""
    enforces_iam: bool = False
    """True: an instance may do what its role allows, which at first is what `iam-policy` prints for this lab."""
    leaves_nothing: bool = False
    """True: the files go with the daemon, whoever ended it, as nobody will ever call `down`; see `sweep`."""
    max_size: int = 20
    pace: Pace = Pace()

    def __post_init__(self) -> None:
        """Refuse what the lab could not build, in words."""
        if not 0 <= self.instances <= self.max_size:
            raise LabError(f"--instances must be between 0 and {self.max_size}, not {self.instances}")
        if not 1 <= self.asgs <= len(ZONES):
            raise LabError(f"--asgs must be between 1 and {len(ZONES)} (one per availability zone), not {self.asgs}")

    def to_json(self) -> str:
        """The spec as the daemon reads it."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> LabSpec:
        """The inverse of `to_json`."""
        raw = json.loads(text)
        raw["pace"] = Pace(**raw["pace"])
        raw["agent_command"] = tuple(raw["agent_command"])
        return cls(**raw)

    def with_pace(self, **changes: float) -> LabSpec:
        """The same lab at another pace."""
        return replace(self, pace=replace(self.pace, **changes))

    @property
    def group_names(self) -> tuple[str, ...]:
        """One group over all zones, or one group a zone."""
        if self.asgs == 1:
            return (self.cluster,)
        return tuple(f"{self.cluster}-{zone}" for zone in ZONES[: self.asgs])


def shares(total: int, parts: int) -> tuple[int, ...]:
    """`total` split as evenly as it goes, larger shares first: 5 over 3 is 2, 2, 1."""
    return tuple(total // parts + (1 if index < total % parts else 0) for index in range(parts))
