"""What a validator's chain node tells of its engine, at `/engine`: enough for a light client, and to join the chain.

The engine itself listens to its application alone. A question is passed on to it if it only looks, and is one of these:
signed headers, sets of validators, parameters, the genesis, and where the engine is reached by others. It is written
anew, as it was read here. Whoever asks need not trust the answers: a light client checks signatures.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tallystick.settlement.errors import ChainUnavailable
from tallystick.settlement.replicated.engine_rpc import EngineClient

PATH = "/engine"

QUESTIONS = ("commit", "validators", "consensus_params", "status", "genesis")

QUESTION_MAX = 4_096
"""Bytes of one."""


class _EngineQuestion(msgspec.Struct):
    method: str
    params: dict[str, Any] = {}
    id: int | str | None = None
    jsonrpc: str = "2.0"


def engine_routes(engine: EngineClient) -> list[BaseRoute]:
    """Return the routes by which the engine can be asked."""

    async def handle(request: Request) -> Response:
        body = bytearray()
        try:
            async with aclosing(request.stream()) as parts:
                async for part in parts:
                    body += part
                    if len(body) > QUESTION_MAX:
                        return Response(f"a question has at most {QUESTION_MAX} bytes", status_code=413)
            asked = msgspec.json.decode(bytes(body), type=_EngineQuestion)
        except (ClientDisconnect, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return Response("this is no question to an engine", status_code=400)
        if asked.method not in QUESTIONS:
            return Response(f"the engine is asked for {', '.join(QUESTIONS)} alone", status_code=403)
        try:
            status, answer = await engine.pass_on(msgspec.json.encode(asked))  # the engine takes "Method" for a method
        except ChainUnavailable as error:
            return Response(str(error), status_code=503, media_type="text/plain")
        return Response(answer, status_code=status, media_type="application/json")

    return [Route(path, handle, methods=["POST"]) for path in (PATH, f"{PATH}/")]
