"""A chain node: a `SimulatedChain` behind JSON-RPC 2.0 over HTTP.

Everything from outside is bounded and typed here; every fault becomes a JSON-RPC error and harms nothing. Requests must
say that they are JSON, so that no web page can send one unasked. A batch is answered one call after the other.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
import trio
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tallystick.channels.errors import InvalidInput
from tallystick.channels.transport.webserver import WebServer, bind
from tallystick.channels.values.arguments import checked
from tallystick.settlement.errors import ChainUnavailable, Reverted, TransactionRefused
from tallystick.settlement.ethereum.rpc_shapes import to_hex
from tallystick.settlement.ethereum.transactions import TRANSACTION_MAX
from tallystick.settlement.ethereum.views import encode_revert
from tallystick.settlement.simulated.chain import SimulatedChain
from tallystick.settlement.simulated.rpc_methods import METHODS

BODY_MAX = 2 * TRANSACTION_MAX + 1_024
"""Bytes of one request."""

BATCH_MAX = 100
"""Calls in one batch."""

ANSWER_MAX = 16 * 2**20
"""Bytes of a batch's answers, beyond which the rest of its calls is refused."""

GRACE = 1.0
"""Seconds that requests on their way may take when the node stops."""

STUCK_SECONDS = 10.0
"""How long a client may leave what is sent to it unread. Hypercorn shields its sends from cancellation, so a client
that never reads would keep the node from stopping."""

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
UNKNOWN_METHOD = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
REFUSED = -32000
LIMIT_EXCEEDED = -32005
REVERTED = 3
"""As Ethereum's nodes say it; the data is an `Error(string)` of Solidity's."""

WAITING = "tally_waitHead"
"""The method that waits, which one call of many must not."""


class _Call(msgspec.Struct, frozen=True):
    method: str
    jsonrpc: str = "2.0"
    id: int | str | None = None
    params: list[Any] = msgspec.field(default_factory=list)


class _Fault(Exception):
    """What the client is told instead of a result."""

    def __init__(self, code: int, text: str, data: object = None) -> None:
        super().__init__(text)
        self.code = code
        self.data = data


_decoder = msgspec.json.Decoder(_Call)
_batch_decoder = msgspec.json.Decoder(list[msgspec.Raw])


def make_app(chain: SimulatedChain, more: Sequence[BaseRoute] = ()) -> Starlette:
    """Return the ASGI application that serves `chain` at `/`, and what else there is."""

    async def handle(request: Request) -> Response:
        return await _respond(chain, request)

    return Starlette(routes=[Route("/", handle, methods=["POST"]), *more])


@checked
async def serve_chain(
    chain: SimulatedChain,
    host: str,
    port: int,
    *,
    started: Callable[[str], None],
    stop: Callable[[], Awaitable[None]] | None = None,
    more: Sequence[BaseRoute] = (),
) -> None:
    """Serve until `stop` returns or the task is cancelled; `started` is told the URL (port 0: any free one).

    Raise OSError if it cannot listen there.
    """
    config = Config()
    listener = _listen(host, port)
    config.graceful_timeout = GRACE
    config.shutdown_timeout = GRACE
    config.errorlog = None
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[None]) -> None:
            await WebServer(make_app(chain, more), config).serve(listener, stop=stop, task_status=task_status)

        address, bound = listener.getsockname()[:2]
        await nursery.start(run)
        started(f"http://[{address}]:{bound}" if ":" in address else f"http://{address}:{bound}")


def _listen(host: str, port: int) -> socket.socket:
    listener = bind(host, port)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections inherit it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(STUCK_SECONDS * 1000))
    return listener


async def _respond(chain: SimulatedChain, request: Request) -> Response:
    try:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise _Fault(INVALID_REQUEST, "the content type must be application/json")
        body = await _body(request)
        calls = _split(body)
        answer = await _answer(chain, body) if calls is None else await _answer_batch(chain, calls)
    except ChainUnavailable as error:  # where others make the blocks: it will pass
        return Response(str(error), status_code=503, media_type="text/plain")
    except _Fault as fault:
        answer = _encode(None, fault)
    return Response(answer, media_type="application/json")


