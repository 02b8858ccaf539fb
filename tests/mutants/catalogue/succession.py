"""What the next generation starts from."""

from __future__ import annotations

from tests.mutants.mutant import MANY, WALKS, Change, Mutant, story

SUCCESSION = (
    Mutant(
        "the-worst-survivor",
        "acknowledged writes are lost that another survivor's log has",
        "still holds are not in",
        story("recovering", "three_of_five_lost_and_the_more_complete_survivor_is_the_source"),
        (
            Change(
                "decide/seeding.py",
                "each.position and each.position.last_index >= committed]",
                "each.position and committed >= 0]",
            ),
            Change(
                "decide/seeding.py",
                "return max(reaching, key=_completeness,",
                "return min(reaching, key=_completeness,",
            ),
        ),
    ),
    Mutant(
        "the-committed-index-decides",
        "a log whose last writes were acknowledged, unknown to itself, loses to one that lacks them",
        "not in",
        story("seldom_met", "of_two_that_know_the_same_commits_the_longer_log_is_the_source"),
        (
            Change(
                "decide/seeding.py",
                "return report.position.last_term, report.position.last_index, report.instance",
                "return 0, report.position.committed_index, report.instance",
            ),
        ),
    ),
    Mutant(
        "what-is-served-is-all-there-is",
        "a survivor's snapshot is taken of what it knows to be committed: its log has acknowledged writes beyond",
        "still holds are not in",
        story("recovering", "a_tail_that_the_survivor_does_not_know_to_be_committed_is_kept"),
        (
            Change(
                "decide/recovering.py",
                "local.applied_index >= position.last_index",
                "local.applied_index >= position.committed_index",
            ),
        ),
    ),
    Mutant(
        "a-log-ends-where-it-is-committed",
        "a survivor reports that its log ends with what it knows to be committed, and its tail is given up",
        "not in",
        story("seldom_met", "of_two_that_know_the_same_commits_the_longer_log_is_the_source"),
        (
            Change(
                "decide/reporting.py",
                "LogPosition(read.position.last_term, read.position.last_index, committed, pending_changes=unapplied)",
                "LogPosition(read.position.last_term, committed, committed, pending_changes=unapplied)",
            ),
        ),
    ),
    Mutant(
        "snapshots-before-survivors",
        "minutes of writes are lost that a disk still has (and its objection)",
        "still holds are not in",
        WALKS,
        (
            Change(
                "decide/recovering.py",
                "    if newest is None or not holds_all_of(newest, survivor):\n        return False\n",
                "    if newest is not None:\n        return True\n    if newest is None:\n        return False\n",
            ),
            Change(
                "decide/objections_to_succession.py",
                "no_survivor_has_more_than_its_source=source in sources or enough,",
                "no_survivor_has_more_than_its_source=True,",
            ),
        ),
        MANY,
    ),
    Mutant(
        "survivors-before-snapshots",
        "who was stopped for days comes back alone, and all since is lost although a snapshot has it",
        "holds are not in",
        story("recovering", "a_snapshot_that_has_more_than_the_survivors_log"),
        (
            Change(
                "decide/recovering.py",
                "    if newest is None or not holds_all_of(newest, survivor):\n        return False\n",
                "    return False\n",
            ),
        ),
    ),
    Mutant(
        "the-oldest-snapshot",
        "everything since the first snapshot is lost",
        "holds are not in",
        WALKS,
        (
            Change(
                "decide/seeding.py",
                "return max((name for name in names if _is_of_its_past(name, record)), default=None)",
                "return min((name for name in names if _is_of_its_past(name, record)), default=None)",
            ),
        ),
        MANY,
    ),
    Mutant(
        "revisions-of-two-generations-are-compared",
        "a restored generation began at a lower revision: the older one's snapshot seems to be newer than its own",
        "higher_revision",
        ("tests/decide/test_seeding.py",),
        (
            Change(
                "decide/seeding.py",
                "(name for name in names if _is_of_its_past(name, record)), default=None)",
                "(name for name in names if _is_of_its_past(name, record)), key=lambda n: n.revision, default=None)",
            ),
        ),
    ),
    Mutant(
        "what-the-fenced-wrote-on-is-our-past",
        "a superseded lineage wrote on for a moment, and its snapshot replaces what the new one holds",
        "higher_revision",
        ("tests/decide/test_recovering.py", "tests/decide/test_seeding.py"),
        (
            Change(
                "decide/seeding.py",
                "or (seed is not None and name <= seed)",
                "or (seed is not None and name.generation <= seed.generation)",
            ),
        ),
    ),
    Mutant(
        "etcd-restarts-in-the-middle-of-its-rescue",
        "its agent forgets the proof between two steps, and the etcd it has stopped is started again",
        "stays_do",
        story("seldom_met", "an_etcd_that_was_stopped_for_its_rescue_stays_down"),
        (
            Change(
                "decide/recovering.py",
                "    if at is None or s.o.now - at > STAY_DOWN:\n",
                "    if at is None or s.o.now >= at:\n",
            ),
        ),
    ),
    Mutant(
        "an-unverified-seed",
        "the next generation is begun from a snapshot that nobody has read: it cannot be restored (and its objection)",
        "took longer",
        story("recovering", "a_bad_newest_snapshot_is_marked_and_the_next_best_is_restored"),
        (
            Change(
                "decide/recovering.py",
                "    if manifest.sha256 not in s.disk.seeds:\n        return _fetch(s, manifest)\n",
                "    if manifest is None:\n        return _fetch(s, manifest)\n",
            ),
            Change(
                "decide/objections_to_succession.py",
                "the_seed_was_verified=record.seed is None or record.seed.sha256 in _verified(o),",
                "the_seed_was_verified=True,",
            ),
        ),
    ),
    Mutant(
        "empty-where-there-was-something",
        "nothing is left to restore from, and instead of calling a human an empty cluster begins (and its objection)",
        "starts empty",
        story("recovering", "formed_and_nothing_to_restore_from_calls_a_human_and_does_nothing_else"),
        (
            Change(
                "decide/recovering.py",
                "    if s.o.formed is None and record.seed is None and not verdict.holders:\n",
                "    if not verdict.holders:\n",
            ),
            Change(
                "decide/objections_to_succession.py",
                "what_had_formed_is_not_begun_anew_empty=record.seed is not None",
                "what_had_formed_is_not_begun_anew_empty=True",
            ),
        ),
    ),
    Mutant(
        "claims-of-the-moved-stay",
        "a founder that moved before its start keeps a seat that nobody can take, and is waited for for ever",
        "took longer",
        story("rescuers_die", "founders_that_moved_right_after_their_claim_let_go_of_it"),
        (
            Change(
                "decide/recovering.py",
                "        return _let_go_of(s.o.claim, s, because)\n",
                "        return None\n",
            ),
        ),
    ),
)
