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

from tallystick.channels.values.argument_rules import (
    ANYTHING,
    CALLS,
    FLAG,
    NOTHING,
    ArgumentRule,
    Both,
    Items,
    MappingRule,
    Memo,
    OneOf,
    Raw,
    Real,
    Text,
    Whole,
    article,
    does,
    instance_of,
    refuse,
)

P = ParamSpec("P")
R = TypeVar("R")


class Fields(ArgumentRule):
    """Structs of a class, whose fields fit their types."""

    def __init__(self, kind: type[msgspec.Struct]) -> None:
        self.kind = kind
        self.deep = kind
        self.expects = article(kind.__name__)

    @functools.cached_property
    def rules(self) -> list[tuple[str, ArgumentRule]]:
        """The fields that have rules; made late, as structs hold structs."""
        hints = get_type_hints(self.kind, include_extras=True)
        plain = _POSITIVE if issubclass(self.kind, Options) else {}
        return [(field, plain.get(hints[field]) or rule_of(hints[field])) for field in self.kind.__struct_fields__]

    def take(self, value: Any, name: str) -> Any:
        if not isinstance(value, self.kind):
            raise refuse(name, self.expects, value)
        changes = self.changes(value, name)
        return msgspec.structs.replace(value, **changes) if changes else value

    def changes(self, value: Any, name: str) -> dict[str, Any]:
        """Return the fields that rules convert; raise InvalidInput if one does not fit."""
        changes = {}
        for field, rule in self.rules:
            given = getattr(value, field)
            taken = rule.take(given, f"{name}.{field}")
            if taken is not given:
                changes[field] = taken
        return changes


_POSITIVE: dict[Any, ArgumentRule] = {int: Whole(0, 2**128 - 1), float: Real(0)}
"""What plain numbers of options are."""

_KNOWN: dict[Any, ArgumentRule] = {
    bool: FLAG,
    int: Whole(),
    float: Real(),
    str: Text(),
    bytes: Raw(),
    type(None): NOTHING,
    None: NOTHING,
    object: ANYTHING,
    Any: ANYTHING,
    collections.abc.Callable: CALLS,
    Path: instance_of(os.PathLike, "a path"),
}


def know(hint: Any, rule: ArgumentRule) -> None:
    """Say what fits a NewType, or any other type, wherever it stands in a signature."""
    _KNOWN[hint] = rule


def rule_of(hint: Any) -> ArgumentRule:
    """Return what fits a type, as it stands in a signature."""
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        own: ArgumentRule | None = next((mark for mark in marks if hasattr(mark, "take")), None)
        return own or _bounded(inner, marks)
    with contextlib.suppress(TypeError):  # no hash: not a type that has a rule of its own
        if hint in _KNOWN:
            return _KNOWN[hint]
    if get_args(hint):
        return _composed(get_origin(hint), get_args(hint))
    if isinstance(hint, (TypeVar, ParamSpec)):
        return ANYTHING
    if hasattr(hint, "__supertype__"):
        return rule_of(hint.__supertype__)
    if not inspect.isclass(hint):
        raise TypeError(f"say in channels/values/arguments.py what fits {hint!r}")
    if issubclass(hint, msgspec.Struct):
        return Fields(hint)
    if getattr(hint, "_is_protocol", False):
        return does(hint)
    if issubclass(hint, enum.Enum):
        return instance_of(hint, f"one of {', '.join(f'{hint.__name__}.{member.name}' for member in hint)}")
    return instance_of(hint)


def _composed(origin: Any, inside: tuple[Any, ...]) -> ArgumentRule:
    """Return the rule of a type that has others within."""
    if origin in (Union, types.UnionType):
        return OneOf([rule_of(one) for one in inside])
    if origin is tuple and not (len(inside) == 2 and inside[1] is Ellipsis):
        return Both([rule_of(one) for one in inside])
    if origin is tuple:
        return Items(rule_of(inside[0]), (tuple, list))
    if origin in (Callable, Awaitable):
        return CALLS if origin is Callable else ANYTHING
    if issubclass(origin, Mapping):
        return MappingRule(rule_of(inside[0]), rule_of(inside[1]))
    if issubclass(origin, (Sequence, set, frozenset)) or origin is Iterable:
        return Items(rule_of(inside[0]), (origin,))
    return instance_of(origin)


def _bounded(inner: Any, marks: Sequence[Any]) -> ArgumentRule:
    """Return the rule of a type with bounds as msgspec writes them."""
    rule = rule_of(inner)
    for mark in marks:
        if isinstance(mark, msgspec.Meta):
            low = mark.ge if mark.ge is not None else mark.gt
            if isinstance(rule, Whole):
                rule = Whole(cast(int, low), cast(int, mark.le))
            elif isinstance(rule, Real):
                rule = Real(-math.inf if low is None else low, math.inf if mark.le is None else mark.le)
            elif type(rule) is Raw:
                rule = Raw(mark.min_length or 0, mark.max_length)
            elif isinstance(rule, Text):
                rule = Text(mark.max_length)
    return rule


