"""Every mistake we can think of: each gives a problem with its key, what was found and what was expected."""

from pathlib import Path

import pytest

from agent.settings import ENVIRONMENT_PREFIX, Problem, Settings, SettingsError

GOOD = """
[cluster]
name = "prod"
[storage]
bucket = "acme-etcd"
"""


def problems_of(
    toml: str | bytes = GOOD, env: dict[str, str] | None = None, flags: dict[str, str] | None = None, *, tmp_path: Path
) -> tuple[Problem, ...]:
    path = tmp_path / "config.toml"
    path.write_bytes(toml if isinstance(toml, bytes) else toml.encode())
    with pytest.raises(SettingsError) as raised:
        Settings.load(path, env or {}, flags or {})
    return raised.value.problems


# One mistake each: what stands below the good settings, the key, and a part of what was expected.
IN_THE_FILE = [
    ('[etcd]\nclient_port = "2379"', "etcd.client_port", "a whole number from 1 to 65535"),
    ("[etcd]\nclient_port = 0", "etcd.client_port", "from 1 to 65535"),
    ("[etcd]\nclient_port = 65536", "etcd.client_port", "from 1 to 65535"),
    ("[etcd]\nclient_port = true", "etcd.client_port", "a whole number"),
    ("[etcd]\nclient_port = 2379.0", "etcd.client_port", "a whole number"),
    ("[etcd]\npeer_port = 2379", "etcd.peer_port", "a port that etcd.client_port does not use"),
    ("[etcd]\nmetrics_port = 2380", "etcd.metrics_port", "a port that etcd.peer_port does not use"),
    ('[http]\nlisten = "0.0.0.0:2381"', "http.listen", "a port that etcd.metrics_port does not use"),
    ('[http]\nlisten = "9379"', "http.listen", "an IP address and a port"),
    ('[http]\nlisten = ":9379"', "http.listen", "an IP address and a port"),
    ('[http]\nlisten = "0.0.0.0:0"', "http.listen", "an IP address and a port"),
    ('[http]\nlisten = "0.0.0.0:99999"', "http.listen", "an IP address and a port"),
    ('[http]\nlisten = "example:9379"', "http.listen", "an IP address and a port"),
    ('[http]\nlisten = "::1:9379"', "http.listen", "an IP address and a port"),
    ('[http]\nlisten = "[127.0.0.1]:9379"', "http.listen", "an IP address and a port"),
    ("[http]\nlisten = 9379", "http.listen", "an IP address and a port"),
    ('[auth]\nuser = "root"', "auth.password_file", "because auth.user is set"),
    ('[auth]\npassword_file = "/etc/etcd-password"', "auth.user", "because auth.password_file is set"),
    ('[auth]\nuser = "ro ot"\npassword_file = "/etc/etcd-password"', "auth.user", "a user's name"),
    ('[auth]\npassword = "hunter2"', "auth.password", "a known setting"),
    ('[etcd]\ndata_root = "var/lib/etcd"', "etcd.data_root", "an absolute path"),
    ('[etcd]\ndata_root = "/"', "etcd.data_root", "an absolute path"),
    ('[etcd]\ndata_root = "/var/../etc"', "etcd.data_root", 'without ".."'),
    ('[etcd]\ndata_root = ""', "etcd.data_root", "an absolute path"),
    ('[etcd]\nbinary = ""', "etcd.binary", "a command's name or absolute path"),
    ('[etcd]\nbinary = "etcd --force"', "etcd.binary", "a command's name"),
    ('[etcd]\nbinary = "etcd\\nrm"', "etcd.binary", "a command's name"),
    ('[etcd]\nsupervisor = "docker"', "etcd.supervisor", '"systemd" or "process"'),
    ('[etcd]\nsupervisor = "Systemd"', "etcd.supervisor", '"systemd" or "process"'),
    ("[etcd]\nquota_backend_bytes = 1", "etcd.quota_backend_bytes", "a size from 16MiB to 64GiB"),
    ('[etcd]\nquota_backend_bytes = "8GB"', "etcd.quota_backend_bytes", '"2GiB"'),
    ("[etcd]\nquota_backend_bytes = true", "etcd.quota_backend_bytes", "a size"),
    ('[etcd]\nauto_compaction_retention = "31d"', "etcd.auto_compaction_retention", "from 0s to 30d"),
    ("[etcd]\nheartbeat_ms = 5", "etcd.heartbeat_ms", "from 10 to 10000 ms"),
    ("[etcd]\nheartbeat_ms = 300", "etcd.election_ms", "at least 5 × etcd.heartbeat_ms"),
    ("[etcd]\nelection_ms = 60000", "etcd.election_ms", "from 50 to 50000 ms"),
    ("[etcd]\nelection_ms = 400", "etcd.election_ms", "at least 5 × etcd.heartbeat_ms"),
    (
        '[etcd]\nelection_ms = 7000\n[timing]\netcd_membership_timeout = "30s"',
        "timing.leaderless_grace",
        "at least 5 × etcd.election_ms",
    ),
    ('[etcd.extra]\ndata-dir = "/x"', "etcd.extra", "data-dir is the agent's own to set"),
    ('[etcd.extra]\ninitial-cluster-state = "new"', "etcd.extra", "initial-cluster-state is the agent's own to set"),
    ('[etcd.extra]\nforce-new-cluster = "true"', "etcd.extra", "force-new-cluster is the agent's own to set"),
    ('[etcd.extra]\npeer-trusted-ca-file = "/x"', "etcd.extra", "is the agent's own to set"),
    ('[etcd.extra]\nETCD_NAME = "x"', "etcd.extra", "a flag's name in lower-case letters"),
    ("[etcd.extra]\nsnapshot-count = 10000", "etcd.extra", "a text of one line"),
    ('[etcd]\nextra = "x"', "etcd.extra", "etcd's flags"),
    ('[discovery]\ntags = "etcd-cluster=prod"', "discovery.tags", "tags and their values"),
    ("[discovery.tags]\nteam = 3", "discovery.tags", "a tag's value"),
    ('[discovery.tags]\nteam = "prod-*"', "discovery.tags", "without * and ?"),
    ('[discovery.tags]\n"" = "x"', "discovery.tags", "a tag's key"),
    ('[snapshots]\ninterval = "1s"', "snapshots.interval", "from 10s to 7d"),
    ("[snapshots]\ninterval = 300", "snapshots.interval", "a duration"),
    ('[snapshots]\ninterval = "5 m"', "snapshots.interval", "a duration"),
    ('[snapshots]\ninterval = "-5m"', "snapshots.interval", "a duration"),
    ('[snapshots]\ninterval = "5M"', "snapshots.interval", "a duration"),
    ('[snapshots]\ninterval = ""', "snapshots.interval", "a duration"),
    ('[snapshots]\ninterval = "9999999d9999999d9999999d9999999d9999999d9999999d"', "snapshots.interval", "a duration"),
    ('[timing]\nloop_interval = "0s"', "timing.loop_interval", "from 500ms to 1m"),
    ('[timing]\nloop_interval = "2h"', "timing.loop_interval", "from 500ms to 1m"),
    ('[timing]\nbusy_interval = "6s"', "timing.busy_interval", "at most timing.loop_interval"),
    ('[timing]\nreport_max_age = "10s"', "timing.report_max_age", "more than 2 × timing.report_interval"),
    ('[timing]\ntrouble_fleet_interval = "2m"', "timing.trouble_fleet_interval", "at most timing.fleet_interval"),
    ('[timing]\nreport_max_age = "31s"', "timing.report_max_age", "at most timing.leaderless_grace"),
    (
        '[timing]\nleaderless_grace = "2s"\nreport_max_age = "2s"\nreport_interval = "500ms"',
        "timing.leaderless_grace",
        "at least 5 × etcd.election_ms",
    ),
    (
        '[timing]\netcd_membership_timeout = "7s"',
        "timing.etcd_membership_timeout",
        "more than 5s + 2 × etcd.election_ms",
    ),
    ('[tls]\nmode = "ca"\ncert = "/cert.pem"', "tls.cert", 'with "ca" nobody would read it'),
    ("[http]\ntls = true", "http.tls", 'tls.mode = "files" or "ca"'),
    ('[tls]\nmode = "ca"\nlife = "1s"', "tls.life", "30s"),
    ('[tls]\nparameters = "/aws/etcd"', "tls.parameters", "a path such as"),
    ('[tls]\nnames = "Etcd Prod"', "tls.names", "names in lower case"),
    ('[tls]\nmode = "on"', "tls.mode", '"off" or "files" or "ca"'),
    ('[tls]\nca = "/etc/ca.pem"', "tls.ca", 'tls.mode = "files"'),
    ('[log]\nlevel = "loud"', "log.level", '"debug" or "info"'),
    ('[log]\nformat = "xml"', "log.format", '"auto" or "text" or "json"'),
    ("[etcd]\nclient_prot = 2379", "etcd.client_prot", "did you mean etcd.client_port?"),
    ("[etdc]\nclient_port = 2379", "etdc", "did you mean etcd?"),
    ('[etcd]\nlisten = "0.0.0.0:1"', "etcd.listen", "did you mean http.listen?"),
    ("[log]\nxyzzy = 1", "log.xyzzy", "one of level, format"),
    ("[xyzzy]\na = 1", "xyzzy", "one of cluster, discovery"),
    ('[etcd]\n"tls.mode" = 1', "etcd.tls.mode", "a known setting"),
]


