"""The independent second look: for each dangerous action, what must be true whatever rule asked for it.

Written from the promises and not from the rules, and sharing no code with them: a mistake in a rule must not
be repeated here. An objection can only veto; what is vetoed becomes a wait that names the objection.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from agent.model.actions import (
    Action,
    AddLearner,
    Blocker,
    CreateGeneration,
    Decision,
    PromoteMember,
    Quarantine,
    RemoveMember,
    StampIdentity,
    StartEtcd,
    StopEtcd,
    UpdatePeerUrl,
    Wait,
    WriteClaim,
)
from agent.model.cluster import Member, Membership, MemberStatus
from agent.model.disk import Data, Disk, EtcdStopped, Identity, Stage
from agent.model.fleet import Fleet, InstanceState
from agent.model.generation import Claim, FiledReport, GenerationRecord
from agent.model.ids import InstanceId, MemberId
from agent.model.known import Unknown
from agent.model.memory import Memory
from agent.model.observation import BucketSound, Observation


def object_to(decision: Decision, o: Observation, memory: Memory) -> tuple[str, ...]:
    """Every reason why this decision must not be carried out; empty for almost all."""
    match decision.action:
        case RemoveMember(member=member):
            return _to_removing(member, o, memory)
        case AddLearner():
            return _to_adding(o)
        case PromoteMember(member=member):
            return _to_promoting(member, o)
        case UpdatePeerUrl(member=member):
            return _to_updating(member, o)
        case StopEtcd() | Quarantine():
            return _to_setting_aside(decision.action, o)
        case StampIdentity(identity=identity):
            return _to_stamping(identity, o, memory)
        case StartEtcd(launch=launch):
            return _to_starting_new(o) if launch.state == "new" else _to_starting_existing(o)
        case CreateGeneration(record=record):
            return _to_creating(record, o, memory)
        case WriteClaim(claim=claim):
            return _to_claiming(claim, o)
        case _:
            return ()


def veto(decision: Decision, objections: tuple[str, ...]) -> Decision:
    """What is carried out instead of a decision that met objections."""
    because = f"vetoed ({decision.rule}: {decision.because}): {'; '.join(objections)}"
    return replace(decision, action=Wait(Blocker.VETO), because=because)


def _failing(**demands: bool) -> tuple[str, ...]:
    return tuple(name.replace("_", " ") + " is not so" for name, holds in demands.items() if not holds)


def _entry(member: MemberId, o: Observation) -> Member | None:
    if not isinstance(o.membership, Membership):
        return None
    return {each.id: each for each in o.membership.members}.get(member)


def _to_removing(member: MemberId, o: Observation, memory: Memory) -> tuple[str, ...]:
    entry = _entry(member, o)
    if entry is None or not isinstance(o.membership, Membership):
        return ("the member is in no list that a quorum stood behind",)
    ours = entry.name == o.me.instance or (entry.name == "" and o.me.peer_url in entry.peer_urls)
    own = ours and isinstance(o.disk, Disk) and o.disk.data is not Data.PRESENT
    stopped = isinstance(o.process, EtcdStopped)
    return _failing(
        the_removed_one_is_dead_or_was_ours=entry.is_learner or _is_dead(entry, o, memory) or (own and stopped),
        the_removed_one_is_not_this_running_member=entry.name != o.me.instance or stopped,
        a_quorum_of_what_remains_answers=entry.is_learner or _remains(entry, o.membership, o),
    )


def _is_dead(entry: Member, o: Observation, memory: Memory) -> bool:
    if not isinstance(o.fleet, Fleet) or not entry.name:
        return False
    states = {each.id: each.state for each in o.fleet.instances}
    name = InstanceId(entry.name)
    if states.get(name) is InstanceState.SHUTTING_DOWN:
        return True
    if isinstance(o.answers.of.get(entry.id), MemberStatus) or o.me.instance not in states:
        return False  # it lives, or EC2 speaks of some other account than ours
    if name in states:
        return states[name] in (InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED)
    aged = o.now - memory.seen_since.get(entry.id, o.now) >= timedelta(hours=1)
    forgotten = name in o.fleet.unheard_of and memory.unheard_of.get(name, 0) > 1 and aged
    return name in o.fleet.ended_by_group or forgotten


def _remains(entry: Member, membership: Membership, o: Observation) -> bool:
    rest = [each for each in membership.members if not each.is_learner and each is not entry]
    speaking = [each for each in rest if isinstance(o.answers.of.get(each.id), MemberStatus)]
    return 2 * len(speaking) > len(rest)


def _to_adding(o: Observation) -> tuple[str, ...]:
    if not isinstance(o.membership, Membership) or not isinstance(o.disk, Disk):
        return ("no quorum stood behind a member list in this round",)
    identity = o.disk.identity
    return _failing(
        our_address_is_free=all(o.me.peer_url not in each.peer_urls for each in o.membership.members),
        the_identity_says_adding=identity is not None and identity.stage is Stage.ADDING,
        the_disk_has_no_data=o.disk.data is Data.EMPTY,
        no_other_learner_exists=not any(each.is_learner for each in o.membership.members),
    )


def _to_promoting(member: MemberId, o: Observation) -> tuple[str, ...]:
    entry = _entry(member, o)
    return _failing(it_is_a_learner_of_a_list_with_a_quorum=entry is not None and entry.is_learner)


def _to_updating(member: MemberId, o: Observation) -> tuple[str, ...]:
    entry = _entry(member, o)
    return _failing(it_is_a_voter_of_a_list_with_a_quorum=entry is not None and not entry.is_learner)


def _to_setting_aside(action: Action, o: Observation) -> tuple[str, ...]:
    """Only what is fenced is stopped or moved, and nothing is moved under a running etcd."""
    identity = o.disk.identity if isinstance(o.disk, Disk) else None
    still = isinstance(o.process, EtcdStopped) or isinstance(action, StopEtcd)
    return _failing(
        the_identity_is_fenced=identity is not None and identity.stage is Stage.FENCED,
        etcd_has_stopped=still,
    )


def _to_stamping(identity: Identity, o: Observation, memory: Memory) -> tuple[str, ...]:
    if not isinstance(o.disk, Disk):
        return ("the disk is unknown",)
    if identity.stage is Stage.FENCED:
        return _to_fencing(o.disk.identity, o)
    before = o.disk.identity
    same_life = before is not None and (identity.nonce, identity.generation) == (before.nonce, before.generation)
    return _failing(
        no_data_changes_hands=same_life or o.disk.data is not Data.PRESENT,
        no_fenced_identity_comes_back=before is None or before.stage is not Stage.FENCED,
        the_generation_is_the_newest_we_know=memory.head is None
        or identity.generation == memory.head.generation
        or (before is not None and before.generation == identity.generation),
    )


def _to_fencing(before: Identity | None, o: Observation) -> tuple[str, ...]:
    if before is None:
        return ("there is no identity to fence",)
    newer = isinstance(o.head, GenerationRecord) and o.head.generation > before.generation
    absent = learner = False
    if isinstance(o.membership, Membership) and isinstance(o.process, EtcdStopped):
        ours = [each for each in o.membership.members if before.member_id in (each.id, None)]
        ours = [each for each in ours if before.member_id is not None or each.name == before.instance]
        absent = not ours and before.cluster_id in (None, o.membership.cluster_id)
        learner = bool(ours) and all(each.is_learner for each in ours)
    return _failing(a_newer_generation_or_a_quorum_has_replaced_us=newer or absent or learner)


def _to_starting_new(o: Observation) -> tuple[str, ...]:
    """`new` begins a lineage: only with the claim in the bucket, its nonce on the disk, and no data."""
    if not isinstance(o.disk, Disk) or not isinstance(o.head, GenerationRecord) or o.claim is None:
        return ("record, claim and disk are not all known",)
    identity, claimed = o.disk.identity, getattr(o.claim, "nonce", None)
    return _failing(
        etcd_has_stopped=isinstance(o.process, EtcdStopped),
        the_disk_has_no_data=o.disk.data is Data.EMPTY,
        the_claim_is_of_this_disk=identity is not None and identity.nonce == claimed,
        the_seat_was_not_given_up=identity is not None and identity.stage is Stage.STARTING,
        the_identity_is_of_the_head=identity is not None and identity.generation == o.head.generation,
        the_record_names_us_at_this_address=o.head.founders.get(o.me.instance) == o.me.peer_url,
    )


def _to_starting_existing(o: Observation) -> tuple[str, ...]:
    if not isinstance(o.disk, Disk) or o.disk.identity is None:
        return ("there is no identity to start under",)
    identity, head = o.disk.identity, o.head
    entry = None if identity.member_id is None else _entry(identity.member_id, o)
    return _failing(
        etcd_has_stopped=isinstance(o.process, EtcdStopped),
        the_identity_may_start=identity.stage is not Stage.FENCED,
        no_newer_generation_is_known=head is not None
        and not (isinstance(head, GenerationRecord) and head.generation != identity.generation),
        there_is_data_or_an_unstarted_entry=o.disk.data is Data.PRESENT
        or (identity.stage is Stage.JOINING and entry is not None and entry.name == ""),
    )


def _to_creating(record: GenerationRecord, o: Observation, memory: Memory) -> tuple[str, ...]:
    if isinstance(o.reports, Unknown):
        return ("the reports are not known",)
    heard = {each.report.instance: each.report.peer_url for each in o.reports}
    fleet = memory.fleet if isinstance(o.fleet, Unknown) else o.fleet
    return _failing(
        there_is_no_generation=o.head is None and record.generation == 1,
        there_are_no_snapshots=o.snapshots_exist is False,
        the_bucket_honours_preconditions=isinstance(o.bucket, BucketSound),
        there_is_a_founder=len(record.founders) > 0,
        every_founder_was_heard=all(heard.get(name) == url for name, url in record.founders.items()),
        no_report_tells_of_data=not any(_holds_data(each, fleet) for each in o.reports),
        this_disk_has_no_data=isinstance(o.disk, Disk) and o.disk.data is not Data.PRESENT,
    )


def _holds_data(filed: FiledReport, fleet: Fleet | None) -> bool:
    """Data that can come back: not of an instance that ended, or that nobody lists and that fell silent."""
    if filed.report.data == "none":
        return False
    states = {each.id: each.state for each in fleet.instances} if fleet is not None else {}
    state = states.get(filed.report.instance)
    if state is None:
        return fleet is None or filed.age_seconds < 60
    return state not in (InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED)


def _to_claiming(claim: Claim, o: Observation) -> tuple[str, ...]:
    head, identity = o.head, o.disk.identity if isinstance(o.disk, Disk) else None
    return _failing(
        no_claim_of_ours_exists=o.claim is None,
        the_record_names_us=isinstance(head, GenerationRecord) and o.me.instance in head.founders,
        the_disk_is_prepared=isinstance(o.disk, Disk) and o.disk.data is Data.EMPTY,
        the_claim_is_of_this_disk=identity is not None and claim == Claim(o.me.instance, identity.nonce),
    )
