"""A generation that is proven lost: rescue the best that is left of it, verify it, and write the next one.

    proven   best source                        who        what
    no       -                                  -          wait, and say for whom or what
    yes      a survivor that serves all it has  survivor   stream its snapshot
    yes      a survivor's log                   survivor   stop its etcd, run a copy of its data alone, snapshot that
    yes      the newest sound snapshot          everybody  fetch and verify it; whoever has it first writes the record
             (also where it holds all that the best survivor does: whoever was stopped for days is no source)
    yes      a snapshot of a newer etcd         nobody     call a human: an older one would lose what is there
    yes      none, and it never formed          anybody    the next generation starts empty
    yes      none, and it had formed            nobody     call a human

An etcd that runs without a leader is left running until then: it still answers Status and Snapshot, and one that was
restarted would not. The original data stays as it is through all of it, and goes to quarantine when the new record
is read (see `fencing`). Every step is found again by looking: a verified manifest in the bucket, a verified file on
the disk, the record. So whoever dies between two of them is followed by himself or by somebody else.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from agent.decide.assembling import new_record, present_now, seat
from agent.decide.leaving import the_hook_is_due
from agent.decide.loss import Lost, NotProven, judge_loss
from agent.decide.seeding import best_snapshot, best_survivor, holds_all_of
from agent.decide.situation import Situation, do, wait
from agent.model.actions import (
    BeginTask,
    Blocker,
    CallHuman,
    CompleteHook,
    CreateGeneration,
    Decision,
    MarkBad,
    Reason,
    StampIdentity,
    StopEtcd,
    WriteClaim,
)
from agent.model.cluster import MemberStatus, is_newer_minor
from agent.model.disk import Data, Identity, Stage
from agent.model.fleet import Transition
from agent.model.generation import Cause, Claim, GenerationRecord, Report, Seed
from agent.model.ids import GenerationNumber
from agent.model.known import NOT_ASKED, Ignorance, Unknown
from agent.model.members import LogPosition
from agent.model.observation import BucketSound, Observation
from agent.model.snapshot import Manifest, Origin, Rescued
from agent.model.work import Ended, FetchSeed, RescueLog, TakeSnapshot, Working

STAY_DOWN = timedelta(minutes=2)
"""The longest time that an etcd stays stopped although the proof cannot be repeated just now."""


def recover(s: Situation) -> Decision | None:
    """The head generation is proven lost: make the next one, from the best source there is."""
    if isinstance(s.o.work, Working) and isinstance(s.o.work.task, RescueLog):
        return wait(Blocker.RESCUE, f"its etcd stays stopped while its data is copied: {_progress(s.o.work)}")
    record = s.o.head
    if not isinstance(record, GenerationRecord) or not s.without_a_cluster or _is_fenced(s, record):
        return None
    verdict = judge_loss(s.o, s.memory, s.policy)
    if isinstance(verdict, NotProven):
        return None
    newest = _newest_snapshot(s, record)
    if isinstance(newest, Decision):
        return newest
    survivor = best_survivor(verdict.holders)
    if survivor is not None and not _is_behind(newest, survivor):
        return _rescue(s, record, verdict, survivor)
    if newest is not None:
        return _restore(s, record, verdict, newest)
    if s.o.formed is None and record.seed is None and not verdict.holders:
        return _create(s, record, verdict, None, "it never formed, and nobody has any data of it")
    hint = "look into quarantine/ on every instance; `recover --from MANIFEST`, `--from URL` or `--from empty` decide"
    why = f"generation {record.generation} is lost, and there is nothing to restore it from"
    return do(CallHuman(hint, Reason.NOTHING_TO_RESTORE), why)


def stay_down(s: Situation) -> Decision | None:
    """Proven lost a moment ago, and some fact of the proof was not read in this round: look again before a restart.

    An etcd that was stopped for its rescue would be started again otherwise, between two steps of it.
    """
    at, identity = s.memory.proven_lost_at, s.identity
    if s.running or not s.holds_data or identity is None or identity.generation != s.memory.proven_lost:
        return None
    if at is None or s.o.now - at > STAY_DOWN:
        return None
    return wait(
        Blocker.RESCUE, f"generation lost, as was proven {(s.o.now - at).total_seconds():.0f} s ago: look again"
    )


def _is_fenced(s: Situation, record: GenerationRecord) -> bool:
    """A disk of an older generation is fenced first: its agent has nothing to say about the head."""
    return s.identity is not None and s.identity.generation != record.generation and s.holds_data


def _progress(work: Working) -> str:
    return f"{type(work.task).__name__}, {work.bytes_done / 1e6:.0f} MB so far"


def _newest_snapshot(s: Situation, record: GenerationRecord) -> Manifest | Decision | None:
    """What the newest sound snapshot says of itself; None: there is none. Before this is read no source is chosen."""
    if isinstance(s.o.snapshots, Unknown):
        return wait(Blocker.IGNORANCE, f"generation lost, and which snapshots there are is {s.o.snapshots}")
    name, manifest = best_snapshot(record, s.o.snapshots), s.o.manifest
    if name is None:
        return None
    if isinstance(manifest, Unknown) and manifest.why is Ignorance.MALFORMED:
        return do(MarkBad(name, manifest.detail), f"the manifest of {name} makes no sense: {manifest.detail}")
    if not isinstance(manifest, Manifest) or manifest.name != name:
        found = "gone" if manifest is None else manifest if isinstance(manifest, Unknown) else manifest.name
        return wait(Blocker.IGNORANCE, f"the newest snapshot is {name}, and its manifest is {found}")
    return manifest


def _is_behind(newest: Manifest | None, survivor: Report) -> bool:
    """A snapshot of the others has all that this survivor's log can have, and was not made of that log itself."""
    if newest is None or not holds_all_of(newest, survivor):
        return False
    return newest.rescued is None or not _same_log(newest.rescued, _rescued_from(survivor))


