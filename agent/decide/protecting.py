"""While the cluster can spare nobody, its voters are protected from scale-in; each by its own agent, and no longer.

    of the voters, those that serve    more are wanted than serve    wanted
    are a quorum and no more           yes                           protected
    are a quorum and no more           no (the whole cluster is one  not: scaling it in is what the operator wants, and
                                       or two, or is being scaled)   leaving goes in good order
    are more than a quorum             -                             not
    cannot be told                     -                             as it is

Protection keeps Auto Scaling from *choosing* an instance: when a group shrinks, when it rebalances its zones, and in
an instance refresh, which then waits. It stops no spot interruption, no replacement of an unhealthy instance, and
nobody who terminates by hand; and it is never a reason to stay for one that was chosen.

What is protected is read from the listing of the group that is made anyway, and written only where it is to change.
With `autoscaling.protect_voters` the flag is the agent's: what an operator set is released when the cluster is whole.
"""

from __future__ import annotations

from datetime import timedelta

from agent.decide.promoting import staying
from agent.decide.situation import Situation, do
from agent.model.actions import Decision, ProtectFromScaleIn
from agent.model.cluster import Membership, quorum_of, voter_target
from agent.model.fleet import Fleet
from agent.model.known import Unknown

SILENT_FOR = timedelta(seconds=10)
"""One answer that was late is no loss, and no reason to call AWS."""

TRY_AGAIN = timedelta(minutes=1)


def protect_while_it_is_needed(s: Situation) -> Decision | None:
    """Set or release this instance's protection, where it is not what it is to be."""
    fleet, held, tried_at = s.memory.fleet, s.memory.protected, s.memory.protection_tried_at
    if not s.policy.protect_voters or s.leaving or fleet is None or held is None:
        return None
    here = fleet.find(s.me.instance)
    if here is None or here.lifecycle != "InService":
        return None  # AWS protects nobody else
    wanted = _wanted(s, fleet)
    if wanted is None or wanted == held or (tried_at is not None and s.o.now - tried_at < TRY_AGAIN):
        return None
    why = "one more loss would cost the quorum" if wanted else "the cluster can spare this instance again"
    return do(ProtectFromScaleIn(wanted), why)


def _wanted(s: Situation, fleet: Fleet) -> bool | None:
    """None: it cannot be told."""
    membership = s.o.membership
    if isinstance(membership, Unknown):
        return None
    entry = s.own_entry(membership)
    if entry is None or entry.is_learner:
        return None
    if any(each.id not in s.o.answers.of for each in membership.voters):
        return None
    serving = _serving(s, membership, fleet)
    return serving <= quorum_of(len(membership.voters)) and serving < voter_target(fleet.desired_capacity)


def _serving(s: Situation, membership: Membership, fleet: Fleet) -> int:
    """The voters that answer, or did a moment ago, and whose instances are not on their way out."""
    silent = {each for each, since in s.memory.silent_since.items() if s.o.now - since >= SILENT_FOR}
    return sum(each.id not in silent for each in staying(membership, fleet))
