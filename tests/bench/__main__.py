"""`make bench`: how fast the agent forms and replaces beside a bare etcd, and what an idle cluster costs.

    python -m tests.bench [forming] [replacing] [snapshotting] [recovering] [idle]        nothing named: all of them
    BENCH_ROUNDS=10 BENCH_IDLE_S=660 BENCH_SIZES_MB=0,107     how long, and with how much data
    BENCH_SNAPSHOT_MB=1000                                    the database of `snapshotting`
    BENCH_RECOVERY_MB=1000,100                                the databases of `recovering`: all lost, and two of three
    BENCH_PEER=PATH                                           a peer to form beside us: see `tests.bench.forming`

Machines are noisy: compare the ratios of one run, in which the two sides take turns; the first round is dropped by
rule. The rows go into docs/benchmarks.md, below the command that made them.
"""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from tests import etcd_versions
from tests.bench import forming, idle, recovering, replacing, snapshotting
from tests.bench.report import Table, write_section

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"


def main() -> int:
    """Run what was named, print the tables and keep them in the document."""
    etcd = etcd_versions.default()
    rounds = int(os.environ.get("BENCH_ROUNDS", "10"))
    idle_s = float(os.environ.get("BENCH_IDLE_S", "660"))
    sizes_mb = [int(size) for size in os.environ.get("BENCH_SIZES_MB", "0,107").split(",")]
    recovering_mb = [int(size) for size in os.environ.get("BENCH_RECOVERY_MB", "1000,100").split(",")]
    peer = os.environ.get("BENCH_PEER")
    benches = {
        "forming": lambda: forming.measure(etcd, rounds, Path(peer) if peer else None),
        "replacing": lambda: replacing.measure(etcd, rounds, sizes_mb),
        "snapshotting": lambda: snapshotting.measure(etcd, rounds, int(os.environ.get("BENCH_SNAPSHOT_MB", "1000"))),
        "recovering": lambda: recovering.measure(etcd, rounds, *recovering_mb),
        "idle": lambda: idle.measure(etcd, idle_s),
    }
    named = sys.argv[1:] or list(benches)
    unknown = sorted(set(named) - set(benches))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(benches)}", file=sys.stderr)
        return 2
    where = f"etcd {etcd}, Python {platform.python_version()}, {os.cpu_count()} cores, {datetime.now(UTC):%Y-%m-%d}"
    for name in named:
        table: Table = benches[name]()
        print(f"\n{table.text()}\n({where})", flush=True)
        write_section(DOCUMENT, name, table, where)
    return 0


if __name__ == "__main__":
    sys.exit(main())
