"""`etcd-asg-agent iam-policy`: the policy that the instance role needs for these settings, and not a word more."""

from __future__ import annotations

import argparse
import json
from datetime import timedelta
from typing import TYPE_CHECKING

from agent.config_cli import add_settings_arguments, load_settings
from agent.settings import Settings
from agent.world.permissions import Scope, policy

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - what add_subparsers returns

ABOUT = """Prints JSON, as `aws iam put-role-policy --policy-document` takes it: a statement for every kind of call that
the agent makes with these settings. Lifecycle hooks are answered for groups that carry discovery.tags; where the groups
themselves carry no tags, name them with --group. A line in the agent's log about a denied call names the statement."""


def add_parser(commands: Commands) -> None:
    """`iam-policy`, beside the other commands."""
    parser = commands.add_parser(
        "iam-policy", help="print the instance role's policy for these settings", description=ABOUT
    )
    add_settings_arguments(parser)
    parser.add_argument(
        "--group", action="append", default=[], metavar="NAME", help="an Auto Scaling group; repeatable"
    )
    parser.add_argument(
        "--partition", default="aws", choices=("aws", "aws-cn", "aws-us-gov"), help="default: %(default)s"
    )
    parser.set_defaults(command=show_policy)


def show_policy(args: argparse.Namespace) -> int:
    """For a script or a person: nothing but the policy on standard output."""
    print(json.dumps(policy(scope_of(load_settings(args), tuple(args.group), args.partition)), indent=2))
    return 0


def scope_of(settings: Settings, groups: tuple[str, ...] = (), partition: str = "aws") -> Scope:
    """What these settings say about the policy. Groups that are named need no tags."""
    storage = settings.storage
    return Scope(
        bucket=storage.bucket,
        root=f"{storage.prefix}/{settings.cluster.name}/".lstrip("/"),
        tags=() if groups else settings.discovery.tags,
        groups=groups,
        kms_key_id=storage.kms_key_id,
        drills=settings.snapshots.drill_interval > timedelta(0),
        protects=settings.autoscaling.protect_voters,
        replaces=settings.autoscaling.replace_unhealthy,
        zone_id=settings.dns.zone_id,
        parameters=settings.authority_path,
        parameters_key_id=settings.tls.kms_key_id,
        target_groups=settings.load_balancer.target_groups,
        partition=partition,
    )
