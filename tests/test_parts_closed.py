"""What a part of a node is made of is settled when it is made, and a channel's inside is for `channels` alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MADE_ONCE = ("sdk/node", "sdk/control", "sdk/daemon", "sdk/cli", "settlement/enforcement", "paid", "watchtower")
OUTSIDE = ("paid", "router", "sdk", "settlement", "watchtower", "examples")
SWITCHES = {
    "app.router.redirect_slashes",
    "config.include_server_header",
    "config.keep_alive_timeout",
    "config.loglevel",
    "config.shutdown_timeout",
    "config.graceful_timeout",
    "response.background",
    "link.read_size",
}
"""Of Hypercorn's and Starlette's objects, which are made so, and of a link, which has it to be set."""
INSIDE = {"session", "sessions", "sessions_with"}
"""How an engine gives sessions out: to `channels`, and to tests that act as a node's inside."""


def modules(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            if "testing" not in file.parts:
                yield str(file.relative_to(ROOT)), ast.parse(file.read_text())


def targets(node: ast.AST) -> Iterator[ast.expr]:
    """Yield what a statement assigns to."""
    given = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, (ast.AugAssign, ast.AnnAssign)):
        given = [node.target]
    for target in given:
        yield from target.elts if isinstance(target, (ast.Tuple, ast.List)) else (target,)


def set_from_outside(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        for target in targets(node):
            if isinstance(target, ast.Attribute) and not (
                isinstance(target.value, ast.Name) and target.value.id in ("self", "cls")
            ):
                yield ast.unparse(target)


def looks_inside(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in INSIDE and ast.unparse(node.value).endswith("engine"):
            yield ast.unparse(node)


def test_no_part_of_a_node_sets_what_belongs_to_another() -> None:
    found = [(file, name) for file, tree in modules(*MADE_ONCE) for name in set_from_outside(tree)]
    assert [(file, name) for file, name in found if name not in SWITCHES] == []
    assert {name for _, name in found} == SWITCHES, "take from the list what is not set any more"


def test_nobody_outside_channels_takes_a_session_from_the_engine() -> None:
    assert [(file, name) for file, tree in modules(*OUTSIDE) for name in looks_inside(tree)] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("router.payer = outgoing", ["router.payer"]),
        ("dialer.announced, dialer.reached = a, b", ["dialer.announced", "dialer.reached"]),
        ("self._index.head_number += 1", ["self._index.head_number"]),
        ("self.payer = outgoing", []),
    ],
)
def test_what_is_set_from_outside_is_found(text: str, found: list[str]) -> None:
    assert list(set_from_outside(ast.parse(text))) == found


def test_who_looks_inside_is_found() -> None:
    tree = ast.parse("self._engine.session(a).usable; engine.sessions.values(); world.session(a); engine.view(a)")
    assert sorted(looks_inside(tree)) == ["engine.sessions", "self._engine.session"]