@pytest.mark.parametrize(("toml", "key", "expected"), IN_THE_FILE)
def test_one_mistake_in_the_file_is_one_problem(toml: str, key: str, expected: str, tmp_path: Path) -> None:
    (problem,) = problems_of(GOOD + toml, tmp_path=tmp_path)
    assert problem.key == key
    assert expected in problem.expected
    assert problem.source == "default" or problem.source.endswith("config.toml")


NAMES = [
    ('name = "Prod"', False),
    ('name = ""', False),
    ('name = "-prod"', False),
    ('name = "prod-"', False),
    ('name = "a.b"', False),
    ('name = "a/b"', False),
    (f'name = "{"a" * 64}"', False),
    ("name = 3", False),
    (f'name = "{"a" * 63}"', True),
    ('name = "a"', True),
    ('name = "prod-2"', True),
]


@pytest.mark.parametrize(("line", "good"), NAMES)
def test_cluster_names(line: str, good: bool, tmp_path: Path) -> None:
    toml = GOOD.replace('name = "prod"', line)
    if good:
        (tmp_path / "c.toml").write_text(toml)
        Settings.load(tmp_path / "c.toml")
    else:
        (problem,) = problems_of(toml, tmp_path=tmp_path)
        assert problem.key == "cluster.name"


BUCKETS = [
    ("ab", False),
    ("Acme", False),
    ("acme_etcd", False),
    ("acme..etcd", False),
    ("-acme", False),
    ("acme-", False),
    ("192.168.1.1", False),
    ("xn--acme", False),
    ("acme-s3alias", False),
    ("s3://acme", False),
    ("acme/etcd", False),
    ("a" * 64, False),
    ("acme.etcd", True),
    ("acme-etcd-2", True),
    ("a" * 63, True),
]


