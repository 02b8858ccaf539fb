"""A short fixed set of chaos for every `make test`; the whole of it is `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import runner
from tests.chaos.cases import CASES

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]


@pytest.mark.parametrize("name", ["kill-leader", pytest.param("kill-follower", marks=pytest.mark.long)])
def test_case(name: str, tmp_path: Path) -> None:
    (case,) = (each for each in CASES if each.name == name)
    result = runner.run(case, tmp_path / "lab", seed=1)
    runner.tell(result)
    assert result.violations == ()
