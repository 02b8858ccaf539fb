"""Whose certificates are trusted, who issues, and what was issued here: the nouns of `tls.mode = "ca"`.

An authority is one number of two certificate authorities, one for peers and one for clients, so that no client's
certificate opens a peer's port. Numbers only grow, and what decides is written once (`agent.world.authorities`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Authorities:
    """As Parameter Store has them now: the numbers that are trusted, and the one that issues."""

    trusted: tuple[int, ...]  # ascending
    issuer: int

    def __post_init__(self) -> None:
        assert self.issuer in self.trusted, "who issues is trusted"

    def are_older_than(self, other: Authorities) -> bool:
        """A rotation only ever goes on, so such an answer is late: Parameter Store promises no order."""
        return self.issuer < other.issuer or self.trusted[0] < other.trusted[0]

    def __str__(self) -> str:
        trusted = ", ".join(map(str, self.trusted))
        return f"authority {self.issuer} issues; trusted: {trusted}"


@dataclass(frozen=True, slots=True)
class Issued:
    """The certificates on this disk, and what they were made for."""

    authorities: Authorities
    instance: str
    address: str
    issued_at: datetime
    expires_at: datetime
    authority_expires_at: datetime  # of the first trusted authority that ends

    def is_worn(self, now: datetime) -> bool:
        """Two thirds of its life are over: time to renew, with a third left to wait for whatever is out."""
        return now - self.issued_at >= (self.expires_at - self.issued_at) * 2 / 3

    def is_nearly_over(self, now: datetime) -> bool:
        """A tenth of its life is left, or less."""
        return self.expires_at - now <= (self.expires_at - self.issued_at) / 10


TRY_AGAIN = timedelta(seconds=30)
"""After an attempt to issue that failed, while what there is will do."""
