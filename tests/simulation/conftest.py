"""Every simulation begins with `begin(seed)`; when its test fails, the end of its story is printed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.simulation.sim import Sim

LAST_LINES = 60


@pytest.fixture
def begin() -> Iterator[Callable[..., Sim]]:
    begun: list[Sim] = []

    def new(*args: object, **choices: object) -> Sim:
        sim = Sim(*args, **choices)  # type: ignore[arg-type]
        begun.append(sim)
        return sim

    yield new
    for sim in begun:
        print("\n".join(("the story ends so:", *sim.story[-LAST_LINES:])))  # noqa: T201 - shown where a test fails
