"""Auto Scaling as moto stores it and AWS behaves: groups whose members walk lifecycle states and wait for hooks.

moto keeps the definitions (launch template, tags, hooks, sizes) and speaks the protocol; its own launching and
terminating is replaced. `settle` is called after every API call and ten times a second, and moves each member at most
one state, so that every state can be seen.

House rules: the caller holds the cloud's lock; `now` is monotonic seconds; no call here blocks.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from moto.autoscaling import models
from moto.autoscaling import urls as moto_urls
from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult

from agent.lab.spec import Pace

GONE = frozenset({"shutting-down", "terminated"})
POWERED = frozenset({"pending", "running"})
ACTIVITIES_KEPT = 200
Allot = Callable[[str], str | None]
"""Subnet ID to the private address its next instance gets, or None to let moto choose."""


@dataclass(eq=False)
class Activity:
    """One line of DescribeScalingActivities."""

    description: str
    cause: str
    auto_scaling_group_name: str
    auto_scaling_group_arn: str
    status_code: str = "InProgress"
    progress: int = 0
    start_time: datetime = field(default_factory=lambda: datetime.now(UTC))
    end_time: datetime | None = None
    activity_id: str = field(default_factory=lambda: str(uuid4()))

    def end(self, status: str = "Successful") -> None:
        """The activity is over."""
        self.status_code, self.progress, self.end_time = status, 100, datetime.now(UTC)


class Member(models.InstanceState):
    """One instance of a group and where it is in its life."""

    def __init__(self, group: Group, instance: Any, activity: Activity) -> None:
        super().__init__(instance, "Pending", "Healthy", group.new_instances_protected_from_scale_in, group)
        self.hooks: dict[str, float] = {}
        """Open lifecycle actions: hook name to deadline."""
        self.activity = activity
        self.version = _template_version(group)

    @property
    def launch_template(self) -> dict[str, Any] | None:
        """The version this instance was launched from, not the group's present one."""
        template = super().launch_template
        return template and {**template, "Version": self.version}

    @property
    def leaving(self) -> bool:
        """On its way out: no longer counted towards the desired capacity."""
        return self.lifecycle_state.startswith("Terminating")

    @property
    def power(self) -> str:
        """What EC2 says about it."""
        return str(self.instance.state)


def _template_version(group: Group) -> str:
    if group.ec2_launch_template is None:
        return ""
    return str(group.ec2_launch_template.get_version(group.launch_template_version).number)


class Group(models.FakeAutoScalingGroup):
    """A group that only remembers what is desired; `settle` brings it about."""

    launch_after: float = 0.0

    def set_desired_capacity(self, new_capacity: int | None) -> None:
        """Remember; refuse, as AWS does, what is outside the group's bounds."""
        wanted = (self.min_size or 0) if new_capacity is None else new_capacity
        if self.max_size is not None and wanted > self.max_size:
            raise ValidationError(
                f"New SetDesiredCapacity value {wanted} is above max value {self.max_size} for the AutoScalingGroup."
            )
        if self.min_size is not None and wanted < self.min_size:
            raise ValidationError(
                f"New SetDesiredCapacity value {wanted} is below min value {self.min_size} for the AutoScalingGroup."
            )
        self.desired_capacity = wanted

    def replace_autoscaling_group_instances(self, count_needed: int, propagated_tags: dict[str, str]) -> None:
        """moto would launch here and now; we launch in `settle`."""

    @property
    def members(self) -> list[Member]:
        """The instances of the group, oldest first."""
        return [state for state in self.instance_states if isinstance(state, Member)]

    @property
    def activities(self) -> list[Activity]:
        """Newest first, as AWS lists them."""
        kept: list[Activity] = self.__dict__.setdefault("_activities", [])
        return kept

    def suspended(self, process: str) -> bool:
        """Whether the operator paused one of the group's processes."""
        return any(entry["ProcessName"] == process for entry in self.suspended_processes)

    def hooks(self, transition: str) -> list[models.LifecycleHook]:
        """The hooks on EC2_INSTANCE_LAUNCHING or EC2_INSTANCE_TERMINATING."""
        every = self.autoscaling_backend.describe_lifecycle_hooks(self.name)
        return [hook for hook in every if (hook.lifecycle_transition or "").endswith(transition)]

    def begin(self, description: str, cause: str) -> Activity:
        """Record that something starts."""
        activity = Activity(description, f"At {datetime.now(UTC):%FT%TZ} {cause}", self.name, self.arn)
        self.activities.insert(0, activity)
        del self.activities[ACTIVITIES_KEPT:]
        return activity


