"""What could not be read is taken for something: for nothing, for an empty list, for a yes."""

from __future__ import annotations

from tests.mutants.mutant import MANY, WALKS, Change, Mutant, story

IGNORANCE = (
    Mutant(
        "an-unread-head-is-none",
        "all instances reboot while S3 is down, and no etcd starts: the bucket seems to be empty",
        "start_in_place",
        story("living", "all_rebooted_while_a_neighbour_is_down_start_in_place"),
        (
            Change(
                "observe.py",
                "    return ask(lambda: world.bucket.head(None if afresh else memory.head))\n",
                "    head = ask(lambda: world.bucket.head(None if afresh else memory.head))\n"
                "    return None if isinstance(head, Unknown) else head\n",
            ),
        ),
    ),
    Mutant(
        "an-unread-head-is-a-newer-one",
        "S3 fails, and every running etcd is stopped and its data moved aside (and its objection)",
        "of a lineage that lives",
        WALKS,
        (
            Change(
                "decide/fencing.py",
                "if identity is None or identity.stage is Stage.FENCED or not isinstance(head, GenerationRecord):\n"
                "        return None\n"
                "    if identity.generation >= head.generation:\n"
                "        return None\n"
                '    why = f"generation {head.generation} exists, and',
                'if identity is None or identity.stage is Stage.FENCED or head is None or "not-asked" in str(head):\n'
                "        return None\n"
                "    if isinstance(head, GenerationRecord) and identity.generation >= head.generation:\n"
                "        return None\n"
                '    why = f"another generation exists, and',
            ),
            Change(
                "decide/objections.py",
                "newer = isinstance(o.head, GenerationRecord) and o.head.generation > before.generation",
                "newer = not isinstance(o.head, GenerationRecord) or o.head.generation > before.generation",
            ),
        ),
        MANY,
    ),
    Mutant(
        "an-unread-member-list-is-empty",
        "the others answer and have no leader for a moment: we must have been removed, and set our data aside",
        "of a lineage that lives",
        WALKS,
        (
            Change(
                "observe.py",
                '    last = Unknown(Ignorance.FAILED, "the members that answer know no leader")\n',
                "    last = Membership(ours, (), related[0])\n",
            ),
        ),
        MANY,
    ),
    Mutant(
        "an-unread-listing-of-snapshots-is-empty",
        "S3 fails for a moment, and the next generation starts from less than the newest snapshot",
        "not in",
        story("seldom_met", "a_listing_that_failed_is_not_an_empty_one"),
        (
            Change(
                "observe.py",
                "        o = replace(o, snapshots=ask(world.bucket.snapshots))\n",
                "        listed = ask(world.bucket.snapshots)\n"
                "        o = replace(o, snapshots=() if isinstance(listed, Unknown) else listed)\n",
            ),
        ),
    ),
    Mutant(
        "an-unread-fleet-is-empty",
        "EC2 fails while a voter is silent: its instance seems not to exist, and it is removed (and its objection)",
        "removes",
        WALKS,
        (
            Change(
                "observe.py",
                "    return ask(lambda: world.cloud.fleet(names, groups_are_due(memory, near.now, policy)))\n",
                "    fleet = ask(lambda: world.cloud.fleet(names, groups_are_due(memory, near.now, policy)))\n"
                "    return Fleet((), ()) if isinstance(fleet, Unknown) else fleet\n",
            ),
            Change(
                "decide/situation.py",
                "if self.o.answers.answered(member.id) or fleet.find(self.me.instance) is None:\n"
                "            return None\n",
                "if self.o.answers.answered(member.id):\n            return None\n"
                "        if not fleet.instances:\n            return f'EC2 does not know {member.name}'\n",
            ),
            Change(
                "decide/objections.py",
                "return False  # it lives, or EC2 speaks of some other account than ours",
                "return not states and not o.answers.answered(entry.id)",
            ),
        ),
        MANY,
    ),
    Mutant(
        "doubt-is-tried-again-at-once",
        "a start whose answer was lost is a second start, of an etcd that runs already",
        "starts etcd a second time",
        story("founding", "when_every_reply_is_lost_the_bucket_says_who_won"),
        (
            Change(
                "loop.py",
                "    result = act(world, decision.action, o)\n",
                "    result = act(world, decision.action, o)\n"
                "    if result.outcome is Outcome.MAYBE:\n        result = act(world, decision.action, o)\n",
            ),
        ),
    ),
    Mutant(
        "maybe-is-done",
        "a store that answers no write is asked again at once, and again, by every agent at the same time",
        "is_not_hammered",
        story("seldom_met", "a_store_that_answers_no_write_is_not_hammered"),
        (Change("act.py", "return Result(Outcome.MAYBE, str(trouble))", "return Result(Outcome.DONE, str(trouble))"),),
    ),
)
