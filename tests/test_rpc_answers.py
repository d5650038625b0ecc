"""How answers of a chain node come: whole, in time, plain and of bounded size, or not at all; and nothing stays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
import trio

from tallystick.settlement.errors import ChainError, ChainUnavailable
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.rpc_client import REQUEST_AGAIN, RESPONSE_MAX, TIMEOUT, open_rpc_chain
from tallystick.settlement.simulated.branch import ADJUDICATOR

AT = Deployment(1337, ADJUDICATOR)
GOOD: dict[str, Any] = {"eth_chainId": "0x539", "tally_contract": "0x" + ADJUDICATOR.hex(), "eth_gasPrice": "0x7"}


PACKED = {"content-encoding": "gzip"}


class Trickle(httpx.AsyncByteStream):
    """A byte now and then, for ever: no single read takes long."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await trio.sleep(5)


class Node(httpx.AsyncBaseTransport):
    """A chain node that answers rightly but for `broken` questions, which get a response of the test's own."""

    def __init__(self, **broken: Any) -> None:
        self.broken = broken
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        method = msgspec.json.decode(await request.aread())["method"]
        made = self.broken.get(method)
        return made() if made else httpx.Response(200, json={"result": GOOD[method]})


async def test_an_answer_that_trickles_for_ever_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    node = Node(eth_gasPrice=lambda: httpx.Response(200, stream=Trickle()))
    async with open_rpc_chain("http://node", jitter=lambda: 0.5, expected=AT, transport=node) as chain:
        began = trio.current_time()
        with pytest.raises(ChainUnavailable, match="no whole answer"):
            await chain.fee_price()
        waited = (REQUEST_AGAIN.tries or 0) * TIMEOUT
        assert 0 < waited <= trio.current_time() - began <= waited + 2


async def test_what_is_said_to_be_packed_is_not_unpacked() -> None:
    node = Node(eth_gasPrice=lambda: httpx.Response(200, headers=PACKED, stream=httpx.ByteStream(b"\x1f\x8bjunk")))
    async with open_rpc_chain("http://node", jitter=lambda: 0.5, expected=AT, transport=node) as chain:
        with pytest.raises(ChainError):
            await chain.fee_price()
    assert all(request.headers["accept-encoding"] == "identity" for request in node.requests)


async def test_a_chain_node_leaves_nothing_with_us() -> None:
    answer = {"result": "0x7"}
    node = Node(
        eth_gasPrice=lambda: httpx.Response(
            200, headers={"set-cookie": f"n{len(node.requests)}={'x' * 1_000}; Path=/"}, json=answer
        )
    )
    async with open_rpc_chain("http://node", jitter=lambda: 0.5, expected=AT, transport=node) as chain:
        for _ in range(3):
            assert await chain.fee_price() == 7
    assert not any("cookie" in request.headers for request in node.requests)


async def test_small_answers_are_small() -> None:
    node = Node(eth_gasPrice=lambda: httpx.Response(200, content=b" " * (RESPONSE_MAX + 1)))
    async with open_rpc_chain("http://node", jitter=lambda: 0.5, expected=AT, transport=node) as chain:
        with pytest.raises(ChainError, match="more than"):
            await chain.fee_price()


async def test_words_of_a_broken_answer_are_fit_to_be_shown(autojump_clock: trio.testing.MockClock) -> None:
    def broken() -> httpx.Response:
        raise httpx.RemoteProtocolError("illegal \x1b[2J" + "x" * 5_000)

    async with open_rpc_chain(
        "http://n", jitter=lambda: 0.5, expected=AT, transport=Node(eth_gasPrice=broken)
    ) as chain:
        with pytest.raises(ChainUnavailable) as caught:
            await chain.fee_price()
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500
