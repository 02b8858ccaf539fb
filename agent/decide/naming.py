"""The leader's agent keeps the names under which clients find the cluster: only voters that serve, never nobody.

    the voters that serve      what is published    step
    are known, at least one    is not known         read it (seldom: see `attention`)
    are known, at least one    the same             none
    are known, at least one    something else       write all of it, in one change
    none, or not known         -                    none: an old name is better than no name

A voter counts until it has been silent for a while, and no longer once it knows of no leader or its instance is on its
way out. Nothing is ever deleted; what somebody else keeps in the zone is neither read nor touched.
"""

from __future__ import annotations

from datetime import timedelta

from agent.decide.promoting import staying
from agent.decide.situation import Situation, do
from agent.model.actions import Decision, PublishRecords
from agent.model.cluster import Member, Membership, MemberStatus
from agent.model.dns import DnsNames, endpoint_of
from agent.model.known import Unknown

SILENT_FOR = timedelta(seconds=10)
"""A voter that misses an answer or two is not taken out, and put back in, for all clients."""

TRY_AGAIN = timedelta(minutes=1)


def publish_names(s: Situation) -> Decision | None:
    """Beside the leader, where the published names are not those of the voters that serve."""
    names, membership, published = s.policy.dns, s.o.membership, s.memory.published
    if names is None or isinstance(membership, Unknown) or not s.o.beside_the_leader or published is None:
        return None
    refused_at = s.memory.publishing_refused_at
    if refused_at is not None and s.o.now - refused_at < TRY_AGAIN:
        return None
    endpoints = _endpoints(s, membership)
    if not endpoints:
        return None
    wanted = names.of(endpoints)
    if published == frozenset(each for each in wanted if (each.name, each.type) in names.watched):
        return None
    return do(PublishRecords(wanted), f"{len(endpoints)} voters serve, and {_published(s, names)}")


def _published(s: Situation, names: DnsNames) -> str:
    found = [each for each in s.memory.published or () if (each.name, each.type) == names.watched[0]]
    return f"{names.name} has {', '.join(sorted(found[0].values))}" if found else f"{names.name} has no address"


def _endpoints(s: Situation, membership: Membership) -> frozenset[tuple[str, int]]:
    fleet = s.memory.fleet
    voters = membership.voters if fleet is None else staying(membership, fleet)
    found = (endpoint_of(url) for each in voters if _serves(s, each) for url in each.client_urls[:1])
    return frozenset(each for each in found if each is not None)


def _serves(s: Situation, member: Member) -> bool:
    said = s.o.answers.of.get(member.id)
    if isinstance(said, MemberStatus):
        return said.leader is not None
    silent_since = s.memory.silent_since.get(member.id)
    return silent_since is not None and s.o.now - silent_since < SILENT_FOR and member.started
