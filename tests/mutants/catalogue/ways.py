"""Healing, protection, draining, and the names under which clients find the cluster."""

from __future__ import annotations

from tests.mutants.mutant import Change, Mutant, story

WAYS = (
    Mutant(
        "a-full-disk-is-damaged-data",
        "a disk that is full, a port that is taken: each member in turn leaves the cluster (and its objection)",
        "changes_no_membership",
        story("healing", "what_any_etcd_would_meet_there_changes_no_membership"),
        (
            Change(
                "decide/healing.py",
                "if not s.hears_of_its_end and (healed_lately(s) or what_keeps_etcd_down(s) is not None):",
                "if not s.hears_of_its_end and healed_lately(s):",
            ),
            Change("decide/healing.py", "lives < CRASHES or isinstance(s.o.obstacle, Unknown)", "lives < 0"),
            Change("decide/healing.py", "lives = _down(s), s.memory.etcd_unexplained", "lives = _down(s), 99"),
            Change(
                "decide/objections.py", "return mine and silent and isinstance(o.process", "return isinstance(o.process"
            ),
            Change("decide/objections.py", "lives >= 2 and (leaves or for_its_data)", "lives >= 2"),
            Change("decide/objections.py", "else memory.etcd_unexplained", "else memory.etcd_short_lives"),
        ),
    ),
    Mutant(
        "what-was-mended-is-given-no-try",
        "the disk has room again, and the member leaves the cluster before its etcd was started once more",
        "changes_no_membership",
        story("healing", "what_any_etcd_would_meet_there_changes_no_membership"),
        (
            Change(
                "model/memory.py",
                "    if isinstance(o.obstacle, Obstacle) or version != before.etcd_version:\n",
                "    if version != before.etcd_version:\n",
            ),
        ),
    ),
    Mutant(
        "healing-without-end",
        "an instance on which no member lives adds and removes members all day",
        "within_the_hour_is_a_humans",
        story("healing", "a_second_broken_member_within_the_hour_is_a_humans"),
        (
            Change(
                "decide/healing.py",
                "    return any(abs(s.o.now - at) < HEALED_LATELY for at in s.disk.broken_at)\n",
                "    return False\n",
            ),
        ),
    ),
    Mutant(
        "healing-costs-the-quorum",
        "one is away and another one damaged: it leaves, and nobody is left who could let it in (and its objection)",
        "nothing_is_removed_where",
        ("tests/decide/test_healing.py",),
        (
            Change(
                "decide/healing.py",
                "return entry if quorum_survives_without(entry, membership, s.o.answers) else None",
                "return entry",
            ),
            Change("decide/objections.py", "    return 2 * len(speaking) > len(rest)\n", "    return True\n"),
        ),
    ),
    Mutant(
        "protection-is-never-released",
        "the group cannot scale in any more",
        "protected",
        story("protecting"),
        (
            Change(
                "decide/protecting.py",
                "if wanted is None or wanted == held or",
                "if wanted is None or held or wanted == held or",
            ),
        ),
    ),
    Mutant(
        "names-of-nobody",
        "a voter that is dead stays in DNS",
        "is_stopped_is_a_member_and_not_named",
        story("naming", "who_is_stopped_is_a_member_and_not_named"),
        (
            Change(
                "decide/naming.py",
                "return silent_since is not None and s.o.now - silent_since < SILENT_FOR and member.started",
                "return silent_since is not None and member.started",
            ),
        ),
    ),
    Mutant(
        "a-target-for-ever",
        "a balancer sends clients to a member that has just removed itself",
        "is_no_target_before",
        story("registering", "who_is_told_to_leave_is_no_target_before_its_member_is_gone"),
        (
            Change(
                "decide/registering.py",
                '    return "this instance is leaving: clients go elsewhere before its member does"\n',
                "    return None\n",
            ),
        ),
    ),
    Mutant(
        "a-spare-is-a-target",
        "a balancer that asks the port alone sends clients to a learner, which serves no reads",
        "a_spare_is_no_target",
        story("registering", "a_spare_is_no_target_until_it_takes_a_vote"),
        (Change("decide/registering.py", "    if is_spare(s.o, s.memory):\n", "    if False:\n"),),
    ),
    Mutant(
        "the-last-target-goes",
        "all are told to leave at once, and clients find nobody while all of them still serve (and its objection)",
        "was_the_last_target",
        story("registering", "all_that_leave_at_once_stay_targets_until_others_serve"),
        (
            Change(
                "decide/registering.py",
                "s.me.instance in group.registered and bool(group.healthy - going - {s.me.instance})",
                "s.me.instance in group.registered",
            ),
            Change("decide/objections.py", "        another_target_is_healthy=bool(others),\n", ""),
        ),
    ),
    Mutant(
        "the-way-out-waits-for-a-balancer",
        "a balancer that takes nobody out keeps an instance from leaving",
        "the_way_out_does_not_wait",
        ("tests/decide/test_registering.py",),
        (
            Change(
                "decide/registering.py",
                "    return tried_at is None or s.o.now - tried_at >= TRY_AGAIN\n",
                "    return True\n",
            ),
        ),
    ),
    Mutant(
        "the-member-goes-before-its-clients",
        "a load balancer sends clients to a member that has just removed itself",
        "only_tells_of_it",
        ("tests/decide/test_draining.py",),
        (
            Change(
                "decide/draining.py", "if told_for and told_for >= s.policy.drain:", "if told_for >= s.policy.drain:"
            ),
        ),
    ),
)
