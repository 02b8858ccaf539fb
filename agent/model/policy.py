"""The operator's choices that decisions depend on; everything else in the settings concerns only doors."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from agent.model.dns import DnsNames
from agent.model.ids import ClientUrl


@dataclass(frozen=True, slots=True)
class Policy:
    """Timings say what they cost: too short means needless work, too long means a longer gap."""

    cluster: str
    agent_version: str = "0"
    client_scheme: str = "http"
    client_port: int = 2379
    loop_interval: timedelta = timedelta(seconds=3)  # between rounds while all is well
    busy_interval: timedelta = timedelta(milliseconds=250)  # between rounds while something is under way
    patient_interval: timedelta = timedelta(seconds=5)  # and at most, when that takes long
    fleet_interval: timedelta = timedelta(seconds=60)  # the leader's look at EC2 while all is well
    groups_interval: timedelta = timedelta(minutes=5)  # and at Auto Scaling, for the desired capacity
    trouble_interval: timedelta = timedelta(seconds=2)  # and at EC2 while something is under way
    patient_trouble_interval: timedelta = timedelta(seconds=15)  # and at most, when that takes long
    head_interval: timedelta = timedelta(minutes=5)  # a serving member's look for a newer generation
    founding_grace: timedelta = timedelta(minutes=2)  # for the whole fleet to report, then a majority will do
    report_interval: timedelta = timedelta(seconds=5)  # a waiting agent files its report again
    report_max_age: timedelta = timedelta(seconds=20)  # an older report says nothing about now
    leaderless_grace: timedelta = timedelta(seconds=30)
    join_timeout: timedelta = timedelta(minutes=2)  # a learner without progress is removed after this
    address_grace: timedelta = timedelta(seconds=10)  # for a quorum to take a new address before a restart
    restart_backoff_max: timedelta = timedelta(seconds=30)  # between starts of an etcd that keeps ending
    snapshot_interval: timedelta = timedelta(minutes=5)  # what is lost at most where every disk is lost
    keep_newest: int = 24  # snapshots
    keep_hourly: int = 24
    keep_daily: int = 7
    drill_interval: timedelta = timedelta(days=1)  # 0: never
    bump_revision: int = 1_000_000_000  # added to revisions at a restore, so that watchers notice; 0: not at all
    metrics_port: int = 2381
    quota_bytes: int = 2 << 30  # etcd's --quota-backend-bytes
    defragment: bool = True
    defragment_size: int = 100 << 20  # bytes; a smaller database is left as it is
    defragment_share: float = 0.5  # of it that is not in use
    maintenance_after: timedelta = timedelta(minutes=5)  # without any change
    nospace: bool = False  # compact, defragment and disarm where a database is full
    drain: timedelta = timedelta(0)  # a member that leaves serves on for this long, and is not ready
    dns: DnsNames | None = None  # where clients find the cluster; None: nothing is published
    target_groups: tuple[str, ...] = ()  # ARNs: where this instance is registered while its member serves
    protect_voters: bool = False  # from scale-in, while the cluster can spare nobody
    issues_certificates: bool = False  # tls.mode = "ca": each agent has its own certificates signed
    replace_unhealthy: bool = False  # ask Auto Scaling for another instance where none of ours can live here

    def client_url(self, private_ip: str) -> ClientUrl:
        """Where the etcd of the instance with this address answers clients."""
        return ClientUrl(f"{self.client_scheme}://{private_ip}:{self.client_port}")

    def metrics_url(self, private_ip: str) -> str:
        """Where the etcd of that instance tells its metrics: plain, and open even without a quorum."""
        return f"http://{private_ip}:{self.metrics_port}"
