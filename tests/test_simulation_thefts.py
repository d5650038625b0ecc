"""Whole nodes in virtual time against thieves and bad luck: what was once a way to lose a coin, or a node.

Each test plays one way in which a node was made to forget a duty, to convict itself, or to end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from simulation.invariants import check_always, check_settled, histories, unsettled
from simulation.mallory import Mallory
from tallystick.channels.errors import ChannelNotReady, InvalidInput, TallystickError
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.messages import OpenProposal
from tallystick.channels.protocol.objects import Address
from tallystick.channels.session.inputs import PhaseReached
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.errors import OpeningFailed
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.openings import OPENINGS_PER_PEER
from tallystick.sdk.testing.world import COINS, World, open_world
from tallystick.settlement.chain import CLOSED, OPEN, RedeemCall, RegisterSecretCall
from tallystick.settlement.errors import ChainError
from tallystick.settlement.ethereum.transactions import Transaction

DEPOSIT = 1_000_000
PERIOD = 600
SECRET = b"s" * 32
Act = Callable[[World, Mallory, ChannelHandle], Awaitable[None]]


def with_mallory(act: Act) -> None:
    """Let Alice and Mallory pay each other three times, `act`, and check what must always hold for Alice."""

    async def main() -> None:
        async with open_world(1) as world:
            alice, hers = await world.start("alice"), await world.start("mallory")
            channel = await alice.open_channel(world.address("mallory"), DEPOSIT, challenge_period=PERIOD)
            for _ in range(3):
                await channel.pay(100_000)
                await hers.channels[0].pay(30_000)
            await act(world, Mallory(world), channel)
            check_always(world, None, frozenset({"mallory"}))

    simulate(main, 1)


async def alice_gone(world: World) -> None:
    """Wait until Alice's channel is over, and check that she got what is hers."""

    def over() -> bool:
        return world.node("alice").channels[0].phase is Phase.GONE and not unsettled(world, ["alice"])

    assert await world.until(over, 3 * PERIOD)
    check_settled(world, ["alice"])


def of(world: World, name: str) -> Callable[[Transaction], bool]:
    return lambda transaction: transaction.sender == world.seats[name].key.address


def standing(world: World, name: str) -> int:
    """The status of a role's only channel at the head of its own index."""
    node = world.node(name)
    view = node.onchain.index.view(node.channels[0].id, node.onchain.index.head_number)
    assert view is not None
    return view.status


def test_a_challenge_that_came_to_nothing_in_a_reorganisation_is_made_again_when_the_close_returns() -> None:
    async def act(world: World, mallory: Mallory, channel: ChannelHandle) -> None:
        seqs = (0, 3) if channel.view.channel.peer_side == 0 else (3, 0)  # without what Mallory has paid
        await world.crash("mallory")
        await mallory.close(channel.id, *seqs)
        await world.blocks(2)  # Alice has challenged
        world.chain.reorganise(2, keep=of(world, "alice"))  # her challenges come before the close now: they fail
        await mallory.close(channel.id, *seqs)
        await alice_gone(world)
        history = histories(world)[0][channel.id]
        assert history.convicted

    with_mallory(act)


def test_a_redeem_just_before_a_registration_in_one_block_does_not_hide_the_lock_from_its_owner() -> None:
    async def act(world: World, mallory: Mallory, channel: ChannelHandle) -> None:
        alice, theirs = world.node("alice"), world.node("mallory").channels[0]
        now = alice.onchain.index.head_time
        await theirs.lock(1_000, now + 700, digest_of(b"nobody knows".ljust(32)))
        await theirs.lock(20_000, now + 3_000, digest_of(SECRET))
        await world.until(lambda: len(channel.view.channel.theirs.simplex.locks) == 2, 60)
        locks = channel.view.channel.theirs.simplex.locks
        side = theirs.view.channel.side
        await world.crash("mallory")
        await channel.force_close()
        assert await world.until(lambda: channel.phase is Phase.SETTLED, 2 * PERIOD)
        await trio.sleep(200)
        key = world.seats["mallory"].key
        await world.chain.send(key, RedeemCall(channel.id, side, locks), price=10**6)
        channel.reveal(1, SECRET)
        await world.chain.send(world.seats["carol"].key, RegisterSecretCall(SECRET), price=10**5)
        await alice_gone(world)

    with_mallory(act)


