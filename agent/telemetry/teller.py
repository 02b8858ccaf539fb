"""Tells of each round: a log line where something changed, the metrics, and the status page. Never steers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from agent.model.actions import CallHuman, Decision, FileReport, Outcome, Rest, Wait
from agent.model.cluster import Membership, MemberStatus, quorum_of
from agent.model.disk import Disk
from agent.model.generation import Report
from agent.model.known import Unknown
from agent.model.observation import Observation
from agent.model.round import Round
from agent.telemetry import describe
from agent.telemetry.log import facts
from agent.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

DOORS: Mapping[str, str] = {
    "disk": "host",
    "process": "host",
    "etcd_version": "host",
    "local": "etcd",
    "membership": "etcd",
    "fleet": "ec2",
    "lifecycle_target": "imds",
}
"""Behind which door each field of an Observation lies; the others lie in the bucket."""


class Teller:
    """Keeps the last round for the status page, and what was last said, so that only changes are logged."""

    def __init__(self, cluster: str, metrics: Metrics) -> None:
        self._cluster, self._metrics = cluster, metrics
        self._last: Round | None = None
        self._said: tuple[str, str, str] | None = None
        self._reported: Report | None = None
        self._unknown: dict[str, Unknown] = {}

    def tell(self, played: Round) -> None:
        """Log, count and keep one round."""
        self._last = played
        self._log_ignorance(played.observation)
        self._log_decision(played)
        self._count(played)

    def ready(self) -> tuple[bool, str]:
        """Whether this member served a linearizable read in the last round: what a load balancer asks."""
        if self._last is None:
            return False, "no round has ended yet"
        o = self._last.observation
        if not isinstance(o.local, MemberStatus):
            return False, f"our etcd's status is {o.local}"
        if o.local.is_learner:
            return False, "our etcd is a learner: it serves no linearizable reads"
        if isinstance(o.membership, Unknown):
            return False, f"no quorum answered through our etcd: {o.membership}"
        return True, "our etcd serves linearizable reads"

    def status(self) -> Mapping[str, Any]:
        """The last round, for `/status`."""
        if self._last is None:
            return {"cluster": self._cluster, "decision": None, "waiting": "for the first round to end"}
        return {"cluster": self._cluster, **describe.whole_round(self._last)}

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

    # -- metrics

    def _count(self, played: Round) -> None:
        o, action = played.observation, played.decision.action
        for name, why in o.ignorance().items():
            self._metrics.unknown_read(DOORS.get(name, "s3"), why.why)
        blocked = action.blocker.value if isinstance(action, Wait) else None
        self._metrics.decided(
            played.decision.rule,
            blocked=blocked,
            needs_human=isinstance(action, CallHuman),
            interlude=isinstance(action, FileReport),
        )
        if played.objections:
            self._metrics.vetoed()
        if not isinstance(action, Rest | Wait | CallHuman):
            self._metrics.acted(type(action).__name__, played.result.outcome.value)
        self._gauges(o)
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
        self._metrics.identity(
            cluster=self._cluster,
            instance=o.me.instance,
            zone=o.me.zone,
            member_id=str(identity.member_id) if identity and identity.member_id else "",
            cluster_id=str(identity.cluster_id) if identity and identity.cluster_id else "",
        )


_MESSAGES = {Rest: "all is well", Wait: "waiting", CallHuman: "a human is needed"}


def _kind(decision: Decision) -> str:
    action = decision.action
    return action.blocker if isinstance(action, Wait) else type(action).__name__


def _facts_of(decision: Decision, **more: object) -> dict[str, Any]:
    action = {"action": type(decision.action).__name__, **describe.decision(decision)["details"]}
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
