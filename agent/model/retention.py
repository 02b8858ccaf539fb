"""Which snapshots may go. Pure, and it looks at no clock: ages are taken from the newest snapshot.

So nothing is ever deleted while nothing new arrives: where uploads fail, or an agent is idle, what is there stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from agent.model.generation import GenerationRecord
from agent.model.policy import Policy
from agent.model.snapshot import MANIFEST, Listed, SnapshotName

BROKEN_OFF_FOR = timedelta(days=1)
"""Data without a manifest, and what was found bad, stays for so long behind a newer sound one, to be looked at."""


def expired(listed: Iterable[Listed], head: GenerationRecord, policy: Policy) -> tuple[SnapshotName, ...]:
    """Every snapshot that the policy does not keep, oldest first.

    Kept whatever the policy says: the newest sound one of each generation, the head's seed, and everything where
    there is no sound one that is newer.
    """
    every = sorted(listed, key=lambda each: each.name)
    sound = [each.name for each in every if each.usable]
    if not sound:
        return ()
    newest = max(sound, key=lambda name: (name.taken_at, name))
    kept = {*_newest_of_each(sound), *_seed(head), *_by_policy(sound, policy)}
    superfluous = [each for each in every if each.name not in kept and each.name < max(sound)]
    return tuple(
        each.name for each in superfluous if each.usable or newest.taken_at - each.name.taken_at > BROKEN_OFF_FOR
    )


def _newest_of_each(sound: Sequence[SnapshotName]) -> Iterable[SnapshotName]:
    return {name.generation: name for name in sorted(sound)}.values()


def _seed(head: GenerationRecord) -> list[SnapshotName]:
    name = None if head.seed is None else SnapshotName.parse(head.seed.manifest.removesuffix(MANIFEST))
    return [] if name is None else [name]


def _by_policy(sound: Sequence[SnapshotName], policy: Policy) -> set[SnapshotName]:
    """The newest ones; the last of each of the newest hours that have any; the last of each of the newest days."""
    by_time = sorted(sound, key=lambda name: (name.taken_at, name))
    kept = set(by_time[-policy.keep_newest :] if policy.keep_newest else ())
    for unit, count in (("%Y%m%d%H", policy.keep_hourly), ("%Y%m%d", policy.keep_daily)):
        last_in = {f"{name.taken_at:{unit}}": name for name in by_time}
        kept.update(last_in[period] for period in sorted(last_in)[-count:] if count)
    return kept
