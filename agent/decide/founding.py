"""A founder's once-only start: identity with a nonce, claim with the same nonce, then etcd as `new`.

    identity on disk       data     claim in the bucket   what happened            what follows
    none, or of another    any      none                  nothing yet              stamp `starting`
    starting, nonce n      EMPTY    none                  stopped before claiming  claim with n
    starting, nonce n      EMPTY    n                     stopped before starting  start etcd as new
    starting, nonce n      PRESENT  n                     etcd ran                 restart in place
    anything else          -        any                   the disk was lost        join as a new member

A generation with a seed goes the same way, but for the last step: instead of a start as `new`, the seed is fetched,
verified and restored beside the data directory, put in its place, and started on. All founders restore the same
bytes in the same way under the same fresh token, so nobody has to catch up from anybody.

Whoever holds the claim without the identity it was made with must never start: raft would meet a voter
that has forgotten its vote and its log.
"""

from __future__ import annotations

from agent.decide.situation import Situation, do, wait
from agent.model.actions import (
    BeginTask,
    Blocker,
    CallHuman,
    Decision,
    Launch,
    PutInPlace,
    Reason,
    StampIdentity,
    StartEtcd,
    WriteClaim,
)
from agent.model.cluster import Membership, is_newer_minor
from agent.model.disk import Data, Identity, Stage
from agent.model.generation import Claim, GenerationRecord, Seed
from agent.model.ids import PeerUrl
from agent.model.known import Unknown
from agent.model.snapshot import Manifest
from agent.model.work import Ended, FetchSeed, RestoreSeed, Work, Working


def start_as_a_founder(s: Situation) -> Decision | None:
    """The record names this instance and its disk is empty: identity, claim, start; each once."""
    record = s.o.head
    if not isinstance(record, GenerationRecord) or s.running or s.holds_data or not _named_here(s, record):
        return None
    if isinstance(s.o.claim, Unknown):
        return wait(Blocker.IGNORANCE, f"a founder that cannot tell whether it has started before: {s.o.claim}")
    if s.o.claim is None:
        return _claim_the_start(s, record)
    if not _may_start(s, record, s.o.claim):
        return None
    if record.seed is not None:
        return _restore(s, record, record.seed)
    launch = Launch(s.me.instance, s.me.peer_url, "new", record.token, _initial_cluster(record))
    return do(StartEtcd(launch), f"our claim to start generation {record.generation} is in the bucket")


def _initial_cluster(record: GenerationRecord) -> tuple[tuple[str, PeerUrl], ...]:
    return tuple((name, url) for name, url in sorted(record.founders.items()))


def _restore(s: Situation, record: GenerationRecord, seed: Seed) -> Decision:
    """From the seed to a data directory: fetch, restore, put in place; each found again by looking at the disk."""
    identity, work = s.identity, s.o.work
    assert identity is not None, "whoever may start has an identity"
    if identity.nonce in s.disk.restored:
        return do(
            PutInPlace(identity.nonce), f"the seed of generation {record.generation} is restored: put it in place"
        )
    if seed.bump_revision and s.o.can_bump_revisions is False:
        hint = "install the same etcd as on the other founders (3.5.10 or later)"
        why = "the others restore with bumped revisions, which the restore tool here cannot do"
        return do(CallHuman(hint, Reason.RESTORE_TOOL), why)
    if seed.sha256 not in s.disk.seeds:
        return _fetch(s, seed)
    task = RestoreSeed(seed, identity.nonce, s.me.instance, s.me.peer_url, record.token, _initial_cluster(record))
    refused = s.refused(task)
    if refused is not None:
        hint = "look at the agent's log; `recover --from MANIFEST` begins anew from another snapshot"
        why = f"the seed of generation {record.generation} cannot be restored: {refused}"
        return do(CallHuman(hint, Reason.BAD_SEED), why)
    if not s.task_is_due:
        return wait(Blocker.RESTORE, f"restoring the seed of generation {record.generation}{_how_far(work)}")
    return do(BeginTask(task), f"the seed of generation {record.generation} is here and verified: restore it")


def _fetch(s: Situation, seed: Seed) -> Decision:
    manifest, work = s.o.manifest, s.o.work
    if not isinstance(manifest, Manifest) or manifest.name.manifest_key != seed.manifest:
        return wait(Blocker.IGNORANCE, f"the seed {seed.manifest} is to be restored, and its manifest is {manifest}")
    if isinstance(s.o.etcd_version, str) and is_newer_minor(manifest.etcd_version, s.o.etcd_version):
        hint = f"install etcd {manifest.etcd_version} or later, as on the other founders"
        why = f"the seed {seed.manifest} is of a newer etcd than {s.o.etcd_version}"
        return do(CallHuman(hint, Reason.NEWER_SNAPSHOT), why)
    refused = s.refused(FetchSeed(manifest)) if manifest.sha256 == seed.sha256 else "its digest is another"
    if refused is not None:
        hint = "`recover --from MANIFEST` begins anew from another snapshot"
        why = f"the seed {seed.manifest} is not what the record says: {refused}"
        return do(CallHuman(hint, Reason.BAD_SEED), why)
    if not s.task_is_due:
        return wait(Blocker.RESTORE, f"fetching the seed {seed.manifest}{_how_far(work)}")
    return do(BeginTask(FetchSeed(manifest)), f"the seed {seed.manifest} is to be restored: fetch and verify it")


def _how_far(work: Work) -> str:
    """Of a task that may not begin yet: one is under way, or the last one failed."""
    if isinstance(work, Working):
        return f": {work.bytes_done / 1e6:.0f} MB so far"
    return f", which failed and is tried again: {work.trouble if isinstance(work, Ended) else 'unknown'}"


def _named_here(s: Situation, record: GenerationRecord) -> bool:
    """Founded under this address: the record's peer URLs are part of every founder's member ID."""
    return record.founders.get(s.me.instance) == s.me.peer_url


def _claim_the_start(s: Situation, record: GenerationRecord) -> Decision | None:
    membership, identity = s.o.membership, s.identity
    if not isinstance(membership, Unknown) and not _is_seated(s, membership):
        return None  # the others formed and have removed us since: join as a new member
    if identity is not None and _prepared(s, identity, record):
        claim = Claim(s.me.instance, identity.nonce)
        return do(WriteClaim(record.generation, claim), f"founder of generation {record.generation}: claim the start")
    fresh = Identity(s.policy.cluster, s.me.instance, record.generation, Stage.STARTING, s.o.nonce, s.me.peer_url)
    because = f"founder of generation {record.generation}: prepare the disk before claiming"
    return do(StampIdentity(fresh, prepare=True), because)


def _is_seated(s: Situation, membership: Membership) -> bool:
    """The list still holds our founder's entry. After a restore the others do not know its name before it starts.

    Nobody else can have it: who joins is added as a learner.
    """
    unstarted = (each for each in membership.at(s.me.peer_url) if not each.started and not each.is_learner)
    return bool(membership.named(s.me.instance)) or any(unstarted)


def _prepared(s: Situation, identity: Identity, record: GenerationRecord) -> bool:
    ours = identity.generation == record.generation and identity.instance == s.me.instance
    return ours and identity.stage is Stage.STARTING and s.disk.data is Data.EMPTY


def _may_start(s: Situation, record: GenerationRecord, claim: Claim) -> bool:
    identity = s.identity
    return identity is not None and _prepared(s, identity, record) and claim.nonce == identity.nonce
