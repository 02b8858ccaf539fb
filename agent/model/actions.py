"""What an agent may do: one action a round, each with one effect. `agent.act` is where they happen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agent.model.certificates import Authorities
from agent.model.cluster import Alarm
from agent.model.disk import Identity
from agent.model.dns import RecordSet
from agent.model.fleet import Transition
from agent.model.generation import Claim, Formed, GenerationRecord, Report
from agent.model.ids import GenerationNumber, InstanceId, MemberId, Nonce, PeerUrl
from agent.model.snapshot import SnapshotName
from agent.model.work import Task


class Blocker(StrEnum):
    """What an agent that does nothing is waiting for. Bounded, because it is a metric label."""

    IGNORANCE = "ignorance"  # a fact that this decision needs is unknown
    ASSEMBLY = "assembly"  # other instances' reports
    FORMATION = "formation"  # the founders of the head to form it
    QUORUM = "quorum"  # a quorum of the cluster to answer
    LEARNER_SLOT = "learner-slot"  # another learner to be promoted: etcd takes one at a time
    SYNC = "sync"  # this learner to catch up with the leader
    STARTUP = "startup"  # our etcd to answer for the first time
    BACKOFF = "backoff"  # our etcd keeps ending: the next start is due later
    ADDRESS = "address"  # an address of ours that the member list holds for somebody else
    VETO = "veto"  # an objection to what the rules decided
    RESCUE = "rescue"  # a survivor's log, or the newest snapshot, to be made ready for the next generation
    RESTORE = "restore"  # this instance's data directory to be made from the generation's seed
    LEAVING = "leaving"  # the instance is being terminated: it joins nothing any more
    HOLD = "hold"  # the operator to release the cluster
    MAINTENANCE = "maintenance"  # every member to be well, before one of them is blocked
    UPGRADE = "upgrade"  # every member to be well and a fresh snapshot, before a newer etcd starts or joins
    CERTIFICATES = "certificates"  # certificates for this instance, without which no etcd is started


class Reason(StrEnum):
    """What a human is called for. Bounded, because it is a metric label; each has its entry in docs/operate.md."""

    UNSOUND_BUCKET = "unsound-bucket"  # it ignores preconditions, or expires what decides
    GARBLED_RECORD = "garbled-record"  # a record, claim or formed.json that makes no sense
    UNSIGNED_DATA = "unsigned-data"  # etcd's data without an identity
    FOREIGN_CLUSTER = "foreign-cluster"  # data of a cluster of another name
    BUCKET_BEHIND_DISK = "bucket-behind-disk"  # the disk knows a generation that the bucket does not
    RECORDS_MISSING = "records-missing"  # snapshots or data, and no generation that made them
    STRANGE_CLUSTER_ID = "strange-cluster-id"  # our etcd is of another lineage
    STRANGERS_ANSWER = "strangers-answer"  # at our members' addresses another cluster answers
    STRANGE_MEMBER_ID = "strange-member-id"  # at our own address another member's etcd answers
    CORRUPTION = "corruption"  # etcd's CORRUPT alarm
    CORRUPTING_VERSION = "corrupting-version"  # an etcd that loses writes in a crash
    NOTHING_TO_RESTORE = "nothing-to-restore"  # a generation lost, and neither survivor nor snapshot
    NEWER_SNAPSHOT = "newer-snapshot"  # what is to be restored is of a newer etcd
    BAD_SEED = "bad-seed"  # the snapshot a generation begins from cannot be restored
    RESTORE_TOOL = "restore-tool"  # none beside etcd, or one that cannot do what the others' does
    DATABASE_FULL = "database-full"  # etcd's NOSPACE alarm
    DISK_FULL = "disk-full"
    DISK_FAILS = "disk-fails"  # or is read-only
    PORT_TAKEN = "port-taken"  # one of etcd's
    WRONG_ETCD = "wrong-etcd"  # none, or an older one than the data needs
    NO_AUTHORITY = "no-authority"  # tls.mode = "ca", and none in Parameter Store although the cluster was founded
    UNNAMED_DATA = "unnamed-data"  # damaged before etcd told which member it is
    UNFIT_INSTANCE = "unfit-instance"  # no member lives here for long
    DOWNGRADE = "downgrade"  # an older etcd than the cluster's version
    UPGRADE_PATH = "upgrade-path"  # a newer one that is more than a step away


@dataclass(frozen=True, slots=True)
class Rest:
    """All is well."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Not well, and nothing to do about it yet."""

    blocker: Blocker


@dataclass(frozen=True, slots=True)
class CallHuman:
    """The facts contradict each other, or the setup is wrong: page, observe, touch nothing."""

    hint: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class FileReport:
    """Leave this report for the others, under the generation it is about."""

    generation: GenerationNumber
    report: Report


@dataclass(frozen=True, slots=True)
class CreateGeneration:
    """Write the record, if there is none of that number."""

    record: GenerationRecord


@dataclass(frozen=True, slots=True)
class WriteClaim:
    """Take the founder's once-only permission to start."""

    generation: GenerationNumber
    claim: Claim


@dataclass(frozen=True, slots=True)
class WriteFormed:
    """Record that a quorum of the generation answered."""

    generation: GenerationNumber
    formed: Formed


@dataclass(frozen=True, slots=True)
class StampIdentity:
    """Replace the identity file; `prepare` also creates the empty data directory."""

    identity: Identity
    prepare: bool = False


