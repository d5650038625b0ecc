"""Values as Solidity's ABI writes them: `encode_values` and `decode_values` are inverse to each other.

Values that take a word each, as most do, are written and read here, in a tenth of the time that `eth_abi` takes; all
others go to `eth_abi`, which is loaded when the first of them comes: that takes a quarter of a second and 10 MB, and
many processes never meet one. Property tests keep both ways equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import Address


def encode_values(types: Sequence[str], values: Sequence[Any]) -> bytes:
    """Return `values` as data; raise InvalidInput if they are not of these types."""
    words = _words(types, values)
    if words is not None:
        return words
    from eth_abi.abi import encode
    from eth_abi.exceptions import EncodingError

    try:
        return encode(types, values)
    except EncodingError as error:
        raise InvalidInput(str(error)) from error


def decode_values(types: tuple[str, ...], data: bytes) -> tuple[Any, ...]:
    """Return the values in data, addresses as their 20 bytes; raise InvalidInput if it cannot be read."""
    readers = _word_readers(types)
    if readers is not None:
        if len(data) < 32 * len(readers):
            raise InvalidInput(f"Tried to read {32 * len(readers)} bytes, only got {len(data)} bytes")
        return tuple(read(data[32 * at : 32 * at + 32]) for at, read in enumerate(readers))
    from eth_abi.abi import decode
    from eth_abi.exceptions import DecodingError

    try:
        found = decode(types, data)
    except (DecodingError, OverflowError, ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise InvalidInput(str(error)) from error
    return tuple(_bare(kind, value) for kind, value in zip(types, found, strict=True))


def _bare(kind: str, value: Any) -> Any:
    """Return a value as we have it: addresses as their 20 bytes."""
    if kind == "address":
        return Address(bytes.fromhex(value[2:]))
    return tuple(_bare("address", each) for each in value) if kind == "address[]" else value


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
