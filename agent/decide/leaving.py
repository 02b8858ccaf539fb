"""This instance is being terminated: its member steps out while the others serve, and nothing is lost with it.

Auto Scaling says so in IMDS (`autoscaling/target-lifecycle-state` is `Terminated`), and a terminating hook makes it
wait. Or EC2 says there that it takes a spot instance back (`spot/instance-action`: `terminate`), and nothing makes it
wait. A stopped agent or a reboot is no leaving: only those words are.

    our member                    the others                 step
    a learner                     a quorum answers           remove it
    leads                         a quorum, and one stays    hand the lead to the one that has applied most
    leads                         all of them leave, too     wait until they have left
    a voter                       a spare in sync            wait for it to take the vote, for SPARE_PATIENCE at most;
                                                             where only we know that we leave: give it the vote
    a voter                       a quorum without us        remove it
    a voter                       no quorum without us       wait: while we live, they have one
    the only voter                somebody is wanted         wait for another; LAST_SAVE before EC2 takes us: as with 0
    the only voter                nobody is wanted (0)       stop etcd, put its whole log into the bucket
    its log is in the bucket      no quorum                  complete the hook: whoever comes next restores it
    less than a snapshot has      its loss is proven         complete the hook, where nobody stays who could found
    gone (fenced, never joined)   -                          complete the hook

While that takes time the hook is kept from timing out. An instance that holds data which others need, or may need,
never completes its hook: that is given up last, by AWS, when the hook's own limits end (48 h or 100 heartbeats).
Where only EC2 takes the instance there is no hook: nothing is heartbeated or completed, and the same steps are taken.

EC2's notice sets a time. As it runs out this is given up, in this order; what is left is done at once:

    time left                     given up
    10 s (SPARE_NEEDS)            that a spare has the vote before we go: it takes it afterwards
    10 s (SPARE_NEEDS)            that the lead goes to one that stays: it goes to one that leaves later than we do
    45 s (LAST_SAVE)              that the only voter serves: what it acknowledged is put into the bucket instead
    0                             our own removal, if it was not done: the leader's agent does it, once EC2 says so
    never                         the quorum of the others: where they have none without us, we serve until the end

With 5 s left a leader first hands its lead over (0.3 s; an election would take 1 to 2 s), and then removes itself.

An instance that is stopped or hibernated by EC2 keeps its disk. It stays a member, and only does not lead meanwhile. A
rebalance recommendation changes nothing: a group with capacity rebalancing launches another instance, and terminates
this one by its hook; without it the instance may well live for days. It is a metric, and shown by `status`.
"""

from __future__ import annotations

from datetime import timedelta

from agent.decide.holding import hold_on
from agent.decide.removing import quorum_survives_without
from agent.decide.situation import Situation, do, wait
from agent.model.actions import (
    BeginTask,
    Blocker,
    CompleteHook,
    Decision,
    HeartbeatHook,
    MoveLeader,
    PromoteMember,
    RemoveMember,
    StopEtcd,
)
from agent.model.cluster import Member, Membership, MemberStatus
from agent.model.disk import Stage
from agent.model.fleet import Fleet, Transition
from agent.model.hold import Hold
from agent.model.known import Unknown
from agent.model.members import Survey
from agent.model.snapshot import Manifest, Rescued
from agent.model.spot import NOTICE, SpotNotice
from agent.model.work import Ended, RescueLog

HEARTBEAT_EVERY = timedelta(seconds=20)
"""Auto Scaling's shortest heartbeat timeout is 30 s (PutLifecycleHook)."""

FIRST_HEARTBEAT = timedelta(seconds=5)
"""An agent that was just started cannot know when the one before it sent the last one."""

SPARE_PATIENCE = timedelta(seconds=30)
"""A spare looks at the fleet when it is due; a spot notice leaves two minutes."""

SPARE_NEEDS = timedelta(seconds=10)
"""A promotion, and another round for what comes after it. With less time left than that, nobody waits for others."""

LAST_SAVE = timedelta(seconds=45)
"""To stop etcd, make its log a snapshot and upload it. etcd alone takes 11 to 14 s to start with a gigabyte; earlier
means more time without a cluster for a small database, later that a large one is not saved."""

READY = 0.9
"""etcd's `readyPercent`: below this share of the leader's index it refuses to promote."""

A_LOOK = timedelta(seconds=5)
"""For the fleet to be read: who else leaves is not known in the round in which we hear that we do."""

COMPLETE_EVERY = timedelta(seconds=20)
"""IMDS tells of the end before the hook begins to wait, and a hook that does not wait yet cannot be completed. Below
Auto Scaling's shortest timeout, as the heartbeats are."""


