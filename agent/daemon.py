"""`etcd-asg-agent run`: the doors, the loop, the metrics and the status server, until SIGTERM.

Stopping is only stopping: nothing here touches etcd or its membership on the way out. systemd's watchdog is fed by each
round that ends, and by each try to begin; what outlasts a round runs on threads of its own, so that rounds go on.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import signal
import sys
import threading
from dataclasses import dataclass
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
from agent.settings import Settings, Timing
from agent.telemetry.describe import in_a_line
from agent.telemetry.log import facts, set_up
from agent.telemetry.metrics import Metrics
from agent.telemetry.status import CannotListen, Pulse, ServerFiles, Sources, StatusServer
from agent.telemetry.teller import Teller
from agent.wiring import Wired, policy, server_tls_of, wire
from agent.world import heap
from agent.world.clock import SystemClock
from agent.world.notify import Notifier

log = logging.getLogger(__name__)

EXIT_REFUSED = 2
RETRY = timedelta(seconds=1)
SLOWEST_ROUND_SECONDS = 120.0
"""What `/livez` takes for a loop that makes progress. Nothing ends the agent over it; systemd is more patient."""

CALLS_TO_AWS = 20
"""No round makes more, but for further pages: the longest begins where a quorum is lost and nothing is known yet."""


def run(args: argparse.Namespace) -> int:
    """Look after this instance's member until told to stop. Exit code 2 where the setup must be mended first."""
    heap.few_arenas()
    faulthandler.enable()  # the watchdog ends a stuck agent with SIGABRT: the journal then shows where it was stuck
    settings = load_settings(args)
    always: dict[str, object] = {"cluster": settings.cluster.name}
    set_up(settings.log.level, settings.log.format, sys.stderr, always=always)
    notifier = Notifier(os.environ)
    stop = _stop_on_signals()
    clock = SystemClock(stop)
    rules = [*(rule.name for rule in RULES), HOLD]
    metrics = Metrics(version=__version__, rules=rules, blockers=[blocker.value for blocker in Blocker])
    teller = Teller(policy(settings), metrics)
    pulse = Pulse(clock.elapsed, SLOWEST_ROUND_SECONDS)
    sources = Sources(metrics.exposition, pulse.alive, teller.ready, teller.status)
    try:
        with StatusServer(settings.http.listen.host, settings.http.listen.port, sources, _served_with(settings)):
            log.info("agent started", extra=facts(version=__version__, cluster=settings.cluster.name))
            _warn_of_an_impatient_watchdog(notifier.watchdog, settings.timing)
            beginning = _Beginning(settings, metrics, pulse, notifier, stop, clock, always)
            return _look_after(beginning, teller)
    except CannotListen as error:
        log.error("cannot start", extra=facts(because=str(error)))  # noqa: TRY400 - a person's mistake, no traceback
        return EXIT_REFUSED


def _served_with(settings: Settings) -> ServerFiles | None:
    files = server_tls_of(settings) if settings.http.tls else None
    return None if files is None else ServerFiles(files.cert, files.key)


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()

    def told(_number: int, _frame: Any) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    return stop


def slowest_round(timing: Timing) -> timedelta:
    """Of a round in which every door is at its deadline, and every name resolves at once."""
    etcd = 2 * (timing.etcd_status_timeout + timing.etcd_read_timeout + timing.etcd_membership_timeout)
    return CALLS_TO_AWS * (timing.aws_connect_timeout + timing.aws_read_timeout) + etcd + timing.etcd_stop_timeout


def _warn_of_an_impatient_watchdog(watchdog: timedelta | None, timing: Timing) -> None:
    longest = slowest_round(timing)
    if watchdog is not None and watchdog < longest:
        log.warning(
            "systemd's watchdog may end a round that is only slow",
            extra=facts(watchdog=watchdog, longest=longest, hint="set a longer WatchdogSec="),
        )


@dataclass(frozen=True, slots=True)
class _Beginning:
    """All that there is before IMDS has said who we are."""

    settings: Settings
    metrics: Metrics
    pulse: Pulse
    notifier: Notifier
    stop: threading.Event
    clock: SystemClock
    always: dict[str, object]
    """What every event in the journal carries."""

    def progress(self, status: str) -> None:
        self.pulse.beat()
        self.notifier.progress(status)


def _look_after(begin: _Beginning, teller: Teller) -> int:
    wired = _wire_when_possible(begin)
    if wired is None:
        return 0
    begin.always["instance"] = wired.me.instance
    verdict = _judge_the_bucket(wired)
    if isinstance(verdict, BucketUnsound):
        log.error("cannot start", extra=facts(because=verdict.why, hint=verdict.hint))
        return EXIT_REFUSED
    begin.notifier.ready("the first round is under way")

    def tell(played: Round) -> None:
        begin.progress(in_a_line(played))
        teller.tell(played)

    loop(wired.world, wired.policy, wired.me, tell, begin.stop.is_set, Memory(bucket=verdict))
    begin.notifier.stopping()
    log.info("agent stopped; etcd is left as it is")
    return 0


def _wire_when_possible(begin: _Beginning) -> Wired | None:
    """IMDS may be late at boot, and may be out: wait for it, as long as it takes, and say so.

    Waiting is what such an agent is for, so it counts as started: nothing that waits for its start waits for IMDS.
    """
    said = ""
    while not begin.stop.is_set():
        try:
            return wire(begin.settings, begin.metrics, begin.stop)
        except (Unavailable, Refused) as trouble:
            waiting = f"waiting for the instance metadata service: {trouble}"
            if not said:
                begin.notifier.ready(waiting)
            if str(trouble) != said:
                log.warning("waiting for the instance metadata service", extra=facts(because=str(trouble)))
            said = str(trouble)
            begin.progress(waiting)
            begin.clock.sleep(RETRY)
    return None


def _judge_the_bucket(wired: Wired) -> BucketVerdict | None:
    """A bucket that breaks the protocol is refused at once; one that does not answer is judged by the loop, later."""
    try:
        return wired.world.bucket.verdict()
    except Trouble as trouble:
        log.warning("the bucket cannot be judged yet", extra=facts(because=str(trouble)))
        return None
