"""What people and machines are told: the commands, the pages, the metrics, the errors; and the README's own commands.

House rules: every command is the real one, in a process of its own, with a machine's own settings and environment;
whatever goes wrong, a person reads one clear line and never a traceback.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from agent.lab.client import Instance, Lab
from agent.lab.spec import LabSpec
from tests.lab.harness import agent_status, fetch, leader, member_list, metrics, voters, wait_until
from tests.lab.watching import SETTINGS, logged, wait_calm, well_kept_lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]
AGENT = (sys.executable, "-m", "agent.cli")


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory, etcd_binary: str) -> Iterator[Lab]:
    """Three voters and a spare: every kind of member there is."""
    spec = LabSpec(instances=4, etcd=etcd_binary, settings=SETTINGS)
    with well_kept_lab(spec, tmp_path_factory.mktemp("face") / "lab") as lab:
        wait_until(lambda: len(voters(lab) or ()) == 3 and spare_of(lab), 90, "three voters and a spare")
        yield lab


@pytest.fixture
def calm(four: Lab) -> Lab:
    """The same, at rest."""
    wait_calm(four)
    return four


def spare_of(lab: Lab) -> Instance | None:
    """The instance whose member is a started learner."""
    names = {member.name for member in member_list(lab) or () if member.is_learner}
    return next((each for each in lab.instances() if each.id in names), None)


Done = subprocess.CompletedProcess[str]


def run(*words: str | Path, env: dict[str, str] | None = None) -> Done:
    """A command to its end. Fails the test if it shows a traceback."""
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, env=env, timeout=60, cwd=ROOT
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done


def the_leader(lab: Lab) -> Instance:
    found = leader(lab)
    assert found is not None
    return found


def the_spare(lab: Lab) -> Instance:
    found = spare_of(lab)
    assert found is not None
    return found


def environment_of(instance: Instance) -> dict[str, str]:
    """What the agent on that machine was started with."""
    assert instance.agent_pid is not None
    variables = Path(f"/proc/{instance.agent_pid}/environ").read_text().split("\0")
    return dict(variable.split("=", 1) for variable in variables if variable)


def on(instance: Instance, *words: str) -> Done:
    """A command of the agent as its operator would type it on that machine."""
    return run(*AGENT, *words, "--config", instance.folder / "config.toml", env=environment_of(instance))


def one_line(done: Done, code: int = 1) -> str:
    """What a failed command says: one line on standard error and nothing else."""
    assert done.returncode == code, done
    assert done.stdout == "", done
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


# ---- plan, status, members ------------------------------------------------------------------------------------------


def test_plan_shows_evidence_rule_and_reason_and_changes_nothing(calm: Lab) -> None:
    since = calm.last_call()
    for instance in (the_leader(calm), the_spare(calm)):
        done = on(instance, "plan")
        assert done.returncode == 0, done.stderr
        assert re.search(r"^ +decision  Rest \(rule (rest|promote-myself)\)$", done.stdout, re.MULTILINE), done.stdout
        assert re.search(r"^ +because  \S", done.stdout, re.MULTILINE)
        assert re.search(r"^ +disk  ", done.stdout, re.MULTILINE)
    tasks = ("/snapshots/", "/drills/")  # of the agents beside them, which may be busy with their first
    writes = [
        call
        for call in calm.calls(since)
        if call["operation"].startswith(("Put", "Delete")) and not any(each in call["resource"] for each in tasks)
    ]
    assert not [call for call in writes if call["caller"] != "operator"], writes


def test_plan_as_json_is_the_whole_round(calm: Lab) -> None:
    asker = the_leader(calm)
    found = json.loads(on(asker, "plan", "--json").stdout)
    assert found["instance"] == asker.id
    assert found["decision"] == found["decided"]
    assert (found["decision"]["action"], found["decision"]["rule"]) == ("Rest", "rest")
    assert found["objections"] == []
    assert len(found["observation"]["membership"]["members"]) == 4


def test_plan_beside_a_terminated_member_says_what_it_would_do_and_does_not(calm: Lab) -> None:
    """The running agents are held, so that only `plan` looks."""
    asker = the_leader(calm)
    dead = next(each for each in calm.instances() if each.id != asker.id and each.id in (voters(calm) or ()))
    env, config = environment_of(asker), asker.folder / "config.toml"

    def planned() -> str:
        found = json.loads(run(*AGENT, "plan", "--json", "--config", config, env=env).stdout)
        return str(found["decision"]["action"])

    for each in calm.instances():
        calm.stop_agent(each.id)
    try:
        calm.terminate(dead.id)
        wait_until(lambda: planned() == "RemoveMember", 30, "plan says that it would remove the dead member")
        assert dead.id in {member.name for member in member_list(calm) or ()}
    finally:
        for each in calm.instances():
            if each.powered:
                calm.start_agent(each.id)
    wait_until(lambda: dead.id not in (voters(calm) or {dead.id}), 60, "the dead to be removed")
    wait_until(lambda: len(voters(calm) or ()) == 3 and spare_of(calm), 60, "three voters and a spare again")


def test_status_asks_the_agent_on_this_instance(calm: Lab) -> None:
    instance = calm.instances()[0]
    done = on(instance, "status")
    assert done.returncode == 0
    assert instance.id in done.stdout
    assert re.search(r"^ +decision  Rest", done.stdout, re.MULTILINE), done.stdout
    found = json.loads(on(instance, "status", "--json").stdout)
    assert found["instance"] == instance.id
    assert found["cluster"] == "lab"
    assert found["observation"]["local"]["version"].startswith("3.")


def test_members_lists_every_member_and_how_far_it_is(calm: Lab) -> None:
    spare = the_spare(calm)
    for instance in (the_leader(calm), spare):
        done = on(instance, "members", "--json")
        assert done.returncode == 0, done.stderr
        rows = {row["instance"]: row for row in json.loads(done.stdout)["members"]}
        assert set(rows) == {each.id for each in calm.instances()}
        assert sorted(row["state"] for row in rows.values()) == ["learner", "voter", "voter", "voter"]
        assert sorted(row["answers"] for row in rows.values()) == ["leader", "yes", "yes", "yes"]
        assert rows[spare.id]["state"] == "learner"
    table = on(calm.instances()[0], "members").stdout.splitlines()
    assert table[0].startswith("cluster ")
    assert len(table) == 2 + 4


def test_a_silent_member_is_shown_as_silent(calm: Lab) -> None:
    asker = the_leader(calm)
    away = next(each for each in calm.instances() if each.id != asker.id and each.id in (voters(calm) or ()))
    calm.freeze(away.id)
    try:
        rows = {row["instance"]: row["answers"] for row in json.loads(on(asker, "members", "--json").stdout)["members"]}
        assert rows[away.id] == "silent"
        assert "silent" in on(asker, "members").stdout
    finally:
        calm.thaw(away.id)


def test_status_without_an_agent_is_one_line(calm: Lab) -> None:
    instance = calm.instances()[0]
    env = environment_of(instance)
    calm.stop_agent(instance.id)
    try:
        wait_until(lambda: fetch(instance, "/livez") is None, 20, "the agent to stop")
        config = instance.folder / "config.toml"
        said = one_line(run(*AGENT, "status", "--config", config, env=env))
        assert "does not answer" in said
        assert "journalctl" in said
        assert run(*AGENT, "plan", "--config", config, env=env).returncode == 0, "plan needs no running agent"
    finally:
        calm.start_agent(instance.id)
        wait_until(lambda: fetch(instance, "/livez"), 20, "the agent to start")


@pytest.mark.parametrize("command", ["plan", "members"])
def test_commands_without_imds_are_one_line(command: str, calm: Lab) -> None:
    instance = calm.instances()[0]
    for fault in ("error", "refuse"):
        calm.imds_fault(instance.id, fault)
        try:
            assert "IMDS" in one_line(on(instance, command))
        finally:
            calm.imds_fault(instance.id, None)


def test_plan_with_aws_down_says_what_is_unknown(calm: Lab) -> None:
    asker = the_leader(calm)
    with calm.weather(status=403):
        done = on(asker, "plan")
        assert done.returncode == 0
        assert "unknown" in done.stdout
        assert "ec2:DescribeInstances" in done.stdout
        assert on(asker, "members").returncode == 0


# ---- the pages ------------------------------------------------------------------------------------------------------


def test_readyz_is_200_on_voters_and_503_on_a_learner(calm: Lab) -> None:
    spare = the_spare(calm)
    for instance in calm.instances():
        code, body = fetch(instance, "/readyz") or (0, "")
        assert code == (503 if instance.id == spare.id else 200), body
        assert ("our etcd is a learner" in body) == (instance.id == spare.id)
        assert (fetch(instance, "/livez") or (0, ""))[0] == 200


def test_without_quorum_readyz_is_503_and_the_commands_say_so(calm: Lab) -> None:
    """Two of three voters frozen: the third answers, and nobody vouches for what it says."""
    standing = the_leader(calm)
    frozen = [each for each in calm.instances() if each.id != standing.id and each.id in (voters(calm) or ())]
    for each in frozen:
        calm.freeze(each.id)
    try:
        wait_until(lambda: (fetch(standing, "/readyz") or (0, ""))[0] == 503, 30, "readyz to notice")
        assert (fetch(standing, "/livez") or (0, ""))[0] == 200
        assert "no quorum" in one_line(on(standing, "members"))
        plan = json.loads(on(standing, "plan", "--json").stdout)
        assert plan["decision"]["action"] == "Wait"
        assert plan["decision"]["details"]["blocker"] == "quorum"
        blocked = 'etcd_asg_agent_blocked{reason="quorum"}'
        wait_until(lambda: (metrics(standing) or {}).get(blocked) == 1, 20, "a metric says what it waits for")
        assert "quorum" in on(standing, "status").stdout
    finally:
        for each in frozen:
            calm.thaw(each.id)
    wait_until(lambda: (fetch(standing, "/readyz") or (0, ""))[0] == 200, 30, "readyz to recover")


def test_status_is_json_and_names_no_secret(calm: Lab) -> None:
    for instance in calm.instances():
        found = agent_status(instance)
        assert found is not None
        assert found["decision"]["action"] == "Rest"
        assert {"disk", "process", "local", "membership", "me"} <= set(found["observation"])
        assert not re.search(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b|SecretAccessKey", json.dumps(found))


class Checker(HTMLParser):
    """Every element that is opened is closed, and nothing is loaded from anywhere."""

    VOID = frozenset({"meta", "br", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not [value for name, value in attrs if name in ("src", "href") and "://" in (value or "")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_for_people_is_well_formed_and_says_what_the_agent_thinks(calm: Lab) -> None:
    instance = calm.instances()[0]
    code, page = fetch(instance, "/") or (0, "")
    assert code == 200
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert "script" not in checker.seen
    assert instance.id in page
    assert "ready" in page
    assert (fetch(instance, "/nothing") or (0, ""))[0] == 404


def test_metrics_say_who_how_many_and_how_it_is(calm: Lab) -> None:
    asker, spare = the_leader(calm), the_spare(calm)
    wait_until(lambda: (metrics(asker) or {}).get("etcd_asg_agent_leader") == 1, 20, "its agent knows that it leads")
    found = metrics(asker) or {}
    assert found["etcd_asg_agent_generation"] == 1
    assert found["etcd_asg_agent_member"] == found["etcd_asg_agent_leader"] == found["etcd_asg_agent_has_leader"] == 1
    assert found["etcd_asg_agent_learner"] == 0
    assert found["etcd_asg_agent_quorum_margin"] == 1
    assert found['etcd_asg_agent_members{state="voter"}'] == 3
    assert found['etcd_asg_agent_members{state="learner"}'] == 1
    assert found['etcd_asg_agent_members{state="unreachable"}'] == 0
    assert found['etcd_asg_agent_decision{rule="rest"}'] == 1
    assert found["etcd_asg_agent_needs_human"] == 0
    assert found['etcd_asg_agent_aws_requests_total{operation="DescribeInstances",result="ok",service="ec2"}'] > 0
    assert abs(found["etcd_asg_agent_last_successful_loop_timestamp_seconds"] - time.time()) < 30
    assert (metrics(spare) or {})["etcd_asg_agent_learner"] == 1
    identity = [name for name in found if name.startswith("etcd_asg_agent_identity_info")]
    assert len(identity) == 1
    assert f'instance="{asker.id}"' in identity[0]


def test_every_metric_that_the_readme_alerts_on_exists(calm: Lab) -> None:
    named = set(re.findall(r"etcd_asg_agent_[a-z_]+", (ROOT / "README.md").read_text()))
    assert named
    there = {name.partition("{")[0] for name in metrics(calm.instances()[0]) or {}}
    assert named <= there


# ---- what the setup lacks -------------------------------------------------------------------------------------------


MISTAKES = {
    "cluster.name": ("Prod!", "lower-case"),
    "storage.bucket": ("s3://acme", "bucket"),
    "storage.prefix": ("/etcd/", "slash"),
    "etcd.client_port": ("99999", "65535"),
    "etcd.supervisor": ("docker", "systemd"),
    "timing.loop_interval": ("3", "s"),
    "timing.join_timeout": ("1ms", "10s"),
    "tls.mode": ("acme", "files"),
    "http.listen": ("nowhere", "9379"),
    "log.level": ("loud", "debug"),
}


def test_config_check_tells_every_mistake_at_once(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    sets = [word for key, (value, _) in MISTAKES.items() for word in ("--set", f"{key}={value}")]
    done = run(*AGENT, "config", "check", "--config", config, *sets)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = {line.split(" ")[0]: line for line in done.stderr.splitlines()}
    assert set(lines) == set(MISTAKES)
    for key, (value, expected) in MISTAKES.items():
        assert value.split(":")[0] in lines[key]
        assert expected in lines[key].partition("expected")[2], lines[key]
    done = run(*AGENT, "config", "check", "--json", "--config", config, *sets)
    assert done.returncode == 2
    found = json.loads(done.stdout)
    assert found["ok"] is False
    assert {problem["key"] for problem in found["problems"]} == set(MISTAKES)
    assert all(problem["got"] and problem["expected"] and problem["source"] for problem in found["problems"])


BROKEN_FILES = {
    "no TOML": b"[cluster\nname=",
    "no UTF-8": b"\xff\xfe\x00",
    "unknown keys": b'[cluster]\nname="a"\nnmae="b"\n[storage]\nbucket="abc"\n[etdc]\nbinary="x"\n',
    "wrong shapes": b"cluster = 3\nstorage = []\n[timing]\nloop_interval = {}\n",
    "empty": b"",
}


@pytest.mark.parametrize("command", ["run", "config check"])
def test_no_settings_file_however_broken_shows_a_traceback(command: str, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    for name, content in BROKEN_FILES.items():
        config.write_bytes(content)
        done = run(*AGENT, *command.split(), "--config", config)
        assert done.returncode == 2, (name, done)
        assert "expected" in done.stderr, (name, done)
    for path in (tmp_path / "missing.toml", tmp_path):
        done = run(*AGENT, *command.split(), "--config", path)
        assert done.returncode == 2
        assert str(path) in done.stderr


@pytest.mark.parametrize("command", ["plan", "status", "members", "config show"])
def test_every_command_refuses_wrong_settings_alike(command: str, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_bytes(BROKEN_FILES["unknown keys"])
    done = run(*AGENT, *command.split(), "--config", config)
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.split(" ")[0] for line in done.stderr.splitlines()] == ["cluster.nmae", "etdc"]


def test_config_show_and_example_are_settings_again(calm: Lab, tmp_path: Path) -> None:
    instance = calm.instances()[0]
    shown = on(instance, "config", "show")
    assert shown.returncode == 0
    found = json.loads(on(instance, "config", "show", "--json").stdout)
    assert found["cluster.name"]["value"] == "lab"
    example = tmp_path / "example.toml"
    example.write_text(run(*AGENT, "config", "example").stdout)
    assert run(*AGENT, "config", "check", "--config", example).returncode == 0


LACKING = {
    "s3:PutObject": {"service": "s3", "operation": "PutObject"},
    "s3:GetObject": {"service": "s3", "operation": "GetObject"},
    "s3:ListBucket": {"service": "s3", "operation": "ListObjectsV2"},
    "s3:GetLifecycleConfiguration": {"service": "s3", "operation": "GetBucketLifecycleConfiguration"},
    "ec2:DescribeInstances": {"service": "ec2"},
    "autoscaling:DescribeAutoScalingGroups": {"service": "autoscaling"},
}
OBJECTS_ARN = "arn:aws:s3:::etcd-lab/etcd/lab/"
WANTED = {
    "s3:PutObject": [("WriteOnce", f"{OBJECTS_ARN}probe.json"), ("WriteReports", f"{OBJECTS_ARN}assembly/*")],
    "s3:GetObject": [("ReadObjects", f"{OBJECTS_ARN}*")],
    "s3:ListBucket": [("ListObjects", "arn:aws:s3:::etcd-lab")],
    "s3:GetLifecycleConfiguration": [("ReadLifecycleRules", "arn:aws:s3:::etcd-lab")],
    "ec2:DescribeInstances": [("SeeInstances", "*")],
    "autoscaling:DescribeAutoScalingGroups": [("SeeGroups", "*")],
}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, etcd_binary: str) -> Iterator[Lab]:
    """One instance that has not formed anything yet: nothing it may do is allowed."""
    spec = LabSpec(instances=0, etcd=etcd_binary, settings=SETTINGS).with_pace(boot_s=0.2, agent_restart_s=0.2)
    with well_kept_lab(spec, tmp_path_factory.mktemp("fresh") / "lab") as lab:
        lab.fault(service="s3", status=403)
        lab.scale(1)
        lab.wait_agents(1)
        yield lab


@pytest.mark.parametrize("action", LACKING)
def test_a_missing_permission_is_one_line_with_the_statement_to_add(action: str, fresh: Lab) -> None:
    instance = fresh.instances()[0]
    fresh.clear_faults()
    fresh.fault(status=403, **LACKING[action])
    start = len(logged(instance))
    fresh.wipe(instance.id)

    said = wait_until(lambda: told(instance, start, f"{action} on"), 30, f"a line in the log about {action}")[0]
    found = re.search(r"was denied: add (\{.*?\}) to the instance role", said)
    assert found is not None, said
    statement = json.loads(found[1])
    assert statement in [
        {"Sid": sid, "Effect": "Allow", "Action": action, "Resource": on} for sid, on in WANTED[action]
    ]


def told(instance: Instance, start: int, about: str) -> list[str]:
    """What the log's warnings and errors after a line say about something."""
    lines = [line for line in logged(instance)[start:] if line["level"] in ("warning", "error")]
    facts = [str(line.get("because") or line.get("detail") or "") for line in lines]
    return [said for said in facts if about in said]


