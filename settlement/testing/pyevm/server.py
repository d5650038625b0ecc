"""The node behind HTTP on loopback: requests and answers of JSON-RPC, and the miner by which blocks are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import trio
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tallystick.channels.errors import InvalidInput
from tallystick.channels.transport.webserver import WebServer, bind
from tallystick.settlement.ethereum.rpc_shapes import to_hex
from tallystick.settlement.testing.pyevm.chain import CallFailure, PoolRefusal
from tallystick.settlement.testing.pyevm.methods import METHODS, DevelopmentNode

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


class PythonMiner:
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


async def serve(node: DevelopmentNode, miner: PythonMiner, port: int, started: Callable[[str], None]) -> None:
    """Serve on loopback until cancelled; `started` is told the URL (port 0: any free one)."""

    async def handle(request: Request) -> Response:
        body = await request.body()
        if len(body) > BODY_MAX:
            return Response(status_code=413)
        return Response(answer(node, body), media_type="application/json")

    config = Config()
    config.errorlog = None
    listener = bind("127.0.0.1", port)
    async with trio.open_nursery() as nursery:
        server = WebServer(Starlette(routes=[Route("/", handle, methods=["POST"])]), config)
        await nursery.start(server.serve, listener)
        nursery.start_soon(miner.run)
        started(f"http://127.0.0.1:{listener.getsockname()[1]}")
