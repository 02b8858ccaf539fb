"""One case on a lab of its own: form, load, do harm, wait until all is well, judge.

House rules: the agents, etcd and everything between them are the real ones; a run that fails keeps its lab's files and
its ledger; nothing is retried.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from agent.lab.client import Lab
from agent.lab.spec import LabError, LabSpec, Pace
from tests import etcd_versions
from tests.chaos.case import Case, Next, Tls
from tests.chaos.certificates import Certificates, issued
from tests.chaos.checker import Loss, Verdict, judge
from tests.chaos.clients import Crowd, holding
from tests.chaos.history import History, Write, keep
from tests.chaos.scene import Scene
from tests.lab.harness import statuses, wait_until, wait_whole
from tests.lab.losing import (
    QUICK,
    document,
    formed_key,
    generations,
    keys_on_disk,
    record_key,
    set_aside,
    wait_snapshot,
)
from tests.lab.watching import assert_no_traceback

PACE = Pace(pending_s=0.2, boot_s=0.5, replacement_s=0.5, agent_restart_s=0.5)


@dataclass(frozen=True)
class Result:
    """What one run showed."""

    case: Case
    seed: int
    violations: tuple[str, ...]
    acknowledged: int = 0
    lost: int = 0
    lost_s: float = 0.0
    """From the oldest lost acknowledgement to the newest."""
    unavailable_s: float = 0.0
    new_generations: int = 0
    took_s: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.violations


def run(case: Case, folder: Path, seed: int) -> Result:
    """One case, once. The folder is gone afterwards, unless the run failed."""
    began = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with _scene(case, folder, seed) as scene:
            result = _run(case, scene, seed)
        assert_no_traceback(folder)
    except (AssertionError, LabError) as error:
        result = Result(case, seed, (f"{type(error).__name__}: {error}",))
    if result.passed:
        shutil.rmtree(folder)
    return replace(result, took_s=time.monotonic() - began)


def laid_over(base: Mapping[str, Mapping[str, Any]], changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Settings with others over them, section by section."""
    return {name: {**base.get(name, {}), **changes.get(name, {})} for name in {**base, **changes}}


@contextmanager
def _scene(case: Case, folder: Path, seed: int) -> Iterator[Scene]:
    """A whole cluster with a snapshot. Everything is gone afterwards but the files."""
    settings, chance = laid_over(QUICK, case.settings), random.Random(seed)
    files = folder.resolve() / "tls"
    if case.tls is Tls.FILES:
        settings = laid_over(settings, Certificates.settings(files))
    spec = LabSpec(
        instances=0 if case.tls is Tls.FILES else case.size,
        etcd=str(etcd_versions.default().etcd),
        settings=settings,
        launch_hook_s=case.hook_s,
        terminate_hook_s=case.hook_s,
        pace=PACE,
    )
    with ExitStack() as afterwards:
        lab = Lab.start(spec, folder, lifeline=True)
        scene = Scene(lab, Crowd(lab, chance), chance, case.size)
        afterwards.callback(lambda: [undo() for undo in scene.afterwards])
        afterwards.callback(lambda: lab.down(keep_files=True))
        if case.tls is Tls.FILES:  # they name the lab's addresses, which nobody knew before
            scene.certificates = Certificates.made(lab, files)
            lab.tls = scene.certificates.client
            lab.scale(case.size)
        if case.tls is Tls.CA:
            lab.tls = issued(lab, files)
        wait_whole(lab, case.size)
        wait_snapshot(lab, 1)
        yield scene


def _run(case: Case, scene: Scene, seed: int) -> Result:
    lab, crowd = scene.lab, scene.crowd
    trouble: list[str] = []
    with crowd:
        try:
            crowd.served_everywhere()
            crowd.grows(100)
            scene.note_snapshot()
            case.do(scene)
            _all_is_well(scene, case.within_s)
        except (AssertionError, LabError, OSError, ClientError) as error:
            trouble.append(f"{type(error).__name__}: {error}")
    history = _history(scene, trouble)
    keep(history, lab.folder / "ledger.jsonl")
    (lab.folder / "notes.json").write_text(json.dumps(scene.notes, indent=1))
    verdict = judge(history, case.loss, scene.snapshot_revision)
    trouble += [*verdict.violations, *_lineage_trouble(case, lab, history, verdict.lost)]
    return _result(case, seed, trouble, verdict, len(generations(lab)) - 1)


