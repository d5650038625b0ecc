"""What Hypercorn stumbles over ends one connection: not the others, and not the program."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypercorn.config import Config
from starlette.types import Receive, Scope, Send

from tallystick.channels.transport import webserver
from tallystick.channels.transport.connection_limit import ConnectionLimit
from tallystick.channels.transport.webserver import WebServer
from tallystick.sdk.control.http import TokenCheck
from tallystick.settlement.simulated.rpc_server import serve_chain
from tallystick.settlement.testing.local import LocalChain

ASK = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(autouse=True)
def stumbling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Hypercorn fail on the first connection, with an error of its protocols'."""
    served: Callable[..., Any] = webserver.TCPServer
    seen: list[object] = []

    async def server(app: Any, config: Any, context: Any, state: Any, stream: trio.SocketStream) -> None:
        seen.append(stream)
        if len(seen) == 1:
            await stream.receive_some(1)
            raise RuntimeError("a frame of settings that is none")
        await served(app, config, context, state, stream)

    monkeypatch.setattr(webserver, "TCPServer", server)


async def answers(host: str, port: int) -> tuple[bytes, bytes]:
    """Return what the first connection gets, and then a second one."""
    found = []
    for _ in range(2):
        async with await trio.open_tcp_stream(host, port) as stream:
            await stream.send_all(ASK)
            try:
                found.append(await stream.receive_some(4_096))
            except trio.BrokenResourceError:
                found.append(b"")
    return found[0], found[1]


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("nobody has shown the token")


async def test_a_connection_that_hypercorn_fails_on_does_not_end_the_node() -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    door = ConnectionLimit()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:

            async def run(task_status: trio.TaskStatus[None]) -> None:
                await door.serve(TokenCheck(_refuse, "token", door), Config(), listener, task_status=task_status)

            await nursery.start(run)
            first, second = await answers(*listener.getsockname())
            assert first == b"" and b" 401 " in second
            nursery.cancel_scope.cancel()


async def test_a_connection_that_hypercorn_fails_on_does_not_end_the_chain() -> None:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            urls: list[str] = []
            up, stop = trio.Event(), trio.Event()

            def started(url: str) -> None:
                urls.append(url)
                up.set()

            async def serve() -> None:
                await serve_chain(LocalChain(), "127.0.0.1", 0, started=started, stop=stop.wait)

            nursery.start_soon(serve)
            await up.wait()
            first, second = await answers("127.0.0.1", int(urls[0].rpartition(":")[2]))
            assert first == b"" and b" 405 " in second  # it takes POST
            stop.set()


async def test_who_is_asked_to_stop_lets_requests_on_their_way_end() -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    begun, go_on, stop = trio.Event(), trio.Event(), trio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            begun.set()
            await go_on.wait()
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    async def serve() -> None:
        await WebServer(slow, Config()).serve(listener, stop=stop.wait)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            listener.listen()
            nursery.start_soon(serve)
            async with await trio.open_tcp_stream(*listener.getsockname()) as other:  # the one that is failed on
                await other.send_all(ASK)
            async with await trio.open_tcp_stream(*listener.getsockname()) as stream:
                await stream.send_all(ASK)
                await begun.wait()
                stop.set()
                go_on.set()
                assert b" 204 " in await stream.receive_some(4_096)
