"""The operator's settings: declared once, read from a TOML file, the environment and flags, later ones winning.

House rules:
* A setting is declared in one place, with its kind, default and one line of doc. `config show`, `config check`, the
  example file, the documentation's table and every error are made from these declarations.
* `Settings.load` answers with settings in which every value is valid, or raises `SettingsError` with every problem
  there is. It raises nothing else, whatever the file holds.
* No secret is a setting: AWS credentials come from the instance's role or the SDK's own places.
* Standard library only.
"""

import dataclasses
import difflib
import reprlib
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from agent.setting_kinds import (
    PORT,
    AbsolutePath,
    Address,
    Choice,
    Kind,
    Listen,
    Size,
    Span,
    Switch,
    Table,
    Text,
    Texts,
    Whole,
    Wrong,
)

DEFAULT_PATH = Path("/etc/etcd-asg-agent/config.toml")
ENVIRONMENT_PREFIX = "ETCD_ASG_AGENT__"


# ---- problems ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake: where it is, what was found and what was expected. `str()` is its line."""

    key: str
    source: str
    got: str
    expected: str

    def __str__(self) -> str:
        where = " ".join(filter(None, (self.key, f"({self.source})")))
        return f"{where}: got {self.got}; expected {self.expected}"


class SettingsError(Exception):
    """Every problem with the settings, at once. The command line prints them and exits with 2."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        assert problems
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


# ---- declarations --------------------------------------------------------------------------------------------------


def setting(kind: Kind, default: object, doc: str) -> Any:
    """A setting with a default, of any type: the annotation beside it says which."""
    return field(default=default, metadata={"kind": kind, "doc": doc})


def required(kind: Kind, example: object, doc: str) -> Any:
    """A setting that the operator must give; `example` stands in the example file."""
    return field(metadata={"kind": kind, "doc": doc, "example": example})


def _span(least: str, most: str) -> Span:
    whole = Span(timedelta(0), timedelta(days=366))
    return Span(whole.read_text(least), whole.read_text(most))


def _seconds(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


_CLUSTER_NAME = Text(
    "1 to 63 lower-case letters, digits and hyphens, beginning and ending with a letter or digit",
    r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
)
_BUCKET = Text(
    "a bucket's name: 3 to 63 lower-case letters, digits, dots and hyphens, no address and no URL",
    r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
    refuse=r"\.\.|^xn--|^sthree-|-s3alias$|--ol-s3$|^[0-9.]+$",
)
_PREFIX = Text(
    'a prefix such as "etcd" or "team/etcd": no slash at either end, no "//", letters, digits and !_.*\'()- only',
    r"([A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*)?",
    refuse=r"(^|/)\.{1,2}(/|$)",
    max_length=512,
)
_KMS_KEY = Text("a KMS key's ID, ARN or alias, or nothing", r"([A-Za-z0-9:/_-]+)?", refuse=r"^https?:")
_BINARY = Text(
    'a command\'s name or absolute path, such as "etcd"', r"/?[A-Za-z0-9_.+@-]+(/[A-Za-z0-9_.+@-]+)*", r"/\.\.?/"
)
_TAGS = Table(
    'tags and their values, such as { etcd-cluster = "prod" }, without the wildcards * and ?',
    key=Text("a tag's key of 1 to 128 characters", r"[^*?\\]+", max_length=128),
    value=Text("a tag's value of at most 256 characters without * and ?", r"[^*?\\]*", max_length=256),
)
# The flags that say who a member is and where it lives are the agent's: with another's value there, a member could
# start in the wrong cluster or on the wrong disk.
_EXTRA = Table(
    'etcd\'s flags without dashes in front and their values, such as { snapshot-count = "10000" }',
    key=Text("a flag's name in lower-case letters, digits and hyphens", r"[a-z][a-z0-9-]*[a-z0-9]"),
    value=Text("a text of one line", r".*"),
    refused_keys=(
        r"name|data-dir|wal-dir|config-file|initial-(?!corrupt-check|election-tick-advance).*|listen-.*|advertise-.*"
        r"|force-new-cluster|discovery.*|proxy.*|heartbeat-interval|election-timeout|quota-backend-bytes"
        r"|auto-compaction-.*|(peer-)?(client-)?(trusted-ca|cert|key)-file|(peer-)?client-cert-auth|(peer-)?auto-tls"
    ),
)


_PARAMETERS = Text(
    'a path such as "/team/etcd/prod": no slash at its end, letters, digits and _.- only, or nothing',
    r"((/[A-Za-z0-9_.-]+){1,12})?",
    refuse=r"^/(?i:aws|ssm)",
    max_length=900,
)
_HOST_NAMES = Text(
    "names in lower case with commas between, such as etcd.example.internal,*.etcd.example.internal, or nothing",
    r"((\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*(, ?(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*)*)?",
)
_ZONE_ID = Text("a hosted zone's ID such as Z0123456789ABC, or nothing", r"([A-Z0-9]{1,32})?")
_DNS_NAME = Text(
    "a name in lower case such as etcd.example.internal, without a dot at its end, or nothing",
    r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+)?",
    max_length=200,
)
_TARGET_GROUPS = Texts(
    'ARNs of target groups, such as ["arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/etcd/0123abcd"]',
    Text(
        "an ARN of a target group",
        r"arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:[0-9]{12}:targetgroup/[A-Za-z0-9-]+/[0-9a-f]+",
    ),
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Which cluster this is."""

    name: str = required(
        _CLUSTER_NAME, "prod", "the cluster's name: part of every path in the bucket and of every token"
    )


