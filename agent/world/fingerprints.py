"""What a keyspace looks like at a revision, by etcd's own word, and how that compares with what a manifest says."""

from __future__ import annotations

from agent.model.faults import Refused, Unavailable
from agent.model.ids import ClientUrl
from agent.model.known import Ignorance, Unknown
from agent.model.snapshot import Fingerprint, Manifest
from agent.world.etcd import EtcdDoor, HashKv


def look(etcd: EtcdDoor, endpoint: ClientUrl, revision: int) -> Fingerprint | Unknown:
    """Unknown where it cannot be had: a compaction came between, or etcd does not know us. It is worth no less."""
    try:
        hashed = _digest(etcd, endpoint, revision)
        return Fingerprint(etcd.count_keys(endpoint, revision), hashed.hash, hashed.compact_revision)
    except (Unavailable, Refused) as trouble:
        return trouble.unknown


def _digest(etcd: EtcdDoor, endpoint: ClientUrl, revision: int) -> HashKv:
    """HashKV at the revision, as whoever restores the data would compute it.

    At the very revision that was compacted last, as in a cluster to which nobody writes, 3.4 refuses, and 3.5 keeps
    what it computed before the compaction removed anything. Then only the digest of the present can be had.
    """
    try:
        hashed = etcd.hash_kv(endpoint, revision)
        etcd.count_keys(endpoint, max(hashed.compact_revision, 1))  # refused if more has been compacted since
    except Refused:
        hashed = etcd.hash_kv(endpoint, 0)
        if hashed.revision != revision:
            raise
    return hashed


def look_now(etcd: EtcdDoor, endpoint: ClientUrl) -> Fingerprint | Unknown:
    """At an etcd to which nobody writes."""
    try:
        return look(etcd, endpoint, etcd.status(endpoint).revision)
    except (Unavailable, Refused) as trouble:
        return trouble.unknown


def differences(manifest: Manifest, revision: int, seen: Fingerprint | Unknown) -> list[str]:
    """What a restored snapshot has other than its manifest says. Its revision may be higher: writes went on."""
    found = []
    if revision < manifest.name.revision:
        found.append(f"its revision is {revision}, and not at least {manifest.name.revision}")
    wanted = manifest.fingerprint
    if wanted is None or _knows_us_not(seen):
        return found
    if isinstance(seen, Unknown):
        return [*found, f"its keys at revision {manifest.name.revision} cannot be read: {seen}"]
    for what in ("key_count", "hash_kv"):
        has, wants = getattr(seen, what), getattr(wanted, what)
        if has != wants:
            found.append(f"its {what.replace('_', ' ')} is {has}, and not {wants}")
    return found


def compared(manifest: Manifest, seen: Fingerprint | Unknown) -> str:
    """What was found to be as the manifest says."""
    if manifest.fingerprint is not None and isinstance(seen, Fingerprint):
        return "revision, key count and HashKV are"
    why = "etcd's authentication keeps its keys from us" if _knows_us_not(seen) else "the manifest says no more"
    return f"its revision is ({why})"


def _knows_us_not(seen: Fingerprint | Unknown) -> bool:
    """With authentication on, nobody on loopback is etcd's root."""
    return isinstance(seen, Unknown) and seen.why is Ignorance.OURS
