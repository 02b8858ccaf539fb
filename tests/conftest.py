"""What holds for every test."""

import signal
from pathlib import Path

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
