"""The operator's pause: who asked for it, when and why, and how it is written down."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from agent.model.documents import Document, dump

TAG = "etcd-asg-agent:hold"
"""On an Auto Scaling group it holds the cluster, on an instance this instance alone; its value says why."""

NO = frozenset({"off", "false", "no"})
"""Values of the tag that hold nothing."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A pause that is on. `since` None: a tag does not say."""

    who: str
    why: str
    since: datetime | None = None

    def to_json(self) -> str:
        return _document(True, self)

    @staticmethod
    def from_json(text: str) -> Hold | None:
        """None: what was on is off again. What makes no sense was put there by somebody, and holds until it does."""
        try:
            document = Document(text)
            found = Hold(document.text("who"), document.text("why"), document.time("when"))
            return found if document.flag("held") else None
        except ValueError as error:
            return Hold("somebody", f"hold.json makes no sense ({error})")

    def __str__(self) -> str:
        since = "" if self.since is None else f" since {self.since:%FT%XZ}"
        return f"held by {self.who}{since}: {self.why or 'no reason given'}"


def released(who: str, why: str, when: datetime) -> str:
    """What takes the place of a hold that is off: who released it stays on record."""
    return _document(False, Hold(who, why, when))


def from_tag(value: str | None, of: str) -> Hold | None:
    """What a tag's value says; None: there is no such tag, or it says `off`."""
    if value is None or value.strip().lower() in NO:
        return None
    return Hold(f"the tag {TAG} of {of}", value)


def _document(held: bool, hold: Hold) -> str:
    assert hold.since is not None, "only a tag does not say since when"
    return dump(held=held, who=hold.who, when=hold.since.isoformat(), why=hold.why)
