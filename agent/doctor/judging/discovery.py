"""What the agent would see of itself and of the others: IMDS, tags, groups, peers. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from agent.doctor.finding import Finding, failure, ok, unknown, warning
from agent.model.cluster import voter_target
from agent.model.fleet import Fleet
from agent.model.known import Ignorance, Unknown
from agent.model.observation import Me

OPTIONS = "aws ec2 modify-instance-metadata-options (or the launch template's metadata_options)"


class Reached(StrEnum):
    """What a connection to a peer's port came to."""

    LISTENS = "listens"
    REFUSES = "refuses"  # the way is open, and nothing listens there now
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class DiscoverySeen:
    me: Me | Unknown
    metadata_tags: tuple[str, ...] | Unknown | None
    """Keys; None: the metadata options do not show them."""
    needs_token: bool | Unknown
    tags: tuple[tuple[str, str], ...]
    """discovery.tags"""
    fleet: Fleet | Unknown
    peers: Mapping[str, Reached]
    """Of every other instance that is up: its peer port."""

    @property
    def own_group(self) -> str:
        """This instance's Auto Scaling group; empty: not known."""
        if isinstance(self.me, Unknown) or isinstance(self.fleet, Unknown):
            return ""
        myself = self.fleet.find(self.me.instance)
        return (myself.group or "") if myself else ""


def judge(seen: DiscoverySeen) -> Iterator[Finding]:
    yield from _imds(seen)
    yield from _fleet(seen)
    yield from _peers(seen)


def _imds(seen: DiscoverySeen) -> Iterator[Finding]:
    check, me = "imds", seen.me
    if isinstance(me, Unknown):
        said = "the agent does not know who it is, and waits"
        fix = f"enable it on this instance: {OPTIONS}; http_endpoint=enabled"
        yield failure(check, me.detail, said, fix)
        return
    yield ok(check, f"{me.instance} at {me.private_ip} in {me.zone}")
    if isinstance(seen.needs_token, Unknown):
        yield unknown("imds-v2", seen.needs_token, "IMDSv1 may be on", OPTIONS)
    elif not seen.needs_token:
        said = "whatever on this machine can be made to fetch a URL can be made to fetch the role's keys"
        yield warning("imds-v2", "IMDSv1 is on: nobody needs a token", said, f"{OPTIONS}; http_tokens=required")
    else:
        yield ok("imds-v2", "only with a token")
    if isinstance(seen.metadata_tags, Unknown):
        yield unknown("metadata-tags", seen.metadata_tags, "scripts that read tags there find none", OPTIONS)
    elif seen.metadata_tags is None:
        yield ok("metadata-tags", "not shown in the instance metadata: the agent needs none there")
    else:
        yield ok("metadata-tags", f"in the instance metadata: {', '.join(seen.metadata_tags)}")


def _fleet(seen: DiscoverySeen) -> Iterator[Finding]:
    check = "discovery"
    by = " and ".join(f"{key}={value}" for key, value in seen.tags) or "this instance's own Auto Scaling group"
    if isinstance(seen.fleet, Unknown):
        why = seen.fleet
        said = "the agent sees no fleet: it founds nothing, joins nothing and removes nobody"
        if why.why in (Ignorance.MALFORMED, Ignorance.OURS, Ignorance.DENIED):
            fix = (
                "give this instance the tags of discovery.tags through its group (PropagateAtLaunch), or set them right"
            )
            denied = "allow the statements SeeInstances and SeeGroups of `iam-policy`"
            yield failure(check, f"by {by}: {why.detail}", said, denied if why.why is Ignorance.DENIED else fix)
        else:
            yield unknown(check, why, said, "mend that, and run the doctor again")
        return
    fleet = seen.fleet
    wanted = fleet.desired_capacity
    groups = ", ".join(f"{each.name} ({each.desired_capacity} desired)" for each in fleet.groups) or "no group"
    yield ok(check, f"by {by}: {', '.join(each.id for each in fleet.live)}; {groups}")
    yield from _group(seen, fleet)
    yield from _capacity(wanted)


def _capacity(wanted: int) -> Iterator[Finding]:
    check, voters = "capacity", voter_target(wanted)
    may_go = (voters - 1) // 2
    told = f"{wanted} desired: {voters} voters" + (f" and {wanted - voters} in reserve" if wanted > voters else "")
    if not wanted:
        return
    if may_go == 0:
        said = "no member may be lost: the cluster stops with the first that goes"
        yield warning(check, told, said, "a desired capacity of 3 or 5; with several groups, their sum")
    else:
        yield ok(check, f"{told}, of whom {may_go} may be lost")


def _group(seen: DiscoverySeen, fleet: Fleet) -> Iterator[Finding]:
    check = "group"
    myself = None if isinstance(seen.me, Unknown) else fleet.find(seen.me.instance)
    if myself is None:
        return
    if myself.group is None:
        said = "nobody replaces it when it is gone, and it has no lifecycle hooks"
        yield warning(
            check, f"{myself.id} belongs to no Auto Scaling group", said, "start instances by the group alone"
        )
    else:
        yield ok(check, f"{myself.id} is {myself.lifecycle or 'not told'} in {myself.group}")


def _peers(seen: DiscoverySeen) -> Iterator[Finding]:
    check = "peers"
    silent = [name for name, reached in seen.peers.items() if reached is Reached.SILENT]
    told = ", ".join(f"{name} {reached}" for name, reached in seen.peers.items())
    if silent:
        said = "a member that its peers cannot reach is no member; one that is only switched off will come back"
        fix = "open etcd.peer_port between the instances' security groups, both ways; or wait until they are up"
        yield warning(check, f"{told}: no connection to {', '.join(silent)}", said, fix)
    elif seen.peers:
        yield ok(check, told)
