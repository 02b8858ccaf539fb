"""Who is taken out of the member list, and on what word."""

from __future__ import annotations

from tests.mutants.mutant import MANY, WALKS, Change, Mutant, story

REMOVING = (
    Mutant(
        "removal-without-a-quorum",
        "the last voter beside ours that serves is asked to be taken out while another is away (and its objection); "
        "etcd would refuse",
        "too_few_of_the_others_answer",
        ("tests/decide/test_removing.py",),
        (
            Change(
                "decide/removing.py",
                "if proof is not None and quorum_survives_without(member, membership, s.o.answers):",
                "if proof is not None:",
            ),
            Change(
                "decide/objections.py",
                "a_quorum_of_what_remains_answers=entry.is_learner or _remains(entry, o.membership, o),",
                "a_quorum_of_what_remains_answers=True,",
            ),
        ),
    ),
    Mutant(
        "unlisted-is-gone",
        "one partial listing of EC2, and a voter that is only cut off loses its vote (and its objection)",
        "whose data can come back",
        story("living", "the_stopped_the_unreachable_and_the_unlisted_stay_members"),
        (
            Change(
                "decide/situation.py",
                '        if member.name in fleet.ended_by_group:\n            return f"its Auto',
                '        return f"no listing shows {member.name}"\n'
                '        if member.name in fleet.ended_by_group:\n            return f"its Auto',
            ),
            Change("decide/objections.py", "return name in o.fleet.ended_by_group or forgotten", "return True"),
        ),
    ),
    Mutant(
        "stopped-is-gone",
        "an instance stopped over the weekend comes back and is no member any more (and its objection)",
        "whose data can come back",
        story("living", "the_stopped_the_unreachable_and_the_unlisted_stay_members"),
        (
            Change(
                "decide/situation.py",
                'is {instance.state}" if instance.state in GOING else None',
                'is {instance.state}" if instance.state is not InstanceState.RUNNING else None',
            ),
            Change(
                "decide/objections.py",
                "return states[name] in (InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED)",
                "return states[name] is not InstanceState.RUNNING",
            ),
        ),
    ),
    Mutant(
        "removed-by-name-only",
        "a voter serves on another instance than the one it is named after, and is removed (and its objection)",
        "which serves",
        story("living", "a_member_that_answers_is_not_gone_whatever_ec2_says"),
        (
            Change(
                "decide/situation.py",
                "if self.o.answers.answered(member.id) or fleet.find(self.me.instance) is None:",
                "if fleet.find(self.me.instance) is None:",
            ),
            Change(
                "decide/objections.py",
                "if isinstance(o.answers.of.get(entry.id), MemberStatus) or o.me.instance not in states:",
                "if o.me.instance not in states:",
            ),
        ),
    ),
    Mutant(
        "ec2-of-another-account-is-believed",
        "with credentials of another account every silent voter is removed after an hour (and its objection)",
        "whose data can come back",
        story("living", "an_ec2_that_does_not_know_ourselves_proves_nothing_of_others"),
        (
            Change(
                "decide/situation.py",
                "if self.o.answers.answered(member.id) or fleet.find(self.me.instance) is None:",
                "if self.o.answers.answered(member.id):",
            ),
            Change(
                "decide/objections.py",
                "if isinstance(o.answers.of.get(entry.id), MemberStatus) or o.me.instance not in states:",
                "if isinstance(o.answers.of.get(entry.id), MemberStatus):",
            ),
        ),
    ),
    Mutant(
        "not-found-is-gone-at-once",
        "EC2 does not know a new instance yet, and its member is removed (and its objection)",
        "whose data can come back",
        story("living", "an_instance_that_ec2_forgot_too_soon_is_not_proven_gone"),
        (
            Change(
                "decide/situation.py",
                "if member.name in fleet.unheard_of and looks >= LOOKS_ENOUGH and old:",
                "if member.name in fleet.unheard_of:",
            ),
            Change(
                "decide/objections.py",
                "forgotten = name in o.fleet.unheard_of and memory.unheard_of.get(name, 0) > 1 and aged",
                "forgotten = name in o.fleet.unheard_of",
            ),
        ),
    ),
    Mutant(
        "objections-are-not-heeded",
        "the loop carries out what was vetoed, and a rule has lost its guard: see stopped-is-gone",
        "whose data can come back",
        story("living", "the_stopped_the_unreachable_and_the_unlisted_stay_members"),
        (
            Change(
                "decide/situation.py",
                'is {instance.state}" if instance.state in GOING else None',
                'is {instance.state}" if instance.state is not InstanceState.RUNNING else None',
            ),
            Change(
                "loop.py",
                "decision = veto(decided, objections) if objections else decided",
                "decision = decided",
            ),
        ),
    ),
    Mutant(
        "all-the-silent-are-removed",
        "not one at a time: with the dead one go all who did not answer just now",
        "second effect",
        WALKS,
        (
            Change(
                "act.py",
                "    return _done(lambda: etcd.remove(endpoint, member))\n",
                "    for each in o.membership.members:\n"
                "        if each.id == member or not o.answers.answered(each.id):\n"
                "            etcd.remove(endpoint, each.id)\n"
                "    return DONE\n",
            ),
        ),
        MANY,
    ),
    Mutant(
        "learners-have-no-time",
        "a learner is removed for being slow, while it boots or receives the database",
        "a_joiner_that_is_slow",
        story("seldom_met", "a_joiner_that_is_slow_to_start_keeps_its_entry"),
        (
            Change(
                "decide/removing.py",
                "return s.policy.join_timeout + timedelta(seconds=size / SLOWEST_TRANSFER_BYTES_PER_SECOND)",
                "return timedelta(seconds=size / SLOWEST_TRANSFER_BYTES_PER_SECOND)",
            ),
        ),
    ),
    Mutant(
        "a-spare-that-nobody-asked-is-stalled",
        "after a change of leader the hot spare is removed for a silence that nobody had asked it to break",
        "spare_is_never_taken_for_stalled",
        story("living", "a_spare_is_never_taken_for_stalled_when_the_leader_changes"),
        (
            Change(
                "model/memory.py",
                "        return Progress(0 if before is None else before.applied_index, now, now)\n",
                "        return before or Progress(0, now)\n",
            ),
        ),
    ),
    Mutant(
        "stalled-learners-stay",
        "etcd takes one learner at a time: a ghost keeps everybody from joining, for ever",
        "took longer",
        story("living", "a_learner_that_never_starts_blocks_no_longer_than_its_time"),
        (
            Change(
                "decide/removing.py",
                "if progress is not None and s.o.now - progress.since >= patience_with_learners(s):",
                "if progress is None:",
            ),
        ),
    ),
)
