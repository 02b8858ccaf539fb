"""One round's facts as the rules ask for them: observation, memory and policy, with disk and process known.

House rules of this package: a rule is a function of one `Situation`. It returns a Decision, or None to let
the next rule speak. It reads no clock and changes nothing. Guards first, then the point.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from agent.model.actions import Action, Blocker, Decision, Wait
from agent.model.cluster import Member, Membership
from agent.model.disk import Data, Disk, EtcdProcess, EtcdRunning, Identity
from agent.model.fleet import GOING, Fleet, InstanceState
from agent.model.generation import GenerationRecord
from agent.model.ids import InstanceId
from agent.model.known import Unknown
from agent.model.memory import Memory
from agent.model.observation import Me, Observation
from agent.model.policy import Policy
from agent.model.spot import NOTICE, SpotNotice
from agent.model.work import Ended, Idle, Task, Working

OLD_ENOUGH = timedelta(hours=1)
"""Terminated instances stay in DescribeInstances for about an hour, and a new one may not be there yet."""

LOOKS_ENOUGH = 2

RETRY = timedelta(seconds=2)
RETRY_AT_MOST = timedelta(minutes=1)
"""Between tries of a task that keeps failing: a store that is out for an hour is asked often, and not hammered."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What a rule is given. `disk` and `process` are known: without them no rule is asked."""

    o: Observation
    memory: Memory
    policy: Policy
    disk: Disk
    process: EtcdProcess

    @property
    def me(self) -> Me:
        return self.o.me

    @property
    def identity(self) -> Identity | None:
        return self.disk.identity

    @property
    def running(self) -> bool:
        return isinstance(self.process, EtcdRunning)

    @property
    def holds_data(self) -> bool:
        return self.disk.data is Data.PRESENT

    @property
    def record(self) -> GenerationRecord | None:
        """The newest record we know, whether or not it was asked for in this round; records never change."""
        return self.memory.head if isinstance(self.o.head, Unknown) else self.o.head

    @property
    def fleet_lately(self) -> Fleet | None:
        """A fleet of the last seconds: good for counting who to expect, never for removing anybody."""
        if not isinstance(self.o.fleet, Unknown):
            return self.o.fleet
        read_at, window = self.memory.fleet_read_at, 3 * self.policy.patient_trouble_interval
        return self.memory.fleet if read_at and self.o.now - read_at <= window else None

    @property
    def leaving(self) -> bool:
        """This instance comes to its end, and its disk with it: Auto Scaling terminates it, or EC2 takes it back."""
        return self.let_go or (self.spot is not None and self.spot.takes_the_disk)

    @property
    def hears_of_its_end(self) -> bool:
        """IMDS says so in this very round: the member is changed on that alone."""
        taken = isinstance(self.o.spot, SpotNotice) and self.o.spot.takes_the_disk
        return self.o.lifecycle_target == "Terminated" or taken

    @property
    def spot(self) -> SpotNotice | None:
        """EC2 takes this instance back. What it said before holds while IMDS is silent."""
        return self.memory.spot if isinstance(self.o.spot, Unknown) else self.o.spot

    @property
    def time_left(self) -> timedelta | None:
        """Until EC2 takes this instance, with its disk. None: nobody has set a time.

        By EC2's clock and ours; and never more than the longest notice there is after we heard of it, because ours
        may be wrong. Less than there is costs a wait for others, and nothing that matters.
        """
        if self.spot is None or not self.spot.takes_the_disk:
            return None
        heard = self.memory.spot_since or self.o.now
        return min(self.spot.at, heard + NOTICE) - self.o.now

    @property
    def let_go(self) -> bool:
        """Auto Scaling is terminating this instance; it never takes that back, so what it said before still holds."""
        if isinstance(self.o.lifecycle_target, Unknown):
            return self.memory.leaving_since is not None
        return self.o.leaving

    @property
    def without_a_cluster(self) -> bool:
        """No quorum has answered for longer than an election takes."""
        since = self.memory.no_quorum_since
        if since is None or not isinstance(self.o.membership, Unknown):
            return False
        return self.o.now - since >= self.policy.report_interval

    @property
    def task_is_due(self) -> bool:
        """Whether the next task may begin: none is under way, and the last one's failure is long enough ago."""
        work = self.o.work
        if isinstance(work, Working):
            return False
        if isinstance(work, Idle) or work.trouble is None:
            return True
        doublings = max(0, min(self.memory.failures - 1, 10))
        return self.o.now - work.at >= min(RETRY * 2.0**doublings, RETRY_AT_MOST)

    def refused(self, task: Task) -> str | None:
        """Why this very task can never be done, if that is how it ended just now."""
        work = self.o.work
        if not isinstance(work, Ended) or work.task != task or not work.final:
            return None
        return None if work.trouble is None else work.trouble.detail

    def own_entry(self, membership: Membership) -> Member | None:
        """Our line in the member list: by ID, or by the name under which we were founded."""
        identity = self.identity
        if identity is None:
            return None
        if identity.member_id is not None:
            return membership.find(identity.member_id)
        return next(iter(membership.named(identity.instance)), None)

    def proof_of_end(self, member: Member) -> str | None:
        """Why this member's instance can never come back, or None: everything short of proof is None.

        Read from EC2 in this very round. The instance is shutting down or terminated; or its group reports
        that it terminated it; or EC2 does not know it in two complete looks, although the member is older
        than the time for which EC2 could not yet, or still, know it (AWS: "usually less than an hour").

        What answers lives, whatever EC2 says of the instance it is named after: its volume may have moved.
        An EC2 that does not know this very instance is asked in the wrong account or region.
        """
        fleet = self.o.fleet
        if isinstance(fleet, Unknown) or not member.started or member.name == self.me.instance:
            return None
        instance = fleet.find(member.name)
        if instance is not None and instance.state is InstanceState.SHUTTING_DOWN:
            return f"EC2 says that {instance.id} is {instance.state}"
        if self.o.answers.answered(member.id) or fleet.find(self.me.instance) is None:
            return None
        if instance is not None:
            return f"EC2 says that {instance.id} is {instance.state}" if instance.state in GOING else None
        if member.name in fleet.ended_by_group:
            return f"its Auto Scaling group reports that it terminated {member.name}"
        looks = self.memory.unheard_of.get(_instance(member), 0)
        seen_since = self.memory.seen_since.get(member.id, self.o.now)
        old = self.o.now - seen_since >= OLD_ENOUGH
        if member.name in fleet.unheard_of and looks >= LOOKS_ENOUGH and old:
            return f"EC2 did not know {member.name} in {looks} looks, and the member is older than an hour"
        return None


def _instance(member: Member) -> InstanceId:
    return InstanceId(member.name)


def wait(blocker: Blocker, because: str) -> Decision:
    return Decision(Wait(blocker), because)


def do(action: Action, because: str) -> Decision:
    return Decision(action, because)
