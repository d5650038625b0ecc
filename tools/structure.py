"""Is the house as it is drawn? `make check` runs this: `python tools/structure.py`, with any Python that is supported.

It prints the rooms of each package (its sub-packages, and the modules beside them), on which floor each is, and the
arrows between them: who imports whom, how often. A `~` counts imports within a function or for type checkers alone:
they are arrows like all others. Then it says what is against the rules, which are in pyproject.toml under
`[tool.structure]`:

- a package imports those below it alone, and a room those on lower floors of its package;
- nothing goes in a ring: not packages, not rooms, not the modules of one room;
- nothing but the `shells` reaches what is `outside` (event loop, disk, network), by whatever it imports: all else is
  pure;
- the product imports no test, no simulation and no test kit (`kits` names the rooms that may use kits);
- a package has no more entries than `entries` says on its first level, and no file more lines than `lines`.

`python tools/structure.py --lines [TREE …]` counts the lines of the product instead, without test kits and benchmarks.
"""

from __future__ import annotations

import ast
import collections
import dataclasses
import statistics
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NAME = "tallystick"
NO_PRODUCT = ("testing", "bench")
"""Rooms that are for tests and measurements: they are not counted as lines of the product."""
FOREIGN = ("simulation", "tests")
"""What only tests may import."""

Place = tuple[str, ...]
"""A module by its way from the top: `("channels", "protocol", "core")`; a folder's own one ends in `__init__`."""


@dataclasses.dataclass(frozen=True)
class Arrow:
    """One import of one module by another one, in one statement."""

    source: Place
    target: Place
    line: int
    late: bool
    """Within a function, or for type checkers alone."""


@dataclasses.dataclass(frozen=True)
class Tree:
    """What is in the packages of one tree, and which of it imports which."""

    lines: dict[Place, int]
    arrows: list[Arrow]
    others: list[tuple[Place, int, str]]
    """Imports of other packages: by whom, in which line, what."""


def read(root: Path, packages: Iterable[str]) -> Tree:
    """Read the modules of these packages of a tree."""
    files = {
        (*path.relative_to(root).parts[:-1], path.stem): path
        for package in packages
        for path in sorted((root / package).rglob("*.py"))
    }
    lines, arrows, others = {}, dict[Arrow, None](), []
    for place, path in files.items():
        text = path.read_text("utf-8")
        lines[place] = text.count("\n")
        for node, late in imports(ast.parse(text), late=False):
            for dotted in names(node, place):
                if dotted[0] != NAME:
                    others.append((place, node.lineno, ".".join(dotted)))
                elif (target := resolve(dotted[1:], files)) not in (None, place):
                    arrows[Arrow(place, target, node.lineno, late)] = None
    return Tree(lines, [*arrows], others)


