"""`config check`, `config show` and `config example` as a person and as a script see them."""

import argparse
import json
from pathlib import Path

import pytest

from agent.config_cli import add_settings_arguments, config_check, config_example, config_show


def arguments(*given: str, config: Path, as_json: bool = False) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_settings_arguments(parser)
    parser.set_defaults(json=as_json)
    return parser.parse_args(["--config", str(config), *given])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text('[cluster]\nname = "prod"\n[storage]\nbucket = "acme-etcd"\n')
    return path


def test_good_settings(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert config_check(arguments(config=config)) == 0
    assert capsys.readouterr().out.startswith("The settings are good: 2 given")


def test_bad_settings_exit_2_and_say_everything(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("--set", "log.level=loud", "--set", "nonsense", "--set", "etcd.client_port=0")
    assert config_check(arguments(*given, config=config)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "(flag --set): got 'nonsense'; expected KEY=VALUE, such as log.level=debug",
        'log.level (flag): got \'loud\'; expected "debug" or "info" or "warning" or "error"',
        "etcd.client_port (flag): got '0'; expected a whole number from 1 to 65535 (a port)",
    ]


def test_bad_settings_for_scripts(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert config_show(arguments("--set", "log.level=loud", config=config, as_json=True)) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert [problem["key"] for problem in answer["problems"]] == ["log.level"]


def test_show_says_where_each_value_comes_from(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert config_show(arguments("--set", "timing.loop_interval=2s", config=config)) == 0
    lines = {line.split(" = ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["timing.loop_interval"].split() == ["timing.loop_interval", "=", '"2s"', "#", "flag"]
    assert lines["etcd.client_port"].endswith("# default")
    assert lines["cluster.name"].endswith(f"# {config}")


def test_show_for_scripts(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert config_show(arguments(config=config, as_json=True)) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["timing.loop_interval"] == {"value": "3s", "source": "default"}
    assert answer["etcd.client_port"] == {"value": 2379, "source": "default"}
    assert answer["discovery.tags"] == {"value": {}, "source": "default"}


def test_only_a_broken_flag(config: Path) -> None:
    assert config_check(arguments("--set", "x", config=config)) == 2


def test_check_for_scripts(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert config_check(arguments(config=config, as_json=True)) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "problems": []}


def test_example(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert config_example(arguments(config=config)) == 0
    assert "[timing]" in capsys.readouterr().out
