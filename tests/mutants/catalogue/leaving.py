"""Who goes, what it leaves behind, and what keeps it."""

from __future__ import annotations

from tests.mutants.mutant import Change, Mutant, story

RULES = ("tests/decide/test_leaving.py",)

LEAVING = (
    Mutant(
        "a-leaver-takes-the-quorum-along",
        "a voter removes itself while another is away: the last one cannot write (and its objection)",
        "others_have_no_quorum",
        RULES,
        (
            Change(
                "decide/leaving.py",
                "    if not quorum_survives_without(entry, membership, s.o.answers):\n",
                "    if not quorum_survives_without(entry, membership, s.o.answers) and not s.leaving:\n",
            ),
            Change(
                "decide/objections.py",
                "a_quorum_of_what_remains_answers=entry.is_learner or _remains(entry, o.membership, o),",
                "a_quorum_of_what_remains_answers=True,",
            ),
        ),
    ),
    Mutant(
        "the-last-voter-removes-itself",
        "a fleet of one is told to go while somebody is wanted (and its objection)",
        "somebody_is_wanted",
        RULES,
        (
            Change(
                "decide/leaving.py",
                "    if not others:\n        return _alone(s, membership)\n",
                '    if not others:\n        return do(RemoveMember(entry.id), "we leave")\n',
            ),
            Change(
                "decide/objections.py",
                "a_quorum_of_what_remains_answers=entry.is_learner or _remains(entry, o.membership, o),",
                "a_quorum_of_what_remains_answers=True,",
            ),
        ),
    ),
    Mutant(
        "a-hook-is-not-kept",
        "what takes longer than the hook's timeout is cut off in the middle",
        "HeartbeatHook",
        RULES,
        (Change("decide/leaving.py", "    if s.o.now < due:\n", "    if s.o.now < due or s.leaving:\n"),),
    ),
    Mutant(
        "a-new-agent-takes-its-time-with-the-hook",
        "an agent that is restarted just before a heartbeat lets a short hook run out",
        "has_heard_of_it",
        RULES,
        (Change("decide/leaving.py", "due = since + FIRST_HEARTBEAT if", "due = since + HEARTBEAT_EVERY if"),),
    ),
    Mutant(
        "let-go-before-it-is-out",
        "the hook is completed while the member serves, with whatever it holds (and its objection)",
        "is let go",
        story("leaving", "a_survivor_is_kept_until_what_it_holds_is_in_the_bucket"),
        (
            Change(
                "decide/leaving.py",
                '    if not s.running and not s.holds_data:\n        return _complete(s, "no',
                '    if s.leaving:\n        return _complete(s, "no',
            ),
            Change(
                "decide/objections.py",
                "nothing_here_is_needed=no_data or fenced or removed or _is_saved(o),",
                "nothing_here_is_needed=True,",
            ),
        ),
    ),
    Mutant(
        "a-rescue-is-not-waited-for",
        "the survivor of a lost quorum goes, and what it alone holds goes with it (and its objection)",
        "is let go",
        story("leaving", "a_survivor_is_kept_until_what_it_holds_is_in_the_bucket"),
        (
            Change("decide/leaving.py", " or _is_made(s) is None:\n", ":\n"),
            Change(
                "decide/objections.py",
                "nothing_here_is_needed=no_data or fenced or removed or _is_saved(o),",
                "nothing_here_is_needed=True,",
            ),
        ),
    ),
    Mutant(
        "a-hook-is-completed-once",
        "IMDS told of the end before the hook waited: the instance stays until the hook runs out",
        "took longer",
        story("leaving", "a_hook_that_begins_to_wait_late_is_completed_all_the_same"),
        (
            Change(
                "decide/leaving.py",
                "    return at is not None and s.o.now - at < COMPLETE_EVERY\n",
                "    return at is not None\n",
            ),
        ),
    ),
    Mutant(
        "no-spare-is-waited-for",
        "a voter goes before the spare has its vote: for a while two serve, and none may fail",
        "a_spare_gets_the_vote",
        story("leaving", "a_spare_gets_the_vote_of_one_that_only_ec2_takes"),
        (Change("decide/leaving.py", ">= SPARE_PATIENCE or _in_a_hurry(s):", ">= SPARE_PATIENCE or s.leaving:"),),
    ),
    Mutant(
        "the-lead-goes-to-one-that-leaves",
        "a rotation of all hands the lead round and round",
        "not_handed_to_one_that_leaves",
        story("leaving", "the_lead_is_not_handed_to_one_that_leaves"),
        (Change("decide/leaving.py", "if hurried or fleet is None or", "if hurried or fleet is not None or"),),
    ),
    Mutant(
        "nobody-looks-who-else-leaves",
        "two are told in the same moment, and one hands its lead to the other",
        "not_handed_to_one_that_leaves",
        story("leaving", "the_lead_is_not_handed_to_one_that_leaves"),
        (
            Change(
                "decide/leaving.py",
                "    if _has_just_heard(s) and not _in_a_hurry(s):\n",
                "    if _has_just_heard(s) and not s.leaving:\n",
            ),
        ),
    ),
    Mutant(
        "the-lead-is-not-handed-over",
        "the leader removes itself: an election, a second or two without writes",
        "whoever_ec2_takes",
        story("leaving", "whoever_ec2_takes_is_out_in_time"),
        (
            Change(
                "decide/leaving.py",
                "    if s.o.beside_the_leader:\n        return _hand_over(s, others)\n",
                "    if s.o.beside_the_leader and not s.leaving:\n        return _hand_over(s, others)\n",
            ),
        ),
    ),
    Mutant(
        "the-last-spot-voter-serves-to-the-end",
        "a spot fleet is taken at once: what was written since the last snapshot is lost",
        "nothing_is_lost",
        story("leaving", "of_a_fleet_that_is_taken_at_once_nothing_is_lost"),
        (
            Change(
                "decide/leaving.py",
                "s.time_left is not None and s.time_left <= LAST_SAVE",
                "s.time_left is not None and not s.leaving",
            ),
        ),
    ),
    Mutant(
        "stopped-is-taken",
        "an instance that EC2 stops for the night takes its member out (and its objection)",
        "stays_a_member",
        RULES,
        (
            Change(
                "decide/situation.py",
                "return self.let_go or (self.spot is not None and self.spot.takes_the_disk)",
                "return self.let_go or self.spot is not None",
            ),
            Change(
                "decide/objections.py",
                "return isinstance(o.spot, SpotNotice) and o.spot.action == SpotAction.TERMINATE",
                "return isinstance(o.spot, SpotNotice)",
            ),
        ),
    ),
    Mutant(
        "two-that-are-stopped-play-ball",
        "each gives the lead back to the other until both are stopped",
        "given_away_once",
        RULES,
        (
            Change(
                "decide/leaving.py",
                "    if lately is not None and s.o.now - lately < NOTICE:\n",
                "    if lately is not None and s.leaving:\n",
            ),
        ),
    ),
    Mutant(
        "a-learner-that-is-behind-has-arrived",
        "an instance refresh outruns the quorum: the next voter goes while the last newcomer has no data yet",
        "in_once_it_is_in_sync",
        RULES,
        (
            Change(
                "decide/leaving.py",
                "    if entry.is_learner and not _is_in_sync(s.o.local):\n",
                "    if entry.is_learner and s.leaving:\n",
            ),
        ),
    ),
    Mutant(
        "a-warm-pool-joins",
        "what waits in a warm pool is stopped as a member, and counts against the quorum",
        "warm_pool",
        story("leaving", "what_waits_in_a_warm_pool_is_no_member_until_it_is_wanted"),
        (Change("decide/joining.py", 's.o.lifecycle_target.startswith("Warmed:")', "s.leaving"),),
    ),
    Mutant(
        "a-warm-pools-hook-is-not-completed",
        "Auto Scaling abandons every instance that was to wait in the pool",
        "took longer",
        story("leaving", "what_waits_in_a_warm_pool_is_no_member_until_it_is_wanted"),
        (
            Change(
                "decide/leaving.py",
                'if here.lifecycle == "Warmed:Pending:Wait" and not s.holds_data:',
                'if here.lifecycle == "Warmed:Pending:Wait" and s.holds_data:',
            ),
        ),
    ),
)
