"""A node of a real chain that is unwell, from a seed: it stands between a client and an Ethereum node that is well.

    wire = UnwellWire(DirectWire(anvil.url), random.Random(7))
    async with open_evm_chain(["http://one"], at, jitter=rng.random, transport=wire) as chain:
        wire.illnesses, wire.rate = (Illness.OLD, Illness.BUSY), 0.5
        ...
        wire.heal()

It knows the JSON-RPC that it carries: each request meets, with a probability of `rate`, one of `illnesses`.
`chaos_wire` damages bytes instead. `DirectWire` asks a node of this machine without giving way to any other task, so
that whole worlds in virtual time may stand on a real node: no worker thread, and no socket that trio would wait for.
"""

from __future__ import annotations

import enum
import http.client
import json
import random
from collections import Counter
from typing import Any

import httpx
import trio

from tallystick.channels.protocol.keys import keccak

JSON = {"content-type": "application/json"}

SLOW = (1.0, 15.0)
"""Seconds that a slow answer takes: a client may give up before."""

LAG = 8
"""Blocks that an old answer is behind, at most."""

RANGE = 3
"""Blocks of which logs are told at once by a node whose ranges are short."""

BUSY_SECONDS = 20
"""That a busy node asks to be left alone for, at most."""

NONCES = (1, 2, 100)
"""By how much a nonce is wrong."""

REFUSALS = (
    "nonce too low",
    "nonce too high",
    "already known",
    "replacement transaction underpriced",
    "transaction underpriced",
    "insufficient funds for gas * price + value",
    "txpool is full",
    "rlp: expected input list",
    "invalid sender",
    "internal error",
    "",
)
"""In whose words a transaction is refused that there is nothing wrong with."""


class Illness(enum.StrEnum):
    """What an unwell node does."""

    SILENT = "silent"
    """Nobody can be connected to."""
    CUT = "cut"
    """It did what it was asked, and the connection ends in the middle of the answer."""
    SLOW = "slow"
    """The answer takes some seconds, or comes when nobody waits for it any more."""
    BUSY = "busy"
    """HTTP status 429, with a pause that it asks for."""
    DOWN = "down"
    """HTTP status 503, as of a gateway whose node is away."""
    ERRORS = "errors"
    """An error in JSON-RPC in answer to each question."""
    OLD = "old"
    """It answers as it would have some blocks ago."""
    RANGES = "short ranges"
    """Logs of a range of more than some blocks are refused."""
    NO_LOGS = "no logs"
    """Of some blocks, no logs are told."""
    NO_RECEIPT = "no receipts"
    """A mined transaction has no receipt."""
    NO_STATE = "no state"
    """It has thrown away the state of the block that is asked for."""
    NONCE_LOW = "nonce too low"
    """An account's nonce is less than it is."""
    NONCE_HIGH = "nonce too high"
    """And more than it is."""
    SWALLOWS = "swallows"
    """A transaction is taken, and thrown away."""
    TURNS_DOWN = "turns down"
    """A transaction is refused, whatever it is."""


