"""The told examples with one another's facts: every single exchange, and many thousands of several at once.

Close to the stories, so that each demand of the oracle is put to the test often; test_decisions.py goes
farther afield. The seed is fixed: what fails here fails again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import timedelta
from itertools import product
from typing import Any

from agent.model.disk import Data, Disk, Stage
from agent.model.fleet import InstanceState
from agent.model.known import NOT_ASKED
from agent.model.memory import Memory, remember
from agent.model.observation import BucketUnsound, Observation
from tests.decide import examples as told
from tests.decide.examples import LONG_AGO, NONCE, NOW, SILENT, A, B, C, D, E, Example
from tests.properties.oracle import is_sound

MANY = 30_000

PARENTS: tuple[Example, ...] = (
    *map(told.a_healthy_three, (A, B, C)),
    *map(told.a_stopped_member, (A, B, C)),
    *map(told.a_moved_member, (A, B)),
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
    *(told.with_member_down(told.a_healthy_three(), C, state) for state in (None, *InstanceState)),
)

MORE: dict[str, tuple[Any, ...]] = {
    "disk": tuple(
        Disk(identity, data)
        for identity in (None, *(told.identity(who, stage) for who in (A, D) for stage in Stage))
        for data in Data
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
    ),
    "snapshots_exist": (True,),
    "local": (replace(told.status(A), cluster_id=told.OTHER_CLUSTER), told.status(A, leader=None)),
}
RECALLED: dict[str, tuple[Any, ...]] = {
    "seen_since": ({}, dict.fromkeys(told.MEMBERS.values(), NOW - timedelta(minutes=59))),
    "unheard_of": ({}, dict.fromkeys((A, B, C, D), 5)),
    "learners": ({},),
    "assembling_since": (LONG_AGO,),
    "no_quorum_since": (LONG_AGO,),
    "head": (None,),
    "formed": (None,),
}


def pool(name: str) -> list[Any]:
    """Every different value that some example has in this field, ignorance, and a few more."""
    found: list[Any] = [SILENT, NOT_ASKED] if name not in ("me", "answers") else []
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


def must_be_sound(example: Example) -> None:
    """What the rules ask for, and what is carried out; a veto where no rule is at fault is a fault, too."""
    is_sound(example.decided.action, example)
    is_sound(example.carried_out.action, example)
    assert example.carried_out.because


def test_every_single_exchange_is_decided_soundly() -> None:
    for example in with_one_thing_changed():
        must_be_sound(example)


def test_several_exchanges_at_once_are_decided_soundly() -> None:
    for example in with_several_things_changed(seed=1):
        must_be_sound(example)


def test_no_sound_decision_is_vetoed() -> None:
    """An objection to what is sound would keep an agent waiting for ever."""
    for example in with_one_thing_changed():
        remembered = replace(example, memory=remember(example.memory, example.o, example.policy))
        assert remembered.carried_out.action == remembered.decided.action, remembered.carried_out.because
