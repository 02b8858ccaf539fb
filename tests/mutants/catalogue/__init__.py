"""The mutants. Each is one mistake that somebody could make in this code, and what would notice it."""

from __future__ import annotations

from tests.mutants.catalogue.certifying import CERTIFYING
from tests.mutants.catalogue.founding import FOUNDING
from tests.mutants.catalogue.ignorance import IGNORANCE
from tests.mutants.catalogue.keeping import KEEPING
from tests.mutants.catalogue.leaving import LEAVING
from tests.mutants.catalogue.living import LIVING
from tests.mutants.catalogue.proof import PROOF
from tests.mutants.catalogue.removing import REMOVING
from tests.mutants.catalogue.succession import SUCCESSION
from tests.mutants.catalogue.upkeep import UPKEEP
from tests.mutants.catalogue.ways import WAYS

MUTANTS = (
    *REMOVING,
    *IGNORANCE,
    *FOUNDING,
    *LIVING,
    *PROOF,
    *SUCCESSION,
    *KEEPING,
    *LEAVING,
    *UPKEEP,
    *WAYS,
    *CERTIFYING,
)
