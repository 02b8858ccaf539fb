"""Writes the Terraform module's policy template from the agent's table of permissions: `python -m tests.render_policy`.

The table in the code is the only source; tests/delivery/test_terraform_policy.py fails where the template differs.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from agent.world.permissions import Scope, policy

MODULE = Path(__file__).parent.parent / "terraform-example" / "modules" / "etcd-cluster"
TEMPLATE = MODULE / "iam-policy.json.tftpl"
AUTHORITY = MODULE / "iam-policy-authority.json.tftpl"
SCOPE = Scope(
    bucket="${bucket}",
    root="${root}",
    tags=(("etcd-cluster", "${cluster}"),),
    kms_key_id="arn:KEY",
    partition="${partition}",
)


def rendered() -> str:
    """The policy with Terraform's variables in it. The module always has a key, and drills are on by default."""
    text = json.dumps(policy(SCOPE), indent=2)
    return text.replace("arn:KEY", "${kms_key_arn}").replace("amazonaws.com", "${dns_suffix}") + "\n"


def rendered_for_an_authority() -> str:
    """What `tls.mode = "ca"` needs besides, with AWS's own key."""
    scope = replace(SCOPE, parameters="/etcd-asg-agent/${cluster}")
    more = [each for each in policy(scope)["Statement"] if each not in policy(SCOPE)["Statement"]]
    return json.dumps({**policy(scope), "Statement": more}, indent=2) + "\n"


if __name__ == "__main__":
    TEMPLATE.write_text(rendered(), encoding="utf-8")
    AUTHORITY.write_text(rendered_for_an_authority(), encoding="utf-8")
