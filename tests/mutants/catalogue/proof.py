"""The proof that a generation is lost, one clause after another."""

from __future__ import annotations

from tests.mutants.mutant import Change, Mutant, story

HARM = story("lost_for_a_while", "a_quorum_that_may_come_back_is_waited_for")

PROPERTIES = "tests/properties/test_proof_of_loss.py"
"""For what the simulation's raft does not model: a list that goes back at a restart, a log that is applied late."""

PROOF = (
    Mutant(
        "recovery-without-proof",
        "two of three reboot: instead of waiting for their restart in place the third restores (and its objections)",
        "could still lead",
        HARM,
        (
            Change(
                "decide/recovering.py",
                "    if isinstance(verdict, NotProven):\n        return None\n    newest",
                "    if isinstance(verdict, NotProven):\n"
                "        if isinstance(s.o.reports, Unknown):\n            return None\n"
                "        here = (each.report for each in s.o.reports if each.age_seconds <= 20)\n"
                "        verdict = Lost(tuple(each for each in here if each.position), {})\n    newest",
            ),
            Change(
                "decide/objections_to_succession.py",
                "    if not isinstance(o.fleet, Fleet) or isinstance(o.reports, Unknown)"
                " or isinstance(o.exclusions, Unknown):\n"
                '        return ("who is here',
                '    if isinstance(o.fleet, Fleet):\n        return ()\n    else:\n        return ("who is here',
            ),
        ),
    ),
    Mutant(
        "the-silent-are-not-waited-for",
        "one instance was not heard, and what it holds would have made a quorum (and its objections)",
        "could still lead",
        HARM,
        (
            Change(
                "decide/loss.py",
                "        if instance.id not in facts.fresh and instance.id not in facts.written_off:\n",
                '        if instance.id == "":\n',
            ),
            Change(
                "decide/loss.py",
                "    if report is None:\n        instance =",
                "    if report is None:\n        return None\n        instance =",
            ),
            Change(
                "decide/objections_to_succession.py",
                "everybody_alive_was_heard=all(each in speaking or each in off for each in alive),",
                "everybody_alive_was_heard=True,",
            ),
            Change(
                "decide/objections_to_succession.py",
                "every_member_is_accounted_for=all(name in gone or name in speaking for name in named),",
                "every_member_is_accounted_for=True,",
            ),
        ),
    ),
    Mutant(
        "the-stopped-are-not-waited-for",
        "a stopped instance is not asked, comes back with its disk, and is half of a quorum (and its objections)",
        "could still lead",
        HARM,
        (
            Change(
                "decide/loss.py",
                "return instance.state is not InstanceState.TERMINATED and not instance.warmed",
                "return instance.state is InstanceState.RUNNING and not instance.warmed",
            ),
            Change(
                "decide/loss.py",
                '        instance = facts.fleet.find(name)\n        return f"is not here',
                "        instance = facts.fleet.find(name)\n"
                "        if instance is not None and instance.state is InstanceState.STOPPED:\n"
                '            return None\n        return f"is not here',
            ),
            Change(
                "decide/objections_to_succession.py",
                "    gone = {each.id for each in o.fleet.instances if each.state is InstanceState.TERMINATED}\n",
                "    gone = {each.id for each in o.fleet.instances if each.state is not InstanceState.RUNNING}\n",
            ),
        ),
    ),
    Mutant(
        "the-unlisted-are-not-waited-for",
        "what a partial listing hides is taken for ended in the proof (and its objection)",
        "could still lead",
        HARM,
        (
            Change(
                "decide/loss.py",
                '        if name in self.fleet.ended_by_group:\n            return "its Auto',
                '        return "no listing shows it"\n'
                '        if name in self.fleet.ended_by_group:\n            return "its Auto',
            ),
            Change(
                "decide/objections_to_succession.py",
                "all(name in gone or name in speaking for name in named)",
                "all(name in gone or name in speaking or name not in alive for name in named)",
            ),
        ),
    ),
    Mutant(
        "shutting-down-is-terminated",
        "who is shutting down still serves, with one other that nobody has heard (and its objections)",
        "who_is_shutting_down_may_still_serve",
        story("lost_for_a_while", "who_is_shutting_down_may_still_serve"),
        (
            Change(
                "decide/loss.py",
                'return "EC2 says terminated" if instance.state is InstanceState.TERMINATED else None',
                'return "EC2 says terminated" if not instance.live else None',
            ),
            Change(
                "decide/loss.py",
                "return instance.state is not InstanceState.TERMINATED and not instance.warmed",
                "return instance.live and not instance.warmed",
            ),
            Change(
                "decide/objections_to_succession.py",
                "    ended = {each.id for each in o.fleet.instances if each.state is InstanceState.TERMINATED}\n",
                "    ended = {each.id for each in o.fleet.instances if not each.live}\n",
            ),
            Change(
                "decide/objections_to_succession.py",
                "    gone = {each.id for each in o.fleet.instances if each.state is InstanceState.TERMINATED}\n",
                "    gone = {each.id for each in o.fleet.instances if not each.live}\n",
            ),
        ),
    ),
    Mutant(
        "reports-never-age",
        "what an instance said before it joined is held for what it says now (and its objection)",
        "could still lead",
        story("lost_for_a_while", "what_an_instance_reported_before_it_had_data_says_nothing_of_the_data_that_it_has"),
        (
            Change(
                "decide/loss.py",
                "lately = [each.report for each in self.filed if each.age_seconds <= most]",
                "lately = [each.report for each in self.filed if each.age_seconds <= most * 10**6]",
            ),
            Change("decide/objections_to_succession.py", "RECENT_SECONDS = 60.0", "RECENT_SECONDS = 1e9"),
        ),
    ),
    Mutant(
        "a-quorum-of-disks-is-no-quorum",
        "everybody was heard, and a majority has its data: they only cannot reach each other (and its objection)",
        "could still lead",
        HARM,
        (
            Change(
                "decide/loss.py",
                "blockers = (*_attendance(facts), *_accounts(facts), *_quorums(facts))",
                "blockers = (*_attendance(facts), *_accounts(facts))",
            ),
            Change(
                "decide/objections_to_succession.py",
                "no_list_finds_a_majority=all(2 * len(held.intersection(each)) <= len(each) for each in voters),",
                "no_list_finds_a_majority=True,",
            ),
        ),
    ),
    Mutant(
        "open-seats-are-not-waited-for",
        "a founder that has only been slow starts, and makes the quorum that was called lost (and its objection)",
        "could still lead",
        story("seldom_met", "founders_that_have_not_started_yet_are_waited_for"),
        (
            Change(
                "decide/loss.py",
                'return "has no data, and may still start as a founder" if report.seat is Seat.OPEN else None',
                'return "has no data, and may still start as a founder" if report.seat is None else None',
            ),
            Change(
                "decide/objections_to_succession.py",
                "no_founder_may_still_start=not open_seats,",
                "no_founder_may_still_start=True,",
            ),
        ),
    ),
    Mutant(
        "a-founder-denies-its-seat",
        "a founder that has claimed its start and not started yet reports that it never will",
        "could still lead",
        story("seldom_met", "founders_that_have_not_started_yet_are_waited_for"),
        (
            Change(
                "decide/reporting.py",
                "return Seat.OPEN if usable and s.disk.data is Data.EMPTY else Seat.SPENT",
                "return Seat.OPEN if usable and s.disk.data is None else Seat.SPENT",
            ),
        ),
    ),
    Mutant(
        "what-is-damaged-is-nothing",
        "damaged data that somebody could repair is half of a quorum, and is passed over (and its objection)",
        "may_be_repaired",
        story("odd_survivors", "damaged_data_of_a_quorum_may_be_repaired_and_is_waited_for"),
        (
            Change(
                "decide/loss.py",
                "tuple(each for each in self.fresh.values() if each.data is not Holding.NONE)",
                "tuple(each for each in self.fresh.values() if each.data is Holding.INTACT)",
            ),
            Change(
                "decide/objections_to_succession.py",
                "return [each for each in _speaking(o) if each.data is not Holding.NONE]",
                "return [each for each in _speaking(o) if each.data is Holding.INTACT]",
            ),
        ),
    ),
    Mutant(
        "reports-from-before-an-end-count",
        "who ended just now had led the others, and changed their lists after they reported",
        "nothing_about_what_came_after",
        (f"{PROPERTIES}::test_reports_from_before_a_change_of_leader_say_nothing_about_what_came_after",),
        (Change("decide/loss.py", "    yield from _overtaken(facts)\n", ""),),
    ),
    Mutant(
        "the-list-after-a-restart-is-forgotten",
        "an etcd that is killed after its report goes back to an older list, in which it has a quorum",
        "go_back_to_its_old_list",
        (f"{PROPERTIES}::test_a_reporter_that_is_killed_after_its_report_may_go_back_to_its_old_list",),
        (Change("decide/loss.py", "    if report.restart_members:\n", "    if not report.members:\n"),),
    ),
    Mutant(
        "changes-that-are-not-applied-yet-are-overlooked",
        "the list that was told is not the last word of the one that told it",
        "waited_for",
        (f"{PROPERTIES}::test_a_change_that_is_committed_and_not_applied_yet_is_waited_for",),
        (Change("decide/loss.py", "    if holder.position.pending_changes:\n", "    if holder.position is None:\n"),),
    ),
    Mutant(
        "what-cannot-be-told-is-leaderless",
        "a certificate of ours has expired, so our etcd tells nothing: that is reported as a leader lost",
        "Sight",
        ("tests/decide/test_reporting.py",),
        (
            Change(
                "decide/reporting.py",
                "    if isinstance(s.o.leader_seen, Unknown) or (s.running and not s.holds_data):\n"
                "        return Sight.UNTOLD\n",
                "    if isinstance(s.o.leader_seen, Unknown):\n        return Sight.LONG_LEADERLESS\n",
            ),
        ),
    ),
    Mutant(
        "the-grace-is-over-at-once",
        "an election of two seconds is reported as a quorum lost",
        "Sight",
        ("tests/decide/test_reporting.py",),
        (
            Change(
                "decide/reporting.py",
                "    long = since is not None and s.o.now - since >= s.policy.leaderless_grace\n    return Sight",
                "    long = since is not None\n    return Sight",
            ),
        ),
    ),
    Mutant(
        "no-round-has-every-fact",
        "reports and the fleet come due in the same rounds, and a lost cluster is never proven to be lost",
        "memory",
        ("tests/model/test_memory.py",),
        (
            Change(
                "model/memory.py",
                'if memory.head is None or "fleet" not in asked or asked["fleet"] != asked.get("process"):',
                "if asked is not None:",
            ),
        ),
    ),
    Mutant(
        "a-loss-without-evidence",
        "nobody can tell afterwards why the old cluster was given up",
        "without evidence",
        story("seldom_met", "the_record_of_a_recovery_tells_what_its_proof_used"),
        (Change("decide/recovering.py", 'Cause("quorum-lost", lost.evidence)', 'Cause("quorum-lost", {})'),),
    ),
)
