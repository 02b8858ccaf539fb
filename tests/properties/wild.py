"""Wild but well-typed observations and memories, from a small universe so that coincidences are common.

A quarter of them is made of nothing but chance; the rest are told examples (tests/decide/examples.py) in
which some fields were replaced by chance. Every field may be Unknown of any kind.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from agent.model.actions import DeregisterTarget, RegisterTarget
from agent.model.certificates import Authorities, Issued
from agent.model.cluster import Alarm, AlarmKind, Answers, Member, Membership, MemberStatus
from agent.model.disk import Data, Disk, EtcdRunning, EtcdStopped, Identity, Obstacle, ObstacleKind, Stage
from agent.model.dns import DnsNames, RecordSet
from agent.model.fleet import Fleet, Group, Instance, InstanceState, Transition
from agent.model.generation import (
    Cause,
    Claim,
    Exclusion,
    FiledReport,
    Formed,
    GenerationRecord,
    Holding,
    Report,
    Seat,
    Seed,
    Sight,
)
from agent.model.hold import Hold
from agent.model.ids import GenerationNumber, InstanceId, MemberId, Nonce
from agent.model.known import Ignorance, Unknown
from agent.model.members import Damaged, LogPosition, MemberEntry, Survey
from agent.model.memory import Memory, Progress, remember
from agent.model.observation import BucketSound, BucketUnsound, Me, Observation
from agent.model.policy import Policy
from agent.model.snapshot import DrillRecord, DrillResult, Origin, Rescued
from agent.model.spot import SpotAction, SpotNotice
from agent.model.targets import TargetGroup
from agent.model.work import Defragment, Drill, Ended, FetchSeed, Idle, RescueLog, RestoreSeed, TakeSnapshot, Working
from tests.decide import examples as told
from tests.decide.examples import IPS, LONG_AGO, MEMBERS, NONCE, NOW, OLD_NONCE, Example

NAMES = DnsNames("etcd.internal.", timedelta(seconds=30))
GROUPS = ("clients", "operators")
POLICY = Policy(
    cluster="prod",
    nospace=True,
    maintenance_after=timedelta(0),
    protect_voters=True,
    replace_unhealthy=True,
    dns=NAMES,
    target_groups=GROUPS,
)

instances = st.sampled_from([told.A, told.B, told.C, told.D, told.E])
names = st.one_of(instances, instances, st.just(InstanceId("i-unheard")))
member_ids = st.sampled_from([*MEMBERS.values(), MemberId(0xF)])
clusters = st.sampled_from([told.CLUSTER, told.CLUSTER, told.CLUSTER, told.OTHER_CLUSTER])
nonces = st.sampled_from([NONCE, OLD_NONCE])
peers = st.builds(told.peer, instances)
times = st.builds(
    lambda seconds: NOW - timedelta(seconds=seconds), st.sampled_from([0, 1, 9, 11, 59, 121, 1000, 3599, 3601, 90_000])
)
generations = st.builds(GenerationNumber, st.sampled_from([1, 1, 1, 2, 3]))
unknowns = st.builds(Unknown, st.sampled_from(Ignorance), st.just("no answer"))


def perhaps(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Known more often than not."""
    return st.one_of(strategy, strategy, strategy, unknowns)


@st.composite
def member(draw: st.DrawFn) -> Member:
    who = draw(instances)
    name = draw(st.sampled_from([who, who, who, "", draw(names)]))
    urls = (draw(st.sampled_from([told.peer(who), told.peer(who), draw(peers)])),)
    clients = () if name == "" else (told.client(who),)
    return Member(MEMBERS[who], name, urls, clients, draw(st.sampled_from([False, False, True])))


members = st.lists(member(), max_size=5, unique_by=lambda each: each.id).map(tuple)
memberships = st.builds(Membership, clusters, members, st.builds(told.client, instances))

statuses = st.builds(
    MemberStatus,
    member_id=member_ids,
    cluster_id=clusters,
    version=st.just("3.5.30"),
    leader=st.one_of(st.none(), member_ids, member_ids),
    raft_term=st.integers(0, 9),
    committed_index=st.integers(0, 9),
    applied_index=st.integers(0, 9),
    is_learner=st.booleans(),
    db_size_bytes=st.sampled_from([0, 1_000_000, 10_000_000_000]),
    revision=st.integers(0, 9),
    errors=st.sampled_from([(), (), (), (), ("alarm:CORRUPT",), ("alarm:NOSPACE",)]),
    db_size_in_use_bytes=st.sampled_from([0, 1_000_000, 10_000_000_000]),
)
answers = st.builds(Answers, st.dictionaries(member_ids, st.one_of(statuses, statuses, unknowns)))

