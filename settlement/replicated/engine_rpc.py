"""Asking this validator's engine over its own JSON-RPC, on a Unix socket: hand in a transaction, see how it is."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from tallystick.settlement.errors import ChainUnavailable, Refusal, TransactionRefused

_KNOWN = "already exists in cache"
"""What the engine says of a transaction that it has: that is no refusal."""

_REFUSALS = {refusal.value: refusal for refusal in Refusal}


class EngineClient:
    """The engine's RPC. Make it with `open_engine`."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def ask(self, method: str, **params: Any) -> Any:
        """Return a result; raise ChainUnavailable if there is none."""
        try:
            reply = await self._client.post("/", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
            answer = msgspec.json.decode(reply.content)
        except (httpx.HTTPError, msgspec.DecodeError) as error:
            raise ChainUnavailable(f"the validator's engine does not answer: {error}") from error
        if not isinstance(answer, dict) or "result" not in answer:
            said = answer.get("error") if isinstance(answer, dict) else answer
            if isinstance(said, dict) and _KNOWN in f"{said.get('message')} {said.get('data')}":
                return None
            raise ChainUnavailable(f"the validator's engine says: {said}")
        return answer["result"]

    async def broadcast(self, raw: bytes) -> None:
        """Hand in a transaction; return once the engine has checked it. Raise TransactionRefused."""
        result = await self.ask("broadcast_tx_sync", tx=base64.b64encode(raw).decode())
        if isinstance(result, dict) and result.get("code"):
            code = _REFUSALS.get(str(result.get("codespace")), Refusal.MALFORMED)
            raise TransactionRefused(str(result.get("log")), code)


@asynccontextmanager
async def open_engine(socket: Path) -> AsyncIterator[EngineClient]:
    """Give the client of the engine that listens there, or will."""
    transport = httpx.AsyncHTTPTransport(uds=str(socket))
    async with httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=15) as client:
        yield EngineClient(client)
