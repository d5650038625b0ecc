"""A node with a thousand channels stands again within two seconds, and a block then costs it next to nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tallystick.channels.limits import Policy
from tallystick.channels.node.engine import Engine
from tallystick.channels.ports import system_clock
from tallystick.channels.protocol.core import Phase, new_channel
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Terms
from tallystick.channels.session.inputs import FundingConfirmed
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.channels.storage.store import Moment
from tallystick.channels.storage.writer import Writer
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.node.running import open_node
from tallystick.sdk.node.sqlite import SCHEMAS
from tallystick.settlement.chain import ChannelOpened, Deposited
from tallystick.settlement.following.index import EventInBlock, EventsSeen
from tallystick.settlement.testing.local import LocalChain

pytestmark = pytest.mark.soak

CHANNELS = 1_000
KEY = PrivateKey(keccak(b"whoever has a thousand channels"))


def fill(directory: Path, chain: LocalChain) -> None:
    """Store a thousand channels that were opened in block 0, as a node would have."""
    store = open_store(directory, SCHEMAS, owner="test")
    writer = Writer(store, inline=True)
    engine = Engine(
        KEY,
        writer,
        system_clock,
        Policy(),
        chain_id=chain.chain_id,
        contract=chain.contract,
        tell=lambda event: None,
    )
    sightings = []
    for number in range(CHANNELS):
        peer = PrivateKey(keccak(b"peer" + number.to_bytes(4, "big"))).public
        first, second = sorted((KEY.address, peer.address))
        terms = Terms(chain.chain_id, chain.contract, (first, second), NATIVE, 0, 86_400, bytes(32))
        side = terms.side_of(KEY.address)
        channel = engine.add_channel(new_channel(terms, side, bytes(peer), 0))
        deposits = (10**9, 0) if side == 0 else (0, 10**9)
        engine.apply(channel.channel.id, FundingConfirmed(deposits))
        sightings.append(EventInBlock(0, 0, ChannelOpened(channel.channel.id, terms)))
        sightings.append(EventInBlock(0, 0, Deposited(channel.channel.id, side, 10**9)))
    due = writer.gather()
    assert due is not None
    writer.finish(due)
    seen: list[Moment] = [EventsSeen(0, tuple(sightings), ())]
    store.commit(seen)
    store.close()


async def followed(node: Node, number: int) -> None:
    await node.until(lambda: node.onchain.index.head_number >= number)


async def test_a_thousand_channels_are_back_within_two_seconds(tmp_path: Path) -> None:
    chain = LocalChain(funds={KEY.address: 10**24})
    fill(tmp_path, chain)
    began = time.perf_counter()
    async with open_node(tmp_path, key=KEY, chain=chain, config=Config(confirmations=1)) as node:
        took = time.perf_counter() - began
        assert [channel.phase for channel in node.channels] == [Phase.OPEN] * CHANNELS
        blocks = 20
        began = time.perf_counter()
        for _ in range(blocks):
            await followed(node, chain.mine().number)
        block = (time.perf_counter() - began) / blocks
    print(f"restart with {CHANNELS:,} channels: {took:.2f} s; a block: {1e3 * block:.1f} ms")
    assert took < 2