identities = st.builds(
    Identity,
    cluster=st.sampled_from(["prod", "prod", "prod", "prod", "staging"]),
    instance=instances,
    generation=generations,
    stage=st.sampled_from(Stage),
    nonce=nonces,
    peer_url=peers,
    member_id=st.one_of(st.none(), member_ids),
    cluster_id=st.one_of(st.none(), clusters),
)
DIGESTS = [told.manifest(told.snapshot_name(revision)).sha256 for revision in (700, 800, 900)]
disks = st.builds(
    Disk,
    st.one_of(st.none(), identities, identities),
    st.sampled_from(Data),
    st.frozensets(st.sampled_from(DIGESTS)),
    st.frozensets(nonces),
    st.lists(times, max_size=1).map(tuple),
)
processes = st.one_of(st.builds(EtcdRunning, st.just(42)), st.builds(EtcdStopped, st.sampled_from([None, 0, 1])))


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    listed = draw(st.lists(instances, unique=True))
    tag_holds = st.sampled_from([None] * 15 + [Hold("a tag", "")])
    lifecycles = st.sampled_from(["InService", "InService", "Warmed:Running", "Terminating:Wait", None])
    return Fleet(
        tuple(
            Instance(
                each,
                draw(st.sampled_from(InstanceState)),
                LONG_AGO,
                IPS[each],
                each[-1],
                "g",
                draw(lifecycles),
                draw(tag_holds),
            )
            for each in sorted(listed)
        ),
        tuple(Group(f"g{each}", size) for each, size in enumerate(draw(st.lists(st.integers(0, 5), max_size=2)))),
        draw(st.frozensets(names)),
        draw(st.frozensets(names)),
    )


records = st.builds(
    GenerationRecord,
    generation=generations,
    cluster=st.just("prod"),
    token=st.sampled_from(["token-1", "token-2"]),
    created_by=instances,
    created_at=times,
    agent=st.just("0"),
    nonce=nonces,
    founders=st.lists(instances, max_size=5, unique=True).map(lambda who: {each: told.peer(each) for each in who}),
    cause=st.just(Cause("first", {})),
    seed=st.sampled_from(
        [
            None,
            None,
            None,
            Seed("elsewhere/x.json", 1, "ff", "operator"),
            told.seed(told.manifest()),
            told.the_next().seed,
        ]
    ),
)
claims = st.builds(Claim, instances, nonces)
formeds = st.builds(Formed, clusters, st.dictionaries(member_ids, instances))
positions = st.builds(LogPosition, st.integers(5, 8), st.integers(900, 1010), st.integers(900, 1000), st.booleans())


@st.composite
def entries(draw: st.DrawFn) -> MemberEntry:
    each = draw(member())
    return MemberEntry(each.id, each.name, each.peer_urls, each.is_learner)


