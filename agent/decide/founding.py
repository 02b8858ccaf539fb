"""A founder's once-only start: identity with a nonce, claim with the same nonce, then etcd as `new`.

    identity on disk       data     claim in the bucket   what happened            what follows
    none, or of another    any      none                  nothing yet              stamp `starting`
    starting, nonce n      EMPTY    none                  stopped before claiming  claim with n
    starting, nonce n      EMPTY    n                     stopped before starting  start etcd as new
    starting, nonce n      PRESENT  n                     etcd ran                 restart in place
    anything else          -        any                   the disk was lost        join as a new member

Whoever holds the claim without the identity it was made with must never start: raft would meet a voter
that has forgotten its vote and its log.
"""

from __future__ import annotations

from agent.decide.situation import Situation, do, wait
from agent.model.actions import Blocker, CallHuman, Decision, Launch, StampIdentity, StartEtcd, WriteClaim
from agent.model.disk import Data, Identity, Stage
from agent.model.generation import Claim, GenerationRecord
from agent.model.known import Unknown


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
        hint = "upgrade the agent on this instance"
        return do(CallHuman(hint), "this generation starts from a snapshot, which this version cannot restore")
    cluster = tuple((name, url) for name, url in sorted(record.founders.items()))
    launch = Launch(s.me.instance, s.me.peer_url, "new", record.token, cluster)
    return do(StartEtcd(launch), f"our claim to start generation {record.generation} is in the bucket")


def _named_here(s: Situation, record: GenerationRecord) -> bool:
    """Founded under this address: the record's peer URLs are part of every founder's member ID."""
    return record.founders.get(s.me.instance) == s.me.peer_url


def _claim_the_start(s: Situation, record: GenerationRecord) -> Decision | None:
    membership, identity = s.o.membership, s.identity
    if not isinstance(membership, Unknown) and not membership.named(s.me.instance):
        return None  # the others formed and have removed us since: join as a new member
    if identity is not None and _prepared(s, identity, record):
        claim = Claim(s.me.instance, identity.nonce)
        return do(WriteClaim(record.generation, claim), f"founder of generation {record.generation}: claim the start")
    fresh = Identity(s.policy.cluster, s.me.instance, record.generation, Stage.STARTING, s.o.nonce, s.me.peer_url)
    because = f"founder of generation {record.generation}: prepare the disk before claiming"
    return do(StampIdentity(fresh, prepare=True), because)


def _prepared(s: Situation, identity: Identity, record: GenerationRecord) -> bool:
    ours = identity.generation == record.generation and identity.instance == s.me.instance
    return ours and identity.stage is Stage.STARTING and s.disk.data is Data.EMPTY


def _may_start(s: Situation, record: GenerationRecord, claim: Claim) -> bool:
    identity = s.identity
    return identity is not None and _prepared(s, identity, record) and claim.nonce == identity.nonce
