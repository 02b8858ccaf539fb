"""Recovery's promise: where the proof says *lost*, no schedule can ever elect a leader again.

Random lives of a fleet (histories.py) in a model of etcd's raft (raft.py) end in a disaster or not; honest agents
report; then the proof is asked. What could still happen is worked out from the model's truth, which no agent sees:
every disk that exists anywhere, whoever lists or names it. The stories at the end are the counter-examples that the
model found, each reduced to its shortest form, against rules that were, are or might be the proof's.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.decide import loss
from agent.decide.loss import Lost, NotProven, judge_loss
from agent.decide.seeding import best_survivor
from agent.model.fleet import InstanceState
from agent.model.generation import Holding, Report, Seat, Sight
from agent.model.ids import MemberId
from agent.model.known import Unknown
from tests.decide.examples import Example
from tests.properties.histories import EPOCH, FAIR, Machine, Weather, World
from tests.properties.raft import (
    Entry,
    Kind,
    Log,
    Member,
    campaign,
    can_ever_lead,
    explore,
    propose,
    replicate,
)

pytestmark = pytest.mark.timeout(300)  # chance takes its time on a busy machine

LIVES = 3000
BUDGET = 4000  # lives within which each mutation of the proof must be refuted


def lived(seed: int, weather: Weather = FAIR) -> World:
    return World.begin(random.Random(seed), weather).whole()


def verdict(example: Example) -> Lost | NotProven:
    return judge_loss(*example.values)


def told(seed: int, world: World, example: Example) -> str:
    reports = () if isinstance(example.o.reports, Unknown) else example.o.reports
    filed = [f"{each.age_seconds:.0f} s old: {each.report}" for each in reports]
    return "\n".join([f"seed {seed}", *world.story, *filed, f"can come back: {world.can_come_back}"])


# ---- a) soundness


@pytest.mark.parametrize("first", range(0, LIVES, LIVES // 3))
def test_what_is_lost_never_has_a_leader_again(first: int) -> None:
    said: Counter[str] = Counter()
    for seed in range(first, first + LIVES // 3):
        world = lived(seed)
        example = world.example()
        lost = isinstance(verdict(example), Lost)
        assert not (lost and world.can_come_back), told(seed, world, example)
        said["lost" if lost else "alive" if world.can_come_back else "not proven"] += 1
    assert min(said[each] for each in ("lost", "alive", "not proven")) > LIVES // 50, f"about nothing: {said}"


def test_nor_in_the_middle_of_a_life() -> None:
    for seed in range(10_000, 10_000 + LIVES // 10):
        world = World.begin(random.Random(seed))
        for _ in range(12):
            world.live(2)
            world.pass_time(world.chance.choice((5, 12, 31)))
            example = world.be_fair().example()
            lost = isinstance(verdict(example), Lost)
            assert not (lost and world.can_come_back), told(seed, world, example)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.randoms(use_true_random=False))
def test_nor_in_any_life_that_hypothesis_thinks_of(chance: random.Random) -> None:
    world = World.begin(chance).whole()
    example = world.example()
    assert not (isinstance(verdict(example), Lost) and world.can_come_back), told(-1, world, example)


def test_what_was_lost_stays_lost_while_the_fleet_lives_on() -> None:
    """The verdict is carried out later than it was found: whatever happens meanwhile, nobody leads."""
    for seed in range(LIVES // 3):
        world = lived(seed)
        if isinstance(verdict(world.example()), Lost):
            world.wake()
            world.heal()
            for _ in range(25):
                world.step()
                assert not [each.name for each in world.leaders], told(seed, world, world.example())


# ---- the oracle itself


def few(seed: int) -> Iterator[tuple[list[Member], list[Member]]]:
    """States of three members or fewer, from the middle of lives: those that run, and those that only vote."""
    world = World.begin(random.Random(seed))
    for _ in range(6):
        world.live(3)
        if 1 <= len(world.holders) <= 3:
            yield world.holders, world.repaired


def test_the_closed_form_says_what_every_schedule_says() -> None:
    said: Counter[bool] = Counter()
    for seed in range(150):
        for members, _ in few(seed):
            for forgetful in (False, True):
                still = [replace(each, leading=False, match={}) for each in members]
                possible = can_ever_lead(still, forgetful=forgetful) is not None
                assert explore(still, forgetful=forgetful) == possible, f"seed {seed}: {still}"
                said[possible] += 1
    assert min(said[True], said[False]) > 50, said


def test_the_model_elects_and_commits_as_raft_does() -> None:
    a, b, c = (Member.founder(who, (1, 2, 3)) for who in (1, 2, 3))
    assert campaign(a, [b])
    assert replicate(a, b)
    assert a.commit == len(a.log) == 4
    assert not campaign(c, [a, b]), "both have voted in its term"
    assert a.leading
    assert not campaign(c, [a, b]), "its log is behind"
    assert not a.leading, "it has heard of a higher term"
    assert campaign(b, [c]), "b has what was committed"
    assert replicate(b, c)
    assert c.log == b.log


def test_the_model_waits_for_a_change_to_be_applied() -> None:
    a, b, c = (Member.founder(who, (1, 2, 3)) for who in (1, 2, 3))
    assert campaign(a, [b, c])
    assert propose(a, Kind.REMOVE, 3)
    assert not propose(a, Kind.REMOVE, 2), "one at a time"
    replicate(a, b)
    assert a.commit == 5
    assert a.lists.voters == {1, 2, 3}, "committed, and not applied"
    replicate(a, b)
    a.stand_down()
    assert not a.may_campaign
    a.apply()
    assert a.lists.voters == {1, 2}
    assert a.may_campaign


# ---- b) liveness: it waits for nothing that will not come


def when_everybody_reports(seed: int) -> World:
    """Whoever was dying is dead, whoever was stopped or broken has come back, and all have said what they have."""
    world = lived(seed)
    for machine in [each for each in world.machines if each.exists]:
        if machine.state is InstanceState.SHUTTING_DOWN:
            world.end(machine)
            continue
        machine.state, machine.asleep, machine.damaged = InstanceState.RUNNING, False, False
        machine.process = machine.member is not None
    for founder in [each for each in world.founders if each.exists]:
        world.found(founder)
    world.heal()
    world.pass_time(31)
    for machine in [each for each in world.machines if each.up and not each.sees]:
        machine.report, machine.filed = world.report(machine), world.clock
    return world


def has_lost_its_quorum(report: Report, world: World) -> bool:
    voters = {each.id for each in report.members if not each.is_learner}
    there = {member.id for member in world.holders} & voters
    return 2 * len(there) <= len(voters)


def test_it_says_so_once_everybody_has_reported_and_no_list_has_a_quorum_left() -> None:
    said: Counter[str] = Counter()
    for seed in range(LIVES // 2):
        world = when_everybody_reports(seed)
        found = verdict(world.example(clear=True))
        holders = [machine.report for machine in world.machines if machine.raft is not None and machine.report]
        if world.leaders or not all(has_lost_its_quorum(each, world) for each in holders):
            said["alive, by somebody's list"] += 1
            assert isinstance(found, NotProven), told(seed, world, world.example(clear=True))
        elif is_plain(world):
            said["lost"] += 1
            assert isinstance(found, Lost), f"{found}\n{told(seed, world, world.example(clear=True))}"
        else:
            said["lost, and the proof may wait"] += 1
    assert said["lost"] > 3 * said["lost, and the proof may wait"] > 0, said
    assert said["alive, by somebody's list"] > 100, said


def is_plain(world: World) -> bool:
    """Nothing of what the proof waits for although nothing will come of it; see the stories below."""
    told = [each.report for each in world.filed()]
    unnamed = any(not entry.name for report in told for entry in report.members)
    holders = [each for each in told if each.data is not Holding.NONE]
    vague = any(not each.members or (each.position and each.position.pending_changes) for each in holders)
    return not unnamed and not vague


# ---- c) the survivor's choice


def rescued(member: Member) -> Log:
    """What a rescue makes of a log: all of it, known to be committed or not, up to the member's own removal."""
    for index, entry in enumerate(member.log[member.commit :], member.commit):
        if entry == Entry(entry.term, Kind.REMOVE, member.id):
            return member.log[:index]
    return member.log