def test_a_missing_bucket_is_one_line_that_names_it(fresh: Lab) -> None:
    instance = fresh.instances()[0]
    fresh.clear_faults()
    fresh.change(settings={**SETTINGS, "storage": {"bucket": "no-such-bucket"}})
    start = len(logged(instance))
    try:
        fresh.wipe(instance.id)
        said = wait_until(
            lambda: told(instance, start, "there is no such bucket"), 30, "a line in the log about the bucket"
        )[0]
        assert "s3:PutObject on s3://no-such-bucket/" in said
        assert "storage.bucket" in said
    finally:
        fresh.change(settings=SETTINGS)


def test_wrong_settings_on_an_instance_end_the_agent_with_2_and_one_line_each(fresh: Lab) -> None:
    instance = fresh.instances()[0]
    fresh.clear_faults()
    fresh.change(settings={**SETTINGS, "etcd": {"client_port": 0}, "log": {"level": "loud"}})
    try:
        size = instance.log.stat().st_size
        fresh.wipe(instance.id)
        wait_until(lambda: fresh.instance(instance.id).agent_exit == 2, 20, "the agent to refuse its settings")
        said = instance.log.read_bytes()[size:].decode().splitlines()
        assert [line.split(" ")[0] for line in said] == ["etcd.client_port", "log.level"]
    finally:
        fresh.change(settings=SETTINGS)


