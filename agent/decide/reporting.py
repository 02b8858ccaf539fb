"""What an agent without a working cluster tells the others: before the first generation, and where a quorum is lost.

A steady cluster writes nothing here. A report is a statement about one generation, on which its author can be held:
"none" means that what was here, if anything, can never serve that generation again. A founder that might still start
says so (`Seat.OPEN`), because its start may bring the quorum back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.decide.situation import Situation, do
from agent.model.actions import Decision, FileReport
from agent.model.cluster import MemberStatus
from agent.model.disk import Data, Stage
from agent.model.generation import FIRST, Claim, FiledReport, GenerationRecord, Holding, Report, Seat, Sight
from agent.model.ids import GenerationNumber, MemberId
from agent.model.known import Unknown
from agent.model.members import Damaged, LogPosition, MemberEntry, Survey


def file_report(s: Situation) -> Decision | None:
    """Let the others know that we are here, and with what.

    This comes before the contradictions on purpose. Where the bucket was emptied, a disk with data is what
    keeps the others from founding beside it, so its agent must have said so before it calls a human.
    """
    if isinstance(s.o.reports, Unknown):
        return None
    if s.o.head is None:
        because = "there is no generation yet: telling the others what is here"
        return _file(s, FIRST, _before_the_first(s), because, s.o.reports)
    record = s.record
    if record is None or not s.without_a_cluster:
        return None
    because = f"no quorum of generation {record.generation} answers: telling the others what is here"
    return _file(s, record.generation, _about(s, record), because, s.o.reports)


def _file(
    s: Situation, generation: GenerationNumber, report: Report, because: str, filed: Sequence[FiledReport]
) -> Decision | None:
    """Unless it was lately, by the bucket's word or by ours: a store that lists late must not be written to always."""
    due = s.policy.report_interval
    listed = any(each.report == report and each.age_seconds < due.total_seconds() for each in filed)
    filed_at = s.memory.reported_at if s.memory.reported == report else None
    if listed or (filed_at is not None and s.o.now - filed_at < due):
        return None
    return do(FileReport(generation, report), because)


def _before_the_first(s: Situation) -> Report:
    """It attests nothing of the first generation: it lies among the reports for it, and is fresh for a while."""
    data = Holding.INTACT if s.holds_data else Holding.NONE
    return Report(s.me.instance, s.me.peer_url, s.me.boot_id, data, sight=Sight.UNTOLD)


def _about(s: Situation, record: GenerationRecord) -> Report:
    identity, local, survey = s.identity, s.o.local, s.o.survey
    data = _holding(s, record)
    nothing = Report(
        s.me.instance,
        s.me.peer_url,
        s.me.boot_id,
        data,
        member_id=identity.member_id if identity and identity.generation == record.generation else None,
        seat=_seat(s, record) if data is Holding.NONE else Seat.NONE,
        sight=_sight(s),
        leaderless_since=s.memory.leaderless_since,
        etcd_version=s.memory.etcd_version if isinstance(s.o.etcd_version, Unknown) else s.o.etcd_version,
    )
    if data is Holding.NONE or identity is None:
        return nothing
    read = survey if isinstance(survey, Survey) else None
    answering = local if isinstance(local, MemberStatus) else None
    return replace(
        nothing,
        generation=identity.generation,
        cluster_id=identity.cluster_id or (None if read is None else read.cluster_id),
        member_id=identity.member_id or (None if read is None else read.member_id),
        running=answering is not None,
        position=_position(answering, read),
        revision=_revision(answering, read),
        members=_members(s, answering, read),
        restart_members=_with_our_name(s, _restart_members(s, answering, read)),
        trouble=_trouble(s),
    )


def _holding(s: Situation, record: GenerationRecord) -> Holding:
    """Of this generation. What is fenced, or of an older one, never serves it again."""
    identity = s.identity
    if not s.holds_data or identity is None:
        return Holding.NONE
    if identity.generation != record.generation or identity.stage is Stage.FENCED:
        return Holding.NONE
    return Holding.DAMAGED if isinstance(s.o.survey, Damaged) and not s.running else Holding.INTACT


def _seat(s: Situation, record: GenerationRecord) -> Seat:
    """Spent only where the bucket holds a claim that this disk was not made for: it can then never be used."""
    if s.me.instance not in record.founders:
        return Seat.NONE
    if not isinstance(s.o.claim, Claim):
        return Seat.OPEN
    identity = s.identity
    usable = identity is not None and identity.stage is Stage.STARTING and identity.nonce == s.o.claim.nonce
    return Seat.OPEN if usable and s.disk.data is Data.EMPTY else Seat.SPENT


def _sight(s: Situation) -> Sight:
    """An etcd that runs on a disk without data is only starting: what it will hold is not told yet either."""
    if isinstance(s.o.leader_seen, Unknown) or (s.running and not s.holds_data):
        return Sight.UNTOLD
    if s.o.leader_seen:
        return Sight.LEADER
    since = s.memory.leaderless_since
    long = since is not None and s.o.now - since >= s.policy.leaderless_grace
    return Sight.LONG_LEADERLESS if long else Sight.LEADERLESS


def _position(answering: MemberStatus | None, read: Survey | None) -> LogPosition | None:
    """An etcd that answers knows better what is committed; only its files tell what else its log holds."""
    if answering is None or read is None:
        return None if read is None else read.position
    unapplied = answering.applied_index < answering.committed_index
    committed = max(answering.committed_index, read.position.committed_index)
    return LogPosition(read.position.last_term, read.position.last_index, committed, pending_changes=unapplied)


def _revision(answering: MemberStatus | None, read: Survey | None) -> int | None:
    if answering is not None:
        return answering.revision
    return None if read is None else read.revision


def _members(s: Situation, answering: MemberStatus | None, read: Survey | None) -> tuple[MemberEntry, ...]:
    if answering is not None:
        return () if isinstance(s.o.own_list, Unknown) else s.o.own_list
    return () if read is None else read.members


def _restart_members(s: Situation, answering: MemberStatus | None, read: Survey | None) -> tuple[MemberEntry, ...]:
    """Of an etcd that answers, too: killed now, it would start from what its files say."""
    if read is None:
        return ()
    if answering is None:
        return read.restart_members
    on_disk = read.restart_members or read.members
    return on_disk if _voters(on_disk) != _voters(_members(s, answering, read)) else ()


def _with_our_name(s: Situation, members: tuple[MemberEntry, ...]) -> tuple[MemberEntry, ...]:
    """Files from which our member was removed have lost its name: without it, it would pass for one that never started.

    Of such a one nobody could ever tell, once this instance has ended, what became of its data.
    """
    ours = None if s.identity is None else s.identity.member_id
    return tuple(replace(each, name=each.name or s.me.instance) if each.id == ours else each for each in members)


def _voters(members: tuple[MemberEntry, ...]) -> set[MemberId]:
    return {each.id for each in members if not each.is_learner}


def _trouble(s: Situation) -> str:
    """What keeps this data from being rescued from here, in a line that does not change from round to round."""
    return s.o.survey.why if isinstance(s.o.survey, Damaged) else s.memory.rescue_trouble