@dataclass(frozen=True, slots=True)
class Discovery:
    """Which instances belong to the cluster."""

    tags: tuple[tuple[str, str], ...] = setting(
        _TAGS,
        (),
        "instances that carry all of these tags, in any number of Auto Scaling groups; none: the instance's own group",
    )


@dataclass(frozen=True, slots=True)
class Storage:
    """Where generations, reports and snapshots are kept."""

    bucket: str = required(_BUCKET, "acme-etcd", "the S3 bucket; it must honour conditional writes (If-None-Match)")
    prefix: str = setting(_PREFIX, "", "everything is written below PREFIX/CLUSTER/")
    kms_key_id: str = setting(_KMS_KEY, "", "encrypt with this KMS key; empty: the bucket's own default encryption")


@dataclass(frozen=True, slots=True)
class Etcd:
    """How etcd is run."""

    binary: str = setting(_BINARY, "etcd", "the etcd to run, by name (found on PATH) or path")
    data_root: Path = setting(
        AbsolutePath(), Path("/var/lib/etcd"), "data/, identity.json and quarantine/ live here, on one filesystem"
    )
    supervisor: str = setting(
        Choice(("systemd", "process")),
        "systemd",
        "who runs etcd: systemd (etcd.service), or the agent as a process that outlives it",
    )
    client_port: int = setting(PORT, 2379, "etcd's port for clients")
    peer_port: int = setting(PORT, 2380, "etcd's port for its peers")
    metrics_port: int = setting(
        PORT, 2381, "etcd's port for metrics and health: all that a member without quorum answers on"
    )
    quota_backend_bytes: int = setting(
        Size(16 << 20, 64 << 30),
        2 << 30,
        "etcd refuses writes when its database is this large (etcd advises at most 8GiB)",
    )
    auto_compaction_retention: timedelta = setting(
        _span("0s", "30d"),
        timedelta(hours=1),
        'history kept before it is compacted; "0s" keeps all of it until the quota is full',
    )
    heartbeat_ms: int = setting(
        Whole(10, 10_000, "ms"), 100, "the raft leader's heartbeat: about one round trip between zones"
    )
    election_ms: int = setting(
        Whole(50, 50_000, "ms"),
        1000,
        "followers elect a new leader after this silence; at least 5 heartbeats",
    )
    extra: tuple[tuple[str, str], ...] = setting(_EXTRA, (), "more flags for etcd, handed to it unread")


