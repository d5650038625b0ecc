"""The door: what a program passes in is checked against the types of the parameters, before anything is done with it.

    @checked
    async def pay(self, amount: Amount, memo: AnyMemo = b"", *, key: Key = "") -> Receipt: ...

Every public function and method stands behind `checked`, and so does every struct of options (`check_fields` in its
`__post_init__`); a test looks for those that do not. A type says what fits: `int` takes whole numbers and neither
`True` nor 5.0, a struct is looked through field by field, and a named range is an annotation (`Annotated[int,
Whole(1, 10)]`). Some rules convert: text becomes a memo's bytes, hex an address. What does not fit is an InvalidInput
that names the argument, what was expected and what was given. Bytes are never shown: they may be secret.
"""

from __future__ import annotations

import collections.abc
import contextlib
import enum
import functools
import inspect
import math
import os
import types
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from tallystick.channels.rules import (
    Anything,
    Both,
    Calls,
    Does,
    Flag,
    Is,
    Items,
    Nothing,
    OneOf,
    Raw,
    Real,
    Rule,
    Table,
    Text,
    Whole,
    article,
    refuse,
)

P = ParamSpec("P")
R = TypeVar("R")


class Fields:
    """Structs of a class, whose fields fit their types."""

    def __init__(self, kind: type[msgspec.Struct]) -> None:
        self.kind = kind
        self.deep = kind
        self.expects = article(kind.__name__)

    @functools.cached_property
    def rules(self) -> list[tuple[str, Rule]]:
        """The fields that have rules; made late, as structs hold structs."""
        hints = get_type_hints(self.kind, include_extras=True)
        return [(field, rule_of(hints[field])) for field in self.kind.__struct_fields__]

    def take(self, value: Any, name: str) -> Any:
        """See `Rule`."""
        if not isinstance(value, self.kind):
            raise refuse(name, self.expects, value)
        changes = {}
        for field, rule in self.rules:
            given = getattr(value, field)
            taken = rule.take(given, f"{name}.{field}")
            if taken is not given:
                changes[field] = taken
        return msgspec.structs.replace(value, **changes) if changes else value


_KNOWN: dict[Any, Rule] = {
    bool: Flag(),
    int: Whole(),
    float: Real(),
    str: Text(),
    bytes: Raw(),
    type(None): Nothing(),
    None: Nothing(),
    object: Anything(),
    Any: Anything(),
    collections.abc.Callable: Calls(),
    Path: Is(os.PathLike, "a path"),
}


def know(hint: Any, rule: Rule) -> None:
    """Say what fits a NewType, or any other type, wherever it stands in a signature."""
    _KNOWN[hint] = rule


def rule_of(hint: Any) -> Rule:
    """Return what fits a type, as it stands in a signature."""
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        own: Rule | None = next((mark for mark in marks if hasattr(mark, "take")), None)
        return own or _bounded(inner, marks)
    with contextlib.suppress(TypeError):  # no hash: not a type that has a rule of its own
        if hint in _KNOWN:
            return _KNOWN[hint]
    if get_args(hint):
        return _composed(get_origin(hint), get_args(hint))
    if isinstance(hint, (TypeVar, ParamSpec)):
        return Anything()
    if hasattr(hint, "__supertype__"):
        return rule_of(hint.__supertype__)
    if not inspect.isclass(hint):
        raise TypeError(f"say in channels/arguments.py what fits {hint!r}")
    if issubclass(hint, msgspec.Struct):
        return Fields(hint)
    if getattr(hint, "_is_protocol", False):
        return Does(hint)
    if issubclass(hint, enum.Enum):
        return Is(hint, f"one of {', '.join(f'{hint.__name__}.{member.name}' for member in hint)}")
    return Is(hint)