def test_the_best_survivor_has_what_any_survivor_knows_to_be_committed() -> None:
    """And nearly always all that ever was committed and is left anywhere; see the story of the stale branch."""
    said: Counter[str] = Counter()
    for seed in range(LIVES):
        world = lived(seed)
        found = verdict(world.example())
        if not isinstance(found, Lost) or not found.holders:
            continue
        members = [machine.member for machine in world.machines if machine.member is not None]
        by_id = {member.id: member for member in members}
        best = best_survivor(found.holders)
        sound = [by_id[each.member_id] for each in found.holders if each.data is Holding.INTACT and each.member_id]
        if best is None:
            assert not sound
            continue
        assert best.member_id is not None
        log = rescued(by_id[best.member_id])
        for other in sound:
            known = other.log[: other.commit]
            assert log[: len(known)] == known, told(seed, world, world.example())
        left = max(common(each.log, world.committed) for each in sound)
        said["all that is left" if common(log, world.committed) == left else "less"] += 1
    assert said["all that is left"] > 100, said
    assert said["less"] == 0, said


def common(one: Log, other: Log) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


# ---- d) teeth: each part of the proof is there for a life in this model

Judge = Callable[[Example], bool]
"""Whether a mutated proof says `lost`."""


def proves(change: Callable[[Example], Example]) -> Judge:
    return lambda example: isinstance(verdict(change(example)), Lost)


def reports_with(change: Callable[[Report], Report]) -> Judge:
    def changed(example: Example) -> Example:
        assert not isinstance(example.o.reports, Unknown)
        return example.seeing(reports=tuple(replace(each, report=change(each.report)) for each in example.o.reports))

    return proves(changed)


def without_clauses(*kept: Callable[[loss._Facts], Iterator[loss.Blocked]]) -> Judge:
    def judge(example: Example) -> bool:
        facts = loss._facts(*example.values)
        return not isinstance(facts, NotProven) and not any(list(clause(facts)) for clause in kept)

    return judge


