"""The only room that changes the world: one action, one effect, one result.

Every write can land without its reply. `Unavailable` from a door is therefore MAYBE, never "no"; what
happened is found out by looking again, in the next round, with the same code as after a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from agent.model.actions import (
    Action,
    AddLearner,
    CallHuman,
    CreateGeneration,
    FileReport,
    Outcome,
    PromoteMember,
    Quarantine,
    RemoveMember,
    Rest,
    Result,
    StampIdentity,
    StartEtcd,
    StopEtcd,
    UpdatePeerUrl,
    Wait,
    WriteClaim,
    WriteFormed,
)
from agent.model.cluster import Membership
from agent.model.faults import Refused, Unavailable
from agent.model.ids import ClientUrl
from agent.model.observation import Observation
from agent.world.doors import World

DONE = Result(Outcome.DONE)


def act(world: World, action: Action, o: Observation) -> Result:
    """Carry out one action that was decided on this observation."""
    try:
        return _effect(world, action, o)
    except Unavailable as trouble:
        return Result(Outcome.MAYBE, str(trouble))
    except Refused as trouble:
        return Result(Outcome.REFUSED, str(trouble))


def _effect(world: World, action: Action, o: Observation) -> Result:
    match action:
        case Rest() | Wait() | CallHuman():
            return DONE
        case FileReport(generation=generation, report=report):
            return _done(lambda: world.bucket.file_report(generation, report))
        case CreateGeneration(record=record):
            return _once(world.bucket.create_generation(record), "another agent's record came first")
        case WriteClaim(generation=generation, claim=claim):
            return _once(world.bucket.write_claim(generation, claim), "a claim with another nonce exists")
        case WriteFormed(generation=generation, formed=formed):
            return _once(world.bucket.write_formed(generation, formed), "formed.json says something else")
        case StampIdentity(identity=identity, prepare=prepare):
            return _done(lambda: world.host.stamp(identity, prepare))
        case StartEtcd(launch=launch):
            return _done(lambda: world.host.start(launch))
        case StopEtcd():
            return _done(world.host.stop)
        case Quarantine(why=why):
            return _done(lambda: world.host.quarantine(why))
        case AddLearner(peer_url=url):
            return _done(lambda: world.etcd.add_learner(_endpoint(o), url))
        case PromoteMember(member=member):
            return _done(lambda: world.etcd.promote(_endpoint(o), member))
        case RemoveMember(member=member):
            return _done(lambda: world.etcd.remove(_endpoint(o), member))
        case UpdatePeerUrl(member=member, peer_url=url):
            return _done(lambda: world.etcd.update_peer_url(_endpoint(o), member, url))
        case _:
            assert_never(action)


def _done(effect: Callable[[], object]) -> Result:
    effect()
    return DONE


def _once(won: bool, lost: str) -> Result:
    return DONE if won else Result(Outcome.STALE, lost)


def _endpoint(o: Observation) -> ClientUrl:
    """Membership changes go through the member that the list was read from: a quorum stands behind it."""
    assert isinstance(o.membership, Membership), "no membership change without a list (objections)"
    return o.membership.via
