"""The door to EC2 and Auto Scaling: who is in the fleet, and who can never come back.

House rules. An answer is every page of it, or none. A listing without this very instance is no answer: EC2 lists what
it knows by now, and we exist; nor is a listing of groups without the one that this instance belongs to. (Elsewhere,
on an operator's machine, there is nothing to check an answer with: a person reads what comes of it.) While nothing
changes, one look is one DescribeInstances. "EC2 does not know it" is only ever said of an ID that was asked for by ID;
of other names (a member that somebody added by hand) nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from agent.model.faults import Refused, Unavailable
from agent.model.fleet import Fleet, Group, Instance, InstanceState, Transition
from agent.model.hold import TAG, from_tag
from agent.model.ids import InstanceId
from agent.model.known import Ignorance
from agent.world.aws import Aws
from agent.world.aws_errors import Asked

GROUP_TAG = "aws:autoscaling:groupName"
INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")
ENDED = re.compile(r"Terminating EC2 instance: (i-[0-9a-f]+)\b")
IDS_PER_CALL = 200
"""EC2 takes at most 200 values in a filter."""
ACTIVITY_PAGES = 10
"""Activities come newest first, 100 a page, for six weeks; what is further back has been forgotten by EC2 anyway."""

Filters = Sequence[Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups as last read, for which live instances, and what they say of each instance."""

    groups: tuple[Group, ...]
    lifecycle: Mapping[InstanceId, str]
    read_for: frozenset[InstanceId]
    protected: Mapping[InstanceId, bool] = field(default_factory=dict)


