"""The role's policy is enough and not too much: everything passes with what `iam-policy` prints, and without any one
statement of it something does not, in one line that names it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from agent.lab.client import Lab
from agent.lab.spec import ROLE
from agent.world.permissions import NEEDS, Only
from tests.lab.conftest import MakeLab
from tests.lab.harness import Writer, stays, wait_until, wait_whole
from tests.lab.losing import PACE, QUICK, keys, on_machine, wait_snapshot
from tests.lab.test_healing import a_follower, heals, kill_etcd, spoil_log
from tests.lab.test_leaving import is_gone, let_go, wait_let_in
from tests.lab.test_ways_in import a_target_group
from tests.lab.watching import logged

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

KEY = "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555"
SNAPSHOTS = {"interval": "10s", "keep_newest": 1, "keep_hourly": 0, "keep_daily": 0, "drill_interval": "10s"}
EVERYTHING: dict[str, Any] = {**QUICK, "storage": {"kms_key_id": KEY}, "snapshots": SNAPSHOTS}
"""Every optional thing is on, and happens within seconds."""


OPTIONAL = {
    Only.WITH_PROTECTION,
    Only.WITH_REPLACEMENT,
    Only.WITH_NAMES,
    Only.WITH_TARGETS,
    Only.WITH_AN_AUTHORITY,
    Only.WITH_ITS_OWN_KEY,
}
"""Tried with settings of their own."""


@dataclass(frozen=True)
class Policy:
    """The role's policy in the emulated AWS, to be read and changed as an administrator does."""

    lab: Lab

    def statements(self) -> list[dict[str, Any]]:
        found = self.lab.aws("iam").get_role_policy(RoleName=ROLE, PolicyName=ROLE)["PolicyDocument"]
        statements: list[dict[str, Any]] = (json.loads(found) if isinstance(found, str) else found)["Statement"]
        return statements

    def put(self, statements: list[dict[str, Any]]) -> None:
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        self.lab.aws("iam").put_role_policy(RoleName=ROLE, PolicyName=ROLE, PolicyDocument=document)

    def without(self, sid: str) -> None:
        left = [each for each in self.statements() if each["Sid"] != sid]
        assert len(left) == len(self.statements()) - 1
        self.put(left)


def denials(lab: Lab) -> list[str]:
    """The calls of instances that were denied."""
    return [
        f"{call['operation']} {call['resource']}"
        for call in lab.calls()
        if call["status"] == 403 and call["caller"].startswith("i-")
    ]


def named(lab: Lab, sid: str) -> list[str]:
    """The lines in which some agent names this statement of its role's policy as missing."""
    found = (json.dumps(line, ensure_ascii=False) for each in lab.instances(all=True) for line in logged(each))
    return [line for line in found if f'{{\\"Sid\\":\\"{sid}\\"' in line and "was denied: add" in line]


def answered(lab: Lab, words: tuple[str, ...], sid: str) -> list[str]:
    """The lines in which a command that is typed on the instance does."""
    said = on_machine(lab, lab.instances()[0], *words)
    assert said.returncode != 0, said.stdout
    return [line for line in said.stderr.splitlines() if f'{{"Sid":"{sid}"' in line and "was denied: add" in line]


def test_a_cluster_forms_with_exactly_the_printed_policy_and_misses_a_statement_by_its_name(make_lab: MakeLab) -> None:
    lab = make_lab(settings=QUICK, pace=PACE, launch_hook_s=120, enforces_iam=True)
    wait_let_in(lab, 3)
    assert denials(lab) == []

    Policy(lab).without("SeeInstances")
    said = wait_until(lambda: named(lab, "SeeInstances"), 20, "a line about the missing statement")[0]
    assert "ec2:DescribeInstances" in said
    stays(lambda: len(lab.instances()) == 3, 1, "and nothing else happens")
    wait_whole(lab, 3, 5)


@pytest.mark.long
def test_a_whole_life_with_exactly_the_printed_policy(make_lab: MakeLab) -> None:
    """Forming, snapshots, drills, retention, replacing, recovering, leaving: no call is denied, none unused."""
    lab = make_lab(settings=EVERYTHING, pace=PACE, launch_hook_s=120, terminate_hook_s=120, enforces_iam=True)
    wait_let_in(lab, 3)
    abandoned_upload(lab)
    with Writer(lab) as writer:
        wait_until(lambda: keys(lab, "drills/"), 60, "a drill")
        first = lab.instances()[0]
        let_go(lab, first)
        wait_until(lambda: is_gone(lab, first), 60, "it to be let go")
        wait_let_in(lab, 3)
        wait_until(lambda: calls(lab, "DeleteObject"), 60, "an old snapshot to be let go")
    wait_snapshot(lab, 1)
    for each in lab.instances()[:2]:
        lab.terminate(each.id)
    wait_until(lambda: "generations/000002/formed.json" in keys(lab, "generations/"), 90, "a recovery")
    wait_let_in(lab, 3)
    writer.assert_nothing_lost()
    lab.scale(1)
    wait_whole(lab, 1, 90)

    assert denials(lab) == []
    made = {f"{call['service']}:{call['operation']}" for call in lab.calls() if call["caller"].startswith("i-")}
    needed = [need for need in NEEDS if need.only not in OPTIONAL]
    wanted = {call for need in needed for call in need.calls if not call.startswith("kms:")}
    assert made <= wanted
    seldom = {
        "s3:CreateMultipartUpload",  # large snapshots
        "s3:UploadPart",
        "s3:CompleteMultipartUpload",
        "autoscaling:DescribeWarmPool",  # groups that have one
        "autoscaling:DescribeScalingActivities",  # members whose instances EC2 has forgotten
        "autoscaling:RecordLifecycleActionHeartbeat",  # leaving that takes longer than 20 s
    }
    assert wanted - made <= seldom


