"""`etcd-asg-agent hold on --why TEXT | off`, and without an argument: whether the cluster is held.

It needs the bucket alone, so it works wherever AWS credentials do.
"""

from __future__ import annotations

import argparse
import getpass
import json
import socket
import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from agent.config_cli import add_settings_arguments, load_settings
from agent.model.hold import TAG, Hold
from agent.telemetry.plain import plain

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - what add_subparsers returns

EXIT_USAGE = 2

DESCRIPTION = f"""\
While a cluster is held its agents change nothing that matters: no member is added, promoted or removed, nothing is
founded, recovered or defragmented, no instance leaves or is let in (its lifecycle hook is kept from timing out). A
running etcd serves, one that ended is started again on its own data, snapshots and drills go on, and what a newer
generation has replaced is fenced.

The word is hold.json in the bucket, and each agent reads it right before it would do such a thing: once this command
has returned, nothing of the kind is begun. What was asked of AWS or etcd before may still end.

The tag {TAG} does the same, its value says why (`off` holds nothing): on an Auto Scaling group for the cluster,
noticed within timing.groups_interval (5 min) by whoever reads the groups; on an instance for its agent alone. A hold
by tag ends when the tag goes."""


class Desk(Protocol):
    """The bucket, as far as the hold goes."""

    def hold(self) -> Hold | None: ...

    def put_on_hold(self, hold: Hold) -> None: ...

    def release(self, who: str, why: str, when: datetime) -> None: ...


def add_parser(commands: Commands) -> None:
    """`hold` and its verbs."""
    text = "pause everything but serving and snapshots, or go on"
    parser = commands.add_parser(
        "hold", help=text, description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("word", nargs="?", choices=("on", "off"), help="without it: show whether the cluster is held")
    parser.add_argument("--why", default="", metavar="TEXT", help="for whoever wonders; `on` asks for it")
    parser.add_argument("--who", default="", metavar="NAME", help="in whose name (default: user@host)")
    add_settings_arguments(parser)
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.set_defaults(command=_hold)


def _hold(args: argparse.Namespace) -> int:
    from agent.wiring import bucket_only
    from agent.world.clock import SystemClock

    if args.word == "on" and not args.why.strip():
        print("etcd-asg-agent: hold on needs --why, for whoever finds the cluster held", file=sys.stderr)
        return EXIT_USAGE
    desk, who = bucket_only(load_settings(args)).bucket, args.who or f"{getpass.getuser()}@{socket.gethostname()}"
    return hold(desk, args.word, who, args.why, SystemClock().now().replace(microsecond=0), as_json=args.json)


def hold(desk: Desk, word: str | None, who: str, why: str, now: datetime, *, as_json: bool) -> int:
    """Change it, where a word says so, and show what is so now. Whoever holds a held cluster takes it over."""
    if word == "on":
        desk.put_on_hold(Hold(who, why, now))
    elif word == "off":
        desk.release(who, why, now)
    found = desk.hold()
    if as_json:
        print(json.dumps({"held": found is not None, "hold": plain(found)}, indent=2))
    else:
        print("The cluster is not held." if found is None else f"The cluster is {found}{_for(found, now)}")
    return 0


def _for(found: Hold, now: datetime) -> str:
    return "" if found.since is None else f" ({max(timedelta(0), now - found.since)} ago)"
