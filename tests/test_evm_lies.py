"""The client of a real chain against nodes that leave out logs, invent them, or tell headers that prove nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from simulation.evm_nodes import AT, FIXTURE, FakeChain, FakeInternet, FakeNode, Refused, refuse
from tallystick.settlement.chain import ChannelOpened, Deposited
from tallystick.settlement.errors import ChainError, ChainUnavailable
from tallystick.settlement.ethereum.event_logs import encode_event
from tallystick.settlement.ethereum.evm.client import EvmChain, open_evm_chain
from tallystick.settlement.ethereum.evm.profiles import profile_of

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


# --- logs that are left out, invented, or of another node's making -------------------------------------------------


async def test_a_silent_block_of_which_the_other_node_knows_nothing_is_asked_for_of_the_first(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The other one is behind; the first has the block, and its index of ranges is behind."""
    fake = grown()
    first, behind = FakeNode(fake), FakeNode(fake)
    first.hides = True
    behind.answers["eth_getLogs"] = refuse(-32000, "unknown block")
    async with client(first=first, behind=behind) as chain:
        assert [len(block.events) for block in await chain.blocks(0, 100)] == [0, 0, 0, 2, 0, 1]


async def test_a_silent_block_of_which_nobody_says_anything_is_not_taken_for_empty(
    autojump_clock: trio.testing.MockClock,
) -> None:
    node = FakeNode(grown())
    node.hides = True
    honest = node.eth_getLogs

    def hashless(which: dict[str, Any]) -> list[dict[str, Any]]:
        if "blockHash" in which:
            raise Refused(-32000, "unknown block")
        return honest(which)

    node.answers["eth_getLogs"] = hashless
    async with client(one=node) as chain:
        with pytest.raises(ChainUnavailable, match="no chain node tells the logs of block"):
            await chain.blocks(0, 100)


async def test_many_silent_blocks_are_looked_into_though_the_other_node_is_behind(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fake = FakeChain(3)
    for _ in range(20):
        fake.add(DEPOSITED)
    hiding, behind = FakeNode(fake), FakeNode(fake)
    hiding.hides = True
    behind.lag = 2
    async with client(hiding=hiding, behind=behind) as chain:
        blocks = await chain.blocks(0, 23)
        assert [len(block.events) for block in blocks] == [0] * 3 + [1] * 20


class Final(FakeNode):
    """Calls a block final that is so many below its newest."""

    below = 60

    def eth_getBlockByNumber(self, which: str, full: bool) -> dict[str, Any] | None:
        return self.known[-1 - self.below] if which == "finalized" else super().eth_getBlockByNumber(which, full)


async def test_a_log_in_a_history_of_a_block_that_holds_none_is_not_believed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fake = grown()
    for _ in range(80):
        fake.add()
    forged = [
        {**log, "blockHash": fake.blocks[1]["hash"], "blockNumber": "0x1"} for log in fake.logs[fake.blocks[5]["hash"]]
    ]
    liar, honest = Final(fake), Final(fake)
    told = liar.eth_getLogs
    liar.answers["eth_getLogs"] = lambda which: [*forged, *told(which)]
    async with client(one=liar) as chain:
        with pytest.raises(ChainError, match="holds none"):
            await chain.history(0)
    async with client(honest=honest, liar=liar) as chain:
        history = await chain.history(0)
        assert history is not None and [block.header.number for block in history.blocks] == [3, 5]
        assert "holds none" in chain.nodes()[1].fault


async def test_a_node_that_calls_its_newest_block_final_is_not_believed(autojump_clock: trio.testing.MockClock) -> None:
    node = Final(FakeChain(200))
    node.below = 0
    profile = profile_of(1)
    net = FakeInternet(one=node)
    async with open_evm_chain(["http://one"], AT, jitter=lambda: 0.5, transport=net, profile=profile) as chain:
        assert await chain.final_number() <= 199 - 32, "two epochs are never final at once"
        history = await chain.history(0)
        assert history is not None and history.last.number <= 199 - 32


# --- headers ------------------------------------------------------------------------------------------------------


class Terse(FakeNode):
    """Leaves out a field of each header, so that nothing proves its hash."""

    def eth_getBlockByNumber(self, which: str, full: bool) -> dict[str, Any] | None:
        found = super().eth_getBlockByNumber(which, full)
        return None if found is None else {name: found[name] for name in found if name != "mixHash"}


async def test_headers_of_a_terse_node_do_not_make_a_liar_of_the_next_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fake = grown()
    terse, whole = Terse(fake), FakeNode(fake)
    net = FakeInternet(terse=terse, whole=whole)
    async with client("terse", "whole", net=net) as chain:
        assert len(await chain.blocks(0, 100)) == 6
        del net.nodes["terse"]
        fake.add(DEPOSITED)
        await trio.sleep(5)
        assert len(await chain.blocks(2, 100)) == 5


async def test_a_fork_that_adds_a_field_to_headers_stops_nobody(autojump_clock: trio.testing.MockClock) -> None:
    fake = grown()
    async with client(one=FakeNode(fake)) as chain:
        assert len(await chain.blocks(0, 100)) == 6
        block = fake.add(DEPOSITED)
        logs = fake.logs.pop(block["hash"])
        block["hash"], block["fieldOfTheNextFork"] = "0x" + "ab" * 32, "0x1"
        fake.logs[block["hash"]] = [{**log, "blockHash": block["hash"]} for log in logs]
        await trio.sleep(5)
        assert [len(each.events) for each in await chain.blocks(4, 100)] == [0, 1, 1]
