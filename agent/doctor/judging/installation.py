"""What the package and the image put on this machine: command, libraries, units, user, polkit's rule, modes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.doctor.finding import Finding, failure, ok, unknown, warning
from agent.doctor.judging.units import Unit, values
from agent.model.known import Unknown
from agent.settings import Problem

AGENT, ETCD = "etcd-asg-agent.service", "etcd.service"
REINSTALL = "install the package again (docs/install.md)"
LEAST_FILES = 65536
"""etcd's own advice for its unit; every client and every member is a descriptor."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Who owns a file or folder, and what others may do with it."""

    path: Path
    owner: str
    owner_id: int
    mode: int
    """Permission bits alone."""
    is_folder: bool = False
    names: tuple[str, ...] | Unknown = ()
    """What is in a folder."""
    device: int = 0

    def __str__(self) -> str:
        return f"{self.path} ({self.owner}, {self.mode:04o})"


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    user_id: int


@dataclass(frozen=True, slots=True)
class Installation:
    """Read in one go. None: it is not there."""

    python: str
    broken_imports: Mapping[str, str]
    """Libraries that cannot be imported, and why."""
    code: Entry | Unknown
    """The folder that the agent's code was loaded from."""
    command: Path | None
    """What `etcd-asg-agent` means to a shell."""
    units: Mapping[str, Unit | Unknown | None]
    account: Account | None
    """The user of the units."""
    polkit_daemon: bool
    polkit_rules: Sequence[str] | Unknown
    """The texts of all rules that polkit would read."""
    settings_file: Entry | Unknown | None
    data_root: Entry | Unknown | None


def judge(seen: Installation, data_root: Path, *, by_systemd: bool) -> Iterator[Finding]:
    """What must hold of an image as of an instance. `by_systemd` is etcd.supervisor."""
    yield from _code(seen)
    yield from _settings_file(seen.settings_file)
    yield from _agents_unit(seen.units.get(AGENT), data_root, by_systemd=by_systemd)
    if not by_systemd:
        yield ok("etcd-unit", 'etcd.supervisor is "process": etcd.service and polkit are not needed')
        return
    yield from _etcds_unit(seen.units.get(ETCD), data_root)
    yield from _user(seen)
    yield from _polkit(seen)


def judge_without_systemd(seen: Installation) -> Iterator[Finding]:
    """Somebody else starts the agent here, and etcd is its child: the doctor does not know how."""
    yield from _code(seen)
    yield from _settings_file(seen.settings_file)
    said = "whether the agent starts at boot, as whom, and with which limits"
    yield unknown("agent-unit", "systemd does not run here", said, "look at whatever starts the agent here")


def settings_of_an_image(missing: Sequence[Problem]) -> Iterator[Finding]:
    """What its instances get by user data may be missing."""
    names = ", ".join(each.key for each in missing)
    yield ok("settings", f"good, but for what each cluster's user data sets: {names}" if names else "good")


def empty_data_root(root: Entry | Unknown | None, path: Path) -> Iterator[Finding]:
    """Of an image: what is baked in would be every instance's."""
    check = "data-root"
    said = "every instance made from this image would take it for its own member's data"
    if root is None:
        yield ok(check, f"{path} is not there, and made at the first start")
    elif isinstance(root, Unknown) or isinstance(root.names, Unknown):
        why = root if isinstance(root, Unknown) else root.names
        assert isinstance(why, Unknown)
        yield unknown(check, why, said, "run the doctor as root, or as the user of the units")
    elif not root.is_folder:
        yield failure(check, f"{path} is no folder", "neither agent nor etcd can live there", f"remove {path}")
    elif set(root.names) - {"lost+found"}:
        found = f"{path} holds {', '.join(sorted(root.names))}"
        yield failure(check, found, said, f"empty {path} before the image is made, and let nothing start etcd in it")
    else:
        yield ok(check, f"{path} is empty")