class DirectWire(httpx.AsyncBaseTransport):
    """Asks one node of this machine, and stops everything until it has answered."""

    def __init__(self, url: str, remembered: dict[bytes, bytes] | None = None) -> None:
        """`remembered` are answers that are given again: who shares it empties it whenever the node changes."""
        parsed = httpx.URL(url)
        self._connection = http.client.HTTPConnection(parsed.host, parsed.port, timeout=60)
        self._remembered = {} if remembered is None else remembered
        self._remembers = remembered is not None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass a request on; raise ConnectError if nobody is there."""
        await trio.lowlevel.checkpoint()
        body = await request.aread()
        if b"eth_sendRawTransaction" in body:
            self._remembered.clear()
        elif (known := self._remembered.get(body)) is not None:
            return httpx.Response(200, content=known)
        fault: Exception | None = None
        for _ in range(2):  # a connection that was kept may be of a node that has ended since
            try:
                self._connection.request("POST", "/", body, JSON)
                answer = self._connection.getresponse()
                said = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                fault = error
            else:
                if self._remembers and b"eth_sendRawTransaction" not in body:
                    self._remembered[body] = said
                return httpx.Response(answer.status, content=said)
        raise httpx.ConnectError(str(fault), request=request)

    async def aclose(self) -> None:
        """Close the connection."""
        self._connection.close()


class UnwellWire(httpx.AsyncBaseTransport):
    """Stands before `inner` (see the module's docstring). It is well until it has illnesses."""

    def __init__(self, inner: httpx.AsyncBaseTransport, rng: random.Random) -> None:
        self._inner = inner
        self._rng = rng
        self.illnesses: tuple[Illness, ...] = ()
        """What it has; each request meets one of them at most."""
        self.rate = 0.3
        """Share of the requests that meet one."""
        self.done: Counter[str] = Counter()
        """How often it did what."""
        self.sent: list[str] = []
        """The raw transactions that were passed on, in order, each once."""

    def heal(self) -> None:
        """Be well from now on."""
        self.illnesses = ()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass a request on, and its answer back, in sickness and in health."""
        body = json.loads(await request.aread())
        illness = self._rng.choice(self.illnesses) if self.illnesses and self._rng.random() < self.rate else None
        if illness is not None:
            self.done[illness] += 1
        match illness:
            case Illness.SILENT:
                raise httpx.ConnectError("nobody is there", request=request)
            case Illness.BUSY:
                pause = str(self._rng.randrange(1, BUSY_SECONDS + 1))
                return httpx.Response(429, headers={"retry-after": pause})
            case Illness.DOWN:
                return httpx.Response(503)
            case Illness.SLOW:
                await trio.sleep(self._rng.uniform(*SLOW))
        calls = body if isinstance(body, list) else [body]
        answers = [await self._answer(request, call, illness) for call in calls]
        if illness is Illness.CUT:
            raise httpx.ReadError("the connection ended in the middle of the answer", request=request)
        return httpx.Response(200, content=json.dumps(answers if isinstance(body, list) else answers[0]).encode())

    async def _ask(self, request: httpx.Request, method: str, params: Any, id: Any = 0) -> dict[str, Any]:
        """Return what the node that is well answers."""
        body = json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode()
        answer = await self._inner.handle_async_request(httpx.Request("POST", request.url, content=body, headers=JSON))
        found: dict[str, Any] = json.loads(await answer.aread())
        return found

    async def _answer(self, request: httpx.Request, call: dict[str, Any], illness: Illness | None) -> dict[str, Any]:
        method, params, id = call["method"], call["params"], call["id"]
        said = await self._instead(request, method, params, illness)
        if said is None:
            if illness is Illness.OLD:
                said = await self._old(request, method, params)
            else:
                if method == "eth_sendRawTransaction" and params[0] not in self.sent:
                    self.sent.append(params[0])
                said = await self._ask(request, method, params)
        if said.get("result") is not None:
            said["result"] = self._changed(method, said["result"], illness)
        return {**said, "jsonrpc": "2.0", "id": id}

    async def _instead(
        self, request: httpx.Request, method: str, params: Any, illness: Illness | None
    ) -> dict[str, Any] | None:
        """Return what is answered without asking, None if the node is asked."""
        match illness:
            case Illness.ERRORS:
                return _error(-32603, "internal error")
            case Illness.RANGES if method == "eth_getLogs" and "fromBlock" in params[0]:
                first, last = (int(params[0][name], 16) for name in ("fromBlock", "toBlock"))
                return _error(-32000, f"query exceeds max block range {RANGE}") if last - first >= RANGE else None
            case Illness.NO_STATE if any(isinstance(each, dict) and "blockHash" in each for each in params[1:]):
                return _error(-32000, "missing trie node")
            case Illness.SWALLOWS if method == "eth_sendRawTransaction":
                return {"result": "0x" + keccak(bytes.fromhex(params[0][2:])).hex()}
            case Illness.TURNS_DOWN if method == "eth_sendRawTransaction":
                return _error(-32000, self._rng.choice(REFUSALS))
            case _:
                return None

    async def _old(self, request: httpx.Request, method: str, params: Any) -> dict[str, Any]:
        """Return what the node answered some blocks ago."""
        newest = int((await self._ask(request, "eth_blockNumber", []))["result"], 16)
        sight = max(0, newest - self._rng.randrange(1, LAG + 1))

        def later(value: Any) -> bool:
            return isinstance(value, str) and value.startswith("0x") and int(value, 16) > sight

        if method == "eth_getBlockByNumber":
            if params[0] == "latest":
                params = [hex(sight), *params[1:]]
            elif later(params[0]):
                return {"result": None}
        elif method == "eth_feeHistory":
            params = [params[0], hex(sight), *params[2:]]
        elif method == "eth_getLogs" and "toBlock" in params[0]:
            if later(params[0]["toBlock"]):
                return _error(-32602, "block range extends beyond current head block")
        else:
            for named in params[1:]:
                if isinstance(named, dict) and "blockHash" in named:
                    block = await self._ask(request, "eth_getBlockByHash", [named["blockHash"], False])
                    if block.get("result") is None or later(block["result"]["number"]):
                        return _error(-32000, "header not found")
        found = await self._ask(request, method, params)
        if method == "eth_getTransactionReceipt" and found.get("result") and later(found["result"]["blockNumber"]):
            return {"result": None}
        return found

    def _changed(self, method: str, result: Any, illness: Illness | None) -> Any:
        """Return what becomes of an answer."""
        match illness:
            case Illness.NO_LOGS if method == "eth_getLogs":
                hidden = {number for number in {log["blockNumber"] for log in result} if self._rng.random() < 0.7}
                return [log for log in result if log["blockNumber"] not in hidden]
            case Illness.NO_RECEIPT if method == "eth_getTransactionReceipt":
                return None
            case Illness.NONCE_LOW if method == "eth_getTransactionCount":
                return hex(max(0, int(result, 16) - self._rng.choice(NONCES)))
            case Illness.NONCE_HIGH if method == "eth_getTransactionCount":
                return hex(int(result, 16) + self._rng.choice(NONCES))
            case _:
                return result

    async def aclose(self) -> None:
        """Close what is behind."""
        await self._inner.aclose()


def _error(code: int, text: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": text}}