@dataclass(frozen=True, slots=True)
class Snapshots:
    """How often the data is saved, for how long, and how a restore goes about it."""

    interval: timedelta = setting(
        _span("10s", "7d"), timedelta(minutes=5), "what is lost at most when every disk of the cluster is lost at once"
    )
    keep_newest: int = setting(Whole(1, 10_000, "snapshots"), 24, "the newest of them are kept, whatever their age")
    keep_hourly: int = setting(Whole(0, 10_000, "hours"), 24, "the last of each of so many hours is kept, too")
    keep_daily: int = setting(Whole(0, 10_000, "days"), 7, "the last of each of so many days is kept, too")
    drill_interval: timedelta = setting(
        _span("0s", "90d"),
        timedelta(days=1),
        'how often the newest is restored into a scratch etcd and compared; "0s": never, and nobody knows if it would',
    )
    bump_revision: int = setting(
        Whole(0, 1 << 50, "revisions"),
        1_000_000_000,
        "a restore raises revisions by so much, lest watchers miss writes (etcd 3.5.10 and later); 0: not at all",
    )


@dataclass(frozen=True, slots=True)
class Maintenance:
    """What the agent beside the leader does for etcd's databases while all is well."""

    defragment: bool = setting(
        Switch(), True, "defragment fragmented members, one at a time, the leader last; each answers nobody meanwhile"
    )
    defragment_size: int = setting(
        Size(1 << 20, 64 << 30), 100 << 20, "a smaller database is left as it is, however fragmented"
    )
    defragment_percent: int = setting(
        Whole(10, 95, "percent"), 50, "how much of a database must be unused; less: members are blocked more often"
    )
    after: timedelta = setting(
        _span("0s", "7d"), timedelta(minutes=5), "for so long nothing must have changed before a member is blocked"
    )
    nospace: bool = setting(
        Switch(),
        False,
        "where a database is full: compact up to the newest snapshot, defragment each member, disarm; "
        "false: call a human",
    )


@dataclass(frozen=True, slots=True)
class Timing:
    """Every interval, grace period and timeout. The defaults suit one region; each line says what a change costs."""

    loop_interval: timedelta = setting(
        _span("500ms", "1m"),
        _seconds(3),
        "between rounds while all is well; longer: a lost member is noticed and removed later",
    )
    busy_interval: timedelta = setting(
        _span("100ms", "1m"),
        _seconds(0.25),
        "between rounds while something is under way; longer: forming and joining are slower",
    )
    patient_interval: timedelta = setting(
        _span("500ms", "10m"),
        _seconds(5),
        "the same at most: the longer something takes, the longer the interval; longer: a late change is noticed later",
    )
    fleet_interval: timedelta = setting(
        _span("2s", "1h"),
        _seconds(60),
        "the leader's look at EC2 while all is well; shorter: more EC2 calls, 60 an hour at 60s",
    )
    trouble_fleet_interval: timedelta = setting(
        _span("500ms", "1h"), _seconds(2), "the same while a member is missing; longer: a dead member is removed later"
    )
    patient_trouble_fleet_interval: timedelta = setting(
        _span("500ms", "1h"),
        _seconds(15),
        "the same at most: the longer it takes, the longer the interval; shorter: more EC2 calls during long trouble",
    )
    groups_interval: timedelta = setting(
        _span("10s", "1h"),
        timedelta(minutes=5),
        "the leader's look at Auto Scaling for the desired capacity; longer: a scale-up adds voters later",
    )
    head_interval: timedelta = setting(
        _span("10s", "1h"),
        timedelta(minutes=5),
        "a serving member's look for a newer generation; longer: a fenced member serves its clients longer",
    )
    founding_grace: timedelta = setting(
        _span("1s", "1h"),
        timedelta(minutes=2),
        "wait this long for the whole fleet to report before a majority founds the first cluster",
    )
    report_interval: timedelta = setting(
        _span("500ms", "5m"), _seconds(5), "between reports while there is no cluster; shorter: more S3 writes"
    )
    report_max_age: timedelta = setting(
        _span("2s", "1h"),
        _seconds(20),
        "an older report says nothing; shorter: a slow agent is overlooked, and recovery waits for it",
    )
    leaderless_grace: timedelta = setting(
        _span("2s", "1h"),
        _seconds(30),
        "no leader for this long before a generation may be called lost; longer: recovery starts later",
    )
    join_timeout: timedelta = setting(
        _span("10s", "1d"),
        timedelta(minutes=2),
        "a learner without progress is removed after this; shorter: slow disks never join",
    )
    address_grace: timedelta = setting(
        _span("1s", "10m"),
        _seconds(10),
        "wait this long for a quorum to take a new address before etcd is started regardless",
    )
    drain: timedelta = setting(
        _span("0s", "1h"),
        timedelta(0),
        "a member that leaves serves on for this long after /readyz says no, so that load balancers notice",
    )
    etcd_stop_timeout: timedelta = setting(
        _span("1s", "10m"),
        _seconds(30),
        "for etcd to stop after SIGTERM, so that leadership is handed over; then it is killed",
    )
    etcd_restart_backoff_max: timedelta = setting(
        _span("1s", "1h"), _seconds(30), "the longest wait between starts of an etcd that keeps ending"
    )
    aws_connect_timeout: timedelta = setting(_span("100ms", "1m"), _seconds(2), "to connect to an AWS endpoint")
    aws_read_timeout: timedelta = setting(_span("100ms", "5m"), _seconds(5), "for the answer to an AWS call")
    etcd_status_timeout: timedelta = setting(_span("100ms", "1m"), _seconds(2), "for a member's status")
    etcd_read_timeout: timedelta = setting(_span("100ms", "1m"), _seconds(3), "for a linearizable read")
    etcd_membership_timeout: timedelta = setting(
        _span("1s", "5m"),
        _seconds(10),
        "for a membership change; etcd itself gives up after 5 s and two election timeouts",
    )


