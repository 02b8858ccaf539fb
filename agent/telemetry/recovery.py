"""The proof of loss in words and values: who reported what, and what keeps the proof from holding."""

from __future__ import annotations

from typing import Any

from agent.decide.loss import Lost, NotProven, judge_loss
from agent.model.generation import FiledReport, Holding, Report, Sight
from agent.model.known import NOT_ASKED, Unknown
from agent.model.policy import Policy
from agent.model.round import Round

SIGHTS = {
    Sight.LEADER: "SEES A LEADER",
    Sight.LEADERLESS: "no leader for less than the grace",
    Sight.LONG_LEADERLESS: "no leader",
    Sight.UNTOLD: "cannot tell whether there is a leader",
}


def judge(played: Round, policy: Policy) -> Lost | NotProven | None:
    """The proof as this round could see it; None while a quorum answers, or where not all of it was asked for."""
    o = played.observation
    if not isinstance(o.membership, Unknown) or o.head is None:
        return None
    if NOT_ASKED in (o.head, o.fleet, o.reports, o.exclusions, o.formed):
        return None
    return judge_loss(o, played.memory, policy)


def verdict(judged: Lost | NotProven) -> dict[str, Any]:
    """Whether the generation is lost, and if that is not proven, each blocker with its name."""
    if isinstance(judged, Lost):
        return {"proven_lost": True, "holders": [each.instance for each in judged.holders], "blockers": []}
    blockers = [{"who": each.who, "why": each.why} for each in judged.blockers]
    return {"proven_lost": False, "holders": [], "blockers": blockers}


def report_line(filed: FiledReport) -> str:
    """One report in a line, with its age by the bucket's clock."""
    report = filed.report
    parts = [f"{report.instance}, {filed.age_seconds:.0f} s ago", _data(report), _sight(report)]
    if report.trouble:
        parts.append(report.trouble)
    return "; ".join(parts)


def _data(report: Report) -> str:
    if report.data is Holding.NONE:
        return "no data"
    said = f"{report.data.value} data"
    if report.position is not None:
        at = report.position
        said += f" to term {at.last_term}, index {at.last_index} (committed {at.committed_index})"
    return said if report.revision is None else f"{said}, revision {report.revision}"


def _sight(report: Report) -> str:
    since = report.leaderless_since
    at = f" since {since:%FT%XZ}" if since is not None and report.sight is not Sight.LEADER else ""
    return f"{SIGHTS[report.sight]}{at}"
