"""Before an etcd of another minor version starts or joins: whether that is a step which etcd can take, and take back.

    etcd here, beside the cluster's version     a quorum answers      step
    older                                       -                     call a human: it starts and joins nothing
    older, and no data                          a voter is silent     wait: that one may hold the version down
    the same                                    -                     go on
    one minor newer, and nobody runs it yet     every voter is well   go on behind a fresh snapshot of the older one
    one minor newer, and others run it          every voter is well   go on
    one minor newer                             a voter is not well   wait
    one minor newer, and its data is here       none                  go on: it may be what a quorum needs
    more than one minor newer                   -                     call a human
    3.6, beside a 3.5 that loses promotions     -                     call a human
    not to be told                              -                     go on: etcd looks again by itself

The cluster's version is the lowest of all members', as etcd's leader has determined it; it only ever rises, and etcd
ends at once where it is older ("cluster cannot be downgraded"), after it has written to the database (3.4 does). So it
is not started. Whose data is here has it in its database, and nobody else's answer is worth as much: while a member is
away the version cannot rise. Who has no data takes the lowest of what all voters say, and where one is silent its
instance may be what holds the version down.

A way back is a snapshot, because no older etcd reads what a newer one has written once all run it. Only the first of
a fleet waits for it: whoever runs the newer version already could not have come before it. Fresh is what the schedule
keeps (two intervals), or a snapshot since which nothing was written.
"""

from __future__ import annotations

from datetime import timedelta

from agent.decide.situation import Situation, do, wait
from agent.decide.snapshotting import newest_of
from agent.model.actions import Blocker, CallHuman, Decision, Reason
from agent.model.cluster import Membership, MemberStatus, is_newer_minor, minor_of
from agent.model.known import Unknown
from agent.model.observation import Observation
from agent.model.snapshot import Manifest
from agent.model.versions import may_have_lost_promotions

Minor = tuple[int, int]

UNDETERMINED: Minor = (3, 0)
"""etcd's `version.MinClusterVersion`, in every 3.x."""

FRESH = 2
"""Snapshot intervals. Whoever is next in turn takes over within one and a half, where the first does not take it."""


def check_a_restart(s: Situation) -> Decision | None:
    """Another minor version than the data's is about to start on it: forward, one at a time, with a way back.

    An instance that is leaving tries all the same: what ends there is removed from the list with it.
    """
    return None if s.running or not s.holds_data or s.leaving else _check(s)


def check_a_newcomer(s: Situation) -> Decision | None:
    """The same before an entry is asked for: one that cannot start would stay in the list, unstarted."""
    return None if s.running or s.holds_data or isinstance(s.o.membership, Unknown) else _check(s)


def _check(s: Situation) -> Decision | None:
    installed, cluster = _installed(s.o), cluster_version(s.o)
    if installed is None or cluster is None or installed == cluster:
        return None
    if installed < cluster and s.holds_data and _determined(str(s.o.data_version)) is None:
        return None  # what the others run is not what this data has seen
    if installed < cluster:
        return _refuse_a_downgrade(s, cluster, _unwell(s))
    if installed != (cluster[0], cluster[1] + 1):
        hint = f"install etcd {cluster[0]}.{cluster[1] + 1} first: etcd is upgraded one minor version at a time"
        return do(
            CallHuman(hint, Reason.UPGRADE_PATH),
            f"etcd {s.o.etcd_version} is here, and the cluster's version is {_text(cluster)}",
        )
    return _refuse_lost_promotions(s) or _wait_for_the_others(s, installed, cluster)


def cluster_version(o: Observation) -> Minor | None:
    """What the etcd that starts here has to fit; at least that, where a voter is silent. None: it cannot be told."""
    if isinstance(o.data_version, Unknown):
        return None
    own = _determined(o.data_version)
    if own is not None:
        return own
    said = o.answers.of.values() if isinstance(o.membership, Membership) else ()
    minors = [minor_of(each.version) for each in said if isinstance(each, MemberStatus)]
    return min((each for each in minors if each is not None), default=None)


def _determined(version: str | None) -> Minor | None:
    """By data. A leader writes 3.0 first, and the version a few seconds later, when it has asked every member."""
    minor = None if version is None else minor_of(version)
    return None if minor == UNDETERMINED else minor


