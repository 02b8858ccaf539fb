"""A learner's own agent makes it a voter, as long as the fleet wants more voters; else it is a hot spare.

etcd takes the promotion only if the learner is in sync with the leader, so trying is safe and waiting is
never guessed. It allows one learner at a time, so two cannot overshoot the target together.
"""

from __future__ import annotations

from agent.decide.situation import Situation, do, wait
from agent.model.actions import Blocker, Decision, PromoteMember, Rest
from agent.model.cluster import Member, Membership, voter_target
from agent.model.disk import Stage
from agent.model.fleet import Fleet
from agent.model.ids import InstanceId
from agent.model.known import Unknown


def staying(membership: Membership, fleet: Fleet) -> list[Member]:
    """The voters whose instances are not on their way out: a spare takes over before they are gone."""
    found = {each.id: each for each in fleet.instances}
    return [each for each in membership.voters if not (each.name in found and found[InstanceId(each.name)].leaving)]


def promote_myself(s: Situation) -> Decision | None:
    """This member is a learner: ask for a vote while voters are wanted, else be a spare."""
    identity, membership = s.identity, s.o.membership
    if identity is None or not s.running or isinstance(membership, Unknown):
        return None
    if identity.stage not in (Stage.JOINING, Stage.MEMBER) or membership.cluster_id != identity.cluster_id:
        return None
    entry = s.own_entry(membership)
    if entry is None or not entry.is_learner:
        return None
    fleet = s.fleet_lately
    if fleet is None:
        return wait(Blocker.IGNORANCE, "a learner in want of the desired capacity, which EC2 does not tell")
    target, voters = voter_target(fleet.desired_capacity), len(staying(membership, fleet))
    if voters >= target:
        return do(Rest(), f"hot spare: {voters} voters for a desired capacity of {fleet.desired_capacity}")
    return do(PromoteMember(entry.id), f"{voters} of {target} voters, and we are a learner")
