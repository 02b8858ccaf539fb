"""What an operator may order where no proof holds: instances written off, or the next generation from a given source.

House rules. Pure: what was read comes in as a `Case`, and a `Draft` of what would be done goes out, or a `Refusal`.
Nobody's word replaces a look: a cluster that answers, or that may serve where nobody here can see it, is `grave`, and
whoever carries a grave draft out has to be told so in capitals first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import assert_never

from agent.decide.assembling import seat_at
from agent.decide.case import Case, Life, life_of, silent
from agent.decide.loss import NotProven, lists_of
from agent.decide.seeding import best_snapshot, best_survivor, holds_all_of, seed_of
from agent.model.cluster import quorum_of
from agent.model.generation import Exclusion, GenerationRecord
from agent.model.ids import GenerationNumber, InstanceId, PeerUrl
from agent.model.policy import Policy
from agent.model.snapshot import Manifest, Origin, SnapshotName

BUMPS_SINCE = (3, 5, 10)
"""The etcd whose restore tool first had `--bump-revision`."""


# ---- orders and drafts ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FromSurvivor:
    """The agents recover, from the best survivor that is left; the operator only writes instances off."""


@dataclass(frozen=True, slots=True)
class FromSnapshot:
    """The next generation is restored from this snapshot in the bucket."""

    manifest: Manifest
    marked_bad: bool = False


@dataclass(frozen=True, slots=True)
class FromUrl:
    """The next generation is restored from what plain etcd saved elsewhere, once it was taken into the bucket."""

    url: str


@dataclass(frozen=True, slots=True)
class FromNothing:
    """The next generation begins empty."""


Source = FromSurvivor | FromSnapshot | FromUrl | FromNothing


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was ordered cannot be done, or makes no sense; in a line, with what to do instead."""

    why: str


@dataclass(frozen=True, slots=True)
class Draft:
    """What would be done, and what follows from it, in lines for people."""

    generation: GenerationNumber  # the record to be written; of a writing off, the generation that it is about
    founders: Mapping[InstanceId, PeerUrl] = field(default_factory=dict)
    exclusions: tuple[Exclusion, ...] = ()  # to be written
    bump_revision: int = 0
    consequences: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    grave: str = ""  # why it may be done to a cluster that lives; "" where that is out of the question

    @property
    def idle(self) -> bool:
        """There is nothing to write: the agents do it by themselves."""
        return not self.founders and not self.exclusions


def draft(case: Case, source: Source, exclude: tuple[Exclusion, ...], tool_bumps: bool | None) -> Draft | Refusal:
    """`tool_bumps`: whether the founders' restore tool can raise revisions; None: it cannot be looked at from here."""
    strangers = [each.instance for each in exclude if not _is_known(case, each.instance)]
    if strangers:
        return Refusal(
            f"nobody knows {', '.join(strangers)}: it is not in the fleet, in a report or among the founders"
        )
    if isinstance(source, FromSurvivor):
        return _writing_off(case, exclude)
    return _replacing(case, source, frozenset(each.instance for each in exclude), tool_bumps)


def _is_known(case: Case, name: InstanceId) -> bool:
    """An instance, or the ID of a member that was never started and has no name yet."""
    founders = case.head.founders if case.head is not None else {}
    entries = [entry for each in case.filed for members in lists_of(each.report) for entry in members]
    entries += case.o.manifest.members if isinstance(case.o.manifest, Manifest) else ()
    told = {entry.name for entry in entries} | {str(entry.id) for entry in entries}
    reporters = {each.report.instance for each in case.filed}
    return name in founders or name in told or name in reporters or case.fleet.find(name) is not None


# ---- writing off ----------------------------------------------------------------------------------------------------


def _writing_off(case: Case, exclude: tuple[Exclusion, ...]) -> Draft | Refusal:
    life, why = life_of(case)
    if case.head is None:
        return Refusal("there is no generation to recover: name a source with --from")
    if life is Life.SERVES:
        return Refusal(f"generation {case.head.generation} lives ({why}): there is nothing to recover")
    if life is Life.LOST:
        return Draft(case.head.generation, consequences=(why, what_agents_do(case)))
    new = tuple(each for each in exclude if each.instance not in case.written_off)
    if not new:
        return Refusal(
            "the agents wait for what is named above; --exclude INSTANCE writes one off that will never come back"
        )
    after = case.writing_off(new)
    names = ", ".join(each.instance for each in new)
    return Draft(
        case.head.generation,
        exclusions=new,
        consequences=(
            f"written off for generation {case.head.generation}: {names}; what only their disks hold is lost",
            what_agents_do(after),
            "the agents act by themselves, each within a few rounds; nothing is deleted",
        ),
        warnings=tuple(_about_the_excluded(case, new)),
        grave=_may_serve(case, new),
    )


