"""Every case, in the order of the document."""

from __future__ import annotations

from tests.chaos import (
    by_the_clock,
    in_a_hooked_group,
    in_aws,
    in_the_fleet,
    on_machines,
    on_the_network,
    out_of_date,
    own_authority,
)
from tests.chaos.case import Case

CASES: tuple[Case, ...] = (
    *on_machines.CASES,
    *on_the_network.CASES,
    *in_aws.CASES,
    *in_the_fleet.CASES,
    *in_a_hooked_group.CASES,
    *by_the_clock.CASES,
    *out_of_date.CASES,
    *own_authority.CASES,
)
