"""Good settings: where values come from, what they become, and what is made from the declarations."""

import dataclasses
import tomllib
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.policy import Policy
from agent.setting_kinds import Address, Span, span_text
from agent.settings import DECLARED, ENVIRONMENT_PREFIX, SECTIONS, Settings, SettingsError, example, markdown_table

MINIMUM = {"cluster.name": "prod", "storage.bucket": "acme-etcd"}


def test_two_settings_are_enough() -> None:
    settings = Settings.load(None, flags=MINIMUM)
    assert settings.etcd.data_root == Path("/var/lib/etcd")
    assert settings.timing.loop_interval == timedelta(seconds=3)
    assert settings.http.listen == Address("0.0.0.0", 9379)
    assert settings.discovery.tags == ()
    assert settings.origins["etcd.binary"] == "default"


def test_later_sources_win(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[cluster]\nname="file"\n[storage]\nbucket="file"\n[log]\nlevel="debug"\n')
    env = {f"{ENVIRONMENT_PREFIX}CLUSTER__NAME": "env", f"{ENVIRONMENT_PREFIX}STORAGE__BUCKET": "env"}
    settings = Settings.load(path, env, {"storage.bucket": "flag"})
    assert (settings.log.level, settings.cluster.name, settings.storage.bucket) == ("debug", "env", "flag")
    assert settings.origins["log.level"] == str(path)
    assert settings.origins["cluster.name"] == f"environment {ENVIRONMENT_PREFIX}CLUSTER__NAME"
    assert settings.origins["storage.bucket"] == "flag"


@pytest.mark.parametrize("text", ["etcd-cluster=prod,team=a b", '{ etcd-cluster = "prod", team = "a b" }'])
def test_tags_from_the_environment(text: str) -> None:
    settings = Settings.load(None, {f"{ENVIRONMENT_PREFIX}DISCOVERY__TAGS": text}, MINIMUM)
    assert dict(settings.discovery.tags) == {"etcd-cluster": "prod", "team": "a b"}


@pytest.mark.parametrize("text", ["{0},{1}", '["{0}", "{1}"]', "{0}, {1}, {0}"])
def test_target_groups_from_the_environment(text: str) -> None:
    arns = [f"arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/{name}/0123abcd" for name in ("b", "a")]
    variable = f"{ENVIRONMENT_PREFIX}LOAD_BALANCER__TARGET_GROUPS"
    settings = Settings.load(None, {variable: text.format(*arns)}, MINIMUM)
    assert settings.load_balancer.target_groups == tuple(arns), "in the operator's order, none twice"


def test_sizes_and_flags_of_etcd() -> None:
    flags = {**MINIMUM, "etcd.quota_backend_bytes": "8GiB", "etcd.extra": "snapshot-count=5000"}
    settings = Settings.load(None, flags=flags)
    assert settings.etcd.quota_backend_bytes == 8 * 2**30
    assert dict(settings.etcd.extra) == {"snapshot-count": "5000"}


def test_ipv6() -> None:
    listen = Settings.load(None, flags={**MINIMUM, "http.listen": "[::1]:9000"}).http.listen
    assert listen == Address("::1", 9000)
    assert str(listen) == "[::1]:9000"


@given(st.integers(0, 366 * 86_400_000).map(lambda ms: timedelta(milliseconds=ms)))
def test_durations_survive_being_written(span: timedelta) -> None:
    assert Span(timedelta(0), timedelta(days=366)).read_text(span_text(span)) == span


def test_every_default_survives_being_written() -> None:
    for one in DECLARED.values():
        again = one.kind.read(tomllib.loads(f"value = {one.kind.toml(one.default)}")["value"])
        assert again == one.default, one.key


def test_the_example_file_is_the_one_in_the_repository() -> None:
    """Write it anew with: .venv/bin/etcd-asg-agent config example > systemd/config.toml"""
    assert (Path(__file__).parents[2] / "systemd" / "config.toml").read_text() == example()


def test_the_example_file_loads_as_it_stands_and_with_every_line_on(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(example())
    plain = Settings.load(path)
    path.write_text(
        "\n".join(line.removeprefix("#") if "# " not in line[:2] else line for line in example().splitlines())
    )
    assert Settings.load(path) == plain


def test_every_setting_is_documented_in_one_line() -> None:
    for one in DECLARED.values():
        assert one.doc
        assert "\n" not in one.doc + one.kind.expected
        assert f"`{one.key}`" in markdown_table()
    assert list(SECTIONS) == list(dict.fromkeys(one.section for one in DECLARED.values()))


def test_defaults_are_the_policys_own() -> None:
    """Two places must not disagree: what decisions assume without settings, and what settings say by default."""
    sections = ("timing", "etcd", "snapshots", "maintenance", "autoscaling")
    ours = {one.name: one.default for one in DECLARED.values() if one.section in sections}
    renamed = {
        "trouble_interval": "trouble_fleet_interval",
        "patient_trouble_interval": "patient_trouble_fleet_interval",
        "restart_backoff_max": "etcd_restart_backoff_max",
        "snapshot_interval": "interval",
        "quota_bytes": "quota_backend_bytes",
        "maintenance_after": "after",
    }
    ours["issues_certificates"] = DECLARED["tls.mode"].default == "ca"
    for theirs in dataclasses.fields(Policy):
        name = renamed.get(theirs.name, theirs.name)
        if isinstance(theirs.default, timedelta | int):
            assert ours[name] == theirs.default, theirs.name


# ---- whatever it is, it never raises anything but SettingsError ---------------------------------------------------

_keys = st.sampled_from([*DECLARED, *SECTIONS, "x.y", ""]) | st.text()
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["5s", "prod", "{", "{}", "a=b", "1e9d"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def _load(path: Path | None, env: dict[str, str], flags: dict[str, str]) -> None:
    try:
        Settings.load(path, env, flags)
    except SettingsError as error:
        problems = error.problems
    else:
        return
    for problem in problems:
        assert str(problem).isprintable()


@given(st.dictionaries(_keys, st.text() | st.sampled_from(["5s", "{a='b'}", "1"])), st.dictionaries(_keys, st.text()))
def test_garbage_in_environment_and_flags(env: dict[str, str], flags: dict[str, str]) -> None:
    _load(None, {ENVIRONMENT_PREFIX + key.upper().replace(".", "__"): text for key, text in env.items()}, flags)


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_garbage_in_the_file(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage.toml"
    path.write_bytes(content)
    _load(path, {}, {})


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return _quoted(value) if isinstance(value, str) else str(value or 0)


def _quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(c):08X}" for c in text if not 0xD800 <= ord(c) < 0xE000) + '"'


@given(st.lists(st.tuples(_keys, _values), max_size=6))
def test_garbage_in_good_toml(tmp_path_factory: pytest.TempPathFactory, content: list[tuple[str, object]]) -> None:
    lines = (".".join(map(_quoted, key.split("."))) + f" = {_toml(value)}" for key, value in content)
    path = tmp_path_factory.getbasetemp() / "toml.toml"
    path.write_text("\n".join(lines))
    _load(path, {}, {})
