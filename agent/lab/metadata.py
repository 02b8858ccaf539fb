"""What an instance may learn about itself: the leaves of its IMDS, made from what EC2 and Auto Scaling hold of it.

House rule: made afresh for every request; only the keys of the role are kept, until they are about to expire.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.lab.groups import Member
from agent.lab.spec import ACCOUNT, REGION, ROLE

KEYS_LAST = timedelta(hours=6)
RENEW_BEFORE = timedelta(minutes=5)


@dataclass
class RoleKeys:
    """The temporary keys of every instance's role: each has its own, so that the call log knows who called."""

    sts: Any
    """moto's STS backend."""
    _given: dict[str, Any] = field(default_factory=dict)
    _owners: dict[str, str] = field(default_factory=dict)

    def of(self, instance_id: str, role_name: str) -> dict[str, str]:
        """The credentials document, with the expiry that moto enforces."""
        now = datetime.now(UTC)
        role = self._given.get(instance_id)
        if role is None or _aware(role.expiration) - now < RENEW_BEFORE:
            role = self._assume(instance_id, role_name)
        return {
            "Code": "Success",
            "LastUpdated": f"{now:%FT%TZ}",
            "Type": "AWS-HMAC",
            "AccessKeyId": role.access_key_id,
            "SecretAccessKey": role.secret_access_key,
            "Token": role.session_token,
            "Expiration": f"{_aware(role.expiration):%FT%TZ}",
        }

    def _assume(self, instance_id: str, role_name: str) -> Any:
        role = self.sts.assume_role(
            region_name=REGION,
            role_session_name=instance_id,
            role_arn=f"arn:aws:iam::{ACCOUNT}:role/{role_name}",
            policy="",
            duration=int(KEYS_LAST.total_seconds()),
            external_id="",
        )
        self._given[instance_id] = role
        self._owners[role.access_key_id] = instance_id
        return role

    def owner(self, access_key_id: str) -> str | None:
        """The instance that was given a key."""
        return self._owners.get(access_key_id)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def leaves(
    instance: Any, member: Member | None, tags: dict[str, str], keys: RoleKeys, role: str = ROLE
) -> dict[str, str]:
    """Every path below /latest/ with its content."""
    zone = str(instance.placement.zone)
    meta = {
        "ami-id": instance.image_id,
        "hostname": instance.private_dns_name,
        "instance-id": instance.id,
        "instance-life-cycle": instance.lifecycle or "on-demand",
        "instance-type": instance.instance_type,
        "local-hostname": instance.private_dns_name,
        "local-ipv4": instance.private_ip,
        "mac": "02:00:00:00:00:01",
        "placement/availability-zone": zone,
        "placement/region": REGION,
        "services/domain": "amazonaws.com",
        "services/partition": "aws",
        "iam/info": json.dumps(_profile(role)),
        f"iam/security-credentials/{role}": json.dumps(keys.of(instance.id, role)),
        **{f"tags/instance/{key}": value for key, value in tags.items()},
        **({"autoscaling/target-lifecycle-state": target_state(member.lifecycle_state)} if member else {}),
    }
    document = json.dumps(_identity(instance, zone), indent=2)
    return {
        "dynamic/instance-identity/document": document,
        **{f"meta-data/{name}": str(value) for name, value in meta.items()},
    }


def target_state(lifecycle_state: str) -> str:
    """Where Auto Scaling is taking an instance, as IMDS words it."""
    if lifecycle_state.startswith("Pending"):
        return "InService"
    if lifecycle_state.startswith("Terminating"):
        return "Terminated"
    return lifecycle_state


def _profile(role: str) -> dict[str, str]:
    return {
        "Code": "Success",
        "InstanceProfileArn": f"arn:aws:iam::{ACCOUNT}:instance-profile/{role}",
        "InstanceProfileId": "AIPALAB",
    }


def _identity(instance: Any, zone: str) -> dict[str, Any]:
    return {
        "accountId": ACCOUNT,
        "architecture": "x86_64",
        "availabilityZone": zone,
        "imageId": instance.image_id,
        "instanceId": instance.id,
        "instanceType": instance.instance_type,
        "pendingTime": f"{_aware(instance.launch_time):%FT%TZ}",
        "privateIp": instance.private_ip,
        "region": REGION,
        "version": "2017-09-30",
    }
