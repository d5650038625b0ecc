"""An HTTP server on loopback before a chain node, for clients that are other processes.

    wire = UnwellWire(httpx.AsyncHTTPTransport(), random.Random(7))
    url = await nursery.start(serve_proxy, wire, "http://127.0.0.1:8545")

Each request goes to `inner`, an httpx transport; `unwell` and `chaos_wire` have some that are ill. What that raises
ends the connection: httpx.ReadError in the middle of an answer, anything else before one.
"""

from __future__ import annotations

from functools import partial

import httpx
import trio

HEAD_MAX = 65_536
"""Bytes of a request's head."""


async def serve_proxy(
    inner: httpx.AsyncBaseTransport, node: str, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until cancelled, on a free port of loopback; it starts with the URL. `node` is where requests are to go."""
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, partial(_converse, inner, node), 0, host="127.0.0.1")
        [listener] = await nursery.start(serve)
        host, port = listener.socket.getsockname()
        task_status.started(f"http://{host}:{port}")
        await trio.sleep_forever()


async def _converse(inner: httpx.AsyncBaseTransport, node: str, stream: trio.SocketStream) -> None:
    """Answer the requests of one connection, until either side ends it."""
    received = bytearray()
    try:
        while (body := await _next_body(stream, received)) is not None:
            try:
                answer = await inner.handle_async_request(httpx.Request("POST", node, content=body))
                said = await answer.aread()
            except httpx.ReadError:
                await stream.send_all(_head(200, 1_000) + b'{"jsonrpc":"2.0","id":0,"res')
                return
            except httpx.RequestError:
                return
            pause = answer.headers.get("retry-after")
            await stream.send_all(_head(answer.status_code, len(said), pause) + said)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


async def _next_body(stream: trio.SocketStream, received: bytearray) -> bytes | None:
    """Return the body of the next request, None if there is none."""
    while (end := received.find(b"\r\n\r\n")) < 0:
        if len(received) > HEAD_MAX or not (part := await stream.receive_some()):
            return None
        received += part
    fields = (line.partition(b":") for line in bytes(received[:end]).lower().split(b"\r\n")[1:])
    length = next((int(value) for name, _, value in fields if name == b"content-length"), 0)
    del received[: end + 4]
    while len(received) < length:
        if not (part := await stream.receive_some()):
            return None
        received += part
    body = bytes(received[:length])
    del received[:length]
    return body


def _head(status: int, length: int, pause: str | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} of a chain node", "content-type: application/json", f"content-length: {length}"]
    lines += [f"retry-after: {pause}"] if pause is not None else []
    return "\r\n".join([*lines, "", ""]).encode()
