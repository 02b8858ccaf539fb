"""`etcd-asg-agent`: the command line. Parses, hands over, and turns every error into one line and an exit code.

Exit codes: 0 done, 1 it could not be done, 2 the settings or the command line are wrong, 130 interrupted.
Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent import __version__
from agent.config_cli import add_settings_arguments, config_check, config_example, config_show, print_problems
from agent.model.faults import Trouble
from agent.settings import SettingsError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - what add_subparsers returns

DESCRIPTION = """\
Keeps one etcd cluster alive on an AWS Auto Scaling group: forms it, replaces its dead, and never guesses.
On an instance systemd runs `etcd-asg-agent run`; everything else here is for people."""

EPILOG = """\
On a laptop, `etcd-asg-agent lab demo` shows a real cluster forming and healing on an emulated AWS."""

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    args = _parser().parse_args(argv)
    try:
        code: int = args.command(args)
        sys.stdout.flush()
    except SettingsError as error:
        return print_problems(error, as_json=getattr(args, "json", False))
    except Trouble as trouble:
        print(f"etcd-asg-agent: {trouble}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read has seen enough
        return EXIT_FAILED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "etcd-asg-agent", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_run(commands)
    _add_questions(commands)
    _add_snapshots_and_recovery(commands)
    _add_config(commands)
    _add_iam(commands)
    _add_doctor(commands)
    _add_tls(commands)
    _add_lab(commands)
    return parser


def _add_run(commands: Commands) -> None:
    run = commands.add_parser(
        "run",
        help="look after this instance's etcd member until told to stop",
        description="Observe, decide, act, for ever. Stopping it (SIGTERM) neither stops etcd nor changes membership.",
    )
    add_settings_arguments(run)
    run.set_defaults(command=_run)


def _add_questions(commands: Commands) -> None:
    for name, command, text, more in (
        ("plan", _plan, "show what the agent would do now, and why, and do nothing", _PLAN),
        ("status", _status, "ask the agent on this instance what it last saw and decided", _STATUS),
        ("members", _members, "list the members with their instances, and how far each is", _MEMBERS),
    ):
        parser = commands.add_parser(name, help=text, description=more)
        add_settings_arguments(parser)
        parser.add_argument("--json", action="store_true", help="for scripts")
        parser.set_defaults(command=command)


_PLAN = """Observes with the same code as the running agent, decides with the same rules, prints the evidence, the rule,
its reason and any objections. Changes nothing, so it is safe to run at any time, beside a running agent too."""
_STATUS = "Reads /status of the agent on this instance (see http.listen in the settings)."
_MEMBERS = """Reads the member list through a quorum and asks every member for its own status. A member that does not
answer is shown as silent: that is not the same as dead."""


def _add_config(commands: Commands) -> None:
    config = commands.add_parser("config", help="check, show or write an example of the settings")
    verbs = config.add_subparsers(metavar="VERB", required=True)
    for name, command, text in (
        ("check", config_check, "say everything that is wrong with the settings, at once; exit code 2 if anything is"),
        ("show", config_show, "print every setting, its value and where it came from"),
    ):
        verb = verbs.add_parser(name, help=text, description=text)
        add_settings_arguments(verb)
        verb.add_argument("--json", action="store_true", help="for scripts")
        verb.set_defaults(command=command)
    text = "print a settings file with every setting explained"
    verbs.add_parser("example", help=text, description=text).set_defaults(command=config_example)


def _add_snapshots_and_recovery(commands: Commands) -> None:
    from agent import hold_cli, recover_cli, snapshot_cli

    snapshot_cli.add_parser(commands)
    recover_cli.add_parser(commands)
    hold_cli.add_parser(commands)


def _add_iam(commands: Commands) -> None:
    from agent import iam_cli

    iam_cli.add_parser(commands)


def _add_doctor(commands: Commands) -> None:
    from agent import doctor_cli

    doctor_cli.add_parser(commands)


def _add_tls(commands: Commands) -> None:
    from agent import tls_cli

    tls_cli.add_parser(commands)


def _add_lab(commands: Commands) -> None:
    from agent.lab.cli import add_parser
    from agent.lab.cli import main as lab

    add_parser(commands).set_defaults(command=lab)


def _run(args: argparse.Namespace) -> int:
    from agent.daemon import run

    return run(args)


def _plan(args: argparse.Namespace) -> int:
    from agent.questions import show_plan

    return show_plan(args)


def _status(args: argparse.Namespace) -> int:
    from agent.questions import show_status

    return show_status(args)


def _members(args: argparse.Namespace) -> int:
    from agent.questions import show_members

    return show_members(args)


if __name__ == "__main__":
    sys.exit(main())