def what_agents_do(case: Case) -> str:
    """What follows from the reports and the exclusions as they are."""
    verdict = case.verdict
    if isinstance(verdict, NotProven):
        return f"the agents still wait for {verdict}"
    survivor = best_survivor(verdict.holders)
    newest = case.o.manifest
    if survivor is not None and isinstance(newest, Manifest) and holds_all_of(newest, survivor):
        return f"the agents begin the next generation from {newest.name}, which has all that {survivor.instance} has"
    if survivor is not None and survivor.position is not None:
        at = survivor.position
        log = f"its log, to term {at.last_term}, index {at.last_index}"
        return f"the agents begin the next generation from {survivor.instance}: nothing is lost that reached {log}"
    name = None if case.head is None else best_snapshot(case.head, case.listed)
    if name is None:
        return "nobody has data that can be used, and there is no sound snapshot: the agents call a human"
    age = next(each.age_seconds for each in case.listed if each.name == name)
    return f"the agents begin the next generation from {name}, {age:.0f} s old: what was written since is lost"


def _about_the_excluded(case: Case, exclude: tuple[Exclusion, ...]) -> Iterator[str]:
    for each in exclude:
        held = next((report for report in case.holders if report.instance == each.instance), None)
        if held is not None:
            to = "" if held.position is None else f" to index {held.position.last_index}"
            yield f"{each.instance} is here and reports {held.data.value} data{to}: it will be left out"


def _may_serve(case: Case, exclude: tuple[Exclusion, ...]) -> str:
    """An instance that EC2 calls up, and that nobody heard, may be serving somebody."""
    up = sorted(silent(case) & {each.instance for each in exclude})
    if not up:
        return ""
    return f"not heard, though EC2 calls them up: {', '.join(up)}; if they serve, what is written there is lost"


# ---- replacing ------------------------------------------------------------------------------------------------------


def next_number(case: Case, source: Source) -> GenerationNumber:
    """One more than any generation that there is a trace of: records may have been lost, and disks remember.

    A file that was taken in is no trace of any, whatever it is called.
    """
    known = [each.name.generation for each in case.listed if each.name != _taken_in(source)]
    known += [each.report.generation for each in case.filed if each.report.generation is not None]
    if case.head is not None:
        return GenerationNumber(case.head.generation + 1)
    return GenerationNumber(max(known, default=0) + 1)


def _taken_in(source: Source) -> SnapshotName | None:
    if isinstance(source, FromSnapshot) and source.manifest.origin is Origin.IMPORT:
        return source.manifest.name
    return None


def _replacing(
    case: Case, source: FromSnapshot | FromUrl | FromNothing, exclude: frozenset[InstanceId], tool_bumps: bool | None
) -> Draft | Refusal:
    founders = _founders(case, exclude | case.written_off)
    if isinstance(founders, Refusal):
        return founders
    life, why = life_of(case, exclude)
    number = next_number(case, source)
    bump = 0 if isinstance(source, FromNothing) else bump_for(case.policy, source, tool_bumps)
    return Draft(
        number,
        founders=founders,
        bump_revision=bump,
        consequences=(*_loss(case, source, number), *_what_follows(case, number, founders, bump, source)),
        warnings=tuple(_doubts(case, source, founders)),
        grave=why if life in (Life.SERVES, Life.UNTOLD) else "",
    )


def _founders(case: Case, without: frozenset[InstanceId]) -> dict[InstanceId, PeerUrl] | Refusal:
    """Everybody who is up and has come to stay; if there are more than seats, those who spoke lately."""
    reported = {each.instance: each.peer_url for each in case.fresh}
    urls = {
        each: url
        for each in case.fleet.up
        if not each.leaving and each.id not in without
        if (url := reported.get(each.id) or case.peer_urls.get(each.id)) is not None
    }
    if not urls:
        return Refusal("no instance is up that could found the next generation: start some first")
    speaking = {each: url for each, url in urls.items() if each.id in reported}
    enough = len(speaking) >= max(1, min(len(urls), case.fleet.desired_capacity))
    founders = seat_at(case.fleet, speaking if enough else urls)
    return founders or Refusal("two instances have the same peer URL: --exclude one of them")


