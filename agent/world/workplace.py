"""Where this agent's errands are run, and what trouble with working copies of etcd's files means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from agent.model.faults import Refused, Unavailable
from agent.model.ids import ClientUrl, InstanceId
from agent.model.known import Ignorance
from agent.world import durable
from agent.world.etcd_damage import Damage


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where this agent's errands are run: its cluster, its member, and its tools."""

    cluster: str
    instance: InstanceId
    agent: str  # its version
    endpoint: ClientUrl  # of its own etcd
    binary: str


@contextmanager
def working_on(what: str) -> Iterator[None]:
    """Working copies of etcd's files: what is wrong with them is final, what cannot be read may pass."""
    try:
        yield
    except Damage as damage:
        raise Refused(f"{what} cannot be used: {damage}", Ignorance.MALFORMED) from damage
    except OSError as error:
        raise Unavailable(Ignorance.OURS, f"working on a copy of {what}: {durable.explained(error)}") from error
