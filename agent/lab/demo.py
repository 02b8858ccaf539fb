"""`lab demo`: the agent's main job, told as a timeline with measured times; nothing is left behind.

The story: three instances form a cluster; a writer writes all the time; the leader's instance is terminated; its
replacement joins as a learner and is promoted, the dead member leaves the list; two more instances join; then the
majority is terminated for good, and what is left becomes the next generation. Every acknowledged write must be there,
but for those that only the dead had, of which the survivors' own files tell.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from agent.lab import members
from agent.lab.client import Instance, Lab
from agent.lab.ledger import Ledger
from agent.lab.spec import LabError, LabSpec

PATIENCE_S = 60.0
GRACE_S = 5
IMPATIENT = {"timing": {"leaderless_grace": f"{GRACE_S}s", "report_interval": "1s", "report_max_age": "5s"}}
"""A loss is called one after 5 s without a leader; by default after 30 s. The story says so."""

KEY = re.compile(rb"ledger/\d{8}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lab demo` can be told."""
    parser.add_argument("--etcd", default=None, metavar="PATH", help="the etcd binary (default: on PATH, or fetched)")
    parser.add_argument("--keep", action="store_true", help="leave the lab up afterwards, to look around")


def main(args: argparse.Namespace) -> int:
    """Tell the story; exit code 0 if it ended as it should."""
    etcd = args.etcd or find_etcd()
    spec = LabSpec(instances=3, etcd=etcd, settings=IMPATIENT, leaves_nothing=not args.keep)
    folder = Path(tempfile.mkdtemp(prefix="etcd-asg-agent-demo-"))
    story = Story()
    try:
        lab = Lab.start(spec, folder, lifeline=not args.keep)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    try:
        story.tell(f"an emulated AWS is up at {lab.endpoint}; an Auto Scaling group launches three instances")
        lost = play(lab, story)
    finally:
        if args.keep:
            print(f"\nThe lab stays up: etcd-asg-agent lab status --state-dir {folder}")
        else:
            lab.down()
            shutil.rmtree(folder, ignore_errors=True)
    if not args.keep:
        story.tell("the lab is down; no process and no file is left")
    return 1 if lost else 0


def find_etcd(folder: Path = Path(".cache/etcd")) -> str:
    """etcd on PATH, else the newest that `make etcd` fetched."""
    found = shutil.which("etcd")
    if found is not None:
        return found
    fetched = sorted(folder.glob("*/etcd"), key=lambda path: [int(part) for part in path.parent.name.split(".")])
    if not fetched:
        raise LabError("there is no etcd: run `make etcd`, install it, or pass --etcd PATH")
    return str(fetched[-1].resolve())


class Story:
    """A line for each thing that happened, with the seconds since the beginning and since the cause."""

    def __init__(self) -> None:
        self._began = self._cause = time.monotonic()

    def tell(self, what: str, *, measured: bool = False) -> None:
        """Print one line; `measured` adds the time since the last cause."""
        now = time.monotonic()
        took = f"{now - self._cause:+7.2f} s" if measured else " " * 9
        print(f"{now - self._began:7.2f} s  {took}  {what}", flush=True)

    def cause(self, what: str) -> None:
        """Something is done to the cluster: the clock for what follows starts here."""
        self._cause = time.monotonic()
        self.tell(what)


def play(lab: Lab, story: Story) -> int:
    """The four acts; returns how many acknowledged writes were lost that need not have been."""
    _form(lab, story)
    with Ledger(lab.addresses) as ledger:
        _lose_the_leader(lab, story)
        gap = ledger.longest_gap_s()
        _grow(lab, story)
        written = len(ledger.acknowledged)
        missing = ledger.missing(_a_voter(lab).address)
        story.tell(f"{written} writes were acknowledged meanwhile, {len(missing)} of them are missing")
        story.tell(f"the longest time without an acknowledged write was {gap:.2f} s, when the leader's power went")
        survivor = _lose_the_majority(lab, story, ledger)
    return len(missing) + _account(lab, story, ledger, survivor)


def _form(lab: Lab, story: Story) -> None:
    lab.wait_agents(3, PATIENCE_S)
    story.cause("three agents are running, each on an empty disk")
    lab.wait_for("three voters with a leader", lambda lab: len(_voters(lab)) == 3, PATIENCE_S)
    revision = members.put(_a_voter(lab).address, "hello", "world")
    if revision is None:
        raise LabError("the cluster formed, and does not take a write")
    story.tell(f"one cluster of three voters; the first write is revision {revision}", measured=True)


def _lose_the_leader(lab: Lab, story: Story) -> None:
    before = {instance.id for instance in lab.instances()}
    dead = next(each for each in lab.instances() if _role(each) == "leader")
    story.cause(f"EC2 terminates {dead.id}, where the raft leader is")
    lab.terminate(dead.id)
    lab.wait_for("the dead member to leave the list", lambda lab: dead.id not in _names(lab), PATIENCE_S)
    story.tell("its member is removed: EC2 said terminated, and the other two keep a quorum", measured=True)
    new = _newcomer(lab, before)
    story.tell(f"the group launched {new.id}, and its agent started", measured=True)
    _joined(lab, story, new)


def _grow(lab: Lab, story: Story) -> None:
    before = {instance.id for instance in lab.instances()}
    story.cause("the group is scaled to five")
    lab.scale(5)
    for number in (4, 5):
        lab.wait_for(f"{number} voters", lambda lab, number=number: len(_voters(lab)) >= number, PATIENCE_S)  # type: ignore[misc]
        joined = sorted(_voters(lab) - before)
        before |= set(joined)
        story.tell(f"{', '.join(joined)} joined as learner and is a voter: {number} voters", measured=True)


