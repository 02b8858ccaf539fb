"""The leader's agent takes the dead out of the member list: one at a time, on proof, if quorum survives it.

Unreachable, stopped, missing from a listing, throttled: all of that is ignorance, and removes nobody.
Being beside the leader is not a lock, and need not be one: two agents that both believe it would remove the
same member by ID, and etcd serialises membership changes.
"""

from __future__ import annotations

from datetime import timedelta

from agent.decide.situation import Situation, do
from agent.model.actions import Decision, RemoveMember
from agent.model.cluster import Answers, Member, Membership, quorum_of
from agent.model.ids import MemberId
from agent.model.known import Unknown

SLOWEST_TRANSFER_BYTES_PER_SECOND = 10_000_000
"""A learner that receives the database answers nobody meanwhile; at this speed it is still not stalled."""


def remove_a_departed_member(s: Situation) -> Decision | None:
    """A member whose instance is proven gone."""
    membership = s.o.membership
    if isinstance(membership, Unknown) or not s.o.beside_the_leader:
        return None
    for member in sorted(membership.members, key=lambda each: (not each.is_learner, each.id)):
        proof = s.proof_of_end(member)
        if proof is not None and quorum_survives_without(member, membership, s.o.answers):
            return do(RemoveMember(member.id), f"{member}: {proof}")
    return None


def remove_a_stalled_learner(s: Situation) -> Decision | None:
    """A learner that never started or stopped catching up keeps everybody else from joining."""
    membership = s.o.membership
    if isinstance(membership, Unknown) or not s.o.beside_the_leader:
        return None
    for learner in membership.learners:
        progress = s.memory.learners.get(learner.id)
        if progress is not None and s.o.now - progress.since >= patience_with_learners(s):
            return do(RemoveMember(learner.id), f"learner {learner} has made no progress since {progress.since:%X}")
    return None


def patience_with_learners(s: Situation) -> timedelta:
    """`join_timeout`, and the time that the database itself takes on a slow network."""
    size = 0 if isinstance(s.o.local, Unknown) else s.o.local.db_size_bytes
    return s.policy.join_timeout + timedelta(seconds=size / SLOWEST_TRANSFER_BYTES_PER_SECOND)


def quorum_survives_without(gone: Member, membership: Membership, answers: Answers) -> bool:
    """Whether the voters that answered just now are a quorum of the list without this member."""
    if gone.is_learner:
        return True
    rest = [voter.id for voter in membership.voters if voter.id != gone.id]
    return bool(rest) and count_answering(rest, answers) >= quorum_of(len(rest))


def count_answering(members: list[MemberId], answers: Answers) -> int:
    return sum(answers.answered(member) for member in members)
