"""The second look at the gravest step: writing a generation's record, and stopping a survivor for its sake.

Like `objections`, of which it is a part: written from the promises, and sharing no code with the rules.
"""

from __future__ import annotations

from agent.model.disk import Data, Disk
from agent.model.fleet import Fleet, InstanceState
from agent.model.generation import FiledReport, GenerationRecord, Holding, Report, Seat, Sight
from agent.model.known import Unknown
from agent.model.memory import Memory
from agent.model.observation import BucketSound, Observation
from agent.model.snapshot import Manifest
from agent.model.versions import number_of
from agent.model.work import Ended

RECENT_SECONDS = 60.0


def failing(**demands: bool) -> tuple[str, ...]:
    """The demands that are not met, in words."""
    return tuple(name.replace("_", " ") + " is not so" for name, holds in demands.items() if not holds)


def to_creating(record: GenerationRecord, o: Observation, memory: Memory) -> tuple[str, ...]:
    if isinstance(o.reports, Unknown):
        return ("the reports are not known",)
    heard = {each.report.instance: each.report.peer_url for each in o.reports}
    always = failing(
        the_bucket_honours_preconditions=isinstance(o.bucket, BucketSound),
        there_is_a_founder=len(record.founders) > 0,
        every_founder_was_heard=all(heard.get(name) == url for name, url in record.founders.items()),
    )
    return always + (_to_beginning(record, o, memory) if o.head is None else _to_succeeding(record, o))


def _to_beginning(record: GenerationRecord, o: Observation, memory: Memory) -> tuple[str, ...]:
    fleet = memory.fleet if isinstance(o.fleet, Unknown) else o.fleet
    assert not isinstance(o.reports, Unknown)
    return failing(
        there_is_no_generation=record.generation == 1 and record.seed is None,
        there_are_no_snapshots=o.snapshots == (),
        no_report_tells_of_data=not any(_holds_data(each, fleet) for each in o.reports),
        this_disk_has_no_data=isinstance(o.disk, Disk) and o.disk.data is not Data.PRESENT,
    )


def _to_succeeding(record: GenerationRecord, o: Observation) -> tuple[str, ...]:
    """A generation that replaces another: only one that can never come back, and never from less than there is."""
    if not isinstance(o.head, GenerationRecord) or isinstance(o.reports, Unknown):
        return ("the generation before is not known",)
    sound = [each for each in _speaking(o) if each.data is Holding.INTACT and each.position and not each.trouble]
    sources = {f"survivor {each.instance}" for each in sound}
    enough = all(_has_all_of(o.manifest, each, record) for each in sound)
    source = None if record.seed is None else record.seed.source
    return _to_calling_it_lost(o) + failing(
        it_is_the_next_generation=record.generation == o.head.generation + 1,
        no_survivor_has_more_than_its_source=source in sources or enough,
        what_had_formed_is_not_begun_anew_empty=record.seed is not None
        or (o.formed is None and o.head.seed is None and not _speaking_holders(o)),
        every_founder_can_read_its_source=all(_reads(o.manifest, each, record) for each in _speaking(o)),
        the_seed_was_verified=record.seed is None or record.seed.sha256 in _verified(o),
    )


def _has_all_of(manifest: Manifest | Unknown | None, survivor: Report, record: GenerationRecord) -> bool:
    """The snapshot that the record starts from reaches as far as this survivor's log, in one and the same cluster."""
    if not isinstance(manifest, Manifest) or survivor.position is None or record.seed is None:
        return False
    ours = record.seed.manifest == manifest.name.manifest_key and manifest.cluster_id == survivor.cluster_id
    return ours and manifest.cluster_id is not None and manifest.raft_index >= survivor.position.last_index


def _reads(manifest: Manifest | Unknown | None, speaker: Report, record: GenerationRecord) -> bool:
    """An etcd of an older minor version cannot be started on what a newer one has written."""
    if speaker.instance not in record.founders or not isinstance(manifest, Manifest) or record.seed is None:
        return True
    ours, theirs = number_of(speaker.etcd_version), number_of(manifest.etcd_version)
    same = record.seed.manifest == manifest.name.manifest_key
    return not same or ours is None or theirs is None or ours[:2] >= theirs[:2]


def _verified(o: Observation) -> set[str]:
    """Digests that this agent has seen to be true: of what it rescued, and of what it fetched."""
    manifests = [o.manifest, o.work.manifest if isinstance(o.work, Ended) else None]
    made = {each.sha256 for each in manifests if isinstance(each, Manifest) and each.rescued is not None}
    return made | (set(o.disk.seeds) if isinstance(o.disk, Disk) else set())


def to_stopping_a_survivor(o: Observation) -> tuple[str, ...]:
    heard = [each for each in _speaking_holders(o) if each.instance == o.me.instance]
    return _to_calling_it_lost(o) + failing(
        no_quorum_answered=isinstance(o.membership, Unknown), our_own_report_was_heard=len(heard) == 1
    )


def _speaking(o: Observation) -> list[Report]:
    """Who reported lately and has neither ended nor been written off."""
    if not isinstance(o.fleet, Fleet) or isinstance(o.reports, Unknown) or isinstance(o.exclusions, Unknown):
        return []
    ended = {each.id for each in o.fleet.instances if each.state is InstanceState.TERMINATED}
    ended |= o.fleet.ended_by_group | {each.instance for each in o.exclusions}
    recent = [each.report for each in o.reports if each.age_seconds <= RECENT_SECONDS]
    return [each for each in recent if each.instance not in ended]


def _speaking_holders(o: Observation) -> list[Report]:
    return [each for each in _speaking(o) if each.data is not Holding.NONE]


def _to_calling_it_lost(o: Observation) -> tuple[str, ...]:
    """Everybody was heard, nobody sees a leader, and no list of anybody's finds a majority among those with data."""
    if not isinstance(o.fleet, Fleet) or isinstance(o.reports, Unknown) or isinstance(o.exclusions, Unknown):
        return ("who is here, and who has ended, is not known",)
    speaking = {each.instance: each for each in _speaking(o)}
    off = {each.instance for each in o.exclusions}
    gone = {each.id for each in o.fleet.instances if each.state is InstanceState.TERMINATED}
    alive = [each.id for each in o.fleet.instances if each.id not in gone and not each.warmed]
    gone |= o.fleet.ended_by_group | o.fleet.unheard_of | off
    held = {each.member_id for each in _speaking_holders(o)}
    lists = [members for each in _speaking_holders(o) for members in (each.members, each.restart_members)]
    voters = [[each.id for each in members if not each.is_learner] for members in lists if members]
    named = {each.name for members in lists for each in members if each.id not in held and each.name}
    open_seats = [each.instance for each in speaking.values() if each.seat is Seat.OPEN]
    return failing(
        everybody_alive_was_heard=all(each in speaking or each in off for each in alive),
        nobody_sees_a_leader=all(each.sight is Sight.LONG_LEADERLESS for each in speaking.values()),
        every_member_is_accounted_for=all(name in gone or name in speaking for name in named),
        no_founder_may_still_start=not open_seats,
        no_list_finds_a_majority=all(2 * len(held.intersection(each)) <= len(each) for each in voters),
    )


def _holds_data(filed: FiledReport, fleet: Fleet | None) -> bool:
    """Data that can come back: not of an instance that ended, or that nobody lists and that fell silent."""
    if filed.report.data is Holding.NONE:
        return False
    states = {each.id: each.state for each in fleet.instances} if fleet is not None else {}
    state = states.get(filed.report.instance)
    if state is None:
        return fleet is None or filed.age_seconds < 60
    return state not in (InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED)
