"""Two nodes that want different depths of different amounts: nothing bounces, nothing is relied on too early."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest
import trio

from simulation.campaign import run_campaign
from tallystick.channels.protocol.core import Phase
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.control.describe import channel_info
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.options import Config
from tallystick.sdk.testing.world import CLAIM_ALL, World, open_world
from tallystick.settlement.chain import GONE, OPEN
from tallystick.settlement.enforcement.depths import DepthPolicy, DepthStep

FEW, MANY = DepthStep(worth=1_000, blocks=3), DepthStep(worth=10**7, blocks=20)
PLAIN = Config(challenge_period=600, duties=CLAIM_ALL)
CAREFUL = msgspec.structs.replace(PLAIN, depths=DepthPolicy(ladder=(FEW, MANY)))
DEPOSIT = 10**6

Act = Callable[[World, Node, Node], Awaitable[None]]


def run(act: Act, alice: Config = PLAIN, bob: Config = CAREFUL, seed: int = 3) -> None:
    async def main() -> None:
        async with open_world(seed) as world:
            await act(world, await world.start("alice", alice), await world.start("bob", bob))

    simulate(main, seed)


def depth_of(world: World, block: int) -> int:
    return world.chain.newest.header.number - block + 1


def opened_in(node: Node) -> int:
    """Return the block in which the node's only channel was opened."""
    (channel,) = node.channels
    return node.onchain.index.events(channel.id)[0].number


@pytest.mark.parametrize("careful", ["alice", "bob", "both"])
def test_an_opening_is_used_once_both_count_it_and_more_is_paid_for_little_sooner(careful: str) -> None:
    async def act(world: World, alice: Node, bob: Node) -> None:
        small = await alice.open_channel(world.address("bob"), 1_000)
        assert depth_of(world, opened_in(alice)) < 10
        await small.pay(5)
        await small.close()
        await small.wait_gone()
        world.attempt("alice", lambda node: node.open_channel(world.address("bob"), DEPOSIT))
        await world.until(lambda: len(alice.channels) == 2)
        (identity,) = [each.id for each in alice.channels if each.id != small.id]
        await world.until(lambda: bool(bob.onchain.index.events(identity)))
        block, mine, theirs = (
            bob.onchain.index.events(identity)[0].number,
            alice.channel(identity),
            bob.channel(identity),
        )
        seen = False
        while depth_of(world, block) < 20:
            await trio.sleep(0.5)  # the block is taken in
            if depth_of(world, block) < 20:
                assert mine.view.signable == 0
                assert (theirs.phase is Phase.OPENING) == (careful != "alice" or depth_of(world, block) < 3)
                if careful != "alice" and (awaited := theirs.awaited) is not None:
                    assert (awaited.seen, awaited.wanted, awaited.at_risk) == (depth_of(world, block), 20, DEPOSIT)
                    assert channel_info(theirs).awaited is not None
                    seen = True
                if careful == "bob" and mine.phase is Phase.OPEN and mine.connected and mine.view.ready:
                    assert channel_info(mine).uncounted == DEPOSIT
                await trio.sleep(4.5)
        assert seen == (careful != "alice")
        await mine.wait_usable()
        assert depth_of(world, block) < 24 and channel_info(mine).uncounted == 0
        await mine.pay(7)
        await mine.deposit(DEPOSIT)
        await mine.pay(8)
        assert theirs.balances[0] == 15

    of = {"alice": (CAREFUL, PLAIN), "bob": (PLAIN, CAREFUL), "both": (CAREFUL, CAREFUL)}
    run(act, *of[careful])