# ---- from a survivor's log ------------------------------------------------------------------------------------------


def _rescued_from(survivor: Report) -> Rescued:
    assert survivor.position is not None
    assert survivor.member_id is not None, "whoever knows its position knows whose it is"
    return Rescued(survivor.instance, survivor.member_id, survivor.position)


def _rescue(s: Situation, record: GenerationRecord, lost: Lost, survivor: Report) -> Decision:
    rescued = _rescued_from(survivor)
    position = rescued.position
    log = f"log (term {position.last_term}, index {position.last_index})"
    if survivor.instance != s.me.instance:
        return wait(Blocker.RESCUE, f"{survivor.instance} has the most complete {log}, and is rescuing it")
    manifest = _made_of(s, rescued)
    if manifest is not None:
        seed = _seed(s, manifest, f"survivor {s.me.instance}")
        return seed if isinstance(seed, Decision) else _create(s, record, lost, seed, f"our {log} is rescued")
    if isinstance(s.o.work, Working):
        return wait(Blocker.RESCUE, f"our {log} is the most complete; {_progress(s.o.work)}")
    if not s.task_is_due:
        return wait(Blocker.RESCUE, f"our {log} is the most complete, and could not be rescued yet: {_trouble(s)}")
    if s.running and _serves_all(s.o.local, position):
        task = TakeSnapshot(record.generation, Origin.RESCUE, rescued)
        return do(BeginTask(task), f"our etcd serves all that our {log} holds, and it is the most complete")
    if s.running:
        return do(StopEtcd("rescue"), f"our {log} is the most complete, and holds more than our etcd serves")
    return do(BeginTask(RescueLog(record.generation, rescued)), f"our {log} is the most complete")


def _serves_all(local: MemberStatus | Unknown, position: LogPosition) -> bool:
    """Nothing in the log is beyond what a snapshot of the running etcd would hold."""
    return isinstance(local, MemberStatus) and local.applied_index >= position.last_index


