"""Nothing to do. Always speaks, so that every observation gets a decision with a reason."""

from __future__ import annotations

from agent.decide.situation import Situation, do
from agent.model.actions import Blocker, Decision, Rest, Wait
from agent.model.cluster import quorum_of
from agent.model.known import Unknown


def rest(s: Situation) -> Decision:
    """Nothing is to be done, or too little is known to do it."""
    if not s.running or isinstance(s.o.membership, Unknown):
        return Decision(Wait(Blocker.IGNORANCE), "nothing here is known well enough to act on")
    voters = len(s.o.membership.voters)
    return do(Rest(), f"a quorum of {quorum_of(voters)} of {voters} voters answers")
