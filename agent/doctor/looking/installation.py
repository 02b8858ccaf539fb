"""Reads what is installed: files, units, users. Works in an image that runs nothing, as on an instance."""

from __future__ import annotations

import importlib
import os
import platform
import pwd
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import agent
from agent.doctor.judging.installation import AGENT, ETCD, Account, Entry, Installation
from agent.doctor.judging.units import Unit, values
from agent.doctor.judging.versions import Installed
from agent.doctor.looking.known import known
from agent.model.faults import Refused
from agent.model.known import Ignorance, Unknown
from agent.world import durable
from agent.world.etcd_restore import can_bump_revisions, restore_tool
from agent.world.host import EtcdBinary

LIBRARIES = ("boto3", "etcd3", "google_crc32c", "grpc", "prometheus_client", "tenacity", "urllib3", "zstandard")
TOOL_VERSION = re.compile(r"^(?:etcdutl|etcdctl) version: (\S+)", re.MULTILINE)
TOOL_TIMEOUT_SECONDS = 10
VERIFY_TIMEOUT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Places:
    """Where systemd and polkit look, the first place winning: systemd.unit(5), polkit(8)."""

    units: tuple[Path, ...] = (
        Path("/etc/systemd/system"),
        Path("/run/systemd/system"),
        Path("/usr/local/lib/systemd/system"),
        Path("/usr/lib/systemd/system"),
        Path("/lib/systemd/system"),
    )
    rules: tuple[Path, ...] = (
        Path("/etc/polkit-1/rules.d"),
        Path("/run/polkit-1/rules.d"),
        Path("/usr/local/share/polkit-1/rules.d"),
        Path("/usr/share/polkit-1/rules.d"),
    )
    polkit_daemons: tuple[Path, ...] = (
        Path("/usr/lib/polkit-1/polkitd"),
        Path("/usr/libexec/polkitd"),
        Path("/usr/lib/policykit-1/polkitd"),
    )


def versions(binary: str, *, wants_bump: bool) -> Installed:
    tool = known(lambda: restore_tool(binary))
    return Installed(
        etcd=known(EtcdBinary(binary).version),
        tool=tool if isinstance(tool, Unknown) else str(tool),
        tool_version=tool if isinstance(tool, Unknown) else known(lambda: _tool_version(tool)),
        bumps=tool if isinstance(tool, Unknown) else known(lambda: can_bump_revisions(tool)),
        wants_bump=wants_bump,
    )


def _tool_version(tool: Path) -> str:
    with durable.refusing(f"running {tool} version"):
        try:
            done = subprocess.run(
                [tool, "version"],
                env={"PATH": os.environ.get("PATH", ""), "ETCDCTL_API": "3"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TOOL_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Refused(f"{tool} version did not end in time", Ignorance.TIMEOUT) from error
    match = TOOL_VERSION.search(done.stdout)
    if match is None:
        raise Refused(f"{tool} version did not say a version", Ignorance.MALFORMED)
    return match[1]


def installation(settings_file: Path, data_root: Path, places: Places | None = None) -> Installation:
    places = places or Places()
    units = {name: known(partial(unit, name, places.units)) for name in (AGENT, ETCD)}
    return Installation(
        python=platform.python_version(),
        broken_imports=_broken_imports(),
        code=known(lambda: _entry(Path(agent.__file__).parent)),
        command=None if (command := shutil.which("etcd-asg-agent")) is None else Path(command),
        units=units,
        account=_account(units),
        polkit_daemon=any(each.exists() for each in places.polkit_daemons),
        polkit_rules=known(lambda: tuple(_texts(places.rules, ".rules").values())),
        settings_file=known(lambda: entry(settings_file)),
        data_root=known(lambda: entry(data_root)),
    )


def _broken_imports() -> Mapping[str, str]:
    broken = {}
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - whatever a library that does not fit does
            broken[name] = f"{type(error).__name__}: {error}"
    return broken


def entry(path: Path) -> Entry | None:
    """None: there is nothing. Raises OSError where that cannot be said."""
    try:
        return _entry(path)
    except FileNotFoundError:
        return None


def _entry(path: Path) -> Entry:
    found = path.stat()
    folder = stat.S_ISDIR(found.st_mode)
    names: tuple[str, ...] | Unknown = ()
    if folder:
        names = known(lambda: tuple(sorted(os.listdir(path))))  # noqa: PTH208 - names are what is wanted
    return Entry(path, _name_of(found.st_uid), found.st_uid, stat.S_IMODE(found.st_mode), folder, names, found.st_dev)


def _name_of(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)


def _account(units: Mapping[str, Unit | Unknown | None]) -> Account | None:
    """The user of the agent's unit, else of etcd's."""
    named = [each for unit in units.values() if isinstance(unit, Unit) for each in values(unit, "User")[-1:]]
    try:
        found = pwd.getpwnam(named[0] if named else "etcd")
    except KeyError:
        return None
    return Account(found.pw_name, found.pw_uid)


# ---- units ----------------------------------------------------------------------------------------------------------


def unit(name: str, folders: tuple[Path, ...]) -> Unit | None:
    """As systemd would load it. None: there is none."""
    path = next((folder / name for folder in folders if os.path.lexists(folder / name)), None)
    if path is None:
        return None
    if path.resolve() == Path("/dev/null") or not (text := path.read_text(errors="replace")):
        return Unit(path, "", masked=True)
    drop_ins = _texts(tuple(folder / f"{name}.d" for folder in folders), ".conf")
    whole = "\n".join([text, *(drop_ins[each] for each in sorted(drop_ins))])
    return Unit(path, whole, wanted=_wanted(name, folders), complaints=known(lambda: _complaints(name, path)))


def _texts(folders: tuple[Path, ...], suffix: str) -> dict[str, str]:
    """Files by name; one in an earlier folder hides those of its name in later ones."""
    found: dict[str, str] = {}
    for folder in folders:
        for path in _files(folder, suffix):
            if path.name not in found:
                found[path.name] = path.read_text(errors="replace")
    return found


def _files(folder: Path, suffix: str) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - glob() passes over a folder that it may not read
    except (FileNotFoundError, NotADirectoryError):
        return
    yield from (folder / name for name in names if name.endswith(suffix))


def _wanted(name: str, folders: tuple[Path, ...]) -> bool:
    return any(
        os.path.lexists(each / name)
        for folder in folders
        for kind in ("wants", "requires", "upholds")
        for each in folder.glob(f"*.{kind}")
    )


def _complaints(name: str, path: Path) -> tuple[str, ...]:
    """What `systemd-analyze verify` says about this unit and its drop-ins; what it says of others is none of ours."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        raise Refused("there is no systemd-analyze here", Ignorance.OURS)
    try:
        done = subprocess.run(
            [analyze, "verify", "--man=no", str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERIFY_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Refused("systemd-analyze verify did not end in time", Ignorance.TIMEOUT) from error
    return tuple(line.strip() for line in done.stderr.splitlines() if f"/{name}" in line or line.startswith(f"{name}:"))
