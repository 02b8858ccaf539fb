"""The instance's disk: identity.json, the data directory beside it, and the quarantine where both go.

    DATA_ROOT/data/            etcd's, made by `stamp(prepare=True)` before an identity says that it is ours
    DATA_ROOT/identity.json    whose data it is
    DATA_ROOT/quarantine/TIME-gN-WHY/{data,identity.json}
    DATA_ROOT/scratch/seed-SHA256-BOOT.db       a snapshot, under this name only once it is verified
    DATA_ROOT/scratch/restored-NONCE-BOOT/      a data directory made of one, under this name only once it is whole
    DATA_ROOT/scratch/TASK-….work/              where a task works (`scratch.working_folder`)

No member's data is ever deleted; what lies in scratch is no member's, and is made again where it is missed. It counts
only while the machine runs that made it (BOOT is the kernel's boot ID): so a seed need not wait for the disk, to which
it would be written twice, and a power cut leaves nothing that looks verified and is not. All of it is on one
filesystem, so that moving is renaming.

Quarantine takes two renames, and the data goes first. Stopped in between, the disk holds an identity without data:
where that identity is `fenced`, the next agent quarantines what is left, and any other without its data is one that
lost its disk and never starts again (see `agent.decide.founding`). The other order would leave data without a name,
which only a human may judge. Each rename is on the disk before the next is made, lest a power cut change their order.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.model.disk import BROKEN, Data, Disk, Identity, Stage
from agent.model.faults import Refused, Unavailable
from agent.model.ids import ClusterId, GenerationNumber, InstanceId, MemberId, Nonce, PeerUrl
from agent.model.known import Ignorance
from agent.world import durable
from agent.world.doors import Clock
from agent.world.etcd_data import state_of
from agent.world.scratch import remove_unless_in_use

SEED = re.compile(r"seed-([0-9a-f]{64})-([0-9a-f]+)\.db")
RESTORED = re.compile(r"restored-([0-9A-Za-z]+)-([0-9a-f]+)")
SET_ASIDE_BROKEN = re.compile(rf"(\d{{8}}T\d{{6}}Z)-.*-{BROKEN}(\.\d+)?")
SLUG = re.compile(r"[^a-z0-9.]+")
ATTEMPTS = 100


class DataRoot:
    """One folder that belongs to the agent and its etcd. Nobody else writes in it."""

    def __init__(self, root: Path, clock: Clock, boot_id: str) -> None:
        self.root = root
        self._clock = clock
        self._boot = boot_id.replace("-", "")
        self.data = root / "data"
        self._identity = root / "identity.json"
        self._quarantine = root / "quarantine"
        self.scratch = root / "scratch"

    def seed(self, sha256: str) -> Path:
        """Where a verified snapshot of this digest lies, or is to be put by one rename."""
        return self.scratch / f"seed-{sha256}-{self._boot}.db"

    def restored(self, nonce: Nonce) -> Path:
        """Where the data directory lies that was restored for this nonce, or is to be put by one rename."""
        return self.scratch / f"restored-{nonce}-{self._boot}"

    def read(self) -> Disk:
        """Raises Refused where the disk denies it, Unavailable(MALFORMED) where the identity makes no sense."""
        with durable.refusing(f"reading {self.root}"):
            try:
                text = self._identity.read_text()
            except FileNotFoundError:
                text = None
            except UnicodeDecodeError as error:
                raise _garbled(self._identity, error) from error
            data = state_of(self.data)
            names = _names(self.scratch)
            set_aside = _names(self._quarantine)
        seeds = frozenset(self._of_this_boot(SEED, names))
        restored = frozenset(map(Nonce, self._of_this_boot(RESTORED, names)))
        return Disk(
            None if text is None else _parsed(self._identity, text), data, seeds, restored, _broken_at(set_aside)
        )

    def _of_this_boot(self, kind: re.Pattern[str], names: list[str]) -> list[str]:
        found = [match for match in map(kind.fullmatch, names) if match]
        return [match[1] for match in found if match[2] == self._boot]

    def stamp(self, identity: Identity, prepare: bool) -> None:
        """The identity counts from the moment at which this returns; the data directory is durable before it."""
        if prepare:
            self._prepare()
        durable.write(self._identity, _to_json(identity))

    def _prepare(self) -> None:
        with durable.refusing(f"creating {self.data}"):
            if state_of(self.data) is Data.PRESENT:
                raise Refused(f"{self.data} holds a member's data: it is not prepared for another", Ignorance.OURS)
            self.root.mkdir(parents=True, exist_ok=True)
            self.data.mkdir(mode=0o700, exist_ok=True)
            self.data.chmod(0o700)  # etcd warns of any other
            self._give_to_etcd(self.data)
            durable.sync(self.root)

    def _give_to_etcd(self, path: Path) -> None:
        """An agent of root's serves an etcd of another user: the owner of the root folder says which."""
        owner = self.root.stat()
        if os.geteuid() == 0 and (owner.st_uid, owner.st_gid) != (0, 0):
            os.chown(path, owner.st_uid, owner.st_gid)

    def put_in_place(self, nonce: Nonce) -> None:
        """Make what was restored for this nonce the member's data: one rename over an empty directory.

        Before it everything is on the disk, after it nothing is half there. What an etcd that never spoke has left
        in `data/` is taken away first; a member's data, or a `data/` that is missing, is refused.
        """
        restored = self.restored(nonce)
        doing = f"putting {restored} in place of {self.data}"
        if RESTORED.fullmatch(restored.name) is None:
            raise Refused(f"{doing}: {nonce!r} is no nonce of ours", Ignorance.OURS)
        with durable.refusing(doing):
            if not restored.is_dir():
                raise Refused(f"{doing}: nothing was restored for it", Ignorance.OURS)
            if (found := state_of(self.data)) is not Data.EMPTY:
                raise Refused(f"{doing}: {self.data} is {found}, and must be prepared and empty", Ignorance.OURS)
            self._make_ready(restored)
            _clear(self.data)
            restored.rename(self.data)
        durable.sync_after(self.root, doing)
        durable.sync_after(self.scratch, doing)

    def _make_ready(self, restored: Path) -> None:
        """Whole, durable and etcd's own before it has the name that counts."""
        restored.chmod(0o700)
        for path in (restored, *sorted(restored.rglob("*"))):
            self._give_to_etcd(path)
            durable.sync_any(path)
        durable.sync(self.scratch)

    def clear_scratch(self) -> None:
        """Take away what is of no use any more. Asked for only while no task of the agent's is under way.

        Working copies that a killed agent has left always are; seeds and what was made of them, once a member lives
        here or the machine has booted anew. What cannot be taken away now stays for the next time, and so does what
        an operator's command works in.
        """
        lives = state_of(self.data) is Data.PRESENT
        for name in _names(self.scratch):
            if lives or not (self._of_this_boot(SEED, [name]) or self._of_this_boot(RESTORED, [name])):
                remove_unless_in_use(self.scratch / name)

    def quarantine(self, why: str) -> None:
        """Unavailable: half of it moved; whoever asks again moves the rest."""
        doing = f"moving {self.data} to {self._quarantine}"
        folder = self._new_folder(doing, why)
        moved = False
        for source in (self.data, self._identity):
            try:
                moved = _move(source, folder / source.name) or moved
            except OSError as error:
                if moved:
                    raise Unavailable(Ignorance.FAILED, f"{doing}: {durable.explained(error)}") from error
                raise durable.refused(doing, error) from error

    def _new_folder(self, doing: str, why: str) -> Path:
        """A folder that was not there before: nothing in the quarantine is ever written over."""
        name = f"{self._clock.now():%Y%m%dT%H%M%SZ}-{self._generation()}-{SLUG.sub('-', why.lower()).strip('-')[:60]}"
        with durable.refusing(doing):
            self._quarantine.mkdir(mode=0o700, exist_ok=True)
            for attempt in range(ATTEMPTS):
                folder = self._quarantine / (name if attempt == 0 else f"{name}.{attempt}")
                try:
                    folder.mkdir(mode=0o700)
                except FileExistsError:
                    continue
                durable.sync(self._quarantine)
                durable.sync(self.root)
                return folder
        raise Refused(f"{doing}: there are {ATTEMPTS} folders named {name}", Ignorance.OURS)

    def _generation(self) -> str:
        try:
            identity = self.read().identity
        except (Unavailable, Refused):
            identity = None  # what cannot be read must be movable all the same
        return "unknown" if identity is None else f"g{identity.generation:06d}"


