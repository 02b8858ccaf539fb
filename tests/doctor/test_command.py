"""The command itself: its exit codes, its two forms, and what it says of settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.cli import main

SHIPPED = Path(__file__).parents[2] / "systemd" / "config.toml"


def image(tmp_path: Path, text: str, *more: str) -> int:
    config = tmp_path / "config.toml"
    config.write_text(text)
    return main(["doctor", "--image", "--config", str(config), "--set", f"etcd.data_root={tmp_path}/data", *more])


def baked(text: str) -> str:
    """The package's settings: the names are the operator's."""
    return text.replace("\nname = ", "\n#name = ").replace("\nbucket = ", "\n#bucket = ")


def test_an_images_settings_may_lack_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = image(tmp_path, baked(SHIPPED.read_text()), "--json", "--set", "etcd.binary=/nowhere/etcd")
    said = json.loads(capsys.readouterr().out)
    levels = {each["check"]: each["level"] for each in said["findings"]}
    assert (code, said["ok"], levels["etcd-version"]) == (1, False, "failure"), "there is no etcd"
    assert (levels["settings"], levels["data-root"], levels["libraries"]) == ("ok", "ok", "ok")
    assert sum(said["counts"].values()) == len(said["findings"])


def test_other_mistakes_in_the_settings_end_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert image(tmp_path, "[etcd]\nclient_prot = 2379\n") == 2
    assert "etcd.client_port" in capsys.readouterr().err
    assert main(["doctor", "--config", str(tmp_path / "none.toml")]) == 2


def test_people_are_told_in_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "identity.json").write_text("{}")
    assert image(tmp_path, baked(SHIPPED.read_text())) == 1
    said = capsys.readouterr().out
    assert "FAILURE  data-root" in said
    assert f"{tmp_path}/data holds identity.json" in said