def test_a_deposit_that_is_not_deep_enough_is_neither_spent_nor_lost() -> None:
    """Alice counts her top-up after three blocks, Bob after twenty: until then she pays from what was there before."""

    async def act(world: World, alice: Node, bob: Node) -> None:
        channel = await alice.open_channel(world.address("bob"), 1_000)
        theirs = bob.channel(channel.id)
        await channel.pay(10)
        await channel.deposit(DEPOSIT)
        assert alice.channel(channel.id).view.channel.deposits[channel.view.channel.side] == DEPOSIT + 1_000
        await channel.pay(11)
        assert theirs.view.channel.deposits[channel.view.channel.side] == 1_000
        assert channel.view.signable < 1_000 < channel.spendable
        attempt = world.attempt("alice", lambda node: node.channel(channel.id).pay(DEPOSIT // 2))
        await world.blocks(5)
        assert not attempt.ended.is_set()
        await world.blocks(20)
        assert attempt.ended.is_set() and attempt.error is None
        await channel.close()
        await channel.wait_gone()
        await world.until(lambda: theirs.phase is Phase.GONE)

    run(act)


def test_a_withdrawal_counts_at_once_while_a_deposit_before_it_does_not() -> None:
    """Else it would seem to have died unmined, and what it took would be paid a second time."""

    async def act(world: World, alice: Node, bob: Node) -> None:
        channel = await alice.open_channel(world.address("bob"), 1_000)
        side = channel.view.channel.side
        world.attempt("alice", lambda node: node.channel(channel.id).deposit(DEPOSIT))
        await world.until(lambda: len(bob.onchain.index.events(channel.id)) == 3)
        await channel.withdraw(300)
        for handle in (channel, bob.channel(channel.id)):
            await world.until(lambda handle=handle: handle.view.channel.withdrawn[side] == 300, 60)  # type: ignore[misc]
            assert handle.view.channel.deposits[side] == 1_000
            assert handle.view.channel.withdrawals == (None, None)

    run(act, CAREFUL, CAREFUL)


def test_an_agreed_close_is_believed_late_and_its_offer_never_seems_dead() -> None:
    """It is mined at once, and not deep enough for long after its offer's last moment: nobody signs on meanwhile."""

    async def act(world: World, alice: Node, bob: Node) -> None:
        channel = await alice.open_channel(world.address("bob"), DEPOSIT)
        theirs = bob.channel(channel.id)
        await channel.pay(10)
        phases: set[Phase] = set()
        closing = world.attempt("alice", lambda node: node.channel(channel.id).close())
        for _ in range(400):
            await world.blocks(1)
            phases |= {channel.phase, theirs.phase}
            view = bob.onchain.index.view(channel.id, bob.onchain.index.head_number)
            if view is not None and view.status == GONE:
                assert Phase.OPEN not in (channel.phase, theirs.phase)
            if theirs.phase is Phase.GONE:
                break
        end = bob.onchain.index.events(channel.id)[-1]
        offer = world.chain.newest.header.time - end.time
        assert offer > 600, "the offer was dead long before"
        assert closing.ended.is_set() and closing.error is None
        assert phases >= {Phase.CLOSED, Phase.GONE} and channel.phase is theirs.phase is Phase.GONE

    long = DepthPolicy(ladder=(FEW, DepthStep(worth=10**7, blocks=150)))
    both = msgspec.structs.replace(PLAIN, depths=long)
    run(act, both, both)


def test_an_agreed_close_that_leaves_the_chain_again_is_made_up_for() -> None:
    """Deep enough for little, not for this much: the branch changes, and the close is mined again, or done alone."""

    async def act(world: World, alice: Node, bob: Node) -> None:
        channel = await alice.open_channel(world.address("bob"), DEPOSIT)
        theirs = bob.channel(channel.id)
        await channel.pay(DEPOSIT // 2)
        world.attempt("alice", lambda node: node.channel(channel.id).close())
        await world.until(lambda: theirs.phase is Phase.CLOSED)
        assert channel.phase in (Phase.FROZEN, Phase.CLOSED)
        world.chain.reorganise(8, keep=lambda transaction: False)
        await world.until(lambda: bool((view := bob.onchain.index.view(channel.id, 10**6)) and view.status == OPEN), 60)
        assert theirs.phase is channel.phase is Phase.CLOSED, "nothing is signed any more"
        async with world.brisk():
            await world.until(lambda: theirs.phase is Phase.GONE and channel.phase is Phase.GONE, 20_000)
        assert theirs.phase is channel.phase is Phase.GONE
        held = await bob.balance()
        assert held >= 10**24 + DEPOSIT // 2 - 10**18  # less fees

    run(act, CAREFUL, CAREFUL)


def test_a_node_with_new_settings_goes_on_counting_what_it_counted() -> None:
    async def act(world: World, alice: Node, bob: Node) -> None:
        channel = await alice.open_channel(world.address("bob"), DEPOSIT)
        await channel.pay(DEPOSIT // 2)
        await world.crash("bob")
        again = await world.start("bob", CAREFUL)
        await channel.wait_usable()
        await channel.pay(5)
        assert again.channels[0].balances[0] == DEPOSIT // 2 + 5

    run(act, PLAIN, PLAIN)


@pytest.mark.parametrize("seed", [3, 4, 6])
def test_campaigns_with_depths_by_worth(seed: int) -> None:
    run_campaign(seed, steps=40, by_worth=True)
