"""What was seen, kept from run to run, and shown: a table and a plot in docs/chaos.md.

House rule: the document shows the last runs of every case that was ever run here, failed or not, and the command that
made each row; nothing is written there by hand.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests import etcd_versions
from tests.chaos import combined
from tests.chaos.case import Case
from tests.chaos.cases import CASES
from tests.chaos.runner import Result

ROOT = Path(__file__).resolve().parents[2]
KEPT = Path(__file__).with_name("seen.jsonl")
DOCUMENT, PLOT = ROOT / "docs" / "chaos.md", ROOT / "docs" / "chaos.svg"
SHOWN = 3
"""So many of the last runs of a case."""


@dataclass(frozen=True)
class Row:
    """One run, as it is kept."""

    case: str
    seed: int
    passed: bool
    acknowledged: int
    lost: int
    lost_s: float
    unavailable_s: float
    new_generations: int
    etcd: str
    on: str


def note(result: Result) -> None:
    """Keep one run; of the earlier ones of its case only so many as are shown."""
    row = Row(
        result.case.name,
        result.seed,
        result.passed,
        result.acknowledged,
        result.lost,
        round(result.lost_s, 1),
        round(result.unavailable_s, 1),
        result.new_generations,
        str(etcd_versions.default()),
        f"{datetime.now(UTC):%Y-%m-%d}",
    )
    rows = [each for each in kept() if (each.case, each.seed) != (row.case, row.seed)] + [row]
    if row.case != combined.NAME:
        same = [each for each in rows if each.case == row.case][-SHOWN:]
        rows = [each for each in rows if each.case != row.case] + same
    KEPT.write_text("".join(f"{json.dumps(asdict(each))}\n" for each in rows))


def kept() -> list[Row]:
    """All runs that are kept of cases that there still are, oldest first."""
    rows = [Row(**json.loads(line)) for line in KEPT.read_text().splitlines()] if KEPT.exists() else []
    known = {combined.NAME, *(case.name for case in CASES)}
    return [each for each in rows if each.case in known]


def write() -> None:
    """The document and its plot, from what is kept."""
    rows = kept()
    DOCUMENT.write_text(document(rows))
    PLOT.write_text(plot(rows))


HEAD = """# Chaos: what was broken, and what it cost

Real etcd and the unmodified agent on the lab's emulated AWS. A writer and a reader at every endpoint keep a ledger of
every attempt; a checker holds it against what the members hold in the end: acknowledged writes present and in order,
registers linearizable, one lineage at a time, the same HashKV everywhere. Each run is a lab of its own.

- **RTO**: the longest time without an acknowledged write through any endpoint. The lab's agents call a leader lost
  after 4 s, where the default is 30 s; its instances boot in half a second: add what yours take.
- **RPO**: acknowledged writes that were gone in the end, and the seconds between the oldest and the newest of them.
  Snapshots are taken every 10 s here, and right after a generation has formed.
- **allowed**: what the case may cost at most; more is a failure. *Not on the best surviving disk*: the run compares
  with that disk's own bytes.

At most the last three runs of a case are shown, the newest last. A row is made by `make chaos CASE=NAME TIMES=3`.

The clocks of `clocks-apart` are the agents', by Debian's `libfaketime` and a C compiler; etcd, lab and ledger keep the
machine's.

In the cases of certificates (`tls.mode = "files"`) members, agents and clients speak mutual TLS. etcd reads its files
for every handshake, and looks at no certificate afterwards. So once those of all members and agents have run out, peers
that are connected remain a quorum, and clients that are connected are served: the case reads through such connections.
But nobody new gets in. The clients of the ledger dial for every request, have a valid certificate throughout, and
refuse members with an expired one: the RTO is the time until an operator renewed the files, and what it took then.
With the agents' own authority (`tls.mode = "ca"`) they live for a minute here, and clients follow docs/tls.md.
"""


DRAWN = """## Drawn at random

