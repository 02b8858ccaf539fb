"""`etcd-asg-agent tls status | bundle | issue | rotate | init`: the certificate authority as an operator needs it.

Runs on an instance of the fleet, whose agent's certificate lists the members. Reading the authority is what the
instance's role may do; the steps of a rotation are not, and take an operator's credentials in the environment.
"""

from __future__ import annotations

import argparse
import getpass
import json
import re
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent.config_cli import add_settings_arguments, load_settings
from agent.model.certificates import Authorities
from agent.model.cluster import Membership
from agent.model.faults import Refused, Trouble, Unavailable
from agent.model.known import Ignorance, Unknown
from agent.setting_kinds import Span, Wrong

if TYPE_CHECKING:
    from agent.settings import Settings
    from agent.world.authorities import AuthorityStore, Keys

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - what add_subparsers returns

EXIT_USAGE = 2
LIFE = Span(timedelta(minutes=1), timedelta(days=366))
CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
HANDSHAKE_WITHIN = timedelta(seconds=3)

DESCRIPTION = """\
With tls.mode = "ca" each agent has certificates signed for its own instance, by an authority in Parameter Store. These
commands show it, issue certificates for clients, and rotate it; docs/tls.md has the whole story."""
ROTATE = """\
Takes the next of three steps, if it is safe by the handshakes of every member, or says who is not ready:
 1. make the next authority: both are trusted, the old one issues. Each etcd restarts once, one at a time.
 2. once every member trusts both: the new one issues. Give your clients the new bundle before this (tls bundle).
 3. once every member shows the new one's certificates: the old one is trusted no more. Give your clients new
    certificates before this (tls issue). Each etcd restarts once more."""


