"""The first start, which happens once, and to whom."""

from __future__ import annotations

from tests.mutants.mutant import MANY, WALKS, Change, Mutant, story

FOUNDING = (
    Mutant(
        "no-claim",
        "a founder whose disk is lost starts again under its old ID, and has forgotten its vote (and its objection)",
        "starts a second time",
        WALKS,
        (
            Change(
                "decide/founding.py",
                "    if s.o.claim is None:\n        return _claim_the_start(s, record)\n"
                "    if not _may_start(s, record, s.o.claim):\n",
                "    if s.identity is None or not _prepared(s, s.identity, record):\n"
                "        return _claim_the_start(s, record)\n"
                "    if s.o.claim is not None and not _may_start(s, record, s.o.claim):\n",
            ),
            Change(
                "decide/objections.py",
                'and no data."""\n'
                "    if not isinstance(o.disk, Disk) or not isinstance(o.head, GenerationRecord) or o.claim is None:",
                'and no data."""\n    if not isinstance(o.disk, Disk) or not isinstance(o.head, GenerationRecord):',
            ),
            Change(
                "decide/objections.py",
                "the_claim_is_of_this_disk=identity is not None and identity.nonce == claimed,",
                "the_claim_is_of_this_disk=True,",
            ),
            Change(
                "decide/objections.py",
                'for a start as `new`."""\n'
                "    if not isinstance(o.disk, Disk) or not isinstance(o.head, GenerationRecord) or o.claim is None:",
                'for a start as `new`."""\n'
                "    if not isinstance(o.disk, Disk) or not isinstance(o.head, GenerationRecord):",
            ),
            Change(
                "decide/objections.py",
                'the_claim_is_of_this_disk=nonce == getattr(o.claim, "nonce", None),',
                "the_claim_is_of_this_disk=True,",
            ),
        ),
        MANY,
    ),
    Mutant(
        "any-claim-is-ours",
        "the bucket's 412 is read as our own success without comparing nonces, by a disk that is new (and objections)",
        "starts a second time",
        WALKS,
        (
            Change(
                "decide/founding.py", "    if s.o.claim is None:\n", "    if s.o.claim is None or s.identity is None:\n"
            ),
            Change(
                "decide/founding.py",
                "and _prepared(s, identity, record) and claim.nonce == identity.nonce",
                "and _prepared(s, identity, record)",
            ),
            Change(
                "decide/objections.py",
                "the_claim_is_of_this_disk=identity is not None and identity.nonce == claimed,",
                "the_claim_is_of_this_disk=True,",
            ),
            Change(
                "decide/objections.py",
                'the_claim_is_of_this_disk=nonce == getattr(o.claim, "nonce", None),',
                "the_claim_is_of_this_disk=True,",
            ),
        ),
        MANY,
    ),
    Mutant(
        "claim-before-identity",
        "whoever dies between the two is no different from one whose disk is lost, and both start (and its objection)",
        "starts a second time",
        WALKS,
        (
            Change(
                "decide/founding.py",
                "    if s.o.claim is None:\n        return _claim_the_start(s, record)\n"
                "    if not _may_start(s, record, s.o.claim):\n        return None\n",
                "    if s.o.claim is None:\n"
                '        return do(WriteClaim(record.generation, Claim(s.me.instance, s.o.nonce)), "claim first")\n'
                "    if not _may_start(s, record, s.o.claim):\n"
                "        me, nonce = s.me, s.o.claim.nonce\n"
                "        fresh = Identity(\n"
                "            s.policy.cluster, me.instance, record.generation, Stage.STARTING, nonce, me.peer_url\n"
                "        )\n"
                '        return do(StampIdentity(fresh, prepare=True), "then the identity")\n',
            ),
            Change("decide/objections.py", "            return _to_claiming(claim, o)\n", "            return ()\n"),
        ),
        MANY,
    ),
    Mutant(
        "a-wiped-learner-takes-its-old-id",
        "raft has heard from this ID, and it comes back with an empty log (and its objection)",
        "starts a second time",
        story("agents_die", "a_joiner_that_dies_at_any_step_becomes_a_voter_all_the_same"),
        (
            Change(
                "decide/joining.py",
                "return _reap_own(s, membership) or _prepare(s, record)",
                "return _prepare(s, record)",
            ),
            Change("decide/joining.py", "if not entry.started and entry.is_learner:", "if entry.is_learner:"),
            Change(
                "decide/joining.py",
                '    if entry.started:\n        return _remove_own(s, entry, membership, "it has',
                '    if not entry:\n        return _remove_own(s, entry, membership, "it has',
            ),
            Change(
                "decide/objections.py",
                'or (identity.stage is Stage.JOINING and entry is not None and entry.name == ""),',
                "or (identity.stage is Stage.JOINING and entry is not None),",
            ),
        ),
    ),
    Mutant(
        "a-founder-that-joined-keeps-its-seat",
        "wiped and back at its old address, it starts as the founder that it never was",
        "removed long ago",
        story("founding", "a_late_founder_with_another_address_joins_and_never_uses_its_seat_again"),
        (
            Change(
                "decide/joining.py",
                "return _give_up_the_seat(s, identity, record) or _add(s, identity, membership)",
                "return _add(s, identity, membership)",
            ),
            Change(
                "decide/recovering.py",
                "    if record.founders.get(s.me.instance, s.me.peer_url) == s.me.peer_url"
                " or isinstance(s.o.claim, Unknown):\n",
                "    if record.founders:\n",
            ),
        ),
    ),
    Mutant(
        "one-founds-alone",
        "the first agent that boots is a cluster of one, and the fleet never had a quorum",
        "one_of_three_never_founds_alone",
        story("forming", "one_of_three_never_founds_alone"),
        (
            Change(
                "decide/assembling.py",
                "        return quorum_of(fleet.desired_capacity)\n    return fleet.desired_capacity\n",
                "        return 1\n    return 1\n",
            ),
        ),
    ),
    Mutant(
        "a-majority-founds-at-once",
        "without the grace the others of the fleet are no founders, and a slow boot is a smaller cluster",
        "form_one_cluster",
        story("forming"),
        (
            Change(
                "decide/assembling.py",
                "    return fleet.desired_capacity\n\n\ndef _who_is_missing",
                "    return quorum_of(fleet.desired_capacity)\n\n\ndef _who_is_missing",
            ),
        ),
    ),
    Mutant(
        "one-founder-is-left-out",
        "the record names fewer founders than voters are wanted",
        "form_one_cluster",
        story("forming", "three_agents_started_in_any_order_form_one_cluster"),
        (Change("decide/assembling.py", "_spread(list(urls))[:seats]}", "_spread(list(urls))[: max(1, seats - 1)]}"),),
    ),
    Mutant(
        "everybody-founds",
        "a fourth founder makes four voters, which survive no more than three do",
        "have_three_founders",
        story("forming", "four_instances_have_three_founders_and_a_spare_that_takes_over"),
        (Change("decide/assembling.py", "_spread(list(urls))[:seats]}", "_spread(list(urls))[: seats + 1]}"),),
    ),
    Mutant(
        "the-leaving-found",
        "an instance that is being terminated is a founder instead of its replacement",
        "is_being_terminated_founds_nothing",
        story("forming", "an_instance_that_is_being_terminated_founds_nothing"),
        (
            Change(
                "decide/assembling.py",
                "for instance in fleet.up if instance.id in fresh and not instance.leaving}",
                "for instance in fleet.up if instance.id in fresh}",
            ),
        ),
    ),
    Mutant(
        "founding-beside-old-data",
        "the bucket was emptied: the newcomers found a second cluster beside the data (and its objections)",
        "written a second time",
        story("founding", "old_data_on_one_disk_keeps_the_others_from_founding"),
        (
            Change("decide/assembling.py", "    if holders:\n", "    if not fleet:\n"),
            Change(
                "decide/objections_to_succession.py",
                "no_report_tells_of_data=not any(_holds_data(each, fleet) for each in o.reports),",
                "no_report_tells_of_data=True,",
            ),
        ),
    ),
    Mutant(
        "founding-beside-snapshots",
        "the records were deleted and the snapshots are there: an empty cluster begins over them (and its objection)",
        "snapshots_without_a_record",
        story("seldom_met", "snapshots_without_a_record_call_a_human"),
        (
            Change("decide/assembling.py", "    if s.o.snapshots:\n", "    if s.o.snapshots is None:\n"),
            Change(
                "decide/objections_to_succession.py",
                "there_are_no_snapshots=o.snapshots == (),",
                "there_are_no_snapshots=True,",
            ),
        ),
    ),
    Mutant(
        "an-unsound-bucket-arbitrates",
        "a store that ignores preconditions lets two agents both be the first (and its objection)",
        "ignores_preconditions",
        story("forming", "a_bucket_that_ignores_preconditions_founds_nothing"),
        (
            Change("decide/contradicting.py", "if isinstance(s.o.bucket, BucketUnsound):", "if s.o.bucket is None:"),
            Change(
                "decide/assembling.py",
                "    if not isinstance(s.o.bucket, BucketSound):\n",
                "    if s.o.bucket is None:\n",
            ),
            Change(
                "decide/objections_to_succession.py",
                "the_bucket_honours_preconditions=isinstance(o.bucket, BucketSound),",
                "the_bucket_honours_preconditions=True,",
            ),
        ),
    ),
    Mutant(
        "no-group-is-a-capacity-of-one",
        "a tag is missing, and the first agent founds alone",
        "groups_that_are_not_listed",
        story("forming", "groups_that_are_not_listed_are_no_desired_capacity"),
        (
            Change(
                "decide/assembling.py", "    if fleet.desired_capacity < 1:\n", "    if fleet.desired_capacity < 0:\n"
            ),
        ),
    ),
)
