"""The client of a real chain against nodes that are slow, hostile or half broken."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio

from simulation.evm_nodes import AT, FIXTURE, FakeChain, FakeInternet, FakeNode, Refused
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import keccak
from tallystick.settlement.chain import ChannelOpened, CloseCall, Deposited
from tallystick.settlement.errors import ChainError, ChainUnavailable
from tallystick.settlement.ethereum.event_logs import encode_event
from tallystick.settlement.ethereum.evm.client import EvmChain, open_evm_chain
from tallystick.settlement.ethereum.rpc_shapes import quantity, to_hex
from tallystick.settlement.following.checked import ANSWER_SECONDS, with_checks

OPENED = encode_event(ChannelOpened(FIXTURE.id, FIXTURE.terms))
DEPOSITED = encode_event(Deposited(FIXTURE.id, 0, 50))
HISTORY = {"baseFeePerGas": ["0x7", "0x8"], "gasUsedRatio": [0.5], "reward": [["0x3b9aca00"]]}


@asynccontextmanager
async def client(*names: str, net: FakeInternet | None = None, **nodes: FakeNode) -> AsyncIterator[EvmChain]:
    urls = [f"http://{name}" for name in names or nodes]
    async with open_evm_chain(urls, AT, jitter=lambda: 0.5, transport=net or FakeInternet(**nodes)) as chain:
        yield chain


def grown() -> FakeChain:
    chain = FakeChain(3)
    chain.add(OPENED, DEPOSITED)
    chain.add()
    chain.add(DEPOSITED)
    return chain


# --- a channel that was opened long ago, after a restart ----------------------------------------------------------


class OldChannel(FakeNode):
    """A chain of so many blocks, in block `opened` of which a channel was opened; it tells ten thousand at once."""

    def __init__(self, length: int, opened: int) -> None:
        super().__init__(FakeChain(1))
        self.length, self.opened = length, opened
        self.answers["eth_feeHistory"] = lambda *which: HISTORY
        self.answers["eth_estimateGas"] = lambda *which: "0x10000"

    def hash(self, number: int) -> str:
        return to_hex(keccak(b"block %d" % number))

    def eth_getBlockByNumber(self, which: str, full: bool) -> dict[str, object] | None:
        number = self.length - 1 if which in ("latest", "finalized") else int(which, 16)
        if number >= self.length:
            return None
        parent = self.hash(number - 1) if number else to_hex(bytes(32))
        time = quantity(1_000 + number)
        return {"number": quantity(number), "hash": self.hash(number), "parentHash": parent, "timestamp": time}

    def eth_getLogs(self, which: dict[str, Any]) -> list[dict[str, Any]]:
        first, last = int(which["fromBlock"], 16), int(which["toBlock"], 16)
        if last - first >= 10_000:
            raise Refused(-32602, "eth_getLogs is limited to a 10,000 range")
        if not first <= self.opened <= last:
            return []
        return [
            {
                "address": to_hex(AT.contract),
                "topics": [to_hex(topic) for topic in OPENED.topics],
                "data": to_hex(OPENED.data),
                "blockNumber": quantity(self.opened),
                "blockHash": self.hash(self.opened),
                "logIndex": "0x0",
            }
        ]


class Slow(FakeInternet):
    """Each answer takes a while."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await trio.sleep(0.3)
        return await super().handle_async_request(request)


async def test_a_close_is_signed_though_the_channel_was_opened_millions_of_blocks_ago(
    autojump_clock: trio.testing.MockClock,
) -> None:
    node = OldChannel(5_000_000, 100)
    async with client("one", net=Slow(one=node)) as plain:
        chain = with_checks(plain)
        for _attempt in range(8):
            try:
                signed = await chain.sign(FIXTURE.keys[0], CloseCall(FIXTURE.id, None, None, bytes(32)), 0, 10**10)
                break
            except ChainUnavailable:
                assert trio.current_time() >= ANSWER_SECONDS - 5, "it takes long, but goes on where it was broken off"
        assert signed.raw
        asked = sum(method == "eth_getLogs" for method, _ in node.asked)
        assert asked < 600


async def test_the_newest_logs_of_a_channel_are_found_without_asking_for_all_that_was_before(
    autojump_clock: trio.testing.MockClock,
) -> None:
    node = OldChannel(5_000_000, 4_990_001)
    async with client("one", net=Slow(one=node)) as chain:
        await chain.sign(FIXTURE.keys[0], CloseCall(FIXTURE.id, None, None, bytes(32)), 0, 10**10)
        assert sum(method == "eth_getLogs" for method, _ in node.asked) <= 3


# --- secrets in URLs ----------------------------------------------------------------------------------------------


SECRET = "s3cr3tk3y"


class Remembering(FakeInternet):
    """Remembers which URLs were asked."""

    def __init__(self, **nodes: FakeNode) -> None:
        super().__init__(**nodes)
        self.urls: set[str] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.urls.add(str(request.url))
        return await super().handle_async_request(request)


@pytest.mark.parametrize(
    "url",
    (
        f"http://one/v3/{SECRET}",
        f"http://one/?apikey={SECRET}",
        f"http://one/rpc?key={SECRET}",
        f"http://user:{SECRET}@one/",
        f"http://{SECRET}@one:8545",
    ),
)
async def test_keys_in_urls_reach_the_node_as_they_are_and_nobody_else(
    url: str, autojump_clock: trio.testing.MockClock
) -> None:
    node = FakeNode(grown())
    net = Remembering(one=node)
    async with open_evm_chain([url], AT, jitter=lambda: 0.5, transport=net) as chain:
        await chain.head()
        assert net.urls <= {url, url + "/"}, "a provider takes its key as it gave it, or not at all"
        said = [repr(chain), repr(chain.nodes())]
        for status in (401, 403, 429, 500, 302):
            node.status = status
            await trio.sleep(100)
            with pytest.raises((ChainError, ChainUnavailable)) as refused:
                await chain.head()
            said += [str(refused.value), repr(chain.nodes())]
        node.status, node.chain_id = 200, 5
        await trio.sleep(400)
        with pytest.raises(ChainError) as refused:
            await chain.head()
        said.append(str(refused.value))
        net.nodes.clear()
        await trio.sleep(400)
        with pytest.raises(ChainUnavailable) as refused:
            await chain.head()
        said.append(str(refused.value))
    assert all("one" in text for text in said)
    assert not any(SECRET in text for text in said)


@pytest.mark.parametrize("url", (f"wss://one.example/v3/{SECRET}", f"http://one:port/{SECRET}", f"https:///{SECRET}"))
async def test_a_url_that_is_none_is_refused_without_its_key(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        async with open_evm_chain([url], AT, jitter=lambda: 0.5):
            pass
    assert SECRET not in str(refused.value)
