"""No quorum answers: wait, and say so. Proof that a generation is lost, and what follows, belong here.

An etcd that runs without a leader is never restarted: it still answers Status and Snapshot, and a restarted
one would not.
"""

from __future__ import annotations

from agent.decide.situation import Situation, wait
from agent.model.actions import Blocker, Decision
from agent.model.cluster import MemberStatus
from agent.model.known import Unknown


def wait_for_quorum(s: Situation) -> Decision | None:
    """Our etcd runs, and no quorum stood behind any answer in this round."""
    if not s.running or not isinstance(s.o.membership, Unknown):
        return None
    if not isinstance(s.o.local, MemberStatus):
        return wait(Blocker.STARTUP, f"our etcd runs and does not answer yet: {s.o.local}")
    seen = "knows no leader" if s.o.local.leader is None else f"sees leader {s.o.local.leader}"
    return wait(Blocker.QUORUM, f"our etcd {seen}, but no quorum answers: {s.o.membership}")
