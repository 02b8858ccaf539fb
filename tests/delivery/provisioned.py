"""Makes an image of a bare Debian with the template's own provisioners, run by Packer; then again, and once more anew.

`make delivery` runs it before its tests, which then need no network: what is left is the image, and beside it what
Packer said and what the image was: after the first and the second run on one machine, and after the first on another.
Here alone the package registries are reached.

Packer's builder is `null`: a machine that is there already, reached by SSH, in the place of one on EC2.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from pathlib import Path

from tests.delivery.booted import Booted, booted, copied

PACKER = Path(__file__).parents[2] / "packer"
NAME = "etcd-asg-agent-image"
SSH_PORT = 2222

ETCD = "--etcd-from package --etcd 3.5.30"
"""The official release is in no package registry; Debian's is the same program, by apt's signatures."""

BASE = ("openssh-server", "sudo")
"""What Debian's images for EC2 have, and a bare tree has not, as far as Packer needs it."""

ON_EC2 = re.compile(
    r'^source "amazon-ebs" "debian" \{.*?^\}\n|^  source "amazon-ebs\.debian" \{.*?^  \}\n', re.DOTALL | re.MULTILINE
)


def template(key: Path) -> str:
    """The template, for a machine that is there already."""
    text, sources = ON_EC2.subn("", (PACKER / "etcd.pkr.hcl").read_text())
    assert sources == 3
    there = f"""
source "null" "debian" {{
  ssh_host             = "127.0.0.1"
  ssh_port             = {SSH_PORT}
  ssh_username         = "admin"
  ssh_private_key_file = "{key}"
}}
"""
    return text.replace("build {\n", there + '\nbuild {\n  source "null.debian" {\n    name = "amd64"\n  }\n', 1)


class Workshop:
    """Where it is made: `cache` has the bare tree, the package and Packer; `here` gets what is needed for a while."""

    def __init__(self, cache: Path, here: Path) -> None:
        self.cache = cache
        self.here = here
        self.key = here / "key"
        shutil.copytree(PACKER / "image", here / "image")
        shutil.copy(PACKER / "install-etcd", here)
        (here / "dist").mkdir()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        (here / "etcd.pkr.hcl").write_text(template(self.key))

    def base(self, name: str) -> Path:
        """A bare Debian with what Packer needs: an SSH server, and `admin`, who may do everything by sudo."""
        root = copied(self.cache / "tree", self.here / name)
        (root / "etc/hosts").write_text(f"127.0.0.1 localhost {NAME}\n")
        for command in (
            ("apt-get", "update", "-q"),
            ("apt-get", "install", "-q", "-y", "--no-install-recommends", *BASE),
            ("useradd", "--create-home", "--shell", "/bin/bash", "admin"),
            ("install", "-d", "-o", "admin", "-m", "0700", "/home/admin/.ssh"),
        ):
            subprocess.run(["chroot", root, *command], check=True, capture_output=True)
        (root / "etc/sudoers.d/admin").write_text("admin ALL=(ALL) NOPASSWD:ALL\n")
        (root / "etc/ssh/sshd_config.d/here.conf").write_text(f"Port {SSH_PORT}\nListenAddress 127.0.0.1\n")
        shutil.copy(self.key.with_suffix(".pub"), root / "home/admin/.ssh/authorized_keys")
        return root

    def build(self, machine: Booted, run: str) -> None:
        """`packer build`; what it said and the manifest that it brought back are kept under the run's name."""
        machine.run("ssh-keygen", "-A")  # cloud-init's work at the first boot; provision takes them away again
        machine.run("systemctl", "restart", "ssh.service")
        given = {"ssh_from": '["127.0.0.1/32"]', "packages": str(self.cache.resolve() / "one"), "etcd": ETCD}
        done = subprocess.run(
            [
                self.cache.resolve() / "packer/usr/bin/packer",
                *("build", "-color=false"),
                *(f"-var={name}={value}" for name, value in given.items()),
                "etcd.pkr.hcl",
            ],
            cwd=self.here,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.here), "CHECKPOINT_DISABLE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        (self.cache / f"image.{run}.log").write_text(done.stdout)
        assert done.returncode == 0, done.stdout + done.stderr
        (self.here / "dist/image-amd64.manifest").rename(self.cache / f"image.{run}.manifest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path, help="with tree/, one/ and packer/ in it; gets image/ and what was said")
    cache: Path = parser.parse_args().cache
    here = cache.resolve() / "image.making"
    subprocess.run(["rm", "-rf", here, cache / "image"], check=True)
    here.mkdir()
    workshop = Workshop(cache, here)
    for name, runs in (("machine", ("first", "second")), ("another", ("anew",))):
        with booted(workshop.base(name), NAME) as machine:
            for run in runs:
                workshop.build(machine, run)
    (here / "machine").rename(cache / "image")
    subprocess.run(["rm", "-rf", here], check=True)


if __name__ == "__main__":
    main()
