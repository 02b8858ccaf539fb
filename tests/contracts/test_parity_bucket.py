"""The same questions to S3 (moto's) and to the simulated bucket: whoever differs is wrong, and that is the simulation.

Everything that decisions depend on: what is written once, who wins, what a lost answer leaves open, what is not there
and what cannot be read. How the real door meets S3's own ways: see `test_bucket`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest

from agent.model.faults import Refused, Unavailable
from agent.model.generation import Claim
from agent.model.hold import Hold, released
from agent.model.ids import ClusterId, Nonce
from agent.model.known import Ignorance
from agent.model.observation import BucketSound
from agent.model.snapshot import DrillRecord, DrillResult
from agent.world.aws import Aws
from agent.world.bucket import S3Bucket
from agent.world.doors import Bucket
from tests.contracts.aws_stand_in import REAL, REGION, Gateway, moto_behind_a_gateway, s3_error
from tests.contracts.test_bucket import (
    CLAIM,
    FORMED,
    GONE,
    LATER,
    LOWER_OF_THE_NEXT,
    NAME,
    ONE,
    TWO,
    WRITES,
    A,
    B,
    Write,
    manifest,
    record,
    report,
    s3,
)
from tests.simulation.promises import Promises
from tests.simulation.sim import Sim

CLUSTER = "prod"


class Ground(Protocol):
    """A bucket, two agents' doors to it, and what can happen to what they ask."""

    door: Bucket
    another: Bucket

    def place(self, key: str, text: str) -> None:
        """By somebody else than an agent."""
        ...

    def keys(self) -> list[str]: ...

    def lose_an_answer(self) -> None:
        """The next write lands, and nobody hears of it."""
        ...

    def turn_away(self) -> None:
        """The next write does not land; whoever asked cannot tell."""
        ...

    def go_down(self) -> None: ...

    def deny(self) -> None: ...


@dataclass
class Real:
    gateway: Gateway
    aws: Aws

    def __post_init__(self) -> None:
        self.door: Bucket = S3Bucket(self.aws, REAL, "etcd", CLUSTER)
        self.another: Bucket = S3Bucket(self.aws, REAL, "etcd", CLUSTER)
        for key in self.keys():
            s3().delete_object(Bucket=REAL, Key=f"etcd/{CLUSTER}/{key}")
        self.gateway.clear()

    def place(self, key: str, text: str) -> None:
        s3().put_object(Bucket=REAL, Key=f"etcd/{CLUSTER}/{key}", Body=text.encode())

    def keys(self) -> list[str]:
        found = s3().list_objects_v2(Bucket=REAL, Prefix=f"etcd/{CLUSTER}/").get("Contents", ())
        return sorted(each["Key"].removeprefix(f"etcd/{CLUSTER}/") for each in found)

    def lose_an_answer(self) -> None:
        self.gateway.spoil("^PUT ", 500, s3_error("InternalError"), after=True)

    def turn_away(self) -> None:
        self.gateway.spoil("^PUT ", 503, s3_error("SlowDown"))

    def go_down(self) -> None:
        self.gateway.spoil(".", 503, s3_error("ServiceUnavailable"), times=1000)

    def deny(self) -> None:
        self.gateway.spoil(".", 403, s3_error("AccessDenied"), times=1000)


class AnythingGoes(Promises):
    """Here the bucket is asked for what no agent may ask for."""

    def at_effect(self, *_: object) -> None: ...

    def at_creation(self, *_: object) -> None: ...

    def at_expiry(self, *_: object) -> None: ...


