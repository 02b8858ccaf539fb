"""The etcds that the doors are held against, oldest first; one that cannot be had skips its tests and says so."""

from __future__ import annotations

import pytest

from tests import etcd_versions
from tests.etcd_versions import EtcdVersion


def _every_one() -> list[object]:
    """The oldest line and the newest release in every run; those in between in the long one."""
    oldest, *between, newest = etcd_versions.available() or (None,) * 2
    return [oldest, *(pytest.param(each, marks=pytest.mark.long) for each in between), newest]


@pytest.fixture(scope="module", params=_every_one(), ids=lambda version: f"etcd-{version}")
def version(request: pytest.FixtureRequest) -> EtcdVersion:
    return request.param or etcd_versions.default()