def _made_of(s: Situation, rescued: Rescued) -> Manifest | None:
    """The snapshot that was made of this very log; by this agent, or by one before it."""
    ended = s.o.work.manifest if isinstance(s.o.work, Ended) and s.o.work.trouble is None else None
    for manifest in (ended, s.o.manifest):
        if isinstance(manifest, Manifest) and manifest.rescued is not None and _same_log(manifest.rescued, rescued):
            return manifest
    return None


def _same_log(one: Rescued, other: Rescued) -> bool:
    ends = [(each.position.last_term, each.position.last_index) for each in (one, other)]
    return (one.instance, one.member_id, ends[0]) == (other.instance, other.member_id, ends[1])


# ---- from a snapshot ------------------------------------------------------------------------------------------------


def _restore(s: Situation, record: GenerationRecord, lost: Lost, manifest: Manifest) -> Decision:
    """Never from an older one because this etcd cannot read the newest: what it holds would be given up for nothing."""
    if isinstance(s.o.etcd_version, Unknown):
        return wait(Blocker.IGNORANCE, f"whether {manifest.name} can be restored here: etcd's version is unknown")
    if is_newer_minor(manifest.etcd_version, s.o.etcd_version):
        hint = f"install etcd {manifest.etcd_version} or later; `recover --from MANIFEST` takes an older snapshot"
        why = f"{manifest.name} is of etcd {manifest.etcd_version}, here is {s.o.etcd_version}"
        return do(CallHuman(hint, Reason.NEWER_SNAPSHOT), why)
    if manifest.sha256 not in s.disk.seeds:
        return _fetch(s, manifest)
    seed = _seed(s, manifest, "snapshot")
    why = f"the newest snapshot, {manifest.name}, is here and verified"
    return seed if isinstance(seed, Decision) else _create(s, record, lost, seed, why)


def _fetch(s: Situation, manifest: Manifest) -> Decision:
    """Have this snapshot here, verified; or leave word that it is not what its manifest says."""
    work, task = s.o.work, FetchSeed(manifest)
    if isinstance(work, Working):
        return wait(Blocker.RESTORE, f"fetching {manifest.name}: {_progress(work)}")
    refused = s.refused(task)
    if refused is not None:
        return do(MarkBad(manifest.name, refused), f"{manifest.name} cannot be used: {refused}")
    if not s.task_is_due:
        return wait(Blocker.RESTORE, f"{manifest.name} could not be fetched yet: {_trouble(s)}")
    return do(BeginTask(task), f"{manifest.name} is what there is to restore: fetch and verify it")


def _trouble(s: Situation) -> str:
    return str(s.o.work.trouble) if isinstance(s.o.work, Ended) else "another task is under way"


# ---- the next generation --------------------------------------------------------------------------------------------


def _seed(s: Situation, manifest: Manifest, source: str) -> Seed | Decision:
    """The seed of the next generation; every founder must restore it in the same way, so the way is written down."""
    bump, can_bump = s.policy.bump_revision, s.o.can_bump_revisions
    if bump and isinstance(can_bump, Unknown):
        because = f"what the restore tool can do is {can_bump}"
        if can_bump.why in (Ignorance.NOT_ASKED, Ignorance.TIMEOUT):
            return wait(Blocker.IGNORANCE, because)
        return do(CallHuman("install etcdutl (etcdctl for 3.4) beside etcd", Reason.RESTORE_TOOL), because)
    key, revision = manifest.name.manifest_key, manifest.name.revision
    return Seed(key, revision, manifest.sha256, source, bump if can_bump is True else 0)


def _create(s: Situation, record: GenerationRecord, lost: Lost, seed: Seed | None, why: str) -> Decision:
    assert not isinstance(s.o.fleet, Unknown)
    assert not isinstance(s.o.reports, Unknown)
    present = present_now(s, s.o.fleet, s.o.reports)
    founders = seat(s.o.fleet, present)
    if founders is None:
        return wait(Blocker.ADDRESS, "two founders of the next generation report the same peer URL")
    if not founders and the_hook_is_due(s):
        return do(CompleteHook(Transition.TERMINATING), f"{why}: whoever comes next does not need this disk")
    if not founders:
        return wait(Blocker.ASSEMBLY, "nobody is there to found the next generation: those who are up are leaving")
    if not isinstance(s.o.bucket, BucketSound):
        return wait(Blocker.IGNORANCE, f"the bucket has not yet been proven to honour preconditions: {s.o.bucket}")
    number = GenerationNumber(record.generation + 1)
    cause = Cause("quorum-lost", lost.evidence)
    because = f"generation {record.generation} is proven lost; {why}"
    return do(CreateGeneration(new_record(s, number, founders, cause, seed)), because)


