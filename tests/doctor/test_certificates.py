"""The TLS files, tried out by a handshake in memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.doctor.finding import Finding, Level
from agent.doctor.judging.certificates import Pair, Shaken, judge
from agent.doctor.judging.installation import Account, Entry
from agent.doctor.looking.certificates import pairs, shake
from agent.model.faults import Refused
from agent.model.known import Ignorance, Unknown
from tests.contracts.tls_material import Authority

ADDRESS = "10.0.1.5"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


def test_a_pair_that_belongs_here_shakes_hands(authority: Authority) -> None:
    pair = authority.issue("member", (ADDRESS,))
    found = shake(pair.cert, pair.key, authority.cert, ADDRESS)
    assert (found.refused, found.names) == ("", (ADDRESS,))
    assert found.valid_until is not None
    assert timedelta(0) < found.valid_until - datetime.now(UTC) < timedelta(hours=1)


def test_what_peers_would_refuse_is_refused(authority: Authority, tmp_path: Path) -> None:
    elsewhere = authority.issue("elsewhere", ("10.0.1.6",))
    assert "IP address mismatch" in shake(elsewhere.cert, elsewhere.key, authority.cert, ADDRESS).refused
    over = authority.issue("over", (ADDRESS,), valid=timedelta(minutes=-5))
    assert "expired" in shake(over.cert, over.key, authority.cert, ADDRESS).refused
    stranger = Authority(tmp_path, "theirs").issue("stranger", (ADDRESS,))
    assert "issuer" in shake(stranger.cert, stranger.key, authority.cert, ADDRESS).refused


def test_files_that_do_not_belong_together_are_refused(authority: Authority, tmp_path: Path) -> None:
    one, other = authority.issue("one", (ADDRESS,)), authority.issue("other", (ADDRESS,))
    with pytest.raises(Refused, match="cannot be loaded together"):
        shake(one.cert, other.key, authority.cert, ADDRESS)
    with pytest.raises(FileNotFoundError):
        shake(tmp_path / "none.pem", one.key, authority.cert, ADDRESS)


def test_both_pairs_of_the_settings_are_tried(authority: Authority, tmp_path: Path) -> None:
    good, bad = authority.issue("good", (ADDRESS,)), authority.issue("bad", ("10.0.1.6",))
    files = {
        "clients": (good.cert, good.key, authority.cert),
        "peers": (bad.cert, bad.key, authority.cert),
        "not named": (None, None, None),
    }
    clients, peers = (each.shaken for each in pairs(files, ADDRESS))
    assert isinstance(clients, Shaken)
    assert isinstance(peers, Shaken)
    assert (clients.refused == "", peers.refused == "") == (True, False)

    gone = {**files, "clients": (tmp_path / "none.pem", good.key, authority.cert)}
    said = list(judge("files", pairs(gone, ADDRESS), None, datetime.now(UTC)))
    assert [each.level for each in said if each.check == "tls"] == [Level.FAILURE, Level.FAILURE]
    assert "No such file" in said[0].found


# ---- judged ---------------------------------------------------------------------------------------------------------

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def pair(days_left: float, of_days: float = 365, key_mode: int = 0o600, owner_id: int = 998) -> Pair:
    until = NOON + timedelta(days=days_left)
    shaken = Shaken("", until - timedelta(days=of_days), until, (ADDRESS,))
    return Pair("tls.cert", shaken, Entry(Path("/etc/etcd/key.pem"), "etcd", owner_id, key_mode))


def levels(*given: Pair) -> list[Level]:
    def found() -> Iterator[Finding]:
        yield from judge("files", given, Account("etcd", 998), NOON)

    return [each.level for each in found()]


def test_an_end_that_is_near_is_told_in_time() -> None:
    assert levels(pair(60)) == [Level.OK, Level.OK]
    assert levels(pair(13)) == [Level.WARNING, Level.OK]
    assert levels(pair(0.5, of_days=1)) == [Level.OK, Level.OK], "a short life is not near its end all the time"
    assert levels(pair(0.1, of_days=1)) == [Level.WARNING, Level.OK]


def test_a_key_is_its_users_alone() -> None:
    assert levels(pair(60, key_mode=0o644)) == [Level.OK, Level.WARNING]
    assert levels(pair(60, owner_id=0)) == [Level.OK, Level.FAILURE]
    assert levels(pair(60, owner_id=0, key_mode=0o640)) == [Level.OK, Level.OK]
    assert levels(Pair("tls.cert", Shaken(""), None)) == [Level.UNKNOWN]


def test_files_that_may_not_be_read_are_unknown_and_those_that_are_not_there_fail() -> None:
    denied, absent = Unknown(Ignorance.DENIED, "may not"), Unknown(Ignorance.OURS, "no such file")
    assert levels(Pair("tls.cert", denied, denied), Pair("tls.peer_cert", absent, None)) == [
        Level.UNKNOWN,
        Level.FAILURE,
    ]


def test_off_is_said() -> None:
    found = list(judge("off", (), None, NOON))
    assert [each.level for each in found] == [Level.OK]
    assert "in the clear" in found[0].found
