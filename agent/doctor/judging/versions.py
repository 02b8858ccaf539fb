"""The installed etcd and the tool beside it. Pure.

Sources: etcd's changelogs 3.4, 3.5 and 3.6, and its advisory of March 2022 for 3.5.0-3.5.2. The agent itself refuses
only what `agent.decide.contradicting` names; the rest an operator should know before he trusts it with data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from agent.decide.contradicting import CORRUPTING_VERSIONS
from agent.doctor.finding import Finding, failure, ok, unknown, warning
from agent.model.cluster import minor_of
from agent.model.known import Ignorance, Unknown

ADVISED = "install etcd 3.5.30 or later of the 3.5 line (packer/install-etcd pins and verifies one)"

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Fault:
    """What a version does wrong: in every line, before the release that fixed it there."""

    fixed_in: tuple[Version, ...]
    """One a line of releases; a line that is not named never had it."""
    consequence: str

    def has(self, version: Version) -> bool:
        return any(version[:2] == fixed[:2] and version < fixed for fixed in self.fixed_in)


FAULTS = (
    Fault(((3, 5, 5), (3, 4, 21)), "a cluster of one may lose a write that it acknowledged"),
    Fault(((3, 5, 6), (3, 4, 22)), "a crash while it defragments may leave members' data different"),
    Fault(((3, 5, 26),), "a learner's promotion may not reach the disk: a zombie, above all when it goes to 3.6"),
    Fault(((3, 5, 23), (3, 4, 38), (3, 6, 5)), "a defragmentation while it catches up may corrupt its data"),
    Fault(((3, 5, 28),), "etcd's own authentication can be bypassed (CVE-2026-33413, CVE-2026-33343)"),
)
"""Those that cost data or a cluster; what the agent works around is not here."""

TRIED = frozenset({(3, 4), (3, 5)})
"""Lines of releases that the project's tests run."""
ENDED = {(3, 4): "2026-06-01"}
"""Lines that get no fixes any more, and since when."""


@dataclass(frozen=True, slots=True)
class Installed:
    """What stands beside one another on this machine."""

    etcd: str | Unknown
    """Its version."""
    tool: str | Unknown
    """The path of etcdutl or etcdctl: what restores."""
    tool_version: str | Unknown
    bumps: bool | Unknown
    """Whether that tool can raise revisions."""
    wants_bump: bool
    """snapshots.bump_revision is not 0."""


def judge(installed: Installed) -> Iterator[Finding]:
    yield from _etcd(installed.etcd)
    yield from _tool(installed)


def parsed(version: str) -> Version | None:
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def _etcd(version: str | Unknown) -> Iterator[Finding]:
    check = "etcd-version"
    if isinstance(version, Unknown):
        judged = failure if version.why is Ignorance.OURS else unknown  # ours: there is none, or it cannot be run
        yield judged(check, version.detail, "no member can run on this machine", ADVISED)
        return
    number = parsed(version)
    if number is None:
        yield unknown(check, f"etcd calls itself {version!r}", "nobody knows what it does wrong", ADVISED)
        return
    if version in CORRUPTING_VERSIONS:
        said = "it loses committed writes in a crash; the agent refuses to start it"
        yield failure(check, f"etcd {version}", said, ADVISED)
        return
    faults = [each.consequence for each in FAULTS if each.has(number)]
    if number[:2] in ENDED:
        faults.append(f"its line of releases has had no fixes since {ENDED[number[:2]]}")
    if number[:2] not in TRIED:
        faults.append("this agent was never tried with its line of releases")
    if faults:
        yield warning(check, f"etcd {version}", "; ".join(faults), ADVISED)
    else:
        yield ok(check, f"etcd {version}")


def _tool(installed: Installed) -> Iterator[Finding]:
    check = "restore-tool"
    if isinstance(installed.tool, Unknown):
        said = "no snapshot can be restored here, none can be tried out, and no lost cluster recovered"
        yield failure(check, installed.tool.detail, said, "install etcdutl (etcdctl for etcd 3.4) beside etcd")
        return
    if isinstance(installed.tool_version, Unknown):
        said = "a tool of another version may restore what this etcd cannot read"
        yield unknown(check, installed.tool_version, said, f"run `{installed.tool} version` by hand")
        return
    found = f"{installed.tool} {installed.tool_version}"
    etcd = installed.etcd if isinstance(installed.etcd, str) else installed.tool_version
    if minor_of(installed.tool_version) != minor_of(etcd):
        said = f"it writes data directories of another line of releases than etcd {etcd}'s"
        yield failure(check, found, said, "install the tools of the same release as etcd, all into one folder")
    elif installed.wants_bump and isinstance(installed.bumps, Unknown):
        yield unknown(check, installed.bumps, "clients that watch may miss writes after a restore", "ask it by hand")
    elif installed.wants_bump and not installed.bumps:
        said = "it cannot raise revisions: clients that watch through a restore miss writes and are not told"
        yield warning(check, found, said, "install 3.5.10 or later, or set snapshots.bump_revision = 0 to accept it")
    else:
        yield ok(check, found)
