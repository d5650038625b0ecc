"""A chain node whose answers are damaged on their way, byte by byte, from a seed: for clients of JSON-RPC.

    wire = ChaosWire(httpx.ASGITransport(make_app(chain)), random.Random(7))
    async with open_rpc_chain("http://node", jitter=rng.random, transport=wire) as node: ...

It stands between a client and a node that answers well. Of the answers, a share of `rate` is damaged in one of the ways
of `Damage`. Whatever is asked then, a client may raise ChainUnavailable, ChainError or TransactionRefused, within a
bounded time; what it returns is of the right shape and in the ranges of the protocol. Whether it is true is another
matter (`chaos`): only the identifier of a request, the number of a block, and hashes of what was sent can be checked.
"""

from __future__ import annotations

import enum
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import trio

DRIP = 1.0
"""Seconds between two parts of an answer that never ends."""

FLOOD = 8 * 1024 * 1024
"""Bytes of each part of an answer that is far too large."""


class Damage(enum.StrEnum):
    """What becomes of an answer."""

    LOST = "lost"
    """The connection ends without one."""
    CUT = "cut"
    """Only the first part of the JSON arrives."""
    DRIPS = "drips"
    """It never ends: a byte comes now and then."""
    FLOODS = "floods"
    """It never ends, at full speed."""
    STATUS = "status"
    """Another HTTP status: rate limits, 403, 5xx, a redirect."""
    PAGE = "page"
    """A page of HTML with the status 200."""
    EMPTY = "empty"
    """No bytes at all."""
    NOISE = "noise"
    """One byte is another."""
    SHAPE = "shape"
    """A value of another type stands somewhere inside: a list for a number, null for an object."""
    NUMBER = "number"
    """A number is one that nobody expects: negative, huge, with leading zeros, a float, infinite."""
    DEEP = "deep"
    """The result is nested a hundred thousand deep."""
    WRONG_ID = "wrong id"
    """The answer to another request."""
    SWAPPED = "swapped"
    """The result of the request before, under the identifier of this one."""
    BOTH = "both"
    """A result and an error."""
    BATCH = "batch"
    """A list of one answer."""


SHAPES: tuple[Any, ...] = (None, True, [], {}, "", "0x", "0xzz", 1, 1.5, [[]], {"a": 1}, "\x00", "0x" + "1" * 5_000)
NUMBERS: tuple[Any, ...] = (
    "-0x1",
    "0x" + "f" * 64,
    "0x" + "f" * 300,
    "0x0001",
    "1",
    -1,
    1e308,
    "0x8000000000000000",
    "٣",
)
STATUSES = (301, 400, 401, 403, 404, 408, 410, 413, 429, 451, 500, 502, 503, 504)
PAGE = b"<!DOCTYPE html><html><title>Attention required</title>\x1b[2J</html>"


class ChaosWire(httpx.AsyncBaseTransport):
    """Stands before `inner` (see the module's docstring)."""

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        rng: random.Random,
        *,
        rate: float = 0.5,
        damages: tuple[Damage, ...] = tuple(Damage),
    ) -> None:
        self._inner = inner
        self._rng = rng
        self._damages = damages
        self._last: Any = None
        """The result before."""
        self.rate = rate
        """Share of the answers that are damaged."""
        self.done: Counter[str] = Counter()
        """How often which damage was done."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass a request on, and its answer back, damaged or not."""
        answer = await self._inner.handle_async_request(request)
        body = await answer.aread()
        last, self._last = self._last, msgspec.json.decode(body).get("result")
        if self._rng.random() >= self.rate:
            return httpx.Response(answer.status_code, content=body)
        damage = self._rng.choice(self._damages)
        self.done[damage] += 1
        return self._damaged(damage, request, body, last)

    def _damaged(self, damage: Damage, request: httpx.Request, body: bytes, last: Any) -> httpx.Response:
        rng = self._rng
        match damage:
            case Damage.LOST:
                raise httpx.RemoteProtocolError("the connection ended", request=request)
            case Damage.DRIPS:
                return httpx.Response(200, stream=_Endless(b" ", DRIP))
            case Damage.FLOODS:
                return httpx.Response(200, stream=_Endless(b" " * FLOOD, 0.0))
            case Damage.STATUS:
                return httpx.Response(rng.choice(STATUSES), content=PAGE, headers={"location": "http://elsewhere/"})
            case Damage.PAGE:
                return httpx.Response(200, content=PAGE, headers={"content-type": "text/html"})
            case Damage.EMPTY:
                return httpx.Response(200, content=b"")
            case Damage.CUT:
                return httpx.Response(200, content=body[: rng.randrange(len(body))])
            case Damage.NOISE:
                at = rng.randrange(len(body))
                return httpx.Response(200, content=body[:at] + rng.randbytes(1) + body[at + 1 :])
            case Damage.DEEP:
                return httpx.Response(200, content=b'{"jsonrpc":"2.0","id":1,"result":' + b"[" * 100_000)
            case _:
                return self._rewritten(damage, msgspec.json.decode(body), last)

    def _rewritten(self, damage: Damage, whole: dict[str, Any], last: Any) -> httpx.Response:
        rng = self._rng
        match damage:
            case Damage.SHAPE:
                whole["result"] = self._replaced(whole.get("result"), rng.choice(SHAPES))
            case Damage.NUMBER:
                whole["result"] = self._replaced(whole.get("result"), rng.choice(NUMBERS))
            case Damage.SWAPPED:
                whole["result"] = last
            case Damage.WRONG_ID:
                whole["id"] = rng.choice((0, 2, -1, "1", None, 2**70, [1]))
            case Damage.BOTH:
                whole["error"] = {"code": rng.choice((-32000, 2**80)), "message": rng.choice(("no", None, "\x1b[2J"))}
            case _:
                pass
        return httpx.Response(200, content=json.dumps([whole] if damage is Damage.BATCH else whole).encode())

    def _replaced(self, value: Any, by: Any) -> Any:
        """Return a value in which one part, somewhere, is another; the whole is a part, too."""
        if isinstance(value, dict) and value and self._rng.random() < 0.8:
            key = self._rng.choice(sorted(value))
            return value | {key: self._replaced(value[key], by)}
        if isinstance(value, list) and value and self._rng.random() < 0.8:
            at = self._rng.randrange(len(value))
            return [*value[:at], self._replaced(value[at], by), *value[at + 1 :]]
        return by

    async def aclose(self) -> None:
        """Close what is behind."""
        await self._inner.aclose()


class _Endless(httpx.AsyncByteStream):
    """A body that never ends."""

    def __init__(self, part: bytes, pause: float) -> None:
        self._part, self._pause = part, pause

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await trio.sleep(self._pause)
        return self._part