def _lose_the_majority(lab: Lab, story: Story, ledger: Ledger) -> Instance:
    """Returns the instance whose disk the next generation was made of."""
    voters = [each for each in lab.instances() if each.id in _voters(lab)]
    dead = sorted(voters, key=lambda each: _role(each) != "leader")[: len(voters) // 2 + 1]
    names = ", ".join(each.id for each in dead)
    story.cause(f"EC2 terminates {names} at once, the leader among them: no quorum is left, and none can come back")
    began = time.monotonic()
    lab.aws("ec2").terminate_instances(InstanceIds=[each.id for each in dead])
    story.tell(f"(agents call it a loss after {GRACE_S} s without a leader here, and after 30 s by default)")
    before = {each.id for each in lab.instances()}
    lab.wait_for("the replacements' agents", lambda lab: _agents(lab, before) >= len(dead), PATIENCE_S)
    story.tell(f"the group launched {len(dead)} others; their agents report that they have nothing", measured=True)
    lab.wait_for("the record of generation 2", lambda lab: _record(lab) is not None, PATIENCE_S)
    record = _record(lab)
    assert record is not None
    survivor = lab.instance(record["seed"]["source"].removeprefix("survivor "))
    story.tell(f"proven lost: everybody alive was heard, EC2 called {len(dead)} of 5 terminated", measured=True)
    story.tell(f"the log of {survivor.id}, the best that is left, is a verified snapshot in the bucket", measured=True)
    story.tell(f"generation 2 is written down: {len(record['founders'])} founders restore it", measured=True)
    mended = len(ledger.acknowledged)
    lab.wait_for("a write", lambda _: len(ledger.acknowledged) > mended, PATIENCE_S)
    story.tell("the first write is acknowledged again", measured=True)
    lab.wait_for("five voters", lambda lab: len(_voters(lab)) == 5, PATIENCE_S)
    story.tell("generation 2 has five voters", measured=True)
    story.tell(f"the longest time without an acknowledged write was {ledger.longest_gap_s(began):.2f} s")
    return survivor


def _account(lab: Lab, story: Story, ledger: Ledger, survivor: Instance) -> int:
    """How many acknowledged writes are missing although the survivor's own files hold them."""
    held = _keys_on_disk(survivor)
    missing = set(ledger.missing(_a_voter(lab).address))
    lost = missing & held
    story.tell(
        f"{len(ledger.acknowledged)} writes were acknowledged in all, {len(missing - held)} of them only the dead had; "
        f"of those that {survivor.id} had, {len(lost)} are missing"
    )
    return len(lost)


def _keys_on_disk(survivor: Instance) -> set[str]:
    """The ledger's keys in what it set aside, searched byte by byte in its log and its database."""
    kept = [path for path in (survivor.disk / "quarantine").rglob("*") if path.suffix == ".wal" or path.name == "db"]
    return {key.decode() for path in kept for key in KEY.findall(path.read_bytes())}


def _agents(lab: Lab, before: set[str]) -> int:
    return sum(each.id not in before and each.agent_starts > 0 for each in lab.instances())


def _record(lab: Lab) -> dict[str, Any] | None:
    """The birth certificate of generation 2, once it is in the bucket."""
    state, s3 = lab.status(), lab.aws("s3")
    key = f"{state['prefix']}/{state['cluster']}/generations/000002.json"
    if not s3.list_objects_v2(Bucket=state["bucket"], Prefix=key).get("Contents"):
        return None
    found: dict[str, Any] = json.loads(s3.get_object(Bucket=state["bucket"], Key=key)["Body"].read())
    return found


def _joined(lab: Lab, story: Story, new: Instance) -> None:
    lab.wait_for(f"{new.id} to be in the list", lambda lab: new.id in _names(lab) or _learning(lab), PATIENCE_S)
    story.tell(f"{new.id} is added as a learner", measured=True)
    lab.wait_for(f"{new.id} to be a voter", lambda lab: new.id in _voters(lab), PATIENCE_S)
    story.tell(f"{new.id} is in sync and promoted: three voters again", measured=True)


# ---- looking at it from outside, over etcd's own API --------------------------------------------------------------


def _role(instance: Instance) -> str:
    status = members.status(instance.address, 1.0) if instance.etcd_pids else None
    return "" if status is None else status.role


def _a_voter(lab: Lab) -> Instance:
    """An instance whose member answers as a voter with a leader."""
    for instance in lab.instances():
        if _role(instance) in ("leader", "voter"):
            return instance
    raise LabError("no voter answers")


def _list(lab: Lab) -> tuple[members.Member, ...]:
    try:
        return members.member_list(_a_voter(lab).address) or ()
    except LabError:
        return ()


def _names(lab: Lab) -> set[str]:
    """The members' names; every name there is, where nobody answers."""
    found = _list(lab)
    return {member.name for member in found} if found else {instance.id for instance in lab.instances(all=True)}


def _learning(lab: Lab) -> bool:
    return any(member.is_learner for member in _list(lab))


def _voters(lab: Lab) -> set[str]:
    """Started voters in the list of somebody who sees a leader."""
    return {member.name for member in _list(lab) if member.started and not member.is_learner}


def _newcomer(lab: Lab, before: set[str]) -> Instance:
    lab.wait_for(
        "the replacement's agent to start",
        lambda lab: any(each.id not in before and each.agent_starts for each in lab.instances()),
        PATIENCE_S,
    )
    return next(each for each in lab.instances() if each.id not in before)


if __name__ == "__main__":
    sys.exit("run `etcd-asg-agent lab demo`")
