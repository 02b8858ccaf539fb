"""The door to Elastic Load Balancing: this instance in and out of the target groups that the operator names.

Groups of instances only: an ID is one instance's for good, while an address that nobody took out in time may be
another machine's by then. The port is the group's own: a target is registered without one, so that whoever takes it
out by hand need not know one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from agent.model.faults import Refused, Unavailable
from agent.model.ids import InstanceId
from agent.model.known import Ignorance
from agent.model.targets import TargetGroup
from agent.world.aws import Aws
from agent.world.aws_errors import Asked


class Elbv2:
    """`agent.world.doors.TargetGroups` on AWS."""

    def __init__(self, aws: Aws, me: InstanceId, arns: Sequence[str]) -> None:
        assert arns, "without a target group there is nothing to ask"
        self._aws = aws
        self._me = me
        self._arns = tuple(arns)

    def groups(self) -> tuple[TargetGroup, ...]:
        return tuple(map(self._group, self._arns))

    def register(self, arn: str) -> None:
        self._change("RegisterTargets", arn)

    def deregister(self, arn: str) -> None:
        self._change("DeregisterTargets", arn)

    def _change(self, operation: str, arn: str) -> None:
        with _explained(arn):
            self._aws.call(_asked(operation, arn, arn), TargetGroupArn=arn, Targets=[{"Id": self._me}])

    def _group(self, arn: str) -> TargetGroup:
        asked = _asked("DescribeTargetHealth", arn)
        with _explained(arn):
            found = self._aws.call(asked, TargetGroupArn=arn).get("TargetHealthDescriptions")
        if not isinstance(found, list):
            what = f"the answer to {asked} has no TargetHealthDescriptions: is this AWS?"
            raise Unavailable(Ignorance.MALFORMED, what)
        registered = [each for each in found if _is_registered(each)]
        healthy = [each for each in registered if _health(each).get("State") == "healthy"]
        return TargetGroup(arn, frozenset(map(_target, registered)), frozenset(map(_target, healthy)))


def _asked(operation: str, arn: str, resource: str = "*") -> Asked:
    """AWS allows its descriptions on everything, or not at all."""
    return Asked("elbv2", operation, arn.rpartition(":")[2], resource)


def _target(described: Mapping[str, Any]) -> InstanceId:
    return InstanceId(str(described["Target"]["Id"]))


def _health(described: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = described.get("TargetHealth") or {}
    return found


def _is_registered(described: Mapping[str, Any]) -> bool:
    health = _health(described)
    return health.get("State") != "draining" and health.get("Reason") != "Target.NotRegistered"


@contextmanager
def _explained(arn: str) -> Iterator[None]:
    """A group that is not there, or that takes no instances, is an operator's to correct."""
    try:
        yield
    except Refused as refusal:
        if refusal.unknown.why is not Ignorance.OURS:
            raise
        hint = f"check load_balancer.target_groups: {arn} must be a target group of instances in this VPC"
        raise Refused(f"{refusal}; {hint}", Ignorance.OURS) from refusal