def give_up_a_seat(s: Situation) -> Decision | None:
    """A founder at another address than its record's can never start as one: say so for good, by spending its claim.

    Until then the others must wait for it.
    """
    record, identity = s.o.head, s.identity
    if not isinstance(record, GenerationRecord) or s.running or s.holds_data:
        return None
    if record.founders.get(s.me.instance, s.me.peer_url) == s.me.peer_url or isinstance(s.o.claim, Unknown):
        return None
    because = f"generation {record.generation} was to be founded here at {record.founders[s.me.instance]}: too late"
    if s.o.claim is not None:
        return _let_go_of(s.o.claim, s, because)
    if identity is None or identity.generation != record.generation or s.disk.data is not Data.EMPTY:
        fresh = Identity(s.policy.cluster, s.me.instance, record.generation, Stage.ADDING, s.o.nonce, s.me.peer_url)
        return do(StampIdentity(fresh, prepare=True), because)
    if identity.stage is not Stage.ADDING or identity.instance != s.me.instance:
        fresh = replace(identity, instance=s.me.instance, stage=Stage.ADDING, nonce=s.o.nonce, peer_url=s.me.peer_url)
        return do(StampIdentity(fresh), because)
    return do(WriteClaim(record.generation, Claim(s.me.instance, identity.nonce)), because)


def _let_go_of(claim: Claim, s: Situation, because: str) -> Decision | None:
    """It claimed its start before it moved, and etcd never ran: without this identity nobody can use the claim."""
    identity = s.identity
    if identity is None or (identity.stage, identity.nonce) != (Stage.STARTING, claim.nonce):
        return None
    fresh = replace(identity, stage=Stage.ADDING, nonce=s.o.nonce, peer_url=s.me.peer_url)
    return do(StampIdentity(fresh), because)


# ---- waiting --------------------------------------------------------------------------------------------------------


def wait_for_quorum(s: Situation) -> Decision | None:
    """Our etcd runs, and no quorum stood behind any answer in this round."""
    if not s.running or not isinstance(s.o.membership, Unknown):
        return None
    if not isinstance(s.o.local, MemberStatus) and not s.without_a_cluster:
        return wait(Blocker.STARTUP, f"our etcd runs and does not answer yet: {s.o.local}")
    return wait(Blocker.QUORUM, f"{_seen(s.o.local)}, but no quorum answers: {s.o.membership}{what_blocks(s)}")


def _seen(local: MemberStatus | Unknown) -> str:
    if isinstance(local, Unknown):
        return f"our etcd runs and answers nothing ({local})"
    return "our etcd knows no leader" if local.leader is None else f"our etcd sees leader {local.leader}"


def what_blocks(s: Situation) -> str:
    """Since when there is no quorum, and what keeps the generation from being called lost; "" while that is early."""
    since = s.memory.no_quorum_since
    if not s.without_a_cluster or since is None:
        return ""
    verdict = judge_loss(_as_last_seen(s), s.memory, s.policy)
    blockers = f"; recovery waits for {verdict}" if isinstance(verdict, NotProven) else ""
    return f"; so since {since:%FT%XZ}{blockers}"


def _as_last_seen(s: Situation) -> Observation:
    """For people: what was not asked again in this round is as it was last time. Nothing is decided on this."""
    fleet = s.memory.fleet if s.o.fleet == NOT_ASKED and s.memory.fleet is not None else s.o.fleet
    head = s.memory.head if s.o.head == NOT_ASKED and s.memory.head is not None else s.o.head
    return replace(s.o, fleet=fleet, head=head)
