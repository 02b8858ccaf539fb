"""The door to Route 53 against moto's: what is ours is read and written, and nothing else is touched."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import boto3
import pytest

from agent.model.dns import DnsNames, RecordSet, RecordType
from agent.model.faults import Refused, Unavailable
from agent.world.aws import Aws
from agent.world.doors import Dns
from agent.world.route53 import Route53
from tests.contracts.aws_stand_in import REGION, Gateway, moto_behind_a_gateway

NAMES = DnsNames("etcd.example.internal.", timedelta(seconds=30))
ENDPOINTS = frozenset({("10.0.0.1", 2379), ("10.0.0.2", 2379)})
numbers = itertools.count(1)
calls: list[str] = []


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with moto_behind_a_gateway() as gateway:
        yield gateway


@pytest.fixture
def zone(gateway: Gateway) -> str:
    gateway.clear()
    made = route53().create_hosted_zone(Name="example.internal", CallerReference=str(next(numbers)))
    return str(made["HostedZone"]["Id"]).rpartition("/")[2]


@pytest.fixture
def door(zone: str) -> Dns:
    calls.clear()
    aws = Aws(REGION, timedelta(seconds=1), timedelta(seconds=5), on_call=lambda *call: calls.append(call[1]))
    return Route53(aws, zone)


def route53() -> Any:
    return boto3.client("route53", region_name=REGION)


def listed(zone: str) -> dict[tuple[str, str], set[str]]:
    found = route53().list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    return {(each["Name"], each["Type"]): {value["Value"] for value in each["ResourceRecords"]} for each in found}


def foreign(zone: str, name: str, **more: Any) -> None:
    record = {"Name": name, "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "192.0.2.1"}], **more}
    change = {"Changes": [{"Action": "CREATE", "ResourceRecordSet": record}]}
    route53().change_resource_record_sets(HostedZoneId=zone, ChangeBatch=change)


def test_a_zone_without_our_names_has_none_of_them(door: Dns, zone: str) -> None:
    foreign(zone, "zzz.example.internal.")
    assert door.records(NAMES.watched) == frozenset()
    assert calls == ["ListResourceRecordSets"] * 2


def test_what_is_written_is_read_again(door: Dns) -> None:
    wanted = NAMES.of(ENDPOINTS)
    door.upsert(wanted)
    found = door.records(NAMES.watched)
    assert found == {each for each in wanted if (each.name, each.type) in NAMES.watched}
    assert calls == ["ChangeResourceRecordSets", "ListResourceRecordSets", "ListResourceRecordSets"]


def test_another_list_replaces_the_one_before_and_nothing_else_is_touched(door: Dns, zone: str) -> None:
    foreign(zone, "other.example.internal.")
    before = listed(zone)
    door.upsert(NAMES.of(ENDPOINTS))
    door.upsert(NAMES.of(frozenset({("10.0.0.3", 2379)})))
    after = listed(zone)
    assert after[NAMES.name, "A"] == {"10.0.0.3"}
    assert after["_etcd-client._tcp.etcd.example.internal.", "SRV"] == {"0 0 2379 ip-10-0-0-3.etcd.example.internal."}
    assert {key: after[key] for key in before} == before
    assert after["ip-10-0-0-1.etcd.example.internal.", "A"] == {"10.0.0.1"}, "true for ever, and never deleted"


def test_a_record_with_a_routing_policy_is_somebody_elses(door: Dns, zone: str) -> None:
    foreign(zone, NAMES.name, SetIdentifier="theirs", Weight=1)
    with pytest.raises(Refused, match="somebody else keeps it"):
        door.records(NAMES.watched)


def test_nothing_is_written_that_would_empty_a_name(door: Dns) -> None:
    with pytest.raises(AssertionError):
        door.upsert(frozenset())
    with pytest.raises(AssertionError):
        door.upsert(frozenset({RecordSet(NAMES.name, RecordType.A, 30, frozenset())}))
    assert calls == []


def test_a_zone_that_is_not_there_says_which_setting_to_correct(gateway: Gateway) -> None:
    gateway.clear()
    aws = Aws(REGION, timedelta(seconds=1), timedelta(seconds=5))
    with pytest.raises(Refused, match=r"dns\.zone_id"):
        Route53(aws, "ZNOWHERE").records(NAMES.watched)


def test_whoever_may_not_is_told_the_statement_with_the_zone(door: Dns, gateway: Gateway, zone: str) -> None:
    denied = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
    gateway.spoil("POST .*rrset", 403, denied)
    with pytest.raises(Refused, match=f'"Action":"route53:ChangeResourceRecordSets".*hostedzone/{zone}"'):
        door.upsert(NAMES.of(ENDPOINTS))


def test_an_answer_that_is_none_is_not_an_empty_zone(door: Dns, gateway: Gateway) -> None:
    gateway.spoil("GET .*rrset", 200, b"<html>welcome</html>")
    with pytest.raises(Unavailable):
        door.records(NAMES.watched)
