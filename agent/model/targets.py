"""A load balancer's target groups, as Elastic Load Balancing tells of them."""

from __future__ import annotations

from dataclasses import dataclass

from agent.model.ids import InstanceId


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """Who is registered in one group of instances; whose deregistration is under way is not."""

    arn: str
    registered: frozenset[InstanceId]
    healthy: frozenset[InstanceId]
    """Of those, to whom the load balancer sends clients."""
