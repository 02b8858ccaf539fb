"""What a finding is, how it is told, and what the command ends with."""

from __future__ import annotations

import pytest

from agent.doctor.finding import document, exit_code, failure, lines, ok, unknown, warning
from agent.model.known import Ignorance, Unknown

WELL = ok("clock", "0.1 s off")
DOUBTFUL = unknown("disk", Unknown(Ignorance.DENIED, "not ours to write"), "it may be slow", "run it as etcd")
WARNED = warning("tls", "expires in 3 days", "then nobody gets in", "renew it")
FAILED = failure("etcd-version", "etcd 3.5.1", "it loses writes", "install 3.5.30")


def test_only_a_failure_fails() -> None:
    assert exit_code([]) == exit_code([WELL, DOUBTFUL, WARNED]) == 0
    assert exit_code([WELL, FAILED]) == 1


def test_the_worst_comes_first_with_what_comes_of_it_and_what_to_do() -> None:
    assert list(lines([WELL, DOUBTFUL, WARNED, FAILED])) == [
        "FAILURE  etcd-version  etcd 3.5.1",
        "                       so:  it loses writes",
        "                       fix: install 3.5.30",
        "WARNING  tls           expires in 3 days",
        "                       so:  then nobody gets in",
        "                       fix: renew it",
        "UNKNOWN  disk          not ours to write",
        "                       so:  it may be slow",
        "                       fix: run it as etcd",
        "ok       clock         0.1 s off",
        "1 failure, 1 warning, 1 unknown, 1 ok",
    ]


def test_for_scripts_every_finding_is_whole() -> None:
    said = document([DOUBTFUL])
    assert said == {
        "ok": True,
        "counts": {"failure": 0, "warning": 0, "unknown": 1, "ok": 0},
        "findings": [
            {
                "check": "disk",
                "level": "unknown",
                "found": "not ours to write",
                "consequence": "it may be slow",
                "fix": "run it as etcd",
            }
        ],
    }


def test_what_is_not_ok_has_a_consequence_and_a_fix() -> None:
    for half in (("", "mend it"), ("it breaks", "")):
        with pytest.raises(AssertionError):
            failure("x", "broken", *half)
