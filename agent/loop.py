"""One round after another: observe, remember, decide, object, act, pace. The loop is the only retry.

An agent's end is not a member's end: nothing here stops etcd or changes membership when the agent stops.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from agent.act import act
from agent.decide import decide, object_to
from agent.decide.attention import growing, waiting_interval
from agent.decide.holding import is_held_back
from agent.decide.objections import veto
from agent.model.actions import Blocker, CallHuman, Decision, Outcome, Rest, Result, Wait
from agent.model.disk import Disk
from agent.model.known import NOT_ASKED
from agent.model.memory import Memory, remember, remember_hold, remember_result
from agent.model.observation import Me, Observation
from agent.model.policy import Policy
from agent.model.round import Round
from agent.model.work import Working
from agent.observe import observe, with_hold
from agent.world.doors import World


def plan(world: World, me: Me, memory: Memory, policy: Policy) -> Round:
    """Observe and decide, and do nothing."""
    o = observe(world, me, memory, policy)
    memory = remember(memory, o, policy)
    decided = decide(o, memory, policy)
    if o.hold == NOT_ASKED and isinstance(o.disk, Disk) and is_held_back(decided.action, o.disk):
        o = with_hold(world, o)  # an answer of some time ago will not do
        memory = remember_hold(memory, o)
        decided = decide(o, memory, policy)
    objections = object_to(decided, o, memory)
    decision = veto(decided, objections) if objections else decided
    took = world.clock.now() - o.now
    return Round(o, decided, objections, decision, Result(Outcome.DONE), memory, took, timedelta(0))


def play(world: World, me: Me, memory: Memory, policy: Policy) -> Round:
    """One whole round, with its one effect."""
    planned = plan(world, me, memory, policy)
    o, decision = planned.observation, planned.decision
    result = act(world, decision.action, o)
    now = world.clock.now()
    memory = remember_result(planned.memory, decision, result, now)
    pause = pace(decision, result, o, memory, policy)
    return replace(planned, result=result, memory=memory, took=now - o.now, pause=pause)


def pace(decision: Decision, result: Result, o: Observation, memory: Memory, policy: Policy) -> timedelta:
    """How long until the next look. After an effect at once; while all is well, seldom."""
    if isinstance(decision.action, Rest):
        return _resting(o, memory, policy)
    if isinstance(decision.action, CallHuman):
        return policy.patient_interval
    if decision.action in (Wait(Blocker.HOLD), Wait(Blocker.MAINTENANCE)):
        return policy.loop_interval
    if isinstance(o.work, Working) and isinstance(decision.action, Wait):
        return growing(o.work.since, o.now, policy.busy_interval, policy.patient_interval)
    if isinstance(decision.action, Wait) or result.outcome is not Outcome.DONE:
        return waiting_interval(o, memory, policy)
    return timedelta(0)


def _resting(o: Observation, memory: Memory, policy: Policy) -> timedelta:
    """Beside the leader, while a member is silent, EC2 may say every moment that it is gone."""
    if not memory.silent_since:
        return policy.loop_interval
    return growing(min(memory.silent_since.values()), o.now, policy.busy_interval, policy.loop_interval)


def run(
    world: World,
    policy: Policy,
    me: Me,
    tell: Callable[[Round], None],
    stopping: Callable[[], bool],
    memory: Memory | None = None,
) -> None:
    """Rounds until `stopping`. `tell` reads each round (logs, metrics, status) and never steers."""
    memory = memory or Memory()
    while not stopping():
        played = play(world, me, memory, policy)
        memory = played.memory
        tell(played)
        if not stopping():
            world.clock.sleep(played.pause * (1 + world.clock.jitter() / 4))
