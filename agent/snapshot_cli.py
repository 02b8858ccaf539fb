"""`etcd-asg-agent snapshot take | list | verify | prune | drill`: the snapshots in the bucket, for people and scripts.

House rules. `list`, `verify` and `prune` need the bucket alone, so they work wherever AWS credentials do; `take` and
`drill` need the etcd and the disk of the instance they run on, and keep out of the running agent's way. Every command
is a function of the doors that it needs, which are handed in; it returns its exit code.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from agent.config_cli import add_settings_arguments, load_settings
from agent.decide.seeding import best_snapshot, seed_of
from agent.model.cluster import MemberStatus
from agent.model.disk import Disk
from agent.model.faults import Refused, Trouble, Unavailable
from agent.model.generation import GenerationRecord
from agent.model.ids import GenerationNumber, InstanceId
from agent.model.known import Ignorance
from agent.model.policy import Policy
from agent.model.retention import expired, kept_for
from agent.model.snapshot import (
    BAD,
    DATA,
    MANIFEST,
    DrillRecord,
    DrillResult,
    Listed,
    Manifest,
    Origin,
    SnapshotName,
)
from agent.progress import OnBytes, progress

if TYPE_CHECKING:
    from agent.wiring import Wired

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - what add_subparsers returns

EXIT_FAILED = 1


class Shelf(Protocol):
    """The bucket, as far as snapshots go."""

    def head(self, after: GenerationRecord | None) -> GenerationRecord | None: ...

    def snapshots(self) -> tuple[Listed, ...]: ...

    def manifest(self, name: SnapshotName) -> Manifest | None: ...

    def mark_bad(self, name: SnapshotName, why: str) -> None: ...

    def why_bad(self, name: SnapshotName) -> str | None: ...

    def expire(self, names: Sequence[SnapshotName]) -> None: ...

    def last_drill(self) -> DrillRecord | None: ...


class Reader(Protocol):
    """Reads a snapshot to its end: `SnapshotStore`."""

    def verify(self, manifest: Manifest, on_bytes: OnBytes) -> None: ...


class Taker(Protocol):
    """Takes and tries out: `Errands`."""

    def take(self, generation: GenerationNumber, origin: Origin, rescued: None, on_bytes: OnBytes) -> Manifest: ...

    def drill(self, name: SnapshotName, on_bytes: OnBytes) -> Manifest | None: ...


# ---- the command line -----------------------------------------------------------------------------------------------

DESCRIPTION = """\
A snapshot is etcd's own, compressed, in the bucket below PREFIX/CLUSTER/snapshots/. It counts once its manifest is
there, which is written last. The running agents take, expire and try out snapshots by themselves; this is for people.

NAME is what `list` prints, such as snapshots/000001/00000000000000000812-20261122T070000Z, or `latest`: the one that
a recovery would use now."""

_TAKE = """Streams a snapshot of this instance's own etcd into the bucket, verifies it, and prints what it is. Needs a
cluster that works: where a quorum is lost, the agents rescue what the survivors hold (see `recover`)."""
_LIST = """Newest first: how old each is, its size in the bucket, whether it counts, what a recovery would use now."""
_VERIFY = """Downloads snapshots and compares sizes and digests with the manifest and with etcd's own trailing digest.
Nothing is written to this disk. With --mark, what is found bad is marked in the bucket, and no agent uses it again.
Exit code 1 if any of them is bad or cannot be read."""
_PRUNE = """Deletes what the settings do not keep (snapshots.keep_newest, keep_hourly, keep_daily), as the agents do by
themselves. Never: the newest sound one of any generation, what the newest generation was restored from, or anything
that has no newer sound one behind which to go."""
_DRILL = """Restores a snapshot into a scratch etcd on this instance, alone on loopback, and compares it with its
manifest: revision, number of keys, hash. Needs room on the disk below etcd.data_root. Files the result in the bucket,
as the agents' own drills do. Exit code 1 unless it passed."""


