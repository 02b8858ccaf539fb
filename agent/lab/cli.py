"""`etcd-asg-agent lab …`: a cloud in a box for people at a terminal.

House rules: nothing heavy is imported until a verb needs it; one line an error, never a traceback; exit codes are the
command line's: 0 done, 1 it could not be done, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agent.lab.spec import LabError, LabSpec, Pace

if TYPE_CHECKING:
    from agent.lab.client import Instance, Lab

    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - what add_subparsers returns

DESCRIPTION = """\
An AWS in a box: emulated EC2, Auto Scaling, S3 and IMDS, real etcd, and this very agent on every instance, all on
loopback. Nothing leaves this computer. `lab up` starts it, `lab down` leaves nothing behind."""

EPILOG = """\
Instance IDs may be abbreviated: `lab terminate 0f3`. A lab lives in one folder (--state-dir), so several can run."""

VERBS = {
    "terminate": ("EC2 TerminateInstances: the power goes at once; the group launches a replacement", "terminate"),
    "stop": ("EC2 StopInstances: without power until `start`; the group does not replace it", "stop"),
    "start": ("EC2 StartInstances", "start_again"),
    "kill-etcd": ("kill -9 etcd", "kill_etcd"),
    "kill-agent": ("kill -9 the agent; it comes back after a second, as under systemd", "kill_agent"),
    "stop-agent": ("stop the agent politely; it stays stopped", "stop_agent"),
    "start-agent": ("start a stopped agent", "start_agent"),
    "wipe": ("power off, lose the disk, power on", "wipe"),
    "isolate": ("cut it off from the others and from AWS (needs root and nft)", "isolate"),
    "heal": ("undo `isolate`", "heal"),
    "freeze": ("stop time for it (SIGSTOP to everything on it)", "freeze"),
    "thaw": ("undo `freeze`", "thaw"),
}
PAST = {
    "terminate": "terminated",
    "stop": "stopped",
    "start": "started",
    "kill-etcd": "killed etcd on",
    "kill-agent": "killed the agent on",
    "stop-agent": "stopped the agent on",
    "start-agent": "started the agent on",
    "wipe": "wiped",
    "isolate": "isolated",
    "heal": "healed",
    "freeze": "froze",
    "thaw": "thawed",
}


def default_folder() -> Path:
    """Where a person's lab lives: $XDG_STATE_HOME/etcd-asg-agent-lab, which `down` removes."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "etcd-asg-agent-lab"


# ---- the parser ---------------------------------------------------------------------------------------------------


