"""Providers in front of a real Ethereum node, by host name, each with lies of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx

from simulation.evm_nodes import Refused

Lie = Callable[[str, list[Any], Any], Any]
"""Makes of a method, its parameters and the node's true answer (None: an error) what is answered; may raise Refused."""


def truth(method: str, params: list[Any], answer: Any) -> Any:
    """Tell what the node told."""
    return answer


class Providers(httpx.AsyncBaseTransport):
    """All of them ask the node at `url`, and answer as their lies want; one of which nothing is known is down."""

    def __init__(self, url: str, **lies: Lie) -> None:
        self.url = url
        self.lies = lies
        self.asked: list[tuple[str, str]] = []
        """Host and method of all questions."""
        self._there = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Ask the node, and answer."""
        body = await request.aread()
        host = request.url.host
        if host not in self.lies:
            raise httpx.ConnectError("nobody is there", request=request)
        asked = httpx.Request("POST", self.url, content=body, headers={"content-type": "application/json"})
        response = await self._there.handle_async_request(asked)
        calls, answers = json.loads(body), json.loads(await response.aread())
        if isinstance(calls, dict):
            return httpx.Response(200, json=self._told(host, calls, answers))
        by_id = {answer["id"]: answer for answer in answers}
        return httpx.Response(200, json=[self._told(host, call, by_id[call["id"]]) for call in calls])

    def _told(self, host: str, call: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((host, call["method"]))
        try:
            said = self.lies[host](call["method"], call["params"], answer.get("result"))
        except Refused as refused:
            return {"jsonrpc": "2.0", "id": call["id"], "error": refused.error}
        if "error" in answer and said is None:
            return answer
        return {"jsonrpc": "2.0", "id": call["id"], "result": said}

    async def aclose(self) -> None:
        """Close the connections to the node."""
        await self._there.aclose()