def _code(seen: Installation) -> Iterator[Finding]:
    if seen.broken_imports:
        found = "; ".join(f"{name}: {why}" for name, why in sorted(seen.broken_imports.items()))
        said = "the agent cannot run; compiled libraries are bound to one minor version of Python"
        yield failure("libraries", f"Python {seen.python} cannot import {found}", said, REINSTALL)
    else:
        yield ok("libraries", f"Python {seen.python}, with everything that the agent imports")
    if isinstance(seen.code, Unknown):
        yield unknown("code", seen.code, "somebody else might change the agent's code", REINSTALL)
    elif seen.code.mode & 0o022:
        said = "whoever may write there runs commands as the agent"
        yield warning("code", f"{seen.code} can be written by others", said, f"chmod -R go-w {seen.code.path}")
    else:
        yield ok("code", str(seen.code))
    if seen.command is None:
        said = "the runbooks' commands do not work here"
        yield warning("command", "there is no etcd-asg-agent on PATH", said, REINSTALL)
    else:
        yield ok("command", str(seen.command))


def _settings_file(entry: Entry | Unknown | None) -> Iterator[Finding]:
    check = "settings-file"
    if entry is None:
        yield ok(check, "there is none: environment, flags and defaults")
    elif isinstance(entry, Unknown):
        yield unknown(check, entry, "somebody else might change the settings", "run the doctor as root")
    elif entry.mode & 0o022:
        said = "whoever may write it chooses the binary that is run as etcd, and the bucket"
        yield warning(check, f"{entry} can be written by others", said, f"chmod go-w {entry.path}")
    elif not entry.mode & 0o044:
        said = "the agent is not root, and may not be able to read its settings"
        fix = f"chmod a+r {entry.path}: no secret is a setting; or give it to the units' user"
        yield warning(check, str(entry), said, fix)
    else:
        yield ok(check, str(entry))


def _agents_unit(unit: Unit | Unknown | None, data_root: Path, *, by_systemd: bool) -> Iterator[Finding]:
    check = "agent-unit"
    found = list(_of_any_unit(check, AGENT, unit, data_root))
    if isinstance(unit, Unit) and not unit.masked:
        if not unit.wanted:
            said = "an instance that boots does not start its agent, and never joins"
            found.append(failure(check, f"{AGENT} is not enabled", said, f"systemctl enable {AGENT}"))
        if not by_systemd and values(unit, "KillMode")[-1:] != ["process"]:
            said = "etcd is the agent's child here, and ends with every restart of the agent"
            found.append(failure(check, "its KillMode= is not process", said, REINSTALL))
    yield from found or [ok(check, f"{unit.path} is enabled" if isinstance(unit, Unit) else AGENT)]


def _etcds_unit(unit: Unit | Unknown | None, data_root: Path) -> Iterator[Finding]:
    check = "etcd-unit"
    found = list(_of_any_unit(check, ETCD, unit, data_root))
    if isinstance(unit, Unit) and not unit.masked:
        found += _etcd_is_the_agents(check, unit, data_root)
        yield from _limits(unit)
    yield from found or [ok(check, f"{unit.path} is the agent's" if isinstance(unit, Unit) else ETCD)]


def _limits(unit: Unit) -> Iterator[Finding]:
    check = "file-limits"
    files = (values(unit, "LimitNOFILE") or [""])[-1].partition(":")[0]
    if files == "infinity" or (files.isdecimal() and int(files) >= LEAST_FILES):
        yield ok(check, f"LimitNOFILE={files} in {ETCD}")
        return
    said = "etcd refuses clients when it runs out of descriptors"
    fix = f"`systemctl edit {ETCD}`: [Service] LimitNOFILE={LEAST_FILES}"
    yield warning(check, f"LimitNOFILE= of {ETCD} is {files or 'not set'}", said, fix)


