"""An instance whose etcd cannot run: it makes a new member of itself while the others hold quorum, and only then is
it a case for Auto Scaling or for a human.

    etcd ended soon        what keeps it from running (looked for     the others           step
    after its start        while it is down)
    once                   -                                          -                    back off, start again
    twice or more          the disk is full, a port is taken, no      -                    name it to a human, and start
                           etcd, an older etcd than the data's                             again now and then
    twice or more          the disk fails or is read-only             a quorum without us  ask to be replaced
    twice or more          none; its files are damaged                a quorum without us  remove our own member
    LOOP times or more     none; its files look sound                 a quorum without us  remove our own member
    as either of these     and HEALED_LATELY here already             a quorum without us  ask to be replaced
    twice or more          any of these, and we are leaving           a quorum without us  remove our own member
    as either of these     none; it never told which member it is     a quorum             name it to a human
    as any of these        -                                          no such quorum, or   back off, start again: what
                                                                      not known            is here may be needed

The removal is all there is to healing: the fences do the rest, as for any member that was removed while it was away
(stamp, move the data to quarantine, join as a new learner). A member ID whose data is gone, or is not what it was,
must never come back with an empty log; so the old ID goes first, by the quorum that it is not a part of. Nothing is
lost: whatever was acknowledged is with that quorum, and the data stays in quarantine.

Only lives count that nothing found beside the data explains: what was mended is given its tries. A cause that any
other member here would meet as well is no reason to change the membership: a full disk or a wrong binary on every
instance would otherwise take one member after another out. What cannot be looked for is not absent.
To be replaced is asked for only where the operator wants it (`autoscaling.replace_unhealthy`), else a human is called.
"""

from __future__ import annotations

from datetime import timedelta

from agent.decide.leaving import the_hook_is_due
from agent.decide.removing import quorum_survives_without
from agent.decide.restarting import etcd_start_due_in
from agent.decide.situation import Situation, do
from agent.model.actions import AskToBeReplaced, CallHuman, CompleteHook, Decision, Reason, RemoveMember
from agent.model.cluster import Member, Membership, MemberStatus, is_newer_minor
from agent.model.disk import Obstacle, ObstacleKind, Stage
from agent.model.fleet import Transition
from agent.model.generation import GenerationRecord
from agent.model.known import Unknown
from agent.model.members import Damaged
from agent.model.memory import CRASHES

LOOP = 8
"""Lives in a row that were too short before sound-looking files are held to blame: a minute and a half of back-off."""

HEALED_LATELY = timedelta(hours=1)
"""A second member that does not live here either within this time has not been let down by its data alone."""

ASK_AGAIN = timedelta(minutes=10)
"""Auto Scaling acts on an unhealthy instance within minutes; a call that was lost, or undone, is repeated."""


def let_a_failed_disk_go(s: Situation) -> Decision | None:
    """This instance is leaving, its member is out of the list, and its disk takes no fence: nothing here is needed."""
    obstacle, membership = s.o.obstacle, s.o.membership
    if not s.leaving or s.running or not isinstance(obstacle, Obstacle) or obstacle.kind is not ObstacleKind.DISK:
        return None
    if isinstance(membership, Unknown) or not _is_ours(s, membership) or s.own_entry(membership) is not None:
        return None
    if not the_hook_is_due(s):
        return None
    return do(CompleteHook(Transition.TERMINATING), f"our member is removed, and its disk cannot be used: {obstacle}")


def remove_own_broken_member(s: Situation) -> Decision | None:
    """This member's data does not carry an etcd any more, and the others have a quorum without it."""
    broken, entry = _broken(s), _superfluous_entry(s)
    if s.hears_of_its_end and broken is None:
        broken = _down(s)  # whatever the reason is: it will not come up here any more
    if broken is None or entry is None:
        return None
    if not s.hears_of_its_end and (healed_lately(s) or what_keeps_etcd_down(s) is not None):
        return None
    return do(RemoveMember(entry.id), f"{broken}; the others have a quorum, and {entry} comes back as a new member")


def ask_to_be_replaced(s: Situation) -> Decision | None:
    """This instance is no place for a member: another instance is, and the others do not need what is here."""
    why = _unfit(s)
    if why is None or s.leaving or _superfluous_entry(s) is None:
        return None
    if s.policy.replace_unhealthy:
        asked_at = s.memory.replacement_asked_at
        if asked_at is not None and s.o.now - asked_at < ASK_AGAIN:
            return None
        return do(AskToBeReplaced(), why)
    hint = "replace this instance (terminate it: its group launches another)"
    return _call(s, CallHuman(hint, Reason.UNFIT_INSTANCE), why)


