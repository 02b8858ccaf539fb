"""Must hold 3: however the race for generation 1 goes and whoever dies on the way, there is one lineage."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.model.ids import InstanceId
from tests.simulation.agents import Agent
from tests.simulation.disasters import seeds
from tests.simulation.doors import Faults
from tests.simulation.sim import Sim

Begin = Callable[..., Sim]

EFFECTS = range(8)
"""report, record, identity, claim, start, member ID, formed.json: the way of the founder that does it all."""


def the_agent_alone(sim: Sim, name: InstanceId) -> None:
    """Its etcd runs on."""


def the_instance(sim: Sim, name: InstanceId) -> None:
    sim.reboot(name, after=sim.random.uniform(0, 20))


def the_instance_and_its_disk(sim: Sim, name: InstanceId) -> None:
    sim.reboot(name, wipe=True, after=sim.random.uniform(0, 20))


def the_instance_at_its_address(sim: Sim, name: InstanceId) -> None:
    """It comes back with its disk, elsewhere."""
    sim.reboot(name, ip="10.0.9.9", after=sim.random.uniform(0, 20))


Death = Callable[[Sim, InstanceId], None]
DEATHS = (the_agent_alone, the_instance, the_instance_at_its_address, the_instance_and_its_disk)


def will_die(agent: Agent, moment: str, effect: int, death: Death) -> None:
    setattr(agent.faults, f"crash_{moment}", effect)
    agent.at_crash = lambda: death(agent.sim, agent.name)


@pytest.mark.parametrize("seed", range(40))
def test_racing_creators_in_any_weather_write_one_record(begin: Begin, seed: int) -> None:
    sim = begin(seed, 3, interleave=0.4)
    for agent in sim.agents.values():
        agent.faults = Faults(lost_replies=sim.random.choice((0, 0.3, 0.6)), storms=sim.random.choice((0, 0.3, 0.6)))
    sim.run_until(sim.whole, within=120)
    assert len(sim.lineages) == 1
    assert len(sim.born) == 3, "no identity started twice, and none in vain"


@pytest.mark.parametrize("seed", range(5))
def test_when_every_reply_is_lost_the_bucket_says_who_won(begin: Begin, seed: int) -> None:
    sim = begin(seed, 3, interleave=0.4)
    for agent in sim.agents.values():
        agent.faults.lost_replies = 1.0
    sim.run_until(sim.whole, within=60)
    assert len(sim.lineages) == 1


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("effect", EFFECTS)
def test_a_founder_that_dies_at_any_step_resumes_or_rejoins(
    begin: Begin, effect: int, moment: str, death: Death
) -> None:
    for seed in range(3):
        sim = begin(seed, 3, interleave=0.2)
        will_die(sim.agents[sim.live()[seed]], moment, effect, death)
        sim.run_until(sim.whole, within=120)
        assert sim.voters() == sim.live()
        assert len(sim.lineages) == 1


@pytest.mark.parametrize("death", DEATHS[:2])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("effect", EFFECTS)
def test_all_founders_may_die_at_the_same_step(begin: Begin, effect: int, moment: str, death: Death) -> None:
    sim = begin(effect, 3)
    for agent in list(sim.agents.values()):
        will_die(agent, moment, effect, death)
    sim.run_until(sim.whole, within=120)
    assert sim.voters() == sim.live()
    assert len(sim.born) == 3


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("effect", EFFECTS)
def test_a_founder_may_die_again_and_again(begin: Begin, effect: int, moment: str) -> None:
    """Each of its lives ends one effect further on."""
    sim = begin(effect, 3)
    name = sim.live()[0]

    def die_again(deaths: int) -> None:
        if deaths < 6:
            sim.reboot(name)
            agent = sim.agents[name]
            setattr(agent.faults, f"crash_{moment}", deaths % 2)
            agent.at_crash = lambda: die_again(deaths + 1)

    die_again(0)
    sim.run_until(sim.whole, within=180)
    assert len(sim.born) == 3


@pytest.mark.parametrize("seed", seeds(5))
def test_a_founder_that_comes_late_still_starts_under_its_own_name(begin: Begin, seed: int) -> None:
    """Two of three formed; the third had reported, slept, and holds a claim that nobody used."""
    sim = begin(seed, 3)
    late = sim.live()[seed % 3]
    sim.run_until(lambda: any(key == "generations/000001.json" for key in sim.objects), within=30)
    sim.reboot(late, after=200)
    sim.run_until(sim.formed, within=30)
    sim.run_until(sim.whole, within=230)
    assert len(sim.born) == 3


@pytest.mark.parametrize("seed", seeds(5))
def test_a_late_founder_with_another_address_joins_and_never_uses_its_seat_again(begin: Begin, seed: int) -> None:
    """It never claimed; it joined at a new address; wiped and back at the old one it must still not found."""
    sim = begin(seed, 3)
    late = sim.live()[seed % 3]
    home = sim.machines[late].ip
    sim.run_until(lambda: any(key == "generations/000001.json" for key in sim.objects), within=30)
    sim.reboot(late, ip="10.0.9.9", wipe=True)
    sim.run_until(sim.whole, within=60)
    sim.reboot(late, ip=home, wipe=True)
    sim.run(10)
    sim.run_until(sim.whole, within=60)
    assert sim.voters() == sim.live()


@pytest.mark.parametrize("seed", range(5))
def test_a_founder_whose_claim_outlived_its_disk_joins_as_somebody_new(begin: Begin, seed: int) -> None:
    sim = begin(seed, 3)
    sim.run_until(sim.whole, within=30)
    lost = sim.live()[seed % 3]
    old = {each.id for each in sim.current().members.values() if each.name == lost}
    sim.reboot(lost, wipe=True)
    sim.run(3)
    sim.run_until(sim.whole, within=60)
    new = {each.id for each in sim.current().members.values() if each.name == lost}
    assert new
    assert not new & old


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("seed", seeds(2))
def test_old_data_on_one_disk_keeps_the_others_from_founding(begin: Begin, seed: int, restarted: bool) -> None:
    """The bucket was emptied, two of three were replaced: the survivor speaks up, and a human is called."""
    sim = begin(seed, 3)
    sim.run_until(sim.whole, within=30)
    survivor, *lost = sim.live()
    sim.objects.clear()
    sim.promises.written_once.clear()
    for name in lost:
        sim.terminate(name)
        sim.launch()
    if restarted:
        sim.reboot(survivor)
    sim.run(1800)
    assert len(sim.lineages) == 1, "the empty pair would have a quorum, and nobody would see the old data"
    assert sim.agents[survivor].rule == "bucket-behind-disk"
    assert sim.machines[survivor].data is not None
