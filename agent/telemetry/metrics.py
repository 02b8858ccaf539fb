"""Every metric of the agent: its name, help and labels in one place, and one method for each thing that happens.

House rules:
* Names follow Prometheus: `etcd_asg_agent_`, base units, `_total` for counters, `_info` for facts that are labels.
* Labels come from bounded enums, never from error texts, addresses or IDs; only `identity_info` names us, once.
* Unknown is not zero: a gauge whose fact could not be read is NaN, on which no comparison in an alert holds.
* The registry is a value, not the library's global one: two agents in one process (tests, the lab) do not mix.
"""

import math
import platform
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from agent.model.actions import Reason
from agent.model.snapshot import DrillResult
from agent.model.spot import SpotAction
from agent.model.versions import ADVICE
from agent.model.work import Task
from agent.telemetry.describe import TASK_OUTCOMES

MEMBER_STATES = ("voter", "learner", "unstarted", "unreachable")
SNAPSHOT_STATES = ("sound", "bad", "unfinished")
TASKS = tuple(sorted(each.__name__ for each in get_args(Task)))
SPOT_ACTIONS = tuple(each.value for each in SpotAction)
DRILL_RESULTS = tuple(each.value for each in DrillResult)
REASONS = tuple(each.value for each in Reason)
CAUSES = ("first", "quorum-lost", "operator")
CERTIFIED = {
    "certificate_expiry_timestamp_seconds": 'When this instance\'s certificates end, in Unix time; of tls.mode = "ca".',
    "authority_expiry_timestamp_seconds": "When the first of the authorities that are trusted ends, in Unix time.",
    "etcd_reload_due": "1 while this etcd trusts others than Parameter Store says, and is to restart, else 0.",
}
OTHER = "other"
"""The label of a value that nobody announced: a bug in the caller, but no reason for unbounded series."""

_CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LOOP_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest sound snapshot of the newest generation. All 0: there is none."""

    stored_at: float = 0.0  # Unix time
    revision: int = 0
    stored_bytes: int = 0


class Metrics:
    """Counts what happens. Each method is cheap, keeps nothing but numbers and may be called from any thread."""

    def __init__(  # noqa: PLR0915  # a list
        self, *, version: str, rules: Collection[str], blockers: Collection[str]
    ) -> None:
        """`rules` and `blockers` are all the names there are: each has its series from the start, at zero."""
        # `_created` series double the size of a scrape, and nobody alerts on them.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self._rules, self._blockers = tuple(rules), tuple(blockers)
        ProcessCollector(registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"etcd_asg_agent_{name}", text, labels, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"etcd_asg_agent_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"etcd_asg_agent_{name}", text, labels, registry=registry, buckets=buckets)

        build = gauge("build_info", "1, with the versions of the agent and of Python as labels.", "version", "python")
        build.labels(version, platform.python_version()).set(1)
        self._identity = gauge(
            "identity_info",
            "1, with who this agent and its member are as labels.",
            *("cluster", "instance", "zone", "member_id", "cluster_id"),
        )

        self._generation = gauge("generation", "The generation this instance's data belongs to; 0 for none.")
        self._member = gauge("member", "1 if this instance's etcd is a started member of the cluster, else 0.")
        self._learner = gauge("learner", "1 if this instance's member is a learner, else 0.")
        self._leader = gauge("leader", "1 if this instance's member is the raft leader, else 0.")
        self._has_leader = gauge("has_leader", "1 if this instance's member sees a raft leader, else 0.")
        self._margin = gauge(
            "quorum_margin", "Voters that answer, less the quorum: how many more may fail; below 0 there is no quorum."
        )
        self._members = gauge("members", "Members of the cluster by state, as this agent sees them.", "state")

        self._spot = gauge(
            "spot_interruption",
            "1 for what EC2 has announced to do with this spot instance, 0 for the others.",
            "action",
        )
        self._advice = gauge(
            "etcd_version_advice", "1 for why another version than the installed etcd should run, else 0.", "why"
        )
        self._rebalance = gauge(
            "rebalance_recommended", "1 while EC2 recommends to replace this spot instance, else 0."
        )

        self._decisions = counter("decisions_total", "Rounds by the rule that decided them.", "rule")
        self._decision = gauge("decision", "1 for the rule that decided the last round, 0 for the others.", "rule")
        self._blocked = gauge("blocked", "1 for what the agent waits for, 0 for everything else.", "reason")
        self._needs_human = gauge(
            "needs_human", "1 while facts contradict each other and the agent has stopped acting: somebody has to look."
        )
        self._reason = gauge(
            "needs_human_reason",
            "1 for what a human is called for, 0 for the rest: its entry in docs/operate.md.",
            "reason",
        )
        self._hold = gauge("hold", "1 while an operator holds the cluster or this instance, else 0.")
        self._certified = {name: gauge(name, text) for name, text in CERTIFIED.items()}
        self._vetoes = counter("vetoes_total", "Decisions that the independent second look refused.")
        self._actions = counter("actions_total", "Changes to the world by what became of them.", "action", "outcome")
        self._unknown = counter(
            "unknown_reads_total", "Reads that gave no fact, by door and by why.", "door", "ignorance"
        )

        self._aws = counter(
            "aws_requests_total", "HTTP requests to AWS, by what became of them.", "service", "operation", "result"
        )
        self._aws_seconds = histogram(
            "aws_request_seconds", "Duration of calls to AWS.", _CALL_SECONDS, "service", "operation"
        )
        self._etcd = counter("etcd_requests_total", "Requests to etcd, by what became of them.", "method", "result")
        self._etcd_seconds = histogram("etcd_request_seconds", "Duration of calls to etcd.", _CALL_SECONDS, "method")

        self._newest_at = gauge(
            "snapshot_newest_timestamp_seconds",
            "When the newest generation's newest sound snapshot was stored, in Unix time; 0 where it has none.",
        )
        self._newest_revision = gauge("snapshot_newest_revision", "The revision of that snapshot.")
        self._newest_bytes = gauge("snapshot_newest_stored_bytes", "The size of that snapshot in the bucket.")
        self._behind_since = gauge(
            "snapshot_behind_since_timestamp_seconds",
            "Since when this voter's etcd has had more than the newest snapshot that its agent knows of, in Unix time; "
            "0 while that one holds all.",
        )
        self._snapshots = gauge("snapshots", "Snapshots in the bucket, when it was last listed.", "state")
        self._task = gauge("task", "1 for the task that is under way beside the rounds, 0 for the others.", "task")
        self._task_bytes = gauge("task_done_bytes", "How far that task is, in bytes of the database; 0 without one.")
        self._tasks = counter("tasks_total", "Tasks that came to their end, by what became of them.", "task", "outcome")
        self._drilled_at = gauge("drill_last_timestamp_seconds", "When a restore was last tried out, in Unix time.")
        self._drill_seconds = gauge("drill_last_duration_seconds", "How long that drill took.")
        self._drill_result = gauge("drill_last_result", "1 for what became of that drill, 0 for the others.", "result")
        self._lost = gauge(
            "recovery_proven_lost", "1 if it is proven that the generation can never have a leader again, else 0."
        )
        self._obstacles = gauge(
            "recovery_blockers", "What keeps a generation without quorum from being proven lost: /status names each."
        )
        self._reports = gauge("reports_fresh", "Agents that reported lately that they have no working cluster.")
        self._cause = gauge("generation_cause", "1 for why the newest generation was begun, 0 for the others.", "cause")

        self._loop_seconds = histogram(
            "loop_seconds", "Duration of one round: observe, decide and act, without the rest after it.", _LOOP_SECONDS
        )
        self._last_loop = gauge(
            "last_successful_loop_timestamp_seconds", "When the last round ended without an error, in Unix time."
        )
        self._start_at_zero()

    def _start_at_zero(self) -> None:
        """Alerts and rates need a series to be there before its first event."""
        self.observed()
        self.held(None)
        self.certified(until=None, authority_until=None, reload_due=None)
        self.listed(newest=None, states=None)
        self.behind(None)
        self.working(None)
        self.drilled(at=None, seconds=None, result=None)
        self.recovering(proven_lost=None, blockers=None, reports=None)
        self.caused_by(None)
        self.noticed(None)
        self.advised("")
        self.rebalance(None)
        for task in TASKS:
            for outcome in TASK_OUTCOMES:
                self._tasks.labels(task, outcome)
        for rule in self._rules:
            self._decisions.labels(rule)
            self._decision.labels(rule)
        for reason in self._blockers:
            self._blocked.labels(reason)
        for reason in REASONS:
            self._reason.labels(reason)

    def identity(
        self, *, cluster: str, instance: str, zone: str = "", member_id: str = "", cluster_id: str = ""
    ) -> None:
        """Who we are; the former answer, if it was another, goes."""
        self._identity.clear()
        self._identity.labels(cluster, instance, zone, member_id, cluster_id).set(1)

    def observed(
        self,
        *,
        generation: int | None = None,
        member: bool | None = None,
        learner: bool | None = None,
        leader: bool | None = None,
        has_leader: bool | None = None,
        quorum_margin: int | None = None,
        members: Mapping[str, int] | None = None,
    ) -> None:
        """What the last look showed. None: unknown. `members` counts them by MEMBER_STATES; a missing state is 0."""
        self._generation.set(_known(generation))
        self._member.set(_known(member))
        self._learner.set(_known(learner))
        self._leader.set(_known(leader))
        self._has_leader.set(_known(has_leader))
        self._margin.set(_known(quorum_margin))
        for state in MEMBER_STATES:
            self._members.labels(state).set(_known(None if members is None else members.get(state, 0)))

    def noticed(self, spot: str | None) -> None:
        """By IMDS, EC2 will do this with the instance. Empty: nothing. None: unknown."""
        for action in SPOT_ACTIONS:
            self._spot.labels(action).set(_known(None if spot is None else action == spot))

    def advised(self, why: str) -> None:
        """Of ADVICE; empty: there is nothing against the installed etcd."""
        for each in ADVICE:
            self._advice.labels(each).set(each == why)

    def rebalance(self, recommended: bool | None) -> None:
        """By IMDS, the instance is likely to be interrupted. None: unknown."""
        self._rebalance.set(_known(recommended))

    def unknown_read(self, door: str, ignorance: str) -> None:
        """A read gave no fact. `door` is which, `ignorance` is why; both from enums."""
        self._unknown.labels(door, ignorance).inc()

    def decided(
        self, rule: str, *, blocked: str | None = None, needs_human: str | None = None, interlude: bool = False
    ) -> None:
        """The rule that spoke in this round; what is waited for, if anything; and what a person is called for.

        An interlude is counted, and leaves standing what was said before it: an alert must not begin anew.
        """
        rule = _bounded(rule, self._rules)
        self._decisions.labels(rule).inc()
        if interlude:
            return
        for each in (*self._rules, OTHER):
            self._decision.labels(each).set(each == rule)
        reason = None if blocked is None else _bounded(blocked, self._blockers)
        for each in (*self._blockers, OTHER):
            self._blocked.labels(each).set(each == reason)
        self._needs_human.set(needs_human is not None)
        called_for = None if needs_human is None else _bounded(needs_human, REASONS)
        for each in (*REASONS, OTHER):
            self._reason.labels(each).set(each == called_for)

    def listed(self, *, newest: Newest | None, states: Mapping[str, int] | None) -> None:
        """The snapshots by the last listing; `states` counts them by SNAPSHOT_STATES. None: nobody here ever listed."""
        self._newest_at.set(_known(None if newest is None else newest.stored_at))
        self._newest_revision.set(_known(None if newest is None else newest.revision))
        self._newest_bytes.set(_known(None if newest is None else newest.stored_bytes))
        for state in SNAPSHOT_STATES:
            self._snapshots.labels(state).set(_known(None if states is None else states.get(state, 0)))

    def behind(self, since: float | None) -> None:
        """Since when more than a snapshot holds has been in etcd, in Unix time; 0: nothing is. None: cannot be told.

        Of a cluster that is written to without a pause no snapshot ever holds all: then this says nothing of its age.
        """
        self._behind_since.set(_known(since))

    def working(self, task: str | None, done_bytes: int = 0) -> None:
        """The task that is under way; None: none is."""
        for each in TASKS:
            self._task.labels(each).set(each == task)
        self._task_bytes.set(done_bytes)

    def task_ended(self, task: str, outcome: str) -> None:
        """A task came to its end; `outcome` is one of TASK_OUTCOMES."""
        self._tasks.labels(_bounded(task, TASKS), _bounded(outcome, TASK_OUTCOMES)).inc()

    def drilled(self, *, at: float | None, seconds: float | None, result: str | None) -> None:
        """The last drill of anybody's. None: nobody here has looked yet, or there never was one."""
        self._drilled_at.set(_known(at))
        self._drill_seconds.set(_known(seconds))
        for each in DRILL_RESULTS:
            self._drill_result.labels(each).set(_known(None if result is None else each == result))

    def recovering(self, *, proven_lost: bool | None, blockers: int | None, reports: int | None) -> None:
        """Whether the generation is lost. None: nobody could tell in this round."""
        self._lost.set(_known(proven_lost))
        self._obstacles.set(_known(blockers))
        self._reports.set(_known(reports))

    def caused_by(self, cause: str | None) -> None:
        """Why the newest generation that is known was begun. None: none is known."""
        for each in (*CAUSES, OTHER):
            found = None if cause is None else _bounded(cause, CAUSES)
            self._cause.labels(each).set(_known(None if found is None else each == found))

    def held(self, held: bool | None) -> None:
        """Whether an operator's pause is on. None: nobody here has been told."""
        self._hold.set(_known(held))

    def certified(self, *, until: float | None, authority_until: float | None, reload_due: bool | None) -> None:
        """Of this instance's own certificates, in Unix time. None: not known, or somebody else's business."""
        for name, value in zip(CERTIFIED, (until, authority_until, reload_due), strict=True):
            self._certified[name].set(_known(value))

    def vetoed(self) -> None:
        """The second look refused what the rules decided."""
        self._vetoes.inc()

    def acted(self, action: str, outcome: str) -> None:
        """One effect and what became of it; both from the model's enums."""
        self._actions.labels(action, outcome).inc()

    def aws_call(self, service: str, operation: str, result: str, seconds: float) -> None:
        """One HTTP request to AWS. `result` is `ok` or the kind of failure, never a text."""
        self._aws.labels(service, operation, result).inc()
        self._aws_seconds.labels(service, operation).observe(seconds)

    def etcd_call(self, method: str, result: str, seconds: float) -> None:
        """One request to an etcd. `result` is `ok` or the kind of failure, never a text."""
        self._etcd.labels(method, result).inc()
        self._etcd_seconds.labels(method).observe(seconds)

    def looped(self, seconds: float, ended_at: float) -> None:
        """A round ended without an error: how long it took, and when in Unix time."""
        self._loop_seconds.observe(seconds)
        self._last_loop.set(ended_at)

    def exposition(self) -> tuple[bytes, str]:
        """What a scrape gets, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


def _known(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _bounded(label: str, names: Collection[str]) -> str:
    return label if label in names else OTHER
