"""`tls.mode = "ca"`: this instance's own certificates, and an etcd that trusts whom it should.

    in Parameter Store     on this disk                 step
    not known              anything                     none: what there is stays; unknown is not absent
    no authority           -                            make the first, if nothing was ever founded; else call a human
    authorities            none, or for another         issue
                           instance, address or set
    the same               two thirds worn              issue anew
    the same               fresh                        none; an etcd that trusts others than these reloads

etcd reads its certificate for each handshake, and the authorities that it trusts only when it starts (seen with 3.4.23
and 3.5.30): a change of those takes a restart. They go one at a time, the leader last, in an order that every agent
finds by itself: whoever comes later waits until it sees, in the handshakes of those before, that they have reloaded.
And only while every member answers and knows a leader, and has done so for `WHOLE_FOR`. Two agents may disagree on who
comes first only in the moment in which the lead moves; two restarts at once then cost a second without a quorum, and
no data.
"""

from __future__ import annotations

from datetime import timedelta

from agent.decide.situation import Situation, do, wait
from agent.model.actions import Blocker, CallHuman, CreateAuthority, Decision, IssueCertificates, Reason, ReloadEtcd
from agent.model.certificates import TRY_AGAIN, Authorities, Issued
from agent.model.cluster import Member, Membership, MemberStatus
from agent.model.known import NOT_ASKED, Unknown
from agent.model.work import Working

WHOLE_FOR = timedelta(seconds=10)
"""etcd itself counts a peer that connected less than 5 s ago as not there for a change of members."""

CAUGHT_UP = 1000
"""Entries: who is further behind than this is still catching up."""

GONE = (
    "the certificate authority is not in Parameter Store (tls.parameters), but the cluster was founded: restore it, or "
    "make one with: etcd-asg-agent tls init"
)


def issue_certificates(s: Situation) -> Decision | None:
    """Have certificates that are ours, fresh, and from whom Parameter Store says: without them no etcd is heard."""
    authorities, issued = s.o.authorities, s.o.issued
    if not s.policy.issues_certificates or isinstance(issued, Unknown) or isinstance(authorities, Unknown):
        return None
    if authorities is None:
        return _without_an_authority(s, issued)
    why = _why_issue(s, authorities, issued)
    if why is None or _tried_lately(s, issued):
        return None
    return do(IssueCertificates(authorities), why)


def _without_an_authority(s: Situation, issued: Issued | None) -> Decision | None:
    """Only before there is any generation may an agent take "none" for "not yet"."""
    if isinstance(s.o.head, Unknown):
        return None
    if s.o.head is None and issued is None and not s.holds_data:
        return None if _tried_lately(s, issued) else do(CreateAuthority(), "no generation and no authority: the first")
    if issued is not None and not issued.is_nearly_over(s.o.now):
        return None  # nothing is wrong yet; the metrics tell when it would be
    return do(CallHuman(GONE, Reason.NO_AUTHORITY), "there is no certificate authority in Parameter Store")


def _why_issue(s: Situation, authorities: Authorities, issued: Issued | None) -> str | None:
    if issued is None:
        return "this instance has no certificates"
    if (issued.instance, issued.address) != (s.me.instance, s.me.private_ip):
        return f"its certificates are for {issued.instance} at {issued.address}"
    if issued.authorities != authorities and not authorities.are_older_than(issued.authorities):
        return f"its certificates are of another time: now {authorities}"
    if issued.is_worn(s.o.now):
        return f"its certificates expire at {issued.expires_at:%Y-%m-%dT%H:%M:%SZ}"
    return None


def _tried_lately(s: Situation, issued: Issued | None) -> bool:
    """So that a store that refuses does not keep an agent from everything else."""
    failed_at = s.memory.issuing_failed_at
    pause = s.policy.patient_interval if issued is None else TRY_AGAIN
    return failed_at is not None and s.o.now - failed_at < pause


def await_certificates(s: Situation) -> Decision | None:
    """An etcd without certificates would end at once: none is started before there are some.

    Old ones will do for a start: whoever refuses them does so whether or not it runs.
    """
    if not s.policy.issues_certificates or s.running or isinstance(s.o.issued, Issued):
        return None
    trouble = next((each for each in (s.o.issued, s.o.authorities) if isinstance(each, Unknown)), None)
    said = "none were issued" if trouble is None or trouble == NOT_ASKED else str(trouble)
    return wait(Blocker.CERTIFICATES, f"this instance has no certificates yet: {said}")


def reload_authorities(s: Situation) -> Decision | None:
    """Restart our etcd where it trusts others than it should, and it is our turn."""
    membership, issued = s.o.membership, s.o.issued
    if not s.policy.issues_certificates or not s.running or not isinstance(issued, Issued):
        return None
    if isinstance(membership, Unknown) or isinstance(s.o.trusting, Unknown) or isinstance(s.o.authorities, Unknown):
        return None
    wanted = frozenset(issued.authorities.trusted)
    if s.o.authorities != issued.authorities or isinstance(s.o.local, Unknown):
        return None
    own = s.o.trusting.get(s.o.local.member_id)
    if own is None or isinstance(own, Unknown) or own == wanted:
        return None
    if _not_now(s, membership) or not all(s.o.trusting.get(each.id) == wanted for each in _before_us(s, membership)):
        return None
    numbers = [" and ".join(map(str, sorted(each))) or "nobody of ours" for each in (own, wanted)]
    return do(ReloadEtcd(), f"etcd trusts authority {numbers[0]} and is to trust {numbers[1]}")


def _before_us(s: Situation, membership: Membership) -> list[Member]:
    """Followers by their IDs, the leader last: everybody before our own member."""
    assert isinstance(s.o.local, MemberStatus)
    own, leader = s.o.local.member_id, s.o.local.leader
    ours = (own == leader, own)
    return [each for each in membership.members if (each.id == leader, each.id) < ours]


def _not_now(s: Situation, membership: Membership) -> bool:
    """Somebody is not well, or was not a moment ago; or this instance has something else to do."""
    since = s.memory.whole_since
    if since is None or s.o.now - since < WHOLE_FOR or s.leaving or isinstance(s.o.work, Working):
        return True
    return not all(_is_well(s.o.answers.of.get(each.id)) for each in membership.members)


def _is_well(status: MemberStatus | Unknown | None) -> bool:
    if not isinstance(status, MemberStatus):
        return False
    return status.leader is not None and status.committed_index - status.applied_index < CAUGHT_UP