def bump_for(policy: Policy, source: FromSnapshot | FromUrl, tool_bumps: bool | None) -> int:
    """As the policy says, if the restore tool can; by the version in the manifest where nobody can ask the tool.

    A version that is not known (a file made elsewhere) is taken for a current one.
    """
    if tool_bumps is not None:
        return policy.bump_revision if tool_bumps else 0
    version = source.manifest.etcd_version if isinstance(source, FromSnapshot) else ""
    parts = version.partition("-")[0].split(".")
    if len(parts) == 3 and all(part.isdecimal() for part in parts):
        return policy.bump_revision if tuple(map(int, parts)) >= BUMPS_SINCE else 0
    return policy.bump_revision


def _loss(case: Case, source: FromSnapshot | FromUrl | FromNothing, number: GenerationNumber) -> Iterator[str]:
    match source:
        case FromNothing():
            yield f"generation {number} begins EMPTY: every key is lost"
        case FromUrl(url=url):
            yield f"generation {number} begins with what is in {url}: every later write is lost"
        case FromSnapshot(manifest=manifest):
            name = manifest.name
            age = timedelta(seconds=round(max(0.0, (case.o.now - name.taken_at).total_seconds())))
            yield f"generation {number} begins with {name}, taken {age} ago by {manifest.instance}"
            more = _beyond(case, name.revision, name.generation)
            yield f"what was written after revision {name.revision} is lost{more}"
        case _:
            assert_never(source)


def _beyond(case: Case, revision: int, generation: GenerationNumber) -> str:
    """How much that is, as far as anybody knows."""
    known = [each.report.revision or 0 for each in case.filed if each.report.generation == generation]
    known += [each.name.revision for each in case.listed if each.usable and each.name.generation == generation]
    more = max(known, default=0) - revision
    return f": at least {more} revisions, by what is reported and listed" if more > 0 else ""


def _what_follows(
    case: Case,
    number: GenerationNumber,
    founders: Mapping[InstanceId, PeerUrl],
    bump: int,
    source: FromSnapshot | FromUrl | FromNothing,
) -> Iterator[str]:
    needed = quorum_of(len(founders))
    yield f"its founders are {', '.join(sorted(founders))}; it serves once {needed} of them have started"
    if bump:
        yield f"revisions go up by {bump}, so that clients that watch are told to look anew"
    elif not isinstance(source, FromNothing):
        yield "revisions are not raised: clients that watch must be restarted, or they may miss writes unawares"
    if number > 1:
        serving = timedelta(seconds=round(case.policy.head_interval.total_seconds()))
        yield f"members of older generations stop when their agents read the record: within {serving} where they serve"
        yield "their data goes to quarantine/ below etcd.data_root on each instance; nothing is deleted"


def _doubts(
    case: Case, source: FromSnapshot | FromUrl | FromNothing, founders: Mapping[InstanceId, PeerUrl]
) -> Iterator[str]:
    survivor = best_survivor(case.holders)
    if survivor is not None and survivor.position is not None:
        at = survivor.position
        yield (
            f"{survivor.instance} reports data to term {at.last_term}, index {at.last_index}: "
            "--from survivor would keep it"
        )
    quiet = sorted(set(founders) - {each.instance for each in case.fresh})
    if quiet and case.fresh:
        yield f"not heard lately: {', '.join(quiet)}; do their agents run?"
    if isinstance(source, FromSnapshot):
        if source.marked_bad:
            yield "somebody marked this snapshot as bad; it is verified again before anything is written"
        if case.head is not None and not _is_of_its_past(source.manifest, case.head):
            yield f"this snapshot is of another lineage than generation {case.head.generation}: compare what it holds"


def _is_of_its_past(manifest: Manifest, head: GenerationRecord) -> bool:
    seed = seed_of(head)
    return manifest.name.generation == head.generation or (seed is not None and manifest.name <= seed)
