"""Raft as etcd runs it, small enough to be read in one go: logs, votes, commits, and one membership change at a time.

What matters here is where etcd departs from the paper (go.etcd.io/raft, `raft.go`; etcd's `server/etcdserver`):

*   a membership change counts once it is *applied*, not once it is appended, on leader and follower alike;
*   nobody campaigns who has a committed change that it has not applied (`hup`), or who is no voter of its own list;
*   a vote is given by the up-to-date rule alone: by learners, by removed members, to candidates it has never heard of;
*   a new leader appends an empty entry, and commits by counting only in its own term;
*   founders start with one committed entry of term 1 for each of them;
*   which entries are committed is on the disk only by and by (the hard state's commit is written without a sync and
    sits in the write-ahead log's buffer): `Member.saved_commit` may be behind what its process knew when it was
    killed, and even behind what it has applied (etcd-io/etcd#20055). `forgetful` restarts show what that does.

Messages are the driver's: every step says who hears whom, so that a partition is nothing but a step without somebody.
Left out: pre-vote and leader leases (both only refuse elections), snapshots (a log from its beginning says the same),
and etcd's transport, which refuses whoever it has seen removed. All of that makes elections easier here than in etcd.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from agent.model.cluster import quorum_of


class Kind(Enum):
    """What an entry says."""

    WRITE = "write"  # a client's, or a new leader's empty one
    PUBLISH = "publish"  # a member tells its name
    ADD_VOTER = "add voter"  # only founders come like this
    ADD_LEARNER = "add learner"
    PROMOTE = "promote"
    REMOVE = "remove"


CHANGES = frozenset({Kind.ADD_VOTER, Kind.ADD_LEARNER, Kind.PROMOTE, Kind.REMOVE})


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a log; its index is its place there, counted from 1."""

    term: int
    kind: Kind = Kind.WRITE
    member: int = 0  # whom a change or a name is about

    def __str__(self) -> str:
        return f"{self.term}:{self.kind.value}{f' {self.member}' if self.member else ''}"


Log = tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Lists:
    """The configuration that some prefix of a log amounts to."""

    voters: frozenset[int] = frozenset()
    learners: frozenset[int] = frozenset()
    named: frozenset[int] = frozenset()

    def after(self, entry: Entry) -> Lists:
        who = frozenset({entry.member})
        match entry.kind:
            case Kind.WRITE:
                return self
            case Kind.PUBLISH:
                return replace(self, named=self.named | who)
            case Kind.ADD_VOTER:
                return replace(self, voters=self.voters | who, named=self.named | who)
            case Kind.ADD_LEARNER:
                return self if entry.member in self.voters else replace(self, learners=self.learners | who)
            case Kind.PROMOTE:
                known = entry.member in self.learners
                return replace(self, voters=self.voters | who, learners=self.learners - who) if known else self
            case Kind.REMOVE:
                last = self.voters == who  # raft refuses to remove the last voter
                return self if last else replace(self, voters=self.voters - who, learners=self.learners - who)

    @property
    def quorum(self) -> int:
        return quorum_of(len(self.voters))


@functools.lru_cache(maxsize=200_000)
def lists_of(log: Log) -> Lists:
    return lists_of(log[:-1]).after(log[-1]) if log else Lists()


def has_changes(log: Log) -> bool:
    return any(entry.kind in CHANGES for entry in log)


def founding_log(founders: Iterable[int]) -> Log:
    return tuple(Entry(1, Kind.ADD_VOTER, founder) for founder in sorted(founders))


@dataclass(slots=True)
class Member:
    """One member's life: what its disk holds and, while its process runs, what that knows."""

    id: int
    log: Log = ()
    term: int = 0
    voted_for: int | None = None
    saved_commit: int = 0  # the commit of the hard state that has reached the disk
    saved_applied: int = 0  # what the database on the disk has applied
    commit: int = 0
    applied: int = 0
    leading: bool = False
    match: dict[int, int] = field(default_factory=dict)  # a leader's: how far each log is known to equal its own

    @classmethod
    def founder(cls, who: int, founders: Iterable[int]) -> Member:
        log = founding_log(founders)
        whole = len(log)
        return cls(who, log, term=1, saved_commit=whole, saved_applied=whole, commit=whole, applied=whole)

    @property
    def lists(self) -> Lists:
        """The configuration under which its process acts."""
        return lists_of(self.log[: self.applied])

    @property
    def position(self) -> tuple[int, int]:
        """What raft compares: the last entry's term, then its index."""
        return (self.log[-1].term if self.log else 0, len(self.log))

    @property
    def may_campaign(self) -> bool:
        pending = has_changes(self.log[self.applied : self.commit])
        return not self.leading and not pending and self.id in self.lists.voters

    def apply(self, upto: int | None = None) -> None:
        self.applied = max(self.applied, min(self.commit, self.commit if upto is None else upto))

    def save(self) -> None:
        """What is written with a sync: entries, term and vote, and with them the commit known so far."""
        self.saved_commit = self.commit

    def settle(self) -> None:
        """A process that has run on for a while, or was ended by SIGTERM, has applied and saved all it knows."""
        self.apply()
        self.save()
        self.saved_applied = self.applied

    def restart(self, *, forgetful: bool = False) -> None:
        """Killed and started anew: it knows what is on its disk, and applies what that says is committed."""
        known = self.saved_commit if forgetful else self.commit
        self.commit = self.applied = self.saved_commit = known
        self.stand_down()

    def stand_down(self) -> None:
        self.leading = False
        self.match.clear()

    def see(self, term: int) -> None:
        if term > self.term:
            self.term, self.voted_for = term, None
            self.save()
            self.stand_down()


