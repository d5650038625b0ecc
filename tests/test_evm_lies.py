"""The client of a real chain against nodes that leave out logs, invent them, or tell headers that prove nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from simulation.evm_nodes import AT, FIXTURE, FakeChain, FakeInternet, FakeNode, Refused, refuse
from tallystick.settlement.chain import ChannelOpened, Deposited, Header
from tallystick.settlement.errors import ChainError, ChainUnavailable
from tallystick.settlement.ethereum.event_logs import encode_event
from tallystick.settlement.ethereum.evm.client import EvmChain, open_evm_chain
from tallystick.settlement.ethereum.evm.nodes import newest
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


@pytest.mark.parametrize("bad", ("refuses", "silent", "headless", "endless", "elsewhere"))
@pytest.mark.parametrize("order", (("good", "bad"), ("bad", "good")))
async def test_a_history_is_told_though_one_of_two_nodes_cannot_tell_it(
    bad: str, order: tuple[str, str], autojump_clock: trio.testing.MockClock
) -> None:
    fake = grown()
    for _ in range(80):
        fake.add()
    good, worse = Final(fake), Final(fake)
    if bad == "refuses":
        worse.answers["eth_getLogs"] = refuse(4444, "pruned history unavailable")
    elif bad == "silent":
        worse.status = 500
    elif bad == "endless":
        worse.answers["eth_getBlockByNumber"] = lambda which, full: (
            {} if which == "finalized" else Final.eth_getBlockByNumber(good, which, full)
        )
    elif bad == "headless":
        worse.answers["eth_getBlockByNumber"] = lambda which, full: (
            None if which not in ("latest",) else fake.blocks[-1]
        )
    else:
        log = fake.logs[fake.blocks[5]["hash"]][0]
        worse.answers["eth_getLogs"] = lambda which: [{**log, "blockHash": "0x" + "77" * 32, "blockNumber": "0x7"}]
    async with client(*order, net=FakeInternet(good=good, bad=worse)) as chain:
        history = None
        for _attempt in range(6):  # who follows asks again
            try:
                history = await chain.history(0)
                break
            except (ChainError, ChainUnavailable):
                await trio.sleep(0.5)
        assert history is not None and [block.header.number for block in history.blocks] == [3, 5]


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


# --- heads --------------------------------------------------------------------------------------------------------


async def test_a_node_that_stands_still_does_not_hold_back_one_that_moves(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fake = FakeChain(1_000)
    still, moving = FakeNode(fake), FakeNode(fake)
    still.lag = 900
    async with client(still=still, moving=moving) as chain:
        for _ in range(100):
            fake.add()
            still.lag += 1
            await trio.sleep(1)
            head = await chain.head()
        assert head.number == 1_099


async def test_a_node_that_is_far_ahead_of_one_that_moves_is_not_followed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fake, invented = FakeChain(10), FakeChain(2_000)
    async with client(honest=FakeNode(fake), liar=FakeNode(invented)) as chain:
        for _ in range(100):
            fake.add()
            invented.add()
            await trio.sleep(1)
            assert (await chain.head()).number < 200


def test_fast_blocks_may_be_further_apart_between_two_nodes() -> None:
    heads = [Header(number, bytes([number % 251]) * 32, bytes(32), 0) for number in (1_000, 1_900)]
    assert newest(heads).number == 1_000
    assert newest(heads, ahead=1_200).number == 1_900
    assert newest(heads, frozen=heads[:1]).number == 1_900
    assert newest(heads, frozen=heads[1:]).number == 1_000


async def test_blocks_that_one_node_boasts_of_and_does_not_show_are_asked_for_of_another(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fake, boasted = grown(), grown()
    for _ in range(20):
        boasted.add(salt="0xee")
    boaster = FakeNode(fake)

    def block(which: str, full: bool) -> object:
        if which == "latest":
            return boasted.blocks[-1]
        return fake.blocks[int(which, 16)] if int(which, 16) < 6 else None

    boaster.answers["eth_getBlockByNumber"] = block
    async with client(boaster=boaster, honest=FakeNode(fake)) as chain:
        assert len(await chain.blocks(0, 100)) == 6
        fake.add(DEPOSITED)
        await trio.sleep(5)
        assert [len(each.events) for each in await chain.blocks(5, 100)] == [1, 1]
    async with client(boaster=boaster) as chain:
        assert await chain.blocks(7, 100) == (), "nobody knows it: it may come"
