"""Asking this validator's engine over its own JSON-RPC, on a Unix socket: hand in a transaction, see how it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import trio

from tallystick.settlement.errors import ChainUnavailable

_KNOWN = "already exists in cache"
"""What the engine says of a transaction that it has: that is no refusal."""

BATCH_MAX = 10
"""Transactions of one request: the engine takes no more, unless its settings say otherwise."""

BATCH_BYTES = 500_000
"""Of these, at most, unless it is one alone: the engine takes a request of a million, and they travel as text."""

ANSWER_MAX = 64 * 2**20
"""Bytes that are read of an answer: a genesis is the largest."""

_JSON = {"content-type": "application/json"}


class _Handed(msgspec.Struct, eq=False):
    """A transaction that somebody waits for to be checked."""

    raw: bytes
    answer: Any = None
    """The engine's, to this one; or why there is none."""


class EngineClient:
    """The engine's RPC. Make it with `open_engine`."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._handed: list[_Handed] = []
        self._sending = trio.Lock()

    async def ask(self, method: str, **params: Any) -> Any:
        """Return a result; raise ChainUnavailable if there is none."""
        return _result(await self._post({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))

    async def pass_on(self, body: bytes) -> tuple[int, bytes]:
        """Ask what somebody else asks; return the status and the answer. Raise ChainUnavailable if there is none."""
        try:
            reply = await self._client.post("/", content=body, headers={"content-type": "application/json"})
        except httpx.HTTPError as error:
            raise ChainUnavailable(f"the validator's engine does not answer: {error}") from error
        return reply.status_code, reply.content

    async def broadcast(self, raw: bytes) -> None:
        """Hand in a transaction that the ledger has checked; return once the engine has it. Raise ChainUnavailable.

        A request costs more than the transaction in it: what comes while one is on its way, goes with the next, in the
        order in which it came. Who waits first sends it for all.
        """
        own = _Handed(raw)
        self._handed.append(own)
        try:
            async with self._sending:
                while own.answer is None:
                    await self._send()
        finally:
            if own.answer is None:  # it was cancelled
                self._handed.remove(own)
        if isinstance(own.answer, ChainUnavailable):
            raise ChainUnavailable(str(own.answer))
        _result(own.answer)

    async def _send(self) -> None:
        """Send the first of what was handed in, and take the answers down; if it is cancelled, the next one sends."""
        room, batch = BATCH_BYTES, list[_Handed]()
        for handed in self._handed[:BATCH_MAX]:
            room -= len(handed.raw)
            if room < 0 and batch:
                break
            batch.append(handed)
        calls = [  # bytes travel in base64
            {
                "jsonrpc": "2.0",
                "id": number,
                "method": "broadcast_tx_async",
                "params": {"tx": each.raw},
            }
            for number, each in enumerate(batch)
        ]
        try:
            said = await self._post(calls)
            answers = {each.get("id"): each for each in (said if isinstance(said, list) else [said])}
            missing = ChainUnavailable("the validator's engine left a transaction without an answer")
            for number, handed in enumerate(batch):
                handed.answer = answers.get(number, missing)
        except ChainUnavailable as error:
            for handed in batch:
                handed.answer = error
        self._handed = [each for each in self._handed if each not in batch]  # some may have gone away meanwhile

    async def _post(self, body: Any) -> Any:
        try:
            read = bytearray()
            async with self._client.stream("POST", "/", content=msgspec.json.encode(body), headers=_JSON) as reply:
                async for part in reply.aiter_bytes():
                    read += part
                    if len(read) > ANSWER_MAX:
                        raise ChainUnavailable(f"an engine's answer has more than {ANSWER_MAX} bytes")
            return msgspec.json.decode(bytes(read))
        except (httpx.HTTPError, msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise ChainUnavailable(f"the validator's engine does not answer: {error}") from error


def _result(answer: Any) -> Any:
    """Return what an answer holds; None if the engine has the transaction already. Raise ChainUnavailable."""
    if isinstance(answer, dict) and "result" in answer:
        return answer["result"]
    said = answer.get("error") if isinstance(answer, dict) else answer
    if isinstance(said, dict) and _KNOWN in f"{said.get('message')} {said.get('data')}":
        return None
    raise ChainUnavailable(f"the validator's engine says: {said}")


@asynccontextmanager
async def open_remote_engine(url: str) -> AsyncIterator[EngineClient]:
    """Give the client of an engine that is asked through its validator's chain node."""
    async with httpx.AsyncClient(base_url=url, timeout=15) as client:
        yield EngineClient(client)


@asynccontextmanager
async def open_engine(socket: Path) -> AsyncIterator[EngineClient]:
    """Give the client of the engine that listens there, or will."""
    transport = httpx.AsyncHTTPTransport(uds=str(socket))
    async with httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=15) as client:
        yield EngineClient(client)
