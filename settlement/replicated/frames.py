"""How ABCI's messages follow each other on a socket: each behind its length, a varint of seven bits to a byte.

`FrameReader` takes bytes as they come. What is no such stream raises MalformedMessage: there is no way on after it.
"""

from __future__ import annotations

from collections.abc import Iterator

from tallystick.channels.errors import MalformedMessage

MESSAGE_MAX = 104_857_600
"""Bytes of one message, as the engine has it."""

_VARINT_MAX = 4
"""Bytes of a length: MESSAGE_MAX takes no more."""


def write_frame(message: bytes) -> bytes:
    """Return a message behind its length."""
    length, head = len(message), bytearray()
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + message


class FrameReader:
    """Cuts a stream into messages. It holds what has come of the next one, which is bounded by MESSAGE_MAX."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the messages that are whole with these bytes."""
        self._buffer += data
        at = 0
        while (found := _length(self._buffer, at)) is not None:
            length, start = found
            if len(self._buffer) < start + length:
                break
            yield bytes(self._buffer[start : start + length])
            at = start + length
        del self._buffer[:at]

    @property
    def is_between(self) -> bool:
        """Whether nothing of a message has come that is not whole."""
        return not self._buffer


def _length(buffer: bytearray, at: int) -> tuple[int, int] | None:
    """Return the length that begins there and where its message begins; None: it is not whole."""
    length = 0
    for index, byte in enumerate(buffer[at : at + _VARINT_MAX]):
        length |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if length > MESSAGE_MAX:
                raise MalformedMessage(f"a message of {length} bytes is longer than {MESSAGE_MAX}")
            if not byte and index:
                raise MalformedMessage("a message's length is written longer than it need be")
            return length, at + index + 1
    if len(buffer) - at >= _VARINT_MAX:
        raise MalformedMessage("a message's length has no end")
    return None
