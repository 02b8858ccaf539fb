"""`etcd-asg-agent doctor`: says what would keep the agent from its work here, and how to mend it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.config_cli import add_settings_arguments, load_settings
from agent.settings import DECLARED, Problem, Settings, SettingsError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - what add_subparsers returns

ABOUT = """Each finding says what was found, what comes of it and what to do about it. Nothing is changed. Exit code 0:
nothing fails (a warning is no failure, and neither is what could not be learned); 1: something does; 2: the settings
have problems."""


def add_parser(commands: Commands) -> None:
    """`doctor`, beside the other commands."""
    parser = commands.add_parser(
        "doctor", help="check this machine, and say what would keep the agent from its work", description=ABOUT
    )
    add_settings_arguments(parser)
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.add_argument(
        "--image", action="store_true", help="only what an image has while it is made: no AWS, no IMDS, nothing runs"
    )
    parser.set_defaults(command=examine)


def examine(args: argparse.Namespace) -> int:
    """Look, say what was found, and end with whether anything fails."""
    from agent.doctor import examination, finding

    if args.image:
        settings, missing = settings_of_an_image(args)
        found = list(examination.of_an_image(settings, args.config, missing))
    else:
        found = list(examination.of_an_instance(load_settings(args), args.config))
    if args.json:
        print(json.dumps(finding.document(found), indent=2))
    else:
        print("\n".join(finding.lines(found)))
    return finding.exit_code(found)


def settings_of_an_image(args: argparse.Namespace) -> tuple[Settings, Sequence[Problem]]:
    """An image may lack what user data sets later, and no check of an image reads that. Other problems are raised."""
    try:
        return load_settings(args), ()
    except SettingsError as error:
        if any(each.source != "required" for each in error.problems):
            raise
        given = [f"{each.key}={DECLARED[each.key].default}" for each in error.problems]
        complete = argparse.Namespace(config=args.config, settings=[*args.settings, *given])
        return load_settings(complete), error.problems
