"""All that an operator has to know before replacing a cluster by hand, and whether that cluster lives. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from agent.decide.loss import Lost, NotProven, judge_loss
from agent.model.cluster import Membership, MemberStatus
from agent.model.fleet import Fleet
from agent.model.generation import Exclusion, FiledReport, GenerationRecord, Holding, Report, Sight
from agent.model.ids import InstanceId, PeerUrl
from agent.model.memory import Memory
from agent.model.observation import Observation
from agent.model.policy import Policy
from agent.model.snapshot import Listed


@dataclass(frozen=True, slots=True)
class Case:
    """What there is, all of it read just now: whoever could not read a part of it has stopped before this."""

    o: Observation  # head, fleet, reports, formed, exclusions, snapshots and membership of it are those below
    memory: Memory
    policy: Policy
    head: GenerationRecord | None
    fleet: Fleet
    filed: tuple[FiledReport, ...]
    listed: tuple[Listed, ...]
    exclusions: tuple[Exclusion, ...]
    peer_urls: Mapping[InstanceId, PeerUrl]  # by address, of everybody who is up
    answers: Mapping[InstanceId, MemberStatus] = field(default_factory=dict)  # the etcds that answered

    @property
    def fresh(self) -> tuple[Report, ...]:
        most = self.policy.report_max_age.total_seconds()
        return tuple(each.report for each in self.filed if each.age_seconds <= most)

    @property
    def holders(self) -> tuple[Report, ...]:
        return tuple(each for each in self.fresh if each.data is not Holding.NONE)

    @property
    def written_off(self) -> frozenset[InstanceId]:
        return frozenset(each.instance for each in self.exclusions)

    @property
    def verdict(self) -> Lost | NotProven:
        return judge_loss(self.o, self.memory, self.policy)

    def writing_off(self, more: tuple[Exclusion, ...]) -> Case:
        """The same, once these are in the bucket."""
        new = tuple(each for each in more if each.instance not in self.written_off)
        every = self.exclusions + new
        return replace(self, exclusions=every, o=replace(self.o, exclusions=every))


# ---- does it live? --------------------------------------------------------------------------------------------------


class Life(StrEnum):
    """Whether the newest generation serves."""

    NONE = "none"  # there is no generation, and nobody has data
    SERVES = "serves"  # a quorum answered, or somebody sees a leader
    UNTOLD = "untold"  # it may, where nobody here can see it
    LEADERLESS = "leaderless"  # everybody who is up was heard, and sees no leader
    LOST = "lost"  # proven: it can never have a leader again


def life_of(case: Case, ignoring: frozenset[InstanceId] = frozenset()) -> tuple[Life, str]:
    """And why, in a line. `ignoring`: of whom the operator says that they will never serve again."""
    if isinstance(case.o.membership, Membership):
        return Life.SERVES, f"a quorum answers at {case.o.membership.via}"
    seers = {name for name, status in case.answers.items() if status.leader is not None}
    seers |= {each.instance for each in case.fresh if each.sight is Sight.LEADER}
    if seers:
        return Life.SERVES, f"a leader is seen by {', '.join(sorted(seers))}"
    if case.head is None:
        return _without_a_record(case)
    if isinstance(case.verdict, Lost):
        return Life.LOST, "it is proven that it can never have a leader again"
    quiet = silent(case) - ignoring - case.written_off
    if quiet:
        names = ", ".join(sorted(quiet))
        return Life.UNTOLD, f"not heard, though EC2 calls them up: {names}; they may serve where nobody here can see it"
    return Life.LEADERLESS, "everybody who is up was heard, and nobody sees a leader"


def _without_a_record(case: Case) -> tuple[Life, str]:
    holders = sorted({each.report.instance for each in case.filed if each.report.data is not Holding.NONE})
    if holders or case.answers:
        names = ", ".join(holders or sorted(case.answers))
        return Life.UNTOLD, f"there is no record of any generation, and there is data: a cluster may serve ({names})"
    return Life.NONE, "there is no generation, and nobody is known to hold data"


def silent(case: Case) -> set[InstanceId]:
    """Who is up, and neither reported lately that it sees no leader nor has an etcd that says so."""
    told = {each.instance for each in case.fresh if each.sight in (Sight.LEADERLESS, Sight.LONG_LEADERLESS)}
    return {each.id for each in case.fleet.up} - told - set(case.answers)


def unheard(case: Case) -> tuple[InstanceId, ...]:
    """Every instance that can come back and has not reported lately."""
    told = {each.instance for each in case.fresh}
    return tuple(each.id for each in case.fleet.live if each.id not in told)
