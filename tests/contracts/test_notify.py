"""sd_notify to a socket of our own: what systemd hears, and that nothing depends on it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from agent.world.notify import LONGEST_STATUS, Notifier


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def heard(systemd: socket.socket) -> list[str]:
    return systemd.recv(65536).decode().split("\n")


def test_started_then_progress_then_stopping(systemd: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname()})
    notifier.ready("the first round is under way")
    assert heard(systemd) == ["READY=1", "STATUS=the first round is under way"]
    notifier.progress("all is well")
    assert heard(systemd) == ["WATCHDOG=1", "STATUS=all is well"]
    notifier.stopping()
    assert heard(systemd) == ["STOPPING=1", "STATUS=stopping; etcd is left as it is"]


def test_a_status_is_one_short_line(systemd: socket.socket) -> None:
    """A second line would be a variable of its own, and a long one would fill the screen of `systemctl status`."""
    Notifier({"NOTIFY_SOCKET": systemd.getsockname()}).progress("two\nlines and READY=1\n" + "x" * 1000)
    watchdog, status = heard(systemd)
    assert watchdog == "WATCHDOG=1"
    assert status.startswith("STATUS=two lines and READY=1 xxx")
    assert len(status) == len("STATUS=") + LONGEST_STATUS


def test_the_abstract_namespace() -> None:
    name = f"\0etcd-asg-agent-test-{os.getpid()}"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listening:
        listening.bind(name)
        listening.settimeout(5)
        Notifier({"NOTIFY_SOCKET": "@" + name[1:]}).progress("")
        assert heard(listening)[0] == "WATCHDOG=1"


def test_without_systemd_nothing_happens(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "nobody")}):
        notifier = Notifier(environment)
        notifier.ready("on a laptop")
        assert notifier.watchdog is None


def test_a_watchdog_that_is_meant_for_us() -> None:
    assert Notifier({"WATCHDOG_USEC": "600000000"}).watchdog == timedelta(minutes=10)
    assert Notifier({"WATCHDOG_USEC": "600000000", "WATCHDOG_PID": str(os.getpid())}).watchdog == timedelta(minutes=10)
    assert Notifier({"WATCHDOG_USEC": "600000000", "WATCHDOG_PID": "1"}).watchdog is None
    assert Notifier({"WATCHDOG_USEC": "soon"}).watchdog is None


SETTINGS = """
[cluster]
name = "prod"
[storage]
bucket = "acme-etcd"
[http]
listen = "127.0.0.1:{port}"
"""


def test_an_agent_that_waits_for_imds_has_started_and_makes_progress(systemd: socket.socket, tmp_path: Path) -> None:
    """Else whoever waits for the unit at boot would wait for IMDS, and the watchdog would end an agent that waits."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    (tmp_path / "config.toml").write_text(SETTINGS.format(port=port))
    environment = os.environ | {
        "NOTIFY_SOCKET": systemd.getsockname(),
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1",
    }
    command = [sys.executable, "-m", "agent.cli", "run", "--config", str(tmp_path / "config.toml")]
    systemd.settimeout(30)
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as running:
        try:
            ready, *beats = (heard(systemd) for _ in range(3))
        finally:
            running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0
    assert ready[0] == "READY=1"
    assert "waiting for the instance metadata service" in ready[1]
    assert [beat[0] for beat in beats] == ["WATCHDOG=1", "WATCHDOG=1"]
