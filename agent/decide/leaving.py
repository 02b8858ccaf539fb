"""This instance is being terminated: its member steps out while the others serve, and nothing is lost with it.

Auto Scaling says so in IMDS (`autoscaling/target-lifecycle-state` is `Terminated`), and a terminating hook makes it
wait. A stopped agent or a reboot is no leaving: only that word is.

    our member                    the others                 step
    a learner                     a quorum answers           remove it
    leads                         a quorum, and one stays    hand the lead to the one that has applied most
    leads                         all of them leave, too     wait until they have left
    a voter                       a spare in sync            wait for it to take the vote, for SPARE_PATIENCE at most
    a voter                       a quorum without us        remove it
    a voter                       no quorum without us       wait: while we live, they have one
    the only voter                somebody is wanted         wait for another
    the only voter                nobody is wanted (0)       stop etcd, put its whole log into the bucket
    its log is in the bucket      no quorum                  complete the hook: whoever comes next restores it
    less than a snapshot has      its loss is proven         complete the hook, where nobody stays who could found
    gone (fenced, never joined)   -                          complete the hook

While that takes time the hook is kept from timing out. An instance that holds data which others need, or may need,
never completes its hook: that is given up last, by AWS, when the hook's own limits end (48 h or 100 heartbeats).
"""

from __future__ import annotations

from datetime import timedelta

from agent.decide.removing import quorum_survives_without
from agent.decide.situation import Situation, do, wait
from agent.model.actions import (
    BeginTask,
    Blocker,
    CompleteHook,
    Decision,
    HeartbeatHook,
    MoveLeader,
    RemoveMember,
    StopEtcd,
)
from agent.model.cluster import Member, Membership, MemberStatus
from agent.model.disk import Stage
from agent.model.fleet import Fleet, Transition
from agent.model.known import Unknown
from agent.model.members import Survey
from agent.model.snapshot import Manifest, Rescued
from agent.model.work import Ended, RescueLog

HEARTBEAT_EVERY = timedelta(seconds=20)
"""Auto Scaling's shortest heartbeat timeout is 30 s (PutLifecycleHook)."""

SPARE_PATIENCE = timedelta(seconds=30)
"""A spare looks at the fleet when it is due; a spot notice leaves two minutes."""


def keep_the_hook(s: Situation) -> Decision | None:
    """Leaving takes longer than a moment: tell Auto Scaling that it goes on."""
    since = s.memory.leaving_since
    if since is None or Transition.TERMINATING in s.memory.completed:
        return None
    if s.o.now - max(since, s.memory.heartbeat_at or since) < HEARTBEAT_EVERY:
        return None
    return do(HeartbeatHook(), f"this instance has been leaving since {since:%X}, and is not done")


def leave_what_is_saved(s: Situation) -> Decision | None:
    """No quorum answers, and all that this disk holds is a verified snapshot in the bucket."""
    if not s.leaving or not isinstance(s.o.membership, Unknown) or _is_made(s) is None:
        return None
    return _complete(s, "all that this disk holds is in the bucket")


def save_the_last_log(s: Situation) -> Decision | None:
    """The only voter of a fleet that goes to zero was stopped: its whole log becomes a snapshot."""
    identity, survey = s.identity, s.o.survey
    if not s.leaving or identity is None or identity.stage is Stage.FENCED or not s.holds_data or s.running:
        return None
    if not _goes_to_zero(s) or not isinstance(s.o.membership, Unknown):
        return None
    if not isinstance(survey, Survey):
        return wait(Blocker.RESCUE, f"the last voter of a fleet that goes to zero; its log is {survey}")
    if [each.id for each in survey.members if not each.is_learner] != [survey.member_id]:
        return None
    if not s.task_is_due:
        trouble = s.o.work.trouble if isinstance(s.o.work, Ended) else "another task is not over"
        return wait(Blocker.RESCUE, f"the last voter's log could not be saved yet: {trouble}")
    rescued = Rescued(s.me.instance, survey.member_id, survey.position)
    return do(BeginTask(RescueLog(identity.generation, rescued)), "the last voter of a fleet that goes to zero")


def leave(s: Situation) -> Decision | None:
    """Step out of a cluster that serves, and let the instance go once nothing depends on it."""
    if not s.leaving:
        return None
    if Transition.TERMINATING in s.memory.completed:
        return wait(Blocker.LEAVING, "nothing here is needed any more: Auto Scaling may end this instance")
    if not s.running and not s.holds_data:
        return _complete(s, "no member lives here (any more)")
    membership = s.o.membership
    if isinstance(membership, Unknown):
        return None
    entry = s.own_entry(membership)
    if entry is None:
        return wait(Blocker.LEAVING, "our member is removed, and its etcd is about to end")
    return _step_out(s, entry, membership)


