"""Clients go before their member does: who is told to leave is not ready any more, and serves on for a while.

Load balancers look at `/readyz`, which says no from the first round in which this instance is leaving. That round must
end before the first step out, or the member would be gone before anybody is told. `timing.drain` is for as long as a
target group takes to see it (its interval times its unhealthy threshold). A spot notice leaves two minutes for all:
when the time gets short, clients are let down first.
"""

from __future__ import annotations

from datetime import timedelta

from agent.decide.situation import Situation, wait
from agent.model.actions import Blocker, Decision
from agent.model.known import Unknown

SHORT = timedelta(seconds=60)
"""With less time left than this, the member steps out at once: that may take a spare, a hand-over and a removal."""


def let_clients_go_first(s: Situation) -> Decision | None:
    """This instance is leaving, and clients may still be coming to its member."""
    since = s.memory.going_since
    if not s.leaving or since is None or not s.running or isinstance(s.o.membership, Unknown):
        return None
    entry = s.own_entry(s.o.membership)
    if entry is None or entry.is_learner:
        return None
    if s.time_left is not None and s.time_left < SHORT:
        return None
    told_for = s.o.now - since
    if told_for and told_for >= s.policy.drain:
        return None
    return wait(
        Blocker.LEAVING, f"this member is not ready any more, and serves on for {s.policy.drain.total_seconds():g} s"
    )
