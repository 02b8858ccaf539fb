"""Cases of certificates that run out everywhere at once, in use, until an operator renews them.

Both ports of every member, and its agent: etcd reads its files anew for every handshake, and looks at no certificate
afterwards. So what is connected stays so, streams between peers among them, and nobody new gets in: neither a client,
nor a peer that was away, nor an agent that was restarted.

The clients' own certificate is valid throughout: they are the ones who refuse, as no client should take an expired
certificate. They dial for every request; a case's RTO holds all the time in which that is in vain.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from http.client import HTTPConnection

from agent.lab.members import connection
from tests.chaos.case import Case, Tls, with_one_disk
from tests.chaos.certificates import HOUR
from tests.chaos.clients import PATIENCE_S, REGISTERS, read_over
from tests.chaos.history import Outcome
from tests.chaos.scene import Scene
from tests.lab.harness import ready

LAST = timedelta(seconds=4)
"""The validity of the last ones: long enough for every agent to take them up."""

CONNECTED_S, EXPIRED_S, LONG_EXPIRED_S = 5, 15, 25
"""Several graces; the longer, so that the founders of a next generation wait for several, too."""


@contextmanager
def run_out(scene: Scene) -> Iterator[None]:
    """Nobody who dials is served for the length of a block; then there are new certificates."""
    certificates = scene.certificates
    assert certificates is not None, "this case has no TLS"
    scene.note(f"the last certificates, for {LAST}")
    certificates.renew(LAST)
    scene.wait(LAST.total_seconds())
    scene.note("they have expired")
    since_s = time.monotonic()
    try:
        yield
        served = scene.crowd.acknowledged(since_s)
        assert not served, f"{len(served)} writes were acknowledged over new connections: nothing had expired"
    finally:
        certificates.renew(HOUR)
        scene.note("renewed")


def expire(scene: Scene) -> None:
    """Who is connected is served by a quorum, and agents see that all is well; then they start anew and see nothing."""
    pids = {each.id: each.etcd_pids for each in scene.everybody()}
    with ExitStack() as stack:
        kept = [
            stack.enter_context(closing(connection(each.address, PATIENCE_S, scene.lab.tls)))
            for each in scene.everybody()
        ]
        _read_over_each(scene, kept)
        with run_out(scene):
            for second in range(EXPIRED_S):
                if second == CONNECTED_S:
                    assert all(map(ready, scene.everybody())), "an agent that is connected takes that for a failure"
                    _kill_every_agent(scene)
                scene.wait(1)
                _read_over_each(scene, kept)
            assert scene.generations() == [1], "agents that could not ask took that for a lost quorum"
    assert {each.id: each.etcd_pids for each in scene.everybody()} == pids, "an etcd was stopped"


def _kill_every_agent(scene: Scene) -> None:
    scene.note("kill every agent")
    for each in scene.everybody():
        scene.lab.kill_agent(each.id)


def _read_over_each(scene: Scene, kept: list[HTTPConnection]) -> None:
    for opened in kept:
        found = read_over(opened, f"kept {opened.host}", scene.chance.choice(REGISTERS))
        scene.crowd.reads.append(found)
        assert found.outcome is Outcome.OK, f"{opened.host} does not serve who is connected"


def expire_and_kill_all(scene: Scene) -> None:
    """None meets a peer any more, no agent can ask its etcd, and nobody calls that a loss."""
    with run_out(scene):
        scene.kill(*scene.everybody())
        scene.wait(EXPIRED_S)
        assert scene.generations() == [1], "expired certificates were taken for a lost quorum"


def expire_and_terminate_follower(scene: Scene) -> None:
    """The two that are left are a quorum still; the replacement gets in once there are new certificates."""
    victim = scene.follower()
    with run_out(scene):
        scene.terminate(victim)
        scene.gone(victim)
        scene.wait(EXPIRED_S)


def expire_across_a_loss(scene: Scene) -> None:
    """No agent remembers a better time, and founders of the next generation do not meet: that is no second loss."""
    victims = scene.majority()  # while they can still be asked who leads
    (survivor,) = (each for each in scene.everybody() if each not in victims)
    with run_out(scene):
        scene.terminate(*victims)
        scene.lab.kill_agent(survivor.id)
        scene.wait(LONG_EXPIRED_S)
    scene.whole(90)
    assert scene.generations() == [1, 2], "the rescued generation was called lost"


CASES = (
    Case(
        "certificates-expire",
        "every certificate of members and agents runs out and is renewed after 15 s; meanwhile every agent is killed",
        expire,
        tls=Tls.FILES,
    ),
    Case(
        "certificates-expire-kill-all",
        "certificates run out for 15 s; meanwhile SIGKILL to every etcd and every agent",
        expire_and_kill_all,
        tls=Tls.FILES,
    ),
    Case(
        "certificates-expire-terminate",
        "certificates run out for 15 s; meanwhile a follower is terminated",
        expire_and_terminate_follower,
        tls=Tls.FILES,
    ),
    with_one_disk(
        "certificates-expire-across-a-loss",
        "certificates run out for 25 s; leader and follower are terminated and the survivor's agent is killed",
        expire_across_a_loss,
        within_s=90,
        tls=Tls.FILES,
    ),
)
