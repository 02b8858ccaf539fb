"""Fences, restarts, moves and votes of a cluster that lives."""

from __future__ import annotations

from tests.mutants.mutant import MANY, WALKS, Change, Mutant, story

LIVING = (
    Mutant(
        "fences-are-ignored",
        "a member of the old generation restarts although the bucket names a newer one (and its objection)",
        "took longer",
        WALKS,
        (
            Change(
                "decide/fencing.py",
                "    if identity.generation >= head.generation:\n",
                "    if identity.generation >= 1:\n",
            ),
            Change(
                "decide/objections.py",
                "and not (isinstance(head, GenerationRecord) and head.generation != identity.generation),",
                "and True,",
            ),
        ),
        MANY,
    ),
    Mutant(
        "data-moves-under-a-running-etcd",
        "what is fenced is moved aside before its etcd has stopped (and its objection)",
        "under a running etcd",
        story("living", "fencing_survives_the_death_of_the_agent_at_any_step"),
        (
            Change(
                "decide/fencing.py",
                "s.identity.stage is not Stage.FENCED or not s.running:",
                "s.identity.stage is not Stage.FENCED or s.running:",
            ),
            Change("decide/objections.py", "        etcd_has_stopped=still,\n", "        etcd_has_stopped=True,\n"),
        ),
    ),
    Mutant(
        "a-late-founder-is-a-removed-one",
        "the data that a founder has just restored is set aside, because the others do not know its name yet",
        "restored_data",
        ("tests/decide/test_fencing.py",),
        (
            Change(
                "decide/fencing.py",
                "if s.own_entry(membership) is not None or _keeps_a_seat(identity, membership):",
                "if s.own_entry(membership) is not None:",
            ),
        ),
    ),
    Mutant(
        "a-move-is-not-told-first",
        "a member starts at an address at which nobody can reach it",
        "is_told_of_before_it_starts",
        story("living", "a_member_that_moved_keeps_its_id_and_is_told_of_before_it_starts"),
        (
            Change(
                "decide/restarting.py",
                "s.running or identity.peer_url == s.me.peer_url:\n        return None\n    moved",
                "s.running or identity.peer_url:\n        return None\n    moved",
            ),
        ),
    ),
    Mutant(
        "a-quorum-is-waited-for-until-it-is-told",
        "all instances moved at once, and each waits for the others before it starts",
        "took longer",
        story("living", "when_all_moved_at_once_they_start_and_correct_the_list"),
        (
            Change(
                "decide/restarting.py",
                "    if since is not None and s.o.now - since >= s.policy.address_grace:\n",
                "    if since is None:\n",
            ),
        ),
    ),
    Mutant(
        "a-wrong-address-stays",
        "all instances moved at once: the list is never put right, and nobody can join",
        "correct_the_list",
        story("living", "when_all_moved_at_once_they_start_and_correct_the_list"),
        (
            Change(
                "decide/settling.py", "    if s.me.peer_url not in entry.peer_urls:\n", "    if not entry.peer_urls:\n"
            ),
        ),
    ),
    Mutant(
        "spares-vote",
        "four voters, then six: each write waits for more disks, and no more failures are survived",
        "have_three_founders",
        story("forming", "four_instances_have_three_founders_and_a_spare_that_takes_over"),
        (Change("decide/promoting.py", "    if voters >= target:\n", "    if voters > 7:\n"),),
    ),
    Mutant(
        "a-full-database-stays-full",
        "the restored cluster has an alarm of a member that is no more, and refuses every write",
        "accepts_writes_again",
        story("recovering", "a_full_database_that_was_restored_accepts_writes_again"),
        (
            Change(
                "decide/settling.py",
                "if alarm.kind is AlarmKind.NOSPACE and membership.find(alarm.member) is None:",
                "if alarm.kind is None:",
            ),
        ),
    ),
)
