"""An Ethereum node that serves a synthetic chain over JSON-RPC: what a node or a tower asks while it follows one.

    python -m tallystick.sdk.bench.synthetic_node '{"history": {"blocks": 1000, "channels": 10}}'

Spoken to as a `driver` is: `serve` makes the chain, and tells where it is to be found. Nothing is ever mined.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import trio
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tallystick.channels.protocol.eip712 import channel_id, domain_separator
from tallystick.channels.protocol.objects import Terms
from tallystick.channels.transport.webserver import WebServer, bind
from tallystick.sdk.bench.driver import obey, stay_on
from tallystick.sdk.bench.synthetic_chain import AT, HistoryOptions, SyntheticChain
from tallystick.settlement.ethereum.abi import TERMS, read_terms
from tallystick.settlement.ethereum.abi_values import decode_values
from tallystick.settlement.ethereum.evm.abi import CHANNEL_OF_TERMS, DOMAIN_SEPARATOR
from tallystick.settlement.ethereum.rpc_shapes import quantity, to_hex
from tallystick.settlement.ethereum.views import encode_channel

NO_METHOD, INVALID_PARAMS, REFUSED, REVERTED = -32601, -32602, -32000, 3
COINS = 10**20
"""What every account holds."""


class SyntheticNodeOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the process is told on its command line."""

    history: HistoryOptions
    lasting: tuple[Terms, ...] = ()
    """Channels that stay until the end."""
    deposits: int = 10
    """Of each of these."""
    range_max: int = 10_000
    """Blocks of which it tells the logs at once."""
    batch_max: int = 1_000
    """Questions in one request."""
    cpu: int | None = None


class _Asked(msgspec.Struct):
    method: str
    id: msgspec.Raw = msgspec.Raw(b"null")
    params: list[Any] = []


