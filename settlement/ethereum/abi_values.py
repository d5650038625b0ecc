"""Values as Solidity's ABI writes them: `encode_values` and `decode_values` are inverse to each other.

Values that take a word each, as most do, are written and read here in one go, all others by `abi_kinds`. What a program
gives to be written that is not plainly of its type goes to `eth_abi`, which says what is wrong with it: it takes a
quarter of a second and 10 MB to load, and many processes never do. Nothing is read by it. Property tests keep the two
equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.ethereum.abi_kinds import read_kinds, write_kinds


def encode_values(types: Sequence[str], values: Sequence[Any]) -> bytes:
    """Return `values` as data; raise InvalidInput if they are not of these types."""
    words = _words(types, values)
    if words is not None:
        return words
    with suppress(InvalidInput, ValueError):
        return write_kinds(types, values)
    from eth_abi.abi import encode
    from eth_abi.exceptions import EncodingError

    try:
        return encode(types, values)
    except EncodingError as error:
        raise InvalidInput(str(error)) from error


def decode_values(types: tuple[str, ...], data: bytes) -> tuple[Any, ...]:
    """Return the values in data, addresses as their 20 bytes; raise InvalidInput if it cannot be read.

    Behind values of a word each there may be more, as contracts have it. Where one is a list, a tuple or a string, the
    data must be what `encode_values` would write, to the byte.
    """
    readers = _word_readers(types)
    if readers is None:
        return read_kinds(types, data)
    if len(data) < 32 * len(readers):
        raise InvalidInput(f"Tried to read {32 * len(readers)} bytes, only got {len(data)} bytes")
    return tuple(read(data[32 * at : 32 * at + 32]) for at, read in enumerate(readers))


def _words(types: Sequence[str], values: Sequence[Any]) -> bytes | None:
    """Return values that take a word each, None for any that are not plainly what their type says."""
    if len(types) != len(values):
        return None
    words = []
    for kind, value in zip(types, values, strict=True):
        bits = _BITS.get(kind)
        if bits is not None:
            if not isinstance(value, int) or isinstance(value, bool) or value >> bits:  # -1 >> 8 is -1
                return None
            words.append(value.to_bytes(32, "big"))
        elif kind == "bool" and isinstance(value, bool):
            words.append(value.to_bytes(32, "big"))
        elif _SIZES.get(kind) == (len(value) if isinstance(value, bytes) else None) is not None:
            words.append(value.rjust(32, b"\0"))
        else:
            return None
    return b"".join(words)


_BITS = {f"uint{bits}": bits for bits in (8, 64, 128, 256)}
_SIZES = {"address": 20, "bytes32": 32}


@cache
def _word_readers(types: tuple[str, ...]) -> tuple[Callable[[bytes], Any], ...] | None:
    """Return what reads values that take a word each, None for others."""
    if not _WORD_READERS.keys() >= set(types):
        return None
    return tuple(_WORD_READERS[kind] for kind in types)


def _whole(bits: int) -> Callable[[bytes], int]:
    def read(word: bytes) -> int:
        value = int.from_bytes(word, "big")
        if value >> bits:
            raise InvalidInput(f"{value} has more than {bits} bits")
        return value

    return read


def _address(word: bytes) -> Address:
    if any(word[:12]):
        raise InvalidInput(f"0x{word.hex()} is no address")
    return Address(word[12:])


_WORD_READERS: dict[str, Callable[[bytes], Any]] = {
    **{kind: _whole(bits) for kind, bits in _BITS.items()},
    "bool": lambda word: bool(_whole(1)(word)),
    "address": _address,
    "bytes32": bytes,
}
