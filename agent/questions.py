"""The commands that only ask: `plan`, `status`, `members`. They change nothing, here or anywhere."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import urllib3

from agent.config_cli import load_settings
from agent.decide import Ask, decide, object_to
from agent.decide.holding import hold_on
from agent.decide.objections import veto
from agent.loop import plan
from agent.model.actions import Action, CallHuman
from agent.model.cluster import Member, Membership, MemberStatus
from agent.model.faults import Refused, Unavailable
from agent.model.generation import GenerationRecord
from agent.model.hold import Hold
from agent.model.known import Ignorance, Unknown
from agent.model.memory import Memory, remember
from agent.model.observation import Observation
from agent.model.policy import Policy
from agent.model.round import Round
from agent.settings import Settings
from agent.telemetry import describe
from agent.telemetry.recovery import judge, report_line, verdict
from agent.wiring import Wired, server_tls_of, wire

TIMEOUT_SECONDS = 5.0
A_DAY = timedelta(days=1)


def show_plan(args: argparse.Namespace) -> int:
    """Observe and decide as the agent would, print it, do nothing."""
    wired = wire(load_settings(args))
    planned = _look(wired)
    if args.json:
        print(json.dumps(describe.whole_round(planned, judge(planned, wired.policy)), indent=2))
        return 0
    for line in plan_lines(planned, wired.policy):
        print(line)
    return 0


def plan_lines(planned: Round, policy: Policy) -> Iterator[str]:
    """Evidence, rule and reason for people; what keeps a lost quorum from being recovered, one obstacle a line."""
    for name, value in describe.evidence(planned.observation).items():
        yield from _labelled(name, _evidence_lines(planned.observation, name, value))
    yield ""
    hold = hold_on(planned.observation, planned.memory)
    yield from _labelled("HELD", [str(hold)] if isinstance(hold, Hold) else [])
    yield from _labelled("decision", [f"{type(planned.decided.action).__name__} (rule {planned.decided.rule})"])
    judged = judge(planned, policy)
    recovery = None if judged is None else verdict(judged)
    yield from _reason_lines(planned.decided.because, recovery)
    yield from _what_to_do(planned.decided.action)
    for objection in planned.objections:
        yield from _labelled("vetoed", [objection])


def _what_to_do(action: Action) -> Iterator[str]:
    entry = describe.runbook(action)
    yield from _labelled("what to do", [action.hint] if isinstance(action, CallHuman) else [])
    yield from _labelled("runbook", [] if entry is None else [entry])


def _evidence_lines(o: Observation, name: str, value: Any) -> list[str]:
    """What would be too long for a line is said in several, or in short."""
    if name == "reports" and not isinstance(o.reports, Unknown) and o.reports:
        return [report_line(each) for each in o.reports]
    if name == "snapshots" and not isinstance(o.snapshots, Unknown) and o.snapshots:
        sound = [each for each in o.snapshots if each.usable]
        newest = f"; the newest is {sound[-1].name}, {sound[-1].age_seconds:.0f} s old" if sound else ""
        return [f"{len(sound)} of {len(o.snapshots)} are sound{newest}"]
    return [value if isinstance(value, str) else json.dumps(value)]


def _reason_lines(because: str, recovery: Mapping[str, Any] | None) -> Iterator[str]:
    """The blockers that a reason ends in, one a line instead."""
    yield from _labelled("because", [because.partition("; recovery waits for ")[0]])
    if recovery is not None:
        lost = ["is proven: it can never have a leader again"] if recovery["proven_lost"] else []
        yield from _labelled("loss", lost)
        yield from _labelled("recovery waits", [f"{each['who']}: {each['why']}" for each in recovery["blockers"]])


def _labelled(label: str, lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield f"{'' if number else label:>18}  {line}"


def _look(wired: Wired) -> Round:
    """As the agent looks. Without a quorum a second time, as if it had been so for long: then recovery is looked at."""
    now = wired.world.clock.now()
    asked_at: dict[str, datetime] = {Ask.BUCKET: now + A_DAY}  # judging the bucket writes a probe: not from here, ever
    first = plan(wired.world, wired.me, Memory(asked_at=asked_at), wired.policy)
    o = first.observation
    if not isinstance(o.membership, Unknown) or not isinstance(o.head, GenerationRecord):
        return first
    long_ago = now - A_DAY  # what the agents have known for long: a first look must not take it for news
    seeded = replace(
        first.memory,
        asked_at=asked_at,
        no_quorum_since=long_ago,
        leaderless_since=None,
        ended_since=dict.fromkeys(first.memory.ended_since, long_ago),
    )
    second = plan(wired.world, wired.me, seeded, wired.policy)
    return with_since_when(second, seeded, wired.policy)


def with_since_when(second: Round, seeded: Memory, policy: Policy) -> Round:
    """The same look, judged by since when the reports say that there is no leader; by now, where they say nothing."""
    o = second.observation
    if not isinstance(o.membership, Unknown):
        return second
    since = _leaderless_since(o)
    known = remember(replace(seeded, no_quorum_since=since, leaderless_since=since), o, policy)
    decided = decide(o, known, policy)
    objections = object_to(decided, o, known)
    decision = veto(decided, objections) if objections else decided
    return replace(second, memory=known, decided=decided, objections=objections, decision=decision)


def _leaderless_since(o: Observation) -> datetime:
    """By our own agent's report, which says it for this instance; else by whoever says the earliest."""
    reports = [] if isinstance(o.reports, Unknown) else [each.report for each in o.reports]
    ours = [each for each in reports if each.instance == o.me.instance]
    said = [each.leaderless_since for each in ours or reports if each.leaderless_since is not None]
    return min(said, default=o.now)