def nobody_is_stale(example: Example) -> Example:
    assert not isinstance(example.o.reports, Unknown)
    return example.seeing(reports=tuple(replace(each, age_seconds=0.0) for each in example.o.reports))


def the_dying_are_dead(example: Example) -> Example:
    assert not isinstance(example.o.fleet, Unknown)
    dead = {InstanceState.SHUTTING_DOWN: InstanceState.TERMINATED}
    listed = tuple(replace(each, state=dead.get(each.state, each.state)) for each in example.o.fleet.instances)
    return example.seeing(fleet=replace(example.o.fleet, instances=listed))


def the_stopped_are_dead(example: Example) -> Example:
    assert not isinstance(example.o.fleet, Unknown)
    dead = {InstanceState.STOPPED: InstanceState.TERMINATED}
    listed = tuple(replace(each, state=dead.get(each.state, each.state)) for each in example.o.fleet.instances)
    return example.seeing(fleet=replace(example.o.fleet, instances=listed))


def whoever_is_not_listed_is_gone(example: Example) -> Example:
    assert not isinstance(example.o.fleet, Unknown)
    listed = {each.id for each in example.o.fleet.instances}
    everybody = {machine for machine in example.memory.named_since if machine not in listed}
    return example.seeing(fleet=replace(example.o.fleet, ended_by_group=frozenset(everybody)))


def whoever_is_unheard_of_is_gone(example: Example) -> Example:
    """However young: EC2 may not know a new instance yet."""
    return example.remembering(named_since=dict.fromkeys(example.memory.named_since, EPOCH))


def without_learners(report: Report) -> Report:
    return replace(report, members=tuple(each for each in report.members if not each.is_learner))


def without_pending(report: Report) -> Report:
    return replace(report, position=report.position and replace(report.position, pending_changes=False))


def only_the_longest_list_counts(facts: loss._Facts) -> Iterator[loss.Blocked]:
    """One holder's list, the newest, for all of them."""
    held: set[MemberId | None] = {each.member_id for each in facts.holders}
    for newest in sorted(facts.holders, key=lambda each: -(each.position.committed_index if each.position else 0))[:1]:
        if loss._electable(newest, held):
            yield loss.Blocked(newest.instance, "may be elected")


def only_members_count(facts: loss._Facts) -> Iterator[loss.Blocked]:
    """Holders of data who are still in the newest list; whoever was removed is not asked."""
    held: set[MemberId | None] = {each.member_id for each in facts.holders}
    newest = max(facts.holders, key=lambda each: each.position.committed_index if each.position else 0, default=None)
    listed = {each.id for each in newest.members} if newest else set()
    for holder in facts.holders:
        if holder.member_id in listed and loss._electable(holder, held & listed):
            yield loss.Blocked(holder.instance, "may be elected")


def most_of_the_fleet_will_do(facts: loss._Facts) -> Iterator[loss.Blocked]:
    """A majority of the live instances has reported."""
    absent = [each for each in facts.fleet.live if each.id not in facts.fresh]
    if 2 * len(absent) >= len(facts.fleet.live):
        yield loss.Blocked("the fleet", "most are missing")


MUTATIONS: dict[str, Judge] = {
    "nobody is asked whether the fleet is here": without_clauses(loss._accounts, loss._quorums),
    "most of the fleet will do": without_clauses(most_of_the_fleet_will_do, loss._accounts, loss._quorums),
    "nobody is accounted for": without_clauses(loss._attendance, loss._quorums),
    "nobody counts quorums": without_clauses(loss._attendance, loss._accounts),
    "quorums are counted in the newest list alone": without_clauses(
        loss._attendance, loss._accounts, only_the_longest_list_counts
    ),
    "whoever was removed counts for nothing": without_clauses(loss._attendance, loss._accounts, only_members_count),
    "learners are not asked after": reports_with(without_learners),
    "pending changes do not matter": reports_with(without_pending),
    "an open seat is as good as a spent one": reports_with(
        lambda each: replace(each, seat=Seat.SPENT if each.seat is Seat.OPEN else each.seat)
    ),
    "no grace without a leader": reports_with(lambda each: replace(each, sight=Sight.LONG_LEADERLESS)),
    "old reports are as good as new ones": proves(nobody_is_stale),
    "shutting down is as good as terminated": proves(the_dying_are_dead),
    "stopped is as good as terminated": proves(the_stopped_are_dead),
    "not listed is as good as terminated": proves(whoever_is_not_listed_is_gone),
    "unheard of is as good as terminated": proves(whoever_is_unheard_of_is_gone),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_without_any_part_of_it_the_proof_is_refuted(mutation: str) -> None:
    judge = MUTATIONS[mutation]
    for seed in range(BUDGET):
        world = lived(seed)
        example = world.example()
        if judge(example) and world.can_come_back:
            print(f"{mutation}: refuted by seed {seed}")  # noqa: T201
            return
    pytest.fail(f"not refuted in {BUDGET} lives")