def _etcd_is_the_agents(check: str, unit: Unit, data_root: Path) -> Iterator[Finding]:
    edit = f"`systemctl edit {ETCD}`: [Service] "
    if unit.wanted:
        said = "etcd starts at boot before the agent has looked: a fenced or removed member would serve"
        yield failure(check, f"{ETCD} is enabled", said, f"systemctl disable {ETCD}")
    restart = (values(unit, "Restart") or ["no"])[-1]
    if restart != "no":
        said = "systemd starts a member that the agent has stopped for good; the agent refuses to work with it"
        yield failure(check, f"{ETCD} has Restart={restart}", said, f"{edit}Restart=no")
    wanted = str(data_root / "etcd.env")
    read = [each.removeprefix("-") for each in values(unit, "EnvironmentFile")]
    if wanted not in read:
        found = f"{unit.path} does not read {wanted}" + (f" but {', '.join(read)}" if read else "")
        said = "it is another etcd.service than the agent's, or one for another data_root: etcd starts without a name"
        yield failure(check, found, said, f"{edit}EnvironmentFile={wanted}; or remove the other package's unit")


def _of_any_unit(check: str, name: str, unit: Unit | Unknown | None, data_root: Path) -> Iterator[Finding]:
    if isinstance(unit, Unknown):
        yield unknown(check, unit, "a unit that is wrong fails at the next boot", "run the doctor as root")
    elif unit is None:
        yield failure(check, f"there is no {name}", "systemd cannot start it", REINSTALL)
    elif unit.masked:
        yield failure(check, f"{name} is masked", "systemd does not start it", f"systemctl unmask {name}")
    else:
        if not isinstance(unit.complaints, Unknown) and unit.complaints:
            said = "systemd may ignore what it does not understand, or not load the unit"
            yield failure(check, " | ".join(unit.complaints), said, f"systemd-analyze verify {unit.path}; {REINSTALL}")
        strict = (values(unit, "ProtectSystem") or [""])[-1] == "strict"
        writable = [path.lstrip("-+") for each in values(unit, "ReadWritePaths") for path in each.split()]
        if strict and not any(data_root.is_relative_to(each) for each in writable):
            fix = f"`systemctl edit {name}`: [Service] ReadWritePaths={data_root}"
            yield failure(check, f"{name} may not write to {data_root}", "it cannot work there", fix)


def _user(seen: Installation) -> Iterator[Finding]:
    check = "user"
    named = {
        name: (values(unit, "User") or ["root"])[-1]
        for name, unit in seen.units.items()
        if isinstance(unit, Unit) and not unit.masked
    }
    if len(set(named.values())) > 1:
        found = ", ".join(f"{name} runs as {user}" for name, user in named.items())
        said = "they share a data directory that only its owner may read"
        yield failure(check, found, said, "give both units one User=")
    elif seen.account is None:
        who = next(iter(named.values()), "etcd")
        fix = "systemd-sysusers /usr/lib/sysusers.d/etcd-asg-agent.conf"
        yield failure(check, f"there is no user {who!r}", "neither unit can start", fix)
    elif seen.account.user_id == 0:
        said = "a bug in either is a bug of root's, and polkit's rule is not needed"
        yield warning(check, "the units run as root", said, "give both units User=etcd, and the data root to it")
    else:
        yield ok(check, f"{seen.account.name} (ID {seen.account.user_id}) runs agent and etcd")


def _polkit(seen: Installation) -> Iterator[Finding]:
    check = "polkit"
    said = "the agent may not start or stop etcd, and no member ever runs here"
    user = "etcd" if seen.account is None else seen.account.name
    if seen.account is not None and seen.account.user_id == 0:
        yield ok(check, "the agent is root, and needs no rule")
    elif not seen.polkit_daemon:
        yield failure(check, "polkit is not installed", said, "install polkitd (Amazon Linux: polkit)")
    elif isinstance(seen.polkit_rules, Unknown):
        yield unknown(check, seen.polkit_rules, said, "run the doctor as root")
    elif not any(ETCD in text and f'"{user}"' in text for text in seen.polkit_rules):
        yield failure(check, f"no rule of polkit lets {user} start {ETCD}", said, REINSTALL)
    else:
        yield ok(check, f"a rule lets {user} start and stop {ETCD}")
