"""The commands that only ask: `plan`, `status`, `members`. They change nothing, here or anywhere."""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from typing import Any

import urllib3

from agent.config_cli import load_settings
from agent.decide import Ask
from agent.loop import plan
from agent.model.cluster import Member, Membership, MemberStatus
from agent.model.faults import Refused, Unavailable
from agent.model.known import Ignorance, Unknown
from agent.model.memory import Memory
from agent.model.round import Round
from agent.settings import Settings
from agent.telemetry import describe
from agent.wiring import Wired, wire

TIMEOUT_SECONDS = 5.0


def show_plan(args: argparse.Namespace) -> int:
    """Observe and decide as the agent would, print it, do nothing."""
    planned = _look(wire(load_settings(args)))
    if args.json:
        print(json.dumps(describe.whole_round(planned), indent=2))
        return 0
    for name, value in describe.evidence(planned.observation).items():
        print(f"{name:>18}  {_one_line(value)}")
    print()
    print(f"{'decision':>18}  {type(planned.decided.action).__name__} (rule {planned.decided.rule})")
    print(f"{'because':>18}  {planned.decided.because}")
    for objection in planned.objections:
        print(f"{'vetoed':>18}  {objection}")
    return 0


def _look(wired: Wired) -> Round:
    judged = Memory(asked_at={Ask.BUCKET: wired.world.clock.now()})  # judging the bucket writes a probe: not from here
    return plan(wired.world, wired.me, judged, wired.policy)


def _one_line(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def show_status(args: argparse.Namespace) -> int:
    """What the running agent last saw and decided."""
    settings = load_settings(args)
    seen = _ask_the_agent(settings)
    if args.json:
        print(json.dumps(seen, indent=2))
        return 0
    decision = seen.get("decision") or {}
    print(f"{'instance':>12}  {seen.get('instance', 'unknown')}")
    print(f"{'decision':>12}  {decision.get('action', 'none yet')} (rule {decision.get('rule', '-')})")
    print(f"{'because':>12}  {decision.get('because', '-')}")
    for name, value in (seen.get("observation") or {}).items():
        if isinstance(value, dict) and "unknown" in value:
            print(f"{'unknown':>12}  {name}: {value['unknown']['why']} {value['unknown']['detail']}")
    return 0


def _ask_the_agent(settings: Settings) -> dict[str, Any]:
    listen = settings.http.listen
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)
    url = f"http://{f'[{host}]' if ':' in host else host}:{listen.port}/status"
    try:
        answer = urllib3.request("GET", url, timeout=TIMEOUT_SECONDS, retries=False)
        found: dict[str, Any] = answer.json()
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        hint = "is it running? `systemctl status etcd-asg-agent` and `journalctl -u etcd-asg-agent` tell"
        raise Unavailable(Ignorance.UNREACHABLE, f"the agent does not answer at {url} ({error}); {hint}") from error
    return found


def refuse_beside_a_busy_agent(settings: Settings) -> None:
    """The agent on this instance works in the same scratch folder: one task at a time. No agent, no trouble."""
    with suppress(Unavailable):
        work = (_ask_the_agent(settings).get("observation") or {}).get("work") or {}
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
