"""Everything that an operator has to know before replacing a cluster, read once: bucket, EC2 and every etcd.

House rules. Reads only. What the bucket or EC2 does not say ends the inquiry: a person who replaces a cluster must not
guess either. An etcd that does not answer is no answer, and `agent.decide.case` says what that means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from agent.decide.case import Case
from agent.decide.loss import lists_of
from agent.decide.seeding import best_snapshot
from agent.model.cluster import Membership, MemberStatus
from agent.model.faults import Trouble
from agent.model.fleet import Fleet
from agent.model.generation import FIRST, Exclusion, FiledReport, Formed, GenerationRecord
from agent.model.ids import ClientUrl, GenerationNumber, InstanceId, PeerUrl
from agent.model.known import Ignorance, Unknown
from agent.model.memory import Memory
from agent.model.observation import Me, Observation
from agent.model.policy import Policy
from agent.model.snapshot import Listed, Manifest, SnapshotName
from agent.observe import ask
from agent.world.doors import Clock, Cloud

LOOKS = 2
"""EC2 is asked twice for whom it does not know: one look proves nothing (`agent.decide.loss`)."""


class Records(Protocol):
    """The bucket, as far as recovery goes."""

    def head(self, after: GenerationRecord | None) -> GenerationRecord | None: ...

    def formed(self, generation: GenerationNumber) -> Formed | None: ...

    def reports(self, generation: GenerationNumber) -> tuple[FiledReport, ...]: ...

    def exclusions(self, generation: GenerationNumber) -> tuple[Exclusion, ...]: ...

    def exclude(self, generation: GenerationNumber, exclusion: Exclusion) -> bool: ...

    def snapshots(self) -> tuple[Listed, ...]: ...

    def manifest(self, name: SnapshotName) -> Manifest | None: ...

    def create_generation(self, record: GenerationRecord) -> bool: ...


class Members(Protocol):
    """etcd, as far as its members say who leads."""

    def statuses(self, endpoints: Sequence[ClientUrl]) -> Mapping[ClientUrl, MemberStatus | Unknown]: ...

    def membership(self, endpoint: ClientUrl) -> Membership: ...


class Post(Protocol):
    """What is asked: `agent.wiring.CommandPost`."""

    @property
    def bucket(self) -> Records: ...

    @property
    def cloud(self) -> Cloud: ...

    @property
    def etcd(self) -> Members: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def policy(self) -> Policy: ...

    @property
    def me(self) -> Me: ...

    @property
    def peer_url(self) -> Callable[[str], PeerUrl]: ...


def inquire(post: Post) -> Case:
    """Raises what the bucket or EC2 raises: then nothing can be ordered."""
    bucket, policy = post.bucket, post.policy
    head = bucket.head(None)
    about = FIRST if head is None else head.generation
    formed, filed = bucket.formed(about) if head else None, bucket.reports(about)
    exclusions = bucket.exclusions(about) if head else ()
    listed = bucket.snapshots()
    manifest = _newest_manifest(bucket, head, listed)
    fleet, looks = _fleet(post, _names(head, formed, filed, manifest))
    answers = _answers(post, fleet)
    o = Observation(
        now=post.clock.now(),
        nonce=post.clock.nonce(),
        me=post.me,
        head=head,
        formed=formed,
        fleet=fleet,
        reports=filed,
        exclusions=exclusions,
        snapshots=listed,
        manifest=manifest,
        membership=_membership(post, answers),
    )
    return Case(
        o=o,
        memory=Memory(head=head, formed=formed, unheard_of=looks),
        policy=policy,
        head=head,
        fleet=fleet,
        filed=filed,
        listed=listed,
        exclusions=exclusions,
        peer_urls={each.id: post.peer_url(each.private_ip) for each in fleet.up if each.private_ip},
        answers={each: status for each, (_, status) in answers.items()},
    )


def _newest_manifest(
    bucket: Records, head: GenerationRecord | None, listed: Sequence[Listed]
) -> Manifest | Unknown | None:
    """It names members, too. One that makes no sense says nothing, as to the agents."""
    name = None if head is None else best_snapshot(head, listed)
    return None if name is None else ask(lambda: bucket.manifest(name))


def _names(
    head: GenerationRecord | None,
    formed: Formed | None,
    filed: Sequence[FiledReport],
    manifest: Manifest | Unknown | None,
) -> frozenset[InstanceId]:
    """Everybody whom the documents and the reports name: EC2 is asked what became of them."""
    found = set(head.founders) if head is not None else set()
    if formed is not None:
        found.update(formed.voters.values())
    for each in filed:
        found.add(each.report.instance)
        told = (entry for members in lists_of(each.report) for entry in members)
        found.update(InstanceId(entry.name) for entry in told if entry.name)
    if isinstance(manifest, Manifest):
        found.update(InstanceId(entry.name) for entry in manifest.members if entry.name)
    return frozenset(found)


def _fleet(post: Post, names: frozenset[InstanceId]) -> tuple[Fleet, Mapping[InstanceId, int]]:
    fleet = post.cloud.fleet(names, desired_capacity_too=True)
    if not fleet.unheard_of:
        return fleet, {}
    again = post.cloud.fleet(names, desired_capacity_too=False)
    return again, dict.fromkeys(fleet.unheard_of & again.unheard_of, LOOKS)


Answers = Mapping[InstanceId, tuple[ClientUrl, MemberStatus]]


def _answers(post: Post, fleet: Fleet) -> Answers:
    urls = {each.id: post.policy.client_url(each.private_ip) for each in fleet.up if each.private_ip}
    statuses = post.etcd.statuses(sorted(urls.values()))
    found = {name: (url, statuses.get(url)) for name, url in urls.items()}
    return {name: (url, status) for name, (url, status) in found.items() if isinstance(status, MemberStatus)}


def _membership(post: Post, answers: Answers) -> Membership | Unknown:
    """Through the first that sees a leader: a quorum stands behind what it reads, or it says nothing."""
    for url, status in answers.values():
        if status.leader is not None and not status.is_learner:
            with suppress(Trouble):
                return post.etcd.membership(url)
    return Unknown(Ignorance.UNREACHABLE, "no etcd of the fleet that answers here has a quorum behind it")