def arrive(s: Situation) -> Decision | None:
    """A launching hook ends once this instance is a voter, or a spare in sync: a refresh cannot outrun the quorum."""
    fleet, membership = s.memory.fleet, s.o.membership
    if fleet is None or Transition.LAUNCHING in s.memory.completed or not s.running:
        return None
    here = fleet.find(s.me.instance)
    if here is None or here.lifecycle != "Pending:Wait" or isinstance(membership, Unknown):
        return None
    entry = s.own_entry(membership)
    if entry is None or not isinstance(s.o.local, MemberStatus) or s.o.local.leader is None:
        return None
    if entry.is_learner and not _is_in_sync(s.o.local):
        return None
    return do(CompleteHook(Transition.LAUNCHING), f"{entry} serves")


def _complete(s: Situation, because: str) -> Decision | None:
    if Transition.TERMINATING in s.memory.completed:
        return wait(Blocker.LEAVING, f"{because}: Auto Scaling may end this instance")
    return do(CompleteHook(Transition.TERMINATING), because)


def _step_out(s: Situation, entry: Member, membership: Membership) -> Decision:
    if entry.is_learner:
        return do(RemoveMember(entry.id), "this instance is leaving, and its member has no vote")
    others = [each for each in membership.voters if each.id != entry.id]
    if not others:
        return _alone(s, membership)
    if not quorum_survives_without(entry, membership, s.o.answers):
        return wait(Blocker.LEAVING, f"without us no quorum of the other {len(others)} voters answers")
    if s.o.beside_the_leader:
        return _hand_over(s, others)
    spare = _spare_in_sync(s, membership)
    if spare is not None:
        return wait(Blocker.LEAVING, f"{spare} is in sync, and is to take this vote")
    return do(RemoveMember(entry.id), "this instance is leaving, and the others have a quorum without it")


def _alone(s: Situation, membership: Membership) -> Decision:
    if not _goes_to_zero(s):
        return wait(Blocker.LEAVING, "the only voter: it leaves when there is another")
    if membership.learners:
        return wait(Blocker.LEAVING, "the only voter of a fleet that goes to zero: its learners leave first")
    return do(StopEtcd("leave"), "the last voter of a fleet that goes to zero: nothing is written after its snapshot")


def _hand_over(s: Situation, others: list[Member]) -> Decision:
    """The lead goes to whoever stays and has applied most. Two who leave would hand it to each other for ever."""
    fleet = s.fleet_lately
    applied = {
        each: said.applied_index for each in others if isinstance(said := s.o.answers.of.get(each.id), MemberStatus)
    }
    stay = [each for each in applied if fleet is None or not _leaves(fleet, each)]
    if not stay:
        return wait(Blocker.LEAVING, "this instance leads, and leaves after the others that are leaving, too")
    best = max(stay, key=lambda each: (applied[each], -each.id))
    return do(MoveLeader(best.id), f"this instance is leaving, and leads: {best} is to")


def _leaves(fleet: Fleet, member: Member) -> bool:
    found = fleet.find(member.name)
    return found is not None and found.leaving


def _spare_in_sync(s: Situation, membership: Membership) -> Member | None:
    since = s.memory.leaving_since
    if since is None or s.o.now - since >= SPARE_PATIENCE:
        return None
    statuses = ((each, s.o.answers.of.get(each.id)) for each in membership.learners)
    return next((each for each, said in statuses if isinstance(said, MemberStatus) and _is_in_sync(said)), None)


def _is_in_sync(status: MemberStatus) -> bool:
    return status.leader is not None and status.applied_index >= status.committed_index


def _goes_to_zero(s: Situation) -> bool:
    fleet = s.fleet_lately
    return fleet is not None and bool(fleet.groups) and fleet.desired_capacity == 0


def _is_made(s: Situation) -> Manifest | None:
    """The newest snapshot, if it was made of the very log that this disk holds."""
    survey, manifest = s.o.survey, s.o.manifest
    if not isinstance(survey, Survey) or not isinstance(manifest, Manifest):
        return None
    return manifest if manifest.rescued == Rescued(s.me.instance, survey.member_id, survey.position) else None
