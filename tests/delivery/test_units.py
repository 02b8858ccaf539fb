"""The systemd units: what systemd thinks of them, and the promises they must keep."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.settings import DECLARED, Settings

UNITS = Path(__file__).parents[2] / "systemd"
ETCD, AGENT = "etcd.service", "etcd-asg-agent.service"


def unit(name: str) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment, method-assign]
    parsed.read_string((UNITS / name).read_text())
    return parsed


@pytest.mark.parametrize("name", [ETCD, AGENT])
def test_systemd_finds_nothing_wrong(name: str, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here")
    text = (UNITS / name).read_text().replace("/opt/etcd-asg-agent/bin/etcd-asg-agent", "/bin/true")
    (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)], capture_output=True, text=True, check=False
    )
    about_us = [line for line in done.stderr.splitlines() if str(tmp_path) in line or name in line]
    assert about_us == []


def test_only_the_agent_starts_etcd() -> None:
    etcd = unit(ETCD)
    assert etcd["Service"]["Restart"] == "no"
    assert "Install" not in etcd


def test_etcd_without_quorum_is_not_killed_for_being_late() -> None:
    assert unit(ETCD)["Service"]["Type"] == "exec"


def test_the_agents_end_is_not_etcds_end() -> None:
    for name, other in ((ETCD, "etcd-asg-agent"), (AGENT, "etcd.service")):
        ties = (
            "Requires",
            "Requisite",
            "BindsTo",
            "PartOf",
            "Upholds",
            "Conflicts",
            "PropagatesStopTo",
            "StopPropagatedFrom",
        )
        assert not [tie for tie in ties if other in unit(name)["Unit"].get(tie, "")]
    assert unit(ETCD)["Service"]["Slice"] == "etcd.slice"
    assert unit(AGENT)["Service"]["KillMode"] == "process", "nor where etcd is the agent's child"


def test_bad_settings_do_not_loop_and_anything_else_does() -> None:
    service = unit(AGENT)["Service"]
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("always", "2")
    assert unit(AGENT)["Unit"]["StartLimitIntervalSec"] == "0"


def test_paths_and_patience_are_those_of_the_default_settings() -> None:
    settings = Settings.load(None, flags={"cluster.name": "prod", "storage.bucket": "acme"})
    service = unit(ETCD)["Service"]
    assert service["EnvironmentFile"] == f"{settings.etcd.data_root}/etcd.env"
    for name in (ETCD, AGENT):
        assert unit(name)["Service"]["ReadWritePaths"] == str(settings.etcd.data_root)
    assert int(service["TimeoutStopSec"]) > settings.timing.etcd_stop_timeout.total_seconds()
    assert service["Environment"] == f"AGENT_ETCD_BINARY={DECLARED['etcd.binary'].default}"
