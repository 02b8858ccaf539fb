"""Makes an image of a bare Debian with packer/image/provision, as Packer would, and provisions it a second time.

`make delivery` runs it before its tests, which then need no network: what is left is the image, and beside it what the
image was after the first and after the second run. Here alone the package registries are reached.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

from tests.delivery.booted import Booted, booted, copied

PACKER = Path(__file__).parents[2] / "packer"
FOLDER = "root/etcd-image"
"""Where Packer would put it: the same below /tmp."""

ETCD = ("--etcd-from", "package", "--etcd", "3.5.30")
"""The official release is not a package registry's; Debian's is the same program, by apt's signatures."""


def upload(root: Path, packages: Path) -> None:
    """As the template's file provisioners do."""
    shutil.copytree(PACKER / "image", root / FOLDER)
    shutil.copy(PACKER / "install-etcd", root / FOLDER / "install-etcd")
    for package in packages.glob("*.deb"):
        shutil.copy(package, root / FOLDER)


def provision(machine: Booted) -> str:
    done = machine.run(f"/{FOLDER}/provision", "--packages", f"/{FOLDER}", *ETCD, timeout=900)
    return done.stdout + done.stderr


def manifest(machine: Booted) -> str:
    return machine.run("python3", "-IS", f"/{FOLDER}/manifest.py").stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path, help="with tree/ and one/ in it; gets image/ and manifests")
    cache: Path = parser.parse_args().cache
    making = cache / "image.new"
    subprocess.run(["rm", "-rf", making, cache / "image"], check=True)
    root = copied(cache / "tree", making)
    upload(root, cache / "one")
    with booted(root, "etcd-asg-agent-image") as machine:
        for run in ("first", "second"):
            (cache / f"image.{run}.log").write_text(provision(machine))
            (cache / f"image.{run}.manifest").write_text(manifest(machine))
    shutil.rmtree(root / FOLDER)
    making.rename(cache / "image")


if __name__ == "__main__":
    main()