class Ec2Cloud:
    """`agent.world.doors.Cloud` on AWS. Without tags, the fleet is this instance's own Auto Scaling group.

    `me` None: asked from elsewhere than an instance of the fleet.
    """

    def __init__(self, aws: Aws, me: InstanceId | None, tags: Sequence[tuple[str, str]] = ()) -> None:
        assert me is not None or tags, "there must be something to find the fleet by"
        self._aws = aws
        self._me = me
        self._tags = tuple(tags)
        self._own_group: str | None = None
        self._groups: Groups | None = None

    def fleet(self, also: frozenset[InstanceId], desired_capacity_too: bool) -> Fleet:
        listed = self._listed()
        if self._me is not None and self._me not in listed:
            self._own_group = None  # it may have changed: look it up again
            raise Unavailable(Ignorance.MALFORMED, f"EC2's listing does not contain this instance ({self._me})")
        groups = self._current_groups(listed, desired_capacity_too)
        missing = frozenset(groups.lifecycle).union(each for each in also if INSTANCE_ID.fullmatch(each)) - set(listed)
        found = {**listed, **self._described(missing)}
        unheard_of = (also & missing) - set(found) - set(groups.lifecycle)
        return Fleet(
            instances=tuple(
                replace(each, lifecycle=groups.lifecycle.get(each.id), protected=groups.protected.get(each.id))
                for _, each in sorted(found.items())
            ),
            groups=groups.groups,
            unheard_of=unheard_of,
            ended_by_group=self._ended(unheard_of, groups.groups),
        )

    # ---- lifecycle hooks -------------------------------------------------------------------------------------------

    def complete_hook(self, transition: Transition) -> None:
        for where in self._hooks(transition):
            with _unless_over():
                self._aws.call(
                    Asked("autoscaling", "CompleteLifecycleAction"), **where, LifecycleActionResult="CONTINUE"
                )

    def heartbeat_hook(self, transition: Transition) -> None:
        for where in self._hooks(transition):
            with _unless_over():
                self._aws.call(Asked("autoscaling", "RecordLifecycleActionHeartbeat"), **where)

    def protect(self, protected: bool) -> None:
        myself = self._myself()
        if myself.group is None:
            raise Refused(f"this instance ({self._me}) belongs to no Auto Scaling group", Ignorance.OURS)
        self._groups = None  # what was read of them is about to be another thing
        self._aws.call(
            Asked("autoscaling", "SetInstanceProtection", f"group {myself.group}"),
            AutoScalingGroupName=myself.group,
            InstanceIds=[myself.id],
            ProtectedFromScaleIn=protected,
        )

    def call_unhealthy(self) -> None:
        assert self._me is not None, "whoever has no instance has no health"
        self._aws.call(
            Asked("autoscaling", "SetInstanceHealth"),
            InstanceId=self._me,
            HealthStatus="Unhealthy",
            ShouldRespectGracePeriod=True,
        )

    def _hooks(self, transition: Transition) -> list[dict[str, str]]:
        """Those of our group that hold up this transition, as the calls on them name them."""
        myself = self._myself()
        if myself.group is None:
            return []
        asked = Asked("autoscaling", "DescribeLifecycleHooks", f"group {myself.group}")
        found = self._aws.call(asked, AutoScalingGroupName=myself.group).get("LifecycleHooks")
        if not isinstance(found, list):
            raise Unavailable(Ignorance.MALFORMED, f"the answer to {asked} has no LifecycleHooks: is this AWS?")
        where = {"AutoScalingGroupName": myself.group, "InstanceId": myself.id}
        return [
            {**where, "LifecycleHookName": each["LifecycleHookName"]}
            for each in found
            if each.get("LifecycleTransition") == transition
        ]

    def _myself(self) -> Instance:
        assert self._me is not None, "whoever has no instance has no hooks, and no place in a group"
        myself = self._described({self._me}).get(self._me)
        if myself is None:
            raise Unavailable(Ignorance.MALFORMED, f"EC2 does not know this instance ({self._me})")
        return myself

    # ---- instances -------------------------------------------------------------------------------------------------

    def _listed(self) -> dict[InstanceId, Instance]:
        if self._tags:
            return self._instances([{"Name": f"tag:{key}", "Values": [value]} for key, value in self._tags])
        if self._own_group is None:
            self._own_group = self._learned_own_group()
        return self._instances([{"Name": f"tag:{GROUP_TAG}", "Values": [self._own_group]}])

    def _learned_own_group(self) -> str:
        assert self._me is not None, "whoever has no tags to go by is an instance"
        myself = self._described({self._me}).get(self._me)
        if myself is None:
            raise Unavailable(Ignorance.MALFORMED, f"EC2 does not know this instance ({self._me}) yet")
        if myself.group is None:
            said = f"this instance ({self._me}) belongs to no Auto Scaling group: set discovery.tags"
            raise Refused(said, Ignorance.OURS)
        return myself.group

    def _described(self, ids: Iterable[InstanceId]) -> dict[InstanceId, Instance]:
        """Those of these IDs that EC2 knows. By filter: unknown ones then simply do not come back."""
        wanted, found = sorted(ids), dict[InstanceId, Instance]()
        for start in range(0, len(wanted), IDS_PER_CALL):
            chunk = wanted[start : start + IDS_PER_CALL]
            found.update(self._instances([{"Name": "instance-id", "Values": chunk}]))
        return found

    def _instances(self, filters: Filters) -> dict[InstanceId, Instance]:
        asked = Asked("ec2", "DescribeInstances")
        found = dict[InstanceId, Instance]()
        for page in self._pages(asked, {"Filters": filters, "MaxResults": 1000}, "Reservations"):
            for reservation in page["Reservations"]:
                found.update((each.id, each) for each in map(_instance, reservation.get("Instances", ())))
        return found

    # ---- groups ----------------------------------------------------------------------------------------------------

    def _current_groups(self, listed: Mapping[InstanceId, Instance], read_again: bool) -> Groups:
        live = frozenset(each.id for each in listed.values() if each.live)
        if self._groups is None or read_again or self._groups.read_for != live:
            self._groups = self._read_groups(listed, live)
        return self._groups

    def _read_groups(self, listed: Mapping[InstanceId, Instance], live: frozenset[InstanceId]) -> Groups:
        """Groups with the tags, and groups that a live instance names as its own."""
        raw = dict[str, Mapping[str, Any]]()
        if self._tags:
            filters = [{"Name": f"tag:{key}", "Values": [value]} for key, value in self._tags]
            raw.update(self._described_groups({"Filters": filters}))
        named = {each.group for each in listed.values() if each.live and each.group} - set(raw)
        if named:
            raw.update(self._described_groups({"AutoScalingGroupNames": sorted(named)}))
        own = None if self._me is None else listed[self._me].group
        if own is not None and own not in raw:  # read as "none", it would say that nobody is wanted
            raise Unavailable(Ignorance.MALFORMED, f"Auto Scaling's listing does not contain our own group ({own})")
        lifecycle = {
            InstanceId(each["InstanceId"]): str(each["LifecycleState"])
            for group in raw.values()
            for each in group.get("Instances", ())
        }
        protected = {
            InstanceId(each["InstanceId"]): bool(each["ProtectedFromScaleIn"])
            for group in raw.values()
            for each in group.get("Instances", ())
            if "ProtectedFromScaleIn" in each
        }
        for name, group in raw.items():
            if group.get("WarmPoolConfiguration"):  # its instances are in no other list
                lifecycle.update(self._warm_pool(name))
        groups = tuple(_group(name, group) for name, group in sorted(raw.items()))
        return Groups(groups, lifecycle, live, protected)

    def _described_groups(self, which: Mapping[str, object]) -> dict[str, Mapping[str, Any]]:
        asked, answer = Asked("autoscaling", "DescribeAutoScalingGroups"), "AutoScalingGroups"
        pages = self._pages(asked, {**which, "MaxRecords": 100}, answer)
        return {each["AutoScalingGroupName"]: each for page in pages for each in page[answer]}

    def _warm_pool(self, group: str) -> dict[InstanceId, str]:
        asked = Asked("autoscaling", "DescribeWarmPool", f"group {group}")
        pages = self._pages(asked, {"AutoScalingGroupName": group}, "Instances")
        return {InstanceId(each["InstanceId"]): each["LifecycleState"] for page in pages for each in page["Instances"]}

    def _ended(self, unheard_of: frozenset[InstanceId], groups: Sequence[Group]) -> frozenset[InstanceId]:
        """Whom their group terminated with success. Activities that cannot be read just now prove nothing."""
        ended = frozenset[InstanceId]()
        for group in groups:
            if ended == unheard_of:
                break
            try:
                ended |= unheard_of & frozenset(self._terminated_by(group.name))
            except Unavailable:
                continue
        return ended

    def _terminated_by(self, group: str) -> Iterator[InstanceId]:
        asked = Asked("autoscaling", "DescribeScalingActivities", f"group {group}")
        pages = self._pages(asked, {"AutoScalingGroupName": group, "MaxRecords": 100}, "Activities")
        for _, page in zip(range(ACTIVITY_PAGES), pages, strict=False):
            for activity in page["Activities"]:
                match = ENDED.match(activity.get("Description") or "")
                if match is not None and activity.get("StatusCode") == "Successful":
                    yield InstanceId(match[1])

    # ---- pages -----------------------------------------------------------------------------------------------------

    def _pages(self, asked: Asked, parameters: Mapping[str, object], answer: str) -> Iterator[Mapping[str, Any]]:
        token: str | None = None
        while True:
            page = self._aws.call(asked, **parameters, **({"NextToken": token} if token else {}))
            if not isinstance(page.get(answer), list):
                raise Unavailable(Ignorance.MALFORMED, f"the answer to {asked} has no {answer}: is this AWS?")
            yield page
            token = page.get("NextToken") or None
            if token is None:
                return


