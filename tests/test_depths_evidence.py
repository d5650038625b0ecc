"""What makes money count waits until it is borne out; what is denied is told, and counts for nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec
import pytest
import trio

from simulation.disputes import ChannelFixture
from tallystick.channels.node.alarms import AlarmKind
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.objects import ChannelId, Terms
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.daemon.providers import lone_word
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.options import Config
from tallystick.sdk.testing.world import CLAIM_ALL, World, open_world
from tallystick.settlement.chain import (
    GONE,
    OPEN,
    SETTLED,
    Block,
    Closed,
    ContractChannel,
    DepositCall,
    Deposited,
    Event,
    Header,
)
from tallystick.settlement.enforcement.depths import DepthPolicy, DepthStep
from tallystick.settlement.enforcement.witness import AT_ONCE, LOOK_SECONDS, PATIENCE, contradiction
from tallystick.settlement.errors import ChainUnavailable, Contradicted
from tallystick.settlement.following.checked import CheckedChain
from tallystick.settlement.following.index import fold
from tallystick.settlement.port import Chain, ChainFigures, ChannelsThere

DEPOSIT = 10**6
CONFIG = Config(challenge_period=600, duties=CLAIM_ALL)


class Evident(CheckedChain):
    """A chain that bears out what it tells, as its tests want it."""

    def __init__(self, chain: Chain, world: World) -> None:
        super().__init__(chain)
        self.world = world
        self.down = self.denies = self.proofless = self.slow = False
        self.twist: Callable[[ContractChannel], ContractChannel | None] = lambda view: view
        self.hides: type[Event] | None = None
        """Events that are left out of blocks."""
        self.invents = False
        self.outvoted: tuple[str, ...] = ()
        """Chain nodes that say otherwise than two others."""
        self.asked: list[tuple[int, int]] = []
        """At which head, for which block."""
        self.many = 0

    @property
    def figures(self) -> ChainFigures:
        return msgspec.structs.replace(super().figures, has_evidence=True, depths=((1, 1),))

    async def blocks(self, first: int, limit: int) -> tuple[Block, ...]:
        blocks, hidden = await super().blocks(first, limit), self.hides or ()
        return tuple(Block(each.header, tuple(e for e in each.events if not isinstance(e, hidden))) for each in blocks)

    async def events(self, channel: ChannelId, first: int, last: int) -> tuple[Block, ...]:
        blocks = [block for block in await super().blocks(first, last - first + 1) if block.events]
        invented = (Deposited(channel, 0, 10**9),) if self.invents else ()
        return tuple(Block(block.header, (*block.events, *invented)) for block in blocks)

    async def evidence(self, block: Header, terms: Sequence[Terms]) -> ChannelsThere | None:
        await trio.lowlevel.checkpoint()
        self.asked.append((self.world.chain.newest.header.number, block.number))
        self.many = max(self.many, len(terms))
        if self.slow:
            await self.world.blocks(2)
            await trio.sleep(1)
        if self.down:
            raise ChainUnavailable("the second provider does not answer")
        if self.denies:
            raise Contradicted("the second provider has another block")
        if self.proofless:
            return None
        index = self.world.node("alice").onchain.index
        views = [fold(index.events(identity), block.number) for identity in map(channel_id, terms)]
        seen = tuple(None if view is None else self.twist(view) for view in views)
        return ChannelsThere(seen, tuple((url, f"{url} says otherwise of {block.number}") for url in self.outvoted))


def run(act: Callable[[World, Node, Node, Evident], Awaitable[None]], config: Config = CONFIG) -> None:
    """Alice asks a chain that is above doubt, Bob one that has to bear out what it tells."""

    async def main() -> None:
        async with open_world(7) as world:
            chain = Evident(world.chain, world)
            world.seats["bob"].chain_node = chain
            await act(world, await world.start("alice", CONFIG), await world.start("bob", config), chain)

    simulate(main, 7)


def kinds(node: Node) -> list[AlarmKind]:
    return [alarm.kind for alarm in node.alarms]


async def opened(world: World, alice: Node, bob: Node, blocks: int = 8) -> ChannelId:
    channel = await alice.open_channel(world.address("bob"), DEPOSIT, wait=False)
    await world.until(lambda: bool(bob.onchain.index.events(channel.id)))
    await world.blocks(blocks)
    return channel.id


def test_what_is_borne_out_counts_at_once() -> None:
    async def act(world: World, alice: Node, bob: Node, chain: Evident) -> None:
        channel = await alice.open_channel(world.address("bob"), DEPOSIT)
        number = bob.onchain.index.events(channel.id)[0].number
        (asked,) = {each for each in chain.asked if each[1] == number}
        assert asked == (number + 2, number), "once, for the block that it is in, as soon as it is deep enough"
        await channel.pay(5)
        await channel.close()
        await world.until(lambda: bob.channels[0].phase is Phase.GONE)
        assert kinds(bob) == [] and len(set(chain.asked)) == len(chain.asked) <= 6

    run(act)


@pytest.mark.alarm(AlarmKind.CHAIN_UNPROVEN)
def test_nothing_counts_while_nobody_bears_it_out_and_it_is_told_after_a_while() -> None:
    async def act(world: World, alice: Node, bob: Node, chain: Evident) -> None:
        chain.down = True
        identity = await opened(world, alice, bob)
        assert bob.channel(identity).phase is Phase.OPENING and kinds(bob) == []
        await trio.sleep(PATIENCE + 10)
        assert kinds(bob) == [AlarmKind.CHAIN_UNPROVEN] and identity.hex()[:8] in bob.alarms[0].text
        chain.down = False
        await alice.channel(identity).wait_usable()
        await alice.channel(identity).pay(5)
        chain.down = True
        await alice.channel(identity).close()
        await world.blocks(20)
        assert bob.channel(identity).phase is Phase.CLOSED, "it is guarded still"
        chain.down = False
        await world.until(lambda: bob.channel(identity).phase is Phase.GONE, 60)
        assert bob.channel(identity).phase is Phase.GONE

    run(act)


@pytest.mark.alarm(AlarmKind.CHAIN_CONTRADICTED)
def test_what_is_denied_never_counts() -> None:
    async def act(world: World, alice: Node, bob: Node, chain: Evident) -> None:
        chain.denies = True
        identity = await opened(world, alice, bob)
        assert bob.channel(identity).phase is Phase.OPENING
        assert kinds(bob) == [AlarmKind.CHAIN_CONTRADICTED], "once, not with every block"
        chain.denies = False
        chain.twist = lambda view: msgspec.structs.replace(view, deposits=(1, 0))
        await world.blocks(5)
        assert bob.channel(identity).phase is Phase.OPENING and kinds(bob) == 2 * [AlarmKind.CHAIN_CONTRADICTED]
        assert "deposits (1, 0), not" in bob.alarms[-1].text
        chain.twist = lambda view: None
        await world.blocks(3)
        assert bob.channel(identity).view.channel.deposits == (0, 0)
        chain.twist = lambda view: view
        await alice.channel(identity).wait_usable()

    run(act)


@pytest.mark.alarm(AlarmKind.CHAIN_CONTRADICTED)
def test_what_two_bear_out_counts_and_who_differs_is_told_once_each() -> None:
    async def act(world: World, alice: Node, bob: Node, chain: Evident) -> None:
        chain.outvoted = ("http://three",)
        channel = await alice.open_channel(world.address("bob"), DEPOSIT)
        await channel.pay(5)
        await channel.deposit(5)
        await world.blocks(8)
        assert [alarm.text.split()[0] for alarm in bob.alarms] == ["http://three"], "not with every block"
        chain.outvoted = ("http://three", "http://four")
        await channel.close()
        await world.until(lambda: bob.channels[0].phase is Phase.GONE)
        assert [alarm.text.split()[0] for alarm in bob.alarms] == ["http://three", "http://four"]
        assert set(kinds(bob)) == {AlarmKind.CHAIN_CONTRADICTED} and "what they say counts" in bob.alarms[0].text

    run(act)


def test_a_deposit_is_borne_out_in_its_own_block_though_later_ones_were_looked_at() -> None:
    """Else a deposit that is told as older than it is would count before it is deep enough."""

    async def act(world: World, alice: Node, bob: Node, chain: Evident) -> None:
        identity = await opened(world, alice, bob, 1)
        number = bob.onchain.index.events(identity)[0].number
        await trio.sleep(LOOK_SECONDS + 10)
        assert {block for _, block in chain.asked if block > number}, "looks at what is there"
        assert bob.channel(identity).phase is Phase.OPENING
        await world.until(lambda: bob.channel(identity).phase is Phase.OPEN, 400)
        assert (number + 39, number) in chain.asked

    careful = DepthPolicy(ladder=(DepthStep(worth=10, blocks=3), DepthStep(worth=10**9, blocks=40)))
    run(act, msgspec.structs.replace(CONFIG, depths=careful))


def test_who_can_prove_nothing_is_told_so_once_and_goes_on() -> None:
    async def act(world: World, alice: Node, bob: Node, chain: Evident) -> None:
        chain.proofless = True
        channel = await alice.open_channel(world.address("bob"), DEPOSIT)
        await channel.pay(5)
        await world.blocks(60)
        assert kinds(bob) == [AlarmKind.CHAIN_UNPROVEN] and "a second chain node" in bob.alarms[0].text

    run(act)


def test_all_channels_are_looked_at_now_and_then() -> None:
    async def act(world: World, alice: Node, bob: Node, chain: Evident) -> None:
        channel = await alice.open_channel(world.address("bob"), DEPOSIT)
        await world.blocks(10)
        chain.twist = lambda view: msgspec.structs.replace(view, status=1, closer=0, deadline=5)
        await trio.sleep(LOOK_SECONDS + 20)
        assert kinds(bob) == [AlarmKind.CHAIN_CONTRADICTED] and "status 1, not 0" in bob.alarms[0].text
        assert channel.id.hex()[:8] in bob.alarms[0].text and chain.many <= AT_ONCE
        before = len(chain.asked)
        await trio.sleep(4 * LOOK_SECONDS)
        assert 3 <= len(chain.asked) - before <= 5

    run(act)


@pytest.mark.parametrize("invents", [False, True])
def test_a_close_that_one_node_left_out_is_read_from_another(invents: bool) -> None:
    """Alice closes, and Bob's first provider does not say so: he sees to it all the same."""

    async def act(world: World, alice: Node, bob: Node, chain: Evident) -> None:
        channel = await alice.open_channel(world.address("bob"), DEPOSIT)
        theirs = bob.channel(channel.id)
        await channel.pay(5)
        chain.hides, chain.invents = Closed, invents
        await channel.force_close()
        await world.until(lambda: bool(kinds(bob)), LOOK_SECONDS + 60)
        assert kinds(bob) == [AlarmKind.CHAIN_CONTRADICTED] and "status 1, not 0" in bob.alarms[0].text
        if invents:
            assert theirs.phase is Phase.OPEN and "another one told" not in bob.alarms[0].text
            assert not any(isinstance(each.event, Closed) for each in bob.onchain.index.events(channel.id))
            return
        assert theirs.phase is Phase.CLOSED and "which another one told" in bob.alarms[0].text
        again = await world.restart("bob")
        assert any(isinstance(each.event, Closed) for each in again.onchain.index.events(channel.id))
        chain.hides = None
        async with world.brisk():
            await world.until(lambda: again.channel(channel.id).phase is Phase.GONE, 5_000)
        assert again.channel(channel.id).phase is Phase.GONE

    run(act)


