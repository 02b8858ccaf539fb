"""The ordered table of rules: the first that speaks wins. `docs/how-it-decides.md` renders it from here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.decide import (
    assembling,
    certifying,
    contradicting,
    draining,
    fencing,
    founding,
    healing,
    joining,
    leaving,
    maintaining,
    naming,
    promoting,
    protecting,
    recovering,
    registering,
    removing,
    reporting,
    restarting,
    resting,
    settling,
    snapshotting,
    upgrading,
)
from agent.decide.holding import hold_on, in_spite_of
from agent.decide.situation import Situation, wait
from agent.model.actions import Blocker, Decision
from agent.model.known import Unknown
from agent.model.memory import PROVEN_LOST, Memory
from agent.model.observation import Observation
from agent.model.policy import Policy

Judge = Callable[[Situation], Decision | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """A name for logs, metrics and the docs, and the function that speaks or stays silent."""

    name: str
    judge: Judge


RULES: tuple[Rule, ...] = (
    Rule("keep-hook", leaving.keep_the_hook),
    Rule("issue-certificates", certifying.issue_certificates),
    Rule("unsound-bucket", contradicting.refuse_an_unsound_bucket),
    Rule("garbled-record", contradicting.refuse_a_garbled_record),
    Rule("file-report", reporting.file_report),
    Rule("unsigned-data", contradicting.refuse_a_garbled_disk),
    Rule("foreign-cluster", contradicting.refuse_a_foreign_cluster),
    Rule("bucket-behind-disk", contradicting.refuse_a_bucket_behind_the_disk),
    Rule("strange-cluster-id", contradicting.refuse_a_strange_cluster_id),
    Rule("corruption", contradicting.refuse_corruption),
    Rule("corrupting-version", contradicting.refuse_a_corrupting_version),
    Rule("let-failed-disk-go", healing.let_a_failed_disk_go),
    Rule("fence-older-generation", fencing.fence_an_older_generation),
    Rule("fence-removed-member", fencing.fence_a_removed_member),
    Rule("stop-fenced", fencing.stop_what_is_fenced),
    Rule("quarantine-fenced", fencing.quarantine_what_is_fenced),
    Rule("leave-saved", leaving.leave_what_is_saved),
    Rule(PROVEN_LOST, recovering.recover),
    Rule("stay-down", recovering.stay_down),
    Rule("save-last-log", leaving.save_the_last_log),
    Rule("look-first", restarting.wait_for_a_look_at_the_head),
    Rule("remove-own-broken", healing.remove_own_broken_member),
    Rule("ask-replacement", healing.ask_to_be_replaced),
    Rule("name-obstacle", healing.name_what_keeps_etcd_down),
    Rule("back-off", restarting.back_off),
    Rule("check-upgrade", upgrading.check_a_restart),
    Rule("await-certificates", certifying.await_certificates),
    Rule("tell-of-move", restarting.tell_the_quorum_of_a_move),
    Rule("restart-in-place", restarting.restart_in_place),
    Rule("stamp-membership", settling.stamp_membership),
    Rule("write-formed", settling.write_formed),
    Rule("correct-address", settling.correct_own_address),
    Rule("clear-inherited-alarm", settling.clear_an_inherited_alarm),
    Rule("remove-departed", removing.remove_a_departed_member),
    Rule("remove-stalled-learner", removing.remove_a_stalled_learner),
    Rule("deregister", registering.deregister),
    Rule("drain", draining.let_clients_go_first),
    Rule("leave", leaving.leave),
    Rule("step-aside", leaving.step_aside),
    Rule("arrive", leaving.arrive),
    Rule("promote-myself", promoting.promote_myself),
    Rule("wait-for-quorum", recovering.wait_for_quorum),
    Rule("found", assembling.found_the_first_generation),
    Rule("start-as-founder", founding.start_as_a_founder),
    Rule("give-up-seat", recovering.give_up_a_seat),
    Rule("check-version", upgrading.check_a_newcomer),
    Rule("join", joining.join),
    Rule("take-snapshot", snapshotting.take_snapshot),
    Rule("expire-snapshots", snapshotting.expire_snapshots),
    Rule("drill", snapshotting.drill),
    Rule("reload-authorities", certifying.reload_authorities),
    Rule("make-room", maintaining.make_room),
    Rule("defragment", maintaining.defragment),
    Rule("protect", protecting.protect_while_it_is_needed),
    Rule("publish-names", naming.publish_names),
    Rule("register", registering.register),
    Rule("rest", resting.rest),
)

UNSEEN = "unseen"
"""The rule's name where the agent does not know its own disk or process: no rule can be asked."""


def situate(o: Observation, memory: Memory, policy: Policy) -> Situation | None:
    """The situation to judge, or None while our own disk or process is unknown."""
    if isinstance(o.disk, Unknown) or isinstance(o.process, Unknown):
        return None
    return Situation(o, memory, policy, o.disk, o.process)


def decide(o: Observation, memory: Memory, policy: Policy) -> Decision:
    """What to do in this round. Pure, total, and the same for the same values."""
    situation = situate(o, memory, policy)
    if situation is None:
        unread = {name: each for name, each in (("disk", o.disk), ("process", o.process)) if isinstance(each, Unknown)}
        because = f"our own {' and '.join(f'{name} is {each}' for name, each in unread.items())}"
        return replace(wait(Blocker.IGNORANCE, because), rule=UNSEEN)
    judged = ((rule, rule.judge(situation)) for rule in RULES)  # one after another, until one speaks
    spoken = (replace(decision, rule=rule.name) for rule, decision in judged if decision is not None)
    hold = hold_on(o, memory)
    return next(spoken) if hold is None else in_spite_of(hold, spoken, situation.disk)
