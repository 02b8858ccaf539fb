"""Settings in, doors out: the only place that knows both. The rest of the agent sees `World` and `Policy`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agent import __version__
from agent.model.dns import DnsNames
from agent.model.faults import Refused, Trouble
from agent.model.ids import InstanceId, PeerUrl
from agent.model.known import Ignorance
from agent.model.observation import Me
from agent.model.policy import Policy
from agent.settings import Settings
from agent.world.aws import Aws
from agent.world.bucket import S3Bucket
from agent.world.clock import SystemClock
from agent.world.disk import DataRoot
from agent.world.doors import World
from agent.world.ec2 import Ec2Cloud
from agent.world.elbv2 import Elbv2
from agent.world.errands import Errands
from agent.world.etcd import Deadlines, EtcdDoor
from agent.world.etcd_auth import Login
from agent.world.etcd_channels import TlsFiles
from agent.world.etcd_launch import EtcdSettings, ServerTls
from agent.world.etcd_restore import can_bump_revisions, restore_tool
from agent.world.host import InstanceHost
from agent.world.imds import Imds, endpoint_from
from agent.world.route53 import Route53
from agent.world.snapshot_store import SnapshotStore
from agent.world.supervisor import Supervisor
from agent.world.supervisor_process import ProcessSupervisor
from agent.world.supervisor_systemd import SystemdSupervisor
from agent.world.workplace import Workplace
from agent.world.workshop import ThreadWorkshop

if TYPE_CHECKING:
    from agent.world.authorities import AuthorityStore
    from agent.world.certificates import InstanceCertificates


class Counting(Protocol):
    """Hears of every call to AWS and to etcd: the metrics, or nobody."""

    def aws_call(self, service: str, operation: str, result: str, seconds: float) -> None: ...

    def etcd_call(self, method: str, result: str, seconds: float) -> None: ...


class Silence:
    """Nobody listens: for commands that run once."""

    def aws_call(self, service: str, operation: str, result: str, seconds: float) -> None:
        pass

    def etcd_call(self, method: str, result: str, seconds: float) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Wired:
    """One agent, ready to play rounds."""

    world: World
    policy: Policy
    me: Me
    errands: Errands
    store: SnapshotStore


@dataclass(frozen=True, slots=True)
class BucketSide:
    """The bucket alone: what works wherever AWS credentials do."""

    bucket: S3Bucket
    store: SnapshotStore
    policy: Policy


@dataclass(frozen=True, slots=True)
class CommandPost:
    """What an operator decides by, on an instance or elsewhere: bucket, EC2 and every etcd that answers."""

    bucket: S3Bucket
    store: SnapshotStore
    policy: Policy
    clock: SystemClock
    me: Me  # `OPERATOR` where IMDS does not say
    cloud: Ec2Cloud
    etcd: EtcdDoor
    peer_url: Callable[[str], PeerUrl]
    can_bump_revisions: Callable[[], bool]
    """Of the restore tool on this machine, which says something of the others only on an instance of the fleet."""


OPERATOR = Me(InstanceId("operator"), private_ip="", peer_url=PeerUrl(""), boot_id="")
"""A machine that is no instance, as far as it can tell."""


def metadata(settings: Settings, counting: Counting) -> Imds:
    """The door to IMDS, which tells who we are and in which region."""
    return Imds(endpoint_from(os.environ), _scheme(settings), settings.etcd.peer_port, on_call=counting.aws_call)


def wire(settings: Settings, counting: Counting | None = None, stop: threading.Event | None = None) -> Wired:
    """All doors. Asks IMDS who we are: raises Unavailable where it does not answer."""
    counting = counting or Silence()
    imds = metadata(settings, counting)
    me = imds.me()
    aws = _aws(settings, os.environ.get("AWS_REGION") or imds.region(), counting)
    bucket, store = _bucket(settings, aws)
    etcd = _etcd(settings, counting)
    patient = SystemClock()  # not ended by a stop: what was begun is waited for
    balanced = settings.load_balancer.target_groups
    disk = DataRoot(settings.etcd.data_root, patient, me.boot_id)
    chosen = policy(settings)
    place = Workplace(
        settings.cluster.name, me.instance, __version__, chosen.client_url(me.private_ip), settings.etcd.binary
    )
    errands = Errands(place, patient, bucket, store, etcd, disk)
    world = World(
        clock=SystemClock(stop),
        metadata=imds,
        cloud=Ec2Cloud(aws, me.instance, settings.discovery.tags),
        bucket=bucket,
        etcd=etcd,
        host=_host(settings, me, disk, patient),
        workshop=ThreadWorkshop(errands.run, patient),
        dns=Route53(aws, settings.dns.zone_id) if settings.dns.zone_id else None,
        certificates=_certificates(settings, aws, me),
        targets=Elbv2(aws, me.instance, balanced) if balanced else None,
    )
    return Wired(world, chosen, me, errands, store)


def bucket_only(settings: Settings) -> BucketSide:
    """No IMDS where `AWS_REGION` says which region: for an operator's machine."""
    bucket, store = _bucket(settings, _aws(settings, _region(settings), Silence()))
    return BucketSide(bucket, store, policy(settings))


