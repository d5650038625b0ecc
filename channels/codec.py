"""Typed MessagePack for the wire and the disk, with amounts beyond 64 bits.

MessagePack integers end at 2**64 - 1; amounts do not. A larger one travels as extension type 1, 16 bytes,
big-endian, and only a larger one: every value has one encoding. Values without such amounts (nearly all) take the
typed path of msgspec alone; the others are read without a schema by msgpack, and then checked against theirs. Nothing
that is signed ever depends on these bytes: digests have a layout of their own.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar, cast

import msgpack
import msgspec

from tallystick.channels.errors import MalformedMessage
from tallystick.channels.limits import AMOUNT_MAX, UINT64_MAX

T = TypeVar("T")

WIDE_INTEGER = 1
"""Number of the MessagePack extension type for integers from 2**64 to 2**128 - 1."""


def _read_extension(code: int, data: bytes) -> int:
    value = int.from_bytes(data, "big")
    if code != WIDE_INTEGER or len(data) != 16 or value <= UINT64_MAX:
        raise ValueError("unknown or non-canonical MessagePack extension")
    return value


def _read_untyped(data: bytes) -> Any:
    """Return builtins, with wide integers in them. Sizes are bounded by that of `data`, nesting by msgpack itself."""
    return msgpack.unpackb(data, ext_hook=_read_extension, strict_map_key=False)


def _write_wide(value: Any) -> Any:
    """Return builtins with every int beyond 64 bits replaced by its extension."""
    if type(value) is int and value > UINT64_MAX:
        if value > AMOUNT_MAX:
            raise OverflowError(f"{value} does not fit into 128 bits")
        return msgspec.msgpack.Ext(WIDE_INTEGER, value.to_bytes(16, "big"))
    if isinstance(value, (list, tuple)):
        return [_write_wide(item) for item in value]
    if isinstance(value, dict):
        return {key: _write_wide(item) for key, item in value.items()}
    return value


class Codec(Generic[T]):
    """Encodes and decodes one type, or one tagged union of types, of frozen msgspec structs."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(kind)

    def encode(self, value: T) -> bytes:
        """Return the encoding of `value`; raise OverflowError if an integer in it does not fit into 128 bits."""
        try:
            return self._encoder.encode(value)
        except OverflowError:
            return self._encoder.encode(_write_wide(msgspec.to_builtins(value, builtin_types=(bytes,))))

    def decode(self, data: bytes) -> T:
        """Return the value; raise MalformedMessage if the bytes are not exactly one valid value of the type."""
        try:
            return cast(T, self._decoder.decode(data))
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            if not isinstance(error, msgspec.ValidationError):
                raise MalformedMessage(f"these bytes are no message: {error}") from error
        try:
            return cast(T, msgspec.convert(_read_untyped(data), self._kind))
        except (msgspec.DecodeError, msgpack.UnpackException, RecursionError, ValueError, TypeError) as error:
            raise MalformedMessage(f"these bytes are no message: {error}") from error