@dataclass(frozen=True, slots=True)
class Tls:
    """Encryption between clients, agents and members."""

    mode: str = setting(
        Choice(("off", "files", "ca")),
        "off",
        "off; files: certificates that you put on each instance; ca: the agents issue their own (docs/tls.md)",
    )
    parameters: str = setting(
        _PARAMETERS, "", 'ca: the path of the authority in Parameter Store; empty: "/etcd-asg-agent/CLUSTER"'
    )
    kms_key_id: str = setting(
        _KMS_KEY, "", "ca: encrypt the authority's parameter with this KMS key; empty: with AWS's own (aws/ssm)"
    )
    life: timedelta = setting(
        _span("30s", "90d"),
        timedelta(days=7),
        "ca: how long a certificate is valid; renewed after two thirds of it, so an SSM that is out for a third is "
        "no trouble",
    )
    names: str = setting(
        _HOST_NAMES,
        "",
        "ca: names under which clients find the members, such as a load balancer's, with commas between; those of "
        "dns.name are in any case",
    )
    ca: Path | None = setting(
        AbsolutePath(optional=True), None, "the authority that signed clients' and servers' certificates (PEM)"
    )
    cert: Path | None = setting(AbsolutePath(optional=True), None, "this instance's certificate for clients (PEM)")
    key: Path | None = setting(AbsolutePath(optional=True), None, "its key (PEM)")
    peer_ca: Path | None = setting(
        AbsolutePath(optional=True), None, "the authority that signed the peers' certificates (PEM)"
    )
    peer_cert: Path | None = setting(AbsolutePath(optional=True), None, "this instance's certificate for peers (PEM)")
    peer_key: Path | None = setting(AbsolutePath(optional=True), None, "its key (PEM)")


@dataclass(frozen=True, slots=True)
class Auth:
    """Who the agent is to an etcd whose authentication is on, unless its certificate says so. docs/auth.md."""

    user: str = setting(
        Text("a user's name of letters, digits and ._@-, or nothing", r"[A-Za-z0-9._@-]{0,128}"),
        "",
        "a user of etcd with the role root",
    )
    password_file: Path | None = setting(
        AbsolutePath(optional=True), None, "its password is the first line of this file, which nobody else may read"
    )


