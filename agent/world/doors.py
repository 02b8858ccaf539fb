"""The doors as the agent uses them. Each has two implementations: the real one beside this file, and the simulated
one under `tests/simulation`.

Every method may raise `Unavailable` (no answer; a write may have landed) or `Refused` (a definite no).
None of them retries a write; `agent.loop` is the retry. All of them return within their own deadlines.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from agent.model.actions import Launch
from agent.model.certificates import Authorities, Issued
from agent.model.cluster import Alarm, Membership, MemberStatus
from agent.model.disk import Disk, EtcdProcess, Identity, Obstacle
from agent.model.dns import RecordSet, RecordType
from agent.model.fleet import Fleet, Transition
from agent.model.generation import Claim, Exclusion, FiledReport, Formed, GenerationRecord, Report
from agent.model.hold import Hold
from agent.model.ids import ClientUrl, GenerationNumber, InstanceId, MemberId, Nonce, PeerUrl
from agent.model.known import Unknown
from agent.model.members import Damaged, MemberEntry, Survey
from agent.model.observation import BucketVerdict, Me
from agent.model.snapshot import DrillRecord, Listed, Manifest, SnapshotName
from agent.model.spot import SpotNotice
from agent.model.targets import TargetGroup
from agent.model.work import Task, Work


class Clock(Protocol):
    """Time and chance."""

    def now(self) -> datetime:
        """This instance's time, in UTC."""
        ...

    def sleep(self, duration: timedelta) -> None: ...

    def nonce(self) -> Nonce:
        """A word that nobody else will ever write; 128 random bits in hex."""
        ...

    def jitter(self) -> float:
        """A random number in [0, 1)."""
        ...


class Metadata(Protocol):
    """IMDS: what the instance knows of itself."""

    def me(self) -> Me: ...

    def target_lifecycle_state(self) -> str | None:
        """`autoscaling/target-lifecycle-state`; None where the instance belongs to no group (404)."""
        ...

    def spot_notice(self) -> SpotNotice | None:
        """`spot/instance-action`; None (404) while EC2 does not take this instance back."""
        ...

    def rebalance_recommended(self) -> datetime | None:
        """`events/recommendations/rebalance`: since when, by AWS's clock; None (404) where it is not."""
        ...


class Cloud(Protocol):
    """EC2 and Auto Scaling."""

    def fleet(self, also: frozenset[InstanceId], desired_capacity_too: bool) -> Fleet:
        """All instances found by tag or group, every page, plus those of `also` that a listing left out.

        Where `desired_capacity_too` is false the groups may be the last ones read.
        """
        ...

    def complete_hook(self, transition: Transition) -> None:
        """CONTINUE for every hook of our group that holds up this transition of our instance. None, or one that is
        over already, is no error."""
        ...

    def heartbeat_hook(self, transition: Transition) -> None:
        """RecordLifecycleActionHeartbeat for every hook of our group that holds up this transition, if any."""
        ...

    def protect(self, protected: bool) -> None:
        """SetInstanceProtection, for this instance. The next fleet is read with its groups."""
        ...

    def call_unhealthy(self) -> None:
        """SetInstanceHealth: Unhealthy, for this instance, after its group's grace period for new ones."""
        ...