def _composed(origin: Any, inside: tuple[Any, ...]) -> Rule:
    """Return the rule of a type that has others within."""
    if origin in (Union, types.UnionType):
        return OneOf([rule_of(one) for one in inside])
    if origin is tuple and not (len(inside) == 2 and inside[1] is Ellipsis):
        return Both([rule_of(one) for one in inside])
    if origin is tuple:
        return Items(rule_of(inside[0]), (tuple, list))
    if origin in (Callable, Awaitable):
        return Calls() if origin is Callable else Anything()
    if issubclass(origin, Mapping):
        return Table(rule_of(inside[0]), rule_of(inside[1]))
    if issubclass(origin, (Sequence, set, frozenset)) or origin is Iterable:
        return Items(rule_of(inside[0]), (origin,))
    return Is(origin)


def _bounded(inner: Any, marks: Sequence[Any]) -> Rule:
    """Return the rule of a type with bounds as msgspec writes them."""
    rule = rule_of(inner)
    for mark in marks:
        if isinstance(mark, msgspec.Meta):
            low = mark.ge if mark.ge is not None else mark.gt
            if isinstance(rule, Whole):
                rule = Whole(cast(int, low), cast(int, mark.le))
            elif isinstance(rule, Real):
                rule = Real(-math.inf if low is None else low, math.inf if mark.le is None else mark.le)
            elif isinstance(rule, Raw):
                rule = Raw(mark.min_length or 0, mark.max_length)
            elif isinstance(rule, Text):
                rule = Text(mark.max_length)
    return rule


class _Door:
    """The rules of one function, made when it is called first: its module is complete then."""

    __slots__ = ("function", "named", "positional")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.positional: list[tuple[Rule | None, str]] = []
        self.named: dict[str, Rule] | None = None

    def make(self) -> dict[str, Rule]:
        """Make the rules of all parameters but `self`."""
        hints = get_type_hints(self.function, include_extras=True)
        named: dict[str, Rule] = {}
        for name, parameter in inspect.signature(self.function).parameters.items():
            if name in ("self", "cls") or name not in hints:
                self.positional.append((None, name))
                continue
            rule = rule_of(hints[name])
            if parameter.kind is parameter.VAR_KEYWORD:
                named["**"] = rule
                continue
            named[name] = rule
            if parameter.kind is not parameter.KEYWORD_ONLY:
                self.positional.append((rule, name))
        self.named = named
        return named


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function be called only with arguments that fit their types; it gets them converted where a rule does so.

    What does not fit raises InvalidInput in the call itself, before anything runs: not when the result is awaited or
    iterated over.
    """
    door = _Door(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        named = door.named
        if named is None:
            named = door.make()
        given = [
            value if rule is None else rule.take(value, name)
            for value, (rule, name) in zip(args, door.positional, strict=False)
        ]
        if len(args) > len(given):
            given += args[len(given) :]
        if kwargs:
            other = named.get("**")
            for name, value in kwargs.items():
                rule = named.get(name, other)
                if rule is not None:
                    kwargs[name] = rule.take(value, name)
        return function(*given, **kwargs)  # type: ignore[arg-type]  # as they came, each checked

    call.__checked__ = door  # type: ignore[attr-defined]  # for the test that looks for functions without a door
    mark = getattr(inspect, "markcoroutinefunction", None)  # from Python 3.12 on
    if mark is not None and inspect.iscoroutinefunction(function):
        mark(call)
    return call


def rules_of(function: Callable[..., Any]) -> dict[str, Rule] | None:
    """Return what fits the parameters of a function behind a door, by name; None if it has none."""
    door = getattr(function, "__checked__", None)
    if not isinstance(door, _Door):
        return None
    return door.make() if door.named is None else door.named


_FIELDS: dict[type[msgspec.Struct], Fields] = {}


def check_fields(struct: msgspec.Struct) -> None:
    """Check the fields of a struct, at the end of its making; raise InvalidInput, which names the field."""
    kind = type(struct)
    fields = _FIELDS.get(kind)
    if fields is None:
        fields = _FIELDS[kind] = Fields(kind)
    for field, rule in fields.rules:
        given = getattr(struct, field)
        taken = rule.take(given, f"{kind.__name__}.{field}")
        if taken is not given:
            msgspec.structs.force_setattr(struct, field, taken)
