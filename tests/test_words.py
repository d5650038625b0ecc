"""One word, one meaning: class names, the names of what handles, asks and waits, and the terms of the glossary."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("channels", "paid", "router", "sdk", "settlement", "watchtower")
TWICE: dict[str, str] = {}
"""Class names that may exist twice, and why."""

IRREGULAR = (
    "begun|bound|cut|done|drawn|forgotten|given|gone|heard|held|hidden|kept|known|learned|left|lost|made|met|paid|said|"
    "seen|sent|spent|stuck|taken|told"
)
PARTICIPLE = re.compile(rf"(?:\w+_)?(?:\w+ed|{IRREGULAR})")
NO_PARTICIPLE = re.compile(r"(?:\w+_)?(?:feed|greed|heed|need|proceed|seed|speed|succeed)")
PROMISED = {
    ("ChannelHandle", "connected"): "docs/sdk.md tells of it",
    ("_Stream", "ended"): "a stream's handle: docs/sdk.md tells of it",
}
"""What breaks the rule and stays, as users were told of it."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules() -> list[Path]:
    """Return the modules of the product, test kits and benchmarks with it."""
    return sorted(path for part in PARTS for path in (ROOT / part).rglob("*.py"))


def classes() -> dict[str, list[str]]:
    """Return where each class of the product is defined, by its name."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(path.relative_to(ROOT)))
    return found


def functions(code: str) -> Iterator[tuple[str, Function]]:
    """Yield (class or nothing, function) for each public function and method of a module."""
    for node in ast.parse(code).body:
        owner, members = (node.name, node.body) if isinstance(node, ast.ClassDef) else ("", [node])
        for member in members:
            if isinstance(member, Function) and not member.name.startswith("_"):
                yield owner, member


def is_participle(name: str) -> bool:
    """Whether a name ends in a past participle, and does not begin with a verb that says what it does."""
    return bool(PARTICIPLE.fullmatch(name)) and not NO_PARTICIPLE.fullmatch(name)


def complaint(function: Function) -> str | None:
    """Return how a function breaks the rule for names, None if it does not."""
    name, answer = function.name, ast.unparse(function.returns) if function.returns else ""
    first = (ast.get_docstring(function) or "").partition(" ")[0]
    if name.startswith(("has_", "is_")) and answer != "bool":
        return "is_x and has_x ask: they return a bool"
    bare = is_participle(name) and "_" not in name
    if bare and answer == "bool":
        return "what asks is called is_x or has_x"
    if bare and answer == "None":
        return "what handles is called on_x, what waits wait_x"
    if bare and first == "Wait":
        return "what waits is called wait_x"
    return None


def test_every_class_name_exists_once() -> None:
    twice = {name: places for name, places in classes().items() if len(places) > 1}
    assert twice.keys() == TWICE.keys(), {name: twice.get(name) for name in twice.keys() ^ TWICE.keys()}


def test_names_say_whether_they_handle_ask_or_wait() -> None:
    wrong = {
        f"{path.relative_to(ROOT)}: {owner}.{function.name}": why
        for path in modules()
        for owner, function in functions(path.read_text("utf-8"))
        if (why := complaint(function)) and (owner, function.name) not in PROMISED
    }
    assert wrong == {}


@pytest.mark.parametrize(
    "code",
    [
        "def ended(self, lock: int) -> None: ...",
        "def stuck(self) -> bool: ...",
        'async def covered(self) -> Record:\n    """Wait until it is."""',
        "def is_open(self) -> int: ...",
    ],
)
def test_a_name_that_breaks_the_rule_would_be_noticed(code: str) -> None:
    ((_, function),) = functions(code)
    assert complaint(function)


@pytest.mark.parametrize(
    "code",
    [
        "def on_ended(self, lock: int) -> None: ...",
        "def is_stuck(self) -> bool: ...",
        "def feed(self, data: bytes) -> None: ...",
        "def committed(self) -> int: ...",
        'async def wait_covered(self) -> None:\n    """Wait until it is."""',
    ],
)
def test_a_name_that_keeps_it_is_not(code: str) -> None:
    ((_, function),) = functions(code)
    assert complaint(function) is None


def test_what_was_promised_is_there() -> None:
    there = {(owner, f.name) for path in modules() for owner, f in functions(path.read_text("utf-8"))}
    assert PROMISED.keys() <= there


def terms() -> list[tuple[str, str]]:
    """Return (term, where) of each row of the glossary."""
    text = (ROOT / "GLOSSARY.md").read_text("utf-8")
    rows = re.findall(r"^\| (?!term |---)(.*) \|$", text, flags=re.MULTILINE)
    return [(cells[0].strip("*"), cells[-1]) for cells in (row.split(" | ") for row in rows) if len(cells) == 3]


def test_every_row_of_the_glossary_has_three_columns_and_they_are_in_order() -> None:
    text = (ROOT / "GLOSSARY.md").read_text("utf-8")
    names = [term.lower() for term, _ in terms()]
    assert len(names) == text.count("\n| **") > 100
    assert names == sorted(names) and len(set(names)) == len(names)


@pytest.mark.parametrize(("term", "where"), terms(), ids=lambda value: value[:20])
def test_each_term_of_the_glossary_stands_where_it_says(term: str, where: str) -> None:
    if where == "everywhere":
        return
    *names, path = re.findall(r"`([^`]+)`", where)
    code = (ROOT / path).read_text("utf-8")
    for name in names:
        assert re.search(rf"^class {name}\b", code, flags=re.MULTILINE), term