def add_parser(commands: Commands) -> None:
    """`tls` and its verbs."""
    text = "show, issue from and rotate the certificate authority"
    tls = commands.add_parser("tls", help=text, description=DESCRIPTION)
    verbs = tls.add_subparsers(metavar="VERB", required=True)

    def verb(name: str, command: Callable[[argparse.Namespace], int], text: str, more: str = "") -> Any:
        parser = verbs.add_parser(
            name, help=text, description=more or text, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        add_settings_arguments(parser)
        parser.set_defaults(command=command)
        return parser

    status = verb("status", _status, "whom Parameter Store says to trust, and what each member trusts and shows")
    status.add_argument("--json", action="store_true", help="for scripts")
    verb("bundle", _bundle, "print the certificates (PEM) by which clients know the members")
    issue = verb("issue", _issue, "make a key and a certificate for a client")
    issue.add_argument("--client", required=True, metavar="NAME", help="the CN: with etcd's RBAC the name of its user")
    issue.add_argument("--out", required=True, type=Path, metavar="DIR", help="NAME.crt, NAME.key and ca.crt go there")
    issue.add_argument("--life", default="30d", metavar="TIME", help="how long it is valid (default: %(default)s)")
    rotate = verb("rotate", _rotate, "take the next step to another authority", ROTATE)
    rotate.add_argument("--dry-run", action="store_true", help="only say which step that is, and whether it is safe")
    init = verb("init", _init, "make the authority of a cluster that was founded without, or has lost it")
    init.add_argument("--number", type=int, default=1, metavar="N", help="one that was never used (default: 1)")


# ---- what is so --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """One member by its handshakes; 0 stands for an authority that Parameter Store does not trust."""

    name: str
    trusts: frozenset[int]
    shows: frozenset[int]  # whose certificates, on either port
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Silent:
    """A member that could not be looked at, and why."""

    name: str
    why: str


def next_step(authorities: Authorities, members: Sequence[Seen | Silent]) -> tuple[int, str, tuple[str, ...]]:
    """The number and the word to write next (`agent.world.authorities`), and why it must not be written yet."""
    old, new = authorities.trusted[0], authorities.trusted[-1]
    both = frozenset(authorities.trusted)
    silent = [f"{each.name}: {each.why}" for each in members if isinstance(each, Silent)]
    seen = [each for each in members if isinstance(each, Seen)]
    if old == new:
        waits = [f"{each.name} trusts {_numbers(each.trusts)} as yet" for each in seen if each.trusts != both]
        waits += [f"{each.name} shows a certificate of {_numbers(each.shows)}" for each in seen if each.shows != both]
        return new + 1, "authority", (*silent, *waits)
    if authorities.issuer != new:
        waits = [f"{each.name} trusts {_numbers(each.trusts)} as yet" for each in seen if each.trusts != both]
        return new, "issues", (*silent, *waits)
    waits = [f"{each.name} shows a certificate of {_numbers(each.shows)}" for each in seen if each.shows != {new}]
    return new, "alone", (*silent, *waits)


def _numbers(found: frozenset[int]) -> str:
    return " and ".join("another authority" if each == 0 else str(each) for each in sorted(found)) or "nobody"


SAID = {
    "authority": "make authority {0}, and trust it beside the one that issues",
    "issues": "let authority {0} issue; the older one stays trusted",
    "alone": "trust authority {0} alone",
}
THEN = {
    "authority": "Each etcd restarts once, one at a time. Give clients the new bundle (tls bundle), then rotate again.",
    "issues": "Agents issue anew within minutes. Give clients new certificates (tls issue), then rotate again.",
    "alone": "Each etcd restarts once, one at a time; then the rotation is over. The older parameters may be deleted.",
}

DONE_BEFORE = "Somebody else has just done it"


def members_seen(membership: Membership, peer_port: int, keys: Mapping[int, Keys]) -> list[Seen | Silent]:
    """Every member, by a handshake on each of its two ports."""
    return [_member_seen(each.name or str(each), each.client_urls, peer_port, keys) for each in membership.members]


def _member_seen(name: str, urls: Sequence[str], peer_port: int, keys: Mapping[int, Keys]) -> Seen | Silent:
    from agent.world.signing import issuer_of, subject_of
    from agent.world.tls_handshake import shown_at

    peers = {subject_of(each.peers.certificate): number for number, each in keys.items()}
    clients = {subject_of(each.clients.certificate): number for number, each in keys.items()}
    url = urlsplit(urls[0]) if urls else None
    if url is None or url.hostname is None or url.port is None:
        return Silent(name, "was never started")
    try:
        client = shown_at(url.hostname, url.port, HANDSHAKE_WITHIN)
        peer = shown_at(url.hostname, peer_port, HANDSHAKE_WITHIN)
    except Trouble as trouble:
        return Silent(name, str(trouble))
    (client_issuer, client_end), (peer_issuer, peer_end) = issuer_of(client.certificate), issuer_of(peer.certificate)
    at_client = frozenset(clients.get(each, 0) for each in client.authorities)
    at_peer = frozenset(peers.get(each, 0) for each in peer.authorities)
    trusts = (at_client & at_peer) | ((at_client | at_peer) & {0})
    shows = frozenset({clients.get(client_issuer, 0), peers.get(peer_issuer, 0)})
    return Seen(name, trusts, shows, min(client_end, peer_end))


# ---- the verbs ---------------------------------------------------------------------------------------------------


def _status(args: argparse.Namespace) -> int:
    settings = _settings(args)
    store = _store(settings)
    authorities, keys = _read(store)
    members = members_seen(_membership(settings), settings.etcd.peer_port, keys)
    number, word, waits = next_step(authorities, members)
    if args.json:
        print(json.dumps(_as_json(authorities, keys, members, (number, word, waits)), indent=2))
        return 0
    print(f"{authorities}")
    for each, found in sorted(keys.items()):
        print(f"authority {each} expires at {_ends(found):%Y-%m-%dT%H:%M:%SZ}")
    for member in members:
        print(_line(member))
    print(f"next step of a rotation: {SAID[word].format(number)}" + "".join(f"\n  waits: {each}" for each in waits))
    return 0


def _line(member: Seen | Silent) -> str:
    if isinstance(member, Silent):
        return f"{member.name}  cannot be looked at: {member.why}"
    until = f"{member.expires_at:%Y-%m-%dT%H:%M:%SZ}"
    return f"{member.name}  trusts {_numbers(member.trusts)}; shows {_numbers(member.shows)}, until {until}"


def _as_json(
    authorities: Authorities,
    keys: Mapping[int, Keys],
    members: Sequence[Seen | Silent],
    step: tuple[int, str, tuple[str, ...]],
) -> dict[str, Any]:
    return {
        "trusted": list(authorities.trusted),
        "issuer": authorities.issuer,
        "expire_at": {str(number): _ends(each).isoformat() for number, each in sorted(keys.items())},
        "members": [
            {"name": each.name, "unknown": each.why}
            if isinstance(each, Silent)
            else {
                "name": each.name,
                "trusts": sorted(each.trusts),
                "shows": sorted(each.shows),
                "expires_at": each.expires_at.isoformat(),
            }
            for each in members
        ],
        "next": {"authority": step[0], "step": step[1], "waits": list(step[2])},
    }


def _bundle(args: argparse.Namespace) -> int:
    authorities, keys = _read(_store(_settings(args)))
    print("".join(keys[each].clients.certificate for each in authorities.trusted), end="")
    return 0


def _issue(args: argparse.Namespace) -> int:
    from agent.world.clock import SystemClock

    try:
        life = LIFE.read_text(args.life)
    except Wrong as wrong:
        return _usage(f"--life: got {args.life!r}; expected {wrong}")
    if not CLIENT.fullmatch(args.client):
        return _usage(f"--client: got {args.client!r}; expected up to 63 letters, digits and ._@-")
    authorities, keys = _read(_store(_settings(args)))
    bundle = "".join(keys[each].clients.certificate for each in authorities.trusted)
    until = issue_client(keys[authorities.issuer], bundle, args.client, args.out, SystemClock().now(), life)
    print(f"{args.out}/{args.client}.crt, .key and {args.out}/ca.crt: valid until {until:%Y-%m-%dT%H:%M:%SZ}")
    return 0


def issue_client(issuer: Keys, bundle: str, name: str, out: Path, now: datetime, life: timedelta) -> datetime:
    """Writes NAME.crt, NAME.key (0600) and ca.crt; until when it is valid. Refused where there is such a key."""
    from agent.world import durable
    from agent.world.signing import Wanted, ends_at, issue

    key = out / f"{name}.key"
    with durable.refusing(f"writing to {out}"):
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        if key.exists():
            raise Refused(f"{key} exists: move it away first", Ignorance.OURS)
    pair = issue(Wanted(name), issuer.clients, now, life)
    durable.write(key, pair.key, mode=0o600)
    durable.write(out / f"{name}.crt", pair.certificate, mode=0o644)
    durable.write(out / "ca.crt", bundle, mode=0o644)
    return ends_at(pair.certificate)


def _rotate(args: argparse.Namespace) -> int:
    settings = _settings(args)
    store = _store(settings)
    authorities, keys = _read(store)
    members = members_seen(_membership(settings), settings.etcd.peer_port, keys)
    number, word, waits = next_step(authorities, members)
    print(f"{authorities}\nnext step: {SAID[word].format(number)}")
    if waits:
        raise Unavailable(Ignorance.FAILED, "not yet, and nothing was changed: " + "; ".join(waits))
    if args.dry_run:
        print("It is safe now; nothing was changed.")
        return 0
    written = store.create(number, _who()) if word == "authority" else store.say(number, word, _who())
    print(f"{'Done' if written else DONE_BEFORE}. {THEN[word]}")
    return 0


def _init(args: argparse.Namespace) -> int:
    store = _store(_settings(args))
    if args.number < 1:
        return _usage(f"--number: got {args.number}; expected 1 or more")
    found = store.authorities()
    if found is not None:
        raise Refused(f"there is an authority ({found}): etcd-asg-agent tls rotate makes the next one", Ignorance.OURS)
    written = store.create(args.number, _who())
    print(f"{'Done' if written else DONE_BEFORE}. Agents issue themselves certificates within seconds.")
    return 0


# ---- what they stand on ------------------------------------------------------------------------------------------


def _settings(args: argparse.Namespace) -> Settings:
    settings = load_settings(args)
    if settings.tls.mode != "ca":
        said = f'tls.mode is "{settings.tls.mode}": there is an authority of the cluster\'s own only with "ca"'
        raise Refused(said, Ignorance.OURS)
    return settings


def _store(settings: Settings) -> AuthorityStore:
    from agent.wiring import operators_authority_store

    return operators_authority_store(settings)


def _read(store: AuthorityStore) -> tuple[Authorities, dict[int, Keys]]:
    authorities = store.authorities()
    if authorities is None:
        hint = "the first agent makes it, or etcd-asg-agent tls init"
        raise Refused(f"there is no authority in Parameter Store: {hint}", Ignorance.OURS)
    return authorities, store.keys(authorities.trusted)


def _membership(settings: Settings) -> Membership:
    """By the first member that answers with a quorum behind it."""
    from agent.loop import plan
    from agent.model.memory import Memory
    from agent.wiring import wire

    wired = wire(settings)
    tomorrow = wired.world.clock.now() + timedelta(days=1)
    found = plan(wired.world, wired.me, Memory(asked_at={"bucket": tomorrow}), wired.policy).observation.membership
    if isinstance(found, Unknown):
        raise Unavailable(found.why, f"no quorum answers, so nobody can vouch for a member list: {found}")
    return found


def _ends(keys: Keys) -> datetime:
    from agent.world.signing import ends_at

    return min(ends_at(keys.peers.certificate), ends_at(keys.clients.certificate))


def _who() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _usage(said: str) -> int:
    print(f"etcd-asg-agent: {said}", file=sys.stderr)
    return EXIT_USAGE
