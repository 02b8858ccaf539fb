"""What the host asks of whoever runs etcd. Two do: the agent itself (`supervisor_process`) and systemd."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Protocol

from agent.model.disk import EtcdProcess


class Supervisor(Protocol):
    """Runs at most one etcd on this data directory, whatever became of the agents before."""

    def state(self) -> EtcdProcess:
        """Unavailable where it cannot be told: never Stopped then."""
        ...

    def start(self, environment: Mapping[str, str]) -> None:
        """Returns when the process runs, not when it serves. Refused where one runs already."""
        ...

    def stop(self, timeout: timedelta) -> None:
        """SIGTERM, and SIGKILL after `timeout`. Returns when nothing of it runs any more."""
        ...
