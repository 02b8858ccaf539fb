"""What the package and the image put on a machine: all well with the files of this repository, one thing changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.doctor.finding import Finding, Level
from agent.doctor.judging.installation import (
    AGENT,
    ETCD,
    Account,
    Entry,
    Installation,
    empty_data_root,
    judge,
    settings_of_an_image,
)
from agent.doctor.judging.units import Unit, values
from agent.doctor.looking import installation as looking
from agent.doctor.looking.known import known
from agent.model.known import Ignorance, Unknown
from agent.settings import Problem

SHIPPED = Path(__file__).parents[2] / "systemd"
ROOT = Path("/var/lib/etcd")
DENIED = Unknown(Ignorance.OURS, "may not be read")


def shipped(name: str, **changed: Any) -> Unit:
    return replace(Unit(Path("/usr/lib/systemd/system") / name, (SHIPPED / name).read_text()), **changed)


def entry(path: str, mode: int, **more: Any) -> Entry:
    return Entry(Path(path), "root", 0, mode, **more)


GOOD = Installation(
    python="3.11.2",
    broken_imports={},
    code=entry("/opt/etcd-asg-agent/lib/agent", 0o755),
    command=Path("/usr/bin/etcd-asg-agent"),
    units={AGENT: shipped(AGENT, wanted=True), ETCD: shipped(ETCD)},
    account=Account("etcd", 998),
    polkit_daemon=True,
    polkit_rules=((SHIPPED / "etcd-asg-agent.rules").read_text(),),
    settings_file=entry("/etc/etcd-asg-agent/config.toml", 0o644),
    data_root=None,
)


def findings(seen: Installation, *, root: Path = ROOT, by_systemd: bool = True) -> list[Finding]:
    return list(judge(seen, root, by_systemd=by_systemd))


def bad(seen: Installation, **more: Any) -> dict[str, Level]:
    return {each.check: each.level for each in findings(seen, **more) if each.level is not Level.OK}


def test_what_is_shipped_is_all_well() -> None:
    assert bad(GOOD) == {}
    assert {each.check for each in findings(GOOD)} == {
        "libraries", "code", "command", "settings-file", "agent-unit", "etcd-unit", "file-limits", "user", "polkit"
    }  # fmt: skip


def with_unit(name: str, **changed: Any) -> Installation:
    return replace(GOOD, units={**GOOD.units, name: shipped(name, wanted=name == AGENT, **changed)})


def without(name: str, by: Unit | Unknown | None = None) -> Installation:
    return replace(GOOD, units={**GOOD.units, name: by})


def edited(name: str, drop_in: str) -> Installation:
    return with_unit(name, text=(SHIPPED / name).read_text() + "\n[Service]\n" + drop_in)


BROKEN: Mapping[str, tuple[Installation, dict[str, Level]]] = {
    "a library of another Python": (
        replace(GOOD, broken_imports={"grpc": "ImportError: cygrpc"}),
        {"libraries": Level.FAILURE},
    ),
    "code that anybody may write": (
        replace(GOOD, code=entry("/opt/etcd-asg-agent/lib/agent", 0o777)),
        {"code": Level.WARNING},
    ),
    "no command": (replace(GOOD, command=None), {"command": Level.WARNING}),
    "settings that anybody may write": (
        replace(GOOD, settings_file=entry("/etc/etcd-asg-agent/config.toml", 0o666)),
        {"settings-file": Level.WARNING},
    ),
    "settings that only root may read": (
        replace(GOOD, settings_file=entry("/etc/etcd-asg-agent/config.toml", 0o600)),
        {"settings-file": Level.WARNING},
    ),
    "settings that may not be looked at": (replace(GOOD, settings_file=DENIED), {"settings-file": Level.UNKNOWN}),
    "no unit of the agent": (without(AGENT), {"agent-unit": Level.FAILURE}),
    "a unit that may not be read": (without(ETCD, DENIED), {"etcd-unit": Level.UNKNOWN}),
    "an agent that is not enabled": (
        replace(GOOD, units={**GOOD.units, AGENT: shipped(AGENT)}),
        {"agent-unit": Level.FAILURE},
    ),
    "a masked agent": (with_unit(AGENT, text="", masked=True), {"agent-unit": Level.FAILURE, }),
    "an etcd that is enabled": (
        replace(GOOD, units={**GOOD.units, ETCD: shipped(ETCD, wanted=True)}),
        {"etcd-unit": Level.FAILURE},
    ),
    "an etcd that systemd restarts": (edited(ETCD, "Restart=always"), {"etcd-unit": Level.FAILURE}),
    "the distribution's own etcd.service": (
        with_unit(ETCD, text="[Service]\nUser=etcd\nExecStart=/usr/bin/etcd\nLimitNOFILE=65536\n"),
        {"etcd-unit": Level.FAILURE},
    ),
    "too few descriptors": (edited(ETCD, "LimitNOFILE=1024"), {"file-limits": Level.WARNING}),
    "what systemd does not understand": (
        with_unit(ETCD, complaints=("etcd.service:7: Unknown key name",)),
        {"etcd-unit": Level.FAILURE},
    ),
    "a data root that the unit may not write": (
        edited(ETCD, "ReadWritePaths=\nReadWritePaths=/srv"),
        {"etcd-unit": Level.FAILURE},
    ),
    "two users": (edited(ETCD, "User=nobody"), {"user": Level.FAILURE}),
    "no user": (replace(GOOD, account=None), {"user": Level.FAILURE}),
    "root": (replace(GOOD, account=Account("root", 0)), {"user": Level.WARNING}),
    "no polkit": (replace(GOOD, polkit_daemon=False), {"polkit": Level.FAILURE}),
    "no rule": (replace(GOOD, polkit_rules=()), {"polkit": Level.FAILURE}),
    "rules that may not be read": (replace(GOOD, polkit_rules=DENIED), {"polkit": Level.UNKNOWN}),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_one_thing_wrong_is_named_alone(what: str) -> None:
    seen, expected = BROKEN[what]
    assert bad(seen) == expected


def test_another_data_root_takes_drop_ins() -> None:
    assert bad(GOOD, root=Path("/data/etcd")) == {"agent-unit": Level.FAILURE, "etcd-unit": Level.FAILURE}
    drop_in = "\n[Service]\nReadWritePaths=/data/etcd\nEnvironmentFile=\nEnvironmentFile=/data/etcd/etcd.env\n"
    units = {
        name: replace(unit, text=unit.text + drop_in) for name, unit in GOOD.units.items() if isinstance(unit, Unit)
    }
    assert bad(replace(GOOD, units=units), root=Path("/data/etcd")) == {}


def test_without_systemd_nothing_is_asked_of_etcds_unit() -> None:
    gone = replace(GOOD, units={AGENT: GOOD.units[AGENT], ETCD: None}, account=None, polkit_daemon=False)
    assert bad(gone, by_systemd=False) == {}
    dying = {AGENT: replace(shipped(AGENT, wanted=True), text=shipped(AGENT).text + "\nKillMode=mixed\n"), ETCD: None}
    assert bad(replace(gone, units=dying), by_systemd=False) == {"agent-unit": Level.FAILURE}


# ---- an image -------------------------------------------------------------------------------------------------------


def test_an_image_may_lack_what_user_data_sets() -> None:
    missing = Problem("storage.bucket", "required", "nothing", "a bucket's name")
    told = [*settings_of_an_image((missing,)), *settings_of_an_image(())]
    assert [each.level for each in told] == [Level.OK, Level.OK]
    assert "storage.bucket" in told[0].found


def folder(*names: str) -> Entry:
    return entry(str(ROOT), 0o700, is_folder=True, names=names)


@pytest.mark.parametrize(
    ("root", "level"),
    [
        (None, Level.OK),
        (folder(), Level.OK),
        (folder("lost+found"), Level.OK),
        (folder("identity.json"), Level.FAILURE),
        (folder("data", "lost+found"), Level.FAILURE),
        (entry(str(ROOT), 0o644), Level.FAILURE),
        (DENIED, Level.UNKNOWN),
        (replace(folder(), names=DENIED), Level.UNKNOWN),
    ],
)
def test_nothing_is_baked_into_an_images_data_root(root: Entry | Unknown | None, level: Level) -> None:
    assert [each.level for each in empty_data_root(root, ROOT)] == [level]


# ---- reading --------------------------------------------------------------------------------------------------------


def test_units_are_read_as_systemd_reads_them(tmp_path: Path) -> None:
    ours, vendors = tmp_path / "etc", tmp_path / "usr"
    for each in (ours / "etcd.service.d", ours / "multi-user.target.wants", vendors / "etcd.service.d"):
        each.mkdir(parents=True)
    (vendors / "etcd.service").write_text("[Service]\nRestart=no\nEnvironmentFile=/a\n")
    (vendors / "etcd.service.d/10.conf").write_text("[Service]\nRestart=always\n")
    (ours / "etcd.service.d/10.conf").write_text(
        "[Service]\nEnvironmentFile=\nEnvironmentFile=/b \\\n/c\n# Restart=x\n"
    )
    found = looking.unit("etcd.service", (ours, vendors))
    assert found is not None
    assert (found.path, found.wanted, found.masked) == (vendors / "etcd.service", False, False)
    assert (values(found, "Restart"), values(found, "EnvironmentFile")) == (["no"], ["/b  /c"])

    (ours / "multi-user.target.wants/etcd.service").symlink_to(vendors / "etcd.service")
    enabled = looking.unit("etcd.service", (ours, vendors))
    assert enabled is not None
    assert enabled.wanted
    (ours / "etcd.service").symlink_to("/dev/null")
    masked = looking.unit("etcd.service", (ours, vendors))
    assert masked is not None
    assert masked.masked
    assert looking.unit("other.service", (ours, vendors)) is None


def test_a_machine_without_any_of_it_is_read_too(tmp_path: Path) -> None:
    seen = looking.installation(
        tmp_path / "none.toml", tmp_path, looking.Places((tmp_path / "u",), (tmp_path / "r",), (tmp_path / "p",))
    )
    assert seen.units == {AGENT: None, ETCD: None}
    assert (seen.settings_file, seen.polkit_rules, seen.polkit_daemon) == (None, (), False)
    assert seen.broken_imports == {}, "what the agent imports is what the project depends on"
    assert isinstance(seen.data_root, Entry)
    assert seen.data_root.is_folder


def test_ignorance_is_carried_with_its_reason() -> None:
    def denied() -> int:
        raise PermissionError(13, "Permission denied", "/etc/x")

    read: Callable[[], int] = denied
    assert known(read) == Unknown(
        Ignorance.DENIED, "/etc/x: Permission denied: the agent may not: check the owner and mode of the folder"
    )
