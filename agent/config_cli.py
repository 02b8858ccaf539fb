"""`etcd-asg-agent config check | show | example`: the settings as a person or a script wants to see them.

House rules: nothing here knows a setting by name; every command answers with its exit code: 0, or 2 for settings that
have problems.
"""

import argparse
import json
import os
import sys
import tomllib
from pathlib import Path

from agent.settings import DECLARED, DEFAULT_PATH, Problem, Settings, SettingsError, example

EXIT_BAD_SETTINGS = 2


def add_settings_arguments(parser: argparse.ArgumentParser) -> None:
    """`--config PATH` and `--set KEY=VALUE`, for every command that reads the settings."""
    parser.add_argument(
        "--config", type=Path, default=DEFAULT_PATH, metavar="PATH", help="TOML file (default: %(default)s)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="one setting, such as timing.loop_interval=2s; repeatable, wins over environment and file",
    )


def load_settings(args: argparse.Namespace) -> Settings:
    """From the file, this process's environment and `--set`. Raises SettingsError with every problem."""
    pairs = [given.partition("=") for given in args.settings]
    broken = tuple(
        Problem("", "flag --set", repr(key), "KEY=VALUE, such as log.level=debug")
        for key, equals, _ in pairs
        if not equals
    )
    try:
        settings = Settings.load(args.config, os.environ, {key: value for key, equals, value in pairs if equals})
    except SettingsError as error:
        raise SettingsError(broken + error.problems) from None
    if broken:
        raise SettingsError(broken)
    return settings


def print_problems(error: SettingsError, *, as_json: bool = False) -> int:
    """Every problem, one a line, on standard error, or one object on standard output. Returns the exit code."""
    if as_json:
        found = [{"key": p.key, "source": p.source, "got": p.got, "expected": p.expected} for p in error.problems]
        print(json.dumps({"ok": False, "problems": found}, indent=2))
    else:
        for problem in error.problems:
            print(problem, file=sys.stderr)
    return EXIT_BAD_SETTINGS


def config_check(args: argparse.Namespace) -> int:
    """Says whether the settings are good, and if not, everything that is wrong with them."""
    try:
        settings = load_settings(args)
    except SettingsError as error:
        return print_problems(error, as_json=args.json)
    chosen = sum(source != "default" for source in settings.origins.values())
    if args.json:
        print(json.dumps({"ok": True, "problems": []}, indent=2))
    else:
        print(f"The settings are good: {chosen} given, {len(DECLARED) - chosen} left at their defaults.")
    return 0


def config_show(args: argparse.Namespace) -> int:
    """Every setting with its value and where that came from."""
    try:
        settings = load_settings(args)
    except SettingsError as error:
        return print_problems(error, as_json=args.json)
    shown = {one.key: (one.kind.toml(settings.value(one.key)), settings.origins[one.key]) for one in DECLARED.values()}
    if args.json:
        values = {key: tomllib.loads(f"value = {toml}")["value"] for key, (toml, _) in shown.items()}
        print(json.dumps({k: {"value": values[k], "source": source} for k, (_, source) in shown.items()}, indent=2))
        return 0
    widest = max(len(f"{key} = {value}") for key, (value, source) in shown.items() if source == "default")
    for key, (value, source) in shown.items():
        print(f"{f'{key} = {value}':<{widest}}  # {source}")
    return 0


def config_example(_args: argparse.Namespace) -> int:
    """A config file with every setting in it, explained."""
    print(example(), end="")
    return 0