# ---- the lab's own command line -------------------------------------------------------------------------------------


@pytest.fixture
def typed(tmp_path: Path, etcd_binary: str) -> Iterator[Path]:
    """A folder for a lab that is brought up by hand, and taken down whatever happens."""
    folder = tmp_path / "typed"
    yield folder
    run(*AGENT, "lab", "down", "--state-dir", folder)


def lab_command(folder: Path, verb: str, *words: str) -> Done:
    return run(*AGENT, "lab", verb, "--state-dir", folder, *words)


@pytest.mark.long
def test_the_lab_says_in_one_line_what_cannot_be_done(typed: Path, etcd_binary: str, tmp_path: Path) -> None:
    """No lab, twice up, unknown and ambiguous IDs, nonsense: one story, because a lab takes its time."""
    for words in ("status", "terminate i-1", "scale 3", "logs i-1", "etcdctl"):
        assert "no lab is up" in one_line(lab_command(typed, *words.split()))
    done = lab_command(typed, "down")
    assert (done.returncode, done.stdout.splitlines()) == (0, [f"no lab was up in {typed}"])
    assert "etcd" in one_line(lab_command(typed, "up", "--etcd", str(tmp_path / "nowhere")))
    assert "--instances" in one_line(lab_command(typed, "up", "--instances", "99", "--etcd", etcd_binary))
    assert "--asgs" in one_line(lab_command(typed, "up", "--asgs", "9", "--etcd", etcd_binary))
    assert "--set" in one_line(lab_command(typed, "up", "--set", "nonsense", "--etcd", etcd_binary))
    file = tmp_path / "file"
    file.write_text("")
    assert str(file) in one_line(lab_command(file / "below", "up", "--etcd", etcd_binary))
    assert not typed.exists(), "what did not come up left something behind"

    up = lab_command(typed, "up", "--instances", "2", "--etcd", etcd_binary)
    assert up.returncode == 0, up.stderr
    assert "already up" in one_line(lab_command(typed, "up", "--etcd", etcd_binary))
    ids = [line.split()[0] for line in up.stdout.splitlines() if line.startswith("i-")]
    assert len(ids) == 2
    for verb in ["terminate", "start", "kill-etcd", "reboot", "logs"]:
        said = one_line(lab_command(typed, verb, "i-nobody"))
        assert all(word in said for word in ("i-nobody", *ids)), said
        said = one_line(lab_command(typed, verb, "i-"))
        assert all(word in said for word in ("could be", *ids)), said
    assert "above max" in one_line(lab_command(typed, "scale", "99"))
    assert one_line(lab_command(typed, "scale", "-1"))
    assert lab_command(typed, "scale", "many").returncode == 2
    assert lab_command(typed, "logs", ids[0], "-n", "-3").returncode == 2
    assert lab_command(typed, "terminate", ids[0]).stdout == f"terminated {ids[0]}\n"
    assert "terminated" in one_line(lab_command(typed, "terminate", ids[0]))
    assert one_line(lab_command(typed, "kill-agent", ids[0]))
    status = lab_command(typed, "status")
    assert status.returncode == 0
    assert ids[0] not in status.stdout
    assert json.loads(lab_command(typed, "status", "--json").stdout)["cluster"] == "lab"
    assert lab_command(typed, "down").stdout == "the lab is down\n"
    assert not typed.exists()
    assert lab_command(typed, "down").stdout == f"no lab was up in {typed}\n"


