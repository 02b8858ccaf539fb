"""Every way in which the neighbours fail, told in plain English and lived through in the simulation, by several seeds.

A new story is a new file. What the simulation promises is checked at every step of every story (`simulation.promises`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulation.disasters import seeds
from tests.simulation.sim import Sim
from tests.stories.reader import Story, Unread, read
from tests.stories.verbs import HAPPENS, HOLDS, Stage

HERE = Path(__file__).parent
STORIES = sorted(HERE.glob("*.txt"))


def tell(story: Story, stage: Stage) -> None:
    understood = [(HOLDS if step.word == "then" else HAPPENS).understand(step) for step in story.steps]
    for step, happens in zip(story.steps, understood, strict=True):
        try:
            happens(stage)
        except (AssertionError, Unread) as broken:
            broken.add_note(f"{step.where}: {step.word} {step.sentence}")
            raise


@pytest.mark.parametrize("seed", seeds(2))
@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_the_story_holds(begin: Callable[..., Sim], path: Path, seed: int) -> None:
    tell(read(path), Stage(begin, seed))


# ---- the reader


def written(folder: Path, *lines: str) -> Story:
    path = folder / "a-story.txt"
    path.write_text("\n".join(lines))
    return read(path)


HEADING = ("It holds.", "", "(they fail at it)", "")


def test_a_story_has_a_heading_and_steps(tmp_path: Path) -> None:
    story = written(tmp_path, *HEADING, "given a cluster of one", "then the cluster is whole")
    assert (story.name, story.holds, story.neighbour) == ("a-story", "It holds.", "they fail at it")
    assert [(each.where, each.word) for each in story.steps] == [("a-story.txt:5", "given"), ("a-story.txt:6", "then")]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("given a cluster of one", "then the cluster is whole"), "a-story.txt:1: a story begins with what holds"),
        ((*HEADING, "given a cluster of one", "the cluster is whole"), "a-story.txt:6: a step begins with given, when"),
        ((*HEADING, "given a cluster of one"), "a-story.txt: a story ends with a then"),
    ],
)
def test_what_is_no_story_is_refused(tmp_path: Path, lines: tuple[str, ...], said: str) -> None:
    with pytest.raises(Unread, match=re.escape(said)):
        written(tmp_path, *lines)


def test_an_unknown_sentence_is_refused_before_anything_happens(begin: Callable[..., Sim], tmp_path: Path) -> None:
    story = written(tmp_path, *HEADING, "given a cluster of one", "when pigs fly", "then the cluster is whole")
    stage = Stage(begin, 0)
    with pytest.raises(Unread, match=r"a-story.txt:6: nobody knows what this means: when pigs fly") as refused:
        tell(story, stage)
    assert all(f"  when {each}" in str(refused.value) for each in HAPPENS.known)
    assert stage.newcomers == []


def test_an_unknown_somebody_is_refused(begin: Callable[..., Sim], tmp_path: Path) -> None:
    story = written(
        tmp_path, *HEADING, "given a cluster of one", "when the cat is stopped", "then the cluster is whole"
    )
    with pytest.raises(Unread, match=r"who is 'the cat'\? known are: it, they") as refused:
        tell(story, Stage(begin, 0))
    assert refused.value.__notes__ == ["a-story.txt:6: when the cat is stopped"]


@pytest.mark.parametrize("untrue", ["generation 2 is the newest", "three members vote", "nobody has started etcd"])
def test_what_is_not_so_fails_with_its_line(begin: Callable[..., Sim], tmp_path: Path, untrue: str) -> None:
    story = written(tmp_path, *HEADING, "given a cluster of one", f"then {untrue}")
    with pytest.raises(AssertionError) as failed:
        tell(story, Stage(begin, 0))
    assert failed.value.__notes__ == [f"a-story.txt:6: then {untrue}"]


def test_every_sentence_is_used_by_a_story() -> None:
    steps = [step for path in STORIES for step in read(path).steps]
    for vocabulary, words in ((HAPPENS, ("given", "when")), (HOLDS, ("then",))):
        sentences = [step.sentence for step in steps if step.word in words]
        unused = [
            known for known, (pattern, _) in vocabulary.known.items() if not any(map(pattern.fullmatch, sentences))
        ]
        assert unused == []


# ---- the table


def test_the_table_names_every_story_and_tests_that_exist() -> None:
    proofs = [re.findall(r"`([^`\s]+\.(?:txt|py::\w+))`", line) for line in table()]
    assert all(proofs), "a line without a proof"
    named = {each for line in proofs for each in line}
    assert {each for each in named if each.endswith(".txt")} == {path.name for path in STORIES}
    for each in sorted(named - {path.name for path in STORIES}):
        path, test = each.split("::")
        assert f"def {test}(" in (HERE.parent / path).read_text(), each


def table() -> list[str]:
    lines = [line for line in (HERE / "README.md").read_text().splitlines() if line.startswith("|")]
    return lines[2:]
