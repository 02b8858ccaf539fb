"""The same questions to EC2 and Auto Scaling (moto's) and to the simulated cloud: whoever differs is wrong, and that is
the simulation.

Everything that decisions depend on: who is in the fleet and in which state, who was asked for and is not known, whose
end is proven, and which answer is none. How the real door meets AWS's own ways: see `test_cloud`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import pytest

from agent.model.faults import Refused, Unavailable
from agent.model.fleet import Fleet, Instance, InstanceState
from agent.model.ids import InstanceId
from agent.model.known import Ignorance
from agent.world.doors import Cloud
from tests.contracts import test_cloud as moto
from tests.contracts.aws_stand_in import Gateway, ec2_error
from tests.contracts.test_cloud import NOBODY, STRANGER, ec2, ids
from tests.simulation.sim import Sim

aws, gateway = moto.aws, moto.gateway
"""moto, and the way to it."""


class Ground(Protocol):
    """A fleet, and what can be done to it and to those who ask for it."""

    def fleet_of(self, *sizes: int) -> list[InstanceId]:
        """Groups of these sizes, and their instances."""
        ...

    def door(self, me: InstanceId) -> Cloud: ...

    def terminate(self, name: InstanceId) -> None: ...

    def stop(self, name: InstanceId) -> None: ...

    def leave_out(self, name: InstanceId) -> None:
        """EC2's listing is without it; asked for by its ID, it is known."""
        ...

    def be_late_with(self, name: InstanceId) -> None:
        """In the next answers EC2 does not know it yet, in no way; its group does."""
        ...

    def was_ended_by_its_group(self, name: InstanceId) -> None:
        """With success, says the group; EC2 has forgotten it."""
        ...

    def leave_the_group(self, names: list[InstanceId]) -> None:
        """They belong to no group, and are found by their tag alone."""
        ...

    def go_down(self) -> None: ...

    def deny(self) -> None: ...

    def talk_nonsense(self) -> None: ...


class Real:
    def __init__(self, ground: moto.Ground) -> None:
        self._moto = ground
        self._all: list[InstanceId] = []

    def fleet_of(self, *sizes: int) -> list[InstanceId]:
        for number, size in enumerate(sizes):
            self._all += self._moto.group(f"g{number}", size)
        return list(self._all)

    def door(self, me: InstanceId) -> Cloud:
        return self._moto.door(me)

    def terminate(self, name: InstanceId) -> None:
        ec2().terminate_instances(InstanceIds=[name])

    def stop(self, name: InstanceId) -> None:
        ec2().stop_instances(InstanceIds=[name])

    def leave_out(self, name: InstanceId) -> None:
        self._moto.gateway.spoil("Action=DescribeInstances", 200, self._without(name))

    def be_late_with(self, name: InstanceId) -> None:
        self.leave_out(name)
        self._moto.gateway.spoil("Action=DescribeInstances", 200, moto._described([], state="running"))

    def _without(self, name: InstanceId) -> bytes:
        return moto._described([each for each in self._all if each != name], state="running")

    def was_ended_by_its_group(self, name: InstanceId) -> None:
        said = moto._activities(f"Terminating EC2 instance: {name}", "Successful")
        self._moto.gateway.spoil("Action=DescribeScalingActivities", 200, said)

    def leave_the_group(self, names: list[InstanceId]) -> None:
        ec2().delete_tags(Resources=names, Tags=[{"Key": "aws:autoscaling:groupName"}])
        self._moto.gateway.spoil("Action=DescribeAutoScalingGroups", 200, moto._no_groups(), times=9)

    def go_down(self) -> None:
        self._moto.gateway.spoil(".", 503, ec2_error("Unavailable"), times=1000)

    def deny(self) -> None:
        self._moto.gateway.spoil(".", 403, ec2_error("UnauthorizedOperation"), times=1000)

    def talk_nonsense(self) -> None:
        self._moto.gateway.spoil(".", 200, b"<html>hello</html>", times=1000)


