"""The door to etcd, on python-etcd3's channels and messages; what those lack is in `etcd_wire.proto`.

House rules. Every call has a deadline: an established connection to a frozen server hangs for ever without one.
The stubs are called directly, because python-etcd3's own methods take no deadline and lose the error's text.
Nothing is retried, but for what etcd refused before it looked at it, not knowing who asks (`etcd_auth`). Channels are
kept in `etcd_channels`, errors told apart in `etcd_errors`, a snapshot's stream is watched in `etcd_stream`. These six
files are all that knows the library, so that another can take its place.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

from agent.model.cluster import Alarm, AlarmKind, Member, Membership, MemberStatus
from agent.model.faults import Refused, Unavailable
from agent.model.ids import ClientUrl, ClusterId, MemberId, PeerUrl
from agent.model.known import Ignorance, Unknown
from agent.model.members import MemberEntry
from agent.world.etcd_auth import Login, Tokens
from agent.world.etcd_channels import Answer, Link, Links, Method, Request, TlsFiles
from agent.world.etcd_errors import trouble
from agent.world.etcd_library import etcdrpc, grpc, wire
from agent.world.etcd_metrics import leader_seen
from agent.world.etcd_stream import pieces

T = TypeVar("T")

OnCall = Callable[[str, str, float], None]
"""Hears of every call: its method, its result (`ok`, `refused` or an `Ignorance`) and its seconds."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long to wait for an answer."""

    status: timedelta = timedelta(seconds=2)
    read: timedelta = timedelta(seconds=3)  # `membership`: both of its calls together
    change: timedelta = timedelta(seconds=10)  # etcd itself gives up after 7 s, and its answer is worth having
    metrics: timedelta = timedelta(seconds=1)  # a page that its process writes from memory
    count: timedelta = timedelta(seconds=60)  # over all keys: HashKV reads 1.2 GB in 0.2 s where nothing else runs
    compact: timedelta = timedelta(seconds=30)  # etcd goes on with it whoever waits
    defragment: timedelta = timedelta(minutes=10)  # 8 GB, the most that etcd advises, at 14 MB/s
    progress: timedelta = timedelta(seconds=20)  # of a snapshot: how long nothing of it may come


@dataclass(frozen=True, slots=True)
class HashKv:
    """What etcd's HashKV says of a keyspace; comparable only at one revision and after the same compaction."""

    hash: int
    compact_revision: int
    revision: int