def add_parser(subparsers: Verbs) -> argparse.ArgumentParser:
    """Add `lab` and its verbs; `main` runs what was parsed."""
    lab = subparsers.add_parser(
        "lab",
        help="run a whole cluster on this computer, on an emulated AWS",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = lab.add_subparsers(metavar="VERB", required=True)
    _add_up(verbs)
    _add_looking(verbs)
    for name, (text, method) in VERBS.items():
        verb = _verb(verbs, name, text, _change)
        verb.add_argument("id", metavar="ID")
        verb.set_defaults(verb=name, method=method)
    reboot = _verb(verbs, "reboot", "power off and on; the disk stays", _reboot)
    reboot.add_argument("id", metavar="ID")
    reboot.add_argument("--address-changed", action="store_true", help="come back under another private address")
    spot = _verb(verbs, "interrupt", "EC2 takes it back as a spot instance: a notice now, then it goes", _interrupt)
    spot.add_argument("id", metavar="ID")
    spot.add_argument("--seconds", type=float, default=120.0, metavar="N", help="from notice to end (default: 120)")
    spot.add_argument("--action", choices=("terminate", "stop", "hibernate"), default="terminate")
    scale = _verb(verbs, "scale", "set the desired number of instances", _scale)
    scale.add_argument("instances", type=int, metavar="N")
    _verb(verbs, "down", "end every process and remove every file of the lab", _down)
    _add_demo(verbs)
    return lab


def _verb(verbs: Verbs, name: str, text: str, handler: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("--state-dir", type=Path, default=default_folder(), metavar="DIR", help="default: %(default)s")
    parser.set_defaults(handler=handler)
    return parser


def _add_up(verbs: Verbs) -> None:
    up = _verb(verbs, "up", "start the emulated AWS and a group of instances with the agent on them", _up)
    up.add_argument("--instances", type=int, default=3, metavar="N", help="desired capacity (default: 3)")
    up.add_argument("--asgs", type=int, default=1, metavar="K", help="spread over K groups, one a zone (default: 1)")
    up.add_argument("--etcd", default=None, metavar="PATH", help="the etcd binary (default: on PATH, or fetched)")
    up.add_argument("--boot", type=float, default=Pace.boot_s, metavar="S", help="seconds from power on to agent")
    up.add_argument("--launch-hook", type=int, default=0, metavar="S", help="add a launching hook with this timeout")
    up.add_argument("--terminate-hook", type=int, default=0, metavar="S", help="add a terminating hook likewise")
    up.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="an agent setting, as timing.loop_interval=2s"
    )


def _add_looking(verbs: Verbs) -> None:
    status = _verb(verbs, "status", "show instances, agents and etcd members", _status)
    status.add_argument("--json", action="store_true", help="for scripts")
    etcdctl = _verb(verbs, "etcdctl", "run etcdctl against every member", _etcdctl)
    etcdctl.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    logs = _verb(verbs, "logs", "show the log of an instance's agent", _logs)
    logs.add_argument("id", metavar="ID")
    logs.add_argument("--etcd", action="store_true", help="etcd's log instead")
    logs.add_argument("-n", "--lines", type=_count, default=50, metavar="N", help="the last N lines (default: 50)")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until interrupted")


def _count(text: str) -> int:
    """A number of things, for argparse."""
    count = int(text)
    if count < 0:
        raise argparse.ArgumentTypeError(f"{text} is less than nothing")
    return count


def _add_demo(verbs: Verbs) -> None:
    from agent.lab import demo

    text = "tell the agent's story in a lab of its own: form, lose, replace, grow"
    demo.add_arguments(_verb(verbs, "demo", text, demo.main))


def main(args: argparse.Namespace) -> int:
    """Run one verb; returns its exit code."""
    try:
        code: int = args.handler(args)
    except BrokenPipeError:
        raise  # whoever read has seen enough
    except (LabError, OSError) as error:  # a folder that cannot be made, a file that cannot be read: theirs to mend
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return code


# ---- the verbs ----------------------------------------------------------------------------------------------------


def _attach(args: argparse.Namespace) -> Lab:
    from agent.lab.client import Lab

    return Lab.attach(args.state_dir)


def _up(args: argparse.Namespace) -> int:
    from agent.lab.client import Lab
    from agent.lab.demo import find_etcd

    spec = LabSpec(
        instances=args.instances,
        asgs=args.asgs,
        etcd=args.etcd or find_etcd(),
        launch_hook_s=args.launch_hook,
        terminate_hook_s=args.terminate_hook,
        settings=_overrides(args.set),
        pace=Pace(boot_s=args.boot),
    )
    lab = Lab.start(spec, args.state_dir)
    try:
        lab.wait_agents(within_s=args.boot + 60)
    except KeyboardInterrupt:
        lab.down()
        print("lab: interrupted, and down again", file=sys.stderr)
        return 130
    print(_table(lab))
    print(f"\nAWS is at {lab.endpoint}; everything is in {lab.folder}; `lab status` shows how it goes on.")
    return 0


def _overrides(pairs: list[str]) -> dict[str, dict[str, str]]:
    sections: dict[str, dict[str, str]] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        section, dot, name = key.partition(".")
        if not (equals and dot and name):
            raise LabError(f"--set wants SECTION.KEY=VALUE, not {pair!r}")
        sections.setdefault(section, {})[name] = value
    return sections


def _status(args: argparse.Namespace) -> int:
    lab = _attach(args)
    print(json.dumps(_status_json(lab), indent=2) if args.json else _table(lab))
    return 0


def _status_json(lab: Lab) -> dict[str, object]:
    from dataclasses import asdict

    from agent.lab.members import status

    found = lab.status()
    for instance in found["instances"]:
        member = status(instance["address"], 1.0) if instance["etcd_pids"] else None
        instance["etcd"] = asdict(member) | {"role": member.role} if member else None
    return found


def _table(lab: Lab) -> str:
    rows: list[tuple[str, ...]] = [("INSTANCE", "GROUP", "ZONE", "ADDRESS", "EC2", "LIFECYCLE", "AGENT", "ETCD")]
    rows += [_row(instance) for instance in lab.instances()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(instance: Instance) -> tuple[str, ...]:
    return (
        instance.id,
        instance.group,
        instance.zone,
        instance.address,
        instance.state,
        instance.lifecycle,
        _agent_word(instance),
        _etcd_word(instance),
    )


def _agent_word(instance: Instance) -> str:
    marks = [word for word, true in (("frozen", instance.frozen), ("isolated", instance.isolated)) if true]
    if not instance.powered:
        return "no power"
    if instance.agent_pid is None:
        marks.append("booting" if not instance.agent_starts else f"down (exit {instance.agent_exit})")
    return ", ".join(marks) or f"up ({instance.agent_pid})"


def _etcd_word(instance: Instance) -> str:
    from agent.lab.members import status

    if not instance.etcd_pids:
        return "-"
    member = status(instance.address, 1.0)
    return f"{member.role} at revision {member.revision}" if member else "silent"


def _change(args: argparse.Namespace) -> int:
    print(f"{PAST[args.verb]} {getattr(_attach(args), args.method)(args.id)}")
    return 0


def _reboot(args: argparse.Namespace) -> int:
    lab = _attach(args)
    instance = lab.reboot(args.id, address_changed=args.address_changed)
    print(f"rebooted {instance} at {lab.instance(instance).address}")
    return 0


def _interrupt(args: argparse.Namespace) -> int:
    instance = _attach(args).interrupt(args.id, args.seconds, args.action)
    print(f"EC2 is to {args.action} {instance} in {args.seconds:g} s, and has told it")
    return 0


def _scale(args: argparse.Namespace) -> int:
    _attach(args).scale(args.instances)
    print(f"desired capacity is {args.instances}")
    return 0


def _etcdctl(args: argparse.Namespace) -> int:
    return _attach(args).etcdctl(*args.arguments, capture=False, timeout_s=3600).returncode


def _logs(args: argparse.Namespace) -> int:
    instance = _attach(args).instance(args.id)
    path = instance.disk / "etcd.log" if args.etcd else instance.log
    if not path.exists():
        raise LabError(f"{instance.id} has written no such log yet ({path})")
    with path.open(errors="replace") as log:
        sys.stdout.writelines(deque(log, args.lines))
        while args.follow:
            sys.stdout.write(log.read())
            sys.stdout.flush()
            time.sleep(0.2)
    return 0


def _down(args: argparse.Namespace) -> int:
    from agent.lab.client import clean_up

    print("the lab is down" if clean_up(args.state_dir) else f"no lab was up in {args.state_dir}")
    return 0