def keep_the_hook(s: Situation) -> Decision | None:
    """Leaving takes longer than a moment: tell Auto Scaling that it goes on."""
    since = s.memory.leaving_since
    if since is None:
        return _keep_a_held_launch(s)
    if Transition.TERMINATING in s.memory.completed:
        return None
    beaten = s.memory.heartbeat_at
    due = since + FIRST_HEARTBEAT if beaten is None or beaten < since else beaten + HEARTBEAT_EVERY
    if s.o.now < due:
        return None
    return do(HeartbeatHook(), f"this instance has been leaving since {since:%X}, and is not done")


def _keep_a_held_launch(s: Situation) -> Decision | None:
    """Nobody is let in while the cluster is held, and an instance whose launching hook times out is terminated."""
    hold, last = hold_on(s.o, s.memory), s.memory.heartbeat_at
    if not s.memory.arriving or not isinstance(hold, Hold) or Transition.LAUNCHING in s.memory.completed:
        return None
    if last is not None and s.o.now - last < HEARTBEAT_EVERY:
        return None
    return do(HeartbeatHook(Transition.LAUNCHING), f"this instance is not let in yet: {hold}")


def leave_what_is_saved(s: Situation) -> Decision | None:
    """No quorum answers, and all that this disk holds is a verified snapshot in the bucket."""
    if not s.leaving or not isinstance(s.o.membership, Unknown) or _is_made(s) is None:
        return None
    return _complete(s, "all that this disk holds is in the bucket")


def save_the_last_log(s: Situation) -> Decision | None:
    """The only voter of a fleet that goes to zero, or that EC2 takes, was stopped: its whole log becomes a snapshot."""
    identity, survey = s.identity, s.o.survey
    if not s.leaving or identity is None or identity.stage is Stage.FENCED or not s.holds_data or s.running:
        return None
    if not (_goes_to_zero(s) or _ends_soon(s)) or not isinstance(s.o.membership, Unknown):
        return None
    if not isinstance(survey, Survey):
        return wait(Blocker.RESCUE, f"the last voter, and this instance ends; its log is {survey}")
    if [each.id for each in survey.members if not each.is_learner] != [survey.member_id]:
        return None
    if not s.task_is_due:
        trouble = s.o.work.trouble if isinstance(s.o.work, Ended) else "another task is not over"
        return wait(Blocker.RESCUE, f"the last voter's log could not be saved yet: {trouble}")
    rescued = Rescued(s.me.instance, survey.member_id, survey.position)
    return do(BeginTask(RescueLog(identity.generation, rescued)), "the last voter, and this instance ends")


def leave(s: Situation) -> Decision | None:
    """Step out of a cluster that serves, and let the instance go once nothing depends on it."""
    if not s.leaving:
        return None
    if s.let_go and Transition.TERMINATING in s.memory.completed:
        return _complete(s, "nothing here is needed any more")
    if not s.running and not s.holds_data:
        return _complete(s, "no member lives here (any more)")
    membership = s.o.membership
    if isinstance(membership, Unknown):
        return None
    entry = s.own_entry(membership)
    if entry is None:
        return wait(Blocker.LEAVING, "our member is removed, and its etcd is about to end")
    if not s.hears_of_its_end:
        return wait(Blocker.IGNORANCE, "this instance was leaving when IMDS last answered, and it does not answer now")
    return _step_out(s, entry, membership)


def step_aside(s: Situation) -> Decision | None:
    """EC2 stops or hibernates this spot instance: its member comes back, and need not lead until then.

    Once a notice: of two that are told the same, each would give the lead back to the other.
    """
    notice, lately = s.o.spot, s.memory.handed_over_at
    if not isinstance(notice, SpotNotice) or s.leaving:
        return None
    if not s.o.beside_the_leader or isinstance(s.o.membership, Unknown):
        return None
    if lately is not None and s.o.now - lately < NOTICE:
        return None
    others = [each for each in s.o.membership.voters if each != s.own_entry(s.o.membership)]
    best = _best_to_lead(s, others)
    if best is None:
        return None
    return do(MoveLeader(best.id), f"EC2 is about to {notice.action} this instance, and it leads: {best} is to")


def arrive(s: Situation) -> Decision | None:
    """A launching hook ends once this instance is a voter, or a spare in sync: a refresh cannot outrun the quorum.

    On the way into a warm pool it is to be no member, and its hook ends at once.
    """
    fleet, membership = s.memory.fleet, s.o.membership
    here = None if fleet is None else fleet.find(s.me.instance)
    if here is None or _was_just_completed(s, Transition.LAUNCHING):
        return None
    if here.lifecycle == "Warmed:Pending:Wait" and not s.holds_data:
        return do(CompleteHook(Transition.LAUNCHING), "this instance goes to a warm pool: it joins nothing yet")
    if here.lifecycle != "Pending:Wait" or isinstance(membership, Unknown) or not s.running:
        return None
    entry = s.own_entry(membership)
    if entry is None or not isinstance(s.o.local, MemberStatus) or s.o.local.leader is None:
        return None
    if entry.is_learner and not _is_in_sync(s.o.local):
        return None
    return do(CompleteHook(Transition.LAUNCHING), f"{entry} serves")


