"""Which snapshots may go, as properties: whatever a bucket holds, and whatever an operator wants kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.model.generation import GenerationRecord
from agent.model.ids import GenerationNumber
from agent.model.policy import Policy
from agent.model.retention import BROKEN_OFF_FOR, expired, kept_for
from agent.model.snapshot import Listed, SnapshotName
from tests.decide.examples import NOW, A, a_snapshot, manifest, record, seed, snapshot_name

POLICY = Policy(cluster="prod")
HEAD = record(A, generation=3)
MINUTES = [0, 1, 4, 59, 61, 119, 600, 1439, 1441, 3000, 10_000, 100_000]
names = st.builds(
    lambda generation, revision, minutes: SnapshotName(
        GenerationNumber(generation), revision, NOW - timedelta(minutes=minutes)
    ),
    st.integers(1, 3),
    st.integers(1, 6),
    st.sampled_from(MINUTES),
)
snapshots = st.builds(
    Listed,
    names,
    st.sampled_from([60.0 * each for each in MINUTES]),
    st.sampled_from([100, 100, 100, 100, None]),
    st.sampled_from([True, True, True, False]),
    st.sampled_from([False, False, False, True]),
)
listings = st.lists(snapshots, max_size=30, unique_by=lambda each: each.name)
policies = st.builds(
    lambda newest, hourly, daily: replace(POLICY, keep_newest=newest, keep_hourly=hourly, keep_daily=daily),
    st.integers(0, 4),
    st.integers(0, 3),
    st.integers(0, 3),
)
heads = st.one_of(st.just(HEAD), st.builds(lambda name: replace(HEAD, seed=seed(manifest(name))), names))
MANY = settings(max_examples=300, deadline=None)


@MANY
@given(listings, heads, policies)
def test_the_newest_sound_one_of_every_generation_stays(
    listed: list[Listed], head: GenerationRecord, policy: Policy
) -> None:
    gone = expired(listed, head, policy)
    for generation in (1, 2, 3):
        sound = [each.name for each in listed if each.usable and each.name.generation == generation]
        assert not sound or max(sound) not in gone


@MANY
@given(listings, heads, policies)
def test_nothing_goes_that_no_newer_sound_one_stands_before(
    listed: list[Listed], head: GenerationRecord, policy: Policy
) -> None:
    gone = expired(listed, head, policy)
    stays = [each.name for each in listed if each.usable and each.name not in gone]
    assert all(any(name < other for other in stays) for name in gone)


@MANY
@given(listings, names, policies)
def test_the_heads_seed_stays(listed: list[Listed], name: SnapshotName, policy: Policy) -> None:
    assert name not in expired(listed, replace(HEAD, seed=seed(manifest(name))), policy)


@MANY
@given(listings, heads, policies)
def test_once_is_enough(listed: list[Listed], head: GenerationRecord, policy: Policy) -> None:
    gone = expired(listed, head, policy)
    assert expired([each for each in listed if each.name not in gone], head, policy) == ()
    assert list(gone) == sorted(gone), "oldest first: what breaks off has let go of the least"


@MANY
@given(listings, heads, policies, st.integers(1, 500))
def test_nothing_goes_by_the_passing_of_time(
    listed: list[Listed], head: GenerationRecord, policy: Policy, days: int
) -> None:
    """Where uploads fail, or an agent is idle, what is there stays."""
    gone = expired(listed, head, policy)
    kept = [each for each in listed if each.name not in gone]
    later = [replace(each, age_seconds=each.age_seconds + days * 86_400) for each in kept]
    assert expired(later, head, policy) == ()


@MANY
@given(listings, heads, policies)
def test_every_one_that_stays_says_why(listed: list[Listed], head: GenerationRecord, policy: Policy) -> None:
    kept = kept_for(listed, head, policy)
    assert {each.name for each in listed} == {
        *(kept.keys() & {each.name for each in listed}),
        *expired(listed, head, policy),
    }
    assert all(kept.values())


def one_every_ten_minutes(count: int) -> list[Listed]:
    return [a_snapshot(snapshot_name(10_000 - n, generation=3, minutes_ago=10 * n)) for n in range(count)]


def test_the_newest_stay_and_then_one_an_hour_and_then_one_a_day() -> None:
    listed = one_every_ten_minutes(6 * 24 * 14)
    stays = sorted({each.name for each in listed} - set(expired(listed, HEAD, POLICY)), reverse=True)
    ages = [(NOW - name.taken_at) / timedelta(hours=1) for name in stays]
    gaps = [later - earlier for earlier, later in pairwise(ages)]
    assert all(gap < 0.2 for gap in gaps[:23]), "the two dozen newest"
    assert all(gap < 1.2 for age, gap in zip(ages, gaps, strict=False) if age < 22), "then every hour's last"
    assert all(gap < 25 for gap in gaps), "then every day's"
    assert 24 * 5 <= max(ages) < 24 * 7
    assert len(stays) <= POLICY.keep_newest + POLICY.keep_hourly + POLICY.keep_daily


def test_where_nothing_is_wanted_the_newest_stays_all_the_same() -> None:
    listed = one_every_ten_minutes(50)
    nothing = replace(POLICY, keep_newest=0, keep_hourly=0, keep_daily=0)
    assert len(expired(listed, HEAD, nothing)) == 49
    assert listed[0].name not in expired(listed, HEAD, nothing)


def test_without_a_sound_one_nothing_goes() -> None:
    bad = [replace(each, bad=True) for each in one_every_ten_minutes(50)]
    assert expired(bad, HEAD, POLICY) == ()
    assert expired([], HEAD, POLICY) == ()


def test_what_broke_off_or_is_bad_stays_for_a_day_by_the_buckets_clock() -> None:
    """An instance whose clock is a year ahead once would have had every upload deleted under way."""
    day = BROKEN_OFF_FOR.total_seconds()
    year_ahead = a_snapshot(snapshot_name(900, generation=3, minutes_ago=-525_600), age_seconds=10.0)
    under_way = a_snapshot(snapshot_name(890, generation=3, minutes_ago=0), age_seconds=10.0 + day, committed=False)
    assert expired([year_ahead, under_way], HEAD, POLICY) == ()
    old = replace(under_way, age_seconds=11.0 + day)
    assert expired([year_ahead, old], HEAD, POLICY) == (old.name,)


def test_a_seed_that_was_made_elsewhere_has_no_name_to_keep() -> None:
    foreign = replace(HEAD, seed=replace(seed(manifest()), manifest="elsewhere/backup.json"))
    assert expired(one_every_ten_minutes(3), foreign, POLICY) == ()
