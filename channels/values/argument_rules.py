"""What fits an argument: rules for `arguments`, each of which takes a value, perhaps converted, or refuses it.

An error is one sentence that names the argument, what was expected and what was given. Bytes are never shown, as they
may be secret; what is shown of text is bounded and has no control characters.
"""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from sha3 import keccak_256

from tallystick.channels.errors import InvalidInput

T = TypeVar("T")

SHOWN = 60
"""Characters of a wrong argument that an error shows."""

FLOAT_BITS = 1_024
"""Bits of a whole number from which on it may be more than any float."""


def show(value: object) -> str:
    """Describe a wrong argument within a sentence: briefly, without control characters or what may be secret."""
    if value is None or isinstance(value, (bool, float)):
        return repr(value)
    if type(value) is int:
        return str(value) if value.bit_length() <= 256 else f"a number of {value.bit_length()} bits"
    if isinstance(value, str):
        return repr(value[:SHOWN]) + ("…" if len(value) > SHOWN else "")
    if isinstance(value, (bytes, bytearray)):
        return f"{len(value)} bytes"
    return f"an object of type {type(value).__name__}"


def refuse(name: str, expects: str, value: object, *, secret: bool = False) -> InvalidInput:
    """Return the error for an argument that does not fit; the value of a secret one is not shown."""
    given = f"an object of type {type(value).__name__}" if secret and not isinstance(value, bytes) else show(value)
    return InvalidInput(f"{name} must be {expects}, not {given}")


class ArgumentRule:
    """What fits a parameter: as it is (`fits`), or converted (then a rule has a `take` of its own)."""

    expects: str
    """What it takes, to be put behind "must be"."""

    def fits(self, value: Any) -> bool:
        """Whether a value may be used as it is."""
        return False

    def take(self, value: Any, name: str) -> Any:
        """Return the value as it is to be used; raise InvalidInput if it does not fit."""
        if self.fits(value):
            return value
        raise refuse(name, self.expects, value)


class Is(ArgumentRule):
    """What a test says yes to."""

    def __init__(self, expects: str, test: Callable[[Any], bool]) -> None:
        self.expects, self.test = expects, test

    def fits(self, value: Any) -> bool:
        return self.test(value)


FLAG = Is("True or False", lambda value: value is True or value is False)
"""Nothing that is like them fits."""
NOTHING = Is("None", lambda value: value is None)
ANYTHING = Is("anything", lambda value: True)
CALLS = Is("something that can be called", callable)


def instance_of(kind: type[Any], expects: str = "") -> Is:
    """Return the rule for objects of a class."""
    return Is(expects or article(kind.__name__), lambda value: isinstance(value, kind))


def does(protocol: type[Any]) -> Is:
    """Return the rule for what has all public members of a protocol."""
    members = [name for name in dir(protocol) if not name.startswith("_")]
    return Is(
        article(protocol.__name__),
        lambda value: not isinstance(value, type) and all(hasattr(value, member) for member in members),
    )


class Whole(ArgumentRule):
    """Whole numbers: `int` itself, and no bool."""

    def __init__(self, low: int | None = None, high: int | None = None, expects: str = "") -> None:
        self.low, self.high = low, high
        self.expects = expects or f"a whole number{_span(low, high, _number)}"

    def fits(self, value: Any) -> bool:
        low, high = -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high
        return type(value) is int and low <= value <= high


class Real(ArgumentRule):
    """Numbers that are finite: int or float, and no bool."""

    def __init__(self, low: float = -math.inf, high: float = math.inf) -> None:
        self.low, self.high = low, high
        first, last = (bound if math.isfinite(bound) else None for bound in (low, high))
        self.expects = f"a number{_span(first, last, '{:g}'.format)}"

    def fits(self, value: Any) -> bool:
        small = type(value) is float or (type(value) is int and value.bit_length() < FLOAT_BITS)
        return small and self.low <= value <= self.high and -math.inf < value < math.inf


class Text(ArgumentRule):
    """Text that UTF-8 can write, of at most so many bytes."""

    def __init__(self, most: int | None = None, *, secret: bool = False) -> None:
        self.most, self.secret = most, secret
        self.expects = "text" if most is None else f"text of at most {most} bytes in UTF-8"

    def take(self, value: Any, name: str) -> Any:
        if isinstance(value, str):
            try:
                size = len(value.encode())
            except UnicodeEncodeError:
                raise refuse(name, f"{self.expects} without half of a surrogate pair", value, secret=True) from None
            if self.most is None or size <= self.most:
                return value if type(value) is str else str.__str__(value)
        raise refuse(name, self.expects, value, secret=self.secret)


class Raw(ArgumentRule):
    """Bytes, of a number within bounds."""

    def __init__(self, low: int = 0, high: int | None = None, *, empty: bool = False) -> None:
        """`empty`: none at all fits, too."""
        self.low, self.high, self.empty = low, high, empty
        size = "" if high is None else f"{low} " if low == high else f"{low} to {high} "
        self.expects = f"{size}bytes" + (", or none" if empty and low else "")

    def take(self, value: Any, name: str) -> Any:
        if isinstance(value, (bytes, bytearray, memoryview)):
            raw = value if type(value) is bytes else bytes(value)
            if (self.empty and not raw) or (self.low <= len(raw) and (self.high is None or len(raw) <= self.high)):
                return raw
        raise refuse(name, self.expects, value, secret=True)


