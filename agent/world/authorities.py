"""The cluster's certificate authorities in SSM Parameter Store, and the steps of their rotation.

    PATH/000001/authority   SecureString: certificates and keys of one authority for peers and one for clients
    PATH/000002/authority   the next one: from now on both are trusted
    PATH/000002/issues      an operator's word that every etcd trusts it: from now on it issues
    PATH/000002/alone       an operator's word that nobody shows an older one's certificates: it alone is trusted

Written once each (PutParameter without Overwrite), and never changed: as in the bucket, each name is a
compare-and-swap, there is no pointer to lose, and an interrupted rotation is where its last word says. Two that make
the first authority at once end up with one: the second is told that it exists, and reads it.

Why Parameter Store and not Secrets Manager: both create conditionally; this one costs nothing, its names make a path
that IAM can tell apart by step (an instance may make 000001 and nothing else), and `ssm:Overwrite` keeps even the role
that creates from replacing. What Secrets Manager adds is a rotation by Lambda, which is no use here: only who sees
every member's handshake can tell when the next step is safe.

A key is in the agent's memory while it signs, and is dropped with the function that asked for it. Who may read the
parameter (and decrypt with its KMS key) is the authority.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.model.certificates import Authorities
from agent.model.faults import Refused, Unavailable
from agent.model.known import Ignorance
from agent.world.aws import Aws
from agent.world.aws_errors import AlreadyThere, Asked
from agent.world.signing import Pair, new_authority

FIRST = 1
AUTHORITY, ISSUES, ALONE = "authority", "issues", "alone"
PAGE = 10
"""GetParametersByPath gives no more at once."""


@dataclass(frozen=True, slots=True)
class Keys:
    """One authority as it signs: for peers, and for clients and servers."""

    peers: Pair
    clients: Pair


class AuthorityStore:
    """The parameters below one path. `cluster` is what they are for: S3 URI and name."""

    def __init__(self, aws: Aws, path: str, kms_key_id: str, cluster: str, now: Callable[[], datetime]) -> None:
        self._aws = aws
        self._path = path.rstrip("/")
        self._kms = {"KeyId": kms_key_id} if kms_key_id else {}
        self._cluster = cluster
        self._now = now

    def authorities(self) -> Authorities | None:
        """Whom to trust now. None: there is nothing at all below the path. No key is decrypted."""
        found = {name for name, _ in self._parameters(decrypted=False)}
        if not found:
            return None
        return authorities_in(found)

    def create(self, number: int, who: str) -> bool:
        """Make one authority, once. False: there is one of that number."""
        name = self._cluster.rstrip("/").rpartition("/")[2][:32]  # a CN has 64 characters at most
        mark = secrets.token_hex(4)
        now = self._now().replace(microsecond=0)
        peers = new_authority(f"{name} etcd peers {number:06d} {mark}", now)
        clients = new_authority(f"{name} etcd clients {number:06d} {mark}", now)
        document = {
            **self._signed(who, now),
            "peers": {"certificate": peers.certificate, "key": peers.key},
            "clients": {"certificate": clients.certificate, "key": clients.key},
        }
        return self._put(number, AUTHORITY, document, "SecureString")

    def say(self, number: int, step: str, who: str) -> bool:
        """Write one word of the rotation, once. False: it was said before."""
        return self._put(number, step, self._signed(who, self._now().replace(microsecond=0)), "String")

    def keys(self, numbers: Collection[int]) -> dict[int, Keys]:
        """These authorities, to sign with; `Unavailable` where one is missing or makes no sense."""
        wanted = {f"{number:06d}/{AUTHORITY}": number for number in numbers}
        found = {
            wanted[name]: self._read(name, value) for name, value in self._parameters(decrypted=True) if name in wanted
        }
        if set(found) != set(numbers):
            raise Unavailable(Ignorance.MALFORMED, f"{self._path} does not hold all of the authorities {wanted}")
        return found

    def _read(self, name: str, value: str) -> Keys:
        where = f"{self._path}/{name}"
        try:
            document = json.loads(value)
            found = Keys(*(Pair(document[each]["certificate"], document[each]["key"]) for each in ("peers", "clients")))
            cluster = document["cluster"]
        except (ValueError, KeyError, TypeError):
            raise Unavailable(Ignorance.MALFORMED, f"{where} is no authority of ours") from None  # quotes no key
        if cluster != self._cluster:
            said = f"{where} is the authority of {cluster}, and this is {self._cluster}: choose another tls.parameters"
            raise Refused(said, Ignorance.OURS)
        return found

    def _signed(self, who: str, now: datetime) -> dict[str, Any]:
        return {"cluster": self._cluster, "created_by": who, "created_at": now.isoformat()}

    def _put(self, number: int, step: str, document: Mapping[str, Any], kind: str) -> bool:
        name = f"{self._path}/{number:06d}/{step}"
        encrypted = self._kms if kind == "SecureString" else {}
        try:
            self._aws.call(
                self._asked("PutParameter", name, f"{number:06d}/{step}"),
                Name=name,
                Type=kind,
                Value=json.dumps(document, separators=(",", ":")),
                Overwrite=False,
                **encrypted,
            )
        except AlreadyThere:
            return False
        return True

    def _parameters(self, *, decrypted: bool) -> Iterator[tuple[str, str]]:
        """Name below the path, and value, of everything there is."""
        token: dict[str, str] = {}
        asked = self._asked("GetParametersByPath", self._path)
        while True:
            page = self._aws.call(
                asked, Path=self._path, Recursive=True, WithDecryption=decrypted, MaxResults=PAGE, **token
            )
            listed = page.get("Parameters")
            if not isinstance(listed, list):
                raise Unavailable(Ignorance.MALFORMED, f"the answer to {asked} has no Parameters: is this AWS?")
            yield from ((str(each["Name"]).removeprefix(f"{self._path}/"), str(each["Value"])) for each in listed)
            if not page.get("NextToken"):
                return
            token = {"NextToken": page["NextToken"]}

    def _asked(self, operation: str, name: str, key: str = "") -> Asked:
        return Asked("ssm", operation, name, f"arn:aws:ssm:*:*:parameter{name}", key)


def authorities_in(names: Collection[str]) -> Authorities:
    """What these parameters come to. `Unavailable` where they come to nothing: that is not the same as none."""
    steps: dict[str, set[int]] = {AUTHORITY: set(), ISSUES: set(), ALONE: set()}
    for name in names:
        number, _, step = name.partition("/")
        if number.isdecimal() and step in steps:
            steps[step].add(int(number))
    trusted = sorted(each for each in steps[AUTHORITY] if each >= max(steps[ALONE], default=0))
    issuing = [each for each in trusted if each in steps[ISSUES] | steps[ALONE]]
    if not trusted:
        raise Unavailable(Ignorance.MALFORMED, f"no authority among {sorted(names)}")
    return Authorities(tuple(trusted), max(issuing, default=trusted[0]))
