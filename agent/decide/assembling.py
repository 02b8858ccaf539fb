"""No generation yet: wait for the fleet, then one of its agents writes generation 1.

It is safe to found without the silent here, and only here: a cluster exists only with a record, so nobody
silent can be holding one. Everything that contradicts that (data on a disk, snapshots in the bucket) stops
the founding and pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.decide.situation import Situation, do, wait
from agent.model.actions import Blocker, CallHuman, CreateGeneration, Decision, Reason
from agent.model.cluster import quorum_of, voter_target
from agent.model.fleet import Fleet, Instance
from agent.model.generation import FIRST, Cause, FiledReport, GenerationRecord, Holding, Report, Seed
from agent.model.ids import GenerationNumber, InstanceId, PeerUrl
from agent.model.known import Unknown
from agent.model.observation import BucketSound, Observation
from agent.model.policy import Policy

SETUP_HINT = "check storage.bucket, storage.prefix and cluster.name; to start over on purpose use `recover`"


def found_the_first_generation(s: Situation) -> Decision | None:
    """Write generation 1 once the whole fleet has reported, or a majority of it after a grace."""
    if s.o.head is not None:
        return None
    if isinstance(s.o.snapshots, Unknown) or isinstance(s.o.reports, Unknown):
        return wait(Blocker.IGNORANCE, "there is no generation yet, and the bucket does not tell who is here")
    if s.o.snapshots:
        why = "there are snapshots in the bucket, but no generation that made them"
        return do(CallHuman(SETUP_HINT, Reason.RECORDS_MISSING), why)
    fleet = s.fleet_lately
    if fleet is None:
        return wait(Blocker.IGNORANCE, "there is no generation yet, and EC2 has not told of the fleet lately")
    holders = [
        each.report.instance for each in s.o.reports if each.report.data is not Holding.NONE and _lives(s, fleet, each)
    ]
    if holders:
        why = f"there is no generation, but {', '.join(holders)} holds data"
        return do(CallHuman(SETUP_HINT, Reason.RECORDS_MISSING), why)
    if fleet.desired_capacity < 1:
        return wait(Blocker.IGNORANCE, "no Auto Scaling group says how many instances there should be")
    present = present_now(s, fleet, s.o.reports)
    if len(present) < _wanted(s, fleet):
        return wait(Blocker.ASSEMBLY, _who_is_missing(fleet, present))
    if not isinstance(s.o.bucket, BucketSound):
        return wait(Blocker.IGNORANCE, f"the bucket has not yet been proven to honour preconditions: {s.o.bucket}")
    return _found(s, fleet, present)


def _lives(s: Situation, fleet: Fleet, filed: FiledReport) -> bool:
    """Its instance can come back; one that EC2 does not list counts until it has missed several reports."""
    instance = fleet.find(filed.report.instance)
    if instance is None:
        return filed.age_seconds <= 3 * s.policy.report_max_age.total_seconds()
    return instance.live


def present_now(s: Situation, fleet: Fleet, reports: Sequence[FiledReport]) -> dict[Instance, Report]:
    """The instances that are up, have come to stay, and have spoken just now."""
    most = s.policy.report_max_age.total_seconds()
    fresh = {each.report.instance: each.report for each in reports if each.age_seconds <= most}
    return {instance: fresh[instance.id] for instance in fleet.up if instance.id in fresh and not instance.leaving}


def _wanted(s: Situation, fleet: Fleet) -> int:
    since = s.memory.assembling_since
    if since is not None and s.o.now - since >= s.policy.founding_grace:
        return quorum_of(fleet.desired_capacity)
    return fleet.desired_capacity


def _who_is_missing(fleet: Fleet, present: dict[Instance, Report]) -> str:
    missing = [instance.id for instance in fleet.up if instance not in present and not instance.leaving]
    names = f", waiting for {', '.join(missing)}" if missing else ""
    return f"{len(present)} of {fleet.desired_capacity} instances have reported{names}"


def _found(s: Situation, fleet: Fleet, present: dict[Instance, Report]) -> Decision:
    founders = seat(fleet, present)
    if founders is None:
        return wait(Blocker.ADDRESS, "two founders report the same peer URL")
    cause = Cause("first", {"desired_capacity": fleet.desired_capacity, "reported": [i.id for i in present]})
    record = new_record(s, FIRST, founders, cause, None)
    return do(CreateGeneration(record), f"{len(present)} instances are ready for generation 1")


def seat(fleet: Fleet, present: dict[Instance, Report]) -> dict[InstanceId, PeerUrl] | None:
    """As many founders as there should be voters, over the zones. None: two of them report the same address."""
    return seat_at(fleet, {instance: report.peer_url for instance, report in present.items()})


def seat_at(fleet: Fleet, urls: Mapping[Instance, PeerUrl]) -> dict[InstanceId, PeerUrl] | None:
    """The same by address, whether or not anybody reported it."""
    seats = voter_target(min(len(urls), max(1, fleet.desired_capacity)))
    founders = {instance.id: urls[instance] for instance in _spread(list(urls))[:seats]}
    return founders if len(set(founders.values())) == len(founders) else None


def new_record(
    s: Situation, number: GenerationNumber, founders: dict[InstanceId, PeerUrl], cause: Cause, seed: Seed | None
) -> GenerationRecord:
    """A generation's record, signed with this round's nonce."""
    return record_of(s.o, s.policy, number, founders, cause, seed)


def record_of(
    o: Observation,
    policy: Policy,
    number: GenerationNumber,
    founders: Mapping[InstanceId, PeerUrl],
    cause: Cause,
    seed: Seed | None,
) -> GenerationRecord:
    """A generation's record by whoever made this observation; every generation has a token of its own."""
    return GenerationRecord(
        generation=number,
        cluster=policy.cluster,
        token=f"{policy.cluster}-{number:06d}-{o.nonce[:8]}",
        created_by=o.me.instance,
        created_at=o.now,
        agent=policy.agent_version,
        nonce=o.nonce,
        founders=dict(sorted(founders.items())),
        cause=cause,
        seed=seed,
    )


def _spread(instances: list[Instance]) -> list[Instance]:
    """Over the zones in turn, so that the founders' quorum does not sit in one of them."""
    turn: dict[Instance, int] = {}
    for instance in instances:
        turn[instance] = sum(each.zone == instance.zone for each in turn)
    return sorted(instances, key=lambda each: (turn[each], each.zone, each.id))
