"""Certificates of a lab whose members, agents and clients speak mutual TLS: an operator's files, or the agents' own.

House rules: with `tls.mode = "files"` all machines share the members' files, as they would a volume on which an
operator rotates them; the clients have a certificate of their own, which is valid throughout, so that whatever is
refused is refused for the members' sake.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from agent.lab.client import Lab
from agent.lab.members import ClientTls
from tests.contracts.tls_material import Authority, Pair
from tests.lab.harness import wait_until
from tests.lab.losing import on_machine
from tests.lab.test_no_loss import Keys, addresses_in

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Certificates:
    """What an operator has: the authority, and the folder that every machine reads."""

    folder: Path
    addresses: tuple[str, ...]
    authority: Authority
    client: ClientTls

    @classmethod
    def settings(cls, folder: Path) -> dict[str, dict[str, str]]:
        """The agents', for files in a folder."""
        return {"tls": Keys.settings(folder)["tls"]}

    @classmethod
    def made(cls, lab: Lab, folder: Path) -> Certificates:
        """For every machine that this lab may ever have, valid for an hour."""
        folder.mkdir()
        authority = Authority(folder, "authority")
        own = authority.issue("client")
        found = cls(folder, addresses_in(lab), authority, ClientTls(authority.cert, own.cert, own.key))
        for prefix in ("", "peer-"):
            shutil.copy(authority.cert, folder / f"{prefix}ca.pem")
        found.renew(HOUR)
        return found

    def renew(self, valid: timedelta) -> None:
        """New ones for all members and agents, in place of those that they have; nothing is restarted for that."""
        for prefix in ("", "peer-"):
            self._put(self.authority.issue(f"{prefix}here", self.addresses, valid), f"{prefix}here")

    def _put(self, pair: Pair, name: str) -> None:
        """Each file is whole at every moment."""
        for source, suffix in ((pair.key, "key"), (pair.cert, "pem")):
            beside = self.folder / f"{name}.{suffix}.new"
            shutil.copy(source, beside)
            beside.replace(self.folder / f"{name}.{suffix}")


def issued(lab: Lab, folder: Path) -> ClientTls:
    """With `tls.mode = "ca"`: what an operator gives to a client, as soon as there is somebody to ask."""

    def is_issued() -> bool:
        instance = next((each for each in lab.instances() if each.agent_pid), None)
        if instance is None:
            return False
        return on_machine(lab, instance, "tls", "issue", "--client", "ledger", "--out", str(folder)).returncode == 0

    wait_until(is_issued, 60, "a client's certificate")
    return ClientTls(folder / "ca.crt", folder / "ledger.crt", folder / "ledger.key")
