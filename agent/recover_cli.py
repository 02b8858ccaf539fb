"""`etcd-asg-agent recover`: an operator's word where no proof holds. Shows the evidence, asks, and only then acts.

House rules. What would be done is drafted by `agent.decide.by_hand` and shown before anybody is asked; it is drafted
again from a fresh look right before it is done, and whatever became graver meanwhile is refused. A cluster that may
live is replaced only by whoever types its name, or says so with a flag of its own. Nothing is ever deleted.
"""

from __future__ import annotations

import argparse
import getpass
import json
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from agent.config_cli import add_settings_arguments, load_settings
from agent.decide.assembling import record_of
from agent.decide.by_hand import (
    Draft,
    FromNothing,
    FromSnapshot,
    FromSurvivor,
    FromUrl,
    Refusal,
    Source,
    draft,
    next_number,
)
from agent.decide.case import Case, Life, life_of, unheard
from agent.decide.loss import Lost
from agent.model.faults import Refused, Unavailable
from agent.model.generation import Cause, Exclusion, FiledReport, GenerationRecord, Seed
from agent.model.ids import GenerationNumber, InstanceId
from agent.model.known import Ignorance
from agent.model.observation import Me
from agent.model.snapshot import Manifest, Origin, SnapshotName
from agent.progress import OnBytes, progress
from agent.snapshot_cli import age, latest, named
from agent.telemetry.recovery import report_line, verdict

if TYPE_CHECKING:
    from agent.inquiry import Records
    from agent.world.snapshot_stream import Uploaded

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - what add_subparsers returns

EXIT_FAILED = 1
FEW = 5
MADE_ELSEWHERE = "unknown"
"""The etcd version of a file that does not tell. Nothing calls it too new, or too old."""

DESCRIPTION = """\
Agents recover a cluster by themselves once it is proven that it can never have a leader again. Where that cannot be
proven, they wait and say for whom; this command is the way out. It shows what is known, what would be done and what
would be lost, and asks before it does anything.

--from survivor (the default where an instance reports data): write off instances that will never come back, each with
--exclude. The agents then recover from the best disk that is left.
--from latest | MANIFEST | s3://BUCKET/KEY | empty: begin the next generation from the newest snapshot, from the one of
this name or key (`snapshot list` prints them), from a file that `etcdctl snapshot save` made elsewhere, or with no
data.
The old generation, if it still runs, stops as soon as its agents read the new record."""

EPILOG = """\
examples:
  etcd-asg-agent recover --dry-run
  etcd-asg-agent recover --exclude i-0abc123 --why "its volume is gone, ticket 4711"
  etcd-asg-agent recover --from latest --exclude i-0abc123
  etcd-asg-agent recover --from s3://backups/prod/2026-11-22.db

See docs/recovery.md for what each costs."""


class Store(Protocol):
    """Snapshots into the bucket and out of it: `SnapshotStore`."""

    def verify(self, manifest: Manifest, on_bytes: OnBytes) -> None: ...

    def fetch_foreign(self, url: str, into: Path, on_bytes: OnBytes) -> None: ...

    def adopt(self, url: str, name: SnapshotName, on_bytes: OnBytes) -> Uploaded: ...

    def commit(self, manifest: Manifest) -> None: ...


class Place(Protocol):
    """Where the order is given: the bucket that it goes to, and which machine this is."""

    @property
    def bucket(self) -> Records: ...

    @property
    def me(self) -> Me: ...


@dataclass(frozen=True, slots=True)
class Person:
    """Whoever gives the order, and how they are asked. `type_in` None: nobody is there to ask."""

    name: str
    type_in: Callable[[str], str] | None
    yes: bool = False
    replace_living: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """The command line. `source` None: as the evidence suggests."""

    source: str | None = None
    exclude: tuple[InstanceId, ...] = ()
    why: str = ""
    dry_run: bool = False
    as_json: bool = False


# ---- the command line -----------------------------------------------------------------------------------------------


def add_parser(commands: Commands) -> None:
    """`recover` and its options."""
    parser = commands.add_parser(
        "recover",
        help="decide by hand what no proof decides: write instances off, or begin the next generation",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_settings_arguments(parser)
    parser.add_argument(
        "--from", dest="source", metavar="SOURCE", help="survivor, latest, MANIFEST, s3://BUCKET/KEY, empty"
    )
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="INSTANCE",
        help="will never serve again: an instance or, of a member without a name, its ID; repeatable",
    )
    parser.add_argument("--why", default="", metavar="TEXT", help="kept in the bucket with what is written")
    parser.add_argument("--dry-run", action="store_true", help="show everything, ask nothing, do nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask; not enough for a cluster that may live")
    parser.add_argument(
        "--replace-living-cluster", action="store_true", help="with --yes: also where the cluster may live"
    )
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.set_defaults(command=_recover)