def test_a_lab_that_died_says_so_and_down_cleans_up(typed: Path, etcd_binary: str) -> None:
    assert lab_command(typed, "up", "--instances", "1", "--etcd", etcd_binary).returncode == 0
    os.kill(json.loads((typed / "lab.json").read_text())["pid"], 9)
    wait_until(lambda: "died" in lab_command(typed, "status").stderr, 10, "the lab is known to be dead")
    assert "down" in one_line(lab_command(typed, "status"))
    assert "down" in one_line(lab_command(typed, "up", "--etcd", etcd_binary))
    assert lab_command(typed, "down").stdout == "the lab is down\n"
    assert not typed.exists()


@pytest.mark.root
def test_down_leaves_alone_the_firewall_of_the_lab_that_took_the_dead_ones_block(fresh: Lab, tmp_path: Path) -> None:
    """A block is free as soon as its lab has died, and the next lab may have it before anybody cleans up."""
    if fresh.status()["cannot_isolate"]:
        pytest.skip(fresh.status()["cannot_isolate"])
    dead = json.loads((fresh.folder / "lab.json").read_text()) | {"pid": 0x7FFFFFFF}
    (tmp_path / "lab.json").write_text(json.dumps(dead))
    assert lab_command(tmp_path, "down").stdout == "the lab is down\n"
    instance = fresh.instances()[0]
    fresh.isolate(instance.id)
    fresh.heal(instance.id)