def command_post(settings: Settings) -> CommandPost:
    """Without `discovery.tags` only an instance of the fleet knows which fleet: Refused elsewhere."""
    aws = _aws(settings, _region(settings), Silence())
    me, tags = _me_or_operator(settings), settings.discovery.tags
    if me is OPERATOR and not tags:
        hint = "set discovery.tags, or run this on an instance of the fleet"
        raise Refused(f"nothing says which instances belong to the cluster: {hint}", Ignorance.OURS)
    bucket, store = _bucket(settings, aws)
    chosen, scheme = policy(settings), _scheme(settings)
    return CommandPost(
        bucket=bucket,
        store=store,
        policy=chosen,
        clock=SystemClock(),
        me=me,
        cloud=Ec2Cloud(aws, None if tags else me.instance, tags),
        etcd=_etcd(settings, Silence()),
        peer_url=lambda address: PeerUrl(f"{scheme}://{address}:{settings.etcd.peer_port}"),
        can_bump_revisions=lambda: can_bump_revisions(restore_tool(settings.etcd.binary)),
    )


def _region(settings: Settings) -> str:
    named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    try:
        return named or metadata(settings, Silence()).region()
    except Trouble as trouble:
        raise Refused(f"set AWS_REGION: nothing else names the region here ({trouble})", Ignorance.OURS) from trouble


def _me_or_operator(settings: Settings) -> Me:
    try:
        return metadata(settings, Silence()).me()
    except Trouble:
        return OPERATOR


def _aws(settings: Settings, region: str, counting: Counting) -> Aws:
    return Aws(region, settings.timing.aws_connect_timeout, settings.timing.aws_read_timeout, counting.aws_call)


def _bucket(settings: Settings, aws: Aws) -> tuple[S3Bucket, SnapshotStore]:
    storage = settings.storage
    where = (storage.bucket, storage.prefix, settings.cluster.name, storage.kms_key_id)
    return S3Bucket(aws, *where), SnapshotStore(aws, *where)


def _scheme(settings: Settings) -> str:
    return "http" if settings.tls.mode == "off" else "https"


def authority_store(settings: Settings, aws: Aws) -> AuthorityStore:
    """For `tls.mode = "ca"` alone: what signs costs memory, and is imported by whoever needs it."""
    from agent.world.authorities import AuthorityStore

    storage = settings.storage
    cluster = "/".join(filter(None, (f"s3://{storage.bucket}", storage.prefix, settings.cluster.name)))
    return AuthorityStore(aws, settings.authority_path, settings.tls.kms_key_id, cluster, SystemClock().now)


def operators_authority_store(settings: Settings) -> AuthorityStore:
    """With whatever credentials the environment has."""
    return authority_store(settings, _aws(settings, _region(settings), Silence()))


def _certificates(settings: Settings, aws: Aws, me: Me) -> InstanceCertificates | None:
    if settings.tls.mode != "ca":
        return None
    from agent.world.certificates import Here, InstanceCertificates

    clock, dns = SystemClock(), settings.dns.name
    names = [each.strip() for each in settings.tls.names.split(",") if each.strip()]
    names += [dns, f"*.{dns}"] if dns else []
    return InstanceCertificates(
        settings.etcd.data_root,
        authority_store(settings, aws),
        Here(me.instance, me.private_ip, tuple(dict.fromkeys(names))),
        settings.tls.life,
        clock.now,
        clock.nonce,
        settings.timing.etcd_status_timeout,
    )


def _etcd(settings: Settings, counting: Counting) -> EtcdDoor:
    timing = settings.timing
    deadlines = Deadlines(timing.etcd_status_timeout, timing.etcd_read_timeout, timing.etcd_membership_timeout)
    auth = settings.auth
    login = Login(auth.user, auth.password_file) if auth.password_file is not None else None
    return EtcdDoor(_client_tls(settings), deadlines, counting.etcd_call, login)