def show_status(args: argparse.Namespace) -> int:
    """What the running agent last saw and decided."""
    settings = load_settings(args)
    seen = _ask_the_agent(settings)
    if args.json:
        print(json.dumps(seen, indent=2))
        return 0
    for line in status_lines(seen):
        print(line)
    return 0


def status_lines(seen: Mapping[str, Any]) -> Iterator[str]:
    """The last round in short: decision and reason, work, what is unknown."""
    decision, observation = seen.get("decision") or {}, seen.get("observation") or {}
    recovery = seen.get("recovery")
    yield from _labelled("instance", [seen.get("instance", "unknown")])
    hold = seen.get("hold") or {}
    yield from _labelled("HELD", [f"by {hold['who']}: {hold['why'] or 'no reason given'}"] if "who" in hold else [])
    yield from _labelled("decision", [f"{decision.get('action', 'none yet')} (rule {decision.get('rule', '-')})"])
    hint = (decision.get("details") or {}).get("hint")
    yield from _reason_lines(decision.get("because", "-"), recovery)
    yield from _labelled("what to do", [hint] if hint else [])
    yield from _labelled("runbook", [decision["runbook"]] if decision.get("runbook") else [])
    if recovery and recovery.get("since"):
        yield from _labelled("no quorum since", [recovery["since"]])
    work = observation.get("work") or {}
    if work.get("state") == "working":
        yield from _labelled("work", [f"{work['task']}, {work['bytes_done'] / 1e6:.0f} MB so far"])
    unknown = {name: value["unknown"] for name, value in observation.items() if _is_unknown(value)}
    yield from _labelled("unknown", [f"{name}: {each['why']} {each['detail']}" for name, each in unknown.items()])


def _is_unknown(value: Any) -> bool:
    return isinstance(value, dict) and "unknown" in value


def _ask_the_agent(settings: Settings) -> dict[str, Any]:
    listen = settings.http.listen
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)
    files = server_tls_of(settings) if settings.http.tls else None
    url = f"{'http' if files is None else 'https'}://{f'[{host}]' if ':' in host else host}:{listen.port}/status"
    # by its authority alone: a certificate of yours need not name loopback
    trust: dict[str, Any] = {} if files is None else {"ca_certs": str(files.ca), "assert_hostname": False}
    try:
        pool = urllib3.PoolManager(**trust)
        answer = pool.request("GET", url, timeout=TIMEOUT_SECONDS, retries=False)
        found: dict[str, Any] = answer.json()
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        hint = "is it running? `systemctl status etcd-asg-agent` and `journalctl -u etcd-asg-agent` tell"
        raise Unavailable(Ignorance.UNREACHABLE, f"the agent does not answer at {url} ({error}); {hint}") from error
    return found


def refuse_beside_a_busy_agent(settings: Settings) -> None:
    """The agent on this instance works in the same scratch folder: one task at a time. No agent, no trouble."""
    with suppress(Unavailable):
        refuse_if_busy(_ask_the_agent(settings))


def refuse_if_busy(seen: Mapping[str, Any]) -> None:
    """Refused where this status says that a task is under way."""
    work = (seen.get("observation") or {}).get("work") or {}
    if work.get("state") == "working":
        said = f"the agent on this instance is busy with {work.get('task')}: wait until `status` shows no work"
        raise Refused(said, Ignorance.FAILED)


def show_members(args: argparse.Namespace) -> int:
    """The member list, and every member's own status."""
    wired = wire(load_settings(args))
    planned = _look(wired)
    membership = planned.observation.membership
    if isinstance(membership, Unknown):
        raise Unavailable(membership.why, f"no quorum answers, so nobody can vouch for a member list: {membership}")
    urls = {each.id: each.client_urls[0] for each in membership.members if each.client_urls}
    statuses = wired.world.etcd.statuses(sorted(urls.values()))
    rows = [_row(each, statuses.get(urls[each.id]) if each.id in urls else None) for each in membership.members]
    if args.json:
        print(json.dumps({"cluster_id": str(membership.cluster_id), "members": rows}, indent=2))
        return 0
    _print_table(membership, rows)
    return 0


def _row(member: Member, status: MemberStatus | Unknown | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "instance": member.name or "(never started)",
        "member": str(member.id),
        "state": "learner" if member.is_learner else "voter",
        "peer": ", ".join(member.peer_urls),
    }
    if not isinstance(status, MemberStatus):
        return row | {"answers": "silent", "version": "", "term": None, "applied": None, "db_mb": None}
    return row | {
        "answers": "leader" if status.leads else "yes",
        "version": status.version,
        "term": status.raft_term,
        "applied": status.applied_index,
        "db_mb": round(status.db_size_bytes / 1e6, 1),
    }


def _print_table(membership: Membership, rows: list[dict[str, Any]]) -> None:
    print(f"cluster {membership.cluster_id}, read through {membership.via}")
    shown = [{key: "-" if value is None else str(value) for key, value in row.items()} for row in rows]
    widths = {key: max(len(key), *(len(row[key]) for row in shown)) for key in shown[0]}
    for row in [{key: key for key in widths}, *shown]:
        print("  ".join(f"{row[key]:<{width}}" for key, width in widths.items()).rstrip())