@dataclass(frozen=True, slots=True)
class Http:
    """The agent's own metrics, health and status page."""

    listen: Address = setting(
        Listen(), Address("0.0.0.0", 9379), "where /metrics, /livez, /readyz and /status are served"
    )
    tls: bool = setting(
        Switch(), False, "serve them over TLS, with this instance's certificate for clients; nobody is asked for one"
    )


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """What the agent asks of its instance's Auto Scaling group. Each of these needs a permission of its own."""

    protect_voters: bool = setting(
        Switch(),
        False,
        "protect voters from scale-in while one more loss would cost the quorum (SetInstanceProtection)",
    )
    replace_unhealthy: bool = setting(
        Switch(),
        False,
        "ask for another instance where etcd cannot run here and the others have a quorum (SetInstanceHealth)",
    )


@dataclass(frozen=True, slots=True)
class Dns:
    """Names in Route 53 under which clients find the voters that serve. Empty: none are kept."""

    zone_id: str = setting(
        _ZONE_ID, "", "the hosted zone's ID; the leader's agent writes there, and never deletes anything"
    )
    name: str = setting(
        _DNS_NAME,
        "",
        "all addresses, as A records; also _etcd-client._tcp.NAME (with TLS _etcd-client-ssl._tcp) as SRV",
    )
    ttl: timedelta = setting(
        _span("1s", "1d"), _seconds(30), "how long clients may keep an answer; longer: they find a new voter later"
    )


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    """Target groups that are not attached to the Auto Scaling group."""

    target_groups: tuple[str, ...] = setting(
        _TARGET_GROUPS,
        (),
        "each instance registers itself here while its member serves, and goes before it leaves; groups of instances",
    )


