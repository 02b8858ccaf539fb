"""Reads a story: what holds, which neighbour fails at it, and steps in plain English.

    What holds, in a sentence or two.

    (who fails at it, and how)

    given …     the stage is set
    when …      something happens
    then …      so it is

A step is one line, and every line is understood or refused: see `Unread`. Which sentences there are, `verbs` says; this
module knows only how a sentence is made: of words and of slots, such as `{count}`, which stand for a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

WORDS = ("given", "when", "then")
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven")
SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


class Unread(Exception):
    """A line that nobody understands: the file, the line, and what is understood."""


@dataclass(frozen=True)
class Step:
    where: str  # file and line
    word: str
    sentence: str


@dataclass(frozen=True)
class Story:
    name: str
    holds: str
    neighbour: str
    steps: tuple[Step, ...]


def read(path: Path) -> Story:
    heading, steps = "", []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        word, _, sentence = line.partition(" ")
        if word in WORDS:
            steps.append(Step(f"{path.name}:{number}", word, sentence.strip()))
        elif steps and line:
            raise Unread(f"{path.name}:{number}: a step begins with {', '.join(WORDS)}; here is: {line}")
        else:
            heading += f"{line}\n"
    found = re.fullmatch(r"(.+?)\s*\n\n\((.+)\)\s*", heading, re.DOTALL)
    if found is None:
        raise Unread(f"{path.name}:1: a story begins with what holds, and then (who fails at it)")
    if not steps or steps[-1].word != "then":
        raise Unread(f"{path.name}: a story ends with a then")
    return Story(path.stem, found[1], found[2], tuple(steps))


# ---- sentences


def _number(text: str) -> int:
    return NUMBERS.index(text) if text in NUMBERS else int(text)


def _seconds(text: str) -> float:
    amount, unit = text.split()
    return _number(amount) * SECONDS[unit.removesuffix("s")]


_NUMBER = rf"(?:{'|'.join(NUMBERS)}|\d+)"
_PEOPLE = r"(?:a|one|two|three|four|the|it|they|them|everybody)\b[a-z ]*?"

SLOTS: dict[str, tuple[str, Callable[[str], object]]] = {
    "count": (_NUMBER, _number),
    "generation": (_NUMBER, _number),
    "time": (rf"{_NUMBER} (?:{'|'.join(SECONDS)})s?", _seconds),
    "who": (_PEOPLE, str),
    "door": (r"S3|EC2|IMDS|etcd", str.lower),
    "quote": (r'"[^"]+"', lambda text: text.strip('"')),
}

Meaning = TypeVar("Meaning", bound=Callable[..., None])


class Vocabulary:
    """Sentences, and what they mean. `(this|that)` is either word; slots arrive as keyword arguments."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[re.Pattern[str], Callable[..., None]]] = {}

    def means(self, sentence: str) -> Callable[[Meaning], Meaning]:
        pattern = sentence.replace("(", "(?:")
        for slot, (shape, _) in SLOTS.items():
            pattern = pattern.replace(f"{{{slot}}}", f"(?P<{slot}>{shape})")

        def keep(meaning: Meaning) -> Meaning:
            self.known[sentence] = re.compile(pattern), meaning
            return meaning

        return keep

    def understand(self, step: Step) -> Callable[..., None]:
        """What this step does to the stage of its story."""
        for pattern, meaning in self.known.values():
            found = pattern.fullmatch(step.sentence)
            if found is not None:
                values = {slot: SLOTS[slot][1](text) for slot, text in found.groupdict().items() if text}
                return partial(meaning, **values)
        known = "\n".join(f"  {step.word} {each}" for each in sorted(self.known))
        raise Unread(f"{step.where}: nobody knows what this means: {step.word} {step.sentence}\nknown are:\n{known}")
