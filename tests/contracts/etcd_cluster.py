"""Real etcd processes on loopback: a cluster of any size, with or without TLS, whose members can be hurt.

Every cluster takes a random /24 of 127.0.0.0/8, so parallel runs do not meet, and each member an address of its own
with etcd's standard ports. What was started here is killed here, by process ID.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.model.ids import ClientUrl, MemberId, PeerUrl
from agent.world.etcd_library import Etcd3Client, etcdrpc
from tests.contracts.tls_material import Pair


@dataclass(frozen=True)
class ServerTls:
    """How the client port of every member is secured; peers speak plainly."""

    pair: Pair
    trusted_ca: Path | None = None  # set: clients must present a certificate of this authority

    def flags(self) -> list[str]:
        flags = [f"--cert-file={self.pair.cert}", f"--key-file={self.pair.key}"]
        if self.trusted_ca is not None:
            flags += ["--client-cert-auth", f"--trusted-ca-file={self.trusted_ca}"]
        return flags


@dataclass
class Server:
    """One etcd on an address of its own."""

    binary: Path
    name: str
    address: str
    folder: Path
    tls: ServerTls | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def client_url(self) -> ClientUrl:
        return ClientUrl(f"{'https' if self.tls else 'http'}://{self.address}:2379")

    @property
    def peer_url(self) -> PeerUrl:
        return PeerUrl(f"http://{self.address}:2380")

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def start(self, initial_cluster: Sequence[Server], state: str = "new") -> None:
        """Start the process; what matters of the arguments is the first start's."""
        peers = ",".join(f"{each.name}={each.peer_url}" for each in initial_cluster)
        command = [
            str(self.binary),
            f"--name={self.name}",
            f"--data-dir={self.folder / self.name}",
            f"--listen-client-urls={self.client_url}",
            f"--advertise-client-urls={self.client_url}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--listen-metrics-urls=http://{self.address}:2381",
            f"--initial-cluster={peers}",
            f"--initial-cluster-state={state}",
            f"--initial-cluster-token={self.folder.name}",
            "--logger=zap",
            "--log-level=warn",
            *(self.tls.flags() if self.tls else []),
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def kill(self) -> None:
        """SIGKILL, and wait for the end. Once more is no harm."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait(timeout=10)
            self.process = None

    def freeze(self) -> None:
        """SIGSTOP, and wait until every thread stands still."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)

    def thaw(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def healthy(self) -> bool:
        """Whether a linearizable read succeeds, by etcd's own account on its metrics port."""
        return self._told("/health").startswith('{"health":"true"')

    def peers(self) -> int:
        """Of how many other members it believes that they are connected."""
        lines = [line for line in self._told("/metrics").splitlines() if line.startswith("etcd_network_active_peers{")]
        return sum(int(float(line.split()[-1])) for line in lines)

    def _told(self, path: str) -> str:
        connection = http.client.HTTPConnection(self.address, 2381, timeout=1)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            return ""
        finally:
            connection.close()


@dataclass
class Cluster:
    """Servers of one address block; `servers` are those the cluster began with, `spare()` makes more."""

    binary: Path
    folder: Path
    servers: list[Server]
    block: str
    tls: ServerTls | None = None
    started: list[Server] = field(default_factory=list)

    def spare(self) -> Server:
        """A server that is not running and not in the member list yet."""
        number = len(self.started) + 1
        server = Server(self.binary, f"m{number}", f"{self.block}.{number}", self.folder, self.tls)
        self.started.append(server)
        return server

    def start(self) -> None:
        for server in self.servers:
            server.start(self.servers)
        self.settle()

    def settle(self) -> None:
        """Wait until every first server serves linearizable reads."""
        wait_until(lambda: all(each.healthy() for each in self.servers), 20, f"{self.folder}: not healthy")

    def kill(self, server: Server) -> None:
        """And wait until the others know, who decide by it whether a change of the membership would be safe."""
        server.kill()
        others = [each for each in self.started if each.process is not None]
        wait_until(lambda: all(each.peers() < len(others) for each in others), 20, "it still passes for connected")

    def join(self, server: Server) -> None:
        """Start a server that was added already."""
        server.start([*self.servers, server], state="existing")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self.started:
            server.kill()


def wait_until(condition: Callable[[], bool], seconds: float, complaint: str, pause: float = 0.02) -> None:
    """Look until it holds; fail with the complaint when it did not for so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(complaint)
        time.sleep(pause)


def version_of(binary: Path) -> tuple[int, ...]:
    """The version that the binary reports."""
    out = subprocess.run([str(binary), "--version"], check=True, capture_output=True, text=True).stdout
    return tuple(int(part) for part in out.split()[2].split("."))


def _free_block() -> str:
    """Three octets of a loopback network that nobody listens in."""
    while True:
        block = f"127.{random.randint(2, 250)}.{random.randint(0, 255)}"
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((f"{block}.1", 2379))
            return block


@contextlib.contextmanager
def running(
    binary: Path, folder: Path, size: int, tls: Callable[[tuple[str, ...]], ServerTls] | None = None
) -> Iterator[Cluster]:
    """A cluster of so many members that serves; gone, with every process of it, at the end.

    `tls` makes the server's certificate, once the addresses are known.
    """
    block = _free_block()
    addresses = tuple(f"{block}.{number}" for number in range(1, size + 2))
    with Cluster(binary, folder, [], block, tls(addresses) if tls else None) as cluster:
        cluster.servers = [cluster.spare() for _ in range(size)]
        cluster.start()
        yield cluster


def turn_auth_on(etcdctl: Path, endpoint: ClientUrl, ca: Path, root: Pair) -> None:
    """Switch etcd's authentication on, with the one user `root`, who is known by the name in its certificate."""
    base = [str(etcdctl), f"--endpoints={endpoint}", f"--cacert={ca}", f"--cert={root.cert}", f"--key={root.key}"]
    environment = {**os.environ, "ETCDCTL_API": "3"}
    for words in (["user", "add", "root:unused"], ["user", "grant-role", "root", "root"], ["auth", "enable"]):
        subprocess.run([*base, *words], check=True, capture_output=True, env=environment)


def raise_alarm(endpoint: ClientUrl, member: MemberId, kind: str) -> None:
    """Raise an alarm as a member would that ran out of space or found itself corrupt."""
    client = Etcd3Client(host=endpoint.partition("//")[2].partition(":")[0])
    request = etcdrpc.AlarmRequest(
        action=etcdrpc.AlarmRequest.ACTIVATE, memberID=member, alarm=etcdrpc.AlarmType.Value(kind)
    )
    client.maintenancestub.Alarm(request, timeout=5)
    client.close()
