"""What holds for every test."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.database import DirectoryBasedExampleDatabase

# No deadline for an example: on a loaded machine it measures the neighbours. What failed once is tried first next time.
settings.register_profile(
    "ours",
    deadline=None,
    print_blob=True,
    database=DirectoryBasedExampleDatabase(Path(__file__).parent.parent / ".cache" / "hypothesis"),
)
settings.load_profile("ours")

# A shell that runs us in the background has us ignore Ctrl-C, and our children inherit that; some tests send them one.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="module")
def no_logs_of_etcd_are_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """After a module its etcds' write-ahead logs go: each allots 64 MB or 128, and a whole run filled a disk of 100 GB.

    What a test of its own folder leaves goes with that folder (`tmp_path_retention_policy`), unless it failed.
    """
    yield
    for log in list(tmp_path_factory.getbasetemp().glob("**/wal")):
        shutil.rmtree(log, ignore_errors=True)
