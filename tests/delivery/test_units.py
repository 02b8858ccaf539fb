"""The systemd units: what systemd thinks of them, and the promises they must keep."""

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.daemon import SLOWEST_ROUND_SECONDS, slowest_round
from agent.settings import DECLARED, Settings

UNITS = Path(__file__).parents[2] / "systemd"
ETCD, AGENT = "etcd.service", "etcd-asg-agent.service"
USER = "etcd"


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


@pytest.mark.parametrize("name", [ETCD, AGENT])
def test_systemd_calls_it_well_confined(name: str) -> None:
    """The agent's unit says of each thing that is still counted why it stays."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here")
    asked = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", str(UNITS / name)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_neither_has_a_privilege_and_both_are_one_user() -> None:
    """They share a data directory that nobody else may read."""
    for name in (ETCD, AGENT):
        service = unit(name)["Service"]
        assert (service["User"], service["Group"], service["CapabilityBoundingSet"]) == (USER, USER, "")
        assert service["NoNewPrivileges"] == "yes"
    assert f"u {USER} - " in (UNITS / "etcd-asg-agent.sysusers").read_text()


def test_polkit_allows_that_user_that_unit_and_what_the_supervisor_asks_for() -> None:
    rules = (UNITS / "etcd-asg-agent.rules").read_text()
    assert f'subject.user == "{USER}"' in rules
    assert f'action.lookup("unit") == "{ETCD}"' in rules
    asked = re.findall(r'self\._ask\("([a-z-]+)"', (UNITS.parent / "agent/world/supervisor_systemd.py").read_text())
    allowed = re.search(r"\[([^\]]+)\]\.indexOf", rules)
    assert allowed is not None
    assert set(json.loads(f"[{allowed[1]}]")) == set(asked) - {"show"}


def test_the_watchdog_outlasts_every_round() -> None:
    settings = Settings.load(None, flags={"cluster.name": "prod", "storage.bucket": "acme"})
    service = unit(AGENT)["Service"]
    assert service["Type"] == "notify"
    minutes = re.fullmatch(r"(\d+)min", service["WatchdogSec"])
    assert minutes is not None
    assert int(minutes[1]) * 60 > 2 * slowest_round(settings.timing).total_seconds() > SLOWEST_ROUND_SECONDS


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