class Simulated:
    def __init__(self) -> None:
        self._sim = Sim(0, 0, interleave=0.0)

    def fleet_of(self, *sizes: int) -> list[InstanceId]:
        self._sim = Sim(0, sum(sizes), groups=len(sizes), interleave=0.0)
        return self._sim.live()

    def door(self, me: InstanceId) -> Cloud:
        return self._sim.agents[me].cloud

    def terminate(self, name: InstanceId) -> None:
        self._sim.terminate(name)

    def stop(self, name: InstanceId) -> None:
        self._sim.stop(name)

    def leave_out(self, name: InstanceId) -> None:
        for agent in self._sim.agents.values():
            agent.cloud.unlisted.add(name)

    def be_late_with(self, name: InstanceId) -> None:
        for agent in self._sim.agents.values():
            agent.cloud.hidden.add(name)

    def was_ended_by_its_group(self, name: InstanceId) -> None:
        self._sim.ended_by_group.add(name)

    def leave_the_group(self, names: list[InstanceId]) -> None:
        for name in names:
            self._sim.agents[name].cloud.groups_unseen = True

    def go_down(self) -> None:
        for agent in self._sim.agents.values():
            agent.faults.down.add("ec2")

    def deny(self) -> None:
        for agent in self._sim.agents.values():
            agent.faults.refuse.add("ec2")

    def talk_nonsense(self) -> None:
        for agent in self._sim.agents.values():
            agent.faults.garbled.add("ec2")


@pytest.fixture(params=["real", "simulated"])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    if request.param == "simulated":
        yield Simulated()
        return
    way: Gateway = request.getfixturevalue("gateway")
    way.clear()
    yield Real(moto.Ground(request.getfixturevalue("aws"), next(moto.names), way))
    way.clear()


def found(fleet: Fleet, name: InstanceId) -> Instance:
    instance = fleet.find(name)
    assert instance is not None
    return instance


# ---- who is in the fleet


def test_everybody_is_told_with_address_zone_and_group(ground: Ground) -> None:
    everybody = ground.fleet_of(3)
    fleet = ground.door(everybody[0]).fleet(NOBODY, True)
    assert ids(fleet) == everybody
    assert (fleet.unheard_of, fleet.ended_by_group) == (frozenset(), frozenset())
    assert fleet.desired_capacity == 3
    (group,) = fleet.groups
    for each in fleet.instances:
        assert each.state is InstanceState.RUNNING
        assert each.live
        assert (each.group, each.lifecycle) == (group.name, "InService")
        assert each.private_ip
        assert each.zone
        assert each.launched_at.tzinfo is not None
    assert len({each.private_ip for each in fleet.instances}) == 3


def test_several_groups_are_one_fleet(ground: Ground) -> None:
    everybody = ground.fleet_of(1, 1, 1)
    fleet = ground.door(everybody[0]).fleet(NOBODY, True)
    assert ids(fleet) == sorted(everybody)
    assert [each.desired_capacity for each in fleet.groups] == [1, 1, 1]
    assert fleet.desired_capacity == 3


def test_whoever_belongs_to_no_group_is_found_by_tag_and_nobody_is_wanted(ground: Ground) -> None:
    everybody = ground.fleet_of(2)
    door = ground.door(everybody[0])
    ground.leave_the_group(everybody)
    fleet = door.fleet(NOBODY, True)
    assert ids(fleet) == everybody
    assert fleet.groups == ()
    assert {(each.group, each.lifecycle) for each in fleet.instances} == {(None, None)}


def test_a_terminated_instance_is_still_listed_as_such(ground: Ground) -> None:
    me, gone, _ = ground.fleet_of(3)
    ground.terminate(gone)
    instance = found(ground.door(me).fleet(frozenset({gone}), True), gone)
    assert instance.state is InstanceState.TERMINATED
    assert not instance.live


def test_a_stopped_instance_is_one_that_lives(ground: Ground) -> None:
    me, stopped, _ = ground.fleet_of(3)
    ground.stop(stopped)
    fleet = ground.door(me).fleet(frozenset({stopped}), True)
    instance = found(fleet, stopped)
    assert instance.state is InstanceState.STOPPED
    assert instance.live
    assert instance.private_ip
    assert fleet.unheard_of == frozenset()