class Hex(Raw):
    """So many bytes, as such or as hex text (with or without 0x). `read` turns them into something else."""

    def __init__(self, size: int, what: str = "", *, empty: bool = False, check: Callable[[str], bool] | None = None):
        """`check` says of hex text whether it may be so written."""
        super().__init__(size, size, empty=empty)
        self.check = check
        self.expects = f"{what}{': ' if what else ''}{size} bytes, or {2 * size} hex digits"

    def take(self, value: Any, name: str) -> Any:
        if isinstance(value, str) and (value or self.empty):
            digits = value[2:] if value[:2] in ("0x", "0X") else value
            if digits.isascii() and digits.isalnum() and (self.check is None or self.check(digits)):
                with contextlib.suppress(ValueError):
                    value = bytes.fromhex(digits)
            elif not value:
                value = b""
        return super().take(value, name)


class Memo(ArgumentRule):
    """A memo: bytes, or text, which becomes its UTF-8."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.expects = f"text or bytes, at most {most} bytes in UTF-8"

    def take(self, value: Any, name: str) -> Any:
        raw = value
        if isinstance(value, str):
            with contextlib.suppress(UnicodeEncodeError):
                raw = value.encode()
        elif isinstance(value, (bytearray, memoryview)):
            raw = bytes(value)
        if type(raw) is bytes and len(raw) <= self.most:
            return raw
        raise refuse(name, self.expects, value)


class OneOf(ArgumentRule):
    """What one of several rules takes; if none does, the error is that of the rule that came nearest."""

    def __init__(self, rules: Sequence[ArgumentRule]) -> None:
        self.rules = rules
        self.expects = " or ".join(rule.expects for rule in rules)

    def take(self, value: Any, name: str) -> Any:
        for rule in self.rules:
            try:
                return rule.take(value, name)
            except InvalidInput as error:
                if isinstance(value, getattr(rule, "deep", ())):  # of the right class, and wrong within
                    raise error
        secret = any(isinstance(rule, Raw) for rule in self.rules)
        raise refuse(name, self.expects, value, secret=secret)


class Items(ArgumentRule):
    """Sequences of what a rule takes; text and bytes are none. They become tuples."""

    def __init__(self, item: ArgumentRule, kinds: tuple[type[Any], ...] = (Sequence,)) -> None:
        self.item, self.kinds = item, kinds
        self.expects = f"a list or tuple (of each {item.expects})"

    def take(self, value: Any, name: str) -> Any:
        if isinstance(value, (str, bytes, bytearray, memoryview)) or not isinstance(value, self.kinds):
            raise refuse(name, self.expects, value)
        found, rule = tuple(value), self.item
        numbers = isinstance(rule, Whole) and set(map(type, found)) == {int}  # quick: thousands of payments are such
        if numbers and rule.fits(min(found)) and rule.fits(max(found)):
            return found
        return _kept(value, tuple([rule.take(item, f"{name}[{index}]") for index, item in enumerate(found)]))


class Both(ArgumentRule):
    """Tuples of so many items, each with a rule of its own."""

    def __init__(self, rules: Sequence[ArgumentRule]) -> None:
        self.rules = rules
        self.deep = (tuple, list)
        self.expects = f"a tuple of {len(rules)}: " + ", ".join(rule.expects for rule in rules)

    def take(self, value: Any, name: str) -> Any:
        if not isinstance(value, (tuple, list)) or len(value) != len(self.rules):
            raise refuse(name, self.expects, value)
        parts = enumerate(zip(self.rules, value, strict=True))
        return _kept(value, tuple([rule.take(item, f"{name}[{index}]") for index, (rule, item) in parts]))


class MappingRule(ArgumentRule):
    """Mappings whose keys and values fit a rule each. They become dicts."""

    def __init__(self, key: ArgumentRule, value: ArgumentRule) -> None:
        self.key, self.value = key, value
        self.expects = f"a dict from {key.expects} to {value.expects}"

    def take(self, value: Any, name: str) -> Any:
        if not isinstance(value, Mapping):
            raise refuse(name, self.expects, value)
        return {
            self.key.take(key, f"a key of {name}"): self.value.take(item, f"{name}[{show(key)}]")
            for key, item in value.items()
        }


def fits_checksum(digits: str) -> bool:
    """Whether 40 hex digits in mixed case are those of an address (EIP-55); in one case, they have no checksum."""
    lower = digits.lower()
    if digits in (lower, digits.upper()):
        return True
    digest = keccak_256(lower.encode()).hexdigest()
    return all(digit.isdigit() or digit.isupper() == (mark > "7") for digit, mark in zip(digits, digest, strict=False))


def _span(low: T | None, high: T | None, written: Callable[[T], str]) -> str:
    """Say from where to where; nothing, without a beginning."""
    end = "" if low is None else " on" if high is None else f" to {written(high)}"
    return "" if low is None else f" from {written(low)}{end}"


def _number(value: int) -> str:
    """Write a bound: 2**128 - 1 instead of its 39 digits."""
    for number, suffix in ((value, ""), (value + 1, " - 1")):
        if number > 1 << 20 and number & (number - 1) == 0:
            return f"2**{number.bit_length() - 1}{suffix}"
    return str(value)


def article(name: str) -> str:
    """Return a name with its article."""
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _kept(value: Any, taken: tuple[Any, ...]) -> Any:
    """Return the tuple that was given rather than an equal one."""
    return value if type(value) is tuple and all(map(operator.is_, taken, value)) else taken
