"""The errors that cross from the doors into the agent, named by what the caller does next.

    Trouble
    ├── Unavailable   no answer, or an answer that says nothing: look again; a write may have landed
    └── Refused       a definite no: nothing happened, and the same request will be refused again for now

Facts that contradict each other are no error of a door: the rules find them, and decide to `CallHuman`.
Every foreign error (botocore, grpc, OSError, JSON) is translated into one of these in `agent.world`.
"""

from __future__ import annotations

from agent.model.known import Ignorance, Unknown


class Trouble(Exception):
    """Whatever a door can raise. `str()` of it is one line for a person."""


class Unavailable(Trouble):
    """We do not know. For a write: it may or may not have happened."""

    def __init__(self, why: Ignorance, detail: str) -> None:
        super().__init__(detail)
        self.unknown = Unknown(why, detail)


class Refused(Trouble):
    """A definite no from a service that is alive: the request had no effect."""

    def __init__(self, detail: str, why: Ignorance = Ignorance.DENIED) -> None:
        super().__init__(detail)
        self.unknown = Unknown(why, detail)