# ---- the walk -----------------------------------------------------------------------------------------------------


def settle(group: Group, now: float, pace: Pace, allot: Allot) -> None:
    """Move every member one step and the group towards its desired capacity."""
    for member in group.members:
        _step(group, member, now, pace)
    staying = [member for member in group.members if not member.leaving]
    missing = (group.desired_capacity or 0) - len(staying)
    if missing > 0 and now >= group.launch_after and not group.suspended("Launch"):
        for _ in range(missing):
            _launch(group, allot)
    if missing < 0 and not group.suspended("Terminate"):
        for member in _victims(staying, -missing):
            begin_terminating(group, member, "an instance was taken out of service to shrink the capacity.")


def _step(group: Group, member: Member, now: float, pace: Pace) -> None:
    match member.lifecycle_state:
        case "Pending" if member.power == "running":
            _await_hooks(group, member, "LAUNCHING", "Pending", now)
        case "Pending:Wait" | "Terminating:Wait":
            _expire_hooks(group, member, now)
        case "Pending:Proceed":
            member.lifecycle_state = "InService"
            member.activity.end()
        case "Terminating" if member.power in GONE:
            member.lifecycle_state = "Terminating:Proceed"
        case "Terminating":
            _await_hooks(group, member, "TERMINATING", "Terminating", now)
        case "Terminating:Proceed":
            _power_off(group, member)
        case _:
            pass  # InService, Standby, and a Pending that has no power yet
    if not member.leaving and _unfit(group, member):
        group.launch_after = now + pace.replacement_s
        begin_terminating(group, member, "an instance was taken out of service in response to a health check.")


def _await_hooks(group: Group, member: Member, transition: str, stem: str, now: float) -> None:
    hooks = group.hooks(transition)
    member.hooks = {hook.name: now + hook.heartbeat_timeout for hook in hooks}
    member.lifecycle_state = f"{stem}:Wait" if hooks else f"{stem}:Proceed"
    if hooks:
        member.activity.status_code = "MidLifecycleAction"


def _expire_hooks(group: Group, member: Member, now: float) -> None:
    if member.leaving and member.power in GONE:
        member.lifecycle_state = "Terminating:Proceed"
        return
    transition = "TERMINATING" if member.leaving else "LAUNCHING"
    results = {hook.name: hook.default_result for hook in group.hooks(transition)}
    for name, deadline in list(member.hooks.items()):
        if now >= deadline:
            complete(group, member, name, results.get(name, "ABANDON"))
    _proceed_when_free(member)


def complete(group: Group, member: Member, hook: str, result: str) -> None:
    """One lifecycle action is over. ABANDON ends a launch; a termination goes on either way."""
    member.hooks.pop(hook, None)
    if result == "ABANDON" and not member.leaving:
        member.activity.end("Cancelled")
        begin_terminating(group, member, "an instance failed to complete its lifecycle action.")
        return
    if result == "ABANDON":
        member.hooks.clear()
    _proceed_when_free(member)


def _proceed_when_free(member: Member) -> None:
    if not member.hooks and member.lifecycle_state.endswith(":Wait"):
        member.lifecycle_state = member.lifecycle_state.replace(":Wait", ":Proceed")


