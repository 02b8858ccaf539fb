"""What the agent says where it calls a human, waits or warns, read from its own source: docs/operate.md quotes it.

A sentence is what stands in the source, with `…` for whatever is filled in. So a rule that says something new, or in
other words, fails the test of the runbook until `python -m tests.render_runbook` has written it there.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

AGENT = Path(__file__).resolve().parents[1] / "agent"
FILLED_IN = "…"
OF_OBSTACLES = {"DISK": "DISK_FAILS", "FULL": "DISK_FULL", "PORT": "PORT_TAKEN", "BINARY": "WRONG_ETCD"}
COMMANDS = ("questions", "recover_cli", "snapshot_cli", "wiring")
LEVELS = frozenset({"warning", "error", "exception", "critical"})


@dataclass(frozen=True, slots=True)
class Saying:
    """A sentence about a `Reason` or a `Blocker` (its member's name) and, of a call for a human, its hint."""

    about: str
    because: str
    hint: str = ""


def calls() -> list[Saying]:
    """Every `CallHuman` of the rules."""
    return [each for room in _rooms("decide") for each in room.calls()]


def waits() -> list[Saying]:
    """Every `Wait` of the rules."""
    return [each for room in _rooms("decide") for each in room.waits()]


def unsound_buckets() -> list[Saying]:
    """What the bucket's door says of a bucket that is refused: its words are the rule's."""
    return [each for room in _rooms("world") for each in room.unsound()]


def obstacles() -> list[Saying]:
    """What is found beside the data of an etcd that keeps ending: its words are the rule's."""
    return [each for place in ("decide", "world") for room in _rooms(place) for each in room.obstacles()]


def one_line_errors() -> set[str]:
    """What a command says, in one line, where it gives up; the words of the doors are in `Unknown`s everywhere else."""
    rooms = [_Room(ast.parse((AGENT / f"{name}.py").read_text(encoding="utf-8"))) for name in COMMANDS]
    return {each for room in rooms for each in room.raised()}


def what_blocks_a_recovery() -> set[str]:
    """The words behind a name in `recovery waits for`: why a generation is not proven lost."""
    room = _Room(ast.parse((AGENT / "decide" / "loss.py").read_text(encoding="utf-8")))
    return {each for each in room.reasons() if " " in each}


def log_messages() -> set[str]:
    """The messages of the agent's warnings and errors; the lab has its own."""
    return {each for place in ("", "telemetry", "world", "decide") for room in _rooms(place) for each in room.logged()}


@cache
def _rooms(place: str) -> list[_Room]:
    return [_Room(ast.parse(path.read_text(encoding="utf-8"))) for path in sorted((AGENT / place).glob("*.py"))]


class _Room:
    """One module of the agent's, and what is said in it."""

    def __init__(self, module: ast.Module) -> None:
        self._module = module
        self._functions = {each.name: each for each in ast.walk(module) if isinstance(each, ast.FunctionDef)}

    def calls(self) -> Iterator[Saying]:
        """As `do(CallHuman(hint, Reason.X), why)`, or as a constant that some function adds its reason to."""
        for scope in (self._module, *self._functions.values()):
            whys = {id(node.args[0]): node.args[1] for node in _own_calls(scope, "do") if len(node.args) == 2}
            for call in _own_calls(scope, "CallHuman"):
                why = whys.get(id(call))
                said = self._texts(why, scope) if why is not None else [""]
                hints = self._texts(call.args[0], scope)
                yield from (Saying(_member(call.args[1]), each, hint) for each in said for hint in hints)

    def waits(self) -> Iterator[Saying]:
        """As `wait(Blocker.X, why)`, or spelled out as a Decision."""
        for scope in self._functions.values():
            spoken = [(node.args[0], node.args[1]) for node in _own_calls(scope, "wait") if len(node.args) == 2]
            for node in _own_calls(scope, "Decision"):
                inner = node.args[0]
                if isinstance(inner, ast.Call) and _name(inner) == "Wait" and isinstance(inner.args[0], ast.Attribute):
                    spoken.append((inner.args[0], node.args[1]))
            for blocker, why in spoken:
                yield from (Saying(_member(blocker), each) for each in self._texts(why, scope))

    def unsound(self) -> Iterator[Saying]:
        for scope in self._functions.values():
            for node in _own_calls(scope, "BucketUnsound"):
                for why in self._texts(node.args[0], scope):
                    yield from (Saying("UNSOUND_BUCKET", why, hint) for hint in self._texts(node.args[1], scope))

    def obstacles(self) -> Iterator[Saying]:
        for scope in self._functions.values():
            for node in _own_calls(scope, "Obstacle"):
                yield from (
                    Saying(OF_OBSTACLES[_member(node.args[0])], each) for each in self._texts(node.args[1], scope)
                )

    def reasons(self) -> Iterator[str]:
        """What its functions return, or call `said`, in words; and the values of its tables."""
        for scope in self._functions.values():
            for node in ast.walk(scope):
                named = isinstance(node, ast.Assign) and _is_name(node.targets[0], "said")
                if isinstance(node, ast.Return | ast.Assign) and node.value and (isinstance(node, ast.Return) or named):
                    yield from self._texts(node.value, scope)
        for node in self._module.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
                yield from (text for each in node.value.values for text in self._texts(each, self._module))

    def raised(self) -> Iterator[str]:
        for scope in self._functions.values():
            for node in _own_calls(scope, "Refused", "Unavailable"):
                words = node.args[-1] if _name(node) == "Unavailable" else node.args[0]
                yield from self._texts(words, scope)

    def logged(self) -> Iterator[str]:
        for scope in (self._module, *self._functions.values()):
            for node in _own_calls(scope, *LEVELS):
                assert isinstance(node.func, ast.Attribute), "whatever logs is a method"
                if isinstance(node.func.value, ast.Name) and node.func.value.id == "log":
                    yield from self._texts(node.args[0], scope)

    def _texts(self, value: ast.expr, scope: ast.AST) -> list[str]:
        """Every sentence that this expression may be."""
        match value:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.JoinedStr(values=parts):
                return [_squeezed("".join(_part(each) for each in parts))]
            case ast.IfExp(body=one, orelse=other):
                return self._texts(one, scope) + self._texts(other, scope)
            case ast.Name(id=name):
                found = _assigned(name, value.lineno, scope) or _assigned(name, value.lineno + 10**6, self._module)
                return [FILLED_IN] if found is None else self._texts(found, scope)
            case ast.Call(func=ast.Name(id=name)) if name in self._functions:
                returns = (each for each in ast.walk(self._functions[name]) if isinstance(each, ast.Return))
                return [
                    text for each in returns if each.value for text in self._texts(each.value, self._functions[name])
                ]
            case _:
                return [FILLED_IN]


def _own_calls(scope: ast.AST, *names: str) -> Iterator[ast.Call]:
    """Calls in this scope, in the order of the source, but in no function within it."""
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, ast.FunctionDef):
            continue
        if isinstance(child, ast.Call) and _name(child) in names:
            yield child
        yield from _own_calls(child, *names)


def _name(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _member(value: ast.expr) -> str:
    return value.attr if isinstance(value, ast.Attribute) else FILLED_IN


def _part(value: ast.expr) -> str:
    return str(value.value) if isinstance(value, ast.Constant) else FILLED_IN


def _squeezed(text: str) -> str:
    return text.replace(FILLED_IN * 2, FILLED_IN)


def _assigned(name: str, before: int, scope: ast.AST) -> ast.expr | None:
    """What the name was last given above that line."""
    found: ast.expr | None = None
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and node.lineno < before and _is_name(node.targets[0], name):
            found = node.value
    return found


def _is_name(target: ast.expr, name: str) -> bool:
    return isinstance(target, ast.Name) and target.id == name