def _client_tls(settings: Settings) -> TlsFiles | None:
    tls = settings.tls
    if tls.mode == "ca":
        from agent.world.certificates import client_tls

        return client_tls(settings.etcd.data_root)
    if tls.mode != "files" or tls.ca is None:
        return None
    return TlsFiles(tls.ca, tls.cert, tls.key)


def server_tls_of(settings: Settings) -> ServerTls | None:
    """The files that etcd serves with; None where it speaks plain HTTP."""
    tls = settings.tls
    if tls.mode == "ca":
        from agent.world.certificates import server_tls

        return server_tls(settings.etcd.data_root)
    files = (tls.ca, tls.cert, tls.key, tls.peer_ca, tls.peer_cert, tls.peer_key)
    given = [each for each in files if each is not None]
    return ServerTls(*given) if tls.mode == "files" and len(given) == len(files) else None


def supervisor(settings: Settings, clock: SystemClock) -> Supervisor:
    """Who runs etcd here."""
    etcd = settings.etcd
    if etcd.supervisor == "process":
        return ProcessSupervisor(etcd.binary, etcd.data_root, etcd.data_root / "etcd.log", clock)
    return SystemdSupervisor(etcd.data_root, clock, etcd.binary)


def _host(settings: Settings, me: Me, disk: DataRoot, clock: SystemClock) -> InstanceHost:
    etcd = settings.etcd
    launched_with = EtcdSettings(
        data_dir=disk.data,
        private_ip=me.private_ip,
        client_port=etcd.client_port,
        metrics_port=etcd.metrics_port,
        peer_port=etcd.peer_port,
        quota_backend_bytes=etcd.quota_backend_bytes,
        auto_compaction_retention=etcd.auto_compaction_retention,
        heartbeat_ms=etcd.heartbeat_ms,
        election_ms=etcd.election_ms,
        tls=server_tls_of(settings),
        extra=etcd.extra,
    )
    return InstanceHost(
        disk, supervisor(settings, clock), etcd.binary, launched_with, settings.timing.etcd_stop_timeout
    )


def _names(settings: Settings) -> DnsNames | None:
    if not settings.dns.name:
        return None
    service = "_etcd-client-ssl._tcp" if settings.tls.mode != "off" else "_etcd-client._tcp"
    return DnsNames(f"{settings.dns.name}.", settings.dns.ttl, service)


def policy(settings: Settings) -> Policy:
    """What decisions depend on, out of the settings."""
    timing, snapshots = settings.timing, settings.snapshots
    return Policy(
        cluster=settings.cluster.name,
        agent_version=__version__,
        client_scheme=_scheme(settings),
        client_port=settings.etcd.client_port,
        loop_interval=timing.loop_interval,
        busy_interval=timing.busy_interval,
        patient_interval=timing.patient_interval,
        fleet_interval=timing.fleet_interval,
        groups_interval=timing.groups_interval,
        trouble_interval=timing.trouble_fleet_interval,
        patient_trouble_interval=timing.patient_trouble_fleet_interval,
        head_interval=timing.head_interval,
        founding_grace=timing.founding_grace,
        report_interval=timing.report_interval,
        report_max_age=timing.report_max_age,
        leaderless_grace=timing.leaderless_grace,
        join_timeout=timing.join_timeout,
        address_grace=timing.address_grace,
        restart_backoff_max=timing.etcd_restart_backoff_max,
        snapshot_interval=snapshots.interval,
        keep_newest=snapshots.keep_newest,
        keep_hourly=snapshots.keep_hourly,
        keep_daily=snapshots.keep_daily,
        drill_interval=snapshots.drill_interval,
        bump_revision=snapshots.bump_revision,
        metrics_port=settings.etcd.metrics_port,
        quota_bytes=settings.etcd.quota_backend_bytes,
        defragment=settings.maintenance.defragment,
        defragment_size=settings.maintenance.defragment_size,
        defragment_share=settings.maintenance.defragment_percent / 100,
        maintenance_after=settings.maintenance.after,
        nospace=settings.maintenance.nospace,
        drain=timing.drain,
        dns=_names(settings),
        target_groups=settings.load_balancer.target_groups,
        protect_voters=settings.autoscaling.protect_voters,
        replace_unhealthy=settings.autoscaling.replace_unhealthy,
        issues_certificates=settings.tls.mode == "ca",
    )
