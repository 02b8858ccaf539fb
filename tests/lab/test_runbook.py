"""The operator's pages, typed: each block of commands that is not marked as one that could not run, on real etcd.

House rules: a block is run as it stands, by a shell, on a machine of the fleet; only its examples (an instance, an
address, a path, a snapshot) are exchanged for what there is. `recover` is asked with --dry-run, or it would replace a
cluster that serves (tests/lab/test_by_hand.py lets it).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.lab.client import Instance, Lab
from agent.lab.spec import LabSpec
from tests.lab.harness import fetch, member_list, wait_until, wait_whole
from tests.lab.shelf import Shelf
from tests.lab.test_face import environment_of, the_leader
from tests.lab.watching import SETTINGS, wait_calm, well_kept_lab
from tests.pages import OPERATORS, Block, blocks

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(400)]

REFUSED = {
    "recover --dry-run": "no instance reports data",
    "recover --exclude": "there is nothing to recover",
    "tls status": "there is an authority of the cluster's own only with",  # tests/lab/test_own_authority.py asks one
}
"""What a command says of a cluster that lacks nothing, and has no TLS."""


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, etcd_binary: str) -> Iterator[Lab]:
    settings = {**SETTINGS, "snapshots": {"interval": "10s", "drill_interval": "0s"}}
    with well_kept_lab(
        LabSpec(instances=3, etcd=etcd_binary, settings=settings), tmp_path_factory.mktemp("docs") / "lab"
    ) as lab:
        wait_whole(lab, 3)
        yield lab


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory, etcd_binary: str) -> Path:
    """What an instance has on its PATH."""
    folder = tmp_path_factory.mktemp("bin")
    agent = folder / "etcd-asg-agent"
    agent.write_text(f'#!/bin/sh\nexec {sys.executable} -m agent.cli "$@"\n')
    agent.chmod(0o755)
    for tool in ("etcd", "etcdctl", "etcdutl"):
        if (there := Path(etcd_binary).parent / tool).exists():
            (folder / tool).symlink_to(there)
    return folder


@pytest.mark.parametrize("page", OPERATORS, ids=lambda page: page.name)
def test_every_block_of_an_operators_page_is_typed(three: Lab, tools: Path, page: Path) -> None:
    """One after another, as an operator would who reads all of it. A block that comes too early is tried again."""
    three.etcdctl("put", "/no-longer-needed/one", page.name)
    wait_until(lambda: Shelf(three).sound(), 60, "a snapshot")
    wait_calm(three)
    backup(three, tools / "etcdctl")
    for each in three.instances():
        (each.disk / "quarantine").mkdir(exist_ok=True)  # as after an earlier life; an operator looks into it
    here = [block for block in blocks(page) if not block.why_not and not block.with_systemd]
    assert here
    for block in here:
        wait_typed(three, tools, block)
    wait_typed(three, tools, Block("the end", 1, "etcd-asg-agent hold off\n"))


def wait_typed(lab: Lab, tools: Path, block: Block) -> None:
    """Until it works, or says what a command of its may say of a cluster that lacks nothing."""
    tries: list[str] = []

    def works() -> bool:
        code, said = typed_on(lab, the_leader(lab), tools, block)
        assert "Traceback" not in said, said
        tries.append(said)
        return code == 0 or any(word in block.script and answer in said for word, answer in REFUSED.items())

    try:
        wait_until(works, 40, str(block), every_s=1.0)
    except AssertionError as failed:
        raise AssertionError(f"{block}:\n{block.script}\n{tries[-1:]}") from failed


def typed_on(lab: Lab, instance: Instance, tools: Path, block: Block) -> tuple[int, str]:
    """Its exit code, and all that it said."""
    script = block.script
    for example, real in (
        ("localhost:9379", f"{instance.address}:9379"),
        ("/var/lib/etcd", str(instance.disk)),
        ("i-0abc123", instance.id),
        ("/etc/etcd-asg-agent/config.toml", str(instance.folder / "config.toml")),
    ):
        script = script.replace(example, real)
    script = re.sub(r"snapshots/\d+/\d+-\w+", lambda _: Shelf(lab).newest().name.manifest_key, script)
    script = re.sub(r"agent recover (?!.*--dry-run)", "agent recover --dry-run ", script)
    script = re.sub(
        r"^(etcd-asg-agent \S+(?: \S+)*?)(?=\s*(?:#|$))", with_settings(instance), script, flags=re.MULTILINE
    )
    env = environment_of(instance) | {
        "PATH": f"{tools}:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": os.environ.get("PYTHONPATH", str(Path(__file__).parents[2])),
        "ETCDCTL_ENDPOINTS": f"http://{instance.address}:2379",
        "ETCDCTL_API": "3",
    }
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        env=env, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def stop_agent(lab: Lab, instance: Instance) -> None:
    """As `systemctl stop` does: until it has ended."""
    lab.stop_agent(instance.id)
    wait_until(lambda: lab.instance(instance.id).agent_pid is None, 20, "the agent has ended")


def with_settings(instance: Instance) -> str:
    return rf"\1 --config {instance.folder / 'config.toml'}"


def backup(lab: Lab, etcdctl: Path) -> None:
    """The file in a drawer that docs/recovery.md imports."""
    one = lab.instances()[0]
    file = one.folder / "backup.db"
    words = [str(etcdctl), f"--endpoints=http://{one.address}:2379", "snapshot", "save", str(file)]
    subprocess.run(words, check=True, capture_output=True, timeout=30)
    s3 = lab.aws("s3")
    if not any(each["Name"] == "backups" for each in s3.list_buckets()["Buckets"]):
        s3.create_bucket(Bucket="backups", CreateBucketConfiguration={"LocationConstraint": s3.meta.region_name})
    s3.put_object(Bucket="backups", Key="prod/2026-11-22.db", Body=file.read_bytes())


def test_an_instance_that_is_started_anew_joins_as_a_new_member(three: Lab) -> None:
    """The steps of docs/operate.md, `Start an instance anew`: stop both, move the data aside, start the agent."""
    wait_calm(three)
    leader = the_leader(three)
    chosen = next(each for each in three.instances() if each.id != leader.id)
    before = {each.name: each.id for each in member_list(three) or ()}
    stop_agent(three, chosen)
    three.kill_etcd(chosen.id)
    aside = chosen.disk / "quarantine" / "by-hand"
    aside.mkdir(parents=True)
    for name in ("data", "identity.json"):
        (chosen.disk / name).rename(aside / name)
    three.start_agent(chosen.id)

    def is_another() -> bool:
        after = {each.name: each for each in member_list(three) or ()}
        entry = after.get(chosen.id)
        return entry is not None and entry.id != before[chosen.id] and not entry.is_learner

    wait_until(is_another, 60, f"{chosen.id} votes as another member")
    wait_whole(three, 3)
    assert (aside / "data" / "member").is_dir(), "nothing was deleted"


def test_status_and_the_page_name_the_entry(three: Lab, tools: Path) -> None:
    """Of an instance whose etcd belongs to a cluster of another name."""
    chosen = next(each for each in three.instances() if each.id != the_leader(three).id)
    identity = chosen.disk / "identity.json"
    text = identity.read_text()
    assert '"lab"' in text or "lab" in text
    stop_agent(three, chosen)
    identity.write_text(re.sub(r'("cluster": *)"[^"]*"', r'\1"another"', text))
    three.start_agent(chosen.id)
    try:
        wait_until(
            lambda: "docs/operate.md#foreign-cluster" in (fetch(chosen, "/status") or (0, ""))[1],
            30,
            "a call for a human",
        )
        said = typed_on(
            three, three.instance(chosen.id), tools, Block("here", 1, "etcd-asg-agent status\netcd-asg-agent plan\n")
        )[1]
        assert said.count("runbook  docs/operate.md#foreign-cluster") == 2, said
        assert "docs/operate.md#foreign-cluster" in (fetch(chosen, "/") or (0, ""))[1]
        assert 'needs_human_reason{reason="foreign-cluster"} 1.0' in (fetch(chosen, "/metrics") or (0, ""))[1]
        assert "docs/operate.md#foreign-cluster" in chosen.log.read_text()
    finally:
        stop_agent(three, chosen)
        identity.write_text(text)
        three.start_agent(chosen.id)
