"""Who we are to an etcd whose authentication is on, where no certificate says it: a password, and tokens for it.

House rules. Nothing is asked for before etcd has refused a call for want of an identity: while authentication is off,
and where the certificate's common name is a user, there is no token. etcd checks first and acts then, so a call that
was refused like that has done nothing and may be sent again. A member keeps its own tokens: they end five minutes
after their last use, and with its process. The password is read from its file whenever it is needed, and kept nowhere.
A wrong password is a failure of ours, never one of the cluster; it is not tried again for a while, because etcd spends
a tenth of a second of CPU on each try (bcrypt).
"""

from __future__ import annotations

import stat
import threading
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
"""After a password was refused, or nobody could say whether it is right."""

TURNED_OFF: Final = "authentication is not enabled"

OTHERS_MAY: Final = stat.S_IRWXG | stat.S_IRWXO
LONGEST: Final = 1024
AT_MOST: Final = timedelta(seconds=3)


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
        self._refused: dict[ClientUrl, tuple[float, Unavailable]] = {}

    def metadata(self, endpoint: ClientUrl) -> Metadata:
        """Empty as long as etcd has not asked who we are."""
        token = self._of.get(endpoint)
        return () if token is None else (("token", token),)

    def renewed(self, link: Link, error: Any, patience: timedelta) -> bool:
        """Whether the call that failed so may be sent again, with another token.

        False where it failed for another reason, or we have no password. Unavailable(OURS) where the password cannot
        be read, or etcd does not take it.
        """
        if self._login is None or not wants_an_identity(error.details() or ""):
            return False
        with self._lock:
            refused = self._refused.get(link.endpoint)
            if refused is not None and perf_counter() - refused[0] < PAUSE.total_seconds():
                raise Unavailable(refused[1].unknown.why, refused[1].unknown.detail)
            return self._authenticate(link, self._login, min(patience, AT_MOST))

    def _authenticate(self, link: Link, login: Login, patience: timedelta) -> bool:
        self._of.pop(link.endpoint, None)
        request = etcdrpc.AuthenticateRequest(name=login.user, password=login.password())
        try:
            answer = link.authenticate.call(request, timeout=max(0.0, patience.total_seconds()))
        except grpc.RpcError as error:
            details = error.details() or ""
            if details.endswith(TURNED_OFF):
                return True  # 3.4 refuses an old token even then
            ours = details.startswith(AUTHENTICATION)
            said = f"Authenticate as {login.user!r} at {link.endpoint}: {details or error.code().name}"
            fault = Unavailable(Ignorance.OURS if ours else Ignorance.FAILED, said)
            self._refused[link.endpoint] = (perf_counter(), fault)
            raise fault from None
        self._refused.pop(link.endpoint, None)
        self._of[link.endpoint] = answer.token
        return True