@pytest.mark.parametrize(("bucket", "good"), BUCKETS)
def test_bucket_names(bucket: str, good: bool) -> None:
    flags = {"cluster.name": "prod", "storage.bucket": bucket}
    if good:
        assert Settings.load(None, flags=flags).storage.bucket == bucket
        return
    with pytest.raises(SettingsError) as raised:
        Settings.load(None, flags=flags)
    assert [p.key for p in raised.value.problems] == ["storage.bucket"]


@pytest.mark.parametrize("prefix", ["/etcd", "etcd/", "a//b", "a/../b", ".", "a b", "é", "x" * 513, "s3://x"])
def test_bad_prefixes(prefix: str) -> None:
    flags = {"cluster.name": "prod", "storage.bucket": "acme", "storage.prefix": prefix}
    with pytest.raises(SettingsError) as raised:
        Settings.load(None, flags=flags)
    assert [p.key for p in raised.value.problems] == ["storage.prefix"]


def test_tls_files_are_all_needed(tmp_path: Path) -> None:
    found = problems_of(GOOD + '[tls]\nmode = "files"\nca = "/ca.pem"\ncert = "cert.pem"', tmp_path=tmp_path)
    assert {p.key for p in found} == {"tls.cert", "tls.key", "tls.peer_ca", "tls.peer_cert", "tls.peer_key"}


def test_nothing_at_all_names_what_must_be_given() -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.load(None)
    assert {p.key: p.got for p in raised.value.problems} == {"cluster.name": "nothing", "storage.bucket": "nothing"}


def test_all_problems_at_once(tmp_path: Path) -> None:
    """From file, environment and flags, contradictions included, although a required setting is missing."""
    found = problems_of(
        '[cluster]\nname = "PROD"\n[etcd]\nclient_port = "x"\nelection_ms = 300\n[nonsense]\n',
        {f"{ENVIRONMENT_PREFIX}LOG__LEVEL": "loud", f"{ENVIRONMENT_PREFIX}LOG__COLOUR": "red", "UNRELATED": "1"},
        {"timing.loop_interval": "never", "no.such": "1"},
        tmp_path=tmp_path,
    )
    assert [p.key for p in found] == [
        "cluster.name",
        "etcd.client_port",
        "nonsense",
        f"{ENVIRONMENT_PREFIX}LOG__COLOUR",
        "log.level",
        "timing.loop_interval",
        "no.such",
        "storage.bucket",
        "etcd.election_ms",
    ]


