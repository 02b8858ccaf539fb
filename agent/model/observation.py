"""Everything one round of the agent knows, in one frozen value: what `decide` decides upon.

Each field that had to be asked for may be Unknown. Those that were not worth asking in this round are
Unknown with `NOT_ASKED`; a rule that reads such a field stays silent, as with any other ignorance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime

from agent.model.certificates import Authorities, Issued
from agent.model.cluster import Alarm, Answers, Membership, MemberStatus
from agent.model.disk import Disk, EtcdProcess, Obstacle
from agent.model.dns import RecordSet
from agent.model.fleet import Fleet
from agent.model.generation import Claim, Exclusion, FiledReport, Formed, GenerationRecord
from agent.model.hold import Hold
from agent.model.ids import InstanceId, MemberId, Nonce, PeerUrl
from agent.model.known import NOT_ASKED, Ignorance, Unknown
from agent.model.members import Damaged, MemberEntry, Survey
from agent.model.snapshot import DrillRecord, Listed, Manifest
from agent.model.spot import SpotNotice
from agent.model.targets import TargetGroup
from agent.model.work import Idle, Work


@dataclass(frozen=True, slots=True)
class Me:
    """Who this instance is: fixed for the life of a boot, read from IMDS before the first round."""

    instance: InstanceId
    private_ip: str
    peer_url: PeerUrl
    boot_id: str
    zone: str = ""


@dataclass(frozen=True, slots=True)
class BucketSound:
    """The bucket honours `If-None-Match` and no lifecycle rule of it would expire the generations."""


@dataclass(frozen=True, slots=True)
class BucketUnsound:
    """The bucket would break the protocol: `why`, and what the operator does about it."""

    why: str
    hint: str


BucketVerdict = BucketSound | BucketUnsound


@dataclass(frozen=True, slots=True)
class Observation:
    """One round's facts. `now` is this instance's clock: good for durations, never compared with others'."""

    now: datetime
    nonce: Nonce  # fresh in every round: what a write of this round is signed with
    me: Me
    disk: Disk | Unknown = NOT_ASKED
    etcd_version: str | Unknown = NOT_ASKED  # of the installed binary
    data_version: str | Unknown | None = NOT_ASKED  # the cluster's, by our own data while etcd is stopped; None: none
    process: EtcdProcess | Unknown = NOT_ASKED
    local: MemberStatus | Unknown = NOT_ASKED  # our own etcd's Status
    membership: Membership | Unknown = NOT_ASKED
    answers: Answers = field(default_factory=Answers)
    fleet: Fleet | Unknown = NOT_ASKED
    bucket: BucketVerdict | Unknown = NOT_ASKED
    head: GenerationRecord | Unknown | None = NOT_ASKED  # None: there is no generation yet
    formed: Formed | Unknown | None = NOT_ASKED  # of the head
    claim: Claim | Unknown | None = NOT_ASKED  # our own, of the head
    reports: tuple[FiledReport, ...] | Unknown = NOT_ASKED  # for the head, or for generation 1
    exclusions: tuple[Exclusion, ...] | Unknown = NOT_ASKED  # for the head
    snapshots: tuple[Listed, ...] | Unknown = NOT_ASKED  # oldest first
    manifest: Manifest | Unknown | None = NOT_ASKED  # of the newest snapshot that the head could be restored from
    survey: Survey | Damaged | Unknown = NOT_ASKED  # of our own data directory
    obstacle: Obstacle | Unknown | None = NOT_ASKED  # what would keep any etcd from running here; None: nothing
    own_list: tuple[MemberEntry, ...] | Unknown = NOT_ASKED  # what our own etcd has applied, without a quorum
    leader_seen: bool | Unknown = NOT_ASKED  # by our own etcd or, without one, by any member that answers
    alarms: tuple[Alarm, ...] | Unknown = NOT_ASKED
    can_bump_revisions: bool | Unknown = NOT_ASKED
    dns: frozenset[RecordSet] | Unknown = NOT_ASKED  # what is published under the cluster's own names
    targets: tuple[TargetGroup, ...] | Unknown = NOT_ASKED  # the groups that this instance is to be in; all of them
    last_drill: DrillRecord | Unknown | None = NOT_ASKED  # None: there never was one
    work: Work = field(default_factory=Idle)
    lifecycle_target: str | Unknown | None = NOT_ASKED  # IMDS target-lifecycle-state
    spot: SpotNotice | Unknown | None = NOT_ASKED  # None: EC2 leaves this instance alone
    rebalance: datetime | Unknown | None = NOT_ASKED  # since when EC2 recommends to replace this spot instance
    hold: Hold | Unknown | None = NOT_ASKED  # `hold.json`; None: nobody holds the cluster
    issued: Issued | Unknown | None = NOT_ASKED  # this instance's certificates; None: it has none
    authorities: Authorities | Unknown | None = NOT_ASKED  # None: there is no certificate authority yet
    trusting: Mapping[MemberId, frozenset[int] | Unknown] | Unknown = NOT_ASKED
    """Which authorities each member's running etcd takes certificates from."""

    @property
    def beside_the_leader(self) -> bool:
        """Our own etcd says that it leads; only this agent removes others."""
        return isinstance(self.local, MemberStatus) and self.local.leads

    @property
    def leaving(self) -> bool:
        """Auto Scaling is terminating this instance, by its own word in this round."""
        return isinstance(self.lifecycle_target, str) and self.lifecycle_target == "Terminated"

    def ignorance(self) -> dict[str, Unknown]:
        """The fields that were asked for in vain, by name."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            name: value
            for name, value in found.items()
            if isinstance(value, Unknown) and value.why is not Ignorance.NOT_ASKED
        }