class Bucket(Protocol):
    """The generation protocol's objects, all below one cluster's prefix."""

    def verdict(self) -> BucketVerdict:
        """Prove with a probe written twice that preconditions count, and read the lifecycle rules."""
        ...

    def head(self, after: GenerationRecord | None) -> GenerationRecord | None:
        """The highest generation. With `after`, only its successors are asked for (one GET in a steady state)."""
        ...

    def create_generation(self, record: GenerationRecord) -> bool:
        """Write the record once. False: another record of that number exists. A lost answer is looked up."""
        ...

    def claim(self, generation: GenerationNumber, instance: InstanceId) -> Claim | None: ...

    def write_claim(self, generation: GenerationNumber, claim: Claim) -> bool:
        """Write the claim once. False: a claim with another nonce exists."""
        ...

    def formed(self, generation: GenerationNumber) -> Formed | None: ...

    def write_formed(self, generation: GenerationNumber, formed: Formed) -> bool:
        """Write it once. False: it says something else already."""
        ...

    def reports(self, generation: GenerationNumber) -> tuple[FiledReport, ...]:
        """All reports for this generation, with their ages by S3's own clock."""
        ...

    def file_report(self, generation: GenerationNumber, report: Report) -> None: ...

    def snapshots(self) -> tuple[Listed, ...]:
        """Every snapshot under `snapshots/`, oldest first by name, whole or not: every page, in one listing."""
        ...

    def manifest(self, name: SnapshotName) -> Manifest | None:
        """None: there is none (any more). Unavailable(MALFORMED) where it makes no sense or is of another cluster."""
        ...

    def mark_bad(self, name: SnapshotName, why: str) -> None:
        """Leave word beside a snapshot that it was read and found wanting. Nothing is deleted."""
        ...

    def expire(self, names: Sequence[SnapshotName]) -> None:
        """Delete: manifest first, then data. Only below this cluster's own `snapshots/`."""
        ...

    def last_drill(self) -> DrillRecord | None:
        """The newest, with its age. None: there never was one."""
        ...

    def hold(self) -> Hold | None:
        """`hold.json`; None: there is none, or it was released. One that makes no sense holds."""
        ...

    def exclusions(self, generation: GenerationNumber) -> tuple[Exclusion, ...]:
        """The instances that an operator has written off for this generation."""
        ...

    def exclude(self, generation: GenerationNumber, exclusion: Exclusion) -> bool:
        """Write it once. False: that instance was excluded before."""
        ...


class Etcd(Protocol):
    """etcd's own API. Every call has a deadline; errors are told apart by code and details."""

    def status(self, endpoint: ClientUrl) -> MemberStatus: ...

    def statuses(self, endpoints: Sequence[ClientUrl]) -> Mapping[ClientUrl, MemberStatus | Unknown]:
        """All at once, within one Status deadline."""
        ...

    def membership(self, endpoint: ClientUrl) -> Membership:
        """A linearizable read, then the member list through the same member: a quorum stood behind it."""
        ...

    def members_locally(self, endpoint: ClientUrl) -> tuple[MemberEntry, ...]:
        """The list that this one member has applied: no quorum stands behind it, and a leaderless member gives it."""
        ...

    def has_leader(self, metrics_url: str) -> bool:
        """By etcd's metrics port: plain, without a certificate, and open even where a member answers nothing else."""
        ...

    def alarms(self, endpoint: ClientUrl) -> tuple[Alarm, ...]:
        """Every alarm that is raised, by any member's name, one that left the list included."""
        ...

    def disarm(self, endpoint: ClientUrl, alarm: Alarm) -> None: ...

    def compact(self, endpoint: ClientUrl, revision: int) -> None:
        """Drop the history before this revision, and wait until it is gone. Done already is done."""
        ...

    def defragment(self, endpoint: ClientUrl) -> None:
        """Of this one member, which answers nobody meanwhile. Returns when it is over, which may take minutes."""
        ...

    def add_learner(self, endpoint: ClientUrl, peer_url: PeerUrl) -> MemberId: ...

    def promote(self, endpoint: ClientUrl, member: MemberId) -> None: ...

    def remove(self, endpoint: ClientUrl, member: MemberId) -> None:
        """Refused with "member not found" where it is out of the list already."""
        ...

    def move_leader(self, endpoint: ClientUrl, to: MemberId) -> None:
        """Asked of the leader itself; returns when the other one leads."""
        ...

    def update_peer_url(self, endpoint: ClientUrl, member: MemberId, peer_url: PeerUrl) -> None:
        """Never of a learner: etcd before 3.5.31 promotes it by that."""
        ...


