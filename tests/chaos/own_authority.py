"""Cases with certificates of the agents' own authority: a loss, and a rotation with deaths in the middle of it.

The members' certificates live for a minute, so that they are renewed under load, too. Clients do what docs/tls.md asks
of them: the new bundle after the first step, a new certificate after the second. So none of it may cost a write.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.chaos.case import Case, Tls, with_one_disk
from tests.chaos.certificates import issued
from tests.chaos.on_machines import terminate_majority
from tests.chaos.scene import Scene
from tests.lab.test_own_authority import all_members, by_operator, tls_status

SETTINGS = {"tls": {"mode": "ca", "life": "60s"}}
ROLLED_S = 150


def rotate(scene: Scene) -> None:
    """Each etcd restarts twice, one after another. When the first has, the leader dies; the next time a follower."""
    _step(scene, "trust both")
    _until_one(scene, trusts=[1, 2])
    scene.kill(scene.leader())
    _until_all(scene, trusts=[1, 2], shows=[1])
    _clients_are_given(scene, "the new bundle")
    _step(scene, "issue by the new one")
    _until_all(scene, trusts=[1, 2], shows=[2])
    _clients_are_given(scene, "new certificates")
    _step(scene, "trust the new one alone")
    _until_one(scene, trusts=[2])
    scene.kill(scene.follower())
    _until_all(scene, trusts=[2], shows=[2])


def _step(scene: Scene, what: str) -> None:
    scene.note(f"tls rotate: {what}")

    def is_taken() -> bool:
        return by_operator(scene.lab, "tls", "rotate").returncode == 0

    scene.until(_patient(is_taken), ROLLED_S, f"a step of the rotation: {what}")


def _until_one(scene: Scene, trusts: list[int]) -> None:
    def one_does() -> bool:
        return any(each.get("trusts") == trusts for each in tls_status(scene.lab)["members"])

    scene.until(_patient(one_does), ROLLED_S, f"a member that trusts {trusts}")


def _until_all(scene: Scene, **wanted: list[int]) -> None:
    scene.until(_patient(lambda: all_members(scene.lab, **wanted)), ROLLED_S, f"three members: {wanted}")
    scene.note(f"all members: {wanted}")


def _patient(asked: Callable[[], bool]) -> Callable[[], bool]:
    """Whoever is asked may be just about to restart."""

    def answer() -> bool:
        try:
            return asked()
        except AssertionError:
            return False

    return answer


def _clients_are_given(scene: Scene, what: str) -> None:
    scene.note(f"clients are given {what}")
    scene.lab.tls = issued(scene.lab, scene.lab.folder / what.replace(" ", "-"))


CASES = (
    with_one_disk(
        "own-authority-across-a-loss",
        'tls.mode = "ca": EC2 terminates the leader and a follower',
        terminate_majority,
        settings=SETTINGS,
        tls=Tls.CA,
    ),
    Case(
        "own-authority-rotation",
        'tls.mode = "ca": the authority is rotated; SIGKILL to the leader, then to a follower, while etcds restart',
        rotate,
        settings=SETTINGS,
        tls=Tls.CA,
    ),
)