def test_who_deposits_in_every_block_keeps_nothing_from_counting() -> None:
    """What was borne out counts, though more is there by the time that it is."""

    async def act(world: World, alice: Node, bob: Node, chain: Evident) -> None:
        channel = await alice.open_channel(world.address("bob"), DEPOSIT)
        theirs, side = bob.channel(channel.id), channel.view.channel.side
        chain.slow, key = True, world.seats["alice"].key
        for _ in range(16):
            await world.chain.call(key, DepositCall(channel.id, side, 1))
            await trio.sleep(2)
        counted = theirs.view.channel.deposits[side] - DEPOSIT
        assert 4 <= counted < 14, f"{counted}: what was borne out, and no more"

    run(act)


def test_a_block_that_left_the_chain_bears_nothing_out() -> None:
    async def act(world: World, alice: Node, bob: Node, chain: Evident) -> None:
        channel = await alice.open_channel(world.address("bob"), DEPOSIT)
        theirs, side = bob.channel(channel.id), channel.view.channel.side
        await channel.deposit(5)
        await world.until(lambda: theirs.view.channel.deposits[side] == DEPOSIT + 5)
        chain.down = True
        number = bob.onchain.index.events(channel.id)[-1].number
        world.chain.reorganise(bob.onchain.index.head_number - number + 1)
        await world.blocks(15)
        assert bob.onchain.index.events(channel.id)[-1].number < bob.onchain.index.head_number - 5
        assert theirs.view.channel.deposits[side] == DEPOSIT, "it has to be borne out again"
        chain.down = False
        await channel.wait_usable()

    run(act)


