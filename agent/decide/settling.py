"""An etcd that runs: write down what it has become, here and in the bucket, and keep its address true."""

from __future__ import annotations

from dataclasses import replace

from agent.decide.situation import Situation, do
from agent.model.actions import CallHuman, Decision, Disarm, Reason, StampIdentity, UpdatePeerUrl, WriteFormed
from agent.model.cluster import AlarmKind, MemberStatus
from agent.model.disk import Stage
from agent.model.generation import Formed
from agent.model.ids import InstanceId
from agent.model.known import Unknown


def stamp_membership(s: Situation) -> Decision | None:
    """Our etcd answered for the first time: the identity learns its member ID and cluster ID."""
    identity, local = s.identity, s.o.local
    if identity is None or identity.stage not in (Stage.STARTING, Stage.JOINING) or not s.running:
        return None
    if isinstance(local, Unknown):
        return None
    if identity.member_id not in (None, local.member_id):
        why = f"we joined as member {identity.member_id}, but our etcd runs as {local.member_id}"
        return do(CallHuman("another etcd runs at this address: stop it", Reason.STRANGE_MEMBER_ID), why)
    settled = replace(
        identity,
        stage=Stage.MEMBER,
        member_id=local.member_id,
        cluster_id=local.cluster_id,
        instance=s.me.instance,
    )
    return do(StampIdentity(settled), f"our etcd answers as member {local.member_id}")


def write_formed(s: Situation) -> Decision | None:
    """A quorum of this generation answers: record its cluster ID, which nobody may differ from later.

    Before it is written nobody joins, so whoever has a member of this generation has a founder's data; under another
    name, too, where the volume moved.
    """
    record, identity, local, membership = s.record, s.identity, s.o.local, s.o.membership
    if s.o.formed is not None or record is None or identity is None or isinstance(membership, Unknown):
        return None
    if not isinstance(local, MemberStatus) or local.cluster_id != membership.cluster_id:
        return None
    if (identity.generation, identity.cluster_id) != (record.generation, membership.cluster_id):
        return None
    voters = {member.id: InstanceId(member.name) for member in membership.voters}
    formed = Formed(membership.cluster_id, voters)
    return do(WriteFormed(record.generation, formed), f"a quorum of generation {record.generation} answers")


def correct_own_address(s: Situation) -> Decision | None:
    """We had to start before the quorum could be told where we are: tell it now."""
    identity, membership = s.identity, s.o.membership
    if identity is None or identity.stage is not Stage.MEMBER or not s.running or isinstance(membership, Unknown):
        return None
    entry = s.own_entry(membership)
    if entry is None or entry.is_learner:
        return None
    if s.me.peer_url not in entry.peer_urls:
        because = f"the member list has us at {', '.join(entry.peer_urls)}, we are at {s.me.peer_url}"
        return do(UpdatePeerUrl(entry.id, s.me.peer_url), because)
    if (identity.peer_url, identity.instance) != (s.me.peer_url, s.me.instance):
        settled = replace(identity, peer_url=s.me.peer_url, instance=s.me.instance)
        return do(StampIdentity(settled), "the cluster knows our new address")
    return None


def clear_an_inherited_alarm(s: Situation) -> Decision | None:
    """A restored cluster still has the alarms of the members it was made of: a full database refuses writes for ever.

    What is still true is raised again by the next write. A CORRUPT alarm is a human's, whoever raised it.
    """
    membership = s.o.membership
    if not s.o.beside_the_leader or isinstance(membership, Unknown) or isinstance(s.o.alarms, Unknown):
        return None
    for alarm in s.o.alarms:
        if alarm.kind is AlarmKind.NOSPACE and membership.find(alarm.member) is None:
            return do(Disarm(alarm), f"member {alarm.member}, which raised {alarm.kind}, is of an older generation")
    return None