lists = st.lists(entries(), max_size=5, unique_by=lambda each: each.id).map(tuple)
said = st.builds(
    Report,
    instance=instances,
    peer_url=peers,
    boot_id=st.sampled_from(["boot-1", "boot-1", "boot-2"]),
    data=st.sampled_from(Holding),
    generation=st.one_of(st.none(), generations),
    cluster_id=st.one_of(st.none(), clusters),
    member_id=st.one_of(st.none(), member_ids),
    seat=st.sampled_from([Seat.NONE, Seat.NONE, Seat.NONE, *Seat]),
    sight=st.sampled_from([Sight.LONG_LEADERLESS] * 6 + [*Sight]),
    running=st.booleans(),
    position=st.one_of(st.none(), positions, positions),
    members=lists,
    restart_members=st.one_of(st.just(()), st.just(()), lists),
    trouble=st.sampled_from(["", "", "", "etcd panics"]),
)
told_said = st.one_of(
    st.builds(told.nothing, instances),
    st.builds(
        lambda who, others: told.holding(who, *(others - {who})), instances, st.frozensets(instances, max_size=3)
    ),
    said,
)
reports = st.builds(FiledReport, told_said, st.sampled_from([0.0, 1.0, 1.0, 1.0, 6.0, 21.0, 9000.0]))
exclusions = st.lists(st.builds(Exclusion, names, st.just("burned"), st.just("admin"), times), max_size=2).map(tuple)
snapshot_names = st.builds(
    told.snapshot_name, st.sampled_from([700, 800, 900]), st.sampled_from([1, 1, 2]), st.sampled_from([0, 4, 6, 3000])
)
listings = st.lists(
    st.builds(
        told.a_snapshot,
        snapshot_names,
        committed=st.sampled_from([True, True, True, False]),
        bad=st.sampled_from([False, False, False, True]),
        stored_bytes=st.sampled_from([1, 1, 1, None]),
    ),
    max_size=6,
    unique_by=lambda each: each.name,
).map(lambda found: tuple(sorted(found, key=lambda each: each.name)))
rescues = st.builds(
    Rescued, instances, member_ids, st.one_of(st.just(told.POSITION), st.just(told.POSITION), positions)
)
manifests = st.builds(
    told.manifest,
    snapshot_names,
    raft_index=st.sampled_from([0, 850, 1000, 1010]),
    cluster_id=st.one_of(st.none(), clusters),
    etcd_version=st.sampled_from(["3.5.30", "3.5.30", "3.6.1"]),
    members=lists,
    rescued=st.one_of(st.none(), st.none(), rescues),
)
surveys = st.one_of(
    st.builds(Survey, clusters, member_ids, lists, positions, st.integers(0, 999), lists),
    st.just(Damaged("a checksum")),
)
published = st.sampled_from([frozenset[RecordSet](), NAMES.of(frozenset({(IPS[told.A], 2379)}))])
target_groups = st.builds(
    lambda arn, registered, healthy: TargetGroup(arn, registered, registered & healthy),
    st.sampled_from(GROUPS),
    st.frozensets(instances),
    st.frozensets(instances),
)
registrations = st.builds(
    lambda kind, arn: kind(arn), st.sampled_from([RegisterTarget, DeregisterTarget]), st.sampled_from(GROUPS)
)
obstacles = st.builds(Obstacle, st.sampled_from(ObstacleKind), st.just("it is"))
seeds = st.builds(told.seed, manifests, st.sampled_from(["snapshot", "survivor i-a"]))
tasks = st.one_of(
    st.builds(TakeSnapshot, generations, st.sampled_from(Origin), st.one_of(st.none(), rescues)),
    st.builds(RescueLog, generations, rescues),
    st.builds(FetchSeed, manifests),
    st.builds(RestoreSeed, seeds, nonces, instances, peers, st.just("token-1"), st.just(())),
    st.builds(Drill, snapshot_names),
    st.builds(Defragment, member_ids, st.builds(told.client, instances)),
)
works = st.one_of(
    st.just(Idle()),
    st.builds(Working, tasks, times),
    st.builds(
        Ended, tasks, times, times, st.one_of(st.none(), unknowns), st.booleans(), st.one_of(st.none(), manifests)
    ),
)
alarms = st.lists(st.builds(Alarm, member_ids, st.sampled_from(AlarmKind)), max_size=2).map(tuple)
drills = st.builds(
    DrillRecord,
    snapshot_names,
    instances,
    st.sampled_from(DrillResult),
    st.just(""),
    st.just(1.0),
    st.sampled_from([0.0, 90_000.0]),
)
all_reports = st.lists(reports, max_size=5, unique_by=lambda each: each.report.instance).map(tuple)
mes = st.builds(
    lambda who, url: Me(who, IPS[who], url or told.peer(who), "boot-1", who[-1]),
    instances,
    st.one_of(st.none(), st.none(), peers),
)
verdicts = st.sampled_from([BucketSound(), BucketSound(), BucketSound(), BucketUnsound("ignores them", "use S3")])
holds = st.sampled_from([None, None, None, Hold("somebody", "maintenance", LONG_AGO)])
lifecycle_targets = st.sampled_from([None, "InService", "Terminated", "Warmed:Stopped"])
notices = st.builds(
    SpotNotice, st.sampled_from(SpotAction), st.integers(-60, 130).map(lambda s: NOW + timedelta(seconds=s))
)

