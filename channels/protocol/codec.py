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

from tallystick.channels.errors import InvalidInput, MalformedMessage
from tallystick.channels.limits import AMOUNT_MAX, UINT64_MAX

T = TypeVar("T")

WIDE_INTEGER = 1
"""Number of the MessagePack extension type for integers from 2**64 to 2**128 - 1."""


def _read_extension(code: int, data: bytes) -> int:
    value = int.from_bytes(data, "big")
    if code != WIDE_INTEGER or len(data) != 16 or value <= UINT64_MAX:
        raise ValueError("unknown or non-canonical MessagePack extension")
    return value


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
    """Encodes and decodes one type, or one tagged union of types, of frozen msgspec structs.

    What is encoded is read back at once, and must be equal: nothing is signed, sent or stored that this program would
    not understand. What is decoded must be written in the one way that there is (`canonical`), or a message would have
    several encodings. That costs a small part of what a signature or a commit does.
    """

    def __init__(self, kind: Any, *, canonical: bool = True) -> None:
        """`canonical=False` is for rows of a store whose type has grown: older ones lack the newest fields."""
        self.kind = kind
        self.canonical = canonical
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(kind)

    def encode(self, value: T) -> bytes:
        """Return the encoding of `value`; raise InvalidInput if what it would be read back as is not equal to it."""
        try:
            data = self._write(value)
            same = self._read(data) == value
        except (MalformedMessage, OverflowError, TypeError, ValueError, RecursionError) as error:
            raise InvalidInput(f"this {type(value).__name__} holds what cannot be written down: {error}") from error
        if not same:
            raise InvalidInput(f"this {type(value).__name__} holds something that would be read back as something else")
        return data

    def decode(self, data: bytes) -> T:
        """Return the value; raise MalformedMessage if the bytes are not exactly one valid value of the type."""
        value = self._read(data)
        if self.canonical and self._write(value) != data:
            raise MalformedMessage("these bytes are no message: they are not written in the one way that there is")
        return value

    def _write(self, value: T) -> bytes:
        try:
            return self._encoder.encode(value)
        except OverflowError:
            return self._encoder.encode(_write_wide(msgspec.to_builtins(value, builtin_types=(bytes,))))

    def _read(self, data: bytes) -> T:
        try:
            return cast(T, self._decoder.decode(data))
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            if not isinstance(error, msgspec.ValidationError):
                raise MalformedMessage(f"these bytes are no message: {error}") from error
        try:  # sizes are bounded by that of `data`, nesting by msgpack itself
            untyped = msgpack.unpackb(data, ext_hook=_read_extension, strict_map_key=False)
            # Without `builtin_types`, base64 in text would be taken for bytes.
            return cast(T, msgspec.convert(untyped, self.kind, builtin_types=(bytes,)))
        except (msgspec.DecodeError, msgpack.UnpackException, RecursionError, ValueError, TypeError) as error:
            raise MalformedMessage(f"these bytes are no message: {error}") from error
