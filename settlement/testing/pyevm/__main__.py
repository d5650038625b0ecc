"""The node as a process: `python -m tallystick.settlement.testing.pyevm --port 8545`.

    --block-time SECONDS   between blocks; without it, a block is made for each transaction
    --step SECONDS         of chain time between blocks; without it, chain time is that of the world

It prints its URL, and ends when its standard input does, or by a signal.
"""

from __future__ import annotations

import argparse
import math
import socket
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import msgspec
import trio
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tallystick.channels.errors import InvalidInput
from tallystick.channels.ports import system_clock
from tallystick.channels.transport.webserver import WebServer
from tallystick.settlement.ethereum.rpc_shapes import to_hex
from tallystick.settlement.testing.pyevm.chain import RECURSION_LIMIT, CallFailure, PoolRefusal, PythonChain
from tallystick.settlement.testing.pyevm.methods import METHODS, DevelopmentNode

CHAIN_ID = 31_337
"""That of development nodes."""

BODY_MAX = 1_000_000
"""Bytes of one request."""

REVERTED, REFUSED, INVALID, UNKNOWN, INTERNAL = 3, -32000, -32602, -32601, -32603


class _RpcQuestion(msgspec.Struct):
    method: str
    id: int | str | None = None
    params: list[Any] = []


_questions = msgspec.json.Decoder(_RpcQuestion | list[_RpcQuestion])


def answer(node: DevelopmentNode, body: bytes) -> bytes:
    """Return what the node answers to a request: one question, or several in a list."""
    try:
        asked = _questions.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return msgspec.json.encode(_error(None, -32700, f"this is no JSON-RPC: {error}"))
    answers = [_answer(node, each) for each in (asked if isinstance(asked, list) else [asked])]
    return msgspec.json.encode(answers if isinstance(asked, list) else answers[0])


def _answer(node: DevelopmentNode, asked: _RpcQuestion) -> dict[str, Any]:
    method = METHODS.get(asked.method)
    if method is None:
        return _error(asked.id, UNKNOWN, f"the method {asked.method[:64]} does not exist/is not available")
    try:
        return {"jsonrpc": "2.0", "id": asked.id, "result": method(node, asked.params)}
    except CallFailure as failed:
        if failed.output is None:
            return _error(asked.id, REFUSED, str(failed))
        return _error(asked.id, REVERTED, str(failed), to_hex(failed.output))
    except PoolRefusal as refused:
        return _error(asked.id, REFUSED, str(refused))
    except InvalidInput as error:
        return _error(asked.id, INVALID, str(error))
    except Exception as error:  # a fault of the program: it is this question's alone
        return _error(asked.id, INTERNAL, f"a fault of the node: {type(error).__name__}: {error}")


def _error(id: int | str | None, code: int, text: str, data: str | None = None) -> dict[str, Any]:
    said = {"code": code, "message": text} | ({} if data is None else {"data": data})
    return {"jsonrpc": "2.0", "id": id, "error": said}


class Clock:
    """Makes blocks, by time or with every transaction."""

    def __init__(self, node: DevelopmentNode, block_time: float, step: int, now: Callable[[], float]) -> None:
        """`block_time` 0: with every transaction. `step` 0: chain time is that of `now`."""
        self._node, self._block_time, self._step, self._now = node, block_time, step, now
        node.due = self.make
        if not block_time:
            node.sent = self.make

    def make(self) -> None:
        """Make a block."""
        node, newest = self._node, self._node.chain.head.timestamp
        if self._step:
            node.chain.mine(newest + self._step + node.later)
            node.later = 0
        else:
            node.chain.mine(max(newest + 1, int(self._now()) + node.later))

    async def run(self) -> None:
        """Make blocks by time, without end."""
        due = trio.current_time()
        while self._block_time:
            due = max(due + self._block_time, trio.current_time())
            await trio.sleep_until(due)
            self.make()


async def serve(node: DevelopmentNode, clock: Clock, port: int, started: Callable[[str], None]) -> None:
    """Serve on loopback until cancelled; `started` is told the URL (port 0: any free one)."""

    async def handle(request: Request) -> Response:
        body = await request.body()
        if len(body) > BODY_MAX:
            return Response(status_code=413)
        return Response(answer(node, body), media_type="application/json")

    config = Config()
    config.errorlog = None
    listener = socket.create_server(("127.0.0.1", port))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    async with trio.open_nursery() as nursery:
        server = WebServer(Starlette(routes=[Route("/", handle, methods=["POST"])]), config)

        async def run(task_status: trio.TaskStatus[None]) -> None:
            await server.serve(listener, task_status=task_status)

        await nursery.start(run)
        nursery.start_soon(clock.run)
        started(f"http://127.0.0.1:{listener.getsockname()[1]}")


def main() -> None:
    """Read the arguments, and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8545)
    parser.add_argument("--chain-id", type=int, default=CHAIN_ID)
    parser.add_argument("--block-time", type=float, default=0.0)
    parser.add_argument("--step", type=int, default=0)
    options = parser.parse_args()
    sys.setrecursionlimit(RECURSION_LIMIT)
    node = DevelopmentNode(PythonChain(options.chain_id, math.floor(system_clock())), f"py-evm/{version('py-evm')}")
    clock = Clock(node, options.block_time, options.step, system_clock)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, node, clock, options.port, lambda url: print(url, flush=True))
            async for _ in trio.lowlevel.FdStream(0):
                pass
            nursery.cancel_scope.cancel()

    trio.run(run)


if __name__ == "__main__":
    main()
