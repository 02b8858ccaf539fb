"""The operator's hold, and the upkeep of databases."""

from __future__ import annotations

from tests.mutants.mutant import Change, Mutant, story

DECIDE_HOLDING, DECIDE_MAINTAINING = ("tests/decide/test_holding.py",), ("tests/decide/test_maintaining.py",)

UPKEEP = (
    Mutant(
        "an-old-answer-will-do",
        "the operator has held the cluster minutes ago, and a member is removed all the same",
        "without looking whether it may",
        story("holding", "nothing_is_done_while_held_and_all_of_it_when_released"),
        (
            Change(
                "loop.py",
                "    if o.hold == NOT_ASKED and isinstance(o.disk, Disk) and is_held_back(decided.action, o.disk):\n",
                "    if o.hold != NOT_ASKED and isinstance(o.disk, Disk) and is_held_back(decided.action, o.disk):\n",
            ),
        ),
    ),
    Mutant(
        "a-hold-is-only-shown",
        "what is held back is done (and its objection)",
        "was told of the hold",
        story("holding", "nothing_is_done_while_held_and_all_of_it_when_released"),
        (
            Change(
                "decide/holding.py",
                "    if not is_held_back(first.action, disk):\n        return first\n",
                "    if first.rule:\n        return first\n",
            ),
            Change(
                "decide/objections.py",
                "nobody_holds_the_cluster=isinstance(said, Unknown) or said is None,",
                "nobody_holds_the_cluster=True,",
            ),
        ),
    ),
    Mutant(
        "an-unread-hold-is-none",
        "S3 fails while the cluster is held, and everybody goes on as if it were released",
        "who_cannot_read_the_hold",
        story("holding", "who_cannot_read_the_hold_keeps_to_its_last_answer"),
        (
            Change(
                "model/memory.py",
                "    if isinstance(o.hold, Unknown) and not isinstance(memory.hold, Unknown):\n"
                "        return replace(memory, asked_at=asked_at)\n",
                "    if isinstance(o.hold, Unknown):\n        return replace(memory, asked_at=asked_at, hold=None)\n",
            ),
        ),
    ),
    Mutant(
        "a-hold-keeps-etcd-down",
        "a fleet that reboots while it is held is an outage until somebody remembers the hold",
        "reboots_while_held",
        story("holding", "a_whole_fleet_that_reboots_while_held_serves_again"),
        (Change("decide/holding.py", "return disk.data is not Data.PRESENT", "return disk.data is not None"),),
    ),
    Mutant(
        "a-held-launch-times-out",
        "whoever is launched while the cluster is held is terminated by its own hook, and launched again, and again",
        "its_hook_is_kept",
        DECIDE_HOLDING,
        (
            Change(
                "decide/leaving.py",
                "    if not s.memory.arriving or not isinstance(hold, Hold) or",
                "    if not s.memory.arriving or isinstance(hold, Hold) or",
            ),
        ),
    ),
    Mutant(
        "one-away-and-one-blocked",
        "a member is defragmented while another is away, and two of three answer nobody (and its objection)",
        "nobody_is_blocked_while_one_is_away",
        story("maintaining", "nobody_is_blocked_while_one_is_away_or_the_cluster_is_held"),
        (
            Change("decide/maintaining.py", "    if away:\n", "    if len(away) > 1:\n"),
            Change(
                "decide/maintaining.py",
                "return sorted(membership.voters, key=",
                "return sorted((each for each in membership.voters if each.id in statuses), key=",
            ),
            Change(
                "decide/objections.py",
                "every_member_answers_and_knows_a_leader=len(said) == len(members) and",
                "every_member_answers_and_knows_a_leader=",
            ),
        ),
    ),
    Mutant(
        "a-spare-is-defragmented",
        "etcd refuses it, hour after hour, and a full spare keeps the alarm up for ever (and its objection)",
        "a_spare_is_left_as_it_is",
        story("maintaining", "a_spare_is_left_as_it_is"),
        (
            Change(
                "decide/maintaining.py",
                "return sorted(membership.voters, key=",
                "return sorted(membership.members, key=",
            ),
            Change("decide/objections.py", "        it_is_a_voter=entry is not None and not entry.is_learner,\n", ""),
        ),
    ),
    Mutant(
        "the-leader-goes-first",
        "the leader is blocked three times as often as it need be: whoever follows may lead by its turn",
        "the_leader_last",
        story("maintaining", "one_member_at_a_time_and_the_leader_last"),
        (
            Change(
                "decide/maintaining.py", "(statuses[each.id].leads, each.id)", "(not statuses[each.id].leads, each.id)"
            ),
        ),
    ),
    Mutant(
        "history-goes-nowhere",
        "what is compacted away is in no snapshot (and its objection)",
        "compact_defragment_each_and_disarm",
        DECIDE_MAINTAINING,
        (
            Change(
                "decide/maintaining.py",
                "safe = min(newest.name.revision, *(each.revision for each in statuses.values()))",
                "safe = min(each.revision for each in statuses.values())",
            ),
            Change(
                "decide/objections.py",
                "a_sound_snapshot_has_it=any(each >= revision for each in sound),",
                "a_sound_snapshot_has_it=True,",
            ),
        ),
    ),
    Mutant(
        "disarmed-while-full",
        "the alarm is taken back and raised again for ever, and nobody is called",
        "what_stays_full",
        DECIDE_MAINTAINING,
        (Change("decide/maintaining.py", ">= ROOM * s.policy.quota_bytes", ">= 9 * s.policy.quota_bytes"),),
    ),
    Mutant(
        "defragmented-all-day",
        "a database that fragments as fast as it is defragmented keeps its member blocked",
        "fragmented_again_at_once",
        DECIDE_MAINTAINING,
        (
            Change(
                "decide/maintaining.py",
                "lately = last is not None and s.o.now - last < DEFRAGMENTED_LATELY",
                "lately = last is not None and s.o.now < last",
            ),
        ),
    ),
)
