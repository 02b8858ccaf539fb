"""While an operator holds the cluster: what is held back, and what goes on all the same.

Held back is everything that changes who is a member, whose lineage it is, or what an operator may be looking at:
founding and starting as a founder, joining, voting, removing, moving, recovering, leaving, arriving, disarming.
What goes on is what keeps the data plane as it is: a running etcd serves; an etcd that ended is started again on its
own data, because an operator does not expect a hold to turn a crash into an outage; snapshots, drills, reports and
heartbeats. Fencing goes on, too: what a newer generation has replaced must not serve, held or not.

Ignorance. A hold that was read stays until an answer says otherwise, and "not held" likewise: whoever cannot reach the
bucket acts upon its last answer. Who never had one (an agent that was just started, and the bucket is out) waits as if
held, for etcd runs on meanwhile. Right before it does what a hold would hold back, an agent reads `hold.json` anew
(`agent.loop`): after `hold on` has returned, nothing of it is begun by any agent that reaches the bucket.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from agent.model.actions import (
    Action,
    AddLearner,
    AskToBeReplaced,
    BeginTask,
    Blocker,
    CallHuman,
    Compact,
    CompleteHook,
    CreateAuthority,
    CreateGeneration,
    Decision,
    DeregisterTarget,
    Disarm,
    ExpireSnapshots,
    FileReport,
    HeartbeatHook,
    IssueCertificates,
    MarkBad,
    MoveLeader,
    PromoteMember,
    ProtectFromScaleIn,
    PublishRecords,
    PutInPlace,
    Quarantine,
    RegisterTarget,
    ReloadEtcd,
    RemoveMember,
    Rest,
    StampIdentity,
    StartEtcd,
    StopEtcd,
    UpdatePeerUrl,
    Wait,
    WriteClaim,
    WriteFormed,
)
from agent.model.disk import Data, Disk, Stage
from agent.model.fleet import Fleet
from agent.model.hold import Hold
from agent.model.known import Unknown
from agent.model.memory import Memory
from agent.model.observation import Observation
from agent.model.work import Drill, TakeSnapshot

HOLD = "hold"
"""The rule's name where something is held back and nothing else is to be done."""


def hold_on(o: Observation, memory: Memory) -> Hold | Unknown | None:
    """By the bucket, the group's tag or this instance's own; each as last known."""
    told = memory.hold if isinstance(o.hold, Unknown) else o.hold
    if isinstance(told, Hold):
        return told
    fleet = memory.fleet if isinstance(o.fleet, Unknown) else o.fleet
    tagged = None if fleet is None else _tagged(fleet, o)
    return told if tagged is None else tagged


def _tagged(fleet: Fleet, o: Observation) -> Hold | None:
    here = fleet.find(o.me.instance)
    holds = [each.hold for each in fleet.groups] + ([] if here is None else [here.hold])
    return next((each for each in holds if each is not None), None)


def in_spite_of(hold: Hold | Unknown, decisions: Iterator[Decision], disk: Disk) -> Decision:
    """The first decision that goes on; where that is to do nothing, a wait that says what is held back.

    The last rule always speaks, and nobody holds back a rest.
    """
    first = next(decisions)
    if not is_held_back(first.action, disk):
        return first
    going_on = next(each for each in decisions if not is_held_back(each.action, disk))
    if not isinstance(going_on.action, Rest | Wait):
        return going_on
    reason = f"whether the operator holds this cluster was never read ({hold})" if isinstance(hold, Unknown) else hold
    undone = f"{type(first.action).__name__} (rule {first.rule}: {first.because})"
    return Decision(Wait(Blocker.HOLD), f"{reason}; held back: {undone}", rule=HOLD)


def is_held_back(action: Action, disk: Disk) -> bool:
    """Whether this is nothing to do while held."""
    match action:
        case AddLearner() | PromoteMember() | RemoveMember() | UpdatePeerUrl() | MoveLeader() | Disarm() | Compact():
            return True
        case CreateGeneration() | WriteClaim() | PutInPlace() | MarkBad() | CompleteHook() | AskToBeReplaced():
            return True
        case CreateAuthority() | ReloadEtcd():
            return True
        case StampIdentity(identity=identity):
            return identity.stage not in (Stage.MEMBER, Stage.FENCED)  # a step of founding or joining
        case StartEtcd():
            return disk.data is not Data.PRESENT  # as a founder, or as a learner: for the first time
        case StopEtcd(why=why):
            return why != "fenced"
        case BeginTask(task=TakeSnapshot(rescued=None) | Drill()):
            return False
        case BeginTask():
            return True
        case Rest() | Wait() | CallHuman() | FileReport() | HeartbeatHook() | WriteFormed():
            return False
        case ExpireSnapshots() | Quarantine() | IssueCertificates():
            return False
        case ProtectFromScaleIn() | PublishRecords() | RegisterTarget() | DeregisterTarget():
            return False
        case _:
            assert_never(action)