def name_what_keeps_etcd_down(s: Situation) -> Decision | None:
    """What a human can mend and no change of membership can: a new member would meet it, too, or none can be told."""
    obstacle, broken = what_keeps_etcd_down(s), _broken(s)
    unnamed = s.identity is not None and s.identity.member_id is None
    if obstacle is None and broken is not None and unnamed and not isinstance(s.o.membership, Unknown):
        return _call(s, UNNAMED, f"{broken}; and it ended before it told which member it is")
    if obstacle is None or _down(s) is None:
        return None
    return _call(s, CALLS[obstacle.kind], str(obstacle))


UNNAMED = CallHuman(
    "move data/ and identity.json away from etcd.data_root: this instance then joins as a new member",
    Reason.UNNAMED_DATA,
)

CALLS = {
    ObstacleKind.DISK: CallHuman("look at the kernel's log, and replace the instance or its volume", Reason.DISK_FAILS),
    ObstacleKind.FULL: CallHuman(
        "make room on the disk of etcd.data_root (quarantine/ may hold old data), or enlarge it", Reason.DISK_FULL
    ),
    ObstacleKind.PORT: CallHuman("stop whatever listens there, or choose other ports in [etcd]", Reason.PORT_TAKEN),
    ObstacleKind.BINARY: CallHuman(
        "install the etcd that the other members run, or correct etcd.binary", Reason.WRONG_ETCD
    ),
}


def _call(s: Situation, call: CallHuman, why: str) -> Decision | None:
    """Instead of a mere pause between two starts: etcd is still started when it is due."""
    due = etcd_start_due_in(s)
    return do(call, why) if due is not None and due > timedelta(0) else None


def _down(s: Situation) -> str | None:
    lives = s.memory.etcd_short_lives
    if s.running or not s.holds_data or lives < CRASHES:
        return None
    return f"etcd ended {lives} times soon after its start"


def _broken(s: Situation) -> str | None:
    """Why the data is held to blame for an etcd that keeps ending."""
    down, lives = _down(s), s.memory.etcd_unexplained
    if down is None or lives < CRASHES or isinstance(s.o.obstacle, Unknown):
        return None
    if isinstance(s.o.survey, Damaged):
        return f"{down}, and its data is damaged ({s.o.survey.why})"
    return f"{down}, and nothing else keeps it" if lives >= LOOP else None


def _unfit(s: Situation) -> str | None:
    """Why this instance, and not only its data, is held to blame."""
    obstacle = s.o.obstacle
    if s.running or not s.holds_data:
        return None
    if isinstance(obstacle, Obstacle) and obstacle.kind is ObstacleKind.DISK:
        return str(obstacle)
    broken = _broken(s)
    if broken is None or what_keeps_etcd_down(s) is not None or not healed_lately(s):
        return None
    return f"{broken}; it was given up for a new one within the last hour already"


def healed_lately(s: Situation) -> bool:
    """A clock that was set back or forward meanwhile must not keep an instance from healing for long."""
    return any(abs(s.o.now - at) < HEALED_LATELY for at in s.disk.broken_at)


def what_keeps_etcd_down(s: Situation) -> Obstacle | None:
    """What was found by looking at this instance, and an etcd that is too old for data of the others' version."""
    if isinstance(s.o.obstacle, Obstacle):
        return s.o.obstacle
    installed = s.o.etcd_version
    theirs = [each.version for each in s.o.answers.of.values() if isinstance(each, MemberStatus)]
    newer = [each for each in theirs if isinstance(installed, str) and is_newer_minor(each, installed)]
    if not newer or len(newer) < len(theirs):
        return None  # while the others are being upgraded, one of the older version is as good as before
    return Obstacle(ObstacleKind.BINARY, f"etcd {installed} is installed, and the other members run {max(newer)}")


def _superfluous_entry(s: Situation) -> Member | None:
    """Our own line in the list of a quorum that answered just now, and is one without us."""
    identity, membership = s.identity, s.o.membership
    if identity is None or identity.member_id is None or identity.stage is Stage.FENCED:
        return None
    if isinstance(membership, Unknown) or not _is_ours(s, membership) or not _is_of_the_head(s):
        return None
    entry = membership.find(identity.member_id)
    if entry is None or s.o.answers.answered(entry.id):
        return None
    return entry if quorum_survives_without(entry, membership, s.o.answers) else None


def _is_ours(s: Situation, membership: Membership) -> bool:
    return s.identity is not None and membership.cluster_id == s.identity.cluster_id


def _is_of_the_head(s: Situation) -> bool:
    """An older generation's data is fenced, whatever its state is."""
    head, identity = s.record, s.identity
    return isinstance(head, GenerationRecord) and identity is not None and head.generation == identity.generation
