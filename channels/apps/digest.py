"""The hash of an app's rules: of its class and of all that this reaches in the source, read as rules and not as text.

Comments, formatting, docstrings, types, the words of errors, and the methods that speak to people (`init`, `move`,
`describe`) are no rules and change nothing; nor does the Python that reads them. Each definition is hashed under its
name, and those of other modules of apps are followed; what comes from elsewhere (keccak, `is_signed`) counts by name.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import keccak

_FOR_PEOPLE = frozenset({"init", "move", "describe", "rules"})
_NO_RULES = frozenset({"annotation", "returns", "type_comment", "type_params", "kind", "ctx", "cause"})
_TYPES = frozenset({"Any", "ClassVar", "Paid", "Stakes", "App", "InvalidMove", "InvalidInput"})
"""What rules are written in: named in each app, and no rule."""


def digest_of(sources: Mapping[str, str], module: str, name: str) -> str:
    """Return the digest (64 hex digits) of the class `name` in `module`, of which `sources` holds the text.

    Modules that are not in `sources` are not followed. Raise InvalidInput if there is no such class.
    """
    trees = {place: ast.parse(source) for place, source in sources.items()}
    found: dict[tuple[str, str], str] = {}
    wanted = [(module, name)]
    while wanted:
        place = wanted.pop()
        if place in found or place[1] in _TYPES:
            continue
        definition = _defined(trees[place[0]], place[1])
        if isinstance(definition, tuple):
            found[place] = ".".join(definition)
            wanted += [definition] if definition[0] in sources else []
        elif definition is not None:
            found[place] = _dumped(definition)
            wanted += [(place[0], each) for each in _names(definition)]
    if not isinstance(found.get((module, name)), str):
        raise InvalidInput(f"there is no {name} in {module}")
    text = "\n".join(f"{each}={rule}" for each, rule in sorted((name, rule) for (_, name), rule in found.items()))
    return keccak(text.encode()).hex()


def _defined(tree: ast.Module, name: str) -> ast.AST | tuple[str, str] | None:
    """Return what stands under a name on the first level: a definition, or from where it is imported."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return node
        if isinstance(node, ast.Assign) and name in {getattr(each, "id", None) for each in _flat(node.targets)}:
            return node
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", None) == name:
            return node
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return node.module or "", alias.name
        if isinstance(node, ast.Import):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return "", alias.name
    return None


def _flat(targets: list[ast.expr]) -> Iterator[ast.expr]:
    for each in targets:
        yield from each.elts if isinstance(each, ast.Tuple) else (each,)


def _parts(node: ast.AST) -> Iterator[tuple[str, object]]:
    """Yield the parts of a node that are rules, with the field that each stands in."""
    for field, value in ast.iter_fields(node):
        if field in _NO_RULES:
            continue
        if isinstance(node, ast.Raise):
            value = value.func if isinstance(value, ast.Call) else value
        if field == "body" and isinstance(value, list):
            value = [each for each in value if not (_is_text(each) or _is_for_people(node, each))]
        yield field, value


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_for_people(parent: ast.AST, node: ast.AST) -> bool:
    if not isinstance(parent, ast.ClassDef):
        return False
    named = getattr(node, "name", None)
    if isinstance(node, ast.Assign):
        named = getattr(node.targets[0], "id", None)
    return named in _FOR_PEOPLE


def _dumped(value: object) -> str:
    if isinstance(value, ast.Constant):
        return f"{type(value.value).__name__}:{value.value!a}"
    if isinstance(value, ast.AST):
        return f"{type(value).__name__}({','.join(_dumped(part) for _, part in _parts(value))})"
    if isinstance(value, list):
        return f"[{','.join(_dumped(each) for each in value)}]"
    return ascii(value)


def _names(value: object) -> Iterator[str]:
    if isinstance(value, ast.Name):
        yield value.id
    elif isinstance(value, ast.AST):
        for _, part in _parts(value):
            yield from _names(part)
    elif isinstance(value, list):
        for each in value:
            yield from _names(each)
