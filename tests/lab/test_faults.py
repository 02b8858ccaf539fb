"""The lab's bad weather meets whom it is meant for, looks like AWS's, and passes."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from agent.lab.client import Lab
from agent.lab.foundation import client
from agent.lab.spec import LabError
from tests.lab.harness import role_keys, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
BUCKET = "etcd-lab"


def failure(call: Any, **parameters: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    answer: dict[str, Any] = dict(caught.value.response)
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def listed(lab: Lab) -> list[str]:
    reservations = lab.aws("ec2").describe_instances()["Reservations"]
    return [instance["InstanceId"] for reservation in reservations for instance in reservation["Instances"]]


def launch(lab: Lab, count: int) -> list[str]:
    lab.scale(count)
    wait_until(lambda: len(lab.instances()) == count, 10, f"{count} instances")
    return [instance.id for instance in lab.instances()]


def as_instance(lab: Lab, instance_id: str) -> Any:
    """An EC2 client with the role credentials of an instance, as its IMDS gives them."""
    return client("ec2", lab.endpoint, keys=role_keys(lab.instance(instance_id)))


@pytest.mark.parametrize(
    ("service", "call", "fault", "code"),
    [
        ("ec2", "describe_instances", {"status": 503}, "RequestLimitExceeded"),
        ("ec2", "describe_instances", {"status": 403}, "UnauthorizedOperation"),
        ("ec2", "describe_instances", {"status": 500}, "InternalError"),
        ("autoscaling", "describe_auto_scaling_groups", {"status": 400, "code": "Throttling"}, "Throttling"),
        ("autoscaling", "describe_auto_scaling_groups", {"status": 403}, "AccessDenied"),
        ("s3", "list_buckets", {"status": 503}, "SlowDown"),
        ("sts", "get_caller_identity", {"status": 500}, "InternalError"),
    ],
)
def test_an_error_is_worded_as_its_service_words_it(
    cloud: Lab, service: str, call: str, fault: dict[str, Any], code: str
) -> None:
    with cloud.weather(service=service, **fault):
        assert failure(getattr(cloud.aws(service), call)) == (code, fault["status"])
    getattr(cloud.aws(service), call)()


@pytest.mark.parametrize(
    ("status", "code"), [(409, "ConditionalRequestConflict"), (412, "PreconditionFailed"), (403, "AccessDenied")]
)
def test_a_write_can_be_refused_by_key_and_by_count(cloud: Lab, status: int, code: str) -> None:
    s3 = cloud.aws("s3")
    cloud.fault(service="s3", operation="PutObject", match=f"refused-{status}", status=status, times=2)
    s3.put_object(Bucket=BUCKET, Key="other", Body=b"")
    for _ in range(2):
        assert failure(s3.put_object, Bucket=BUCKET, Key=f"refused-{status}", Body=b"") == (code, status)
    s3.put_object(Bucket=BUCKET, Key=f"refused-{status}", Body=b"")


def test_an_answer_can_be_lost_after_the_write(cloud: Lab) -> None:
    s3 = cloud.aws("s3")
    cloud.fault(service="s3", operation="PutObject", match="lost", status=500, after=True, times=1)
    assert failure(s3.put_object, Bucket=BUCKET, Key="lost", Body=b"mine", IfNoneMatch="*") == ("InternalError", 500)
    assert s3.get_object(Bucket=BUCKET, Key="lost")["Body"].read() == b"mine"
    assert failure(s3.put_object, Bucket=BUCKET, Key="lost", Body=b"mine", IfNoneMatch="*")[1] == 412


def test_a_call_can_hang_and_is_released_when_the_weather_clears(cloud: Lab) -> None:
    cloud.fault(service="ec2", operation="DescribeInstances", hang=True)
    began = time.monotonic()
    threading.Timer(1.0, cloud.clear_faults).start()
    with pytest.raises((ClientError, ReadTimeoutError)):
        cloud.aws("ec2").describe_instances()
    assert 0.9 < time.monotonic() - began < 5


def test_a_call_can_be_slow(cloud: Lab) -> None:
    with cloud.weather(service="ec2", delay_s=0.7):
        began = time.monotonic()
        cloud.aws("ec2").describe_instances()
    assert time.monotonic() - began > 0.7


def test_a_listing_can_be_empty_or_partial(cloud: Lab) -> None:
    first, second = launch(cloud, 2)
    with cloud.weather(service="ec2", operation="DescribeInstances", drop=[first]):
        assert first not in listed(cloud)
        assert second in listed(cloud)
    with cloud.weather(operation="Describe*", empty=True):
        assert listed(cloud) == []
        assert cloud.aws("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"] == []
    assert {first, second} <= set(listed(cloud))


def test_an_object_can_be_missing_from_one_listing(cloud: Lab) -> None:
    s3 = cloud.aws("s3")
    for key in ("part/a", "part/b"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"")
    with cloud.weather(service="s3", operation="ListObjectsV2", drop=["part/a"]):
        found = s3.list_objects_v2(Bucket=BUCKET, Prefix="part/")["Contents"]
        assert [one["Key"] for one in found] == ["part/b"]
    with cloud.weather(service="s3", operation="ListObjectsV2", empty=True):
        assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET, Prefix="part/")


def test_a_listing_can_be_old(cloud: Lab) -> None:
    before = launch(cloud, 1)
    assert set(before) <= set(listed(cloud))
    with cloud.weather(service="ec2", operation="DescribeInstances", stale=True):
        (newcomer,) = set(launch(cloud, 2)) - set(before)
        assert newcomer not in listed(cloud)
    assert newcomer in listed(cloud)


def test_a_fault_can_mean_one_instance(cloud: Lab) -> None:
    first, second = launch(cloud, 2)
    clients = {instance_id: as_instance(cloud, instance_id) for instance_id in (first, second)}
    with cloud.weather(service="ec2", status=503, caller=first):
        assert failure(clients[first].describe_instances)[1] == 503
        clients[second].describe_instances()
        cloud.aws("ec2").describe_instances()


def test_every_call_is_logged_with_its_caller_and_its_fate(cloud: Lab) -> None:
    (instance,) = launch(cloud, 1)
    asking = as_instance(cloud, instance)
    since = cloud.last_call()
    with cloud.weather(service="ec2", status=503, times=1) as fault:
        failure(asking.describe_instances)
    asking.describe_instances()
    calls = [(call["operation"], call["caller"], call["status"], call["fault"]) for call in cloud.calls(since)]
    assert calls == [("DescribeInstances", instance, 503, fault), ("DescribeInstances", instance, 200, "")]
    counts = {(one["operation"], one["caller"], one["status"]): one["count"] for one in cloud.counters()}
    assert counts["DescribeInstances", instance, 200] == 1


def test_a_fault_with_a_misspelt_field_is_refused(cloud: Lab) -> None:
    with pytest.raises(LabError, match="a fault has no statsu"):
        cloud.fault(statsu=500)


def test_an_unknown_filter_is_a_clean_refusal(cloud: Lab) -> None:
    launch(cloud, 1)  # moto looks at filters only where there is something to filter
    code = failure(cloud.aws("ec2").describe_instances, Filters=[{"Name": "no-such", "Values": ["x"]}])
    assert code == ("InvalidParameterValue", 400)
