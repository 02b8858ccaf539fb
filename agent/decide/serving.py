"""Whether clients should come to this member: what `/readyz` answers, and what target groups are kept by."""

from __future__ import annotations

from agent.model.cluster import MemberStatus
from agent.model.known import Unknown
from agent.model.memory import Memory
from agent.model.observation import Observation
from agent.model.policy import Policy


def unready(o: Observation, memory: Memory, policy: Policy) -> str | None:
    """Why clients should go elsewhere. None: this member, a voter, served a linearizable read in this round."""
    if not isinstance(o.local, MemberStatus):
        return f"our etcd's status is {o.local}"
    if o.local.is_learner:
        return "our etcd is a learner: it serves no linearizable reads"
    if isinstance(o.membership, Unknown):
        return f"no quorum answered through our etcd: {o.membership}"
    if o.membership.via != policy.client_url(o.me.private_ip):
        return f"a quorum answered, but not through our etcd: only through {o.membership.via}"
    if memory.going_since is not None:
        return "this instance is leaving: clients go elsewhere before its member does"
    return None