One or two blows to machines (killed, rebooted, wiped, terminated; one, two or all) while one or two troubles last (EC2,
Auto Scaling, S3, links, an agent or an etcd stopped), made by `make chaos RANDOM_MINUTES=60 SEED=1`. A seed draws the
same script again.
"""


def document(rows: list[Row]) -> str:
    """docs/chaos.md."""
    lines = [
        HEAD,
        "![The longest time without an acknowledged write, by case](chaos.svg)",
        "",
        "| case | what is done | loss allowed | new generation | RTO seen, s | RPO seen, writes (s) | of | passed |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_line(case, _of(case, rows)) for case in CASES if _of(case, rows)),
    ]
    versions = sorted({each.etcd for each in rows})
    days = sorted({each.on for each in rows})
    lines += ["", f"(etcd {', '.join(versions)}; {days[0]} to {days[-1]})" if rows else ""]
    lines += _drawn([each for each in rows if each.case == combined.NAME])
    missing = [case.name for case in CASES if not _of(case, rows)]
    if missing:
        lines += ["", f"Not run yet: {', '.join(missing)}."]
    return "\n".join(lines) + "\n"


def _drawn(rows: list[Row]) -> list[str]:
    """What is to be said of the combinations drawn at random."""
    if not rows:
        return []
    failed = ", ".join(f"seed {each.seed}" for each in rows if not each.passed)
    with_loss = sum(bool(each.lost) for each in rows)
    longest = max(each.unavailable_s for each in rows)
    passed = sum(each.passed for each in rows)
    seen = f"{len(rows)} combinations, {passed} passed{f' (failed: {failed})' if failed else ''}."
    cost = f"The longest time without an acknowledged write was {longest:.1f} s; {with_loss} lost some, as was allowed."
    return ["", DRAWN, "", f"{seen} {cost}"]


def _of(case: Case, rows: list[Row]) -> list[Row]:
    return [each for each in rows if each.case == case.name]


def _line(case: Case, rows: list[Row]) -> str:
    rto = ", ".join(f"{each.unavailable_s:.1f}" for each in rows)
    rpo = ", ".join(f"{each.lost} ({each.lost_s:.1f})" if each.lost else "0" for each in rows)
    of = ", ".join(str(each.acknowledged) for each in rows)
    passed = f"{sum(each.passed for each in rows)} of {len(rows)}"
    return (
        f"| {case.name} | {case.what} | {case.loss.value} | {case.generation.value} | {rto} | {rpo} | {of} | {passed} |"
    )


# ---- the plot --------------------------------------------------------------------------------------------------------

LEFT, WIDTH, STEP, TOP = 240, 560, 20, 40
FONT = 'font-family="sans-serif" font-size="12"'
CAPTION = "longest time without an acknowledged write, in seconds (bar: median; ticks: runs)"


def plot(rows: list[Row]) -> str:
    """RTO as bars, the median of a case's runs, and a tick for each run."""
    cases = [case for case in CASES if _of(case, rows)]
    longest = max((each.unavailable_s for each in rows), default=1.0)
    height = TOP + STEP * len(cases) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 60} {height}" {FONT}>',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="20">{CAPTION}</text>',
    ]
    for index, case in enumerate(cases):
        parts += _bar(case.name, [each.unavailable_s for each in _of(case, rows)], longest, TOP + STEP * index)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(name: str, seconds: list[float], longest: float, y: int) -> list[str]:
    median = sorted(seconds)[len(seconds) // 2]
    scale = WIDTH / max(longest, 0.1)
    at = [LEFT + each * scale for each in seconds]
    ticks = [f'<rect x="{x:.1f}" y="{y}" width="2" height="{STEP - 6}" fill="#1b3a57"/>' for x in at]
    return [
        f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{name}</text>',
        f'<rect x="{LEFT}" y="{y}" width="{median * scale:.1f}" height="{STEP - 6}" fill="#7aa6c9"/>',
        *ticks,
        f'<text x="{LEFT + max(seconds) * scale + 8:.1f}" y="{y + 12}">{median:.1f}</text>',
    ]
