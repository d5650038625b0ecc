"""Structs that hold secrets, and never show them: not in a repr, and so not in a log, an error or a traceback either.

    class Reveal(Discreet, msgspec.Struct, frozen=True): ...

A secret is a field whose name says so. What is shown in its place is how much there is: `secret=<32 bytes>`.
"""

from __future__ import annotations

from typing import Any

SECRETS = (
    frozenset({"close_key", "keysend", "password", "payment_secret", "proof", "secret", "secrets", "seed", "token"})
    | {"frame", "link"}  # which have secrets within
)
"""Names of fields that hold secrets, or bytes that have them within. Flags and numbers of such a name are shown."""


class Discreet:
    """Mixed into a struct, before `msgspec.Struct`: its repr shows how many bytes each of its secrets has."""

    __slots__ = ()
    __struct_fields__: tuple[str, ...]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Return the fields as they may be shown (for rich, too)."""
        fields = [(name, getattr(self, name)) for name in self.__struct_fields__]
        return [(name, _hidden(value) if name in SECRETS else value) for name, value in fields]


class _Hidden(str):
    """What is shown of a secret."""

    __slots__ = ()
    __repr__ = str.__str__


def _hidden(value: Any) -> Any:
    if isinstance(value, (bytes, str)) and value:
        return _Hidden(f"<{len(value)} {'bytes' if isinstance(value, bytes) else 'characters'}>")
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_hidden(item) for item in value]
    if isinstance(value, dict):
        return _Hidden(f"<{len(value)} entries>")
    return value