def campaign(candidate: Member, heard: Sequence[Member]) -> bool:
    """Stand for election before those who hear of it; whether it was won."""
    if not candidate.may_campaign:
        return False
    candidate.see(candidate.term + 1)
    candidate.voted_for = candidate.id
    votes = {candidate.id} | {voter.id for voter in heard if voter is not candidate and grants(voter, candidate)}
    lists = candidate.lists
    if len(votes & lists.voters) < lists.quorum:
        return False
    candidate.leading = True
    propose(candidate, Kind.WRITE)
    return True


def grants(voter: Member, candidate: Member) -> bool:
    voter.see(candidate.term)
    free = voter.term == candidate.term and voter.voted_for in (None, candidate.id)
    if not free or candidate.position < voter.position:
        return False
    voter.voted_for = candidate.id
    voter.save()
    return True


def propose(leader: Member, kind: Kind, member: int = 0) -> bool:
    """Append an entry of the leader's own; a change only while none is under way."""
    assert leader.leading
    if kind in CHANGES and has_changes(leader.log[leader.applied :]):
        return False
    leader.log = (*leader.log, Entry(leader.term, kind, member))
    leader.match[leader.id] = len(leader.log)
    leader.save()
    count_commits(leader)
    return True


def replicate(leader: Member, follower: Member, upto: int | None = None) -> bool:
    """Bring the follower's log in line with the leader's up to an index, tell what is committed, hear the answer."""
    assert leader.leading
    if follower.term > leader.term:
        leader.see(follower.term)
        return False
    follower.see(leader.term)
    follower.stand_down()
    upto = max(follower.commit, len(leader.log) if upto is None else upto)
    assert follower.log[: follower.commit] == leader.log[: follower.commit], "two histories have been committed"
    appended = follower.log[:upto] != leader.log[:upto]
    if appended:
        follower.log = leader.log[:upto]
    follower.commit = max(follower.commit, min(leader.commit, upto))
    if appended:
        follower.save()
    leader.match[follower.id] = max(leader.match.get(follower.id, 0), upto)
    count_commits(leader)
    return True


def count_commits(leader: Member) -> None:
    """What a quorum of the voters it has applied holds, of its own term, is committed with all before it."""
    lists = leader.lists
    reached = sorted((leader.match.get(voter, 0) for voter in lists.voters), reverse=True)
    agreed = reached[lists.quorum - 1] if len(reached) >= lists.quorum else 0
    if agreed > leader.commit and leader.log[agreed - 1].term == leader.term:
        leader.commit = agreed


def rescuable_end(member: Member) -> int:
    """How much of a log a rescue keeps: all of it, known to be committed or not, up to the member's own removal.

    Read from the disk, whose note of what is committed may be behind what the process knew.
    """
    for index, entry in enumerate(member.log[member.saved_commit :], member.saved_commit):
        if entry == Entry(entry.term, Kind.REMOVE, member.id):
            return index
    return len(member.log)


# ---- what can still happen ------------------------------------------------------------------------------------------


def can_ever_lead(
    members: Sequence[Member], *, also_voting: Sequence[Member] = (), forgetful: bool = False
) -> Member | None:
    """One of these who can be elected, or lead on, under some schedule of theirs; None if nobody ever can.

    Closed form. Before the first election no log changes and nothing is committed, so only the candidate's own
    list, the logs and who is there matter: terms and votes of the past are overtaken by a higher term.
    """
    voting = [*members, *also_voting]
    for member in members:
        willing = {other.id for other in voting if other.position <= member.position}
        for known in sorted(_commits_it_may_know(member, forgetful=forgetful)):
            lists = lists_of(member.log[:known])
            if member.id in lists.voters and len(willing & lists.voters) >= lists.quorum:
                return member
        if member.leading and len({each.id for each in voting} & member.lists.voters) >= member.lists.quorum:
            return member
    return None


def _commits_it_may_know(member: Member, *, forgetful: bool) -> Iterable[int]:
    """A candidate has applied all it knows to be committed; a forgetful disk may know less of it than the process."""
    return {member.commit, member.saved_commit} if forgetful else {member.commit}


State = tuple[tuple[object, ...], ...]


def explore(members: Sequence[Member], *, forgetful: bool = False, limit: int = 20_000) -> bool:
    """Exhaustively: whether any order of campaigns, heard by any of the others, and restarts elects somebody.

    Terms are compared, never counted, so their differences are bounded: nobody campaigns from more than so many
    terms above the lowest, which is enough to overtake every vote that was ever given.
    """
    ceiling = max(member.term for member in members) + len(members) + 1
    start = [copied(member) for member in members]
    for member in start:
        member.stand_down()
        member.apply()
    seen, queue = {_state(start)}, [start]
    while queue:
        now = queue.pop()
        assert len(seen) < limit, "too many states to explore"
        for elected, then in _steps(now, ceiling, forgetful=forgetful):
            if elected:
                return True
            state = _state(then)
            if state not in seen:
                seen.add(state)
                queue.append(then)
    return False


def _steps(now: Sequence[Member], ceiling: int, *, forgetful: bool) -> Iterator[tuple[bool, list[Member]]]:
    for place, member in enumerate(now):
        if member.term < ceiling and member.may_campaign:
            for heard in range(2 ** len(now)):
                then = [copied(each) for each in now]
                won = campaign(then[place], [each for bit, each in enumerate(then) if heard >> bit & 1])
                yield won, then
        if forgetful and member.saved_commit < member.commit:
            then = [copied(each) for each in now]
            then[place].restart(forgetful=True)
            yield False, then


def _state(members: Sequence[Member]) -> State:
    return tuple((m.id, m.term, m.voted_for, m.commit, m.applied, m.saved_commit, m.log) for m in members)


def copied(member: Member) -> Member:
    return replace(member, match=dict(member.match))
