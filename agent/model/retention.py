"""Which snapshots may go. Pure, and it looks at no clock: ages are taken from the newest snapshot.

So nothing is ever deleted while nothing new arrives: where uploads fail, or an agent is idle, what is there stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    kept = kept_for(every, head, policy)
    return tuple(each.name for each in every if each.name not in kept)


def kept_for(listed: Iterable[Listed], head: GenerationRecord, policy: Policy) -> Mapping[SnapshotName, str]:
    """Every snapshot that stays, and why: the gravest reason of those it has."""
    every = sorted(listed, key=lambda each: each.name)
    sound = [each.name for each in every if each.usable]
    if not sound:
        return {each.name: "there is no sound one" for each in every}
    reasons = {**dict(_by_policy(sound, policy)), **dict(_whatever_the_policy(sound, head))}
    youngest = min(each.age_seconds for each in every if each.usable)
    for each in every:
        if each.name >= max(sound):
            reasons.setdefault(each.name, "there is no newer sound one")
        elif not each.usable and each.age_seconds - youngest <= BROKEN_OFF_FOR.total_seconds():
            reasons.setdefault(each.name, "not sound, and kept for a day to be looked at")
    return reasons


def _whatever_the_policy(sound: Sequence[SnapshotName], head: GenerationRecord) -> Iterator[tuple[SnapshotName, str]]:
    for name in {name.generation: name for name in sorted(sound)}.values():
        yield name, f"the newest sound one of generation {name.generation}"
    seed = None if head.seed is None else SnapshotName.parse(head.seed.manifest.removesuffix(MANIFEST))
    if seed is not None:
        yield seed, f"generation {head.generation} was restored from it"


def _by_policy(sound: Sequence[SnapshotName], policy: Policy) -> Iterator[tuple[SnapshotName, str]]:
    """The last of each of the newest days that have any; the last of each of the newest hours; the newest ones."""
    by_time = sorted(sound, key=lambda name: (name.taken_at, name))
    for unit, count, what in (("%Y%m%d", policy.keep_daily, "day"), ("%Y%m%d%H", policy.keep_hourly, "hour")):
        last_in = {f"{name.taken_at:{unit}}": name for name in by_time}
        for period in sorted(last_in)[-count:] if count else ():
            yield last_in[period], f"the last of its {what}"
    for name in by_time[-policy.keep_newest :] if policy.keep_newest else ():
        yield name, f"one of the {policy.keep_newest} newest"