def test_what_contradicts_a_channels_events() -> None:
    terms = ChannelFixture().terms
    view = ContractChannel(terms=terms, status=OPEN, deposits=(5, 6), withdrawn=(0, 0))
    assert contradiction(None, None) == contradiction(view, view) == ""
    assert contradiction(view, None) and contradiction(None, view)
    change = msgspec.structs.replace
    assert contradiction(view, change(view, deposits=(5, 7))) and contradiction(view, change(view, withdrawn=(1, 0)))
    closed = change(view, status=1, closer=1, deadline=9, seqs=(3, 4))
    others: list[dict[str, object]] = [{"closer": 0}, {"deadline": 10}, {"seqs": (3, 5)}, {"status": GONE}]
    for other in others:
        assert contradiction(closed, change(closed, **other)), other
    assert contradiction(closed, change(closed, roots=(bytes(32), b"\1" * 32))) == "", "of locks nothing is said"
    settled = change(closed, status=SETTLED, pots=(1, 2))
    assert contradiction(settled, change(settled, deposits=(0, 0))) == "", "they are not kept then"
    assert contradiction(settled, change(settled, pots=(1, 1)))


def test_a_single_provider_of_a_public_chain_is_spoken_of() -> None:
    one, other, same = "https://rpc.one.example/key", "https://eth.two.example", "https://backup.one.example"
    assert "Ethereum" in lone_word([one], 1) and "of another provider" in lone_word([one], 8_453)
    assert "one.example" in lone_word([one, same], 1) and "key" not in lone_word([one, same], 1)
    assert lone_word(["http://10.0.0.1:8545", "http://10.0.0.1:8546"], 1)
    for fine in (
        [one, other],
        [one, same, other],
        ["http://127.0.0.1:8545"],
        ["http://localhost:1"],
        ["http://[::1]:1"],
    ):
        assert lone_word(fine, 1) == ""
    assert lone_word([one], 31_337) == lone_word([], 1) == "", "a chain of one's own, or a simulated one"
