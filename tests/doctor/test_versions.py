"""Versions of etcd and of the tool beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.doctor.finding import Finding, Level
from agent.doctor.judging.versions import Installed, judge
from agent.model.known import Ignorance, Unknown

GOOD = Installed("3.5.30", "/usr/local/bin/etcdutl", "3.5.30", bumps=True, wants_bump=True)


def found(installed: Installed, check: str) -> Finding:
    return next(each for each in judge(installed) if each.check == check)


def test_the_advised_release_is_all_well() -> None:
    assert [each.level for each in judge(GOOD)] == [Level.OK, Level.OK]


@pytest.mark.parametrize(
    ("version", "level", "said"),
    [
        ("3.5.1", Level.FAILURE, "loses committed writes"),
        ("3.5.16", Level.WARNING, "may forget that a learner was promoted"),
        ("3.5.25", Level.WARNING, "promoted"),
        ("3.5.27", Level.WARNING, "can be bypassed"),
        ("3.4.23", Level.WARNING, "gets no fixes any more"),
        ("3.6.4", Level.WARNING, "never tried"),
        ("4.0.0", Level.WARNING, "never tried"),
        ("nightly", Level.UNKNOWN, "nobody knows"),
        ("3.5.28", Level.OK, ""),
    ],
)
def test_what_a_version_does_wrong(version: str, level: Level, said: str) -> None:
    seen = found(replace(GOOD, etcd=version), "etcd-version")
    assert seen.level is level
    assert said in seen.consequence


def test_no_etcd_fails_and_one_that_does_not_answer_is_unknown() -> None:
    absent = replace(GOOD, etcd=Unknown(Ignorance.OURS, "there is no etcd"))
    silent = replace(GOOD, etcd=Unknown(Ignorance.TIMEOUT, "it did not end in time"))
    assert found(absent, "etcd-version").level is Level.FAILURE
    assert found(silent, "etcd-version").level is Level.UNKNOWN


def test_the_tool_that_restores() -> None:
    no_tool = Unknown(Ignorance.OURS, "there is none")
    silent = Unknown(Ignorance.TIMEOUT, "it did not end")
    assert found(replace(GOOD, tool=no_tool), "restore-tool").level is Level.FAILURE
    assert found(replace(GOOD, tool_version=silent), "restore-tool").level is Level.UNKNOWN
    assert found(replace(GOOD, tool_version="3.4.23"), "restore-tool").level is Level.FAILURE
    assert found(replace(GOOD, bumps=False), "restore-tool").level is Level.WARNING
    assert found(replace(GOOD, bumps=silent), "restore-tool").level is Level.UNKNOWN
    assert found(replace(GOOD, bumps=False, wants_bump=False), "restore-tool").level is Level.OK
