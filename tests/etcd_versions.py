"""Which etcd binaries the tests have: those that `make etcd` put into .cache/etcd/VERSION.

House rules: nothing is downloaded from here; a version that is missing skips its tests and says how to get it.
ETCD_VERSIONS_DIR may name another folder of the same layout: VERSION/{etcd,etcdctl,etcdutl}.
"""

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest


@dataclass(frozen=True, order=True)
class EtcdVersion:
    """One etcd that can be run here."""

    number: tuple[int, int, int]
    folder: Path

    def __str__(self) -> str:
        return ".".join(map(str, self.number))

    @cached_property
    def etcd(self) -> Path:
        return self.folder / "etcd"

    @cached_property
    def etcdctl(self) -> Path:
        return self.folder / "etcdctl"

    @cached_property
    def etcdutl(self) -> Path | None:
        """None below 3.5, where etcdctl does its work."""
        return self.folder / "etcdutl" if (self.folder / "etcdutl").exists() else None


def versions_dir() -> Path:
    default = Path(__file__).resolve().parent.parent / ".cache" / "etcd"
    return Path(os.environ.get("ETCD_VERSIONS_DIR") or default)


def available() -> tuple[EtcdVersion, ...]:
    """Oldest first; empty when `make etcd` was never run."""
    found = []
    for binary in versions_dir().glob("*/etcd"):
        number = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", binary.parent.name)
        if number and os.access(binary, os.X_OK):
            found.append(EtcdVersion((int(number[1]), int(number[2]), int(number[3])), binary.parent))
    return tuple(sorted(found))


def default() -> EtcdVersion:
    """The newest 3.5, which production runs; skips the test when there is none."""
    newest = [version for version in available() if version.number[:2] == (3, 5)]
    if not newest:
        pytest.skip(f"no etcd 3.5 in {versions_dir()}: run `make etcd`")
    return newest[-1]


def named(version: str) -> EtcdVersion:
    """Exactly this one; skips the test when it cannot be had here."""
    for candidate in available():
        if str(candidate) == version:
            return candidate
    pytest.skip(f"no etcd {version} in {versions_dir()}: run `make etcd`")