@dataclass(frozen=True, slots=True)
class Launch:
    """How etcd is to be started. `initial_cluster` matters only while there is no data."""

    name: InstanceId
    peer_url: PeerUrl
    state: str  # etcd's --initial-cluster-state: `new` or `existing`
    token: str
    initial_cluster: tuple[tuple[str, PeerUrl], ...]
    compare: bool = False
    """Whether etcd compares its data with its peers' before it serves. Not where they may be only starting, too: all
    of them then wait for each other, for 5 s and two election timeouts a peer, and compare nothing in the end."""


@dataclass(frozen=True, slots=True)
class StartEtcd:
    """Start the etcd process; DONE when it runs, not when it serves."""

    launch: Launch


@dataclass(frozen=True, slots=True)
class StopEtcd:
    """Stop the etcd process with SIGTERM and wait for its end."""

    why: str


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Move data directory and identity file into quarantine. Nothing is deleted."""

    why: str


@dataclass(frozen=True, slots=True)
class AddLearner:
    """Ask the cluster for a learner's entry at this peer URL."""

    peer_url: PeerUrl


@dataclass(frozen=True, slots=True)
class PromoteMember:
    """Make a learner in sync a voter."""

    member: MemberId


@dataclass(frozen=True, slots=True)
class RemoveMember:
    """Take one member out of the list, by ID."""

    member: MemberId


@dataclass(frozen=True, slots=True)
class MoveLeader:
    """Hand the lead to this voter."""

    to: MemberId


@dataclass(frozen=True, slots=True)
class CompleteHook:
    """Let Auto Scaling go on with this transition of our instance (CONTINUE)."""

    transition: Transition


@dataclass(frozen=True, slots=True)
class HeartbeatHook:
    """Keep a hook of this instance from timing out."""

    transition: Transition = Transition.TERMINATING


@dataclass(frozen=True, slots=True)
class AskToBeReplaced:
    """Tell Auto Scaling that this instance is unhealthy: it terminates it, hooks and all, and launches another."""


@dataclass(frozen=True, slots=True)
class ProtectFromScaleIn:
    """Keep Auto Scaling from choosing this instance when it scales in, or no longer."""

    protected: bool


@dataclass(frozen=True, slots=True)
class PublishRecords:
    """Write these record sets into the hosted zone, all of them or none; others stay as they are."""

    records: frozenset[RecordSet]


@dataclass(frozen=True, slots=True)
class RegisterTarget:
    """Put this instance into a load balancer's target group."""

    group: str


@dataclass(frozen=True, slots=True)
class DeregisterTarget:
    """Take this instance out of a load balancer's target group."""

    group: str


@dataclass(frozen=True, slots=True)
class UpdatePeerUrl:
    """Tell the cluster where a member that moved listens now."""

    member: MemberId
    peer_url: PeerUrl


@dataclass(frozen=True, slots=True)
class BeginTask:
    """Begin a piece of work that outlasts this round; what comes of it is seen in the rounds that follow."""

    task: Task


@dataclass(frozen=True, slots=True)
class PutInPlace:
    """Make the data directory that was restored for this nonce the member's. `data/` must be empty."""

    nonce: Nonce


@dataclass(frozen=True, slots=True)
class MarkBad:
    """Leave word in the bucket that this snapshot was found wanting."""

    name: SnapshotName
    why: str


@dataclass(frozen=True, slots=True)
class ExpireSnapshots:
    """Delete these snapshots: manifest first, then data."""

    names: tuple[SnapshotName, ...]


@dataclass(frozen=True, slots=True)
class Disarm:
    """Take back an alarm that came with the data from a member of an older generation."""

    alarm: Alarm


@dataclass(frozen=True, slots=True)
class Compact:
    """Drop the history before this revision, on every member; what is current stays."""

    revision: int


@dataclass(frozen=True, slots=True)
class CreateAuthority:
    """Make the cluster's first certificate authority, if there is none."""


@dataclass(frozen=True, slots=True)
class IssueCertificates:
    """Make new keys for this instance, have their certificates signed, and put them in the old ones' place."""

    authorities: Authorities


@dataclass(frozen=True, slots=True)
class ReloadEtcd:
    """Stop etcd so that it starts again in place: it reads whom to trust only then."""


Idle = Rest | Wait | CallHuman
Action = (
    Idle
    | BeginTask
    | PutInPlace
    | MarkBad
    | ExpireSnapshots
    | Disarm
    | Compact
    | FileReport
    | CreateGeneration
    | WriteClaim
    | WriteFormed
    | StampIdentity
    | StartEtcd
    | StopEtcd
    | Quarantine
    | AddLearner
    | PromoteMember
    | RemoveMember
    | UpdatePeerUrl
    | MoveLeader
    | CompleteHook
    | HeartbeatHook
    | AskToBeReplaced
    | ProtectFromScaleIn
    | PublishRecords
    | CreateAuthority
    | IssueCertificates
    | ReloadEtcd
    | RegisterTarget
    | DeregisterTarget
)

MembershipChange = AddLearner | PromoteMember | RemoveMember | UpdatePeerUrl


@dataclass(frozen=True, slots=True)
class Decision:
    """One action, the rule that asked for it, and the reason in a sentence."""

    action: Action
    because: str
    rule: str = ""  # filled in from the table of rules


class Outcome(StrEnum):
    """What became of an action."""

    DONE = "done"  # it happened
    REFUSED = "refused"  # a definite no: nothing happened
    MAYBE = "maybe"  # no answer: it may have happened, so look again
    STALE = "stale"  # the world moved on before we acted: decide again


@dataclass(frozen=True, slots=True)
class Result:
    """An outcome and, where there is something to say, one line of it."""

    outcome: Outcome
    detail: str = ""
