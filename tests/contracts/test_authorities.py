"""The authorities in Parameter Store against moto's: made once, read to the end, and never replaced."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from agent.cli import main
from agent.model.certificates import Authorities
from agent.model.faults import Refused, Unavailable
from agent.model.known import Ignorance
from agent.world.authorities import ALONE, ISSUES, AuthorityStore, authorities_in
from agent.world.aws import Aws
from agent.world.signing import Wanted, issue
from tests.contracts.aws_stand_in import REGION, Gateway, moto_behind_a_gateway

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLUSTER = "s3://acme-etcd/etcd/prod"
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with moto_behind_a_gateway() as gateway:
        yield gateway


@pytest.fixture(scope="module")
def aws(gateway: Gateway) -> Aws:
    """One for all: it reads botocore's tables once. Patient: moto's first answer about parameters takes seconds."""
    assert gateway.url
    return Aws(REGION, timedelta(seconds=5), timedelta(seconds=30))


@pytest.fixture
def path(gateway: Gateway) -> str:
    gateway.clear()
    return f"/etcd-asg-agent/prod-{next(numbers)}"


@pytest.fixture
def store(aws: Aws, path: str) -> AuthorityStore:
    return at(aws, path)


def at(aws: Aws, path: str, cluster: str = CLUSTER) -> AuthorityStore:
    return AuthorityStore(aws, path, "", cluster, lambda: NOW)


def ssm() -> Any:
    return boto3.client("ssm", region_name=REGION)


def test_none_is_none_and_the_first_is_made_once(store: AuthorityStore, path: str) -> None:
    assert store.authorities() is None
    assert store.create(1, "i-a")
    before = store.keys([1])
    assert not store.create(1, "i-b"), "whoever comes second is told so"
    assert store.keys([1]) == before
    assert store.authorities() == Authorities((1,), 1)
    found = ssm().get_parameter(Name=f"{path}/000001/authority", WithDecryption=True)["Parameter"]
    assert (found["Type"], found["Version"]) == ("SecureString", 1)
    assert len(found["Value"]) < 4096, "a standard parameter"
    assert json.loads(found["Value"])["created_by"] == "i-a"


def test_no_key_is_decrypted_to_learn_whom_to_trust(store: AuthorityStore, gateway: Gateway) -> None:
    store.create(1, "i-a")
    gateway.clear()
    store.authorities()
    assert gateway.heard
    assert all('"WithDecryption": false' in each for each in gateway.heard)


def test_a_lost_answer_makes_no_second_authority(store: AuthorityStore, gateway: Gateway) -> None:
    gateway.spoil("Overwrite", 500, b"{}", after=True)
    with pytest.raises(Unavailable):
        store.create(1, "i-a")
    assert store.authorities() == Authorities((1,), 1)
    assert not store.create(1, "i-a")


@pytest.mark.parametrize(
    ("status", "code", "why"),
    [
        (400, "ThrottlingException", Ignorance.THROTTLED),
        (500, "InternalServerError", Ignorance.FAILED),
        (400, "TooManyUpdates", Ignorance.THROTTLED),
    ],
)
def test_a_failed_read_is_not_none(
    store: AuthorityStore, gateway: Gateway, status: int, code: str, why: Ignorance
) -> None:
    gateway.spoil("WithDecryption", status, json.dumps({"__type": code}).encode())
    with pytest.raises(Unavailable) as raised:
        store.authorities()
    assert raised.value.unknown.why is why


def test_a_denied_read_names_the_statement(store: AuthorityStore, gateway: Gateway) -> None:
    gateway.spoil("WithDecryption", 400, json.dumps({"__type": "AccessDeniedException", "message": "no"}).encode())
    with pytest.raises(Refused, match='"Sid":"ReadAuthority"'):
        store.authorities()
    gateway.spoil("Overwrite", 400, json.dumps({"__type": "AccessDeniedException", "message": "no"}).encode())
    with pytest.raises(Refused, match='"Sid":"CreateAuthority"'):
        store.create(1, "i-a")


def test_an_answer_without_parameters_is_not_none(store: AuthorityStore, gateway: Gateway) -> None:
    gateway.spoil("WithDecryption", 200, b"{}")
    with pytest.raises(Unavailable):
        store.authorities()


def test_every_page_is_read(store: AuthorityStore) -> None:
    for number in range(1, 6):
        store.create(number, "somebody")
        store.say(number, ISSUES, "somebody")
        store.say(number, ALONE, "somebody")
    assert store.authorities() == Authorities((5,), 5)
    assert set(store.keys([1, 5])) == {1, 5}


def test_the_steps_of_a_rotation() -> None:
    first = {"000001/authority"}
    both = {*first, "000002/authority"}
    assert authorities_in(first) == Authorities((1,), 1)
    assert authorities_in(both) == Authorities((1, 2), 1)
    assert authorities_in({*both, "000002/issues"}) == Authorities((1, 2), 2)
    assert authorities_in({*both, "000002/issues", "000002/alone"}) == Authorities((2,), 2)
    assert authorities_in({"000002/authority", "000002/issues", "000002/alone"}) == Authorities((2,), 2), "tidied up"
    assert authorities_in({*both, "notes", "000003/else"}) == Authorities((1, 2), 1)


@pytest.mark.parametrize("names", [{"000001/issues"}, {"notes"}, {"000001/authority", "000002/alone"}])
def test_what_comes_to_nothing_is_not_none(names: set[str]) -> None:
    with pytest.raises(Unavailable):
        authorities_in(names)


def test_an_authority_of_another_cluster_is_refused(store: AuthorityStore, aws: Aws, path: str) -> None:
    store.create(1, "i-a")
    with pytest.raises(Refused, match=r"choose another tls\.parameters"):
        at(aws, path, "s3://acme-etcd/etcd/other").keys([1])


def test_what_makes_no_sense_is_told_without_quoting_it(store: AuthorityStore, path: str) -> None:
    client = ssm()
    for value in ("no JSON", "{}", '{"peers": {}, "clients": {}}', "[1]"):
        client.put_parameter(Name=f"{path}/000001/authority", Value=value, Type="SecureString", Overwrite=True)
        with pytest.raises(Unavailable) as raised:
            store.keys([1])
        assert raised.value.__suppress_context__
        assert value not in str(raised.value)


def test_one_that_is_missing_is_not_signed_without(store: AuthorityStore) -> None:
    store.create(1, "i-a")
    with pytest.raises(Unavailable):
        store.keys([1, 2])


def test_the_commands_that_make_an_authority_and_tell_whom_to_trust(
    path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_REGION", REGION)
    settings = {"cluster.name": "prod", "storage.bucket": "acme-etcd", "tls.mode": "ca", "tls.parameters": path}
    patient = {**settings, "timing.aws_read_timeout": "30s"}
    given = [word for key, value in patient.items() for word in ("--set", f"{key}={value}")]
    assert main(["tls", "bundle", *given]) == 1
    assert "there is no authority in Parameter Store" in capsys.readouterr().err
    assert main(["tls", "init", "--number", "0", *given]) == 2
    assert main(["tls", "init", "--number", "7", *given]) == 0
    assert main(["tls", "init", "--number", "8", *given]) == 1, "there is one"
    assert "tls rotate makes the next one" in capsys.readouterr().err
    assert main(["tls", "bundle", *given]) == 0
    bundle = capsys.readouterr().out
    assert bundle.count("BEGIN CERTIFICATE") == 1
    assert "PRIVATE" not in bundle
    assert authorities_in({"000007/authority"}) == Authorities((7,), 7)


def test_keys_do_not_show_in_print(store: AuthorityStore) -> None:
    store.create(1, "i-a")
    keys = store.keys([1])[1]
    pair = issue(Wanted("i-a"), keys.clients, NOW, timedelta(days=1))
    for each in (keys, pair):
        assert "PRIVATE" not in repr(each)
        assert "PRIVATE" not in str(each)