authorities = st.sampled_from([Authorities((1,), 1), Authorities((1, 2), 1), Authorities((2,), 2)])
issued = st.builds(
    lambda made_for, who, age, left: Issued(
        made_for, who, IPS[who], NOW - timedelta(hours=age), NOW + timedelta(hours=left), NOW + timedelta(days=9)
    ),
    authorities,
    instances,
    st.sampled_from([0, 1, 2, 9]),
    st.sampled_from([-1, 1, 9]),
)
trusting = st.dictionaries(member_ids, perhaps(st.frozensets(st.integers(0, 2))))

FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "me": mes,
    "disk": perhaps(disks),
    "etcd_version": perhaps(st.sampled_from(["3.5.30", "3.5.30", "3.5.30", "3.5.1"])),
    "process": perhaps(processes),
    "local": perhaps(statuses),
    "membership": perhaps(memberships),
    "answers": answers,
    "fleet": perhaps(fleets()),
    "bucket": perhaps(verdicts),
    "head": perhaps(st.one_of(st.none(), records, records)),
    "formed": perhaps(st.one_of(st.none(), formeds)),
    "claim": perhaps(st.one_of(st.none(), claims)),
    "reports": perhaps(all_reports),
    "exclusions": perhaps(exclusions),
    "snapshots": perhaps(listings),
    "manifest": perhaps(st.one_of(st.none(), manifests, manifests)),
    "survey": perhaps(surveys),
    "obstacle": perhaps(st.one_of(st.none(), st.none(), obstacles)),
    "own_list": perhaps(lists),
    "leader_seen": perhaps(st.booleans()),
    "alarms": perhaps(alarms),
    "can_bump_revisions": perhaps(st.booleans()),
    "dns": perhaps(published),
    "targets": perhaps(st.lists(target_groups, max_size=2).map(tuple)),
    "last_drill": perhaps(st.one_of(st.none(), drills)),
    "work": works,
    "lifecycle_target": perhaps(lifecycle_targets),
    "spot": perhaps(st.one_of(st.none(), notices)),
    "rebalance": perhaps(st.one_of(st.none(), times)),
    "hold": perhaps(holds),
    "issued": perhaps(st.one_of(st.none(), issued, issued)),
    "authorities": perhaps(st.one_of(st.none(), authorities, authorities)),
    "trusting": perhaps(trusting),
}
MEMORY_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "head": st.one_of(st.none(), records),
    "formed": st.one_of(st.none(), formeds),
    "fleet": st.one_of(st.none(), fleets()),
    "fleet_read_at": st.one_of(st.none(), times),
    "groups_read_at": st.one_of(st.none(), times),
    "bucket": st.one_of(st.none(), verdicts),
    "membership": st.one_of(st.none(), memberships),
    "seen_since": st.dictionaries(member_ids, times),
    "silent_since": st.dictionaries(member_ids, times),
    "learners": st.dictionaries(member_ids, st.builds(Progress, st.integers(0, 9), times)),
    "unheard_of": st.dictionaries(names, st.integers(0, 3)),
    "ended_since": st.dictionaries(names, times, max_size=2),
    "named_since": st.dictionaries(names, times),
    "no_quorum_since": st.one_of(st.none(), times),
    "leaderless_since": st.one_of(st.none(), times),
    "proven_lost": st.one_of(st.none(), generations),
    "proven_lost_at": st.one_of(st.none(), times),
    "rescue_trouble": st.sampled_from(["", "", "etcd panics"]),
    "reported_at": st.one_of(st.none(), times),
    "serving_since": st.one_of(st.none(), times),
    "snapshots": st.one_of(st.none(), listings),
    "snapshots_read_at": st.one_of(st.none(), times),
    "manifest": st.one_of(st.none(), manifests),
    "last_drill_at": st.one_of(st.none(), times),
    "hold": perhaps(holds),
    "compacted": st.one_of(st.none(), st.integers(0, 900)),
    "defragmented": st.dictionaries(member_ids, times, max_size=3),
    "protected": st.sampled_from([None, False, True]),
    "protection_tried_at": st.one_of(st.none(), times),
    "published": st.one_of(st.none(), published, published),
    "publishing_refused_at": st.one_of(st.none(), times),
    "targets": st.one_of(st.none(), st.lists(target_groups, max_size=2).map(tuple)),
    "targets_read_at": st.one_of(st.none(), times),
    "registering_tried_at": st.dictionaries(registrations, times, max_size=1),
    "failures": st.integers(0, 20),
    "work_ended_at": st.one_of(st.none(), times),
    "unsettled_since": st.one_of(st.none(), times),
    "leaving_since": st.one_of(st.none(), times),
    "spot": st.one_of(st.none(), notices),
    "spot_since": st.one_of(st.none(), times),
    "handed_over_at": st.one_of(st.none(), times),
    "completed": st.dictionaries(st.sampled_from(Transition), times),
    "assembling_since": st.one_of(st.none(), times),
    "etcd_running_since": st.one_of(st.none(), times),
    "etcd_ended_at": st.one_of(st.none(), times),
    "etcd_short_lives": st.integers(0, 40),
    "etcd_unexplained": st.integers(0, 40),
    "etcd_version": st.sampled_from(["", "3.5.30"]),
    "etcd_refused": st.booleans(),
    "replacement_asked_at": st.one_of(st.none(), times),
    "issuing_failed_at": st.one_of(st.none(), times),
    "must_reload": st.booleans(),
    "whole_since": st.one_of(st.none(), times),
}