@dataclass(frozen=True, slots=True)
class Log:
    """What the agent writes to standard error."""

    level: str = setting(
        Choice(("debug", "info", "warning", "error")), "info", "the least important level that is written"
    )
    format: str = setting(
        Choice(("auto", "text", "json")),
        "auto",
        "auto: text on a terminal, fields where journald listens, else JSON, one object a line",
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, every one valid. `origins` says for each key where its value came from."""

    cluster: Cluster
    storage: Storage
    discovery: Discovery = field(default_factory=Discovery)
    etcd: Etcd = field(default_factory=Etcd)
    snapshots: Snapshots = field(default_factory=Snapshots)
    maintenance: Maintenance = field(default_factory=Maintenance)
    timing: Timing = field(default_factory=Timing)
    tls: Tls = field(default_factory=Tls)
    http: Http = field(default_factory=Http)
    autoscaling: Autoscaling = field(default_factory=Autoscaling)
    dns: Dns = field(default_factory=Dns)
    load_balancer: LoadBalancer = field(default_factory=LoadBalancer)
    log: Log = field(default_factory=Log)
    auth: Auth = field(default_factory=Auth)
    origins: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False, repr=False)

    @classmethod
    def load(
        cls,
        path: Path | None = DEFAULT_PATH,
        env: Mapping[str, str] = MappingProxyType({}),
        flags: Mapping[str, str] = MappingProxyType({}),
    ) -> Self:
        """Read the file, then the environment, then flags (dotted key -> text); the last to name a key wins.

        The file at the default path may be missing, any other may not. Raises SettingsError with every problem.
        """
        reading = _Reading()
        if path is not None:
            reading.file(path)
        reading.environment(env)
        reading.flags(flags)
        reading.missing()
        sections: dict[str, Any] = {name: _build(kind, name, reading.values) for name, kind in SECTIONS.items()}
        settings = cls(**sections, origins=MappingProxyType(reading.origins()))
        problems = [*reading.problems, *(p for p in _contradictions(settings) if p.key not in reading.spoiled)]
        if problems:
            raise SettingsError(tuple(dict.fromkeys(problems)))
        return settings

    @property
    def authority_path(self) -> str:
        """Where Parameter Store has the certificate authorities; empty: nowhere."""
        if self.tls.mode != "ca":
            return ""
        return self.tls.parameters or f"/etcd-asg-agent/{self.cluster.name}"

    def value(self, key: str) -> object:
        """The value of a dotted key."""
        section, name = key.split(".")
        return getattr(getattr(self, section), name)


SECTIONS: Mapping[str, type] = MappingProxyType(
    {
        "cluster": Cluster,
        "discovery": Discovery,
        "storage": Storage,
        "etcd": Etcd,
        "snapshots": Snapshots,
        "maintenance": Maintenance,
        "timing": Timing,
        "tls": Tls,
        "http": Http,
        "autoscaling": Autoscaling,
        "dns": Dns,
        "load_balancer": LoadBalancer,
        "log": Log,
        "auth": Auth,
    }
)


@dataclass(frozen=True, slots=True)
class Declared:
    """One setting as it is declared above."""

    key: str
    kind: Kind
    doc: str
    required: bool
    default: object
    """For a required setting: its example."""

    @property
    def section(self) -> str:
        return self.key.partition(".")[0]

    @property
    def name(self) -> str:
        return self.key.partition(".")[2]

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return ENVIRONMENT_PREFIX + self.key.replace(".", "__").upper()


def _declared() -> Iterator[Declared]:
    for section, kind in SECTIONS.items():
        for one in dataclasses.fields(kind):
            must = "example" in one.metadata
            default = one.metadata["example"] if must else one.default
            yield Declared(f"{section}.{one.name}", one.metadata["kind"], one.metadata["doc"], must, default)


DECLARED: Mapping[str, Declared] = MappingProxyType({one.key: one for one in _declared()})
_VARIABLES: Mapping[str, Declared] = MappingProxyType({one.variable: one for one in DECLARED.values()})


# ---- reading -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Reading:
    """What has been read so far: the last good value of each key, and every problem."""

    values: dict[str, object] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    spoiled: set[str] = field(default_factory=set)
    """Keys that have a problem of their own: no further complaint about them."""
    unreadable: bool = False
    """The file could not be read: a key that is missing may well be in it."""

    def origins(self) -> dict[str, str]:
        return {key: self.sources.get(key, "default") for key in DECLARED}

    def file(self, path: Path) -> None:
        source = _printable(str(path))
        try:
            tables = tomllib.loads(path.read_bytes().decode())
        except FileNotFoundError:
            if path != DEFAULT_PATH:
                self._unreadable(source, "no such file", "a TOML file that can be read")
            return
        except OSError as error:
            self._unreadable(source, error.strerror or type(error).__name__, "a TOML file that can be read")
            return
        except UnicodeDecodeError:
            self._unreadable(source, "bytes that are not UTF-8", "a TOML file in UTF-8")
            return
        except (
            ValueError,
            RecursionError,
        ) as error:  # TOMLDecodeError, a path with a NUL, an endless number or nesting
            self._unreadable(source, _printable(f"{error}"), "valid TOML")
            return
        for section, content in tables.items():
            self._section(source, section, content)

    def _unreadable(self, source: str, got: str, expected: str) -> None:
        self.unreadable = True
        self.problems.append(Problem("", source, got, expected))

    def _section(self, source: str, section: str, content: object) -> None:
        if section not in SECTIONS:
            self._unknown(section, source, content, suggestion(section, SECTIONS))
        elif not isinstance(content, dict):
            self.problems.append(Problem(section, source, _shown(content), f"a table: [{section}]"))
            self.spoiled |= {key for key in DECLARED if key.startswith(f"{section}.")}
        else:
            for name, raw in content.items():
                declared = DECLARED.get(f"{section}.{name}") if "." not in name else None
                if declared:
                    self._take(declared, source, raw, declared.kind.read)
                else:
                    self._unknown(f"{section}.{name}", source, raw, suggestion(f"{section}.{name}", DECLARED))

    def environment(self, env: Mapping[str, str]) -> None:
        for variable, text in sorted(env.items()):
            if not variable.startswith(ENVIRONMENT_PREFIX):
                continue
            declared = _VARIABLES.get(variable)
            if declared:
                self._take(declared, f"environment {variable}", text, declared.kind.read_text)
            else:
                self._unknown(variable, "environment", text, suggestion(variable, _VARIABLES))

    def flags(self, flags: Mapping[str, str]) -> None:
        for key, text in flags.items():
            declared = DECLARED.get(key)
            if declared:
                self._take(declared, "flag", text, declared.kind.read_text)
            else:
                self._unknown(key, "flag", text, suggestion(key, DECLARED))

    def missing(self) -> None:
        for one in DECLARED.values():
            if one.required and one.key not in self.values and one.key not in self.spoiled and not self.unreadable:
                self.problems.append(Problem(one.key, "required", "nothing", one.kind.expected))

    def _take(self, declared: Declared, source: str, raw: Any, read: Callable[[Any], object]) -> None:
        try:
            self.values[declared.key] = read(raw)
            self.sources[declared.key] = source
        except Wrong as wrong:
            self.problems.append(Problem(declared.key, source, _shown(raw), str(wrong)))
            self.spoiled.add(declared.key)

    def _unknown(self, key: str, source: str, raw: object, expected: str) -> None:
        self.problems.append(Problem(_printable(key), source, _shown(raw), expected))
        # What was meant is set after all, under another name: its absence is no second mistake.
        dotted = key.removeprefix(ENVIRONMENT_PREFIX).replace("__", ".").lower()
        meant = difflib.get_close_matches(dotted, DECLARED, n=1, cutoff=0.85)
        self.spoiled.update(meant)


def _build(kind: type, section: str, values: Mapping[str, object]) -> object:
    """The section with what was read. A required setting that is missing gets its example, so that the others can still
    be checked against one another: its absence is a problem already, and nobody will see these settings.
    """
    names = [one.name for one in dataclasses.fields(kind)]
    return kind(**{name: values.get(f"{section}.{name}", DECLARED[f"{section}.{name}"].default) for name in names})


def suggestion(key: str, known: Mapping[str, object]) -> str:
    """What to expect instead of an unknown key: the most similar known one, or the list of those beside it."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    if not close:  # the right name in the wrong section
        close = [one for one in known if "." in key and one.endswith("." + key.rpartition(".")[2])]
    if close:
        return f"a known setting: did you mean {close[0]}?"
    beside = [one.rpartition(".")[2] for one in known if "." in key and one.startswith(key.partition(".")[0] + ".")]
    return f"a known setting: one of {', '.join(beside or known)}" if len(beside or known) < 20 else "a known setting"


class _Shown(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        return super().repr_int(x, level) if abs(x) < 10**40 else "a huge number"


_SHOWN = _Shown()
_SHOWN.maxstring = _SHOWN.maxother = 80


def _shown(raw: object) -> str:
    return _SHOWN.repr(raw)


def _printable(text: str) -> str:
    text = text if len(text) <= 200 else text[:200] + "…"
    return text if text.isprintable() else ascii(text)


# ---- what must fit together ----------------------------------------------------------------------------------------


def _contradictions(s: Settings) -> Iterator[Problem]:
    for key, got, expected in (*_ports(s), *_timings(s), *_tls_files(s), *_names(s), *_login(s)):
        yield Problem(key, s.origins[key], got, expected)


def _names(s: Settings) -> Iterator[tuple[str, str, str]]:
    if bool(s.dns.zone_id) != bool(s.dns.name):
        missing, other = ("dns.name", "dns.zone_id") if s.dns.zone_id else ("dns.zone_id", "dns.name")
        yield missing, "nothing", f"a value, because {other} is set"


def _login(s: Settings) -> Iterator[tuple[str, str, str]]:
    if bool(s.auth.user) != bool(s.auth.password_file):
        missing, other = ("password_file", "user") if s.auth.user else ("user", "password_file")
        yield f"auth.{missing}", "nothing", f"a value, because auth.{other} is set"


def _ports(s: Settings) -> Iterator[tuple[str, str, str]]:
    taken: dict[int, str] = {}
    ports = {f"etcd.{name}": s.value(f"etcd.{name}") for name in ("client_port", "peer_port", "metrics_port")}
    for key, port in {**ports, "http.listen": s.http.listen.port}.items():
        assert isinstance(port, int)
        if port in taken:
            yield key, f"port {port}", f"a port that {taken[port]} does not use"
        taken.setdefault(port, key)


def _timings(s: Settings) -> Iterator[tuple[str, str, str]]:
    t, etcd = s.timing, s.etcd
    election = timedelta(milliseconds=etcd.election_ms)
    rules = (
        (
            "etcd.election_ms",
            etcd.election_ms >= 5 * etcd.heartbeat_ms,
            "at least 5 × etcd.heartbeat_ms (etcd's own rule)",
        ),
        ("timing.report_max_age", t.report_max_age > 2 * t.report_interval, "more than 2 × timing.report_interval"),
        ("timing.busy_interval", t.busy_interval <= t.loop_interval, "at most timing.loop_interval"),
        (
            "timing.trouble_fleet_interval",
            t.trouble_fleet_interval <= t.fleet_interval,
            "at most timing.fleet_interval",
        ),
        (
            "timing.leaderless_grace",
            t.leaderless_grace >= 5 * election,
            "at least 5 × etcd.election_ms: an election is no loss",
        ),
        (
            "timing.report_max_age",
            t.report_max_age <= t.leaderless_grace,
            "at most timing.leaderless_grace: whoever saw a leader since must have said so by then",
        ),
        (
            "timing.etcd_membership_timeout",
            t.etcd_membership_timeout > _seconds(5) + 2 * election,
            "more than 5s + 2 × etcd.election_ms, after which etcd itself gives up",
        ),
    )
    for key, holds, expected in rules:
        if not holds:
            yield key, DECLARED[key].kind.toml(s.value(key)), expected


def _tls_files(s: Settings) -> Iterator[tuple[str, str, str]]:
    if s.http.tls and s.tls.mode == "off":
        yield "http.tls", "true", 'false, or tls.mode = "files" or "ca": with "off" there is no certificate'
    for name in ("ca", "cert", "key", "peer_ca", "peer_cert", "peer_key"):
        path = getattr(s.tls, name)
        if s.tls.mode == "files" and path is None:
            yield f"tls.{name}", "nothing", 'an absolute path, since tls.mode is "files"'
        if s.tls.mode != "files" and path is not None:
            yield f"tls.{name}", str(path), f'nothing, or tls.mode = "files": with "{s.tls.mode}" nobody would read it'


# ---- made from the declarations ------------------------------------------------------------------------------------


def example() -> str:
    """The example config file: what must be given is given, everything else stands there with its default."""
    lines = [
        "# etcd-asg-agent: every setting, its default and what it means.",
        f"# Put this at {DEFAULT_PATH} and check it with: etcd-asg-agent config check",
        f"# Any of them can also be set by the environment, for instance {_VARIABLES_EXAMPLE}=debug",
    ]
    section = ""
    for one in DECLARED.values():
        if one.section != section:
            section = one.section
            lines += ["", f"[{section}] # {SECTIONS[section].__doc__}"]
        lines += [f"# {one.doc}", f"{'' if one.required else '#'}{one.name} = {one.kind.toml(one.default)}"]
    return "\n".join(lines) + "\n"


_VARIABLES_EXAMPLE = DECLARED["log.level"].variable


def markdown_table() -> str:
    """The documentation's table of settings."""
    rows = ["| setting | default | meaning | allowed |", "| --- | --- | --- | --- |"]
    for one in DECLARED.values():
        default = "*required*" if one.required else f"`{one.kind.toml(one.default)}`"
        rows.append(f"| `{one.key}` | {default} | {one.doc} | {one.kind.expected} |")
    return "\n".join(rows) + "\n"
