"""Tells of each round: a log line where something changed, the metrics, and the status page. Never steers."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from agent.decide.holding import hold_on
from agent.decide.loss import Blocked, Lost, NotProven
from agent.decide.serving import unready
from agent.decide.snapshotting import newest_of
from agent.model.actions import CallHuman, Decision, FileReport, Outcome, Rest, Wait
from agent.model.certificates import Issued
from agent.model.cluster import Membership, MemberStatus, quorum_of
from agent.model.disk import Disk
from agent.model.generation import FiledReport, GenerationRecord, Report
from agent.model.hold import Hold
from agent.model.known import NOT_ASKED, Unknown
from agent.model.memory import Memory, is_settled
from agent.model.observation import Observation
from agent.model.policy import Policy
from agent.model.round import Round
from agent.model.snapshot import DrillRecord, Listed
from agent.model.versions import Advice, advice_on
from agent.model.work import Ended, Work, Working
from agent.telemetry import describe
from agent.telemetry.log import facts
from agent.telemetry.metrics import Metrics, Newest
from agent.telemetry.recovery import judge

log = logging.getLogger(__name__)

DOORS: Mapping[str, str] = {
    "disk": "host",
    "process": "host",
    "survey": "host",
    "can_bump_revisions": "host",
    "etcd_version": "host",
    "data_version": "host",
    "local": "etcd",
    "membership": "etcd",
    "own_list": "etcd",
    "leader_seen": "etcd",
    "alarms": "etcd",
    "fleet": "ec2",
    "lifecycle_target": "imds",
    "spot": "imds",
    "rebalance": "imds",
    "dns": "route53",
    "issued": "host",
    "authorities": "ssm",
    "trusting": "etcd",
    "targets": "elbv2",
}
"""Behind which door each field of an Observation lies; the others lie in the bucket."""


class Teller:
    """Keeps the last round for the status page, and what was last said, so that only changes are logged."""

    def __init__(self, policy: Policy, metrics: Metrics) -> None:
        self._policy, self._cluster, self._metrics = policy, policy.cluster, metrics
        self._last: Round | None = None
        self._said: tuple[str, str, str] | None = None
        self._reported: Report | None = None
        self._unknown: dict[str, Unknown] = {}
        self._ended: Ended | None = None
        self._advice: Advice | None = None  # on the installed etcd's version
        self._hold: Hold | Unknown | None = NOT_ASKED
        self._judged: Lost | NotProven | None = None  # lately; None: a quorum answers
        self._head: GenerationRecord | None = None  # that this is about

    def tell(self, played: Round) -> None:
        """Log, count and keep one round."""
        self._last = played
        self._log_ignorance(played.observation)
        self._tell_of_hold(hold_on(played.observation, played.memory))
        self._tell_of_version(played.observation.etcd_version)
        self._log_decision(played)
        self._tell_of_work(played.observation.work)
        self._tell_of_recovery(played)
        self._count(played)

    def ready(self) -> tuple[bool, str]:
        """Whether this member served a linearizable read in the last round: what a load balancer asks."""
        if self._last is None:
            return False, "no round has ended yet"
        why_not = unready(self._last.observation, self._last.memory, self._policy)
        return why_not is None, why_not or "our etcd serves linearizable reads"

    def status(self) -> Mapping[str, Any]:
        """The last round, for `/status`."""
        if self._last is None:
            return {"cluster": self._cluster, "decision": None, "waiting": "for the first round to end"}
        return {"cluster": self._cluster, **describe.whole_round(self._last, self._judged)}

    # -- logs

    def _log_ignorance(self, o: Observation) -> None:
        """A change is a line. What nobody asked for in this round is as unknown as it was when somebody last did."""
        unknown = o.ignorance()
        for name, why in unknown.items():
            before = self._unknown.get(name)
            if before is None or before.why is not why.why:
                log.warning("cannot tell", extra=facts(what=name, why=why.why, detail=why.detail))
        told = [name for name in self._unknown if not isinstance(getattr(o, name), Unknown)]
        for name in told:
            log.info("can tell again", extra=facts(what=name))
        self._unknown = {name: why for name, why in {**self._unknown, **unknown}.items() if name not in told}

    def _tell_of_hold(self, hold: Hold | Unknown | None) -> None:
        """A line where it begins, where it is another, and where it ends."""
        if isinstance(hold, Hold) and hold != self._hold:
            log.warning("held", extra=facts(who=hold.who, since=hold.since, why=hold.why))
        elif hold is None and isinstance(self._hold, Hold):
            log.info("the hold is off", extra=facts(was=str(self._hold)))
        self._hold = hold
        self._metrics.held(None if isinstance(hold, Unknown) else hold is not None)

    def _tell_of_version(self, installed: str | Unknown) -> None:
        """A line where there is something against it, once for each version."""
        if isinstance(installed, Unknown):
            return
        advice = advice_on(installed)
        if advice is not None and advice != self._advice:
            log.warning("another etcd should run", extra=facts(version=installed, why=advice.kind, advice=advice.why))
        self._advice = advice
        self._metrics.advised("" if advice is None else advice.kind)

    def _log_decision(self, played: Round) -> None:
        decision, result = played.decision, played.result
        if isinstance(decision.action, FileReport) and result.outcome is Outcome.DONE:
            if decision.action.report == self._reported:
                return  # the same again, to keep it fresh: an interlude in whatever we wait for
            self._reported = decision.action.report
        said = (decision.rule, _kind(decision), str(result.outcome))
        if isinstance(decision.action, Rest | Wait | CallHuman):
            if said != self._said:
                level = logging.ERROR if isinstance(decision.action, CallHuman) else logging.INFO
                log.log(level, _MESSAGES[type(decision.action)], extra=_facts_of(decision))
        elif result.outcome is not Outcome.REFUSED or said != self._said:
            level = logging.INFO if result.outcome is Outcome.DONE else logging.WARNING
            log.log(level, "acted", extra=_facts_of(decision, outcome=result.outcome, detail=result.detail))
        self._said = said

    def _tell_of_work(self, work: Work) -> None:
        """A task's begin is an action and logged as one; its end is a line, and counted, once."""
        if isinstance(work, Working):
            self._metrics.working(type(work.task).__name__, work.bytes_done)
            return
        self._metrics.working(None)
        if not isinstance(work, Ended) or work == self._ended:
            return
        self._ended, task, outcome = work, type(work.task).__name__, describe.outcome(work)
        self._metrics.task_ended(task, outcome)
        said = facts(task=task, outcome=outcome, seconds=(work.at - work.since).total_seconds(), **_made(work))
        log.log(logging.INFO if work.trouble is None else logging.WARNING, "task ended", extra=said)

    def _tell_of_recovery(self, played: Round) -> None:
        """Whether the generation is lost; a line where that changes, or who stands in the way.

        EC2 is not asked in every round: what was found stays told until it is found anew, or a quorum answers.
        """
        o, judged, before = played.observation, judge(played, self._policy), self._judged
        answered = isinstance(o.membership, Membership)
        if answered or judged is not None or self._head != played.memory.head:
            self._judged, self._head = judged, played.memory.head
        if judged is not None and _who(judged) != _who(before):
            message = "recovery waits" if isinstance(judged, NotProven) else "the generation is proven lost"
            log.warning(message, extra=facts(blockers=list(map(str, _blockers(judged)))))
        known = answered or self._judged is not None
        self._metrics.recovering(
            proven_lost=isinstance(self._judged, Lost) if known else None,
            blockers=len(_blockers(self._judged)) if known else None,
            reports=None if isinstance(o.reports, Unknown) else len(_fresh(o.reports, self._policy)),
        )

    # -- metrics

    def _count(self, played: Round) -> None:
        o, action = played.observation, played.decision.action
        for name, why in o.ignorance().items():
            self._metrics.unknown_read(DOORS.get(name, "s3"), why.why)
        blocked = action.blocker.value if isinstance(action, Wait) else None
        self._metrics.decided(
            played.decision.rule,
            blocked=blocked,
            needs_human=action.reason.value if isinstance(action, CallHuman) else None,
            interlude=isinstance(action, FileReport),
        )
        if played.objections:
            self._metrics.vetoed()
        if not isinstance(action, Rest | Wait | CallHuman):
            self._metrics.acted(type(action).__name__, played.result.outcome.value)
        self._gauges(o)
        self._count_snapshots(o, played.memory)
        self._count_certificates(o, played.memory)
        self._metrics.looped(max(0.0, played.took.total_seconds()), (o.now + played.took).timestamp())

    def _gauges(self, o: Observation) -> None:
        identity = o.disk.identity if isinstance(o.disk, Disk) else None
        local = o.local if isinstance(o.local, MemberStatus) else None
        membership = o.membership if isinstance(o.membership, Membership) else None
        self._metrics.observed(
            generation=None if isinstance(o.disk, Unknown) else identity.generation if identity else 0,
            member=None if local is None else True,
            learner=None if local is None else local.is_learner,
            leader=None if local is None else local.leads,
            has_leader=None if local is None else local.leader is not None,
            quorum_margin=_margin(o),
            members=None if membership is None else _states(o, membership),
        )
        if not isinstance(o.spot, Unknown):
            self._metrics.noticed("" if o.spot is None else o.spot.action.value)
        if not isinstance(o.rebalance, Unknown):
            self._metrics.rebalance(o.rebalance is not None)
        self._metrics.identity(
            cluster=self._cluster,
            instance=o.me.instance,
            zone=o.me.zone,
            member_id=str(identity.member_id) if identity and identity.member_id else "",
            cluster_id=str(identity.cluster_id) if identity and identity.cluster_id else "",
        )

    def _count_certificates(self, o: Observation, memory: Memory) -> None:
        held = o.issued if isinstance(o.issued, Issued) else None
        self._metrics.certified(
            until=None if held is None else held.expires_at.timestamp(),
            authority_until=None if held is None else held.authority_expires_at.timestamp(),
            reload_due=None if held is None else memory.must_reload,
        )

    def _count_snapshots(self, o: Observation, memory: Memory) -> None:
        """By the last listing, which memory keeps; a drill's record stays told until the next is read."""
        self._metrics.caused_by(None if memory.head is None else memory.head.cause.kind)
        if memory.snapshots is not None and memory.snapshots_read_at is not None:
            newest = None if memory.head is None else newest_of(memory.head, memory.snapshots)
            self._metrics.listed(newest=_newest(newest, memory.snapshots_read_at), states=_counted(memory.snapshots))
        # A member that is cut off hears of no writes, and a learner's agent reads of no snapshots.
        self._metrics.behind(_timestamp(memory.behind_since) if is_settled(o) else None)
        if isinstance(o.last_drill, DrillRecord):
            at = o.now.timestamp() - o.last_drill.age_seconds
            result, took = o.last_drill.result.value, o.last_drill.duration_seconds
            self._metrics.drilled(at=at, seconds=took, result=result)


