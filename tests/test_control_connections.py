"""The control API's door: whoever lacks the token takes a bounded number of connections, and the owner gets in."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack

import trio
import trio.testing
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tallystick.channels.transport.connection_limit import REFUSAL_SECONDS, REFUSALS_PART, ConnectionLimit
from tallystick.channels.transport.turns import CREDIT
from tallystick.sdk.control.http import TokenCheck


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def ask(stream: trio.SocketStream, token: str) -> bytes:
    """Ask once; return the answer's status line, empty if the connection has ended."""
    try:
        await stream.send_all(f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        answer = b""
        while not answer.endswith((b"hello", b"}")):
            answer += await stream.receive_some(65_536)
        return answer.partition(b"\r\n")[0]
    except trio.BrokenResourceError:
        return b""


async def test_idle_connections_make_room_and_the_owners_stays() -> None:
    connections, config = ConnectionLimit(strangers=4), Config()
    config.keep_alive_timeout = 60
    config.loglevel = "CRITICAL"
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    place = sock.getsockname()
    checked_app = TokenCheck(Starlette(routes=[Route("/", hello)]), "secret", connections)

    async def serve(task_status: trio.TaskStatus[None]) -> None:
        await connections.serve(checked_app, config, sock, task_status=task_status)

    with trio.fail_after(30):
        async with AsyncExitStack() as stack, trio.open_nursery() as nursery:

            async def connect() -> trio.SocketStream:
                return await stack.enter_async_context(await trio.open_tcp_stream(*place))

            await nursery.start(serve)
            owner = await connect()
            assert await ask(owner, "secret") == b"HTTP/1.1 200 "
            idle = []
            for number in range(20):
                idle.append(await connect())
                while connections.guests.ended + len(connections.guests) < number + 1:
                    await trio.lowlevel.checkpoint()
            assert len(connections.guests) <= 4
            for stream in idle[:15]:
                assert await stream.receive_some(1) == b"", "the oldest make room"
            assert await ask(owner, "secret") == b"HTTP/1.1 200 ", "the owner's connection stays"
            assert await ask(await connect(), "secret") == b"HTTP/1.1 200 "
            assert await ask(await connect(), "guess") == b"HTTP/1.1 401 "
            nursery.cancel_scope.cancel()


async def test_refusals_take_a_bounded_part_of_the_time(autojump_clock: trio.testing.MockClock) -> None:
    connections, began, count = ConnectionLimit(), trio.current_time(), 200
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(connections.refuse)
    assert trio.current_time() - began >= (count * REFUSAL_SECONDS - CREDIT) / REFUSALS_PART - 0.1
