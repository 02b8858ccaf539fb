"""The simulated authority, and the certificates on each disk. Who believes whom is for `Promises` to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from agent.model.certificates import Authorities, Issued
from agent.model.ids import ClientUrl
from agent.model.known import Ignorance, Unknown
from tests.simulation.doors import Door

LIFE = timedelta(minutes=16)
AUTHORITY_LIFE = timedelta(days=3650)


class SimCertificates(Door):
    name = "ssm"

    def issued(self) -> Issued | None:
        return self.machine.issued

    def authorities(self) -> Authorities | None:
        self.read()
        return self.sim.authorities

    def create_authority(self) -> bool:
        there = self.sim.authorities is not None

        def effect() -> None:
            if self.sim.authorities is None:
                self.sim.promises.at_authority()
                self.sim.authorities = Authorities((1,), 1)

        self.write(effect)
        return not there

    def issue(self, authorities: Authorities) -> None:
        def effect() -> None:
            now, machine = self.agent.world.clock.now(), self.machine
            until = now + AUTHORITY_LIFE
            machine.issued = Issued(authorities, machine.id, machine.ip, now, now + LIFE, until)

        self.write(effect)

    def trusted_by(self, endpoints: Sequence[ClientUrl]) -> Mapping[ClientUrl, frozenset[int] | Unknown]:
        self.knock()
        return {each: self._trusted_at(each) for each in endpoints}

    def _trusted_at(self, url: ClientUrl) -> frozenset[int] | Unknown:
        other = self.sim.at(url)
        heard = other is not None and other.speaks and other.reachable and self.machine.reachable
        if other is None or not (heard or (other is self.machine and other.speaks)):
            return Unknown(Ignorance.UNREACHABLE, "no answer")
        return other.trusts