class _Refused(Exception):
    """What is answered instead of a result."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.told = {"code": code, "message": text, "data": "0x"}


_request = msgspec.json.Decoder(_Asked | list[_Asked])


class SyntheticNode:
    """The node: bytes of a request in, bytes of an answer out."""

    def __init__(self, chain: SyntheticChain, *, range_max: int, batch_max: int) -> None:
        self.chain = chain
        self._range_max = range_max
        self._batch_max = batch_max
        self.requests = 0
        """Requests so far."""
        self.answers: dict[str, Callable[..., bytes]] = {
            "eth_getBlockByNumber": self._block,
            "eth_getLogs": self._logs,
            "eth_call": self._call,
            "eth_chainId": lambda: _json(quantity(AT.chain_id)),
            "eth_getCode": lambda account, at: _json("0x60"),
            "eth_getBalance": lambda account, at: _json(quantity(COINS)),
            "eth_getTransactionCount": lambda account, at: _json("0x0"),
            "eth_feeHistory": self._fees,
            "web3_clientVersion": lambda: _json("Synthetic/v1"),
        }

    def answer(self, body: bytes) -> bytes:
        """Answer a request, or a batch of them."""
        asked = _request.decode(body)
        self.requests += 1
        if not isinstance(asked, list):
            return self._answered(asked)
        if len(asked) > self._batch_max:
            return _told(b"null", _Refused(INVALID_PARAMS, "batch too large"))
        return b"[" + b",".join(map(self._answered, asked)) + b"]"

    def _answered(self, asked: _Asked) -> bytes:
        answer = self.answers.get(asked.method)
        try:
            if answer is None:
                raise _Refused(NO_METHOD, f"the method {asked.method} does not exist")
            return _told(asked.id, answer(*asked.params))
        except _Refused as refused:
            return _told(asked.id, refused)

    def _block(self, which: str, full: bool) -> bytes:
        named = {"latest": self.chain.head, "finalized": self.chain.finalized, "safe": self.chain.finalized}
        number = named[which] if which in named else int(which, 16)
        return self.chain.block(number) if 0 <= number <= self.chain.head else b"null"

    def _logs(self, which: dict[str, Any]) -> bytes:
        first, last = int(which["fromBlock"], 16), int(which["toBlock"], 16)
        if last > self.chain.head:
            raise _Refused(INVALID_PARAMS, "block range extends beyond current head block")
        if last - first >= self._range_max:
            raise _Refused(INVALID_PARAMS, f"exceed maximum block range: {self._range_max}")
        wanted = [{each} if isinstance(each, str) else set(each) for each in which.get("topics") or ()]
        found = (
            told
            for log, told in self.chain.logs(first, last)
            if all(to_hex(topic) in some for topic, some in zip(log.topics, wanted, strict=False))
        )
        return b"[" + b",".join(found) + b"]"

    def _call(self, call: dict[str, str], at: Any) -> bytes:
        data = bytes.fromhex(call["data"][2:])
        if data == DOMAIN_SEPARATOR.encode_call():
            return _json(to_hex(domain_separator(*AT)))
        if data[:4] != CHANNEL_OF_TERMS.selector:
            raise _Refused(REVERTED, "execution reverted")
        terms = read_terms(AT, *decode_values(TERMS, data[4:]))  # as a tuple of words, they are not wrapped
        return _json(to_hex(encode_channel(self.chain.view(channel_id(terms)))))

    def _fees(self, count: str, newest: str, percentiles: list[float]) -> bytes:
        return _json({"baseFeePerGas": ["0x7"] * 11, "gasUsedRatio": [0.5] * 10, "reward": [["0x1"]] * 10})


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _told(id: bytes | msgspec.Raw, found: bytes | _Refused) -> bytes:
    said = b'"error":' + _json(found.told) if isinstance(found, _Refused) else b'"result":' + found
    return b'{"jsonrpc":"2.0","id":' + bytes(id) + b"," + said + b"}"


def make_app(node: SyntheticNode) -> Starlette:
    """Return the ASGI application that serves the node at `/`."""

    async def handle(request: Request) -> Response:
        return Response(node.answer(await request.body()), media_type="application/json")

    return Starlette(routes=[Route("/", handle, methods=["POST"])])


class SyntheticNodeDriver:
    """The commands of the process."""

    def __init__(self, options: SyntheticNodeOptions, nursery: trio.Nursery) -> None:
        self._options = options
        self._nursery = nursery
        self._node: SyntheticNode | None = None

    async def do_serve(self, command: dict[str, Any]) -> dict[str, Any]:
        """Make the chain and serve it; tell where, and what is in it."""
        options = self._options
        drawer = options.history.drawer()
        chain = SyntheticChain(options.history, [drawer.lasting(each, options.deposits) for each in options.lasting])
        self._node = SyntheticNode(chain, range_max=options.range_max, batch_max=options.batch_max)
        listener = bind("127.0.0.1", 0)
        config = Config()
        config.errorlog = None
        config.keep_alive_timeout = 600
        await self._nursery.start(WebServer(make_app(self._node), config).serve, listener)
        return {
            "url": f"http://127.0.0.1:{listener.getsockname()[1]}",
            "head": chain.head,
            "logs": chain.logs_count,
            "holding": len(chain.holding),
            "node": [chain.deposits(terms) for terms in options.lasting],
            "tower": sorted(each.channel.hex() for each in chain.contested()),
        }

    async def do_figures(self, command: dict[str, Any]) -> dict[str, Any]:
        """Tell how many requests there were, and the CPU time of this process in seconds."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {"requests": 0 if self._node is None else self._node.requests, "cpu": usage.ru_utime + usage.ru_stime}


async def run(options: SyntheticNodeOptions) -> None:
    """Run the process until its input ends."""
    stay_on(options.cpu)
    async with trio.open_nursery() as nursery:
        await obey({"ready": True}, SyntheticNodeDriver(options, nursery))
        nursery.cancel_scope.cancel()


def main() -> None:
    """Run the process."""
    trio.run(run, msgspec.json.decode(sys.argv[1], type=SyntheticNodeOptions))


if __name__ == "__main__":
    main()