@contextmanager
def _unless_over() -> Iterator[None]:
    """A hook that was completed, by us or by its own time, needs nothing any more."""
    try:
        yield
    except Refused as refused:
        if "No active Lifecycle Action" not in str(refused):
            raise


def _group(name: str, raw: Mapping[str, Any]) -> Group:
    return Group(name, int(raw["DesiredCapacity"]), from_tag(_tags(raw).get(TAG), f"group {name}"))


def _tags(raw: Mapping[str, Any]) -> dict[str, str]:
    return {each["Key"]: each.get("Value", "") for each in raw.get("Tags", ()) if "Key" in each}


def _instance(raw: Mapping[str, Any]) -> Instance:
    tags = _tags(raw)
    try:
        launched_at: datetime = raw["LaunchTime"]
        return Instance(
            id=InstanceId(raw["InstanceId"]),
            state=InstanceState(raw["State"]["Name"]),
            launched_at=launched_at.astimezone(UTC),
            private_ip=raw.get("PrivateIpAddress") or None,
            zone=raw["Placement"]["AvailabilityZone"],
            group=tags.get(GROUP_TAG),
            hold=from_tag(tags.get(TAG), str(raw["InstanceId"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        said = f"EC2 describes {raw.get('InstanceId', 'an instance')} in a way that makes no sense: {error!r}"
        raise Unavailable(Ignorance.MALFORMED, said) from error