# ---- who is asked for by ID


def test_an_id_that_nobody_knows_is_unheard_of(ground: Ground) -> None:
    everybody = ground.fleet_of(2)
    fleet = ground.door(everybody[0]).fleet(frozenset({*everybody, STRANGER}), False)
    assert ids(fleet) == everybody
    assert fleet.unheard_of == {STRANGER}
    assert fleet.ended_by_group == frozenset()


def test_whom_its_group_has_ended_is_proven_to_have_ended(ground: Ground) -> None:
    everybody = ground.fleet_of(2)
    door = ground.door(everybody[0])
    ground.was_ended_by_its_group(STRANGER)
    fleet = door.fleet(frozenset({STRANGER}), False)
    assert fleet.unheard_of == fleet.ended_by_group == {STRANGER}


def test_whom_ec2_knows_was_not_ended_by_anybody(ground: Ground) -> None:
    everybody = ground.fleet_of(2)
    door = ground.door(everybody[0])
    ground.was_ended_by_its_group(everybody[1])
    fleet = door.fleet(frozenset(everybody), False)
    assert (fleet.unheard_of, fleet.ended_by_group) == (frozenset(), frozenset())


@pytest.mark.parametrize("name", ["etcd1", "", "i-", "i-xyz", "ip-10-0-0-1"])
def test_of_a_name_that_is_no_instance_id_nothing_is_said(ground: Ground, name: str) -> None:
    everybody = ground.fleet_of(2)
    assert ground.door(everybody[0]).fleet(frozenset({InstanceId(name)}), False).unheard_of == frozenset()


def test_whom_the_listing_left_out_is_found_by_its_id(ground: Ground) -> None:
    me, other, left_out = ground.fleet_of(3)
    door = ground.door(me)
    ground.leave_out(left_out)
    fleet = door.fleet(frozenset({me, other, left_out}), False)
    assert ids(fleet) == [me, other, left_out]
    assert fleet.unheard_of == frozenset()


def test_whom_only_its_group_knows_is_neither_listed_nor_unheard_of(ground: Ground) -> None:
    me, other, late = ground.fleet_of(3)
    door = ground.door(me)
    ground.be_late_with(late)
    fleet = door.fleet(frozenset({me, other, late}), False)
    assert ids(fleet) == [me, other]
    assert fleet.unheard_of == frozenset()


# ---- answers that are none


def test_a_listing_without_the_asker_is_no_answer(ground: Ground) -> None:
    me, _ = ground.fleet_of(2)
    door = ground.door(me)
    ground.leave_out(me)
    assert ignorance(door) is Ignorance.MALFORMED


def test_nonsense_is_no_empty_fleet(ground: Ground) -> None:
    me, _ = ground.fleet_of(2)
    door = ground.door(me)
    ground.talk_nonsense()
    assert ignorance(door) is Ignorance.MALFORMED


def test_an_outage_is_no_empty_fleet(ground: Ground) -> None:
    me, _ = ground.fleet_of(2)
    door = ground.door(me)
    ground.go_down()
    assert ignorance(door) in {Ignorance.FAILED, Ignorance.TIMEOUT}


def ignorance(door: Cloud) -> Ignorance:
    with pytest.raises(Unavailable) as caught:
        door.fleet(frozenset({STRANGER}), True)
    return caught.value.unknown.why


def test_a_denial_is_a_definite_no(ground: Ground) -> None:
    me, _ = ground.fleet_of(2)
    door = ground.door(me)
    ground.deny()
    with pytest.raises(Refused):
        door.fleet(NOBODY, True)


WAYS: dict[str, Callable[[Ground, InstanceId], None]] = {
    "terminated": lambda ground, name: ground.terminate(name),
    "stopped": lambda ground, name: ground.stop(name),
}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_happens_to_one_the_others_are_told_as_they_are(ground: Ground, way: str) -> None:
    me, other, harmed = ground.fleet_of(3)
    WAYS[way](ground, harmed)
    fleet = ground.door(me).fleet(NOBODY, True)
    assert [found(fleet, each).state for each in (me, other)] == [InstanceState.RUNNING] * 2