def wants_a_snapshot_first(o: Observation) -> bool:
    """Whether this round has to know which snapshots there are, for a step forward."""
    installed, cluster = _installed(o), cluster_version(o)
    newer = installed is not None and cluster is not None and installed > cluster
    return newer and isinstance(o.membership, Membership)


def _installed(o: Observation) -> Minor | None:
    return minor_of(o.etcd_version) if isinstance(o.etcd_version, str) else None


def _refuse_a_downgrade(s: Situation, cluster: Minor, unwell: list[str]) -> Decision:
    newer = _text(cluster)
    what = f"etcd {s.o.etcd_version} is installed, and the cluster's version is {newer}"
    if unwell and not s.holds_data:
        return wait(Blocker.UPGRADE, f"{what}, unless {', '.join(unwell)} holds it down, who does not answer")
    kept = "; this data stays as it is" if s.holds_data else ""
    hint = f"install etcd {newer} here, in the AMI; the way back is a snapshot of the older version (docs/upgrade.md)"
    return do(CallHuman(hint, Reason.DOWNGRADE), f"{what}: it cannot be downgraded{kept}")


def _refuse_lost_promotions(s: Situation) -> Decision | None:
    """3.6 goes by what is in the database, where such a 3.5 may still have a voter down as a learner."""
    said = {name: each.version for name, each in _others(s).items() if isinstance(each, MemberStatus)}
    old = sorted(name for name, version in said.items() if may_have_lost_promotions(version))
    if not old or not is_newer_minor(str(s.o.etcd_version), "3.5"):
        return None
    hint = "upgrade every member to etcd 3.5.26 or later before 3.6"
    return do(
        CallHuman(hint, Reason.UPGRADE_PATH),
        f"{', '.join(old)} runs an etcd 3.5 that may have lost the promotion of a learner",
    )


def _wait_for_the_others(s: Situation, installed: Minor, cluster: Minor) -> Decision | None:
    if isinstance(s.o.membership, Unknown):
        return None  # only whose data is here comes to this: a quorum may need it
    step, unwell = f"from etcd {_text(cluster)} to {s.o.etcd_version}", _unwell(s)
    if unwell:
        return wait(Blocker.UPGRADE, f"{step} only while every member is well, and {', '.join(unwell)} is not")
    versions = [minor_of(each.version) for each in _others(s).values() if isinstance(each, MemberStatus)]
    if not versions or any(each is not None and each >= installed for each in versions):
        return None
    return _wait_for_a_snapshot(s, step, cluster)


def _unwell(s: Situation) -> list[str]:
    return [n for n, each in _others(s).items() if not isinstance(each, MemberStatus) or each.leader is None]


def _others(s: Situation) -> dict[str, MemberStatus | Unknown | None]:
    """What the other voters said of themselves, by their names; nothing where no quorum answers."""
    voters = () if isinstance(s.o.membership, Unknown) else s.o.membership.voters
    ours = None if s.identity is None else s.identity.member_id
    return {str(each): s.o.answers.of.get(each.id) for each in voters if each.id != ours}


def _wait_for_a_snapshot(s: Situation, step: str, cluster: Minor) -> Decision | None:
    """The first of the newer version: what a way back is made of has to be in the bucket."""
    record, listed, manifest = s.record, s.o.snapshots, s.o.manifest
    if record is None or isinstance(listed, Unknown):
        return wait(Blocker.UPGRADE, f"{step} only behind a fresh snapshot, and which there are is {listed}")
    newest = newest_of(record, listed)
    if newest is None or not isinstance(manifest, Manifest) or manifest.name != newest.name:
        return wait(Blocker.UPGRADE, f"{step} only behind a fresh snapshot, and there is none that can be read yet")
    fresh = timedelta(seconds=newest.age_seconds) <= FRESH * s.policy.snapshot_interval
    written = max(each.applied_index for each in _others(s).values() if isinstance(each, MemberStatus))
    if not fresh and manifest.raft_index < written:
        age = timedelta(seconds=round(newest.age_seconds))
        return wait(Blocker.UPGRADE, f"{step} only behind a fresh snapshot, and the newest is {age} old")
    if minor_of(manifest.etcd_version) != cluster:
        return wait(
            Blocker.UPGRADE, f"{step} only behind a snapshot of {_text(cluster)}: {manifest.name} is of another"
        )
    return None


def _text(minor: Minor) -> str:
    return ".".join(map(str, minor))