def _power_off(group: Group, member: Member) -> None:
    if member.power not in GONE:
        group.ec2_backend.terminate_instances([member.instance.id])
    elif member.power == "terminated":
        member.activity.end()
        group.instance_states = [state for state in group.instance_states if state is not member]


def _unfit(group: Group, member: Member) -> bool:
    """Dead in EC2, or called unhealthy by somebody. Standby is the operator's business."""
    if group.suspended("ReplaceUnhealthy") or member.lifecycle_state == "Standby":
        return False
    dead = member.power not in POWERED and not group.suspended("HealthCheck")
    return dead or (member.health_status == "Unhealthy" and member.lifecycle_state == "InService")


def begin_terminating(group: Group, member: Member, cause: str) -> Activity:
    """The member leaves: its hooks run, then its power goes, then its place in the group."""
    if not member.leaving:
        member.hooks.clear()
        member.lifecycle_state = "Terminating"
        member.activity = group.begin(f"Terminating EC2 instance: {member.instance.id}", cause)
    return member.activity


def _victims(staying: list[Member], count: int) -> list[Member]:
    """Whom scaling in takes: from the fullest zone, the oldest first, nobody who is protected."""
    left = [member for member in staying if not member.protected_from_scale_in]
    chosen: list[Member] = []
    while left and len(chosen) < count:
        zones = Counter(member.availability_zone for member in left)
        fullest = max(zones.values())
        victim = next(member for member in left if zones[member.availability_zone] == fullest)
        left.remove(victim)
        chosen.append(victim)
    return chosen


def _launch(group: Group, allot: Allot) -> None:
    subnet = _emptiest_subnet(group)
    tags = {**group.get_propagated_tags(), **group.instance_tags, models.ASG_NAME_TAG: group.name}
    template = group.ec2_launch_template
    reservation = group.ec2_backend.run_instances(
        group.image_id,
        1,
        group.user_data,
        group.security_groups,
        instance_type=group.instance_type,
        is_instance_type_default=False,
        tags={"instance": tags},
        launch_config=group.launch_config,
        launch_template=template and {"LaunchTemplateId": template.id, "Version": group.launch_template_version},
        associate_public_ip=False,
        subnet_id=subnet,
        private_ip=allot(subnet) if subnet else None,
        region_name=group.region,
    )
    instance = reservation.instances[0]
    vars(instance)["autoscaling_group"] = group
    activity = group.begin(
        f"Launching a new EC2 instance: {instance.id}",
        f"an instance was started in response to a difference between desired and actual capacity, "
        f"increasing the capacity to {group.desired_capacity}.",
    )
    group.instance_states.append(Member(group, instance, activity))


def _emptiest_subnet(group: Group) -> str | None:
    subnets = [subnet for subnet in (group.vpc_zone_identifier or "").split(",") if subnet]
    filled = Counter(member.instance.subnet_id for member in group.members if not member.leaving)
    return min(subnets, key=lambda subnet: filled[subnet], default=None)


# ---- the protocol -------------------------------------------------------------------------------------------------


