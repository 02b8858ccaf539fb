"""Each instance keeps itself in the target groups that the operator names, for as long as its member serves.

    our member                          in the group    another one there is healthy    step
    serves, as `/readyz` says           no              -                               register
    serves                              yes             -                               none
    serves nobody for the moment        -               -                               none: health checks see to that
    is leaving                          yes             yes, and it stays               deregister, before it steps out
    is a spare: others have the votes   yes             yes                             deregister
    has been gone for HOMELESS          yes             yes                             deregister
    is any of these three               yes             no                              none: better one than nobody
    is any of these three               no              -                               none
    any                                 never read      -                               none

For target groups that are not attached to the Auto Scaling group, which registers its instances by itself. A target
that came or went with every election would be away for minutes each time (a Network Load Balancer takes that long), so
what passes is left to the health checks, which ask `/readyz`. No instance takes out another: one that ended without a
word fails those checks, and a terminated instance is no target of a group of instances.

Being a target is never a reason to stay. While leaving, one try a minute for each group is all that the way out waits
for, and none where EC2 leaves little time (`draining.SHORT`).
"""

from __future__ import annotations

from datetime import timedelta

from agent.decide.attention import is_spare
from agent.decide.draining import SHORT
from agent.decide.serving import unready
from agent.decide.situation import Situation, do
from agent.model.actions import Decision, DeregisterTarget, RegisterTarget
from agent.model.cluster import Membership
from agent.model.known import Unknown
from agent.model.targets import TargetGroup

TRY_AGAIN = timedelta(minutes=1)
"""The same in the same group, whatever came of it."""

HOMELESS = timedelta(minutes=5)
"""A member that was given up for a new one is back within seconds; who waits for a place may do so for days."""


def deregister(s: Situation) -> Decision | None:
    """This instance is leaving, or has no voter: it goes out of a group in which others serve."""
    groups, why = s.memory.targets, _why_it_goes(s)
    if groups is None or why is None:
        return None
    wanted = (DeregisterTarget(each.arn) for each in groups if _is_one_of_several(s, each))
    action = next((each for each in wanted if _is_due(s, each)), None)
    return None if action is None else do(action, why)


def register(s: Situation) -> Decision | None:
    """This member serves, and a group does not know it."""
    groups = s.memory.targets
    if groups is None or unready(s.o, s.memory, s.policy) is not None:
        return None
    wanted = (RegisterTarget(each.arn) for each in groups if s.me.instance not in each.registered)
    action = next((each for each in wanted if _is_due(s, each)), None)
    return None if action is None else do(action, "our etcd serves, and is no target yet")


def _why_it_goes(s: Situation) -> str | None:
    since, read_at = s.memory.going_since, s.memory.targets_read_at
    if isinstance(s.o.membership, Unknown):
        return None
    if is_spare(s.o, s.memory):
        return "our member is a spare: it serves no clients"
    if _is_homeless(s, s.o.membership):
        return "no member lives on this instance"
    if since is None or isinstance(s.o.local, Unknown):
        return None
    if read_at is None or read_at < since:
        return None  # who else is healthy is read once more, by then
    if s.time_left is not None and s.time_left < SHORT:
        return None
    return "this instance is leaving: clients go elsewhere before its member does"


def _is_homeless(s: Situation, membership: Membership) -> bool:
    waits_since = s.memory.unsettled_since
    if s.running or s.holds_data or membership.named(s.me.instance) or waits_since is None:
        return False
    return s.o.now - waits_since >= HOMELESS


def _is_one_of_several(s: Situation, group: TargetGroup) -> bool:
    """Of those in the group another one is healthy, and stays."""
    fleet = s.fleet_lately
    going = frozenset[str]() if fleet is None else {each.id for each in fleet.instances if each.leaving}
    return s.me.instance in group.registered and bool(group.healthy - going - {s.me.instance})


def _is_due(s: Situation, action: RegisterTarget | DeregisterTarget) -> bool:
    tried_at = s.memory.registering_tried_at.get(action)
    return tried_at is None or s.o.now - tried_at >= TRY_AGAIN
