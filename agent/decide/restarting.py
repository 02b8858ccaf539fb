"""Data of our generation and no etcd running: start it in place, whatever the others do.

A fleet that reboots loses nothing that way. The one thing that comes first is a changed address: the living
quorum is told before etcd starts, because others cannot reach a member at the address it left.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from agent.decide.situation import Situation, do, wait
from agent.model.actions import Blocker, Decision, Launch, StampIdentity, StartEtcd, UpdatePeerUrl
from agent.model.disk import Stage
from agent.model.known import NOT_ASKED, Unknown


def wait_for_a_look_at_the_head(s: Situation) -> Decision | None:
    """Start nothing before this round has at least tried to read the newest generation."""
    if s.running or s.o.head != NOT_ASKED:
        return None
    return wait(Blocker.IGNORANCE, "the newest generation was not read in this round")


def back_off(s: Situation) -> Decision | None:
    """An etcd that keeps ending soon after its start is started again ever more slowly."""
    due = etcd_start_due_in(s)
    if s.running or due is None or due <= timedelta(0):
        return None
    lives, seconds = s.memory.etcd_short_lives, due.total_seconds()
    return wait(Blocker.BACKOFF, f"etcd ended {lives} times soon after its start; next start in {seconds:.0f} s")


def etcd_start_due_in(s: Situation) -> timedelta | None:
    ended_at, lives = s.memory.etcd_ended_at, s.memory.etcd_short_lives
    if ended_at is None or lives == 0:
        return None
    pause = min(timedelta(seconds=2 ** min(lives - 1, 10)), s.policy.restart_backoff_max)
    return ended_at + pause - s.o.now


def tell_the_quorum_of_a_move(s: Situation) -> Decision | None:
    """Our address changed while etcd was down: update the member's peer URL through the living quorum."""
    identity, membership = s.identity, s.o.membership
    if identity is None or not s.holds_data or s.running or identity.peer_url == s.me.peer_url:
        return None
    moved = f"this member moved from {identity.peer_url} to {s.me.peer_url}"
    if isinstance(membership, Unknown) or membership.cluster_id != (identity.cluster_id or membership.cluster_id):
        return _wait_for_a_quorum_to_tell(s, moved)
    entry = s.own_entry(membership)
    if entry is None:
        return None
    if s.me.peer_url in entry.peer_urls:
        settled = replace(identity, peer_url=s.me.peer_url, instance=s.me.instance)
        return do(StampIdentity(settled), f"{moved}, and the cluster knows")
    if entry.is_learner:
        # etcd below 3.5.31 promotes a learner whose URL is updated; a learner holds no vote, so it starts over
        return do(StampIdentity(replace(identity, stage=Stage.FENCED)), f"{moved}, and it is only a learner")
    return do(UpdatePeerUrl(entry.id, s.me.peer_url), moved)


def _wait_for_a_quorum_to_tell(s: Situation, moved: str) -> Decision | None:
    """Where no quorum answers, it may need us to form: after a grace, start at the new address all the same.

    Its own dialling out is enough for raft to work one way until the list is corrected.
    """
    since = s.memory.no_quorum_since
    if since is not None and s.o.now - since >= s.policy.address_grace:
        return None
    return wait(Blocker.QUORUM, f"{moved}; no quorum answers yet that could be told")


def restart_in_place(s: Situation) -> Decision | None:
    """Start etcd on the data it left. The flags of a first start are ignored by etcd then.

    It is to compare that data with the others' where a quorum answered in this round.
    """
    identity = s.identity
    if identity is None or not s.holds_data or s.running:
        return None
    alone = ((s.me.instance, s.me.peer_url),)
    compare = not isinstance(s.o.membership, Unknown)
    launch = Launch(s.me.instance, s.me.peer_url, "existing", "", alone, compare=compare)
    head = "which is the newest" if not isinstance(s.o.head, Unknown) else f"the newest is {s.o.head}"
    return do(StartEtcd(launch), f"this disk holds a member of generation {identity.generation}, {head}")
