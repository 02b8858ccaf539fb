"""`tls rotate` takes a step only where every member is ready for it; `tls issue` writes a key for its owner alone."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.cli import main
from agent.model.certificates import Authorities
from agent.model.faults import Refused
from agent.tls_cli import Seen, Silent, issue_client, next_step
from agent.world.authorities import Keys
from agent.world.signing import new_authority

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ONE, BOTH, ISSUING, TWO = Authorities((1,), 1), Authorities((1, 2), 1), Authorities((1, 2), 2), Authorities((2,), 2)
GIVEN = ("--set", "cluster.name=prod", "--set", "storage.bucket=acme-etcd")


def seen(name: str, trusts: set[int], shows: set[int]) -> Seen:
    return Seen(name, frozenset(trusts), frozenset(shows), NOW)


def test_a_rotation_step_by_step() -> None:
    def three(trusts: set[int], shows: set[int]) -> list[Seen]:
        return [seen(name, trusts, shows) for name in ("i-a", "i-b", "i-c")]

    assert next_step(ONE, three({1}, {1})) == (2, "authority", ())
    assert next_step(BOTH, three({1, 2}, {1})) == (2, "issues", ())
    assert next_step(ISSUING, three({1, 2}, {2})) == (2, "alone", ())
    assert next_step(TWO, three({2}, {2})) == (3, "authority", ())


@pytest.mark.parametrize(
    ("authorities", "late"),
    [
        (ONE, seen("i-c", {0, 1}, {1})),
        (ONE, seen("i-c", {1}, {0})),
        (BOTH, seen("i-c", {1}, {1})),
        (BOTH, Silent("i-c", "no answer")),
        (ISSUING, seen("i-c", {1, 2}, {1})),
        (ISSUING, seen("i-c", {1, 2}, {1, 2})),
        (TWO, seen("i-c", {1, 2}, {2})),
    ],
)
def test_one_member_that_is_not_ready_keeps_all_from_the_next_step(
    authorities: Authorities, late: Seen | Silent
) -> None:
    ready = seen("i-a", set(authorities.trusted), {authorities.issuer})
    _, _, waits = next_step(authorities, [ready, late])
    assert len(waits) >= 1
    assert all(each.startswith("i-c") for each in waits)


def test_a_clients_key_is_its_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    keys = Keys(new_authority("peers", NOW), new_authority("clients", NOW))
    out = tmp_path / "app"
    until = issue_client(keys, keys.clients.certificate, "app", out, NOW, timedelta(days=1))
    assert until == NOW + timedelta(days=1)
    assert stat.S_IMODE((out / "app.key").stat().st_mode) == 0o600
    before = (out / "app.key").read_bytes()
    with pytest.raises(Refused, match="move it away"):
        issue_client(keys, keys.clients.certificate, "app", out, NOW, timedelta(days=1))
    assert (out / "app.key").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--client", "../root", "--out", "/nonexistent"), "--client"),
        (("--client", "app", "--out", "/nonexistent", "--life", "1s"), "--life"),
    ],
)
def test_mistakes_of_issue(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tls", "issue", *words, *GIVEN, "--set", "tls.mode=ca"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["status", "bundle", "rotate", "init"])
def test_without_an_authority_of_its_own_there_is_nothing_to_show(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tls", verb, *GIVEN]) == 1
    assert 'tls.mode is "off"' in capsys.readouterr().err
