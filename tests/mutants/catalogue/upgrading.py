"""Another version of etcd: forward, one at a time, with a way back."""

from __future__ import annotations

from tests.mutants.mutant import Change, Mutant, story

OLDER_IS_LET_PASS = Change(
    "decide/upgrading.py",
    "    if installed < cluster:\n        return _refuse_a_downgrade(s, cluster, _unwell(s))\n",
    "    if installed < cluster:\n        return None\n",
)

UPGRADING = (
    Mutant(
        "an-older-etcd-is-started",
        "etcd 3.4 writes to the data of a 3.5 before it gives up (and its objection)",
        "an_older_binary_is_not_started",
        story("upgrading", "an_older_binary_is_not_started_on_newer_data"),
        (
            OLDER_IS_LET_PASS,
            Change(
                "decide/objections.py",
                "its_data_is_of_no_newer_version=not _is_too_old(o),",
                "its_data_is_of_no_newer_version=True,",
            ),
        ),
    ),
    Mutant(
        "an-older-etcd-joins",
        "an entry stays in the list that can never start, and nobody else can join (and its objection)",
        "an_older_image_joins_nothing",
        story("upgrading", "an_older_image_joins_nothing_and_leaves_no_entry"),
        (
            OLDER_IS_LET_PASS,
            Change(
                "decide/objections.py",
                "not_all_members_run_a_newer_etcd=not _is_outrun(o),",
                "not_all_members_run_a_newer_etcd=True,",
            ),
        ),
    ),
    Mutant(
        "no-way-back",
        "the first member of a newer version comes, and no snapshot of the older one is there",
        "waits_for_a_fresh_snapshot",
        story("upgrading", "the_first_of_the_newer_waits_for_a_fresh_snapshot"),
        (Change("decide/upgrading.py", "    return _wait_for_a_snapshot(s, step, cluster)\n", "    return None\n"),),
    ),
    Mutant(
        "a-version-is-skipped",
        "etcd 3.6 is started on data of 3.4, which nobody has tried",
        "skips a minor version",
        story("upgrading", "a_member_is_upgraded_in_place_and_one_that_skips_a_version_is_not_started"),
        (Change("decide/upgrading.py", "if installed != (cluster[0], cluster[1] + 1):", "if installed < cluster:"),),
    ),
    Mutant(
        "whoever-is-here-founds",
        "founders that cannot read the seed keep the others from a quorum (and its objection)",
        "half_upgraded",
        story("upgrading", "a_fleet_that_is_half_upgraded_recovers_with_whoever_can_read_the_snapshot"),
        (
            Change(
                "decide/recovering.py",
                "for each, said in reported.items() if not is_newer_minor(of_etcd, said.etcd_version)}",
                "for each, said in reported.items()}",
            ),
            Change(
                "decide/objections_to_succession.py",
                "every_founder_can_read_its_source=all(_reads(o.manifest, each, record) for each in _speaking(o)),",
                "every_founder_can_read_its_source=True,",
            ),
        ),
    ),
)
