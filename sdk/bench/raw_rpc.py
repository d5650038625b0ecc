"""A JSON-RPC client that costs next to nothing, so that what asks does not take the cores from what is asked.

One connection, one request at a time, HTTP/1.1 that is kept alive, answers with a length: what our chain nodes and the
consensus's engine say to small questions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from tallystick.sdk.errors import MeasurementVoid

CONNECT_SECONDS = 60.0
"""How long a server that was just started may take until it listens."""

ANSWER_SECONDS = 60.0

_AGAIN_SECONDS = 0.05
_CHUNK = 65_536


class RpcRefused(MeasurementVoid):
    """The server answers with an error."""


class RawClient:
    """One connection. Make it with `open_raw`."""

    def __init__(self, stream: trio.abc.Stream, host: str) -> None:
        self._stream = stream
        self._head = f"POST / HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: "
        self._buffer = bytearray()

    async def ask(self, method: str, params: Any) -> Any:
        """Return the result; raise RpcRefused with the server's words, MeasurementVoid for no answer."""
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        try:
            with trio.fail_after(ANSWER_SECONDS):
                await self._stream.send_all(f"{self._head}{len(body)}\r\n\r\n".encode() + body)
                status, answer = await self._answer()
        except (trio.BrokenResourceError, trio.TooSlowError) as error:
            raise MeasurementVoid(f"{method} was not answered: {error!r}") from error
        if status != 200:
            raise RpcRefused(f"{method} was answered with status {status}: {answer[:200]!r}")
        found = msgspec.json.decode(answer)
        if "result" not in found:
            raise RpcRefused(f"{method} was refused: {found.get('error')}")
        return found["result"]

    async def _answer(self) -> tuple[int, bytes]:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            await self._more()
        status, *fields = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        named = {name.strip().lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        if "content-length" not in named:
            raise MeasurementVoid("the server sends an answer without its length")
        start, length = end + 4, int(named["content-length"])
        while len(self._buffer) < start + length:
            await self._more()
        body = bytes(self._buffer[start : start + length])
        del self._buffer[: start + length]
        return int(status.split()[1]), body

    async def _more(self) -> None:
        data = await self._stream.receive_some(_CHUNK)
        if not data:
            raise MeasurementVoid("the server ended the connection")
        self._buffer += data


@asynccontextmanager
async def open_raw(place: str) -> AsyncIterator[RawClient]:
    """Give a client of the server at a URL, or on the Unix socket of a path; raise MeasurementVoid if there is none."""
    async with await _connect(place) as stream:
        yield RawClient(stream, "engine" if place.startswith("/") else place.rpartition("/")[2])


async def _connect(place: str) -> trio.abc.Stream:
    with trio.move_on_after(CONNECT_SECONDS):
        while True:
            try:
                if place.startswith("/"):
                    return await trio.open_unix_socket(place)
                host, _, port = place.rpartition("/")[2].rpartition(":")
                return await trio.open_tcp_stream(host, int(port))
            except OSError:
                await trio.sleep(_AGAIN_SECONDS)
    raise MeasurementVoid(f"nothing listens at {place}")
