"""The operator's desk: HTTP at which users hand in signed steps and get a promise, and anybody asks where things stand.

| request                      | answer                                                                          |
| ---------------------------- | ------------------------------------------------------------------------------- |
| GET /                        | the rollup, its operator, and how far it is                                     |
| GET /accounts/{address}      | the account's number, balance and next nonce, after all that waits              |
| GET /channels/{number}       | a channel, after all that waits                                                 |
| POST /steps                  | `{"steps": [{"step": hex, "signatures": [hex, …]}, …]}`: the operator's promises |
| GET /steps/{hex}             | what became of a step: waiting, refused, posted, final, unknown                 |
| GET /batches/{n}/signatures  | the signatures of a batch, for watchers                                         |

It needs no token: whoever signs may ask. What is refused is answered with `{"error": sentence}`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Annotated, Any

import msgspec
import trio
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tallystick.channels.errors import InvalidInput, InvalidSignature, TallystickError
from tallystick.channels.protocol.objects import NATIVE, to_address
from tallystick.channels.transport.webserver import WebServer, bind
from tallystick.sdk.rollup.operating import Operating
from tallystick.settlement.rollup.operator import SignedStep
from tallystick.settlement.rollup.rules import WrongStep
from tallystick.settlement.rollup.steps import WORD, decode_step

BUNDLE_MAX = 8
"""Steps that are handed in at once: all are carried out on trial before the last one may turn out to be wrong."""

BODY_MAX = 512 * BUNDLE_MAX
"""Bytes of a request: a step with two signatures takes 380."""

GRACE = 1.0
"""Seconds that requests on their way may take when it stops."""


class HandedIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A step with its signatures, as it is handed in."""

    step: str
    signatures: tuple[str, ...]


class StepBundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Steps that are handed in at once, and are all taken or none."""

    steps: Annotated[tuple[HandedIn, ...], msgspec.Meta(min_length=1, max_length=BUNDLE_MAX)]


_decoder = msgspec.json.Decoder(StepBundle)


def make_desk(operating: Operating, rollup: str) -> Starlette:
    """Return the ASGI application; `rollup` is how people name it."""
    desk = _Desk(operating, rollup)
    routes = [
        Route("/", _guarded(desk.about)),
        Route("/accounts/{address}", _guarded(desk.account)),
        Route("/accounts/{address}/{asset}", _guarded(desk.account)),
        Route("/channels/{number}", _guarded(desk.channel)),
        Route("/steps", _guarded(desk.take), methods=["POST"]),
        Route("/steps/{step}", _guarded(desk.step)),
        Route("/batches/{number}/signatures", _guarded(desk.signatures)),
    ]
    return Starlette(routes=routes)


async def serve_desk(
    operating: Operating, rollup: str, host: str, port: int, *, started: Callable[[str], None]
) -> None:
    """Serve until cancelled; `started` is told the URL (port 0: any free one). Raise OSError if it cannot listen."""
    config = Config()
    config.graceful_timeout = config.shutdown_timeout = GRACE
    config.errorlog = None
    listener = bind(host, port)
    address, bound = listener.getsockname()[:2]
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[None]) -> None:
            await WebServer(make_desk(operating, rollup), config).serve(listener, task_status=task_status)

        await nursery.start(run)
        started(f"http://[{address}]:{bound}" if ":" in address else f"http://{address}:{bound}")


class _Desk:
    def __init__(self, operating: Operating, rollup: str) -> None:
        self._operating = operating
        self._rollup = rollup

    async def about(self, request: Request) -> Any:
        facts, core = self._operating.facts, self._operating.core
        return {
            "rollup": self._rollup,
            "operator": _hex(facts.operator),
            "contract": _hex(facts.vault),
            "chain_id": facts.chain_id,
            "time": self._operating.time,
            "batches": facts.batches,
            "final": facts.final,
            "waiting": len(core.pending),
            "frozen": facts.frozen,
            "root": _hex(core.ahead.root),
            "fee": self._operating.policy.fee,
            "token_fees": {_hex(asset): fee for asset, fee in self._operating.policy.token_fees.items()},
            "wait": self._operating.policy.wait,
        }

    async def account(self, request: Request) -> Any:
        owner = to_address(request.path_params["address"])
        number = self._operating.number_of(owner, to_address(request.path_params.get("asset", NATIVE)))
        account = None if number is None else self._operating.core.ahead.accounts.get(number)
        if account is None:
            raise InvalidInput(f"{_hex(owner)} has no account here: a deposit makes one")
        balances = {"balance": account.balance, "nonce": account.nonce, "exited": account.exited}
        return {"owner": _hex(owner), "number": number, **balances}

    async def channel(self, request: Request) -> Any:
        state, index = self._operating.core.ahead, _number(request)
        channel = state.channels.get(index)
        if channel is None:
            raise InvalidInput(f"there is no channel {index}")
        sides = [state.accounts.get(each) for each in (channel.first, channel.second)]
        return {
            "number": index,
            "first": _hex(sides[0].owner) if sides[0] else "",
            "second": _hex(sides[1].owner) if sides[1] else "",
            "total": channel.total,
            "open": channel.standing == 1,
        }

    async def take(self, request: Request) -> Any:
        try:
            handed = _decoder.decode(await _body(request))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInput(f"this is no step: {error}") from error
        promises = self._operating.take([_signed(each) for each in handed.steps])
        told = [{"step": _hex(each.step), "until": each.until, "signature": _hex(each.signature)} for each in promises]
        return {"promises": told}

    async def step(self, request: Request) -> Any:
        what, number = self._operating.where(_bytes(request.path_params["step"], WORD, "a step"))
        return {"step": request.path_params["step"], "is": what, "batch": number}

    async def signatures(self, request: Request) -> Any:
        number = _number(request)
        found = self._operating.signatures(number)
        if found is None:
            raise InvalidInput(f"batch {number} is not there, or final")
        return {"batch": number, "signatures": [[_hex(each) for each in step] for step in found]}


def _guarded(handle: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            found, status = await handle(request), 200
        except (InvalidInput, InvalidSignature, WrongStep) as error:
            found, status = {"error": str(error)}, 400
        except TallystickError as error:
            found, status = {"error": str(error)}, 503
        except Exception as error:  # a fault of the program: it is this request's alone
            found, status = {"error": f"a fault of the program ({type(error).__name__}); please report it"}, 500
        return Response(msgspec.json.encode(found), status, media_type="application/json")

    return answer


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with aclosing(request.stream()) as parts:
            async for part in parts:
                body += part
                if len(body) > BODY_MAX:
                    raise InvalidInput(f"a request has at most {BODY_MAX} bytes")
    except ClientDisconnect as error:
        raise InvalidInput("the request ended early") from error
    return bytes(body)


def _signed(handed: HandedIn) -> SignedStep:
    step = decode_step(_bytes(handed.step, WORD, "a step"))
    if step is None:
        raise InvalidInput("this word is no step")
    return SignedStep(step, tuple(_bytes(each, 64, "a signature") for each in handed.signatures))


def _number(request: Request) -> int:
    text = request.path_params["number"]
    if not re.fullmatch(r"[0-9]{1,10}", text):
        raise InvalidInput("this is no number")
    return int(text)


def _bytes(text: str, size: int, what: str) -> bytes:
    if not re.fullmatch(rf"(0x)?[0-9a-fA-F]{{{2 * size}}}", text):
        raise InvalidInput(f"{what} is {size} bytes in hex")
    return bytes.fromhex(text.removeprefix("0x"))


def _hex(data: bytes) -> str:
    return f"0x{data.hex()}"