class EtcdDoor:
    """`agent.world.doors.Etcd` over the network. May be used from several threads.

    TLS is spoken where the endpoint's URL says `https`.
    """

    def __init__(
        self,
        tls: TlsFiles | None = None,
        deadlines: Deadlines | None = None,
        on_call: OnCall = lambda *_: None,
        login: Login | None = None,
    ) -> None:
        self._links = Links(tls)
        self._tokens = Tokens(login)
        self._deadlines = deadlines or Deadlines()
        self._on_call = on_call

    def status(self, endpoint: ClientUrl) -> MemberStatus:
        """What this member says of itself; it answers without a leader, too."""
        link = self._links.to(endpoint)
        return self._status_from(endpoint, self._call(link, link.status, wire.StatusRequest(), self._deadlines.status))

    def statuses(self, endpoints: Sequence[ClientUrl]) -> Mapping[ClientUrl, MemberStatus | Unknown]:
        """All at once, within one Status deadline."""
        asked = {endpoint: _attempt(partial(self._ask_status, endpoint)) for endpoint in endpoints}
        return {
            endpoint: pending if isinstance(pending, Unknown) else _attempt(pending)
            for endpoint, pending in asked.items()
        }

    def membership(self, endpoint: ClientUrl) -> Membership:
        """The member list that a quorum stands behind, also where etcd answers it from one member's memory (3.4).

        The order is the proof: a linearizable read succeeds only once its member has applied everything that was
        committed when the read began, membership changes included, so what the same member lists afterwards is
        no older than that. In the other order it could be. (A member that restarts in between answers no client
        before a quorum took its publication.) From 3.5 on etcd makes the list itself linearizable when asked; 3.4
        ignores the question.
        """
        link = self._links.to(endpoint)
        end = perf_counter() + self._deadlines.read.total_seconds()
        read = self._call(link, link.range, ANY_READ, self._deadlines.read)
        left = timedelta(seconds=end - perf_counter())
        listed = self._call(link, link.member_list, wire.MemberListRequest(linearizable=True), left)
        if _answerer(read) != _answerer(listed):
            raise Unavailable(Ignorance.MALFORMED, f"{endpoint}: two members answered in turn: is it a proxy?")
        return Membership(
            ClusterId(listed.header.cluster_id), tuple(_member_from(each) for each in listed.members), via=endpoint
        )

    def members_locally(self, endpoint: ClientUrl) -> tuple[MemberEntry, ...]:
        """What this one member has applied; it answers without a leader, too."""
        link = self._links.to(endpoint)
        request = wire.MemberListRequest(linearizable=False)
        return tuple(
            _entry_from(each) for each in self._call(link, link.member_list, request, self._deadlines.read).members
        )

    def has_leader(self, metrics_url: str) -> bool:
        """By `etcd_server_has_leader` on the metrics port, e.g. of `http://10.0.0.1:2381`."""
        started = perf_counter()
        try:
            found = leader_seen(metrics_url, self._deadlines.metrics)
        except Unavailable as error:
            self._on_call("metrics", error.unknown.why.value, perf_counter() - started)
            raise
        self._on_call("metrics", "ok", perf_counter() - started)
        return found

    def alarms(self, endpoint: ClientUrl) -> tuple[Alarm, ...]:
        """All that are raised. etcd sends the question through raft: it takes a quorum, and an entry in the log.

        So ask where `status` shows errors, and not in every round.
        """
        link = self._links.to(endpoint)
        request = etcdrpc.AlarmRequest(action=etcdrpc.AlarmRequest.GET)
        return tuple(_alarm_from(each) for each in self._call(link, link.alarm, request, self._deadlines.change).alarms)

    def disarm(self, endpoint: ClientUrl, alarm: Alarm) -> None:
        """Take the alarm back, whoever raised it; once more is no harm."""
        link = self._links.to(endpoint)
        request = etcdrpc.AlarmRequest(
            action=etcdrpc.AlarmRequest.DEACTIVATE, memberID=alarm.member, alarm=etcdrpc.AlarmType.Value(alarm.kind)
        )
        self._call(link, link.alarm, request, self._deadlines.change)

    def compact(self, endpoint: ClientUrl, revision: int) -> None:
        """Drop the history before this revision everywhere, and wait until this member's is gone; twice is no harm."""
        link = self._links.to(endpoint)
        request = etcdrpc.CompactionRequest(revision=revision, physical=True)
        try:
            self._call(link, link.compact, request, self._deadlines.compact)
        except Refused as refusal:
            if "has been compacted" not in str(refusal):
                raise

    def defragment(self, endpoint: ClientUrl) -> None:
        """Rewrite this member's database to what is in use; it answers nobody meanwhile.

        etcd goes on with it to its end, whether or not anybody still waits for the answer.
        """
        link = self._links.apart(endpoint)
        try:
            self._call(link, link.defragment, etcdrpc.DefragmentRequest(), self._deadlines.defragment)
        finally:
            link.close()

    def hash_kv(self, endpoint: ClientUrl, revision: int) -> HashKv:
        """This member's digest of its keyspace up to the revision; 0: as it is. Equal data has equal digests.

        Refused where that revision was compacted, or is in the future. A learner does not answer.
        """
        link = self._links.to(endpoint)
        said = self._call(link, link.hash_kv, etcdrpc.HashKVRequest(revision=revision), self._deadlines.count)
        return HashKv(said.hash, said.compact_revision, revision or said.header.revision)

    def count_keys(self, endpoint: ClientUrl, revision: int) -> int:
        """How many keys there were at this revision, 0: are, by this one member. Refused as `hash_kv`."""
        link = self._links.to(endpoint)
        request = etcdrpc.RangeRequest(
            key=b"\0", range_end=b"\0", count_only=True, serializable=True, revision=revision
        )
        return int(self._call(link, link.range, request, self._deadlines.count).count)

    def snapshot(self, endpoint: ClientUrl) -> Generator[bytes, None, None]:
        """The database as a file that etcd's tools restore, piece by piece: SHA-256 of all before in the last 32 bytes.

        A member gives it without a leader, too. The stream ends early by an error only. However long it takes, pieces
        must come: Unavailable(TIMEOUT) where none did for `progress`. The time that our side takes does not count.
        """
        link = self._links.apart(endpoint)
        started, result = perf_counter(), "ok"
        try:
            yield from self._pieces(link)
        except grpc.RpcError as error:
            fault = trouble(f"Snapshot at {endpoint}", *_code_and_details(error))
            result = "refused" if isinstance(fault, Refused) else fault.unknown.why.value
            raise fault from error
        except Unavailable as fault:
            result = fault.unknown.why.value
            raise
        finally:
            link.close()
            self._on_call("Snapshot", result, perf_counter() - started)

    def _pieces(self, link: Link) -> Iterator[bytes]:
        """etcd asks who we are before the first of them."""
        patience = self._deadlines.progress
        try:
            yield from pieces(link, patience, self._tokens.metadata(link.endpoint))
        except grpc.RpcError as error:
            if not self._tokens.renewed(link, error, patience):
                raise
            yield from pieces(link, patience, self._tokens.metadata(link.endpoint))

    def add_learner(self, endpoint: ClientUrl, peer_url: PeerUrl) -> MemberId:
        """The new learner's ID. etcd takes it only while it has been connected to its voters for 5 s."""
        link = self._links.to(endpoint)
        request = wire.MemberAddRequest(peerURLs=[peer_url], isLearner=True)
        try:
            answer = self._call(link, link.member_add, request, self._deadlines.change)
        except Refused as refusal:
            if "member not found" not in str(refusal):
                raise
            # etcd makes the ID from peer URL, token and the second, and takes a removed ID never again
            detail = f"{refusal}: this URL's last member was removed within the same second"
            raise Refused(detail, refusal.unknown.why) from refusal
        return MemberId(answer.member.ID)

    def promote(self, endpoint: ClientUrl, member: MemberId) -> None:
        """Make a learner a voter; refused until it is in sync with the leader. Best asked of the leader."""
        link = self._links.to(endpoint)
        self._call(link, link.member_promote, wire.MemberPromoteRequest(ID=member), self._deadlines.change)

    def remove(self, endpoint: ClientUrl, member: MemberId) -> None:
        """Take a member out; refused with "member not found" when it is out already."""
        link = self._links.to(endpoint)
        self._call(link, link.member_remove, etcdrpc.MemberRemoveRequest(ID=member), self._deadlines.change)

    def move_leader(self, endpoint: ClientUrl, to: MemberId) -> None:
        """Hand the lead over: refused by whoever does not lead. Returns when the other one leads."""
        link = self._links.to(endpoint)
        self._call(link, link.move_leader, etcdrpc.MoveLeaderRequest(targetID=to), self._deadlines.change)

    def update_peer_url(self, endpoint: ClientUrl, member: MemberId, peer_url: PeerUrl) -> None:
        """Replace all peer URLs of a voter. Of a learner: never, etcd before 3.5.31 makes it a voter by that."""
        link = self._links.to(endpoint)
        request = etcdrpc.MemberUpdateRequest(ID=member, peerURLs=[peer_url])
        self._call(link, link.member_update, request, self._deadlines.change)

    def close(self) -> None:
        """Close every channel; the next call opens the one it needs."""
        self._links.close()

    def _call(self, link: Link, method: Method[Request, Answer], request: Request, deadline: timedelta) -> Answer:
        return self._told(link, method, perf_counter(), lambda: self._sent(link, method, request, deadline))

    def _sent(
        self,
        link: Link,
        method: Method[Request, Answer],
        request: Request,
        deadline: timedelta,
        first: Callable[[], Answer] | None = None,
    ) -> Answer:
        """Its answer; sent once more if etcd asks who we are. `first` awaits what is on its way already."""
        end = perf_counter() + deadline.total_seconds()

        def send() -> Answer:
            timeout = max(0.0, end - perf_counter())
            return method.call(request, timeout=timeout, metadata=self._tokens.metadata(link.endpoint))

        try:
            return send() if first is None else first()
        except grpc.RpcError as error:
            if not self._tokens.renewed(link, error, timedelta(seconds=end - perf_counter())):
                raise
        return send()

    def _ask_status(self, endpoint: ClientUrl) -> Callable[[], MemberStatus]:
        """Send the question now; what is returned waits for the answer, and raises what `status` raises."""
        link = self._links.to(endpoint)
        started, deadline, request = perf_counter(), self._deadlines.status, wire.StatusRequest()
        known = self._tokens.metadata(endpoint)
        with _open(link):
            future = link.status.call.future(request, timeout=deadline.total_seconds(), metadata=known)

        def answered() -> wire.StatusResponse:
            return self._sent(link, link.status, request, deadline, first=future.result)

        return lambda: self._status_from(endpoint, self._told(link, link.status, started, answered))

    def _status_from(self, endpoint: ClientUrl, said: wire.StatusResponse) -> MemberStatus:
        self._tokens.seen(endpoint, said.header.cluster_id)
        return _status_from(endpoint, said)

    def _told(
        self, link: Link, method: Method[Request, Answer], started: float, answered: Callable[[], Answer]
    ) -> Answer:
        """The answer, or our error for its failure; either way the metrics hear of it."""
        try:
            with _open(link):
                answer = answered()
        except grpc.RpcError as error:
            if method.name == "Status" and error.code() in SILENT:
                self._tokens.forget(link.endpoint)
            fault = trouble(f"{method.name} at {link.endpoint}", *_code_and_details(error))
            result = "refused" if isinstance(fault, Refused) else fault.unknown.why.value
            self._on_call(method.name, result, perf_counter() - started)
            raise fault from error
        self._on_call(method.name, "ok", perf_counter() - started)
        return answer


SILENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
"""Status waits for nobody: a member that does not answer it has ended, is frozen, or waits because of our token."""

ANY_READ = etcdrpc.RangeRequest(key=b"\0", count_only=True)
"""The cheapest linearizable read: whether there is a key of one zero byte."""


@contextmanager
def _open(link: Link) -> Iterator[None]:
    """Another thread may close a channel under us, because the TLS files changed: gRPC says ValueError then."""
    try:
        yield
    except ValueError as error:
        raise Unavailable(Ignorance.UNREACHABLE, f"{link.endpoint}: {error}") from error


def _code_and_details(error: Any) -> tuple[grpc.StatusCode, str]:  # every RpcError of a call is a grpc.Call, too
    return error.code(), error.details() or ""


def _attempt(ask: Callable[[], T]) -> T | Unknown:
    try:
        return ask()
    except (Unavailable, Refused) as fault:
        return fault.unknown


def _answerer(answer: wire.MemberListResponse) -> tuple[int, int]:
    return answer.header.cluster_id, answer.header.member_id


def _status_from(endpoint: ClientUrl, said: wire.StatusResponse) -> MemberStatus:
    if not said.header.member_id or not said.header.cluster_id:
        raise Unavailable(Ignorance.MALFORMED, f"Status at {endpoint}: an answer from no member: is it a proxy?")
    return MemberStatus(
        member_id=MemberId(said.header.member_id),
        cluster_id=ClusterId(said.header.cluster_id),
        version=said.version,
        leader=MemberId(said.leader) if said.leader else None,
        raft_term=said.raftTerm,
        committed_index=said.raftIndex,
        applied_index=said.raftAppliedIndex,
        is_learner=said.isLearner,
        db_size_bytes=said.dbSize,
        revision=said.header.revision,
        errors=tuple(said.errors),
        db_size_in_use_bytes=said.dbSizeInUse,
    )


def _entry_from(member: wire.Member) -> MemberEntry:
    return MemberEntry(
        MemberId(member.ID), member.name, tuple(PeerUrl(url) for url in member.peerURLs), member.isLearner
    )


def _alarm_from(said: Any) -> Alarm:
    try:
        return Alarm(MemberId(said.memberID), AlarmKind(etcdrpc.AlarmType.Name(said.alarm)))
    except ValueError as error:
        raise Unavailable(Ignorance.MALFORMED, f"an alarm of a kind that is not known: {said.alarm}") from error


def _member_from(member: wire.Member) -> Member:
    return Member(
        MemberId(member.ID),
        member.name,
        tuple(PeerUrl(url) for url in member.peerURLs),
        tuple(ClientUrl(url) for url in member.clientURLs),
        member.isLearner,
    )