def _recover(args: argparse.Namespace) -> int:
    from agent.inquiry import inquire
    from agent.wiring import command_post

    post = command_post(load_settings(args))
    exclude = tuple(map(InstanceId, dict.fromkeys(args.exclude)))
    order = Order(args.source, exclude, args.why, dry_run=args.dry_run, as_json=args.json)
    asked = _type_in if sys.stdin.isatty() else None
    person = Person(_whoami(), asked, yes=args.yes, replace_living=args.replace_living_cluster)
    return recover(post, post.store, lambda: inquire(post), post.can_bump_revisions, order, person)


def _type_in(prompt: str) -> str:
    print(prompt, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def _whoami() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return socket.gethostname()


# ---- the order ------------------------------------------------------------------------------------------------------


def recover(
    post: Place, store: Store, inquire: Callable[[], Case], tool_bumps: Callable[[], bool], order: Order, person: Person
) -> int:
    """Look, draft, show, ask, look again, act."""
    case = inquire()
    audience = _Audience(sys.stderr if order.as_json else sys.stdout, silent=order.as_json and not person.type_in)
    audience.hear(evidence_lines(case))
    exclude = tuple(Exclusion(each, order.why, person.name, case.o.now) for each in order.exclude)
    bumps = tool_bumps() if case.fleet.find(post.me.instance) is not None else None
    try:
        source = _source(post, case, order)
        drafted = _possible(draft(case, source, exclude, bumps))
    except Refused as refused:
        if order.as_json:
            _print_values(case, None, (), str(refused))
        raise
    audience.hear(_draft_lines(drafted))
    if order.dry_run or drafted.idle:
        return _tell(case, drafted, order, wrote=(), said="nothing was done" if order.dry_run else "nothing to do")
    if not _agreed(drafted, person, case.policy.cluster):
        _tell(case, drafted, order, wrote=(), said="nothing was done: it was not agreed to")
        return EXIT_FAILED
    if drafted.exclusions:
        return _tell(case, drafted, order, _write_off(post, drafted), said="the agents take it from here")
    source = _in_the_bucket(post, store, case, source)
    case = inquire()
    drafted = _still(drafted, draft(case, source, exclude, bumps))
    record = _record(case, drafted, source, order, person)
    if not post.bucket.create_generation(record):
        first = f"another record of generation {record.generation} came first: run this again and look"
        raise Unavailable(Ignorance.FAILED, first)
    said = f"generation {record.generation} is written; watch it form with `members` and `status`"
    return _tell(case, drafted, order, (f"generations/{record.generation:06d}.json",), said=said)


def _possible(drafted: Draft | Refusal) -> Draft:
    if isinstance(drafted, Refusal):
        raise Refused(drafted.why)
    return drafted


def _source(post: Place, case: Case, order: Order) -> Source:
    """What `--from` means; without it, the survivors if there are any, or somebody is to be written off."""
    text = order.source
    if text is None:
        if case.holders or order.exclude:
            return FromSurvivor()
        raise Refused("no instance reports data: name a source, with --from latest, MANIFEST, s3://BUCKET/KEY or empty")
    if text == "survivor":
        return FromSurvivor()
    if text == "empty":
        return FromNothing()
    if text.startswith("s3://"):
        return FromUrl(text)
    name = named(text, case.head, case.listed)
    manifest = post.bucket.manifest(name)
    if manifest is None:
        raise Refused(f"{name} has no manifest, so it is no snapshot: see `etcd-asg-agent snapshot list`")
    return FromSnapshot(manifest, marked_bad=any(each.bad for each in case.listed if each.name == name))


# ---- asking ---------------------------------------------------------------------------------------------------------


def _agreed(drafted: Draft, person: Person, cluster: str) -> bool:
    """Whether to go on. Refused where nobody can be asked and no flag says it."""
    if drafted.grave and not (person.yes and person.replace_living):
        return _agreed_by_name(drafted, person, cluster)
    if person.yes:
        return True
    if person.type_in is None:
        raise Refused("nobody can be asked here, since standard input is no terminal: say --yes to go on")
    return person.type_in("Type yes to go on: ") == "yes"


def _agreed_by_name(drafted: Draft, person: Person, cluster: str) -> bool:
    if person.yes or person.type_in is None:
        said = "say --yes and --replace-living-cluster to do it all the same"
        raise Refused(f"this may replace a cluster that lives ({drafted.grave}): {said}")
    what = "WRITE OFF INSTANCES OF" if drafted.exclusions else "REPLACE"
    print(f"\nYOU ARE ABOUT TO {what} A CLUSTER THAT MAY BE ALIVE: {drafted.grave}.", file=sys.stderr)
    print("WHATEVER IT WRITES FROM NOW ON, AND WHAT THE NEW ONE DOES NOT HOLD, WILL BE LOST.", file=sys.stderr)
    return person.type_in("Type the cluster's name to go on: ") == cluster


# ---- acting ---------------------------------------------------------------------------------------------------------


def _write_off(post: Place, drafted: Draft) -> tuple[str, ...]:
    for each in drafted.exclusions:
        post.bucket.exclude(drafted.generation, each)  # False: somebody else did, which is as good
    return tuple(f"generations/{drafted.generation:06d}/excluded/{each.instance}.json" for each in drafted.exclusions)


def _in_the_bucket(post: Place, store: Store, case: Case, source: Source) -> Source:
    """The seed, verified before any record names it; what lies elsewhere is taken in first."""
    if isinstance(source, FromUrl):
        manifest = import_snapshot(post, store, case, source.url)
        return FromSnapshot(manifest)
    if isinstance(source, FromSnapshot):
        with progress("verifying the snapshot", source.manifest.size_bytes, sys.stderr) as on_bytes:
            store.verify(source.manifest, on_bytes)
    return source


def import_snapshot(post: Place, store: Store, case: Case, url: str) -> Manifest:
    """A file that plain etcd saved becomes a snapshot of ours: uploaded, verified, with a manifest."""
    generation = GenerationNumber(max(1, next_number(case, FromUrl(url)) - 1))
    name = SnapshotName(generation, _revision_in(store, url), case.o.now.replace(microsecond=0))
    with progress("taking the file in", 0, sys.stderr) as on_bytes:
        uploaded = store.adopt(url, name, on_bytes)
    manifest = Manifest(
        name=name,
        cluster=case.policy.cluster,
        origin=Origin.IMPORT,
        instance=post.me.instance,
        agent=case.policy.agent_version,
        etcd_version=MADE_ELSEWHERE,
        size_bytes=uploaded.size_bytes,
        sha256=uploaded.sha256,
        stored_bytes=uploaded.stored_bytes,
    )
    store.commit(manifest)
    return manifest


def _revision_in(store: Store, url: str) -> int:
    """Only the whole file tells; 0 where there is no room for it. The name alone depends on it."""
    from agent.world.etcd_bolt import read
    from agent.world.etcd_damage import Damage

    with tempfile.TemporaryDirectory(prefix="etcd-asg-agent-") as folder:
        file = Path(folder) / "snapshot.db"
        try:
            with progress("reading the file", 0, sys.stderr) as on_bytes:
                store.fetch_foreign(url, file, on_bytes)
            return read(file).revision
        except Damage as damage:
            raise Refused(f"{url}: {damage}", Ignorance.MALFORMED) from damage
        except Refused as refused:
            if refused.unknown.why is not Ignorance.OURS:
                raise
            print(f"its revision is not known ({refused}): it is called 0", file=sys.stderr)
            return 0


def _still(drafted: Draft, again: Draft | Refusal) -> Draft:
    """What was agreed to, by a fresh look; Refused where it would now be another thing."""
    if isinstance(again, Refusal):
        raise Refused(f"things changed meanwhile: {again.why}")
    if again.generation != drafted.generation or (again.grave and not drafted.grave):
        why = again.grave or f"generation {again.generation - 1} was written"
        raise Refused(f"things changed meanwhile ({why}): run this again and look at what it says")
    return again


def _record(case: Case, drafted: Draft, source: Source, order: Order, person: Person) -> GenerationRecord:
    seed = None
    if isinstance(source, FromSnapshot):
        name, digest = source.manifest.name, source.manifest.sha256
        seed = Seed(name.manifest_key, name.revision, digest, "operator", drafted.bump_revision)
    cause = Cause("operator", _evidence(case, order, person))
    return record_of(case.o, case.policy, drafted.generation, drafted.founders, cause, seed)


def _evidence(case: Case, order: Order, person: Person) -> dict[str, Any]:
    """Every fact that was shown, for the record."""
    life, why = life_of(case, frozenset(order.exclude))
    judged = case.verdict
    return {
        "by": person.name,
        "why": order.why,
        "from": order.source or "survivor",
        "excluded": sorted(order.exclude),
        "life": life.value,
        "because": why,
        "reports": {each.report.instance: report_line(each) for each in case.filed},
        **({"proof": judged.evidence} if isinstance(judged, Lost) else verdict(judged)),
    }


# ---- showing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Audience:
    """Where people read along: standard output, or, where that is a script's, standard error if anybody is there."""

    to: TextIO
    silent: bool

    def hear(self, lines: Iterable[str]) -> None:
        for line in () if self.silent else lines:
            print(line, file=self.to)


def _draft_lines(drafted: Draft) -> Iterator[str]:
    yield "\nwhat this does:"
    yield from (f"  - {line}" for line in drafted.consequences)
    yield from (f"  ! {line}" for line in drafted.warnings)


def evidence_lines(case: Case) -> list[str]:
    """All that is known, for a person who has to decide."""
    life, why = life_of(case)
    head = case.head
    lines = [f"cluster {case.policy.cluster}: {life.value.upper()}: {why}"]
    if head is not None:
        lines.append(f"newest generation {head.generation}, of {head.created_at:%FT%XZ} ({head.cause.kind})")
    lines += ["", "reports:", *(f"  {_report(case, each)}" for each in case.filed)]
    if not case.filed:
        lines[-1] = "reports: none (agents of a cluster that works file none)"
    for name in unheard(case):
        instance = case.fleet.find(name)
        lines.append(f"  {name}, {instance.state if instance else 'unknown'}: no report lately")
    lines += [
        f"  {each.instance}: written off by {each.by}: {each.why or 'no reason given'}" for each in case.exclusions
    ]
    blockers = verdict(case.verdict)["blockers"]
    if head is not None and blockers and life is not Life.SERVES:
        lines += ["", "not proven lost, because of:", *(f"  {each['who']}: {each['why']}" for each in blockers)]
        if case.fleet.find(case.o.me.instance) is None:
            lines.append("  (this machine is none of the fleet: that EC2 does not know somebody proves nothing here)")
    sound = [each for each in sorted(case.listed, key=lambda each: each.name, reverse=True) if each.usable]
    lines += ["", "sound snapshots:" if sound else "sound snapshots: none"]
    best = latest(head, case.listed)
    lines += [
        f"  {each.name}, {age(each.age_seconds)} old{' (latest)' if each.name == best else ''}" for each in sound[:FEW]
    ]
    return lines if len(sound) <= FEW else [*lines, f"  and {len(sound) - FEW} more (`snapshot list`)"]


def _report(case: Case, filed: FiledReport) -> str:
    old = filed.age_seconds > case.policy.report_max_age.total_seconds()
    return f"{report_line(filed)}{' (too old to count)' if old else ''}"


def _tell(case: Case, drafted: Draft, order: Order, wrote: tuple[str, ...], said: str) -> int:
    if order.as_json:
        _print_values(case, drafted, wrote, said)
        return 0
    print()
    for key in wrote:
        print(f"wrote {key}")
    print(f"{said[0].upper()}{said[1:]}.")
    return 0


def _print_values(case: Case, drafted: Draft | None, wrote: tuple[str, ...], said: str) -> None:
    life, why = life_of(case)
    values = {
        "cluster": case.policy.cluster,
        "head": None if case.head is None else case.head.generation,
        "life": life.value,
        "because": why,
        "verdict": verdict(case.verdict),
        "reports": [{"age_seconds": each.age_seconds, **json.loads(each.report.to_json())} for each in case.filed],
        "unheard": list(unheard(case)),
        "excluded": sorted(case.written_off),
        "snapshots": [str(each.name) for each in case.listed if each.usable],
        "plan": None if drafted is None else _as_values(drafted),
        "wrote": list(wrote),
        "said": said,
    }
    print(json.dumps(values, indent=2))


def _as_values(drafted: Draft) -> dict[str, Any]:
    return {
        "generation": drafted.generation,
        "founders": dict(drafted.founders),
        "exclude": [each.instance for each in drafted.exclusions],
        "bump_revision": drafted.bump_revision,
        "consequences": list(drafted.consequences),
        "warnings": list(drafted.warnings),
        "grave": drafted.grave,
    }