class _Late(ArgumentRule):
    """The rule of a parameter whose type is not defined yet when its function is: it is looked up at the first call."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function, self.name = function, name
        self.expects = ""

    @functools.cached_property
    def rule(self) -> ArgumentRule:
        """The rule itself."""
        return rule_of(_hint(self.function, self.name))

    def take(self, value: Any, name: str) -> Any:
        return self.rule.take(value, name)


def _hint(function: Callable[..., Any], name: str) -> Any:
    """Return the type of one parameter, of which annotations hold the name only."""
    own = inspect.unwrap(function)
    written = own.__annotations__[name]
    return eval(written, own.__globals__) if isinstance(written, str) else written


def _rule(function: Callable[..., Any], name: str) -> ArgumentRule:
    try:
        return rule_of(_hint(function, name))
    except NameError:
        return _Late(function, name)


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function be called only with arguments that fit their types; it gets them converted where a rule does so.

    What does not fit raises InvalidInput in the call itself, before anything runs: not when the result is awaited or
    iterated over. The door is a function of the same signature, written out as dataclasses do: payments pass one by the
    hundred thousand a second, and a look at each argument costs them next to nothing so.
    """
    rules: dict[str, ArgumentRule] = {}
    scope: dict[str, Any] = {"_function": function}
    head: list[str] = []
    body: list[str] = []
    parameters = inspect.signature(function).parameters.values()
    kinds = [parameter.kind for parameter in parameters]
    for parameter in parameters:
        name, kind = parameter.name, parameter.kind
        value = name
        if parameter.annotation is not parameter.empty:
            rules[name] = _rule(function, name)
            scope[f"_take_{name}"] = rules[name].take
            value = _written(rules[name], name, kind, scope)
        if kind is parameter.KEYWORD_ONLY and "*" not in head and parameter.VAR_POSITIONAL not in kinds:
            head.append("*")
        star = "*" if kind is parameter.VAR_POSITIONAL else "**" if kind is parameter.VAR_KEYWORD else ""
        default = f"=_default_{name}" if parameter.default is not parameter.empty else ""
        scope[f"_default_{name}"] = parameter.default
        head.append(f"{star}{name}{default}")
        body.append(f"{name}={value}" if kind is parameter.KEYWORD_ONLY else f"{star}{value}")
    source = f"def door({', '.join(head)}):\n    return _function({', '.join(body)})\n"
    exec(compile(source, f"<door of {function.__qualname__}>", "exec"), scope)  # noqa: S102 (nothing of a user's is in it)
    door = functools.update_wrapper(cast(Callable[P, R], scope["door"]), function)
    door.__checked__ = rules  # type: ignore[attr-defined]  # for the test that looks for functions without a door
    mark = getattr(inspect, "markcoroutinefunction", None)  # from Python 3.12 on
    if mark is not None and inspect.iscoroutinefunction(function):
        mark(door)
    return door


def _written(rule: ArgumentRule, name: str, kind: Any, scope: dict[str, Any]) -> str:
    """Return the expression that stands for a checked argument."""
    if kind is inspect.Parameter.VAR_POSITIONAL:
        return f"[_take_{name}(each, {name!r}) for each in {name}]"
    if kind is inspect.Parameter.VAR_KEYWORD:
        return f"{{key: _take_{name}(each, key) for key, each in {name}.items()}}"
    fits = _fits(rule, name, scope)
    return f"({name} if {fits} else _take_{name}({name}, {name!r}))" if fits else f"_take_{name}({name}, {name!r})"


def _fits(rule: ArgumentRule, name: str, scope: dict[str, Any]) -> str:
    """Return an expression that is true only for what a rule takes as it is; empty: let the rule itself see."""
    match rule:
        case Whole():
            return f"type({name}) is int" + _bounds(name, rule.low, rule.high)
        case Text():
            return f"type({name}) is str and {name}.isascii()" + _bounds(f"len({name})", None, rule.most)
        case Memo():
            return f"type({name}) is bytes" + _bounds(f"len({name})", None, rule.most)
        case _ if rule is FLAG:
            return f"({name} is True or {name} is False)"
        case _ if rule is NOTHING:
            return f"{name} is None"
        case OneOf():
            found = [fits for one in rule.rules if (fits := _fits(one, name, scope))]
            return f"({' or '.join(found)})" if found else ""
    return ""


def _bounds(value: str, low: int | None, high: int | None) -> str:
    return ("" if low is None else f" and {value} >= {low}") + ("" if high is None else f" and {value} <= {high}")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what users choose: its fields are checked when it is made. Numbers are not negative."""

    def __post_init__(self) -> None:
        check_fields(self)


_fields_of = functools.cache(Fields)


def check_fields(struct: msgspec.Struct) -> None:
    """Check the fields of a struct, at the end of its making; raise InvalidInput, which names the field."""
    kind = type(struct)
    for field, taken in _fields_of(kind).changes(struct, kind.__name__).items():
        msgspec.structs.force_setattr(struct, field, taken)
