"""What is worth asking for in this round, so that a steady state costs next to nothing.

Own disk, process and etcd are read in every round; beside the leader, the others' status too. What lies
behind AWS is read when something is under way, or when it is due. A decision that needs a fact which was
not asked for stays silent, so a mistake here costs time and never safety.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from agent.decide.draining import SHORT
from agent.decide.recovering import STAY_DOWN
from agent.decide.snapshotting import is_turn, is_up_to_date, newest_of, turn_of
from agent.model.certificates import Issued
from agent.model.cluster import Membership, MemberStatus, quorum_of, voter_target
from agent.model.disk import Data, Disk, EtcdRunning, EtcdStopped, Stage
from agent.model.known import Unknown
from agent.model.memory import CRASHES, Memory, is_settled
from agent.model.observation import Observation
from agent.model.policy import Policy
from agent.model.work import Ended, Working

STILL_THERE = timedelta(days=1)
"""Where nothing is written no snapshot is taken; whether the last one still lies there is looked at once a day."""

HOLD_LOOKS = 3
"""Whether the cluster is held is read anew before each action that a hold would hold back; in between only to be
shown, in every so many looks at the head."""

SHARE_OF_THE_WAIT = 1 / 50
"""Who has waited for a minute looks every 1.2 s, who has waited for ten looks every 12 s: bounded by the policy."""

REBALANCE_EVERY = timedelta(seconds=30)
"""It steers nothing, and a metric is scraped about as often."""


TRUST_EVERY = timedelta(seconds=30)
"""What our etcd trusts changes only with its start."""


class Ask(StrEnum):
    """Fields of the Observation that cost a request to AWS or to other members."""

    HEAD = "head"
    BUCKET = "bucket"
    FLEET = "fleet"
    LIFECYCLE = "lifecycle_target"  # and with it whether EC2 takes a spot instance back
    REBALANCE = "rebalance"
    OTHERS = "others"  # the other members, for the member list
    ASSEMBLY = "reports"  # what the others report, and everything that the proof of a loss needs
    SNAPSHOTS = "snapshots"
    DRILL = "last_drill"
    ALARMS = "alarms"
    HOLD = "hold"
    DNS = "dns"
    AUTHORITIES = "authorities"
    TRUSTING = "trusting"  # a handshake with every member
    TARGETS = "targets"


def worth_asking(near: Observation, memory: Memory, policy: Policy) -> frozenset[Ask]:
    """From what is known without asking anybody else: which other doors to open in this round."""
    wanted = {
        Ask.HEAD: _head_every(near, memory, policy),
        Ask.BUCKET: None if memory.bucket is not None else policy.patient_interval,
        Ask.FLEET: _fleet_every(near, memory, policy),
        Ask.LIFECYCLE: policy.loop_interval if _has_data(near) and not memory.going_since else policy.busy_interval,
        Ask.REBALANCE: REBALANCE_EVERY,
        Ask.OTHERS: timedelta(0) if _needs_others(near) or memory.going_since else None,
        Ask.ASSEMBLY: timedelta(0) if without_a_cluster(near, memory, policy) else None,
        Ask.SNAPSHOTS: _snapshots_every(near, memory, policy),
        Ask.DRILL: _drill_every(near, memory, policy),
        Ask.DNS: _dns_every(near, memory, policy),
        Ask.TARGETS: _targets_every(near, memory, policy),
        Ask.ALARMS: policy.patient_interval if _told_of_alarms(near) else None,
        Ask.HOLD: _hold_every(memory, policy),
        Ask.AUTHORITIES: _authorities_every(near, memory, policy),
        Ask.TRUSTING: _trusting_every(near, memory, policy),
    }
    return frozenset(ask for ask, every in wanted.items() if every is not None and _due(ask, every, near, memory))


def _due(ask: Ask, every: timedelta, near: Observation, memory: Memory) -> bool:
    last = memory.asked_at.get(ask)
    return last is None or near.now - last >= every


def _head_every(near: Observation, memory: Memory, policy: Policy) -> timedelta:
    if _long_without_a_leader(near, memory, policy):
        return timedelta(0)  # it may be proven lost in any round, or replaced already
    told = memory.head is not None and memory.formed is not None  # else somebody waits for us to write formed.json
    if told and (is_settled(near) or is_spare(near, memory)):
        return policy.head_interval
    if isinstance(near.process, EtcdRunning) and not _never_stamped(near):
        return policy.patient_interval  # serving or trying to: a newer head would fence us
    return timedelta(0)  # in every round: the rounds themselves come ever less often


def without_a_cluster(near: Observation, memory: Memory, policy: Policy) -> bool:
    """No quorum for longer than an election takes: time to tell the others, and to hear them."""
    since = memory.no_quorum_since
    if since is None or isinstance(near.membership, Membership):
        return False
    return near.now - since >= policy.report_interval


def _recovering(near: Observation, memory: Memory) -> bool:
    """Proven lost a moment ago: every fact of the proof is wanted again in every round, however long rounds take."""
    at, head = memory.proven_lost_at, memory.head
    if at is None or head is None or head.generation != memory.proven_lost:
        return False
    return near.now - at <= STAY_DOWN


def _snapshots_every(near: Observation, memory: Memory, policy: Policy) -> timedelta | None:
    """A settled voter lists them when, by the last listing and the clock, it may be its turn to take one.

    Whoever is without a cluster lists them in every round.
    """
    if not is_settled(near):
        return timedelta(0) if without_a_cluster(near, memory, policy) else None
    turn = turn_of(near.membership, near.local)
    if turn is None or isinstance(near.work, Working):
        return None
    newest = newest_of(memory.head, memory.snapshots) if memory.head and memory.snapshots else None
    if newest is None or memory.snapshots_read_at is None:
        return policy.patient_interval
    if policy.nospace and _told_of_alarms(near):
        return policy.patient_interval  # what is in a snapshot may be compacted away
    if isinstance(near.work, Ended) and near.work.at > memory.snapshots_read_at:
        return timedelta(0)  # what it made is to be seen, and what it made superfluous
    age = timedelta(seconds=newest.age_seconds) + (near.now - memory.snapshots_read_at)
    if not is_turn(near, memory, policy, age, turn) or is_up_to_date(near.local, memory.manifest, newest):
        return STILL_THERE if turn == 0 else None
    return policy.patient_interval


def _drill_every(near: Observation, memory: Memory, policy: Policy) -> timedelta | None:
    """Whoever is first to take snapshots asks when the last drill was where one is due, as far as it knows."""
    every = policy.drill_interval
    if not every or not memory.snapshots or isinstance(near.work, Working):
        return None
    if not is_settled(near) or turn_of(near.membership, near.local) != 0:
        return None
    last = memory.last_drill_at
    return policy.patient_interval if last is None or near.now - last >= every else None


def _dns_every(near: Observation, memory: Memory, policy: Policy) -> timedelta | None:
    """Beside the leader: whether somebody else has changed what we publish."""
    if policy.dns is None or not near.beside_the_leader or not is_settled(near):
        return None
    return policy.patient_trouble_interval if memory.published is None else policy.groups_interval


def _authorities_every(near: Observation, memory: Memory, policy: Policy) -> timedelta | None:
    """Whose certificates are wanted: seldom while ours are fresh, for whoever changes it can wait."""
    if not policy.issues_certificates:
        return None
    fresh = isinstance(near.issued, Issued) and not near.issued.is_worn(near.now)
    fresh = fresh and isinstance(near.issued, Issued) and near.issued.address == near.me.private_ip
    if not fresh:
        return policy.patient_interval
    return policy.patient_trouble_interval if memory.must_reload else policy.head_interval


def _trusting_every(near: Observation, memory: Memory, policy: Policy) -> timedelta | None:
    """A few milliseconds of handshakes: in every round while a reload is due here, and now and then to find out."""
    if not policy.issues_certificates or not isinstance(near.local, MemberStatus):
        return None
    return timedelta(0) if memory.must_reload else TRUST_EVERY


def _targets_every(near: Observation, memory: Memory, policy: Policy) -> timedelta | None:
    """For itself alone: at once where it begins to serve or to leave, else whether somebody else has changed it."""
    waits = memory.membership is not None and not _has_data(near)
    if not policy.target_groups or not (is_settled(near) or is_spare(near, memory) or waits):
        return None
    ending = memory.spot if memory.spot is not None and memory.spot.takes_the_disk else None
    if ending is not None and ending.at - near.now < SHORT:
        return None
    last, turned = memory.asked_at.get(Ask.TARGETS), (memory.serving_since, memory.going_since)
    if last is not None and any(each is not None and last < each for each in turned):
        return timedelta(0)
    steady = memory.targets is not None and memory.going_since is None
    return policy.groups_interval if steady else policy.patient_trouble_interval


def _told_of_alarms(near: Observation) -> bool:
    """Beside the leader, and etcd's own Status speaks of a full database."""
    status = near.local
    return near.beside_the_leader and isinstance(status, MemberStatus) and any("NOSPACE" in e for e in status.errors)


