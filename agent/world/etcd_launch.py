"""How etcd is told what to do: a launch and the operator's settings become its environment. Pure.

etcd reads every flag from `ETCD_…`; what it does not know there it logs and ignores, so that one environment serves a
binary that was exchanged. All listeners are on the instance's own address: several members may share a machine, and
nothing of etcd's belongs on an address that nobody chose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from agent.model.actions import Launch
from agent.model.cluster import minor_of


@dataclass(frozen=True, slots=True)
class ServerTls:
    """Files in PEM; clients and peers have to show a certificate of the authority beside them."""

    ca: Path
    cert: Path
    key: Path
    peer_ca: Path
    peer_cert: Path
    peer_key: Path


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """The operator's choices for etcd, and where it lives."""

    data_dir: Path
    private_ip: str
    client_port: int = 2379
    metrics_port: int = 2381
    quota_backend_bytes: int = 2 << 30
    auto_compaction_retention: timedelta = timedelta(hours=1)  # 0: off
    heartbeat_ms: int = 100
    election_ms: int = 1000
    tls: ServerTls | None = None
    peer_port: int = 2380  # where a launch's peer URL points
    extra: tuple[tuple[str, str], ...] = ()  # flags without dashes in front, and their values


def etcd_environment(launch: Launch, settings: EtcdSettings, version: str) -> dict[str, str]:
    """Everything that this etcd is to know. The operator's extra flags come last, and win."""
    scheme = "http" if settings.tls is None else "https"
    client_url = f"{scheme}://{settings.private_ip}:{settings.client_port}"
    return {
        "ETCD_NAME": launch.name,
        "ETCD_DATA_DIR": str(settings.data_dir),
        "ETCD_LISTEN_PEER_URLS": launch.peer_url,
        "ETCD_LISTEN_CLIENT_URLS": client_url,
        # plain, and open even where a member without a quorum answers on no other port (see docs/design.md)
        "ETCD_LISTEN_METRICS_URLS": f"http://{settings.private_ip}:{settings.metrics_port}",
        "ETCD_ADVERTISE_CLIENT_URLS": client_url,
        "ETCD_INITIAL_ADVERTISE_PEER_URLS": launch.peer_url,
        "ETCD_INITIAL_CLUSTER": ",".join(f"{name}={url}" for name, url in launch.initial_cluster),
        "ETCD_INITIAL_CLUSTER_STATE": launch.state,
        **({"ETCD_INITIAL_CLUSTER_TOKEN": launch.token} if launch.token else {}),
        "ETCD_STRICT_RECONFIG_CHECK": "true",
        "ETCD_QUOTA_BACKEND_BYTES": str(settings.quota_backend_bytes),
        "ETCD_AUTO_COMPACTION_MODE": "periodic",
        "ETCD_AUTO_COMPACTION_RETENTION": _duration(settings.auto_compaction_retention),
        "ETCD_HEARTBEAT_INTERVAL": str(settings.heartbeat_ms),
        "ETCD_ELECTION_TIMEOUT": str(settings.election_ms),
        **_of_version(version, compare=launch.compare),
        **({} if settings.tls is None else _tls(settings.tls)),
        **{variable(flag): value for flag, value in settings.extra},
    }


def variable(flag: str) -> str:
    """etcd's own rule: `snapshot-count` is `ETCD_SNAPSHOT_COUNT`."""
    return "ETCD_" + flag.replace("-", "_").upper()


def _duration(retention: timedelta) -> str:
    """A number without a unit would be hours to etcd."""
    return f"{int(retention.total_seconds())}s" if retention else "0"


def _of_version(version: str, *, compare: bool) -> dict[str, str]:
    """Flags that a minor version has and another has not. A version that nobody has tried gets none of them.

    The corruption check at compaction costs nothing in between. The one at the start keeps a member from listening
    while it asks every peer in turn (see `Launch.compare`). The periodic one, which hashes the whole keyspace of every
    member, is left to the operator.
    """
    checked = "true" if compare else "false"
    match minor_of(version):
        case (3, 4):
            return {
                "ETCD_LOGGER": "zap",  # what later versions log
                "ETCD_PRE_VOTE": "true",  # lest a member that was cut off disturbs the leader when it is back
                "ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK": checked,
            }
        case (3, 5):
            return {
                "ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK": checked,
                "ETCD_EXPERIMENTAL_COMPACT_HASH_CHECK_ENABLED": "true",  # since 3.5.5; ignored before
            }
        case (3, 6):
            return {"ETCD_FEATURE_GATES": f"InitialCorruptCheck={checked},CompactHashCheck=true"}
        case _:
            return {}


def _tls(tls: ServerTls) -> Mapping[str, str]:
    return {
        "ETCD_TRUSTED_CA_FILE": str(tls.ca),
        "ETCD_CERT_FILE": str(tls.cert),
        "ETCD_KEY_FILE": str(tls.key),
        "ETCD_CLIENT_CERT_AUTH": "true",
        "ETCD_PEER_TRUSTED_CA_FILE": str(tls.peer_ca),
        "ETCD_PEER_CERT_FILE": str(tls.peer_cert),
        "ETCD_PEER_KEY_FILE": str(tls.peer_key),
        "ETCD_PEER_CLIENT_CERT_AUTH": "true",
    }
