"""Facts that contradict each other: page a human, and leave etcd exactly as it is.

Each of these has cost somebody their data where a tool went on regardless: a marker lost from the bucket
read as "no cluster yet", a corrupt copy "repaired" over the good one, a foreign directory started as ours.
"""

from __future__ import annotations

import re

from agent.decide.situation import Situation, do
from agent.model.actions import CallHuman, Decision, Reason
from agent.model.cluster import MemberStatus
from agent.model.generation import GenerationRecord
from agent.model.ids import MemberId
from agent.model.known import Ignorance, Unknown
from agent.model.observation import BucketUnsound

CORRUPTING_VERSIONS = frozenset({"3.5.0", "3.5.1", "3.5.2"})
"""They can lose committed entries in a crash (etcd's advisory of March 2022; fixed in 3.5.3)."""


def refuse_an_unsound_bucket(s: Situation) -> Decision | None:
    """Without honoured preconditions, or with expiring records, nothing in the bucket arbitrates."""
    if isinstance(s.o.bucket, BucketUnsound):
        return do(CallHuman(s.o.bucket.hint, Reason.UNSOUND_BUCKET), s.o.bucket.why)
    return None


def refuse_a_garbled_record(s: Situation) -> Decision | None:
    """A record that cannot be read may be of a newer agent, or not ours at all."""
    for what in (s.o.head, s.o.formed, s.o.claim):
        if isinstance(what, Unknown) and what.why is Ignorance.MALFORMED:
            hint = "look at the object; restore its first version, or upgrade the agent"
            return do(CallHuman(hint, Reason.GARBLED_RECORD), what.detail)
    return None


def refuse_a_garbled_disk(s: Situation) -> Decision | None:
    """Data that nobody signed: it may be the only copy of something, and it is not known to be ours."""
    if s.holds_data and s.identity is None:
        hint = "move the directory away, or restore its identity.json, and restart the agent"
        why = "there is etcd data on this disk, but no identity.json that says whose it is"
        return do(CallHuman(hint, Reason.UNSIGNED_DATA), why)
    return None


def refuse_a_foreign_cluster(s: Situation) -> Decision | None:
    """The disk belongs to a cluster of another name."""
    if s.identity is not None and s.identity.cluster != s.policy.cluster:
        why = f"the data here belongs to cluster {s.identity.cluster!r}, the settings name {s.policy.cluster!r}"
        hint = "correct cluster.name, or give this instance an empty data_root"
        return do(CallHuman(hint, Reason.FOREIGN_CLUSTER), why)
    return None


def refuse_a_bucket_behind_the_disk(s: Situation) -> Decision | None:
    """The disk remembers a generation that the bucket does not have: wrong bucket, or emptied."""
    if s.identity is None or isinstance(s.o.head, Unknown):
        return None
    head = 0 if s.o.head is None else s.o.head.generation
    if s.identity.generation <= head:
        return None
    why = f"this disk belongs to generation {s.identity.generation}, the bucket's newest is {head or 'none'}"
    hint = "check storage.bucket and storage.prefix; if records were deleted, restore them from object versions"
    return do(CallHuman(hint, Reason.BUCKET_BEHIND_DISK), why)


def refuse_a_strange_cluster_id(s: Situation) -> Decision | None:
    """Our etcd belongs to another lineage than the one that this generation formed."""
    formed, local, identity = s.memory.formed, s.o.local, s.identity
    if formed is None or identity is None or not isinstance(local, MemberStatus):
        return None
    if not isinstance(s.record, GenerationRecord) or s.record.generation != identity.generation:
        return None
    if local.cluster_id == formed.cluster_id:
        return None
    why = f"our etcd has cluster ID {local.cluster_id}, generation {identity.generation} has {formed.cluster_id}"
    hint = "stop this etcd and keep its data directory: it holds another lineage"
    return do(CallHuman(hint, Reason.STRANGE_CLUSTER_ID), why)


def refuse_corruption(s: Situation) -> Decision | None:
    """Under a CORRUPT alarm any automatic repair may destroy the good copy."""
    errors = s.o.local.errors if isinstance(s.o.local, MemberStatus) else ()
    raised = [each for each in errors if "CORRUPT" in each]
    if not raised:
        return None
    hint = "compare HashKV of all members at one revision, keep the majority's data, replace the odd one"
    accused = ", ".join(sorted({_accused_by(each, s) for each in raised}))
    why = f"etcd raised a CORRUPT alarm: members' data differ; it accuses {accused}"
    return do(CallHuman(hint, Reason.CORRUPTION), why)


def _accused_by(error: str, s: Situation) -> str:
    """`memberID:123 alarm:CORRUPT`: decimal there, in hex everywhere else; 0 is nobody in particular."""
    found = re.search(r"memberID:(\d+)", error)
    if found is None or int(found[1]) == 0:
        return "no member in particular"
    member = MemberId(int(found[1]))
    membership = s.memory.membership if isinstance(s.o.membership, Unknown) else s.o.membership
    entry = None if membership is None else membership.find(member)
    return f"member {member}" if entry is None else str(entry)


def refuse_a_corrupting_version(s: Situation) -> Decision | None:
    """The installed etcd is one of those that lose committed writes in a crash."""
    if isinstance(s.o.etcd_version, str) and s.o.etcd_version in CORRUPTING_VERSIONS:
        hint = "install etcd 3.5.26 or later"
        why = f"etcd {s.o.etcd_version} is known to lose committed writes in a crash"
        return do(CallHuman(hint, Reason.CORRUPTING_VERSION), why)
    return None
