"""The client of a real chain against nodes that are slow, hostile or half broken."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
import trio

from simulation.evm_nodes import AT, FIXTURE, FakeChain, FakeInternet, FakeNode, Refused, refuse
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import keccak
from tallystick.settlement.chain import ChannelOpened, CloseCall, DepositCall, Deposited
from tallystick.settlement.errors import ChainError, ChainUnavailable, WrongChain
from tallystick.settlement.ethereum.event_logs import encode_event
from tallystick.settlement.ethereum.evm.client import EvmChain, open_evm_chain
from tallystick.settlement.ethereum.evm.refusals import Taken, meaning_of
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


async def test_a_search_goes_to_the_second_node_if_the_first_tells_no_logs(
    autojump_clock: trio.testing.MockClock,
) -> None:
    first, second = OldChannel(100_000, 100), OldChannel(100_000, 100)
    first.answers["eth_getLogs"] = refuse(-32601, "eth_getLogs is not in your plan")
    async with client(first=first, second=second) as plain:
        chain = with_checks(plain)
        assert (await chain.sign(FIXTURE.keys[0], CloseCall(FIXTURE.id, None, None, bytes(32)), 0, 10**10)).raw


async def test_terms_that_are_known_are_not_searched_for(autojump_clock: trio.testing.MockClock) -> None:
    node = OldChannel(5_000_000, 100)
    async with client("one", net=Slow(one=node)) as plain:
        chain = with_checks(plain)
        chain.learn(FIXTURE.terms)
        assert (await chain.sign(FIXTURE.keys[0], CloseCall(FIXTURE.id, None, None, bytes(32)), 0, 10**10)).raw
        assert not any(method == "eth_getLogs" for method, _ in node.asked)


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


# --- one node that answers with errors, or nonsense, stops nobody who has another ----------------------------------

WORDS = ("execution reverted: too many requests", "VM Exception: reverted with reason string 'try again'")


def spendable(node: FakeNode) -> FakeNode:
    node.answers["eth_feeHistory"] = lambda *which: HISTORY
    node.answers["eth_estimateGas"] = lambda *which: "0x10000"
    return node


@pytest.mark.parametrize("text", WORDS)
async def test_what_a_contract_says_never_makes_a_node_busy(text: str, autojump_clock: trio.testing.MockClock) -> None:
    node = spendable(FakeNode(grown()))
    node.answers["eth_estimateGas"] = refuse(-32000, text)
    async with client(one=node) as chain:
        call = DepositCall(FIXTURE.id, 0, 5)
        assert (await chain.sign(FIXTURE.keys[0], call, 0, 10**10)).raw
        assert chain.nodes()[0].failures == 0


@pytest.mark.parametrize(
    "answer",
    (
        refuse(-32000, "the daily quota is used up"),
        lambda *which: {"number": "seven"},
        lambda *which: [],
        lambda *_: None,
    ),
)
@pytest.mark.parametrize("method", ("eth_getBlockByNumber", "eth_feeHistory", "eth_getLogs", "eth_getTransactionCount"))
async def test_a_node_that_answers_one_thing_wrongly_stops_nothing(
    method: str, answer: Any, autojump_clock: trio.testing.MockClock
) -> None:
    bad, good = spendable(FakeNode(grown())), spendable(FakeNode(grown()))
    bad.answers[method] = answer
    async with client(bad=bad, good=good) as chain:
        for _ in range(3):
            assert (await chain.head()).number == 5
            assert (await chain.fee_price()) == 8 * 3 // 2 + 10**9
            found = None
            for _attempt in range(4):  # who follows asks again
                try:
                    assert await chain.nonce(FIXTURE.address(0)) == 7
                    found = await chain.blocks(0, 100)
                    break
                except (ChainError, ChainUnavailable):
                    pass
            assert found is not None and [len(block.events) for block in found] == [0, 0, 0, 2, 0, 1]
            await trio.sleep(30)


async def test_a_receipt_that_one_node_does_not_show_is_asked_for_of_another(
    autojump_clock: trio.testing.MockClock,
) -> None:
    block = grown()
    made = "0x" + "05" * 32
    shown = {
        "transactionHash": made,
        "blockHash": block.blocks[4]["hash"],
        "blockNumber": "0x4",
        "status": "0x1",
        "gasUsed": "0x5208",
        "effectiveGasPrice": "0x7",
        "logs": [],
    }
    for answer in (lambda *which: None, refuse(-32000, "not indexed yet"), lambda *which: {"status": "0x1"}):
        bad, good = FakeNode(block), FakeNode(block)
        bad.answers["eth_getTransactionReceipt"] = answer
        good.answers["eth_getTransactionReceipt"] = lambda *which: shown
        for node in (bad, good):
            node.answers["eth_getTransactionByHash"] = refuse(-32601, "no such method")
        async with client(bad=bad, good=good) as chain:
            receipt = await chain.receipt(bytes.fromhex(made[2:]))
            assert receipt is not None and receipt.success and receipt.block.number == 4


async def test_a_transaction_that_one_node_took_is_sent_whatever_another_one_says(
    autojump_clock: trio.testing.MockClock,
) -> None:
    for answer in (lambda *which: "0x" + "07" * 32, lambda *which: None, refuse(-32000, "unknown transaction type")):
        bad, good = FakeNode(grown()), FakeNode(grown())
        bad.answers["eth_sendRawTransaction"] = answer
        async with client(bad=bad, good=good) as chain:
            assert len(await chain.submit(b"\2 raw")) == 32
        async with client(bad=bad) as chain:
            with pytest.raises(ChainError):
                await chain.submit(b"\2 raw")


def test_an_unknown_transaction_is_not_a_known_one() -> None:
    assert meaning_of("", "unknown transaction type: 2") is None
    assert meaning_of("", "known transaction: 0x12") is Taken.KNOWN


async def test_a_node_that_cannot_say_what_the_contract_is_serves_no_other_chain(
    autojump_clock: trio.testing.MockClock,
) -> None:
    node = FakeNode(grown())
    node.answers["eth_call"] = refuse(-32000, "missing trie node")
    async with client(one=node) as chain:
        with pytest.raises(ChainUnavailable):
            await chain.head()
    node.answers["eth_call"] = refuse(3, "execution reverted")
    async with client(one=node) as chain:
        with pytest.raises(WrongChain):
            await chain.head()


# --- ranges of logs that are too long, each node in its own way ---------------------------------------------------


class Limited(FakeNode):
    """Refuses a range of more than 2 blocks in its own way."""

    def __init__(self, chain: FakeChain, way: str) -> None:
        super().__init__(chain)
        self.way = way

    def handle(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if isinstance(body, dict) and body["method"] == "eth_getLogs":
            which = body["params"][0]
            if "fromBlock" in which and int(which["toBlock"], 16) - int(which["fromBlock"], 16) > 1:
                if self.way.isdigit():
                    return httpx.Response(int(self.way), text="no")
                if self.way == "silence":
                    raise httpx.ReadTimeout("no answer")
                code = -32005 if "more than" in self.way else -32000
                error = {"code": code, "message": self.way}
                return httpx.Response(200, json={"jsonrpc": "2.0", "id": body["id"], "error": error})
        return super().handle(request)


@pytest.mark.parametrize(
    "way",
    (
        *("query returned more than 10000 results", "query timeout exceeded. Consider reducing your block range"),
        *("503", "413", "429", "silence"),
    ),
)
async def test_a_range_that_is_too_long_gets_shorter_however_it_is_refused(
    way: str, autojump_clock: trio.testing.MockClock
) -> None:
    chain_of_ten = FakeChain(9)
    chain_of_ten.add(OPENED)
    async with client(one=Limited(chain_of_ten, way)) as chain:
        for _attempt in range(20):
            try:
                blocks = await chain.blocks(0, 100)
                break
            except (ChainError, ChainUnavailable):
                await trio.sleep(5)
        assert len(blocks) == 10 and len(blocks[-1].events) == 1


# --- answers ------------------------------------------------------------------------------------------------------


class Halves(FakeNode):
    """Answers the first three questions of a batch alone."""

    def handle(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        reply = super().handle(request)
        return httpx.Response(200, json=reply.json()[-3:]) if isinstance(body, list) else reply


async def test_a_node_that_answers_half_a_batch_is_asked_less_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with client(one=Halves(FakeChain(40))) as chain:
        assert len(await chain.blocks(0, 100)) == 40


@pytest.mark.parametrize("number", ("9" * 400, "1e308", "-1", "[]", '"x"', "{}"))
async def test_no_number_of_a_node_is_more_than_an_error(number: str, autojump_clock: trio.testing.MockClock) -> None:
    node = FakeNode(grown())
    node.answers["eth_feeHistory"] = lambda *which: {**HISTORY, "gasUsedRatio": [json.loads(number)]}
    async with client(one=node) as chain:
        with suppress(ChainError):
            assert await chain.fee_price() > 0
