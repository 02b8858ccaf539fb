"""What etcd is told, as values; and that every etcd we can have here understands it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.model.actions import Launch
from agent.model.cluster import minor_of
from agent.model.ids import InstanceId, PeerUrl
from agent.world.etcd_launch import EtcdSettings, ServerTls, etcd_environment
from tests.etcd_versions import EtcdVersion, available

A, B = PeerUrl("http://10.0.0.1:2380"), PeerUrl("http://10.0.0.2:2380")
NEW = Launch(InstanceId("i-0a"), A, "new", "prod-000001-9f", (("i-0a", A), ("i-0b", B)))
RESTART = Launch(InstanceId("i-0a"), A, "existing", "", (("i-0a", A),))
SETTINGS = EtcdSettings(Path("/var/lib/etcd/data"), "10.0.0.1")
ALWAYS = {
    "ETCD_NAME": "i-0a",
    "ETCD_DATA_DIR": "/var/lib/etcd/data",
    "ETCD_LISTEN_PEER_URLS": "http://10.0.0.1:2380",
    "ETCD_LISTEN_CLIENT_URLS": "http://10.0.0.1:2379",
    "ETCD_LISTEN_METRICS_URLS": "http://10.0.0.1:2381",
    "ETCD_ADVERTISE_CLIENT_URLS": "http://10.0.0.1:2379",
    "ETCD_INITIAL_ADVERTISE_PEER_URLS": "http://10.0.0.1:2380",
    "ETCD_INITIAL_CLUSTER": "i-0a=http://10.0.0.1:2380,i-0b=http://10.0.0.2:2380",
    "ETCD_INITIAL_CLUSTER_STATE": "new",
    "ETCD_INITIAL_CLUSTER_TOKEN": "prod-000001-9f",
    "ETCD_STRICT_RECONFIG_CHECK": "true",
    "ETCD_QUOTA_BACKEND_BYTES": "2147483648",
    "ETCD_AUTO_COMPACTION_MODE": "periodic",
    "ETCD_AUTO_COMPACTION_RETENTION": "3600s",
    "ETCD_HEARTBEAT_INTERVAL": "100",
    "ETCD_ELECTION_TIMEOUT": "1000",
}
OF_3_4 = {
    "ETCD_LOGGER": "zap",
    "ETCD_PRE_VOTE": "true",
    "ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK": "false",
}
OF_3_5 = {
    "ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK": "false",
    "ETCD_EXPERIMENTAL_COMPACT_HASH_CHECK_ENABLED": "true",
}
OF_3_6 = {"ETCD_FEATURE_GATES": "InitialCorruptCheck=false,CompactHashCheck=true"}


@pytest.mark.parametrize(
    ("version", "more"),
    [
        ("3.4.23", OF_3_4),
        ("3.5.16", OF_3_5),
        ("3.5.30", OF_3_5),
        ("3.6.0", OF_3_6),
        ("3.6.0-rc.1", OF_3_6),
        ("3.7.0", {}),
        ("4.0.0", {}),
        ("3", {}),
        ("unknown", {}),
        ("", {}),
    ],
)
def test_the_whole_environment_of_a_version(version: str, more: dict[str, str]) -> None:
    assert etcd_environment(NEW, SETTINGS, version) == ALWAYS | more


def test_a_restart_has_no_token() -> None:
    told = etcd_environment(RESTART, SETTINGS, "3.5.30")
    assert "ETCD_INITIAL_CLUSTER_TOKEN" not in told
    assert told["ETCD_INITIAL_CLUSTER_STATE"] == "existing"


def test_nothing_listens_on_an_address_that_nobody_chose() -> None:
    told = etcd_environment(NEW, SETTINGS, "3.5.30")
    assert all("//10.0.0.1:" in value for name, value in told.items() if "LISTEN" in name or "ADVERTISE" in name)


def test_files_of_certificates_secure_clients_and_peers_and_leave_metrics_plain() -> None:
    tls = ServerTls(*(Path("/etc/etcd") / name for name in ("ca", "cert", "key", "peer-ca", "peer-cert", "peer-key")))
    peer_url = PeerUrl("https://10.0.0.1:2380")
    told = etcd_environment(replace(NEW, peer_url=peer_url), replace(SETTINGS, tls=tls), "3.5.30")
    assert told["ETCD_LISTEN_CLIENT_URLS"] == told["ETCD_ADVERTISE_CLIENT_URLS"] == "https://10.0.0.1:2379"
    assert told["ETCD_LISTEN_PEER_URLS"] == "https://10.0.0.1:2380"
    assert told["ETCD_LISTEN_METRICS_URLS"] == "http://10.0.0.1:2381"
    assert told["ETCD_CLIENT_CERT_AUTH"] == told["ETCD_PEER_CLIENT_CERT_AUTH"] == "true"
    files = {name: value for name, value in told.items() if name.endswith("_FILE")}
    assert files == {
        "ETCD_TRUSTED_CA_FILE": "/etc/etcd/ca",
        "ETCD_CERT_FILE": "/etc/etcd/cert",
        "ETCD_KEY_FILE": "/etc/etcd/key",
        "ETCD_PEER_TRUSTED_CA_FILE": "/etc/etcd/peer-ca",
        "ETCD_PEER_CERT_FILE": "/etc/etcd/peer-cert",
        "ETCD_PEER_KEY_FILE": "/etc/etcd/peer-key",
    }


def test_the_operators_choices_arrive() -> None:
    settings = replace(
        SETTINGS,
        client_port=3379,
        metrics_port=3381,
        quota_backend_bytes=8 << 30,
        auto_compaction_retention=timedelta(0),
        heartbeat_ms=250,
        election_ms=2500,
        extra=(("snapshot-count", "10000"), ("pre-vote", "false")),
    )
    told = etcd_environment(NEW, settings, "3.4.23")
    assert told["ETCD_LISTEN_CLIENT_URLS"] == "http://10.0.0.1:3379"
    assert told["ETCD_LISTEN_METRICS_URLS"] == "http://10.0.0.1:3381"
    assert told["ETCD_QUOTA_BACKEND_BYTES"] == "8589934592"
    assert told["ETCD_AUTO_COMPACTION_RETENTION"] == "0"
    assert (told["ETCD_HEARTBEAT_INTERVAL"], told["ETCD_ELECTION_TIMEOUT"]) == ("250", "2500")
    assert told["ETCD_SNAPSHOT_COUNT"] == "10000"
    assert told["ETCD_PRE_VOTE"] == "false"


def test_data_is_compared_with_the_peers_only_where_they_answer() -> None:
    """All members of a fleet that start at once would wait for each other, none of them listening yet."""
    check = "ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK"
    told = {each: etcd_environment(replace(RESTART, compare=each), SETTINGS, "3.5.30") for each in (True, False)}
    assert (told[True][check], told[False][check]) == ("true", "false")
    newer = etcd_environment(replace(RESTART, compare=True), SETTINGS, "3.6.1")
    assert newer["ETCD_FEATURE_GATES"] == "InitialCorruptCheck=true,CompactHashCheck=true"


def test_minor_versions() -> None:
    assert minor_of("3.5.30") == (3, 5)
    assert minor_of("3.6.0-alpha.0") == (3, 6)
    assert minor_of("v3.5") is None


@pytest.mark.etcd
@pytest.mark.parametrize("version", available(), ids=str)
def test_a_real_etcd_knows_every_word_of_it(tmp_path: Path, version: EtcdVersion) -> None:
    address = f"127.{os.getpid() % 250 + 1}.83.1"
    url = PeerUrl(f"http://{address}:2380")
    launch = Launch(InstanceId("i-0a"), url, "new", "token", (("i-0a", url),))
    told = etcd_environment(launch, EtcdSettings(tmp_path / "data", address), str(version))
    process = subprocess.Popen([version.etcd], env=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        said, _ = process.communicate(timeout=3)
    except subprocess.TimeoutExpired:
        process.terminate()
        said, _ = process.communicate(timeout=20)
    assert "serving" in said
    assert "unrecognized" not in said
    assert said.count("recognized and used environment variable") == len(told)