def _hold_every(memory: Memory, policy: Policy) -> timedelta:
    if isinstance(memory.hold, Unknown):
        return policy.patient_interval
    return HOLD_LOOKS * policy.head_interval if memory.hold is None else policy.patient_trouble_interval


def waiting_interval(o: Observation, memory: Memory, policy: Policy) -> timedelta:
    """Between rounds while something is under way: often at first, and ever less often the longer it takes."""
    since = memory.unsettled_since or memory.going_since
    return growing(since, o.now, policy.busy_interval, policy.patient_interval)


def growing(since: datetime | None, now: datetime, least: timedelta, most: timedelta) -> timedelta:
    """A share of the time that it has taken so far, within bounds."""
    waited = timedelta(0) if since is None else now - since
    return max(least, min(most, waited * SHARE_OF_THE_WAIT))


def _long_without_a_leader(near: Observation, memory: Memory, policy: Policy) -> bool:
    since = memory.leaderless_since
    long = since is not None and near.now - since >= policy.leaderless_grace
    return long and not isinstance(near.membership, Membership)


def _fleet_every(near: Observation, memory: Memory, policy: Policy) -> timedelta | None:
    if _recovering(near, memory):
        return timedelta(0)
    if memory.going_since is not None:
        return _trouble_interval(memory.going_since, near, policy)
    if is_settled(near):
        if memory.fleet is None or memory.arriving:  # a launching hook may wait
            return policy.patient_trouble_interval
        if not near.beside_the_leader:
            return policy.fleet_interval if _may_need_protection(near, memory, policy) else None
        return _troubled(memory, near, policy) or policy.fleet_interval
    if is_spare(near, memory):
        return policy.fleet_interval
    if _restarts_in_place(near) and memory.etcd_short_lives == 0 and not without_a_cluster(near, memory, policy):
        return None  # an etcd that keeps ending may have been removed: those who can tell are where EC2 says
    return _trouble_interval(memory.unsettled_since, near, policy)