async def _answer(chain: SimulatedChain, body: msgspec.Raw | bytes, room: int | None = None) -> bytes:
    """Return what a call is answered; of one in a batch, `room` is left. May raise ChainUnavailable."""
    id: int | str | None = None
    try:
        call = _parse(body)
        id = call.id
        if room is not None and room < 0:
            raise _Fault(LIMIT_EXCEEDED, "the answers of this batch are too long: ask for less at a time")
        if room is not None and call.method == WAITING:
            raise _Fault(INVALID_REQUEST, f"{WAITING} waits, and is not taken in a batch")
        return _encode(id, await _perform(chain, call))
    except _Fault as fault:
        return _encode(id, fault)


async def _answer_batch(chain: SimulatedChain, calls: list[msgspec.Raw]) -> bytes:
    """Return what the calls of a batch are answered, in order."""
    answers: list[bytes] = []
    room = ANSWER_MAX
    for call in calls:
        await trio.lowlevel.checkpoint()  # what is asked of memory alone waits for nothing
        answers.append(await _answer(chain, call, room))
        room -= len(answers[-1])
    return b"[" + b",".join(answers) + b"]"


def _encode(id: int | str | None, result: Any) -> bytes:
    if not isinstance(result, _Fault):
        return msgspec.json.encode({"jsonrpc": "2.0", "id": id, "result": result})
    error = {"code": result.code, "message": str(result)}
    if result.data is not None:
        error["data"] = result.data
    return msgspec.json.encode({"jsonrpc": "2.0", "id": id, "error": error})


def _split(body: bytes) -> list[msgspec.Raw] | None:
    """Return the calls of a batch; None if it is none."""
    if body.lstrip(b" \t\r\n")[:1] != b"[":
        return None
    try:
        calls = _batch_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _Fault(PARSE_ERROR, f"this is no JSON: {error}") from error
    if not 0 < len(calls) <= BATCH_MAX:
        raise _Fault(INVALID_REQUEST, f"a batch has from 1 to {BATCH_MAX} calls, not {len(calls)}")
    return calls


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with aclosing(request.stream()) as parts:
            async for part in parts:
                body += part
                if len(body) > BODY_MAX:
                    raise _Fault(INVALID_REQUEST, f"a request has at most {BODY_MAX} bytes")
    except ClientDisconnect as error:
        raise _Fault(INVALID_REQUEST, "the request ended early") from error
    return bytes(body)


def _parse(body: msgspec.Raw | bytes) -> _Call:
    try:
        call = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _Fault(INVALID_REQUEST, f"this is no JSON-RPC request: {error}") from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _Fault(PARSE_ERROR, f"this is no JSON: {error}") from error
    if call.jsonrpc != "2.0":
        raise _Fault(INVALID_REQUEST, "only JSON-RPC 2.0 is spoken here")
    return call


async def _perform(chain: SimulatedChain, call: _Call) -> Any:
    method = METHODS.get(call.method)
    if method is None:
        raise _Fault(UNKNOWN_METHOD, f"there is no method {call.method[:64]!r}")
    try:
        return await method(chain, call.params)
    except TransactionRefused as error:
        raise _Fault(REFUSED, str(error), {"refusal": str(error.code)}) from error
    except Reverted as error:
        raise _Fault(REVERTED, f"execution reverted: {error}", to_hex(encode_revert(error))) from error
    except InvalidInput as error:
        raise _Fault(INVALID_PARAMS, str(error)) from error
    except ChainUnavailable:
        raise
    except Exception as error:  # a fault of the program: it is this request's alone
        raise _Fault(INTERNAL_ERROR, f"a fault of the chain node ({type(error).__name__}); please report it") from error
