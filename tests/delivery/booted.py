"""A Debian tree booted with systemd as its PID 1, in a container that shares this process's network.

House rules. Needs root and `systemd-nspawn`. Each container has a cgroup of its own, or systemd inside would signal
what is not its; it is powered off with its test, and killed where that takes too long.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from agent.lab.client import Lab
from agent.lab.spec import LabSpec
from tests import etcd_versions
from tests.lab.harness import running_lab, wait_until

CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")
"""Where processes are grouped: cgroup 2 alone, or beside version 1."""

RTMIN_POWEROFF = signal.SIGRTMIN + 4
"""systemd(1), SIGRTMIN+4: poweroff.target."""

UP = ("running", "degraded")
"""What `systemctl is-system-running` says when the boot is over; in a container some unit of the kernel's may fail."""


class Booted:
    """One machine. A reboot is a power-off and another boot."""

    def __init__(self, root: Path, name: str, *options: str) -> None:
        """`options` are systemd-nspawn's, such as `--bind=/dev/loop0:/dev/xvdb`."""
        self.root = root
        self._name = name
        self._options = options
        self._console = root.parent / f"{name}.console"
        self._groups = [Path(each) / name for each in CGROUPS if (Path(each) / "cgroup.procs").exists()]
        self._nspawn: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        """Returns when systemd says that it is over."""
        for group in self._groups:
            group.mkdir(exist_ok=True)
        enter = "".join(f"echo $$ > {group}/cgroup.procs; " for group in self._groups)
        command = [
            "systemd-nspawn", "--quiet", f"--directory={self.root}", "--boot", f"--machine={self._name}",
            "--register=no", "--keep-unit", "--resolv-conf=off", "--timezone=off", "--link-journal=no",
            "--console=passive", *self._options,
        ]  # fmt: skip
        with self._console.open("ab") as console:
            self._nspawn = subprocess.Popen(
                ["sh", "-ec", f'{enter} exec "$@"', "sh", *command],
                env={"PATH": os.environ["PATH"], "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        wait_until(self._is_up, 90, "systemd up")

    def _is_up(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, self._console.read_text()
        return self.init > 0 and self.run("systemctl", "is-system-running", check=False).stdout.strip() in UP

    @property
    def init(self) -> int:
        """systemd's process ID outside; 0 while there is none."""
        assert self._nspawn is not None
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def run(
        self, *command: str, check: bool = True, user: str = "", timeout: float = 100
    ) -> subprocess.CompletedProcess[str]:
        """A command on the machine, as root or somebody; `timeout` in seconds."""
        somebody = ["runuser", "-u", user, "--"] if user else []
        done = subprocess.run(
            ["nsenter", "-t", str(self.init), "-m", "-u", "-i", "-p", "-C", "-r", "-w", *somebody, *command],
            env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8", "SYSTEMD_PAGER": ""},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        if check:
            assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()

    def journal(self, *matching: str) -> list[dict[str, Any]]:
        """Events, oldest first, as journald kept them."""
        said = self.run("journalctl", "--output=json", "--all", "--quiet", *matching).stdout
        return [json.loads(line) for line in said.splitlines()]

    def power_off(self) -> None:
        if self._nspawn is None:
            return
        with suppress(ProcessLookupError, FileNotFoundError):
            os.kill(self.init or self._nspawn.pid, RTMIN_POWEROFF if self.init else signal.SIGKILL)
        try:
            self._nspawn.wait(90)
        except subprocess.TimeoutExpired:
            os.kill(self.init, signal.SIGKILL)
            self._nspawn.wait(10)
        self._nspawn = None
        _remove(self._groups)


@contextmanager
def booted(root: Path, name: str, *options: str) -> Iterator[Booted]:
    """A tree that runs; powered off afterwards."""
    machine = Booted(root, name, *options)
    try:
        machine.boot()
        yield machine
    finally:
        machine.power_off()


def _remove(groups: list[Path]) -> None:
    for group in groups:
        for inner in sorted((each for each in group.rglob("*") if each.is_dir()), reverse=True):
            with suppress(OSError):
                inner.rmdir()
        with suppress(OSError):
            group.rmdir()


def copied(tree: Path, to: Path) -> Path:
    """A tree of one's own."""
    subprocess.run(["cp", "-a", "--reflink=auto", tree, to], check=True)
    return to


def install(root: Path, package: Path, *binaries: Path) -> None:
    """Bake an image: the package and etcd, in a tree that runs nothing and reaches no network."""
    shutil.copy(package, root / "root" / package.name)
    for binary in binaries:
        shutil.copy(binary, root / "usr/local/bin" / binary.name)
    asked = ["unshare", "--net", "chroot", str(root), "dpkg", "--install", f"/root/{package.name}"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def group_of_one(folder: Path) -> Iterator[Lab]:
    """An emulated AWS with one instance, whose machine is the caller's to boot."""
    idle = (sys.executable, "-c", "import signal; signal.pause()")
    spec = LabSpec(instances=1, agent_command=idle, etcd=str(etcd_versions.default().etcd))
    with running_lab(spec, folder) as lab:
        wait_until(lambda: [one for one in lab.instances() if one.agent_starts], 20, "an instance")
        yield lab