def _may_need_protection(near: Observation, memory: Memory, policy: Policy) -> bool:
    """Or needs it no longer: how many are wanted is to be known, and who is leaving."""
    voters = near.membership.voters if isinstance(near.membership, Membership) else ()
    silent = any(not near.answers.answered(each.id) for each in voters)
    return policy.protect_voters and bool(memory.protected or silent or len(voters) - quorum_of(len(voters)) < 1)


def _troubled(memory: Memory, near: Observation, policy: Policy) -> timedelta | None:
    """Beside the leader: somebody does not answer in this very round, so EC2 may know something by now."""
    silent = [memory.silent_since.get(each, near.now) for each in near.answers.of if not near.answers.answered(each)]
    return _trouble_interval(min(silent), near, policy) if silent else None


def _trouble_interval(since: datetime | None, near: Observation, policy: Policy) -> timedelta:
    return growing(since, near.now, policy.trouble_interval, policy.patient_trouble_interval)


def is_spare(near: Observation, memory: Memory) -> bool:
    """A learner that has a leader, in a cluster that has all the voters it wants."""
    if not isinstance(near.local, MemberStatus) or not near.local.is_learner or near.local.leader is None:
        return False
    if memory.membership is None or memory.fleet is None:
        return False
    return len(memory.membership.voters) >= voter_target(memory.fleet.desired_capacity)


def _restarts_in_place(near: Observation) -> bool:
    """Needs nothing of EC2: its data, its address and its generation are its own."""
    if not isinstance(near.disk, Disk) or near.disk.identity is None:
        return False
    moved = near.disk.identity.peer_url != near.me.peer_url
    learner = isinstance(near.local, MemberStatus) and near.local.is_learner
    return near.disk.data is Data.PRESENT and not moved and not learner


def _has_data(near: Observation) -> bool:
    return isinstance(near.disk, Disk) and near.disk.data is Data.PRESENT


def _never_stamped(near: Observation) -> bool:
    stage = near.disk.identity and near.disk.identity.stage if isinstance(near.disk, Disk) else None
    return stage is not Stage.MEMBER


def ails(near: Observation, memory: Memory) -> bool:
    """etcd does not run, and it is time to look for the reason, in its files and around them."""
    if not isinstance(near.process, EtcdStopped) or not _has_data(near):
        return False
    return memory.etcd_short_lives >= CRASHES or memory.etcd_refused


def _needs_others(near: Observation) -> bool:
    """Who cannot read the member list from its own etcd asks the others for it."""
    return not isinstance(near.membership, Membership)