def add_parser(commands: Commands) -> None:
    """`snapshot` and its verbs."""
    snapshot = commands.add_parser(
        "snapshot",
        help="take, list, verify, prune or try out snapshots",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = snapshot.add_subparsers(metavar="VERB", required=True)
    for name, command, text, more in (
        ("take", _take, "take a snapshot of this instance's etcd now", _TAKE),
        ("list", _list, "list the snapshots in the bucket", _LIST),
        ("verify", _verify, "download snapshots and check their digests", _VERIFY),
        ("prune", _prune, "delete what the retention settings do not keep", _PRUNE),
        ("drill", _drill, "restore a snapshot into a scratch etcd and compare", _DRILL),
    ):
        verb = verbs.add_parser(name, help=text, description=more)
        add_settings_arguments(verb)
        verb.add_argument("--json", action="store_true", help="for scripts")
        verb.set_defaults(command=command)
        _add_options(name, verb)


def _add_options(verb: str, parser: argparse.ArgumentParser) -> None:
    if verb == "verify":
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("name", nargs="?", metavar="NAME", help="which one, or `latest`")
        which.add_argument("--all", action="store_true", help="every one that has a manifest")
        parser.add_argument("--mark", action="store_true", help="mark in the bucket what is found bad")
    elif verb == "prune":
        parser.add_argument("--dry-run", action="store_true", help="say what would go, and delete nothing")
    elif verb == "drill":
        parser.add_argument("name", nargs="?", default="latest", metavar="NAME", help="which one (default: latest)")


def _list(args: argparse.Namespace) -> int:
    from agent.wiring import bucket_only

    return show_list(bucket_only(load_settings(args)).bucket, as_json=args.json)


def _verify(args: argparse.Namespace) -> int:
    from agent.wiring import bucket_only

    side = bucket_only(load_settings(args))
    name = None if args.all else args.name
    return verify(side.bucket, side.store, name, mark=args.mark, as_json=args.json)


def _prune(args: argparse.Namespace) -> int:
    from agent.wiring import bucket_only

    side = bucket_only(load_settings(args))
    return prune(side.bucket, side.policy, dry_run=args.dry_run, as_json=args.json)


def _take(args: argparse.Namespace) -> int:
    from agent.questions import refuse_beside_a_busy_agent
    from agent.wiring import wire

    settings = load_settings(args)
    wired = wire(settings)
    generation, status = what_to_take(wired)
    refuse_beside_a_busy_agent(settings)
    return take(wired.errands, generation, status.db_size_bytes, as_json=args.json)


def _drill(args: argparse.Namespace) -> int:
    from agent.questions import refuse_beside_a_busy_agent
    from agent.wiring import bucket_only, wire

    settings = load_settings(args)
    side, wired = bucket_only(settings), wire(settings)
    refuse_beside_a_busy_agent(settings)
    return drill(side.bucket, wired.errands, args.name, wired.me.instance, as_json=args.json)


# ---- list -----------------------------------------------------------------------------------------------------------


def show_list(shelf: Shelf, *, as_json: bool) -> int:
    """Every snapshot, newest first."""
    head, listed = shelf.head(None), shelf.snapshots()
    rows = [_row(shelf, head, listed, each) for each in sorted(listed, key=lambda each: each.name, reverse=True)]
    if as_json:
        _print_json(head=None if head is None else head.generation, snapshots=rows)
        return 0
    if not rows:
        print("There are no snapshots in the bucket.")
        return 0
    print(f"the newest generation is {head.generation if head else 'none'}; newest snapshots first")
    columns = ("name", "age", "size", "state", "note")
    shown = [dict(zip(columns, _cells(row), strict=True)) for row in rows]
    _print_table(columns, shown)
    return 0


def _row(shelf: Shelf, head: GenerationRecord | None, listed: Sequence[Listed], each: Listed) -> dict[str, Any]:
    state, why = _state(shelf, each)
    return {
        "name": str(each.name),
        "generation": each.name.generation,
        "revision": each.name.revision,
        "taken_at": each.name.taken_at.isoformat(),
        "age_seconds": each.age_seconds,
        "stored_bytes": each.stored_bytes,
        "state": state,
        "why": why,
        "seed_of_head": head is not None and seed_of(head) == each.name,
        "recovery_would_use": each.name == latest(head, listed),
    }


def _state(shelf: Shelf, each: Listed) -> tuple[str, str]:
    """In a word, and why where it does not count."""
    if each.bad:
        return "bad", shelf.why_bad(each.name) or "nobody said why"
    if each.stored_bytes is None:
        return "unfinished", "it has no data"
    return ("sound", "") if each.committed else ("unfinished", "it has no manifest: under way, or broken off")


def _cells(row: dict[str, Any]) -> Iterable[str]:
    notes = {"recovery_would_use": "recovery would use this", "seed_of_head": "the newest generation's seed"}
    stored = row["stored_bytes"]
    return (
        row["name"],
        age(row["age_seconds"]),
        "-" if stored is None else f"{stored / 1e6:.1f} MB",
        f"{row['state']}: {row['why']}" if row["why"] else row["state"],
        ", ".join(text for key, text in notes.items() if row[key]),
    )


def latest(head: GenerationRecord | None, listed: Iterable[Listed]) -> SnapshotName | None:
    """What a recovery would use now; where there is no generation, the newest sound one of the newest there was."""
    if head is not None:
        return best_snapshot(head, listed)
    return max((each.name for each in listed if each.usable), default=None)


def named(text: str, head: GenerationRecord | None, listed: Sequence[Listed]) -> SnapshotName:
    """The snapshot that a person means: `latest`, a name, or a key of it. Refused where there is none."""
    if text == "latest":
        found = latest(head, listed)
        if found is None:
            raise Refused("there is no sound snapshot: see `etcd-asg-agent snapshot list`")
        return found
    stem = next((text.removesuffix(end) for end in (DATA, MANIFEST, BAD) if text.endswith(end)), text)
    name = SnapshotName.parse(stem if stem.startswith("snapshots/") else f"snapshots/{stem}")
    if name is None:
        raise Refused(f"{text!r} is no snapshot's name: `etcd-asg-agent snapshot list` prints them")
    if name not in {each.name for each in listed}:
        raise Refused(f"there is no {name} in the bucket: see `etcd-asg-agent snapshot list`")
    return name


# ---- verify ---------------------------------------------------------------------------------------------------------


def verify(shelf: Shelf, reader: Reader, which: str | None, *, mark: bool, as_json: bool) -> int:
    """Read them to their ends; `which` None: all that have a manifest."""
    head, listed = shelf.head(None), shelf.snapshots()
    every = [each.name for each in listed if each.committed]
    names = sorted(every, reverse=True) if which is None else [named(which, head, listed)]
    results = []
    for name in names:
        results.append(_verified(shelf, reader, name, mark=mark))
        if not as_json:
            print(_said(results[-1]))
    if as_json:
        _print_json(snapshots=results)
    elif not names:
        print("There are no snapshots in the bucket.")
    return 0 if all(each["state"] == "sound" for each in results) else EXIT_FAILED


def _verified(shelf: Shelf, reader: Reader, name: SnapshotName, *, mark: bool) -> dict[str, Any]:
    """`bad`: it is not what was written. `unread`: that cannot be told now; nothing is marked for it."""
    result: dict[str, Any] = {"name": str(name), "marked": False}
    try:
        manifest = shelf.manifest(name)
        if manifest is None:
            return result | {"state": "unread", "why": "it has no manifest"}
        with progress(str(name), manifest.size_bytes, sys.stderr) as on_bytes:
            reader.verify(manifest, on_bytes)
    except Trouble as trouble:
        bad = isinstance(trouble, Refused | Unavailable) and trouble.unknown.why is Ignorance.MALFORMED
        if bad and mark:
            shelf.mark_bad(name, str(trouble))
        return result | {"state": "bad" if bad else "unread", "why": str(trouble), "marked": bad and mark}
    return result | {"state": "sound", "why": "", "size_bytes": manifest.size_bytes, "sha256": manifest.sha256}


def _said(result: dict[str, Any]) -> str:
    if result["state"] == "sound":
        return f"sound   {result['name']}  {result['size_bytes'] / 1e6:.1f} MB  sha256 {result['sha256']}"
    marked = " (marked)" if result["marked"] else ""
    return f"{result['state']:<6}  {result['name']}  {result['why']}{marked}"


# ---- prune ----------------------------------------------------------------------------------------------------------


def prune(shelf: Shelf, policy: Policy, *, dry_run: bool, as_json: bool) -> int:
    """Delete what the policy does not keep, and say why the rest stays."""
    head, listed = shelf.head(None), shelf.snapshots()
    if head is None:
        raise Refused("there is no generation in the bucket, so nobody can tell which snapshots matter: nothing goes")
    going, staying = expired(listed, head, policy), kept_for(listed, head, policy)
    if not dry_run and going:
        shelf.expire(going)
    if as_json:
        kept = {str(name): why for name, why in sorted(staying.items(), reverse=True)}
        _print_json(dry_run=dry_run, expired=[str(name) for name in going], kept=kept)
        return 0
    there = {each.name for each in listed}
    for name in sorted(there, reverse=True):
        print(f"{'goes' if name in going else 'stays':<5}  {name}  {staying.get(name, 'nothing keeps it')}")
    print(f"{len(going)} {'would go' if dry_run else 'are gone'}, {len(there) - len(going)} stay.")
    return 0


# ---- take -----------------------------------------------------------------------------------------------------------

RESCUE = "what a survivor holds is rescued by its agent; `etcd-asg-agent plan` says what that waits for"


def what_to_take(wired: Wired) -> tuple[GenerationNumber, MemberStatus]:
    """Our own generation, and what our etcd says of itself. Refused unless it is a voter of a cluster that works."""
    world, disk = wired.world, wired.world.host.disk()
    assert isinstance(disk, Disk)
    if disk.identity is None:
        raise Refused("no member lives on this instance: take the snapshot on another")
    generation = disk.identity.generation
    head = world.bucket.head(None)
    if head is None or head.generation != generation:
        newest = "none" if head is None else head.generation
        raise Refused(f"this disk is of generation {generation}, and the newest is {newest}: `plan` says what follows")
    endpoint = wired.policy.client_url(wired.me.private_ip)
    status = world.etcd.status(endpoint)
    if status.leader is None:
        raise Refused(f"our etcd sees no leader: {RESCUE}")
    if status.is_learner:
        raise Refused("our etcd is a learner, which gives no snapshots: take it on a voter (`members` lists them)")
    try:
        world.etcd.membership(endpoint)
    except Unavailable as trouble:
        raise Unavailable(trouble.unknown.why, f"no quorum answers ({trouble}): {RESCUE}") from trouble
    return generation, status


def take(taker: Taker, generation: GenerationNumber, expected_bytes: int, *, as_json: bool) -> int:
    """A snapshot of our own etcd into the bucket."""
    with progress("taking a snapshot", expected_bytes, sys.stderr) as on_bytes:
        manifest = taker.take(generation, Origin.DEMAND, None, on_bytes)
    if as_json:
        print(manifest.to_json(), end="")
        return 0
    print(manifest.name)
    print(
        f"  revision  {manifest.name.revision} of generation {manifest.name.generation}, etcd {manifest.etcd_version}"
    )
    print(f"      size  {manifest.size_bytes / 1e6:.1f} MB, {manifest.stored_bytes / 1e6:.1f} MB in the bucket")
    print(f"    sha256  {manifest.sha256}")
    return 0


# ---- drill ----------------------------------------------------------------------------------------------------------


def drill(shelf: Shelf, taker: Taker, which: str, me: InstanceId, *, as_json: bool) -> int:
    """Restore one into a scratch etcd and compare; what came of it is in the bucket."""
    name = named(which, shelf.head(None), shelf.snapshots())
    manifest = shelf.manifest(name)
    with progress("fetching the snapshot", 0 if manifest is None else manifest.size_bytes, sys.stderr) as on_bytes:
        taker.drill(name, on_bytes)
    record = shelf.last_drill()
    if record is None or (record.name, record.instance) != (name, me):
        raise Unavailable(Ignorance.FAILED, f"{name} was tried out, and what came of it is not in the bucket")
    if as_json:
        print(record.to_json(), end="")
    else:
        print(f"{record.result.value}  {name}  in {record.duration_seconds:.1f} s: {record.detail}")
    return 0 if record.result is DrillResult.PASSED else EXIT_FAILED


# ---- on paper -------------------------------------------------------------------------------------------------------


def age(seconds: float) -> str:
    """In the largest unit that leaves a number to read."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _print_json(**fields: Any) -> None:
    print(json.dumps(fields, indent=2))


def _print_table(columns: Sequence[str], rows: Sequence[dict[str, str]]) -> None:
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in columns}
    for row in [{key: key for key in columns}, *rows]:
        print("  ".join(f"{row[key]:<{widths[key]}}" for key in columns).rstrip())
