"""What the doctor looks at, and in which order: an image, or a whole instance.

Nothing heavy is imported for an image: what is wrong with a library is a finding, not a traceback.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from agent.doctor.finding import Finding, unknown
from agent.doctor.judging import installation
from agent.doctor.looking import installation as looking
from agent.doctor.looking.known import known
from agent.model.disk import EtcdProcess, EtcdRunning
from agent.model.faults import Refused
from agent.model.known import Ignorance, Unknown
from agent.settings import Problem, Settings

if TYPE_CHECKING:
    from agent.model.observation import Me
    from agent.world.clock import SystemClock
    from agent.world.imds import Imds

BOOTED = Path("/run/systemd/system")
"""There where systemd is PID 1: sd_booted(3)."""


def of_an_image(settings: Settings, settings_file: Path, missing: Sequence[Problem]) -> Iterator[Finding]:
    """Without AWS and IMDS, and while nothing runs."""
    data_root = settings.etcd.data_root
    yield from installation.settings_of_an_image(missing)
    seen = looking.installation(settings_file, data_root)
    yield from _versions(settings, seen)
    yield from installation.judge(seen, data_root, by_systemd=settings.etcd.supervisor == "systemd")
    yield from installation.empty_data_root(seen.data_root, data_root)


def of_an_instance(settings: Settings, settings_file: Path) -> Iterator[Finding]:
    """The whole of it, beside a running agent and etcd, too."""
    from agent.doctor.looking import disk
    from agent.wiring import Silence, metadata, supervisor
    from agent.world.clock import SystemClock

    disk.be_a_guest()
    clock = SystemClock()
    seen = looking.installation(settings_file, settings.etcd.data_root)
    imds = known(lambda: metadata(settings, Silence()))
    me = imds if isinstance(imds, Unknown) else known(imds.me)
    etcd = known(supervisor(settings, clock).state)
    yield from _versions(settings, seen)
    yield from _installed(settings, seen)
    account = seen.account if settings.etcd.supervisor == "systemd" else None  # else: whoever started the agent
    yield from _disk(settings, account, etcd, me, clock)
    yield from _ports(settings, etcd, me)
    yield from _tls(settings, account, me, clock)
    yield from _clock_and_aws(settings, imds, me, clock)


def _versions(settings: Settings, seen: installation.Installation) -> Iterator[Finding]:
    if seen.broken_imports:
        why = "not asked: the agent's libraries cannot be imported"
        yield unknown("etcd-version", why, "etcd may be missing, or one that loses data", "mend the libraries first")
        return
    from agent.doctor.judging import versions
    from agent.doctor.looking import versions as looking_at_versions

    wants_bump = settings.snapshots.bump_revision > 0
    yield from versions.judge(looking_at_versions.versions(settings.etcd.binary, wants_bump=wants_bump))


def _installed(settings: Settings, seen: installation.Installation) -> Iterator[Finding]:
    by_systemd = settings.etcd.supervisor == "systemd"
    if by_systemd or BOOTED.exists():
        yield from installation.judge(seen, settings.etcd.data_root, by_systemd=by_systemd)
    else:
        yield from installation.judge_without_systemd(seen)


# ---- this machine ---------------------------------------------------------------------------------------------------


def _disk(
    settings: Settings,
    account: installation.Account | None,
    etcd: EtcdProcess | Unknown,
    me: Me | Unknown,
    clock: SystemClock,
) -> Iterator[Finding]:
    from agent.doctor.judging import disk as judging
    from agent.doctor.looking import disk

    metrics = f"http://{_address(me)}:{settings.etcd.metrics_port}" if isinstance(etcd, EtcdRunning) else None
    seen = disk.disk(settings.etcd.data_root, clock, metrics)
    heartbeat = timedelta(milliseconds=settings.etcd.heartbeat_ms)
    yield from judging.judge(seen, account, settings.etcd.quota_backend_bytes, heartbeat)


def _ports(settings: Settings, etcd: EtcdProcess | Unknown, me: Me | Unknown) -> Iterator[Finding]:
    from agent.doctor.judging import ports as judging
    from agent.doctor.looking import ports

    etcds = {
        "client": settings.etcd.client_port,
        "peer": settings.etcd.peer_port,
        "metrics": settings.etcd.metrics_port,
    }
    listen = settings.http.listen
    host = _address(me) if listen.host in ports.ANY else listen.host
    holders = known(lambda: ports.holders(frozenset({_address(me), host}), frozenset({*etcds.values(), listen.port})))
    yield from judging.judge(
        judging.PortsSeen(
            ports=etcds,
            agent_port=listen.port,
            holders=holders,
            etcd=etcd,
            agent=known(lambda: _instance_of_the_agent(settings)),
            me=me if isinstance(me, Unknown) else me.instance,
            etcd_files=known(lambda: ports.files_of(etcd.pid)) if isinstance(etcd, EtcdRunning) else None,
        )
    )


def _instance_of_the_agent(settings: Settings) -> str:
    """On which instance the agent behind its port says it is; empty where no round has ended yet."""
    from agent.questions import ask_the_agent

    said = ask_the_agent(settings)
    if "decision" not in said:
        raise Refused("what answers there does not speak as an agent does", Ignorance.MALFORMED)
    return str(said.get("instance") or "")


def _address(me: Me | Unknown) -> str:
    """Without IMDS nobody knows it. etcd listens on loopback for clients, and the agent on every address by default."""
    return "127.0.0.1" if isinstance(me, Unknown) else me.private_ip


def _tls(
    settings: Settings, account: installation.Account | None, me: Me | Unknown, clock: SystemClock
) -> Iterator[Finding]:
    from agent.doctor.judging import certificates as judging
    from agent.doctor.looking import certificates

    pairs = certificates.pairs(_tls_files(settings), _address(me))
    yield from judging.judge(settings.tls.mode, pairs, account, clock.now())


def _tls_files(settings: Settings) -> Mapping[str, tuple[Path | None, Path | None, Path | None]]:
    tls = settings.tls
    if tls.mode != "ca":
        return {
            "tls.cert with tls.key and tls.ca": (tls.cert, tls.key, tls.ca),
            "tls.peer_cert with tls.peer_key and tls.peer_ca": (tls.peer_cert, tls.peer_key, tls.peer_ca),
        }
    from agent.world.certificates import server_tls

    issued = server_tls(settings.etcd.data_root)
    if known(lambda: looking.entry(issued.cert)) is None:
        return {}
    return {
        str(issued.cert): (issued.cert, issued.key, issued.ca),
        str(issued.peer_cert): (issued.peer_cert, issued.peer_key, issued.peer_ca),
    }


# ---- AWS ------------------------------------------------------------------------------------------------------------


def _clock_and_aws(settings: Settings, imds: Imds | Unknown, me: Me | Unknown, clock: SystemClock) -> Iterator[Finding]:
    from agent.doctor.judging import clock as time
    from agent.doctor.looking import clock as looking_at_clocks

    region = known(lambda: _region(imds))
    if isinstance(region, Unknown):
        yield from time.judge(region, known(looking_at_clocks.kept))
        yield unknown("aws", region, "fleet, permissions and bucket were not looked at", "set AWS_REGION, or mend IMDS")
        return
    date = known(lambda: looking_at_clocks.compared(settings.storage.bucket, region, clock.now))
    yield from time.judge(date, known(looking_at_clocks.kept))
    yield from _aws(settings, region, imds, me)


def _region(imds: Imds | Unknown) -> str:
    named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if named:
        return named
    if isinstance(imds, Unknown):
        raise Refused(imds.detail, Ignorance.OURS)
    return imds.region()


def _aws(settings: Settings, region: str, imds: Imds | Unknown, me: Me | Unknown) -> Iterator[Finding]:
    from agent.doctor.judging import bucket, discovery, permissions
    from agent.doctor.looking import aws as looking_at_aws
    from agent.iam_cli import scope_of
    from agent.world.aws import Aws
    from agent.world.ec2 import Ec2Cloud
    from agent.world.objects import Objects

    timing, storage, tags = settings.timing, settings.storage, settings.discovery.tags
    aws = Aws(region, timing.aws_connect_timeout, timing.aws_read_timeout)
    myself = None if isinstance(me, Unknown) else me.instance
    cloud = Ec2Cloud(aws, myself, tags) if myself or tags else Unknown(Ignorance.OURS, "nothing says which instances")
    found = looking_at_aws.discovery(imds, me, tags, cloud, settings.etcd.peer_port)
    yield from discovery.judge(found)

    objects = Objects(aws, storage.bucket, storage.prefix, settings.cluster.name, storage.kms_key_id)
    rules = looking_at_aws.bucket(objects)
    yield from bucket.judge(rules)
    scope = scope_of(settings)
    patient = looking_at_aws.Patient(aws, objects, found.own_group, myself or "", rules.precondition, scope.parameters)
    yield from permissions.judge(looking_at_aws.trials(patient, scope))
