"""The Terraform module's files against the agent's own words, without Terraform."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from agent.iam_cli import scope_of
from agent.settings import Settings
from agent.world.bucket_lifecycle import expiring_rule
from agent.world.permissions import policy
from tests.render_policy import AUTHORITY, MODULE, TEMPLATE, rendered, rendered_for_an_authority

GIVEN = {
    "partition": "aws",
    "dns_suffix": "amazonaws.com",
    "bucket": "acme-etcd",
    "root": "team/etcd/prod/",
    "cluster": "prod",
    "name": "prod",
    "prefix": "team/etcd",
    "kms_key_arn": "arn:aws:kms:eu-west-1:123456789012:key/abc",
    "tls": "ca",
    "names": "prod-etcd.elb.eu-west-1.amazonaws.com",
}


def filled(text: str) -> str:
    """As templatefile fills it in, without the optional part."""
    text = re.sub(r"%\{ if .*?%\{ endif ~?\}\n?", "", text, flags=re.DOTALL)
    return re.sub(r"\$\{(\w+)\}", lambda found: GIVEN[found[1]], text)


def test_the_template_is_what_the_table_says() -> None:
    assert TEMPLATE.read_text() == rendered(), "python -m tests.render_policy writes it anew"


def test_the_roles_policy_is_what_iam_policy_prints_for_the_instances_settings(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(filled((MODULE / "config.toml.tftpl").read_text()))
    settings = Settings.load(config)
    theirs: dict[str, Any] = json.loads(filled(TEMPLATE.read_text()))
    assert theirs == policy(scope_of(settings))


def test_with_an_authority_the_role_has_two_policies_which_are_what_iam_policy_prints(tmp_path: Path) -> None:
    assert AUTHORITY.read_text() == rendered_for_an_authority(), "python -m tests.render_policy writes it anew"
    config = tmp_path / "config.toml"
    template = (MODULE / "config.toml.tftpl").read_text()
    optional = re.search(r'%\{ if tls != "off" ~\}\n(.*?)%\{ endif ~\}', template, re.DOTALL)
    assert optional is not None
    config.write_text(filled(template) + filled(optional[1]))
    settings = Settings.load(config)
    assert settings.tls.mode == "ca"
    both = [json.loads(filled(each.read_text()))["Statement"] for each in (TEMPLATE, AUTHORITY)]
    assert [*both[0], *both[1]] == policy(scope_of(settings))["Statement"]


def test_the_instances_settings_are_settings_of_the_agents() -> None:
    found = tomllib.loads(filled((MODULE / "config.toml.tftpl").read_text()))
    assert found["discovery"]["tags"] == {"etcd-cluster": "prod"}
    assert found["storage"] == {
        "bucket": "acme-etcd",
        "prefix": "team/etcd",
        "kms_key_id": "arn:aws:kms:eu-west-1:123456789012:key/abc",
    }


def test_no_lifecycle_rule_of_the_module_may_take_away_what_decides() -> None:
    text = (MODULE / "bucket.tf").read_text()
    prefixes = re.findall(r'prefix = "\$\{local\.root\}([^"]*)"', text)
    rules = [
        {"ID": each, "Status": "Enabled", "Filter": {"Prefix": f"r/{each}"}, "Expiration": {"Days": 1}}
        for each in prefixes
    ]
    assert len(rules) == len(re.findall(r"^  rule \{\n    id ", text, re.MULTILINE)), "each rule names its prefix"
    assert expiring_rule(rules, "r/generations/") is None