def imports(node: ast.AST, *, late: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Yield the imports below a node, each with whether Python does it later than when it loads the module."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, late
        else:
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from imports(child, late=late or function or typing)


def names(node: ast.Import | ast.ImportFrom, place: Place) -> Iterator[Place]:
    """Yield what an import statement names, in parts: the last one may be a name within a module."""
    if isinstance(node, ast.Import):
        yield from (tuple(alias.name.split(".")) for alias in node.names)
        return
    base = (NAME, *place[: -node.level]) if node.level else ()
    base += tuple(node.module.split(".")) if node.module else ()
    yield from ((*base, alias.name) for alias in node.names)


def resolve(dotted: Place, files: dict[Place, Path]) -> Place | None:
    """Return the module that this names, or that the thing of this name is in; none of these for other packages."""
    for known in (dotted, dotted[:-1]):
        for candidate in (known, (*known, "__init__")):
            if candidate in files:
                return candidate
    return None


def rings(tree: Tree) -> Iterator[tuple[str, list[Arrow]]]:
    """Yield rings: a folder, and the arrows between entries of it that import each other in a circle."""
    for folder in sorted({place[:depth] for place in tree.lines for depth in range(len(place))}):
        depth = len(folder)
        inside = [arrow for arrow in tree.arrows if arrow.source[:depth] == folder == arrow.target[:depth]]
        crossing = [arrow for arrow in inside if arrow.source[depth] != arrow.target[depth]]
        edges: dict[str, set[str]] = collections.defaultdict(set)
        for arrow in crossing:
            edges[arrow.source[depth]].add(arrow.target[depth])
        for members in circles(edges):
            ring = [arrow for arrow in crossing if {arrow.source[depth], arrow.target[depth]} <= members]
            yield ".".join(folder) or "packages", ring


def circles(edges: dict[str, set[str]]) -> Iterator[set[str]]:
    """Yield the sets of nodes that all reach each other, each with at least two members."""
    reach = {node: {*targets} for node, targets in edges.items()}
    for between in sorted(reach):
        for targets in reach.values():
            if between in targets:
                targets |= reach[between]
    left = {node for node in reach if node in reach[node]}
    while left:
        first = min(left)
        members = {node for node in left if node in reach[first] and first in reach[node]}
        yield members
        left -= members


def floors(rules: dict[str, Any]) -> dict[Place, int]:
    """Return on which floor each room is, by the rules: the lowest is 0. `a | b` are on one floor, side by side."""
    return {
        (package, room): number
        for package, order in rules["floors"].items()
        for number, names in enumerate(reversed(order))
        for room in names.split(" | ")
    }


def faults(root: Path, rules: dict[str, Any]) -> Iterator[str]:
    """Yield what is against the rules, each in a line."""
    tree = read(root, rules["packages"])
    yield from misplaced(tree, rules)
    yield from unclean(tree, set(rules["outside"]), set(rules["shells"]))
    for folder, ring in rings(tree):
        yield f"a ring in {folder}: {'; '.join(map(told, ring))}"
    yield from too_much(root, rules)


def misplaced(tree: Tree, rules: dict[str, Any]) -> Iterator[str]:
    """Yield the imports that go up or to the side, or to what is for tests, and the rooms that are on no floor."""
    packages, floor = rules["packages"], floors(rules)
    for place in sorted({place[:2] for place in tree.lines} - floor.keys() - {(part, "__init__") for part in packages}):
        yield f"{'.'.join(place)} is on no floor: name it in pyproject.toml, [tool.structure.floors]"
    for arrow in tree.arrows:
        source, target = arrow.source[:2], arrow.target[:2]
        if source[0] != target[0]:
            if packages.index(source[0]) > packages.index(target[0]):
                yield f"{told(arrow)}: {source[0]} is below {target[0]}"
        elif source != target and {source, target} <= floor.keys() and floor[source] <= floor[target]:
            yield f"{told(arrow)}: {source[1]} is on floor {floor[source]}, {target[1]} on {floor[target]}"
        if "testing" in arrow.target[:-1] and "testing" not in arrow.source and ".".join(source) not in rules["kits"]:
            yield f"{told(arrow)}: the product uses a test kit"
    for place, line, what in tree.others:
        if what.split(".")[0] in FOREIGN:
            yield f"{'.'.join(place)}:{line} imports {what}"


def too_much(root: Path, rules: dict[str, Any]) -> Iterator[str]:
    """Yield the packages with too many entries, and the files with too many lines."""
    for part, most in rules["entries"].items():
        entries = sorted(entry.name for entry in (root / part).iterdir() if entry.name != "__pycache__")
        if len(entries) > most:
            yield f"{part}/ has {len(entries)} entries, more than {most}: {' '.join(entries)}"
    for path, size in sizes(root, rules):
        if size > rules["lines"]:
            yield f"{path.relative_to(root)} has {size} lines, more than {rules['lines']}"


def unclean(tree: Tree, outside: set[str], shells: set[str]) -> Iterator[str]:
    """Yield the modules besides the shells that reach what is outside, and the shells that do not."""
    ways = reaching(tree, outside)
    covered = {place: {".".join(place[:depth]) for depth in range(1, 1 + len(place))} & shells for place in tree.lines}
    for place in sorted(ways.keys() - {place for place, names in covered.items() if names}):
        yield f"{'.'.join(place)} is pure, but reaches what is outside: {' -> '.join(ways[place])}"
    for name in sorted(shells - {name for place in ways for name in covered[place]}):
        yield f"{name} reaches nothing outside: take it out of `shells`"


def reaching(tree: Tree, outside: set[str]) -> dict[Place, list[str]]:
    """Return the modules that reach what is outside, each with a shortest way to it."""
    users: dict[Place, list[Place]] = collections.defaultdict(list)
    for arrow in tree.arrows:
        users[arrow.target].append(arrow.source)
    ways = {place: [what] for place, _, what in tree.others if what.split(".")[0] in outside}
    queue = collections.deque(ways)
    while queue:
        reached = queue.popleft()
        for user in users[reached]:
            if user not in ways:
                ways[user] = [".".join(reached), *ways[reached]]
                queue.append(user)
    return ways


def sizes(root: Path, rules: dict[str, Any]) -> Iterator[tuple[Path, int]]:
    """Yield the files of Python in all folders, with their lines."""
    for folder in (*rules["packages"], *rules["folders"]):
        for path in sorted((root / folder).rglob("*.py")):
            yield path, path.read_text("utf-8").count("\n")


def told(arrow: Arrow) -> str:
    """Return an arrow in words."""
    return f"{'.'.join(arrow.source)}:{arrow.line} -> {'.'.join(arrow.target)}{'~' * arrow.late}"


def drawn(root: Path, rules: dict[str, Any]) -> Iterator[str]:
    """Yield the picture of a tree, line by line: its packages, and below each its rooms, the highest floors first."""
    tree, floor = read(root, rules["packages"]), floors(rules)
    for package in rules["packages"]:
        inside = [place for place in tree.lines if place[0] == package]
        below = sorted({arrow.target[0] for arrow in tree.arrows if arrow.source[0] == package} - {package})
        head = f"{package}: {len(inside)} files, {sum(tree.lines[place] for place in inside):,} lines"
        yield head + (f"; imports {', '.join(below)}" if below else "")
        rooms = {place[1] for place in inside} - {"__init__"}
        for room in sorted(rooms, key=lambda room: (-floor.get((package, room), -1), room)):
            files = [place for place in inside if place[1] == room]
            arrows, late = collections.Counter[str](), collections.Counter[str]()
            for arrow in tree.arrows:
                if arrow.source[:2] == (package, room) and arrow.target[0] == package:
                    (late if arrow.late else arrows)[arrow.target[1]] += 1
            told = ", ".join(
                " ".join([other, *([str(arrows[other])] * (other in arrows)), *([f"{late[other]}~"] * (other in late))])
                for other in sorted((arrows | late).keys() - {room})
            )
            size = f"{len(files):>3} files {sum(tree.lines[place] for place in files):>6,} lines"
            own = f"  ({late[room]}~ inside)" if late[room] else ""
            yield f"  {floor.get((package, room), '?'):>2}  {room:<14}{size}{'  -> ' * bool(told)}{told}{own}"


def product(root: Path, packages: Iterable[str]) -> dict[str, int]:
    """Return the lines of each package without test kits and benchmarks."""
    counted = {}
    for package in packages:
        files = [path for path in (root / package).rglob("*.py") if path.relative_to(root).parts[1] not in NO_PRODUCT]
        counted[package] = sum(path.read_text("utf-8").count("\n") for path in files)
    return counted


def main(arguments: list[str]) -> int:
    """Print what is asked for; return 1 if anything is against the rules."""
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["structure"]
    if arguments[:1] == ["--lines"]:
        for tree in arguments[1:] or [str(ROOT)]:
            counted = product(Path(tree), rules["packages"])
            parts = ", ".join(f"{package} {lines:,}" for package, lines in counted.items())
            print(f"{tree}: {sum(counted.values()):,} lines ({parts})")
        return 0
    print(*drawn(ROOT, rules), sep="\n")
    found = list(faults(ROOT, rules))
    print(*found, sep="\n", end="\n" if found else "")
    median = statistics.median(size for _, size in sizes(ROOT, rules))
    print(f"{len(found)} faults; a file has {median:.0f} lines in the median")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
