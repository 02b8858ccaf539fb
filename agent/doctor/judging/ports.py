"""Who listens on etcd's and the agent's ports: nobody, our own, or somebody else. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.doctor.finding import Finding, failure, ok, unknown, warning
from agent.model.disk import EtcdProcess, EtcdRunning
from agent.model.known import Unknown

LEAST_FILES = 65536


@dataclass(frozen=True, slots=True)
class Holder:
    """Who listens. `pid` None: a process that we may not look into."""

    pid: int | None
    user: str
    command: str = ""

    def __str__(self) -> str:
        if self.pid is None:
            return f"a process of {self.user}'s"
        return f"{self.command or 'a process'} ({self.pid}, {self.user})"


@dataclass(frozen=True, slots=True)
class PortsSeen:
    """Port by what it is for, and who listens there."""

    ports: Mapping[str, int]
    """Of etcd's: client, peer, metrics."""
    agent_port: int
    holders: Mapping[int, Sequence[Holder]] | Unknown
    etcd: EtcdProcess | Unknown
    agent: str | Unknown
    """The instance that the agent behind the agent's port says it is on."""
    me: str | Unknown
    etcd_files: int | Unknown | None = None
    """How many descriptors the running etcd may have; None: none runs."""


def judge(seen: PortsSeen) -> Iterator[Finding]:
    if isinstance(seen.holders, Unknown):
        said = "another process on them keeps etcd or the agent from starting"
        yield unknown("ports", seen.holders, said, "look with `ss -ltnp`")
        return
    yield from _etcds(seen, seen.holders)
    yield from _agents(seen, seen.holders)
    yield from _files(seen.etcd_files)


def _etcds(seen: PortsSeen, holders: Mapping[int, Sequence[Holder]]) -> Iterator[Finding]:
    check = "etcd-ports"
    pid = seen.etcd.pid if isinstance(seen.etcd, EtcdRunning) else None
    taken = [(name, port, each) for name, port in seen.ports.items() for each in holders.get(port, ())]
    ours = [each for each in taken if pid is not None and each[2].pid == pid]
    unclear = [each for each in taken if each not in ours and each[2].pid is None]
    foreign = [each for each in taken if each not in ours and each not in unclear]
    if foreign and isinstance(seen.etcd, Unknown):
        unclear, foreign = [*foreign, *unclear], []
    if foreign:
        found = "; ".join(f"{holder} listens on port {port} ({name})" for name, port, holder in foreign)
        yield failure(check, found, "etcd cannot start, or not serve, on this instance", "stop it, or set etcd's ports")
    elif unclear:
        found = "; ".join(f"{holder} listens on port {port} ({name})" for name, port, holder in unclear)
        if isinstance(seen.etcd, Unknown):
            found += f"; whether etcd runs: {seen.etcd}"
        yield unknown(check, found, "if it is not etcd, etcd cannot start", "run the doctor as root")
    elif pid is not None and len(ours) < len(seen.ports):
        silent = [f"{port} ({name})" for name, port in seen.ports.items() if port not in {each[1] for each in ours}]
        found = f"etcd runs ({pid}) and does not listen on port {', '.join(silent)}"
        said = "a member that was started without a quorum answers no client; one that only just started, not yet"
        yield warning(check, found, said, "etcd-asg-agent status; journalctl -u etcd")
    else:
        told = ", ".join(f"{port} ({name})" for name, port in seen.ports.items())
        yield ok(check, f"{told}: {'etcd listens' if pid is not None else 'free'}")


def _agents(seen: PortsSeen, holders: Mapping[int, Sequence[Holder]]) -> Iterator[Finding]:
    check, found = "agent-port", holders.get(seen.agent_port, ())
    if not found:
        yield ok(check, f"{seen.agent_port} is free: no agent runs")
    elif isinstance(seen.agent, Unknown):
        said = "if it is not the agent, the agent ends at once with code 2"
        fix = "etcd-asg-agent status; stop whatever else it is, or set http.listen"
        yield failure(
            check, f"{found[0]} listens on port {seen.agent_port}, and is no agent ({seen.agent.detail})", said, fix
        )
    elif isinstance(seen.me, str) and seen.agent not in (seen.me, ""):
        said = "two agents on one machine would each run an etcd"
        yield failure(check, f"the agent of {seen.agent} listens on port {seen.agent_port}", said, "stop one of them")
    else:
        yield ok(check, f"{seen.agent_port}: the agent of {seen.agent or 'this instance'} answers")


def _files(files: int | Unknown | None) -> Iterator[Finding]:
    check = "etcd-files"
    if isinstance(files, Unknown):
        yield unknown(check, files, "etcd may run out of descriptors", "look at /proc/PID/limits")
    elif files is not None and files < LEAST_FILES:
        said = "etcd refuses clients when it runs out of descriptors"
        fix = f"LimitNOFILE={LEAST_FILES} in etcd.service, for its next start"
        yield warning(check, f"the running etcd may open {files} files", said, fix)
    elif files is not None:
        yield ok(check, f"the running etcd may open {files} files")
