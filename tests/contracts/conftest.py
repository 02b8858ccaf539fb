"""What the doors are held against: etcds, oldest first (one that cannot be had skips its tests), and moto's S3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from tests import etcd_versions
from tests.contracts.aws_stand_in import REAL, REGION, Gateway, moto_behind_a_gateway
from tests.etcd_versions import EtcdVersion


def _every_one() -> list[object]:
    """The oldest line and the newest release in every run; those in between in the long one."""
    oldest, *between, newest = etcd_versions.available() or (None,) * 2
    return [oldest, *(pytest.param(each, marks=pytest.mark.long) for each in between), newest]


@pytest.fixture(scope="module", params=_every_one(), ids=lambda version: f"etcd-{version}")
def version(request: pytest.FixtureRequest) -> EtcdVersion:
    return request.param or etcd_versions.default()


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """An S3 with a bucket, behind what can spoil its answers."""
    with moto_behind_a_gateway() as gateway:
        s3: Any = boto3.client("s3", region_name=REGION)
        s3.create_bucket(Bucket=REAL, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield gateway
