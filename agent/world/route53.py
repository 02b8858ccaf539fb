"""The door to Route 53: record sets of one hosted zone, read by name and written by UPSERT. Nothing is ever deleted.

A record set that is an alias, or one of several under a routing policy, is somebody else's: it is not ours to compare
with, and Route 53 refuses an UPSERT of a simple one beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from agent.model.dns import RecordSet, RecordType
from agent.model.faults import Refused, Unavailable
from agent.model.known import Ignorance
from agent.world.aws import Aws
from agent.world.aws_errors import Asked


class Route53:
    """`agent.world.doors.Dns` on AWS."""

    def __init__(self, aws: Aws, zone_id: str) -> None:
        self._aws = aws
        self._zone = zone_id

    def records(self, wanted: Sequence[tuple[str, RecordType]]) -> frozenset[RecordSet]:
        return frozenset(found for name, kind in wanted if (found := self._record(name, kind)) is not None)

    def upsert(self, records: Collection[RecordSet]) -> None:
        assert records, "an empty change is no change"
        assert all(each.values for each in records), "a record set without a value is a deletion"
        ordered = sorted(records, key=lambda each: (each.name, each.type))
        self._aws.call(
            self._asked("ChangeResourceRecordSets"),
            HostedZoneId=self._zone,
            ChangeBatch={"Comment": "etcd-asg-agent", "Changes": list(map(_upsert, ordered))},
        )

    def _record(self, name: str, kind: RecordType) -> RecordSet | None:
        """Route 53 lists from a name on, in its own order: the first one is it, or there is none."""
        asked = self._asked("ListResourceRecordSets")
        page = self._aws.call(
            asked, HostedZoneId=self._zone, StartRecordName=name, StartRecordType=kind.value, MaxItems="1"
        )
        listed = page.get("ResourceRecordSets")
        if not isinstance(listed, list):
            raise Unavailable(Ignorance.MALFORMED, f"the answer to {asked} has no ResourceRecordSets: is this AWS?")
        return next((_parsed(each) for each in listed if (each["Name"].lower(), each["Type"]) == (name, kind)), None)

    def _asked(self, operation: str) -> Asked:
        return Asked("route53", operation, f"zone {self._zone}", f"arn:aws:route53:::hostedzone/{self._zone}")


def _upsert(record: RecordSet) -> Mapping[str, object]:
    values = [{"Value": each} for each in sorted(record.values)]
    described = {"Name": record.name, "Type": record.type.value, "TTL": record.ttl_seconds, "ResourceRecords": values}
    return {"Action": "UPSERT", "ResourceRecordSet": described}


def _parsed(raw: Mapping[str, Any]) -> RecordSet:
    name = str(raw["Name"]).lower()
    if "SetIdentifier" in raw or "AliasTarget" in raw or "TTL" not in raw:
        said = f"{name} is an alias or has a routing policy: somebody else keeps it; choose another dns.name"
        raise Refused(said, Ignorance.OURS)
    values = frozenset(str(each["Value"]) for each in raw.get("ResourceRecords", ()))
    return RecordSet(name, RecordType(raw["Type"]), int(raw["TTL"]), values)
