"""`etcd-asg-agent run`: the doors, the loop, the metrics and the status server, until SIGTERM.

Stopping is only stopping: nothing here touches etcd or its membership on the way out.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from datetime import timedelta
from typing import Any

from agent import __version__
from agent.config_cli import load_settings
from agent.decide import RULES
from agent.decide.holding import HOLD
from agent.loop import run as loop
from agent.model.actions import Blocker
from agent.model.faults import Refused, Trouble, Unavailable
from agent.model.memory import Memory
from agent.model.observation import BucketUnsound, BucketVerdict
from agent.model.round import Round
from agent.settings import Settings
from agent.telemetry.log import facts, set_up
from agent.telemetry.metrics import Metrics
from agent.telemetry.status import CannotListen, Pulse, Sources, StatusServer
from agent.telemetry.teller import Teller
from agent.wiring import Wired, policy, wire
from agent.world import heap
from agent.world.clock import SystemClock

log = logging.getLogger(__name__)

EXIT_REFUSED = 2
RETRY = timedelta(seconds=1)
SLOWEST_ROUND_SECONDS = 120.0
"""A round in which every door is at its deadline takes less; a loop that is slower than this is stuck."""


def run(args: argparse.Namespace) -> int:
    """Look after this instance's member until told to stop. Exit code 2 where the setup must be mended first."""
    heap.few_arenas()
    settings = load_settings(args)
    set_up(settings.log.level, settings.log.format, sys.stderr)
    stop = _stop_on_signals()
    clock = SystemClock(stop)
    rules = [*(rule.name for rule in RULES), HOLD]
    metrics = Metrics(version=__version__, rules=rules, blockers=[blocker.value for blocker in Blocker])
    teller = Teller(policy(settings), metrics)
    pulse = Pulse(clock.elapsed, SLOWEST_ROUND_SECONDS)
    sources = Sources(metrics.exposition, pulse.alive, teller.ready, teller.status)
    try:
        with StatusServer(settings.http.listen.host, settings.http.listen.port, sources):
            log.info("agent started", extra=facts(version=__version__, cluster=settings.cluster.name))
            return _look_after(settings, metrics, teller, pulse, stop, clock)
    except CannotListen as error:
        log.error("cannot start", extra=facts(because=str(error)))  # noqa: TRY400 - a person's mistake, no traceback
        return EXIT_REFUSED


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()

    def told(_number: int, _frame: Any) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    return stop


def _look_after(
    settings: Settings, metrics: Metrics, teller: Teller, pulse: Pulse, stop: threading.Event, clock: SystemClock
) -> int:
    wired = _wire_when_possible(settings, metrics, pulse, stop, clock)
    if wired is None:
        return 0
    verdict = _judge_the_bucket(wired)
    if isinstance(verdict, BucketUnsound):
        log.error("cannot start", extra=facts(because=verdict.why, hint=verdict.hint))
        return EXIT_REFUSED

    def tell(played: Round) -> None:
        pulse.beat()
        teller.tell(played)

    loop(wired.world, wired.policy, wired.me, tell, stop.is_set, Memory(bucket=verdict))
    log.info("agent stopped; etcd is left as it is")
    return 0


def _wire_when_possible(
    settings: Settings, metrics: Metrics, pulse: Pulse, stop: threading.Event, clock: SystemClock
) -> Wired | None:
    """IMDS may be late at boot, and may be out: wait for it, as long as it takes, and say so."""
    said = ""
    while not stop.is_set():
        try:
            return wire(settings, metrics, stop)
        except (Unavailable, Refused) as trouble:
            if str(trouble) != said:
                log.warning("waiting for the instance metadata service", extra=facts(because=str(trouble)))
            said = str(trouble)
            pulse.beat()
            clock.sleep(RETRY)
    return None


def _judge_the_bucket(wired: Wired) -> BucketVerdict | None:
    """A bucket that breaks the protocol is refused at once; one that does not answer is judged by the loop, later."""
    try:
        return wired.world.bucket.verdict()
    except Trouble as trouble:
        log.warning("the bucket cannot be judged yet", extra=facts(because=str(trouble)))
        return None
