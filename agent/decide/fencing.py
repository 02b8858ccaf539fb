"""An instance that must not serve what it holds: stamp it fenced, stop its etcd, move its data aside.

Fencing is three effects. The stamp comes first and is what counts: an identity that is `fenced` never
starts again, whatever happens between the steps. It needs proof: a newer record that was read, or a member
list with a quorum behind it that does not hold us. An unreadable bucket fences nobody.
"""

from __future__ import annotations

from dataclasses import replace

from agent.decide.situation import Situation, do
from agent.model.actions import Decision, Quarantine, StampIdentity, StopEtcd
from agent.model.cluster import Membership
from agent.model.disk import BROKEN, Identity, Stage
from agent.model.generation import GenerationRecord
from agent.model.known import Unknown
from agent.model.memory import CRASHES


def fence_an_older_generation(s: Situation) -> Decision | None:
    """The bucket holds a newer generation than this disk."""
    identity, head = s.identity, s.o.head
    if identity is None or identity.stage is Stage.FENCED or not isinstance(head, GenerationRecord):
        return None
    if identity.generation >= head.generation:
        return None
    why = f"generation {head.generation} exists, and this disk belongs to generation {identity.generation}"
    return do(StampIdentity(replace(identity, stage=Stage.FENCED)), why)


def fence_a_removed_member(s: Situation) -> Decision | None:
    """A quorum of our own cluster answered, and its list does not hold us: etcd would refuse to run."""
    identity, membership = s.identity, s.o.membership
    if identity is None or identity.stage is Stage.FENCED or s.running or not s.holds_data:
        return None
    ours = identity.cluster_id or (s.memory.formed and s.memory.formed.cluster_id)
    if isinstance(membership, Unknown) or membership.cluster_id != ours:
        return None
    if s.own_entry(membership) is not None or _keeps_a_seat(identity, membership):
        return None
    why = f"member {identity.member_id or identity.instance} was removed from the cluster while it was away"
    return do(StampIdentity(replace(identity, stage=Stage.FENCED)), why)


def _keeps_a_seat(identity: Identity, membership: Membership) -> bool:
    """A founder with restored data that comes late: the others learn its name only when it starts for the first time.

    An unstarted voter at its address is nobody else's: who joins is added as a learner.
    """
    waiting = (each for each in membership.at(identity.peer_url) if not each.started and not each.is_learner)
    return identity.member_id is None and any(waiting)


def stop_what_is_fenced(s: Situation) -> Decision | None:
    """The disk is fenced and its etcd still runs: stop it."""
    if s.identity is None or s.identity.stage is not Stage.FENCED or not s.running:
        return None
    return do(StopEtcd("fenced"), "this disk is fenced and its etcd still runs")


def quarantine_what_is_fenced(s: Situation) -> Decision | None:
    """The disk is fenced and nothing runs: move data and identity aside, deleting nothing."""
    if s.identity is None or s.identity.stage is not Stage.FENCED:
        return None
    why = f"fenced: member {s.identity.member_id or 'unknown'} of generation {s.identity.generation}"
    ailing = s.memory.etcd_short_lives >= CRASHES
    return do(Quarantine(f"generation-{s.identity.generation}-{BROKEN if ailing else 'fenced'}"), why)