class Simulated:
    def __init__(self) -> None:
        self._sim = Sim(0, 2, interleave=0.0)
        self._sim.promises = AnythingGoes(self._sim)
        one, other = (agent for _, agent in sorted(self._sim.agents.items()))
        self._faults = one.faults
        self.door, self.another = one.world.bucket, other.world.bucket

    def place(self, key: str, text: str) -> None:
        self._sim.objects[key] = (text, self._sim.now)

    def keys(self) -> list[str]:
        return sorted(self._sim.objects)

    def lose_an_answer(self) -> None:
        self._faults.lost_replies = 1.0

    def turn_away(self) -> None:
        self._faults.storms = 1.0

    def go_down(self) -> None:
        self._faults.down.add("s3")

    def deny(self) -> None:
        self._faults.refuse.add("s3")


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with moto_behind_a_gateway() as gateway:
        s3().create_bucket(Bucket=REAL, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield gateway


@pytest.fixture(scope="module")
def aws(gateway: Gateway) -> Aws:
    return Aws(REGION, timedelta(seconds=1), timedelta(seconds=1))


@pytest.fixture(params=["real", "simulated"])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    if request.param == "simulated":
        yield Simulated()
        return
    real = Real(request.getfixturevalue("gateway"), request.getfixturevalue("aws"))
    yield real
    real.gateway.clear()


@pytest.fixture
def bucket(ground: Ground) -> Bucket:
    return ground.door


# ---- what is there, and what is not


def test_an_empty_bucket_has_nothing(bucket: Bucket) -> None:
    assert bucket.head(None) is None
    assert bucket.formed(ONE) is None
    assert bucket.claim(ONE, A) is None
    assert bucket.reports(ONE) == ()
    assert bucket.exclusions(ONE) == ()
    assert bucket.snapshots() == ()
    assert bucket.manifest(NAME) is None
    assert bucket.last_drill() is None


def test_a_bucket_that_honours_preconditions_is_sound_however_often_it_is_asked(bucket: Bucket) -> None:
    assert bucket.verdict() == BucketSound()
    assert bucket.verdict() == BucketSound()


def test_what_is_written_is_read_by_everybody_and_lies_where_the_design_says(ground: Ground) -> None:
    assert ground.door.create_generation(record(CLUSTER))
    assert ground.door.write_claim(ONE, CLAIM)
    assert ground.door.write_formed(ONE, FORMED)
    assert ground.door.exclude(ONE, GONE)
    ground.door.file_report(ONE, report())
    for door in (ground.door, ground.another):
        assert door.head(None) == record(CLUSTER)
        assert door.claim(ONE, A) == CLAIM
        assert door.claim(ONE, B) is None
        assert door.formed(ONE) == FORMED
        assert door.exclusions(ONE) == (GONE,)
        assert door.exclusions(TWO) == ()
        assert [each.report for each in door.reports(ONE)] == [report()]
    assert ground.keys() == [
        "assembly/000001/i-0a.json",
        "generations/000001.json",
        "generations/000001/claims/i-0a.json",
        "generations/000001/excluded/i-0a.json",
        "generations/000001/formed.json",
    ]


def test_the_head_moves_with_its_successors(bucket: Bucket) -> None:
    first, second, third = (record(CLUSTER, number) for number in (1, 2, 3))
    bucket.create_generation(first)
    assert bucket.head(first) == first
    bucket.create_generation(second)
    bucket.create_generation(third)
    assert bucket.head(first) == third
    assert bucket.head(third) == third
    assert bucket.head(None) == third


def test_the_head_is_the_highest_there_is_whatever_was_lost_before_it(ground: Ground) -> None:
    for number in (2, 4):
        ground.place(f"generations/{number:06d}.json", record(CLUSTER, number).to_json())
    assert ground.door.head(None) == record(CLUSTER, 4)
    assert ground.door.head(record(CLUSTER, 1)) == record(CLUSTER, 2)


def test_reports_are_filed_again_and_again_and_have_ages(bucket: Bucket) -> None:
    for each in (report(A), report(B), report(A)):
        bucket.file_report(ONE, each)
    found = bucket.reports(ONE)
    assert {each.report for each in found} == {report(A), report(B)}
    assert all(0 <= each.age_seconds < 10 for each in found)
    assert bucket.reports(TWO) == ()


# ---- once


@pytest.fixture(params=sorted(WRITES))
def document(request: pytest.FixtureRequest) -> tuple[str, Write, Write]:
    """Part of its key, how it is written, and how another one is written in its place."""
    return WRITES[request.param]


def test_the_first_writer_wins_and_the_second_changes_nothing(
    ground: Ground, document: tuple[str, Write, Write]
) -> None:
    _, ours, theirs = document
    assert ours(ground.door, CLUSTER)
    before = ground.keys()
    assert not theirs(ground.another, CLUSTER)
    assert ours(ground.another, CLUSTER), "the same again is won again, whoever writes it"
    assert ground.keys() == before


def test_the_words_of_the_winner_stay(bucket: Bucket) -> None:
    bucket.create_generation(record(CLUSTER))
    bucket.write_claim(ONE, CLAIM)
    bucket.write_formed(ONE, FORMED)
    assert not bucket.create_generation(record(CLUSTER, nonce="another"))
    assert not bucket.write_claim(ONE, replace(CLAIM, nonce=Nonce("another")))
    assert not bucket.write_formed(ONE, replace(FORMED, cluster_id=ClusterId(1)))
    assert bucket.write_claim(ONE, Claim(B, Nonce("another")))
    assert (bucket.head(None), bucket.claim(ONE, A), bucket.formed(ONE)) == (record(CLUSTER), CLAIM, FORMED)


def test_a_record_is_known_by_its_nonce(bucket: Bucket) -> None:
    bucket.create_generation(record(CLUSTER))
    assert bucket.create_generation(replace(record(CLUSTER), agent="another"))
    assert bucket.head(None) == record(CLUSTER)


def test_a_write_that_landed_and_whose_answer_was_lost_is_won(
    ground: Ground, document: tuple[str, Write, Write]
) -> None:
    _, ours, theirs = document
    ground.lose_an_answer()
    assert ours(ground.door, CLUSTER)
    assert not theirs(ground.another, CLUSTER)


def test_a_write_that_lost_the_race_and_its_answer_is_lost(ground: Ground, document: tuple[str, Write, Write]) -> None:
    _, ours, theirs = document
    assert theirs(ground.another, CLUSTER)
    ground.lose_an_answer()
    assert not ours(ground.door, CLUSTER)


def test_a_write_that_nobody_finds_is_unknown_and_is_not_repeated(
    ground: Ground, document: tuple[str, Write, Write]
) -> None:
    _, ours, theirs = document
    ground.turn_away()
    with pytest.raises(Unavailable):
        ours(ground.door, CLUSTER)
    assert ground.keys() == []
    assert theirs(ground.another, CLUSTER)


def test_a_write_to_a_store_that_is_down_is_unknown_whatever_lies_there(
    ground: Ground, document: tuple[str, Write, Write]
) -> None:
    """Also where it is there already: it cannot be read back."""
    _, ours, _ = document
    assert ours(ground.another, CLUSTER)
    ground.go_down()
    with pytest.raises(Unavailable):
        ours(ground.door, CLUSTER)


def test_a_write_that_is_denied_is_refused(ground: Ground, document: tuple[str, Write, Write]) -> None:
    ground.deny()
    with pytest.raises(Refused):
        document[1](ground.door, CLUSTER)
    assert ground.another is not ground.door


def test_reports_and_marks_are_not_looked_up(ground: Ground) -> None:
    """They say nothing that anybody must know to be said: the next round says it again."""
    ground.lose_an_answer()
    with pytest.raises(Unavailable):
        ground.door.file_report(ONE, report())
    ground.lose_an_answer()
    with pytest.raises(Unavailable):
        ground.door.mark_bad(NAME, "its digest differs")
    assert ground.keys() == ["assembly/000001/i-0a.json", NAME.bad_key]


# ---- what cannot be read

READS: dict[str, Callable[[Bucket], object]] = {
    "head": lambda door: door.head(None),
    "successor": lambda door: door.head(record(CLUSTER)),
    "formed": lambda door: door.formed(ONE),
    "claim": lambda door: door.claim(ONE, A),
    "reports": lambda door: door.reports(ONE),
    "exclusions": lambda door: door.exclusions(ONE),
    "snapshots": lambda door: door.snapshots(),
    "manifest": lambda door: door.manifest(NAME),
    "last drill": lambda door: door.last_drill(),
    "verdict": lambda door: door.verdict(),
}


@pytest.mark.parametrize("read", READS)
def test_no_answer_is_not_nothing(ground: Ground, read: str) -> None:
    ground.go_down()
    with pytest.raises(Unavailable):
        READS[read](ground.door)


@pytest.mark.parametrize("read", READS)
def test_a_denial_is_a_definite_no(ground: Ground, read: str) -> None:
    ground.deny()
    with pytest.raises(Refused):
        READS[read](ground.door)


MISREAD: dict[str, tuple[str, str, Callable[[Bucket], object]]] = {
    "a garbled record": ("generations/000001.json", "{rotten", READS["head"]),
    "another generation's record": ("generations/000002.json", record(CLUSTER).to_json(), READS["head"]),
    "another cluster's record": ("generations/000001.json", record("another").to_json(), READS["head"]),
    "a garbled successor": ("generations/000002.json", "{}", READS["successor"]),
    "a garbled claim": ("generations/000001/claims/i-0a.json", "[]", READS["claim"]),
    "a garbled formed": ("generations/000001/formed.json", "{}", READS["formed"]),
    "a garbled report": ("assembly/000001/i-0a.json", "{}", READS["reports"]),
    "a report signed by another": ("assembly/000001/i-0b.json", report(A).to_json(), READS["reports"]),
    "a garbled exclusion": ("generations/000001/excluded/i-0a.json", "x", READS["exclusions"]),
    "an exclusion of another": ("generations/000001/excluded/i-0b.json", GONE.to_json(), READS["exclusions"]),
    "a garbled manifest": (NAME.manifest_key, "{}", READS["manifest"]),
    "another snapshot's manifest": (NAME.manifest_key, manifest(CLUSTER, LATER).to_json(), READS["manifest"]),
    "another cluster's manifest": (NAME.manifest_key, manifest("another").to_json(), READS["manifest"]),
    "a garbled drill": ("drills/x.json", "{}", READS["last drill"]),
}


@pytest.mark.parametrize("misread", MISREAD)
def test_what_makes_no_sense_is_not_nothing(ground: Ground, misread: str) -> None:
    key, text, read = MISREAD[misread]
    ground.place(key, text)
    with pytest.raises(Unavailable) as caught:
        read(ground.door)
    assert caught.value.unknown.why is Ignorance.MALFORMED


def test_what_nobody_of_ours_writes_is_nothing(ground: Ground) -> None:
    for key in (
        "generations/README.md",
        "generations/7.json",
        "generations/000000.json",
        "generations/000009/formed.json",
        "assembly/000001/notes.txt",
        "assembly/000001/old/i-0a.json",
        "snapshots/000001/README.md",
        "snapshots/000001/x.db.zst",
    ):
        ground.place(key, "?")
    assert ground.door.head(None) is None
    assert ground.door.reports(ONE) == ()
    assert ground.door.snapshots() == ()


# ---- snapshots


def test_snapshots_are_listed_as_they_are_oldest_first(ground: Ground) -> None:
    for key in (
        LOWER_OF_THE_NEXT.data_key,
        LATER.manifest_key,
        LATER.bad_key,
        NAME.data_key,
        NAME.manifest_key,
    ):
        ground.place(key, "?")
    found = ground.door.snapshots()
    assert [(each.name, each.stored_bytes is not None, each.committed, each.bad) for each in found] == [
        (NAME, True, True, False),
        (LATER, False, True, True),
        (LOWER_OF_THE_NEXT, True, False, False),
    ]
    assert [each.usable for each in found] == [True, False, False]
    assert all(0 <= each.age_seconds < 10 for each in found)


def test_a_manifest_is_read(ground: Ground) -> None:
    ground.place(NAME.manifest_key, manifest(CLUSTER).to_json())
    assert ground.door.manifest(NAME) == manifest(CLUSTER)


def test_a_bad_snapshot_is_marked_again_and_again(ground: Ground) -> None:
    ground.place(NAME.data_key, "?")
    ground.place(NAME.manifest_key, "?")
    assert [each.usable for each in ground.door.snapshots()] == [True]
    ground.door.mark_bad(NAME, "its digest differs")
    ground.another.mark_bad(NAME, "again")
    assert [each.bad for each in ground.door.snapshots()] == [True]


def test_what_expires_goes_and_takes_nothing_else_with_it(ground: Ground) -> None:
    for name in (NAME, LATER):
        for key in (name.data_key, name.manifest_key, name.bad_key):
            ground.place(key, "?")
    ground.door.expire([NAME])
    assert ground.keys() == sorted((LATER.data_key, LATER.manifest_key, LATER.bad_key))
    ground.door.expire([NAME])


def test_the_last_drill_is_told_with_its_age(ground: Ground) -> None:
    passed = DrillRecord(NAME, A, DrillResult.PASSED, "revision 812, 5 keys", 1.5)
    ground.place(passed.key, passed.to_json())
    found = ground.door.last_drill()
    assert found is not None
    assert 0 <= found.age_seconds < 10
    assert replace(found, age_seconds=0.0) == replace(passed, age_seconds=0.0)


# ---- the operator's hold -------------------------------------------------------------------------------------------


def test_nobody_holds_what_has_no_word_or_was_released(ground: Ground) -> None:
    assert ground.door.hold() is None
    ground.place("hold.json", released("anna", "done", datetime(2026, 1, 1, tzinfo=UTC)))
    assert ground.door.hold() is None


def test_a_hold_is_read_by_everybody(ground: Ground) -> None:
    word = Hold("anna", "we move the volumes", datetime(2026, 1, 1, tzinfo=UTC))
    ground.place("hold.json", word.to_json())
    assert ground.door.hold() == ground.another.hold() == word


def test_a_hold_that_makes_no_sense_holds_and_one_that_cannot_be_read_is_unknown(ground: Ground) -> None:
    ground.place("hold.json", "please stop")
    assert ground.door.hold() is not None
    ground.go_down()
    with pytest.raises(Unavailable):
        ground.door.hold()
