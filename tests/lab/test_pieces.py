"""The lab's pure pieces, without a lab."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.lab.addresses import Block, claim_block, group_id_of
from agent.lab.answers import emptied, error_body, without
from agent.lab.calls import Call, read_call
from agent.lab.processes import MARK, marked
from agent.lab.spec import LabSpec, Pace, shares
from agent.lab.toml import render
from agent.lab.weather import Fault, Weather

text = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)
scalars = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), text)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3))


@settings(max_examples=50)
@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.dictionaries(text, values), max_size=3))
def test_what_is_written_as_toml_is_read_as_the_same(sections: dict[str, dict[str, Any]]) -> None:
    assert tomllib.loads(render(sections)) == sections


def test_a_spec_survives_json() -> None:
    spec = LabSpec(instances=5, settings={"timing": {"loop_interval": "1s"}}, pace=Pace(boot_s=2.5))
    assert LabSpec.from_json(spec.to_json()) == spec


@given(st.integers(0, 100), st.integers(1, 5))
def test_shares_are_even(total: int, parts: int) -> None:
    split = shares(total, parts)
    assert (sum(split), len(split)) == (total, parts)
    assert max(split) - min(split) <= 1


def test_a_block_is_owned_by_one() -> None:
    block, listener = claim_block()
    other, second = claim_block([block.x, 250, 251, 252, 253])
    with listener, second:
        assert block != other
        assert isinstance(listener, socket.socket)


def test_every_address_has_a_group_of_its_own() -> None:
    addresses = [f"127.{x}.{zone}.{host}" for x in (1, 77, 254) for zone in (1, 2, 3) for host in range(11, 251)]
    assert len({group_id_of(address) for address in addresses}) == len(addresses)
    assert Block(77).holds("127.77.3.11")
    assert not Block(77).holds("127.78.3.11")
    assert not Block(77).holds(None)


# ---- calls -----------------------------------------------------------------------------------------------------------


def request(
    method: str, path: str, query: str = "", body: str = "", service: str = "s3", **more: str
) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "HTTP_AUTHORIZATION": f"AWS4-HMAC-SHA256 Credential=KEY/20260101/eu-west-1/{service}/aws4_request, Signed",
        "wsgi.input": io.BytesIO(body.encode()),
        "CONTENT_LENGTH": str(len(body)),
        **more,
    }
    return environ


@pytest.mark.parametrize(
    ("method", "path", "query", "operation"),
    [
        ("GET", "/", "", "ListBuckets"),
        ("HEAD", "/b", "", "HeadBucket"),
        ("GET", "/b", "list-type=2&prefix=p", "ListObjectsV2"),
        ("GET", "/b", "lifecycle", "GetBucketLifecycleConfiguration"),
        ("GET", "/b", "uploads", "ListMultipartUploads"),
        ("GET", "/b/k", "", "GetObject"),
        ("HEAD", "/b/k", "", "HeadObject"),
        ("PUT", "/b/k", "", "PutObject"),
        ("PUT", "/b/k", "partNumber=1&uploadId=u", "UploadPart"),
        ("POST", "/b/k", "uploads", "CreateMultipartUpload"),
        ("POST", "/b/k", "uploadId=u", "CompleteMultipartUpload"),
        ("DELETE", "/b/k", "uploadId=u", "AbortMultipartUpload"),
        ("DELETE", "/b/k", "", "DeleteObject"),
        ("POST", "/b", "delete", "DeleteObjects"),
    ],
)
def test_s3_requests_are_named(method: str, path: str, query: str, operation: str) -> None:
    call = read_call(request(method, path, query), str.lower)
    assert (call.service, call.operation, call.caller) == ("s3", operation, "key")


def test_a_form_is_named_by_its_action_and_not_consumed() -> None:
    body = "Action=DescribeInstances&InstanceId.1=i-1"
    environ = request("POST", "/", body=body, service="ec2", CONTENT_TYPE="application/x-www-form-urlencoded")
    call = read_call(environ, str)
    assert (call.service, call.operation, call.is_listing) == ("ec2", "DescribeInstances", True)
    assert "i-1" in call.resource
    assert environ["wsgi.input"].read() == body.encode()


# ---- weather ---------------------------------------------------------------------------------------------------------

LISTING = Call("ec2", "DescribeInstances", "i-1", "i-2")


@pytest.mark.parametrize(
    ("fault", "meets"),
    [
        (Fault(), True),
        (Fault(service="ec2", operation="Describe*", match="i-1", caller="i-2"), True),
        (Fault(service="s3"), False),
        (Fault(operation="Terminate*"), False),
        (Fault(match="i-3"), False),
        (Fault(caller="i-1"), False),
    ],
)
def test_a_fault_meets_whom_it_is_about(fault: Fault, meets: bool) -> None:
    assert fault.meets(LISTING) is meets


def test_a_counted_fault_ends_and_the_first_that_matches_wins() -> None:
    weather = Weather()
    first = weather.add(Fault(status=500, times=2))
    second = weather.add(Fault(status=503))
    met = [meeting.id for meeting in (weather.meet(LISTING) for _ in range(3)) if meeting]
    assert met == [first, first, second]
    assert weather.clear() == 1
    assert weather.meet(LISTING) is None


def test_who_hangs_in_a_counted_fault_is_released_when_the_weather_clears() -> None:
    weather = Weather()
    weather.add(Fault(service="s3", hang=True, times=1))
    meeting = weather.meet(Call("s3", "PutObject", "/bucket/key", "i-1"))
    assert meeting is not None
    weather.clear()
    assert meeting.cleared.is_set()


def test_an_etcd_that_only_tells_its_version_is_no_etcd_of_the_machine(tmp_path: Path) -> None:
    binary = tmp_path / "etcd"
    binary.symlink_to(sys.executable)
    instance = f"i-{os.getpid()}"
    waiting = [str(binary), "-c", "import sys; print(flush=True); sys.stdin.read()"]
    for arguments, name in (([], "etcd"), (["--version"], "etcd --version")):
        process = subprocess.Popen(
            [*waiting, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={MARK: instance}
        )
        with process:
            assert process.stdout is not None
            process.stdout.readline()
            assert [(each.pid, each.name) for each in marked([instance])] == [(process.pid, name)]
            process.kill()


def test_only_a_listing_can_be_empty_or_old() -> None:
    write = Call("s3", "PutObject", "/b/k", "i-1")
    assert not Fault(empty=True).meets(write)
    assert not Fault(stale=True).meets(write)


# ---- answers ---------------------------------------------------------------------------------------------------------

INSTANCES = b"""<?xml version="1.0"?><DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
<reservationSet><item><instancesSet><item><instanceId>i-1</instanceId></item></instancesSet></item>
<item><instancesSet><item><instanceId>i-2</instanceId></item></instancesSet></item></reservationSet>
<nextToken>more</nextToken></DescribeInstancesResponse>"""


def test_a_listing_without_an_instance_keeps_the_others() -> None:
    bent = without(INSTANCES, frozenset({"i-1"}))
    assert b"i-1" not in bent
    assert bent.count(b"instancesSet>") == 2
    assert b"i-2" in bent


def test_an_emptied_listing_has_no_next_page() -> None:
    bent = emptied(INSTANCES)
    assert b"instanceId" not in bent
    assert b"more" not in bent
    assert b"reservationSet" in bent


@pytest.mark.parametrize("service", ["ec2", "s3", "autoscaling"])
def test_an_error_names_its_code(service: str) -> None:
    assert b"<Code>Weather</Code>" in error_body(service, 500, "Weather")