_MESSAGES = {Rest: "all is well", Wait: "waiting", CallHuman: "a human is needed"}


def _timestamp(since: datetime | None) -> float:
    """In Unix time; 0 where it is not so."""
    return 0.0 if since is None else since.timestamp()


def _kind(decision: Decision) -> str:
    match decision.action:
        case Wait(blocker=blocker):
            return blocker
        case CallHuman(reason=reason):
            return reason
        case action:
            return type(action).__name__


def _facts_of(decision: Decision, **more: object) -> dict[str, Any]:
    action = {"action": type(decision.action).__name__, **describe.decision(decision)["details"]}
    entry = describe.runbook(decision.action)
    if entry is not None:
        more["runbook"] = entry
    return facts(rule=decision.rule, because=decision.because, **action, **more)


def _margin(o: Observation) -> int | None:
    """How many more voters may fail; known only beside the leader, who asks them all."""
    if not o.answers.of or not isinstance(o.membership, Membership):
        return None
    voters = [voter.id for voter in o.membership.voters]
    return sum(o.answers.answered(voter) for voter in voters) - quorum_of(len(voters))


def _states(o: Observation, membership: Membership) -> dict[str, int]:
    counted = {"voter": 0, "learner": 0, "unstarted": 0, "unreachable": 0}
    for member in membership.members:
        silent = member.id in o.answers.of and not o.answers.answered(member.id)
        state = "learner" if member.is_learner else "voter"
        counted["unstarted" if not member.started else "unreachable" if silent else state] += 1
    return counted


def _made(ended: Ended) -> dict[str, object]:
    """What a task made, or what kept it from that."""
    if ended.trouble is not None:
        return {"why": ended.trouble.why, "detail": ended.trouble.detail}
    return {} if ended.manifest is None else {"snapshot": str(ended.manifest.name)}


def _blockers(judged: Lost | NotProven | None) -> tuple[Blocked, ...]:
    return judged.blockers if isinstance(judged, NotProven) else ()


def _who(judged: Lost | NotProven | None) -> frozenset[str] | None:
    """Who stands in the way: what changes less often than what is said of them."""
    return None if judged is None else frozenset(each.who for each in _blockers(judged))


def _fresh(filed: Sequence[FiledReport], policy: Policy) -> list[FiledReport]:
    return [each for each in filed if each.age_seconds <= policy.report_max_age.total_seconds()]


def _newest(found: Listed | None, read_at: datetime) -> Newest:
    if found is None:
        return Newest()
    return Newest(read_at.timestamp() - found.age_seconds, found.name.revision, found.stored_bytes or 0)


def _counted(listed: Sequence[Listed]) -> Mapping[str, int]:
    return Counter("bad" if each.bad else "sound" if each.usable else "unfinished" for each in listed)
