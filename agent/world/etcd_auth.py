"""Who we are to an etcd whose authentication is on, where no certificate says it: a password, and tokens for it.

House rules. Nothing is asked for before etcd has refused a call for want of an identity: while authentication is off,
and where the certificate's common name is a user, there is no token. etcd checks first and acts then, so a call that
was refused like that has done nothing and may be sent again. Raft brings a token to every member; each forgets it five
minutes after its last use there, and with its process. A learner takes tokens and gives none, so one that another
member has given is tried first there. A token of a cluster that was is worse than none: it says at which raft index
it was given, and etcd waits until it has applied as much. So tokens are forgotten with the process and the cluster
that gave them. The password is read from its file whenever it is needed, and kept nowhere. A
wrong one is a failure of ours, never one of the cluster; it is not tried again for a while, because etcd spends a tenth
of a second of CPU on each try (bcrypt).
"""

from __future__ import annotations

import stat
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from agent.model.faults import Unavailable
from agent.model.ids import ClientUrl
from agent.model.known import Ignorance
from agent.world.durable import explained
from agent.world.etcd_channels import Link
from agent.world.etcd_errors import AUTHENTICATION, wants_an_identity
from agent.world.etcd_library import etcdrpc, grpc

Metadata = tuple[tuple[str, str], ...]

PAUSE: Final = timedelta(seconds=10)
"""After a password was refused, before it is tried again on the same member."""

AT_MOST: Final = timedelta(seconds=3)
TURNED_OFF: Final = "authentication is not enabled"
IS_A_LEARNER: Final = "rpc not supported for learner"

OTHERS_MAY: Final = stat.S_IRWXG | stat.S_IRWXO
LONGEST: Final = 1024


@dataclass(frozen=True, slots=True)
class Login:
    """A user of etcd with the role root, and the file that its password is the first line of."""

    user: str
    password_file: Path

    def password(self) -> str:
        """Unavailable(OURS) where the file cannot be read, is empty, or is not ours alone."""
        path = self.password_file
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(path.stat().st_mode)
                line = file.readline(LONGEST + 1).rstrip(b"\r\n").decode()
        except (OSError, ValueError) as error:
            said = explained(error) if isinstance(error, OSError) else "it is no text"
            raise Unavailable(Ignorance.OURS, f"auth.password_file {path}: {said}") from error
        if mode & OTHERS_MAY:
            raise Unavailable(Ignorance.OURS, f"auth.password_file {path}: others may read it: chmod 0600")
        if not line or len(line) > LONGEST:
            raise Unavailable(Ignorance.OURS, f"auth.password_file {path}: its first line is no password")
        return line


class Tokens:
    """What is sent with each call, by endpoint. May be used from several threads."""

    def __init__(self, login: Login | None) -> None:
        self._login = login
        self._lock = threading.Lock()
        self._of: dict[ClientUrl, str] = {}
        self._clusters: dict[ClientUrl, int] = {}  # that gave them
        self._newest = ""  # that any member has given
        self._voter: Link | None = None  # that has given one
        self._borrow_after = 0.0
        self._refused: dict[ClientUrl, tuple[float, Unavailable]] = {}

    def metadata(self, endpoint: ClientUrl) -> Metadata:
        """Empty as long as etcd has not asked who we are."""
        token = self._of.get(endpoint)
        return () if token is None else (("token", token),)

    def forget(self, endpoint: ClientUrl) -> None:
        """Its process has ended, or waits for ever with this token."""
        with self._lock:
            self._of.pop(endpoint, None)

    def seen(self, endpoint: ClientUrl, cluster: int) -> None:
        """Another cluster than the one that gave the token answers there: where Status needs none, only this tells."""
        if self._of and self._clusters.get(endpoint, cluster) != cluster:
            self.forget(endpoint)

    def renewed(self, link: Link, error: Any, patience: timedelta) -> bool:
        """Whether the call that failed so may be sent again, with another token or, as it turned out, without one.

        False where it failed for another reason, or we have no password. Unavailable(OURS) where the password cannot
        be read, or etcd does not take it.
        """
        if self._login is None or not wants_an_identity(error.details() or ""):
            return False
        with self._lock:
            refused = self._refused.get(link.endpoint)
            if refused is not None and perf_counter() - refused[0] < PAUSE.total_seconds():
                raise Unavailable(refused[1].unknown.why, refused[1].unknown.detail)
            used = self._of.pop(link.endpoint, "")
            return self._authenticate(link, self._login, min(patience, AT_MOST), used)

    def _authenticate(self, link: Link, login: Login, patience: timedelta, used: str) -> bool:
        try:
            self._of[link.endpoint] = self._given(link, login, patience)
        except grpc.RpcError as error:
            details = error.details() or ""
            if details.endswith(TURNED_OFF):
                return True  # 3.4 refuses an old token even then
            if details.endswith(IS_A_LEARNER) and self._borrowed(link.endpoint, login, patience, used):
                return True
            ours = details.startswith(AUTHENTICATION)
            said = f"Authenticate as {login.user!r} at {link.endpoint}: {details or error.code().name}"
            fault = Unavailable(Ignorance.OURS if ours else Ignorance.FAILED, said)
            if ours:
                self._refused[link.endpoint] = (perf_counter(), fault)
            raise fault from None
        self._voter = link
        self._refused.pop(link.endpoint, None)
        return True

    def _given(self, link: Link, login: Login, patience: timedelta) -> str:
        request = etcdrpc.AuthenticateRequest(name=login.user, password=login.password())
        answer = link.authenticate.call(request, timeout=max(0.0, patience.total_seconds()))
        self._newest = str(answer.token)
        self._clusters[link.endpoint] = int(answer.header.cluster_id)
        return self._newest

    def _borrowed(self, learner: ClientUrl, login: Login, patience: timedelta, used: str) -> bool:
        """Another member's token. One that was given before the learner came is not known to it: then a new one."""
        if self._newest in ("", used) and self._voter is not None and perf_counter() > self._borrow_after:
            self._borrow_after = perf_counter() + PAUSE.total_seconds()
            with suppress(grpc.RpcError, ValueError):  # the voter has gone, or its channel: the next call finds another
                self._given(self._voter, login, patience)
        if not self._newest:
            return False
        self._of[learner] = self._newest
        self._clusters.pop(learner, None)
        return True