def _all_is_well(scene: Scene, within_s: float) -> None:
    """The cluster is whole, every machine serves, and writes go on."""
    wait_whole(scene.lab, scene.size, within_s)
    scene.crowd.served_everywhere(within_s)
    scene.crowd.grows(60)


def _history(scene: Scene, trouble: list[str]) -> History:
    holdings = []
    try:
        hashes = _hashes(scene.lab)
        holdings = [
            holding(each.id, each.address, hashes[each.address], scene.lab.tls)
            for each in scene.lab.instances()
            if each.powered
        ]
    except (AssertionError, LabError) as error:
        trouble.append(f"the end cannot be told: {error}")
    return History(tuple(scene.crowd.writes), tuple(scene.crowd.reads), tuple(holdings))


def _hashes(lab: Lab) -> dict[str, int]:
    """Every member's HashKV at one revision that all have, by its address."""
    revision = wait_until(lambda: _common_revision(lab), 20, "all members at one revision, with nobody writing")
    said = lab.etcdctl("endpoint", "hashkv", f"--rev={revision}", "--write-out=json")
    assert said.returncode == 0, said.stderr
    return {_host(each["Endpoint"]): int(each["HashKV"]["hash"]) for each in json.loads(said.stdout)}


def _common_revision(lab: Lab) -> int:
    """0 while there is none."""
    revisions = {each.revision for each in statuses(lab).values()}
    return revisions.pop() if len(revisions) == 1 else 0


def _host(endpoint: str) -> str:
    return endpoint.partition("://")[2].rpartition(":")[0]


# ---- generations -----------------------------------------------------------------------------------------------------


def _lineage_trouble(case: Case, lab: Lab, history: History, lost: tuple[Write, ...]) -> Iterator[str]:
    """Only what has a birth certificate answered, as many were born as may be, and no disk held what is lost."""
    born = generations(lab)
    if born != list(range(1, len(born) + 1)):
        yield f"the generations are {born}"
    if (case.generation is Next.NEVER and len(born) > 1) or (case.generation is Next.MUST and len(born) == 1):
        yield f"new generation: {case.generation.value}; there are {born}"
    formed = set()
    for number in born:
        try:
            formed.add(int(document(lab, formed_key(number))["cluster_id"], 16))
        except lab.aws("s3").exceptions.NoSuchKey:
            yield f"generation {number} never formed"
    strangers = {each.lineage for each in history.answered} - formed
    if strangers:
        yield f"answered without a birth certificate: {strangers}"
    for number in born[1:]:
        yield from _held_by_the_survivor(case, lab, number, lost)


def _held_by_the_survivor(case: Case, lab: Lab, generation: int, lost: tuple[Write, ...]) -> Iterator[str]:
    """What the survivor's own disk held, from which a generation was made, must not be among the lost."""
    source = (document(lab, record_key(generation))["seed"] or {}).get("source", "")
    kind, _, instance = source.partition(" ")
    if kind != "survivor":
        if case.loss is Loss.BEST_DISK:
            yield f"generation {generation} was made of: {source}, although a disk was left"
        return
    on_disk = keys_on_disk(set_aside(lab.instance(instance), generation - 1))
    held = [each for each in lost if each.key in on_disk]
    if held:
        yield f"lost although the survivor's disk held them ({len(held)}): {held[:3]}"


def _result(case: Case, seed: int, trouble: list[str], verdict: Verdict, new_generations: int) -> Result:
    ends = [each.ended_s for each in verdict.lost]
    return Result(
        case=case,
        seed=seed,
        violations=tuple(trouble),
        acknowledged=verdict.acknowledged,
        lost=len(verdict.lost),
        lost_s=max(ends, default=0.0) - min(ends, default=0.0),
        unavailable_s=verdict.unavailable_s,
        new_generations=new_generations,
    )


def tell(result: Result) -> None:
    """One line for the terminal, and the reasons of a failure."""
    sys.stdout.write(
        f"{'ok  ' if result.passed else 'FAIL'} {result.case.name:<34} seed {result.seed:<6}"
        f" RTO {result.unavailable_s:5.1f} s  RPO {result.lost:4d} writes ({result.lost_s:4.1f} s)"
        f"  of {result.acknowledged:5d}  generations +{result.new_generations}  in {result.took_s:.0f} s\n"
    )
    for each in result.violations:
        sys.stdout.write(f"     {each[:2000]}\n")
    sys.stdout.flush()