def _complete(s: Situation, because: str) -> Decision:
    if the_hook_is_due(s):
        return do(CompleteHook(Transition.TERMINATING), because)
    return wait(Blocker.LEAVING, f"{because}: {'Auto Scaling may end' if s.let_go else 'EC2 may take'} this instance")


def the_hook_is_due(s: Situation) -> bool:
    """Auto Scaling waits for our word, or may not have begun to: it is said again while the instance lives."""
    return s.let_go and not _was_just_completed(s, Transition.TERMINATING)


def _was_just_completed(s: Situation, transition: Transition) -> bool:
    at = s.memory.completed.get(transition)
    return at is not None and s.o.now - at < COMPLETE_EVERY


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
    if spare is not None and s.let_go:
        return wait(Blocker.LEAVING, f"{spare} is in sync, and is to take this vote")
    if spare is not None:
        return do(PromoteMember(spare.id), f"{spare} is in sync, and takes this vote: EC2 takes this instance")
    return do(RemoveMember(entry.id), "this instance is leaving, and the others have a quorum without it")


def _alone(s: Situation, membership: Membership) -> Decision:
    if _ends_soon(s):
        return do(StopEtcd("leave"), f"the only voter, and EC2 takes this instance in {s.time_left}: its log is saved")
    if not s.let_go or not _goes_to_zero(s):
        return wait(Blocker.LEAVING, "the only voter: it leaves when there is another")
    if membership.learners:
        return wait(Blocker.LEAVING, "the only voter of a fleet that goes to zero: its learners leave first")
    return do(StopEtcd("leave"), "the last voter of a fleet that goes to zero: nothing is written after its snapshot")


def _hand_over(s: Situation, others: list[Member]) -> Decision:
    """The lead goes to one that stays. Two who leave would hand it to each other for ever."""
    if _has_just_heard(s) and not _in_a_hurry(s):
        return wait(Blocker.IGNORANCE, "this instance leads, and who else leaves is not known yet")
    best = _best_to_lead(s, others)
    if best is None:
        return wait(Blocker.LEAVING, "this instance leads, and leaves after the others that are leaving, too")
    return do(MoveLeader(best.id), f"this instance is leaving, and leads: {best} is to")


def _best_to_lead(s: Situation, others: list[Member]) -> Member | None:
    """Of those that answer and stay, who has applied most; in a hurry, of those that leave, too."""
    fleet, hurried = s.fleet_lately, _in_a_hurry(s)
    applied = {
        each: said.applied_index for each in others if isinstance(said := s.o.answers.of.get(each.id), MemberStatus)
    }
    stay = [each for each in applied if hurried or fleet is None or not _leaves(fleet, each)]
    return max(stay, key=lambda each: (applied[each], -each.id), default=None)


def _leaves(fleet: Fleet, member: Member) -> bool:
    found = fleet.find(member.name)
    return found is not None and found.leaving


def _spare_in_sync(s: Situation, membership: Membership) -> Member | None:
    since = s.memory.going_since
    if since is None or s.o.now - since >= SPARE_PATIENCE or _in_a_hurry(s):
        return None
    fleet = s.fleet_lately
    stay = [each for each in membership.learners if fleet is None or not _leaves(fleet, each)]
    statuses = ((each, s.o.answers.of.get(each.id)) for each in stay)
    return next((each for each, said in statuses if isinstance(said, MemberStatus) and _is_promotable(said)), None)


def _has_just_heard(s: Situation) -> bool:
    """And has not read the fleet since then: whoever leaves with us may have been told in the same moment."""
    since, read_at = s.memory.going_since, s.memory.fleet_read_at
    looked = since is None or (read_at is not None and read_at >= since)
    return not looked and since is not None and s.o.now - since < A_LOOK


def _in_a_hurry(s: Situation) -> bool:
    return s.time_left is not None and s.time_left <= SPARE_NEEDS


def _ends_soon(s: Situation) -> bool:
    """EC2 takes this instance, and what it holds must be in the bucket by then."""
    return s.time_left is not None and s.time_left <= LAST_SAVE


def _is_in_sync(status: MemberStatus) -> bool:
    return status.leader is not None and status.applied_index >= status.committed_index


def _is_promotable(status: MemberStatus) -> bool:
    """By etcd's own measure. Under load a spare is always some entries behind: in sync to the last is luck."""
    return status.leader is not None and status.applied_index >= READY * status.committed_index


def _goes_to_zero(s: Situation) -> bool:
    fleet = s.fleet_lately
    return fleet is not None and bool(fleet.groups) and fleet.desired_capacity == 0


def _is_made(s: Situation) -> Manifest | None:
    """The newest snapshot, if it was made of the very log that this disk holds."""
    survey, manifest = s.o.survey, s.o.manifest
    if not isinstance(survey, Survey) or not isinstance(manifest, Manifest):
        return None
    return manifest if manifest.rescued == Rescued(s.me.instance, survey.member_id, survey.position) else None