FIRST_THREE = st.sampled_from([told.A, told.B, told.C])
LATER = st.sampled_from([told.C, told.D, told.E])
SURVIVORS = st.sampled_from([told.A, told.D, told.E])
TOLD = st.one_of(
    st.builds(told.a_healthy_three, FIRST_THREE),
    st.builds(
        told.with_member_down,
        st.just(told.a_healthy_three()),
        st.sampled_from([told.B, told.C]),
        st.sampled_from(InstanceState),
    ),
    st.builds(told.with_a_forgotten_member, st.sampled_from([told.B, told.C]), st.integers(0, 3)),
    st.builds(told.with_a_stalled_learner, st.sampled_from([0, 1.9, 2.1, 60])),
    st.builds(told.a_stopped_member, FIRST_THREE),
    st.builds(told.a_broken_member, FIRST_THREE, st.integers(0, 9), st.booleans()),
    st.builds(told.a_fenced_member, FIRST_THREE, running=st.booleans()),
    st.builds(told.a_moved_member, FIRST_THREE),
    st.builds(told.a_newcomer, LATER),
    st.builds(told.about_to_join, LATER),
    st.builds(told.with_an_entry, LATER),
    st.builds(told.a_learner, LATER),
    st.builds(told.before_the_first_generation, FIRST_THREE),
    st.builds(told.a_founder, FIRST_THREE),
    st.builds(told.a_prepared_founder, FIRST_THREE),
    st.builds(told.a_founder_with_its_claim, FIRST_THREE),
    st.builds(told.a_lost_three, SURVIVORS),
    st.builds(told.a_lost_three, SURVIVORS),
    st.builds(told.with_nobody_left, st.sampled_from([told.D, told.E])),
    st.builds(told.never_formed),
    st.builds(told.a_founder_that_restores, SURVIVORS),
    st.builds(told.with_restored_data, SURVIVORS),
    st.builds(told.with_superfluous_snapshots, st.sampled_from([told.B, told.B, told.C])),
    st.builds(told.with_a_bad_snapshot, st.sampled_from([told.D, told.E])),
)


BLANK = Example(Observation(now=NOW, nonce=Nonce("f" * 32), me=told.me(told.A)), Memory(hold=None), POLICY)


def _drawn(draw: st.DrawFn, fields: dict[str, st.SearchStrategy[Any]], most: int) -> dict[str, Any]:
    chosen = draw(st.sets(st.sampled_from(sorted(fields)), max_size=most))
    return {name: draw(fields[name]) for name in sorted(chosen)}


@st.composite
def situations(draw: st.DrawFn) -> Example:
    """Anything that an agent could ever have before its eyes, and much that it could not."""
    wild = draw(st.integers(0, 3)) == 0
    example = BLANK if wild else draw(TOLD)
    changed = _drawn(draw, FIELDS, 12 if wild else 4)
    o = replace(example.o, **changed)
    memory = replace(example.memory, **_drawn(draw, MEMORY_FIELDS, 8 if wild else 3))
    policy = POLICY
    if draw(st.integers(0, 7)) == 0:  # its own certificates, and one that is ready for a change of whom to trust
        policy = replace(POLICY, issues_certificates=True)
        certified = {name: draw(FIELDS[name]) for name in ("issued", "authorities", "trusting") if name not in changed}
        o = replace(o, **certified)
    if draw(st.booleans()):
        memory = remember(memory, o, policy)
    return Example(o, memory, policy)
