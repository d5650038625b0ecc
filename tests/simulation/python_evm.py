"""The node in pure Python, in this very process: a client's requests are answered without a socket."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tallystick.settlement.testing.pyevm.chain import PythonChain
from tallystick.settlement.testing.pyevm.methods import DevelopmentNode
from tallystick.settlement.testing.pyevm.server import PythonMiner, answer

URL = "http://127.0.0.1:8545"
START = 1_800_000_000
"""Time of the first block."""


class PythonEvm:
    """One node. Blocks are a second apart, one for each transaction or, if not `at_once`, by `mine`."""

    def __init__(self, *, at_once: bool = True, chain_id: int = 31_337) -> None:
        self.chain = PythonChain(chain_id, START)
        self.node = DevelopmentNode(self.chain, "py-evm/test")
        self._miner = PythonMiner(self.node, 0.0 if at_once else 1.0, 1, lambda: 0.0)
        self.transport = httpx.MockTransport(self._handle)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=answer(self.node, request.content))

    def mine(self) -> None:
        """Make a block."""
        self._miner.make()

    def say(self, method: str, *params: Any) -> dict[str, Any]:
        """Return the whole answer to one question."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        said: dict[str, Any] = json.loads(answer(self.node, json.dumps(body).encode()))
        return said

    def ask(self, method: str, *params: Any) -> Any:
        """Return the result of one question."""
        return self.say(method, *params)["result"]

    def refusal(self, method: str, *params: Any) -> str:
        """Return the words by which a question is refused."""
        text: str = self.say(method, *params)["error"]["message"]
        return text
