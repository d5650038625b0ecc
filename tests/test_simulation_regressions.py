"""Whole nodes in virtual time, in situations that random campaigns once found, or that were found by thinking."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from simulation.invariants import check_always, check_settled, unsettled
from simulation.pair import Pair
from tallystick.channels.errors import TallystickError
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.core import Phase
from tallystick.channels.session.inputs import RejectLock, RequestClose, SubmitLock, SubmitPayment
from tallystick.channels.storage.schema import HistoryPruned, received_after
from tallystick.channels.testing.clock import EPOCH
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.node import Node
from tallystick.sdk.testing.world import World, open_world
from tallystick.settlement.chain import SETTLED
from tallystick.settlement.ethereum.transactions import Transaction

DEPOSIT = 1_000_000


def in_a_world(act: Callable[[World, Node, Node], Awaitable[None]], seed: int = 1) -> None:
    """Run `act` with Alice and Bob up, then check what must always hold."""

    async def main() -> None:
        async with open_world(seed) as world:
            await act(world, await world.start("alice"), await world.start("bob"))
            check_always(world)

    simulate(main, seed)


def of_alice(world: World, transaction: Transaction) -> bool:
    return transaction.sender == world.seats["alice"].key.address


async def come_to_rest(world: World) -> None:
    await world.until(lambda: not unsettled(world, ["alice", "bob"]), 300)
    check_settled(world, ["alice", "bob"])


def test_two_openings_at_once_by_one_side_lock_nothing_up() -> None:
    async def act(world: World, alice: Node, bob: Node) -> None:
        async def open_one(node: Node) -> None:
            await node.open_channel(world.address("bob"), DEPOSIT)

        attempts = [world.attempt("alice", open_one) for _ in range(3)]
        for attempt in attempts:
            await attempt.ended.wait()
        assert sum(attempt.error is None for attempt in attempts) == 1
        (channel,) = alice.channels
        assert channel.phase is Phase.OPEN
        await channel.pay(5)
        await come_to_rest(world)

    in_a_world(act)


def test_a_second_opening_while_the_first_waits_for_its_block_is_refused() -> None:
    async def act(world: World, alice: Node, bob: Node) -> None:
        channel = await alice.open_channel(world.address("bob"), DEPOSIT, wait=False)
        for node, peer in ((alice, "bob"), (bob, "alice")):
            try:
                await node.open_channel(world.address(peer), DEPOSIT)
            except TallystickError:
                continue
            raise AssertionError("two channels have one number")
        await channel.wait_usable()
        await channel.pay(5)
        await come_to_rest(world)

    in_a_world(act)


def test_when_both_sides_open_at_once_one_channel_results_and_works() -> None:
    async def act(world: World, alice: Node, bob: Node) -> None:
        for node, peer in ((alice, "bob"), (bob, "alice")):
            await node.connect(world.address(peer))
        attempts = []
        for name, peer in (("alice", "bob"), ("bob", "alice")):

            async def open_one(node: Node, peer: str = peer) -> None:
                await node.open_channel(world.address(peer), DEPOSIT)

            attempts.append(world.attempt(name, open_one))
        for attempt in attempts:
            await attempt.ended.wait()
        assert any(attempt.error is None for attempt in attempts)
        (mine,), (yours,) = alice.channels, bob.channels
        assert mine.phase is yours.phase is Phase.OPEN
        payer = mine if mine.spendable else yours
        await payer.pay(5)
        assert mine.view.channel.peer_reserve() == yours.view.channel.peer_reserve() > 0
        await come_to_rest(world)

    in_a_world(act)


def test_who_withdrew_more_than_it_deposited_can_still_close_cooperatively() -> None:
    async def act(world: World, alice: Node, bob: Node) -> None:
        for payer, payee, peer in ((alice, bob, "bob"), (bob, alice, "alice")):  # each side once, whatever its index
            channel = await payer.open_channel(world.address(peer), DEPOSIT)
            await channel.pay(500_000)
            other = payee.channel(channel.id)
            await other.withdraw(400_000)
            with trio.fail_after(120):
                await channel.close()
                await other.wait_gone()
        await come_to_rest(world)

    in_a_world(act)


def test_a_deposit_that_overtakes_a_cooperative_close_is_paid_out_with_it() -> None:
    async def act(world: World, alice: Node, bob: Node) -> None:
        before = await alice.balance()
        channel = await alice.open_channel(world.address("bob"), DEPOSIT)

        async def deposit(node: Node) -> None:
            await node.channels[0].deposit(1_000)

        world.chain.censor(lambda transaction: True)
        attempts = [world.attempt("alice", deposit)]
        await world.blocks(1)

        async def close(node: Node) -> None:
            await node.channels[0].close()

        attempts.append(world.attempt("alice", close))
        await world.blocks(2)
        world.chain.censor(None)
        with trio.fail_after(600):
            for attempt in attempts:
                await attempt.ended.wait()
                assert attempt.error is None
        assert channel.phase is Phase.GONE
        assert not alice.onchain.sender.statistics().quarantined
        assert before - 10**7 < await alice.balance() < before, "all is back but the fees"
        await come_to_rest(world)

    in_a_world(act)


def test_a_close_that_leaves_the_chain_for_good_does_not_strand_the_other_side() -> None:
    async def act(world: World, alice: Node, bob: Node) -> None:
        channel = await alice.open_channel(world.address("bob"), DEPOSIT)
        await channel.pay(7)
        await channel.force_close()
        await world.until(lambda: bob.channels[0].phase is Phase.CLOSED)
        await world.crash("alice")  # and she never returns
        world.chain.reorganise(1, keep=lambda transaction: not of_alice(world, transaction))
        world.chain.censor(lambda transaction: of_alice(world, transaction))
        assert await world.until(lambda: bob.channels[0].phase is Phase.GONE, 900)
        assert await bob.balance() > 7

    in_a_world(act)


def test_a_settlement_that_leaves_the_chain_for_good_is_made_again() -> None:
    async def act(world: World, alice: Node, bob: Node) -> None:
        channel = await alice.open_channel(world.address("bob"), DEPOSIT)
        await channel.pay(7)
        await channel.force_close()

        def settled() -> bool:
            view = alice.onchain.index.view(channel.id, alice.onchain.index.head_number)
            return view is not None and view.status >= SETTLED

        assert await world.until(settled, 900)
        await world.blocks(1)
        await world.crash("alice")
        world.chain.reorganise(2, keep=lambda transaction: not of_alice(world, transaction))
        world.chain.censor(lambda transaction: of_alice(world, transaction))
        assert await world.until(lambda: bob.channels[0].phase is Phase.GONE, 900)

    in_a_world(act)


def test_a_wish_to_close_outlives_a_second_greeting_on_one_connection() -> None:
    pair = Pair()
    pair.connect()
    pair.settle()
    alice, bob = pair.alice, pair.bob
    alice.apply(SubmitLock(10, int(EPOCH) + 600, digest_of(bytes(32))))
    pair.settle()
    bob.apply(RequestClose())
    pair.settle()
    bob.session.greet()  # as it does to have something repeated that it had to leave aside
    pair.settle()
    bob.apply(RejectLock(0, b""))
    pair.settle()
    assert alice.channel.phase is bob.channel.phase is Phase.FROZEN


def test_a_greeting_carries_the_countersignature_of_what_was_accepted_in_the_same_round() -> None:
    pair = Pair()
    pair.connect()
    pair.settle()
    alice, bob = pair.alice, pair.bob
    alice.apply(SubmitPayment(5))
    alice.step()
    assert pair.deliver(bob)
    bob.session.greet()
    pair.settle()
    assert not pair.faults and alice.channel.ours.seq == 1


def test_a_node_that_was_down_speaks_to_nobody_before_it_knows_the_chain() -> None:
    async def act(world: World, alice: Node, bob: Node) -> None:
        channel = await alice.open_channel(world.address("bob"), DEPOSIT)
        await channel.pay(5)
        await world.crash("bob")
        world.chain_outage("bob", True)
        life = await world.begin("bob")
        await trio.sleep(60)
        assert not channel.connected, "Bob would have had to trust an old view of the chain"
        world.chain_outage("bob", False)
        assert await world.until(lambda: channel.connected, 120)
        assert world.node("bob").alarms, "the outage was told"
        assert life.nursery is not None
        await come_to_rest(world)

    in_a_world(act)


def test_pruning_all_history_does_not_hide_later_payments_from_a_reader_with_a_cursor() -> None:
    pair = Pair()
    pair.connect()
    pair.settle()

    def pay() -> int:
        pair.alice.apply(SubmitPayment(5))
        pair.settle()
        return max(row.position for row in received_after(pair.bob.store, 0, 10))

    cursor = pay()
    pair.bob.store.commit([HistoryPruned(pair.id, 2**62, 2**62)])
    assert pay() > cursor
