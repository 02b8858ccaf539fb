"""An instance without data and a formed cluster: join as a learner, never as a voter, never twice.

Before the entry is asked for, the identity says `adding`. An unstarted entry at our address is then our own
from an answer that was lost, and is adopted. Any other entry of ours is a life whose disk is gone: it is
removed by its ID, because an ID that raft has heard from must not come back with an empty log. A founder
that never started and joins instead spends its claim first, so that it can never use its seat again.
"""

from __future__ import annotations

from dataclasses import replace

from agent.decide.recovering import what_blocks
from agent.decide.removing import quorum_survives_without
from agent.decide.situation import Situation, do, wait
from agent.model.actions import (
    AddLearner,
    Blocker,
    CallHuman,
    Decision,
    Launch,
    Reason,
    RemoveMember,
    StampIdentity,
    StartEtcd,
    WriteClaim,
)
from agent.model.cluster import Member, Membership
from agent.model.disk import Data, Identity, Stage
from agent.model.generation import Claim, GenerationRecord
from agent.model.known import Unknown


def join(s: Situation) -> Decision | None:
    """The way from an empty disk to a learner, one step a round."""
    record = s.o.head
    if s.running or s.holds_data or record is None:
        return None
    if isinstance(record, Unknown):
        return wait(Blocker.IGNORANCE, f"an empty disk, and the newest generation is {record}")
    if isinstance(s.o.lifecycle_target, str) and s.o.lifecycle_target.startswith("Warmed:"):
        return wait(Blocker.LEAVING, f"this instance is on its way to {s.o.lifecycle_target}: it joins nothing")
    if isinstance(s.o.formed, Unknown):
        return wait(Blocker.IGNORANCE, f"whether generation {record.generation} has formed is {s.o.formed}")
    if s.o.formed is None:
        return wait(Blocker.FORMATION, f"generation {record.generation} has not formed yet{what_blocks(s)}")
    if isinstance(s.o.membership, Unknown):
        return wait(
            Blocker.QUORUM, f"no quorum of generation {record.generation} answers: {s.o.membership}{what_blocks(s)}"
        )
    if s.o.membership.cluster_id != s.o.formed.cluster_id:
        why = f"the cluster that answers has ID {s.o.membership.cluster_id}, generation {record.generation} another"
        hint = "find out which etcd answers at our members' addresses"
        return do(CallHuman(hint, Reason.STRANGERS_ANSWER), why)
    return _join(s, record, s.o.membership)


def _join(s: Situation, record: GenerationRecord, membership: Membership) -> Decision:
    identity = s.identity
    if identity is not None and _is_of_this_way(s, identity, record):
        if identity.stage is Stage.JOINING:
            return _start_joined(s, identity, membership)
        if identity.stage is Stage.ADDING:
            return _give_up_the_seat(s, identity, record) or _add(s, identity, membership)
    return _reap_own(s, membership) or _prepare(s, record)


def _is_of_this_way(s: Situation, identity: Identity, record: GenerationRecord) -> bool:
    """Of this instance, for the head: a disk that came from elsewhere before etcd ran on it begins anew."""
    ours = identity.instance == s.me.instance and identity.generation == record.generation
    return ours and s.disk.data is Data.EMPTY


def _give_up_the_seat(s: Situation, identity: Identity, record: GenerationRecord) -> Decision | None:
    """A founder that joins instead must never found later: its claim is spent before it asks for an entry."""
    if s.me.instance not in record.founders or isinstance(s.o.claim, Claim):
        return None
    if isinstance(s.o.claim, Unknown):
        return wait(Blocker.IGNORANCE, f"a founder that joins cannot tell whether it has started before: {s.o.claim}")
    claim = Claim(s.me.instance, identity.nonce)
    return do(WriteClaim(record.generation, claim), "a founder that joins as a new member gives up its seat")


def _start_joined(s: Situation, identity: Identity, membership: Membership) -> Decision:
    """We have the entry `member_id`, and nothing has run under it from this disk."""
    entry = membership.find(identity.member_id)
    if entry is None or (entry.started and entry.name != s.me.instance):
        fresh = replace(identity, stage=Stage.ADDING, nonce=s.o.nonce, member_id=None, cluster_id=None)
        return do(StampIdentity(fresh), f"our entry {identity.member_id} is gone, or somebody else's: ask anew")
    if entry.started:
        return _remove_own(s, entry, membership, "it has run, and its disk is gone")
    cluster = [
        (str(each.name or each.id), url) for each in membership.members if each != entry for url in each.peer_urls
    ]
    launch = Launch(s.me.instance, s.me.peer_url, "existing", "", ((s.me.instance, s.me.peer_url), *cluster))
    return do(StartEtcd(launch), f"the cluster holds the entry {entry.id} for us")


def _add(s: Situation, identity: Identity, membership: Membership) -> Decision:
    """We were about to ask for an entry: adopt the one that is there, or ask."""
    for entry in membership.at(s.me.peer_url):
        if not entry.started and entry.is_learner:
            joined = replace(identity, stage=Stage.JOINING, member_id=entry.id, cluster_id=membership.cluster_id)
            return do(StampIdentity(joined), f"the cluster holds the unstarted learner {entry.id} at our address")
    reaping = _reap_own(s, membership)
    if reaping is not None:
        return reaping
    if membership.learners:
        other = membership.learners[0]
        return wait(Blocker.LEARNER_SLOT, f"etcd takes one learner at a time, and {other} is one")
    return do(AddLearner(s.me.peer_url), f"{len(membership.members)} members, and we are not among them")


def _reap_own(s: Situation, membership: Membership) -> Decision | None:
    """Entries of this instance, or at its address, from a life whose disk is gone."""
    for entry in membership.members:
        if entry.name == s.me.instance:
            return _remove_own(s, entry, membership, "it is this instance's, whose disk is empty")
        if s.me.peer_url in entry.peer_urls:
            return _reap_at_our_address(s, entry, membership)
    return None


def _reap_at_our_address(s: Situation, entry: Member, membership: Membership) -> Decision:
    if not entry.started:
        return _remove_own(s, entry, membership, "nobody knows it, and it is at this instance's address")
    proof = s.proof_of_end(entry)
    if proof is None:
        return wait(Blocker.ADDRESS, f"our address belongs to member {entry}, whose instance is not proven gone")
    return _remove_own(s, entry, membership, proof)


def _remove_own(s: Situation, entry: Member, membership: Membership, why: str) -> Decision:
    if not quorum_survives_without(entry, membership, s.o.answers):
        return wait(Blocker.QUORUM, f"{entry} must go ({why}), but too few others answer to keep a quorum")
    return do(RemoveMember(entry.id), f"{entry}: {why}")


def _prepare(s: Situation, record: GenerationRecord) -> Decision:
    fresh = Identity(s.policy.cluster, s.me.instance, record.generation, Stage.ADDING, s.o.nonce, s.me.peer_url)
    return do(StampIdentity(fresh, prepare=True), f"an empty disk: about to join generation {record.generation}")