# ---- the README -----------------------------------------------------------------------------------------------------


def readme_commands(after: str) -> list[str]:
    """The lines of the first block of shell commands after a sentence of the README."""
    text = (ROOT / "README.md").read_text()
    block = text[text.index(after) :].partition("```sh\n")[2].partition("```")[0]
    return [line.partition("  #")[0].strip() for line in block.splitlines() if line.strip()]


def test_the_commands_of_the_readme_work_as_they_are_typed(tmp_path: Path, etcd_binary: str) -> None:
    commands = readme_commands("To play with it yourself")
    assert commands[0] == "make setup etcd"
    assert commands[-1].endswith("lab down")
    home = {"XDG_STATE_HOME": str(tmp_path), "PATH": f"{Path(etcd_binary).parent}:{os.environ['PATH']}"}
    if shutil.which("make"):
        assert run("make", "-n", "setup", "etcd").returncode == 0
    said: dict[str, str] = {}
    try:
        for command in commands[1:]:
            words = typed_words(command, said.get("status", ""))
            done = wait_done(words, os.environ | home)
            said[words[len(AGENT) + 1]] = done.stdout
    finally:
        run(*AGENT, "lab", "down", env=os.environ | home)
    assert list(tmp_path.iterdir()) == []
    assert said["etcdctl"] == "OK\n"
    assert said["terminate"].startswith("terminated i-")


