"""The kit of an unwell chain node: what each illness looks like to a client, over real sockets too."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import trio

from simulation.evm_nodes import AT, FakeChain, FakeInternet, FakeNode
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.errors import ChainError, ChainUnavailable, TransactionRefused
from tallystick.settlement.ethereum.evm.client import EvmChain, open_evm_chain
from tallystick.settlement.testing.proxy import serve_proxy
from tallystick.settlement.testing.unwell import LAG, Illness, UnwellWire

SOMEBODY = Address(b"\x05" * 20)


def grown() -> FakeChain:
    chain = FakeChain()
    for _ in range(20):
        chain.add()
    return chain


@asynccontextmanager
async def client(node: FakeNode) -> AsyncIterator[tuple[EvmChain, UnwellWire]]:
    """A client that has seen the node when it was well, and the wire between them."""
    wire = UnwellWire(FakeInternet(one=node), random.Random(1))
    async with open_evm_chain(("http://one",), AT, jitter=lambda: 0.5, transport=wire) as chain:
        await chain.head()
        await trio.sleep(5)
        wire.rate = 1.0
        yield chain, wire


@pytest.mark.parametrize("illness", (Illness.SILENT, Illness.CUT, Illness.BUSY, Illness.DOWN, Illness.ERRORS))
async def test_who_does_not_answer_is_asked_again(illness: Illness, autojump_clock: trio.testing.MockClock) -> None:
    async with client(FakeNode(grown())) as (chain, wire):
        wire.illnesses = (illness,)
        with pytest.raises((ChainUnavailable, ChainError)):
            await chain.head()
        assert wire.done[illness] > 0
        wire.heal()
        await trio.sleep(60)
        assert (await chain.head()).number == 20


async def test_an_answer_that_was_cut_is_asked_for_once_more_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with client(FakeNode(grown())) as (chain, wire):
        wire.illnesses, wire.rate = (Illness.CUT, Illness.SILENT), 0.4
        heads = 0
        for _ in range(100):
            await trio.sleep(61)
            with contextlib.suppress(ChainUnavailable):
                heads += (await chain.head()).number == 20
        assert heads > 70 and sum(wire.done.values()) > 50


async def test_it_is_old_by_some_blocks_and_its_nonces_are_wrong(autojump_clock: trio.testing.MockClock) -> None:
    node = FakeNode(grown())
    node.answers["eth_blockNumber"] = lambda: hex(len(node.known) - 1)
    async with client(node) as (chain, wire):
        wire.illnesses = (Illness.OLD,)
        assert 20 - LAG <= (await chain.head()).number < 20
        wire.heal()
        await trio.sleep(5)
        assert await chain.nonce(SOMEBODY) == 7
        for illness, wrong in ((Illness.NONCE_LOW, range(7)), (Illness.NONCE_HIGH, range(8, 108))):
            wire.illnesses = (illness,)
            assert await chain.nonce(SOMEBODY) in wrong


async def test_it_swallows_transactions_or_turns_them_down(autojump_clock: trio.testing.MockClock) -> None:
    node = FakeNode(grown())
    async with client(node) as (chain, wire):
        wire.illnesses = (Illness.SWALLOWS,)
        await chain.submit(b"\x02")
        assert wire.sent == [] and all(method != "eth_sendRawTransaction" for method, _ in node.asked)
        wire.illnesses = (Illness.TURNS_DOWN,)
        for _ in range(20):
            try:
                await chain.submit(b"\x02")
            except (ChainError, TransactionRefused):
                break
        else:
            pytest.fail("it was never turned down")
        wire.heal()
        await chain.submit(b"\x02")
        assert wire.sent == ["0x02"]


async def test_the_proxy_passes_requests_on_and_cuts_answers_in_the_middle() -> None:
    wire = UnwellWire(FakeInternet(one=FakeNode(grown())), random.Random(1))
    async with trio.open_nursery() as nursery:
        url = await nursery.start(serve_proxy, wire, "http://one")
        async with httpx.AsyncClient() as http:
            question = {"jsonrpc": "2.0", "id": 3, "method": "eth_chainId", "params": []}
            for _ in range(2):
                assert (await http.post(url, json=question)).json()["id"] == 3
            wire.rate = 1.0
            for illness in (Illness.CUT, Illness.SILENT):
                wire.illnesses = (illness,)
                with pytest.raises(httpx.RemoteProtocolError):
                    await http.post(url, json=question)
            wire.illnesses = (Illness.BUSY,)
            busy = await http.post(url, json=question)
            assert busy.status_code == 429 and int(busy.headers["retry-after"]) > 0
            wire.heal()
            assert int((await http.post(url, json=question)).json()["result"], 16) == AT.chain_id
        nursery.cancel_scope.cancel()
