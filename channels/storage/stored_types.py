"""What a moment holds must be of the types that it says, or a store would give it back as something else.

SQLite takes text where bytes should be, and whatever else it is given. So each moment is looked at where it is handed
in: once for each commit's few moments, by the types of its plain fields. What is a struct has a codec, which looks for
itself (`codec`).
"""

from __future__ import annotations

import functools
import types
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from tallystick.channels.storage.store import Moment
from tallystick.channels.values.argument_rules import Text, refuse

_PLAIN: dict[type, tuple[type, ...]] = {bytes: (bytes,), int: (int,), str: (str,), bool: (bool,), float: (float, int)}
_EXPECTS = {bytes: "bytes", int: "a whole number", str: "text", bool: "True or False", float: "a number"}
_TEXT = Text(secret=True)


def check_types(moment: Moment) -> None:
    """Raise InvalidInput if a plain field of a moment is of another type than it says."""
    kind = type(moment)
    for name, kinds in _fields_of(kind):
        value = getattr(moment, name)
        if type(value) not in kinds and not (isinstance(value, kinds) and not isinstance(value, bool)):
            raise refuse(
                f"{kind.__name__}.{name}", " or ".join(_EXPECTS.get(one, "None") for one in kinds), value, secret=True
            )
        if type(value) is str and not value.isascii():
            _TEXT.take(value, f"{kind.__name__}.{name}")


@functools.cache
def _fields_of(kind: type[Moment]) -> list[tuple[str, tuple[type, ...]]]:
    """Return the plain fields of a moment, with the types that they may have."""
    hints = get_type_hints(kind, include_extras=True)
    found = [(name, _plain(hints[name])) for name in kind.__struct_fields__]
    return [(name, kinds) for name, kinds in found if kinds]


def _plain(hint: Any) -> tuple[type, ...]:
    """Return the classes that fit a type; none if it is not plain."""
    if get_origin(hint) is Annotated:
        return _plain(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        inner = [_plain(one) for one in get_args(hint)]
        return tuple(one for each in inner for one in each) if all(inner) else ()
    if hasattr(hint, "__supertype__"):
        return _plain(hint.__supertype__)
    return (type(None),) if hint is type(None) else _PLAIN.get(hint, ())