def typed_words(command: str, status: str) -> list[str]:
    """What a person types: their own ID where the README has an example of one."""
    words = shlex.split(command)
    assert words[0] == ".venv/bin/etcd-asg-agent"
    ids = [line.split()[0] for line in status.splitlines() if line.startswith("i-")]
    return [*AGENT, *(ids[0] if re.fullmatch(r"i-[0-9a-f]*", word) else word for word in words[1:])]


def wait_done(words: Sequence[str], env: dict[str, str]) -> Done:
    """A person tries again when the cluster has not formed yet."""
    results: list[Done] = []

    def succeeded() -> bool:
        results.append(run(*words, env=env))
        return results[-1].returncode == 0

    wait_until(succeeded, 40, shlex.join(words))
    return results[-1]


def test_help_is_there_for_every_command() -> None:
    for command in ("", "run", "plan", "status", "members", "config", "config check", "lab", "lab up", "lab demo"):
        done = run(*AGENT, *command.split(), "--help")
        assert done.returncode == 0
        assert done.stdout.startswith("usage: etcd-asg-agent")
    assert run(*AGENT).returncode == 2
    assert run(*AGENT, "fly").returncode == 2
    assert re.fullmatch(r"etcd-asg-agent \d+\.\d+\.\d+\S*\n", run(*AGENT, "--version").stdout)
