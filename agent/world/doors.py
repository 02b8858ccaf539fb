"""The doors as the agent uses them. Each has two implementations: the real one beside this file, and the simulated
one under `tests/simulation`.

Every method may raise `Unavailable` (no answer; a write may have landed) or `Refused` (a definite no).
None of them retries a write; `agent.loop` is the retry. All of them return within their own deadlines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from agent.model.actions import Launch
from agent.model.cluster import Membership, MemberStatus
from agent.model.disk import Disk, EtcdProcess, Identity
from agent.model.fleet import Fleet
from agent.model.generation import Claim, FiledReport, Formed, GenerationRecord, Report
from agent.model.ids import ClientUrl, GenerationNumber, InstanceId, MemberId, Nonce, PeerUrl
from agent.model.known import Unknown
from agent.model.observation import BucketVerdict, Me


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


class Cloud(Protocol):
    """EC2 and Auto Scaling."""

    def fleet(self, also: frozenset[InstanceId], desired_capacity_too: bool) -> Fleet:
        """All instances found by tag or group, every page, plus those of `also` that a listing left out.

        Where `desired_capacity_too` is false the groups may be the last ones read.
        """
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

    def snapshots_exist(self) -> bool:
        """Whether anything lies under `snapshots/`."""
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

    def add_learner(self, endpoint: ClientUrl, peer_url: PeerUrl) -> MemberId: ...

    def promote(self, endpoint: ClientUrl, member: MemberId) -> None: ...

    def remove(self, endpoint: ClientUrl, member: MemberId) -> None:
        """Refused with "member not found" where it is out of the list already."""
        ...

    def update_peer_url(self, endpoint: ClientUrl, member: MemberId, peer_url: PeerUrl) -> None:
        """Never of a learner: etcd before 3.5.31 promotes it by that."""
        ...


class Host(Protocol):
    """This instance's disk and its etcd process."""

    def disk(self) -> Disk: ...

    def etcd_version(self) -> str:
        """Of the installed binary, e.g. `3.5.30`."""
        ...

    def stamp(self, identity: Identity, prepare: bool) -> None:
        """Replace the identity file durably; with `prepare`, create the data directory first."""
        ...

    def quarantine(self, why: str) -> None:
        """Move data directory and identity file aside, in one folder that says why and when."""
        ...

    def process(self) -> EtcdProcess: ...

    def start(self, launch: Launch) -> None: ...

    def stop(self) -> None:
        """SIGTERM, and wait; etcd hands its leadership over by itself."""
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