@pytest.mark.parametrize("confirmed", [False, True])
def test_a_node_that_lost_data_does_not_close_in_place_of_a_close_that_left_the_chain(confirmed: bool) -> None:
    async def act(world: World, mallory: Mallory, channel: ChannelHandle) -> None:
        lost = PhaseReached(Phase.RECOVERING)  # as when the peer proves in its greeting what is lost
        world.node("alice").engine.apply(channel.id, lost)
        await world.crash("mallory")
        await mallory.close(channel.id, 3, 3)
        assert await world.until(lambda: standing(world, "alice") == CLOSED, 60)
        depth = world.config.confirmations + 2 if confirmed else 1
        await world.blocks(depth - 1)
        world.chain.reorganise(depth, keep=lambda transaction: False)
        await trio.sleep(300)
        assert standing(world, "alice") == OPEN, "Alice would have closed with old proofs, and been convicted"
        await mallory.close(channel.id, 3, 3)
        await alice_gone(world)

    with_mallory(act)


def test_a_deposit_that_the_account_cannot_pay_does_not_hold_up_a_challenge() -> None:
    async def act(world: World, mallory: Mallory, channel: ChannelHandle) -> None:
        seqs = (0, 3) if channel.view.channel.peer_side == 0 else (3, 0)
        await world.crash("mallory")

        async def deposit(node: Node) -> None:
            await node.channels[0].deposit(COINS * 2 // 3)

        attempts = [world.attempt("alice", deposit) for _ in range(2)]
        await world.blocks(1)
        await mallory.close(channel.id, *seqs)
        await alice_gone(world)
        for attempt in attempts:
            await attempt.ended.wait()
        assert sum(attempt.error is None for attempt in attempts) == 1

    with_mallory(act)


def test_a_deposit_just_before_the_peers_close_is_counted_and_returns() -> None:
    async def act(world: World, mallory: Mallory, channel: ChannelHandle) -> None:
        await world.crash("mallory")

        async def deposit(node: Node) -> None:
            await node.channels[0].deposit(5_000)

        attempt = world.attempt("alice", deposit)
        assert await world.until(lambda: bool(world.chain.waiting()), 30)
        await world.blocks(1)
        await mallory.close(channel.id, 3, 3)
        with trio.fail_after(120):
            await attempt.ended.wait()
        assert attempt.error is None and channel.balances[0] == DEPOSIT - 210_000 + 5_000
        await alice_gone(world)

    with_mallory(act)


def test_nothing_is_deposited_into_a_channel_that_is_not_open() -> None:
    async def act(world: World, mallory: Mallory, channel: ChannelHandle) -> None:
        await channel.force_close()
        with pytest.raises(ChannelNotReady):
            await channel.deposit(5_000)
        await alice_gone(world)
        with pytest.raises(ChannelNotReady):
            await channel.deposit(5_000)

    with_mallory(act)


def test_asking_again_for_a_payment_that_was_never_acknowledged_ends_when_the_channel_has() -> None:
    async def act(world: World, mallory: Mallory, channel: ChannelHandle) -> None:
        mallory.withhold_acks()
        await channel.submit(7, key="order 7")
        await world.until(lambda: bool(channel.view.channel.flight), 30)
        await channel.force_close()
        await alice_gone(world)
        for again in (False, True):
            node = await world.restart("alice") if again else world.node("alice")
            with trio.fail_after(30), pytest.raises(TallystickError):
                await node.channels[0].pay(7, key="order 7")

    with_mallory(act)


def test_a_chain_node_that_talks_nonsense_for_a_while_does_not_end_a_node() -> None:
    async def act(world: World, mallory: Mallory, channel: ChannelHandle) -> None:
        seat = world.seats["alice"]
        chain = seat.chain
        assert chain is not None
        honest = chain.blocks

        async def nonsense(first: int, limit: int) -> object:
            raise ChainError("the answer is no list of blocks")

        chain.blocks = nonsense  # type: ignore[method-assign,assignment]
        await trio.sleep(200)
        assert any("no list of blocks" in alarm.text for alarm in world.node("alice").alarms)
        chain.blocks = honest  # type: ignore[method-assign]
        await channel.force_close()
        await alice_gone(world)

    with_mallory(act)


def test_a_cursor_too_long_for_any_journal_is_refused_as_none() -> None:
    async def act(world: World, mallory: Mallory, channel: ChannelHandle) -> None:
        for cursor in ("9" * 19 + ".1", "1." + "9" * 5_000):
            with pytest.raises(InvalidInput):
                world.node("alice").incoming(cursor)

    with_mallory(act)


def test_a_peer_cannot_fill_a_nodes_disk_with_openings_that_it_never_makes() -> None:
    async def act(world: World, mallory: Mallory, channel: ChannelHandle) -> None:
        openings, alice = world.node("mallory").openings, world.node("alice")
        refused = 0
        for number in range(OPENINGS_PER_PEER + 3):
            terms = await openings._terms(alice.key.public, Address(bytes([number + 1]) * 20), PERIOD)
            try:
                await openings._ask(alice.key.public, OpenProposal(terms, 10_000))
            except OpeningFailed:
                refused += 1
        assert refused == 3 and len(alice.channels) == OPENINGS_PER_PEER + 1

    with_mallory(act)