class Host(Protocol):
    """This instance's disk and its etcd process."""

    def disk(self) -> Disk: ...

    def data_version(self) -> str | None:
        """The cluster's version by the data here, `3.5.0`; None where it has none yet. Only while etcd is stopped."""
        ...

    def etcd_version(self) -> str:
        """Of the installed binary, e.g. `3.5.30`."""
        ...

    def stamp(self, identity: Identity, prepare: bool) -> None:
        """Replace the identity file durably; with `prepare`, create the data directory first."""
        ...

    def quarantine(self, why: str) -> None:
        """Move data directory and identity file aside, in one folder that says why and when."""
        ...

    def survey(self) -> Survey | Damaged:
        """What etcd's files say by themselves, whether or not etcd runs on them. Reads only."""
        ...

    def obstacle(self) -> Obstacle | None:
        """What would keep any etcd from running here, whatever its data is; asked while none runs.

        None: a small file could be written and synced, etcd's ports are free, and there is an etcd.
        """
        ...

    def can_bump_revisions(self) -> bool:
        """Whether the installed restore tool has `--bump-revision` (etcd 3.5.10 and later)."""
        ...

    def put_in_place(self, nonce: Nonce) -> None:
        """Make the data directory that was restored for this nonce the member's: one rename over an empty `data/`."""
        ...

    def process(self) -> EtcdProcess: ...

    def start(self, launch: Launch) -> None: ...

    def stop(self) -> None:
        """SIGTERM, and wait; etcd hands its leadership over by itself."""
        ...


class Dns(Protocol):
    """Route 53: one hosted zone."""

    def records(self, wanted: Sequence[tuple[str, RecordType]]) -> frozenset[RecordSet]:
        """Those of these names and types that there are. Refused where one is not a simple record set."""
        ...

    def upsert(self, records: Collection[RecordSet]) -> None:
        """Create or replace these, all of them or none; no other record set is touched."""
        ...


class Certificates(Protocol):
    """The certificate authorities in Parameter Store, and what they signed for this instance."""

    def issued(self) -> Issued | None:
        """What lies on this disk. None: nothing, or nothing that is whole."""
        ...

    def authorities(self) -> Authorities | None:
        """Whom to trust now. None: there is none, by an answer that was read to its end."""
        ...

    def create_authority(self) -> bool:
        """Make the first, once. False: there is one."""
        ...

    def issue(self, authorities: Authorities) -> None:
        """New keys, and certificates for them; all of it is exchanged at once."""
        ...

    def trusted_by(self, endpoints: Sequence[ClientUrl]) -> Mapping[ClientUrl, frozenset[int] | Unknown]:
        """Whom the etcds that run there take certificates from, by their handshakes. 0: somebody we do not know."""


class TargetGroups(Protocol):
    """Elastic Load Balancing: the target groups that the operator names, and this instance in them."""

    def groups(self) -> tuple[TargetGroup, ...]:
        """All of them, in the operator's order."""
        ...

    def register(self, arn: str) -> None: ...

    def deregister(self, arn: str) -> None:
        """Clients are sent elsewhere from now on; connections there are stay for the group's deregistration delay."""
        ...


class Workshop(Protocol):
    """Tasks that outlast a round, one at a time (`agent.model.work`)."""

    def state(self) -> Work:
        """Of this agent's process: an agent that was just started is idle."""
        ...

    def begin(self, task: Task) -> None:
        """Returns at once. Refused while another one is under way."""
        ...


@dataclass(frozen=True, slots=True)
class World:
    """All doors of one agent."""

    clock: Clock
    metadata: Metadata
    cloud: Cloud
    bucket: Bucket
    etcd: Etcd
    host: Host
    workshop: Workshop
    dns: Dns | None = None  # None: the operator wants nothing published
    certificates: Certificates | None = None  # None: others issue them, or there are none
    targets: TargetGroups | None = None  # None: the operator names no target groups