def _broken_at(quarantined: list[str]) -> tuple[datetime, ...]:
    found = [match[1] for match in map(SET_ASIDE_BROKEN.fullmatch, quarantined) if match]
    return tuple(datetime.strptime(each, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) for each in found)


def _names(folder: Path) -> list[str]:
    """None where there is no such folder."""
    try:
        return sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return []


def _clear(data: Path) -> None:
    """Only of a directory that was just seen to be EMPTY: no etcd has spoken from it."""
    for path in data.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _move(source: Path, target: Path) -> bool:
    """Whether there was anything. Durable on both sides: a crash loses neither the old name nor the new one."""
    try:
        source.rename(target)
    except FileNotFoundError:
        return False
    durable.sync(target.parent)
    durable.sync(source.parent)
    return True


# ---- identity.json -------------------------------------------------------------------------------------------------


def _to_json(identity: Identity) -> str:
    document = {
        "cluster": identity.cluster,
        "instance": identity.instance,
        "generation": identity.generation,
        "stage": identity.stage.value,
        "nonce": identity.nonce,
        "peer_url": identity.peer_url,
        "member_id": None if identity.member_id is None else str(identity.member_id),
        "cluster_id": None if identity.cluster_id is None else str(identity.cluster_id),
    }
    return json.dumps(document, indent=1) + "\n"


def _parsed(path: Path, text: str) -> Identity:
    try:
        document = json.loads(text)
        member, cluster = document["member_id"], document["cluster_id"]
        return Identity(
            cluster=_text(document, "cluster"),
            instance=InstanceId(_text(document, "instance")),
            generation=GenerationNumber(_positive(document, "generation")),
            stage=Stage(_text(document, "stage")),
            nonce=Nonce(_text(document, "nonce")),
            peer_url=PeerUrl(_text(document, "peer_url")),
            member_id=None if member is None else MemberId(int(_text(document, "member_id"), 16)),
            cluster_id=None if cluster is None else ClusterId(int(_text(document, "cluster_id"), 16)),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise _garbled(path, error) from error


def _garbled(path: Path, error: Exception) -> Unavailable:
    said = " ".join(str(error).split())
    return Unavailable(Ignorance.MALFORMED, f"{path} is not an identity ({type(error).__name__}: {said})")


def _text(document: dict[str, Any], key: str) -> str:
    value = document[key]
    if not isinstance(value, str) or not value:
        message = f"field {key!r}: expected a text, got {value!r}"
        raise ValueError(message)
    return value


def _positive(document: dict[str, Any], key: str) -> int:
    value = document[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        message = f"field {key!r}: expected a positive number, got {value!r}"
        raise ValueError(message)
    return value
