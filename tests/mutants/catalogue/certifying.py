"""Certificates of the agents' own."""

from __future__ import annotations

from tests.mutants.mutant import Change, Mutant, story

CERTIFYING = (
    Mutant(
        "all-reload-at-once",
        "a new authority is trusted by a fleet that is away for it",
        "reload",
        (
            "tests/decide/test_certifying.py::test_followers_reload_in_the_order_of_their_ids_and_the_leader_last",
            *story("certifying", "a_rotation_takes_two_rounds_of_restarts_one_at_a_time_and_the_leader_last"),
        ),
        (
            Change(
                "decide/certifying.py",
                "    ours = (own == leader, own)\n",
                "    ours = (False, min(own, *(each.id for each in membership.members)))\n",
            ),
        ),
    ),
    Mutant(
        "a-reload-beside-one-that-is-away",
        "a member restarts while another is down, and the quorum with it (and its objection)",
        "nobody_restarts_while_a_member_is_away",
        story("certifying", "nobody_restarts_while_a_member_is_away_or_the_cluster_is_held"),
        (
            Change(
                "decide/certifying.py",
                "    return not all(_is_well(s.o.answers.of.get(each.id)) for each in membership.members)\n",
                "    return False\n",
            ),
            Change(
                "decide/certifying.py",
                "    if since is None or s.o.now - since < WHOLE_FOR or s.leaving",
                "    if s.leaving",
            ),
            Change(
                "decide/objections.py",
                "            isinstance(each, MemberStatus) and each.leader is not None for each in spoken\n",
                "            True for each in spoken\n",
            ),
            Change(
                "decide/certifying.py",
                "wanted for each in _before_us(s, membership))",
                "wanted for each in _before_us(s, membership)[:0])",
            ),
        ),
    ),
    Mutant(
        "an-authority-beside-a-founded-cluster",
        "the parameter is deleted, and an agent makes an authority that no member believes (and its objection)",
        "made beside a cluster that has had one",
        story("certifying", "a_lost_authority_is_not_made_anew_by_agents"),
        (
            Change(
                "decide/certifying.py",
                "    if s.o.head is None and issued is None and not s.holds_data:\n",
                "    if issued is None and not s.holds_data:\n",
            ),
            Change(
                "decide/objections.py", "nothing_was_ever_founded=o.head is None\n", "nothing_was_ever_founded=True\n"
            ),
        ),
    ),
    Mutant(
        "worn-certificates-are-kept",
        "a week after its founding a cluster falls apart",
        "shows a certificate that is over",
        story(
            "certifying",
            "certificates_are_renewed_in_time_although_parameter_store_is_out_for_a_quarter_of_it",
        ),
        (
            Change(
                "decide/certifying.py",
                "    if issued.is_worn(s.o.now):\n",
                "    if issued.is_worn(s.o.now) and False:\n",
            ),
        ),
    ),
    Mutant(
        "etcd-starts-without-certificates",
        "an instance that comes up while Parameter Store is out starts an etcd that ends at once, again and again",
        "nobody would believe",
        story("certifying", "without_parameter_store_a_restart_goes_well_and_a_newcomer_waits"),
        (
            Change(
                "decide/certifying.py",
                "    if not s.policy.issues_certificates or s.running or isinstance(s.o.issued, Issued):\n",
                "    if s.policy.issues_certificates:\n",
            ),
        ),
    ),
)