class Backend(models.AutoScalingBackend):
    """moto's backend with our groups in it."""

    @property
    def _url_module(self) -> Any:
        return SimpleNamespace(url_bases=moto_urls.url_bases, url_paths={"{0}/$": Response.dispatch})

    @property
    def groups(self) -> list[Group]:
        """Every group, in the order of creation."""
        return [group for group in self.autoscaling_groups.values() if isinstance(group, Group)]

    def find(self, instance_id: str) -> tuple[Group, Member] | None:
        """The group and membership of an instance, if it has one."""
        for group in self.groups:
            for member in group.members:
                if member.instance.id == instance_id:
                    return group, member
        return None

    def demand(self, instance_id: str) -> tuple[Group, Member]:
        """Like `find`, but the caller named an instance that must be there."""
        found = self.find(instance_id)
        if found is None:
            raise ValidationError(f"Instance Id not found - No managed instance found for instance ID: {instance_id}")
        return found

    def notify_terminate_instances(self, instance_ids: list[str]) -> None:
        """moto would replace at once; our groups notice by themselves."""

    def terminate_instance(self, instance_id: str, should_decrement: bool) -> Any:
        """TerminateInstanceInAutoScalingGroup: hooks first, then the power."""
        group, member = self.demand(instance_id)
        if should_decrement:
            group.set_desired_capacity((group.desired_capacity or 0) - 1)
        return begin_terminating(group, member, "an instance was taken out of service in response to a user request.")

    def delete_auto_scaling_group(self, group_name: str) -> None:
        """Delete a group and whatever it still runs."""
        group = self.autoscaling_groups.get(group_name)
        leftover = [member.instance.id for member in group.members] if isinstance(group, Group) else []
        if isinstance(group, Group):
            group.min_size = 0
        super().delete_auto_scaling_group(group_name)
        if leftover:
            self.ec2_backend.terminate_instances(leftover)

    def open_action(self, group_name: str, hook: str, instance_id: str) -> tuple[Group, Member]:
        """The member that waits for this hook; ValidationError, as on AWS, if none does."""
        found = self.find(instance_id)
        if found is None or found[0].name != group_name or hook not in found[1].hooks:
            raise ValidationError(f"No active Lifecycle Action found with instance ID {instance_id}")
        return found


class Response(AutoScalingResponse):
    """The calls that moto lacks or answers emptily."""

    @property
    def _living(self) -> Backend:
        backend = self.autoscaling_backend
        assert isinstance(backend, Backend)
        return backend

    def create_auto_scaling_group(self) -> ActionResult:
        """As moto's, with the hooks that were given along."""
        result = super().create_auto_scaling_group()
        name = self._get_param("AutoScalingGroupName")
        for hook in self._get_param("LifecycleHookSpecificationList", []):
            self._living.create_lifecycle_hook(
                name=hook["LifecycleHookName"],
                as_name=name,
                transition=hook["LifecycleTransition"],
                timeout=int(hook.get("HeartbeatTimeout", 3600)),
                result=hook.get("DefaultResult", "ABANDON"),
            )
        return result

    def complete_lifecycle_action(self) -> ActionResult:
        """CONTINUE or ABANDON one open action."""
        hook = self._get_param("LifecycleHookName")
        group, member = self._living.open_action(
            self._get_param("AutoScalingGroupName"), hook, self._get_param("InstanceId")
        )
        complete(group, member, hook, self._get_param("LifecycleActionResult"))
        return EmptyResult()

    def record_lifecycle_action_heartbeat(self) -> ActionResult:
        """Give one open action its full timeout again."""
        name = self._get_param("LifecycleHookName")
        group, member = self._living.open_action(
            self._get_param("AutoScalingGroupName"), name, self._get_param("InstanceId")
        )
        hook = next(hook for hook in self._living.describe_lifecycle_hooks(group.name) if hook.name == name)
        member.hooks[name] = time.monotonic() + hook.heartbeat_timeout
        return EmptyResult()

    def describe_scaling_activities(self) -> ActionResult:
        """The newest first, of one group or of all, with paging."""
        name = self._get_param("AutoScalingGroupName")
        wanted = self._get_param("ActivityIds", [])
        listed = [
            activity
            for group in self._living.groups
            if not name or group.name == name
            for activity in group.activities
            if not wanted or activity.activity_id in wanted
        ]
        start = int(self._get_param("NextToken") or 0)
        size = self._get_int_param("MaxRecords") or 100
        following = str(start + size) if start + size < len(listed) else None
        return ActionResult({"Activities": listed[start : start + size], "NextToken": following})


def install() -> None:
    """Put our groups in moto's place, before its first request; this process serves nothing else."""
    models.autoscaling_backends.backend = Backend
    vars(models)["FakeAutoScalingGroup"] = Group
