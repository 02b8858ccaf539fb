"""The told examples with one another's facts: every single exchange, and many thousands of several at once.

Close to the stories, so that each demand of the oracle is put to the test often; test_decisions.py goes
farther afield. The seed is fixed: what fails here fails again.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from agent.model.actions import BeginTask, CreateGeneration, Disarm, ExpireSnapshots, FileReport, MarkBad, StopEtcd
from agent.model.cluster import Alarm, AlarmKind
from agent.model.disk import Data, Disk, EtcdStopped, Stage
from agent.model.fleet import InstanceState
from agent.model.generation import FIRST, Exclusion, Holding, Seat, Sight
from agent.model.ids import MemberId, Nonce
from agent.model.known import NOT_ASKED, Ignorance, Unknown
from agent.model.members import Damaged
from agent.model.memory import Memory, remember
from agent.model.observation import BucketUnsound, Observation
from agent.model.snapshot import Rescued
from agent.model.work import Ended, FetchSeed, Idle, RescueLog, TakeSnapshot, Working
from tests.decide import examples as told
from tests.decide.examples import LONG_AGO, NONCE, NOW, SILENT, A, B, C, D, E, Example
from tests.properties.oracle import is_sound

MANY = int(os.environ.get("CROSSBRED", "3000"))
"""Of each kind; 20,000 take some minutes."""

pytestmark = pytest.mark.timeout(300)  # thousands of decisions take their time on a busy machine

TAIL = replace(told.POSITION, last_index=1004)
HOLDING_MORE = told.holding(A, B, C, position=TAIL)
WITH_A_TAIL = told.seen_by_a_survivor(told.a_lost_three(), HOLDING_MORE).seeing(
    reports=told.fresh(HOLDING_MORE, told.nothing(D), told.nothing(E))
)
OF_A = Rescued(A, told.MEMBERS[A], told.POSITION)
MADE = told.rescue_of(told.holding(A, B, C))
BROKEN = Unknown(Ignorance.MALFORMED, "its digest differs")

PARENTS: tuple[Example, ...] = (
    *map(told.a_healthy_three, (A, B, C)),
    *map(told.a_stopped_member, (A, B, C)),
    *map(told.a_moved_member, (A, B)),
    *(told.a_broken_member(who, lives, damaged) for who in (A, B) for lives, damaged in ((2, True), (8, False))),
    *map(told.a_newcomer, (C, D)),
    *map(told.about_to_join, (C, D)),
    *map(told.with_an_entry, (C, D)),
    *map(told.a_learner, (C, D)),
    *map(told.before_the_first_generation, (A, B)),
    *map(told.a_founder, (A, B)),
    *map(told.a_prepared_founder, (A, B)),
    *map(told.a_founder_with_its_claim, (A, B)),
    *(told.a_fenced_member(name, running=running) for name, running in product((A, B), (False, True))),
    *(told.with_a_forgotten_member(C, looks) for looks in (1, 2)),
    *(told.with_a_stalled_learner(minutes) for minutes in (1.9, 2.1)),
    *map(told.a_lost_three, (A, D)),
    *map(told.with_nobody_left, (D, E)),
    told.never_formed(),
    *map(told.a_founder_that_restores, (A, D)),
    WITH_A_TAIL,
    WITH_A_TAIL.seeing(process=EtcdStopped(), local=NOT_ASKED, own_list=NOT_ASKED),
    told.a_healthy_three(B).seeing(snapshots=(), last_drill=None),
    told.with_superfluous_snapshots(),
    told.with_restored_data(),
    *(told.with_member_down(told.a_healthy_three(), C, state) for state in (None, *InstanceState)),
)

MORE: dict[str, tuple[Any, ...]] = {
    "disk": tuple(
        Disk(identity, data)
        for identity in (None, *(told.identity(who, stage) for who in (A, D) for stage in Stage))
        for data in Data
    )
    + tuple(
        Disk(identity, data, frozenset({told.manifest().sha256}), restored)
        for identity in (None, told.identity(D, Stage.STARTING, generation=2))
        for data in Data
        for restored in (frozenset[Nonce](), frozenset({told.OLD_NONCE}))
    ),
    "claim": (None, told.claim(A, NONCE), told.claim(B)),
    "head": (None, told.record(A, B, C, generation=2), told.record(B, C, D), told.record(A)),
    "formed": (None,),
    "me": (replace(told.me(D), peer_url=told.peer(C)), replace(told.me(A), peer_url=told.peer(E)), told.me(E)),
    "membership": (
        told.membership(told.voter(A)),
        told.membership(told.voter(B), told.voter(C)),
        told.membership(told.voter(A), told.voter(B), told.learner(C)),
        replace(told.membership(told.voter(A), told.voter(B)), cluster_id=told.OTHER_CLUSTER),
        told.membership(*map(told.voter, (A, B, C)), replace(told.unstarted(D), is_learner=False)),
    ),
    "answers": (told.answers(), told.answers(A, silent=(B, C)), told.answers(A, B, C, D)),
    "fleet": (
        told.fleet(),
        replace(told.fleet(told.instance(A)), groups=()),
        told.fleet(told.instance(A), unheard_of=frozenset({B, C, D})),
        told.fleet(told.instance(A), ended_by_group=frozenset({C, D})),
        told.fleet(told.instance(D, InstanceState.SHUTTING_DOWN), told.instance(E)),
    ),
    "bucket": (BucketUnsound("ignores them", "use S3"),),
    "reports": (
        (told.filed(A, "intact"), told.filed(B), told.filed(C)),
        (told.filed(A), told.filed(B, age_seconds=30), told.filed(C, age_seconds=30)),
        (told.filed(A), told.filed(B), told.filed(C), told.filed(D, "intact", age_seconds=30)),
        (told.filed(A),),
        told.fresh(told.holding(A, B, C), told.holding(C, A, B), told.nothing(D), told.nothing(E)),
        told.fresh(told.holding(A, B, C, trouble="etcd panics"), told.nothing(D), told.nothing(E)),
        told.fresh(told.holding(A, B, C), told.nothing(D, seat=Seat.OPEN), told.nothing(E)),
        told.fresh(told.holding(A, B, C), told.nothing(D, sight=Sight.LEADER), told.nothing(E)),
        told.fresh(told.nothing(D), told.nothing(E)),
        told.fresh(told.holding(A, data=Holding.DAMAGED, position=None, members=()), told.nothing(D), told.nothing(E)),
    ),
    "exclusions": ((Exclusion(C, "burned", "admin", NOW),), (Exclusion(A, "burned", "admin", NOW),)),
    "snapshots": (
        (told.a_snapshot(bad=True),),
        (told.a_snapshot(told.snapshot_name(700, minutes_ago=9)), told.a_snapshot(bad=True)),
        (told.a_snapshot(), told.a_snapshot(MADE.name)),
    ),
    "manifest": (None, BROKEN, MADE, told.manifest(raft_index=1004), told.manifest(etcd_version="3.6.1")),
    "work": (
        Idle(),
        Working(RescueLog(FIRST, OF_A), NOW),
        Ended(TakeSnapshot(FIRST, rescued=OF_A), LONG_AGO, LONG_AGO, manifest=MADE),
        Ended(RescueLog(FIRST, OF_A), LONG_AGO, LONG_AGO, BROKEN, final=True),
        Ended(FetchSeed(told.manifest()), LONG_AGO, LONG_AGO),
        Ended(FetchSeed(told.manifest()), LONG_AGO, LONG_AGO, BROKEN, final=True),
        Ended(FetchSeed(told.manifest()), LONG_AGO, NOW, SILENT),
    ),
    "survey": (Damaged("a checksum differs"),),
    "alarms": (
        (Alarm(MemberId(0xDEAD), AlarmKind.NOSPACE),),
        (Alarm(MemberId(0xDEAD), AlarmKind.CORRUPT), Alarm(told.MEMBERS[B], AlarmKind.NOSPACE)),
    ),
    "leader_seen": (True,),
    "can_bump_revisions": (False,),
    "last_drill": (None,),
    "local": (replace(told.status(A), cluster_id=told.OTHER_CLUSTER), told.status(A, leader=None)),
}
RECALLED: dict[str, tuple[Any, ...]] = {
    "seen_since": ({}, dict.fromkeys(told.MEMBERS.values(), NOW - timedelta(minutes=59))),
    "unheard_of": ({}, dict.fromkeys((A, B, C, D), 5)),
    "learners": ({},),
    "assembling_since": (LONG_AGO,),
    "no_quorum_since": (LONG_AGO,),
    "ended_since": ({B: NOW},),
    "proven_lost": (FIRST,),
    "proven_lost_at": (NOW,),
    "rescue_trouble": ("etcd panics",),
    "failures": (9,),
    "snapshots": (None, ()),
    "manifest": (None,),
    "head": (None,),
    "formed": (None,),
}


def pool(name: str) -> list[Any]:
    """Every different value that some example has in this field, ignorance, and a few more."""
    found: list[Any] = [SILENT, NOT_ASKED] if name not in ("me", "answers", "work") else []
    for value in (*(getattr(parent.o, name) for parent in PARENTS), *MORE.get(name, ())):
        if value not in found:
            found.append(value)
    return found


def recollections(name: str) -> list[Any]:
    found: list[Any] = []
    for value in (*(getattr(parent.memory, name) for parent in PARENTS), *RECALLED.get(name, ())):
        if value not in found:
            found.append(value)
    return found


SEEN = {each.name: pool(each.name) for each in fields(Observation) if each.name not in ("now", "nonce")}
KNOWN = {each.name: recollections(each.name) for each in fields(Memory)}


def with_one_thing_changed() -> Iterator[Example]:
    for parent in PARENTS:
        yield parent
        yield from (parent.seeing(**{name: value}) for name, values in SEEN.items() for value in values)
        yield from (parent.remembering(**{name: value}) for name, values in KNOWN.items() for value in values)


def with_several_things_changed(seed: int) -> Iterator[Example]:
    chance = random.Random(seed)
    for _ in range(MANY):
        seen = {name: chance.choice(SEEN[name]) for name in chance.sample(sorted(SEEN), chance.randint(1, 5))}
        known = {name: chance.choice(KNOWN[name]) for name in chance.sample(sorted(KNOWN), chance.randint(0, 2))}
        yield chance.choice(PARENTS).seeing(**seen).remembering(**known)


LOSSES = (
    told.a_lost_three(A),
    told.a_lost_three(A).seeing(work=Ended(TakeSnapshot(FIRST, rescued=OF_A), LONG_AGO, LONG_AGO, manifest=MADE)),
    WITH_A_TAIL,
    told.a_lost_three(D),
    told.with_nobody_left(),
    HERE := told.with_nobody_left().seeing(disk=Disk(None, Data.ABSENT, frozenset({told.manifest().sha256}))),
    HERE.seeing(fleet=told.a_lost_three().o.fleet, reports=told.a_lost_three().o.reports),
)


def fleets_of_a_loss() -> list[Any]:
    """One of those who matter is in another state, left out, unheard of or ended by its group."""
    found: list[Any] = [SILENT, NOT_ASKED]
    for who, state in product((A, B, C, D, E), InstanceState):
        for survivors in ((A, D, E), (D, E)):
            states = {
                each: InstanceState.RUNNING if each in survivors else InstanceState.TERMINATED for each in told.IPS
            }
            states[who] = state
            found.append(told.fleet(*(told.instance(each, now) for each, now in states.items())))
            left_out = [told.instance(each, now) for each, now in states.items() if each != who]
            found.append(told.fleet(*left_out, unheard_of=frozenset({who})))
            found.append(told.fleet(*left_out, ended_by_group=frozenset({who})))
    return found


def reports_of_a_loss() -> list[Any]:
    """One of those who speak says something else, says it late, or says nothing."""
    found: list[Any] = [SILENT, NOT_ASKED]
    a, b, d, e = told.holding(A, B, C), told.holding(B, A, C), told.nothing(D), told.nothing(E)
    others = [
        *(replace(each, sight=sight) for each in (a, d) for sight in Sight),
        *(replace(each, seat=Seat.OPEN) for each in (d, e)),
        replace(a, position=TAIL),
        replace(a, position=replace(told.POSITION, pending_changes=True)),
        replace(a, position=None),
        replace(a, trouble="etcd panics"),
        replace(a, data=Holding.DAMAGED, position=None, members=()),
        replace(a, members=(told.entry(A), told.entry(D)), member_id=told.MEMBERS[A]),
        replace(a, restart_members=(told.entry(A),)),
        told.holding(D, A, B),
        told.holding(D, E, member_id=told.MEMBERS[D]),
        b,
        replace(b, position=replace(told.POSITION, last_index=1010)),
    ]
    for other in others:
        said = {each.instance: each for each in (a, d, e)} | {other.instance: other}
        found += [told.fresh(*said.values()), told.fresh(*(each for each in said.values() if each.instance != A))]
        found.append(told.fresh(*(each for each in said.values() if each != other)) + told.fresh(other, age_seconds=30))
    return [*found, told.fresh(a, d), told.fresh(a), told.fresh(d), told.fresh(d, e)]


OF_A_LOSS: dict[str, list[Any]] = {
    "fleet": fleets_of_a_loss(),
    "reports": reports_of_a_loss(),
    **{name: SEEN[name] for name in ("exclusions", "snapshots", "manifest", "work", "formed", "head", "bucket")},
    "can_bump_revisions": [True, False, SILENT],
}


def with_a_loss_changed(seed: int) -> Iterator[Example]:
    """What was last reported by this very agent is taken to be what it would report: else it would do nothing else."""
    chance = random.Random(seed)
    for _ in range(MANY):
        seen = {name: chance.choice(OF_A_LOSS[name]) for name in chance.sample(sorted(OF_A_LOSS), chance.randint(1, 3))}
        example = chance.choice(LOSSES).seeing(**seen)
        while isinstance(action := example.decided.action, FileReport):
            example = example.remembering(reported=action.report, reported_at=NOW)
        yield example


def must_be_sound(example: Example) -> None:
    """What the rules ask for, and what is carried out; a veto where no rule is at fault is a fault, too."""
    is_sound(example.decided.action, example)
    is_sound(example.carried_out.action, example)
    assert example.carried_out.because


def test_every_single_exchange_is_decided_soundly() -> None:
    for example in with_one_thing_changed():
        must_be_sound(example)


def test_the_exchanges_meet_what_chance_seldom_does() -> None:
    met = {type(each.carried_out.action) for each in with_one_thing_changed()}
    assert met >= {Disarm, ExpireSnapshots, MarkBad}


def test_several_exchanges_at_once_are_decided_soundly() -> None:
    for example in with_several_things_changed(seed=1):
        must_be_sound(example)


def test_whatever_is_different_about_a_loss_is_decided_soundly() -> None:
    done: Counter[type] = Counter()
    for example in with_a_loss_changed(seed=1):
        must_be_sound(example)
        done[type(example.carried_out.action)] += 1
    assert min(done[each] for each in (CreateGeneration, BeginTask, StopEtcd, MarkBad)) > 50, f"about nothing: {done}"


def test_no_sound_decision_is_vetoed() -> None:
    """An objection to what is sound would keep an agent waiting for ever."""
    for example in with_one_thing_changed():
        remembered = replace(example, memory=remember(example.memory, example.o, example.policy))
        assert remembered.carried_out.action == remembered.decided.action, remembered.carried_out.because
