"""Stories happen in the simulation, and begin as everything there does."""

from tests.simulation.conftest import begin

__all__ = ["begin"]
