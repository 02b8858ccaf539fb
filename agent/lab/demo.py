"""The story that `lab demo` tells. To be written by its author; the stage (`agent.lab.client.Lab`) is ready."""

from __future__ import annotations

import argparse

from agent.lab.spec import LabError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lab demo` can be told."""


def main(_args: argparse.Namespace) -> int:
    """Tell the story; the exit code says whether it ended well."""
    raise LabError("the demo is not written yet")
