"""What the doctor looks at, and in which order: an image, or a whole instance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.doctor.finding import Finding
from agent.doctor.judging import installation, versions
from agent.doctor.looking import installation as looking
from agent.settings import Problem, Settings


def of_an_image(settings: Settings, settings_file: Path, missing: Sequence[Problem]) -> Iterator[Finding]:
    """Without AWS and IMDS, and while nothing runs."""
    data_root = settings.etcd.data_root
    yield from installation.settings_of_an_image(missing)
    seen = looking.installation(settings_file, data_root)
    yield from _installed(settings, seen)
    yield from installation.empty_data_root(seen.data_root, data_root)


def of_an_instance(settings: Settings, settings_file: Path) -> Iterator[Finding]:
    seen = looking.installation(settings_file, settings.etcd.data_root)
    yield from _installed(settings, seen)


def _installed(settings: Settings, seen: installation.Installation) -> Iterator[Finding]:
    etcd = settings.etcd
    wants_bump = settings.snapshots.bump_revision > 0
    yield from versions.judge(looking.versions(etcd.binary, wants_bump=wants_bump))
    yield from installation.judge(seen, etcd.data_root, by_systemd=etcd.supervisor == "systemd")