def calls(lab: Lab, operation: str) -> list[Mapping[str, Any]]:
    return [call for call in lab.calls() if call["operation"] == operation and call["caller"].startswith("i-")]


def abandoned_upload(lab: Lab) -> None:
    """Begun by a killed agent long ago: moto dates every upload 2010."""
    state = lab.status()
    key = f"{state['prefix']}/{state['cluster']}/snapshots/000001/abandoned"
    lab.aws("s3").create_multipart_upload(Bucket=state["bucket"], Key=key)


# ---- each statement is necessary ------------------------------------------------------------------------------------


def nothing(_lab: Lab) -> None:
    """A single instance that only has to form."""


def form(lab: Lab) -> None:
    wait_whole(lab, 1)


def keep_writing(lab: Lab) -> None:
    """So that there is a second snapshot, and the first may go."""
    wait_whole(lab, 1)
    with Writer(lab):
        wait_until(lambda: len(keys(lab, "snapshots/")) > 2, 60, "two snapshots")


def lose_one(lab: Lab) -> None:
    """So that the two who are left may lose nobody."""
    lab.scale(3)
    wait_whole(lab, 3)
    lab.aws("autoscaling").suspend_processes(AutoScalingGroupName="lab", ScalingProcesses=["Launch"])
    lab.aws("ec2").terminate_instances(InstanceIds=[a_follower(lab).id])


def break_twice(lab: Lab) -> None:
    """A member whose data is damaged, and so is its successor's, soon after."""
    lab.scale(3)
    wait_whole(lab, 3)
    victim = a_follower(lab)
    heals(lab, victim)
    kill_etcd(victim)
    spoil_log(victim)


def with_names(lab: Lab) -> dict[str, Any]:
    made = lab.aws("route53").create_hosted_zone(Name="example.internal", CallerReference="once")
    return {"dns": {"zone_id": made["HostedZone"]["Id"].rpartition("/")[2], "name": "etcd.example.internal"}}


def with_a_target_group(lab: Lab) -> dict[str, Any]:
    return {"load_balancer": {"target_groups": [a_target_group(lab)]}}


@dataclass(frozen=True)
class Trial:
    """What it takes that a statement is missed: settings, what they speak of, what happens or what is typed."""

    happens: Callable[[Lab], None] = nothing
    lab: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    made: Callable[[Lab], Mapping[str, Any]] = lambda _lab: {}
    typed: tuple[str, ...] = ()
    """An operator's command, whose answer names the statement, where no agent needs it by itself."""


TRIALS = {
    "SeeInstances": Trial(),
    "SeeGroups": Trial(),
    "AnswerHooks": Trial(lab={"launch_hook_s": 120}),
    "ReadLifecycleRules": Trial(),
    "ListObjects": Trial(),
    "ReadObjects": Trial(),
    "WriteOnce": Trial(),
    "WriteReports": Trial(),
    "WriteSnapshots": Trial(),
    "FileDrills": Trial(),
    "WriteHold": Trial(happens=form, typed=("hold", "on", "--why", "a trial")),
    "DeleteSnapshots": Trial(happens=keep_writing),
    "FindUploads": Trial(),
    "EndUploads": Trial(happens=abandoned_upload),
    "UseKey": Trial(),
    "ProtectVoters": Trial(settings={"autoscaling": {"protect_voters": True}}, happens=lose_one),
    "AskToBeReplaced": Trial(settings={"autoscaling": {"replace_unhealthy": True}}, happens=break_twice),
    "PublishNames": Trial(made=with_names),
    "ReadAuthority": Trial(settings={"tls": {"mode": "ca"}}),
    "CreateAuthority": Trial(settings={"tls": {"mode": "ca"}}),
    "UseAuthorityKey": Trial(settings={"tls": {"mode": "ca", "kms_key_id": KEY}}),
    "SeeTargets": Trial(made=with_a_target_group),
    "RegisterTargets": Trial(made=with_a_target_group),
}


def test_every_statement_is_tried() -> None:
    assert list(TRIALS) == [each.sid for each in NEEDS]


@pytest.mark.long
@pytest.mark.parametrize("sid", TRIALS)
def test_without_this_statement_one_line_names_it(sid: str, make_lab: MakeLab) -> None:
    trial = TRIALS[sid]
    lab = make_lab(instances=0, settings=EVERYTHING, pace=PACE, enforces_iam=True, **trial.lab)
    lab.change(settings={**EVERYTHING, **trial.settings, **trial.made(lab)})
    Policy(lab).without(sid)
    lab.scale(1)
    trial.happens(lab)
    said = wait_until(
        lambda: answered(lab, trial.typed, sid) if trial.typed else named(lab, sid), 90, f"a line that names {sid}"
    )[0]
    assert "\n" not in said
    others = {each.sid for each in NEEDS if each.sid != sid and named(lab, each.sid)}
    assert not others, "and no other is named"
