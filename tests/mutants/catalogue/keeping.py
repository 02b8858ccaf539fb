"""Snapshots, and what the doors leave on the disk and in the bucket."""

from __future__ import annotations

from tests.mutants.mutant import Change, Mutant, story

HOST = "tests/contracts/test_host.py"

KEEPING = (
    Mutant(
        "the-heads-seed-expires",
        "a founder that comes late finds nothing to restore (and its objection)",
        "is deleted",
        story("snapshots", "retention_lets_go_only_behind_newer_ones"),
        (
            Change(
                "model/retention.py",
                "    for name in {name.generation: name for name in sorted(sound)}.values():\n",
                "    for name in sorted(sound)[-1:]:\n",
            ),
            Change("model/retention.py", "    if seed is not None:\n", "    if seed is not None and head is None:\n"),
            Change(
                "decide/objections.py",
                "the_head_does_not_start_from_it=all(name.manifest_key != seed for name in names),",
                "the_head_does_not_start_from_it=True,",
            ),
        ),
    ),
    Mutant(
        "all-take-snapshots",
        "every member uploads the whole database at every interval",
        "one_member_takes_them",
        story("snapshots", "one_member_takes_them_and_never_the_leader"),
        (
            Change(
                "decide/snapshotting.py",
                "return order.index(local.member_id) if local.member_id in order else None",
                "return 0 if local.member_id in order else None",
            ),
        ),
    ),
    Mutant(
        "all-take-one-after-a-rest",
        "the first write after a quiet night has every member upload the whole database at once",
        "after_a_long_rest",
        story("snapshots", "a_write_after_a_long_rest_is_the_first_ones_alone_to_snapshot"),
        (
            Change(
                "decide/snapshotting.py",
                "return age >= policy.snapshot_interval + patience and waited >= patience",
                "return age >= policy.snapshot_interval + patience",
            ),
        ),
    ),
    Mutant(
        "idle-clusters-take-snapshots",
        "an idle cluster pays for its whole database every five minutes",
        "an_idle_cluster_writes_none",
        story("snapshots", "an_idle_cluster_writes_none"),
        (
            Change(
                "decide/snapshotting.py",
                "return manifest.raft_index >= local.applied_index",
                "return manifest.raft_index < 0",
            ),
        ),
    ),
    Mutant(
        "uploads-that-broke-off-count",
        "data without a manifest is taken for the newest snapshot, and none is taken for as long",
        "snapshotting",
        ("tests/decide/test_snapshotting.py",),
        (
            Change(
                "decide/snapshotting.py",
                "[each for each in listed if each.usable and each.name.generation == record.generation]",
                "[each for each in listed if each.name.generation == record.generation]",
            ),
        ),
    ),
    Mutant(
        "a-manifest-without-its-data",
        "a snapshot counts that is not there",
        "without_its_data",
        ("tests/contracts/test_snapshot_store.py::test_a_manifest_without_its_data_is_refused",),
        (
            Change(
                "world/snapshot_store.py",
                "        stored, _ = self._source(name.data_key).whole()\n",
                "        stored = manifest.stored_bytes\n",
            ),
        ),
    ),
    Mutant(
        "quarantine-deletes",
        "the only copy of something is gone, because it was fenced",
        "move",
        (f"{HOST}::test_data_and_identity_move_together",),
        (
            Change(
                "world/disk.py",
                "        source.rename(target)\n    except",
                "        shutil.rmtree(source) if source.is_dir() else source.unlink()\n    except",
            ),
        ),
    ),
    Mutant(
        "identity-before-its-directory",
        "killed between the two, an identity says that a disk was prepared, and it looks like one that was lost",
        "killed_at_any_step",
        (
            f"{HOST}::test_a_stamp_that_is_killed_at_any_step_leaves_the_old_or_the_new_and_never_names_a_missing_directory",
        ),
        (
            Change(
                "world/disk.py",
                "        if prepare:\n            self._prepare()\n"
                "        durable.write(self._identity, _to_json(identity))\n",
                "        durable.write(self._identity, _to_json(identity))\n"
                "        if prepare:\n            self._prepare()\n",
            ),
        ),
    ),
    Mutant(
        "412-is-ours",
        "another's claim is taken for our own success: the door does not compare what it reads back",
        "the_words_of_the_winner",
        ("tests/contracts/test_parity_bucket.py::test_the_words_of_the_winner_stay",),
        (
            Change(
                "world/bucket.py",
                "return found is None or found == claim\n",
                "return True\n",
            ),
        ),
    ),
    Mutant(
        "voters-are-added-directly",
        "a newcomer with an empty log counts for the quorum before it holds anything (needs a real etcd)",
        "learner",
        ("tests/contracts/test_etcd.py::test_the_life_of_a_learner",),
        (Change("world/etcd.py", "peerURLs=[peer_url], isLearner=True", "peerURLs=[peer_url], isLearner=False"),),
    ),
    Mutant(
        "no-objections",
        "the second look is off: a mistake in a rule is carried out",
        "veto",
        ("tests/decide/test_objections.py",),
        (Change("decide/objections.py", "    match decision.action:\n", "    match None:\n"),),
    ),
)
