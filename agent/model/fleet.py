"""What EC2 and Auto Scaling say about the instances that carry, carried or may carry a member."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from agent.model.hold import Hold
from agent.model.ids import InstanceId


class InstanceState(StrEnum):
    """EC2's `instance-state-name`."""

    PENDING = "pending"
    RUNNING = "running"
    SHUTTING_DOWN = "shutting-down"
    TERMINATED = "terminated"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Transition(StrEnum):
    """What a lifecycle hook of an Auto Scaling group holds up."""

    LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"
    TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"


LIVE = frozenset({InstanceState.PENDING, InstanceState.RUNNING, InstanceState.STOPPING, InstanceState.STOPPED})
"""States from which an instance can come back with its disk."""

UP = frozenset({InstanceState.PENDING, InstanceState.RUNNING})
"""States in which an instance's agent can be expected to speak."""

GOING = frozenset({InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED})
"""States without a way back: EC2 never returns a terminating instance to life."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance as EC2 lists it, with what Auto Scaling says of it where it belongs to a group."""

    id: InstanceId
    state: InstanceState
    launched_at: datetime
    private_ip: str | None  # a terminated instance has none
    zone: str
    group: str | None = None  # the Auto Scaling group's name
    lifecycle: str | None = None  # Auto Scaling's LifecycleState, e.g. `InService`, `Pending:Wait`
    hold: Hold | None = None  # by a tag of its own: this instance's agent alone pauses
    protected: bool | None = None  # from scale-in; None: in no group, or not told

    @property
    def live(self) -> bool:
        return self.state in LIVE

    @property
    def warmed(self) -> bool:
        """In, or on its way to, a warm pool: it joins nothing and counts for nothing."""
        return self.lifecycle is not None and self.lifecycle.startswith("Warmed:")

    @property
    def leaving(self) -> bool:
        """On its way out of its group: what runs there serves on for a while, and it founds nothing."""
        return self.lifecycle is not None and self.lifecycle.startswith("Terminating")


@dataclass(frozen=True, slots=True)
class Group:
    """An Auto Scaling group; `desired_capacity` is in instances."""

    name: str
    desired_capacity: int
    hold: Hold | None = None  # by a tag of the group


@dataclass(frozen=True, slots=True)
class Fleet:
    """One complete answer: every instance found by tag or by group, in the order of their IDs.

    A door that could not read every page answers Unavailable, never a shorter Fleet.
    """

    instances: tuple[Instance, ...]
    groups: tuple[Group, ...]
    unheard_of: frozenset[InstanceId] = frozenset()
    """Asked for by ID; EC2 answered, and knows no such instance (any more, or yet)."""
    ended_by_group: frozenset[InstanceId] = frozenset()
    """Named in a *successful* terminate activity of their Auto Scaling group."""

    def __post_init__(self) -> None:
        ids = [instance.id for instance in self.instances]
        assert ids == sorted(set(ids)), "instances are unique and in order"

    def find(self, instance: str) -> Instance | None:
        return next((each for each in self.instances if each.id == instance), None)

    @property
    def desired_capacity(self) -> int:
        return sum(group.desired_capacity for group in self.groups)

    @property
    def up(self) -> tuple[Instance, ...]:
        """Whose agents can be expected to speak, warm pools apart."""
        return tuple(each for each in self.instances if each.state in UP and not each.warmed)

    @property
    def live(self) -> tuple[Instance, ...]:
        """Who can come back with a disk, warm pools apart."""
        return tuple(each for each in self.instances if each.live and not each.warmed)
