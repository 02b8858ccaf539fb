"""What EC2 tells a spot instance in its own metadata: that it takes it back, when, and what becomes of its disk.

See AWS, "Spot Instance interruption notices".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

NOTICE = timedelta(minutes=2)
"""The longest warning there is. Nothing promises that it is that long: it may be seconds, or none."""


class SpotAction(StrEnum):
    """IMDS's `spot/instance-action`."""

    TERMINATE = "terminate"
    STOP = "stop"
    HIBERNATE = "hibernate"


@dataclass(frozen=True, slots=True)
class SpotNotice:
    """EC2 takes this instance back at about `at`, by AWS's clock."""

    action: SpotAction
    at: datetime

    @property
    def takes_the_disk(self) -> bool:
        """What is stopped or hibernated comes back with its disk: a member that is away, and no leaving."""
        return self.action is SpotAction.TERMINATE
