"""EC2 takes spot instances back: a notice in IMDS now, and at its time the instance goes, whatever depends on it.

House rule: the caller holds the cloud's lock; times are monotonic seconds but where AWS writes them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.lab.imds import Metadata
from agent.lab.spec import LabError

NOTICE_PATH = "meta-data/spot/instance-action"
REBALANCE_PATH = "meta-data/events/recommendations/rebalance"
ACTIONS = ("terminate", "stop", "hibernate")


@dataclass
class Interruptions:
    """Who is to go, when and how."""

    _due: dict[str, tuple[float, str]] = field(default_factory=dict)

    def announce(self, instance: str, metadata: Metadata, action: str, seconds: float, now: float) -> None:
        """Auto Scaling hears nothing of it before the instance is gone; IMDS tells at once."""
        if action not in ACTIONS:
            raise LabError(f"no spot action {action!r}; there are {', '.join(ACTIONS)}")
        at = datetime.now(UTC) + timedelta(seconds=seconds)
        metadata.overrides[NOTICE_PATH] = json.dumps({"action": action, "time": f"{at:%FT%TZ}"})
        self._due[instance] = (now + seconds, action)

    def settle(self, ec2: Any, now: float) -> None:
        """Take those whose time has come. Whoever was terminated before by others is left alone."""
        for instance, (at, action) in list(self._due.items()):
            if now < at:
                continue
            del self._due[instance]
            if ec2.get_instance(instance).state in ("pending", "running"):
                (ec2.terminate_instances if action == "terminate" else ec2.stop_instances)([instance])


def recommend(metadata: Metadata) -> None:
    """EC2 thinks that this spot instance may be interrupted before long."""
    metadata.overrides[REBALANCE_PATH] = json.dumps({"noticeTime": f"{datetime.now(UTC):%FT%TZ}"})