def test_a_mistake_is_a_mistake_even_when_a_flag_overrides_it(tmp_path: Path) -> None:
    (problem,) = problems_of(GOOD + "[etcd]\nclient_port = 0", flags={"etcd.client_port": "2379"}, tmp_path=tmp_path)
    assert problem.key == "etcd.client_port"


def test_a_misspelt_required_setting_is_one_problem(tmp_path: Path) -> None:
    (problem,) = problems_of('[cluster]\nnmae = "prod"\n[storage]\nbucket = "acme"', tmp_path=tmp_path)
    assert problem.expected == "a known setting: did you mean cluster.name?"


def test_a_variable_that_names_nothing(tmp_path: Path) -> None:
    (problem,) = problems_of(env={f"{ENVIRONMENT_PREFIX}ETCD__CLIENT_PROT": "1"}, tmp_path=tmp_path)
    assert problem.expected.endswith(f"did you mean {ENVIRONMENT_PREFIX}ETCD__CLIENT_PORT?")


ENVIRONMENT_MISTAKES = [
    ("ETCD__CLIENT_PORT", "port", "etcd.client_port"),
    ("ETCD__CLIENT_PORT", "", "etcd.client_port"),
    ("ETCD__CLIENT_PORT", "٣", "etcd.client_port"),
    ("ETCD__CLIENT_PORT", "9" * 5000, "etcd.client_port"),
    ("TIMING__LOOP_INTERVAL", "5", "timing.loop_interval"),
    ("DISCOVERY__TAGS", "prod", "discovery.tags"),
    ("LOAD_BALANCER__TARGET_GROUPS", "etcd", "load_balancer.target_groups"),
    ("LOAD_BALANCER__TARGET_GROUPS", "[1]", "load_balancer.target_groups"),
    ("LOAD_BALANCER__TARGET_GROUPS", "[", "load_balancer.target_groups"),
    (
        "LOAD_BALANCER__TARGET_GROUPS",
        "arn:aws:elasticloadbalancing:eu-west-1:1:loadbalancer/x",
        "load_balancer.target_groups",
    ),
    ("DISCOVERY__TAGS", "{ a = 1 }", "discovery.tags"),
    ("DISCOVERY__TAGS", "{ a = ", "discovery.tags"),
    ("STORAGE__BUCKET", "\udc80", "storage.bucket"),
]


@pytest.mark.parametrize(("variable", "text", "key"), ENVIRONMENT_MISTAKES)
def test_mistakes_in_the_environment(variable: str, text: str, key: str, tmp_path: Path) -> None:
    (problem,) = problems_of(env={ENVIRONMENT_PREFIX + variable: text}, tmp_path=tmp_path)
    assert problem.key == key
    assert problem.source == f"environment {ENVIRONMENT_PREFIX}{variable}"


UNREADABLE = [
    (b"[cluster\nname = 1", "line 1"),
    (b'[cluster]\nname = "prod"\nname = "prod2"\n', "line 3"),
    (b"\xff\xfe", "not UTF-8"),
    (b"a = " + b"[" * 10_000, ""),
    (b"a = " + b"9" * 10_000, ""),
]


@pytest.mark.parametrize(("content", "got"), UNREADABLE)
def test_a_broken_file_is_the_only_problem(content: bytes, got: str, tmp_path: Path) -> None:
    """What is missing from it may well be in it: nothing more is said than where it breaks."""
    (problem,) = problems_of(content, tmp_path=tmp_path)
    assert got in problem.got
    assert "\n" not in str(problem)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path, got in ((tmp_path / "none.toml", "no such file"), (tmp_path, "Is a directory")):
        with pytest.raises(SettingsError) as raised:
            Settings.load(path)
        assert [p.got for p in raised.value.problems] == [got]


def test_a_section_that_is_no_table(tmp_path: Path) -> None:
    (problem,) = problems_of('cluster = "prod"\n[storage]\nbucket = "acme"', tmp_path=tmp_path)
    assert str(problem).endswith("config.toml): got 'prod'; expected a table: [cluster]")
